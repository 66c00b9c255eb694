"""Zero-shot with vectors in place of pictures: of any length, and of no other width."""

import numpy as np
import pytest
from small_models import dual, pictures, tokenizer

import plait

LABELS = ["cat", "red dog", "cow"]


@pytest.fixture
def model():
    return dual()


@pytest.mark.parametrize("bias", [False, True])
def test_zero_shot_of_vectors_of_any_length(bias):
    model, images = dual(logit_bias=bias), pictures(5)
    due = model.zero_shot(images, LABELS)
    raw = model.encode_image(images, normalize=False)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="it makes the bfloat16 arrays")
    raw[3] *= 1000
    for x, off in ((raw, 1e-5), (raw.astype(np.float64), 1e-5), (plait.Tensor(raw), 1e-5), (raw.astype("f2"), 0.02),
                   (raw.astype(ml_dtypes.bfloat16), 0.1)):  # fmt: skip
        np.testing.assert_allclose(model.zero_shot(x, LABELS), due, rtol=off, atol=1e-6)
    np.testing.assert_allclose(model.zero_shot(raw[3], LABELS), due[3], rtol=1e-5)
    assert not model.zero_shot(np.zeros((2, 16)), LABELS).any()


@pytest.mark.parametrize(
    "x",
    [
        np.ones((4, 15), np.float32), np.ones((2, 512)), np.ones((2, 16), np.int8), np.ones(16, np.int8),
        np.ones(17, np.float32), np.ones((16, 17), np.float16), plait.Tensor(np.ones((4, 15), np.float32)),
    ],
    ids=lambda x: f"{x.dtype}{x.shape}",
)  # fmt: skip
def test_what_zero_shot_refuses_as_vectors(model, x):
    with pytest.raises(ValueError, match=rf"images has shape .{x.shape[0]},.*dtype {x.dtype}, expected .*\(n, 16\)"):
        model.zero_shot(x, LABELS)


def test_grey_pictures_are_no_vectors(model):
    grey = np.random.default_rng(5).integers(0, 256, (20, 30), dtype=np.uint8)
    assert model.zero_shot(grey, LABELS).shape == (3,)
    np.testing.assert_array_equal(model.zero_shot([grey / 255], LABELS)[0], model.zero_shot(grey, LABELS))
    small = plait.create_model("glyph-tiny", seed=0).eval()
    small.tokenizer = tokenizer()
    assert small.zero_shot(np.zeros((32, 32), np.float32), LABELS).shape == (3,)  # of the model's own size
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            model.zero_shot(np.full((1, 16), value), LABELS)
