"""Attention over ragged samples."""

from __future__ import annotations

import numpy as np

from plait import reference
from plait._array import flag, plain_array, shape_of
from plait._precision import TRAINED, named
from plait.tensor import Tensor

from ._apply import apply, generator, operators

__all__ = ["PairBias", "RelativeBias", "attention"]

_attention = operators["attention"]


class RelativeBias:
    """A bias that depends on how query and key lie to each other: ``values[head, index[i, j]]``.

    T5's buckets (Raffel et al., arXiv 1910.10683), Swin's windows (Liu et al., arXiv 2103.14030) and ALiBi's slopes
    (Press et al., arXiv 2108.12409) are such tables.

    Parameters
    ----------
    values : (heads, R) array or Tensor
        Has a gradient.
    index : (Tq, Tk) integers, or callable
        Each from 0 to R - 1; the leading corner serves each sample. A callable is given the longest sample's (Tq, Tk)
        and returns the array.

    Examples
    --------
    >>> import numpy as np, plait
    >>> def distance(queries, keys):
    ...     return np.clip(np.arange(keys)[None, :] - np.arange(queries)[:, None], -3, 3) + 3
    >>> bias = plait.ops.RelativeBias(np.zeros((2, 7), np.float32), distance)
    >>> x = np.ones((5, 8), np.float32)
    >>> plait.ops.attention(x, x, x, [0, 5], [0, 5], heads=2, bias=bias).shape
    (5, 8)
    """

    __slots__ = ("index", "values")

    def __init__(self, values, index):
        self.values, self.index = values, index


class PairBias:
    """A bias or a mask for each pair of one sample's query and key, all samples end to end.

    Parameters
    ----------
    values : (P,), (1, P) or (heads, P) array
        Sample b has ``values[:, pair_offsets[b] : pair_offsets[b + 1]]``, its (Tq, Tk) pairs row by row, Tk being the
        keys that it reads. Boolean: True where the query may see the key. No gradient.
    pair_offsets : (B + 1,) integers
        Ascending, from 0 to P.

    Examples
    --------
    Tokens that may look at one region each:

    >>> import numpy as np, plait
    >>> mask = plait.ops.PairBias.from_list([np.eye(2, dtype=bool), np.ones((1, 3), bool)])
    >>> mask.pair_offsets
    array([0, 4, 7])
    """

    __slots__ = ("pair_offsets", "values")

    def __init__(self, values, pair_offsets):
        self.values, self.pair_offsets = values, pair_offsets

    @classmethod
    def from_list(cls, samples):
        """From one (Tq, Tk) or (heads, Tq, Tk) array a sample."""
        samples = [np.asarray(s) for s in samples]
        flat = [s.reshape(1 if s.ndim == 2 else len(s), -1) for s in samples]
        offsets = np.cumsum([0] + [s.shape[1] for s in flat], dtype=np.int64)
        return cls(np.concatenate(flat, axis=1) if flat else np.zeros((1, 0), np.float32), offsets)


def _data(x):
    return x.data if isinstance(x, Tensor) else x


def _longest(offsets):
    offsets = plain_array("attention", "offsets", offsets)
    return int(np.diff(offsets).max(initial=0)) if offsets.ndim == 1 and offsets.dtype.kind in "iu" else 0


def _pairs(bias, dtype):
    if isinstance(bias.values, Tensor) and bias.values.requires_grad:
        raise ValueError("attention: the values of a PairBias have no gradient; pass .detach()")
    values = plain_array("attention", "the values of the bias", _data(bias.values))
    if values.dtype == bool:
        values = np.where(values, dtype.type(0), dtype.type(-np.inf))
    return values[None] if values.ndim == 1 else values, bias.pair_offsets


def _pair(values, places):
    """A bias given as a tuple: (values, index) is a RelativeBias, (values, pair_offsets) a PairBias."""
    array = plain_array("attention", "the values of bias", _data(values))
    if array.dtype.kind not in "biufV":
        raise TypeError(f"attention: the values of bias have dtype {array.dtype}, expected numbers or booleans")
    if callable(places):
        dimensions = 2
    else:
        places = plain_array("attention", "the index or the pair_offsets of bias", _data(places))
        dimensions = places.ndim
        if places.dtype.kind not in "iu" or dimensions not in (1, 2):
            raise (ValueError if places.dtype.kind in "iu" else TypeError)(
                f"attention: bias is a tuple whose second entry has shape {places.shape} and dtype {places.dtype}, "
                "expected an integer index (Tq, Tk), a function that makes one, or integer pair_offsets (B + 1,); "
                "several biases are a list"
            )
    if dimensions == 1:
        if array.ndim not in (1, 2):
            raise ValueError(
                f"attention: bias is values with pair_offsets, and its values have shape {array.shape}, "
                "expected (P,), (1, P) or (heads, P)"
            )
        return PairBias(values, places)
    if array.ndim != 2 or array.dtype == bool:
        raise ValueError(
            f"attention: bias is values with an index (Tq, Tk), and its values have shape {array.shape} and dtype "
            f"{array.dtype}, expected numbers (heads, R)"
        )
    return RelativeBias(values, places)


