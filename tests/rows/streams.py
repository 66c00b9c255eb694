"""Rows of the operators on segments: joining, splitting, pooling, patches."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from cases import Case, offsets

import plait
from plait import Stream


@dataclass(frozen=True)
class StreamCase(Case):
    """A row whose function takes or returns streams; `adapt` calls it with arrays and returns tensors."""

    adapt: Callable | None = None

    @property
    def function(self):
        return partial(self.adapt, super().function)


def checked(stream):
    """The rows of a result whose other parts pass every check."""
    Stream(stream.rows, stream.offsets, stream.times, stream.grid)
    return stream.rows


# ---------------------------------------------------------------- stream_concat, stream_split


def concat(function, rows, offsets):
    parts = zip(rows, offsets, strict=True)
    return checked(function([plait.ops.repeat_rows(r) if o is None else Stream(r, o) for r, o in parts]))


def concat_row(name, width, *lengths, errors=()):
    """`lengths`: of each stream's samples, or a number: a matrix of so many rows for every sample."""

    def make(rng):
        counts = [n if isinstance(n, int) else sum(n) for n in lengths]
        return {
            "rows": [rng.standard_normal((n, width)) for n in counts],
            "offsets": [None if isinstance(n, int) else offsets(*n) for n in lengths],
        }

    return StreamCase(f"stream_concat-{name}", "ops.stream_concat", make, {}, ("rows",), errors, adapt=concat)


def split(function, x, offsets, parts):
    streams = function(Stream(x, offsets), parts)
    return tuple(checked(s) for s in streams)


def split_row(name, width, lengths, parts, errors=()):
    def make(rng):
        own = [offsets(*p) if isinstance(p, tuple) else p for p in parts]
        return {"x": rng.standard_normal((sum(lengths), width)), "offsets": offsets(*lengths), "parts": own}

    return StreamCase(f"stream_split-{name}", "ops.stream_split", make, {}, ("x",), errors, adapt=split)


CONCAT = [
    concat_row("class-token", 24, 1, (3, 0, 5, 1)),
    concat_row("three", 7, (2, 0, 1), (0, 0, 4), (1, 2, 3)),
    concat_row("tokens-between", 33, 1, (4, 2), 1, (0, 3), 2),
    concat_row("one", 5, (3, 2)),
    concat_row("twelve", 3, *[(i, 2) for i in range(12)]),
    concat_row("no-rows", 8, (0, 0), (0, 0)),
    concat_row("no-samples", 8, (), 1),
    concat_row("token-of-no-rows", 8, 0, (2, 1)),
    concat_row("large", 96, 2, tuple(range(60)), (9,) * 60),
    StreamCase(
        "repeat_rows",
        "ops.repeat_rows",
        lambda rng: {"table": rng.standard_normal((3, 17))},
        {"samples": 5},
        ("table",),
        (
            ({"table": "float:3"}, ValueError, "repeat_rows: table has shape (3,), expected (L, D)"),
            ({"samples": -2}, ValueError, "stream_concat: samples is -2, expected at least 0"),
            ({"samples": 2.0}, TypeError, "stream_concat: samples is 2.0, expected a whole number"),
        ),
        adapt=lambda function, **arguments: checked(function(**arguments)),
    ),
]

SPLIT = [
    split_row("token-and-rest", 24, (4, 1, 6), [1, None]),
    split_row("offsets", 7, (3, 0, 4), [(1, 0, 2), (2, 0, 0), (0, 0, 2)]),
    split_row("one", 5, (3, 2), [None]),
    split_row("numbers", 16, (5, 5), [2, 0, 3]),
    split_row("no-rows", 8, (0, 0), [0, None]),
    split_row("no-samples", 8, (), [1, None]),
    split_row("large", 96, tuple(range(1, 61)), [1, None]),
]

# ---------------------------------------------------------------- pool, attention_pool


def pooled(width, *lengths, heads=0):
    def make(rng):
        arrays = {"x": rng.standard_normal((sum(lengths), width)), "offsets": offsets(*lengths)}
        if heads:
            arrays["scores"] = 2 * rng.standard_normal((sum(lengths), heads))
        return arrays

    return make


