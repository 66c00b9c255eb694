"""Stream and as_stream: what they hold, how they come apart, what they refuse."""

import pickle

import numpy as np
import pytest

import plait
from plait import Stream, Tensor, as_stream


def make(kind=np.asarray, **more):
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    return Stream(kind(rows), [0, 2, 2, 5, 6], **more)


def test_attributes():
    s = make(times=np.arange(6) / 10)
    assert len(s) == 4
    assert s.lengths.tolist() == [2, 0, 3, 1] and s.lengths.dtype == np.int64
    assert s.offsets.dtype == np.int64
    assert s.present.tolist() == [True, False, True, True]
    assert s.times.dtype == np.float64
    assert s.grid is None
    assert repr(s) == "Stream(4 samples, 6 rows of (3,), float32, lengths 0 to 3, times)"


def test_rows_are_kept_as_given():
    rows = np.zeros((2, 3), np.float32)
    assert Stream(rows, [0, 2]).rows is rows
    tensor = Tensor(rows, requires_grad=True)
    assert Stream(tensor, [0, 2]).rows is tensor


def test_offsets_are_a_copy_that_cannot_be_written():
    offsets = np.array([0, 2], np.int32)
    s = Stream(np.zeros((2, 3)), offsets)
    offsets[1] = 9
    assert s.offsets.tolist() == [0, 2]
    with pytest.raises(ValueError, match="read-only"):
        s.offsets[0] = 1


@pytest.mark.parametrize(
    "index, ids",
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        (slice(2, 1), []),
        (slice(3, None), [3]),
        ([2, 0, 2], [2, 0, 2]),
        (np.array([-1, 1]), [3, 1]),
        (np.array([True, False, False, True]), [0, 3]),
        ([], []),
    ],
    ids=str,
)
def test_index(index, ids):
    times = np.arange(6.0) * 2
    s = make(times=times)
    part = s[index]
    assert len(part) == len(ids)
    Stream(part.rows, part.offsets, part.times)  # passes every check
    for i, j in enumerate(ids):
        assert np.array_equal(part[i], s[j])
        begin, end = part.offsets[i : i + 2]
        assert np.array_equal(part.times[begin:end], times[s.offsets[j] : s.offsets[j + 1]])


def test_one_sample():
    s = make()
    assert s[-1].tolist() == [[15, 16, 17]]
    assert s[1].shape == (0, 3)
    assert [len(rows) for rows in s] == [2, 0, 3, 1]


@pytest.mark.parametrize(
    "index, error, message",
    [
        (4, IndexError, "sample 4 of 4"),
        (-5, IndexError, "sample -5 of 4"),
        ([0, 7], IndexError, "sample 7 of 4"),
        (np.zeros(3, bool), IndexError, "a mask of 3, expected 4"),
        (True, TypeError, "cannot be indexed with True"),
        ((0, 1, 2.5), TypeError, "cannot be indexed"),
        (np.zeros((1, 1), int), TypeError, "cannot be indexed"),
    ],
    ids=str,
)
def test_wrong_index(index, error, message):
    with pytest.raises(error, match=message):
        make()[index]


def test_grid():
    rows = np.zeros((12, 2))
    assert Stream(rows, [0, 6, 6, 12], grid=(2, 3)).grid == (2, 3)
    assert Stream(rows, [0, 12], grid=[2, 2, 3]).grid == (2, 2, 3)
    each = Stream(rows, [0, 8, 8, 12], grid=[[2, 4], [0, 0], [4, 1]])
    assert each.grid.tolist() == [[2, 4], [0, 0], [4, 1]]
    assert each[[2, 1]].grid.tolist() == [[4, 1], [0, 0]]
    assert each[1:].grid.tolist() == [[0, 0], [4, 1]]
    assert "grid each" in repr(each)


def test_padded_and_back():
    s = make()
    x, lengths = s.padded()
    assert x.shape == (4, 3, 3) and lengths.tolist() == [2, 0, 3, 1]
    for b in range(4):
        assert np.array_equal(x[b, : lengths[b]], s[b])
        assert not x[b, lengths[b] :].any()
    x[0, 2:] = np.nan  # what lies behind a sample is not read
    back = Stream.from_padded(x, lengths)
    assert np.array_equal(back.rows, s.rows) and np.array_equal(back.offsets, s.offsets)


