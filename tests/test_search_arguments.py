"""What an index refuses, before it sends or makes anything."""

import os

import numpy as np
import pytest

from plait.search import Index, _connection

pytest.importorskip("pymilvus", reason="the extra 'search' is not installed")
pytest.importorskip("milvus_lite", reason="the extra 'search' is not installed")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "photos.db"


ROWS = np.eye(3, dtype=np.float32)[:2]
NAN = np.array([[1, 2, 3], [1, 2, np.nan]])
LOOP: list = []
LOOP.append(LOOP)
WRONG = {
    "ids-text": (TypeError, r"ids is 'ab', expected a list", lambda i: i.add("ab", ROWS)),
    "ids-set": (TypeError, "expected a list of ids", lambda i: i.add({"a", "b"}, ROWS)),
    "ids-2d": (TypeError, "expected a list of ids", lambda i: i.add(np.array([["a"], ["b"]]), ROWS)),
    "ids-none": (TypeError, "expected a list of ids", lambda i: i.contains(None)),
    "ids-int": (TypeError, r"ids\[1\] is 3, expected a str", lambda i: i.add(["a", 3], ROWS)),
    "ids-bytes": (TypeError, r"ids\[0\] is b'a'", lambda i: i.get([b"a"])),
    "ids-empty": (ValueError, r"ids\[0\] has 0 bytes, expected 1 to 65535", lambda i: i.add(["", "b"], ROWS)),
    "ids-long": (ValueError, r"ids\[1\] has 65536 bytes", lambda i: i.add(["a", "é" * 32768], ROWS)),
    "ids-nul": (ValueError, "no control characters", lambda i: i.add(["a", "b\0c"], ROWS)),
    "ids-surrogate": (ValueError, "not valid Unicode", lambda i: i.delete([os.fsdecode(b"\xff.jpg")])),
    "rows-few": (ValueError, "vectors has 2 rows, expected 3", lambda i: i.add(["a", "b", "c"], ROWS)),
    "rows-many": (ValueError, "vectors has 2 rows, expected 1", lambda i: i.add(["a"], ROWS)),
    "width": (ValueError, r"shape \(2, 2\), expected \(n, 3\)", lambda i: i.add(["a", "b"], ROWS[:, :2])),
    "1d": (ValueError, r"shape \(3,\), expected \(n, 3\)", lambda i: i.add(["a"], ROWS[0])),
    "3d": (ValueError, r"shape \(1, 2, 3\)", lambda i: i.search(ROWS[None])),
    "ragged": (TypeError, "vectors is not an array", lambda i: i.add(["a", "b"], [[1, 2, 3], [1]])),
    "text": (TypeError, "dtype <U1, expected floating-point numbers", lambda i: i.add(["a"], [["1", "2", "3"]])),
    "bool": (TypeError, "dtype bool", lambda i: i.add(["a"], [[True, False, True]])),
    "complex": (TypeError, "dtype complex128", lambda i: i.add(["a"], [[1j, 0, 0]])),
    "object": (TypeError, "dtype object", lambda i: i.search([None, 1, 2])),
    "nan": (ValueError, r"vectors\[1, 2\] is nan, expected finite", lambda i: i.add(["a", "b"], NAN)),
    "inf": (ValueError, r"queries\[0, 1\] is inf", lambda i: i.search([1, np.inf, 0])),
    "huge": (ValueError, r"vectors\[0\] has a norm that float32 cannot hold", lambda i: i.add(["a"], [[1e39, 0, 0]])),
    "large": (ValueError, "cannot hold", lambda i: i.search(np.float32([1e30, 0, 0]))),
    "zero": (ValueError, r"vectors\[1\] is zero, which has no direc", lambda i: i.add(["a", "b"], ROWS * [[1], [0]])),
    "small": (ValueError, r"queries\[0\] is zero", lambda i: i.search([1e-30, 0, 0])),
    "masked": (TypeError, "masked", lambda i: i.add(["a"], np.ma.masked_equal([[1, 2, 3]], 2))),
    "metadata-few": (ValueError, "metadata has 1 entries, expected 2", lambda i: i.add(["a", "b"], ROWS, [{}])),
    "column-long": (ValueError, r"\['n'\] has 3 values, expected 2", lambda i: i.add([*"ab"], ROWS, {"n": [1, 2, 3]})),
    "column-none": (TypeError, r"metadata\['n'\] is 1, expected a list", lambda i: i.add([*"ab"], ROWS, {"n": 1})),
    "metadata-none": (TypeError, r"metadata\[1\] is None, expected a dict", lambda i: i.add([*"ab"], ROWS, [{}, None])),
    "metadata-text": (TypeError, "expected a list of dicts", lambda i: i.add(["a", "b"], ROWS, "ab")),
    "key-id": (ValueError, "has the key 'id'", lambda i: i.add(["a"], ROWS[:1], [{"id": 1}])),
    "key-vector": (ValueError, "has the key 'vector'", lambda i: i.upsert(["a"], ROWS[:1], {"vector": [1]})),
    "key-meta": (ValueError, r"has the key '\$meta'", lambda i: i.add(["a"], ROWS[:1], [{"$meta": 1}])),
    "key-int": (ValueError, "has the key 1, expected text", lambda i: i.add(["a"], ROWS[:1], [{1: 1}])),
    "key-deep": (TypeError, "has the key 2, expected text", lambda i: i.add(["a"], ROWS[:1], [{"a": {2: 1}}])),
    "value-nan": (ValueError, r"metadata\[0\] holds nan", lambda i: i.add(["a"], ROWS[:1], [{"x": [float("nan")]}])),
    "value-inf": (ValueError, "holds inf", lambda i: i.add(["a"], ROWS[:1], [{"x": np.float32(np.inf)}])),
    "value-huge": (ValueError, "no 64-bit number", lambda i: i.add(["a"], ROWS[:1], [{"x": 10**5000}])),
    "value-bytes": (TypeError, "holds a bytes", lambda i: i.add(["a"], ROWS[:1], [{"x": b"1"}])),
    "value-array": (TypeError, "holds a ndarray", lambda i: i.add(["a"], ROWS[:1], [{"x": np.zeros(2)}])),
    "value-surrogate": (ValueError, "not valid Unicode", lambda i: i.add(["a"], ROWS[:1], [{"x": "\ud800"}])),
    "value-loop": (ValueError, "nested deeper than 16", lambda i: i.add(["a"], ROWS[:1], [{"x": LOOP}])),
    "value-long": (ValueError, "takes 65545 bytes of JSON", lambda i: i.add(["a"], ROWS[:1], [{"x": "y" * 65537}])),
    "k-0": (ValueError, "k is 0, expected 1 to 16384", lambda i: i.search(ROWS, k=0)),
    "k-many": (ValueError, "k is 16385", lambda i: i.search(ROWS, k=16385)),
    "k-float": (TypeError, "k is 2.0, expected a whole number", lambda i: i.search(ROWS, k=2.0)),
    "k-bool": (TypeError, "k is True", lambda i: i.hybrid_search({"vector": ROWS}, k=True)),
    "filter-type": (TypeError, "filter is 3", lambda i: i.search(ROWS, filter=3)),
    "filter-empty": (ValueError, "filter is empty", lambda i: i.search(ROWS, filter="")),
    "fields-text": (TypeError, "fields is 'n', expected a list", lambda i: i.search(ROWS, fields="n")),
    "fields-vector": (ValueError, "fields holds 'vector'", lambda i: i.search(ROWS, fields=["n", "vector"])),
    "vectors-text": (TypeError, "vectors is 'no', expected True or False", lambda i: i.batches(vectors="no")),
    "vector": (ValueError, "'image' is no vector field", lambda i: i.search(ROWS, vector="image")),
}  # fmt: skip


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    with Index.create(tmp_path_factory.mktemp("db") / "a.db", 3) as index:
        index.add(["here"], [[1, 0, 0]])
        yield index
        assert len(index) == 1


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_before_anything_is_sent(untouched, monkeypatch, name):
    error, message, call = WRONG[name]
    monkeypatch.setattr(_connection.Connection, "call", lambda *_, **__: pytest.fail("something was sent"))
    with pytest.raises(error, match=message) as caught:
        call(untouched)
    assert str(caught.value).startswith("Index.")


