"""Encode in training: tensors on the tape, gradients that reach every parameter of every option, what is refused."""

import numpy as np
import pytest
from small_models import TEXT, dual, image_encoder, pictures, processed, text_encoder

import plait

RNG = np.random.default_rng(0)
IDS = [[1, 2, 3, 7], [4], [59, 0, 7], [5, 6, 58, 2, 9]]
CLASS = {"class_token": True, "pool": "first"}
IMAGES = {
    "mean": {},
    "max": {"pool": "max"},
    "last": {"pool": "last"},
    "class token": CLASS,
    "registers": {**CLASS, "registers": 3},
    "registers without class token": {"registers": 2},
    "flatten with both": {**CLASS, "registers": 2, "pool": "flatten"},
    "layer scale": {"layer_scale": True},
    "gated": {"gated": True, "hidden": 11},
    "gated, scaled": {**CLASS, "gated": True, "layer_scale": True, "layers": 2},
    "map": {"pool": "map"},
    "map, post-norm": {"pool": "map", "pre_norm": False},
    "no qkv bias": {"qkv_bias": False},
    "post-norm": {"pre_norm": False},
    "norm of the result": {**CLASS, "last_norm": "pooled", "input_norm": True, "patch_bias": False},
    "crop": {"size": 18, "crop": True},
    "mean and deviation": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]},
    "tanh": {"activation": "gelu_tanh", "eps": 1e-6, "hidden": 5},
    "xavier": {"init": "xavier"},
}
TEXTS = {
    "mean": {},
    "max": {"pool": "max"},
    "end": {"pool": "end", "causal": True},
    "end by id": {"pool": "end", "causal": True, "end_id": 7},
    "end, not causal": {"pool": "end"},
    "types": {"types": 2, "input_norm": True, "pre_norm": False},
    "first position": {"first_position": 2},
    "filled": {"pad_id": 1, "pool": "last"},
    "filled, end": {"pad_id": 59, "pool": "end", "causal": True},
    "quick": {"activation": "quick_gelu", "layers": 2},
    "projection bias": {"projection_bias": True},
}
HEADS = {
    "pooled": {},
    "several": {"pooling": ["first", "mean", "max"]},
    "weighted": {"pooling": ["weighted_mean", "mean_sqrt"]},
    "end": {"pooling": ["end"]},
    "end and mean, filled": {"text": {"pad_id": 3}, "pooling": ["end", "mean"]},
    "dense": {"heads": [{"kind": "dense", "width": 6, "activation": "tanh"}, {"kind": "normalize"}]},
    "layer norm": {"heads": [{"kind": "layer_norm"}, {"kind": "dense", "width": 5, "bias": False}]},
}
PLAIN_TEXTS = [n for n in TEXTS if n != "projection bias"]


def rows():
    """(name, model, function that encodes) for every option of every family."""
    for name, image in IMAGES.items():
        size = image.get("size", 16)
        x = processed(4) if size == 16 else RNG.standard_normal((4, 3, size, size), dtype=np.float32)
        yield f"image {name}", lambda i=image: dual(i), lambda m, x=x: m.encode_image(x, normalize=False)
        if name != "projection bias":
            yield f"image encoder {name}", lambda i=image: image_encoder(i), lambda m, x=x: m.encode(x)
    embedded = processed(4)
    yield "image encoder embed_dim", lambda: image_encoder(embed_dim=5), lambda m: m.encode(embedded)
    for name, text in TEXTS.items():
        yield f"text {name}", lambda t=text: dual({}, t), lambda m: m.encode_text(IDS, normalize=False)
    for name in PLAIN_TEXTS:
        text = {k: v for k, v in TEXTS[name].items() if k != "pool"}
        yield f"text encoder {name}", lambda t=text: text_encoder(t), lambda m: m.encode(IDS)
    for name, top in HEADS.items():
        text, top = top.get("text", {}), {k: v for k, v in top.items() if k != "text"}
        yield f"heads {name}", lambda t=text, k=top: text_encoder(t, **k), lambda m: m.encode(IDS)


ROWS = {name: row for name, *row in rows()}


def trained(model, name):
    """The parameters that this row trains, away from their initial zeros and ones."""
    tower = {"image": "image.", "text": "text."}.get(name.split()[0]) if "encoder" not in name else None
    found = {n: p for n, p in model.named_parameters() if tower is None or n.startswith(tower)}
    rng = np.random.default_rng(5)
    for p in found.values():
        p.assign(p.data + 0.2 * rng.standard_normal(p.shape))
    return found


