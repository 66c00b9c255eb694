"""Batches of columns in many processes: columns of every kind, absent values, errors, threads, pickling, Ray."""

import concurrent.futures
import importlib.util
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

import plait
from plait import Embedder, embedder

ROOT = Path(__file__).parent.parent
TEXTS = ["a red dog", "the cat", "", "on the beach", "a picture of the blue dog"]
N = len(TEXTS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    return tiny.sentences(tmp_path_factory.mktemp("sentences"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures as arrays of many sizes, files, and bytes of files."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    arrays = [tiny.picture(i, (40 + 3 * i, 50 - 4 * i)) for i in range(N)]
    paths = [str(folder / f"{i}.png") for i in range(N)]
    for array, path in zip(arrays, paths, strict=True):
        Image.fromarray(array).save(path)
    return arrays, paths, [Path(p).read_bytes() for p in paths]


def objects(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def read_only(array):
    array.flags.writeable = False
    return array


# ---------------------------------------------------------------- columns


TEXT_COLUMNS = {
    "list": lambda: TEXTS,
    "objects": lambda: objects(TEXTS),
    "read-only objects": lambda: read_only(objects(TEXTS)),
    "fixed strings": lambda: read_only(np.array(TEXTS)),
    "variable strings": lambda: np.array(TEXTS, np.dtypes.StringDType()),
    "numpy strings": lambda: objects([np.str_(t) for t in TEXTS]),
}


@pytest.mark.parametrize("kind", TEXT_COLUMNS)
def test_columns_of_texts(clip, kind):
    column = TEXT_COLUMNS[kind]()
    batch = {"caption": column, "price": np.arange(N)}
    result = Embedder(clip, texts="caption")(batch)
    assert list(batch) == ["caption", "price"]
    assert list(result) == ["caption", "price", "caption_vector"]
    assert result["caption"] is column and result["price"] is batch["price"]
    np.testing.assert_array_equal(result["caption_vector"], plait.load(clip).encode_text(TEXTS))


def test_columns_of_token_ids(sentences):
    ids = np.random.default_rng(0).integers(5, 60, (N, 6))
    due = plait.load(sentences).encode(list(ids))
    for column in (read_only(ids.astype(np.int32)), objects(list(ids)), list(ids)):
        np.testing.assert_array_equal(Embedder(sentences, texts="ids")({"ids": column})["ids_vector"], due)


def test_columns_of_pictures(clip, pictures):
    arrays, paths, data = pictures
    due = plait.load(clip).encode_image(arrays)
    embed = Embedder(clip, images={"x": "y"})
    for column in (paths, np.array(paths), objects(paths), objects([Path(p) for p in paths]), data, objects(data),
                   arrays, objects([read_only(a) for a in arrays])):  # fmt: skip
        np.testing.assert_array_equal(embed({"x": column})["y"], due)
    same = read_only(np.stack([tiny.picture(i) for i in range(N)]))
    np.testing.assert_array_equal(embed({"x": same})["y"], plait.load(clip).encode_image(same))
    processed = read_only(np.random.default_rng(0).standard_normal((N, 3, 32, 32), np.float32))
    np.testing.assert_array_equal(embed({"x": processed})["y"], plait.load(clip).encode_image(processed))


def test_both_and_several(clip, pictures):
    model = plait.load(clip)
    embed = Embedder(clip, images={"image": "seen"}, texts=["title", "caption"], batch_size=2, truncate=True)
    batch = {"image": pictures[0], "title": TEXTS, "caption": TEXTS[::-1]}
    result = embed(batch)
    np.testing.assert_array_equal(result["seen"], model.encode_image(pictures[0]))
    np.testing.assert_array_equal(result["title_vector"], model.encode_text(TEXTS))
    np.testing.assert_array_equal(result["caption_vector"], model.encode_text(TEXTS[::-1]))


def test_options_go_where_they_belong(clip, sentences, pictures):
    result = Embedder(clip, images="i", texts="t", precision="int8", truncate_dim=8, normalize=False)(
        {"i": pictures[0], "t": TEXTS}
    )
    options = {"precision": "int8", "truncate_dim": 8, "normalize": False}
    np.testing.assert_array_equal(result["i_vector"], plait.load(clip).encode_image(pictures[0], **options))
    np.testing.assert_array_equal(result["t_vector"], plait.load(clip).encode_text(TEXTS, **options))
    result = Embedder(sentences, texts="t", prompt="find the ")({"t": TEXTS})
    np.testing.assert_array_equal(result["t_vector"], plait.load(sentences).encode(["find the " + t for t in TEXTS]))
    with pytest.warns(UserWarning, match="cut to 20 tokens"):
        Embedder(clip, texts="t", truncate=True)({"t": ["dog " * 100]})


@pytest.mark.parametrize("precision", ["float32", "ubinary"])
def test_absent_values_are_zeros(clip, pictures, precision):
    texts, images = [None, *TEXTS, float("nan")], [pictures[1][0], None, pictures[0][1]] + [None] * 4
    embed = Embedder(clip, images="i", texts="t", precision=precision)
    result = embed({"t": objects(texts), "i": objects(images)})
    model = plait.load(clip)
    due = model.encode_text(TEXTS, precision=precision)
    np.testing.assert_array_equal(result["t_vector"][1:-1], due)
    assert not result["t_vector"][[0, -1]].any() and result["t_vector"].dtype == due.dtype
    np.testing.assert_array_equal(
        result["i_vector"][[0, 2]], model.encode_image([pictures[1][0], pictures[0][1]], precision=precision)
    )
    assert not result["i_vector"][[1, 3, 4, 5, 6]].any()
    nothing = embed({"t": [None, None], "i": objects([None, None])})
    empty = embed({"t": np.empty(0, object), "i": np.empty((0, 8, 8, 3), np.uint8)})
    for key in ("i_vector", "t_vector"):
        assert nothing[key].shape == (2, due.shape[1]) and not nothing[key].any()
        assert empty[key].shape == (0, due.shape[1])
        assert nothing[key].dtype == empty[key].dtype == due.dtype


def test_pictures_that_cannot_be_read(clip, pictures):
    column = objects([pictures[2][0], b"\xff\xd8\xffno", None, "absent.jpg", pictures[2][4]])
    with pytest.raises(ValueError, match=r"images\[1\]") as error:
        Embedder(clip, images="photo")({"photo": column})
    assert "in column 'photo'" in error.value.__notes__[0]
    with pytest.warns(UserWarning, match="2 items were skipped"):
        rows = Embedder(clip, images="photo", on_error="skip")({"photo": column})["photo_vector"]
    assert rows.any(axis=1).tolist() == [True, False, False, False, True]


BAD_BATCHES = [
    ([1], TypeError, "batch is list, expected a dict"),
    ({"x": TEXTS}, KeyError, "no column 't', only 'x'"),
    ({"t": TEXTS, "t_vector": TEXTS}, ValueError, "has a column 't_vector' already"),
    ({"t": TEXTS, "u": TEXTS[:2]}, ValueError, "columns have lengths {'t': 5, 'u': 2}"),
    ({"t": np.arange(3.0), "u": TEXTS[:3]}, TypeError, r"column 't' holds .*0\.0.*, expected pictures or texts"),
    ({"t": np.arange(3), "u": TEXTS[:3]}, TypeError, "column 't' holds .*0.*, expected"),
    ({"t": [True], "u": TEXTS[:1]}, TypeError, "column 't' holds True"),
    ({"t": np.array([b"a", b"b\0"]), "u": TEXTS[:2]}, TypeError, "has dtype .S2, which drops zeros"),
    ({"t": [b"bytes"], "u": TEXTS[:1]}, TypeError, "expected a string or whole numbers"),
    ({"t": ["dog " * 100], "u": TEXTS[:1]}, ValueError, "expected at most 20"),
]


@pytest.mark.parametrize(("batch", "kind", "message"), BAD_BATCHES)
def test_batches_that_are_wrong(clip, batch, kind, message):
    embed = Embedder(clip, texts=["t", "u"] if isinstance(batch, dict) and "u" in batch else "t")
    with pytest.raises(kind, match=message):
        embed(batch)


BAD_ARGUMENTS = [
    ({}, ValueError, "no columns"),
    ({"texts": "t", "images": {"i": "t_vector"}}, ValueError, "two columns would be called 't_vector'"),
    ({"texts": 3}, TypeError, "texts is int, expected names"),
    ({"texts": [3]}, TypeError, "texts holds 3"),
    ({"texts": {"a": ""}}, TypeError, "texts holds ''"),
    ({"texts": "t", "threads": 0}, ValueError, "threads is 0"),
    ({"texts": "t", "threads": True}, ValueError, "threads is True"),
    ({"texts": "t", "batchsize": 3}, TypeError, "batchsize is no option, expected some of batch_size"),
    ({"texts": "t", "on_error": "skip"}, TypeError, "on_error is no option"),
    ({"images": "t", "truncate": True}, TypeError, "truncate is no option"),
    ({"texts": "t", "show_progress": True}, TypeError, "show_progress is no option"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), BAD_ARGUMENTS)
def test_arguments_that_are_wrong(arguments, kind, message):
    with pytest.raises(kind, match=message):
        Embedder("model", **arguments)


def test_what_the_model_does_not_have(clip, sentences, tmp_path):
    with pytest.raises(TypeError, match="is a TextEncoder, which does not take images"):
        Embedder(sentences, images="i")({"i": []})
    with pytest.raises(TypeError, match="prompt is no option of DualEncoder"):
        Embedder(clip, texts="t", prompt="x")({"t": []})
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Embedder(tmp_path / "absent", texts="t")({"t": []})
    with pytest.raises(ValueError, match="truncate_dim is 400"):
        Embedder(clip, texts="t", truncate_dim=400)({"t": []})


# ---------------------------------------------------------------- processes and threads


@pytest.fixture
def loads(monkeypatch):
    """The folders that are loaded, and an empty store of models."""
    seen, load = [], plait.load
    monkeypatch.setattr(plait, "load", lambda folder: seen.append(folder) or load(folder))
    monkeypatch.setattr(embedder, "_loaded", type(embedder._loaded)())
    return seen


def test_a_model_is_loaded_once_and_not_before_it_is_needed(clip, loads, tmp_path, monkeypatch):
    monkeypatch.chdir(clip.parent)
    embed = Embedder(Path(clip.name), texts="t")  # relative, as seen from here
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(embed)
    assert loads == [] and len(data) < 1000
    results = [pickle.loads(data)({"t": TEXTS})["t_vector"] for _ in range(3)]
    results += [embed({"t": TEXTS})["t_vector"] for _ in range(2)]
    assert loads == [str(clip)]
    assert all((r == results[0]).all() for r in results)
    assert len(pickle.dumps(embed)) == len(data)  # a loaded model does not travel


def test_a_new_embedder_sees_a_new_model(tmp_path, loads):
    tiny.sentences(tmp_path / "m")
    before = Embedder(tmp_path / "m", texts="t")
    first = before({"t": TEXTS})["t_vector"]
    (tmp_path / "m").rename(tmp_path / "old")
    tiny.sentences(tmp_path / "m", seed=1)
    assert (Embedder(tmp_path / "m", texts="t")({"t": TEXTS})["t_vector"] != first).any()
    np.testing.assert_array_equal(before({"t": TEXTS})["t_vector"], first)


def test_only_some_models_stay(sentences, loads):
    data = [pickle.dumps(Embedder(sentences, texts=f"t{i}")) for i in range(6)]
    for i, one in enumerate(data):
        pickle.loads(one)({f"t{i}": TEXTS})
    assert len(loads) == 6 and len(embedder._loaded) == 4
    pickle.loads(data[5])({"t5": TEXTS})
    assert len(loads) == 6


THREADS = [
    # asked, OMP_NUM_THREADS, started by multiprocessing -> threads; None: as they are
    (3, "2", True, 3),
    (3, None, False, 3),
    (None, "2", False, 2),
    (None, "2", True, 2),
    (None, "2,1", True, 2),
    (None, " 4 ", False, 4),
    (None, "", True, 1),
    (None, "0", True, 1),
    (None, "many", True, 1),
    (None, "many", False, None),
    (None, None, True, 1),
    (None, None, False, None),
]


@pytest.mark.parametrize(("asked", "given", "child", "due"), THREADS)
def test_threads_of_a_worker(monkeypatch, asked, given, child, due):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "somebody" if child else None)
    assert embedder._threads(asked) == due


def work(job):
    """In a worker: the batch, and who did it with how many threads."""
    embed, batch = job
    return embed(batch), os.getpid(), plait.get_num_threads(), len(embedder._loaded)


@pytest.mark.parametrize("threads", [None, 2])
def test_spawned_workers(clip, pictures, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    embed = Embedder(clip, images="i", texts="t", threads=threads)
    batches = [{"i": pictures[k % 3], "t": np.array(TEXTS[k:] + TEXTS[:k])} for k in range(5)]
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(work, [(embed, batch) for batch in batches]))
    before = plait.get_num_threads()
    try:
        here = [Embedder(clip, images="i", texts="t")(batch) for batch in batches]
    finally:
        plait.set_num_threads(before)
    for (result, pid, number, held), due in zip(results, here, strict=True):
        assert pid != os.getpid() and number == (threads or 1) and held == 1
        for key in ("i_vector", "t_vector"):
            np.testing.assert_allclose(result[key], due[key], rtol=0, atol=1e-6)


def test_forked_workers_after_the_model_was_used(clip):
    embed = Embedder(clip, texts="t")
    due = embed({"t": TEXTS})["t_vector"]
    code = f"""
import multiprocessing, sys, numpy as np, plait
embed = plait.Embedder({str(clip)!r}, texts="t")
texts = {TEXTS!r}
before = embed({{"t": texts}})["t_vector"]
with multiprocessing.get_context("fork").Pool(2) as pool:
    for result in pool.map(embed, [{{"t": texts}}] * 4):
        assert np.abs(result["t_vector"] - before).max() < 1e-6
print(before.sum())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(due.sum()), abs=1e-4)


# ---------------------------------------------------------------- Ray


def run_example(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, ROOT / "examples/embed_with_ray.py", *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.mark.parametrize("kind", ["texts", "pictures"])
def test_ray_data_on_local_workers(kind, clip, sentences, pictures, tmp_path):
    """The example as a user starts it, with two workers; the result against the model itself."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra 'ray' is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="comes with the extra 'ray'")
    if kind == "texts":
        lines = [f"{text} {i}" for i in range(40) for text in TEXTS]
        (tmp_path / "captions.txt").write_text("\n".join(lines) + "\n")
        source, model = tmp_path / "captions.txt", sentences
        due = dict(zip(lines, plait.load(sentences).encode(lines), strict=True))
    else:
        source, model = Path(pictures[1][0]).parent, clip
        due = dict(zip(pictures[1], plait.load(clip).encode_image(pictures[1]), strict=True))
    run_example(source, "--model", model, "--out", tmp_path / "out", "--batch-size", 32)
    table = parquet.read_table(tmp_path / "out")
    keys = table.column("text" if kind == "texts" else "path").to_pylist()
    vectors = np.array([np.asarray(v, np.float32).ravel() for v in table.column("vector").to_pylist()])
    assert sorted(keys) == sorted(due)
    np.testing.assert_allclose(vectors, [due[key] for key in keys], rtol=0, atol=1e-6)
