"""The glyph data set, its augmentation, and the word tokenizer."""

import json
import unicodedata

import numpy as np
import pytest

from plait.data import WordTokenizer, glyphs


@pytest.fixture(scope="module")
def data():
    return glyphs.load()


# ---------------------------------------------------------------- glyphs


def test_the_set_has_one_picture_a_name(data):
    assert 5000 < len(data) < 5600  # fonts and Unicode grow
    assert data.images.shape == (len(data), 32, 32)
    assert data.images.dtype == np.uint8
    assert (np.diff(data.codepoints) > 0).all()
    assert data.names == [unicodedata.name(chr(c)).lower() for c in data.codepoints]
    assert len({image.tobytes() for image in data.images}) == len(data)
    assert data.images.reshape(len(data), -1).max(1).min() > 0
    assert (data.images.reshape(len(data), -1).sum(0) > 0).mean() > 0.8  # the drawings use the square


def test_drawings_do_not_depend_on_the_call(data):
    chosen = data.codepoints[::500]
    np.testing.assert_array_equal(glyphs.draw(chosen.tolist()), data.images[::500])
    large = glyphs.draw([ord("O")], size=96)[0]
    ink = np.argwhere(large > 127)
    assert large.shape == (96, 96)
    assert abs(ink[:, 1].mean() - 47.5) < 2  # centred from left to right
    for size in (0, 7, -1):
        with pytest.raises(ValueError, match=f"size is {size}, expected at least 8"):
            glyphs.draw([65], size=size)
        with pytest.raises(ValueError, match=f"size is {size}, expected at least 8"):
            glyphs.load(size)


def test_another_size_has_the_same_characters(data):
    small = glyphs.load(size=16)
    np.testing.assert_array_equal(small.codepoints, data.codepoints)
    assert small.images.shape[1:] == (16, 16)


def test_every_word_of_a_held_out_name_is_in_training(data):
    train, test = glyphs.split(data.names)
    assert len(test) == 530
    assert sorted([*train, *test]) == list(range(len(data)))
    known = {word for i in train for word in data.names[i].split()}
    assert all(word in known for i in test for word in data.names[i].split())
    again = glyphs.split(data.names)
    np.testing.assert_array_equal(test, again[1])
    assert set(test) != set(glyphs.split(data.names, seed=1)[1])


def test_a_split_that_cannot_be_is_an_error():
    with pytest.raises(ValueError, match="only 1 of 3 names"):
        glyphs.split(["a", "a", "b"], held_out=2)


# ---------------------------------------------------------------- augmentation

STILL = {"rotate": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0}


def test_augmentation_of_no_strength_changes_nothing(data):
    images = data.images[:50]
    np.testing.assert_allclose(glyphs.augment(images, np.random.default_rng(0), **STILL), images, atol=1e-3)


def test_augmentation_depends_on_the_generator_only_and_writes_to_nothing(data):
    images = data.images[:20].copy()
    images.setflags(write=False)
    a, b, c = (glyphs.augment(images, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert a.dtype == np.float32
    assert a.tobytes() == b.tobytes() != c.tobytes()
    np.testing.assert_array_equal(images, data.images[:20])
    floats = glyphs.augment(images.astype(np.float64) / 255, np.random.default_rng(0))
    np.testing.assert_allclose(floats * 255, a, atol=1e-2)
    assert a.min() >= 0
    assert a.max() <= 255


def test_augmentation_is_what_it_says():
    """Against a plain bilinear interpolation of one pixel at a time."""
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (9, 7)).astype(np.float64)
    got = glyphs.augment(image[None], np.random.default_rng(5), rotate=20, scale=0.3, shift=2, shear=0.4)[0]
    turn, down, right, slant, dy, dx = np.random.default_rng(5).uniform(-1, 1, (6, 1))[:, 0]
    angle, height, width, shear = np.deg2rad(20 * turn), 1 + 0.3 * down, 1 + 0.3 * right, 0.4 * slant
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # of (y, x)
    slanting = np.array([[1, 0], [shear, 1]])
    matrix = np.diag([1 / height, 1 / width]) @ slanting @ rotation
    due = np.zeros((9, 7))
    for y, x in np.ndindex(9, 7):
        v, u = matrix @ [y - 4, x - 3] + [2 * dy + 4, 2 * dx + 3]
        for i, j in np.ndindex(9, 7):
            due[y, x] += image[i, j] * max(0, 1 - abs(v - i)) * max(0, 1 - abs(u - j))
    np.testing.assert_allclose(got, due, atol=1e-2)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((4, 4), np.uint8), ValueError, r"images has shape \(4, 4\)"),
        (np.zeros((1, 4, 4), np.int64), TypeError, "images has dtype int64"),
        (np.zeros((1, 4, 4), object), TypeError, "images has dtype object"),
    ],
)
def test_wrong_pictures_are_named(images, error, message):
    with pytest.raises(error, match=message):
        glyphs.augment(images, np.random.default_rng(0))


