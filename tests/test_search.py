"""Indexes against NumPy and plain dicts, in real databases of Milvus Lite."""

import json
import os
import statistics
import threading
import time

import ml_dtypes
import numpy as np
import pytest
from search_cases import METADATA, NASTY, best_of, scores_of, unit

from plait import Tensor, io
from plait.search import Hit, Index, Record, _connection, _export, _table

pytest.importorskip("pymilvus", reason="the extra 'search' is not installed")
pytest.importorskip("milvus_lite", reason="the extra 'search' is not installed")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "photos.db"


# ---------------------------------------------------------------- search


@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("id_type", ["str", "int64"])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_search_is_numpy(path, metric, id_type, flushed):
    rng = np.random.default_rng(0)
    rows, queries = rng.standard_normal((300, 24)), rng.standard_normal((7, 24))
    ids = [f"photos/{i}.jpg" for i in range(300)] if id_type == "str" else [(i - 150) * 2**55 for i in range(300)]
    scores = scores_of(metric, queries, rows)
    with Index.create(path, 24, metric=metric, id_type=id_type) as index:
        index.add(ids, rows, {"n": list(range(300))})
        if flushed:
            index.flush()
        for k in (1, 10, 300, 301, 16384):
            found = index.search(queries, k=k)
            best = best_of(metric, scores, k)
            assert [[h.id for h in hits] for hits in found] == [[ids[i] for i in row] for row in best]
            values = np.array([[h.score for h in hits] for hits in found])
            assert np.allclose(values, np.take_along_axis(scores, best, 1), rtol=1e-5, atol=1e-5)
            assert [[h.metadata for h in hits] for hits in found] == [[{"n": int(i)} for i in row] for row in best]
        assert index.search(queries[0], k=10) == index.search(queries[:1], k=10)[0]
        assert index.search(queries[:0]) == []
        assert isinstance(found[0][0], Hit) and type(found[0][0].id) is (str if id_type == "str" else int)


def test_more_queries_than_a_call_takes(path, monkeypatch):
    rng = np.random.default_rng(1)
    rows, queries = unit(rng, 50, 4), unit(rng, 23, 4)
    monkeypatch.setattr(_table, "_QUERIES", 5)
    monkeypatch.setattr(_table, "_HITS", 12)
    with Index.create(path, 4, metric="ip", id_type="int64") as index:
        index.add(range(50), rows)
        best = best_of("ip", queries @ rows.T, 3)
        assert [[h.id for h in hits] for hits in index.search(queries, k=3)] == best.tolist()


@pytest.mark.parametrize("index_type", ["HNSW", "AUTOINDEX"])
def test_approximate_indexes_find_nearly_all(path, index_type):
    rng = np.random.default_rng(2)
    rows, queries = unit(rng, 2000, 32), unit(rng, 20, 32)
    with Index.create(path, 32, id_type="int64", index_type=index_type) as index:
        assert index.index_type == index_type
        index.add(range(2000), rows)
        index.flush()
        best = best_of("cosine", queries @ rows.T, 10)
        found = [{h.id for h in hits} for hits in index.search(queries, k=10)]
        assert np.mean([len(f & set(b.tolist())) / 10 for f, b in zip(found, best, strict=True)]) >= 0.9


def test_filters_and_fields(path):
    rng = np.random.default_rng(3)
    rows = unit(rng, 60, 8)
    data = [
        {"n": i, "label": "cät" if i % 3 else 'd"g', "tags": ["a"] * (i % 2), "deep": {"x": i / 2}} for i in range(60)
    ]
    with Index.create(path, 8) as index:
        index.add([f"p{i}" for i in range(60)], rows, data)
        for flush in (False, True):
            if flush:
                index.flush()
            for condition, keep in [
                ("n < 20", lambda i: i < 20),
                ('label == "cät" and n >= 5', lambda i: i % 3 and i >= 5),
                ("label == 'd\"g'", lambda i: not i % 3),
                ('label in ["cät", "x"]', lambda i: i % 3),
                ('deep["x"] > 20.25', lambda i: i > 40),
                ('id in ["p3", "p4", "none"]', lambda i: i in (3, 4)),
                ('not (n < 50) or id == "p1"', lambda i: i >= 50 or i == 1),
                ("nothing == 3", lambda i: False),
            ]:
                expected = [f"p{i}" for i in best_of("ip", rows[:1] @ rows.T, 60)[0] if keep(i)]
                assert [h.id for h in index.search(rows[0], k=60, filter=condition)] == expected, condition
        assert index.search(rows[4], k=1)[0].metadata == data[4]
        assert index.search(rows[4], k=1, fields=["n", "absent"])[0].metadata == {"n": 4}
        assert index.search(rows[4], k=1, fields=["deep", "not a name"])[0].metadata == {"deep": {"x": 2.0}}
        assert index.search(rows[4], k=1, fields=[])[0].metadata == {}


