"""A differentiable operator from two Python functions."""

from __future__ import annotations

import functools

import numpy as np

from plait import _core
from plait._array import F32, F64
from plait.tensor import Node, Tensor, _mode, no_grad

from ._apply import wrap
from ._record import as_array

__all__ = ["operator"]


class operator:
    """A differentiable operator from two Python functions on plain arrays.

    ``forward(*arrays, **options)`` returns a pair ``(output, saved)``: an array, or a tuple of arrays, and whatever
    backward needs (None when that is nothing). ``backward(saved, *douts, **options)`` returns a gradient for each
    array of forward, in order, as a tuple or, for a single one, as it is; None where nothing flows. It gets one
    ``dout`` an output, of the output's shape, zeros where no gradient arrived.

    In a call, positional arguments are the arrays (tensors, arrays, lists, numbers or None, which is passed on) and
    keywords are the options. Floating arrays come to forward as float64 when all of them are, else as float32, all
    of them read-only; outputs and gradients are brought to that dtype. Inputs and saved arrays stay read-only until
    backward.

    Parameters
    ----------
    forward : callable
    backward : callable, optional
        May follow as ``@name.backward``. Without one the operator has no gradient.

    Raises
    ------
    TypeError, ValueError
        In a call: something else than arrays where arrays are due, a wrong number of gradients, or a gradient of
        another shape than its input. The message names the operator, which is forward's name.

    Examples
    --------
    >>> import numpy as np, plait
    >>> @plait.operator
    ... def scaled_tanh(x, *, scale):
    ...     y = np.tanh(scale * x)
    ...     return y, y
    >>> @scaled_tanh.backward
    ... def scaled_tanh_backward(y, dy, *, scale):
    ...     return dy * scale * (1 - y * y)
    >>> x = plait.Tensor([0.0, 1.0], requires_grad=True)
    >>> scaled_tanh(x, scale=2.0).sum().backward()
    >>> float(x.grad[0])
    2.0
    >>> plait.gradcheck(lambda x: scaled_tanh(x, scale=2.0), x)
    True
    """

    def __init__(self, forward, backward=None):
        for name, function in (("forward", forward), ("backward", backward)):
            if not callable(function) and not (name == "backward" and function is None):
                raise TypeError(f"operator: {name} is {function!r}, expected a function")
        self._forward = forward
        self._backward = backward
        functools.update_wrapper(self, forward)
        self.__name__ = getattr(forward, "__name__", type(forward).__name__)

    def backward(self, function):
        """Decorator: the gradient of this operator."""
        if not callable(function):
            raise TypeError(f"{self.__name__}: backward is {function!r}, expected a function")
        self._backward = function
        return function

    def __repr__(self):
        return f"<plait.operator {self.__name__}>"

    def __call__(self, *arrays, **options):
        name = self.__name__
        for key, value in options.items():
            if isinstance(value, Tensor) and value.requires_grad:
                raise TypeError(f"{name}: {key} requires a gradient, so it must be a positional argument")
        values, dtype = _values(name, arrays)
        with no_grad():
            pair = self._forward(*values, **options)
        if type(pair) is not tuple or len(pair) != 2:
            raise TypeError(f"{name}: forward returned {_kind(pair)}, expected a pair (output, saved)")
        single = type(pair[0]) is not tuple
        outputs = [
            _result(v, dtype, f"{name}: forward returned {_kind(v)} as output {i}, expected an array")
            for i, v in enumerate((pair[0],) if single else pair[0])
        ]
        inputs = [t if isinstance(t, Tensor) and t.requires_grad else None for t in arrays]
        if not _mode.enabled or all(t is None for t in inputs):
            return _tensors(outputs, None, single)
        if self._backward is None:
            raise TypeError(f"{name}: an input requires a gradient, and no backward was given")
        saved, function = pair[1], self._backward
        watched = [(t, t.version) for t in arrays if isinstance(t, Tensor) and t.version is not None]
        shapes = [(o.shape, o.dtype) for o in outputs]
        lock = _core.Lock(*_arrays([a.data if isinstance(a, Tensor) else a for a in arrays]), *_arrays(saved))

        def run(douts, dins, wanted, accumulate, lock=lock):
            douts = [np.zeros(*s) if d is None else _frozen(d) for d, s in zip(douts, shapes, strict=True)]
            with no_grad():
                grads = function(saved, *douts, **options)
            return _gradients(name, grads, inputs, dtype)

        return _tensors(outputs, Node(name, inputs, run, len(outputs), False, watched), single)


def _values(name, arrays):
    """The arrays as forward gets them, and the dtype of its floating results."""
    values = [None if a is None else as_array(name, f"argument {i}", a) for i, a in enumerate(arrays)]
    floating = [v is not None and v.dtype.kind in "fV" for v in values]
    strong = [
        v.dtype.char in "dg"
        for v, a, f in zip(values, arrays, floating, strict=True)
        if f and isinstance(a, (Tensor, np.ndarray))
    ]
    dtype = F64 if strong and all(strong) else F32
    for i, v in enumerate(values):
        if v is not None:
            values[i] = _frozen(v.astype(dtype, copy=False) if floating[i] else v)
    return values, dtype


def _frozen(array):
    """A read-only view: the array itself may belong to others."""
    view = array.view()
    view.flags.writeable = False
    return view


def _kind(value):
    return f"a tuple of {len(value)}" if type(value) is tuple else f"a {type(value).__name__}"


def _result(value, dtype, complaint):
    """An output or gradient as an array, floats in the operator's dtype."""
    if isinstance(value, Tensor) or not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(complaint)
    array = np.asarray(value)
    if array.dtype.kind not in "fiubV":
        raise TypeError(f"{complaint}; its dtype is {array.dtype}")
    return array.astype(dtype, copy=False) if array.dtype.kind in "fV" else array


def _arrays(saved):
    """The arrays in what was saved, as far as it is made of tuples, lists and dicts."""
    if isinstance(saved, np.ndarray):
        return [saved]
    if isinstance(saved, dict):
        saved = list(saved.values())
    return [a for s in saved for a in _arrays(s)] if isinstance(saved, (tuple, list)) else []


def _tensors(outputs, node, single):
    tensors = wrap(outputs, node)
    return tensors if single or type(tensors) is tuple else (tensors,)


def _gradients(name, grads, inputs, dtype):
    if not isinstance(grads, (tuple, list)):
        grads = (grads,)
    if len(grads) != len(inputs):
        raise ValueError(f"{name}: backward returned {len(grads)} gradients, expected {len(inputs)}, one an argument")
    checked = []
    for i, (g, t) in enumerate(zip(grads, inputs, strict=True)):
        if t is None or g is None:
            checked.append(None)
            continue
        g = _result(g, dtype, f"{name}: backward returned {_kind(g)} for argument {i}, expected an array or None")
        if g.shape != t.shape:
            raise ValueError(f"{name}: backward returned shape {g.shape} for argument {i}, expected {t.shape}")
        checked.append(g.astype(t.dtype if t.dtype.char in "fd" else dtype, copy=False))
    return checked
