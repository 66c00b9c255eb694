"""Rows of the fused MLP sublayer. Their twins are compositions, so these rows also say that fusing changes nothing."""

from cases import Case


def mlp_inputs(n, d, f):
    def make(rng):
        return {
            "x": rng.standard_normal((n, d)),
            "norm_weight": 1 + 0.1 * rng.standard_normal(d),
            "norm_bias": rng.standard_normal(d),
            "weight1": rng.standard_normal((f, d)) / d**0.5,
            "bias1": rng.standard_normal(f),
            "weight2": rng.standard_normal((d, f)) / f**0.5,
            "bias2": rng.standard_normal(d),
        }

    return make


MLP = ("x", "norm_weight", "norm_bias", "weight1", "bias1", "weight2", "bias2")
MLP_ERRORS = (
    ({"weight2": "float:7,24"}, ValueError, "mlp_block: weight2 has shape (7, 24), expected (12, *)"),
    ({"norm_weight": "float:3"}, ValueError, "mlp_block: norm_weight has shape (3,), expected (12,)"),
    ({"eps": -1.0}, ValueError, "mlp_block: eps is -1, expected a finite number above 0"),
    ({"residual_dropout": 1.0}, ValueError, "mlp_block: residual_dropout is 1, expected at least 0 and below 1"),
    ({"norm": "batch"}, ValueError, "mlp_block: norm is 'batch', expected one of layer, rms"),
)
ROWS = [
    Case("mlp_block", "ops.mlp_block", mlp_inputs(70, 12, 24), {}, MLP, errors=MLP_ERRORS),
    Case("mlp_block-post", "ops.mlp_block", mlp_inputs(33, 17, 9), {"pre_norm": False, "activation": "relu"}, MLP),
    Case(
        "mlp_block-rms",
        "ops.mlp_block",
        mlp_inputs(8, 16, 32),
        {"norm": "rms"},
        tuple(g for g in MLP if g != "norm_bias"),
    ),
    Case("mlp_block-dropout", "ops.mlp_block", mlp_inputs(20, 12, 24), {"residual_dropout": 0.3}, MLP),
    Case(
        "mlp_block-post-dropout",
        "ops.mlp_block",
        mlp_inputs(20, 12, 24),
        {"residual_dropout": 0.3, "pre_norm": False},
        MLP,
    ),
    Case("mlp_block-no-rows", "ops.mlp_block", mlp_inputs(0, 12, 24), {}, MLP),
]
