"""Checks of arguments that the tape and its functions share."""

from __future__ import annotations

import numpy as np

F32 = np.dtype(np.float32)
F64 = np.dtype(np.float64)


def is_place(array):
    """Whether an operator of the core can write there: native float32, C-contiguous, aligned, writable."""
    return array.dtype is F32 and array.flags.carray


def shape_of(value):
    """The shape of what may be an array, () of what is none: for a look before the core checks it."""
    try:
        return np.shape(value)
    except Exception:
        return ()


def plain_array(function, name, value, expected="numbers"):
    """The plain array of numbers that an argument is; ``function`` and ``name`` are for the message."""
    if type(value) is np.ndarray and value.dtype.kind in "fiub":
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"{function}: {name} has masked elements, expected a plain array (see its .filled())")
    try:
        array = np.asarray(value)
    except Exception as error:
        raise TypeError(f"{function}: {name} is not an array: {type(value).__name__} ({error})") from None
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise TypeError(f"{function}: {name} has dtype {array.dtype}, expected {expected}")
    return array


def flag(function, name, value) -> bool:
    """The value of an argument that is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{function}: {name} is {value!r}, expected True or False")
    return bool(value)