@pytest.mark.parametrize("filter", ["n >", "n == ", "(n == 1", "n = 1", "n == 'a", "1 +", "id in [", ")", "n ~ 3"])
def test_a_wrong_filter_says_what_milvus_says(path, capfd, filter):
    with Index.create(path, 2) as index:
        index.add(["a"], [[1, 0]], [{"n": 1}])
        for call in (
            lambda: index.search([1, 0], filter=filter),
            lambda: index.delete(filter=filter),
            lambda: list(index.batches(filter=filter)),
            lambda: index.hybrid_search({"vector": [1, 0]}, filter=filter),
        ):
            with pytest.raises(ValueError, match="the filter ") as caught:
                call()
            assert filter in str(caught.value)
        assert index.count() == 1
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- what goes in comes out


@pytest.mark.parametrize(
    "convert",
    [
        np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8, ">f8",
    ],
    ids=str,
)  # fmt: skip
def test_dtypes(path, convert):
    rows = np.array([[1, 2, 3], [0, 5, 0]]).astype(convert)
    rows.setflags(write=False)
    with Index.create(path, 3, metric="ip") as index:
        index.add(["a", "b"], rows)
        assert np.array_equal(index.get("a").vector, np.float32([1, 2, 3]))
        assert index.search(rows[1], k=1)[0].id == "b"


def test_the_cosine_keeps_unit_vectors(path):
    rows = np.float32([[3, 4], [0, 1e-18]])
    given = rows.copy()
    with Index.create(path, 2) as index:
        index.add(["a", "b"], rows)
        assert np.array_equal(rows, given)
        assert [r.vector.tolist() for r in index.get(["a", "b"])] == pytest.approx(np.float32([[0.6, 0.8], [0, 1]]))
        assert [h.score for h in index.search([0, 1e18])] == pytest.approx([1, 0.8])
        rows = unit(np.random.default_rng(16), 50, 2)
        index.add([str(i) for i in range(50)], rows)
        assert np.array_equal([r.vector for r in index.get([str(i) for i in range(50)])], rows)


def test_a_cosine_is_at_most_one(path):
    rows = unit(np.random.default_rng(17), 400, 512)
    with Index.create(path, 512) as index:
        index.add([str(i) for i in range(400)], rows)
        scores = [hits[0].score for hits in index.search(rows, k=1)] + [h.score for h in index.search(-rows[0], k=400)]
        assert max(scores) == 1.0 and min(scores) == -1.0
        assert max(index.hybrid_search({"vector": row}, k=1)[0].score for row in rows[:50]) <= 1.0


def test_zeros_for_absent_rows_of_the_inner_product(path):
    with Index.create(path, vectors={"image": 2, "text": 2}, metric="ip") as index:
        index.add(["both", "image"], {"image": [[1, 0], [0.8, 0.6]], "text": [[0, 1], [0, 0]]})
        assert index.search([0, 1], vector="text") == [Hit("both", 1.0, {}), Hit("image", 0.0, {})]
        hits = index.hybrid_search({"image": [0, 1], "text": [1, 0]}, {"image": 1, "text": 1})
        assert [(h.id, round(h.score, 6)) for h in hits] == [("image", 0.6), ("both", 0.0)]


