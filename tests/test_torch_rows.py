"""Operators on rows against PyTorch."""

import numpy as np
import pytest

import plait
from plait import losses, ops

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the comparison environment has it")
F = torch.nn.functional


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rotate_half(x, cos, sin):
    """As in GPT-NeoX."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def rotate_every_two(x, cos, sin):
    """As in GPT-J."""
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * cos + turned * sin


def torch_rope(x, heads, interleaved):
    n, width = x.shape[0], x.shape[1] // heads
    angle = torch.outer(torch.arange(n).double(), 10000 ** (-torch.arange(0, width, 2).double() / width))
    angle = angle.repeat_interleave(2, 1) if interleaved else torch.cat([angle, angle], 1)
    cos, sin = angle.cos().float()[:, None], angle.sin().float()[:, None]
    turn = rotate_every_two if interleaved else rotate_half
    return turn(x.view(n, heads, width), cos, sin).flatten(1)


IDS = np.random.default_rng(9).integers(0, 20, 50)
# name: (plait, torch, inputs that have gradients)
PAIRS = {
    "relu": (ops.relu, F.relu, [array(13, 33)]),
    "gelu": (ops.gelu, F.gelu, [array(13, 33)]),
    "gelu-tanh": (lambda x: ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), [array(13, 33)]),
    "quick_gelu": (ops.quick_gelu, lambda x: x * torch.sigmoid(1.702 * x), [array(13, 33)]),
    "silu": (ops.silu, F.silu, [array(13, 33)]),
    "tanh": (ops.tanh, torch.tanh, [array(13, 33)]),
    "sigmoid": (ops.sigmoid, torch.sigmoid, [array(13, 33)]),
    "layer_norm": (
        lambda x, w, b: ops.layer_norm(x, w, b, 1e-6),
        lambda x, w, b: F.layer_norm(x, (70,), w, b, 1e-6),
        [array(130, 70), array(70, seed=1), array(70, seed=2)],
    ),
    "layer_norm-mean": (ops.layer_norm, lambda x: F.layer_norm(x, (300,)), [array(9, 300) + 50]),
    "rms_norm": (
        ops.rms_norm,
        lambda x, w: F.rms_norm(x, (70,), w, 1e-6),
        [array(130, 70), array(70, seed=1)],
    ),
    "l2_normalize": (ops.l2_normalize, lambda x: F.normalize(x, dim=-1), [array(13, 33)]),
    "embedding": (
        lambda w: ops.embedding(IDS, w),
        lambda w: F.embedding(torch.tensor(IDS), w),
        [array(20, 17)],
    ),
    "embedding-padding": (
        lambda w: ops.embedding(IDS, w, padding_idx=3),
        lambda w: F.embedding(torch.tensor(IDS), w, padding_idx=3),
        [array(20, 17)],
    ),
    "rope": (lambda x: ops.rope(x, [0, 40], 3), lambda x: torch_rope(x, 3, False), [array(40, 60)]),
    "rope-pairs": (
        lambda x: ops.rope(x, [0, 40], 3, interleaved=True),
        lambda x: torch_rope(x, 3, True),
        [array(40, 60)],
    ),
    "mse": (losses.mse, F.mse_loss, [array(13, 33), array(13, 33, seed=1)]),
    "l1": (losses.l1, F.l1_loss, [array(13, 33), array(13, 33, seed=1)]),
    "huber": (
        lambda a, b: losses.huber(a, b, 0.5),
        lambda a, b: F.huber_loss(a, b, delta=0.5),
        [array(13, 33), array(13, 33, seed=1)],
    ),
}


def close(got, expected):
    expected = expected.detach().numpy()
    assert got.shape == expected.shape
    assert np.linalg.norm(got - expected) <= 1e-5 * max(np.linalg.norm(expected), 1e-3)


@pytest.mark.parametrize("name", PAIRS)
def test_against_torch(name):
    ours, theirs, inputs = PAIRS[name]
    tensors = [plait.Tensor(x, requires_grad=True) for x in inputs]
    peers = [torch.tensor(x, requires_grad=True) for x in inputs]
    y, due = ours(*tensors), theirs(*peers)
    close(y.data, due)
    dy = array(*y.shape, seed=5) if y.ndim else np.float32(0.7)
    y.backward(dy)
    due.backward(torch.tensor(dy))
    for tensor, peer in zip(tensors, peers, strict=True):
        close(tensor.grad, peer.grad)
