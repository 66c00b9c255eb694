"""Small models, with a tokenizer and an image processor, and things for them to encode: what the encode tests share."""

import io

import numpy as np

import plait
from plait.data import WordTokenizer
from plait.processing import ImageProcessor

IMAGE = {"size": 16, "patch": 8, "width": 16, "layers": 1, "heads": 2}
TEXT = {"vocabulary": 60, "length": 12, "width": 16, "layers": 1, "heads": 2}
WORDS = ("a", "photo", "of", "cat", "dog", "cow", "red", "green", "blue", "the", "and", "query", "passage")
SIZE = IMAGE["size"]


def tokenizer():
    return WordTokenizer(WORDS, "abcdefghijklmnopqrstuvwxyz.:")


def dual(image=(), text=(), **top):
    """A dual encoder in evaluation mode."""
    config = {"embed_dim": 16, "image": {**IMAGE, **dict(image)}, "text": {**TEXT, **dict(text)}, **top}
    model = plait.create_model({"type": "dual_encoder", "config": config}, seed=1).eval()
    model.tokenizer, model.processor = tokenizer(), ImageProcessor(SIZE, mean=0.4, std=0.3)
    return model


def text_encoder(text=(), **top):
    config = {"text": {**TEXT, **dict(text)}, **top}
    model = plait.create_model({"type": "text_encoder", "config": config}, seed=2).eval()
    model.tokenizer = tokenizer()
    return model


def image_encoder(image=(), **top):
    config = {"image": {**IMAGE, **dict(image)}, **top}
    return plait.create_model({"type": "image_encoder", "config": config}, seed=3).eval()


def sentences(n, seed=0, longest=6):
    """Texts of 1 to `longest` words, in no order of length."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest + 1))) for _ in range(n)]


def pictures(n, seed=0):
    """uint8 RGB pictures of all sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(9, 40, (n, 2))
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]


def processed(n, seed=0):
    """(n, 3, S, S) float32 pixel values as a processor makes them."""
    return np.random.default_rng(seed).standard_normal((n, 3, SIZE, SIZE), dtype=np.float32)


def png(picture):
    """The bytes of a file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
