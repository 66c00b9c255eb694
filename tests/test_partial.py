"""Folders that fit a model only in part: what `strict=False` takes, what it says, and what is saved then."""

import json
import logging

import numpy as np
import pytest
import safetensors.numpy
import test_pretrained
import zoo
from small_models import text_encoder

import plait
from plait.io import LoadReport

WEIGHTS = "model.safetensors"
POSITIONS, WORDS = "embeddings.position_embeddings.weight", "embeddings.word_embeddings.weight"
QUERY, KEY, VALUE = (f"encoder.layer.1.attention.self.{part}.weight" for part in ("query", "key", "value"))


def changed(folder, change, name="bert"):
    """The folder of a row of the zoo with other tensors."""
    folder.mkdir()
    test_pretrained.write(name, folder)
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def shorter(tensors):
    tensors[WORDS] = np.ascontiguousarray(tensors[WORDS][:17])


def narrower(tensors):
    for name in (QUERY, KEY, VALUE):
        tensors[name] = np.ascontiguousarray(tensors[name][:, :8])


def narrower_in_part(tensors):
    tensors[KEY] = np.ascontiguousarray(tensors[KEY][:, :8])


def without_one(tensors):
    del tensors[VALUE]


def with_more(tensors):
    tensors["encoder.layer.7.more"] = np.ones(3, np.float32)
    del tensors[POSITIONS]


def as_vectors(tensors):
    tensors[WORDS] = tensors[WORDS].reshape(-1)


