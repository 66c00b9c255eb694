"""Optimiser kernels against their formulas in float64."""

import math

import numpy as np
import pytest

import plait
from plait import _core

SIZES = (1, 15, 16, 1000, 3 * 16384 + 5)


def arena(n, seed=0, count=4):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(n).astype(np.float32) for _ in range(count)]
    if count == 4:
        arrays[3] = np.abs(arrays[3])
    return arrays


def segments_of(n):
    """Two segments with a gap and values behind the last one."""
    a, b = n // 3, n - n // 4
    return [(0, a, 1e-2, 0.1), (min(a + 2, b), b, 3e-3, 0.0)]


def adamw(p, g, m, v, segments, beta1, beta2, eps, step, scale):
    p, g, m, v = (x.astype(np.float64) for x in (p, g, m, v))
    for begin, end, lr, decay in segments:
        s = slice(begin, end)
        p[s], m[s], v[s] = plait.reference.adamw(p[s], g[s] * scale, m[s], v[s], lr, (beta1, beta2), eps, decay, step)
    return p, m, v


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("step", [1, 7, 100000])
def test_adamw(n, step):
    p, g, m, v = arena(n)
    before, grad = p.copy(), g.copy()
    segments = segments_of(n)
    expected = adamw(p, g, m, v, segments, 0.9, 0.98, 1e-6, step, 0.5)
    _core.adamw_step(p, g, m, v, segments, 0.9, 0.98, 1e-6, step, 0.5)
    for got, due in zip((p, m, v), expected, strict=True):
        np.testing.assert_allclose(got, due, rtol=2e-6, atol=2e-7)
    np.testing.assert_array_equal(g, grad)
    outside = np.ones(n, bool)
    for begin, end, *_ in segments:
        outside[begin:end] = False
    np.testing.assert_array_equal(p[outside], before[outside])
    assert n < 3 or not np.array_equal(p, before)


def sgd(p, g, m, segments, momentum, nesterov, scale):
    p, g, m = (x.astype(np.float64) for x in (p, g, m))
    for begin, end, lr, decay in segments:
        s = slice(begin, end)
        d = g[s] * scale + decay * p[s]
        if momentum:
            m[s] = momentum * m[s] + d
            d = d + momentum * m[s] if nesterov else m[s]
        p[s] -= lr * d
    return p, m


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(n, momentum, nesterov):
    p, g, m = arena(n, count=3)
    segments = segments_of(n)
    expected = sgd(p, g, m, segments, momentum, nesterov, 0.7)
    _core.sgd_step(p, g, m, segments, momentum, nesterov, 0.7)
    for got, due in zip((p, m), expected, strict=True):
        np.testing.assert_allclose(got, due, rtol=2e-6, atol=2e-7)


def test_sgd_without_momentum_needs_no_array():
    p, g, m = arena(100, count=3)
    q = p.copy()
    _core.sgd_step(p, g, m, [(0, 100, 0.1, 0.0)], 0.0, False, 1.0)
    _core.sgd_step(q, g, None, [(0, 100, 0.1, 0.0)], 0.0, False, 1.0)
    np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("n", SIZES)
def test_sum_squares(n):
    (x,) = arena(n, count=1)
    spans = [(begin, end) for begin, end, *_ in segments_of(n)]
    due = sum(float(np.sum(x[b:e].astype(np.float64) ** 2)) for b, e in spans)
    assert math.isclose(_core.sum_squares(x, spans), due, rel_tol=1e-12)
    assert _core.sum_squares(x, []) == 0.0


def test_sum_squares_does_not_overflow_and_shows_nan():
    x = np.full(20, 1e30, np.float32)
    assert math.isclose(_core.sum_squares(x, [(0, 20)]), 20 * float(np.float32(1e30)) ** 2, rel_tol=1e-12)
    x[3] = np.nan
    assert math.isnan(_core.sum_squares(x, [(0, 20)]))


def test_threads_do_not_change_bits():
    n = 5 * 16384 + 77
    results = []
    before = plait.get_num_threads()
    try:
        for threads in (1, 2, 3):
            plait.set_num_threads(threads)
            p, g, m, v = arena(n)
            norm = _core.sum_squares(g, [(0, n)])
            _core.adamw_step(p, g, m, v, [(0, n, 1e-3, 0.01)], 0.9, 0.999, 1e-8, 3, 1.0)
            results.append((norm, p, m, v))
    finally:
        plait.set_num_threads(before)
    for other in results[1:]:
        assert other[0] == results[0][0]
        for a, b in zip(other[1:], results[0][1:], strict=True):
            np.testing.assert_array_equal(a, b)


def call(p=None, g=None, m=None, v=None, segments=None, beta1=0.9, beta2=0.999, eps=1e-8, step=1, scale=1.0):
    arrays = [np.zeros(8, np.float32) if a is None else a for a in (p, g, m, v)]
    _core.adamw_step(*arrays, [(0, 8, 0.1, 0.0)] if segments is None else segments, beta1, beta2, eps, step, scale)


READ_ONLY = np.zeros(8, np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"p": np.zeros(8)}, TypeError, "p must be a one-dimensional contiguous float32 array"),
        ({"g": np.zeros((2, 4), np.float32)}, TypeError, "g must be a one-dimensional"),
        ({"m": np.zeros(16, np.float32)[::2]}, TypeError, "m must be a one-dimensional contiguous"),
        ({"v": np.zeros(8, ">f4")}, TypeError, "v must be"),
        ({"v": [0.0] * 8}, TypeError, "v must be"),
        ({"m": np.zeros(7, np.float32)}, ValueError, "m has 7 values, expected 8"),
        ({"p": READ_ONLY}, ValueError, "p is read-only"),
        ({"segments": [(0, 9, 0.1, 0.0)]}, ValueError, r"segments\[0\] is 0 to 9, expected to lie within 0 to 8"),
        ({"segments": [(-1, 4, 0.1, 0.0)]}, ValueError, r"segments\[0\] is -1 to 4"),
        ({"segments": [(4, 2, 0.1, 0.0)]}, ValueError, r"segments\[0\] is 4 to 2"),
        ({"segments": [(0, 4, 0.1, 0.0), (3, 8, 0.1, 0.0)]}, ValueError, r"segments\[1\] begins at 3, before the end"),
        ({"segments": [(0, 4, math.nan, 0.0)]}, ValueError, r"segments\[0\] has rate nan"),
        ({"segments": [(0, 4)]}, TypeError, r"segments\[0\] is \(0, 4\), expected a tuple \(begin, end, lr"),
        ({"segments": 3}, TypeError, "expected a list"),
        ({"beta1": 1.0}, ValueError, "beta1 is 1, expected at least 0 and below 1"),
        ({"beta2": math.nan}, ValueError, "beta2 is nan"),
        ({"eps": -1.0}, ValueError, "eps is -1, expected a finite number"),
        ({"step": 0}, ValueError, "step is 0, expected at least 1"),
        ({"scale": math.inf}, ValueError, "grad_scale is inf"),
    ],
)
def test_errors(changed, error, message):
    with pytest.raises(error, match=message):
        call(**changed)


def test_read_only_gradient_is_fine():
    call(g=READ_ONLY)
