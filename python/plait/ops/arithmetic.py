"""Elementwise functions and matrix products on the tape, in NumPy: the glue of people's own layers.

Arguments are tensors, arrays, lists or numbers; they broadcast, and a gradient is summed back to the shape of its
input. Results are float64 when every floating array among the arguments is, else float32: a Python number never
promotes, and a float64 array beside a float32 tensor gives float32.
"""

from __future__ import annotations

import math

import numpy as np

from ._record import as_array, compute, intake, named, record

__all__ = [
    "abs",
    "add",
    "clip",
    "divide",
    "exp",
    "log",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "power",
    "sqrt",
    "subtract",
    "where",
]


@named
def add(x, y):
    """x + y, elementwise with broadcasting.

    Parameters
    ----------
    x, y : array or Tensor
        Shapes that broadcast.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.add([1.0, 2.0], 3.0)
    Tensor([4., 5.])
    """
    a, b = intake("add", False, x=x, y=y)
    return record("add", compute(np.add, a, b), (x, y), (lambda g: g, lambda g: g))


@named
def subtract(x, y):
    """x - y, elementwise with broadcasting.

    Parameters
    ----------
    x, y : array or Tensor
        Shapes that broadcast.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.subtract([1.0, 2.0], 3.0)
    Tensor([-2., -1.])
    """
    a, b = intake("subtract", False, x=x, y=y)
    return record("subtract", compute(np.subtract, a, b), (x, y), (lambda g: g, lambda g: -g))


@named
def multiply(x, y):
    """x y, elementwise with broadcasting.

    Parameters
    ----------
    x, y : array or Tensor
        Shapes that broadcast.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.multiply([1.0, 2.0], 3.0)
    Tensor([3., 6.])
    """
    a, b = intake("multiply", False, x=x, y=y)
    return record(
        "multiply",
        compute(np.multiply, a, b),
        (x, y),
        (lambda g: compute(np.multiply, g, b), lambda g: compute(np.multiply, g, a)),
        a,
        b,
    )


@named
def divide(x, y):
    """x / y, elementwise with broadcasting; by zero as in NumPy.

    Parameters
    ----------
    x, y : array or Tensor
        Shapes that broadcast. Integers become float32.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.divide([1.0, 2.0], 4.0)
    Tensor([0.25, 0.5 ])
    """
    a, b = intake("divide", True, x=x, y=y)
    out = compute(np.divide, a, b)

    def of_y(g):
        return -compute(np.divide, g * out, b)

    return record("divide", out, (x, y), (lambda g: compute(np.divide, g, b), of_y), b, out)


@named
def power(x, exponent):
    """x to a power, elementwise with broadcasting.

    The gradient with respect to ``exponent`` is taken as 0 where x is 0, and that with respect to x as 0 where the
    exponent is.

    Parameters
    ----------
    x, exponent : array or Tensor
        Shapes that broadcast.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.power([1.0, 2.0, 3.0], 2)
    Tensor([1., 4., 9.])
    """
    a, b = intake("power", False, x=x, exponent=exponent)
    # The operator knows squares and roots; the ufunc would call pow for them.
    out = compute(np.square, a) if type(b) is int and b == 2 else a**b

    def of_base(g):
        if type(b) in (int, float):
            return g * (b * a ** (b - 1)) if b else np.zeros_like(g)
        return g * np.where(b == 0, b, b * np.power(a, np.where(b == 0, b, b - 1)))

    def of_exponent(g):
        return g * out * np.log(np.where(a == 0, np.ones_like(a), a))

    return record("power", out, (x, exponent), (of_base, of_exponent), a, b, out)


@named
def negative(x):
    """-x.

    Parameters
    ----------
    x : array or Tensor

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.negative([1.0, -2.0])
    Tensor([-1.,  2.])
    """
    (a,) = intake("negative", False, x=x)
    return record("negative", compute(np.negative, a), (x,), (lambda g: -g,))


@named
def abs(x):
    """Absolute value, with derivative 0 at 0.

    Parameters
    ----------
    x : array or Tensor

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.abs([1.0, -2.0])
    Tensor([1., 2.])
    """
    (a,) = intake("abs", False, x=x)
    return record("abs", compute(np.abs, a), (x,), (lambda g: g * np.sign(a),), a)


@named
def exp(x):
    """Exponential function.

    Parameters
    ----------
    x : array or Tensor

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.exp([0.0, -1000.0])
    Tensor([1., 0.])
    """
    (a,) = intake("exp", True, x=x)
    out = compute(np.exp, a)
    return record("exp", out, (x,), (lambda g: compute(np.multiply, g, out),), out)


