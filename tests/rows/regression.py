"""Rows of the losses of differences: sizes around the vectors and the chunks of 4096 elements, weights of rows."""

import numpy as np
from cases import Case


def inputs(*shape, present=None):
    def make(rng):
        arrays = {
            "prediction": np.asarray(rng.standard_normal(shape)),
            "target": np.asarray(rng.standard_normal(shape)),
        }
        if present == "flags":
            arrays["present"] = rng.random(shape[0]) < 0.6
        elif present == "weights":
            arrays["present"] = rng.random(shape[0])
        elif present == "none":
            arrays["present"] = np.zeros(shape[0], bool)
        return arrays

    return make


BOTH = ("prediction", "target")
ERRORS = (
    ({"target": "float:5,7"}, ValueError, "regression_loss: target has shape (5, 7), expected (13, 17), the shape of"),
    ({"target": "int:13,17"}, TypeError, "regression_loss: target has dtype int64, expected a floating dtype"),
    ({"reduction": "max"}, ValueError, "regression_loss: reduction is 'max', expected one of mean, sum, none"),
    ({"present": "float:17"}, ValueError, "regression_loss: present has shape (17,), expected (13,), the rows of"),
    ({"present": np.full(13, -1.0)}, ValueError, "regression_loss: present[0] is -1, expected a finite weight"),
    ({"present": np.full(13, np.nan)}, ValueError, "regression_loss: present[0] is nan, expected a finite weight"),
    ({"present": ["yes"] * 13}, TypeError, "regression_loss: present has dtype <U3, expected booleans or weights"),
)
MORE_ERRORS = (
    ({"kind": "rmse"}, ValueError, "regression_loss: kind is 'rmse', expected one of mse, l1, huber"),
    ({"delta": 0.0}, ValueError, "regression_loss: delta is 0, expected a finite number above 0"),
)


def named(name):
    """The errors begin with the function that was called."""
    return tuple((change, error, name + text.removeprefix("regression_loss")) for change, error, text in ERRORS)


def row(name, *shape, errors=(), present=None, **options):
    make = inputs(*shape, present=present)
    return Case(f"regression_loss-{name}", "ops.regression_loss", make, options, BOTH, errors)


ROWS = [
    row("plain", 13, 17, errors=(*ERRORS, *MORE_ERRORS)),
    *[
        row(f"{kind}-{reduction}-{present}", 13, 17, kind=kind, reduction=reduction, present=present, delta=0.7)
        for kind, presents in (
            ("mse", (None, "flags", "weights")),
            ("l1", ("flags", "weights", None)),
            ("huber", ("weights", None, "flags")),
        )
        for reduction, present in zip(("mean", "sum", "none"), presents, strict=True)
    ],
    *[row(f"{n}-numbers", n, present="weights") for n in (1, 33, 5000)],
    row("number"),
    row("empty", 0, 4),
    row("no-width", 4, 0, present="flags"),
    row("empty-rows", 0, 4, present="flags"),
    row("nothing-present", 6, 5, present="none"),
    row("nothing-present-numbers", 6, present="none"),
    row("pictures", 3, 4, 5, 6, present="flags", kind="huber"),
    row("chunks", 90, 100, kind="huber"),
    row("chunks-weights", 90, 100, kind="huber", present="weights"),
    row("long-row", 2, 9001, present="weights"),
    Case("mse", "losses.mse", inputs(13, 17), {}, BOTH, named("mse")),
    Case("l1", "losses.l1", inputs(13, 17), {}, BOTH, named("l1")),
    Case("huber", "losses.huber", inputs(13, 17), {"delta": 0.5}, BOTH, named("huber")),
]
