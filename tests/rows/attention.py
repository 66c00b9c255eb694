"""Rows of attention: each feature on ragged samples, some of them empty."""

from dataclasses import dataclass

from cases import Case, offsets

import plait


@dataclass(frozen=True)
class AttentionCase(Case):
    """Biases are given as the arrays they hold, so that the tests can cast them and ask for gradients."""

    @property
    def function(self):
        def attention(relative_bias=None, relative_index=None, pair_bias=None, pair_offsets=None, bias=None, **others):
            biases = [bias]
            if relative_bias is not None:
                biases.append(plait.ops.RelativeBias(relative_bias, relative_index))
            if pair_bias is not None:
                biases.append(plait.ops.PairBias(pair_bias, pair_offsets))
            return plait.ops.attention(bias=biases if any(b is not None for b in biases) else None, **others)

        return attention


def inputs(queries, keys, heads=2, kv_heads=None, dk=8, dv=None, more=None):
    """Arrays for samples with these numbers of queries and keys; `more` adds some, from (rng, dict)."""

    def make(rng):
        n = kv_heads or heads
        arrays = {
            "q": rng.standard_normal((sum(queries), heads * dk)),
            "k": rng.standard_normal((sum(keys), n * dk)),
            "v": rng.standard_normal((sum(keys), n * (dv or dk))),
            "q_offsets": offsets(*queries),
            "kv_offsets": offsets(*keys),
        }
        if more is not None:
            more(rng, arrays)
        return arrays

    return make


def row(name, queries, keys, options=None, grads=("q", "k", "v"), heads=2, errors=(), tolerance=1e-5, **shape):
    options = {"heads": heads, **(options or {})}
    if shape.get("kv_heads"):
        options["kv_heads"] = shape["kv_heads"]
    return AttentionCase(
        "attention" + name, "ops.attention", inputs(queries, keys, heads, **shape), options, grads, errors, tolerance
    )


RAGGED, SELF = (5, 0, 17, 1, 3), (5, 0, 17, 1, 3)
CROSS = (3, 4, 0, 20, 1)

ROWS = [
    row("", SELF, SELF),
    row("-cross", RAGGED, CROSS),
    row("-values-wider", RAGGED, CROSS, dv=20),
    row("-values-narrower", RAGGED, CROSS, dk=24, dv=5),
    row("-grouped", RAGGED, CROSS, heads=6, kv_heads=2, dk=4),
    row("-one-key-head", SELF, SELF, heads=3, kv_heads=1, dk=16),
    row("-causal", SELF, SELF, {"causal": True}),
    row("-causal-cross", RAGGED, CROSS, {"causal": True}),
    row("-dropout", RAGGED, CROSS, {"dropout": 0.3}),
    row("-dropout-causal", SELF, SELF, {"dropout": 0.5, "causal": True}),
    row("-scale", SELF, SELF, {"scale": 0.3}),
    row("-vit", (50, 50), (50, 50), dk=64),
    row("-tiny", (16, 16, 16), (16, 16, 16), dk=32),
    row("-197", (197,), (197,), {"causal": True}, heads=1, dk=32),
    row("-long", (70, 600), (600, 70), heads=1, dk=5),
    row("-long-causal", (600, 300), (600, 700), {"causal": True, "dropout": 0.1}, heads=1, dk=3, dv=2),
    row("-no-samples", (), ()),
    row("-no-rows", (0, 0), (0, 0)),
]
