"""Models from configurations: sizes, encoders, saving and loading, and folders that do not fit."""

import copy
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

import plait
from plait import io, models
from plait.data import WordTokenizer

TINY = {
    "type": "dual_encoder",
    "config": {
        "embed_dim": 8,
        "image": {
            "size": 8,
            "channels": 1,
            "patch": 4,
            "width": 8,
            "layers": 1,
            "heads": 2,
            "mean": [0.5],
            "std": [0.25],
        },
        "text": {"vocabulary": 30, "length": 6, "width": 8, "layers": 1, "heads": 2},
    },
}
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 8, 8), dtype=np.uint8)
TEXTS = [[1, 2, 3], [4], [5, 6], [29, 0, 0, 1, 2, 3], [7, 8]]


def tiny(image=(), text=(), **top):
    config = copy.deepcopy(TINY)
    config["config"].update(top)
    config["config"]["image"].update(image)
    config["config"]["text"].update(text)
    return config


VARIANTS = {
    "plain": tiny(),
    "colour": tiny({"channels": 3, "mean": [0.1, 0.2, 0.3]}),
    "class token": tiny({"class_token": True, "pool": "first", "input_norm": True, "patch_bias": False}),
    "flatten": tiny({"pool": "flatten"}),
    "flatten with class token": tiny({"pool": "flatten", "class_token": True}),
    "post-norm": tiny({"pre_norm": False}, {"pre_norm": False}),
    "causal": tiny({}, {"causal": True, "pool": "last"}),
    "pools": tiny({"pool": "max"}, {"pool": "max"}),
    "first and last": tiny({"pool": "last"}, {"pool": "first"}),
    "dropout": tiny({"dropout": 0.1, "attention_dropout": 0.1}, {"dropout": 0.1, "attention_dropout": 0.1}),
    "no layers": tiny({"layers": 0}, {"layers": 0}),
    "hidden": tiny({"hidden": 5, "activation": "relu"}, {"hidden": 3, "activation": "quick_gelu"}),
    "xavier": tiny({"init": "xavier"}, {"init": "xavier"}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_saves_and_loads_to_the_same_bits(name, tmp_path):
    config = VARIANTS[name]
    model = plait.create_model(config, seed=3)
    assert model.count_parameters() == model.config.count_parameters()
    shape = (5, 8, 8, config["config"]["image"]["channels"])
    images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    optimizer = plait.optim.AdamW(model, lr=1e-2)
    values = []
    for _ in range(4):
        loss = plait.losses.info_nce(model.encode_image(images), model.encode_text(TEXTS), model.logit_scale)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    model.save(tmp_path / "model")
    again = plait.load(tmp_path / "model")
    assert again.config == model.config
    assert not again.training
    assert {k: a.tobytes() for k, a in again.state_dict().items()} == {
        k: a.tobytes() for k, a in model.state_dict().items()
    }
    model.eval()
    pairs = [(m.encode_image(images), m.encode_text(TEXTS)) for m in (model, again)]
    for a, b in zip(*pairs, strict=True):
        assert a.data.tobytes() == b.data.tobytes()
        np.testing.assert_allclose(np.linalg.norm(a.data, axis=1), 1, rtol=1e-5)


def test_known_models_have_their_published_sizes():
    sizes = {
        name: models.registry.parse_config(**as_arguments(name)).count_parameters() for name in plait.list_models()
    }
    assert sizes == {"glyph-tiny": 985_729, "vit-b-32": 151_277_313}  # the latter as in openai/CLIP


def as_arguments(name):
    config = models.get_config(name)
    return {"model_type": config["type"], "data": config["config"]}


def test_seeds_make_models():
    a, b, c = (plait.create_model("glyph-tiny", seed=s).state_dict() for s in (1, 1, 2))
    assert all((a[k] == b[k]).all() for k in a)
    assert any((a[k] != c[k]).any() for k in a)


def test_a_config_file_makes_a_model(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(TINY))
    assert plait.create_model(file).config == plait.create_model(str(file)).config == plait.create_model(TINY).config
    model = plait.create_model(TINY)
    model.save(tmp_path / "saved")
    assert plait.create_model(tmp_path / "saved" / "config.json").config == model.config


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("resnet", ValueError, "'resnet' is no model, expected one of glyph-tiny, vit-b-32"),
        ("", ValueError, "no model"),
        ("absent.json", FileNotFoundError, "absent.json"),
        (7, TypeError, "got int"),
        ({}, ValueError, "type is missing"),
        ({"type": "dual_encoder"}, ValueError, "config is missing"),
        ({**TINY, "type": "os.system"}, ValueError, "type is 'os.system', expected one of dual_encoder"),
        ({**TINY, "type": ["x"]}, ValueError, "type is"),
        ({**TINY, "code": "x"}, ValueError, "code is unknown"),
        (tiny(embed_dim=0), ValueError, r"config\.embed_dim is 0"),
        (tiny(embed_dim=10**30), ValueError, r"config\.embed_dim is 1000"),
        (tiny({"width": -8}), ValueError, r"config\.image\.width is -8"),
        (tiny({"width": 9}), ValueError, r"config\.image\.heads is 2, expected a divisor of width, 9"),
        (tiny({"patch": 9}), ValueError, r"config\.image\.patch is 9, expected at most size, 8"),
        (tiny({"patch": 9, "crop": True}), ValueError, r"config\.image\.patch is 9, expected at most size, 8"),
        (tiny({"patch": 3}), ValueError, r"config\.image\.patch is 3, expected a divisor of size, 8"),
        (tiny({"mean": [0, 0, 0]}), ValueError, r"config\.image\.mean has 3 numbers, expected 1 or 1"),
        (tiny({"std": [0.0]}), ValueError, r"config\.image\.std\[0\] is 0"),
        (tiny({"activation": "swish"}), ValueError, r"config\.image\.activation is 'swish', expected one of relu"),
        (tiny({"layers": True}), ValueError, r"config\.image\.layers is True"),
        (tiny({}, {"dropout": 1.0}), ValueError, r"config\.text\.dropout is 1\.0"),
        (tiny({}, {"hook": "x"}), ValueError, r"config\.text\.hook is unknown"),
        (tiny(temperature=float("nan")), ValueError, r"config\.temperature is nan"),
        (tiny(temperature=0.001), ValueError, r"config\.temperature is 0\.001, below 1 / max_logit_scale"),
    ],
)
def test_a_wrong_configuration_is_an_error(what, error, message):
    with pytest.raises(error, match=message):
        plait.create_model(what)


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_a_wrong_seed_is_an_error(seed):
    with pytest.raises(ValueError, match="seed is"):
        plait.create_model(TINY, seed=seed)


