"""Where rows are: tables of positions at other sizes than they were learned at, and buckets of distances."""

from __future__ import annotations

import math

import numpy as np

from plait import ops

__all__ = ["bicubic", "buckets", "resized"]

# The least distance of each bucket but the first: one by one up to 8, then 8 * 2^(k/2) rounded up.
_STARTS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91)


def bicubic(old: int, new: int, antialias: bool = False) -> np.ndarray:
    """The (new, old) matrix that resamples a line of `old` values to `new`.

    Cubic convolution around ``(i + 0.5) old / new - 0.5`` (Keys 1981, "Cubic convolution interpolation for digital
    image processing") with the rules of PyTorch's ``interpolate(mode="bicubic", align_corners=False)``, which the
    published checkpoints were made with: a = -0.75 and the edge values repeated; with antialiasing a = -0.5, a window
    that widens where values get fewer, and weights that are brought to a sum of one at the edges.

    Examples
    --------
    >>> from plait.models.positions import bicubic
    >>> bicubic(2, 4).round(3)
    array([[ 1.105, -0.105],
           [ 0.773,  0.227],
           [ 0.227,  0.773],
           [-0.105,  1.105]])
    """
    a, step = (-0.5, max(1.0, old / new)) if antialias else (-0.75, 1.0)
    matrix = np.zeros((new, old))
    for i in range(new):
        place = (i + 0.5) * old / new - 0.5
        for j in range(math.floor(place - 2 * step), math.ceil(place + 2 * step) + 1):
            if antialias and not 0 <= j < old:
                continue
            d = abs(place - j) / step
            inner, outer = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[i, min(max(j, 0), old - 1)] += inner if d <= 1 else outer if d < 2 else 0
    return matrix / matrix.sum(axis=1, keepdims=True)


def resized(table, leading: int, grid, antialias: bool = False):
    """A table of positions for another grid.

    Parameters
    ----------
    table : (leading + S * S, D) array or Tensor
        Row by row of a square grid.
    leading : int
        Rows before the grid (a class token), which stay.
    grid : (int, int)
        Rows and columns of the new grid.
    antialias : bool
        See ``bicubic``.

    Returns
    -------
    array or Tensor
        (leading + rows * columns, D); a gradient reaches the table.

    Examples
    --------
    >>> import numpy as np
    >>> from plait.models.positions import resized
    >>> resized(np.ones((1 + 9, 2), np.float32), 1, (2, 4)).shape
    (9, 2)
    """
    count = table.shape[0] - leading
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"positions: {count} of them are no square grid, which only can be resized")
    rows, columns = (bicubic(side, n, antialias).astype(np.float32) for n in grid)
    if isinstance(table, np.ndarray):  # one direction after the other: the product of both is as large as many models
        cells = columns @ np.tensordot(rows, table[leading:].reshape(side, side, -1), 1)
        return np.concatenate([table[:leading], cells.reshape(-1, table.shape[1])])
    cells = ops.matmul(np.kron(rows, columns), table[leading:] if leading else table)
    return ops.concat([table[:leading], cells]) if leading else cells


def buckets(length: int) -> np.ndarray:
    """The bucket of each pair of a text's tokens, by how far and in which direction the key is from the query.

    The 32 buckets of T5 (Raffel et al., arXiv 1910.10683, section 2.1), as MPNet has them (Song et al., arXiv
    2004.09297): 0 to 15 for keys at or before the query, 16 to 31 for keys after it; eight distances have buckets of
    their own, then each is wider by a factor of the square root of 2, and the last one has all from 91 on.

    Parameters
    ----------
    length : int
        Tokens of the longest text.

    Returns
    -------
    (length, length) integer array
        Queries by keys.

    Examples
    --------
    >>> from plait.models.positions import buckets
    >>> buckets(3)
    array([[ 0, 17, 18],
           [ 1,  0, 17],
           [ 2,  1,  0]])
    """
    distances = np.arange(1 - length, length)
    table = np.searchsorted(_STARTS, abs(distances), side="right") + 16 * (distances > 0)
    places = np.arange(length)
    return table[places[None, :] - places[:, None] + length - 1]
