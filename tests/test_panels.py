"""Products of linear layers at sizes around those that the kernels take at a time: values, and what bits depend on."""

import ml_dtypes
import numpy as np
import pytest

import plait
from plait import nn

WIDTHS = [(1, 1), (3, 5), (16, 15), (17, 16), (40, 33), (64, 48), (100, 63), (128, 64), (129, 65)]
WIDTHS += [(300, 200), (2048, 40)]
ROWS = [1, 2, 5, 6, 7, 12, 13, 47, 48, 49, 97]
PRECISIONS = [p for p in ("f32", "bf16", "int8") if plait._core.has(p)]
TRAINING = [p for p in PRECISIONS if p != "int8"]


def values(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def layer(k, n, precision="f32", bias=True):
    made = nn.Linear(k, n, bias=bias)
    made.weight.assign(values(n, k))
    if bias:
        made.bias.assign(values(n))
    return made.to(precision).eval().freeze() if precision != "f32" else made.eval().freeze()


def error(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.fixture
def threads():
    before = plait.get_num_threads()
    yield plait.set_num_threads
    plait.set_num_threads(before)


@pytest.mark.parametrize(("k", "n"), WIDTHS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_depend_on_the_row_alone(k, n, precision, threads):
    linear, x = layer(k, n, precision), values(ROWS[-1], k)
    threads(1)
    want = linear(x).numpy()
    for count in (1, 2, 5):
        threads(count)
        for rows in ROWS:
            got = linear(x[:rows]).numpy()
            np.testing.assert_array_equal(got, want[:rows], err_msg=f"{rows} rows, {count} threads")
        np.testing.assert_array_equal(linear(x[7:]).numpy(), want[7:])


@pytest.mark.parametrize(("k", "n"), WIDTHS)
def test_float32_against_float64(k, n):
    x, linear = values(50, k), layer(k, n)
    want = x.astype(np.float64) @ linear.weight.numpy().T.astype(np.float64) + linear.bias.numpy()
    assert error(linear(x).numpy(), want) < 1e-6


@pytest.mark.skipif("bf16" not in PRECISIONS, reason="this processor has no products of bfloat16")
@pytest.mark.parametrize(("k", "n"), WIDTHS)
def test_bfloat16_against_float64_of_the_rounded_operands(k, n):
    x, linear = values(50, k), layer(k, n, bias=False)
    rounded = [a.astype(ml_dtypes.bfloat16).astype(np.float64) for a in (x, linear.weight.numpy())]
    got = linear.to("bf16").eval().freeze()(x).numpy()
    assert error(got, rounded[0] @ rounded[1].T) < 1e-6


@pytest.mark.parametrize("precision", TRAINING)
@pytest.mark.parametrize("rows", [1, 2, 3, 15, 16, 17, 63, 64, 65, 130, 1663, 3329, 5001])
def test_weight_gradients_against_float64(rows, precision):
    """Rows are the inner dimension there."""
    for k, n in ((1, 1), (8, 1), (1, 7), (3, 5), (40, 33), (65, 130)):
        linear = nn.Linear(k, n)
        linear.train(precision=precision)
        x, dy = values(rows, k), values(rows, n) + 1
        linear(x).backward(dy)
        a, b = (dy, x) if precision == "f32" else (v.astype(ml_dtypes.bfloat16) for v in (dy, x))
        want = np.asarray(a, np.float64).T @ np.asarray(b, np.float64)
        assert error(linear.weight.grad, want) < 2e-6


@pytest.mark.parametrize("precision", TRAINING)
def test_gradients_add_to_what_is_there(precision):
    linear = nn.Linear(40, 70)
    linear.train(precision=precision)
    x, dy = plait.Tensor(values(33, 40), requires_grad=True), values(33, 70)
    linear(x).backward(dy)
    once = x.grad.copy(), linear.weight.grad.copy()
    linear(x).backward(dy)
    for twice, one in zip((x.grad, linear.weight.grad), once, strict=True):
        np.testing.assert_allclose(twice, 2 * one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_no_number_stays_in_its_row(precision, value):
    for k, n in ((40, 33), (42, 70), (43, 70)):
        linear, x = layer(k, n, precision), values(13, k)
        want = linear(x).numpy()
        x[4, k - 1] = value
        got = linear(x).numpy()
        assert not np.isfinite(got[4]).any()
        np.testing.assert_array_equal(np.delete(got, 4, 0), np.delete(want, 4, 0))
