"""What a table row cannot say about operators on rows: rules that differences do not see, and exact properties."""

import numpy as np
import pytest

import plait
from plait import ops


def rng_array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def leaf(array):
    return plait.Tensor(array, requires_grad=True)


def test_layer_norm_keeps_large_means():
    # quarters, so that float32 holds the input without rounding
    x = 40000 + np.random.default_rng(0).integers(-8, 9, (5, 300)) / 4
    expected = plait.reference.layer_norm(x)
    got = ops.layer_norm(x.astype(np.float32)).data
    assert np.abs(got - expected).max() < 2e-3  # half of the last place of the mean, over a deviation of 1.2
    assert np.abs(got.var(-1) - 1).max() < 1e-4


def test_layer_norm_of_a_constant_row_is_finite():
    for value in (0.0, 1e9, -3e30):
        assert np.isfinite(ops.layer_norm(np.full((2, 100), value, np.float32)).data).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_l2_normalize_of_nothing_is_nothing(dtype):
    x = rng_array(4, 19).astype(dtype)
    x[1] = 0
    t = leaf(x)
    y = ops.l2_normalize(t)
    assert not y.data[1].any()
    assert np.allclose(np.linalg.norm(y.data[[0, 2, 3]], axis=1), 1)
    y.backward(np.ones_like(x))
    assert not t.grad[1].any()
    assert t.grad[0].any()


def test_l2_normalize_of_long_and_short_rows():
    x = np.array([[3e30, 4e30], [3e-10, 4e-10], [np.nan, 1.0]], np.float32)
    y = ops.l2_normalize(x).data
    assert np.allclose(y[:2], [0.6, 0.8])
    assert np.isnan(y[2]).all()


def test_dropout_rate_and_scale():
    y = ops.dropout(np.ones(200_000, np.float32), 0.25).data
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.005


def test_dropout_masks_differ_between_calls_and_repeat_with_the_seed():
    x = np.ones(1000, np.float32)
    plait.seed(3)
    a, b = ops.dropout(x).data, ops.dropout(x).data
    plait.seed(3)
    assert (ops.dropout(x).data == a).all()
    assert (a != b).any()


def test_dropout_removes_infinity():
    assert set(ops.dropout(np.full(64, np.inf, np.float32)).data.tolist()) == {0.0, np.inf}


def test_dropout_of_a_tensor_in_evaluation_is_the_tensor():
    x = leaf(rng_array(3))
    assert ops.dropout(x, 0.5, training=False) is x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embedding_padding_brings_no_gradient(dtype):
    weight = leaf(rng_array(5, 7).astype(dtype))
    y = ops.embedding([0, 3, 3, 1], weight, padding_idx=3)
    assert (y.data[1] == weight.data[3]).all()
    y.backward(np.ones((4, 7), dtype))
    assert (weight.grad.sum(1) == [7, 7, 0, 0, 0]).all()


