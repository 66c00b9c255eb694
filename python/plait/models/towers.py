"""The towers: pictures and token ids to rows, and rows to one vector a sample."""

from __future__ import annotations

import contextlib
import math

import numpy as np

from plait import ops
from plait.models.config import BUCKETS
from plait.models.intake import check_ids
from plait.models.positions import buckets, resized
from plait.nn import MLP, CrossAttention, Embedding, Encoder, LayerNorm, Linear, Module, Parameter, PatchEmbedding, init
from plait.stream import Stream

__all__ = ["ImageTower", "MapPool", "TextTower", "initialise"]

_BEFORE_BLOCKS = ("patches", "tokens", "types", "positions", "class_token", "registers", "norm", "relative")


class _Tower(Module):
    """What both towers have: blocks, the last norm, pooling, projection."""

    encoder: Encoder
    projection: Linear | None

    def freeze_except_last(self, blocks: int):
        """Freezes all but the last blocks and what comes after them."""
        depth = len(self.encoder.blocks)
        if isinstance(blocks, bool) or not isinstance(blocks, int) or not 0 <= blocks <= depth:
            raise ValueError(f"freeze_except_last: blocks is {blocks!r}, expected 0 to {depth}")
        for name, p in self.named_parameters():
            p.requires_grad = self.depth_of(name) > depth - blocks
        return self

    def depth_of(self, name: str) -> int:
        """Where a parameter is: 0 before the blocks, then the number of the block from 1 on, then one more."""
        parts = name.split(".")
        if parts[:2] == ["encoder", "blocks"]:
            return 1 + int(parts[2])
        return 0 if parts[0] in _BEFORE_BLOCKS else 1 + len(self.encoder.blocks)

    def _blocks(self, x, norm, bias=None):
        x = self.encoder.before_norm(x, bias=bias)
        return self.encoder.norm(x) if norm and self.encoder.norm is not None else x

    def _projected(self, rows):
        return rows if self.projection is None else self.projection(rows)


class MapPool(Module):
    """One row a sample: attention by a learned query, then an MLP with its residual (Zhai et al., arXiv 2106.04560).

    Parameters
    ----------
    config : ImageConfig
    """

    def __init__(self, config):
        super().__init__()
        width = config.width
        self.query = Parameter(init.normal((1, width), config.position_std))
        self.attention = CrossAttention(width, config.heads)
        self.norm = LayerNorm(width, config.eps)
        self.mlp = MLP(width, config.hidden, config.activation)

    def forward(self, x):
        """(B, width) rows of a stream."""
        rows = self.attention(ops.repeat_rows(self.query, len(x)), x).rows
        n, m = self.norm, self.mlp
        weights = (n.weight, n.bias, m.fc1.weight, m.fc1.bias, m.fc2.weight, m.fc2.bias)
        return ops.mlp_block(rows, *weights, activation=m.activation, eps=n.eps)


