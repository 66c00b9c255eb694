"""Self- and cross-attention over streams, and the cache that makes step-by-step decoding cheap."""

from __future__ import annotations

import numpy as np

from plait import ops
from plait._array import flag
from plait.nn.layers import Linear, _size
from plait.nn.module import Module
from plait.stream import as_stream

__all__ = ["CrossAttention", "KVCache", "SelfAttention"]


def _head_sizes(owner, width, heads, kv_heads, head_width):
    width, heads = _size(owner, "width", width), _size(owner, "heads", heads)
    kv_heads = heads if kv_heads is None else _size(owner, "kv_heads", kv_heads)
    if heads % kv_heads:
        raise ValueError(f"{owner}: heads is {heads}, expected a multiple of kv_heads, {kv_heads}")
    if head_width is None and width % heads:
        raise ValueError(f"{owner}: width is {width}, expected a multiple of heads, {heads} (or give head_width)")
    return heads, kv_heads, width // heads if head_width is None else _size(owner, "head_width", head_width)


class KVCache:
    """Keys and values of the rows seen so far, with room to grow: for decoding without gradients.

    Parameters
    ----------
    batch : int
        Samples.
    capacity : int
        Rows that each sample may reach.

    Examples
    --------
    >>> import numpy as np, plait
    >>> attention = plait.nn.SelfAttention(8, heads=2, causal=True).eval()
    >>> x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    >>> cache = plait.nn.KVCache(batch=1, capacity=16)
    >>> with plait.no_grad():
    ...     whole = attention(plait.as_stream(x)).rows.data
    ...     steps = [attention(plait.as_stream(x[:, i : i + 1]), cache=cache).rows.data for i in range(5)]
    >>> bool(np.allclose(whole, np.concatenate(steps), atol=1e-5))
    True
    """

    def __init__(self, batch, capacity):
        self.batch, self.capacity = _size("KVCache", "batch", batch), _size("KVCache", "capacity", capacity)
        self.lengths = np.zeros(batch, np.int64)
        self.offsets = np.arange(batch + 1, dtype=np.int64) * capacity
        self.keys = self.values = None

    def append(self, keys, values, offsets):
        """Adds rows to each sample; ``offsets`` says which are whose."""
        if len(offsets) != self.batch + 1:
            raise ValueError(f"KVCache: got {len(offsets) - 1} samples, expected {self.batch}")
        lengths = np.diff(offsets)
        if (self.lengths + lengths).max(initial=0) > self.capacity:
            raise ValueError(
                f"KVCache: {int((self.lengths + lengths).max())} rows are more than the capacity of {self.capacity}"
            )
        if self.keys is None:
            self.keys = np.zeros((self.batch * self.capacity, keys.shape[1]), np.float32)
            self.values = np.zeros((self.batch * self.capacity, values.shape[1]), np.float32)
        due = (self.keys.shape[1], self.values.shape[1])
        if (keys.shape[1], values.shape[1]) != due:
            raise ValueError(
                f"KVCache: keys and values have widths {keys.shape[1]} and {values.shape[1]}, expected {due[0]} and "
                f"{due[1]} as before; a cache serves one layer"
            )
        where = np.repeat(self.offsets[:-1] + self.lengths - offsets[:-1], lengths) + np.arange(offsets[-1])
        self.keys[where], self.values[where] = keys, values
        self.lengths = self.lengths + lengths


