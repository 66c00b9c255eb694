"""Rows of the activations."""

import numpy as np
from cases import Case

KINDS = ("relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid")


def inputs(*shape, scale=2.0):
    return lambda rng: {"x": np.asarray(scale * rng.standard_normal(shape))}


ERRORS = (
    ({"kind": "swish"}, ValueError, "activation: kind is 'swish', expected one of none, relu, gelu"),
    ({"kind": 1}, ValueError, "activation: kind is 1, expected one of none, relu, gelu"),
    ({"x": "int:13,20"}, TypeError, "activation: x has dtype int64, expected a floating dtype"),
)

ROWS = [
    *[Case(f"activation-{k}", "ops.activation", inputs(7, 33), {"kind": k}, ("x",), errors=ERRORS) for k in KINDS],
    Case("activation-none", "ops.activation", inputs(5, 3), {"kind": None}, ("x",)),
    Case("activation-scalar", "ops.activation", inputs(), {"kind": "gelu"}, ("x",)),
    Case("activation-empty", "ops.activation", inputs(0, 4), {"kind": "gelu"}, ("x",)),
    Case("activation-large", "ops.activation", inputs(3, 50, 300), {"kind": "gelu"}, ("x",)),
    Case("activation-steep", "ops.activation", inputs(200, scale=30.0), {"kind": "quick_gelu"}, ("x",)),
    Case("relu", "ops.relu", inputs(3, 17), {}, ("x",)),
    Case(
        "gelu",
        "ops.gelu",
        inputs(3, 17),
        {},
        ("x",),
        errors=(({"approximate": "fast"}, ValueError, "gelu: approximate is 'fast', expected 'none' or 'tanh'"),),
    ),
    Case("gelu-tanh", "ops.gelu", inputs(3, 17), {"approximate": "tanh"}, ("x",)),
    Case("quick_gelu", "ops.quick_gelu", inputs(3, 17), {}, ("x",)),
    Case("silu", "ops.silu", inputs(3, 17), {}, ("x",)),
    Case("tanh", "ops.tanh", inputs(3, 17), {}, ("x",)),
    Case("sigmoid", "ops.sigmoid", inputs(3, 17), {}, ("x",)),
]
