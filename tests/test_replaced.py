"""What `save` writes of a checkpoint whose tokenizer or image processor is another one than that of its folder."""

import copy
import json
import os
import pickle

import numpy as np
import pytest
import test_pretrained
import tiny
import zoo

import plait
from plait.data import WordTokenizer
from plait.processing import ImageProcessor, Tokenizer

pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
pytest.importorskip("PIL", reason="pictures are processed with Pillow")

TEXTS = ["A red dog, on the beach!", "the CAT's house", "", "it's 7 pictures of a_dog"]
PICTURES = [tiny.picture(1, (48, 36)), tiny.picture(2, (31, 64)), tiny.picture(3, (20, 20))]
SHUFFLED = [*zoo.VOCABULARY[:5], *zoo.VOCABULARY[:4:-1]]


def lines(words):
    return "".join(f"{word}\n" for word in words).encode()


def bert(words=SHUFFLED, clean=(), lower=False, **config):
    files = {"vocab.txt": lines(words)}
    if config:
        files["tokenizer_config.json"] = json.dumps(config).encode()
    return Tokenizer(files, "bert", clean, lower)


def roberta(**config):
    vocabulary = {w: i for i, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *"abcdefghi", "Ġa"])}
    files = {"vocab.json": json.dumps(vocabulary).encode(), "merges.txt": "#version: 0.2\nĠ a\n".encode()}
    if config:
        files["tokenizer_config.json"] = json.dumps(config).encode()
    return Tokenizer(files, "roberta")


def names_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def ids_of(tokenizer, texts=TEXTS):
    return [ids.tolist() for ids in tokenizer.encode(texts)]


# ---------------------------------------------------------------- tokenizers

TOKENIZERS = {
    "another vocabulary": bert,
    "another configuration": lambda: bert(zoo.VOCABULARY, do_lower_case=False, model_max_length=17),
    "another family": roberta,
    "another family, named": lambda: roberta(tokenizer_class="RobertaTokenizer", add_prefix_space=True),
    "another family of the same class": lambda: Tokenizer({"vocab.txt": lines(SHUFFLED)}, "distilbert"),
    "other special tokens": lambda: Tokenizer({"vocab.txt": lines([*zoo.MPNET_VOCABULARY[:-2], "<mask>"])}, "mpnet"),
    "cleaned texts": lambda: bert(clean=("unescape", "punctuation")),
    "cleaned texts, by its files": lambda: bert(plait_clean=["punctuation"]),
    "lower case": lambda: bert(do_lower_case=False, lower=True),
    "the same files": lambda: bert(zoo.VOCABULARY),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_another_tokenizer_is_saved(name, tmp_path):
    model = plait.load(tiny.sentences(tmp_path / "model"))
    model.tokenizer = made = TOKENIZERS[name]()
    due, ids = model.encode(TEXTS), ids_of(made)
    for _ in range(2):  # and once more over itself
        model.save(tmp_path / "again")
        again = plait.load(tmp_path / "again")
        assert ids_of(again.tokenizer) == ids and again.tokenizer.max_length == made.max_length
        assert [getattr(again.tokenizer, f"{k}_id") for k in ("pad", "cls", "unk")] == [
            getattr(made, f"{k}_id") for k in ("pad", "cls", "unk")
        ]
        np.testing.assert_array_equal(again.encode(TEXTS), due)
        kept = {*made.files, "modules.json", "config.json", "model.safetensors"}
        assert kept <= names_of(tmp_path / "again") and ("vocab.txt" in made.files) == (
            "vocab.txt" in names_of(tmp_path / "again")
        )
    again.save(tmp_path / "third")  # what came from files goes back as it was
    for name in ("tokenizer_config.json", *made.files):
        if (tmp_path / "again" / name).exists():
            assert (tmp_path / "third" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_no_tokenizer_is_saved_as_none(tmp_path):
    model = plait.load(tiny.sentences(tmp_path / "model"))
    model.tokenizer = None
    model.save(tmp_path / "again")
    assert plait.load(tmp_path / "again").tokenizer is None
    assert names_of(tmp_path / "again") == names_of(tmp_path / "model") - {"vocab.txt"}


def test_files_of_a_folder_without_a_tokenizer_stay(tmp_path):
    folder = tiny.sentences(tmp_path / "model")
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 9}')
    model = plait.load(folder)
    assert model.tokenizer is None
    model.save(tmp_path / "again")
    assert (tmp_path / "again/tokenizer_config.json").read_text() == '{"model_max_length": 9}'


def test_what_was_only_used_is_saved_as_it_was(tmp_path):
    folder = tiny.clip(tmp_path / "model")
    before = {name: (folder / name).read_bytes() for name in names_of(folder) if "config" not in name}
    for copied in (lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))):
        model = plait.load(folder)
        model.encode_text(["a dog"])
        model = copied(model)
        model.processor.pixels(PICTURES[0])
        model.save(tmp_path / "again")
        assert names_of(tmp_path / "again") == names_of(folder)
        for name in before:
            if name != "model.safetensors":
                assert (tmp_path / "again" / name).read_bytes() == before[name], name
        old, new = ((f / "preprocessor_config.json").read_bytes() for f in (folder, tmp_path / "again"))
        assert old == new