def test_layouts(path):
    rng = np.random.default_rng(4)
    rows = unit(rng, 6, 4)
    wide = np.zeros((12, 8), np.float32)
    wide[::2, ::2] = rows
    with Index.create(path, 4, metric="ip") as index:
        for name, value in {
            "fortran": np.asfortranarray(rows), "strided": wide[::2, ::2], "lists": rows.tolist(),
            "tensor": Tensor(rows),
        }.items():  # fmt: skip
            index.add([f"{name}{i}" for i in range(6)], value)
            stored = [r.vector for r in index.get([f"{name}{i}" for i in range(6)])]
            assert np.array_equal(stored, rows), name
        assert all(v.dtype == np.float32 for v in stored)


@pytest.mark.parametrize("flush", [False, True])
def test_metadata_comes_back_as_it_went_in(path, flush):
    ids = [f"m{i}" for i in range(len(METADATA))]
    with Index.create(path, 2) as index:
        index.add(ids, [[1, i] for i in range(len(ids))], METADATA)
        if flush:
            index.flush()
        for read in (
            [r.metadata for r in index.get(ids)],
            [h.metadata for h in sorted(index.search([1, 0], k=20))],
            next(iter(index.batches()))[2],
        ):
            assert read == METADATA
            assert [[type(v) for v in m.values()] for m in read] == [[type(m[k]) for k in r] for m, r in
                                                                     zip(METADATA, read, strict=True)]  # fmt: skip
        for i, data in enumerate(METADATA):
            assert index.search([1, i], k=1, fields=list(data), filter=f'id == "m{i}"')[0].metadata == data


def test_metadata_in_columns_and_of_numpy(path):
    with Index.create(path, 2) as index:
        index.add(["a", "b"], np.eye(2), {"n": np.arange(2), "x": np.float32([0.5, 1.5]), "s": ("p", "q")})
        index.add(["c"], [[1, 1]], [{"n": np.int64(2), "list": (np.float64(1), np.bool_(True))}])
        found = [r.metadata for r in index.get(["a", "b", "c"])]
        assert found == [{"n": 0, "x": 0.5, "s": "p"}, {"n": 1, "x": 1.5, "s": "q"}, {"n": 2, "list": [1.0, True]}]


def test_ids_cannot_break_out_of_a_filter(path):
    rows = np.random.default_rng(5).standard_normal((len(NASTY), 3))
    with Index.create(path, 3, metric="ip") as index:
        index.add(NASTY, rows)
        for flush in (False, True):
            if flush:
                index.flush()
            assert index.contains([*NASTY, "a", "b", "x"]).tolist() == [True] * len(NASTY) + [False] * 3
            for name, row in zip(NASTY, rows, strict=True):
                assert name in index
                assert np.array_equal(index.get(name).vector, row.astype(np.float32))
                assert index.get(name).id == name and index.get([name, "?"])[1] is None
        for i, name in enumerate(NASTY):
            assert index.delete([name, "none"]) == 1
            assert len(index) == len(NASTY) - i - 1 and name not in index


@pytest.mark.parametrize(
    "ids", [[-(2**63) + 1, -1, 0, 1, 2**63 - 1], np.array([3, -4, 7]), np.arange(3, dtype=np.uint8)]
)
def test_whole_numbers_as_ids(path, monkeypatch, ids):
    monkeypatch.setattr(_table, "_PAGE", 1)
    values = [int(i) for i in ids]
    rows = np.random.default_rng(6).standard_normal((len(values), 3))
    with Index.create(path, 3, id_type="int64") as index:
        index.add(ids, rows)
        assert index.contains([*values, 99]).tolist() == [True] * len(values) + [False]
        assert [h.id for h in index.search(rows[0], k=1)] == values[:1]
        assert [r.id for r in index.get(values)] == values and index.get(values[-1]).id == values[-1]
        assert [i for batch in index.batches(rows=1) for i in batch[0]] == sorted(values)
        assert index.delete(values) == len(values) and len(index) == 0
        assert "1" not in index


# ---------------------------------------------------------------- writing


