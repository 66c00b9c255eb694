"""Retrieval measures against brute force, and what they refuse."""

import tracemalloc

import numpy as np
import pytest

from plait import Tensor, evaluate
from plait.evaluate import _candidates
from plait.models import quantize_embeddings


@pytest.fixture(params=[1, 50, 1 << 22], ids="block{}".format)
def block(request, monkeypatch):
    """Many blocks, some, one: the result is the same."""
    monkeypatch.setattr(_candidates, "BLOCK", request.param)


def ordered(scores, positives):
    """Candidates of one query, best first; of equal ones those that are wrong first."""
    return sorted(range(len(scores)), key=lambda g: (-scores[g], g in positives))


def brute(scores, positives, k):
    """Recall, reciprocal rank and average precision as their definitions read."""
    hits, reciprocal, precision = [], [], []
    for row, own in zip(scores, positives, strict=True):
        own = set(np.atleast_1d(own).tolist())
        if not own:
            continue
        places = [place for place, g in enumerate(ordered(row, own), 1) if g in own]
        hits.append(places[0] <= k)
        reciprocal.append(1 / places[0])
        precision.append(np.mean([i / place for i, place in enumerate(places, 1)]))
    return np.mean(hits), np.mean(reciprocal), np.mean(precision)


def scores_with_ties(rng, queries, candidates):
    return rng.integers(0, 6, (queries, candidates)) / 4


TRUTHS = {
    "one": lambda rng: rng.integers(0, 13, 17),
    "sets": lambda rng: [rng.choice(13, rng.integers(1, 6), replace=False) for _ in range(17)],
    "some-empty": lambda rng: [rng.choice(13, q % 3, replace=False) for q in range(17)],
    "twice-the-same": lambda rng: [[3, 3, 5]] * 17,
    "all": lambda rng: [np.arange(13)] * 17,
}


@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("seed", range(3))
def test_against_brute_force(block, truth, seed):
    rng = np.random.default_rng(seed)
    scores, positives = scores_with_ties(rng, 17, 13), truth(rng)
    for k in (1, 4, 13):
        recall, reciprocal, precision = brute(scores, positives, k)
        assert evaluate.recall_at_k(scores, k, positives) == pytest.approx(recall, abs=1e-12)
    assert evaluate.mrr(scores, positives) == pytest.approx(reciprocal, abs=1e-12)
    assert evaluate.mean_average_precision(scores, positives) == pytest.approx(precision, abs=1e-12)


def test_both_ways_against_brute_force(block):
    rng = np.random.default_rng(0)
    scores, positives = scores_with_ties(rng, 17, 13), TRUTHS["sets"](rng)
    back = [[q for q in range(17) if g in positives[q]] for g in range(13)]
    assert any(not p for p in back) or min(map(len, back)) > 0
    report = evaluate.retrieval(scores, k=(1, 3), positives=positives, names=("image", "text"))
    for way, s, p in (("image_to_text", scores, positives), ("text_to_image", scores.T, back)):
        for k in (1, 3):
            recall, reciprocal, precision = brute(s, p, k)
            assert report[way]["recall"][k] == pytest.approx(recall)
        assert report[way]["mrr"] == pytest.approx(reciprocal)
        assert report[way]["map"] == pytest.approx(precision)


def test_labels_are_positives(block):
    rng = np.random.default_rng(1)
    scores = scores_with_ties(rng, 17, 13)
    of_queries, of_gallery = rng.integers(0, 4, 17), rng.integers(0, 4, 13)
    sets = [np.flatnonzero(of_gallery == label) for label in of_queries]
    labels = (of_queries, of_gallery)
    assert np.array_equal(evaluate.ranks(scores, labels=labels), evaluate.ranks(scores, sets))
    assert evaluate.retrieval(scores, k=2, labels=labels) == evaluate.retrieval(scores, k=2, positives=sets)
    square = scores[:13]
    assert evaluate.mrr(square, labels=of_gallery) == evaluate.mrr(square, labels=(of_gallery, of_gallery))
    words = np.array(["cat", "dog", "cat"])
    assert evaluate.ranks(np.eye(3), labels=words).tolist() == [1, 1, 1]


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_embeddings_are_scores(block, metric):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((17, 8)), rng.standard_normal((13, 8))
    a[3] = 0  # an absent row scores 0 with everything
    matrix = a @ b.T
    if metric == "cosine":
        norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
        matrix = np.divide(matrix, norms, out=np.zeros_like(matrix), where=norms > 0)
    positives = rng.integers(0, 13, 17)
    assert np.array_equal(evaluate.ranks((a, b), positives, metric=metric), evaluate.ranks(matrix, positives))
    assert evaluate.ranks((a, b), positives, metric=metric)[3] == 13
    ids, scores = evaluate.top_k(a, b, 5, metric=metric)
    assert np.array_equal(ids, np.argsort(-matrix, axis=1, kind="stable")[:, :5])
    assert np.allclose(scores, np.take_along_axis(matrix, ids, 1))


