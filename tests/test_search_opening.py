"""Opening and closing indexes: what is on the disk, other processes, servers, and what happens at the end."""

import gc
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from search_cases import best_of, run, scores_of

from plait.search import Index, _connection, _layout

pytest.importorskip("pymilvus", reason="the extra 'search' is not installed")
pytest.importorskip("milvus_lite", reason="the extra 'search' is not installed")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "photos.db"


# ---------------------------------------------------------------- opening


def test_what_is_stored_is_checked(path):
    with Index.create(path, 3, metric="ip", model="clip a", id_type="int64") as index:
        assert repr(index) == f"Index({str(path)!r}, 'plait', vector: 3, ip)"
    assert repr(index).endswith("ip, closed)")
    with Index.open(path) as index:
        assert (index.dimension, index.metric, index.model, index.id_type) == (3, "ip", "clip a", "int64")
        assert (index.vectors, index.index_type, index.collection) == ({"vector": 3}, "FLAT", "plait")
    Index.open(str(path), model="clip a", dimension=np.int64(3)).close()
    same = {"dimension": 3, "metric": "ip", "id_type": "int64", "exist_ok": True}
    Index.create(path, **same).close()
    Index.create(path, **same, model="clip a", index_type="FLAT").close()
    for error, message, call in [
        (ValueError, "model is 'clip a', expected 'clip b'", lambda: Index.open(path, model="clip b")),
        (ValueError, r"vectors is \{'vector': 3\}, expected \{'vector': 4\}", lambda: Index.open(path, dimension=4)),
        (FileNotFoundError, "no collection 'other'; there are 'plait'", lambda: Index.open(path, collection="other")),
        (FileExistsError, "there is a collection 'plait' already", lambda: Index.create(path, 3, metric="ip")),
        (ValueError, "metric is 'ip', expected 'l2'", lambda: Index.create(path, **{**same, "metric": "l2"})),
        (ValueError, r"expected \{'vector': 4\}", lambda: Index.create(path, **{**same, "dimension": 4})),
        (ValueError, "id_type is 'int64', expected 'str'", lambda: Index.create(path, **{**same, "id_type": "str"})),
        (ValueError, "index_type is 'FLAT'", lambda: Index.create(path, **same, index_type="HNSW")),
        (ValueError, "model is 'clip a', expected 'x'", lambda: Index.create(path, **same, model="x")),
    ]:
        with pytest.raises(error, match=message) as caught:
            call()
        assert str(path) in str(caught.value)
    Index.open(path).close()  # none of them left it locked


def make_foreign(path, **options):
    """A collection that plait did not make."""
    import pymilvus
    from milvus_lite import server_manager_instance

    client = pymilvus.MilvusClient(str(path), dedicated=True)
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", pymilvus.DataType.VARCHAR, is_primary=True, max_length=100)
    schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=3)
    client.create_collection("plait", schema=schema, **options)
    client.close()
    server_manager_instance.release_server(str(path))


GOOD = _layout.Layout({"vector": 3}, "ip", "str", "FLAT", None).dumps()
STORED = {
    "nothing": (None, "was not made by plait"),
    "text": ("hello", "was not made by plait"),
    "other": ('{"format": "x"}', "was not made by plait"),
    "list": ("[1]", "was not made by plait"),
    "deep": ("[" * 100000, "was not made by plait"),
    "version": (GOOD.replace('"version": 1', '"version": 2'), "format version 2, expected 1; another version of plait"),
    "keys": (GOOD.replace('"model": null', '"code": "x"'), "has keys"),
    "metric": (GOOD.replace('"ip"', '"dot"'), "metric is 'dot'"),
    "dimension": (GOOD.replace("3", "4"), r"has vectors \{'vector': 3\}, but describes them as \{'vector': 4\}"),
    "type": (GOOD.replace("3", '"3"'), "expected a whole number"),
    "model": (GOOD.replace("null", "7"), "model is a int"),
}


@pytest.mark.parametrize("name", STORED)
def test_foreign_collections(path, name):
    line, message = STORED[name]
    make_foreign(path, **({} if line is None else {"properties": {"plait": line}}))
    with pytest.raises(ValueError, match=message):
        Index.open(path)
    with pytest.raises((ValueError, FileExistsError)):
        Index.create(path, 3)


