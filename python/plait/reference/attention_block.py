"""Twin of the fused attention sublayer."""

from __future__ import annotations

import numpy as np

from .attention import attention, attention_backward
from .blocks import sublayer, sublayer_backward
from .linear import linear, linear_backward


def _project(rows, context, weight, bias, context_weight, context_bias, heads, kv_heads):
    """Queries, keys, values: one product of the rows, or the rows' queries and the context's keys and values."""
    if context is None:
        both = linear(rows, weight, bias)
        width = both.shape[1] // (heads + 2 * kv_heads)
        return np.split(both, [heads * width, (heads + kv_heads) * width], axis=1)
    kv = linear(context, context_weight, context_bias)
    return [linear(rows, weight, bias), *np.split(kv, 2, axis=1)]


def _kept(x, offsets, context_offsets):
    """(N, 1): 0 for rows of samples without keys, whose whole branch is skipped."""
    kv = offsets if context_offsets is None else context_offsets
    return np.repeat(np.diff(kv) > 0, np.diff(offsets))[:, None].astype(np.float64)


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
    key=0,
    counter=0,
):
    """x + drop(attention(norm(x))), or norm(x + drop(attention(x))) for post-norm.

    A scale of 0, as the C operator has it, is the default too: 1 / sqrt(Dh).
    """
    kv_heads = heads if kv_heads is None else kv_heads

    def branch(rows):
        q, k, v = _project(rows, context, weight, bias, context_weight, context_bias, heads, kv_heads)
        y = attention(
            q,
            k,
            v,
            offsets,
            offsets if context is None else context_offsets,
            heads=heads,
            kv_heads=kv_heads,
            causal=causal,
            scale=scale or None,
            dropout=dropout,
            key=key,
            counter=counter,
        )
        return linear(y, out_weight, out_bias) * _kept(x, offsets, context_offsets)

    return sublayer(branch, x, norm_weight, norm_bias, pre_norm, norm, eps, residual_dropout, key, counter + 1)


def attention_block_backward(
    dy,
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
    key=0,
    counter=0,
):
    kv_heads = heads if kv_heads is None else kv_heads
    keep = _kept(x, offsets, context_offsets)
    options = {
        "heads": heads,
        "kv_heads": kv_heads,
        "causal": causal,
        "scale": scale or None,
        "dropout": dropout,
        "key": key,
        "counter": counter,
    }
    kv_offsets = offsets if context is None else context_offsets

    def branch(rows):
        q, k, v = _project(rows, context, weight, bias, context_weight, context_bias, heads, kv_heads)
        return linear(attention(q, k, v, offsets, kv_offsets, **options), out_weight, out_bias) * keep

    def branch_backward(d, rows):
        q, k, v = _project(rows, context, weight, bias, context_weight, context_bias, heads, kv_heads)
        y = attention(q, k, v, offsets, kv_offsets, **options)
        dy, dout_weight, dout_bias = linear_backward(d * keep, y, out_weight, out_bias)
        dq, dk, dv = attention_backward(dy, q, k, v, offsets, kv_offsets, **options)[:3]
        if context is None:
            drows, dweight, dbias = linear_backward(np.concatenate([dq, dk, dv], 1), rows, weight, bias)
            others = (None, None, None, None)
        else:
            drows, dweight, dbias = linear_backward(dq, rows, weight, bias)
            dcontext, dcw, dcb = linear_backward(np.concatenate([dk, dv], 1), context, context_weight, context_bias)
            others = (dcontext, None, dcw, dcb)
        return drows, dweight, dbias, dout_weight, dout_bias, *others

    dx, dw, db, others = sublayer_backward(
        dy, branch, branch_backward, x, norm_weight, norm_bias, pre_norm, norm, eps, residual_dropout, key, counter + 1
    )
    return dx, None, dw, db, *others
