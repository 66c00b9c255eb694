"""What pretrained models ask of layers and blocks: gated MLPs, layer scale, no biases, pooling by attention."""

import itertools

import numpy as np
import pytest

import plait
from plait import nn, ops
from plait.models.config import ImageConfig
from plait.models.towers import MapPool

LENGTHS = (4, 0, 1, 7)
OFFSETS = np.cumsum([0, *LENGTHS])
WIDTH, HEADS = 12, 3


@pytest.fixture(autouse=True)
def seeded():
    with nn.init.seeded(0):
        yield


def rows(n=12, width=WIDTH, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def randomise(module, seed=1):
    rng = np.random.default_rng(seed)
    for p in module.parameters():
        p.assign(p.data + 0.3 * rng.standard_normal(p.shape))
    return module


def values(module):
    """The parameters as float64 arrays."""
    return {name: p.data.astype(np.float64) for name, p in module.named_parameters()}


# ---------------------------------------------------------------- formulas in float64


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def norm(w, name, x, eps, rms=False):
    if rms:
        return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + eps) * w[f"{name}.weight"]
    x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + eps)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w, name, x, heads, causal):
    out = np.zeros_like(x)
    qkv = linear(w, f"{name}.qkv", x)
    size = x.shape[1] // heads
    for a, b in itertools.pairwise(OFFSETS):
        for h in range(heads):
            q, k, v = (qkv[a:b, i * x.shape[1] + h * size :][:, :size] for i in range(3))
            scores = q @ k.T / np.sqrt(size)
            if causal:
                scores[np.triu_indices(b - a, 1)] = -np.inf
            e = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-1e9))
            out[a:b, h * size : (h + 1) * size] = e / e.sum(axis=1, keepdims=True) @ v
    return linear(w, f"{name}.out", out)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mlp(w, name, x, gated):
    h = linear(w, f"{name}.fc1", x)
    if gated:
        gate, h = np.split(h, 2, axis=1)
        h = gate * sigmoid(gate) * h
    else:
        h = h * sigmoid(1.702 * h)
    return linear(w, f"{name}.fc2", h)


def block_by_formula(w, x, *, pre_norm, eps, gated, causal, rms):
    branches = (
        ("norm1", "scale1", lambda y: attention(w, "attention", y, HEADS, causal)),
        ("norm2", "scale2", lambda y: mlp(w, "mlp", y, gated)),
    )
    for name, scale, branch in branches:
        y = branch(norm(w, name, x, eps, rms) if pre_norm else x)
        x = x + y * w.get(scale, 1.0)
        x = x if pre_norm else norm(w, name, x, eps, rms)
    return x


BLOCKS = [
    {"gated": gated, "layer_scale": scale, "qkv_bias": bias, "pre_norm": pre_norm, "causal": causal, "norm": kind}
    for gated in (False, True)
    for scale in (None, 0.5)
    for bias in (False, True)
    for pre_norm in (False, True)
    for causal in (False, True)
    for kind in (nn.LayerNorm, nn.RMSNorm)
]


def name_of(options):
    on = [f"scale {options['layer_scale']}" if options["layer_scale"] else ""]
    on += [key if options[key] else "" for key in ("gated", "qkv_bias", "pre_norm", "causal")]
    return " ".join([options["norm"].__name__, *filter(None, on)])


@pytest.mark.parametrize("options", BLOCKS, ids=name_of)
def test_a_block_by_formula_with_its_gradients(options):
    block = nn.EncoderBlock(WIDTH, HEADS, hidden=10, activation="quick_gelu", eps=1e-3, **options)
    names = set(dict(block.named_parameters()))
    assert ("attention.qkv.bias" in names) == options["qkv_bias"]
    assert {"scale1", "scale2"} <= names if options["layer_scale"] else not any("scale" in n for n in names)
    if options["layer_scale"]:
        assert (block.scale1.data == 0.5).all() and (block.scale2.data == 0.5).all()
    randomise(block)
    formula = {k: options[k] for k in ("gated", "pre_norm", "causal")}
    formula.update(eps=1e-3, rms=options["norm"] is nn.RMSNorm)
    x, weights = rows(), rows(seed=9)

    def due(parameters, x):
        return float((block_by_formula(parameters, x, **formula) * weights).sum())

    stream = plait.Stream(plait.Tensor(x, requires_grad=True), OFFSETS)
    out = block(stream)
    np.testing.assert_allclose(
        out.rows.data, block_by_formula(values(block), x.astype(np.float64), **formula), rtol=2e-5, atol=2e-5
    )
    with plait.no_grad():
        np.testing.assert_allclose(block(stream).rows.data, out.rows.data, rtol=0, atol=1e-5)
    (out.rows * weights).sum().backward()
    # The slope of the formula along a random direction, for each parameter and the rows.
    rng, at = np.random.default_rng(2), values(block)
    for name, p in block.named_parameters():
        along = rng.standard_normal(p.shape)
        high, low = (due({**at, name: at[name] + s * along}, x.astype(np.float64)) for s in (1e-5, -1e-5))
        check_slope((p.grad * along).sum(), (high - low) / 2e-5, name)
    along = rng.standard_normal(x.shape)
    high, low = (due(at, x + s * along) for s in (1e-5, -1e-5))
    check_slope((stream.rows.grad * along).sum(), (high - low) / 2e-5, "rows")


