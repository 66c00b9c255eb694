"""plait.reference is called as plait.ops and plait.losses are, and gives what they give: every name that both have."""

import inspect

import numpy as np
import pytest

import plait
from plait import _core, losses, ops, reference

PUBLIC = {name: getattr(space, name) for space in (ops, losses) for name in space.__all__}
SHARED = sorted(name for name in PUBLIC if hasattr(reference, name))
# The public functions take streams where these take rows and offsets.
OF_STREAMS = ("stream_concat", "stream_split")
# Where the public function may leave out what a stream brings along, or reports that it is missing.
NEEDED_HERE = {("pool", "offsets"), ("attention_pool", "offsets"), ("attention_pool", "scores")}


def rng():
    return np.random.default_rng(7)


def normal(*shape):
    return np.random.default_rng(sum(shape) + 100 * len(shape)).standard_normal(shape)


X, OFFSETS = normal(6, 8), [0, 3, 3, 6]
WIDE = normal(6, 16)
Q, K, V = normal(6, 8), normal(9, 8), normal(9, 8) + 1
CROSS = (Q, K, V, [0, 2, 2, 6], [0, 4, 5, 9])
FIRST, SECOND = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (normal(5, 4), normal(5, 4)[::-1]))
LOGITS, LABELS = normal(5, 4), np.array([0, 3, -100, 1, 2])
PRESENT = np.array([True, False, True, True, True])
TARGET = normal(5, 4) + normal(4)
NORM, QKV, OUT = (normal(8), normal(9)[1:]), normal(24, 8), normal(8, 8)
PAIRS = 2 * 4 + 0 * 1 + 4 * 4
PAIR_OFFSETS = np.array([0, 8, 8, 24])
PAIR_VALUES = normal(2, PAIRS)
MASK = rng().random(PAIRS) < 0.6
RELATIVE = normal(2, 5)


def distance(queries, keys):
    return np.clip(np.arange(keys)[None, :] - np.arange(queries)[:, None], -2, 2) + 2


def call(*arguments, **options):
    return arguments, options