def test_add_refuses_ids_that_are_there(path):
    with Index.create(path, 2) as index:
        index.add(["a", "b"], np.eye(2), [{"n": 1}, {"n": 2}])
        with pytest.raises(ValueError, match=r"1 of 3 ids are in the index already, the first is ids\[1\] = 'b'"):
            index.add(["c", "b", "d"], np.ones((3, 2)))
        with pytest.raises(ValueError, match=r"ids\[0\] and ids\[2\] are both 'e'"):
            index.add(["e", "f", "e"], np.ones((3, 2)))
        with pytest.raises(ValueError, match=r"ids\[0\] and ids\[1\] are both 'a'"):
            index.upsert(["a", "a"], np.ones((2, 2)))
        assert len(index) == 2 and index.contains(["a", "b", "c", "e"]).tolist() == [True, True, False, False]
        assert index.get("b") == Record("b", pytest.approx(np.float32([0, 1])), {"n": 2})
        index.add([], np.zeros((0, 2)))
        assert index.count() == 2


def test_upsert_replaces_all_of_a_row(path):
    expected = {}
    with Index.create(path, 2, metric="ip") as index:
        for round in range(7):  # enough segments to be merged
            ids = ["always", f"r{round}", f"r{round // 2}"] if round > 1 else ["always", f"new{round}"]
            rows = np.full((len(ids), 2), round + 1.0)
            data = [{f"key{round}": i} for i in range(len(ids))]
            index.upsert(ids, rows, data)
            expected |= {i: (r.tolist(), d) for i, r, d in zip(ids, rows, data, strict=True)}
            if round % 3 < 2:
                index.flush()
            assert len(index) == len(expected)
            assert {r.id: (r.vector.tolist(), r.metadata) for r in index.get(list(expected))} == expected
        assert sorted(h.id for h in index.search([1, 1], k=100)) == sorted(expected)
    with Index.open(path) as index:
        assert {i: (v.tolist(), m) for i, v, m in zip(*next(iter(index.batches())), strict=True)} == expected
        assert len(index) == len(expected) == len(index.search([1, 1], k=100))


def test_delete(path):
    with Index.create(path, 2, id_type="int64") as index:
        index.add(range(20), np.random.default_rng(7).standard_normal((20, 2)), {"n": list(range(20))})
        assert index.delete([3, 3, 99]) == 1
        index.flush()
        assert index.delete([4]) == 1 and index.delete([3, 4]) == 0
        assert index.delete(filter="n >= 15 and n < 18") == 3
        assert index.delete(filter="n == 99") == 0 and index.delete([]) == 0
        left = [i for i in range(20) if i not in (3, 4, 15, 16, 17)]
        assert sorted(h.id for h in index.search([1, 1], k=50)) == left and len(index) == 15
        index.add([4], [[1, 1]])
        assert index.get(4).metadata == {} and len(index) == 16
        for wrong in ({}, {"ids": [1], "filter": "n == 1"}):
            with pytest.raises(TypeError, match="either ids or filter"):
                index.delete(**wrong)
        with pytest.raises(ValueError, match="filter is empty"):
            index.delete(filter=" ")
        assert len(index) == 16
    with Index.open(path) as index:
        assert sorted(h.id for h in index.search([1, 1], k=50)) == sorted([*left, 4])


@pytest.mark.parametrize("limits", [{"MAX_ROWS": 3}, {"_BYTES": 100}, {"_IDS_BYTES": 7}])
def test_batches_of_any_size_are_the_same(path, monkeypatch, limits):
    for name, value in limits.items():
        monkeypatch.setattr(_table, name, value)
    rows, ids = np.random.default_rng(8).standard_normal((20, 4)), [f"{i:02}" for i in range(20)]
    calls = []
    call = _connection.Connection.call
    monkeypatch.setattr(
        _connection.Connection, "call",
        lambda self, what, method, *a, **o: [calls.append(method), call(self, what, method, *a, **o)][1],
    )  # fmt: skip
    with Index.create(path, 4) as index:
        index.add(ids, rows, {"n": list(range(20))})
        assert calls.count("insert" if "_IDS_BYTES" not in limits else "query") >= 5
        assert [h.id for h in index.search(rows[:1], k=20)[0]] == [
            ids[i] for i in best_of("cosine", scores_of("cosine", rows[:1], rows), 20)[0]
        ]
        assert index.contains(ids).all() and len(index.get(ids)) == len(index) == 20
        assert index.delete(ids[:7]) == 7 and len(index) == 13


