"""Twins of the linear layer and the MLP."""

from __future__ import annotations

import numpy as np

from .activation import activation as _act
from .activation import activation_backward as _act_backward


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
