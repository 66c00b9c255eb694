"""plait.quantize: cosines against those written down apart, limits, samples of every kind, and a model left alone."""

import numpy as np
import pytest

import plait
from plait import _core, nn
from plait.quantization import Quantized

pytestmark = pytest.mark.filterwarnings("ignore:.*this processor has no instructions")
RNG = np.random.default_rng(0)
PICTURES = RNG.random((6, 32, 32), dtype=np.float32)
IDS = [[5, 6, 7], [8], [9, 10, 11, 12]]
WORDS = ["a small letter", "a big letter"]


def skip_without(precision):
    if not _core.has(precision):
        pytest.skip(f"this processor has no instructions for {precision}")


@pytest.fixture(scope="module")
def dual():
    model = plait.create_model("glyph-tiny")
    model.tokenizer = plait.data.WordTokenizer.train(WORDS)
    return model


def text_encoder():
    tower = {"vocabulary": 30, "length": 8, "width": 32, "layers": 2, "heads": 2}
    return plait.create_model({"type": "text_encoder", "config": {"text": tower}})


def image_encoder():
    tower = {"size": 16, "patch": 8, "width": 32, "layers": 2, "heads": 2}
    return plait.create_model({"type": "image_encoder", "config": {"image": tower}})


def cosine(a, b):
    return [float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y))) for x, y in zip(a, b, strict=True)]


class Two(nn.Module):
    """Gives what it is told to: a function of the layer's rows."""

    def __init__(self, give):
        super().__init__()
        self.layer, self.give = nn.Linear(8, 6), give

    def forward(self, *inputs):
        return self.give(self.layer, *inputs)


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_cosines_are_those_of_the_vectors(dual, precision):
    skip_without(precision)
    result = plait.quantize(dual, {"images": PICTURES, "texts": IDS}, precision)
    assert isinstance(result, Quantized) and result.precision == result.model.precision == precision
    exact, low = plait.create_model("glyph-tiny").eval(), result.model
    expected = {
        "images": cosine(exact.encode_image(PICTURES), low.encode_image(PICTURES)),
        "texts": cosine(exact.encode_text(IDS), low.encode_text(IDS)),
    }
    assert list(result.cosines) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(result.cosines[name], values, atol=1e-6)
    everything = expected["images"] + expected["texts"]
    assert result.worst == pytest.approx(min(everything), abs=1e-6)
    assert result.mean == pytest.approx(np.mean(everything), abs=1e-6)
    assert 0.99 < result.worst < 1 - 1e-7  # rounding shows, or the test tested nothing
    text = str(result)
    assert f"DualEncoder in {precision}: cosine with float32 {result.mean:.5f}" in text
    assert "among 6 images" in text and "among 3 texts" in text and text in repr(result)
    assert result.quantized