def test_a_failure_in_between_says_how_many_rows_stay(path, monkeypatch):
    monkeypatch.setattr(_table, "MAX_ROWS", 4)
    rows = np.ones((10, 2))
    with Index.create(path, 2, id_type="int64") as index:
        insert, calls = index._table.connection.client.insert, []

        def failing(*arguments, **options):
            calls.append(1)
            if len(calls) == 3:
                import pymilvus

                raise pymilvus.MilvusException(message="the disk is full")
            return insert(*arguments, **options)

        index._table.connection.client.insert = failing
        with pytest.raises(OSError, match=r"the disk is full \(after 8 of 10 rows, which stay\)"):
            index.add(range(10), rows)
        assert index.contains(range(10)).tolist() == [True] * 8 + [False] * 2
        index.add([8, 9], rows[:2])
        assert len(index) == 10


def test_threads_may_add_and_search(path):
    rng, errors = np.random.default_rng(9), []
    rows = unit(rng, 4, 50, 8)
    with Index.create(path, 8, id_type="int64") as index:

        def work(t):
            try:
                for i in range(0, 50, 10):
                    index.add(range(100 * t + i, 100 * t + i + 10), rows[t, i : i + 10])
                    assert index.search(rows[t, i], k=1)[0].id == 100 * t + i
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and len(index) == 200


# ---------------------------------------------------------------- several vector fields


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize(
    "weights", [None, {"image": 0.7, "text": 0.3}, {"text": 1, "image": 0}, {"image": 3.0, "text": 2}]
)
def test_hybrid_search_is_numpy(path, metric, weights):
    rng = np.random.default_rng(10)
    images, texts = rng.standard_normal((400, 12)), rng.standard_normal((400, 6))
    queries = {"image": rng.standard_normal((3, 12)), "text": rng.standard_normal((3, 6))}
    w = weights or {"image": 0.5, "text": 0.5}
    total = sum(w[name] * scores_of(metric, queries[name], x) for name, x in (("image", images), ("text", texts)))
    with Index.create(path, vectors={"image": 12, "text": 6}, metric=metric, id_type="int64") as index:
        index.add(range(400), {"image": images, "text": texts}, {"n": list(range(400))})
        for k in (1, 5, 40):
            found = index.hybrid_search(queries, weights, k=k)
            best = best_of(metric, total, k)
            assert [[h.id for h in hits] for hits in found] == best.tolist()
            assert np.allclose(
                [[h.score for h in hits] for hits in found], np.take_along_axis(total, best, 1), rtol=1e-4
            )
            assert found[0][0].metadata == {"n": best[0, 0]}
        odd = np.where(np.arange(400) % 2, total, np.inf if metric == "l2" else -np.inf)
        one = index.hybrid_search(
            {n: q[0] for n, q in queries.items()}, weights, filter="n in " + str([*range(1, 400, 2)])
        )
        assert [h.id for h in one] == best_of(metric, odd, 10)[0].tolist()
        assert len(index.hybrid_search(queries, weights, k=1000)[0]) == 400
        assert index.hybrid_search({"text": queries["text"]}, {"text": 2.0}, k=3, fields=[]) == [
            [Hit(h.id, pytest.approx(2 * h.score, rel=1e-5), {}) for h in hits]
            for hits in index.search(queries["text"], k=3, vector="text")
        ]


