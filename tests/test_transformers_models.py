"""Models written by transformers, open_clip and sentence-transformers, loaded by plait, and loaded by them again."""

import dataclasses
import json

import numpy as np
import pytest
import test_settings
import tiny
import zoo
import zoo_check

import plait

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the comparison environment has it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import zoo_build  # noqa: E402

# What a tower that embeds has no use for, and `save` may leave out.
UNUSED = ("pooler.", "mask_token", "classifier", "cls.", "lm_head", "vocab_", "audio_", "num_batches_tracked")


@pytest.fixture(autouse=True)
def quiet():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def built(row, tmp_path):
    needs = {"open_clip": "open_clip", "openai": "open_clip", "sentence": "sentence_transformers"}.get(row.call)
    if needs:
        pytest.importorskip(needs, reason=f"{needs} is not installed")
    folder = tmp_path / "theirs"
    zoo_build.build(row, folder)
    model = zoo_build.load(row, folder)
    return folder, model, zoo_build.expected(row, model)


def texts_of(due):
    return np.split(due["ids"], np.cumsum(due["lengths"])[:-1]) if "ids" in due else None


@pytest.mark.parametrize("row", zoo.ROWS, ids=lambda row: row.name)
def test_plait_gives_what_the_library_gives(row, tmp_path):
    folder, theirs, due = built(row, tmp_path)
    model = plait.load(folder)
    if row.call == "sentence":
        zoo_check.encodes(model.encode, zoo.SENTENCES, due, "pooled")
        assert model.max_tokens == theirs.max_seq_length
    if row.config.get("include_prompt") is not False:  # ids do not say which of them are the prompt's
        zoo_check.check(row, model, due.get("pixels"), texts_of(due), due)
    if "logits_per_image" in due:
        logits = model.encode_image(due["pixels"]) @ model.encode_text(texts_of(due)).T
        logits = logits * np.exp(model.logit_scale.numpy())
        if getattr(model, "logit_bias", None) is not None:
            logits = logits + model.logit_bias.numpy()
        np.testing.assert_allclose(
            logits, due["logits_per_image"], rtol=0, atol=1e-4 * abs(due["logits_per_image"]).max()
        )


@pytest.mark.parametrize("row", zoo.ROWS, ids=lambda row: row.name)
def test_the_library_loads_what_plait_saves(row, tmp_path):
    folder, theirs, due = built(row, tmp_path)
    plait.load(folder).save(tmp_path / "again")
    model = zoo_build.load(row, tmp_path / "again", allowed=UNUSED)
    tensors, again = theirs.state_dict(), model.state_dict()
    assert tensors.keys() == again.keys()
    for name, tensor in tensors.items():
        if not any(part in name for part in UNUSED):
            assert torch.equal(tensor, again[name]), name
    for name, values in zoo_build.expected(row, model).items():
        np.testing.assert_array_equal(values, due[name], err_msg=name)


def test_registers_that_there_are_none_of(tmp_path):
    row = next(r for r in zoo.ROWS if r.cls == "Dinov2WithRegistersModel")
    row = dataclasses.replace(row, config=row.config | {"num_register_tokens": 0})
    folder, _, due = built(row, tmp_path)
    zoo_check.check(row, plait.load(folder), due["pixels"], None, due)
    plait.load(folder).save(tmp_path / "again")
    again = zoo_build.load(row, tmp_path / "again", allowed=UNUSED)
    for name, values in zoo_build.expected(row, again).items():
        np.testing.assert_array_equal(values, due[name], err_msg=name)


def sentence_transformer(folder):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    return library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", test_settings.ROWS)
def test_the_limit_of_tokens_is_that_of_sentence_transformers(name, tmp_path):
    longest, other, due = test_settings.ROWS[name]
    folder = test_settings.limited(tmp_path / "model", longest, other)
    theirs, model = sentence_transformer(folder), plait.load(folder)
    assert theirs.max_seq_length == model.max_tokens == due
    texts = [test_settings.LONG, "a cat"]
    zoo_check.close(model.encode(texts, truncate=True), theirs.encode(texts), "cut")
    theirs.save(str(tmp_path / "theirs"), create_model_card=False)
    assert plait.load(tmp_path / "theirs").max_tokens == due
    model.max_tokens = 9
    model.save(tmp_path / "again")
    again = sentence_transformer(tmp_path / "again")
    assert again.max_seq_length == 9
    zoo_check.close(model.encode(texts, truncate=True), again.encode(texts), "cut to 9")


@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_reads_another_prompt_and_fewer_columns(tmp_path):
    folder = test_settings.truncated(tmp_path / "model", 20)
    model, texts = plait.load(folder), zoo.SENTENCES
    theirs = sentence_transformer(folder).encode(texts)
    assert theirs.shape == (len(texts), 20)
    zoo_check.close(model.encode(texts, normalize=False), theirs, "leading columns, as they are")
    unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    zoo_check.close(model.encode(texts), unit, "leading columns, of unit length")
    model.truncate_dim, model.prompts, model.default_prompt_name = 12, {"query": "find a "}, "query"
    model.save(tmp_path / "again")
    again = sentence_transformer(tmp_path / "again")
    assert (again.truncate_dim, again.default_prompt_name, again.prompts["query"]) == (12, "query", "find a ")
    zoo_check.close(model.encode(texts, normalize=False), again.encode(texts), "with a prompt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet"])
def test_transformers_reads_another_tokenizer_that_was_put_in(family, tmp_path):
    pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    words = [*zoo.MPNET_VOCABULARY[:-2], "<mask>"] if family == "mpnet" else zoo.VOCABULARY[:5] + zoo.VOCABULARY[:4:-1]
    model = plait.load(tiny.sentences(tmp_path / "model"))
    model.tokenizer = plait.processing.Tokenizer({"vocab.txt": "".join(f"{w}\n" for w in words).encode()}, family)
    model.save(tmp_path / "again")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "again"))
    assert [theirs(text).input_ids for text in zoo.SENTENCES] == [
        ids.tolist() for ids in model.tokenizer.encode(zoo.SENTENCES)
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inside", [False, True])
def test_transformers_reads_another_image_processor_that_was_put_in(inside, tmp_path):
    pytest.importorskip("PIL", reason="pictures are processed with Pillow")
    pil = getattr(transformers, "CLIPImageProcessorPil", None)
    if pil is None:
        pytest.skip("transformers 5 has the Pillow class that is compared with")
    folder = tiny.clip(tmp_path / "model")
    if inside:  # processor_config.json, as transformers 5 writes it
        old = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").unlink()
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": old}))
    model = plait.load(folder)
    model.processor = plait.processing.ImageProcessor(40, "shortest", crop=32, mean=(0.1, 0.2, 0.3), std=0.5)
    model.save(tmp_path / "again")
    theirs = pil.from_pretrained(str(tmp_path / "again"))
    picture = tiny.picture(3, (50, 70))
    np.testing.assert_allclose(
        theirs(picture, return_tensors="np")["pixel_values"], model.processor([picture]), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("row", zoo.OTHERS, ids=lambda row: row.name)
def test_a_relative_that_plait_does_not_know_is_refused_by_name(row, tmp_path):
    folder, model, _ = built(row, tmp_path)
    with pytest.raises(ValueError, match=f"model_type is '{model.config.model_type}', expected one of"):
        plait.load(folder)