class SelfAttention(Module):
    """Multi-head self-attention with one product for queries, keys and values.

    Parameters
    ----------
    width : int
    heads : int
    kv_heads : int, optional
        Key/value heads shared by groups of query heads (Ainslie et al., arXiv 2305.13245). Default: heads.
    head_width : int, optional
        Default width / heads.
    causal : bool
    dropout : float
        On the attention weights.
    bias : bool
    rope : float, optional
        Base of rotary positions (Su et al., arXiv 2104.09864); None for none.
    qkv_bias : bool, optional
        Of queries, keys and values alone; default `bias`.

    Notes
    -----
    ``qkv.weight`` is (heads + 2 kv_heads) * head_width rows: queries, keys, values.

    Examples
    --------
    >>> import numpy as np, plait
    >>> s = plait.Stream(np.zeros((5, 8), np.float32), [0, 2, 5])
    >>> plait.nn.SelfAttention(8, heads=2)(s)
    Stream(2 samples, 5 rows of (8,), float32, lengths 2 to 3)
    """

    def __init__(
        self,
        width,
        heads,
        kv_heads=None,
        head_width=None,
        causal=False,
        dropout=0.0,
        bias=True,
        rope=None,
        qkv_bias=None,
    ):
        super().__init__()
        self.heads, self.kv_heads, self.head_width = _head_sizes("SelfAttention", width, heads, kv_heads, head_width)
        qkv_bias = bias if qkv_bias is None else qkv_bias
        self.qkv = Linear(width, (self.heads + 2 * self.kv_heads) * self.head_width, qkv_bias)
        self.out = Linear(self.heads * self.head_width, width, bias)
        self.causal, self.dropout, self.rope = flag("SelfAttention", "causal", causal), float(dropout), rope

    def forward(self, x, cache=None, bias=None):
        """Each row attends to the rows of its own sample.

        Parameters
        ----------
        x : Stream or (B, T, D) array or Tensor
        cache : KVCache, optional
            Rows seen before, which these attend to as well and are added to; under ``plait.no_grad()``.
        bias : optional
            As in :func:`plait.ops.attention`.
        """
        x = as_stream(x)
        rows = ops.linear(x.rows, self.qkv.weight, self.qkv.bias)
        nq, nk = self.heads * self.head_width, self.kv_heads * self.head_width
        q, k, v = rows[:, :nq], rows[:, nq : nq + nk], rows[:, nq + nk :]
        if self.rope is not None:
            start = None if cache is None else cache.lengths
            q = ops.rope(q, x.offsets, self.heads, base=self.rope, start=start)
            k = ops.rope(k, x.offsets, self.kv_heads, base=self.rope, start=start)
        kv_offsets, lengths = x.offsets, None
        if cache is not None:
            if any(t.requires_grad for t in (q, k, v)):
                raise RuntimeError("SelfAttention: a cache needs plait.no_grad()")
            cache.append(k.data, v.data, x.offsets)
            k, v, kv_offsets, lengths = cache.keys, cache.values, cache.offsets, cache.lengths
        y = ops.attention(
            q,
            k,
            v,
            x.offsets,
            kv_offsets,
            heads=self.heads,
            kv_heads=self.kv_heads,
            kv_lengths=lengths,
            causal=self.causal,
            bias=bias,
            dropout=self.dropout if self.training else 0.0,
            precision=self.out.weight.pack.attention,
        )
        return x.with_rows(ops.linear(y, self.out.weight, self.out.bias))


class CrossAttention(Module):
    """Rows of one stream attend to the rows of another; a sample whose context is empty gets zeros.

    Parameters
    ----------
    width : int
        Of the queries and of the result.
    heads : int
    context_width : int, optional
        Default width.
    kv_heads, head_width, dropout, bias
        As in ``SelfAttention``.

    Notes
    -----
    ``kv.weight`` holds keys, then values.

    Examples
    --------
    >>> import numpy as np, plait
    >>> words = plait.Stream(np.zeros((5, 8), np.float32), [0, 2, 5])
    >>> regions = plait.Stream(np.ones((3, 4), np.float32), [0, 3, 3])     # the second sample has no picture
    >>> plait.nn.CrossAttention(8, heads=2, context_width=4)(words, regions)[1].data.any()
    np.False_
    """

    def __init__(self, width, heads, context_width=None, kv_heads=None, head_width=None, dropout=0.0, bias=True):
        super().__init__()
        self.heads, self.kv_heads, self.head_width = _head_sizes("CrossAttention", width, heads, kv_heads, head_width)
        context_width = width if context_width is None else context_width
        self.q = Linear(width, self.heads * self.head_width, bias)
        self.kv = Linear(context_width, 2 * self.kv_heads * self.head_width, bias)
        self.out = Linear(self.heads * self.head_width, width, bias)
        self.dropout = float(dropout)

    def project(self, context):
        """Keys and values of a context, for reuse over many queries."""
        context = as_stream(context)
        rows = ops.linear(context.rows, self.kv.weight, self.kv.bias)
        nk = self.kv_heads * self.head_width
        return rows[:, :nk], rows[:, nk:], context

    def forward(self, x, context, bias=None, projected=None):
        """Each row of x attends to the rows of the same sample of the context.

        Parameters
        ----------
        x, context : Stream or (B, T, D) array or Tensor
        bias : optional
            As in :func:`plait.ops.attention`.
        projected : optional
            What ``project`` gave for the context, which is not read then.
        """
        x = as_stream(x)
        k, v, context = self.project(context) if projected is None else projected
        if len(context) != len(x):
            raise ValueError(f"CrossAttention: context has {len(context)} samples, expected {len(x)}")
        q = ops.linear(x.rows, self.q.weight, self.q.bias)
        y = ops.attention(
            q,
            k,
            v,
            x.offsets,
            context.offsets,
            heads=self.heads,
            kv_heads=self.kv_heads,
            bias=bias,
            dropout=self.dropout if self.training else 0.0,
            precision=self.out.weight.pack.attention,
        )
        y = ops.linear(y, self.out.weight, self.out.bias)
        if self.out.bias is not None and not context.present.all():
            # Attending to nothing gives nothing: the bias must not leak into samples without context.
            y = y * np.repeat(context.present, x.lengths)[:, None].astype(np.float32)
        return x.with_rows(y)
