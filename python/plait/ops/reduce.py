"""Sums, means, extremes and softmax along axes, on the tape, in NumPy."""

from __future__ import annotations

import math

import numpy as np

from ._record import intake, named, record

__all__ = ["log_softmax", "max", "mean", "min", "softmax", "sum"]


def _keep(array, x, axis):
    """A reduced array with the reduced axes back as 1, so that it broadcasts against x."""
    return array if array.ndim == x.ndim else np.expand_dims(array, _axes(x, axis))


def _axes(x, axis):
    if axis is None:
        return tuple(range(x.ndim))
    return tuple(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


@named
def sum(x, axis=None, keepdims=False):
    """Sum over axes.

    Parameters
    ----------
    x : array or Tensor
    axis : int or tuple of int, optional
        Default: all.
    keepdims : bool
        Whether summed axes stay, with size 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    Tensor([4., 6.])
    """
    (a,) = intake("sum", False, x=x)
    out = a.sum(axis, keepdims=keepdims)
    return record("sum", out, (x,), (lambda g: np.broadcast_to(_keep(g, a, axis), a.shape),))


@named
def mean(x, axis=None, keepdims=False):
    """Mean over axes.

    Parameters
    ----------
    x : array or Tensor
    axis : int or tuple of int, optional
        Default: all.
    keepdims : bool
        Whether averaged axes stay, with size 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        The mean of nothing was asked for.

    Examples
    --------
    >>> import plait
    >>> plait.ops.mean([[1.0, 2.0], [3.0, 4.0]], axis=1)
    Tensor([1.5, 3.5])
    """
    (a,) = intake("mean", True, x=x)
    count = math.prod(a.shape[i] for i in _axes(a, axis))
    if not count:
        raise ValueError(f"mean: x has shape {a.shape}, expected elements along axis {axis}")
    out = a.mean(axis, keepdims=keepdims)
    return record("mean", out, (x,), (lambda g: np.broadcast_to(_keep(g / count, a, axis), a.shape),))


@named
def max(x, axis=None, keepdims=False):
    """Largest element along axes; elements that tie share the gradient.

    Parameters
    ----------
    x : array or Tensor
    axis : int or tuple of int, optional
        Default: all.
    keepdims : bool
        Whether reduced axes stay, with size 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        There is nothing to choose from.

    Examples
    --------
    >>> import plait
    >>> plait.ops.max([[1.0, 2.0], [3.0, 4.0]], axis=0)
    Tensor([3., 4.])
    """
    return _extreme("max", np.max, x, axis, keepdims)


@named
def min(x, axis=None, keepdims=False):
    """Smallest element along axes; elements that tie share the gradient.

    Parameters
    ----------
    x : array or Tensor
    axis : int or tuple of int, optional
        Default: all.
    keepdims : bool
        Whether reduced axes stay, with size 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        There is nothing to choose from.

    Examples
    --------
    >>> import plait
    >>> plait.ops.min([[1.0, 2.0], [3.0, 4.0]], axis=0)
    Tensor([1., 2.])
    """
    return _extreme("min", np.min, x, axis, keepdims)


def _extreme(name, function, x, axis, keepdims):
    (a,) = intake(name, False, x=x)
    if not math.prod(a.shape[i] for i in _axes(a, axis)):
        raise ValueError(f"{name}: x has shape {a.shape}, expected elements along axis {axis}")
    out = np.asarray(function(a, axis, keepdims=keepdims))

    def gradient(g):
        ties = a == _keep(out, a, axis)
        count = np.maximum(ties.sum(_axes(a, axis), keepdims=True), 1).astype(a.dtype)
        return ties * (_keep(g, a, axis) / count)

    return record(name, out, (x,), (gradient,), a, out)


@named
def softmax(x, axis=-1):
    """exp(x) over its sum along an axis.

    Parameters
    ----------
    x : array or Tensor
    axis : int

    Returns
    -------
    Tensor
        Of x's shape.

    Examples
    --------
    >>> import plait
    >>> plait.ops.softmax([0.0, 0.0])
    Tensor([0.5, 0.5])
    """
    (a,) = intake("softmax", True, x=x)
    out = np.exp(a - _top(a, axis))
    out /= out.sum(axis, keepdims=True)
    return record("softmax", out, (x,), (lambda g: out * (g - (g * out).sum(axis, keepdims=True)),), out)


@named
def log_softmax(x, axis=-1):
    """Logarithm of softmax, exact where softmax itself would round to 0.

    Parameters
    ----------
    x : array or Tensor
    axis : int

    Returns
    -------
    Tensor
        Of x's shape.

    Examples
    --------
    >>> import plait
    >>> plait.ops.log_softmax([0.0, 0.0])
    Tensor([-0.6931472, -0.6931472])
    """
    (a,) = intake("log_softmax", True, x=x)
    out = a - _top(a, axis)
    if out.size:
        out -= np.log(np.exp(out).sum(axis, keepdims=True))
    return record("log_softmax", out, (x,), (lambda g: g - np.exp(out) * g.sum(axis, keepdims=True),), out)


def _top(a, axis):
    """Largest element along an axis; an empty array needs something to start from."""
    return a.max(axis, keepdims=True, initial=None if a.size else 0)
