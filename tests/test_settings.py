"""What a text model is told beside its configuration: the limit of tokens, prompts, leading columns; read and saved."""

import json

import numpy as np
import pytest
import test_pretrained
import tiny
from small_models import dual, text_encoder

import plait

pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")

LIMITS, SETTINGS, TOKENIZER = (
    "sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json",
)  # fmt: skip
LONG = "dog " * 60
ABSENT = object()
# max_seq_length of the one file, model_max_length of the other, and the limit of a model of 64 positions.
# `test_transformers_models.py` has the same rows beside sentence-transformers.
ROWS = {
    "both": (24, 50, 24),
    "both, the other way round": (50, 24, 50),
    "the first alone": (24, ABSENT, 24),
    "the second alone": (ABSENT, 24, 24),
    "null and the second": (None, 24, 24),
    "null and null": (None, None, 64),
    "null and no limit": (None, int(1e30), 64),
    "above the table": (None, 100, 64),
    "none": (ABSENT, ABSENT, 64),
}


def write(folder, name, **values):
    """Changes keys of a JSON file, ABSENT ones go."""
    file = folder / name
    data = json.loads(file.read_text()) if file.exists() else {}
    data = {key: value for key, value in {**data, **values}.items() if value is not ABSENT}
    file.write_text(json.dumps(data))


def read(folder, name):
    return json.loads((folder / name).read_text())


def limited(folder, longest, other):
    folder = tiny.sentences(folder)
    write(folder, LIMITS, max_seq_length=longest)
    write(folder, TOKENIZER, model_max_length=other, tokenizer_class="BertTokenizer")
    return folder


@pytest.mark.parametrize("name", ROWS)
def test_the_limit_of_tokens(name, tmp_path):
    longest, other, due = ROWS[name]
    model = plait.load(limited(tmp_path / "model", longest, other))
    assert model.max_tokens == due
    if due < 62:
        with pytest.raises(ValueError, match=f"texts\\[0\\] has 62 tokens, expected at most {due}"):
            model.encode([LONG])
    with pytest.warns(UserWarning, match=f"cut to {due} tokens") if due < 62 else np.errstate():
        cut = model.encode([LONG], truncate=True)
    np.testing.assert_array_equal(cut, model.encode(["dog " * (min(due, 62) - 2)]))


def test_the_limit_of_a_folder_without_modules(tmp_path):
    folder = tiny.clip(tmp_path / "clip")
    assert plait.load(folder).max_tokens == 20
    write(folder, TOKENIZER, model_max_length=9)
    assert plait.load(folder).max_tokens == 9


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("wanted", [7, 24, 64, 99])
def test_another_limit_is_saved(name, wanted, tmp_path):
    model = plait.load(limited(tmp_path / "model", *ROWS[name][:2]))
    model.max_tokens = wanted
    for _ in range(2):
        model.save(tmp_path / "again")
        assert plait.load(tmp_path / "again").max_tokens == min(wanted, 64)
    if min(wanted, 64) == ROWS[name][2]:  # nothing changed, so no file does
        assert (tmp_path / "again" / LIMITS).read_text() == (tmp_path / "model" / LIMITS).read_text()


@pytest.mark.parametrize("kind", ["clip", "own pair", "own texts"])
def test_another_limit_is_saved_in_other_folders(kind, tmp_path):
    model = {"clip": lambda: plait.load(tiny.clip(tmp_path / "clip")), "own pair": dual, "own texts": text_encoder}[
        kind
    ]()
    longest = model.max_tokens
    for wanted in (6, longest):
        model.max_tokens = wanted
        model.save(tmp_path / "again")
        assert plait.load(tmp_path / "again").max_tokens == wanted
    if kind != "clip":
        assert not (tmp_path / "again/settings.json").exists()


# ---------------------------------------------------------------- leading columns


def truncated(folder, width):
    folder = tiny.sentences(folder)
    write(folder, SETTINGS, truncate_dim=width)
    return folder


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("given", "due"), [(10, 10), (48, 48), (500, 48)])
def test_leading_columns_by_default(given, due, normalise, tmp_path):
    folder = truncated(tmp_path / "model", given)
    if not normalise:
        modules = read(folder, "modules.json")
        (folder / "modules.json").write_text(json.dumps([m for m in modules if "Normalize" not in m["type"]]))
    model, texts = plait.load(folder), ["a cat", "the dog", ""]
    whole = plait.load(tiny.sentences(tmp_path / "whole")).encode(texts, normalize=normalise)
    assert model.truncate_dim == given
    got = model.encode(texts)
    assert got.shape == (3, due)
    np.testing.assert_array_equal(np.concatenate(list(model.encode_iter(texts))), got)
    np.testing.assert_array_equal(model.encode(texts, truncate_dim=due), got)
    np.testing.assert_array_equal(model.encode(texts, truncate_dim=3).shape, (3, 3))
    if normalise:
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(model.encode(texts, normalize=False), whole[:, :due], rtol=0, atol=1e-6)
    model.truncate_dim = None
    assert model.encode(texts).shape == (3, 48)
    model.truncate_dim = 7
    assert model.encode("a cat", precision="int8").shape == (7,)
    model.save(tmp_path / "again")
    again = plait.load(tmp_path / "again")
    assert again.truncate_dim == 7 and again.encode(texts).shape == (3, 7)
    assert plait.models.fingerprint(again) == plait.models.fingerprint(model)
    model.truncate_dim = None
    assert plait.models.fingerprint(again) != plait.models.fingerprint(model)
    model.save(tmp_path / "again")
    assert "truncate_dim" not in read(tmp_path / "again", SETTINGS)


