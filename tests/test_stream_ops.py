"""What the rows do not show of the operators on segments: times, grids, equal and special values, the core's checks."""

import numpy as np
import pytest

import plait
from plait import Stream, Tensor, ops

INF, NAN = float("inf"), float("nan")


def stream(lengths, width=3, seed=0, **more):
    rows = np.random.default_rng(seed).standard_normal((sum(lengths), width)).astype(np.float32)
    return Stream(rows, np.concatenate([[0], np.cumsum(lengths)]), **more)


def test_concat_keeps_times_when_all_have_them():
    a = stream([2, 0, 1], times=[0, 1, 2])
    b = stream([1, 2, 1], times=[10, 11, 12, 13])
    joined = ops.stream_concat([a, b])
    assert joined.times.tolist() == [0, 1, 10, 11, 12, 2, 13]
    assert joined.lengths.tolist() == [3, 2, 2]
    assert ops.stream_concat([a, stream([1, 2, 1])]).times is None
    assert ops.stream_concat([a, ops.repeat_rows(np.zeros((1, 3), np.float32))]).times is None


def test_split_undoes_concat():
    a = stream([4, 0, 4], times=np.arange(8), grid=(2, 2))
    b = stream([1, 2, 1], times=np.arange(4) + 20)
    joined = ops.stream_concat([a, b])
    first, second = ops.stream_split(joined, [a, None])
    assert np.array_equal(first.rows.data, a.rows) and np.array_equal(second.rows.data, b.rows)
    assert first.grid == (2, 2) and np.array_equal(first.times, a.times)
    assert second.grid is None and np.array_equal(second.times, b.times)


def test_full_arrays_are_streams():
    x = np.ones((2, 3, 4), np.float32)
    assert ops.stream_concat([x, x]).lengths.tolist() == [6, 6]
    assert [s.lengths.tolist() for s in ops.stream_split(x, [1, 2])] == [[1, 1], [2, 2]]


def test_pool_takes_a_stream():
    s = stream([2, 0, 1])
    assert np.array_equal(ops.pool(s, mode="max").data, ops.pool(s.rows, s.offsets, "max").data)
    scores = np.zeros((3, 1), np.float32)
    got = ops.pool(s, mode="attention", scores=scores).data
    assert np.allclose(got, ops.pool(s).data) and not got[1].any()


def test_the_first_of_equal_rows_has_the_gradient_of_max():
    x = Tensor(np.ones((4, 20), np.float32), requires_grad=True)
    ops.pool(x, [0, 1, 4], "max").sum().backward()
    assert x.grad.sum(1).tolist() == [20, 20, 0, 0]


