"""Folders of vectors: what is in them, jobs that are killed and started again, and files that somebody spoilt."""

import fcntl
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tiny
import zoo

import plait
from plait import io
from plait.io import files as io_files
from plait.io import read_shards, write_shards
from plait.models import texts as model_texts

WIDTH = 5


def vector(text):
    """The vector of a text, by no model at all."""
    digest = hashlib.sha256(str(text).encode()).digest()
    return np.frombuffer(digest, np.uint8, WIDTH).astype(np.float32) / 255


def encoder(step, seen=None):
    """An encoder that gives `step` rows at a time."""

    def encode(items, on_error=None):
        items = enumerate(items)
        while part := list(itertools.islice(items, step)):
            for i, item in part:
                if seen is not None:
                    seen.append(item)
                if "broken" in str(item):
                    if on_error is None:
                        raise ValueError(f"images[{i}] is broken")
                    on_error(i, ValueError(f"{item} is no picture"))
            yield np.stack([vector(item) for _, item in part])

    return encode


def write(folder, items, step=3, model="m", **options):
    options.setdefault("shard_size", 4)
    return write_shards(folder, items, encoder(step), model=model, **options)


def content(folder):
    """{name: bytes} of a folder."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def texts(n):
    return [f"text {i}" for i in range(n)]


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 11])
def test_the_files_hold_the_vectors(tmp_path, n):
    done = write(tmp_path, (t for t in texts(n)), options={"precision": "float32", "sizes": (1, 2)})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    names = [f"vectors-{i:05d}.safetensors" for i in range(-(-n // 4))]
    assert sorted(content(tmp_path)) == ["manifest.json", *names]
    assert [s["file"] for s in manifest["shards"]] == names == [s.file for s in done.shards]
    assert {k: manifest[k] for k in ("format", "version", "model", "shard_size", "complete", "rows")} == {
        "format": "plait vectors", "version": 1, "model": "m", "shard_size": 4, "complete": True, "rows": n,
    }  # fmt: skip
    assert manifest["options"] == {"precision": "float32", "sizes": [1, 2]}
    assert (done.rows, done.items, done.complete, done.kept, done.folder) == (n, n, True, 0, tmp_path)
    for i, shard in enumerate(manifest["shards"]):
        assert (shard["begin"], shard["end"]) == (4 * i, min(4 * i + 4, n))
        assert shard["rows"] == shard["end"] - shard["begin"]
        data = (tmp_path / shard["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
        arrays = safetensors.numpy.load(data)  # their reader, not ours
        due = np.stack([vector(t) for t in texts(n)[shard["begin"] : shard["end"]]])
        np.testing.assert_array_equal(arrays["vectors"], due)
        np.testing.assert_array_equal(arrays["ids"], np.arange(shard["begin"], shard["end"]))
        assert set(arrays) == {"vectors", "ids"} and arrays["vectors"].dtype == np.float32
    read = list(read_shards(tmp_path))
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in read]), np.arange(n))
    np.testing.assert_array_equal(np.concatenate([v for _, v in read]), [vector(t) for t in texts(n)])


def test_ids_that_are_text(tmp_path):
    items = ["a.jpg", "b/ä 🏖.png", "", "c", "z" * 300]
    done = write(tmp_path, map(Path, items[:2] + items[3:]), ids=str)
    assert done.rows == 4
    read = list(read_shards(tmp_path))
    assert [ids for ids, _ in read] == [["a.jpg", "b/ä 🏖.png", "c", "z" * 300]]
    arrays = safetensors.numpy.load_file(tmp_path / "vectors-00000.safetensors")
    data, offsets = arrays["ids"].tobytes(), arrays["id_offsets"]
    assert [data[a:b].decode() for a, b in itertools.pairwise(offsets)] == read[0][0]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float64, np.float16])
def test_vectors_of_other_types(tmp_path, dtype):
    rows = np.arange(6).reshape(3, 2).astype(dtype)
    write_shards(tmp_path, texts(3), lambda items: [rows], model="m")
    ((_, vectors),) = read_shards(tmp_path)
    assert vectors.dtype == dtype
    np.testing.assert_array_equal(vectors, rows)


def test_nothing_and_no_end(tmp_path):
    done = write(tmp_path / "none", [])
    assert (done.rows, done.items, done.shards, done.complete) == (0, 0, (), True)
    assert list(read_shards(tmp_path / "none")) == []
    taken = []

    def endless():
        for i in itertools.count():
            taken.append(i)
            yield f"text {i}"

    seen = []

    class EnoughError(Exception):
        pass

    def encode(items):
        for item in items:
            seen.append(item)
            assert len(taken) == len(seen)  # nothing is read ahead, so that memory does not depend on the input
            if len(seen) > 10:
                raise EnoughError
            yield vector(item)[None]

    with pytest.raises(EnoughError):
        write_shards(tmp_path / "endless", endless(), encode, model="m", shard_size=4)
    manifest = json.loads((tmp_path / "endless/manifest.json").read_text())
    assert manifest["rows"] == 8 and not manifest["complete"]
    assert sum(len(ids) for ids, _ in read_shards(tmp_path / "endless")) == 8


def test_the_bytes_do_not_depend_on_batches(tmp_path, monkeypatch):
    model = plait.load(tiny.sentences(tmp_path / "model"))
    rng = random.Random(0)
    lines = [" ".join(rng.choices(zoo.VOCABULARY[5:], k=rng.randrange(1, 20))) for _ in range(150)]
    name = plait.models.fingerprint(model)
    found = {}
    for i, (size, window) in enumerate([(64, 32), (1, 32), (7, 1), (7, 3), (500, 32)]):
        monkeypatch.setattr(model_texts, "_WINDOW", window)
        folder = tmp_path / str(i)
        write_shards(folder, lines, lambda x, n=size: model.encode_iter(x, batch_size=n), model=name, shard_size=40)
        found[size, window] = content(folder)
    first = found[64, 32]
    assert len(first) == 5
    assert all(other == first for other in found.values())
    np.testing.assert_array_equal(np.concatenate([v for _, v in read_shards(tmp_path / "0")]), model.encode(lines))


# ---------------------------------------------------------------- items that cannot be read


def test_broken_items_are_left_out(tmp_path):
    items = ["a", "broken 1", "c", "d", "broken 4", "broken 5", "g", "broken 7", "broken 8"]
    with pytest.raises(ValueError, match=r"images\[1\] is broken"):
        write(tmp_path / "raise", items)
    with pytest.warns(UserWarning, match="5 items were skipped; the first is number 1: broken 1 is no picture"):
        done = write(tmp_path / "skip", items, on_error="skip")
    assert (done.rows, done.items, [s.rows for s in done.shards]) == (4, 9, [3, 1, 0])
    read = list(read_shards(tmp_path / "skip"))
    assert [ids.tolist() for ids, _ in read] == [[0, 2, 3], [6], []]
    np.testing.assert_array_equal(read[0][1], [vector(t) for t in "acd"])
    assert read[2][1].shape == (0, WIDTH)
    seen = []
    write(tmp_path / "call", items, on_error=lambda i, error: seen.append((i, str(error))), ids=str)
    assert seen == [(i, f"broken {i} is no picture") for i in (1, 4, 5, 7, 8)]
    assert [ids for ids, _ in read_shards(tmp_path / "call")] == [["a", "c", "d"], ["g"], []]
    again = write(tmp_path / "skip", items, on_error="skip")  # no warning: nothing was read
    assert again.kept == 3 and again.rows == 4


# ---------------------------------------------------------------- stopped and started again


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write(folder, texts(14))
    return content(folder)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_a_crash_at_any_step_changes_nothing(tmp_path, monkeypatch, whole, name, place):
    """The process ends before or after every rename and every sync that it makes."""
    real, crashes = getattr(os, name), 0

    class CrashError(BaseException):
        pass

    for at in itertools.count():
        folder, calls = tmp_path / str(at), itertools.count()

        def step(*arguments, calls=calls, at=at, **options):
            if next(calls) != at:
                return real(*arguments, **options)
            if place == "after":
                real(*arguments, **options)
            raise CrashError

        monkeypatch.setattr(io_files.os, name, step)
        # What a killed process would leave, stays.
        monkeypatch.setattr(io_files.Path, "unlink", lambda self, missing_ok=False: None)
        try:
            write(folder, texts(14))
        except CrashError:
            crashes += 1
        else:
            break
        finally:
            monkeypatch.undo()
        done = write(folder, texts(14), step=2)
        assert content(folder) == whole, at
        assert done.rows == 14
    assert crashes >= 10


JOB = """
    import sys, time, zlib, numpy as np
    from plait.io import write_shards
    def encode(items):
        for item in items:
            time.sleep(0.0005)
            yield np.random.Generator(np.random.PCG64(zlib.crc32(item.encode()))).random((1, 64), np.float32)
    print("go", flush=True)
    write_shards(sys.argv[1], (f"text {i}" for i in range(600)), encode, model="m", shard_size=25)
    print("done", flush=True)
