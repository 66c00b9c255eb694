"""Blocks in evaluation are one call of the core, with the same bits as one by one, as long as they are plain."""

import numpy as np
import pytest

import plait
from plait import _core, nn
from plait.ops._apply import apply, chain, operators

pytestmark = pytest.mark.filterwarnings("ignore:.*this processor has no instructions")
STREAM = plait.Stream(np.random.default_rng(0).standard_normal((11, 16)).astype(np.float32), [0, 4, 4, 11])


def encoder(**options):
    plait.seed(3)
    return nn.Encoder(3, 16, heads=4, **options)


def one_by_one(model, x):
    """The sublayers as calls of their own."""
    rows = x.rows
    for block in model.blocks:
        for op, inputs, attrs in block.calls(x.offsets):
            rows = apply(op, (rows, *inputs), attrs)
    return rows


@pytest.fixture
def chained(monkeypatch):
    """How many calls each chain of the core had."""
    seen = []
    real = _core.chain
    monkeypatch.setattr(_core, "chain", lambda calls: seen.append(len(calls)) or real(calls))
    return seen


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
@pytest.mark.parametrize(
    "options",
    [{}, {"pre_norm": False}, {"causal": True, "norm": nn.RMSNorm}, {"dropout": 0.5, "attention_dropout": 0.5}],
    ids=str,
)
def test_an_encoder_in_evaluation_is_one_call(options, precision, chained):
    model = encoder(**options).to(precision).eval()
    with plait.no_grad():
        got = model.before_norm(STREAM).rows.numpy()
        assert chained == [6]
        np.testing.assert_array_equal(got, one_by_one(model, STREAM).numpy())
    assert not np.array_equal(got, STREAM.rows)


def test_frozen_parameters_need_no_no_grad(chained):
    model = encoder().eval().freeze()
    model(STREAM)
    assert chained == [6]


def test_a_chain_does_not_write_to_its_input():
    before = STREAM.rows.copy()
    with plait.no_grad():
        encoder().eval()(STREAM)
    np.testing.assert_array_equal(STREAM.rows, before)


def test_gradients_flow_in_evaluation(chained):
    model, x = encoder().eval(), plait.Tensor(STREAM.rows.copy(), requires_grad=True)
    model(STREAM.with_rows(x)).rows.sum().backward()
    assert not chained
    assert np.any(x.grad) and np.any(model.blocks[0].mlp.fc1.weight.grad)


def test_dropout_in_training_is_not_skipped(chained):
    model = encoder(dropout=0.5)
    with plait.no_grad():
        first, second = model(STREAM).rows.numpy(), model(STREAM).rows.numpy()
    assert not chained
    assert not np.array_equal(first, second)


def _of_a_class_of_its_own(model):
    class Doubling(nn.EncoderBlock):
        def forward(self, x, cache=None, bias=None):
            return x.with_rows(2 * np.asarray(super().forward(x, cache, bias).rows))

    model.blocks[1].__class__ = Doubling


def _with_a_forward_of_its_own(model):
    block = model.blocks[1]
    forward = block.forward
    block.forward = lambda x, *rest: x.with_rows(2 * np.asarray(forward(x, *rest).rows))


def test_a_replaced_forward_of_the_class_runs(monkeypatch):
    model, seen = encoder().eval().freeze(), []
    forward = nn.EncoderBlock.forward
    monkeypatch.setattr(nn.EncoderBlock, "forward", lambda self, *rest: seen.append(self) or forward(self, *rest))
    model(STREAM)
    assert seen == model.blocks


@pytest.mark.parametrize("change", [_of_a_class_of_its_own, _with_a_forward_of_its_own])
def test_what_users_put_in_place_of_a_block_runs(change):
    model = encoder().eval().freeze()
    first, rest = STREAM, model.blocks
    first = rest[0](first)
    want = rest[2](first.with_rows(2 * rest[1](first).rows.numpy())).rows.numpy()
    change(model)
    np.testing.assert_array_equal(model.before_norm(STREAM).rows.numpy(), want)


@pytest.mark.parametrize("options", [{"layer_scale": 0.1}, {"gated": True}, {"rope": 100.0}], ids=str)
def test_composed_blocks_are_not_chained(options, chained):
    with plait.no_grad():
        encoder(**options).eval()(STREAM)
    assert not chained


