"""Rows of the linear layer."""

from cases import Case


def inputs(n, k, d, bias=True, leading=None):
    def make(rng):
        return {
            "x": rng.standard_normal((*(leading or (n,)), k)),
            "weight": rng.standard_normal((d, k)) / k**0.5,
            "bias": rng.standard_normal(d) if bias else None,
        }

    return make


ERRORS = (
    ({"weight": "float:3,7"}, ValueError, "linear: weight has shape (3, 7), expected (*, 20), the last dimension of x"),
    ({"bias": "float:3"}, ValueError, "linear: bias has shape (3,), expected (12,)"),
    ({"x": "float:20"}, ValueError, "linear: x has 1 dimension, expected 2 or more"),
    ({"x": "float:"}, ValueError, "linear: x has 0 dimensions, expected 2 or more"),
    ({"x": "int:2,13,20"}, TypeError, "linear: x has dtype int64, expected a floating dtype"),
    ({"x": "int:13,20"}, TypeError, "linear: x has dtype int64, expected a floating dtype"),
    ({"activation": "swish"}, ValueError, "linear: activation is 'swish', expected one of none, relu"),
)

ROWS = [
    Case("linear", "ops.linear", inputs(13, 20, 12), {}, ("x", "weight", "bias"), errors=ERRORS),
    Case("linear-no-bias", "ops.linear", inputs(130, 33, 17, bias=False), {}, ("x", "weight")),
    Case("linear-one-row", "ops.linear", inputs(1, 16, 16), {}, ("x", "weight", "bias")),
    Case("linear-leading", "ops.linear", inputs(None, 20, 12, leading=(2, 3, 4)), {}, ("x", "weight", "bias")),
    Case("linear-leading-no-rows", "ops.linear", inputs(None, 20, 12, leading=(2, 0)), {}, ("x", "weight", "bias")),
    Case("linear-no-rows", "ops.linear", inputs(0, 16, 5), {}, ("x", "weight", "bias")),
    *[
        Case(f"linear-{act}", "ops.linear", inputs(40, 24, 19), {"activation": act}, ("x", "weight", "bias"))
        for act in ("relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid")
    ],
]