@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_top_k_of_equal_scores_takes_the_lower_index(block, k):
    rng = np.random.default_rng(3)
    queries, gallery = rng.integers(0, 2, (9, 3)).astype(float), rng.integers(0, 2, (40, 3)).astype(float)
    matrix = queries @ gallery.T
    ids, scores = evaluate.top_k(queries, gallery, k, metric="dot")
    assert np.array_equal(ids, np.argsort(-matrix, axis=1, kind="stable")[:, :k])
    assert np.array_equal(scores, np.take_along_axis(matrix, ids, 1))


def test_a_constant_model_is_worst():
    scores = np.zeros((6, 6))
    assert evaluate.recall_at_k(scores, (1, 5, 6)) == {1: 0.0, 5: 0.0, 6: 1.0}
    assert evaluate.mrr(scores) == pytest.approx(1 / 6)


def test_infinities_are_scores():
    scores = np.array([[-np.inf, 0.0], [np.inf, -np.inf]])
    assert evaluate.ranks(scores).tolist() == [2, 2]
    assert evaluate.ranks(scores, [1, 0]).tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, bool])
def test_dtypes(dtype):
    scores = np.eye(4).astype(dtype)
    assert evaluate.mrr(scores) == 1
    precision = "uint8" if dtype is np.uint8 else None  # embeddings have to say which
    assert evaluate.top_k(scores, scores, 1, precision=precision)[0].ravel().tolist() == [0, 1, 2, 3]


def test_bfloat16_and_tensors():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.eye(4, dtype=np.float32)
    assert evaluate.mrr(Tensor(x)) == 1
    assert evaluate.mrr((Tensor(x), x)) == 1
    assert evaluate.mrr((x.astype(ml_dtypes.bfloat16), x)) == 1


