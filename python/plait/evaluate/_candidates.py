"""What retrieval measures take: scores in blocks of queries, and which candidates belong to which query."""

from __future__ import annotations

import numpy as np

BLOCK = 1 << 22  # scores held at once
_DTYPES = {"float32": "float32", "int8": "int8", "uint8": "uint8", "binary": "int8", "ubinary": "uint8"}


class Scores:
    """Rows of the score matrix, made when they are asked for."""

    def __init__(self, scores, metric, precision=None):
        if metric not in ("cosine", "dot"):
            raise ValueError(f"metric is {metric!r}, expected 'cosine' or 'dot'")
        if precision is not None and (precision not in tuple(_DTYPES)):
            raise ValueError(f"precision is {precision!r}, expected one of {', '.join(_DTYPES)}")
        self.pair = isinstance(scores, tuple)
        self.scale = None
        if not self.pair:
            if precision is not None:
                raise ValueError("precision is for embeddings, (queries, gallery), and not for a matrix of scores")
            self.matrix = _numbers(scores, "scores")
            self.shape = self.matrix.shape
            return
        if len(scores) != 2:
            raise ValueError(f"scores is a tuple of {len(scores)}, expected (queries, gallery)")
        queries, gallery = _embeddings(scores[0], "queries", precision), _embeddings(scores[1], "gallery", precision)
        if queries.shape[1] != gallery.shape[1]:
            raise ValueError(
                f"gallery has shape {gallery.shape}, expected (*, {queries.shape[1]}), the width of queries"
            )
        # Sums of signs are whole numbers and scaled after that: equal ones stay equal.
        signs = precision in ("binary", "ubinary") and all(np.asarray(x).dtype.kind in "iu" for x in scores)
        self.scale = np.float32(1 / max(1, queries.shape[1])) if signs and metric == "cosine" else None
        given = metric == "dot" or self.scale is not None
        self.queries, self.gallery = (queries, gallery) if given else (_unit(queries), _unit(gallery))
        self.shape = (queries.shape[0], gallery.shape[0])

    def blocks(self):
        """(first query, scores of these queries)."""
        queries, candidates = self.shape
        step = max(1, BLOCK // max(1, candidates))
        for q in range(0, queries, step):
            with np.errstate(invalid="ignore", over="ignore"):  # said below, with the place
                block = self.queries[q : q + step] @ self.gallery.T if self.pair else self.matrix[q : q + step]
                block = block * self.scale if self.scale is not None else block
            wrong = np.isnan(block)
            if wrong.any():
                i, j = np.argwhere(wrong)[0]
                raise ValueError(f"scores: query {q + i} and candidate {j} give NaN")
            yield q, block

    def turned(self):
        """Candidates as queries."""
        other = Scores.__new__(Scores)
        other.pair, other.shape, other.scale = self.pair, self.shape[::-1], self.scale
        if self.pair:
            other.queries, other.gallery = self.gallery, self.queries
        else:
            other.matrix = self.matrix.T
        return other


def _embeddings(value, name, precision):
    """Embeddings as numbers whose products say how well they fit, whatever they were quantised to."""
    array = np.asarray(value)
    if array.ndim == 2 and array.dtype.kind in "iub":
        if precision is None and array.dtype == np.uint8:
            raise TypeError(f"{name} has dtype uint8, expected precision to say whether it is 'uint8' or 'ubinary'")
        if precision is not None and array.dtype != _DTYPES[precision]:
            raise TypeError(
                f"{name} has dtype {array.dtype}, expected {_DTYPES[precision]}, as precision is {precision!r}, or "
                "floating"
            )
        if precision == "uint8":
            array = array - np.float32(128)
        elif precision in ("binary", "ubinary"):
            bits = array.view(np.uint8) ^ np.uint8(128 * (precision == "binary"))
            array = np.unpackbits(bits, axis=1) * np.float32(2) - np.float32(1)
    return _numbers(array, name)


def _numbers(value, name):
    array = np.asarray(value)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}, expected two dimensions")
    if array.dtype != np.float64:
        if array.dtype.kind not in "fiub" and not np.can_cast(array.dtype, np.float32):
            raise TypeError(f"{name} has dtype {array.dtype}, expected numbers")
        array = array.astype(np.float64 if array.dtype.kind in "iu" else np.float32, copy=False)
    wrong = np.isnan(array)
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise ValueError(f"{name}[{i}, {j}] is NaN")
    return array


def _unit(x):
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # an infinite row: NaN, which is refused when it is used
        return x / np.where(norm == 0, 1, norm)


class Truth:
    """Which candidates belong to which query."""

    def __init__(self, shape, positives, labels):
        self.shape = queries, candidates = shape
        self.labels = self.pairs = None
        if labels is not None:
            if positives is not None:
                raise TypeError("give positives or labels, not both")
            self._take_labels(labels)
        elif positives is None:
            if queries != candidates:
                raise ValueError(
                    f"scores are {queries} queries by {candidates} candidates; say with positives or labels which "
                    "belong together"
                )
            self.pairs = np.arange(queries), np.arange(queries)
        else:
            self._take_positives(positives)

    def _take_labels(self, labels):
        both = labels if isinstance(labels, tuple) else (labels, labels)
        if len(both) != 2:
            raise ValueError(f"labels is a tuple of {len(both)}, expected (of queries, of gallery)")
        self.labels = tuple(np.asarray(side) for side in both)
        for name, side, n in zip(("queries", "gallery"), self.labels, self.shape, strict=True):
            if side.shape != (n,):
                raise ValueError(f"labels of {name} have shape {side.shape}, expected ({n},)")
            if side.dtype.kind == "f" and np.isnan(side).any():
                raise ValueError(f"labels of {name} hold NaN")

    def _take_positives(self, positives):
        queries, candidates = self.shape
        if len(positives) != queries:
            raise ValueError(f"positives has {len(positives)} entries, expected {queries}, one for each query")
        sets = [np.atleast_1d(np.asarray(p)) for p in positives]
        sets = [s.astype(np.int64) if s.size == 0 else s for s in sets]
        for q, s in enumerate(sets):
            if s.ndim != 1 or s.dtype.kind not in "iu":
                raise TypeError(f"positives[{q}] is {positives[q]!r}, expected an index or a list of them")
            wrong = s[(s < 0) | (s >= candidates)]
            if wrong.size:
                raise IndexError(f"positives[{q}] holds {wrong[0]}, expected 0 to {candidates - 1}")
        lengths = [s.size for s in sets]
        columns = np.concatenate([np.empty(0, np.int64), *sets]).astype(np.int64)
        self.pairs = np.repeat(np.arange(queries), lengths), columns

    def block(self, q, n):
        """(n, G) mask of the positives of queries q to q + n."""
        if self.labels is not None:
            return self.labels[0][q : q + n, None] == self.labels[1]
        mask = np.zeros((n, self.shape[1]), bool)
        rows, columns = self.pairs
        begin, end = np.searchsorted(rows, [q, q + n])
        mask[rows[begin:end] - q, columns[begin:end]] = True
        return mask

    def turned(self):
        other = Truth.__new__(Truth)
        other.shape, other.labels, other.pairs = self.shape[::-1], None, None
        if self.labels is not None:
            other.labels = self.labels[::-1]
        else:
            rows, columns = self.pairs
            order = np.argsort(columns, kind="stable")
            other.pairs = columns[order], rows[order]
        return other
