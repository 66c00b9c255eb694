"""A folder that holds somebody's model: its files by plain names, never a path that leads out of it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

from . import strictjson
from .files import open_regular, read_file

__all__ = ["Folder", "HeldFolder"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
# The one kind of link that is followed: the hub's cache keeps files as blobs/<hash> and links to them from
# snapshots/<revision>/.
_BLOB = re.compile(r"(?:\.\./){2,4}blobs/[0-9a-f]{40,64}")
_MAX_JSON = 4 << 20
_MAX_VALUES = 150_000  # of a JSON file, so that its objects take less than 64 MB
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Folder:
    """Files of one folder, opened relative to one descriptor, so that all are of the same model.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        It is a file.

    Examples
    --------
    >>> import os, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as path:
    ...     plait.io.write_file(os.path.join(path, "config.json"), b'{"width": 8}')
    ...     with plait.io.Folder(path) as folder:
    ...         folder.json("config.json"), folder.names(), folder.find("absent.json", limit=100)
    ({'width': 8}, ['config.json'], None)
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            self.fd = os.open(self.path, _OPEN_FOLDER)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path}: no such folder") from None
        except NotADirectoryError:
            raise ValueError(f"{self.path}: expected the folder of a model, got a file") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    @staticmethod
    def check_name(name):
        """One path component of plain characters; anything else would be a way out of the folder."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"a file is named {repr(name)[:80]}, expected letters, digits, '.', '_' and '-'")

    def open(self, name) -> int:
        """A descriptor for reading a regular file of the folder."""
        self.check_name(name)
        try:
            target = os.readlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(name)) from None
        except OSError as error:
            if error.errno != errno.EINVAL:  # not a link
                raise
            return open_regular(name, self.fd)
        if not _BLOB.fullmatch(target):
            raise ValueError(f"{name}: a link to {target[:80]!r}, expected a regular file")
        return self._open_blob(name, target)

    def _open_blob(self, name, target):
        # Step by step, so that no folder on the way is a link to somewhere else.
        *folders, blob = target.split("/")
        fd = os.dup(self.fd)
        try:
            for part in folders:
                inner = os.open(part, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = inner
            return open_regular(blob, fd)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(name)) from None
        except NotADirectoryError:
            raise ValueError(f"{name}: a link to {target!r}, in which {part!r} is no folder") from None
        finally:
            os.close(fd)

    def read(self, name, limit) -> bytes:
        """The content of a file of at most ``limit`` bytes."""
        return read_file(name, limit, opened=self.open(name))

    def json(self, name, limit=_MAX_JSON):
        """The value of a JSON file."""
        return strictjson.loads(self.read(name, limit), name, max_values=_MAX_VALUES)

    def find_json(self, name, limit=_MAX_JSON):
        """The value of a JSON file, or None where there is no such file."""
        try:
            value = self.json(name, limit)
        except FileNotFoundError:
            return None
        if value is None:
            raise ValueError(f"{name}: null, expected something else, or no such file")
        return value

    def find(self, name, limit):
        """The content of a file, or None where there is no such file."""
        try:
            return self.read(name, limit)
        except FileNotFoundError:
            return None

    def names(self) -> list:
        """Names of everything in the folder, sorted."""
        return sorted(os.listdir(self.fd))

    @contextlib.contextmanager
    def sub(self, name):
        """A folder inside this one."""
        self.check_name(name)
        inner = Folder.__new__(Folder)
        inner.path = self.path / name
        try:
            inner.fd = os.open(name, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=self.fd)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such folder", name) from None
        except NotADirectoryError:
            raise ValueError(f"{name}: expected a folder, got a file or a link") from None
        with inner:
            yield inner


class HeldFolder(Folder):
    """A folder whose files are in memory: those of one that may be gone when they are needed."""

    def __init__(self, path, files: dict):
        self.path, self.files = Path(path), files

    def read(self, name, limit) -> bytes:
        """The content of a file of at most ``limit`` bytes."""
        if name not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(name))
        if len(self.files[name]) > limit:
            raise ValueError(f"{name}: larger than {limit} bytes, which is more than such a file can need")
        return self.files[name]

    def names(self) -> list:
        """Names of everything in the folder, sorted."""
        return sorted(self.files)