@pytest.mark.parametrize("mode", ["mean", "max", "attention"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_nan_is_not_hidden(mode, at):
    x = np.zeros((5, 20), np.float32)
    x[at, 3] = x[at, 17] = NAN
    scores = {"scores": np.zeros((5, 1), np.float32)} if mode == "attention" else {}
    y = ops.pool(x, [0, 3, 5], mode, **scores).data
    assert np.isnan(y[0, [3, 17]]).all() and np.isnan(y).sum() == 2


def test_max_of_infinities():
    x = np.full((2, 20), -INF, np.float32)
    assert (ops.pool(x, [0, 2], "max").data == -INF).all()


def test_scores_of_minus_infinity_leave_rows_out():
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((40, 6)).astype(np.float32), requires_grad=True)
    scores = rng.standard_normal((40, 2)).astype(np.float32)
    scores[5:30] = -INF  # all of the second sample's, some of the first's and third's
    scores = Tensor(scores, requires_grad=True)
    y = ops.attention_pool(x, [0, 8, 25, 40], scores)
    assert np.isfinite(y.data).all() and not y.data[1].any()
    left = ops.attention_pool(x.data[:5], [0, 5], scores.data[:5]).data
    assert np.allclose(y.data[0], left[0], atol=1e-6)
    y.sum().backward()
    assert not x.grad[5:30].any() and not scores.grad[5:30].any() and np.isfinite(scores.grad).all()
    assert x.grad[30:].any()


def test_large_scores_do_not_overflow():
    x, scores = np.eye(3, dtype=np.float32), np.array([[3e38], [0], [-3e38]], np.float32)
    assert np.array_equal(ops.attention_pool(x, [0, 3], scores).data, [[1, 0, 0]])


def test_grid_of_patches():
    s = ops.patch_embed(np.zeros((2, 8, 12, 3), np.float32), np.zeros((5, 3, 4, 2), np.float32))
    assert s.grid == (2, 6) and s.lengths.tolist() == [12, 12]


def test_patch_order():
    """Rows go along the picture, and a patch is (c, ph, pw)."""
    images = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    weight = np.eye(12, dtype=np.float32).reshape(12, 3, 2, 2)
    rows = ops.patch_embed(images, weight).rows.data.reshape(2, 2, 3, 12)
    for b, i, j in np.ndindex(2, 2, 3):
        patch = images[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        assert np.array_equal(rows[b, i, j], patch.transpose(2, 0, 1).ravel())


ROW = np.zeros((1, 3), np.float32)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: ops.stream_concat(stream([1])), TypeError, "streams is one Stream, expected a list"),
        (lambda: ops.stream_concat([]), ValueError, "streams has 0 entries, expected 1 to 12"),
        (lambda: ops.stream_concat([stream([1])] * 13), ValueError, "streams has 13 entries"),
        (lambda: ops.stream_concat([ROW]), ValueError, r"streams\[0\] has shape \(1, 3\), expected \(B, T, D\)"),
        (lambda: ops.stream_concat([ops.repeat_rows(ROW)]), ValueError, "samples is missing"),
        (
            lambda: ops.stream_concat([stream([1, 2]), stream([1, 2], 4)]),
            ValueError,
            r"rows\[1\] has shape \(3, 4\), expected \(\*, 3\), the width of the first",
        ),
        (
            lambda: ops.stream_concat([stream([1, 2]), ops.repeat_rows(ROW), stream([1])]),
            ValueError,
            r"offsets\[2\] has 1 samples, expected 2, as the streams before it",
        ),
        (
            lambda: ops.stream_concat([Stream(np.zeros(2, np.int64), [0, 2])]),
            TypeError,
            "stream_concat: rows has dtype int64",
        ),
        (lambda: ops.stream_split(stream([2]), []), ValueError, "parts has 0 entries"),
        (lambda: ops.stream_split(stream([2]), [None, None]), ValueError, "are None, expected at most one"),
        (lambda: ops.stream_split(stream([2]), [-1, None]), ValueError, r"parts\[0\] is -1"),
        (lambda: ops.stream_split(stream([2]), [1.5, None]), TypeError, r"parts\[0\] is 1.5, expected an int"),
        (
            lambda: ops.stream_split(stream([2]), [[0, 1, 2]]),
            ValueError,
            r"parts\[0\] has shape \(3,\), expected \(2,\)",
        ),
        (lambda: ops.stream_split(stream([2]), [3, None]), ValueError, "parts take 3 rows of sample 0, which has 2"),
        (lambda: ops.stream_split(stream([2, 4]), [2, 1]), ValueError, "parts take 3 rows of sample 0, expected 2"),
        (lambda: ops.stream_split(stream([2]), [[1, 2]]), ValueError, r"parts\[0\] starts at 1, expected 0"),
        (
            lambda: ops.stream_split(stream([3, 4]), [[0, 3, 2], None]),
            ValueError,
            r"parts\[0\]\[2\] is 2, below the 3 before it",
        ),
        (lambda: ops.pool(stream([2]), [0, 2]), TypeError, "leave offsets out"),
        (lambda: ops.linear(stream([2]), ROW), TypeError, "linear: x is a Stream, pass its rows or use nn.Linear"),
        (lambda: ops.mlp(stream([2]), ROW, None, ROW, None), TypeError, "mlp: x is a Stream, .* or use nn.MLP"),
        (lambda: ops.pool(ROW, [0, 1], "sum"), ValueError, "mode is 'sum', expected .* last, attention$"),
        (lambda: ops.pool(ROW, [0, 1], None, scores=ROW), ValueError, "mode is None, expected one of mean"),
        (lambda: ops.pool(ROW, [0, 1], scores=ROW), TypeError, "scores are for mode 'attention'"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


HUGE = np.array([0, 2**62, 2**62], np.int64)


@pytest.mark.parametrize(
    "name, inputs, attrs, error, message",
    [
        (
            "stream_concat",
            (ROW, [0, 2]),
            {"samples": -1},
            ValueError,
            "offsets ends at 2, expected 1, the number of rows",
        ),
        ("stream_concat", (ROW, [0, 1]), {"samples": 3}, ValueError, "offsets has 1 samples, expected 3, the argument"),
        (
            "stream_concat",
            (np.zeros(3, np.float32), None),
            {"samples": 1},
            ValueError,
            "rows has 1 dimension, expected 2",
        ),
        ("stream_concat", (np.zeros((4, 3), np.float32), None), {"samples": 2**61}, OverflowError, "too many rows"),
        ("stream_concat", (ROW, None), {"samples": 2**61}, OverflowError, "more than 2.63 bytes"),
        ("stream_split", (ROW, [0, 1], np.zeros((13, 2), np.int64)), None, ValueError, "parts has 13 entries"),
        ("stream_split", (ROW, [0, 1, 1], np.stack([HUGE] * 3)), None, ValueError, "rows of sample 0, expected 1"),
        ("stream_split", (ROW, [0, 1], [0, 1]), None, ValueError, r"parts has shape \(2,\), expected \(\*, 2\)"),
    ],
)
def test_checks_of_the_core(name, inputs, attrs, error, message):
    with pytest.raises(error, match=f"{name}: .*{message}" if error is not OverflowError else message):
        plait._core.operators[name](inputs, 0, attrs, 0, 0, None)


def test_one_matrix_may_stand_at_several_places():
    token = Tensor(np.zeros((1, 3), np.float32), requires_grad=True)
    x = Tensor(np.ones((3, 3), np.float32), requires_grad=True)
    s = Stream(x, [0, 2, 3])
    y = ops.stream_concat([ops.repeat_rows(token), s, ops.repeat_rows(token), s])
    y.rows.sum().backward()
    assert (token.grad == 4).all() and (x.grad == 2).all()


@pytest.mark.parametrize("mode", ["mean", "max", "first", "last", "attention"])
def test_pooling_a_sample_alone_gives_the_same_bits(mode):
    s = stream([7, 0, 40, 1, 19], width=72)
    scores = np.random.default_rng(1).standard_normal((67, 3)).astype(np.float32)

    def pooled(begin, end):
        rows = slice(s.offsets[begin], s.offsets[end])
        more = {"scores": scores[rows]} if mode == "attention" else {}
        return ops.pool(s[begin:end], mode=mode, **more).data

    together = pooled(0, 5)
    for b in range(5):
        assert np.array_equal(pooled(b, b + 1)[0], together[b])