def test_padded_of_full_streams_is_a_view():
    rows = np.zeros((6, 2))
    x, _ = Stream(rows, [0, 3, 6]).padded()
    assert x.shape == (2, 3, 2) and np.shares_memory(x, rows)


@pytest.mark.parametrize("offsets", [[0], [0, 0, 0]])
def test_no_rows(offsets):
    s = Stream(np.zeros((0, 4), np.float32), offsets)
    x, lengths = s.padded()
    assert x.shape == (len(offsets) - 1, 0, 4) and len(lengths) == len(s)
    assert len(Stream.from_padded(x, lengths)) == len(s)
    assert s[:0].rows.shape == (0, 4)
    assert as_stream(x).rows.shape == (0, 4)


def test_from_list():
    s = Stream.from_list([np.ones((2, 3)), None, np.zeros((0, 3)), np.ones((1, 3))], times=[[0, 1], None, [], [5]])
    assert s.lengths.tolist() == [2, 0, 0, 1] and s.times.tolist() == [0, 1, 5]
    assert Stream.from_list([[1, 2], [3]]).rows.tolist() == [1, 2, 3]  # token ids
    assert Stream.from_list([[[1.0, 2.0]]]).rows.dtype == np.float32


def test_with_rows():
    s = make(times=np.zeros(6))
    t = s.with_rows(np.ones((6, 5)))
    assert t.offsets is s.offsets and t.times is s.times and t.rows.shape == (6, 5)
    with pytest.raises(ValueError, match=r"rows has shape \(5, 5\), expected 6 rows"):
        s.with_rows(np.ones((5, 5)))


def test_pickle():
    s = pickle.loads(pickle.dumps(make(times=np.zeros(6))))
    assert s.lengths.tolist() == [2, 0, 3, 1]


NAN = float("nan")


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"rows": 3.0}, ValueError, "rows is a single number"),
        ({"rows": np.array(["a"])}, TypeError, "rows has dtype <U1, expected numbers"),
        ({"rows": [[1], [2, 3]]}, ValueError, "rows is not one array"),
        ({"offsets": [0.0, 6.0]}, TypeError, "offsets has dtype float64, expected integers"),
        ({"offsets": [[0, 6]]}, ValueError, r"offsets has shape \(1, 2\), expected \(B \+ 1,\)"),
        ({"offsets": []}, ValueError, r"offsets has shape \(0,\)"),
        ({"offsets": [1, 6]}, ValueError, r"offsets\[0\] is 1, expected 0"),
        ({"offsets": [0, 4, 3, 6]}, ValueError, r"offsets\[2\] is 3, below the 4 before it"),
        ({"offsets": [0, 5]}, ValueError, "offsets ends at 5, expected 6, the number of rows"),
        ({"offsets": np.array([0, 2**63], np.uint64)}, ValueError, r"offsets\[1\] is -"),
        ({"times": np.zeros(5)}, ValueError, r"times has shape \(5,\), expected \(6,\)"),
        ({"times": [0, 1, 2, NAN, 4, 5]}, ValueError, r"times\[3\] is nan, expected a finite"),
        ({"grid": (2, 2)}, ValueError, "grid has 4 cells, but sample 0 has 6 rows"),
        ({"grid": (6,)}, ValueError, r"grid has shape \(1,\), expected \(H, W\)"),
        ({"grid": [[2, 3], [2, 3]]}, ValueError, "one of them for each of the 1 samples"),
        ({"grid": (2.0, 3.0)}, TypeError, "grid has dtype float64, expected integers"),
        ({"grid": (-2, -3)}, ValueError, "expected sizes of at least 1"),
    ],
    ids=str,
)
def test_stream_errors(arguments, error, message):
    with pytest.raises(error, match=f"Stream: .*{message}"):
        Stream(**{"rows": np.zeros((6, 2)), "offsets": [0, 6], **arguments})


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: Stream.from_list([None]), ValueError, "from_list: samples holds no array"),
        (
            lambda: Stream.from_list([np.ones((1, 2)), np.ones((1, 3))]),
            ValueError,
            r"samples\[1\] has shape \(1, 3\), expected \(\*, 2\)",
        ),
        (lambda: Stream.from_list([np.ones((1, 2))], times=[[1, 2]]), ValueError, "from_list: times has shapes"),
        (lambda: Stream.from_padded(np.zeros((2, 3, 1)), [1, 4]), ValueError, r"lengths\[1\] is 4, expected 0 to 3"),
        (lambda: Stream.from_padded(np.zeros((2, 3, 1)), [1]), ValueError, r"lengths has shape \(1,\), expected \(2,"),
        (lambda: Stream.from_padded(np.zeros((2, 3, 1)), [1.0, 2.0]), TypeError, "lengths has dtype float64"),
        (lambda: Stream.from_padded(np.zeros(2), [1, 1]), ValueError, r"x has shape \(2,\)"),
        (lambda: as_stream(np.zeros((4, 3))), ValueError, r"x has shape \(4, 3\), expected \(B, T, D\); make a Stream"),
        (lambda: as_stream(np.zeros((4, 3)), name="text"), ValueError, r"text has shape \(4, 3\)"),
        (lambda: as_stream(np.zeros((1, 2, 2, 3))), ValueError, "pictures need layout='NHWC' or 'NCHW'"),
        (lambda: as_stream(np.zeros((2, 2, 3)), "NHWC"), ValueError, r"expected \(B, H, W, C\)"),
        (lambda: as_stream(np.zeros((2, 2, 3)), "HWC"), ValueError, "layout is 'HWC'"),
        (lambda: as_stream(None), TypeError, "x has dtype object"),
    ],
)
def test_other_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_as_stream():
    s = make()
    assert as_stream(s) is s
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3))
    nhwc, nchw = as_stream(x, "NHWC"), as_stream(x.transpose(0, 3, 1, 2), "NCHW")
    assert nhwc.grid == nchw.grid == (4, 5) and nhwc.offsets.tolist() == [0, 20, 40]
    assert np.array_equal(nhwc.rows, x.reshape(40, 3)) and np.array_equal(nchw.rows, nhwc.rows)
    assert np.array_equal(as_stream(x[0])[1], x[0, 1])


