"""Weighted sums of the scores in several vector fields, exact without looking at every row."""

from __future__ import annotations

import itertools

import numpy as np

from ._checks import MAX_K

__all__ = ["search"]


def search(table, what, queries, weights, k, filter):
    """For each query the k best (id, score) by the weighted sum.

    Lists of the best rows of each field are lengthened until the k-th best sum is at least what a row outside all of
    them could reach: the weighted sum of the last scores.
    """
    n = len(next(iter(queries.values())))
    results: list = [None] * n
    known = [{name: {} for name in queries} for _ in range(n)]
    open_queries, depth = list(range(n)), min(MAX_K, max(64, 4 * k))
    while open_queries:
        lists = {
            name: table.nearest(what, name, array[open_queries], depth, filter, ["id"])
            for name, array in queries.items()
        }
        unfinished = []
        for place, q in enumerate(open_queries):
            rows = {name: found[place] for name, found in lists.items()}
            for name, hits in rows.items():
                known[q][name].update((hit[0], hit[1]) for hit in hits)
            best = _best(table, what, {name: array[q] for name, array in queries.items()}, known[q], weights, k)
            if depth == MAX_K or _is_final(best, rows, weights, k, depth, table.layout.metric):
                results[q] = best
            else:
                unfinished.append(q)
        open_queries, depth = unfinished, min(MAX_K, 4 * depth)
    return results


def _best(table, what, queries, known, weights, k):
    """The k best of all rows seen; scores that a list did not give are computed here from the vectors."""
    seen = list(dict.fromkeys(i for scores in known.values() for i in scores))
    for name, scores in known.items():
        missing = [i for i in seen if i not in scores]
        pages = table.find(what, missing, ["id", name])
        while rows := list(itertools.islice(pages, 1000)):
            values = _scores(table.layout.metric, queries[name], np.asarray([row[name] for row in rows], np.float32))
            scores.update(zip([row["id"] for row in rows], values, strict=True))
    # A row that was deleted between the calls has no score in some field.
    sums = [(i, sum(w * known[f][i] for f, w in weights.items())) for i in seen if all(i in s for s in known.values())]
    return sorted(sums, key=lambda row: row[1] if table.layout.metric == "l2" else -row[1])[:k]


def _scores(metric, query, vectors):
    if metric == "l2":
        return np.square(vectors - query).sum(1).tolist()
    return (vectors @ query).tolist()


def _is_final(best, rows, weights, k, depth, metric):
    if any(len(hits) < depth for hits in rows.values()):
        return True  # every row that the filter leaves is in that list
    if len(best) < k:
        return False
    limit = sum(weight * rows[name][-1][1] for name, weight in weights.items())
    return best[-1][1] <= limit if metric == "l2" else best[-1][1] >= limit