# change of the file, what is missing, what is unexpected, what has another shape
ROWS = {
    "nothing": (lambda tensors: None, [], [], []),
    "another vocabulary": (shorter, [WORDS], [], [WORDS]),
    "another number of dimensions": (as_vectors, [WORDS], [], [WORDS]),
    "another width, of three in one": (narrower, [QUERY, KEY, VALUE], [], [QUERY, KEY, VALUE]),
    "another width, of one in three": (narrower_in_part, [QUERY, KEY, VALUE], [], [QUERY, KEY, VALUE]),
    "one of three is not there": (without_one, [VALUE], [QUERY, KEY], []),
    "missing and left over": (with_more, [POSITIONS], ["encoder.layer.7.more"], []),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_fits_is_taken(name, tmp_path, caplog):
    change, missing, unexpected, odd = ROWS[name]
    folder = changed(tmp_path / "model", change)
    whole = plait.load(changed(tmp_path / "whole", lambda tensors: None)).state_dict()
    if missing:
        with pytest.raises((KeyError, ValueError), match=missing[0] if name != "one of three is not there" else VALUE):
            plait.load(folder)
    with caplog.at_level(logging.WARNING, "plait"):
        model, report = plait.load(folder, strict=False, seed=3)
    assert isinstance(report, LoadReport)
    assert (sorted(report.missing), sorted(report.unexpected)) == (sorted(missing), sorted(unexpected))
    assert sorted(report.mismatched) == sorted(odd)
    stored = {n: a.shape for n, a in safetensors.numpy.load_file(folder / WEIGHTS).items()}
    first = {n: a.shape for n, a in safetensors.numpy.load_file(tmp_path / "whole" / WEIGHTS).items()}
    for tensor, (theirs, ours) in report.mismatched.items():
        assert theirs == stored[tensor] and ours == first[tensor]
        assert f"{tensor} {theirs} where the model has {ours}" in caplog.text
    for tensor in [*missing, *unexpected]:
        assert tensor in caplog.text
    assert bool(caplog.text) == bool(missing or unexpected)
    single = {WORDS: "text.tokens.weight", POSITIONS: "text.positions"}
    new = {single.get(n, "text.encoder.blocks.1.attention.qkv.weight") for n in missing}
    for tensor, value in model.state_dict().items():
        assert np.array_equal(value, whole[tensor]) != (tensor in new), tensor
    assert model.encode([[5, 6, 7], [8]]).shape == (2, 48)
    # Seeds decide about what is new, and what is saved is whole.
    again = plait.load(folder, strict=False, seed=3)[0].state_dict()
    other = plait.load(folder, strict=False, seed=4)[0].state_dict()
    for tensor, value in model.state_dict().items():
        np.testing.assert_array_equal(again[tensor], value)
        assert np.array_equal(other[tensor], value) != (tensor in new)
    model.save(tmp_path / "saved")
    loaded, report = plait.load(tmp_path / "saved", strict=False)
    assert report.missing == [] and report.mismatched == {}
    for tensor, value in loaded.state_dict().items():
        np.testing.assert_array_equal(value, model.state_dict()[tensor])


@pytest.mark.parametrize(
    ("row", "tensor"),
    [("oc_gelu", "visual.proj"), ("siglip", "vision_model.head.attention.in_proj_weight"), ("oc_gelu", "logit_scale")],
)
def test_the_shape_that_is_due_is_the_files(row, tensor, tmp_path):
    """Also where plait keeps it transposed, or as parts of it."""
    name = "open_clip_model.safetensors" if row.startswith("oc") else WEIGHTS
    folder = tmp_path / "model"
    folder.mkdir()
    test_pretrained.write(row, folder)
    tensors = safetensors.numpy.load_file(folder / name)
    due = tensors[tensor].shape
    tensors[tensor] = np.zeros((*due, 7), np.float32)
    safetensors.numpy.save_file(tensors, folder / name)
    _, report = plait.load(folder, strict=False)
    assert report.mismatched == {tensor: ((*due, 7), due)} and report.missing == [tensor]


@pytest.mark.parametrize("value", [np.zeros((5, 48), np.int64), np.full((5, 48), 1e300)])
def test_what_is_no_weight_is_an_error_all_the_same(value, tmp_path):
    def change(tensors):
        tensors[WORDS] = value

    with pytest.raises(ValueError, match=WORDS):
        plait.load(changed(tmp_path / "model", change), strict=False)


def test_a_folder_of_plait(tmp_path, caplog):
    model = text_encoder()
    model.save(tmp_path / "model")
    tensors = dict(plait.io.load_tensors(tmp_path / "model" / WEIGHTS))
    tensors["text.positions"] = tensors["text.positions"][:5]
    tensors["more"] = tensors.pop("text.encoder.norm.bias")
    plait.io.save_tensors(tmp_path / "model" / WEIGHTS, tensors)
    with pytest.raises(KeyError):
        plait.load(tmp_path / "model")
    with caplog.at_level(logging.WARNING, "plait"):
        loaded, report = plait.load(tmp_path / "model", strict=False)
    assert sorted(report.missing) == ["text.encoder.norm.bias", "text.positions"]
    assert report.unexpected == ["more"] and report.mismatched == {"text.positions": ((5, 16), (12, 16))}
    for tensor in ("text.encoder.norm.bias", "text.positions (5, 16) where the model has (12, 16)", "more"):
        assert tensor in caplog.text
    np.testing.assert_array_equal(loaded.text.tokens.weight.data, model.text.tokens.weight.data)


@pytest.mark.parametrize("count", [0, 4])
def test_registers_that_there_are_none_of(count, tmp_path):
    """transformers writes an empty tensor then."""
    name = next(row.name for row in zoo.ROWS if row.cls == "Dinov2WithRegistersModel")
    width = test_pretrained.FOLDERS[name]["files"]["config.json"]["hidden_size"]

    def change(tensors):
        tensors["embeddings.register_tokens"] = np.zeros((1, count, width), np.float32)

    folder = changed(tmp_path / "model", change, name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_register_tokens": 0}))
    if count:
        with pytest.raises(KeyError, match=r"embeddings\.register_tokens is not part of the model"):
            plait.load(folder)
        return
    model = plait.load(folder)
    assert model.config.image.registers == 0
    model.save(tmp_path / "again")
    saved = safetensors.numpy.load_file(tmp_path / "again" / WEIGHTS)
    assert saved["embeddings.register_tokens"].shape == (1, 0, width)
    plait.load(tmp_path / "again")
