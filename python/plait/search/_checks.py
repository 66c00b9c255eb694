"""What goes into a database is checked before anything is sent: ids, vectors, metadata, filters."""

from __future__ import annotations

import json
import math
import re

import numpy as np

from plait._array import plain_array

from ._layout import WORDS

__all__ = [
    "MAX_K",
    "MAX_METADATA",
    "check_fields",
    "check_filter",
    "check_ids",
    "check_k",
    "check_metadata",
    "check_vectors",
    "is_one",
    "quote",
]

MAX_K = 16384  # rows that a Milvus server returns for a query
_MAX_ID = 65535  # bytes of a VARCHAR
MAX_METADATA = 65536  # bytes of a dynamic field
_MAX_DEPTH = 16
_UNIT = np.float32(1e-6)
_MAX_INT = 2**63 - 1
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def quote(value) -> str:
    """An id as a filter writes it."""
    return str(value) if isinstance(value, int) else '"' + value.translate(_ESCAPES) + '"'


def is_one(ids, id_type):
    """Whether `ids` is a single id and no list of them."""
    return isinstance(ids, str) if id_type == "str" else isinstance(ids, (int, np.integer))


def check_ids(what, ids, id_type, unique=False) -> list:
    """Ids as Python values; `unique` refuses one that occurs twice."""
    if isinstance(ids, np.ndarray) and ids.ndim == 1:
        ids = ids.tolist()
    if isinstance(ids, (str, bytes, dict, set, frozenset, np.ndarray)) or not hasattr(ids, "__iter__"):
        raise TypeError(f"{what}: ids is {_short(ids)}, expected a list of ids")
    values = list(ids)
    check = _check_str if id_type == "str" else _check_int
    values = [check(what, i, value) for i, value in enumerate(values)]
    if unique and len(set(values)) < len(values):
        seen: dict = {}
        for i, value in enumerate(values):
            if value in seen:
                raise ValueError(f"{what}: ids[{seen[value]}] and ids[{i}] are both {_short(value)}")
            seen[value] = i
    return values


def _check_str(what, i, value):
    if not isinstance(value, str):
        raise TypeError(f"{what}: ids[{i}] is {_short(value)}, expected a str, the type of ids of this index")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what}: ids[{i}] is {_short(value)}, which is not valid Unicode") from None
    if not 1 <= size <= _MAX_ID:
        raise ValueError(f"{what}: ids[{i}] has {size} bytes, expected 1 to {_MAX_ID}")
    if _CONTROL.search(value):
        raise ValueError(f"{what}: ids[{i}] is {_short(value)}, expected no control characters")
    return str(value)


def _check_int(what, i, value):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what}: ids[{i}] is {_short(value)}, expected a whole number, the type of ids of this index")
    if not -_MAX_INT <= value <= _MAX_INT:
        raise ValueError(f"{what}: ids[{i}] is {_short(value)}, expected -(2**63 - 1) to 2**63 - 1")
    return int(value)


def check_vectors(what, name, value, dimension, metric):
    """An (n, D) float32 array, which may be the caller's, every row of which can be compared by `metric`.

    For the cosine rows get unit length, so that it is an inner product from here on.
    """
    array = plain_array(what, name, value, "floating-point numbers")
    if array.ndim != 2 or array.shape[1] != dimension:
        raise ValueError(
            f"{what}: {name} has shape {array.shape}, expected (n, {dimension}), the dimension of this index"
        )
    if array.dtype.kind == "b":
        raise TypeError(f"{what}: {name} has dtype bool, expected floating-point numbers")
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        rows = np.ascontiguousarray(array, np.float32)
        norms = np.linalg.norm(rows, axis=1)
    wrong = np.flatnonzero(~np.isfinite(norms))
    if wrong.size:
        i = wrong[0]
        if np.isfinite(np.asarray(array[i], np.float64)).all():
            raise ValueError(f"{what}: {name}[{i}] has a norm that float32 cannot hold")
        j = np.flatnonzero(~np.isfinite(np.asarray(array[i], np.float64)))[0]
        raise ValueError(f"{what}: {name}[{i}, {j}] is {array[i, j]}, expected finite numbers")
    if metric == "cosine" and not norms.all():
        raise ValueError(
            f"{what}: {name}[{np.flatnonzero(norms == 0)[0]}] is zero, which has no direction for metric 'cosine'; "
            "leave it out, or make the index with metric 'ip', for which absent rows may be zeros and score 0"
        )
    if metric != "cosine":
        return rows
    # Those that have unit length already stay the same bits, however often they are stored.
    return rows / np.where(np.abs(norms - 1) < _UNIT, 1, norms)[:, None]


