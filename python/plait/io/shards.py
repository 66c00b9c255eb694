"""Vectors of a long job in numbered files: each whole or absent, with a manifest that says what is in them.

A job that is killed and started again ends with the same bytes: what is finished is checked and kept, and which items
go into which file depends on their numbers alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import os
import re
import warnings
from pathlib import Path

import numpy as np

from . import strictjson
from .files import open_regular
from .manifest import FILE, MANIFEST, Shard, Shards, file_name, read_manifest, write_manifest
from .tensors import load_tensors, save_tensors

__all__ = ["Shard", "Shards", "read_shards", "write_shards"]

_MAX_SHARD = 1 << 24
_LEFT = re.compile(r"\.(?:manifest\.json|vectors-[0-9]{5,9}\.safetensors)\.tmp-[0-9]+-[0-9a-f]+")
_END = object()


def write_shards(folder, items, encode, *, model, options=None, shard_size=50_000, ids=None, on_error="raise"):
    """Encodes a list of any length and writes the vectors to numbered files; started again, it goes on where it was.

    ``folder/vectors-00000.safetensors`` holds ``vectors (rows, D)`` of the first `shard_size` items, and their ids:
    ``ids (rows,)``, whole numbers; or, for ids that are text, ``ids``, the UTF-8 bytes of all of them, and
    ``id_offsets (rows + 1,)``. ``folder/manifest.json`` has the range of items, the number of rows and the SHA-256 of
    each file, beside `model` and `options`.

    When the job is started again, the files that the manifest lists are checked by their SHA-256, and so are the items
    (arrays and texts as such, paths by their names); damaged and missing files are made anew. Items come one by one,
    and memory holds the vectors of one file twice. The bytes depend neither on the batch size nor on where a job was
    killed; another instruction set may change the last bits of vectors.

    Parameters
    ----------
    folder : path-like
        New, empty, or of an earlier run.
    items : iterable of str, bytes, path-like or array
    encode : callable
        ``encode(iterable of items)`` gives (n, D) arrays, a row an item, such as ``model.encode_iter``.
    model : str
        Says which model it is, see ``plait.models.fingerprint``.
    options : dict, optional
        What else decides about the vectors, as JSON has it.
    shard_size : int
        Items a file.
    ids : callable, optional
        ``ids(item)`` is the id of an item, a str. By default its number, from 0.
    on_error : {"raise", "skip"} or callable
        Other than ``"raise"``: `encode` gets an argument ``on_error`` too, as ``model.encode_image_iter`` takes it, and
        rows of items that could not be read are left out. They are counted in a warning with ``"skip"``; a function is
        called with number and error of each instead.

    Returns
    -------
    Shards

    Raises
    ------
    BlockingIOError
        Another process is writing to the folder.
    FileExistsError
        The folder holds something else.
    ValueError
        What is in the folder was made by another model, with other options, or of other items: it stays as it is. Or
        `encode` gives something else than a row an item.

    Examples
    --------
    >>> import plait, tempfile
    >>> tower = {"vocabulary": 30, "length": 8, "width": 8, "layers": 1, "heads": 2}
    >>> model = plait.create_model({"type": "text_encoder", "config": {"text": tower}}).eval()
    >>> model.tokenizer = plait.data.WordTokenizer(["red", "blue"], "abc")
    >>> name = plait.models.fingerprint(model)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = plait.io.write_shards(folder, ["red", "blue", "cab"], model.encode_iter, model=name, shard_size=2)
    ...     for ids, vectors in plait.io.read_shards(folder):
    ...         print(ids, vectors.shape)
    [0 1] (2, 8)
    [2] (1, 8)
    >>> done.rows, [shard.file for shard in done.shards]
    (3, ['vectors-00000.safetensors', 'vectors-00001.safetensors'])
    """
    what = "write_shards"
    whole = isinstance(shard_size, (int, np.integer)) and not isinstance(shard_size, bool)
    if not whole or not 1 <= shard_size <= _MAX_SHARD:
        raise ValueError(f"{what}: shard_size is {shard_size!r}, expected 1 to {_MAX_SHARD}")
    if on_error not in ("raise", "skip") and not callable(on_error):
        raise ValueError(f"{what}: on_error is {on_error!r}, expected 'raise', 'skip' or a function")
    if not isinstance(model, str):
        raise TypeError(f"{what}: model is {type(model).__name__}, expected str, see plait.models.fingerprint")
    if isinstance(items, (str, bytes, os.PathLike)):
        raise TypeError(f"{what}: items is one {type(items).__name__}, expected an iterable of them")
    # As the manifest will give them back: tuples are lists there.
    options = strictjson.loads(strictjson.dumps(options or {}, f"{what}: options"), f"{what}: options")
    folder = Path(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise FileExistsError(f"{folder}: exists and is not a folder, name another one")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if made:  # and left empty by what goes wrong: nobody asked for that
            stack.push(lambda kind, *_: kind is not None and _remove_empty(folder))
        stack.enter_context(_locked(folder))
        job = _Job(_begun(Shards(folder, model, options, int(shard_size))), encode, ids, on_error)
        items = iter(items)
        while (first := next(items, _END)) is not _END:
            job.shard(itertools.chain([first], itertools.islice(items, shard_size - 1)))
        return job.end()


class _Job:
    """One run: the list of shards, as it grows."""

    def __init__(self, here, encode, ids, on_error):
        self.here, self.encode, self.ids, self.on_error = here, encode, ids, on_error
        self.shards, self.number, self.items = list(here.shards), 0, 0
        self.kept, self.skipped, self.first = 0, 0, None

    def shard(self, part):
        """Checks one file, or makes it."""
        old = self.shards[self.number] if self.number < len(self.shards) else None
        part, begin = _Part(part, self.ids, self.items), self.items
        if old is not None and _sha256(self.here.folder / old.file) == old.sha256:
            rows = None
            part.drain()
        else:
            rows = self._rows(part)
        self.items += part.count
        if old is not None and (old.end, old.input_sha256) != (self.items, part.digest.hexdigest()):
            raise ValueError(
                f"{self.here.folder}: {old.file} was made of other items than numbers {begin} to {self.items - 1} of "
                "this input; write to another folder"
            )
        if rows is None:
            self.kept += 1
        else:
            file = file_name(self.number)
            if not self.shards:
                self._save(False)  # files of vectors are never without a manifest
            save_tensors(self.here.folder / file, {"vectors": rows, **part.id_tensors()})
            digest = _sha256(self.here.folder / file)
            self.shards[self.number : self.number + 1] = [
                Shard(file, begin, self.items, len(rows), digest, part.digest.hexdigest())
            ]
            self._save(False)
        self.number += 1

    def _rows(self, part):
        options = {} if self.on_error == "raise" else {"on_error": part.note}
        arrays = [np.asarray(rows) for rows in self.encode(part, **options)]
        part.drain()
        if not arrays or any(a.ndim != 2 for a in arrays) or sum(map(len, arrays)) != part.count:
            got = ", ".join(str(a.shape) for a in arrays[:4]) or "nothing"
            raise ValueError(f"write_shards: encode gave {got} for {part.count} items, expected (n, D), a row an item")
        for number, error in part.broken.items():
            self.skipped += 1
            self.first = self.first or (number, error)
            if callable(self.on_error):
                self.on_error(number, error)
        rows = np.concatenate(arrays)
        return rows[part.places()] if part.broken else rows

    def end(self):
        """The finished manifest."""
        if self.number < len(self.shards):
            raise ValueError(
                f"{self.here.folder}: holds vectors of {self.shards[-1].end} items, but this input has {self.items}; "
                "write to another folder"
            )
        result = self._save(True)
        listed = {shard.file for shard in self.shards}
        for name in os.listdir(self.here.folder):
            if FILE.fullmatch(name) and name not in listed:  # of a run that was killed before it could list it
                os.unlink(self.here.folder / name)
        if self.first and self.on_error == "skip":
            number, error = self.first
            what = "item was" if self.skipped == 1 else "items were"
            warnings.warn(
                f"write_shards: {self.skipped} {what} skipped; the first is number {number}: {error}", stacklevel=3
            )
        return result

    def _save(self, complete):
        made = dataclasses.replace(self.here, shards=tuple(self.shards), complete=complete, kept=self.kept)
        write_manifest(made)
        return made


class _Part:
    """The items of one file, which are counted and digested as they go by."""

    def __init__(self, items, ids, begin):
        self._items, self._ids, self.begin = iter(items), ids, begin
        self.names = None if ids is None else []
        self.count, self.broken, self.digest = 0, {}, hashlib.sha256()

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self._items)
        key = item
        if self._ids is not None:
            key = _checked_id(self._ids(item), self.begin + self.count)
            self.names.append(key)
        _digest(self.digest, key)
        self.count += 1
        return item

    def drain(self):
        """What nobody took."""
        for _ in self:
            pass

    def note(self, index, error):
        """The ``on_error`` of an encoder."""
        self.broken[self.begin + index] = error

    def places(self):
        """Which of the items could be read."""
        return np.array([i for i in range(self.count) if self.begin + i not in self.broken], np.int64)

    def id_tensors(self):
        """What the file says about ids."""
        if self.names is None:
            return {"ids": self.begin + self.places()}
        data = [self.names[i].encode() for i in self.places()]
        offsets = np.cumsum([0, *map(len, data)], dtype=np.int64)
        return {"ids": np.frombuffer(b"".join(data), np.uint8), "id_offsets": offsets}


def read_shards(folder):
    """Goes through the files of a folder of vectors, in order.

    Parameters
    ----------
    folder : path-like
        Written by ``write_shards`` or ``plait embed``, finished or not.

    Yields
    ------
    ids : (rows,) int64 array, or list of str
    vectors : (rows, D) array

    Raises
    ------
    FileNotFoundError
        There is no manifest, or a file that it lists is missing.
    ValueError
        A file is damaged or does not fit the manifest; ``write_shards`` compares its SHA-256 as well.

    Examples
    --------
    >>> import numpy as np, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = plait.io.write_shards(folder, ["a.png"], lambda x: [np.ones((1, 2), np.float32)], model="none", ids=str)
    ...     list(plait.io.read_shards(folder))
    [(['a.png'], array([[1., 1.]], dtype=float32))]
    """
    folder = Path(folder)
    found = read_manifest(folder)
    if found is None:
        raise FileNotFoundError(f"{folder}: no {MANIFEST} here, expected a folder of plait.io.write_shards")

    def parts():
        for shard in found.shards:
            arrays = load_tensors(folder / shard.file)
            vectors, where = arrays.get("vectors"), f"{folder}: {shard.file}"
            if vectors is None or vectors.ndim != 2 or len(vectors) != shard.rows:
                raise ValueError(f"{where}: expected {shard.rows} vectors, as {MANIFEST} says")
            yield _ids(arrays, shard.rows, where), vectors

    return parts()


def _ids(arrays, rows, where):
    ids, offsets = arrays.get("ids"), arrays.get("id_offsets")
    if offsets is None:
        if ids is None or ids.shape != (rows,) or ids.dtype != np.int64:
            raise ValueError(f"{where}: expected ids, {rows} whole numbers")
        return ids
    fits = ids is not None and ids.dtype == np.uint8 and ids.ndim == 1
    fits = fits and offsets.shape == (rows + 1,) and offsets.dtype == np.int64
    if not fits or offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 0).any():
        raise ValueError(f"{where}: ids and id_offsets do not fit each other")
    data = ids.tobytes()
    try:
        return [data[a:b].decode() for a, b in itertools.pairwise(offsets.tolist())]
    except UnicodeDecodeError:
        raise ValueError(f"{where}: ids is not UTF-8") from None


def _checked_id(value, number):
    if not isinstance(value, str):
        raise TypeError(f"write_shards: the id of item {number} is {type(value).__name__}, expected str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"write_shards: the id of item {number}, {value[:80]!r}, is not valid Unicode") from None
    return value


def _digest(digest, item):
    """Adds an item with its kind and length, so that no two lists look alike."""
    if isinstance(item, os.PathLike):
        item = os.fspath(item)
    if isinstance(item, str):
        kind, data = b"str", item.encode("utf-8", "surrogatepass")
    elif isinstance(item, (bytes, bytearray, memoryview)):
        kind, data = b"bytes", bytes(item)
    elif isinstance(item, np.ndarray) and not item.dtype.hasobject:
        kind, data = f"{item.dtype.str}{item.shape}".encode(), np.ascontiguousarray(item).tobytes()
    else:
        raise TypeError(f"write_shards: an item is {type(item).__name__}, expected str, bytes, a path or an array")
    digest.update(b"%b %d " % (kind, len(data)))
    digest.update(data)


def _sha256(file):
    """Of a file's content; None where there is no such file."""
    try:
        with open(open_regular(file), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _remove_empty(folder):
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _locked(folder):
    """One writer at a time; what earlier ones left half-written goes."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{folder}: another process is writing vectors to this folder") from None
        for name in os.listdir(fd):
            if _LEFT.fullmatch(name):
                os.unlink(name, dir_fd=fd)
        yield
    finally:
        os.close(fd)


def _begun(asked):
    """What the folder holds already, which has to be of the same job."""
    folder, found = asked.folder, read_manifest(asked.folder)
    others = [n for n in sorted(os.listdir(folder)) if found is None or not (n == MANIFEST or FILE.fullmatch(n))]
    if others:
        raise FileExistsError(f"{folder}: the folder holds other files ({', '.join(others[:3])}), name another one")
    if found is None or not found.shards:
        return asked
    compared = [("model", found.model, asked.model), ("shard_size", found.shard_size, asked.shard_size)]
    compared += [(key, found.options.get(key), asked.options.get(key)) for key in {**found.options, **asked.options}]
    for key, theirs, ours in compared:
        if theirs != ours:
            raise ValueError(
                f"{folder}: holds vectors whose {key} is {theirs!r}, expected {ours!r}; write to another folder"
            )
    return found
