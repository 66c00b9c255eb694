"""Twins of activations."""

from __future__ import annotations

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x):
    # Written with the argument that cannot overflow.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _normal_cdf(x):
    return 0.5 * (1 + _erf(x / np.sqrt(2.0))) if x.size else x


KINDS = ("none", "relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid")
_GELU_TANH = np.sqrt(2 / np.pi)


def activation(x, kind=None):
    """Elementwise function by name. GELU: Hendrycks & Gimpel, arXiv 1606.08415; SiLU: arXiv 1702.03118."""
    x = np.asarray(x, np.float64)
    if kind in (None, "none"):
        return x
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "gelu":
        return x * _normal_cdf(x)
    if kind == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(_GELU_TANH * (x + 0.044715 * x**3)))
    if kind == "quick_gelu":
        return x * _sigmoid(1.702 * x)
    if kind == "silu":
        return x * _sigmoid(x)
    if kind == "tanh":
        return np.tanh(x)
    if kind == "sigmoid":
        return _sigmoid(x)
    raise ValueError(f"activation: kind is {kind!r}, expected one of {', '.join(KINDS)}")


def activation_backward(dy, x, kind=None):
    x = np.asarray(x, np.float64)
    if kind in (None, "none"):
        return (dy * np.ones_like(x),)
    if kind == "relu":
        return (dy * (x > 0),)
    if kind == "gelu":
        return (dy * (_normal_cdf(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)),)
    if kind == "gelu_tanh":
        t = np.tanh(_GELU_TANH * (x + 0.044715 * x**3))
        return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * _GELU_TANH * (1 + 3 * 0.044715 * x**2)),)
    if kind in ("quick_gelu", "silu"):
        a = 1.702 if kind == "quick_gelu" else 1.0
        s = _sigmoid(a * x)
        return (dy * (s + a * x * s * (1 - s)),)
    if kind == "tanh":
        return (dy * (1 - np.tanh(x) ** 2),)
    if kind == "sigmoid":
        s = _sigmoid(x)
        return (dy * s * (1 - s),)
    raise ValueError(f"activation: kind is {kind!r}, expected one of {', '.join(KINDS)}")


# ---------------------------------------------------------------- by their own names; gradients: activation_backward


def relu(x):
    """max(x, 0)."""
    return activation(x, "relu")


def gelu(x, approximate="none"):
    """x P(X <= x) for a standard normal X, or with "tanh" its approximation."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return activation(x, "gelu" if approximate == "none" else "gelu_tanh")


def quick_gelu(x):
    """x sigmoid(1.702 x)."""
    return activation(x, "quick_gelu")


def silu(x):
    """x sigmoid(x)."""
    return activation(x, "silu")


def tanh(x):
    """Hyperbolic tangent."""
    return activation(x, "tanh")


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return activation(x, "sigmoid")
