"""Twins of linear layers and activations."""

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


_GELU_TANH = np.sqrt(2 / np.pi)


def activation(x, activation=None):
    """Elementwise function by name. GELU: Hendrycks & Gimpel, arXiv 1606.08415; SiLU: arXiv 1702.03118."""
    x = np.asarray(x, np.float64)
    if activation in (None, "none"):
        return x
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "gelu":
        return x * _normal_cdf(x)
    if activation == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(_GELU_TANH * (x + 0.044715 * x**3)))
    if activation == "quick_gelu":
        return x * _sigmoid(1.702 * x)
    if activation == "silu":
        return x * _sigmoid(x)
    if activation == "tanh":
        return np.tanh(x)
    if activation == "sigmoid":
        return _sigmoid(x)
    raise ValueError(f"activation: {activation!r} is unknown")


def activation_backward(dy, x, activation=None):
    x = np.asarray(x, np.float64)
    if activation in (None, "none"):
        return (dy * np.ones_like(x),)
    if activation == "relu":
        return (dy * (x > 0),)
    if activation == "gelu":
        return (dy * (_normal_cdf(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)),)
    if activation == "gelu_tanh":
        t = np.tanh(_GELU_TANH * (x + 0.044715 * x**3))
        return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * _GELU_TANH * (1 + 3 * 0.044715 * x**2)),)
    if activation in ("quick_gelu", "silu"):
        a = 1.702 if activation == "quick_gelu" else 1.0
        s = _sigmoid(a * x)
        return (dy * (s + a * x * s * (1 - s)),)
    if activation == "tanh":
        return (dy * (1 - np.tanh(x) ** 2),)
    if activation == "sigmoid":
        s = _sigmoid(x)
        return (dy * s * (1 - s),)
    raise ValueError(f"activation: {activation!r} is unknown")


_act, _act_backward = activation, activation_backward


def linear(x, weight, bias=None, activation=None):
    """y = f(x W^T + b)."""
    y = np.asarray(x, np.float64) @ np.asarray(weight, np.float64).T
    return _act(y if bias is None else y + np.asarray(bias, np.float64), activation)


def linear_backward(dy, x, weight, bias=None, activation=None):
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    (dpre,) = _act_backward(dy, linear(x, weight, bias), activation)
    return dpre @ weight, dpre.T @ x, None if bias is None else dpre.sum(0)


def mlp(x, weight1, bias1, weight2, bias2, activation="gelu"):
    """y = f(x W1^T + b1) W2^T + b2."""
    return linear(linear(x, weight1, bias1, activation), weight2, bias2)


def mlp_backward(dy, x, weight1, bias1, weight2, bias2, activation="gelu"):
    dh, dw2, db2 = linear_backward(dy, linear(x, weight1, bias1, activation), weight2, bias2)
    dx, dw1, db1 = linear_backward(dh, x, weight1, bias1, activation)
    return dx, dw1, db1, dw2, db2
