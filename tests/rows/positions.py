"""Rows of added and rotary positions."""

import numpy as np
from cases import Case, offsets


def added(width, *lengths, entries=None, start=None):
    def make(rng):
        arrays = {"x": rng.standard_normal((sum(lengths), width)), "offsets": offsets(*lengths)}
        arrays["table"] = rng.standard_normal((entries, width)) if entries else None
        if start:
            arrays["start"] = np.array(start)
        return arrays

    return make


def add(name, make, errors=()):
    return Case(f"add_positions-{name}", "ops.add_positions", make, {}, ("x", "table"), errors, samples="offsets")


def turned(width, *lengths, start=None, times=False):
    def make(rng):
        arrays = {"x": rng.standard_normal((sum(lengths), width)), "offsets": offsets(*lengths)}
        if start:
            arrays["start"] = np.array(start)
        if times:
            arrays["times"] = rng.integers(0, 64000, sum(lengths)) / 64  # float32 holds them
        return arrays

    return make


def rope(name, make, errors=(), **options):
    options.setdefault("heads", 1)
    return Case(f"rope-{name}", "ops.rope", make, options, ("x",), errors, samples="offsets")


ADD_ERRORS = (
    ({"table": "float:9,20"}, ValueError, "add_positions: sample 1 has 10 rows from position 0 on, expected at most 9"),
    ({"table": "float:20,3"}, ValueError, "add_positions: table has shape (20, 3), expected (*, 20)"),
    (
        {"offsets": np.array([0, 3, 14])},
        ValueError,
        "add_positions: offsets ends at 14, expected 13, the number of rows",
    ),
    ({"start": np.array([0, 3])}, ValueError, "add_positions: sample 1 has 10 rows from position 3 on"),
    ({"start": np.array([0])}, ValueError, "add_positions: start has shape (1,), expected (2,), one a sample"),
    ({"start": np.array([0, -1])}, IndexError, "add_positions: start[1] is -1, expected 0 to"),
    ({"x": "float:20"}, ValueError, "add_positions: x has 1 dimension, expected 2"),
)
ROPE_ERRORS = (
    ({"heads": 3}, ValueError, "rope: x has width 32, expected a multiple of heads, which is 3"),
    ({"heads": 0}, ValueError, "rope: x has width 32, expected a multiple of heads, which is 0"),
    ({"heads": 2.0}, TypeError, "rope: heads is 2.0, expected a whole number"),
    ({"heads": 32}, ValueError, "rope: rotary_dim is 1, expected an even number from 2 to 1, the width of a head"),
    ({"rotary_dim": 10}, ValueError, "rope: rotary_dim is 10, expected an even number from 2 to 8"),
    ({"rotary_dim": 3}, ValueError, "rope: rotary_dim is 3, expected an even number from 2 to 8"),
    ({"base": 0.0}, ValueError, "rope: base is 0, expected a finite number above 0"),
    ({"times": np.zeros(5)}, ValueError, "rope: times has shape (2, 5), expected (2, 13)"),
    ({"times": "float:13,2"}, ValueError, "rope: times has shape (13, 2)"),
    ({"times": np.zeros(13), "start": np.array([0, 1])}, ValueError, "rope: start was given beside times"),
    ({"start": np.array([0, -1])}, IndexError, "rope: start[1] is -1, expected 0 to"),
)

ROWS = [
    add("learned", added(20, 3, 10, entries=10), ADD_ERRORS),
    add("learned-start", added(33, 3, 0, 7, 5, entries=60, start=[5, 900, 53, 0])),
    add("learned-one-wide", added(1, 4, 2, entries=5)),
    add("learned-large", added(130, *[37] * 20, entries=40)),
    add("learned-no-rows", added(6, 0, 0, entries=3)),
    add("sinusoids", added(20, 3, 10)),
    *[add(f"sinusoids-{d}-wide", added(d, 5, 0, 3)) for d in (1, 3, 32, 33, 70)],
    add("sinusoids-late", added(40, 6, 6, start=[100_000, 123_456_789])),
    add("sinusoids-large", added(96, *[50] * 11)),
    add("sinusoids-no-rows", added(6)),
    rope("heads", turned(32, 3, 10), ROPE_ERRORS, heads=4),
    rope("start", turned(48, 3, 0, 4, start=[7, 3, 100_000]), heads=2),
    rope("times", turned(24, 3, 0, 4, times=True), heads=2),
    *[rope(f"{d}-wide", turned(d, 5, 3)) for d in (2, 30, 34, 128)],
    *[rope(f"pairs-{d}-wide", turned(d, 5, 3), interleaved=True) for d in (2, 30, 34, 66)],
    rope("part", turned(60, 9, 4), heads=3, rotary_dim=6),
    rope("pairs-part", turned(60, 9, 4), heads=3, rotary_dim=6, interleaved=True),
    rope("base", turned(16, 9, 4), heads=2, base=500.0),
    rope("large", turned(128, *[40] * 20), heads=4),
    rope("no-rows", turned(8, 0, 0), heads=2),
]
