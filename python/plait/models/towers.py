"""The two towers of a dual encoder: pictures and token ids to vectors of one size."""

from __future__ import annotations

import contextlib
import math

import numpy as np

from plait import ops
from plait.nn import Embedding, Encoder, LayerNorm, Linear, Module, Parameter, PatchEmbedding, Pool, init
from plait.stream import Stream
from plait.tensor import Tensor

__all__ = ["ImageTower", "TextTower", "initialise"]


class ImageTower(Module):
    """Patches, learned positions, transformer blocks, pooling, projection.

    Parameters
    ----------
    config : ImageConfig
    embed_dim : int
    """

    def __init__(self, config, embed_dim):
        super().__init__()
        self.config = config
        width = config.width
        self.patches = PatchEmbedding(config.channels, width, config.patch, bias=config.patch_bias)
        self.class_token = Parameter(init.normal((1, width), config.position_std)) if config.class_token else None
        self.positions = Parameter(init.normal((config.rows, width), config.position_std))
        self.norm = LayerNorm(width) if config.input_norm else None
        self.encoder = _encoder(config)
        self.pool = None if config.pool == "flatten" else Pool(config.pool)
        self.projection = Linear(width * (config.rows if self.pool is None else 1), embed_dim, bias=False)
        initialise(self)
        mean, std = (np.asarray(v, np.float32) for v in (config.mean, config.std))
        self._scale, self._shift = 1 / std, -mean / std

    def forward(self, images):
        """Pictures (B, H, W) or (B, H, W, C) to (B, embed_dim) rows, not normalised."""
        x = self.patches(self.pixels(images))
        if self.class_token is not None:
            x = ops.stream_concat([ops.repeat_rows(self.class_token), x])
        x = x.with_rows(ops.add_positions(x.rows, x.offsets, self.positions))
        if self.norm is not None:
            x = self.norm(x)
        x = self.encoder(x)
        if self.pool is not None:
            return self.projection(self.pool(x))
        return self.projection(ops.reshape(x.rows, (len(x), self.positions.size)))

    def pixels(self, images):
        """Checks pictures and normalises them to (B, H, W, C)."""
        c = self.config
        if not isinstance(images, Tensor):
            images = np.asarray(images if not isinstance(images, (list, tuple)) else self._each(images))
        if images.dtype != np.uint8 and (images.dtype.kind not in "fV" or images.dtype.names):
            raise TypeError(f"encode_image: images has dtype {images.dtype}, expected uint8 or floating")
        if images.ndim == 3 and c.channels == 1:
            shape = (*images.shape, 1)
            images = images.reshape(shape) if isinstance(images, np.ndarray) else ops.reshape(images, shape)
        if images.ndim != 4 or images.shape[1:] != (c.size, c.size, c.channels):
            due = f"(B, {c.size}, {c.size}, {c.channels})" + (f" or (B, {c.size}, {c.size})" if c.channels == 1 else "")
            raise ValueError(f"encode_image: images has shape {images.shape}, expected {due}")
        if isinstance(images, Tensor):
            return images * self._scale + self._shift
        scale = self._scale / np.float32(255) if images.dtype == np.uint8 else self._scale
        x = np.multiply(images, scale, dtype=np.float32)
        x += self._shift
        return x


    @staticmethod
    def _each(images):
        """Pictures of a list as arrays of one shape; says which of them is none."""
        pictures = []
        for i, picture in enumerate(images):
            try:
                array = np.asarray(picture)
            except Exception:  # a ragged list, or an array that refuses
                array = None
            if array is None or array.ndim < 2:
                raise TypeError(f"encode_image: images[{i}] is {type(picture).__name__}, expected a picture (H, W, C)")
            if pictures and array.shape != pictures[0].shape:
                raise ValueError(
                    f"encode_image: images[{i}] has shape {array.shape}, expected {pictures[0].shape}, as images[0]"
                )
            pictures.append(array)
        return pictures


