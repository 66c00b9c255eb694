"""Arrays that a user may bring: odd layouts of good values, and values that no operator can take."""

from __future__ import annotations

import datetime

import ml_dtypes
import numpy as np

EXCEPTIONS = (ValueError, TypeError, IndexError, OverflowError, MemoryError, NotImplementedError)


# ---------------------------------------------------------------- the same values in another form


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def strided(a):
    """Every second element of an array twice as large in each dimension."""
    big = np.zeros([2 * n for n in a.shape], a.dtype)
    big[tuple(slice(None, None, 2) for _ in a.shape)] = a
    return big[tuple(slice(None, None, 2) for _ in a.shape)]


def backwards(a):
    """Negative strides."""
    every = tuple(slice(None, None, -1) for _ in a.shape)
    return a[every].copy()[every]


def fortran(a):
    return np.array(a, order="F")


def swapped(a):
    return a.astype(a.dtype.newbyteorder())


def misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    b = raw[1:].view(a.dtype).reshape(a.shape)
    b[...] = a
    return b


class Labelled(np.ndarray):
    """A subclass without any meaning."""


def subclass(a):
    return a.view(Labelled)


def matrix(a):
    return a.view(np.matrix) if a.ndim == 2 else None


def masked(a):
    """A masked array without masked elements."""
    return np.ma.masked_array(a)


class Exporter:
    """Nothing but __array__."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype)


def nested(a):
    """Lists; those of an array without elements do not say its shape."""
    return a.tolist() if a.size else None


SAME = {f.__name__: f for f in (read_only, strided, backwards, fortran, swapped, misaligned, subclass, matrix, masked)}
SAME |= {"nested": nested, "exporter": Exporter}
ROUNDED = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
INTEGERS = {t: np.dtype(t) for t in ("int8", "int32", "uint8", "uint64")}


# ---------------------------------------------------------------- what cannot be right


class Raises:
    """An object whose __array__ fails."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array today")


def wrong_kinds(a):
    """name -> an argument of a wrong kind, of the right shape where there is one."""
    made = {
        "object": a.astype(object),
        "objects": np.full(a.shape, None),
        "text": np.full(a.shape, "text"),
        "bytes": np.full(a.shape, b"bytes"),
        "complex": a.astype(np.complex64),
        "times": np.full(a.shape, datetime.datetime(2020, 1, 1), "datetime64[s]"),
        "spans": np.full(a.shape, datetime.timedelta(1), "timedelta64[s]"),
        "record": np.zeros(a.shape, [("x", "f4")]),
        "raises": Raises(),
        "a string": "text",
        "a dict": {},
        "a function": wrong_kinds,
        "ragged": [[1.0], [1.0, 2.0]],
    }
    if a.size:
        made["masked"] = np.ma.masked_array(a, np.ones(a.shape, bool))
    if a.dtype.kind == "f":
        made |= {"bool": np.ones(a.shape, bool), "int": np.ones(a.shape, np.int64)}
    elif a.dtype.kind in "iu":
        made |= {"float": a.astype(np.float32), "bool": np.ones(a.shape, bool)}
    else:
        made["float"] = a.astype(np.float32)
    return made


def huge(a):
    """Views of little memory that claim more bytes than an address has bits for."""
    one = np.zeros(1, a.dtype)
    claims = {
        "huge": (2**51, *[1 for _ in a.shape[1:]]),
        "huge in all": (2 ** (56 // max(a.ndim, 1)),) * max(a.ndim, 1),
    }
    return {k: np.lib.stride_tricks.as_strided(one, s, (0,) * len(s)) for k, s in claims.items()}


def shapes(a):
    """Empty arrays and wrong ranks."""
    made = {
        "empty": np.zeros(0, a.dtype),
        "no rows": np.zeros((0, *a.shape[1:]), a.dtype),
        "no columns": np.zeros((*a.shape[:-1], 0), a.dtype),
        "0-d": np.zeros((), a.dtype),
        "7-d": np.ones((1,) * 7, a.dtype),
        "one more axis": a[None],
        "one axis less": a.reshape(-1),
    }
    return {k: v for k, v in made.items() if v.shape != a.shape}


def broken_offsets(o):
    """Offsets that are none."""
    end = int(o[-1])
    made = {
        "empty": o[:0],
        "2-d": o[None],
        "begin late": o + 1,
        "begin early": o - 1,
        "end late": np.concatenate([o, [end + 1]]),
        "end far": np.concatenate([o, [2**62]]),
        "end early": np.concatenate([o[:-1], [end - 1]]),
        "negative": np.concatenate([o, [-5, end]]),
        "overflow": np.concatenate([o, [-(2**63), end]]),
        "floats": o.astype(np.float64),
    }
    if o.size > 1 and end:
        made["descending"] = np.concatenate([[0, end], o])
    return made
