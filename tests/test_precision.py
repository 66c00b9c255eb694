"""Weights in bfloat16 and int8: the rounding is the one that is documented, and nothing else differs from float32."""

import ml_dtypes
import numpy as np
import pytest

import plait
from plait import _core, nn, ops

PRECISIONS = ["bf16", "int8"]


def skip_without(precision):
    if not _core.has(precision):
        pytest.skip(f"this processor has no instructions for {precision}")


def rounded(x, precision):
    """Rows as a product sees them, in float64: written down apart from the C code."""
    x = x.astype(np.float32)
    if precision == "bf16":
        return x.astype(ml_dtypes.bfloat16).astype(np.float64)
    low = x.min(axis=1, keepdims=True)
    span = x.max(axis=1, keepdims=True) - low
    span = np.where(span > 1e-30, span, np.float32(255))
    return np.rint((x - low) * (np.float32(255) / span)).astype(np.float64) * (span / 255) + low


def rounded_weight(w, precision):
    """The same of a weight: int8 is symmetric there, with a scale for each row."""
    if precision == "bf16":
        return rounded(w, precision)
    largest = np.abs(w).max(axis=1, keepdims=True)
    largest = np.where(largest < 1e-30, np.float32(127), largest)
    exact = w.astype(np.float64) * (np.float32(127) / largest)  # the product is rounded once
    return np.rint(exact) * (largest / np.float32(127)).astype(np.float64)


def without_ties(w):
    """Weights that no rounding of a factor or of a product moves to another whole number."""
    scaled = np.abs(w.astype(np.float64)) * (127 / np.abs(w).max(axis=1, keepdims=True))
    return np.where(np.abs(scaled % 1 - 0.5) < 1e-4, np.float32(0), w)


SHAPES = [(1, 1, 1), (1, 768, 512), (3, 7, 5), (8, 16, 16), (13, 33, 65), (50, 64, 192), (64, 48, 80), (77, 129, 31),
          (200, 96, 40), (333, 20, 7), (7, 516, 520), (96, 640, 768), (97, 512, 1153), (203, 1024, 577),
          (50, 514, 600)]  # fmt: skip
