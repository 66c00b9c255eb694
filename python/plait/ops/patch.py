"""Pictures to rows of patches."""

from __future__ import annotations

import numpy as np

from plait.stream import Stream

from ._apply import apply, operators

__all__ = ["patch_embed"]

_patch_embed = operators["patch_embed"]


def patch_embed(images, weight, bias=None):
    r"""Patch embedding (Dosovitskiy et al., arXiv 2010.11929): each patch of a picture becomes one row.

    The same as a convolution whose stride is its kernel.

    Parameters
    ----------
    images : (B, H, W, C) array or Tensor
        Floating, channels last. H and W are multiples of the patch.
    weight : (D, C, Ph, Pw) array or Tensor
        Laid out as in PyTorch's convolutions. Its last two dimensions are the size of a patch.
    bias : (D,) array or Tensor, optional

    Returns
    -------
    Stream
        B samples of H / Ph * W / Pw rows of width D, row by row of the picture, with ``grid=(H / Ph, W / Pw)``.

    Raises
    ------
    ValueError
        Pictures are not multiples of the patch, or a shape does not fit.

    Examples
    --------
    >>> import numpy as np, plait
    >>> images = np.zeros((2, 32, 24, 3), np.float32)
    >>> plait.ops.patch_embed(images, np.zeros((5, 3, 8, 8), np.float32))
    Stream(2 samples, 24 rows of (5,), float32, lengths 12 to 12, grid (4, 3))
    """
    rows = apply(_patch_embed, (images, weight, bias), None)
    batch, height, width = np.shape(images)[:3]
    patch = np.shape(weight)[2:]
    grid = (height // patch[0], width // patch[1])
    return Stream._trusted(rows, np.arange(batch + 1, dtype=np.int64) * (grid[0] * grid[1]), None, grid)
