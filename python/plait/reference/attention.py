"""Twin of attention: dense, one sample and one head at a time.

A. Vaswani et al., "Attention is all you need", arXiv 1706.03762; heads that share keys: J. Ainslie et al., arXiv
2305.13245; relative biases: P. Shaw et al., arXiv 1803.02155.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .random import drop_below_16, philox

__all__ = ["attention", "attention_backward", "attention_weights"]


def _float(x):
    return None if x is None else np.asarray(x, np.float64)


def _several(bias):
    """Biases in a list; the tuples (values, index) and (values, pair_offsets) are one."""
    if isinstance(bias, tuple) and len(bias) == 2 and not any(_made(b) or b is None for b in bias):
        return [bias]
    return [b for b in (bias if isinstance(bias, (list, tuple)) else [bias]) if b is not None]


def _made(bias):
    """Is it one of plait.ops.RelativeBias and PairBias?"""
    return (hasattr(bias, "index") or hasattr(bias, "pair_offsets")) and hasattr(bias, "values")


def _kind(bias):
    """(kind, values, what tells their places) of one bias."""
    if isinstance(bias, tuple):
        values, places = bias
        return "relative" if callable(places) or np.ndim(places) == 2 else "pair", values, places
    if _made(bias):
        pair = hasattr(bias, "pair_offsets")
        return "pair" if pair else "relative", bias.values, bias.pair_offsets if pair else bias.index
    return "table", bias, None


class _Call:
    """The arguments of a call, and the pieces of it that belong to one sample and one head."""

    def __init__(
        self,
        q,
        k,
        v,
        q_offsets,
        kv_offsets,
        *,
        heads,
        kv_heads=None,
        kv_lengths=None,
        kv_index=None,
        causal=False,
        q_times=None,
        kv_times=None,
        bias=None,
        scale=None,
        dropout=0.0,
        bf16=False,  # a twin rounds nothing
        relative_bias=None,
        relative_index=None,
        pair_bias=None,
        pair_offsets=None,
        key=0,
        counter=0,
    ):
        self.q, self.k, self.v = (np.asarray(x, np.float64) for x in (q, k, v))
        self.causal = causal
        self.q_times, self.kv_times = (None if t is None else np.asarray(t) for t in (q_times, kv_times))
        self.heads = heads
        self.kv_heads = heads if kv_heads is None else kv_heads
        self.scale = (self.q.shape[1] // heads) ** -0.5 if scale is None else scale
        self.dropout, self.key, self.counter = dropout, key, counter
        segments = np.arange(len(q_offsets) - 1) if kv_index is None else kv_index
        self.query_rows = [slice(a, b) for a, b in pairwise(q_offsets)]
        self.key_rows = []
        for sample, segment in enumerate(segments):
            begin, end = kv_offsets[segment], kv_offsets[segment + 1]
            self.key_rows.append(slice(begin, end if kv_lengths is None else begin + kv_lengths[sample]))
        keys = np.diff(kv_offsets) if kv_lengths is None else np.asarray(kv_lengths)
        self.longest = int(np.diff(q_offsets).max(initial=0)), int(keys.max(initial=0))
        self.bias, self.pair_offsets = None, pair_offsets
        self.relative_bias, self.pair_bias = _float(relative_bias), _float(pair_bias)
        self.relative_index = None if relative_index is None else np.asarray(relative_index)
        for one in _several(bias):
            self.add(*_kind(one))

    def add(self, kind, values, places):
        """One bias of those given as `bias`."""
        if kind == "table":
            self.bias = _float(values)
        elif kind == "relative":
            if callable(places):
                places = places(*self.longest)
            self.relative_bias, self.relative_index = _float(values), np.asarray(places)
        else:
            values = np.asarray(values)
            if values.dtype == bool:
                values = np.where(values, 0.0, -np.inf)
            self.pair_bias, self.pair_offsets = _float(np.atleast_2d(values)), places

    def pieces(self):
        """(sample, head) in order."""
        return [(b, h) for b in range(len(self.query_rows)) for h in range(self.heads)]

    def columns(self, head, width, heads):
        """Columns of a head in a matrix with `heads` heads; query heads share key heads in groups."""
        head = head * heads // self.heads
        return slice(head * (width // heads), (head + 1) * (width // heads))

    def parts(self, b, h):
        """q (Tq, Dk), k (Tk, Dk), v (Tk, Dv) of one sample and one head, as views."""
        rows, keys = self.query_rows[b], self.key_rows[b]
        return (
            self.q[rows, self.columns(h, self.q.shape[1], self.heads)],
            self.k[keys, self.columns(h, self.k.shape[1], self.kv_heads)],
            self.v[keys, self.columns(h, self.v.shape[1], self.kv_heads)],
        )

    def seen(self, b, queries, keys):
        """(Tq, Tk): may query i see key j?"""
        if not self.causal:
            return np.ones((queries, keys), bool)
        if self.q_times is not None:
            now, when = self.q_times[self.query_rows[b]], self.kv_times[self.key_rows[b]]
            return when[None, :] <= now[:, None]
        return np.arange(keys)[None, :] <= np.arange(queries)[:, None] + (keys - queries)

    def weights(self, b, h):
        """Softmax of the scores (Tq, Tk); a query that sees nothing has a row of zeros."""
        q, k, _ = self.parts(b, h)
        scores = self.scale * (q @ k.T)
        queries, keys = scores.shape
        if self.bias is not None:
            scores = scores + self.bias[h, :queries, :keys]
        if self.relative_bias is not None:
            scores = scores + self.relative_bias[h, self.relative_index[:queries, :keys]]
        if self.pair_bias is not None:
            values = self.pair_bias[h if len(self.pair_bias) > 1 else 0]
            values = values[self.pair_offsets[b] : self.pair_offsets[b + 1]]
            scores = scores + values.reshape(queries, keys)
        scores = np.where(self.seen(b, queries, keys), scores, -np.inf)
        top = scores.max(1, keepdims=True, initial=-np.inf)
        e = np.exp(scores - np.where(np.isneginf(top), 0, top))
        total = e.sum(1, keepdims=True)
        return e / np.where(total == 0, 1, total)

    def kept(self, b, h):
        """(Tq, Tk): 0 where dropout strikes, else 1 / (1 - p), p to the nearest of 65,536.

        Key j of the query in row r has sixteen bits, number j % 8 of block j // 8 + (r * heads + h) * 2**32.
        """
        rows, keys = self.query_rows[b], self.key_rows[b]
        queries, keys = rows.stop - rows.start, keys.stop - keys.start
        if not self.dropout:
            return np.ones((queries, keys))
        stream = (np.arange(rows.start, rows.stop, dtype=np.uint64) * np.uint64(self.heads) + np.uint64(h))[:, None]
        blocks = np.arange((keys + 7) // 8, dtype=np.uint64)[None, :] + (stream << np.uint64(32))
        words = philox(self.key, self.counter, blocks)
        halves = np.stack([words & 0xFFFF, words >> 16], axis=-1).reshape(queries, 8 * blocks.shape[1])[:, :keys]
        below = drop_below_16(self.dropout)
        return (halves >= below) / (1 - below / 65536)


def attention(
    q,
    k,
    v,
    q_offsets,
    kv_offsets,
    *,
    heads,
    kv_heads=None,
    kv_lengths=None,
    kv_index=None,
    causal=False,
    q_times=None,
    kv_times=None,
    bias=None,
    scale=None,
    dropout=0.0,
    precision="f32",
    return_weights=False,
    **inputs,
):
    """softmax(scale q k^T + bias) v for each sample and head: (Nq, heads * Dv); with return_weights also the weights.

    ``bias`` is whatever plait.ops.attention takes; ``precision`` changes nothing here. ``inputs`` are the C operator's
    names of its biases (relative_bias, relative_index, pair_bias, pair_offsets), and key and counter of random bits.
    """
    inputs |= {"heads": heads, "kv_heads": kv_heads, "kv_lengths": kv_lengths, "kv_index": kv_index, "causal": causal}
    inputs |= {"q_times": q_times, "kv_times": kv_times, "bias": bias, "scale": scale, "dropout": dropout}
    c = _Call(q, k, v, q_offsets, kv_offsets, **inputs)
    width = c.v.shape[1] // c.kv_heads
    out = np.zeros((len(c.q), c.heads * width))
    for b, h in c.pieces():
        _, _, v = c.parts(b, h)
        out[c.query_rows[b], h * width : (h + 1) * width] = (c.weights(b, h) * c.kept(b, h)) @ v
    return (out, _weights(c)) if return_weights else out


def attention_weights(q, k, v, q_offsets, kv_offsets, **options):
    """List of the softmax weights of each sample (heads, Tq, Tk), before dropout. Arguments as of attention."""
    return _weights(_Call(q, k, v, q_offsets, kv_offsets, **options))


def _weights(c):
    return [np.stack([c.weights(b, h) for h in range(c.heads)]) for b in range(len(c.query_rows))]


def attention_backward(dout, q, k, v, q_offsets, kv_offsets, **options):
    """Gradients of q, k, v and of the two differentiable biases.

    With P the weights: dV = P^T dO, dP = dO V^T, dS = P (dP - rowsum(P dP)), dQ = scale dS K, dK = scale dS^T Q.
    """
    c = _Call(q, k, v, q_offsets, kv_offsets, **options)
    width = c.v.shape[1] // c.kv_heads
    dq, dk, dv = np.zeros_like(c.q), np.zeros_like(c.k), np.zeros_like(c.v)
    dbias = None if c.bias is None else np.zeros_like(c.bias)
    drelative = None if c.relative_bias is None else np.zeros_like(c.relative_bias)
    for b, h in c.pieces():
        rows, keys = c.query_rows[b], c.key_rows[b]
        q, k, v = c.parts(b, h)
        weights, kept = c.weights(b, h), c.kept(b, h)
        do = dout[rows, h * width : (h + 1) * width]
        dweights = (do @ v.T) * kept
        dscores = weights * (dweights - (weights * dweights).sum(1, keepdims=True))
        dq[rows, c.columns(h, dq.shape[1], c.heads)] += c.scale * dscores @ k
        dk[keys, c.columns(h, dk.shape[1], c.kv_heads)] += c.scale * dscores.T @ q
        dv[keys, c.columns(h, dv.shape[1], c.kv_heads)] += (weights * kept).T @ do
        queries, columns = dscores.shape
        if dbias is not None:
            dbias[h, :queries, :columns] += dscores
        if drelative is not None:
            np.add.at(drelative[h], c.relative_index[:queries, :columns], dscores)
    return (dq, dk, dv, *[None] * 6, dbias, drelative, None, None, None)