class Plain:
    """A tokenizer of nobody's."""

    def encode(self, texts, max_length=None, truncate=False, start=0):
        return [np.array([5, 6]) for _ in texts]

    def __len__(self):
        return 7


REFUSED_TOKENIZERS = {
    "plait's own": ("sentences", lambda: WordTokenizer(["dog"]), TypeError, "model.tokenizer is a WordTokenizer, "),
    "nobody's": ("sentences", Plain, TypeError, "model.tokenizer is a Plain, .*expected a plait.processing.Tokenizer"),
    "lower case": ("clip", lambda: bert(do_lower_case=False, lower=True), ValueError, "model.tokenizer .*lower"),
    "of a kind that the folder's model does not have": (
        "siglip2_naflex", lambda: bert(), ValueError, "model.tokenizer .*read back"
    ),
    "another pad token": (
        "oc_siglip", lambda: bert(pad_token="[MASK]", added_tokens_decoder={"4": {"content": "[MASK]"}}), ValueError,
        "model.tokenizer has the pad token 4, expected 1",
    ),
}  # fmt: skip


def folder_of(name, path):
    if name in ("clip", "sentences"):
        return getattr(tiny, name)(path)
    path.mkdir()
    return test_pretrained.write(name, path)


def test_plait_s_own_folders_refuse_what_they_cannot_hold(tmp_path):
    model = plait.create_model("glyph-tiny")
    for tokenizer in (bert(), Plain()):
        model.tokenizer = tokenizer
        with pytest.raises(TypeError, match=f"save: model.tokenizer is a {type(tokenizer).__name__}, "):
            model.save(tmp_path / "m")
    model.tokenizer, model.processor = None, "squash"
    with pytest.raises(TypeError, match=r"save: model.processor is a str, expected .*ImageProcessor or None"):
        model.save(tmp_path / "m")
    assert not os.listdir(tmp_path)


# ---------------------------------------------------------------- image processors

SIDE = 32
NORMAL = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
PROCESSORS = {
    "squashed": lambda: ImageProcessor(SIDE, resample="bilinear", **NORMAL),
    "cut out": lambda: ImageProcessor(40, "shortest", crop=SIDE, resample="lanczos", **NORMAL),
    "as torchvision cuts": lambda: ImageProcessor(SIDE, "shortest", crop=SIDE, centre="torchvision", **NORMAL),
    "no normalisation": lambda: ImageProcessor(SIDE, rescale=1 / 100),
    "a bound": lambda: ImageProcessor(SIDE, "shortest", crop=SIDE, max_edge=64, **NORMAL),
    "of a file": lambda: ImageProcessor.from_config(
        {"image_processor_type": "SiglipImageProcessor", "size": {"height": SIDE, "width": SIDE}}
    ),
}
FOR_OPEN_CLIP = {
    "squashed": PROCESSORS["squashed"],
    "cut out": lambda: ImageProcessor(SIDE, "shortest", crop=SIDE, **NORMAL),
    "as torchvision cuts": PROCESSORS["as torchvision cuts"],
    "surrounded": lambda: ImageProcessor(SIDE, "longest", fill=7, centre="torchvision", **NORMAL),
}


def images_of(model):
    return getattr(model, "encode_image", None) or model.encode