HEADS = {"heads": 2}
CALLS = {
    "activation": [call(X, "gelu_tanh"), call(X, kind="silu")],
    "relu": [call(X)],
    "gelu": [call(X), call(X, "tanh"), call(X, approximate="tanh")],
    "quick_gelu": [call(X)],
    "silu": [call(X)],
    "tanh": [call(X)],
    "sigmoid": [call(X)],
    "add_positions": [call(X, OFFSETS), call(X, OFFSETS, normal(7, 8)), call(X, OFFSETS, start=[4, 0, 1])],
    "rope": [
        call(WIDE, OFFSETS, 2),
        call(WIDE, OFFSETS, heads=1, base=100.0, interleaved=True, start=[2, 0, 5]),
        call(WIDE, OFFSETS, 2, times=np.array([0.5, 1.25, 3, 1.7e9, 1.7e9 + 1e-3, 0]), rotary_dim=4),
    ],
    "attention": [
        call(*CROSS, **HEADS),
        call(Q, K[:, :4], V[:, :4], *CROSS[3:], heads=2, kv_heads=1, scale=0.3, causal=True),
        call(*CROSS, heads=2, kv_lengths=[3, 1, 2]),
        call(*CROSS, heads=2, kv_index=[2, 0, 1]),
        call(*CROSS, heads=2, causal=True, q_times=X[:, 0], kv_times=K[:, 0]),
        call(*CROSS, heads=2, causal=True, q_times=np.arange(6), kv_times=np.arange(9)),
        call(*CROSS, heads=2, bias=normal(2, 4, 4)),
        call(*CROSS, heads=2, bias=ops.RelativeBias(RELATIVE, distance)),
        call(*CROSS, heads=2, bias=ops.RelativeBias(RELATIVE, distance(4, 4))),
        call(*CROSS, heads=2, bias=(RELATIVE, distance)),
        call(Q, K, V, [0, 1, 4, 6], [0, 5, 7, 9], heads=2, bias=(RELATIVE, distance)),  # longest: 3 and 5
        call(*CROSS, heads=2, bias=(RELATIVE, distance(5, 6)), kv_lengths=[3, 0, 2]),
        call(*CROSS, heads=2, bias=(RELATIVE, distance), kv_index=[1, 1, 1], kv_lengths=[1, 1, 1]),
        call(Q, K, V, *CROSS[3:], heads=2, bias=ops.PairBias(PAIR_VALUES, PAIR_OFFSETS)),
        call(*CROSS, heads=2, bias=(PAIR_VALUES, PAIR_OFFSETS)),
        call(*CROSS, heads=2, bias=(PAIR_VALUES[0], tuple(PAIR_OFFSETS))),
        call(*CROSS, heads=2, bias=(MASK, PAIR_OFFSETS)),
        call(*CROSS, heads=2, bias=[normal(2, 4, 4), (RELATIVE, distance), (MASK, PAIR_OFFSETS)]),
        call(*CROSS, heads=2, bias=(normal(2, 4, 4), ops.PairBias(MASK, PAIR_OFFSETS))),
        call(*CROSS, heads=2, bias=(MASK, PAIR_OFFSETS), return_weights=True),
        call(*CROSS, heads=2, dropout=0.4),
        call(*CROSS, heads=2, dropout=0.4, return_weights=True),
    ],
    "attention_block": [
        call(X, OFFSETS, *NORM, QKV, None, OUT, normal(8), heads=2),
        call(X, OFFSETS, *NORM, QKV[:16], normal(16), OUT, None, heads=2, kv_heads=1, scale=0.2, norm="rms", eps=1e-3),
        call(X, OFFSETS, *NORM, QKV, None, OUT, None, heads=2, dropout=0.3, residual_dropout=0.2, pre_norm=False),
        call(
            X, OFFSETS, *NORM, OUT, None, OUT, None, heads=4, context=normal(4, 5), context_offsets=[0, 2, 4, 4],
            context_weight=normal(16, 5), context_bias=normal(16), causal=True,
        ),
    ],
    "mlp_block": [
        call(X, *NORM, QKV, normal(24), normal(8, 24), None),
        call(X, *NORM, QKV, None, normal(8, 24), None, activation="relu", pre_norm=False, residual_dropout=0.5),
    ],
    "pool": [
        *[call(X, OFFSETS, mode) for mode in ("mean", "max", "first", "last")],
        call(X, OFFSETS),
        call(X, OFFSETS, "attention", scores=normal(6, 2)),
        call(X, offsets=OFFSETS, mode="attention", scores=normal(6, 1)),
    ],
    "attention_pool": [call(X, OFFSETS, normal(6, 4)), call(X, OFFSETS, scores=normal(6, 2))],
    "patch_embed": [
        call(normal(2, 4, 6, 3), normal(5, 3, 2, 3)),
        call(normal(2, 4, 6, 3), normal(5, 3, 2, 3), normal(5)),
    ],
    "linear": [call(X, QKV), call(X, QKV, normal(24), "relu"), call(X, QKV, activation="gelu")],
    "mlp": [call(X, QKV, None, normal(8, 24), normal(8)), call(X, QKV, None, normal(8, 24), None, "silu")],
    "layer_norm": [call(X), call(X, *NORM), call(X, *NORM, eps=0.1)],
    "rms_norm": [call(X), call(X, NORM[0], 0.1)],
    "l2_normalize": [call(X), call(X, eps=3.0)],
    "dropout": [call(X), call(X, 0.25), call(X, 0.25, training=False)],
    "embedding": [call(np.array([[2, 0], [5, 5]]), X), call(np.array([1, 4]), X, padding_idx=4)],
    "regression_loss": [
        call(LOGITS, TARGET),
        call(LOGITS, TARGET, "huber", delta=0.5, reduction="sum", present=PRESENT),
    ],
    "mse": [call(LOGITS, TARGET), call(LOGITS, TARGET, reduction="none", present=PRESENT)],
    "l1": [call(LOGITS, TARGET), call(LOGITS, TARGET, reduction="sum", present=np.arange(5.0))],
    "huber": [call(LOGITS, TARGET), call(LOGITS, TARGET, 0.25, present=PRESENT), call(LOGITS, TARGET, delta=2.0)],
    "cross_entropy": [
        call(LOGITS, LABELS),
        call(LOGITS, LABELS, 0.1),
        call(LOGITS, np.abs(LABELS) % 4, 0.2, 3, "none"),
        call(LOGITS, LABELS, weight=np.array([1, 0.5, 2, 0]), present=PRESENT, reduction="sum"),
    ],
    "info_nce": [call(FIRST, SECOND, np.array(1.5)), call(FIRST, SECOND, np.array([0.5]), PRESENT, 0.1)],
    "sigmoid_contrastive": [
        call(FIRST, SECOND, np.array(1.5), np.array(-2.0)),
        call(FIRST, SECOND, np.array(1.5), np.array(-2.0), present=PRESENT),
    ],
}  # fmt: skip