def check_slope(got, due, name):
    assert abs(got - due) <= 2e-4 * abs(due) + 2e-4, f"{name}: {got} by backward, {due} by differences"


def test_a_gated_mlp_by_formula():
    layer = randomise(nn.GatedMLP(WIDTH, hidden=7))
    assert {n: p.shape for n, p in layer.named_parameters()} == {
        "fc1.weight": (14, 12), "fc1.bias": (14,), "fc2.weight": (12, 7), "fc2.bias": (12,),
    }  # fmt: skip
    x = rows(6)
    due = mlp({f"mlp.{n}": v for n, v in values(layer).items()}, "mlp", x.astype(np.float64), True)
    np.testing.assert_allclose(layer(x).data, due, rtol=2e-6, atol=2e-6)
    stream = layer(plait.Stream(x, [0, 2, 2, 6]))
    np.testing.assert_array_equal(stream.rows.data, layer(x).data)
    np.testing.assert_array_equal(layer(x.reshape(2, 3, WIDTH)).data.reshape(6, WIDTH), layer(x).data)
    assert layer(x[:0]).shape == (0, WIDTH)
    assert nn.GatedMLP(4).fc1.weight.shape == (32, 4)  # 4 width for each half


def test_a_gated_mlp_passes_gradcheck():
    layer = randomise(nn.GatedMLP(3, hidden=2))
    arrays = [p.data.astype(np.float64) for p in layer.parameters()]

    def composed(x, w1, b1, w2, b2):
        h = ops.linear(x, w1, b1)
        return ops.linear(ops.multiply(ops.silu(h[:, :2]), h[:, 2:]), w2, b2)

    x = rows(4, 3)
    assert plait.gradcheck(composed, x.astype(np.float64), *arrays)
    np.testing.assert_allclose(composed(plait.Tensor(x), *layer.parameters()).data, layer(x).data, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gated", [False, True])
def test_dropout_of_composed_blocks_is_on_in_training_only(gated):
    block = randomise(nn.EncoderBlock(WIDTH, HEADS, gated=gated, layer_scale=0.7, dropout=0.5, attention_dropout=0.5))
    stream = plait.Stream(rows(), OFFSETS)
    a, b = block(stream).rows.data, block(stream).rows.data
    assert (a != b).any()
    block.eval()
    np.testing.assert_array_equal(block(stream).rows.data, block(stream).rows.data)


def test_an_encoder_hands_its_options_on():
    encoder = nn.Encoder(2, WIDTH, HEADS, gated=True, layer_scale=1e-3, qkv_bias=False)
    for block in encoder.blocks:
        assert isinstance(block.mlp, nn.GatedMLP) and block.attention.qkv.bias is None
        assert (block.scale2.data == np.float32(1e-3)).all()


def test_pooling_by_attention_by_formula():
    config = ImageConfig(16, 4, WIDTH, 1, HEADS, hidden=9, activation="quick_gelu", eps=1e-4)
    pool = randomise(MapPool(config))
    w, x = values(pool), rows()
    got = pool(plait.Stream(x, OFFSETS)).data
    assert got.shape == (4, WIDTH)
    q, kv = linear(w, "attention.q", w["query"]), linear(w, "attention.kv", x.astype(np.float64))
    size = WIDTH // HEADS
    for i, (a, b) in enumerate(itertools.pairwise(OFFSETS)):
        if a == b:
            continue
        parts = []
        for h in range(HEADS):
            own = slice(h * size, (h + 1) * size)
            k, v = kv[a:b, :WIDTH][:, own], kv[a:b, WIDTH:][:, own]
            e = np.exp(q[:, own] @ k.T / np.sqrt(size))
            parts.append(e / e.sum() @ v)
        y = linear(w, "attention.out", np.concatenate(parts, axis=1))
        y = y + mlp(w, "mlp", norm(w, "norm", y, 1e-4), False)
        np.testing.assert_allclose(got[i], y[0], rtol=2e-5, atol=2e-5)
    with plait.no_grad():
        np.testing.assert_allclose(pool(plait.Stream(x, OFFSETS)).data, got, rtol=0, atol=1e-6)