@pytest.mark.parametrize("name", ROWS)
def test_gradients_reach_every_parameter_and_are_right(name):
    make, encode = ROWS[name]
    model = make()
    assert model.count_parameters() == model.config.count_parameters()
    found = trained(model, name)
    still = encode(model)
    assert type(still) is np.ndarray and still.dtype == np.float32
    assert still.shape == (4, getattr(model.config, "width", 16))
    model.train()
    out = encode(model)
    assert type(out) is plait.Tensor and out.requires_grad
    np.testing.assert_allclose(out.data, still, rtol=0, atol=1e-5)  # nothing is dropped here
    weights = np.random.default_rng(6).standard_normal(out.shape).astype(np.float32)
    (out * weights).sum().backward()
    assert [n for n, p in found.items() if p.grad is None or not np.isfinite(p.grad).all() or not p.grad.any()] == []
    check_slope(model, encode, found, weights)


def check_slope(model, encode, found, weights):
    """The slope along a direction in which every parameter moves, by differences of what evaluation computes."""
    rng = np.random.default_rng(7)
    norm = {n: np.linalg.norm(p.grad) for n, p in found.items()}
    along = {
        n: p.grad / norm[n] + 0.3 * rng.standard_normal(p.shape).astype(np.float32) / np.sqrt(p.size)
        for n, p in found.items()
    }
    due = sum(float((p.grad.astype(np.float64) * along[n]).sum()) for n, p in found.items())
    model.eval()
    values, before = [], {n: p.data.copy() for n, p in found.items()}
    for step in (2e-3, -2e-3):
        for n, p in found.items():
            p.assign(before[n] + step * along[n])
        values.append(float((encode(model).astype(np.float64) * weights).sum()))
    slope = (values[0] - values[1]) / 4e-3
    assert abs(slope - due) <= 0.02 * abs(due) + 0.02


def test_types_and_positions_beyond_the_texts_get_no_gradient():
    model = dual({}, {"types": 3, "first_position": 2}).train()
    model.encode_text([[1, 2, 3]]).sum().backward()
    model.encode_text([[1, 2, 3]]).sum().backward()
    text = model.text
    assert text.types.grad[0].any() and not text.types.grad[1:].any()
    assert text.positions.grad[2:5].any(axis=1).all()
    assert not text.positions.grad[[0, 1, *range(5, TEXT["length"] + 2)]].any()


# ---------------------------------------------------------------- what goes in and comes out


@pytest.mark.parametrize("training", [False, True])
def test_a_tensor_gives_a_tensor_and_gets_a_gradient(training):
    model = dual().train(training)
    raw = RNG.random((2, 16, 16, 3), dtype=np.float32)
    for x in (processed(2), raw, processed(2).astype(np.float64)):
        pixels = plait.Tensor(x, requires_grad=True)
        out = model.encode_image(pixels)
        assert type(out) is plait.Tensor and out.shape == (2, 16)
        assert out.dtype == np.float32  # the weights are
        np.testing.assert_allclose(np.linalg.norm(out.data, axis=1), 1, rtol=1e-6)
        out.sum().backward()
        assert pixels.grad.shape == x.shape and pixels.grad.dtype == x.dtype
        assert np.abs(pixels.grad).max() > 0
    with plait.no_grad():
        np.testing.assert_allclose(out.data, model.encode_image(plait.Tensor(x)).data, rtol=0, atol=1e-6)


