"""The fused attention sublayer: norm, projections, attention, dropout and residual in one call and one record."""

from __future__ import annotations

from plait._array import flag

from ._apply import apply, generator, operators

_attention_block = operators["attention_block"]


def attention_block(
    x,
    offsets,
    norm_weight,
    norm_bias,
    weight,
    bias,
    out_weight,
    out_bias,
    *,
    heads,
    kv_heads=None,
    context=None,
    context_offsets=None,
    context_weight=None,
    context_bias=None,
    causal=False,
    scale=None,
    dropout=0.0,
    pre_norm=True,
    norm="layer",
    eps=1e-5,
    residual_dropout=0.0,
):
    r"""Attention sublayer: norm, projections, attention, output projection, residual, in one call.

    Without a context the rows attend to the rows of their sample and ``weight`` makes queries, keys and values in one
    product; with one, ``weight`` makes queries and ``context_weight`` keys and values of the context. Equal to the
    composition of the operators; one record on the tape, no copies of queries, keys and values.

    Parameters
    ----------
    x : (N, D) array or Tensor
    offsets : (B + 1,) int array
    norm_weight, norm_bias : (D,) array or Tensor
        The bias may be None. The norm is on x only: normalise the context before.
    weight, bias : array or Tensor
        ((heads + 2 kv_heads) * Dh, D) without, (heads * Dh, D) with a context; the bias may be None.
    out_weight, out_bias : array or Tensor
        (D, heads * Dh), (D,); the bias may be None.
    heads, kv_heads : int
        ``kv_heads`` defaults to ``heads`` and divides it.
    context : (M, C) array or Tensor, optional
    context_offsets : (B + 1,) int array, optional
    context_weight, context_bias : array or Tensor, optional
        (2 kv_heads * Dh, C), (2 kv_heads * Dh,): keys, then values.
    causal : bool
        Aligned at the ends.
    scale : float, optional
        Default 1 / sqrt(Dh).
    dropout, residual_dropout : float
        On the attention weights; on the branch.
    pre_norm, norm, eps
        As in ``mlp_block``.

    Returns
    -------
    Tensor
        (N, D). A sample whose context has no rows skips the whole branch.

    Raises
    ------
    ValueError
        A shape or a number does not fit; the message names the argument.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x, one = np.ones((3, 4), np.float32), np.ones(4, np.float32)
    >>> w = np.zeros((12, 4), np.float32)
    >>> plait.ops.attention_block(x, [0, 1, 3], one, one, w, None, np.eye(4, dtype="f4"), None, heads=2).shape
    (3, 4)
    """
    attrs = {
        "heads": heads,
        "kv_heads": heads if kv_heads is None else kv_heads,
        "causal": flag("attention_block", "causal", causal),
        "scale": 0.0 if scale is None else scale,
        "dropout": dropout,
        "pre_norm": pre_norm,
        "norm": norm,
        "eps": eps,
        "residual_dropout": residual_dropout,
    }
    inputs = (
        x,
        offsets,
        norm_weight,
        norm_bias,
        weight,
        bias,
        out_weight,
        out_bias,
        context,
        context_offsets,
        context_weight,
        context_bias,
    )
    if not dropout and not residual_dropout:
        return apply(_attention_block, inputs, attrs)
    key, counter = generator.draw()  # of the attention weights; the branch has the next one
    generator.draw()
    return apply(_attention_block, inputs, attrs, key, counter)
