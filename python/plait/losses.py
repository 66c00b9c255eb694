"""Losses: scalars on the tape, averaged over what is present."""

from __future__ import annotations

import numpy as np

from plait._array import plain_array
from plait.ops._apply import apply, operators
from plait.ops.regression import huber, l1, mse

__all__ = ["cross_entropy", "huber", "info_nce", "l1", "mse", "sigmoid_contrastive"]

_cross_entropy = operators["cross_entropy"]
_info_nce = operators["info_nce"]
_sigmoid_contrastive = operators["sigmoid_contrastive"]


def _flags(loss, present):
    """`present` as int64, or None; the core checks length and values."""
    if present is None:
        return None
    present = plain_array(loss, "present", present)
    if present.dtype.kind not in "biu":
        raise TypeError(f"{loss}: present has dtype {present.dtype}, expected booleans or 0 and 1")
    return present.astype(np.int64)


def cross_entropy(logits, labels, label_smoothing=0.0, ignore_index=-100, reduction="mean", weight=None, present=None):
    r"""Cross entropy of the softmax of `logits` with whole-number labels.

    With :math:`p = \mathrm{softmax}(x)` of one row, label y and smoothing :math:`\epsilon` its loss is

    .. math:: -(1 - \epsilon)\, w_y \log p_y - \frac{\epsilon}{C} \sum_c w_c \log p_c

    Parameters
    ----------
    logits : (N, C) array or Tensor
    labels : (N,) array of int
        From 0 to C - 1, or `ignore_index`.
    label_smoothing : float
        At least 0 and below 1 (Szegedy et al., arXiv 1512.00567).
    ignore_index : int
        Rows with this label do not count and have no gradient.
    reduction : {"mean", "sum", "none"}
        The mean divides by the number of rows that count, with `weight` by the weights of their labels; it is 0 when
        there is none.
    weight : (C,) array, optional
        Weights w of the classes, 0 or more; default 1. Not differentiable.
    present : (N,) array of bool, optional
        Rows that are not present do not count, whatever their label is.

    Returns
    -------
    Tensor
        (), or (N,) for ``"none"``, with 0 for rows that do not count.

    Raises
    ------
    IndexError
        A label is out of range.
    ValueError
        A shape does not fit, or an option is out of range; the message names the argument.
    TypeError
        Labels are not whole numbers.

    Examples
    --------
    >>> import numpy as np, plait
    >>> logits = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    >>> round(plait.losses.cross_entropy(logits, [0, -100]).item(), 4)
    0.2395
    >>> plait.losses.cross_entropy(logits, [0, 1], reduction="none").numpy().round(3)
    array([0.24 , 1.099], dtype=float32)
    """
    if present is not None:
        present, labels = _flags("cross_entropy", present), np.asarray(labels)
        if present.shape == labels.shape and labels.dtype.kind in "iu":  # the core reports what does not fit
            labels = np.where(present != 0, labels, ignore_index)
        elif present.shape != labels.shape:
            raise ValueError(f"cross_entropy: present has shape {present.shape}, expected {labels.shape}, as labels")
    attrs = {"label_smoothing": label_smoothing, "ignore_index": ignore_index, "reduction": reduction}
    return apply(_cross_entropy, (logits, labels, weight), attrs)


def info_nce(a, b, logit_scale, present=None, label_smoothing=0.0):
    r"""Symmetric InfoNCE: row i of `a` should find row i of `b` among all rows, and the other way round.

    With logits :math:`l_{ij} = e^{s}\, a_i \cdot b_j` the loss is

    .. math:: \frac{1}{2N} \sum_i \Big( \log \sum_j e^{l_{ij}} + \log \sum_j e^{l_{ji}} - 2 l_{ii} \Big)

    Memory grows with N, not N squared: logits are made in tiles, of which the first 64 MB (all, up to 4,096 pairs) are
    kept for backward and the others made again.

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
