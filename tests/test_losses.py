"""What the rows of the losses do not show: memory, threads, scalars on the tape, extremes."""

import numpy as np
import pytest

import plait
from plait import losses


def pair(n, width, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((n, width)) for _ in range(2)]
    return [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(dtype) for x in rows]


def leaves(*arrays):
    return [plait.Tensor(x, requires_grad=True) for x in arrays]


def scalar(value, shape=()):
    return np.full(shape, value, np.float32)


CONTRASTIVE = {
    "info_nce": losses.info_nce,
    "sigmoid_contrastive": lambda a, b, s, **k: losses.sigmoid_contrastive(a, b, s, -1.0, **k),
}
contrastive = pytest.mark.parametrize("loss", CONTRASTIVE.values(), ids=CONTRASTIVE)


@contrastive
def test_memory_grows_with_pairs_and_not_their_square(loss):
    n, width = 16384, 64
    a, b, s = leaves(*pair(n, width), scalar(3.0))
    plait._core.empty_cache()
    before = plait._core.counters()["live_bytes"]
    loss(a, b, s).backward()
    # the pool keeps what was used: gradients (8 MiB), 64 MiB of products, statistics, oneDNN's scratch; all: 1 GiB
    extra = plait._core.counters()["live_bytes"] - before
    assert 4 * n * width * 2 <= extra < 100e6, extra
    assert np.isfinite(s.grad) and np.any(a.grad) and np.any(b.grad)


@contrastive
@pytest.mark.parametrize("share", [None, 0.9])
def test_bits_do_not_depend_on_threads(loss, share):
    arrays = (*pair(700, 48), scalar(3.0))
    present = None if share is None else np.random.default_rng(3).random(700) < share
    before, results = plait.get_num_threads(), []
    try:
        for threads in (1, 1, 2, 2, 5):
            plait.set_num_threads(threads)
            tensors = leaves(*arrays)
            value = loss(*tensors, present=present)
            value.backward()
            results.append([value.data, *[t.grad for t in tensors]])
    finally:
        plait.set_num_threads(before)
    for got in results[1:]:
        for x, y in zip(got, results[0], strict=True):
            np.testing.assert_array_equal(x, y)


@contrastive
@pytest.mark.parametrize("n", [40, 64, 600])
def test_gradients_add_up(loss, n):
    """A second backward adds, in place or through scratch, with and without absent pairs."""
    present = np.arange(n) % 3 != 0
    arrays = (*pair(n, 16), scalar(1.0, (1,)))
    once = []
    for flags in (None, present):
        tensors = leaves(*arrays)
        loss(*tensors, present=flags).backward()
        once.append([t.grad.copy() for t in tensors])
    tensors = leaves(*arrays)
    for flags in (None, present):
        loss(*tensors, present=flags).backward()
    for t, first, second in zip(tensors, *once, strict=True):
        np.testing.assert_allclose(t.grad, first + second, rtol=1e-5, atol=1e-8)


@contrastive
def test_absent_pairs_are_as_if_they_were_not_there(loss):
    a, b = pair(90, 16)
    present = np.random.default_rng(1).random(90) < 0.7
    a[~present] = np.nan
    whole, part = leaves(a, b, scalar(2.0)), leaves(a[present], b[present], scalar(2.0))
    value, expected = loss(*whole, present=present), loss(*part)
    value.backward()
    expected.backward()
    np.testing.assert_allclose(value.data, expected.data, rtol=1e-6)
    for t, e in zip(whole[:2], part[:2], strict=True):
        np.testing.assert_array_equal(t.grad[~present], 0)
        np.testing.assert_allclose(t.grad[present], e.grad, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(whole[2].grad, part[2].grad, rtol=1e-5)


@contrastive
def test_scalars_of_shape_nothing_add_up_on_the_tape(loss):
    """The scale may be used several times, and may itself be computed."""
    a, b = pair(20, 8)
    s = plait.Tensor(scalar(1.0), requires_grad=True)
    t = s * 1.0
    (loss(a, b, t) + loss(b, a, t) + loss(a, b, s) + loss(a, b, s)).backward()
    loss(a, b, s).backward()
    once = plait.Tensor(scalar(1.0), requires_grad=True)
    loss(a, b, once).backward()
    np.testing.assert_allclose(s.grad, 5 * once.grad, rtol=1e-4)


@contrastive
def test_nan_in_a_row_shows(loss):
    a, b = pair(30, 8)
    a[4, 2] = np.nan
    assert np.isnan(loss(a, b, 1.0).item())


def test_info_nce_of_large_logits():
    """Logits of 10,000 neither overflow nor lose the loss."""
    a, b, s = leaves(100 * np.eye(30, dtype=np.float32), np.eye(30, dtype=np.float32), scalar(np.log(100.0)))
    value = losses.info_nce(a, b, s)
    value.backward()
    assert value.item() == 0.0 and np.all(np.isfinite(a.grad)) and np.all(np.isfinite(s.grad))
    wrong = losses.info_nce(a, np.roll(b.data, 1, axis=0), s)
    np.testing.assert_allclose(wrong.item(), 1e4, rtol=1e-6)


def test_info_nce_of_equal_rows_is_the_log_of_their_number():
    a = np.ones((77, 8), np.float32)
    np.testing.assert_allclose(losses.info_nce(a, a, 1.0).item(), np.log(77), rtol=1e-6)


def test_cross_entropy_present_is_ignoring():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((12, 5)).astype(np.float32), rng.integers(0, 5, 12)
    present = np.arange(12) % 4 != 1
    whole, part = leaves(x, x[present])
    value = losses.cross_entropy(whole, np.where(present, labels, 77), present=present)
    expected = losses.cross_entropy(part, labels[present])
    value.backward()
    expected.backward()
    np.testing.assert_allclose(value.data, expected.data, rtol=1e-6)
    np.testing.assert_allclose(whole.grad[present], part.grad, rtol=1e-6)
    np.testing.assert_array_equal(whole.grad[~present], 0)


def test_cross_entropy_of_ignored_rows_is_zero_whatever_they_hold():
    (x,) = leaves(np.full((4, 3), np.nan, np.float32))
    value = losses.cross_entropy(x, [-100] * 4)
    value.backward()
    assert value.item() == 0.0
    np.testing.assert_array_equal(x.grad, 0)


def test_cross_entropy_of_masked_classes():
    """A logit of minus infinity is a class that cannot be."""
    x = np.array([[0.0, 1.0, -np.inf]], np.float32)
    (t,) = leaves(x)
    value = losses.cross_entropy(t, [1])
    value.backward()
    np.testing.assert_allclose(value.item(), np.log1p(np.exp(-1.0)), rtol=1e-6)
    assert t.grad[0, 2] == 0 and np.all(np.isfinite(t.grad))
    assert losses.cross_entropy(x, [2]).item() == np.inf


def test_cross_entropy_weight_has_no_gradient():
    x, w = leaves(np.zeros((2, 3), np.float32), np.ones(3, np.float32))
    with pytest.raises(NotImplementedError, match="weight has no gradient"):
        losses.cross_entropy(x, [0, 1], weight=w)
