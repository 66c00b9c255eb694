"""Positions: added to rows, or turning pairs of columns."""

from __future__ import annotations

import numpy as np

from plait._array import plain_array, shape_of
from plait.tensor import Tensor

from ._apply import apply, operators

_add_positions, _rope = operators["add_positions"], operators["rope"]


def add_positions(x, offsets, table=None, start=None):
    r"""Adds to each row what belongs to its position in its sample: a learned row, or sinusoids.

    Row ``r`` of sample ``b`` has position ``start[b] + r``. Without a table, columns :math:`2i` and :math:`2i + 1` get
    the sine and the cosine of :math:`p \cdot 10000^{-2i/D}` (Vaswani et al., arXiv 1706.03762, section 3.5). Angles
    are formed in double precision, so that late positions are as exact as early ones.

    Parameters
    ----------
    x : (N, D) array or Tensor
        Rows.
    offsets : (B + 1,) int array
        Rows of each sample.
    table : (P, D) array or Tensor, optional
        Learned positions. Default: sinusoids.
    start : (B,) int array, optional
        Position of the first row of each sample: rows that continue a sequence. Default: 0.

    Returns
    -------
    Tensor
        (N, D).

    Raises
    ------
    ValueError
        A shape or the offsets do not fit, or a sample goes beyond the end of the table.
    IndexError
        An entry of ``start`` is negative.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x = np.zeros((3, 4), np.float32)
    >>> plait.ops.add_positions(x, [0, 2, 3]).numpy().round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ],
           [0.    , 1.    , 0.    , 1.    ]], dtype=float32)
    """
    return apply(_add_positions, (x, offsets, table, start))


def rope(x, offsets, heads, *, times=None, base=10000.0, interleaved=False, start=None, rotary_dim=None):
    r"""Rotary positions: pairs of columns of each head turned by an angle that grows with the position.

    Pair :math:`i` of a row at position :math:`p` turns by :math:`p \cdot base^{-2i/R}`, so that the product of a query
    and a key depends on the distance of their positions alone (Su et al., RoFormer, arXiv 2104.09864).

    Parameters
    ----------
    x : (N, heads * D) array or Tensor
        Queries or keys.
    offsets : (B + 1,) int array
        Rows of each sample.
    heads : int
    times : (N,) float array, optional
        Positions in seconds, in place of row counts: rows of streams with different rates meet on one axis. Taken to
        48 bits, so that time stamps since 1970 keep microseconds. Not differentiable.
    base : float
        Above 0.
    interleaved : bool
        False: pairs are columns :math:`(i, R/2 + i)`, as in GPT-NeoX and LLaMA. True: :math:`(2i, 2i + 1)`, as in
        RoFormer and GPT-J.
    start : (B,) int array, optional
        Position of the first row of each sample. Default: 0. Not with ``times``.
    rotary_dim : int, optional
        R: the first R columns of each head turn, the others pass. Default: all, D, which must be even then.

    Returns
    -------
    Tensor
        (N, heads * D).

    Raises
    ------
    ValueError
        A shape or the offsets do not fit, R is odd or larger than D, or both ``times`` and ``start`` are given.
    IndexError
        An entry of ``start`` is negative.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x = np.tile(np.float32([1, 0]), (3, 1))
    >>> plait.ops.rope(x, [0, 3], heads=1).numpy().round(4)
    array([[ 1.    ,  0.    ],
           [ 0.5403,  0.8415],
           [-0.4161,  0.9093]], dtype=float32)
    """
    if times is not None:
        times = _two_parts(times, x)
    if rotary_dim is None:
        shape = shape_of(x)
        width = shape[1] if len(shape) == 2 else 0
        rotary_dim = width // heads if isinstance(heads, (int, np.integer)) and heads > 0 else 0
    attrs = {"heads": heads, "interleaved": interleaved, "base": base, "rotary_dim": rotary_dim}
    return apply(_rope, (x, offsets, times, start), attrs)


def _two_parts(times, x):
    """(2, N) in the dtype of x: times, and what rounding them to it leaves."""
    times = plain_array("rope", "times", times.data if isinstance(times, Tensor) else times)
    if times.ndim != 1 or times.dtype.kind not in "fiuV":
        raise ValueError(f"rope: times has shape {times.shape} and dtype {times.dtype}, expected seconds, one a row")
    times = times.astype(np.float64)
    dtype = np.float64 if getattr(x, "dtype", None) == np.float64 else np.float32
    rounded = times.astype(dtype)
    return np.stack([rounded, (times - rounded).astype(dtype)])