def test_hybrid_search_reads_on_until_it_is_sure(path):
    """The best sum belongs to a row that is at the end of the first lists of both fields."""
    n = 500
    a, b = np.linspace(1, 0.5, n), np.linspace(0.5, 1, n)
    a[250] = b[250] = 0.85
    rows = {"a": np.stack([a, np.zeros(n)], 1), "b": np.stack([b, np.zeros(n)], 1)}
    with Index.create(path, vectors={"a": 2, "b": 2}, metric="ip", id_type="int64") as index:
        index.add(range(n), rows)
        depths, nearest = [], index._table.nearest
        index._table.nearest = lambda *arguments: [depths.append(arguments[3]), nearest(*arguments)][1]
        hit = index.hybrid_search({"a": [1, 0], "b": [1, 0]}, {"a": 1, "b": 1}, k=1)[0]
        assert hit.id == 250 and hit.score == pytest.approx(1.7) and depths == [64, 64, 256, 256]


def test_fields_of_an_index_with_several(path):
    with Index.create(path, vectors={"image": 3, "text": 2}, metric="ip") as index:
        assert index.vectors == index.dimension == {"image": 3, "text": 2}
        index.add(["a"], {"image": [[1, 2, 3]], "text": [[4, 5]]})
        record, one = index.get("a"), [[1, 2, 3]]
        assert {n: v.tolist() for n, v in record.vector.items()} == {"image": [1, 2, 3], "text": [4, 5]}
        assert index.search([1, 2, 3], vector="image")[0].score == pytest.approx(14)
        for error, message, call in [
            (TypeError, "expected vector, the field to search: image, text", lambda: index.search([1, 2, 3])),
            (ValueError, "'audio' is no vector field", lambda: index.search([1, 2], vector="audio")),
            (ValueError, r"shape \(1, 2\), expected \(n, 3\)", lambda: index.search([1, 2], vector="image")),
            (TypeError, "vectors is no dict", lambda: index.add(["b"], [[1, 2, 3]])),
            (ValueError, r"vectors has fields \['image'\]", lambda: index.add(["b"], {"image": [[1, 2, 3]]})),
            (ValueError, "has 2 rows, expected 1", lambda: index.add(["b"], {"image": one, "text": [[1, 2]] * 2})),
            (ValueError, r"\['text'\]\[0, 1\] is nan", lambda: index.add(["b"], {"image": one, "text": [[0, np.nan]]})),
            (TypeError, "queries is no dict", lambda: index.hybrid_search([1, 2, 3])),
            (ValueError, "'audio' is no vector field", lambda: index.hybrid_search({"audio": [1]})),
            (ValueError, "as many in each field", lambda: index.hybrid_search({"image": one * 2, "text": [1, 1]})),
            (ValueError, "a number for each of image", lambda: index.hybrid_search({"image": [1, 2, 3]}, {"text": 1})),
            (ValueError, r"weights\['image'\] is -1", lambda: index.hybrid_search({"image": [1, 2, 3]}, {"image": -1})),
            (ValueError, "is nan", lambda: index.hybrid_search({"image": [1, 2, 3]}, {"image": np.nan})),
            (ValueError, "all weights are 0", lambda: index.hybrid_search({"image": [1, 2, 3]}, {"image": 0})),
        ]:  # fmt: skip
            with pytest.raises(error, match=message):
                call()
        assert len(index) == 1


# ---------------------------------------------------------------- reading on, and out


@pytest.mark.parametrize("page", [1, 5, 16384])
@pytest.mark.parametrize("rows", [1, 7, 5000])
def test_batches_go_through_all_in_order(path, monkeypatch, rows, page):
    monkeypatch.setattr(_table, "_PAGE", page)
    vectors = np.random.default_rng(11).standard_normal((len(NASTY), 3)).astype(np.float32)
    with Index.create(path, 3, metric="ip") as index:
        index.add(NASTY, vectors, {"n": list(range(len(NASTY)))})
        seen = list(index.batches(rows))
        assert all(len(ids) == len(v) == len(m) <= rows for ids, v, m in seen)
        assert [i for ids, _, _ in seen for i in ids] == sorted(NASTY)
        for ids, v, m in seen:
            assert np.array_equal(v, vectors[[NASTY.index(i) for i in ids]])
            assert [d["n"] for d in m] == [NASTY.index(i) for i in ids]
        bare = list(index.batches(rows, vectors=False))
        assert [v for _, v, _ in bare] == [None] * len(seen)
        assert [(ids, m) for ids, _, m in bare] == [(ids, m) for ids, _, m in seen]
        few = [i for ids, _, _ in index.batches(rows, filter="n < 4 or n == 10") for i in ids]
        assert few == sorted([*NASTY[:4], NASTY[10]])
        with pytest.raises(ValueError, match="expected 1 to 5000"):
            index.batches(0)