@named
def log(x):
    """Natural logarithm; of zero and of negative numbers as in NumPy.

    Parameters
    ----------
    x : array or Tensor

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.log([1.0])
    Tensor([0.])
    """
    (a,) = intake("log", True, x=x)
    return record("log", compute(np.log, a), (x,), (lambda g: compute(np.divide, g, a),), a)


@named
def sqrt(x):
    """Square root.

    Parameters
    ----------
    x : array or Tensor

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.sqrt([4.0, 9.0])
    Tensor([2., 3.])
    """
    (a,) = intake("sqrt", True, x=x)
    out = compute(np.sqrt, a)
    return record("sqrt", out, (x,), (lambda g: compute(np.divide, g * 0.5, out),), out)


@named
def maximum(x, y):
    """The larger one, elementwise with broadcasting; where both are equal the gradient goes to both in halves.

    Parameters
    ----------
    x, y : array or Tensor
        Shapes that broadcast.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.maximum([1.0, -2.0], 0.0)
    Tensor([1., 0.])
    """
    a, b = intake("maximum", False, x=x, y=y)
    return record("maximum", compute(np.maximum, a, b), (x, y), _choice(a, b, np.greater), a, b)


@named
def minimum(x, y):
    """The smaller one, elementwise with broadcasting; where both are equal the gradient goes to both in halves.

    Parameters
    ----------
    x, y : array or Tensor
        Shapes that broadcast.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.minimum([1.0, -2.0], 0.0)
    Tensor([ 0., -2.])
    """
    a, b = intake("minimum", False, x=x, y=y)
    return record("minimum", compute(np.minimum, a, b), (x, y), _choice(a, b, np.less), a, b)


def _choice(a, b, wins):
    def share(g, p, q):
        return g * (wins(p, q) + g.dtype.type(0.5) * (p == q))

    return lambda g: share(g, a, b), lambda g: share(g, b, a)


@named
def clip(x, min=None, max=None):
    """x limited to an interval; the gradient is 0 outside of it.

    Parameters
    ----------
    x : array or Tensor
    min, max : float or array, optional
        Limits, without a gradient of their own. Shapes that broadcast to that of x.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.clip([-1.0, 0.5, 2.0], 0.0, 1.0)
    Tensor([0. , 0.5, 1. ])
    """
    if min is None and max is None:
        raise ValueError("clip: min and max are both None, expected one limit at least")
    low, high = -np.inf if min is None else min, np.inf if max is None else max
    a, low, high = intake("clip", True, x=x, min=low, max=high)
    return record("clip", np.clip(a, low, high), (x,), (lambda g: g * ((a >= low) & (a <= high)),), a, low, high)


@named
def where(condition, x, y):
    """x where the condition holds and y elsewhere, with broadcasting.

    Parameters
    ----------
    condition : array or Tensor
        Truth values.
    x, y : array or Tensor
        Shapes that broadcast with the condition.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.where([True, False], 1.0, 2.0)
    Tensor([1., 2.])
    """
    c = as_array("where", "condition", condition)
    a, b = intake("where", False, x=x, y=y)
    out = np.where(c, a, b)
    zero = out.dtype.type(0)
    return record("where", out, (x, y), (lambda g: np.where(c, g, zero), lambda g: np.where(c, zero, g)), c)


@named
def matmul(x, y):
    """Matrix product ``x @ y``, over leading dimensions that broadcast, by NumPy's rules.

    Parameters
    ----------
    x : (..., N, K) or (K,) array or Tensor
    y : (..., K, M) or (K,) array or Tensor

    Returns
    -------
    Tensor
        (..., N, M); a dimension that a vector lacked is left out.

    Raises
    ------
    ValueError
        A scalar was given, or the inner sizes differ.

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.ops.matmul(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)).shape
    (2, 4)
    """
    from .shape import expand_dims, squeeze

    a, b = intake("matmul", False, x=x, y=y)
    for name, v in (("x", a), ("y", b)):
        if np.ndim(v) == 0:
            raise ValueError(f"matmul: {name} is a number, expected at least 1 dimension")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"matmul: y has shape {b.shape}, expected {a.shape[-1]} rows as x has shape {a.shape}")
    if a.ndim == 1:
        return squeeze(matmul(expand_dims(x, 0), y), -2 if b.ndim > 1 else 0)
    if b.ndim == 1:
        return squeeze(matmul(x, expand_dims(y, 1)), -1)

    def of_y(g):
        if b.ndim == 2:  # one product over all rows, no sum over samples
            rows = math.prod(a.shape[:-1])
            return a.reshape(rows, a.shape[-1]).T @ g.reshape(rows, g.shape[-1])
        return a.swapaxes(-1, -2) @ g

    return record("matmul", a @ b, (x, y), (lambda g: g @ b.swapaxes(-1, -2), of_y), a, b)
