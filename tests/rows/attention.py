"""Rows of attention: each feature on ragged samples, some of them empty."""

from dataclasses import dataclass

import numpy as np
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


def lengths(*values):
    def more(rng, arrays):
        arrays["kv_lengths"] = np.array(values, np.int64)

    return more


def index(values, kv_lengths=None):
    def more(rng, arrays):
        arrays["kv_index"] = np.array(values, np.int64)
        if kv_lengths:
            arrays["kv_lengths"] = np.array(kv_lengths, np.int64)

    return more


def times(rng, arrays):
    """Seconds as integers, not in order, some equal."""
    for name, rows in ("q_times", arrays["q"]), ("kv_times", arrays["k"]):
        arrays[name] = rng.integers(0, 12, len(rows)) + 10**9


def table(heads, queries, keys, masked=False):
    def more(rng, arrays):
        arrays["bias"] = rng.standard_normal((heads, queries, keys))
        if masked:
            arrays["bias"][rng.random(arrays["bias"].shape) < 0.3] = -np.inf

    return more


def relative(heads, size, queries, keys):
    def more(rng, arrays):
        arrays["relative_bias"] = rng.standard_normal((heads, size))
        arrays["relative_index"] = rng.integers(0, size, (queries, keys))

    return more


def pairs(heads, queries, keys, mask=False):
    def more(rng, arrays):
        arrays["pair_offsets"] = offsets(*[m * n for m, n in zip(queries, keys, strict=True)])
        shape = (heads, arrays["pair_offsets"][-1])
        arrays["pair_bias"] = rng.random(shape) < 0.4 if mask else rng.standard_normal(shape)

    return more


def every(*parts):
    def more(rng, arrays):
        for part in parts:
            part(rng, arrays)

    return more


def decode(rng, arrays):
    """New rows of one or two queries against a cache that has room to grow."""
    arrays["kv_lengths"] = np.array([9, 2, 16, 1], np.int64)


QKV = ("q", "k", "v")
ERRORS = (
    ({"heads": 3}, ValueError, "attention: q has width 16, expected a multiple of heads, 3"),
    ({"heads": 0}, ValueError, "attention: heads is 0, expected 1 to 65536"),
    ({"kv_heads": 4}, ValueError, "attention: kv_heads is 4, expected a divisor of heads, 2"),
    ({"k": "float:28,15"}, ValueError, "attention: k has shape (28, 15), expected (*, 16), kv_heads times the width"),
    ({"v": "float:27,16"}, ValueError, "attention: v has shape (27, 16), expected (28, *), as many rows as k"),
    ({"v": "float:28,15"}, ValueError, "attention: v has width 15, expected a multiple of kv_heads, 2"),
    ({"q": "int:26,16"}, TypeError, "attention: q has dtype int64, expected a floating dtype"),
    ({"q_offsets": np.array([0, 5, 5, 22, 23, 25])}, ValueError, "attention: q_offsets ends at 25, expected 26"),
    (
        {"kv_offsets": np.array([0, 3, 28])},
        ValueError,
        "attention: kv_offsets has 2 samples, expected 5 like q_offsets",
    ),
    (
        {"kv_lengths": np.array([3, 4, 0, 21, 1])},
        ValueError,
        "attention: kv_lengths[3] is 21, expected 0 to 20, the rows",
    ),
    ({"kv_lengths": np.array([3, 4])}, ValueError, "attention: kv_lengths has shape (2,), expected (5,), one a sample"),
    ({"kv_index": np.array([0, 1, 2, 5, 0])}, IndexError, "attention: kv_index[3] is 5, expected 0 to 4"),
    ({"q_times": np.zeros(26)}, ValueError, "attention: q_times is given without kv_times"),
    ({"q_times": np.zeros(26), "kv_times": np.zeros(28)}, ValueError, "q_times is given, but causal is False"),
    ({"q_times": np.full(26, np.nan), "kv_times": np.zeros(28), "causal": True}, ValueError, "q_times holds NaN"),
    (
        {"q_times": np.zeros(26), "kv_times": np.zeros(27), "causal": True},
        ValueError,
        "attention: kv_times has shape (27,), expected (28,), one a row of k",
    ),
    ({"bias": "float:2,17,19"}, ValueError, "bias reaches 17 queries and 19 keys, the longest sample has 17 and 20"),
    ({"bias": "float:3,17,20"}, ValueError, "attention: bias has shape (3, 17, 20), expected (2, *, *)"),
    ({"bias": "float:17,20"}, ValueError, "attention: bias has 2 dimensions, expected a (heads, Tq, Tk) array"),
    ({"dropout": 1.0}, ValueError, "attention: dropout is 1, expected at least 0 and below 1"),
    ({"dropout": -0.1}, ValueError, "attention: dropout is -0.1, expected at least 0 and below 1"),
    ({"scale": float("inf")}, ValueError, "attention: scale is inf, expected a finite number"),
    ({"relative_bias": "float:2,7", "relative_index": np.full((17, 20), 7)}, IndexError, "is 7, expected 0 to 6"),
    ({"relative_bias": "float:2,7", "relative_index": np.zeros((17, 9), int)}, ValueError, "reaches 17 queries and 9"),
    (
        {"pair_bias": "float:1,36", "pair_offsets": np.array([0, 15, 15, 15, 35, 36])},
        ValueError,
        "gives sample 4 1 pairs, expected 3 x 1",
    ),
)