def check_metadata(what, metadata, n, reserved):
    """A dict for each of the `n` rows, and its size as JSON."""
    if metadata is None:
        return [{}] * n, [2] * n
    if isinstance(metadata, dict):
        rows = _rows_of_columns(what, metadata, n)
    else:
        if isinstance(metadata, (str, bytes)) or not hasattr(metadata, "__iter__"):
            raise TypeError(f"{what}: metadata is {_short(metadata)}, expected a list of dicts or a dict of columns")
        rows = list(metadata)
        if len(rows) != n:
            raise ValueError(f"{what}: metadata has {len(rows)} entries, expected {n}, one for each id")
    checked, sizes = [], []
    for i, row in enumerate(rows):
        where = f"{what}: metadata[{i}]"
        if not isinstance(row, dict):
            raise TypeError(f"{where} is {_short(row)}, expected a dict")
        for key in row:
            if key in reserved or not isinstance(key, str) or not key or key.startswith("$"):
                raise ValueError(
                    f"{where} has the key {_short(key)}, expected text, not beginning with $, and none of "
                    f"{', '.join(sorted(reserved))}, which are fields of the index"
                )
        plain = _plain(where, row, 0)
        size = len(json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode())
        if size > MAX_METADATA:
            raise ValueError(f"{where} takes {size} bytes of JSON, expected at most {MAX_METADATA}")
        checked.append(plain)
        sizes.append(size)
    return checked, sizes


def _rows_of_columns(what, columns, n):
    lists = {}
    for key, column in columns.items():
        values = column.tolist() if isinstance(column, np.ndarray) else column
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"{what}: metadata[{_short(key)}] is {_short(column)}, expected a list, one for each id")
        if len(values) != n:
            raise ValueError(f"{what}: metadata[{_short(key)}] has {len(values)} values, expected {n}, one for each id")
        lists[key] = values
    return [{key: values[i] for key, values in lists.items()} for i in range(n)]


def _plain(where, value, depth):
    """The value as JSON has it; NumPy's numbers become Python's."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where} holds {_short(value)}, which is not valid Unicode") from None
        return str(value)
    if isinstance(value, int):
        if not -_MAX_INT - 1 <= value <= _MAX_INT:
            raise ValueError(f"{where} holds {_short(value)}, which is no 64-bit number")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} holds {value}, which JSON does not have")
        return float(value)
    if isinstance(value, (list, tuple, dict)):
        if depth == _MAX_DEPTH:
            raise ValueError(f"{where} is nested deeper than {_MAX_DEPTH} levels")
        if not isinstance(value, dict):
            return [_plain(where, v, depth + 1) for v in value]
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {_short(key)}, expected text")
        return {_plain(where, k, depth): _plain(where, v, depth + 1) for k, v in value.items()}
    raise TypeError(
        f"{where} holds a {type(value).__name__}, expected what JSON has: text, numbers, booleans, None, lists, dicts"
    )


def check_k(what, k):
    """A whole number of rows."""
    if isinstance(k, (bool, np.bool_)) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"{what}: k is {_short(k)}, expected a whole number")
    if not 1 <= k <= MAX_K:
        raise ValueError(f"{what}: k is {k}, expected 1 to {MAX_K}")
    return int(k)


def check_filter(what, filter):
    """A filter, or "" for None. Its grammar is Milvus's to judge."""
    if filter is None:
        return ""
    if not isinstance(filter, str):
        raise TypeError(f"{what}: filter is {_short(filter)}, expected a text such as 'year > 2000', or None")
    if not filter.strip():
        raise ValueError(f"{what}: filter is empty, expected a text such as 'year > 2000', or None")
    try:
        filter.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what}: filter is {_short(filter)}, which is not valid Unicode") from None
    return filter


def check_fields(what, fields, reserved):
    """The keys to return, and what to ask Milvus for: a key that is no plain name comes with all the others."""
    if fields is None:
        return None, ["$meta"]
    if isinstance(fields, (str, bytes)) or not hasattr(fields, "__iter__"):
        raise TypeError(f"{what}: fields is {_short(fields)}, expected a list of keys of the metadata, or None for all")
    keys = list(fields)
    for key in keys:
        if not isinstance(key, str) or key in reserved:
            raise ValueError(f"{what}: fields holds {_short(key)}, expected keys of the metadata")
    if not keys:
        return keys, ["id"]  # none at all means all of them to Milvus Lite
    plain = all(_KEY.fullmatch(key) and key.lower() not in WORDS for key in keys)
    return keys, keys if plain else ["$meta"]


def _short(value):
    try:
        text = repr(value)
    except ValueError:  # a whole number with thousands of digits has no text
        text = "a huge number"
    return text if len(text) <= 80 else text[:77] + "..."
