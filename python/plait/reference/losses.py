"""Twins of the losses on labels and pairs."""

from __future__ import annotations

import numpy as np

from .activation import _sigmoid


def _present_rows(x, present):
    x = np.asarray(x, np.float64)
    return x if present is None else x[np.asarray(present) != 0]


def _spread(gradient, like, present):
    """Gradients of present rows, zeros for the others."""
    if present is None:
        return gradient
    out = np.zeros(np.shape(like))
    out[np.asarray(present) != 0] = gradient
    return out


def _log_softmax(logits, axis):
    shifted = logits - logits.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _label_targets(logits, labels, weight, label_smoothing, ignore_index, reduction):
    """What -log softmax is multiplied with, (N, C), before the gradient of the loss; zero rows do not count."""
    n, classes = logits.shape
    counts = labels != ignore_index
    weight = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
    targets = np.full((n, classes), label_smoothing / classes) * weight
    own = np.where(counts, weight[np.where(counts, labels, 0)], 0.0)
    targets[counts, labels[counts]] += (1 - label_smoothing) * own[counts]
    targets[~counts] = 0
    if reduction == "mean":
        targets /= own.sum() or np.inf
    return targets


def _counted(labels, ignore_index, present):
    """Labels, with ignore_index for rows that are not present."""
    labels = np.asarray(labels)
    return labels if present is None else np.where(np.asarray(present) != 0, labels, ignore_index)


def cross_entropy(logits, labels, label_smoothing=0.0, ignore_index=-100, reduction="mean", weight=None, present=None):
    """-sum over classes of target log softmax(logits); smoothing as in arXiv 1512.00567, section 7."""
    logits, labels = np.asarray(logits, np.float64), _counted(labels, ignore_index, present)
    targets = _label_targets(logits, labels, weight, label_smoothing, ignore_index, reduction)
    rows = -np.sum(targets * _log_softmax(logits, 1), axis=1)
    return rows if reduction == "none" else np.asarray(rows.sum())


def cross_entropy_backward(
    dloss, logits, labels, label_smoothing=0.0, ignore_index=-100, reduction="mean", weight=None, present=None
):
    logits, labels = np.asarray(logits, np.float64), _counted(labels, ignore_index, present)
    targets = _label_targets(logits, labels, weight, label_smoothing, ignore_index, reduction)
    dlogits = np.exp(_log_softmax(logits, 1)) * targets.sum(1, keepdims=True) - targets
    return dlogits * (np.reshape(dloss, (-1, 1)) if reduction == "none" else dloss), None, None


def _targets(n, label_smoothing):
    return (1 - label_smoothing) * np.eye(n) + label_smoothing / n


def info_nce(a, b, logit_scale, present=None, label_smoothing=0.0):
    """Mean cross entropy of exp(logit_scale) a b^T with the diagonal as labels, along rows and down columns, halved.
    arXiv 1807.03748; both directions as in arXiv 2103.00020."""
    a, b = _present_rows(a, present), _present_rows(b, present)
    if not len(a):
        return np.zeros(())
    logits = np.exp(np.asarray(logit_scale, np.float64).reshape(())) * (a @ b.T)
    rows, columns = _log_softmax(logits, 1), _log_softmax(logits, 0)
    return np.asarray(-np.sum(_targets(len(a), label_smoothing) * (rows + columns)) / (2 * len(a)))


def info_nce_backward(dloss, a, b, logit_scale, present=None, label_smoothing=0.0):
    whole_a, whole_b, scale = a, b, np.exp(np.asarray(logit_scale, np.float64).reshape(()))
    a, b = _present_rows(a, present), _present_rows(b, present)
    n = len(a)
    if not len(a):
        return np.zeros(np.shape(whole_a)), np.zeros(np.shape(whole_b)), np.zeros(np.shape(logit_scale)), None
    logits = scale * (a @ b.T)
    dlogits = np.exp(_log_softmax(logits, 1)) + np.exp(_log_softmax(logits, 0)) - 2 * _targets(n, label_smoothing)
    dlogits *= dloss / (2 * n)
    da, db = scale * dlogits @ b, scale * dlogits.T @ a
    dscale = np.sum(dlogits * logits).reshape(np.shape(logit_scale))
    return _spread(da, whole_a, present), _spread(db, whole_b, present), dscale, None


def _pair_logits(a, b, logit_scale, logit_bias):
    """Signs, products times scale, and logits of all pairs."""
    products = np.exp(np.asarray(logit_scale, np.float64).reshape(())) * (a @ b.T)
    signs = 2 * np.eye(len(a)) - 1
    return signs, products, products + np.asarray(logit_bias, np.float64).reshape(())


def sigmoid_contrastive(a, b, logit_scale, logit_bias, present=None):
    """-sum over pairs of log sigmoid(z (exp(logit_scale) a b^T + logit_bias)) / N, z = 1 on the diagonal, else -1.
    arXiv 2303.15343, algorithm 1."""
    a, b = _present_rows(a, present), _present_rows(b, present)
    if not len(a):
        return np.zeros(())
    signs, _, logits = _pair_logits(a, b, logit_scale, logit_bias)
    return np.asarray(np.logaddexp(0, -signs * logits).sum() / len(a))


def sigmoid_contrastive_backward(dloss, a, b, logit_scale, logit_bias, present=None):
    whole_a, whole_b, scale = a, b, np.exp(np.asarray(logit_scale, np.float64).reshape(()))
    a, b = _present_rows(a, present), _present_rows(b, present)
    signs, products, logits = _pair_logits(a, b, logit_scale, logit_bias)
    # the derivative of -log sigmoid(x) is -sigmoid(-x)
    dlogits = -signs * _sigmoid(-signs * logits) * dloss / max(len(a), 1)
    return (
        _spread(scale * dlogits @ b, whole_a, present),
        _spread(scale * dlogits.T @ a, whole_b, present),
        np.sum(dlogits * products).reshape(np.shape(logit_scale)),
        np.sum(dlogits).reshape(np.shape(logit_bias)),
        None,
    )