def test_training_takes_all_columns(tmp_path):
    model = plait.load(truncated(tmp_path / "model", 10))
    assert model.train().encode([[5, 6], [7]]).shape == (2, 48)
    assert model.eval().encode([[5, 6], [7]]).shape == (2, 10)


@pytest.mark.parametrize("wrong", [0, -3, 1.5, "4", True])
def test_wrong_leading_columns(wrong, tmp_path):
    with pytest.raises(ValueError, match=r"config_sentence_transformers.json.*truncate_dim"):
        plait.load(truncated(tmp_path / "model", wrong))
    model = plait.load(tiny.sentences(tmp_path / "right"))
    model.truncate_dim = wrong
    with pytest.raises(ValueError, match=f"truncate_dim is {wrong!r}"):
        model.encode(["a cat"])


def test_what_a_clip_model_has_no_use_for_is_said(tmp_path, caplog):
    tiny.clip(tmp_path / "0_CLIPModel")
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / SETTINGS).write_text(json.dumps({"truncate_dim": 8, "default_prompt_name": None, "prompts": {}}))
    with caplog.at_level("WARNING", "plait"):
        model = plait.load(tmp_path)
    assert model.encode_text(["dog"]).shape == (1, 40)
    assert "truncate_dim" in caplog.text and "default_prompt_name" not in caplog.text


# ---------------------------------------------------------------- what is saved of prompts

PROMPTS = {"query": "find a ", "passage": ""}


@pytest.mark.parametrize("kind", ["sentences", "own"])
def test_other_prompts_are_saved(kind, tmp_path):
    if kind == "own":
        model = text_encoder()
    else:
        folder = tiny.sentences(tmp_path / "model")
        write(folder, SETTINGS, prompts={"old": "an "}, default_prompt_name="old", similarity_fn_name="dot")
        model = plait.load(folder)
        model.prompts["new"] = "the "  # also in place
        model.save(tmp_path / "first")
        assert plait.load(tmp_path / "first").prompts == {"old": "an ", "new": "the "}
    model.prompts, model.default_prompt_name, model.truncate_dim = dict(PROMPTS), "query", 5
    due = model.encode(["cat", "a dog"])
    for _ in range(2):
        model.save(tmp_path / "again")
        again = plait.load(tmp_path / "again")
        assert (again.prompts, again.default_prompt_name, again.truncate_dim) == (PROMPTS, "query", 5)
        np.testing.assert_array_equal(again.encode(["cat", "a dog"]), due)
    if kind != "own":
        assert read(tmp_path / "again", SETTINGS)["similarity_fn_name"] == "dot"


REFUSED = {
    "no texts": (lambda m: setattr(m, "prompts", {"a": 3}), "model.prompts"),
    "no dict": (lambda m: setattr(m, "prompts", ["a"]), "model.prompts"),
    "no such name": (lambda m: setattr(m, "default_prompt_name", "absent"), "model.default_prompt_name is 'absent'"),
    "no columns": (lambda m: setattr(m, "truncate_dim", 0), "model.truncate_dim is 0"),
    "no tokens": (lambda m: setattr(m, "max_tokens", 0), "model.max_tokens is 0"),
    "half a token": (lambda m: setattr(m, "max_tokens", 1.5), "model.max_tokens is 1.5"),
}


@pytest.mark.parametrize("kind", ["sentences", "own"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(name, kind, tmp_path):
    model = text_encoder() if kind == "own" else plait.load(tiny.sentences(tmp_path / "model"))
    change, message = REFUSED[name]
    change(model)
    with pytest.raises(ValueError, match=f"save: {message}"):
        model.save(tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "change", [{"prompts": PROMPTS}, {"truncate_dim": 5}, {"prompts": PROMPTS, "default_prompt_name": "query"}]
)
def test_a_folder_without_modules_has_no_place_for_prompts(change, tmp_path):
    (tmp_path / "bert").mkdir()
    model = plait.load(test_pretrained.write("bert", tmp_path / "bert"))
    for name, value in change.items():
        setattr(model, name, value)
    with pytest.raises(ValueError, match=f"save: model.{min(change)} .*sentence-transformers"):
        model.save(tmp_path / "again")
    assert not (tmp_path / "again").exists()


HOSTILE = [
    ("[]", "expected an object"),
    ('{"a": 1}', "a is unknown"),
    ('{"max_tokens": 0}', "max_tokens is 0"),
    ('{"truncate_dim": "x"}', "truncate_dim is 'x'"),
    ('{"prompts": {"a": 1}}', "prompts"),
    ('{"prompts": {"a": "b"}, "default_prompt_name": "c"}', "default_prompt_name is 'c'"),
    ('{"prompts": {"a": "b"}, "prompts": {}}', "prompts"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE)
def test_settings_of_a_folder_of_plait_have_a_closed_schema(text, message, tmp_path):
    text_encoder().save(tmp_path / "model")
    (tmp_path / "model/settings.json").write_text(text)
    with pytest.raises(ValueError, match=f"settings.json.*{message}"):
        plait.load(tmp_path / "model")


def test_settings_of_a_model_that_reads_no_text(tmp_path):
    config = {"image": {"size": 16, "patch": 8, "width": 8, "layers": 1, "heads": 2}}
    plait.create_model({"type": "image_encoder", "config": config}).save(tmp_path / "model")
    (tmp_path / "model/settings.json").write_text('{"max_tokens": 4}')
    with pytest.raises(ValueError, match=r"settings.json.*max_tokens"):
        plait.load(tmp_path / "model")