CREATE = {
    "neither": (TypeError, "either dimension or vectors", {}),
    "both": (TypeError, "either dimension or vectors", {"dimension": 3, "vectors": {"a": 3}}),
    "zero": (ValueError, "dimension of 'vector' is 0, expected 1 to 32768", {"dimension": 0}),
    "huge": (ValueError, "is 32769", {"dimension": 32769}),
    "float": (TypeError, "is 3.0, expected a whole number", {"dimension": 3.0}),
    "bool": (TypeError, "is True", {"dimension": True}),
    "none": (ValueError, r"vectors is \{\}, expected 1 to 4", {"vectors": {}}),
    "list": (ValueError, r"vectors is \['a'\]", {"vectors": ["a"]}),
    "many": (ValueError, "expected 1 to 4 names", {"vectors": dict.fromkeys("abcde", 3)}),
    "reserved": (ValueError, "a vector field is named 'id'", {"vectors": {"id": 3}}),
    "word": (ValueError, "named 'In'", {"vectors": {"In": 3}}),
    "no-name": (ValueError, "named 'a b'", {"vectors": {"a b": 3}}),
    "metric": (ValueError, "metric is 'dot', expected one of cosine, ip, l2", {"dimension": 3, "metric": "dot"}),
    "metric-none": (ValueError, "metric is None", {"dimension": 3, "metric": None}),
    "id-type": (ValueError, "id_type is 'int', expected one of str, int64", {"dimension": 3, "id_type": "int"}),
    "index-type-empty": (ValueError, "index_type is ''", {"dimension": 3, "index_type": ""}),
    "index-type": (ValueError, "index_type is 'PQ'", {"dimension": 3, "index_type": "PQ"}),
    "model-type": (TypeError, "model is a int", {"dimension": 3, "model": 3}),
    "model-empty": (ValueError, "model is ''", {"dimension": 3, "model": ""}),
    "model-long": (ValueError, "1 to 1000 printable", {"dimension": 3, "model": "m" * 1001}),
    "collection": (ValueError, "collection is 'a/b'", {"dimension": 3, "collection": "a/b"}),
    "collection-long": (ValueError, "256 characters", {"dimension": 3, "collection": "a" * 256}),
    "token-type": (TypeError, "token is a int", {"dimension": 3, "token": 3}),
    "token": (ValueError, "a token is for a server", {"dimension": 3, "token": "x"}),
    "timeout": (ValueError, "timeout is 0", {"dimension": 3, "timeout": 0}),
}


@pytest.mark.parametrize("name", CREATE)
def test_wrong_arguments_make_no_file(path, name):
    error, message, options = CREATE[name]
    with pytest.raises(error, match=message):
        Index.create(path, **options)
    assert not path.exists()