def _several(bias):
    """Biases in a list. A tuple is one bias, values and what tells their places, unless it holds made biases."""
    if isinstance(bias, tuple) and not any(isinstance(one, (RelativeBias, PairBias, type(None))) for one in bias):
        bias = [bias]
    biases = []
    for one in bias if isinstance(bias, (list, tuple)) else [bias]:
        if isinstance(one, tuple):
            if len(one) != 2:
                raise ValueError(
                    f"attention: bias is a tuple of {len(one)}, expected (values, index) or (values, pair_offsets); "
                    "several biases are a list"
                )
            one = _pair(*one)
        biases.append(one)
    return biases


def _biases(bias, q_offsets, kv_offsets, kv_lengths, dtype):
    """The five ports of the biases: at most one of each kind."""
    table = values = index = pairs = offsets = None
    for one in _several(bias):
        if isinstance(one, RelativeBias):
            if values is not None:
                raise ValueError("attention: bias holds two RelativeBias, expected at most one")
            values, index = one.values, one.index
            if callable(index):
                keys = _longest(kv_offsets) if kv_lengths is None else int(np.max(kv_lengths, initial=0))
                index = index(_longest(q_offsets), keys)
        elif isinstance(one, PairBias):
            if pairs is not None:
                raise ValueError("attention: bias holds two PairBias, expected at most one")
            pairs, offsets = _pairs(one, dtype)
        elif one is not None:
            if table is not None:
                raise ValueError("attention: bias holds two tables, expected at most one")
            rank = plain_array("attention", "bias", _data(one)).ndim
            if rank != 3:
                raise ValueError(
                    f"attention: bias has {rank} dimensions, expected a (heads, Tq, Tk) array, "
                    "a RelativeBias, a PairBias, or a tuple (values, index) or (values, pair_offsets)"
                )
            table = one
    return table, values, index, pairs, offsets


def _times(times, name):
    times = plain_array("attention", name, _data(times), "seconds")
    if times.dtype.kind not in "iufV":
        raise TypeError(f"attention: {name} has dtype {times.dtype}, expected seconds")
    return times


