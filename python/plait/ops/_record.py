"""How a NumPy function meets the tape: arrays in, one node out.

Every function of ``arithmetic``, ``reduce`` and ``shape`` is these two calls around a NumPy expression: ``intake``
brings the arguments to one dtype, ``record`` wraps the result and remembers a gradient function an input.
"""

from __future__ import annotations

import functools

import numpy as np

from plait import _core
from plait._array import F32, F64, plain_array
from plait.tensor import Node, Tensor, _mode

from ._apply import tensor, wrap

_LARGE = 1 << 14  # elements from which memory of the pool beats fresh memory with its page faults


def named(function):
    """Decorator: what NumPy complains about names the function."""
    prefix = function.__name__ + ": "

    @functools.wraps(function)
    def call(*args, **options):
        try:
            return function(*args, **options)
        except (ValueError, TypeError, IndexError) as error:
            if str(error).startswith(prefix):
                raise
            for kind in (np.exceptions.AxisError, IndexError, ValueError, TypeError):
                if isinstance(error, kind):
                    raise kind(f"{prefix}{error}") from None

    return call


def as_array(function, name, value):
    """The plain array of an argument, of any numeric dtype."""
    return value._data if isinstance(value, Tensor) else plain_array(function, name, value)


def intake(function, floating, /, **values):
    """The arguments as arrays of one dtype; Python numbers stay numbers beside arrays.

    Floating arrays and tensors decide: float64 when all of them are float64, else float32. Python numbers, NumPy
    scalars, lists, integers and booleans follow. Without any floating array the result is float32 when ``floating``
    is set or a Python float takes part, and NumPy's integer rules apply otherwise.
    """
    arrays, ready = [], False
    for value in values.values():
        kind = type(value)
        if isinstance(value, Tensor):
            value = value._data
            kind = type(value)
        if kind is np.ndarray and value.dtype is F32:
            ready = True
        elif kind is not float and kind is not int:
            return _coerce(function, floating, values)
        arrays.append(value)
    return arrays if ready else _coerce(function, floating, values)


def _coerce(function, floating, values):
    arrays, strong, weak = [], [], floating
    for name, value in values.items():
        array = as_array(function, name, value)
        if array.dtype.kind in "fV":
            if isinstance(value, (Tensor, np.ndarray)):
                strong.append(array.dtype.char in "dg")
            else:
                weak = True
        arrays.append(array)
    if not strong and not weak:
        return arrays
    dtype = F64 if strong and all(strong) else F32
    return [array.astype(dtype, copy=False) for array in arrays]


def compute(ufunc, *arrays):
    """The result of a ufunc, in memory of the pool where it is large."""
    large = False
    for a in arrays:
        if type(a) is np.ndarray:
            if a.dtype is not F32 or a.ndim > 6:
                return ufunc(*arrays)
            large = large or a.size >= _LARGE
    return ufunc(*arrays, out=_core.empty(np.broadcast(*arrays).shape)) if large else ufunc(*arrays)


def record(name, out, parents, gradients, *saved):
    """A tensor over ``out`` (several over a tuple), recorded when a parent requires a gradient.

    Parameters
    ----------
    name : str
        Of the function, for messages.
    out : array or tuple of arrays
    parents : sequence
        The arguments as the caller gave them: tensors, arrays, numbers.
    gradients : sequence of callables
        For each parent: gradient of the output (or tuple of them, None where nothing flows) to the gradient of this
        parent, which may still have the broadcast shape. None for a parent without one.
    *saved : array or number
        What the gradient functions read: read-only until backward.
    """
    single = type(out) is not tuple
    if single and type(out) is not np.ndarray:
        out = np.asarray(out)
    inputs, watched, found = [], [], False
    for t in parents if _mode.enabled else ():
        if isinstance(t, Tensor):
            if t.version is not None:  # a parameter
                watched.append((t, t.version))
            if t.requires_grad:
                inputs.append(t)
                found = True
                continue
        inputs.append(None)
    if not found:
        return tensor(out) if single else wrap(out, None)
    lock = _core.Lock(*[a for a in saved if isinstance(a, np.ndarray)]) if saved else None

    def run(douts, dins, wanted, accumulate, lock=lock):
        g = douts[0] if single else douts
        return [None if t is None else _fit(f(g), t) for t, f in zip(inputs, gradients, strict=True)]

    if single:
        return tensor(out, Node(name, inputs, run, 1, False, watched))
    return wrap(out, Node(name, inputs, run, len(out), False, watched))


def _fit(g, t):
    """A gradient of broadcast shape, summed back to the shape of its tensor, in its precision."""
    shape = t._data.shape
    if g.shape != shape:
        lead = g.ndim - len(shape)
        axes = [i + lead for i, n in enumerate(shape) if n == 1]
        g = g.sum((*range(lead), *axes)).reshape(shape)
    elif type(g) is not np.ndarray:
        g = np.asarray(g)
    if g.dtype is not t._data.dtype and t._data.dtype.char in "fd":
        g = g.astype(t._data.dtype.newbyteorder("="), copy=False)
    return g
