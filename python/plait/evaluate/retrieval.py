"""Retrieval: do the candidates that belong to a query come first?

All measures take `scores`, either a (Q, G) matrix whose higher values mean a better match of query and candidate, or
the tuple ``(queries, gallery)`` of embeddings (Q, D) and (G, D), which are compared by `metric`. What belongs together
is said by `positives` or by `labels`; without either, query i belongs to candidate i.

Embeddings may be what `encode` gave in any `precision`. Floating and int8 ones are compared as they are; `precision`
says what others are: ``"uint8"`` is taken minus 128, and of ``"binary"`` and ``"ubinary"`` each bit counts as 1 or -1,
so that the cosine is 1 - 2 h / bits, h being the Hamming distance. int8 arrays of ``"binary"`` look like others:
without `precision` their bytes are compared as numbers, which says little. A floating side stays as it is beside a
quantised one.

Scores are made and used block by block of queries, so memory does not grow with Q x G.

**Ties are pessimistic**: a wrong candidate that scores the same as the right one counts as before it. So a model that
gives the same score to everything has the lowest result, whatever the order of the candidates. (`top_k` has to choose,
and takes the lower index first.)
"""

from __future__ import annotations

from math import comb

import numpy as np

from ._candidates import Scores, Truth

__all__ = ["chance_recall", "mean_average_precision", "mrr", "ranks", "recall_at_k", "retrieval", "top_k"]


def _some(values, what):
    if not values.size:
        raise ValueError(f"{what}: no query has a positive")
    return values


def _places(scores, truth, precision=False):
    """Rank of the best positive of each query (0: it has none), and on request its average precision."""
    first, average = np.zeros(scores.shape[0], np.int64), np.zeros(scores.shape[0])
    for q, s in scores.blocks():
        here = slice(q, q + len(s))
        positive = truth.block(q, len(s))
        count = positive.sum(1)
        best = np.max(s, axis=1, where=positive, initial=-np.inf)
        ahead = ((s >= best[:, None]) & ~positive).sum(1)
        first[here] = np.where(count > 0, 1 + ahead, 0)
        if precision:
            average[here] = 1 / (1 + ahead)  # all there is to it with one positive
            for i in np.flatnonzero(count > 1):
                average[q + i] = _average_precision(s[i], positive[i])
    return first, average


def _average_precision(scores, positive):
    right, wrong = np.sort(scores[positive])[::-1], np.sort(scores[~positive])
    hits = np.arange(1, right.size + 1)
    ahead = wrong.size - np.searchsorted(wrong, right, side="left")
    return np.mean(hits / (hits + ahead))


def _ks(k, most=None):
    several = np.ndim(k) > 0
    ks = tuple(k) if several else (k,)
    if not ks:
        raise ValueError("k is empty, expected at least one number")
    for one in ks:
        if isinstance(one, bool) or not isinstance(one, (int, np.integer)):
            raise TypeError(f"k is {one!r}, expected a whole number")
        if one < 1:
            raise ValueError(f"k is {one}, expected at least 1")
        if most is not None and one > most:
            raise ValueError(f"k is {one}, expected 1 to {most}, the number of candidates")
    return tuple(int(one) for one in ks), several


def _recall(first, k):
    ks, several = _ks(k)
    first = _some(first[first > 0], "recall_at_k")
    recall = {one: float(np.mean(first <= one)) for one in ks}
    return recall if several else recall[ks[0]]


# ---------------------------------------------------------------- public


def ranks(scores, positives=None, labels=None, metric="cosine", precision=None):
    """Place of the best positive of each query, 1 being the first.

    Parameters
    ----------
    scores : (Q, G) array, or tuple of (Q, D) and (G, D) arrays
        Higher is better; or embeddings of queries and gallery.
    positives : (Q,) indices, or list of Q lists of indices, optional
        The candidates that belong to each query, for instance the five captions of a picture.
    labels : (N,) array or tuple of (Q,) and (G,) arrays, optional
        Instead of `positives`: equal labels belong together.
    metric : {"cosine", "dot"}
        How embeddings are compared.
    precision : {"float32", "int8", "uint8", "binary", "ubinary"}, optional
        Of quantised embeddings, see above; required for uint8 arrays.

    Returns
    -------
    (Q,) int64 array
        0 for a query without positives.

    Raises
    ------
    TypeError, ValueError, IndexError
        NaN anywhere, shapes, dtypes or indices that do not fit.

    Examples
    --------
    >>> import plait
    >>> plait.evaluate.ranks([[0.9, 0.1, 0.5], [0.2, 0.3, 0.4], [0.0, 0.0, 0.0]])
    array([1, 2, 3])
    """
    scores = Scores(scores, metric, precision)
    return _places(scores, Truth(scores.shape, positives, labels))[0]


