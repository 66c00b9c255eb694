"""Pooling: the rows of each sample become one row."""

from __future__ import annotations

from plait.stream import Stream

from ._apply import apply, operators

__all__ = ["attention_pool", "pool"]

_MODES = ("mean", "max", "first", "last", "attention")
_pool = operators["pool"]
_attention_pool = operators["attention_pool"]


def _segments(name, x, offsets):
    if isinstance(x, Stream):
        if offsets is not None:
            raise TypeError(f"{name}: x is a Stream, which has offsets; leave offsets out")
        return x.rows, x.offsets
    if offsets is None:
        raise TypeError(f"{name}: offsets is missing; it may be left out where x is a Stream")
    return x, offsets


def pool(x, offsets=None, mode="mean", *, scores=None):
    """One row a sample.

    Parameters
    ----------
    x : (N, D) array or Tensor, or Stream
    offsets : (B + 1,) integers
        Left out where `x` is a Stream.
    mode : {"mean", "max", "first", "last", "attention"}
        The maximum is taken column by column; its gradient goes to the first of equal rows. "attention" needs
        `scores` and is `attention_pool`.
    scores : (N, H) array or Tensor, optional

    Returns
    -------
    Tensor
        (B, D). A sample without rows gives zeros and passes no gradient on.

    Raises
    ------
    TypeError, ValueError
        The message names the argument.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
    >>> plait.ops.pool(x, [0, 2, 2], "max").data
    array([[3., 2.],
           [0., 0.]], dtype=float32)
    """
    if not isinstance(mode, str) or mode not in _MODES:
        raise ValueError(f"pool: mode is {mode!r}, expected one of {', '.join(_MODES)}")
    if mode == "attention":
        if scores is None:
            raise TypeError("pool: mode 'attention' needs scores")
        return attention_pool(x, offsets, scores)
    if scores is not None:
        raise TypeError(f"pool: scores are for mode 'attention', got mode {mode!r}")
    rows, offsets = _segments("pool", x, offsets)
    return apply(_pool, (rows, offsets), {"mode": mode})


def attention_pool(x, offsets=None, scores=None):
    r"""Mean of each sample's rows, weighted by learned scores.

    :math:`y_{b,d} = \sum_n w_{n,h(d)} x_{n,d}` over the rows n of sample b, where :math:`w_{\cdot,h}` is the softmax of
    the scores of head h over these rows and head h owns the D / H columns from h D / H on (Lin et al., arXiv
    1703.03130; Ilse et al., arXiv 1802.04712).

    Parameters
    ----------
    x : (N, D) array or Tensor, or Stream
    offsets : (B + 1,) integers
        None where `x` is a Stream.
    scores : (N, H) array or Tensor
        H divides D. Minus infinity leaves a row out; where all of a sample's scores are, its result is zero.

    Returns
    -------
    Tensor
        (B, D). A sample without rows gives zeros and passes no gradient on.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x = np.array([[2.0, 0.0], [0.0, 2.0]], np.float32)
    >>> plait.ops.attention_pool(x, [0, 2], np.zeros((2, 1), np.float32)).data
    array([[1., 1.]], dtype=float32)
    """
    if scores is None:
        raise TypeError("attention_pool: scores is missing, expected (N, H)")
    rows, offsets = _segments("attention_pool", x, offsets)
    return apply(_attention_pool, (rows, offsets, scores), None)
