"""Losses against PyTorch, where it is installed."""

import numpy as np
import pytest
from cases import relative_error

import plait
from plait import losses

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
functional = torch.nn.functional


def pair(n, width, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, width))
    b = 0.5 * a + rng.standard_normal((n, width))
    return [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (a, b)]


def compare(ours, theirs, arrays, tolerance=1e-5):
    """Value and gradients of two functions of the same arrays, theirs in float64."""
    mine = [plait.Tensor(x, requires_grad=True) for x in arrays]
    other = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    value, expected = ours(*mine), theirs(*other)
    value.backward(np.ones(value.shape, np.float32))
    expected.backward(torch.ones_like(expected))
    assert relative_error(value.data, expected.detach().numpy()) <= tolerance
    for m, o in zip(mine, other, strict=True):
        assert relative_error(m.grad, o.grad.numpy()) <= tolerance


def clip_loss(a, b, s):
    logits = s.exp() * a @ b.T
    labels = torch.arange(len(a))
    return (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2


@pytest.mark.parametrize(("n", "scale"), [(7, 0.0), (256, 4.6), (700, 2.66), (1100, 2.66)])
def test_info_nce(n, scale):
    compare(losses.info_nce, clip_loss, (*pair(n, 40), np.full((), scale, np.float32)))


def test_info_nce_present():
    keep = np.random.default_rng(2).random(60) < 0.5
    compare(
        lambda a, b, s: losses.info_nce(a, b, s, present=keep),
        lambda a, b, s: clip_loss(a[keep], b[keep], s),
        (*pair(60, 24), np.full((1,), 2.0, np.float32)),
    )


SIGMOID = [(7, 0.0, 0.0), (256, 2.3, -10.0), (700, 2.3, -4.0), (1100, 2.3, -4.0)]


@pytest.mark.parametrize(("n", "scale", "bias"), SIGMOID)
def test_sigmoid_contrastive(n, scale, bias):
    def siglip(a, b, s, c):
        logits = a @ b.T * s.exp() + c
        return -functional.logsigmoid((2 * torch.eye(len(a)) - 1) * logits).sum() / len(a)

    scalars = [np.full((), x, np.float32) for x in (scale, bias)]
    compare(losses.sigmoid_contrastive, siglip, (*pair(n, 40), *scalars))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("smoothing", "weighted"), [(0.0, False), (0.2, False), (0.2, True)])
def test_cross_entropy(reduction, smoothing, weighted):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 21, 50)
    labels[::7] = -100
    weight = rng.random(21).astype(np.float32) if weighted else None
    compare(
        lambda x: losses.cross_entropy(x, labels, smoothing, reduction=reduction, weight=weight),
        lambda x: functional.cross_entropy(
            x,
            torch.from_numpy(labels),
            label_smoothing=smoothing,
            reduction=reduction,
            weight=None if weight is None else torch.tensor(weight, dtype=torch.float64),
        ),
        (3 * rng.standard_normal((50, 21)).astype(np.float32),),
    )