# ---------------------------------------------------------------- encoders


@pytest.fixture(scope="module")
def model():
    return plait.create_model(TINY, seed=1).eval()


def test_pictures_of_any_layout_and_scale_give_the_same(model):
    due = np.asarray(model.encode_image(GREY))
    scaled = GREY.astype(np.float32) / 255
    same = {
        "channel": GREY[..., None],
        "float": scaled,
        "float64": GREY / 255.0,
        "fortran": np.asfortranarray(scaled),
        "swapped": scaled.astype(">f4"),
        "tensor": plait.Tensor(scaled),
        "list": scaled.tolist(),
    }
    for name, images in same.items():
        np.testing.assert_allclose(np.asarray(model.encode_image(images)), due, rtol=0, atol=1e-5, err_msg=name)
    read_only = GREY.copy()
    read_only.setflags(write=False)
    assert np.asarray(model.encode_image(read_only)).tobytes() == due.tobytes()
    assert model.encode_image(np.repeat(GREY, 2, axis=0)[::2]).data.tobytes() == due.tobytes()


def test_pictures_have_gradients(model):
    images = plait.Tensor(GREY.astype(np.float32) / 255, requires_grad=True)
    model.encode_image(images).sum().backward()
    assert images.grad.shape == GREY.shape
    assert np.abs(images.grad).max() > 0