def _ordered(q_times, kv_times):
    """Both as int64 that compare as they do, without loss: the bits of a double ascend with its size."""
    given = {name: t for name, t in (("q_times", q_times), ("kv_times", kv_times)) if t is not None}
    given = {name: _times(t, name) for name, t in given.items()}
    if any(t.dtype.kind in "fV" for t in given.values()):
        for name, t in given.items():
            t = np.ascontiguousarray(t, np.float64) + 0.0  # -0 becomes 0
            if np.isnan(t).any():
                raise ValueError(f"attention: {name} holds NaN")
            bits = t.view(np.int64)
            given[name] = np.where(bits < 0, bits ^ np.int64(0x7FFFFFFFFFFFFFFF), bits)
    return given.get("q_times"), given.get("kv_times")


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
):
    r"""Multi-head attention: :math:`\mathrm{softmax}(s\, q k^T + \mathrm{bias})\, v` within each sample.

    Vaswani et al., arXiv 1706.03762. Scores are computed in blocks that stay in the cache (Dao et al., arXiv
    2205.14135), so that memory grows with the number of rows and not with its square. Self-attention passes the same
    offsets twice; cross-attention passes those of the other stream for keys and values.

    Parameters
    ----------
    q : (Nq, heads * Dk) array or Tensor
    k : (Nk, kv_heads * Dk) array or Tensor
    v : (Nk, kv_heads * Dv) array or Tensor
        Dv may differ from Dk.
    q_offsets : (B + 1,) integers
        Sample b has query rows ``q_offsets[b]`` to ``q_offsets[b + 1]``.
    kv_offsets : (B + 1,) integers
        The same for rows of `k` and `v`; (S + 1,) with `kv_index`.
    heads : int
    kv_heads : int, optional
        A divisor of `heads`, the default: query head h reads key head ``h // (heads // kv_heads)`` (Ainslie et al.,
        arXiv 2305.13245).
    kv_lengths : (B,) integers, optional
        Sample b reads the first ``kv_lengths[b]`` rows of its segment only: a key/value cache with room to grow.
    kv_index : (B,) integers, optional
        Sample b reads segment ``kv_index[b]`` (default b): many texts against one picture. Gradients of shared rows
        add up in the order of the samples.
    causal : bool
        Query i of Tq sees keys j <= i + Tk - Tq: aligned at the ends, as new rows against a cache are.
    q_times, kv_times : (Nq,) and (Nk,) arrays, optional
        Seconds, with `causal`: a query sees the keys of its sample that are not later than itself.
    bias : optional
        Added to the scaled scores; one of the following, or a list with at most one of each. Gradients reach the
        first two.

        - a table: a (heads, Tq, Tk) array or Tensor, whose leading corner serves each sample;
        - relative: a `RelativeBias`, or the tuple ``(values, index)`` of (heads, R) values and an integer array
          (Tq, Tk), or a function that is given the longest sample's (Tq, Tk) and returns one;
        - values of each pair, booleans too (True: the query may see the key): a `PairBias`, or the tuple
          ``(values, pair_offsets)`` of (P,), (1, P) or (heads, P) values and (B + 1,) integers.
    scale : float, optional
        Default ``Dk ** -0.5``.
    dropout : float
        Probability, at least 0 and below 1, with which a weight is zero; the others are divided by ``1 - dropout``.
        It is taken to the nearest of 65,536 steps, the last of which is left out. The mask depends on `plait.seed`, the
        number of the call, and the places of query and key.
    precision : {"f32", "bf16"} or {"float32", "bfloat16"}
        "bf16" rounds the operands of all products to bfloat16, backward too; sums and softmax are float32. Faster only
        where the processor multiplies bfloat16.
    return_weights : bool
        Also return the weights, computed apart, densely, without dropout and off the tape.

    Returns
    -------
    Tensor
        (Nq, heads * Dv). A query that sees no key gets zeros and passes no gradient on.
    list of (heads, Tq, Tk) arrays
        One a sample, only with `return_weights`.

    Raises
    ------
    TypeError, ValueError, IndexError
        The message names the argument, what was got and what was expected.

    Examples
    --------
    Two samples, of three and of two rows:

    >>> import numpy as np, plait
    >>> x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    >>> y, weights = plait.ops.attention(x, x, x, [0, 3, 5], [0, 3, 5], heads=2, causal=True, return_weights=True)
    >>> y.shape, [w.shape for w in weights]
    ((5, 8), [(2, 3, 3), (2, 2, 2)])
    >>> bool(np.allclose(y.data[[0, 3]], x[[0, 3]]))  # the first row of a sample sees itself only
    True

    The same by a mask of all pairs, 3 * 3 and 2 * 2:

    >>> mask = np.concatenate([np.tri(3, dtype=bool).ravel(), np.tri(2, dtype=bool).ravel()])
    >>> z = plait.ops.attention(x, x, x, [0, 3, 5], [0, 3, 5], heads=2, bias=(mask, [0, 9, 13]))
    >>> bool(np.allclose(y.data, z.data))
    True
    """
    return_weights = flag("attention", "return_weights", return_weights)
    width = (shape_of(_data(q)) or (0,))[-1]
    if scale is None:
        known = isinstance(heads, (int, np.integer)) and heads > 0 and width >= heads
        scale = (width // heads) ** -0.5 if known else 1.0  # else the core says what is wrong
    dtype = getattr(_data(q), "dtype", np.dtype(np.float32))
    dtype = np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)
    biases = _biases(bias, q_offsets, kv_offsets, kv_lengths, dtype)
    inputs = (q, k, v, q_offsets, kv_offsets, kv_lengths, kv_index, *_ordered(q_times, kv_times), *biases)
    attrs = {
        "heads": heads,
        "kv_heads": heads if kv_heads is None else kv_heads,
        "scale": scale,
        "dropout": dropout,
        "causal": flag("attention", "causal", causal),
        "bf16": named("attention", precision, TRAINED) == "bf16",
    }
    key, counter = generator.draw() if dropout else (0, 0)
    out = apply(_attention, inputs, attrs, key, counter)
    if not return_weights:
        return out
    arrays = [None if x is None else np.asarray(_data(x)) for x in inputs]
    by_name = dict(zip([name for name, _ in _attention.ports], arrays, strict=True))
    return out, [w.astype(dtype) for w in reference.attention_weights(**by_name, **attrs)]
