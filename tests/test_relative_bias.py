"""Attention that knows how far two tokens are from each other: buckets, texts of any lengths, training, folders."""

import numpy as np
import pytest

import plait
from plait.models.positions import buckets

TOWER = {"vocabulary": 50, "length": 150, "width": 16, "layers": 2, "heads": 2, "relative_bias": True}
MODEL = {"type": "text_encoder", "config": {"text": TOWER}}


def bucket(distance):
    """As T5's authors write it, in whole numbers: the k-th of the wide ones begins at 8 * 2^(k / 2)."""
    far = abs(distance)
    place = far if far < 8 else 8 + sum(far**2 >= 64 * 2**k for k in range(1, 8))
    return place + 16 * (distance > 0)


@pytest.mark.parametrize("length", [0, 1, 2, 9, 400])
def test_buckets(length):
    due = [[bucket(key - query) for key in range(length)] for query in range(length)]
    np.testing.assert_array_equal(buckets(length), np.array(due, int).reshape(length, length))


@pytest.fixture
def model():
    made = plait.create_model(MODEL, seed=3).eval()
    made.text.relative.assign(np.random.default_rng(0).standard_normal((2, 32)))
    return made


def texts(lengths):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 50, n) for n in lengths]


def test_a_text_is_the_same_alone_and_among_others(model):
    some = texts([150, 1, 0, 40, 2, 7])
    rows = model.encode(some)
    assert not rows[2].any() and rows[[0, 1, 3, 4, 5]].any(axis=1).all()
    for text, row in zip(some, rows, strict=True):
        np.testing.assert_allclose(model.encode(text), row, rtol=0, atol=1e-6)


def test_it_is_the_bias_of_attention(model):
    """The rows of the first block against the operator, given the whole table."""
    (ids,) = texts([100])
    due = model([ids]).rows.data
    relative = model.text.relative
    table = relative.data[:, buckets(100)]
    x = plait.Stream(model.text.tokens.weight.data[ids] + model.text.positions.data[:100], [0, 100])
    for block in model.text.encoder.blocks:
        x = block(x, bias=table)
    np.testing.assert_allclose(due, model.text.encoder.norm(x).rows.data, rtol=0, atol=1e-5)
    relative.assign(np.zeros((2, 32)))
    assert abs(model([ids]).rows.data - due).max() > 0.01


def test_its_gradient_is_that_of_central_differences(model):
    some, factors = texts([100, 3, 12]), np.random.default_rng(2).standard_normal((3, 16)).astype(np.float32)
    relative = model.text.relative
    values = relative.data.copy()
    plait.ops.sum(model.train().encode(some) * factors).backward()
    model.eval()

    def loss(place, step):
        changed = values.copy()
        changed[place] += step
        relative.assign(changed)
        return (model.encode(some).astype(np.float64) * factors).sum()

    for place in [(0, 0), (1, 1), (0, 18), (1, 15), (0, 31)]:
        slope = (loss(place, 0.02) - loss(place, -0.02)) / 0.04
        assert relative.grad[place] == pytest.approx(slope, rel=0.02, abs=1e-4) and abs(slope) > 1e-3, place


def test_it_belongs_before_the_blocks(model):
    assert model.text.depth_of("relative") == 0
    model.text.freeze_except_last(1)
    assert not model.text.relative.requires_grad
    assert model.config.count_parameters() == sum(p.data.size for p in model.parameters())


def test_it_is_saved(model, tmp_path):
    model.save(tmp_path / "m")
    some = texts([5, 130])
    np.testing.assert_array_equal(plait.load(tmp_path / "m").encode(some), model.encode(some))
