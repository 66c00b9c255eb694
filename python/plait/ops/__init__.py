"""Operators: each runs in the C core on float32, is differentiable, and has a twin in ``plait.reference``."""

from .activation import activation, gelu, quick_gelu, relu, sigmoid, silu, tanh
from .linear import linear, mlp
from .norm import layer_norm, rms_norm

__all__ = [
    "activation",
    "gelu",
    "layer_norm",
    "linear",
    "mlp",
    "quick_gelu",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "tanh",
]
