"""Training in bfloat16: all products of linear layers and attention are rounded as documented, and nothing else."""

import copy
import warnings

import ml_dtypes
import numpy as np
import pytest
from test_isa import subprocess_with

import plait
from plait import Tensor, _core, nn, ops

needs_bf16 = pytest.mark.skipif(not _core.has("bf16"), reason="this processor has no instructions for bf16")


def bf16(x):
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def far(got, expected):
    """Largest difference in units of what the sum of a float32 product may be off by."""
    return float(np.abs(got - expected).max() / (np.abs(expected).max() + 1e-30))


@needs_bf16
@pytest.mark.parametrize(
    "rows, width, out",
    [(1, 8, 8), (7, 5, 3), (50, 64, 96), (200, 33, 17), (333, 40, 24), (71, 128, 256), (0, 8, 8)],
)
def test_the_three_products_of_a_linear_layer(rows, width, out):
    rng = np.random.default_rng(rows + width)
    x = Tensor(rng.standard_normal((rows, width), dtype=np.float32), requires_grad=True)
    layer = nn.Linear(width, out).train(precision="bf16")
    dy = rng.standard_normal((rows, out), dtype=np.float32)
    for _ in range(3):  # a size has a primitive of its own from its third time on
        x.grad = None
        layer.zero_grad()
        y = layer(x)
        y.backward(dy)
        assert y.shape == (rows, out)
        if rows:
            assert far(y.data, bf16(x.data) @ bf16(layer.weight.data).T + layer.bias.data) < 2e-6
            assert far(x.grad, bf16(dy) @ bf16(layer.weight.data)) < 2e-6
            assert far(layer.weight.grad, bf16(dy).T @ bf16(x.data)) < 2e-6
            assert far(layer.bias.grad, dy.astype(np.float64).sum(0)) < 2e-6


@needs_bf16
def test_gradients_add_up():
    rng = np.random.default_rng(0)
    x, layer = Tensor(rng.standard_normal((70, 24), dtype=np.float32), requires_grad=True), nn.Linear(24, 40)
    layer.train(precision="bf16")
    dy = [rng.standard_normal((70, 40), dtype=np.float32) for _ in range(2)]
    (layer(x) * dy[0] + layer(x) * dy[1]).sum().backward()
    assert far(x.grad, sum(bf16(d) @ bf16(layer.weight.data) for d in dy)) < 4e-6
    assert far(layer.weight.grad, sum(bf16(d).T @ bf16(x.data) for d in dy)) < 4e-6


# heads, kv_heads, head widths of keys and values, queries, keys, options
ATTENTION = {
    "ragged": (4, 4, 16, 16, [5, 0, 33], [7, 3, 300], {}),
    "causal, grouped, odd widths": (2, 1, 33, 17, [64, 130], [64, 130], {"causal": True}),
    "dropout": (3, 3, 64, 64, [197], [197], {"dropout": 0.2}),
    "long": (1, 1, 8, 24, [70], [1000], {}),
    "tiny": (1, 1, 3, 5, [20], [9], {}),
    "one key": (2, 2, 7, 1, [3], [1], {}),
}


@pytest.mark.parametrize("case", ATTENTION.values(), ids=ATTENTION)
def test_attention_stays_close_to_float32(case):
    """On every processor: without the instructions the same rounding is done, slowly."""
    heads, kv_heads, dk, dv, queries, keys, options = case
    rng = np.random.default_rng(heads + dk)
    at, kv_at = np.cumsum([0, *queries]), np.cumsum([0, *keys])
    arrays = [
        rng.standard_normal(shape, dtype=np.float32)
        for shape in ((at[-1], heads * dk), (kv_at[-1], kv_heads * dk), (kv_at[-1], kv_heads * dv))
    ]
    dy = rng.standard_normal((at[-1], heads * dv), dtype=np.float32)
    results = {}
    for precision in ("f32", "bf16"):
        plait.seed(3)
        tensors = [Tensor(a, requires_grad=True) for a in arrays]
        y = ops.attention(*tensors, at, kv_at, heads=heads, kv_heads=kv_heads, precision=precision, **options)
        y.backward(dy)
        results[precision] = [y.data, *[t.grad for t in tensors]]
    for exact, got in zip(results["f32"], results["bf16"], strict=True):
        assert np.abs(got - exact).max() < 0.015 * np.abs(exact).max() + 1e-6
    assert not np.array_equal(results["f32"][0], results["bf16"][0])