SAMPLES = {
    "pictures": (plait.create_model, "glyph-tiny", {"images": list(PICTURES)}, {"images": 6}),
    "a generator of pictures": (plait.create_model, "glyph-tiny", {"images": (p for p in PICTURES)}, {"images": 6}),
    "texts": (plait.create_model, "glyph-tiny", {"texts": IDS}, {"texts": 3}),
    "an image encoder": (image_encoder, None, np.zeros((5, 16, 16, 3), np.uint8), {"samples": 5}),
    "a text encoder": (text_encoder, None, [[1, 2], [3]], {"samples": 2}),
    "a generator for a text encoder": (text_encoder, None, iter([[1, 2], [3]]), {"samples": 2}),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_of_models_that_encode(name):
    make, argument, samples, counts = SAMPLES[name]
    result = plait.quantize(make() if argument is None else make(argument), samples, limit=0.5)
    assert {key: len(c) for key, c in result.cosines.items()} == counts


def test_a_list_of_strings(dual):
    assert list(plait.quantize(dual, WORDS).cosines) == ["texts"]


X = RNG.standard_normal((5, 8)).astype(np.float32)
OUTPUTS = {
    "tensor": (lambda f, x: f(x), 5),
    "array": (lambda f, x: f(x).data, 5),
    "three dimensions": (lambda f, x: plait.ops.reshape(f(x), (5, 2, 3)), 10),
    "stream": (lambda f, x: plait.Stream(f(x), [0, 2, 2, 5]), 5),
    "tuple": (lambda f, x: (f(x), [plait.Stream(f(x), [0, 5]), f(x).data]), 15),
    "one number a row": (lambda f, x: f(x)[:, :1], 1),
    "one number": (lambda f, x: plait.ops.sum(f(x)), 1),
    "no rows in one of two": (lambda f, x: (f(x), f(x)[:0]), 5),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_of_other_modules(name):
    give, count = OUTPUTS[name]
    result = plait.quantize(Two(give), [X, X], "bf16")
    assert result.cosines["outputs"].shape == (2 * count,)
    assert 0.999 < result.worst <= 1 + 1e-9


def test_batches_are_read_once_and_tuples_are_arguments():
    model = Two(lambda f, x, y: plait.ops.add(f(x), y))
    batches = ((X[i : i + 1], np.ones((1, 6), np.float32)) for i in range(4))
    assert plait.quantize(model, batches, "bf16").cosines["outputs"].shape == (4,)
    stream = plait.Stream(RNG.standard_normal((7, 16)).astype(np.float32), [0, 3, 7])
    assert plait.quantize(nn.Encoder(2, 16, 4), [stream], "bf16").cosines["outputs"].shape == (7,)


def test_zeros_and_what_is_no_number(dual):
    """An absent text is zeros in both; a model whose lower twin breaks down scores zero."""
    result = plait.quantize(dual, {"texts": [[5, 6], []]})
    assert result.cosines["texts"][1] == 1
    for bad in (np.nan, np.inf, 0.0):
        model = Two(lambda f, x, bad=bad: f(x).data * (1 if f.precision == "f32" else np.float32(bad)))
        assert plait.quantize(model, [X], below="ignore").worst == 0
    opposite = Two(lambda f, x: f(x).data * (1 if f.precision == "f32" else -1))
    assert plait.quantize(opposite, [X], below="ignore").worst < -0.99


# ---------------------------------------------------------------- limits


def worse(f, x):
    """One row of five turns away in lower precision."""
    y = np.array(f(x).data)
    if f.precision != "f32":
        y[3:4] = 1
    return y


def test_below_the_limit():
    model = Two(worse)
    message = (
        r"worst row of outputs \(number 3 of 5\) has cosine .* 1 of all are below the limit of 0.99; try precision"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        result = plait.quantize(model, [X])
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match=message):
        plait.quantize(model, [X], below="raise")
    with pytest.raises(ValueError, match="keep float32"):
        plait.quantize(model, [X], "bf16", below="raise")
    assert plait.quantize(model, [X], below="ignore").worst == result.worst < 0.99
    assert plait.quantize(model, [X[:3]]).worst > 0.99


def test_limits_and_samples_of_other_types(dual):
    tensor = plait.Tensor(PICTURES)
    result = plait.quantize(dual, {"images": tensor}, "bf16", limit=np.float32(0.5))
    same = plait.quantize(dual, {"images": PICTURES}, "bf16")
    np.testing.assert_array_equal(result.cosines["images"], same.cosines["images"])
    skip_without("bf16")  # two models of the same bits differ by rounding of the cosine at most
    with pytest.warns(UserWarning, match="below the limit of 1;"):
        plait.quantize(Two(lambda f, x: f(x)), [X], "bf16", limit=np.int64(1))


def test_a_cosine_below_the_limit_is_not_rounded_up_to_it():
    skip_without("bf16")
    with pytest.warns(UserWarning, match=r"has cosine 0\.999\d+ with .* below the limit of 1;"):
        plait.quantize(Two(lambda f, x: f(x)), [X], "bf16", limit=1)


# ---------------------------------------------------------------- the model stays as it is


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_alone(training, fails):
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 4)).train(training)
    modules = [m for _, m in model.named_modules()]
    modules[1].training = not training
    weights = {name: np.array(a) for name, a in model.state_dict().items()}
    modes = [m.training for m in modules]
    if fails:
        with pytest.raises(ValueError, match="linear"):
            plait.quantize(model, [X, X[:, :5]])
    else:
        assert plait.quantize(model, [X]).worst > 0.9  # without dropout in either
    assert [m.training for m in modules] == modes
    assert model.precision == "f32" and all(p.requires_grad for p in model.parameters())
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, weights[name])
    assert plait.tensor.grad_enabled()


# ---------------------------------------------------------------- errors