"""


def job(folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(JOB), folder], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_a_job_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path):
    with job(tmp_path / "quiet") as process:
        assert process.communicate()[0] == "go\ndone\n"
    rng, kills = random.Random(time.time_ns()), 0
    for _ in range(100):
        with job(tmp_path / "killed") as process:
            assert process.stdout.readline() == "go\n"
            if kills < 8:
                time.sleep(rng.uniform(0.02, 0.12))
                process.send_signal(signal.SIGKILL)
            rest, code = process.stdout.read(), process.wait()
        if code == 0:
            assert rest == "done\n"
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills >= 4
    assert content(tmp_path / "killed") == content(tmp_path / "quiet")


def test_what_is_finished_is_kept_and_not_encoded(tmp_path, whole):
    write(tmp_path, texts(14))
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    seen = []
    done = write_shards(tmp_path, texts(14), encoder(3, seen), model="m", shard_size=4)
    assert seen == [] and done.kept == 4
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
    assert content(tmp_path) == whole


def spoil(name):
    """What may happen to a file: (name of the row, function of its path)."""
    return {
        "missing": lambda p: p.unlink(),
        "empty": lambda p: p.write_bytes(b""),
        "cut": lambda p: p.write_bytes(p.read_bytes()[:-3]),
        "a bit": lambda p: p.write_bytes(p.read_bytes()[:-3] + bytes([p.read_bytes()[-3] ^ 1]) + p.read_bytes()[-2:]),
    }[name]


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "a bit"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_damaged_file_is_made_anew(tmp_path, whole, number, how):
    write(tmp_path, texts(14))
    spoil(how)(tmp_path / f"vectors-{number:05d}.safetensors")
    seen = []
    done = write_shards(tmp_path, texts(14), encoder(3, seen), model="m", shard_size=4)
    assert done.kept == 3 and seen == texts(14)[4 * number : 4 * number + 4]
    assert content(tmp_path) == whole


def test_what_a_killed_job_left_goes(tmp_path, whole):
    write(tmp_path, texts(14))
    (tmp_path / "vectors-00004.safetensors").write_bytes(b"never listed")
    (tmp_path / ".vectors-00002.safetensors.tmp-1-0a1b2c3d").write_bytes(b"half")
    (tmp_path / ".manifest.json.tmp-99999-0a1b2c3d").write_bytes(b"half")
    write(tmp_path, texts(14))
    assert content(tmp_path) == whole


def test_a_longer_input_goes_on_behind_full_files(tmp_path):
    write(tmp_path / "a", texts(8))
    done = write(tmp_path / "a", texts(11))
    assert (done.kept, done.rows) == (2, 11)
    write(tmp_path / "b", texts(11))
    assert content(tmp_path / "a") == content(tmp_path / "b")


def changed(items, at, value):
    return [value if i == at else item for i, item in enumerate(items)]


OTHER_JOBS = [
    ("model", {"model": "n"}, "whose model is 'm', expected 'n'"),
    ("shard size", {"shard_size": 5}, "whose shard_size is 4, expected 5"),
    ("option", {"options": {"precision": "int8"}}, "whose precision is 'float32', expected 'int8'"),
    ("no option", {"options": {}}, "whose precision is 'float32', expected None"),
    ("new option", {"options": {"precision": "float32", "dim": 3}}, "whose dim is None, expected 3"),
    ("first item", {"items": changed(texts(14), 0, "x")}, "vectors-00000.safetensors was made of other items"),
    ("last item", {"items": changed(texts(14), 13, "x")}, "vectors-00003.safetensors was made of other items"),
    ("joined items", {"items": ["text 0text 1", "", *texts(14)[2:]]}, "made of other items than numbers 0 to 3"),
    ("shorter", {"items": texts(12)}, "holds vectors of 14 items, but this input has 12"),
    ("shorter file", {"items": texts(13)}, "was made of other items than numbers 12 to 12"),
    ("longer file", {"items": texts(15)}, "was made of other items than numbers 12 to 14"),
    ("bytes", {"items": [t.encode() for t in texts(14)]}, "was made of other items"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), [row[1:] for row in OTHER_JOBS], ids=[row[0] for row in OTHER_JOBS])
def test_another_job_is_refused(tmp_path, changes, message):
    write(tmp_path, texts(14), options={"precision": "float32"})
    before = content(tmp_path)
    changes = {"options": {"precision": "float32"}, "items": texts(14), **changes}
    with pytest.raises(ValueError, match="write to another folder") as error:
        write(tmp_path, changes.pop("items"), **changes)
    assert message in str(error.value) and str(tmp_path) in str(error.value)
    assert content(tmp_path) == before


def test_other_items_are_noticed_when_a_file_is_made_anew(tmp_path):
    write(tmp_path, texts(14))
    (tmp_path / "vectors-00001.safetensors").unlink()
    with pytest.raises(ValueError, match="made of other items"):
        write(tmp_path, changed(texts(14), 5, "x"))
    assert not (tmp_path / "vectors-00001.safetensors").exists()


def test_one_writer_at_a_time(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError, match="another process is writing"):
        write(tmp_path, texts(3))
    assert content(tmp_path) == {}
    os.close(fd)
    assert write(tmp_path, texts(3)).rows == 3


@pytest.mark.parametrize("name", ["notes.txt", "vectors-00000.safetensors", ".hidden", "model.safetensors"])
def test_a_folder_with_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match="the folder holds other files"):
        write(tmp_path, texts(3))
    assert content(tmp_path) == {name: b"mine"}


# ---------------------------------------------------------------- wrong arguments and hostile files


BAD_CALLS = [
    ({"shard_size": 0}, ValueError, "shard_size is 0, expected 1 to"),
    ({"shard_size": True}, ValueError, "shard_size is True"),
    ({"shard_size": 2.0}, ValueError, r"shard_size is 2\.0"),
    ({"model": None}, TypeError, "model is NoneType, expected str"),
    ({"on_error": "ignore"}, ValueError, "on_error is 'ignore'"),
    ({"options": {"x": float("nan")}}, ValueError, "options"),
    ({"options": {"x": object()}}, TypeError, "options"),
    ({"items": "text"}, TypeError, "items is one str"),
    ({"items": [3]}, TypeError, "an item is int, expected str"),
    ({"items": [np.array([None])]}, TypeError, "an item is ndarray"),
    ({"items": ["a"], "ids": len}, TypeError, "the id of item 0 is int, expected str"),
    ({"items": ["a", "\ud800"], "ids": str}, ValueError, "the id of item 1, .* is not valid Unicode"),
]


@pytest.mark.parametrize(("changes", "kind", "message"), BAD_CALLS)
def test_wrong_arguments(tmp_path, changes, kind, message):
    changes = {"items": texts(3), **changes}
    with pytest.raises(kind, match=message):
        write(tmp_path / "new", changes.pop("items"), **changes)
    assert not list(tmp_path.glob("new/vectors*"))


@pytest.mark.parametrize(
    "rows",
    [[], [np.zeros(3)], [np.zeros((2, 2))], [np.zeros((4, 2))], [np.zeros((2, 2)), np.zeros((2, 2))], [np.float32(1)]],
)
def test_an_encoder_that_gives_something_else(tmp_path, rows):
    with pytest.raises(ValueError, match=r"encode gave .* for 3 items, expected"):
        write_shards(tmp_path, texts(3), lambda items: rows, model="m")
    assert content(tmp_path) == {}  # a folder that was there stays
    with pytest.raises(ValueError, match="encode gave"):
        write_shards(tmp_path / "new", texts(3), lambda items: rows, model="m")
    assert not (tmp_path / "new").exists()
    assert write(tmp_path, texts(3), model="another").rows == 3  # nothing is there yet that it could be mixed with


def test_an_encoder_that_takes_only_some(tmp_path):
    with pytest.raises(ValueError, match=r"encode gave \(2, 5\) for 3 items"):
        write_shards(
            tmp_path, texts(3), lambda items: [np.stack([vector(x) for x in itertools.islice(items, 2)])], model="m"
        )


def altered(**changes):
    def change(manifest):
        manifest.update(changes)

    return change


def altered_shard(**changes):
    def change(manifest):
        manifest["shards"][1].update(changes)

    return change


HOSTILE = [
    ("format", altered(format="other"), "no manifest of vectors"),
    ("version", altered(version=2), "version is 2, expected 1"),
    ("version that is true", altered(version=True), "version is True, expected 1"),
    ("unknown key", altered(more=1), "expected exactly"),
    ("missing key", lambda m: m.pop("rows"), "expected exactly"),
    ("shards", altered(shards={}), "expected exactly"),
    ("options", altered(options=[]), "expected exactly"),
    ("model", altered(model=3), "model, shard_size or complete"),
    ("shard size", altered(shard_size="4"), "model, shard_size or complete"),
    ("complete", altered(complete=1), "model, shard_size or complete"),
    ("rows", altered(rows=9), "rows is 9, expected 10"),
    ("path", altered_shard(file="../vectors-00001.safetensors"), r"shards\[1\]: file is"),
    ("absolute path", altered_shard(file="/etc/passwd"), r"shards\[1\]: file is"),
    ("other file", altered_shard(file="vectors-00000.safetensors"), "expected vectors-00001"),
    ("file that is a number", altered_shard(file=1), "file is 1"),
    ("gap", altered_shard(begin=5), "expected a begin of 4"),
    ("backwards", altered_shard(end=3), "begin, end and rows do not fit"),
    ("too many rows", altered_shard(rows=5), "begin, end and rows do not fit"),
    ("negative", altered_shard(rows=-1), "begin, end and rows do not fit"),
    ("huge", altered_shard(end=2**70), "begin, end and rows do not fit"),
    ("fraction", altered_shard(end=8.0), "begin, end and rows do not fit"),
    ("hash", altered_shard(sha256="0" * 63), "64 hexadecimal digits"),
    ("hash that is none", altered_shard(input_sha256=None), "64 hexadecimal digits"),
    ("shard with more keys", altered_shard(path="x"), r"shards\[1\]: expected exactly"),
    ("shard that is none", lambda m: m["shards"].append(7), r"shards\[3\]: expected exactly"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_manifest_is_an_error(tmp_path, change, message):
    write(tmp_path, texts(10))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    before = content(tmp_path)
    for call in (lambda: list(read_shards(tmp_path)), lambda: write(tmp_path, texts(10))):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "manifest.json" in str(error.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"format": 1, "format": 2}', b"[" * 10000])
def test_a_manifest_that_is_none(tmp_path, data):
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read_shards(tmp_path)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        write(tmp_path, texts(3))


IDS = np.arange(4)
BYTES, OFFSETS = np.frombuffer(b"abcd", np.uint8), np.arange(5)
WRONG_FILES = [
    ("no vectors", {"ids": IDS}, "expected 4 vectors"),
    ("flat vectors", {"vectors": np.zeros(4), "ids": IDS}, "expected 4 vectors"),
    ("fewer vectors", {"vectors": np.zeros((3, 2)), "ids": IDS}, "expected 4 vectors"),
    ("no ids", {"vectors": np.zeros((4, 2))}, "expected ids, 4 whole numbers"),
    ("fewer ids", {"vectors": np.zeros((4, 2)), "ids": IDS[:3]}, "expected ids"),
    ("ids of another type", {"vectors": np.zeros((4, 2)), "ids": IDS.astype("f4")}, "expected ids"),
    ("ids without offsets", {"vectors": np.zeros((4, 2)), "ids": BYTES}, "expected ids"),
    ("offsets without ids", {"vectors": np.zeros((4, 2)), "id_offsets": OFFSETS}, "do not fit"),
    ("too few offsets", {"vectors": np.zeros((4, 2)), "ids": BYTES, "id_offsets": OFFSETS[:4]}, "do not fit"),
    ("offsets that end late", {"vectors": np.zeros((4, 2)), "ids": BYTES, "id_offsets": OFFSETS * 2}, "do not fit"),
    ("offsets that begin late", {"vectors": np.zeros((4, 2)), "ids": BYTES, "id_offsets": np.array([1, 1, 2, 3, 4])},
     "do not fit"),
    ("offsets that go back", {"vectors": np.zeros((4, 2)), "ids": BYTES, "id_offsets": np.array([0, 3, 2, 3, 4])},
     "do not fit"),
    ("no UTF-8", {"vectors": np.zeros((4, 2)), "ids": BYTES + 128, "id_offsets": OFFSETS}, "not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), [row[1:] for row in WRONG_FILES], ids=[row[0] for row in WRONG_FILES])
def test_a_file_that_does_not_fit_is_an_error(tmp_path, arrays, message):
    write(tmp_path, texts(4))
    io.save_tensors(tmp_path / "vectors-00000.safetensors", arrays)
    with pytest.raises(ValueError, match=message) as error:
        list(read_shards(tmp_path))
    assert "vectors-00000.safetensors" in str(error.value)


def test_a_link_is_no_file_of_vectors(tmp_path):
    write(tmp_path / "a", texts(4))
    shutil.move(tmp_path / "a/vectors-00000.safetensors", tmp_path / "elsewhere")
    (tmp_path / "a/vectors-00000.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="expected a regular file"):
        list(read_shards(tmp_path / "a"))


def test_a_folder_that_is_none(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match=r"no manifest\.json here"):
            read_shards(path)
    write(tmp_path, texts(4))
    (tmp_path / "vectors-00000.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        list(read_shards(tmp_path))