BLOCKS = {
    "pre-norm": {},
    "post-norm": {"pre_norm": False},
    "RMS norm, causal": {"norm": nn.RMSNorm, "causal": True},
    "rope, grouped heads": {"rope": 1e4, "kv_heads": 2},
    "gated, layer scale": {"gated": True, "layer_scale": 0.5},
    "dropout": {"dropout": 0.1, "attention_dropout": 0.1},
}


def gradients(model, stream):
    plait.seed(11)
    model.zero_grad()
    rows = Tensor(stream.rows.data, requires_grad=True)
    y = model(stream.with_rows(rows)).rows
    (y * np.cos(np.arange(y.data.size, dtype=np.float32)).reshape(y.shape)).sum().backward()
    return [y.data.copy(), rows.grad, *[p.grad.copy() for p in model.parameters()]]


@needs_bf16
@pytest.mark.parametrize("options", BLOCKS.values(), ids=BLOCKS)
def test_gradients_of_encoders_stay_close_to_float32(options):
    rng = np.random.default_rng(5)
    model = nn.Encoder(2, 48, 4, **options)
    stream = plait.Stream(rng.standard_normal((100, 48), dtype=np.float32), [0, 40, 40, 41, 100])
    exact = gradients(model.train(precision="f32"), stream)
    low = gradients(model.train(precision="bf16"), stream)
    for a, b in zip(exact, low, strict=True):
        assert np.linalg.norm(a - b) < 0.03 * np.linalg.norm(a) + 1e-5
    assert not np.array_equal(exact[0], low[0])
    again = gradients(model.train(precision="f32"), stream)
    assert all(np.array_equal(a, b) for a, b in zip(exact, again, strict=True))


@needs_bf16
@pytest.mark.parametrize("widths, heads", [((21, 15), 3), ((48, 64), 2), ((19, 23), 1)])
def test_gradients_of_cross_attention_stay_close_to_float32(widths, heads):
    """Heads of odd and even widths, absent contexts, samples of more keys than a block of them."""
    rng = np.random.default_rng(sum(widths))
    block = nn.CrossModalBlock(widths, heads=heads)
    for p in block.parameters():
        if p.ndim > 1:
            p.assign(rng.standard_normal(p.shape, dtype=np.float32) / p.shape[1] ** 0.5)
    offsets = [0, 3, 3, 24, 25], [0, 0, 11, 270, 283]
    rows = [rng.standard_normal((o[-1], w), dtype=np.float32) for o, w in zip(offsets, widths, strict=True)]
    results = {}
    for precision in ("f32", "bf16"):
        block.train(precision=precision)
        block.zero_grad()
        tensors = [Tensor(r, requires_grad=True) for r in rows]
        outs = block(*[plait.Stream(t, o) for t, o in zip(tensors, offsets, strict=True)])
        waves = [np.cos(np.arange(y.rows.data.size, dtype=np.float32)).reshape(y.rows.shape) for y in outs]
        sum((y.rows * wave).sum() for y, wave in zip(outs, waves, strict=True)).backward()
        results[precision] = [
            *(y.rows.data.copy() for y in outs),
            *(t.grad for t in tensors),
            *(p.grad.copy() for p in block.parameters()),
        ]
    for exact, got in zip(results["f32"], results["bf16"], strict=True):
        assert np.linalg.norm(exact - got) < 0.03 * np.linalg.norm(exact) + 1e-4
    assert not np.array_equal(results["f32"][0], results["bf16"][0])