LAYER = nn.Linear(8, 6)
WRONG = [
    (lambda d: plait.quantize(3, []), TypeError, "model is int, expected a Module"),
    (lambda d: plait.quantize(LAYER, [X], "fp8"), ValueError, "precision is 'fp8', expected 'bf16'"),
    (lambda d: plait.quantize(LAYER, [X], "f32"), ValueError, "precision is 'f32'"),
    (lambda d: plait.quantize(LAYER, [X], ["int8"]), ValueError, r"precision is \['int8'\]"),
    (lambda d: plait.quantize(LAYER.to("bf16"), [X]), RuntimeError, "the model is in bf16 already"),
    (lambda d: plait.quantize(LAYER, [X], limit=0), ValueError, "limit is 0, expected a number above 0 and at most 1"),
    (lambda d: plait.quantize(LAYER, [X], limit=True), ValueError, "limit is True"),
    (lambda d: plait.quantize(LAYER, [X], limit=np.nan), ValueError, "limit is nan"),
    (lambda d: plait.quantize(LAYER, [X], limit="0.9"), ValueError, "limit is '0.9'"),
    (lambda d: plait.quantize(LAYER, [X], below="stop"), ValueError, "below is 'stop', expected 'warn', 'raise'"),
    (lambda d: plait.quantize(LAYER, []), ValueError, "samples give no rows of output"),
    (lambda d: plait.quantize(LAYER, [X[:0]]), ValueError, "samples give no rows of output"),
    (
        lambda d: plait.quantize(LAYER, X),
        TypeError,
        r"samples is ndarray, expected batches for a Linear, such as \[arr",
    ),
    (lambda d: plait.quantize(LAYER, 5), TypeError, "samples is int, expected batches"),
    (lambda d: plait.quantize(LAYER, None), TypeError, "samples is NoneType, expected batches"),
    (lambda d: plait.quantize(LAYER, "abc"), TypeError, "samples is str, expected batches"),
    (
        lambda d: plait.quantize(LAYER, [X * np.nan]),
        ValueError,
        "float32 model gives outputs with numbers that are not",
    ),
    (lambda d: plait.quantize(Two(lambda f, x: 3), [X]), TypeError, "the model gives a int, expected arrays"),
    (lambda d: plait.quantize(Two(lambda f, x: np.arange(3)), [X]), TypeError, "the model gives an array of int64"),
    (lambda d: plait.quantize(d, {}), ValueError, r"samples has keys \[\], expected 'images', 'texts' or both"),
    (lambda d: plait.quantize(d, {"sounds": [1]}), ValueError, r"samples has keys \['sounds'\]"),
    (lambda d: plait.quantize(d, {"texts": []}), ValueError, "texts is empty, expected at least one sample"),
    (lambda d: plait.quantize(d, {"images": []}), ValueError, "images is empty"),
    (lambda d: plait.quantize(d, {"texts": "one"}), TypeError, "texts is str, expected a list of samples"),
    (lambda d: plait.quantize(d, {"images": 5}), TypeError, "images is int, expected a list of samples"),
    (lambda d: plait.quantize(d.text, IDS), TypeError, "TextTower: ids is list, expected a Stream of token ids"),
    (lambda d: plait.quantize(d, PICTURES), TypeError, "samples is ndarray, expected {'images'.*for a DualEncoder"),
    (lambda d: plait.quantize(d, []), TypeError, "samples is list, expected {'images'"),
    (lambda d: plait.quantize(d, {"texts": [[99999]]}), IndexError, "encode_text"),
    (
        lambda d: plait.quantize(text_encoder(), {"texts": [[1]]}),
        TypeError,
        "samples is dict, expected a list of samples",
    ),
    (lambda d: plait.quantize(text_encoder(), []), ValueError, "samples is empty"),
    (lambda d: plait.quantize(text_encoder(), ["words"]), ValueError, "has no tokenizer"),
]


@pytest.mark.parametrize("row", range(len(WRONG)))
def test_errors(dual, row):
    call, error, message = WRONG[row]
    with pytest.raises(error, match=message):
        call(dual)


def test_errors_of_a_batch_say_which():
    encoder, batch = nn.Encoder(1, 16, 4), np.ones((2, 3, 16), np.float32)
    with pytest.raises(ValueError, match="Encoder: x has rows of width 12, expected 16") as error:
        plait.quantize(encoder, [batch, batch[:, :, :12]])
    assert error.value.__notes__ == ["in samples[1] of plait.quantize"]


def test_a_processor_without_the_instructions_says_so(monkeypatch):
    monkeypatch.setattr(_core, "has", lambda precision: False)
    message = "quantize: this processor has no instructions for int8; the model computes in float32"
    with pytest.warns(UserWarning, match=message) as caught:
        result = plait.quantize(LAYER, [X])
    assert [w.filename for w in caught] == [__file__]
    assert result.worst == pytest.approx(1, abs=1e-12) and not result.quantized
    assert str(result) == (
        "Linear: nothing was quantised, this processor has no instructions for int8; the model computes in float32"
    )
