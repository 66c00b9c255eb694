"""Blocks against PyTorch's own, with the same weights: values and gradients."""

import numpy as np
import pytest
from cases import relative_error

import plait
from plait import nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

WIDTH, HEADS, HIDDEN = 32, 4, 56
LENGTHS = (5, 1, 9, 3)
# Theirs -> ours, of one layer.
NAMES = {
    "self_attn.in_proj_weight": "attention.qkv.weight",
    "self_attn.in_proj_bias": "attention.qkv.bias",
    "self_attn.out_proj.weight": "attention.out.weight",
    "self_attn.out_proj.bias": "attention.out.bias",
    "linear1.weight": "mlp.fc1.weight",
    "linear1.bias": "mlp.fc1.bias",
    "linear2.weight": "mlp.fc2.weight",
    "linear2.bias": "mlp.fc2.bias",
    **{f"norm{i}.{k}": f"norm{i}.{k}" for i in (1, 2) for k in ("weight", "bias")},
}


def randomise(parameters):
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for p in parameters:
            p += torch.from_numpy((0.1 * rng.standard_normal(p.shape)).astype(np.float32))


def numbers(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_transformer_encoder(norm_first, activation, causal):
    """Two layers on ragged samples: padding and a mask there, offsets here."""
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
    )
    last = torch.nn.LayerNorm(WIDTH) if norm_first else None
    theirs = torch.nn.TransformerEncoder(layer, 2, norm=last, enable_nested_tensor=False)
    randomise(theirs.parameters())
    ours = nn.Encoder(2, WIDTH, HEADS, hidden=HIDDEN, activation=activation, pre_norm=norm_first, causal=causal)
    names = {f"layers.{i}.{t}": f"blocks.{i}.{o}" for i in range(2) for t, o in NAMES.items()}
    if norm_first:
        names |= {"norm.weight": "norm.weight", "norm.bias": "norm.bias"}
    ours.load_state_dict({names[k]: v.detach().numpy() for k, v in theirs.named_parameters()})

    rows = plait.Tensor(numbers(sum(LENGTHS), WIDTH), requires_grad=True)
    x = plait.Stream(rows, np.cumsum([0, *LENGTHS]))
    dy = numbers(*rows.shape, seed=2)
    y = ours(x)
    y.rows.backward(dy)

    padded, lengths = plait.Stream(rows.data, x.offsets).padded()
    t = torch.from_numpy(padded).requires_grad_()
    hidden = torch.arange(max(LENGTHS))[None] >= torch.from_numpy(lengths)[:, None]
    future = torch.triu(torch.ones(max(LENGTHS), max(LENGTHS), dtype=torch.bool), 1) if causal else None
    out = theirs(t, mask=future, src_key_padding_mask=hidden)[~hidden]
    out.backward(torch.from_numpy(dy))

    assert relative_error(y.rows.data, out.detach().numpy()) <= 1e-4
    assert relative_error(rows.grad, t.grad[~hidden].numpy()) <= 1e-4
    own = dict(ours.named_parameters())
    for name, p in theirs.named_parameters():
        assert relative_error(own[names[name]].grad, p.grad.numpy()) <= 1e-4, name


@pytest.mark.parametrize("context_width", [WIDTH, 20])
def test_cross_attention(context_width):
    theirs = torch.nn.MultiheadAttention(WIDTH, HEADS, kdim=context_width, vdim=context_width, batch_first=True)
    randomise(theirs.parameters())
    ours = nn.CrossAttention(WIDTH, HEADS, context_width=context_width)
    p = {k: v.detach().numpy() for k, v in theirs.named_parameters()}
    if "in_proj_weight" in p:
        q, k, v = np.split(p["in_proj_weight"], 3)
    else:
        q, k, v = (p[f"{n}_proj_weight"] for n in "qkv")
    ours.load_state_dict(
        {
            "q.weight": q,
            "q.bias": p["in_proj_bias"][:WIDTH],
            "kv.weight": np.concatenate([k, v]),
            "kv.bias": p["in_proj_bias"][WIDTH:],
            "out.weight": p["out_proj.weight"],
            "out.bias": p["out_proj.bias"],
        }
    )
    rows, context = numbers(2, 6, WIDTH), numbers(2, 4, context_width, seed=2)
    a, b = (plait.Tensor(r, requires_grad=True) for r in (rows, context))
    y = ours(a, b)
    dy = numbers(12, WIDTH, seed=3)
    y.rows.backward(dy)
    s, t = (torch.from_numpy(r.copy()).requires_grad_() for r in (rows, context))
    out, _ = theirs(s, t, t, need_weights=False)
    out.backward(torch.from_numpy(dy.reshape(out.shape)))
    assert relative_error(y.rows.data, out.detach().numpy().reshape(-1, WIDTH)) <= 1e-4
    assert relative_error(a.grad, s.grad.numpy()) <= 1e-4
    assert relative_error(b.grad, t.grad.numpy()) <= 1e-4


def test_patch_embedding():
    theirs = torch.nn.Conv2d(3, 7, (4, 2), stride=(4, 2))
    ours = nn.PatchEmbedding(3, 7, (4, 2))
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.named_parameters()})
    images = numbers(2, 8, 6, 3)
    out = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
    y = ours(images)
    dy = numbers(*y.rows.shape, seed=3)
    y.rows.backward(dy)
    out.backward(torch.from_numpy(dy.reshape(out.shape)))
    assert relative_error(y.rows.data, out.detach().numpy().reshape(-1, 7)) <= 1e-5
    for name, p in ours.named_parameters():
        assert relative_error(p.grad, getattr(theirs, name).grad.numpy()) <= 1e-5
