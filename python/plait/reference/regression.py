"""Twin of the losses of differences."""

from __future__ import annotations

import numpy as np


def _loss(d, kind, delta):
    size = np.abs(d)
    if kind == "mse":
        return d**2
    if kind == "l1":
        return size
    return np.where(size <= delta, d**2 / 2, delta * (size - delta / 2))


def _slope(d, kind, delta):
    if kind == "mse":
        return 2 * d
    if kind == "l1":
        return np.sign(d)
    return np.clip(d, -delta, delta)


def _weights(shape, present, reduction):
    """The weight of each element, divided by their sum for the mean (0 where there is none)."""
    weight = np.ones(shape)
    if present is not None:
        weight *= np.asarray(present, np.float64).reshape((-1,) + (1,) * (len(shape) - 1))
    if reduction == "mean":
        weight /= weight.sum() or 1.0
    return weight


def _weighed(weight, values):
    return np.where(weight == 0, 0.0, weight * values)  # what is absent counts as nothing, NaN too


def regression_loss(prediction, target, kind="mse", *, reduction="mean", delta=1.0, present=None):
    """Squares, absolute values or Huber's function (Ann. Math. Statist. 35 (1964) 73) of prediction - target."""
    d = np.asarray(prediction, np.float64) - np.asarray(target, np.float64)
    losses = _weighed(_weights(d.shape, present, reduction), _loss(d, kind, delta))
    return losses if reduction == "none" else np.asarray(losses.sum())


def regression_loss_backward(dout, prediction, target, kind="mse", *, reduction="mean", delta=1.0, present=None):
    d = np.asarray(prediction, np.float64) - np.asarray(target, np.float64)
    dprediction = dout * _weighed(_weights(d.shape, present, reduction), _slope(d, kind, delta))
    return dprediction, -dprediction, None


# ------------------------------------------------ by their own names; gradients: regression_loss_backward


def mse(prediction, target, *, reduction="mean", present=None):
    """Mean squared error."""
    return regression_loss(prediction, target, "mse", reduction=reduction, present=present)


def l1(prediction, target, *, reduction="mean", present=None):
    """Mean absolute error."""
    return regression_loss(prediction, target, "l1", reduction=reduction, present=present)


def huber(prediction, target, delta=1.0, *, reduction="mean", present=None):
    """Huber loss: d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2)."""
    return regression_loss(prediction, target, "huber", reduction=reduction, delta=delta, present=present)