POOL_ERRORS = (
    ({"x": "float:11"}, ValueError, "pool: x has 1 dimension, expected 2"),
    ({"x": "int:11,20"}, TypeError, "pool: x has dtype int64, expected a floating dtype"),
    ({"offsets": np.array([0.0, 11.0])}, TypeError, "pool: offsets has dtype float64, expected an integer dtype"),
    ({"offsets": np.zeros((1, 2), np.int64)}, ValueError, "pool: offsets has 2 dimensions, expected 1"),
    ({"offsets": np.array([], np.int64)}, ValueError, "pool: offsets is empty, expected samples + 1 entries"),
    ({"offsets": np.array([1, 11])}, ValueError, "pool: offsets[0] is 1, expected 0"),
    ({"offsets": np.array([0, 6, 5, 11])}, ValueError, "pool: offsets[2] is 5, below the 6 before it"),
    ({"offsets": np.array([0, 6])}, ValueError, "pool: offsets ends at 6, expected 11, the number of rows of x"),
    ({"offsets": None}, TypeError, "pool: offsets is missing"),
    ({"mode": "median"}, ValueError, "pool: mode is 'median', expected one of mean, max, first, last"),
    ({"mode": "attention"}, TypeError, "pool: mode 'attention' needs scores"),
)
SCORE_ERRORS = (
    ({"scores": "float:10,2"}, ValueError, "attention_pool: scores has shape (10, 2), expected (11, *)"),
    ({"scores": "float:11,3"}, ValueError, "attention_pool: scores has 3 heads, expected a divisor of 20"),
    ({"scores": "float:11,0"}, ValueError, "attention_pool: scores has 0 heads, expected a divisor of 20"),
    ({"scores": None}, TypeError, "attention_pool: scores is missing"),
    ({"offsets": np.array([0, 6])}, ValueError, "attention_pool: offsets ends at 6, expected 11"),
)


def pool_row(name, mode, *shape, errors=()):
    return Case(f"pool-{mode}-{name}", "ops.pool", pooled(*shape), {"mode": mode}, ("x",), errors, samples="offsets")


def attention_row(name, *shape, heads, errors=()):
    make = pooled(*shape, heads=heads)
    return Case(f"attention_pool-{name}", "ops.attention_pool", make, {}, ("x", "scores"), errors, samples="offsets")


POOL = [
    *[
        pool_row(name, mode, *shape)
        for mode in ("mean", "max", "first", "last")
        for name, shape in (
            ("empty-sample", (20, 5, 0, 6)),
            ("wide", (530, 3, 1)),
            ("narrow", (1, 4, 2)),
            ("no-rows", (20, 0, 0)),
            ("no-samples", (20,)),
            ("large", (64, *range(100))),
        )
    ],
    pool_row("errors", "mean", 20, 5, 0, 6, errors=POOL_ERRORS),
    attention_row("one-head", 20, 5, 0, 6, heads=1, errors=SCORE_ERRORS),
    attention_row("heads", 60, 7, 1, 40, heads=4),
    attention_row("a-head-a-column", 10, 4, 2, heads=10),
    attention_row("no-rows", 20, 0, 0, heads=2),
    attention_row("no-samples", 20, heads=2),
    attention_row("large", 72, *range(100), heads=3),
]

# ---------------------------------------------------------------- patch_embed


def pictures(batch, down, across, channels, width, ph, pw, bias=True):
    def make(rng):
        return {
            "images": rng.standard_normal((batch, down * ph, across * pw, channels)),
            "weight": rng.standard_normal((width, channels, ph, pw)) / (channels * ph * pw) ** 0.5,
            "bias": rng.standard_normal(width) if bias else None,
        }

    return make


PATCH_ERRORS = (
    (
        {"images": "float:2,9,8,3"},
        ValueError,
        "patch_embed: images are 9 x 8 pixels, expected multiples of the patch, 4 x 4",
    ),
    ({"images": "float:8,8,3"}, ValueError, "patch_embed: images has 3 dimensions, expected 4"),
    ({"images": "int:2,8,8,3"}, TypeError, "patch_embed: images has dtype int64, expected a floating dtype"),
    ({"images": "float:2,3,8,8"}, ValueError, "patch_embed: weight has shape (11, 3, 4, 4), expected (*, 8, *, *)"),
    ({"weight": "float:11,48"}, ValueError, "patch_embed: weight has 2 dimensions, expected 4"),
    ({"weight": "float:11,3,0,4"}, ValueError, "patch_embed: weight has shape (11, 3, 0, 4), expected no zeros"),
    (
        {"bias": "float:3"},
        ValueError,
        "patch_embed: bias has shape (3,), expected (11,), the first dimension of weight",
    ),
)


def patch_row(name, *shape, errors=(), **more):
    return StreamCase(
        f"patch_embed-{name}",
        "ops.patch_embed",
        pictures(*shape, **more),
        {},
        ("images", "weight", "bias"),
        errors,
        adapt=lambda function, **arguments: checked(function(**arguments)),
    )


PATCH = [
    patch_row("colour", 2, 2, 2, 3, 11, 4, 4, errors=PATCH_ERRORS),
    patch_row("grey", 3, 2, 3, 1, 16, 8, 8),
    patch_row("five-channels", 1, 3, 1, 5, 7, 2, 2),
    patch_row("rectangular", 2, 2, 3, 3, 9, 2, 5),
    patch_row("pixels", 1, 4, 3, 2, 6, 1, 1),
    patch_row("no-bias", 2, 2, 2, 3, 11, 4, 4, bias=False),
    patch_row("no-pictures", 0, 2, 2, 3, 11, 4, 4),
    patch_row("large", 8, 7, 7, 3, 64, 16, 16),
]

ROWS = [*CONCAT, *SPLIT, *POOL, *PATCH]