class TextTower(Module):
    """Token embedding, learned positions, transformer blocks, pooling, projection.

    Parameters
    ----------
    config : TextConfig
    embed_dim : int
    """

    def __init__(self, config, embed_dim):
        super().__init__()
        self.config = config
        self.tokens = Embedding(config.vocabulary, config.width, std=config.embed_std)
        self.positions = Parameter(init.normal((config.length, config.width), config.position_std))
        self.encoder = _encoder(config, causal=config.causal)
        self.pool = Pool(config.pool)
        self.projection = Linear(config.width, embed_dim, bias=False)
        initialise(self)

    def forward(self, ids):
        """A stream of token ids to (B, embed_dim) rows, not normalised."""
        x = ids.with_rows(ops.embedding(ids.rows, self.tokens.weight))
        x = x.with_rows(ops.add_positions(x.rows, x.offsets, self.positions))
        return self.projection(self.pool(self.encoder(x)))

    def ids(self, texts):
        """Checks token ids and gives them as one stream."""
        if not isinstance(texts, Stream):
            if not isinstance(texts, (list, tuple)) and not (isinstance(texts, np.ndarray) and texts.ndim):
                raise TypeError(f"encode_text: texts is {type(texts).__name__}, expected a list of arrays of token ids")
            arrays = [np.asarray(t) for t in texts]
            for i, a in enumerate(arrays):
                if a.ndim != 1:
                    raise ValueError(f"encode_text: texts[{i}] has shape {a.shape}, expected (tokens,)")
                if a.size and a.dtype.kind not in "iu":
                    raise TypeError(f"encode_text: texts[{i}] has dtype {a.dtype}, expected whole numbers")
            flat = np.concatenate([a.astype(np.int64, copy=False) for a in arrays]) if arrays else np.empty(0, np.int64)
            texts = Stream(flat, np.cumsum([0, *map(len, arrays)]))
        rows = texts.rows
        if isinstance(rows, Tensor) or rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise TypeError("encode_text: the rows of the stream are expected to be whole numbers, (N,)")
        longest = int(texts.lengths.max(initial=0))
        if longest > self.config.length:
            i = int(texts.lengths.argmax())
            raise ValueError(f"encode_text: texts[{i}] has {longest} tokens, expected at most {self.config.length}")
        if rows.size and not 0 <= rows.min() <= rows.max() < self.config.vocabulary:
            at = int(np.argmax((rows < 0) | (rows >= self.config.vocabulary)))
            i = int(np.searchsorted(texts.offsets, at, side="right")) - 1
            raise IndexError(
                f"encode_text: texts[{i}] holds {rows[at]}, expected ids from 0 to {self.config.vocabulary - 1}"
            )
        return texts


def _encoder(c, causal=False):
    # Blank where initialise draws the weights anyway: a large model is made in half the time.
    with init.blank() if c.init == "fan_in" else contextlib.nullcontext():
        return Encoder(
            c.layers,
            c.width,
            c.heads,
            hidden=c.hidden,
            activation=c.activation,
            pre_norm=c.pre_norm,
            dropout=c.dropout,
            attention_dropout=c.attention_dropout,
            causal=causal,
        )


def initialise(tower) -> None:
    """Initial weights of the linear layers of a tower, as its configuration says.

    ``fan_in``: normal with standard deviation ``fan_in ** -0.5``; layers that write to the residual stream are divided
    by ``sqrt(2 layers)``, so that its variance does not grow with depth (Radford et al. 2019, GPT-2).
    ``xavier``: what ``nn.Linear`` has drawn.
    """
    if tower.config.init == "xavier":
        return
    residual = (2 * max(1, tower.config.layers)) ** -0.5
    layers = [(tower.projection, 1.0)]
    if hasattr(tower, "patches"):
        layers.append((tower.patches, 1.0))
    for block in tower.encoder.blocks:
        layers += [(block.attention.qkv, 1.0), (block.attention.out, residual)]
        layers += [(block.mlp.fc1, 1.0), (block.mlp.fc2, residual)]
    for layer, gain in layers:
        shape = layer.weight.shape
        layer.weight.assign(init.normal(shape, gain * math.prod(shape[1:]) ** -0.5))
