"""Files that are whole or absent: atomic writes, atomic folders, and opening without surprises."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
import time
from pathlib import Path

__all__ = ["atomic_file", "atomic_folder", "open_regular", "read_file", "write_file"]

_MARK = ".tmp-"  # .<name>.tmp-<pid>-<random>, beside the target so that a rename stays on one file system
_STALE_SECONDS = 3600


def open_regular(path, folder: int | None = None, name=None) -> int:
    """A file descriptor for reading a regular file: not a link, folder, pipe or device.

    Parameters
    ----------
    path : path-like
    folder : int, optional
        Descriptor of the folder that a relative `path` starts from.
    name : path-like, optional
        What messages call the file; default `path`.

    Raises
    ------
    FileNotFoundError
        The message names the file.
    ValueError
        It is something else than a regular file.
    """
    name = path if name is None else name
    try:
        # O_NONBLOCK: opening a named pipe must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "no such file", str(name)) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise ValueError(f"{name}: expected a regular file, got a link or a special file") from None
        raise type(error)(error.errno, error.strerror, str(name)) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(f"{name}: expected a regular file, got a folder or a special file")
    return fd


def read_file(path, limit: int, folder: int | None = None, opened: int | None = None) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Parameters
    ----------
    path : path-like
        A regular file; links are refused.
    limit : int
    folder : int, optional
        Descriptor of the folder that a relative path starts from.
    opened : int, optional
        Descriptor of the file itself, which is closed; `path` is for messages then.

    Raises
    ------
    ValueError
        The file is larger, or not a regular file.

    Examples
    --------
    >>> import os, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plait.io.write_file(os.path.join(folder, "a"), b"content")
    ...     plait.io.read_file(os.path.join(folder, "a"), limit=100)
    b'content'
    """
    with open(open_regular(path, folder) if opened is None else opened, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path}: larger than {limit} bytes, which is more than such a file can need")
    return data


@contextlib.contextmanager
def atomic_file(path):
    """Gives a temporary path in the same folder; what is written there becomes `path` when the block ends well.

    The file is on the disk before it gets its name, so a reader sees the old content or the new one, whatever
    interrupts the writer. An exception leaves `path` as it was.

    Examples
    --------
    >>> import tempfile, os
    >>> from plait.io import atomic_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(os.path.join(folder, "notes.txt")) as temporary:
    ...         _ = temporary.write_text("all or nothing")
    ...     os.listdir(folder)
    ['notes.txt']
    """
    path = Path(path)
    _sweep(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is None or os.fsdecode(error.filename) != str(temporary):
            raise
        # The caller knows the file by its own name: a folder that is not there, a folder in its place.
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):  # its folder may not be there
            temporary.unlink(missing_ok=True)


def write_file(path, data: bytes) -> None:
    """Writes ``data`` to the file ``path``, whole or not at all.

    Examples
    --------
    >>> import tempfile, os
    >>> from plait import io
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     io.write_file(os.path.join(folder, "a"), b"content")
    ...     io.read_file(os.path.join(folder, "a"), limit=100)
    b'content'
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def atomic_folder(path, replaces=()):
    """Gives a new folder; with what was written into it, it becomes `path` when the block ends well.

    Parameters
    ----------
    path : path-like
        An existing folder is replaced if it holds nothing but names in `replaces`, or is empty.
    replaces : iterable of str
        File names that may be lost.

    Raises
    ------
    FileExistsError
        `path` is something else than a folder, or a folder with other files, which would be lost.

    Examples
    --------
    >>> import os, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with plait.io.atomic_folder(os.path.join(folder, "result")) as new:
    ...         _ = (new / "a.txt").write_text("all or nothing")
    ...     os.listdir(os.path.join(folder, "result"))
    ['a.txt']
    """
    path = Path(os.path.abspath(path))
    _check_replaceable(path, set(replaces))
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for entry in temporary.iterdir():
            _sync(entry)
        _sync(temporary)
        _check_replaceable(path, set(replaces))
        _put_folder(temporary, path)
        _sync(path.parent)
    finally:
        # After an exchange this is the old folder.
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(path, replaces):
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise FileExistsError(errno.EEXIST, "exists and is not a folder", str(path))
    others = sorted(set(os.listdir(path)) - replaces)
    if others:
        raise FileExistsError(
            errno.EEXIST, f"the folder holds other files ({', '.join(others[:3])}), name another one", str(path)
        )


def _put_folder(new, path):
    try:
        os.rename(new, path)  # absent, or an empty folder
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if _exchange(new, path):
        return
    # File systems without an exchange: for an instant only the two temporary names exist.
    old = _temporary(path)
    os.rename(path, old)
    os.rename(new, path)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(a, b) -> bool:
    """Swaps two names in one step (Linux renameat2 with RENAME_EXCHANGE); False where that does not exist."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_fdcwd, exchange = -100, 2
    if renameat2(at_fdcwd, os.fsencode(a), at_fdcwd, os.fsencode(b), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(b))


def _temporary(path):
    return path.with_name(f".{path.name}{_MARK}{os.getpid()}-{secrets.token_hex(4)}")


def _sweep(path):
    """Removes what killed writers of `path` left: temporaries of processes that are gone, once an hour old."""
    prefix = f".{path.name}{_MARK}"
    try:
        left = [name for name in os.listdir(path.parent) if name.startswith(prefix)]
    except OSError:
        return
    for name in left:
        pid, entry = name[len(prefix) :].split("-")[0], path.with_name(name)
        with contextlib.suppress(OSError, ValueError):
            if time.time() - entry.stat().st_mtime < _STALE_SECONDS or _alive(int(pid)):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sync(path):
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
