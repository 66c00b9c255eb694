"""Operators: each runs in the C core on float32, is differentiable, and has a twin in ``plait.reference``."""

from .linear import linear, mlp

__all__ = ["linear", "mlp"]
