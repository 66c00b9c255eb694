"""Rows of the two-layer perceptron."""

from cases import Case


def inputs(n, k, f, d, bias=True, leading=None):
    def make(rng):
        return {
            "x": rng.standard_normal((*(leading or (n,)), k)),
            "weight1": rng.standard_normal((f, k)) / k**0.5,
            "bias1": rng.standard_normal(f) if bias else None,
            "weight2": rng.standard_normal((d, f)) / f**0.5,
            "bias2": rng.standard_normal(d) if bias else None,
        }

    return make


ALL = ("x", "weight1", "bias1", "weight2", "bias2")
ERRORS = (
    ({"weight1": "float:24,7"}, ValueError, "mlp: weight1 has shape (24, 7), expected (*, 12)"),
    ({"bias1": "float:3"}, ValueError, "mlp: bias1 has shape (3,), expected (24,)"),
    ({"weight2": "float:12,7"}, ValueError, "mlp: weight2 has shape (12, 7), expected (*, 24)"),
    ({"bias2": "float:3"}, ValueError, "mlp: bias2 has shape (3,), expected (9,)"),
    ({"activation": 3}, ValueError, "mlp: activation is 3, expected one of"),
)

ROWS = [
    Case("mlp", "ops.mlp", inputs(70, 12, 24, 9), {}, ALL, errors=ERRORS),
    Case("mlp-silu-no-bias", "ops.mlp", inputs(9, 33, 17, 33, bias=False), {"activation": "silu"}, ALL),
    Case("mlp-first-layer-frozen", "ops.mlp", inputs(9, 8, 16, 8), {"activation": "relu"}, ("weight2", "bias2")),
    Case("mlp-leading", "ops.mlp", inputs(None, 12, 24, 9, leading=(5, 1, 3)), {}, ALL),
    Case("mlp-no-rows", "ops.mlp", inputs(0, 8, 16, 8), {}, ALL),
]
