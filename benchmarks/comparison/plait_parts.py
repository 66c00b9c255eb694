"""plait's models of the cases, built of its parts, with the names of ``weights.shapes``."""

from __future__ import annotations

import numpy as np

import plait
from plait import nn, ops

__all__ = ["PARTS"]


class CrossBlock(nn.Module):
    """Pre-norm cross-attention and MLP; MulT's normalises the context too, with the same norm."""

    def __init__(self, width, heads, activation="gelu", norm_context=False, dropout=0.0):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = nn.CrossAttention(width, heads, dropout=dropout), nn.MLP(width, None, activation)
        self.norm_context = norm_context

    def forward(self, x, context):
        n, a, m = self.norm1, self.attention, self.mlp
        seen = n(context) if self.norm_context else context
        rows = ops.attention_block(
            x.rows, x.offsets, n.weight, n.bias, a.q.weight, a.q.bias, a.out.weight, a.out.bias, heads=a.heads,
            context=seen.rows, context_offsets=seen.offsets, context_weight=a.kv.weight, context_bias=a.kv.bias,
            dropout=a.dropout if self.training else 0.0,
        )  # fmt: skip
        n = self.norm2
        weights = (n.weight, n.bias, m.fc1.weight, m.fc1.bias, m.fc2.weight, m.fc2.bias)
        return x.with_rows(ops.mlp_block(rows, *weights, activation=m.activation))


class Blocks(nn.Module):
    def __init__(self, blocks, width):
        super().__init__()
        self.blocks, self.norm = blocks, nn.LayerNorm(width)

    def forward(self, x, context):
        for block in self.blocks:
            x = block(x, context)
        return self.norm(x)


class MulT(nn.Module):
    """See the PyTorch side."""

    def __init__(self, z):
        super().__init__()
        width, heads, drop = z["width"], z["heads"], z["dropout"]
        self.project = [nn.Linear(w, width, bias=False) for w in z["widths"]]
        cross = {"activation": "relu", "norm_context": True, "dropout": drop}
        self.cross = [Blocks([CrossBlock(width, heads, **cross) for _ in range(z["layers"])], width) for _ in range(6)]
        own = {"activation": "relu", "attention_dropout": drop}
        self.own = [nn.Encoder(z["own"], 2 * width, heads, **own) for _ in range(3)]
        self.fc1 = nn.Linear(6 * width, 6 * width, activation="relu")
        self.fc2, self.out = nn.Linear(6 * width, 6 * width), nn.Linear(6 * width, 1)

    def forward(self, x0, x1, x2, positions, own_positions):
        def placed(x, table):
            rows = ops.multiply(x.rows, np.float32(x.rows.shape[1] ** 0.5))
            return x.with_rows(ops.add_positions(rows, x.offsets, table))

        xs = [placed(p(plait.as_stream(x)), positions) for p, x in zip(self.project, (x0, x1, x2), strict=True)]
        last = []
        for i, x in enumerate(xs):
            others = [j for j in range(3) if j != i]
            seen = [self.cross[2 * i + n](x, xs[j]).rows for n, j in enumerate(others)]
            y = self.own[i](placed(x.with_rows(ops.concat(seen, axis=1)), own_positions))
            last.append(ops.pool(y.rows, y.offsets, "last"))
        last = ops.concat(last, axis=1)
        return self.out(ops.add(self.fc2(self.fc1(last)), last))


class Attention(nn.Module):
    """(B, T, H, D) arrays or tensors, taken as rows."""

    def __init__(self, z):
        super().__init__()
        self.heads, self.causal = z["heads"], z["causal"]
        self.offsets = np.arange(z["batch"] + 1, dtype=np.int64) * z["length"]

    def forward(self, q, k, v):
        options = {"heads": self.heads, "causal": self.causal, "precision": self.precision}
        return ops.attention(q, k, v, self.offsets, self.offsets, **options)


class InfoNCE(nn.Module):
    def __init__(self, z):
        super().__init__()
        self.logit_scale = nn.Parameter(np.float32(2.6))

    def forward(self, a, b):
        return plait.losses.info_nce(a, b, self.logit_scale)


class TensorFusion(nn.Module):
    def __init__(self, z):
        super().__init__()
        self.out = nn.Linear((z["width"] + 1) ** 3, z["out"], activation="relu")
        self.one = np.ones((z["batch"], 1), np.float32)

    def forward(self, *xs):
        a, b, c = (ops.concat([x, self.one], axis=1) for x in xs)
        ab = ops.reshape(ops.multiply(a[:, :, None], b[:, None, :]), (len(self.one), -1))
        return self.out(ops.reshape(ops.multiply(ab[:, :, None], c[:, None, :]), (len(self.one), -1)))


class LowRankFusion(nn.Module):
    def __init__(self, z):
        super().__init__()
        self.shape = (z["batch"], z["rank"], z["out"])
        self.factor = [nn.Linear(z["width"], z["rank"] * z["out"]) for _ in range(3)]
        self.ranks, self.bias = (nn.Parameter(np.zeros(s, np.float32)) for s in ((z["rank"], 1), (z["out"],)))

    def forward(self, *xs):
        a, b, c = (ops.reshape(f(x), self.shape) for f, x in zip(self.factor, xs, strict=True))
        return ops.sum(a * b * c * self.ranks, axis=1) + self.bias


class GatedFusion(nn.Module):
    def __init__(self, z):
        super().__init__()
        d = z["width"]
        self.a, self.b = (nn.Linear(d, d, activation="tanh") for _ in range(2))
        self.gate = nn.Linear(2 * d, d, activation="sigmoid")

    def forward(self, a, b):
        gate, a, b = self.gate(ops.concat([a, b], axis=1)), self.a(a), self.b(b)
        return b + gate * (a - b)


class BilinearFusion(nn.Module):
    def __init__(self, z):
        super().__init__()
        self.shape = (z["batch"], z["out"], z["factor"])
        out = z["factor"] * z["out"]
        self.a, self.b = nn.Linear(z["width"], out), nn.Linear(z["width"], out)

    def forward(self, a, b):
        return ops.l2_normalize(ops.sum(ops.reshape(self.a(a) * self.b(b), self.shape), axis=2))


class Cross(CrossBlock):
    """The block alone, from (B, T, D) arrays or tensors of rows to rows."""

    def __init__(self, z):
        super().__init__(z["width"], z["heads"])
        self.offsets = tuple(np.arange(z["batch"] + 1, dtype=np.int64) * z[k] for k in ("queries", "keys"))

    def forward(self, x, context):
        streams = (plait.Stream(rows, offsets) for rows, offsets in zip((x, context), self.offsets, strict=True))
        return super().forward(*streams).rows


PARTS = {
    "cross": Cross,
    "attention": Attention,
    "mult": MulT,
    "info_nce": InfoNCE,
    "fusion_tensor": TensorFusion,
    "fusion_low_rank": LowRankFusion,
    "fusion_gated": GatedFusion,
    "fusion_bilinear": BilinearFusion,
}
