"""Losses: scalars on the tape, averaged over what is present."""

from __future__ import annotations

import numpy as np

from plait.ops._apply import apply, operators
from plait.ops.regression import huber, l1, mse

__all__ = ["huber", "info_nce", "l1", "mse", "sigmoid_contrastive"]

_info_nce = operators["info_nce"]
_sigmoid_contrastive = operators["sigmoid_contrastive"]


def _flags(loss, present):
    """`present` as int64, or None; the core checks length and values."""
    if present is None:
        return None
    present = np.asarray(present)
    if present.dtype.kind not in "biu":
        raise TypeError(f"{loss}: present has dtype {present.dtype}, expected booleans or 0 and 1")
    return present.astype(np.int64)


def info_nce(a, b, logit_scale, present=None, label_smoothing=0.0):
    r"""Symmetric InfoNCE: row i of `a` should find row i of `b` among all rows, and the other way round.

    With logits :math:`l_{ij} = e^{s}\, a_i \cdot b_j` the loss is

    .. math:: \frac{1}{2N} \sum_i \Big( \log \sum_j e^{l_{ij}} + \log \sum_j e^{l_{ji}} - 2 l_{ii} \Big)

    Memory grows with N, not N squared: logits are made in tiles, and made again in backward.

    Parameters
    ----------
    a, b : (N, D) array or Tensor
        One pair a row. They are taken as they are: normalise them first (``ops.l2_normalize``) for cosines.
    logit_scale : () or (1,) array or Tensor
        The *logarithm* s of the factor on the products, from -80 to 80; as in CLIP it is learned, starts at
        log(1 / 0.07) = 2.66, and is kept at log(100) = 4.61 or below by the model, not here.
    present : (N,) array of bool, optional
        Pairs that are not present are left out of rows and columns, as if they were not in the batch; their gradient
        is zero. Without any pair the loss is 0.
    label_smoothing : float
        Share of each label that is spread evenly over all N pairs (Szegedy et al., arXiv 1512.00567), at least 0 and
        below 1.

    Returns
    -------
    Tensor
        ().

    Raises
    ------
    ValueError
        A shape does not fit, or `logit_scale` is not finite or out of range; the message names the argument.
    TypeError
        `present` is not made of booleans or whole numbers.

    References
    ----------
    Oord et al., Representation learning with contrastive predictive coding, arXiv 1807.03748; Radford et al., CLIP,
    arXiv 2103.00020, figure 3.

    Examples
    --------
    >>> import numpy as np, plait
    >>> a = np.eye(4, 8, dtype=np.float32)
    >>> float(plait.losses.info_nce(a, a, 0.0)) < float(plait.losses.info_nce(a, a[::-1], 0.0))
    True
    >>> float(plait.losses.info_nce(a, a, 2.66, present=[False, False, True, False]))
    0.0
    """
    return apply(_info_nce, (a, b, logit_scale, _flags("info_nce", present)), {"label_smoothing": label_smoothing})


def sigmoid_contrastive(a, b, logit_scale, logit_bias, present=None):
    r"""Pairwise sigmoid loss: each row of `a` with each row of `b` is a yes-no question of its own.

    With logits :math:`l_{ij} = e^{s}\, a_i \cdot b_j + c` and :math:`z_{ij} = 1` for i = j, else -1, the loss is

    .. math:: -\frac{1}{N} \sum_{i,j} \log \sigma(z_{ij} l_{ij})

    Memory grows with N, not N squared, as for `info_nce`.

    Parameters
    ----------
    a, b : (N, D) array or Tensor
        One pair a row, taken as they are: normalise them first.
    logit_scale : () or (1,) array or Tensor
        The *logarithm* s of the factor on the products, from -80 to 80; SigLIP starts it at log(10) = 2.30.
    logit_bias : () or (1,) array or Tensor
        c, which outweighs the many wrong pairs at the start; SigLIP starts it at -10.
    present : (N,) array of bool, optional
        Pairs that are not present are left out of rows and columns, as if they were not in the batch; their gradient
        is zero. Without any pair the loss is 0.

    Returns
    -------
    Tensor
        ().

    Raises
    ------
    ValueError
        A shape does not fit, `logit_scale` is not finite or out of range, or `logit_bias` is not finite.
    TypeError
        `present` is not made of booleans or whole numbers.

    References
    ----------
    Zhai et al., Sigmoid loss for language image pre-training, arXiv 2303.15343, algorithm 1.

    Examples
    --------
    >>> import numpy as np, plait
    >>> a = np.eye(4, 8, dtype=np.float32)
    >>> loss = plait.losses.sigmoid_contrastive(a, a, np.log(10), -5.0)
    >>> float(loss) < float(plait.losses.sigmoid_contrastive(a, a[::-1], np.log(10), -5.0))
    True
    """
    flags = _flags("sigmoid_contrastive", present)
    return apply(_sigmoid_contrastive, (a, b, logit_scale, logit_bias, flags))