def nested(folder):
    """The image processor inside processor_config.json, as transformers 5 writes it."""
    old = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    about = {"processor_class": "CLIPProcessor", "image_processor": old}
    (folder / "processor_config.json").write_text(json.dumps(about))
    return folder


def without(folder):
    (folder / "preprocessor_config.json").unlink()
    return folder


FOLDERS = {
    "clip": lambda path: tiny.clip(path),
    "nested": lambda path: nested(tiny.clip(path)),
    "without": lambda path: without(tiny.clip(path)),
    "vit": lambda path: folder_of("vit", path),
    "openai": lambda path: folder_of("openai", path),
    "siglip2": lambda path: folder_of("siglip2_naflex", path),
}
CASES = [(f, p) for f in FOLDERS for p in PROCESSORS] + [("open_clip", p) for p in FOR_OPEN_CLIP]


@pytest.mark.parametrize(("folder", "processor"), CASES)
def test_another_image_processor_is_saved(folder, processor, tmp_path):
    if folder == "open_clip":
        model, made = plait.load(folder_of("oc_gelu", tmp_path / "model")), FOR_OPEN_CLIP[processor]()
    else:
        model, made = plait.load(FOLDERS[folder](tmp_path / "model")), PROCESSORS[processor]()
    model.processor = made
    due = images_of(model)(PICTURES)
    for _ in range(2):
        model.save(tmp_path / "again")
        again = plait.load(tmp_path / "again")
        np.testing.assert_array_equal(again.processor(PICTURES), made(PICTURES))
        np.testing.assert_array_equal(images_of(again)(PICTURES), due)
    if folder == "nested":
        assert json.loads((tmp_path / "again/processor_config.json").read_text())["processor_class"] == "CLIPProcessor"
        assert not (tmp_path / "again/preprocessor_config.json").exists()


@pytest.mark.parametrize("folder", ["clip", "nested", "open_clip"])
def test_no_image_processor_is_saved_as_none(folder, tmp_path):
    if folder == "open_clip":
        path = folder_of("oc_gelu", tmp_path / "model")
        config = json.loads((path / "open_clip_config.json").read_text())
        (path / "open_clip_config.json").write_text(json.dumps({**config, "preprocess_cfg": {"mean": [0.5] * 3}}))
    else:
        path = FOLDERS[folder](tmp_path / "model")
    model = plait.load(path)
    assert model.processor is not None
    model.processor = None
    model.save(tmp_path / "again")
    assert plait.load(tmp_path / "again").processor is None


REFUSED_PROCESSORS = {
    "nobody's": ("clip", lambda: print, TypeError, "model.processor is a builtin_function_or_method, expected"),
    "longest": ("clip", lambda: ImageProcessor(SIDE, "longest"), ValueError, "model.processor: .*longest"),
    "lanczos": ("oc_gelu", lambda: ImageProcessor(SIDE, resample="lanczos", **NORMAL), ValueError, "model.processor: "),
    "larger": (
        "oc_gelu", lambda: ImageProcessor(40, "shortest", crop=SIDE, **NORMAL), ValueError, "model.processor: "
    ),
    "rescaled": ("oc_gelu", lambda: ImageProcessor(SIDE, rescale=1.0, **NORMAL), ValueError, "model.processor: "),
    "no crop": ("oc_gelu", lambda: ImageProcessor(SIDE, "shortest", **NORMAL), ValueError, "model.processor: "),
    "no resize": ("oc_gelu", lambda: ImageProcessor(None, crop=SIDE, **NORMAL), ValueError, "model.processor: "),
    "surrounded, cut as transformers does": (
        "oc_gelu", lambda: ImageProcessor(SIDE, "longest", **NORMAL), ValueError, "model.processor: .*longest"
    ),
}  # fmt: skip


# ---------------------------------------------------------------- what cannot be saved

REFUSED = {
    f"{part}, {name}": (part, *row)
    for part, table in (("tokenizer", REFUSED_TOKENIZERS), ("processor", REFUSED_PROCESSORS))
    for name, row in table.items()
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved_leaves_nothing_behind(name, tmp_path):
    part, kind, make, error, message = REFUSED[name]
    model = plait.load(folder_of(kind, tmp_path / "model"))
    setattr(model, part, make())
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(error, match=f"save: {message}"):
        model.save(tmp_path / "again")
    assert sorted(os.listdir(tmp_path)) == before
