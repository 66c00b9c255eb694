"""The mathematics in float64 NumPy: one readable function an operator, under the operator's name, and its gradient
under that name with ``_backward``.

Inputs are named as in ``plait.ops``. A ``_backward`` takes the gradient of the output first (a tuple when there are
several outputs) and returns a tuple with one gradient for each array input, in the order of the C operator's inputs
(None for what has no gradient: offsets, indices, absent inputs).
"""

from .activation import activation, activation_backward
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
from .positions import add_positions, add_positions_backward, rope, rope_backward
from .random import drop_below, philox, random_words
from .regression import regression_loss, regression_loss_backward
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
    "dropout",
    "dropout_backward",
    "embedding",
    "embedding_backward",
    "info_nce",
    "info_nce_backward",
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
    "patch_embed",
    "patch_embed_backward",
    "philox",
    "pool",
    "pool_backward",
    "random_words",
    "regression_loss",
    "regression_loss_backward",
    "rms_norm",
    "rms_norm_backward",
    "rope",
    "rope_backward",
    "sigmoid_contrastive",
    "sigmoid_contrastive_backward",
    "stream_concat",
    "stream_concat_backward",
    "stream_split",
    "stream_split_backward",
]