def test_texts_of_any_kind_give_the_same(model):
    due = np.asarray(model.encode_text(TEXTS))
    flat = np.concatenate(TEXTS)
    offsets = np.cumsum([0, *map(len, TEXTS)])
    same = {
        "arrays": [np.array(t) for t in TEXTS],
        "int32": [np.array(t, np.int32) for t in TEXTS],
        "tuple": tuple(TEXTS),
        "stream": plait.Stream(flat, offsets),
    }
    for name, texts in same.items():
        assert np.asarray(model.encode_text(texts)).tobytes() == due.tobytes(), name
    equal = np.array([[1, 2], [3, 4]])
    assert np.asarray(model.encode_text(equal)).tobytes() == model.encode_text(equal.tolist()).data.tobytes()
    np.testing.assert_array_equal(np.asarray(model.encode_text([[1, 2], []]))[1], 0)  # an absent text


def test_the_class_takes_a_dict_and_the_dataclass():
    config = models.DualEncoder(TINY["config"]).config
    assert isinstance(config, models.DualEncoderConfig)
    assert config == models.DualEncoder(config).config == plait.create_model(TINY).config
    with pytest.raises(ValueError, match=r"config\.wide is unknown, expected keys: embed_dim"):
        models.DualEncoder({**TINY["config"], "wide": 1})
    with pytest.raises(ValueError, match=r"config\.image\.patch is 3, expected a divisor of size, 8"):
        models.DualEncoder(tiny({"patch": 3})["config"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "create_model: version is 2, expected 1"),
        ({"version": True}, "create_model: version is True, expected 1"),
        ({"version": "1"}, "create_model: version is '1', expected 1"),
        ({"format": "other"}, "create_model: format is 'other', expected 'plait'"),
    ],
)
def test_create_model_refuses_another_format_or_version(change, message):
    written = {**TINY, "format": "plait", "version": 1}  # as in the config.json of a saved model
    assert plait.create_model(written).config == plait.create_model(TINY).config
    with pytest.raises(ValueError, match=message):
        plait.create_model({**written, **change})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.encode_image(GREY[0, :7]), ValueError, r"images\[0\] has shape \(7, 8, 1\), expected \(8, 8, 1\)"),
        (lambda m: m.encode_image(GREY[:, :7]), ValueError, r"images\[0\] has shape \(5, 7, 8\), expected \(8, 8, 1\)"),
        (lambda m: m.encode_image(np.zeros((2, 8, 8, 3), np.uint8)), ValueError, r"images\[0\] has shape \(8, 8, 3\)"),
        (
            lambda m: m.encode_image(np.zeros((2, 2, 8, 8, 1), np.uint8)),
            ValueError,
            r"images has shape \(2, 2, 8, 8, 1",
        ),
        (
            lambda m: m.encode_image(GREY.astype(int)),
            TypeError,
            r"images\[0\] has dtype int64, expected uint8 or float",
        ),
        (lambda m: m.encode_image(np.full((1, 8, 8), None)), TypeError, r"images\[0\] has dtype object"),
        (lambda m: m.encode_image("cat.png"), ValueError, r"images\[0\] is a picture, but the model has no image proc"),
        (lambda m: m.encode_image(7), TypeError, "images is int, expected pictures"),
        (lambda m: m.encode_text("cat"), ValueError, "the model has no tokenizer"),
        (lambda m: m.encode_text(["cat"]), ValueError, "the model has no tokenizer"),
        (lambda m: m.encode_text([["cat"]]), TypeError, r"texts\[0\] has dtype"),
        (lambda m: m.encode_text([[1, 2.5]]), TypeError, r"texts\[0\] has dtype float64"),
        (lambda m: m.encode_text([1, [2]]), TypeError, r"texts\[0\] is int, expected a string or whole numbers"),
        (lambda m: m.encode_text(["cat", [1]]), TypeError, r"texts\[1\] is list beside str, expected strings only"),
        (lambda m: m.encode_text(7), TypeError, "texts is int"),
        (lambda m: m.encode_text([[1], [1] * 7]), ValueError, r"texts\[1\] has 7 tokens, expected at most 6"),
        (lambda m: m.encode_image([GREY[0], None]), TypeError, r"images\[1\] is NoneType, expected a picture"),
        (lambda m: m.encode_image(iter([GREY[0], None])), TypeError, r"images\[1\] is NoneType"),
        (lambda m: m.encode_image([GREY[0], [[1], [2, 3]]]), TypeError, r"images\[1\] is list"),
        (lambda m: m.encode_image([GREY[0], GREY[0, :7]]), ValueError, r"images\[1\] has shape \(7, 8, 1\), expect"),
        (lambda m: m.encode_text([[29], [], [1, 30]]), IndexError, r"encode_text: texts\[2\] holds 30, .* 0 to 29"),
        (lambda m: m.encode_text([[-1]]), IndexError, r"encode_text: texts\[0\] holds -1"),
        (lambda m: m.encode_text(plait.Stream(np.array([1, 2, 99]), [0, 2, 3])), IndexError, r"texts\[1\] holds 99"),
        (lambda m: m.encode_text(plait.Stream(np.zeros((2, 1), int), [0, 2])), ValueError, "whole numbers"),
        (lambda m: m.embed_texts([[1]], batch_size=0), ValueError, "batch_size is 0"),
    ],
)
def test_wrong_input_is_named(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


def test_embedding_in_batches_is_the_same_as_at_once(model):
    model.train()
    try:
        images, texts = model.embed_images(GREY, batch_size=2), model.embed_texts(TEXTS, batch_size=3)
        assert model.training
    finally:
        model.eval()
    with plait.no_grad():  # the same kernels: a recorded forward keeps what backward needs
        assert images.tobytes() == np.asarray(model.encode_image(GREY)).tobytes()
        assert texts.tobytes() == np.asarray(model.encode_text(TEXTS)).tobytes()
    assert type(images) is np.ndarray
    assert model.embed_images(GREY[:0]).shape == (0, 8)


def test_the_temperature_is_bounded_in_training_only():
    model = plait.create_model(tiny(max_logit_scale=20.0))
    assert model.logit_scale.shape == ()
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07), rel=1e-6)
    model.logit_scale.assign(np.float32(9.0))
    model.eval().encode_image(GREY)
    assert model.logit_scale.item() == 9.0
    model.train().encode_image(GREY)
    assert model.logit_scale.item() == pytest.approx(math.log(20), rel=1e-6)
    model.logit_scale.assign(np.float32(1.0))
    model.encode_text(TEXTS)
    assert model.logit_scale.item() == 1.0