def arrays_of(result):
    """The float64 arrays in a result: tensors, streams, tuples and lists of them."""
    if isinstance(result, (tuple, list)):
        return [array for one in result for array in arrays_of(one)]
    if isinstance(result, plait.Stream):
        result = result.rows
    return [result.data if isinstance(result, plait.Tensor) else result]


def test_the_calls_below_are_of_all_shared_names():
    assert set(SHARED) == {*CALLS, *OF_STREAMS}
    operators = set(_core.operators)
    assert operators <= {*SHARED}, "an operator without a public name, or without a twin"


@pytest.mark.filterwarnings("ignore:float64 input runs the NumPy twin")
@pytest.mark.parametrize(
    "name, arguments, options",
    [pytest.param(name, *one, id=f"{name}-{i}") for name, calls in CALLS.items() for i, one in enumerate(calls)],
)
def test_same_call_same_result(name, arguments, options):
    twin_only = {}
    if "dropout" in name or options.get("dropout") or options.get("residual_dropout"):
        twin_only = {"key": 11, "counter": 0}  # of the first call after the seed
    plait.seed(11)
    public = arrays_of(PUBLIC[name](*arguments, **options))
    plait.seed(0)
    twin = arrays_of(getattr(reference, name)(*arguments, **options, **twin_only))
    assert len(public) == len(twin)
    for got, due in zip(twin, public, strict=True):
        assert isinstance(got, np.ndarray) and got.dtype == np.float64 and due.dtype == np.float64
        assert got.shape == due.shape
        np.testing.assert_allclose(got, due, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in SHARED if n not in OF_STREAMS])
def test_signatures_agree(name):
    """Every public parameter is there, in its place and with its default: no call means something else here."""
    public, twin = (inspect.signature(f).parameters for f in (PUBLIC[name], getattr(reference, name)))
    positional = [p.name for p in public.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(twin)[: len(positional)] == positional
    for parameter in public.values():
        if (name, parameter.name) not in NEEDED_HERE and parameter.default is not parameter.empty:
            assert twin[parameter.name].default == parameter.default, parameter.name
        assert parameter.name in twin


@pytest.mark.filterwarnings("ignore:float64 input runs the NumPy twin")
def test_streams_as_rows_and_offsets():
    first, second = plait.Stream(X, OFFSETS), plait.Stream(K[:5, :8], [0, 1, 4, 5])
    joined = ops.stream_concat([first, second])
    np.testing.assert_array_equal(
        reference.stream_concat([first.rows, second.rows], [first.offsets, second.offsets]), joined.rows.data
    )
    parts = reference.stream_split(joined.rows.data, joined.offsets, [first.offsets, second.offsets])
    for part, due in zip(parts, (first, second), strict=True):
        np.testing.assert_array_equal(part, due.rows)


def test_pool_by_attention_has_its_gradient():
    dy, scores = normal(3, 8), normal(6, 2)
    for got, due in zip(
        reference.pool_backward(dy, X, OFFSETS, "attention", scores),
        reference.attention_pool_backward(dy, X, OFFSETS, scores),
        strict=True,
    ):
        assert (got is None and due is None) or np.array_equal(got, due)


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_adamw_is_the_step_of_the_core(step):
    given = [normal(40), normal(41)[1:], normal(42)[2:], np.abs(normal(43)[3:])]
    due = [x.astype(np.float32) for x in given]
    _core.adamw_step(*due, [(0, 40, 0.01, 0.1)], 0.9, 0.95, 1e-6, step, 1.0)
    p, m, v = reference.adamw(*given, 0.01, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1, step=step)
    for got, array in ((p, due[0]), (m, due[2]), (v, due[3])):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, array, rtol=2e-6, atol=2e-7)
    defaults = inspect.signature(plait.optim.AdamW).parameters
    for name, parameter in inspect.signature(reference.adamw).parameters.items():
        if name in ("betas", "eps", "weight_decay"):
            assert parameter.default == defaults[name].default


