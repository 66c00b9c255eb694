"""The mathematics in float64 NumPy: one readable function an operator, under the operator's name, and its gradient
under that name with ``_backward``.

A function is called as that of the same name in ``plait.ops`` or ``plait.losses``, with float64 arrays in place of
tensors, and gives float64 arrays; only ``stream_concat``, ``stream_split`` and ``patch_embed`` have rows and offsets
where those have streams. The names of the C operator's inputs are keywords too (``relative_bias``, ``pair_offsets``),
and what draws random bits takes ``key`` and ``counter``: n and 0 in the first call after ``plait.seed(n)``.

A ``_backward`` takes the gradient of the output first (a tuple when there are several outputs) and returns a tuple
with one gradient for each array input, in the order of the C operator's inputs (None for what has no gradient:
offsets, indices, absent inputs). Functions that fix an argument of another (``relu``, ``mse``) have the gradient of
that; ``adamw`` is the optimiser's step.
"""

from .activation import activation, activation_backward, gelu, quick_gelu, relu, sigmoid, silu, tanh
from .attention import attention, attention_backward, attention_weights
from .attention_block import attention_block, attention_block_backward
from .blocks import mlp_block, mlp_block_backward
from .dropout import dropout, dropout_backward
from .embedding import embedding, embedding_backward
from .linear import linear, linear_backward, mlp, mlp_backward
from .losses import (
    cross_entropy,
    cross_entropy_backward,
    info_nce,
    info_nce_backward,
    sigmoid_contrastive,
    sigmoid_contrastive_backward,
)
from .norm import l2_normalize, l2_normalize_backward, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from .optim import adamw
from .positions import add_positions, add_positions_backward, rope, rope_backward
from .random import drop_below, drop_below_16, philox, random_words
from .regression import huber, l1, mse, regression_loss, regression_loss_backward
from .streams import (
    attention_pool,
    attention_pool_backward,
    patch_embed,
    patch_embed_backward,
    pool,
    pool_backward,
    stream_concat,
    stream_concat_backward,
    stream_split,
    stream_split_backward,
)

__all__ = [
    "activation",
    "activation_backward",
    "adamw",
    "add_positions",
    "add_positions_backward",
    "attention",
    "attention_backward",
    "attention_block",
    "attention_block_backward",
    "attention_pool",
    "attention_pool_backward",
    "attention_weights",
    "cross_entropy",
    "cross_entropy_backward",
    "drop_below",
    "drop_below_16",
    "dropout",
    "dropout_backward",
    "embedding",
    "embedding_backward",
    "gelu",
    "huber",
    "info_nce",
    "info_nce_backward",
    "l1",
    "l2_normalize",
    "l2_normalize_backward",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "mlp",
    "mlp_backward",
    "mlp_block",
    "mlp_block_backward",
    "mse",
    "patch_embed",
    "patch_embed_backward",
    "philox",
    "pool",
    "pool_backward",
    "quick_gelu",
    "random_words",
    "regression_loss",
    "regression_loss_backward",
    "relu",
    "rms_norm",
    "rms_norm_backward",
    "rope",
    "rope_backward",
    "sigmoid",
    "sigmoid_contrastive",
    "sigmoid_contrastive_backward",
    "silu",
    "stream_concat",
    "stream_concat_backward",
    "stream_split",
    "stream_split_backward",
    "tanh",
]