def test_embedding_accumulates_into_named_rows_only():
    weight = leaf(rng_array(6, 5))
    for ids in ([1, 1], [4]):
        ops.embedding(ids, weight).backward(np.ones((len(ids), 5), np.float32))
    assert (weight.grad[:, 0] == [0, 2, 0, 0, 1, 0]).all()
    weight.grad[0] = np.nan  # would spread if the row were touched by 0 * row
    ops.embedding([2], weight).backward(np.ones((1, 5), np.float32))
    assert (weight.grad[1:, 0] == [2, 1, 0, 1, 0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embedding_names_the_position(dtype):
    with pytest.raises(IndexError, match=r"ids\[1, 2\] is 9, expected 0 to 4"):
        ops.embedding([[0, 1, 2], [3, 4, 9]], np.zeros((5, 3), dtype))


def test_threads_do_not_change_bits():
    threads = plait.get_num_threads()
    x, w, dy = rng_array(1000, 70), rng_array(70, seed=1), rng_array(1000, 70, seed=2)
    ids = np.random.default_rng(0).integers(0, 70, 1000)
    calls = {
        "layer_norm": lambda t: ops.layer_norm(t, leaf(w), w),
        "rms_norm": lambda t: ops.rms_norm(t, leaf(w)),
        "l2_normalize": ops.l2_normalize,
        "dropout": lambda t: ops.dropout(t, 0.3),
        "embedding": lambda t: ops.embedding(ids, t),
        "gelu": ops.gelu,
        "rope": lambda t: ops.rope(t, [0, 300, 1000], 5),
        "sinusoids": lambda t: ops.add_positions(t, [0, 300, 1000]),
        "positions": lambda t: ops.add_positions(t, [0, 300, 1000], leaf(x)),
    }
    try:
        for name, call in calls.items():
            seen = []
            for n in (1, 2, 3):
                plait.set_num_threads(n)
                plait.seed(0)
                t = leaf(x)
                y = call(t)
                inputs = [i for i in y._node.inputs if i is not None]
                y.backward(dy)
                seen.append([y.data, *[i.grad for i in inputs]])
            for other in seen[1:]:
                for a, b in zip(seen[0], other, strict=True):
                    assert (a == b).all(), name
    finally:
        plait.set_num_threads(threads)


def test_sinusoids_are_exact_for_late_positions():
    x, late = np.zeros((64, 512)), np.array([10**9])
    expected = ops.add_positions(x, [0, 64], start=late).data
    assert np.abs(ops.add_positions(x.astype(np.float32), [0, 64], start=late).data - expected).max() < 3e-7


def test_rope_takes_time_stamps():
    """Only differences of times matter, also of float64 seconds since 1970."""
    x, seconds = rng_array(20, 64), np.arange(20) * 0.04
    q, k = (ops.rope(x, [0, 20], 2, times=1.7e9 + seconds).data.astype(np.float64) for _ in range(2))
    p = ops.rope(x, [0, 20], 2, times=seconds).data.astype(np.float64)
    assert np.abs(q @ k.T - p @ p.T).max() < 1e-3


def test_rope_by_index_is_rope_by_whole_seconds():
    x = rng_array(9, 32)
    by_index = ops.rope(x, [0, 4, 9], 4, start=[2, 0]).data
    assert (ops.rope(x, [0, 4, 9], 4, times=[2, 3, 4, 5, 0, 1, 2, 3, 4]).data == by_index).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_positions_beyond_the_table(dtype):
    with pytest.raises(ValueError, match="table"):
        ops.add_positions(np.zeros((5, 3), dtype), [0, 2, 5], np.zeros((2, 3), dtype))


def test_linear_layers_take_leading_dimensions_as_rows():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 3, 4)).astype(np.float32), rng.standard_normal((5, 4)).astype(np.float32)
    for layer in (lambda t: ops.linear(t, w, activation="gelu"), lambda t: ops.mlp(t, w, None, w.T, None)):
        flat, deep = leaf(x.reshape(6, 4)), leaf(x)
        due, got = layer(flat), layer(deep)
        assert got.shape == (2, 3, due.shape[1])
        assert got.data.tobytes() == due.data.tobytes()
        assert layer(x.tolist()).data.tobytes() == layer(x).data.tobytes()  # nothing is saved for a gradient
        (due * due).sum().backward()
        (got * got).sum().backward()
        assert deep.grad.shape == x.shape
        assert deep.grad.tobytes() == flat.grad.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["mse", "l1", "huber"])
@pytest.mark.parametrize("shape", [(4, 3), (4,)])
def test_regression_of_absent_rows_ignores_what_they_hold(kind, shape, dtype):
    x = np.ones(shape, dtype)
    x[2] = np.nan
    t = leaf(x)
    loss = ops.regression_loss(t, np.full(shape, 3, dtype), kind, present=[1, 0.5, 0, 0])
    assert float(loss) == pytest.approx({"mse": 4, "l1": 2, "huber": 1.5}[kind], rel=1e-14)
    loss.backward()
    assert t.grad[0].all()
    assert not t.grad[2:].any()


def test_regression_does_not_hide_nan():
    for kind in ("mse", "l1", "huber"):
        assert np.isnan(float(ops.regression_loss(np.float32([1, np.nan]), np.float32([1, 1]), kind)))


def test_regression_sums_many_elements_exactly():
    # 2^24 ones: a running float32 sum would stop there
    x = np.ones((1 << 24) + 2000, np.float32)
    assert float(plait.losses.mse(x, np.zeros_like(x), reduction="sum")) == np.float32(x.size)
