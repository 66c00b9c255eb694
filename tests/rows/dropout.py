"""Rows of dropout: counts around the blocks of words that a kernel draws at once."""

import numpy as np
from cases import Case


def inputs(*shape):
    return lambda rng: {"x": np.asarray(rng.standard_normal(shape))}


ERRORS = (
    ({"p": 1.0}, ValueError, "dropout: p is 1, expected at least 0 and below 1"),
    ({"p": -0.5, "training": False}, ValueError, "dropout: p is -0.5, expected at least 0 and below 1"),
    ({"x": "int:5,5"}, TypeError, "dropout: x has dtype int64, expected a floating dtype"),
)

ROWS = [
    Case("dropout", "ops.dropout", inputs(13, 33), {"p": 0.3}, ("x",), errors=ERRORS),
    *[Case(f"dropout-{n}", "ops.dropout", inputs(n), {}, ("x",)) for n in (0, 1, 31, 64, 65, 127)],
    Case("dropout-scalar", "ops.dropout", inputs(), {}, ("x",)),
    Case("dropout-large", "ops.dropout", inputs(61, 1003), {"p": 0.1}, ("x",)),
    Case("dropout-rare", "ops.dropout", inputs(70, 50), {"p": 0.001}, ("x",)),
    Case("dropout-zero", "ops.dropout", inputs(7, 5), {"p": 0.0}, ("x",)),
    Case("dropout-evaluation", "ops.dropout", inputs(7, 5), {"p": 0.3, "training": False}, ("x",)),
]
