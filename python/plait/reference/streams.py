"""Twins of the operators on segments: joining, splitting, pooling, patches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

# ---------------------------------------------------------------- stream_concat, stream_split


def _segments(rows, offsets, samples):
    """A stream as a list of one matrix a sample; without offsets every sample has all rows."""
    if offsets is None:
        return [rows] * samples
    return [rows[begin:end] for begin, end in pairwise(offsets)]


def stream_concat(rows, offsets, samples=-1):
    """Per sample, the segments one after the other: rows.

    Not called as ``plait.ops.stream_concat``, which takes streams: here are a list of their rows (N_i, D) and a list of
    their offsets (B + 1,), None for rows that every sample gets.
    """
    rows = [np.asarray(r, np.float64) for r in rows]
    samples = next((len(o) - 1 for o in offsets if o is not None), samples)
    streams = [_segments(r, o, samples) for r, o in zip(rows, offsets, strict=True)]
    pieces = [stream[b] for b in range(samples) for stream in streams]
    return np.concatenate([np.zeros((0, rows[0].shape[1])), *pieces])


def stream_concat_backward(dy, rows, offsets, samples=-1):
    samples = next((len(o) - 1 for o in offsets if o is not None), samples)
    grads = [np.zeros(np.shape(r)) for r in rows]
    at = 0
    for b in range(samples):
        for grad, o in zip(grads, offsets, strict=True):
            own = grad if o is None else grad[o[b] : o[b + 1]]
            own += dy[at : at + len(own)]
            at += len(own)
    return tuple(g for grad in grads for g in (grad, None))


def stream_split(x, offsets, parts):
    """Each sample's rows dealt out to P parts: P matrices of rows.

    Not called as ``plait.ops.stream_split``, which takes a stream: here are its rows x (N, D), its offsets (B + 1,),
    and the offsets of each part (P, B + 1).
    """
    x = np.asarray(x, np.float64)
    out = [[np.zeros((0, x.shape[1]))] for _ in parts]
    at = 0
    for b in range(len(offsets) - 1):
        for pieces, part in zip(out, parts, strict=True):
            n = part[b + 1] - part[b]
            pieces.append(x[at : at + n])
            at += n
    return tuple(np.concatenate(pieces) for pieces in out)


def stream_split_backward(douts, x, offsets, parts):
    douts = douts if isinstance(douts, tuple) else (douts,)
    return stream_concat(list(douts), list(parts), len(offsets) - 1), None, None


# ---------------------------------------------------------------- pooling


def pool(x, offsets, mode="mean", scores=None):
    """One row a sample: mean, max, first or last of its rows, or attention_pool; zeros where it has none."""
    if mode == "attention":
        return attention_pool(x, offsets, scores)
    x = np.asarray(x, np.float64)
    y = np.zeros((len(offsets) - 1, x.shape[1]))
    for b, rows in enumerate(_segments(x, offsets, 0)):
        if mode == "mean" and len(rows):
            y[b] = rows.mean(0)
        elif mode == "max" and len(rows):
            y[b] = rows.max(0)
        elif len(rows):
            y[b] = rows[0 if mode == "first" else -1]
    return y


def pool_backward(dy, x, offsets, mode="mean", scores=None):
    if mode == "attention":
        return attention_pool_backward(dy, x, offsets, scores)
    x = np.asarray(x, np.float64)
    dx = np.zeros(x.shape)
    for b, (begin, end) in enumerate(pairwise(offsets)):
        if begin == end:
            continue
        if mode == "mean":
            dx[begin:end] = dy[b] / (end - begin)
        elif mode == "max":
            dx[begin + x[begin:end].argmax(0), np.arange(x.shape[1])] = dy[b]
        else:
            dx[begin if mode == "first" else end - 1] = dy[b]
    return dx, None


def _softmax_columns(scores):
    """Softmax down the columns; a column of minus infinity gives zeros."""
    most = scores.max(0, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(most), 0, most))
    total = e.sum(0)
    return e / np.where(total == 0, 1, total)


def attention_pool(x, offsets, scores):
    """Mean of a sample's rows weighted by the softmax of its scores (N, H), head by head."""
    x, scores = np.asarray(x, np.float64), np.asarray(scores, np.float64)
    y = np.zeros((len(offsets) - 1, x.shape[1]))
    for b, (rows, s) in enumerate(zip(_segments(x, offsets, 0), _segments(scores, offsets, 0), strict=True)):
        weights = np.repeat(_softmax_columns(s), x.shape[1] // scores.shape[1], axis=1)
        y[b] = (weights * rows).sum(0)
    return y


def attention_pool_backward(dy, x, offsets, scores):
    x, scores = np.asarray(x, np.float64), np.asarray(scores, np.float64)
    heads = scores.shape[1]
    dx, dscores = np.zeros(x.shape), np.zeros(scores.shape)
    for b, (begin, end) in enumerate(pairwise(offsets)):
        w = _softmax_columns(scores[begin:end])
        dx[begin:end] = np.repeat(w, x.shape[1] // heads, axis=1) * dy[b]
        dw = (x[begin:end] * dy[b]).reshape(end - begin, heads, x.shape[1] // heads).sum(2)
        dscores[begin:end] = w * (dw - (w * dw).sum(0))
    return dx, None, dscores


# ---------------------------------------------------------------- patch_embed


def _to_patches(images, weight):
    """(B, H, W, C) to rows (B nH nW, C Ph Pw)."""
    batch, height, width, channels = images.shape
    ph, pw = weight.shape[2:]
    x = images.reshape(batch, height // ph, ph, width // pw, pw, channels)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(-1, channels * ph * pw)


def patch_embed(images, weight, bias=None):
    """A linear layer on the patches (c, ph, pw) of pictures (B, H, W, C): the rows of the stream."""
    images, weight = np.asarray(images, np.float64), np.asarray(weight, np.float64)
    y = _to_patches(images, weight) @ weight.reshape(weight.shape[0], -1).T
    return y if bias is None else y + np.asarray(bias, np.float64)


def patch_embed_backward(dy, images, weight, bias=None):
    images, weight = np.asarray(images, np.float64), np.asarray(weight, np.float64)
    flat = weight.reshape(weight.shape[0], -1)
    batch, height, width, channels = images.shape
    ph, pw = weight.shape[2:]
    dx = (dy @ flat).reshape(batch, height // ph, width // pw, channels, ph, pw)
    dx = dx.transpose(0, 1, 4, 2, 5, 3).reshape(images.shape)
    dweight = (dy.T @ _to_patches(images, weight)).reshape(weight.shape)
    return dx, dweight, None if bias is None else dy.sum(0)
