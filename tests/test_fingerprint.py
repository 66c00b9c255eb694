"""The fingerprint of a model: the same wherever the model lies, another one when anything about its vectors changes."""

import json
import os
import time

import numpy as np
import pytest
import safetensors.numpy
import small_models
import tiny

import plait
from plait.models import fingerprint
from plait.processing import ImageProcessor


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    top = tmp_path_factory.mktemp("models")
    return {"clip": tiny.clip(top / "clip"), "sentences": tiny.sentences(top / "sentences")}


def test_its_form():
    made = fingerprint(small_models.dual())
    assert made.startswith("plait1-") and len(made) == 47 and made == fingerprint(small_models.dual())
    with pytest.raises(TypeError, match="Linear has no configuration"):
        fingerprint(plait.nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["clip", "sentences"])
def test_it_is_of_the_model_and_not_of_its_folder(folders, name, tmp_path):
    model = plait.load(folders[name])
    first = fingerprint(model)
    model.save(tmp_path / "again")
    assert fingerprint(plait.load(tmp_path / "again")) == first
    (tmp_path / "again/README.md").write_text("more")
    os.utime(tmp_path / "again/config.json", (1, 1))
    assert fingerprint(plait.load(tmp_path / "again")) == first
    model.encode_text(["a dog"]) if name == "clip" else model.encode(["a dog"])  # the tokenizer is made now
    model.train()
    assert fingerprint(model) == first


def test_a_folder_without_a_tokenizer(tmp_path):
    folder = tiny.sentences(tmp_path / "m")
    whole = fingerprint(plait.load(folder))
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    model = plait.load(folder)
    first = fingerprint(model)
    assert model.tokenizer is None and fingerprint(model) == first != whole


def test_what_float16_holds_is_the_same_in_float32(folders, tmp_path):
    for dtype in (np.float16, np.float32):
        folder = tiny.clip(tmp_path / np.dtype(dtype).name)
        weights = safetensors.numpy.load_file(folder / "model.safetensors")
        rounded = {name: w.astype(np.float16).astype(dtype) for name, w in weights.items()}
        safetensors.numpy.save_file(rounded, folder / "model.safetensors")
    assert fingerprint(plait.load(tmp_path / "float16")) == fingerprint(plait.load(tmp_path / "float32"))
    assert fingerprint(plait.load(tmp_path / "float16")) != fingerprint(plait.load(folders["clip"]))


def test_every_tensor_counts():
    model = small_models.dual(text={"vocabulary": 5000, "width": 64})  # one of them is larger than what is read whole
    seen = {fingerprint(model)}
    for _, parameter in model.named_parameters():
        with parameter.edit() as values:
            values *= np.float32(1 + 2**-20)
            values += np.float32(1e-6)
        seen.add(fingerprint(model))
    count = len(list(model.named_parameters()))
    assert count > 30 and len(seen) == count + 1


def test_the_ends_of_a_large_tensor_count():
    model = small_models.dual(text={"vocabulary": 5000, "width": 64})
    table = max((p for _, p in model.named_parameters()), key=lambda p: p.size)
    assert table.data.nbytes > 1 << 20
    first = fingerprint(model)
    for place in ((0, 0), (-1, -1)):
        before = table.data[place]
        with table.edit() as values:
            values[place] += 1
        assert fingerprint(model) != first
        with table.edit() as values:
            values[place] = before
        assert fingerprint(model) == first


def changes(model):
    """(what, function that changes it) of a dual encoder."""
    yield "max_tokens", lambda: setattr(model, "max_tokens", 5)
    yield "tokenizer", lambda: setattr(model, "tokenizer", plait.data.WordTokenizer(["a"], "bc"))
    yield "no tokenizer", lambda: setattr(model, "tokenizer", None)
    processors = [{"mean": 0.3, "std": 0.3}, {"resample": "bilinear"}, {"mode": "shortest", "crop": 16},
                  {"rescale": 1 / 127}, {"mode": "longest", "fill": 3}]  # fmt: skip
    for options in processors:
        yield str(options), lambda o=options: setattr(model, "processor", ImageProcessor(16, **o))
    yield "no processor", lambda: setattr(model, "processor", None)


def test_everything_else_counts(folders, tmp_path):
    model = small_models.dual()
    seen = [fingerprint(model)]
    for _, change in changes(model):
        change()
        seen.append(fingerprint(model))
    for top in ({"image": {"eps": 1e-6}}, {"text": {"activation": "quick_gelu"}}, {"text": {"pool": "last"}}):
        seen.append(fingerprint(small_models.dual(**top)))
    seen.append(fingerprint(plait.load(folders["sentences"])))
    for file, key, value in [("config_sentence_transformers.json", "prompts", {"query": "find a "}),
                             ("sentence_bert_config.json", "max_seq_length", 9),
                             ("sentence_bert_config.json", "do_lower_case", True),
                             ("1_Pooling/config.json", "pooling_mode", "cls")]:  # fmt: skip
        folder = tiny.sentences(tmp_path / f"{file.replace('/', ' ')} {key}")
        data = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**data, key: value}))
        seen.append(fingerprint(plait.load(folder)))
    folder = tiny.sentences(tmp_path / "vocabulary")
    words = (folder / "vocab.txt").read_text().splitlines()
    (folder / "vocab.txt").write_text("\n".join([*words[:-2], words[-1], words[-2], ""]))
    seen.append(fingerprint(plait.load(folder)))
    assert len(set(seen)) == len(seen)


def test_it_does_not_read_everything(tmp_path):
    config = {"text": {"vocabulary": 60000, "length": 8, "width": 256, "layers": 1, "heads": 2}}
    plait.create_model({"type": "text_encoder", "config": config}).save(tmp_path / "large")
    model = plait.load(tmp_path / "large")
    times = []
    for _ in range(5):
        began = time.perf_counter()
        fingerprint(model)
        times.append(time.perf_counter() - began)
    assert sum(p.size for p in model.parameters()) > 15e6
    assert min(times) < 0.02  # 60 MB would take longer by any digest
