"""Folders of tiny pretrained models, with tokenizer and image processor, and pictures: for tests of whole jobs."""

import json
import re
from pathlib import Path

import numpy as np
import safetensors.numpy
import zoo

_FOLDERS = Path(__file__).parent / "data/pretrained/folders.json"
WORDS = ["a", "red", "green", "blue", "dog", "cat", "beach", "picture", "of", "on", "the"]


def clip(folder, seed=0):
    """CLIP of two layers or three, for pictures of 32 x 32 pixels and texts of 20 tokens; vectors of 40."""
    from plait.processing import Tokenizer

    files = _tokenizer(Tokenizer)
    vocabulary = len(json.loads(files["vocab.json"]))
    entry = json.loads(_FOLDERS.read_text())["clip"]
    config = entry["files"]["config.json"]
    config["text_config"]["vocab_size"] = vocabulary
    short = entry["tensors"]["model.safetensors"]
    short["text_model.embeddings.token_embedding.weight"] = ["F32", vocabulary, config["text_config"]["hidden_size"]]
    _write(folder, config, short, seed)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    size = config["vision_config"]["image_size"]
    processor = {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size}, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def sentences(folder, seed=0):
    """BERT of three layers for texts of 40 tokens, mean of unit length; vectors of 48."""
    entry = json.loads(_FOLDERS.read_text())["st_mean_unit"]
    config = entry["files"].pop("config.json")
    _write(folder, config, entry["tensors"]["model.safetensors"], seed)
    for name, content in entry["files"].items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in zoo.VOCABULARY))
    return folder


def picture(seed, size=(48, 36)):
    """An (h, w, 3) uint8 picture: a rectangle and a stripe on a ground, by chance."""
    rng = np.random.default_rng(seed)
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[:] = rng.integers(0, 256, 3)
    x, y = rng.integers(0, size[0] // 2), rng.integers(0, size[1] // 2)
    pixels[y : y + size[1] // 2, x : x + size[0] // 2] = rng.integers(0, 256, 3)
    pixels[:, :: int(rng.integers(3, 9))] = rng.integers(0, 256, 3)
    return pixels


def _tokenizer(cls):
    pairs = []
    for word in WORDS:
        left = word[0] if len(word) > 1 else ""
        for letter, end in zip(word[1:], [""] * (len(word) - 2) + ["</w>"], strict=True) if left else ():
            pairs.append(f"{left} {letter}{end}")
            left += letter
    merges = "\n".join(dict.fromkeys(pairs))
    return cls.clip_from_bpe(f'"bpe_simple_vocab_16e6.txt#version: 0.2\n{merges}\n'.encode()).files


def _write(folder, config, short, seed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, (_, *shape) in short.items():
        span = re.search(r"<(\d+)-(\d+)>", name)
        numbers = range(int(span[1]), int(span[2]) + 1) if span else [None]
        for each in [name if i is None else name.replace(span[0], str(i)) for i in numbers]:
            values = zoo.weight(each, tuple(shape))
            if seed and values.ndim:
                values = values + np.random.default_rng(seed).normal(0, 0.02, values.shape).astype(np.float32)
            tensors[each] = values
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
