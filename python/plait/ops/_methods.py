"""Operators and methods of ``Tensor``, and what NumPy's own functions do with one.

They live here so that the tape knows nothing of arithmetic.
"""

from __future__ import annotations

import numpy as np

from plait.tensor import Tensor, _mode

from . import activation, arithmetic, reduce, shape

_OPERATORS = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "pow": arithmetic.power,
    "matmul": arithmetic.matmul,
}
_COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_METHODS = {
    f.__name__: f
    for f in (
        *(arithmetic.abs, arithmetic.clip, arithmetic.exp, arithmetic.log, arithmetic.sqrt),
        *(activation.sigmoid, activation.tanh),
        *(reduce.sum, reduce.mean, reduce.max, reduce.min, reduce.softmax, reduce.log_softmax),
        *(shape.swapaxes, shape.squeeze, shape.expand_dims, shape.split),
    )
}
_UFUNCS = {
    getattr(np, f.__name__): f
    for f in (
        *(arithmetic.add, arithmetic.subtract, arithmetic.multiply, arithmetic.divide, arithmetic.power),
        *(arithmetic.negative, arithmetic.exp, arithmetic.log, arithmetic.sqrt, activation.tanh),
        *(arithmetic.maximum, arithmetic.minimum, arithmetic.matmul, arithmetic.abs),
    )
}
# Functions of NumPy that are not ufuncs; their signatures agree with ours in what both have.
_FUNCTIONS = {
    getattr(np, f.__name__): f
    for f in (
        *(reduce.sum, reduce.mean, reduce.max, reduce.min, arithmetic.where, arithmetic.clip),
        *(shape.reshape, shape.transpose, shape.swapaxes, shape.squeeze, shape.expand_dims, shape.split),
        *(shape.concatenate, shape.stack),
    )
    if hasattr(np, f.__name__)
} | {np.concatenate: shape.concatenate}
# What these return has no gradient anyway.
_CONSTANT = {
    *_COMPARISONS.values(),
    *(np.isnan, np.isinf, np.isfinite, np.signbit, np.logical_and, np.logical_or, np.logical_not, np.logical_xor),
    *(np.shape, np.ndim, np.size, np.argmax, np.argmin, np.argsort, np.allclose, np.isclose, np.array_equal),
    *(np.array_repr, np.array_str, np.array2string, np.zeros_like, np.ones_like, np.empty_like, np.full_like),
    *(np.iscomplexobj, np.isrealobj, np.may_share_memory, np.shares_memory, np.result_type, np.count_nonzero),
}


def _plain(value):
    """The same argument with arrays where tensors were."""
    if isinstance(value, Tensor):
        return value.data
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    return value


def _needs_gradient(value):
    if isinstance(value, (list, tuple)):
        return any(_needs_gradient(v) for v in value)
    return _mode.enabled and isinstance(value, Tensor) and value.requires_grad


def _array_ufunc(self, ufunc, method, *inputs, out=None, **options):
    taped = _UFUNCS.get(ufunc)
    if taped is not None and method == "__call__" and out is None and not options:
        return taped(*inputs)
    if ufunc in _CONSTANT or not _needs_gradient(inputs):
        if out is not None:
            options["out"] = _plain(out)
        return getattr(ufunc, method)(*_plain(inputs), **options)
    call = ufunc.__name__ + ("" if method == "__call__" else "." + method) + ("" if out is None else " with out=")
    raise TypeError(
        f"numpy.{call} is not on the tape, and an input requires a gradient: use a function of plait.ops, "
        "plait.operator, or .detach()"
    )


def _array_function(self, function, types, args, kwargs):
    taped = _FUNCTIONS.get(function)
    needed = _needs_gradient(args) or _needs_gradient(tuple(kwargs.values()))
    if taped is not None and needed:
        return taped(*args, **kwargs)
    if not needed or function in _CONSTANT:
        return function(*_plain(args), **{k: _plain(v) for k, v in kwargs.items()})
    raise TypeError(
        f"numpy.{function.__name__} is not on the tape, and an input requires a gradient: use a function of "
        "plait.ops, plait.operator, or .detach()"
    )


def _attach():
    def reverse(function):
        return lambda self, other: function(other, self)

    def compare(function):
        def method(self, other):
            if other is None or isinstance(other, str):
                return NotImplemented
            return function(self.data, _plain(other))

        return method

    for name, function in _OPERATORS.items():
        setattr(Tensor, f"__{name}__", function)
        setattr(Tensor, f"__r{name}__", reverse(function))
    for name, function in _COMPARISONS.items():
        setattr(Tensor, f"__{name}__", compare(function))
    for name, function in _METHODS.items():
        setattr(Tensor, name, function)
    Tensor.__neg__ = arithmetic.negative
    Tensor.__abs__ = arithmetic.abs
    Tensor.__getitem__ = shape.index
    Tensor.reshape = lambda self, *sizes: shape.reshape(self, sizes[0] if len(sizes) == 1 else sizes)
    Tensor.transpose = lambda self, *axes: shape.transpose(
        self, (axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes) or None
    )
    Tensor.T = property(shape.transpose)
    Tensor.__array_ufunc__ = _array_ufunc
    Tensor.__array_function__ = _array_function


_attach()
