"""Attention against PyTorch's ``scaled_dot_product_attention``, sample by sample."""

import numpy as np
import pytest
from cases import offsets, relative_error

import plait

torch = pytest.importorskip("torch", reason="PyTorch is not installed, so there is nothing to compare with")


def by_torch(q, k, v, q_offsets, kv_offsets, heads, kv_heads, masks, dout):
    """Output and gradients of q, k, v; masks: None, or one a sample, boolean or added."""
    leaves = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    outs = []
    for b in range(len(q_offsets) - 1):
        rows, keys = slice(*q_offsets[b : b + 2]), slice(*kv_offsets[b : b + 2])

        def parts(x, rows, n):
            return x[rows].reshape(rows.stop - rows.start, n, -1).transpose(0, 1)[None]

        one = torch.nn.functional.scaled_dot_product_attention(
            parts(leaves[0], rows, heads),
            parts(leaves[1], keys, kv_heads),
            parts(leaves[2], keys, kv_heads),
            attn_mask=None if masks is None else torch.tensor(masks[b]),
            enable_gqa=kv_heads != heads,
        )
        outs.append(one[0].transpose(0, 1).reshape(rows.stop - rows.start, -1))
    out = torch.cat(outs)
    out.backward(torch.tensor(dout))
    return [out.detach().numpy(), *[leaf.grad.numpy() for leaf in leaves]]


QUERIES, KEYS = (5, 50, 17, 1, 300), (9, 50, 20, 3, 310)


@pytest.mark.parametrize("heads, kv_heads, dk, dv", [(2, 2, 64, 64), (4, 2, 16, 16), (3, 3, 20, 7), (2, 1, 32, 48)])
@pytest.mark.parametrize("kind", ["full", "causal", "bias", "mask"])
def test_same_as_torch(kind, heads, kv_heads, dk, dv):
    rng = np.random.default_rng(3)
    q_offsets, kv_offsets = offsets(*QUERIES), offsets(*KEYS)
    q, k, v, dout = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in (
            (sum(QUERIES), heads * dk),
            (sum(KEYS), kv_heads * dk),
            (sum(KEYS), kv_heads * dv),
            (sum(QUERIES), heads * dv),
        )
    )
    masks, options = None, {}
    if kind == "causal":
        masks = [np.tri(m, n, n - m, dtype=bool) for m, n in zip(QUERIES, KEYS, strict=True)]
        options = {"causal": True}
    elif kind == "bias":
        table = rng.standard_normal((heads, max(QUERIES), max(KEYS))).astype(np.float32)
        masks = [table[:, :m, :n] for m, n in zip(QUERIES, KEYS, strict=True)]
        options = {"bias": table}
    elif kind == "mask":
        masks = [rng.random((m, n)) < 0.5 for m, n in zip(QUERIES, KEYS, strict=True)]
        for mask in masks:
            mask[:, 0] = True  # PyTorch gives NaN to a query that sees nothing
        options = {"bias": plait.ops.PairBias.from_list(masks)}
    leaves = [plait.Tensor(x, requires_grad=True) for x in (q, k, v)]
    out = plait.ops.attention(*leaves, q_offsets, kv_offsets, heads=heads, kv_heads=kv_heads, **options)
    out.backward(dout)
    expected = by_torch(q, k, v, q_offsets, kv_offsets, heads, kv_heads, masks, dout)
    for got, due in zip([out.data, *[leaf.grad for leaf in leaves]], expected, strict=True):
        assert relative_error(got, due) <= 1e-5
