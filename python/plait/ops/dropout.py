"""Dropout."""

from __future__ import annotations

from plait.tensor import Tensor

from ._apply import apply, generator, operators

_dropout = operators["dropout"]


def dropout(x, p=0.5, training=True):
    """Dropout: an element is zero with probability ``p``, else divided by ``1 - p``.

    Srivastava et al., JMLR 15 (2014) 1929. The mask comes from Philox4x32-10 under ``plait.seed`` and the number of
    the call, so that it is the same for any number of threads; it is not stored but drawn again in backward.

    Parameters
    ----------
    x : array or Tensor
        Any shape.
    p : float
        At least 0 and below 1.
    training : bool
        False gives ``x``.

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Raises
    ------
    ValueError
        ``p`` is out of range.

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.seed(0)
    >>> y = plait.ops.dropout(np.ones(1000, np.float32), 0.2).data
    >>> sorted(set(y.tolist()))
    [0.0, 1.25]
    """
    if isinstance(x, Tensor) and x.dtype.kind == "f" and (not training or p == 0) and 0 <= p < 1:
        return x
    return apply(_dropout, (x,), {"p": p, "training": training}, *generator.draw())