class ImageTower(_Tower):
    """Patches, learned positions, transformer blocks, pooling, projection.

    Parameters
    ----------
    config : ImageConfig
    embed_dim : int or None
        None: no projection.
    """

    def __init__(self, config, embed_dim):
        super().__init__()
        self.config = config
        width = config.width
        self.patches = PatchEmbedding(config.channels, width, config.patch, bias=config.patch_bias)
        self.class_token = Parameter(init.normal((1, width), config.position_std)) if config.class_token else None
        shape = (config.registers, width)
        self.registers = Parameter(init.normal(shape, config.position_std)) if config.registers else None
        self.positions = Parameter(init.normal((config.rows, width), config.position_std))
        self.norm = LayerNorm(width, config.eps) if config.input_norm else None
        layer_scale = 1.0 if config.layer_scale else None
        self.encoder = _encoder(config, qkv_bias=config.qkv_bias, gated=config.gated, layer_scale=layer_scale)
        self.map = MapPool(config) if config.pool == "map" else None
        self.projection = _projection(config, config.pooled_width, embed_dim)
        initialise(self)
        mean, std = (np.asarray(v, np.float32) for v in (config.mean, config.std))
        self.scale, self.shift = 1 / std, -mean / std  # of pixels from 0 to 1

    def hidden(self, pixels) -> Stream:
        """(B, H, W, C) values, see ``check_pixels``, to the rows of the last block (normalised where ``last_norm`` is
        "rows")."""
        c = self.config
        x = self.patches(pixels)
        grid = x.grid
        if self.class_token is not None:
            x = ops.stream_concat([ops.repeat_rows(self.class_token), x])
        positions = self.positions
        if grid != (c.size // c.patch,) * 2:
            positions = resized(positions, c.class_token, grid, c.antialias)
        x = x.with_rows(ops.add_positions(x.rows, x.offsets, positions))
        if self.registers is not None:
            first, rest = ops.stream_split(x, [int(c.class_token), None])
            x = ops.stream_concat([first, ops.repeat_rows(self.registers), rest])
        if self.norm is not None:
            x = self.norm(x)
        return self._blocks(x, c.last_norm == "rows")

    def pooled(self, x: Stream):
        """The rows of ``hidden`` to one a sample, projected where there is a projection."""
        c = self.config
        if self.map is not None:
            rows = self.map(x)
        elif c.pool == "flatten":
            rows = ops.reshape(x.rows, (len(x), c.pooled_width))
        else:
            rows = ops.pool(x, mode=c.pool)
        if c.last_norm == "pooled" and self.encoder.norm is not None:
            rows = self.encoder.norm(rows)
        return self._projected(rows)

    def forward(self, pixels):
        """(B, H, W, C) values to (B, embed_dim) rows, not normalised."""
        return self.pooled(self.hidden(pixels))


class TextTower(_Tower):
    """Token embedding, learned positions, transformer blocks, pooling, projection.

    Parameters
    ----------
    config : TextConfig
    embed_dim : int or None
        None: no projection.
    """

    def __init__(self, config, embed_dim):
        super().__init__()
        self.config = config
        width = config.width
        self.tokens = Embedding(config.vocabulary, width, std=config.embed_std)
        self.types = Parameter(init.normal((config.types, width), config.position_std)) if config.types else None
        rows = config.first_position + config.length
        self.positions = Parameter(init.normal((rows, width), config.position_std))
        self.norm = LayerNorm(width, config.eps) if config.input_norm else None
        shape = (config.heads, BUCKETS)
        self.relative = Parameter(init.normal(shape, config.position_std)) if config.relative_bias else None
        self.encoder = _encoder(config, causal=config.causal)
        self.projection = _projection(config, width, embed_dim)
        initialise(self)

    def hidden(self, ids: Stream) -> Stream:
        """A stream of token ids to the rows of the last block, normalised."""
        c, ids = self.config, _stream(ids)
        x = ids.with_rows(ops.embedding(ids.rows, self.tokens.weight))
        start = np.full(len(x), c.first_position) if c.first_position else None
        x = x.with_rows(ops.add_positions(x.rows, x.offsets, self.positions, start=start))
        if self.types is not None:
            x = x.with_rows(ops.add(x.rows, self.types[:1]))
        if self.norm is not None:
            x = self.norm(x)
        bias = None
        if self.relative is not None:
            bias = ops.RelativeBias(self.relative, buckets(int(x.lengths.max(initial=0))))
        return self._blocks(x, True, bias)

    def pooled(self, ids: Stream, pool: str | None = None):
        """A stream of token ids to one row a sample, without the projection; `pool` in place of the configuration's."""
        pool, ids = pool or self.config.pool, _stream(ids)
        if pool != "end":
            return ops.pool(self.hidden(self.filled(ids)), mode=pool)
        ids = self.filled(ids)
        present = np.flatnonzero(ids.present)
        ends = self._ends(ids)
        if self.config.causal:  # what comes after the end token cannot change its row
            lengths = np.zeros(len(ids), np.int64)
            lengths[present] = ends[present] + 1
            x = self.hidden(_beginnings(ids, lengths))
        else:
            x = self.hidden(ids)
        rows = ops.index(x.rows, x.offsets[present] + ends[present])
        return ops.pool(rows, np.concatenate([[0], np.cumsum(ids.present)]), "first")

    def forward(self, ids: Stream):
        """A stream of token ids to (B, embed_dim) rows, not normalised."""
        return self._projected(self.pooled(ids))

    def filled(self, ids: Stream) -> Stream:
        """Texts filled up with pad tokens, where the model was trained so; an absent text stays absent."""
        c = self.config
        if c.pad_id is None or (ids.lengths == c.length).all():
            return ids
        table = np.full((len(ids), c.length), c.pad_id, ids.rows.dtype)
        table[np.arange(c.length) < ids.lengths[:, None]] = ids.rows
        return Stream.from_padded(table, c.length * ids.present)

    def _ends(self, ids):
        """Place of the end token of each text: the first one; 0 where there is none, as in transformers."""
        ends = np.zeros(len(ids), np.int64)
        for i, text in enumerate(ids):
            if len(text):
                ends[i] = np.argmax(text if self.config.end_id is None else text == self.config.end_id)
        return ends

    def ids(self, texts) -> Stream:
        """Checks token ids and gives them as one stream."""
        return check_ids(self.config, texts)


def _stream(ids):
    if not isinstance(ids, Stream):
        raise TypeError(
            f"TextTower: ids is {type(ids).__name__}, expected a Stream of token ids, such as tower.ids(lists) gives"
        )
    return ids


def _beginnings(ids, lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Stream(ids.rows[np.repeat(ids.offsets[:-1] - offsets[:-1], lengths) + np.arange(offsets[-1])], offsets)


def _encoder(c, **options):
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
            eps=c.eps,
            **options,
        )


def _projection(config, width, embed_dim):
    return None if embed_dim is None else Linear(width, embed_dim, bias=config.projection_bias)


def initialise(tower) -> None:
    """Initial weights of the linear layers of a tower, as its configuration says.

    ``fan_in``: normal with standard deviation ``fan_in ** -0.5``; layers that write to the residual stream are divided
    by ``sqrt(2 layers)``, so that its variance does not grow with depth (Radford et al. 2019, GPT-2).
    ``xavier``: what ``nn.Linear`` has drawn.
    """
    if tower.config.init == "xavier" or init.is_hollow():
        return
    residual = (2 * max(1, tower.config.layers)) ** -0.5
    layers = [(layer, 1.0) for layer in (tower.projection, getattr(tower, "patches", None)) if layer is not None]
    for block in tower.encoder.blocks:
        layers += [(block.attention.qkv, 1.0), (block.attention.out, residual)]
        layers += [(block.mlp.fc1, 1.0), (block.mlp.fc2, residual)]
    for layer, gain in layers:
        shape = layer.weight.shape
        layer.weight.assign(init.normal(shape, gain * math.prod(shape[1:]) ** -0.5))
