"""What ``plait bench`` times: models of real shapes with random weights.

A case makes a function to call again and again, and says how much is in a call. Floating-point operations are those of
linear layers, attention and similarities that the mathematics asks for: causal attention counts the pairs that it
needs, backward twice forward, and nothing that is computed again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import plait
from plait import losses, nn, ops
from plait._precision import ALL, TRAINED

__all__ = ["CASES", "Case", "Work", "forget"]


class Work(NamedTuple):
    """A function to time, and what one call of it does."""

    call: Callable
    amount: float  # of units
    unit: str
    flops: float  # 0: not told


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    what: str
    make: Callable  # precision -> Work
    precisions: tuple = ("f32",)


def _numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _offsets(batch, length):
    return np.arange(batch + 1, dtype=np.int64) * length


def _quietly(function):
    """Without a tape."""

    def call():
        with plait.no_grad():
            function()

    return call


# ---------------------------------------------------------------- models, made once


@functools.lru_cache(maxsize=1)
def _float_model(kind):
    if kind == "cross":
        return nn.CrossModalBlock(768, 12).eval().freeze()
    config = plait.models.get_config("vit-b-32")["config"]
    config = {"image": config["image"], "embed_dim": 512} if kind == "image" else {"text": config["text"]}
    return plait.create_model({"type": f"{kind}_encoder", "config": config}).eval().freeze()


@functools.lru_cache(maxsize=3)
def _model(kind, precision):
    return _float_model(kind).to(precision)


def forget():
    """Lets go of the models."""
    _float_model.cache_clear()
    _model.cache_clear()


# ---------------------------------------------------------------- cases


def _blocks(layers, rows, width):
    """Operations of the linear layers of encoder blocks: 12 width^2 weights each."""
    return layers * 24 * rows * width**2


def _attention(pairs, width):
    return 4 * pairs * width


def _image(batch, precision):
    tower, pixels = _model("image", precision).image, _numbers(batch, 224, 224, 3)
    flops = 2 * batch * (49 * 3072 * 768 + 768 * 512)
    flops += _blocks(12, 50 * batch, 768) + 12 * _attention(batch * 50**2, 768)
    return Work(_quietly(lambda: tower(pixels)), batch, "pictures", flops)


def _text(batch, length, precision):
    tower = _model("text", precision).text
    ids = plait.Stream(np.random.default_rng(0).integers(1, 49000, batch * length), _offsets(batch, length))
    flops = _blocks(12, batch * length, 512) + 12 * _attention(batch * length * (length + 1) / 2, 512)
    return Work(_quietly(lambda: tower(ids)), batch, "texts", flops)


def _cross(batch, words, regions, precision):
    block, width = _model("cross", precision), 768
    a, b = (plait.Stream(_numbers(batch * n, width), _offsets(batch, n)) for n in (words, regions))
    rows = batch * (words + regions)  # each has queries and keys and values once across, and a block of its own
    flops = 8 * rows * width**2 + _blocks(1, rows, width)
    flops += _attention(batch * (2 * words * regions + words**2 + regions**2), width)
    return Work(_quietly(lambda: block(a, b)), batch, "samples", flops)


def _attention_alone(backward, precision):
    batch, heads, length, width = 8, 12, 197, 64
    q, k, v = (plait.Tensor(_numbers(batch * length, heads * width), requires_grad=True) for _ in range(3))
    offsets = _offsets(batch, length)
    dy = np.ones(q.shape, np.float32)

    def forward():
        return ops.attention(q, k, v, offsets, offsets, heads=heads, precision=precision)

    def both():
        q.grad = k.grad = v.grad = None
        forward().backward(dy)

    flops = _attention(batch * length**2, heads * width)
    return Work(both if backward else _quietly(forward), batch, "samples", flops * (3 if backward else 1))


def _info_nce(count, precision):
    width = 512
    vectors = _numbers(2, count, width)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    a, b = (plait.Tensor(v, requires_grad=True) for v in vectors)
    scale = nn.Parameter(np.float32(2.6))

    def step():
        a.grad = b.grad = None
        losses.info_nce(a, b, scale).backward()

    return Work(step, count, "pairs", 3 * 2.0 * count**2 * width)


def _adamw(count, precision):
    parameter = nn.Parameter(_numbers(count))
    optimizer = plait.optim.AdamW([parameter])
    parameter.grad = _numbers(count)
    return Work(optimizer.step, count / 1e6, "M parameters", 0)


def _training(batch, precision):
    size, patch, width, layers, length, text_layers = 64, 8, 256, 6, 32, 4
    text = {"vocabulary": 4096, "length": length, "width": width, "layers": text_layers, "heads": 4}
    image = {"size": size, "patch": patch, "width": width, "layers": layers, "heads": 4}
    config = {"embed_dim": width, "image": image, "text": text}
    model = plait.create_model({"type": "dual_encoder", "config": config}).train(precision=precision)
    optimizer = plait.optim.AdamW(model, lr=1e-4, max_grad_norm=1.0)
    pictures, ids = _numbers(batch, size, size, 3), np.random.default_rng(0).integers(1, 4096, (batch, length))

    def step():
        optimizer.zero_grad()
        losses.info_nce(model.encode_image(pictures), model.encode_text(ids), model.logit_scale).backward()
        optimizer.step()

    patches = (size // patch) ** 2
    flops = 2 * batch * (patches * 3 * patch**2 * width + 2 * width**2) + 2 * batch**2 * width
    for depth, rows in ((layers, patches), (text_layers, length)):
        flops += _blocks(depth, batch * rows, width) + depth * _attention(batch * rows**2, width)
    return Work(step, batch, "pairs", 3 * flops)


_part = functools.partial

CASES = (
    Case("image-1", "CLIP ViT-B/32 image tower, 1 picture", _part(_image, 1), ALL),
    Case("image-8", "CLIP ViT-B/32 image tower, 8 pictures", _part(_image, 8), ALL),
    Case("image-32", "CLIP ViT-B/32 image tower, 32 pictures", _part(_image, 32), ALL),
    Case("text-16", "CLIP text tower, 32 texts of 16 tokens", _part(_text, 32, 16), ALL),
    Case("text-77", "CLIP text tower, 32 texts of 77 tokens", _part(_text, 32, 77), ALL),
    Case("cross", "cross-modal block, width 768, 16 samples of 20 and 36 rows", _part(_cross, 16, 20, 36), ALL),
    Case("attention", "attention, 8 samples, 12 heads of 64, 197 rows", _part(_attention_alone, False), TRAINED),
    Case("attention-grad", "the same, forward and backward", _part(_attention_alone, True), TRAINED),
    Case("nce-1024", "InfoNCE of 1,024 pairs of 512, forward and backward", _part(_info_nce, 1024)),
    Case("nce-4096", "InfoNCE of 4,096 pairs of 512, forward and backward", _part(_info_nce, 4096)),
    Case("adamw", "AdamW step, 20 M parameters", _part(_adamw, 20_000_000)),
    Case("train", "small CLIP, training step of 128 pairs", _part(_training, 128), TRAINED),
)