def test_a_tokenizer_belongs_to_the_model(tmp_path):
    model = plait.create_model(TINY).eval()
    model.tokenizer = WordTokenizer(["small", "omega"], "abc")
    ids = model.tokenizer.encode(["small omega", "cab"])
    assert (
        np.asarray(model.encode_text(["small omega", "cab"])).tobytes() == np.asarray(model.encode_text(ids)).tobytes()
    )
    with pytest.raises(ValueError, match="7 tokens, expected at most 6"):
        model.encode_text(["abcabca"])
    with pytest.warns(UserWarning, match="1 texts were cut to 6 tokens, the first is number 0"):
        cut = model.encode_text(["abcabca"], truncate=True)
    assert cut.data.tobytes() == np.asarray(model.encode_text(["abcabc"])).tobytes()
    model.save(tmp_path / "m")
    again = plait.load(tmp_path / "m")
    assert again.tokenizer.to_json() == model.tokenizer.to_json()
    assert again.encode_text(["small cab"]).data.tobytes() == np.asarray(model.encode_text(["small cab"])).tobytes()
    with pytest.raises(ValueError, match="tokenizer has 41 ids, expected at most 30"):
        model.tokenizer = WordTokenizer([f"w{i}" for i in range(40)])


# ---------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    model = plait.create_model(TINY, seed=1)
    model.tokenizer = WordTokenizer(["small"])
    model.save(tmp_path / "model")
    return tmp_path / "model"