ACTIVATIONS = ["none", "relu", "gelu", "quick_gelu", "gelu_tanh", "silu", "tanh", "sigmoid"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rows, width, out", SHAPES)
def test_linear_rounds_rows_and_weights_as_documented(precision, rows, width, out):
    skip_without(precision)
    rng = np.random.default_rng(rows * 1000 + width)
    x = (rng.standard_normal((rows, width)) * np.exp(rng.standard_normal((rows, 1)))).astype(np.float32)
    w = nn.Parameter(without_ties(rng.standard_normal((out, width)).astype(np.float32))).sharing(precision)
    b = rng.standard_normal(out).astype(np.float32)
    expected = rounded(x, precision) @ rounded_weight(w.data, precision).T + b
    # sums of absolute values bound what the order of a float32 sum can do, and in int8 what a low end takes back
    reach = np.abs(rounded(x, precision)) + 2 * np.abs(x).max(axis=1, keepdims=True) * (precision == "int8")
    bound = reach @ np.abs(rounded_weight(w.data, precision)).T + np.abs(b)
    got = ops.linear(x, w, b).data
    assert np.max(np.abs(got - expected) / (bound + 1e-12)) < 1e-6


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows, width, out", [(37, 40, 50), (11, 512, 530), (101, 512, 530)])
def test_activations_follow_the_rounded_product(precision, activation, rows, width, out):
    skip_without(precision)
    rng = np.random.default_rng(5)
    x = rng.standard_normal((rows, width)).astype(np.float32)
    w = rng.standard_normal((out, width)).astype(np.float32) / width**0.5
    w = nn.Parameter(w).sharing(precision)
    sums = (rounded(x, precision) @ rounded_weight(w.data, precision).T).astype(np.float32)
    expected = ops.activation(sums, activation).data if activation != "none" else sums
    # int8 has steps of its own that are far coarser, so activations are approximated there
    rough = {"gelu": 2.5e-4, "quick_gelu": 8e-4, "silu": 8e-4} if precision == "int8" else {}
    error = np.abs(ops.linear(x, w, activation=activation).data - expected)
    assert np.max(error / np.maximum(1, np.abs(expected))) < rough.get(activation, 2e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("width", [64, 512])
def test_rows_do_not_depend_on_their_mates(precision, width):
    skip_without(precision)
    rng = np.random.default_rng(1)
    model = nn.Encoder(2, width, 4).to(precision)
    x = [rng.standard_normal((n, width)).astype(np.float32) for n in (5, 50, 1, 17, 99, 140)]
    alone = [model(one[None]).rows.data for one in x]
    offsets = np.cumsum([0, *map(len, x)])
    together = model(plait.Stream(np.concatenate(x), offsets)).rows.data
    assert np.array_equal(np.concatenate(alone), together)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_spoils_its_row_and_no_other(precision, bad):
    skip_without(precision)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((9, 32)).astype(np.float32)
    w = nn.Parameter(rng.standard_normal((24, 32)).astype(np.float32)).sharing(precision)
    clean = ops.linear(x, w).data
    x[4, 7] = bad
    got = ops.linear(x, w).data
    assert not np.isfinite(got[4]).any()
    assert np.array_equal(np.delete(got, 4, 0), np.delete(clean, 4, 0))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_no_number_spoils_its_column(precision, bad):
    skip_without(precision)
    rng = np.random.default_rng(2)
    w = rng.standard_normal((24, 32)).astype(np.float32)
    w[5, 3] = bad
    got = ops.linear(rng.standard_normal((9, 32)).astype(np.float32), nn.Parameter(w).sharing(precision)).data
    assert not np.isfinite(got[:, 5]).any() and np.isfinite(np.delete(got, 5, 1)).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_of_zeros_and_of_tiny_and_huge_numbers(precision):
    skip_without(precision)
    w = nn.Parameter(np.eye(16, dtype=np.float32)).sharing(precision)
    x = np.stack([np.zeros(16), np.full(16, 1e-38), np.full(16, 1e-20), np.full(16, 3e38)]).astype(np.float32)
    got = ops.linear(x, w).data
    assert np.array_equal(got[0], np.zeros(16))
    assert np.abs(got[1]).max() <= 1.1e-38
    assert np.allclose(got[2:], x[2:], rtol=0.01)



BLOCKS = {
    "pre-norm": {},
    "post-norm": {"pre_norm": False},
    "RMS norm": {"norm": nn.RMSNorm, "activation": "silu"},
    "quick GELU, causal": {"activation": "quick_gelu", "causal": True},
    "grouped heads, rope": {"kv_heads": 2, "rope": 1e4},
    "gated, layer scale": {"gated": True, "layer_scale": 0.5},
}


@pytest.mark.parametrize("precision, limit", [("bf16", 0.02), ("int8", 0.04)])
@pytest.mark.parametrize("options", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("width", [64, 72, 512])
def test_encoders_stay_close_to_float32(precision, limit, options, width):
    skip_without(precision)
    rng = np.random.default_rng(4)
    model = nn.Encoder(3, width, 4, **options).eval()
    stream = plait.Stream(rng.standard_normal((221, width)).astype(np.float32), [0, 50, 51, 51, 90, 221])
    exact, low = model(stream).rows.data, model.to(precision)(stream).rows.data
    error = np.abs(low - exact).max() / np.abs(exact).max()
    assert 1e-6 < error < limit  # rounding shows, or the test tested nothing


@pytest.mark.parametrize("precision", PRECISIONS)
def test_wide_rows_are_rounded_too(precision):
    skip_without(precision)
    rng = np.random.default_rng(4)
    block = nn.EncoderBlock(4112, 2, hidden=64).eval()  # wider than what a norm rounds on its stack
    x = rng.standard_normal((1, 3, 4112)).astype(np.float32)
    exact, low = block(x).rows.data, block.to(precision)(x).rows.data
    assert 1e-6 < np.abs(low - exact).max() / np.abs(exact).max() < 0.04


@pytest.mark.parametrize("precision", PRECISIONS)
def test_cross_attention_and_missing_modalities(precision):
    skip_without(precision)
    rng = np.random.default_rng(6)
    model = nn.CrossModalBlock((48, 40), heads=4).eval()
    a = plait.Stream(rng.standard_normal((9, 48)).astype(np.float32), [0, 4, 9])
    b = plait.Stream(rng.standard_normal((3, 40)).astype(np.float32), [0, 3, 3])
    low = model.to(precision)
    for exact, got in zip(model(a, b), low(a, b), strict=True):
        assert 1e-6 < np.abs(got.rows.data - exact.rows.data).max() / np.abs(exact.rows.data).max() < 0.04


def test_results_do_not_depend_on_threads():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((4, 50, 64)).astype(np.float32)
    before = plait.get_num_threads()
    try:
        for precision in filter(_core.has, PRECISIONS):
            model = nn.Encoder(2, 64, 4).to(precision)
            results = []
            for threads in (1, 2, 3):
                plait.set_num_threads(threads)
                results.append(model(x).rows.data)
            assert all(np.array_equal(results[0], r) for r in results[1:])
    finally:
        plait.set_num_threads(before)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_copy_shares_arrays_and_keeps_its_packs(precision):
    skip_without(precision)
    model = nn.Encoder(1, 64, 4).eval()
    x = np.random.default_rng(8).standard_normal((1, 5, 64)).astype(np.float32)
    low = model.to(precision)
    before = low(x).rows.data.copy()
    weight = model.blocks[0].mlp.fc1.weight
    assert np.shares_memory(low.blocks[0].mlp.fc1.weight.data, weight.data)
    weight.assign(weight.data * 3)
    assert np.array_equal(low(x).rows.data, before)
    assert model.precision == "f32" and low.precision == precision and not low.training


def test_what_to_refuses():
    model = nn.Linear(8, 8)
    assert model.to("f32") is model.to("float32") is model
    low = [precision for precision in PRECISIONS if _core.has(precision)]
    for precision in low:
        with pytest.raises(RuntimeError, match="for inference alone"):
            model.to(precision).train()
        other = "int8" if precision == "bf16" else "bf16"
        with pytest.raises(RuntimeError, match=f"the model is in {precision} already"):
            model.to(precision).to(other)
    with pytest.raises(ValueError, match="expected 'f32', 'bf16' or 'int8'"):
        _core.Pack().dtype = "fp8"


ROWS = np.random.default_rng(9).standard_normal((5, 8)).astype(np.float32)
OFFSETS = [0, 2, 5]


def fitted(precision):
    model = nn.Linear(8, 8)
    steps = {"steps": 1, "precision": precision, "progress": False}
    plait.train.fit(model, plait.optim.SGD(model), lambda step: ROWS, lambda model, x: ops.mean(model(x)), **steps)
    return model.training_precision


# What takes the name of a precision, as a function of the name that gives what came of it.
TAKES = {
    "to": (lambda name: nn.Linear(8, 8).to(name).precision, ("f32", "bf16", "int8")),
    "train": (lambda name: nn.Linear(8, 8).train(precision=name).training_precision, ("f32", "bf16")),
    "fit": (fitted, ("f32", "bf16")),
    "attention": (
        lambda name: ops.attention(ROWS, ROWS, ROWS, OFFSETS, OFFSETS, heads=2, precision=name).data.tobytes(),
        ("f32", "bf16"),
    ),
    "quantize": (lambda name: plait.quantize(nn.Linear(8, 8), [ROWS], name).precision, ("bf16", "int8")),
}


@pytest.mark.filterwarnings("ignore:.*no instructions")
@pytest.mark.parametrize("function", TAKES)
def test_precisions_have_the_same_names_everywhere(function):
    call, known = TAKES[function]
    long = {"f32": "float32", "bf16": "bfloat16"}
    for name in known:
        assert call(long.get(name, name)) == call(name)
    assert len({call(name) for name in known}) == len(known)
    *names, last = [repr(n) for name in known for n in (name, long.get(name)) if n]
    message = f"{function}: precision is .*, expected {', '.join(names)} or {last}"
    for bad in ("fp8", "F32", "", 32, None, ["bf16"], np.float32, *{"f32", "int8"}.difference(known)):
        if bad is not None or function not in ("train", "fit"):  # None leaves it as it is there
            with pytest.raises(ValueError, match=message):
                call(bad)