def test_what_a_tensor_of_pixels_means():
    """Processed if it is (B, 3, S, S), else from 0 to 1 and normalised by the configuration, as arrays are."""
    model = image_encoder({"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]})
    raw = RNG.random((3, 16, 16, 3), dtype=np.float32)
    values = ((raw - np.float32([0.1, 0.2, 0.3])) / np.float32([0.5, 0.6, 0.7])).transpose(0, 3, 1, 2)
    due = model.encode(raw)
    for x in (values, plait.Tensor(values), plait.Tensor(raw), np.uint8(0) + raw.astype(np.float64)):
        got = model.encode(x)
        np.testing.assert_allclose(got.data if isinstance(got, plait.Tensor) else got, due, rtol=0, atol=2e-6)


def test_training_takes_what_evaluation_takes():
    model, images, texts = dual(), pictures(3), ["a cat", "dog", ""]
    seen, read = model.encode_image(images), model.encode_text(texts)
    model.train()
    for given in (images, tuple(images), iter(images)):
        np.testing.assert_allclose(model.encode_image(given).data, seen, rtol=0, atol=1e-6)
    ids = model.tokenizer.encode(texts)
    stream = plait.Stream(np.concatenate(ids), np.cumsum([0, *map(len, ids)]))
    for given in (texts, tuple(texts), iter(texts), np.array(texts), ids, iter(ids), stream):
        np.testing.assert_allclose(model.encode_text(given).data, read, rtol=0, atol=1e-6)
    assert model.encode_text([]).shape == model.encode_image([]).shape == (0, 16)
    encoder = text_encoder()
    encoder.prompts = {"query": "query: "}
    due = encoder.encode(["query: cat", "query: a dog"])
    got = encoder.train().encode(iter(["cat", "a dog"]), prompt_name="query")
    np.testing.assert_allclose(got.data, due, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.encode_text("cat"), TypeError, "encode_text: texts is one text, expected a list"),
        (lambda m: m.encode_text([1, 2]), TypeError, "texts is one text"),
        (lambda m: m.encode_text(np.array([1, 2])), TypeError, "texts is one text"),
        (lambda m: m.encode_image(pictures(1)[0]), ValueError, "encode_image: images is one picture, expected a list"),
        (lambda m: m.encode_image(processed(1)[0]), ValueError, "images is one picture"),
        (lambda m: m.encode_text([[1]], precision="int8"), ValueError, "for evaluation, see model.eval"),
        (lambda m: m.encode_image(processed(1), truncate_dim=3), ValueError, "for evaluation, see model.eval"),
        (lambda m: m.encode_image([pictures(1)[0], b"x"]), ValueError, r"images\[1\]: bytes of 1"),
        (
            lambda m: m.encode_image([plait.Tensor(x, True) for x in processed(2)]),
            TypeError,
            r"images\[0\] is a Tensor",
        ),
        (lambda m: m.encode_text([[1], [60]]), IndexError, r"texts\[1\] holds 60"),
        (lambda m: m.encode_image(plait.Tensor(np.zeros((16, 16, 3)))), ValueError, r"images has shape \(16, 16, 3\)"),
    ],
)
def test_what_training_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call(dual().train())


# ---------------------------------------------------------------- the stream of last hidden states


@pytest.mark.parametrize("training", [False, True])
def test_a_model_of_one_tower_gives_its_last_hidden_states(training):
    encoder, seer = text_encoder().train(training), image_encoder().train(training)
    due = [encoder([ids]).rows.data for ids in IDS]
    texts = plait.Stream(np.concatenate(IDS), np.cumsum([0, *map(len, IDS)]))
    for given in (IDS, [np.array(i) for i in IDS], iter(IDS), texts):
        states = encoder(given)
        assert states.lengths.tolist() == [4, 1, 3, 5]
        np.testing.assert_allclose(states.rows.data, np.concatenate(due), rtol=0, atol=1e-6)
    assert encoder(["a cat", ""]).lengths.tolist() == [2, 0]
    x = processed(3)
    for given in (x, list(x), iter(x), plait.Tensor(x), x.astype(np.float64)):
        states = seer(given)
        assert states.lengths.tolist() == [4] * 3 and states.grid == (2, 2)
        pooled = np.stack([s.mean(axis=0) for s in np.split(states.rows.data, 3)])
        vectors = seer.eval().encode(x)
        seer.train(training)
        np.testing.assert_allclose(pooled, vectors, rtol=0, atol=1e-6)


@pytest.mark.parametrize("given", ["a cat", [1, 2], np.array([1, 2])])
def test_one_text_is_no_batch(given):
    with pytest.raises(TypeError, match="forward: texts is one text, expected a list"):
        text_encoder()(given)


def test_errors_of_a_called_model_name_it():
    with pytest.raises(IndexError, match=r"forward: texts\[1\] holds 60"):
        text_encoder()([[1], [60]])
    with pytest.raises(TypeError, match=r"forward: texts is a stream of tensors"):
        text_encoder()(plait.Stream(plait.Tensor(np.zeros((2, 3))), [0, 2]))
    with pytest.raises(ValueError, match=r"forward: images has shape \(1, 15, 16, 3\)"):
        image_encoder()(np.zeros((1, 15, 16, 3), np.uint8))
