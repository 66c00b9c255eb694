"""Rows of the fused attention sublayer: the twin is a composition, so they also say that fusing changes nothing."""

from cases import Case, offsets


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


SELF = ("x", "norm_weight", "norm_bias", "weight", "bias", "out_weight", "out_bias")
CROSS = (*SELF, "context", "context_weight", "context_bias")
RMS_SELF = tuple(g for g in SELF if g != "norm_bias")

SELF_ERRORS = (
    ({"heads": 5}, ValueError, "attention_block: kv_heads is 4, expected a divisor of heads, 5"),
    ({"heads": 0}, ValueError, "attention_block: heads is 0"),
    ({"weight": "float:25,16"}, ValueError, "attention_block: weight has 25 rows, expected a multiple of heads + 2"),
    ({"out_weight": "float:16,9"}, ValueError, "attention_block: out_weight has shape (16, 9), expected (16, 16)"),
    ({"offsets": "int:0"}, ValueError, "attention_block: offsets is empty"),
    ({"context": "float:3,4"}, ValueError, "context, context_offsets and context_weight go together"),
)

ROWS = [
    Case(
        "attention_block",
        "ops.attention_block",
        attention_inputs((5, 0, 9, 1), 16, 4, 4),
        {"heads": 4, "kv_heads": 4},
        SELF,
        errors=SELF_ERRORS,
        samples="offsets",
    ),
    Case(
        "attention_block-grouped-causal",
        "ops.attention_block",
        attention_inputs((7, 12), 24, 8, 4, 2),
        {"heads": 4, "kv_heads": 2, "causal": True},
        SELF,
    ),
    Case(
        "attention_block-post",
        "ops.attention_block",
        attention_inputs((6, 3), 16, 8, 2),
        {"heads": 2, "pre_norm": False},
        SELF,
    ),
    Case(
        "attention_block-rms",
        "ops.attention_block",
        attention_inputs((6, 3), 16, 5, 3),
        {"heads": 3, "norm": "rms", "scale": 0.3},
        RMS_SELF,
    ),
    Case(
        "attention_block-no-bias",
        "ops.attention_block",
        attention_inputs((6, 3), 16, 8, 2, bias=False),
        {"heads": 2},
        SELF,
    ),
    Case(
        "attention_block-dropout",
        "ops.attention_block",
        attention_inputs((6, 3), 16, 8, 2),
        {"heads": 2, "dropout": 0.2, "residual_dropout": 0.3},
        SELF,
    ),
    Case(
        "attention_block-cross",
        "ops.attention_block",
        attention_inputs((6, 3, 4), 16, 8, 2, None, (5, 0, 70), 12),
        {"heads": 2},
        CROSS,
    ),
    Case(
        "attention_block-cross-post-dropout",
        "ops.attention_block",
        attention_inputs((6, 3, 4), 16, 4, 4, 2, (5, 0, 7), 20),
        {"heads": 4, "kv_heads": 2, "pre_norm": False, "residual_dropout": 0.2},
        CROSS,
    ),
    Case("attention_block-no-rows", "ops.attention_block", attention_inputs((), 16, 8, 2), {"heads": 2}, SELF),
]