def recall_at_k(scores, k=(1, 5, 10), positives=None, labels=None, metric="cosine", precision=None):
    """Share of the queries with a positive among the first k candidates: R@k of the cross-modal literature.

    With several positives one of them is enough. Queries without positives do not count.

    Parameters
    ----------
    scores, positives, labels, metric, precision
        As in `ranks`.
    k : int or sequence of int
        At least 1. From the number of candidates on, every positive is among the first k: the recall is 1.

    Returns
    -------
    dict of float, or float
        {k: share from 0 to 1}; a number where `k` is one.

    Examples
    --------
    >>> import plait
    >>> plait.evaluate.recall_at_k([[0.9, 0.1, 0.5], [0.2, 0.3, 0.4], [0.1, 0.2, 0.3]], k=(1, 2))
    {1: 0.6666666666666666, 2: 1.0}
    """
    scores = Scores(scores, metric, precision)
    _ks(k)  # before the work
    return _recall(_places(scores, Truth(scores.shape, positives, labels))[0], k)


def mrr(scores, positives=None, labels=None, metric="cosine", precision=None):
    """Mean reciprocal rank: the mean of 1 / `ranks` over the queries that have positives.

    Parameters
    ----------
    scores, positives, labels, metric, precision
        As in `ranks`.

    Examples
    --------
    >>> import plait
    >>> plait.evaluate.mrr([[0.9, 0.1], [0.4, 0.3]])
    0.75
    """
    first = ranks(scores, positives, labels, metric, precision)
    return float(np.mean(1 / _some(first[first > 0], "mrr")))


def mean_average_precision(scores, positives=None, labels=None, metric="cosine", precision=None):
    """Mean over queries of the average precision: the precision at the place of each positive, averaged.

    The precision at a positive is the share of positives among the candidates up to there (Manning, Raghavan & Schütze,
    Introduction to Information Retrieval, section 8.4). Queries without positives do not count.

    Parameters
    ----------
    scores, positives, labels, metric, precision
        As in `ranks`.

    Examples
    --------
    >>> import plait
    >>> plait.evaluate.mean_average_precision([[0.9, 0.8, 0.7]], positives=[[0, 2]])
    0.8333333333333333
    """
    scores = Scores(scores, metric, precision)
    first, average = _places(scores, Truth(scores.shape, positives, labels), precision=True)
    return float(np.mean(_some(average[first > 0], "mean_average_precision")))


def retrieval(
    a, b=None, *, names=("a", "b"), k=(1, 5, 10), positives=None, labels=None, metric="cosine", precision=None
):
    """Recall, mean reciprocal rank and mean average precision in both directions.

    Parameters
    ----------
    a, b : (N, D) and (M, D) arrays
        Embeddings of the two modalities. Or `a` alone: an (N, M) matrix of scores.
    names : (str, str)
        Of the modalities, for the keys of the result.
    k, positives, labels, metric, precision
        As in `recall_at_k`; `positives` are indices into `b` for each row of `a`, and hold for the way back too, where
        rows of `b` that nothing belongs to are candidates that distract but no queries.

    Returns
    -------
    dict
        ``{"a_to_b": {"recall": {1: ..}, "mrr": .., "map": ..}, "b_to_a": {...}}``, shares from 0 to 1.

    Examples
    --------
    >>> import numpy as np, plait
    >>> report = plait.evaluate.retrieval(np.eye(4), np.eye(4), names=("image", "text"), k=1)
    >>> report["text_to_image"]
    {'recall': {1: 1.0}, 'mrr': 1.0, 'map': 1.0}
    """
    scores = Scores(a if b is None else (a, b), metric, precision)
    truth = Truth(scores.shape, positives, labels)
    ks = _ks(k)[0]
    report = {}
    for way, s, t in (
        (f"{names[0]}_to_{names[1]}", scores, truth),
        (f"{names[1]}_to_{names[0]}", scores.turned(), truth.turned()),
    ):
        first, average = _places(s, t, precision=True)
        report[way] = {
            "recall": _recall(first, ks),
            "mrr": float(np.mean(1 / first[first > 0])),
            "map": float(np.mean(average[first > 0])),
        }
    return report


