"""Shapes, joins and indexing on the tape, in NumPy. Results are views of their input wherever NumPy's are."""

from __future__ import annotations

import math

import numpy as np

from plait.tensor import Tensor

from ._record import as_array, intake, named, record

__all__ = [
    "concat",
    "concatenate",
    "expand_dims",
    "index",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "transpose",
]


@named
def reshape(x, shape):
    """The elements in another shape.

    Parameters
    ----------
    x : array or Tensor
    shape : int or tuple of int
        One size may be -1: what remains.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.ops.reshape(np.ones((2, 6), np.float32), (3, -1)).shape
    (3, 4)
    """
    a = as_array("reshape", "x", x)
    return record("reshape", a.reshape(shape), (x,), (lambda g: g.reshape(a.shape),))


@named
def transpose(x, axes=None):
    """Axes in another order.

    Parameters
    ----------
    x : array or Tensor
    axes : tuple of int, optional
        Default: reversed.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.ops.transpose(np.ones((2, 3, 4), np.float32), (2, 0, 1)).shape
    (4, 2, 3)
    """
    a = as_array("transpose", "x", x)
    back = None if axes is None else np.argsort([axis % a.ndim for axis in axes])
    return record("transpose", a.transpose(axes), (x,), (lambda g: g.transpose(back),))


@named
def swapaxes(x, axis1, axis2):
    """Two axes exchanged.

    Parameters
    ----------
    x : array or Tensor
    axis1, axis2 : int

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.ops.swapaxes(np.ones((2, 3, 4), np.float32), 0, 2).shape
    (4, 3, 2)
    """
    a = as_array("swapaxes", "x", x)
    return record("swapaxes", a.swapaxes(axis1, axis2), (x,), (lambda g: g.swapaxes(axis1, axis2),))


@named
def expand_dims(x, axis):
    """New axes of size 1.

    Parameters
    ----------
    x : array or Tensor
    axis : int or tuple of int
        Positions in the result.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.expand_dims([1.0, 2.0], 0).shape
    (1, 2)
    """
    a = as_array("expand_dims", "x", x)
    return record("expand_dims", np.expand_dims(a, axis), (x,), (lambda g: g.reshape(a.shape),))


@named
def squeeze(x, axis=None):
    """Axes of size 1 left out.

    Parameters
    ----------
    x : array or Tensor
    axis : int or tuple of int, optional
        Default: every axis of size 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        An axis that was named has another size.

    Examples
    --------
    >>> import plait
    >>> plait.ops.squeeze([[1.0, 2.0]]).shape
    (2,)
    """
    a = as_array("squeeze", "x", x)
    return record("squeeze", a.squeeze(axis), (x,), (lambda g: g.reshape(a.shape),))


@named
def concat(arrays, axis=0):
    """Arrays joined along an axis. Also called ``concatenate``.

    Parameters
    ----------
    arrays : sequence of arrays or Tensors
        Of equal shape but for ``axis``.
    axis : int

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.concat([[1.0], [2.0, 3.0]])
    Tensor([1., 2., 3.])
    """
    parents = _sequence("concat", arrays)
    parts = intake("concat", False, **{f"arrays[{i}]": a for i, a in enumerate(parents)})
    out = np.concatenate(parts, axis)
    ends = np.cumsum([a.shape[axis] for a in parts]).tolist()
    lead = (slice(None),) * (axis % out.ndim)
    pieces = [(*lead, slice(end - a.shape[axis], end)) for a, end in zip(parts, ends, strict=True)]
    return record("concat", out, parents, [lambda g, piece=piece: g[piece] for piece in pieces])


concatenate = concat


@named
def stack(arrays, axis=0):
    """Arrays of one shape joined along a new axis.

    Parameters
    ----------
    arrays : sequence of arrays or Tensors
    axis : int
        Position of the new axis.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import plait
    >>> plait.ops.stack([[1.0, 2.0], [3.0, 4.0]], axis=1)
    Tensor([[1., 3.],
            [2., 4.]])
    """
    parents = _sequence("stack", arrays)
    out = np.stack(intake("stack", False, **{f"arrays[{i}]": a for i, a in enumerate(parents)}), axis)
    lead = (slice(None),) * (axis % out.ndim)
    return record("stack", out, parents, [lambda g, i=i: g[(*lead, i)] for i in range(len(parents))])


def _sequence(function, arrays):
    if isinstance(arrays, (Tensor, np.ndarray)):
        arrays = list(arrays)
    if not isinstance(arrays, (list, tuple)) or not arrays:
        raise ValueError(f"{function}: arrays is {arrays!r}, expected a list with at least one array")
    return arrays


@named
def split(x, indices_or_sections, axis=0):
    """An array cut along an axis.

    Parameters
    ----------
    x : array or Tensor
    indices_or_sections : int or sequence of int
        A number of equal parts, or the positions of the cuts, as in ``numpy.split``.
    axis : int

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    ValueError
        The axis does not divide into so many parts.

    Examples
    --------
    >>> import plait
    >>> plait.ops.split([1.0, 2.0, 3.0], [1])
    (Tensor([1.]), Tensor([2., 3.]))
    """
    a = as_array("split", "x", x)
    parts = tuple(np.split(a, indices_or_sections, axis))

    def gradient(gs):
        return np.concatenate([np.zeros_like(p) if g is None else g for g, p in zip(gs, parts, strict=True)], axis)

    out = record("split", parts, (x,), (gradient,))
    return out if type(out) is tuple else (out,)


@named
def index(x, key):
    """``x[key]`` with everything that NumPy takes: integers, slices, None, ..., integer arrays and masks.

    Where an integer array takes an element several times, its gradients add up.

    Parameters
    ----------
    x : array or Tensor
    key : index

    Returns
    -------
    Tensor

    Raises
    ------
    IndexError
        Out of range, or not an index.

    Examples
    --------
    >>> import plait
    >>> plait.ops.index([1.0, 2.0, 3.0], [2, 2, 0])
    Tensor([3., 3., 1.])
    """
    a = as_array("index", "x", x)
    key = tuple(_plain(k) for k in key) if isinstance(key, tuple) else _plain(key)
    parts = key if isinstance(key, tuple) else (key,)
    repeats = any(isinstance(k, np.ndarray) and k.dtype.kind in "iu" and k.ndim for k in parts)

    def gradient(g):
        dx = np.zeros(a.shape, g.dtype)
        if not repeats:
            dx[key] = g
        elif isinstance(key, np.ndarray):
            _add_rows(dx, key.ravel(), g.reshape(key.size, *a.shape[1:]))
        else:
            np.add.at(dx, key, g)
        return dx

    return record("index", a[key], (x,), (gradient,), *parts)


def _plain(k):
    if isinstance(k, Tensor):
        k = k.data
    return np.asarray(k) if isinstance(k, list) and k else k


def _add_rows(dx, rows, g):
    """Adds rows of g that go to one place, in their order; many times faster than ``np.add.at``."""
    if not rows.size or not math.prod(g.shape):
        return
    rows = np.where(rows < 0, rows + dx.shape[0], rows)
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    first = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
    dx[rows[first]] = np.add.reduceat(g[order], first, axis=0)