# ---------------------------------------------------------------- biases as tuples, in float32


def test_tuples_are_the_biases_that_they_describe():
    data = [np.float32(x) for x in CROSS[:3]]
    values, flat = np.float32(RELATIVE), np.float32(PAIR_VALUES)

    def run(bias):
        leaf = plait.Tensor(values, requires_grad=True)
        out = ops.attention(*data, *CROSS[3:], heads=2, bias=bias(leaf))
        if out.requires_grad:
            out.sum().backward()
        return out.data, leaf.grad

    for index in (distance, distance(4, 4), distance(9, 9).tolist()):
        out, gradient = run(lambda leaf, index=index: (leaf, index))
        due, due_gradient = run(lambda leaf, index=index: ops.RelativeBias(leaf, index))
        assert np.array_equal(out, due) and gradient.any() and np.array_equal(gradient, due_gradient)
    for pairs in (flat, flat[:1], flat[0], MASK):
        out, _ = run(lambda leaf, pairs=pairs: (pairs, PAIR_OFFSETS))
        assert np.array_equal(out, run(lambda leaf, pairs=pairs: ops.PairBias(pairs, PAIR_OFFSETS))[0])
        assert not np.allclose(out, run(lambda leaf: None)[0])


@pytest.mark.parametrize(
    "bias, error, message",
    [
        ((RELATIVE,), ValueError, "bias is a tuple of 1, expected (values, index) or (values, pair_offsets)"),
        ((RELATIVE, distance, 3), ValueError, "bias is a tuple of 3"),
        ((normal(2, 4, 4), normal(2, 4, 4)), TypeError, "bias is a tuple whose second entry has shape (2, 4, 4)"),
        ((RELATIVE, distance(4, 4) * 1.0), TypeError, "bias is a tuple whose second entry has shape (4, 4) and dtype"),
        ((RELATIVE, distance(4, 4)[None]), ValueError, "bias is a tuple whose second entry has shape (1, 4, 4)"),
        ((RELATIVE, distance(4, 4) > 1), TypeError, "bias is a tuple whose second entry has shape (4, 4) and dtype"),
        ((RELATIVE, "near"), TypeError, "the index or the pair_offsets of bias has dtype <U4"),
        ((RELATIVE[0], distance), ValueError, "bias is values with an index (Tq, Tk), and its values have shape (5,)"),
        ((RELATIVE > 0, distance), ValueError, "dtype bool, expected numbers (heads, R)"),
        ((normal(2, 4, 4), PAIR_OFFSETS), ValueError, "bias is values with pair_offsets, and its values have shape"),
        (("mask", PAIR_OFFSETS), TypeError, "the values of bias has dtype"),
        ([(RELATIVE, distance), (RELATIVE, distance)], ValueError, "bias holds two RelativeBias"),
        (RELATIVE, ValueError, "bias has 2 dimensions, expected a (heads, Tq, Tk) array, a RelativeBias"),
    ],
)  # fmt: skip
def test_tuples_that_are_no_bias(bias, error, message):
    with pytest.raises(error) as caught:
        ops.attention(*[np.float32(x) for x in CROSS[:3]], *CROSS[3:], heads=2, bias=bias)
    assert str(caught.value).startswith("attention: ") and message in str(caught.value) and "bias" in str(caught.value)
