"""Rows of the embedding."""

import numpy as np
from cases import Case


def inputs(entries, width, *shape):
    return lambda rng: {"ids": rng.integers(0, entries, shape), "weight": rng.standard_normal((entries, width))}


ERRORS = (
    ({"ids": np.array([10])}, IndexError, "embedding: ids[0] is 10, expected 0 to 9, the rows of weight"),
    ({"ids": np.array([[1, 2], [3, -1]])}, IndexError, "embedding: ids[1, 1] is -1, expected 0 to 9"),
    ({"ids": "float:4"}, TypeError, "embedding: ids has dtype float32, expected an integer dtype"),
    ({"weight": "float:10"}, ValueError, "embedding: weight has 1 dimension, expected 2"),
    ({"padding_idx": 10}, ValueError, "embedding: padding_idx is 10, expected 0 to 9, the rows of weight"),
    ({"padding_idx": -2}, ValueError, "embedding: padding_idx is -2, expected at least 0 or None"),
)

ROWS = [
    Case("embedding", "ops.embedding", inputs(10, 33, 25), {}, ("weight",), errors=ERRORS),
    Case("embedding-pairs", "ops.embedding", inputs(10, 8, 5, 7), {}, ("weight",)),
    Case("embedding-one-id", "ops.embedding", inputs(10, 3), {}, ("weight",)),
    Case("embedding-one-wide", "ops.embedding", inputs(4, 1, 30), {}, ("weight",)),
    Case("embedding-no-ids", "ops.embedding", inputs(10, 5, 0), {}, ("weight",)),
    Case("embedding-no-entries", "ops.embedding", inputs(1, 5, 0), {}, ("weight",)),
    Case("embedding-many-ids", "ops.embedding", inputs(50, 100, 3000), {}, ("weight",)),
    Case("embedding-many-entries", "ops.embedding", inputs(3000, 48, 20), {}, ("weight",)),
]