def ranking_of(precision, queries, gallery):
    """Scores of quantised embeddings by their definitions, in float64."""
    if precision in ("binary", "ubinary"):
        apart = ((queries > 0)[:, None] != (gallery > 0)).sum(-1)
        bits = 8 * -(-queries.shape[1] // 8)
        return 1 - 2 * apart / bits
    q, g = (quantize_embeddings(x, "int8").astype(np.float64) for x in (queries, gallery))
    return q @ g.T / (np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(g, axis=1))


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("width", [8, 21, 64])
def test_quantised_embeddings(block, precision, width):
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((9, width)), rng.standard_normal((40, width))
    matrix = ranking_of(precision, a, b)
    coded = tuple(quantize_embeddings(x, precision) for x in (a, b))
    ids, scores = evaluate.top_k(*coded, 40, precision=precision)
    np.testing.assert_allclose(scores, np.take_along_axis(matrix, ids, 1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores, -np.sort(-matrix, axis=1), rtol=0, atol=1e-6)
    positives = rng.integers(0, 40, 9)
    due = evaluate.ranks(matrix.astype(np.float32).round(5), positives)
    got = (
        evaluate.ranks(coded, positives, precision=precision),
        np.array([evaluate.ranks((coded[0][[i]], coded[1]), positives[[i]], precision=precision)[0] for i in range(9)]),
    )
    for one in got:
        np.testing.assert_array_equal(one, due)
    options = {"positives": positives, "precision": precision}
    assert evaluate.mrr(coded, **options) == pytest.approx(np.mean(1 / due))
    assert evaluate.recall_at_k(coded, 5, **options) == pytest.approx(np.mean(due <= 5))
    assert evaluate.mean_average_precision(coded, **options) == pytest.approx(np.mean(1 / due))
    assert evaluate.retrieval(*coded, k=5, **options)["a_to_b"]["mrr"] == pytest.approx(np.mean(1 / due))
    if precision == "int8":
        np.testing.assert_array_equal(evaluate.top_k(*coded, 40)[0], ids)  # needs no word
    if width % 8 == 0:  # exact queries beside a coded gallery
        ids, _ = evaluate.top_k(a, coded[1], 5, precision=precision)
        values = {"int8": coded[1], "uint8": coded[1].astype(int) - 128}.get(precision, np.where(b > 0, 1, -1))
        np.testing.assert_array_equal(ids, evaluate.top_k(a, values.astype(np.float64), 5)[0])


def test_no_queries_of_top_k():
    ids, scores = evaluate.top_k(np.zeros((0, 3)), np.zeros((5, 3)), 2)
    assert ids.shape == scores.shape == (0, 2)


@pytest.mark.parametrize("positives", [1, 3, [1, 1, 4]])
def test_chance(positives):
    rng = np.random.default_rng(4)
    chance = evaluate.chance_recall(12, (1, 3, 12), positives)
    counts = np.resize(np.atleast_1d(positives), 30_000)
    random = rng.random((counts.size, 12))
    measured = evaluate.recall_at_k(random, (1, 3, 12), [np.arange(n) for n in counts])
    for k, share in chance.items():
        assert measured[k] == pytest.approx(share, abs=0.015)
    assert chance[12] == 1


def test_k_beyond_the_candidates_finds_everything():
    worst = -SQUARE
    assert evaluate.recall_at_k(worst) == {1: 0.0, 5: 1.0, 10: 1.0}
    assert evaluate.recall_at_k(worst, 3) == 0.0
    report = evaluate.retrieval(worst[:3], positives=[0, 1, 2], k=(3, 4, 9))
    assert report["a_to_b"]["recall"] == {3: 0.0, 4: 1.0, 9: 1.0}
    assert evaluate.chance_recall(4) == {1: 0.25, 5: 1.0, 10: 1.0}
    assert evaluate.chance_recall(4, 9, [1, 4]) == 1.0


def test_memory_does_not_grow_with_the_matrix(monkeypatch):
    monkeypatch.setattr(_candidates, "BLOCK", 1 << 16)
    a = np.random.default_rng(5).standard_normal((3000, 4)).astype(np.float32)
    tracemalloc.start()
    try:
        ids, _ = evaluate.top_k(a, a, 3)
        evaluate.retrieval(a, a)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (ids[:, 0] == np.arange(3000)).all()
    assert peak < 6e6  # the matrix of scores alone has 36 MB


SQUARE = np.eye(4)
BYTES = np.eye(4, dtype=np.uint8)
HOLE = np.array([[0.0, 1.0], [np.nan, 0.0]])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: evaluate.recall_at_k(SQUARE, 0), ValueError, "k is 0, expected at least 1"),
        (lambda: evaluate.retrieval(SQUARE, k=(9, 0)), ValueError, "k is 0, expected at least 1"),
        (lambda: evaluate.recall_at_k(SQUARE, ()), ValueError, "k is empty"),
        (lambda: evaluate.recall_at_k(SQUARE, 1.0), TypeError, "k is 1.0, expected a whole number"),
        (lambda: evaluate.top_k(SQUARE, SQUARE, 5), ValueError, "k is 5, expected 1 to 4"),
        (lambda: evaluate.top_k(SQUARE, SQUARE, (1, 2)), TypeError, "k is a sequence"),
        (lambda: evaluate.top_k(SQUARE, np.zeros((0, 4)), 1), ValueError, "k is 1, expected 1 to 0"),
        (lambda: evaluate.mrr(HOLE), ValueError, r"scores\[1, 0\] is NaN"),
        (lambda: evaluate.mrr((SQUARE[:, :2], HOLE), [0] * 4), ValueError, r"gallery\[1, 0\] is NaN"),
        (lambda: evaluate.top_k(HOLE, SQUARE[:, :2], 1), ValueError, r"queries\[1, 0\] is NaN"),
        (
            lambda: evaluate.mrr((np.array([[np.inf]]), np.array([[0.0]])), metric="dot"),
            ValueError,
            "query 0 and candidate 0 give NaN",
        ),
        (lambda: evaluate.mrr(np.zeros(3)), ValueError, r"scores has shape \(3,\), expected two dimensions"),
        (lambda: evaluate.mrr(np.array([["a"]])), TypeError, "scores has dtype <U1"),
        (lambda: evaluate.mrr((SQUARE, SQUARE[:, :3])), ValueError, r"gallery has shape \(4, 3\), expected \(\*, 4\)"),
        (lambda: evaluate.mrr((SQUARE,)), ValueError, "a tuple of 1, expected"),
        (lambda: evaluate.mrr(SQUARE, metric="l2"), ValueError, "metric is 'l2'"),
        (lambda: evaluate.top_k(BYTES, SQUARE, 1), TypeError, "queries has dtype uint8, expected precision to say"),
        (lambda: evaluate.recall_at_k((SQUARE, BYTES)), TypeError, "gallery has dtype uint8, expected precision"),
        (lambda: evaluate.top_k(SQUARE, BYTES, 1, precision="int8"), TypeError, "dtype uint8, expected int8"),
        (lambda: evaluate.top_k(SQUARE, BYTES, 1, precision="binary"), TypeError, "dtype uint8, expected int8"),
        (lambda: evaluate.top_k(SQUARE, BYTES, 1, precision="float32"), TypeError, "dtype uint8, expected float32"),
        (lambda: evaluate.top_k(SQUARE, BYTES, 1, precision="int4"), ValueError, "precision is 'int4', expected one"),
        (lambda: evaluate.top_k(SQUARE, BYTES, 1, precision=["int8"]), ValueError, "precision is"),
        (lambda: evaluate.top_k(SQUARE, BYTES, 1, precision="ubinary"), ValueError, "gallery has shape"),
        (lambda: evaluate.mrr(SQUARE, precision="int8"), ValueError, "precision is for embeddings"),
        (lambda: evaluate.top_k(BYTES[0], BYTES, 1, precision="ubinary"), ValueError, "expected two dimensions"),
        (lambda: evaluate.mrr(SQUARE[:3]), ValueError, "3 queries by 4 candidates; say with positives or labels"),
        (lambda: evaluate.mrr(SQUARE, [0, 1]), ValueError, "positives has 2 entries, expected 4"),
        (lambda: evaluate.mrr(SQUARE, [0, 1, 2, 4]), IndexError, r"positives\[3\] holds 4, expected 0 to 3"),
        (lambda: evaluate.mrr(SQUARE, [0, 1, 2, [0, -1]]), IndexError, r"positives\[3\] holds -1"),
        (lambda: evaluate.mrr(SQUARE, [0, 1, 2, 0.5]), TypeError, r"positives\[3\] is 0.5"),
        (lambda: evaluate.mrr(SQUARE, [[]] * 4), ValueError, "mrr: no query has a positive"),
        (lambda: evaluate.recall_at_k(SQUARE, 1, [[]] * 4), ValueError, "no query has a positive"),
        (lambda: evaluate.retrieval(SQUARE, k=1, positives=[[]] * 4), ValueError, "no query has a positive"),
        (lambda: evaluate.mrr(np.zeros((0, 0))), ValueError, "no query has a positive"),
        (lambda: evaluate.mrr(SQUARE, [0] * 4, labels=[0] * 4), TypeError, "positives or labels, not both"),
        (
            lambda: evaluate.mrr(SQUARE, labels=[0, 1]),
            ValueError,
            r"labels of queries have shape \(2,\), expected \(4,\)",
        ),
        (lambda: evaluate.mrr(SQUARE, labels=[0, 1, 2, np.nan]), ValueError, "labels of queries hold NaN"),
        (lambda: evaluate.chance_recall(0, 1), ValueError, "candidates is 0"),
        (lambda: evaluate.chance_recall(5, -1), ValueError, "k is -1, expected at least 1"),
        (lambda: evaluate.chance_recall(5, 1.5), TypeError, "k is 1.5"),
        (lambda: evaluate.chance_recall(5, 1, 6), ValueError, "positives is 6"),
        (lambda: evaluate.chance_recall(5, 1, 0), ValueError, "positives is 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
