"""Tensors in safetensors files, read by a parser that trusts nothing.

A file is 8 bytes with the size of a JSON header, the header (name -> dtype, shape, offsets), then the bytes of the
tensors without holes. Everything in the header is checked, against the size of the file too, before any memory is
taken for tensors, so a hostile file costs no more than its own size.
"""

from __future__ import annotations

import math
import mmap
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import strictjson
from .files import atomic_file, open_regular

__all__ = ["TensorInfo", "load_tensors", "map_tensors", "read_header", "save_tensors"]

_MAX_HEADER = 11 << 19
_SMALL_HEADER = 1 << 20  # whose objects are no burden, whatever it holds
_MAX_TENSORS = 100_000
_MAX_RANK = 8
_MAX_NAME = 512  # bytes of UTF-8
_ITEMSIZE = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


class TensorInfo(NamedTuple):
    """What a header says about a tensor: dtype in safetensors' spelling, shape, and where its bytes begin and end."""

    dtype: str
    shape: tuple
    begin: int
    end: int


def save_tensors(file, tensors, metadata=None) -> None:
    """Writes named arrays to a safetensors file, whole or not at all.

    Parameters
    ----------
    file : path-like
    tensors : dict of str to array_like or Tensor
        Floating (also bfloat16), integer or boolean; any layout.
    metadata : dict of str to str, optional

    Raises
    ------
    TypeError, ValueError
        A name or an array that the format does not have. Nothing is written then.
    OSError
        The disk is full, or the folder cannot be written to.

    Examples
    --------
    >>> import numpy as np, os, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "a.safetensors")
    ...     plait.io.save_tensors(file, {"x": np.arange(3)})
    ...     plait.io.load_tensors(file)
    {'x': array([0, 1, 2])}
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if len(tensors) > _MAX_TENSORS:
        raise ValueError(f"save_tensors: {len(tensors)} tensors, expected at most {_MAX_TENSORS}")
    arrays = {}
    for name, value in tensors.items():
        _check_name(name, "save_tensors")
        array = np.asarray(getattr(value, "data", value) if not isinstance(value, np.ndarray) else value)
        known = [d for d, i in _ITEMSIZE.items() if i == array.itemsize and array.dtype.newbyteorder("=") == _dtype(d)]
        if not known:
            raise TypeError(f"save_tensors: {name} has dtype {array.dtype}, expected one of {', '.join(_ITEMSIZE)}")
        if array.ndim > _MAX_RANK:
            raise ValueError(f"save_tensors: {name} has {array.ndim} dimensions, expected at most {_MAX_RANK}")
        arrays[name] = np.asarray(array, _dtype(known[0]), order="C")
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"save_tensors: metadata holds {key!r}: {value!r}, expected strings")
    with atomic_file(file) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(f"{file}: could not be written: {error}") from None
        temporary.chmod(mode)  # safetensors lets the owner alone read it; a model is shared like any file


def read_header(file, folder: int | None = None) -> dict:
    """Checks a safetensors file as a whole and returns what it holds, without reading the tensors.

    Parameters
    ----------
    file : path-like
        A regular file; links are refused.
    folder : int, optional
        Descriptor of the folder that a relative path starts from.

    Returns
    -------
    dict of str to TensorInfo
        In the order of the bytes.

    Raises
    ------
    FileNotFoundError
    ValueError
        The file breaks the format or a limit; the message names file and tensor.

    Examples
    --------
    >>> import numpy as np, os, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "w.safetensors")
    ...     plait.io.save_tensors(file, {"w": np.zeros((2, 3), np.float32)})
    ...     plait.io.read_header(file)["w"].shape
    (2, 3)
    """
    with open(open_regular(file, folder), "rb") as stream:
        return _header(stream, Path(file).name)


def load_tensors(file, folder: int | None = None) -> dict:
    """Reads a safetensors file into arrays of their own.

    Parameters
    ----------
    file : path-like
        A regular file; links are refused.
    folder : int, optional
        Descriptor of the folder that a relative path starts from.

    Returns
    -------
    dict of str to ndarray
        bfloat16 comes as ``ml_dtypes.bfloat16``.

    Raises
    ------
    FileNotFoundError
    ValueError
        The file breaks the format or a limit (header of 5.5 MiB, 100,000 tensors, 8 dimensions, names of 512 bytes).

    Examples
    --------
    >>> import numpy as np, os, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "w.safetensors")
    ...     plait.io.save_tensors(file, {"w": np.arange(3)})
    ...     plait.io.load_tensors(file)
    {'w': array([0, 1, 2])}
    """
    with open(open_regular(file, folder), "rb") as stream:
        name = Path(file).name
        infos = _header(stream, name)
        arrays = {}
        for key, info in infos.items():
            array = np.empty(info.shape, _dtype(info.dtype))
            _read_into(stream, array, f"{name}: {key}")
            if info.dtype == "BOOL" and array.size and array.view(np.uint8).max() > 1:
                raise ValueError(f"{name}: {key} is BOOL, but holds bytes other than 0 and 1")
            arrays[key] = array
    return arrays


def map_tensors(file, opened: int | None = None) -> dict:
    """The tensors of a safetensors file as views of the file itself: nothing is read before it is used.

    Processes that map one file share its pages. The arrays can be written to; that copies a page and never reaches the
    file. As with every mapped file, somebody who shortens it in place (rather than replacing it, as ``save_tensors``
    does) takes memory from under the process; ``load_tensors`` copies at once.

    Parameters
    ----------
    file : path-like
        A regular file; links are refused.
    opened : int, optional
        Descriptor of the file itself, which is closed; `file` is for messages then.

    Returns
    -------
    dict of str to ndarray
        bfloat16 comes as ``ml_dtypes.bfloat16``.

    Raises
    ------
    FileNotFoundError
    ValueError
        As ``load_tensors``.

    Examples
    --------
    >>> import numpy as np, os, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "w.safetensors")
    ...     plait.io.save_tensors(file, {"w": np.arange(3)})
    ...     plait.io.map_tensors(file)
    {'w': array([0, 1, 2])}
    """
    with open(open_regular(file) if opened is None else opened, "rb") as stream:
        name = Path(file).name
        infos = _header(stream, name)
        start = stream.tell()
        # Private pages: the file may be read-only, and nobody sees what is written.
        content = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    arrays = {}
    for key in list(infos):
        info = infos.pop(key)
        array = content[start + info.begin : start + info.end].view(_dtype(info.dtype))
        if info.dtype == "BOOL" and array.size and array.view(np.uint8).max() > 1:
            raise ValueError(f"{name}: {key} is BOOL, but holds bytes other than 0 and 1")
        arrays[key] = array.reshape(info.shape)
    return arrays


# ---------------------------------------------------------------- the header


def _header(stream, name):
    total = os.fstat(stream.fileno()).st_size
    prefix = stream.read(8)
    if len(prefix) < 8:
        raise ValueError(f"{name}: {total} bytes, which is too short for a safetensors file")
    size = int.from_bytes(prefix, "little")
    if not 2 <= size <= min(_MAX_HEADER, total - 8):
        raise ValueError(f"{name}: a header of {size} bytes, expected 2 to {min(_MAX_HEADER, total - 8)}")
    header = strictjson.loads(_exactly(stream, size, name), name, max_depth=4, hook=_slim)
    if not isinstance(header, dict):
        raise ValueError(f"{name}: the header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError(f"{name}: __metadata__ is not an object of strings")
    if len(header) > _MAX_TENSORS:
        raise ValueError(f"{name}: {len(header)} tensors, expected at most {_MAX_TENSORS}")
    infos = {}
    for key in list(header):
        _check_name(key, name)
        infos[key] = _info(header.pop(key), f"{name}: {key if len(key) <= 80 else key[:77] + '...'}")
    ordered = sorted(infos, key=lambda key: infos[key].end)
    ordered.sort(key=lambda key: infos[key].begin)
    position = 0
    for key in ordered:
        info = infos[key]
        if info.begin != position:
            what = "a gap before" if info.begin > position else "an overlap at"
            raise ValueError(f"{name}: {what} {key}, which begins at {info.begin}, expected {position}")
        position = info.end
    if 8 + size + position != total:
        what = "truncated" if 8 + size + position > total else "trailing bytes"
        raise ValueError(f"{name}: {what}: {total} bytes, expected {8 + size + position}")
    return infos if ordered == list(infos) else {key: infos[key] for key in ordered}


# Objects of Python are up to thirty times as large as their text: a large header is looked at before it is parsed.
_TEXT = rb'"(?:[^"\\]|\\.)*+"\s*+'
_MEMBER = rb'\s*+"(?:dtype"\s*+:\s*+"\w{1,8}"|(?:shape|data_offsets)"\s*+:\s*+\[[\d,\s]{0,256}+\])\s*+'
_ENTRY = _TEXT + rb":\s*+\{" + _MEMBER + rb"(?:," + _MEMBER + rb"){2}\}\s*+"
_METADATA = rb'"__metadata__"\s*+:\s*+\{\s*+(?:' + _TEXT + rb":\s*+" + _TEXT + rb",?\s*+){0,10000}+\}\s*+"
_TENSORS_ALONE = re.compile(rb"\s*+\{\s*+(?:(?:" + _METADATA + rb"|" + _ENTRY + rb"),?\s*+)*+\}\s*+", re.DOTALL)


def _exactly(stream, size, name):
    text = stream.read(size)
    if len(text) < size:
        raise ValueError(f"{name}: truncated inside the header")
    if size > _SMALL_HEADER and not _TENSORS_ALONE.fullmatch(text):
        raise ValueError(f"{name}: the header of {size} bytes holds more than tensors and a little metadata")
    return text


def _slim(entry):
    """The object of one tensor as a tuple, which takes half of the memory."""
    if entry.keys() != {"dtype", "shape", "data_offsets"} or isinstance(entry["dtype"], (dict, tuple)):
        return entry  # the header itself, or what is refused later
    shape, offsets = entry["shape"], entry["data_offsets"]
    return (
        entry["dtype"],
        tuple(shape) if isinstance(shape, list) else shape,
        tuple(offsets) if isinstance(offsets, list) else offsets,
    )


def _info(entry, where):
    if not isinstance(entry, tuple):
        raise ValueError(f"{where}: expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry
    if not isinstance(dtype, str) or dtype not in _ITEMSIZE:
        raise ValueError(f"{where}: dtype is {repr(dtype)[:40]}, expected one of {', '.join(_ITEMSIZE)}")
    if not isinstance(shape, tuple) or len(shape) > _MAX_RANK or not all(_is_size(n) for n in shape):
        raise ValueError(f"{where}: shape is {repr(shape)[:80]}, expected at most {_MAX_RANK} sizes of at least 0")
    if not isinstance(offsets, tuple) or len(offsets) != 2 or not all(_is_size(n) for n in offsets):
        raise ValueError(f"{where}: data_offsets is {repr(offsets)[:80]}, expected [begin, end]")
    # Python integers: no product can wrap. NumPy counts the sizes beside a zero as well.
    if math.prod(n for n in shape if n) * _ITEMSIZE[dtype] >= 2**63:
        raise ValueError(f"{where}: shape is {repr(shape)[:80]}, which no array can have")
    due = math.prod(shape) * _ITEMSIZE[dtype]
    begin, end = offsets
    if end - begin != due:
        raise ValueError(f"{where}: {end - begin} bytes, expected {due} for {dtype} {shape}")
    return TensorInfo(dtype, shape, begin, end)


def _is_size(n):
    return isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63


def _check_name(name, where):
    if not isinstance(name, str):
        raise TypeError(f"{where}: a tensor is named {name!r}, expected a str")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{where}: the name {name[:40]!r} is not valid Unicode") from None
    if not 1 <= size <= _MAX_NAME or name == "__metadata__":
        raise ValueError(f"{where}: a tensor is named {name[:40]!r}, expected 1 to {_MAX_NAME} bytes, not __metadata__")


def _dtype(name):
    if name == "BF16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype("?" if name == "BOOL" else f"<{name[0].lower()}{_ITEMSIZE[name]}")


def _read_into(stream, array, what):
    view = memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")
    done = 0
    while done < len(view):
        got = stream.readinto(view[done : done + (1 << 30)])
        if not got:
            raise ValueError(f"{what}: the file became shorter while it was read")
        done += got