@needs_bf16
def test_activations_are_kept_in_bfloat16():
    """Of an encoder of width w, forward keeps 8 w numbers of 2 bytes a row, and the sums of residuals in float32."""
    rng = np.random.default_rng(0)
    model = nn.Encoder(6, 256, 4)
    stream = plait.Stream(rng.standard_normal((4096, 256), dtype=np.float32), np.arange(0, 4097, 64))
    kept = {}
    for precision in ("f32", "bf16"):
        model.train(precision=precision)
        before = _core.counters()["pool_used_bytes"]
        y = model(stream)
        kept[precision] = _core.counters()["pool_used_bytes"] - before
        del y
    assert kept["bf16"] < 0.65 * kept["f32"], kept


@needs_bf16
def test_fit_learns_in_bfloat16_what_it_learns_in_float32():
    losses = {}
    for precision in ("f32", "bf16"):
        plait.seed(1)
        rng = np.random.default_rng(2)
        x = rng.standard_normal((256, 16)).astype(np.float32)
        target = np.tanh(x @ rng.standard_normal((16, 4)).astype(np.float32))
        model = nn.Sequential(nn.Linear(16, 64), nn.Linear(64, 4))
        history = plait.train.fit(
            model,
            plait.optim.AdamW(model, lr=0.01),
            lambda step, x=x, target=target: (x, target),
            lambda model, batch: plait.losses.mse(model(batch[0]), batch[1]),
            steps=60,
            precision=precision,
            progress=False,
        )
        losses[precision] = history.losses
        assert model.training_precision == precision
    assert losses["bf16"][-1] < 0.5 * losses["bf16"][0]


@needs_bf16
def test_copies_keep_what_they_multiply_in():
    model = nn.Encoder(1, 16, 2).train(precision="bf16")
    other = copy.deepcopy(model)
    assert other.training_precision == "bf16"
    assert {p.pack.dtype for p in other.parameters() if p.pack is not None} == {"bf16"}
    low = model.to("bf16")
    assert low.precision == "bf16" and not low.training
    with pytest.raises(RuntimeError, match="for inference"):
        low.train(precision="bf16")


def test_processors_without_the_instructions_warn_and_compute_in_float32():
    script = """
import warnings, numpy as np, plait
model = plait.nn.Encoder(1, 16, 2).eval()
x = np.random.default_rng(0).standard_normal((1, 5, 16)).astype(np.float32)
with plait.no_grad():
    exact = model(x).rows.data

def fitted():
    low = plait.nn.Encoder(1, 16, 2)
    low.load_state_dict(model.state_dict())
    optimizer = plait.optim.SGD(low)
    plait.train.fit(low, optimizer, [x], lambda low, x: low(x).rows.mean(), steps=0, precision="bf16", progress=False)
    return low.eval()

makes = [
    lambda: model.to("bf16"),
    lambda: model.to("int8"),
    lambda: plait.quantize(model, [x], "bf16").model,
    fitted,
    lambda: model.train(precision="bf16").eval(),
]
for make in makes:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        low = make()
    assert len(seen) == 1 and "no instructions for" in str(seen[0].message), seen
    assert seen[0].filename == "<string>", seen[0].filename
    with plait.no_grad():
        assert np.array_equal(low(x).rows.data, exact)
print("as it should be")
"""
    done = subprocess_with("avx2", "-c", script)
    assert done.stdout == "as it should be\n", done.stderr[-2000:]


@needs_bf16
def test_warns_of_nothing_where_the_instructions_are():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.Linear(4, 4).train(precision="bf16")


@pytest.mark.parametrize("precision", ["f32", pytest.param("bf16", marks=needs_bf16)])
def test_gradients_have_the_same_bits_each_time(precision):
    rng = np.random.default_rng(5)
    model = nn.Encoder(2, 256, 4, hidden=1024).train(precision=precision)
    stream = plait.Stream(rng.standard_normal((700, 256), dtype=np.float32), [0, 300, 301, 301, 700])
    first = gradients(model, stream)
    for _ in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(first, gradients(model, stream), strict=True))
