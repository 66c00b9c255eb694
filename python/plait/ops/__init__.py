"""Operators: each runs in the C core on float32, is differentiable, and has a twin in ``plait.reference``.

Arithmetic, reductions and shapes (``add`` to ``where``) are NumPy on the same tape.
"""

from . import _methods  # noqa: F401  (gives Tensor its operators)
from .activation import activation, gelu, quick_gelu, relu, sigmoid, silu, tanh
from .arithmetic import (
    abs,
    add,
    clip,
    divide,
    exp,
    log,
    matmul,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    sqrt,
    subtract,
    where,
)
from .attention import PairBias, RelativeBias, attention
from .attention_block import attention_block
from .blocks import mlp_block
from .dropout import dropout
from .embedding import embedding
from .linear import linear, mlp
from .norm import l2_normalize, layer_norm, rms_norm
from .patch import patch_embed
from .pool import attention_pool, pool
from .positions import add_positions, rope
from .reduce import log_softmax, max, mean, min, softmax, sum
from .regression import regression_loss
from .shape import (
    concat,
    concatenate,
    expand_dims,
    index,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
)
from .streams import repeat_rows, stream_concat, stream_split

__all__ = [
    "PairBias",
    "RelativeBias",
    "abs",
    "activation",
    "add",
    "add_positions",
    "attention",
    "attention_block",
    "attention_pool",
    "clip",
    "concat",
    "concatenate",
    "divide",
    "dropout",
    "embedding",
    "exp",
    "expand_dims",
    "gelu",
    "index",
    "l2_normalize",
    "layer_norm",
    "linear",
    "log",
    "log_softmax",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mlp",
    "mlp_block",
    "multiply",
    "negative",
    "patch_embed",
    "pool",
    "power",
    "quick_gelu",
    "regression_loss",
    "relu",
    "repeat_rows",
    "reshape",
    "rms_norm",
    "rope",
    "sigmoid",
    "silu",
    "softmax",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "stream_concat",
    "stream_split",
    "subtract",
    "sum",
    "swapaxes",
    "tanh",
    "transpose",
    "where",
]
