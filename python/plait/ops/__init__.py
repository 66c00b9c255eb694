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
from .linear import linear, mlp
from .norm import layer_norm, rms_norm
from .reduce import log_softmax, max, mean, min, softmax, sum
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

__all__ = [
    "abs",
    "activation",
    "add",
    "clip",
    "concat",
    "concatenate",
    "divide",
    "exp",
    "expand_dims",
    "gelu",
    "index",
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
    "multiply",
    "negative",
    "power",
    "quick_gelu",
    "relu",
    "reshape",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "subtract",
    "sum",
    "swapaxes",
    "tanh",
    "transpose",
    "where",
]