ROWS = [
    row("", SELF, SELF),
    row("-cross", RAGGED, CROSS, errors=ERRORS),
    row("-values-wider", RAGGED, CROSS, dv=20),
    row("-values-narrower", RAGGED, CROSS, dk=24, dv=5),
    row("-grouped", RAGGED, CROSS, heads=6, kv_heads=2, dk=4),
    row("-one-key-head", SELF, SELF, heads=3, kv_heads=1, dk=16),
    row("-some-gradients", RAGGED, CROSS, grads=("q",)),
    row("-gradient-of-values", RAGGED, CROSS, {"dropout": 0.2}, grads=("v",)),
    row("-causal", SELF, SELF, {"causal": True}),
    row("-causal-cross", RAGGED, CROSS, {"causal": True}),
    row("-dropout", RAGGED, CROSS, {"dropout": 0.3}),
    row("-dropout-causal", SELF, SELF, {"dropout": 0.5, "causal": True}),
    row("-scale", SELF, SELF, {"scale": 0.3}),
    row("-times", RAGGED, CROSS, {"causal": True}, more=times),
    row("-times-long", (90,), (300,), {"causal": True}, heads=1, more=times),
    row("-lengths", RAGGED, CROSS, more=lengths(3, 0, 0, 11, 1)),
    row("-decode", (1, 2, 1, 1), (16, 16, 16, 16), {"causal": True}, heads=4, kv_heads=2, more=decode),
    row("-shared-keys", (5, 2, 0, 20, 1, 4), (3, 0, 30), more=index((2, 0, 0, 2, 1, 2))),
    row("-shared-lengths", (5, 2, 0, 20), (9, 30), {"causal": True}, more=index((1, 0, 0, 1), (7, 9, 0, 25))),
    row("-table", RAGGED, CROSS, grads=(*QKV, "bias"), more=table(2, 20, 23)),
    row("-table-masked", SELF, SELF, grads=(*QKV, "bias"), more=table(2, 17, 17, masked=True)),
    row("-table-long", (5, 70), (300, 290), {"causal": True}, (*QKV, "bias"), heads=1, more=table(1, 70, 300)),
    row("-relative", RAGGED, CROSS, grads=(*QKV, "relative_bias"), more=relative(2, 7, 18, 20)),
    row("-pairs", RAGGED, CROSS, more=pairs(2, RAGGED, CROSS)),
    row("-pairs-of-all-heads", RAGGED, CROSS, {"dropout": 0.1}, more=pairs(1, RAGGED, CROSS)),
    row("-mask", RAGGED, CROSS, more=pairs(1, RAGGED, CROSS, mask=True)),
    row(
        "-all-biases",
        RAGGED,
        CROSS,
        {"causal": True, "dropout": 0.2},
        (*QKV, "bias", "relative_bias"),
        heads=4,
        kv_heads=2,
        more=every(table(4, 17, 20), relative(4, 5, 17, 20), pairs(1, RAGGED, CROSS, mask=True)),
    ),
    row("-vit", (50, 50), (50, 50), dk=64),
    row("-tiny", (16, 16, 16), (16, 16, 16), dk=32),
    row("-197", (197,), (197,), {"causal": True}, heads=1, dk=32),
    row("-long", (70, 600), (600, 70), heads=1, dk=5),
    row("-long-causal", (600, 300), (600, 700), {"causal": True, "dropout": 0.1}, heads=1, dk=3, dv=2),
    row("-no-samples", (), ()),
    row("-no-rows", (0, 0), (0, 0)),
]
