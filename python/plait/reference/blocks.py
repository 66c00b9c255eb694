"""Twins of the fused sublayers: each is written as the composition that it must equal."""

from __future__ import annotations

from .dropout import dropout, dropout_backward
from .linear import mlp, mlp_backward
from .norm import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward


def _norm(x, weight, bias, norm, eps):
    return rms_norm(x, weight, eps) if norm == "rms" else layer_norm(x, weight, bias, eps)


def _norm_backward(dy, x, weight, bias, norm, eps):
    if norm == "rms":
        return (*rms_norm_backward(dy, x, weight, eps), None)
    return layer_norm_backward(dy, x, weight, bias, eps)


def sublayer(branch, x, weight, bias, pre_norm, norm, eps, p, key, counter):
    """y = x + drop(branch(norm(x))), or y = norm(x + drop(branch(x)))."""
    if pre_norm:
        return x + dropout(branch(_norm(x, weight, bias, norm, eps)), p, True, key, counter)
    return _norm(x + dropout(branch(x), p, True, key, counter), weight, bias, norm, eps)


def sublayer_backward(dy, branch, branch_backward, x, weight, bias, pre_norm, norm, eps, p, key, counter):
    """(dx, dweight, dbias, the branch's other gradients); branch_backward(d, input) -> (dinput, *others)."""
    if pre_norm:
        (d,) = dropout_backward(dy, x, p, True, key, counter)
        dnormed, *others = branch_backward(d, _norm(x, weight, bias, norm, eps))
        dx, dweight, dbias = _norm_backward(dnormed, x, weight, bias, norm, eps)
        return dx + dy, dweight, dbias, others
    total = x + dropout(branch(x), p, True, key, counter)
    dsum, dweight, dbias = _norm_backward(dy, total, weight, bias, norm, eps)
    (d,) = dropout_backward(dsum, x, p, True, key, counter)
    dx, *others = branch_backward(d, x)
    return dsum + dx, dweight, dbias, others


def mlp_block(
    x,
    norm_weight,
    norm_bias,
    weight1,
    bias1,
    weight2,
    bias2,
    activation="gelu",
    pre_norm=True,
    norm="layer",
    eps=1e-5,
    residual_dropout=0.0,
    key=0,
    counter=0,
):
    """x + drop(mlp(norm(x))), or norm(x + drop(mlp(x))) for post-norm."""

    def branch(rows):
        return mlp(rows, weight1, bias1, weight2, bias2, activation)

    return sublayer(branch, x, norm_weight, norm_bias, pre_norm, norm, eps, residual_dropout, key, counter)


def mlp_block_backward(
    dy,
    x,
    norm_weight,
    norm_bias,
    weight1,
    bias1,
    weight2,
    bias2,
    activation="gelu",
    pre_norm=True,
    norm="layer",
    eps=1e-5,
    residual_dropout=0.0,
    key=0,
    counter=0,
):
    def branch(rows):
        return mlp(rows, weight1, bias1, weight2, bias2, activation)

    def branch_backward(d, rows):
        return mlp_backward(d, rows, weight1, bias1, weight2, bias2, activation)

    dx, dw, db, others = sublayer_backward(
        dy, branch, branch_backward, x, norm_weight, norm_bias, pre_norm, norm, eps, residual_dropout, key, counter
    )
    return dx, dw, db, *others