@pytest.mark.parametrize(
    "rows",
    [
        np.asfortranarray(STREAM.rows),
        STREAM.rows.astype(">f4"),
        STREAM.rows.astype(np.float16),
        np.repeat(STREAM.rows, 2, axis=1)[:, ::2],
    ],
    ids=["fortran", "swapped", "half", "strided"],
)
def test_rows_in_other_layouts(rows):
    model = encoder().eval().freeze()
    want = model(STREAM.with_rows(np.ascontiguousarray(rows, np.float32))).rows.numpy()
    np.testing.assert_array_equal(model(STREAM.with_rows(rows)).rows.numpy(), want)


def test_no_calls_leave_the_rows():
    assert chain(STREAM.rows, []) is STREAM.rows


@pytest.mark.parametrize("depth", [0, 1])
def test_short_encoders(depth):
    model = nn.Encoder(depth, 16, heads=4).eval().freeze()
    want = one_by_one(model, STREAM)
    np.testing.assert_array_equal(model.before_norm(STREAM).rows, np.asarray(want))


def test_errors_name_the_operator_and_its_argument():
    calls = encoder().eval().freeze().blocks[0].calls(np.array([0, 4]))
    with pytest.raises(ValueError, match="attention_block: norm_weight has shape"):
        chain(np.ones((4, 15), np.float32), calls)


NORM = operators["layer_norm"]
X = np.ones((3, 4), np.float32)
BAD = [
    ([], TypeError, "at least one call"),
    ((), TypeError, "at least one call"),
    ((1,), TypeError, "a tuple .operator, inputs"),
    (((NORM, (X, None, None), {"eps": 1e-5}),), TypeError, "a tuple .operator, inputs"),
    ((("layer_norm", (X, None, None), {"eps": 1e-5}, None),), TypeError, "a tuple .operator, inputs"),
    (((NORM, [X, None, None], {"eps": 1e-5}, None),), TypeError, "a tuple .operator, inputs"),
    (((NORM, (X, None), {"eps": 1e-5}, None),), TypeError, "layer_norm: 2 inputs, expected 3"),
    (((NORM, (None, None, None), {"eps": 1e-5}, None),), TypeError, "layer_norm: x is missing"),
    (((NORM, (X, None, None), {}, None),), TypeError, "keyword eps is missing"),
    (((NORM, (X, None, None), {"eps": 1e-5}, (None,)),), TypeError, "as long as the inputs"),
    (((NORM, (X, None, None), {"eps": 1e-5}, None), (NORM, (X.copy(), None, None), {"eps": 1e-5}, None)), ValueError,
     "the same float32 array"),
    (((operators["pool"], (X, np.array([0, 1, 3])), {"mode": "mean"}, None),), ValueError, "pool has not one output"),
    (((operators["linear"], (X, np.ones((2, 4), np.float32), None), {"activation": "none"}, None),), ValueError,
     "linear has not one output"),
    (((operators["embedding"], (np.array([0, 1]), X), {"padding_idx": -1}, None),), ValueError, "has not one output"),
]  # fmt: skip


@pytest.mark.parametrize(("calls", "error", "message"), BAD, ids=range(len(BAD)))
def test_wrong_calls(calls, error, message):
    with pytest.raises(error, match=message):
        _core.chain(calls)


def test_a_chain_keeps_nothing():
    model = encoder().eval().freeze()
    model(STREAM)
    before = _core.counters()
    for _ in range(50):
        model(STREAM)
    assert _core.counters()["live_bytes"] == before["live_bytes"]


def test_a_failed_allocation_is_an_error_and_nothing_stays():
    model = encoder().eval().freeze()
    want = model(STREAM).rows.numpy()
    before, errors = _core.counters()["pool_used_buffers"], 0
    for nth in range(1, 40):
        _core.empty_cache()
        _core.fail_at(nth, True)
        try:
            model(STREAM)
        except MemoryError:
            errors += 1
        finally:
            _core.fail_at(0)
    assert errors >= 5
    assert _core.counters()["pool_used_buffers"] == before
    np.testing.assert_array_equal(model(STREAM).rows.numpy(), want)