@pytest.mark.parametrize("part_bytes", [1, 100, 64 << 20])
def test_export_can_be_read_and_added_again(path, tmp_path, monkeypatch, part_bytes):
    monkeypatch.setattr(_export, "_PART_BYTES", part_bytes)
    rng = np.random.default_rng(12)
    n = len(NASTY)
    arrays = {"image": rng.standard_normal((n, 3)), "text": rng.standard_normal((n, 2))}
    data = [METADATA[i % len(METADATA)] for i in range(n)]
    folder = tmp_path / "out"
    with Index.create(path, vectors={"image": 3, "text": 2}, metric="ip", model="m 1") as index:
        assert index.export(folder) == 0
        assert os.listdir(folder) == ["index.json"]
        index.add(NASTY, arrays, data)
        assert index.export(folder) == n
        first = {p.name: p.read_bytes() for p in folder.iterdir()}
        assert index.export(folder) == n
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == first
        (folder / "mine.txt").write_text("keep")
        with pytest.raises(FileExistsError, match=r"mine\.txt"):
            index.export(folder)
        (folder / "mine.txt").unlink()
    about = json.loads((folder / "index.json").read_text())
    assert about["rows"] == n and about["vectors"] == {"image": 3, "text": 2} and about["model"] == "m 1"
    assert about["metric"] == "ip" and about["parts"] == {1: n, 100: 4, 64 << 20: 1}[part_bytes]
    with Index.create(tmp_path / "copy.db", vectors=about["vectors"], metric=about["metric"]) as copy:
        for part in range(about["parts"]):
            lines = [json.loads(s) for s in (folder / f"part-{part:05d}.jsonl").read_text().split("\n")[:-1]]
            tensors = io.load_tensors(folder / f"part-{part:05d}.safetensors")
            copy.add([line["id"] for line in lines], tensors, [line["metadata"] for line in lines])
        records = copy.get(NASTY)
        assert [r.metadata for r in records] == data
        for name, x in arrays.items():
            assert np.array_equal([r.vector[name] for r in records], x.astype(np.float32))


def test_a_copy_by_batches(path, tmp_path):
    with Index.create(path, 2) as index, Index.create(tmp_path / "copy.db", 2) as copy:
        index.add(NASTY, np.random.default_rng(13).standard_normal((len(NASTY), 2)), {"n": list(range(len(NASTY)))})
        for batch in index.batches(4):
            copy.add(*batch)
        assert [str(r) for r in index.get(NASTY)] == [str(r) for r in copy.get(NASTY)]


# ---------------------------------------------------------------- how fast


def test_latency_of_ten_thousand(path, capsys):
    rng = np.random.default_rng(15)
    rows, queries = unit(rng, 10_000, 512), unit(rng, 20, 512)
    with Index.create(path, 512, id_type="int64") as index:
        begin = time.perf_counter()
        index.add(range(10_000), rows, {"n": list(range(10_000))})
        added = time.perf_counter() - begin
        best = best_of("cosine", queries @ rows.T, 10)
        index.search(queries[0])
        times, found = [], []
        for query in queries:
            begin = time.perf_counter()
            found.append([h.id for h in index.search(query, k=10)])
            times.append(1e3 * (time.perf_counter() - begin))
        assert found == best.tolist()
        begin = time.perf_counter()
        assert [[h.id for h in hits] for hits in index.search(queries, k=10)] == best.tolist()
        together = 1e3 * (time.perf_counter() - begin) / len(queries)
    with capsys.disabled():
        print(
            f"\n10,000 x 512, k=10, cosine: {statistics.median(times):.1f} ms a query, {together:.1f} ms in a batch of "
            f"{len(queries)}; added in {added:.1f} s"
        )
