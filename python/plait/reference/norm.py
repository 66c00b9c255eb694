"""Twins of layer norm, RMS norm and L2 norm, over the last dimension."""

from __future__ import annotations

import numpy as np


def _affine(hat, weight, bias=None):
    y = hat if weight is None else hat * weight
    return y if bias is None else y + bias


def _rows_of(array):
    return array.reshape(-1, array.shape[-1])


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias. Ba, Kiros & Hinton, arXiv 1607.06450."""
    x = np.asarray(x, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    return _affine(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps), weight, bias)


def layer_norm_backward(dy, x, weight=None, bias=None, eps=1e-5):
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    hat = centred * rstd
    g = _affine(dy, weight)
    dx = rstd * (g - g.mean(-1, keepdims=True) - hat * (g * hat).mean(-1, keepdims=True))
    dweight = None if weight is None else _rows_of(dy * hat).sum(0)
    return dx, dweight, None if bias is None else _rows_of(dy).sum(0)


def rms_norm(x, weight=None, eps=1e-6):
    """y = x / sqrt(mean(x^2) + eps) * weight. Zhang & Sennrich, arXiv 1910.07467."""
    x = np.asarray(x, np.float64)
    return _affine(x / np.sqrt((x**2).mean(-1, keepdims=True) + eps), weight)


def rms_norm_backward(dy, x, weight=None, eps=1e-6):
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    rstd = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    hat = x * rstd
    g = _affine(dy, weight)
    dx = rstd * (g - hat * (g * hat).mean(-1, keepdims=True))
    return dx, None if weight is None else _rows_of(dy * hat).sum(0)


def _reciprocal_norm(x, eps):
    norm = np.sqrt((x**2).sum(-1, keepdims=True))
    return np.where(norm <= eps, 0.0, 1 / np.maximum(norm, eps))


def l2_normalize(x, eps=1e-12):
    """y = x / |x|; rows with |x| <= eps give 0."""
    x = np.asarray(x, np.float64)
    return x * _reciprocal_norm(x, eps)


def l2_normalize_backward(dy, x, eps=1e-12):
    x = np.asarray(x, np.float64)
    reciprocal = _reciprocal_norm(x, eps)
    y = x * reciprocal
    return (reciprocal * (dy - y * (dy * y).sum(-1, keepdims=True)),)