def rewrite(name, change):
    def apply(folder):
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return apply


def weights(change):
    def apply(folder):
        arrays = io.load_tensors(folder / "model.safetensors")
        change(arrays)
        io.save_tensors(folder / "model.safetensors", arrays)

    return apply


def cut(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


def linked(folder):
    (folder / "model.safetensors").rename(folder / "elsewhere")
    (folder / "model.safetensors").symlink_to("elsewhere")


def huge(data):
    data["config"]["text"]["vocabulary"] = 1 << 24
    data["config"]["text"]["width"] = 1 << 16


BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), FileNotFoundError, "config.json is missing"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), FileNotFoundError, "model.safetensors is missing"),
    "truncated weights": (cut, ValueError, "truncated"),
    "linked weights": (linked, ValueError, "model.safetensors: a link to .*, expected a regular file"),
    "missing tensor": (weights(lambda a: a.pop("text.positions")), KeyError, "tensor text.positions is missing"),
    "extra tensor": (weights(lambda a: a.update(evil=np.ones(3))), KeyError, "tensor evil is not part of the model"),
    "mis-shaped tensor": (
        weights(lambda a: a.update({"image.positions": np.ones((8, 4), np.float32)})),
        ValueError,
        r"image\.positions has shape \(8, 4\), expected \(4, 8\)",
    ),
    "whole numbers": (
        weights(lambda a: a.update({"image.positions": np.ones((4, 8), np.int32)})),
        ValueError,
        r"image\.positions has dtype int32, expected a floating dtype",
    ),
    "not JSON": (lambda f: (f / "config.json").write_text("{"), ValueError, "config.json: not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), ValueError, "expected an object"),
    "no type": (rewrite("config.json", lambda d: d.pop("type")), ValueError, "type is missing"),
    "other format": (rewrite("config.json", lambda d: d.update(format="x")), ValueError, "format is 'x'"),
    "later version": (rewrite("config.json", lambda d: d.update(version=2)), ValueError, "version is 2, expected 1"),
    "version true": (rewrite("config.json", lambda d: d.update(version=True)), ValueError, "version is True"),
    "unknown key": (rewrite("config.json", lambda d: d.update(auto_map="x")), ValueError, "auto_map is unknown"),
    "unknown deep key": (
        rewrite("config.json", lambda d: d["config"]["image"].update(module="os")),
        ValueError,
        r"config\.image\.module is unknown",
    ),
    "unknown type": (
        rewrite("config.json", lambda d: d.update(type="builtins.eval")),
        ValueError,
        "expected one of dual",
    ),
    "absurd size": (rewrite("config.json", huge), ValueError, "describes a model of"),
    "other size": (
        rewrite("config.json", lambda d: d["config"]["image"].update(layers=2)),
        KeyError,
        r"image\.encoder\.blocks\.1\..* is missing",
    ),
    "tokenizer of another kind": (
        rewrite("tokenizer.json", lambda d: d.update(type="pickle")),
        ValueError,
        "tokenizer.json: type is 'pickle'",
    ),
    "tokenizer with numbers": (rewrite("tokenizer.json", lambda d: d.update(words=[1])), ValueError, "tokenizer.json"),
    "tokenizer too large": (
        rewrite("tokenizer.json", lambda d: d.update(words=[f"w{i}" for i in range(40)])),
        ValueError,
        "expected at most 30",
    ),
    "pipe": (lambda f: ((f / "tokenizer.json").unlink(), os.mkfifo(f / "tokenizer.json")), ValueError, "regular file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_an_exception(name, folder):
    change, error, message = BROKEN[name]
    change(folder)
    with pytest.raises(error, match=message) as raised:
        plait.load(folder)
    assert str(raised.value).startswith(f"{folder}: ")  # a KeyError, too, without quotes around it


def test_no_folder_is_an_exception(tmp_path, monkeypatch):
    for folder in (None, 3, b"model", ["model"]):
        with pytest.raises(TypeError, match=f"load: folder is {type(folder).__name__}, expected the path"):
            plait.load(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"downloads nothing.*hf download openai/clip-vit --local-dir clip-vit"):
        plait.load("openai/clip-vit")
    with pytest.raises(FileNotFoundError, match=r"absent: no such folder.*hf download OWNER/NAME"):
        plait.load("absent")
    with pytest.raises(FileNotFoundError, match="absent"):
        plait.load(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected the folder of a model"):
        plait.load(tmp_path / "file")


def test_saving_over_a_model_replaces_it_whole_and_nothing_else(folder, tmp_path):
    other = plait.create_model(TINY, seed=2)  # without a tokenizer
    other.save(folder)
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert plait.load(folder).tokenizer is None
    np.testing.assert_array_equal(plait.load(folder).image.positions.data, other.image.positions.data)
    (folder / "notes.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        other.save(folder)
    with pytest.raises(TypeError, match="Linear has no configuration"):
        plait.nn.Linear(2, 2).save(tmp_path / "linear")
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_another_precision_become_float32(folder, dtype):
    import ml_dtypes

    narrow = {"bfloat16": ml_dtypes.bfloat16}.get(dtype, dtype)
    before = plait.load(folder).state_dict()
    weights(lambda a: a.update({k: v.astype(narrow) for k, v in a.items()}))(folder)
    after = plait.load(folder).state_dict()
    for name, array in after.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, before[name].astype(narrow).astype(np.float32))


def test_an_image_processor_is_saved_with_the_model(tmp_path):
    pytest.importorskip("PIL", reason="pictures are processed with Pillow")
    model = plait.create_model(tiny({"channels": 3}), seed=1).eval()
    model.processor = plait.processing.ImageProcessor(8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    picture = np.random.default_rng(0).integers(0, 256, (13, 20, 3), np.uint8)
    model.save(tmp_path / "m")
    again = plait.load(tmp_path / "m")
    np.testing.assert_array_equal(again.encode_image(picture), model.encode_image(picture))
    model.processor = None
    model.save(tmp_path / "m")
    assert plait.load(tmp_path / "m").processor is None
    model.processor = plait.processing.ImageProcessor(8, mode="longest")
    with pytest.raises(ValueError, match="longest"):
        model.save(tmp_path / "m")
    assert plait.load(tmp_path / "m").processor is None  # nothing was half-written


def test_siglips_tokenizer_knows_more_ids_than_its_model():
    """32,100 ids beside 32,000 rows where the folder names T5's tokenizer; an id that the model lacks is named."""
    pieces = Path(__file__).parent.parent.parent / "shared/data/tokenizers/t5_spiece.model"
    if not pieces.exists():
        pytest.skip("the pieces of T5 are not beside the checkout")
    pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    model = plait.create_model(tiny({}, {"vocabulary": 2000}), seed=1).eval()
    model._later = (io.folder.HeldFolder("folder", {"spiece.model": pieces.read_bytes()}), "siglip", False)
    assert len(model.tokenizer) > model.config.text.vocabulary
    ids = model.tokenizer.encode(["the"])
    np.testing.assert_array_equal(model.encode_text(["the"]), model.encode_text(ids))
    with pytest.raises(IndexError, match=r"texts\[1\] holds \d+, expected ids from 0 to 1999"):
        model.encode_text(["the", "photosynthesis"])