@pytest.mark.parametrize(
    "function, leaf",
    [
        (lambda t: Stream(t, [0, 2, 2, 5, 6]).padded()[0], (6, 3)),
        (lambda t: Stream(t, [0, 3, 6]).padded()[0], (6, 3)),
        (lambda t: Stream(t, [0, 2, 2, 5, 6])[2], (6, 3)),
        (lambda t: Stream(t, [0, 2, 2, 5, 6])[1:3].rows, (6, 3)),
        (lambda t: Stream(t, [0, 2, 2, 5, 6])[[3, 0]].rows, (6, 3)),
        (lambda t: Stream(t, [0, 2, 2, 5, 6])[[2, 3, 2]].rows, (6, 3)),
        (lambda t: Stream.from_padded(t, [2, 0, 3]).rows, (3, 3, 2)),
        (lambda t: Stream.from_padded(t, [3, 3]).rows, (2, 3, 2)),
        (lambda t: as_stream(t).rows, (2, 3, 2)),
        (lambda t: as_stream(t, "NHWC").rows, (2, 2, 3, 4)),
        (lambda t: as_stream(t, "NCHW").rows, (2, 4, 2, 3)),
        (lambda t: Stream.from_list([t, np.ones((2, 3)), t]).rows, (6, 3)),
    ],
)
def test_gradient(function, leaf):
    """These are linear maps of 0 and 1, so <dout, f(x)> must equal <f^T dout, x>."""
    rng = np.random.default_rng(3)
    x = Tensor(rng.standard_normal(leaf), requires_grad=True)
    zero = function(Tensor(np.zeros(leaf)))  # rows that do not come from x
    y = function(x)
    dout = rng.standard_normal(y.shape)
    for _ in range(2):  # the second adds to the first
        y = function(x)
        y.backward(dout)
    assert np.isclose(np.sum(x.grad * x.data), 2 * np.sum(dout * (y.data - zero.data)))
    with plait.no_grad():
        assert not function(x).requires_grad