# ---------------------------------------------------------------- words


def test_known_words_are_tokens_and_others_are_spelt():
    tokenizer = WordTokenizer.train(["Small alpha", "small beta", "double-struck x"], min_count=1)
    assert tokenizer.tokens("SMALL  beta") == ["small", "beta"]
    assert tokenizer.tokens("lamp") == ["l", "a", "m", "p"]
    assert tokenizer.tokens("beta-small") == ["beta", "-", "small"]
    assert tokenizer.tokens("äx") == ["?", "x"]
    assert tokenizer.tokens("") == []
    ids = tokenizer.encode(["small beta", "", "äx"])
    assert [i.tolist() for i in ids][1] == []
    assert ids[2][0] == tokenizer.unknown_id == 0
    assert max(i.max(initial=0) for i in ids) < len(tokenizer) == 1 + len(tokenizer.characters) + len(tokenizer.words)
    assert all(i.dtype == np.int64 for i in ids)


def test_rare_words_are_left_out_and_the_order_is_fixed():
    texts = ["b a", "b a", "c b"]
    assert WordTokenizer.train(texts, min_count=2).words == ("b", "a")
    assert WordTokenizer.train(texts, min_count=1).words == ("b", "a", "c")
    assert WordTokenizer.train(reversed(texts), min_count=1).words == ("b", "a", "c")
    assert WordTokenizer.train(texts).characters == ("a", "b", "c")


def test_a_tokenizer_survives_json():
    tokenizer = WordTokenizer.train(["small alpha", "small ß"], min_count=1)
    again = WordTokenizer.from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert again.to_json() == tokenizer.to_json()
    for text in ("small ß heap",):
        np.testing.assert_array_equal(again.encode([text])[0], tokenizer.encode([text])[0])


@pytest.mark.parametrize(
    "change",
    [
        {"type": "bpe"},
        {"extra": 1},
        {"words": "abc"},
        {"words": [1]},
        {"words": ["two words"]},
        {"words": [""]},
        {"words": ["a", "a"]},
        {"characters": ["ab"]},
        {"characters": None},
    ],
)
def test_a_wrong_tokenizer_file_is_an_error(change):
    good = {"type": "words", "words": ["a"], "characters": ["b"]}
    with pytest.raises((TypeError, ValueError), match="WordTokenizer"):
        WordTokenizer.from_json({**good, **change})
    with pytest.raises(ValueError, match="WordTokenizer"):
        WordTokenizer.from_json([good])


def test_wrong_texts_are_errors():
    tokenizer = WordTokenizer(["a"], "b")
    with pytest.raises(TypeError, match="one str"):
        tokenizer.encode("a b")
    with pytest.raises(TypeError, match="got int"):
        tokenizer.encode(["a", 1])
    with pytest.raises(ValueError, match="text 1 has 3 tokens, expected at most 2"):
        tokenizer.encode(["a", "a a a"], max_length=2)
    with pytest.warns(UserWarning, match="1 texts were cut to 2 tokens"):
        assert tokenizer.encode(["a a a"], max_length=2, truncate=True)[0].tolist() == [2, 2]
    with pytest.raises(ValueError, match="max_length is 0"):
        tokenizer.encode(["a"], max_length=0)