def top_k(queries, gallery, k, metric="cosine", precision=None):
    """The k candidates that score highest, best first; of equal ones the lower index first.

    Parameters
    ----------
    queries : (Q, D) array
    gallery : (G, D) array
    k : int
        At most G.
    metric : {"cosine", "dot"}
    precision : {"float32", "int8", "uint8", "binary", "ubinary"}, optional
        Of quantised embeddings: of ``encode(..., precision="ubinary")``, say. Required for uint8 arrays, and without it
        int8 arrays are not ``"binary"`` ones.

    Returns
    -------
    ids : (Q, k) int64 array
    scores : (Q, k) array

    Examples
    --------
    >>> import numpy as np, plait
    >>> ids, scores = plait.evaluate.top_k([[1.0, 0.0]], [[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]], 2)
    >>> ids, scores.round(3)
    (array([[1, 2]]), array([[1.   , 0.707]]))
    >>> bits = np.array([[0b11110000], [0b11111100]], np.uint8)
    >>> plait.evaluate.top_k(bits[:1], bits, 2, precision="ubinary")
    (array([[0, 1]]), array([[1. , 0.5]], dtype=float32))
    """
    scores = Scores((queries, gallery), metric, precision)
    if np.ndim(k):
        raise TypeError("top_k: k is a sequence, expected one whole number")
    _ks(k, scores.shape[1])
    ids, values = np.empty((scores.shape[0], k), np.int64), np.empty((scores.shape[0], k), scores.queries.dtype)
    for q, s in scores.blocks():
        chosen = _largest(s, k)
        best = np.take_along_axis(s, chosen, axis=1)
        order = np.argsort(-best, axis=1, kind="stable")
        ids[q : q + len(s)] = np.take_along_axis(chosen, order, axis=1)
        values[q : q + len(s)] = np.take_along_axis(best, order, axis=1)
    return ids, values


def _largest(s, k):
    """Ascending indices of the k largest of each row; where the last is tied, the lowest indices."""
    chosen = np.sort(np.argpartition(s, s.shape[1] - k, axis=1)[:, s.shape[1] - k :], axis=1)
    values = np.take_along_axis(s, chosen, axis=1)
    least = values.min(1, keepdims=True)
    for row in np.flatnonzero((s == least).sum(1) > (values == least).sum(1)):
        above, equal = np.flatnonzero(s[row] > least[row]), np.flatnonzero(s[row] == least[row])
        chosen[row] = np.sort(np.concatenate([above, equal[: k - above.size]]))
    return chosen


def chance_recall(candidates, k=(1, 5, 10), positives=1):
    """Recall of a random order: the probability that one of the positives is among the first k.

    Parameters
    ----------
    candidates : int
    k : int or sequence of int
        At least 1; from the number of candidates on the result is 1.
    positives : int or sequence of int
        Positives of a query; of several numbers, the mean result.

    Returns
    -------
    dict of float, or float

    Examples
    --------
    >>> import plait
    >>> round(plait.evaluate.chance_recall(530, k=10), 6)
    0.018868
    """
    if isinstance(candidates, bool) or not isinstance(candidates, (int, np.integer)) or candidates < 1:
        raise ValueError(f"candidates is {candidates!r}, expected a whole number of at least 1")
    ks, several = _ks(k)
    counts, weights = np.unique(np.atleast_1d(positives), return_counts=True)
    if counts.dtype.kind not in "iu" or not counts.size or counts[0] < 1 or counts[-1] > candidates:
        raise ValueError(f"positives is {positives!r}, expected whole numbers from 1 to {candidates}")
    total = int(candidates)
    chances = {}
    for one in ks:
        drawn = min(one, total)
        missed = [comb(total - int(p), drawn) / comb(total, drawn) for p in counts]  # exact, then rounded once
        chances[one] = float(1 - np.average(missed, weights=weights))
    return chances if several else chances[ks[0]]
