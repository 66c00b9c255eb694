"""Rows of the fused sublayers. Their twins are compositions, so these rows also say that fusing changes nothing."""

from cases import Case, offsets


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


def attention_inputs(lengths, d, head, heads, kv_heads=None, context=None, width=None, bias=True):
    kv_heads = heads if kv_heads is None else kv_heads
    cross = context is not None

    def make(rng):
        n, rows = sum(lengths), (heads + (0 if cross else 2 * kv_heads)) * head
        made = {
            "x": rng.standard_normal((n, d)),
            "offsets": offsets(*lengths),
            "norm_weight": 1 + 0.1 * rng.standard_normal(d),
            "norm_bias": rng.standard_normal(d),
            "weight": rng.standard_normal((rows, d)) / d**0.5,
            "bias": rng.standard_normal(rows) if bias else None,
            "out_weight": rng.standard_normal((d, heads * head)) / d**0.5,
            "out_bias": rng.standard_normal(d) if bias else None,
        }
        if cross:
            made |= {
                "context": rng.standard_normal((sum(context), width)),
                "context_offsets": offsets(*context),
                "context_weight": rng.standard_normal((2 * kv_heads * head, width)) / width**0.5,
                "context_bias": rng.standard_normal(2 * kv_heads * head) if bias else None,
            }
        return made

    return make


MLP = ("x", "norm_weight", "norm_bias", "weight1", "bias1", "weight2", "bias2")
SELF = ("x", "norm_weight", "norm_bias", "weight", "bias", "out_weight", "out_bias")
CROSS = (*SELF, "context", "context_weight", "context_bias")
RMS_SELF = tuple(g for g in SELF if g != "norm_bias")

MLP_ERRORS = (
    ({"weight2": "float:7,24"}, ValueError, "mlp_block: weight2 has shape (7, 24), expected (12, *)"),
    ({"norm_weight": "float:3"}, ValueError, "mlp_block: norm_weight has shape (3,), expected (12,)"),
    ({"eps": -1.0}, ValueError, "mlp_block: eps is -1, expected a finite number above 0"),
    ({"residual_dropout": 1.0}, ValueError, "mlp_block: residual_dropout is 1, expected at least 0 and below 1"),
    ({"norm": "batch"}, ValueError, "mlp_block: norm is 'batch', expected one of layer, rms"),
)
SELF_ERRORS = (
    ({"heads": 5}, ValueError, "attention_block: kv_heads is 4, expected a divisor of heads, 5"),
    ({"heads": 0}, ValueError, "attention_block: heads is 0"),
    ({"weight": "float:25,16"}, ValueError, "attention_block: weight has 25 rows, expected a multiple of heads + 2"),
    ({"out_weight": "float:16,9"}, ValueError, "attention_block: out_weight has shape (16, 9), expected (16, 16)"),
    ({"offsets": "int:0"}, ValueError, "attention_block: offsets is empty"),
    ({"context": "float:3,4"}, ValueError, "context, context_offsets and context_weight go together"),
)

ROWS = [
    Case("mlp_block", "ops.mlp_block", mlp_inputs(70, 12, 24), {}, MLP, errors=MLP_ERRORS),
    Case("mlp_block-post", "ops.mlp_block", mlp_inputs(33, 17, 9), {"pre_norm": False, "activation": "relu"}, MLP),
    Case("mlp_block-rms", "ops.mlp_block", mlp_inputs(8, 16, 32), {"norm": "rms"},
         tuple(g for g in MLP if g != "norm_bias")),
    Case("mlp_block-dropout", "ops.mlp_block", mlp_inputs(20, 12, 24), {"residual_dropout": 0.3}, MLP),
    Case("mlp_block-post-dropout", "ops.mlp_block", mlp_inputs(20, 12, 24),
         {"residual_dropout": 0.3, "pre_norm": False}, MLP),
    Case("mlp_block-no-rows", "ops.mlp_block", mlp_inputs(0, 12, 24), {}, MLP),
    Case("attention_block", "ops.attention_block", attention_inputs((5, 0, 9, 1), 16, 4, 4),
         {"heads": 4, "kv_heads": 4}, SELF, errors=SELF_ERRORS, samples="offsets"),
    Case("attention_block-grouped-causal", "ops.attention_block", attention_inputs((7, 12), 24, 8, 4, 2),
         {"heads": 4, "kv_heads": 2, "causal": True}, SELF),
    Case("attention_block-post", "ops.attention_block", attention_inputs((6, 3), 16, 8, 2),
         {"heads": 2, "pre_norm": False}, SELF),
    Case("attention_block-rms", "ops.attention_block", attention_inputs((6, 3), 16, 5, 3),
         {"heads": 3, "norm": "rms", "scale": 0.3}, RMS_SELF),
    Case("attention_block-no-bias", "ops.attention_block", attention_inputs((6, 3), 16, 8, 2, bias=False),
         {"heads": 2}, SELF),
    Case("attention_block-dropout", "ops.attention_block", attention_inputs((6, 3), 16, 8, 2),
         {"heads": 2, "dropout": 0.2, "residual_dropout": 0.3}, SELF),
    Case("attention_block-cross", "ops.attention_block", attention_inputs((6, 3, 4), 16, 8, 2, None, (5, 0, 70), 12),
         {"heads": 2}, CROSS),
    Case("attention_block-cross-post-dropout", "ops.attention_block",
         attention_inputs((6, 3, 4), 16, 4, 4, 2, (5, 0, 7), 20),
         {"heads": 4, "kv_heads": 2, "pre_norm": False, "residual_dropout": 0.2}, CROSS),
    Case("attention_block-no-rows", "ops.attention_block", attention_inputs((), 16, 8, 2), {"heads": 2}, SELF),
]