def test_paths_that_hold_no_index(tmp_path):
    def file(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    (tmp_path / "photos").mkdir()
    file("photos/cat.jpg", b"...")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path, error, message, makes in [
        (tmp_path / "absent.db", FileNotFoundError, "no such index; Index.create makes one", True),
        (tmp_path / "dangling", FileNotFoundError, "no such index", True),
        (tmp_path / "empty", FileNotFoundError, "an empty folder", True),
        (tmp_path / "no/such/folder.db", FileNotFoundError, "no such", False),
        (tmp_path / "photos", ValueError, "a folder, but no database of Milvus Lite", False),
        (file("text.db", b"hello"), ValueError, "no database of Milvus Lite; expected a folder", False),
        (file("old.db", b"SQLite format 3\0..."), ValueError, "Milvus Lite 2, which version 3 cannot open", False),
        ("", TypeError, "uri is ''", False),
        (None, TypeError, "uri is None", False),
        (b"a.db", TypeError, "uri is b'a.db'", False),
        ("ftp://host", ValueError, "expected a path, or an address with http://", False),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            Index.open(path)
        if not makes:
            with pytest.raises(error):
                Index.create(path, 3)
    assert sorted(os.listdir(tmp_path)) == ["dangling", "empty", "old.db", "photos", "text.db"]
    assert os.listdir(tmp_path / "photos") == ["cat.jpg"] and os.listdir(tmp_path / "empty") == []
    with Index.create(tmp_path / "empty", 3) as index, Index.create(tmp_path / "no suffix ü", 2) as other:
        index.add(["a"], [[1, 2, 3]])
        other.add(["a"], [[1, 2]])
    with Index.open(tmp_path / "empty") as index, Index.open(tmp_path / "no suffix ü") as other:
        assert len(index) == len(other) == 1


def test_a_folder_without_permission(path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    Index.create(path, 2).close()
    (path / "LOCK").chmod(0)
    with pytest.raises(PermissionError, match="LOCK"):
        Index.open(path)


def test_several_collections_in_a_file(path):
    with Index.create(path, 2, collection="a") as a, Index.create(path, 3, collection="b", metric="l2") as b:
        a.add(["x"], [[1, 0]])
        b.add(["x", "y"], np.ones((2, 3)))
        assert (len(a), len(b)) == (1, 2)
    with Index.open(path, collection="b") as b:
        assert b.dimension == 3 and len(b) == 2


# ---------------------------------------------------------------- processes, locks, ends


HOLD = """
index = Index.open(PATH)
print("open", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time(path, capfd):
    with Index.create(path, 2) as index:
        index.add(["a"], [[1, 0]])
        other = run("Index.open(PATH)", path)
        assert other.returncode == 1
        last = other.stderr.splitlines()[-1]
        assert last.startswith(f"BlockingIOError: {path}: another process has this index open"), other.stderr
        assert "Milvus Lite server" not in other.stderr and "Failed" not in other.stderr
    assert run("print(len(Index.open(PATH)))", path).stdout == "1\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import sys\nfrom plait.search import Index\nPATH = sys.argv[1]\n" + HOLD
    with subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:  # fmt: skip
        assert holder.stdout.readline() == "open\n"
        for call in (lambda: Index.open(path), lambda: Index.create(path, 2, exist_ok=True)):
            with pytest.raises(BlockingIOError, match="another process has this index open"):
                call()
        holder.stdin.close()
        assert holder.wait(30) == 0
    Index.open(path).close()
    assert capfd.readouterr() == ("", "")


def is_free(path):
    return run("Index.open(PATH)", path).returncode == 0


def test_two_indexes_of_one_process_share_the_file(path, tmp_path):
    (tmp_path / "link.db").symlink_to(path)
    a = Index.create(path, 2)
    b = Index.open(path)
    c = Index.open(tmp_path / "link.db")
    a.add(["a"], [[1, 0]])
    assert "a" in b and "a" in c
    a.close()
    a.close()
    b.add(["b"], [[0, 1]])
    assert [h.id for h in c.search([0, 1])] == ["b", "a"]
    b.close()
    assert not is_free(path)
    c.close()
    assert is_free(path)


def test_an_index_that_is_forgotten_is_closed(path):
    Index.create(path, 2).add(["a"], [[1, 0]])
    gc.collect()
    assert is_free(path)
    assert len(Index.open(path)) == 1


def test_an_index_that_could_not_be_opened_holds_nothing(path):
    Index.create(path, 2, model="a").close()
    with pytest.raises(ValueError, match="expected 'b'"):
        Index.open(path, model="b")
    assert is_free(path) and str(path) not in _connection._locals


CLOSED = {
    "add": lambda i: i.add(["b"], [[1, 0]]),
    "upsert": lambda i: i.upsert(["b"], [[1, 0]]),
    "delete": lambda i: i.delete(["a"]),
    "get": lambda i: i.get("a"),
    "contains": lambda i: i.contains(["a"]),
    "count": len,
    "search": lambda i: i.search([1, 0]),
    "hybrid_search": lambda i: i.hybrid_search({"vector": [1, 0]}),
    "batches": lambda i: list(i.batches()),
    "flush": lambda i: i.flush(),
}


def test_a_closed_index_says_so(path, tmp_path):
    index = Index.create(path, 2)
    index.close()
    for name, call in CLOSED.items():
        with pytest.raises(ValueError, match=f"Index.{name}: the index is closed"):
            call(index)
    with pytest.raises(ValueError, match="closed"):
        index.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("end", ["index.close()", "", "del index", "sys.exit(0)", "import os; os.kill(os.getpid(), 9)"])
@pytest.mark.parametrize("flush", ["index.flush()", ""])
def test_rows_outlive_the_process(path, end, flush):
    done = run(
        f"""
        index = Index.create(PATH, 4, model="m")
        index.add([f"r{{i}}" for i in range(30)], np.eye(4).repeat(8, 0)[:30] + 0.1, {{"n": list(range(30))}})
        {flush}
        index.delete(["r3"])
        index.upsert(["r4", "日本"], np.ones((2, 4)), [{{"new": 1}}, {{}}])
        {end}
        """,
        path,
    )
    assert done.returncode == (-9 if "kill" in end else 0) and (done.stdout, done.stderr) == ("", "")
    with Index.open(path, model="m") as index:
        assert len(index) == 30
        assert index.contains(["r3", "r4", "日本"]).tolist() == [False, True, True]
        assert index.get("r4").metadata == {"new": 1} and index.get("r29").metadata == {"n": 29}
        assert index.search(np.eye(4)[0] + 0.1, k=1)[0].score == pytest.approx(1)


def test_a_forked_process_is_told(path):
    done = run(
        """
        import os
        index = Index.create(PATH, 2)
        index.add(["a"], [[1, 0]])
        pid = os.fork()
        if not pid:
            try:
                index.search([1, 0])
            except RuntimeError as error:
                print(error, flush=True)
            index.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        print(index.search([1, 0])[0].id)
        """,
        path,
    )
    assert done.stdout.splitlines() == [
        "Index.search: the index was opened by the process that forked this one; open it here again", "a"
    ], done.stderr  # fmt: skip


def test_a_proxy_of_the_environment_is_not_asked(path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Index.create(path, 2) as index:
        index.add(["a"], [[1, 0]])
        assert len(index) == 1


# ---------------------------------------------------------------- servers

SERVER = """
from milvus_lite.adapter.grpc.server import start_server_in_thread
server, database, port = start_server_in_thread(PATH)
print(port, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(path):
    """The address of a server in another process, and the process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import sys\nPATH = sys.argv[1]\n" + SERVER
    with subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", process
        process.kill()


def test_a_server_by_its_address(server, capfd):
    address, process = server
    rows = np.random.default_rng(14).standard_normal((50, 4))
    with Index.create(address, 4, model="m", token="user:secret") as index:
        assert index.uri == address and index.index_type == "FLAT"
        index.add([f"r{i}" for i in range(50)], rows, {"n": list(range(50))})
        index.upsert(["r0"], rows[:1], [{"other": 1}])
        index.flush()
        best = best_of("cosine", scores_of("cosine", rows[:2], rows), 5)
        assert [[h.id for h in hits] for hits in index.search(rows[:2], k=5)] == [[f"r{i}" for i in b] for b in best]
        assert index.get("r0").metadata == {"other": 1} and len(index) == 50
    with Index.open(address.replace("//", "//user:secret@"), model="m") as index:
        assert index.uri == address and len(index) == 50
        with pytest.raises(ValueError, match="the filter 'n >'"):
            index.search(rows[0], filter="n >")
        process.kill()
        process.wait()
        begin = time.monotonic()
        with pytest.raises(ConnectionError, match=f"Index.search: {address} cannot be reached"):
            index.search(rows[0])
        assert time.monotonic() - begin < 20
    assert capfd.readouterr() == ("", "")


def test_a_server_that_is_not_there(capfd):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begin = time.monotonic()
    for call in (
        lambda: Index.open(f"http://user:a@secret@127.0.0.1:{port}"),
        lambda: Index.create(f"http://127.0.0.1:{port}", 3, token="user:secret"),
        lambda: Index.open("http://no-such-host.invalid:19530", timeout=3),
    ):
        with pytest.raises(ConnectionError, match="cannot be reached") as caught:
            call()
        assert "secret" not in str(caught.value)
    assert time.monotonic() - begin < 20
    assert capfd.readouterr() == ("", "")


def test_a_server_that_does_not_answer():
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()
        with pytest.raises(OSError, match=r"did not answer in time|cannot be reached"):
            Index.open(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=1)
        assert time.monotonic() - begin < 10


# ---------------------------------------------------------------- the package


def test_import_costs_nothing():
    done = run("print([m for m in ('pymilvus', 'milvus_lite', 'grpc', 'pandas') if m in sys.modules])", "")
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("missing", [("pymilvus",), ("milvus_lite",), ("pymilvus", "milvus_lite")])
def test_a_missing_extra_is_named(path, monkeypatch, missing):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    text = " and ".join(missing).replace("_", "-")
    with pytest.raises(ImportError, match=rf"plait.search needs {text}: pip install 'plait\[search\]'"):
        Index.create(path, 2)
    assert not path.exists()


def test_logs_of_others_are_left_alone(path):
    """What a program has pymilvus log itself is still printed, and what its own handlers get is its own business."""
    done = run(
        """
        import logging
        with Index.create(PATH, 2) as index:
            try:
                index.search([1, 0], filter="n >")
            except ValueError:
                pass
            try:
                index._table.connection.client.query("plait", filter="n >>")
            except Exception:
                pass
        logging.getLogger("pymilvus.decorators").error("of somebody else")
        """,
        path,
    )
    assert done.stderr.splitlines()[-1].split(": ")[-1].startswith("of somebody else")
    assert "n >>" in done.stderr and "n >\n" not in done.stderr
