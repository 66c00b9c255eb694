"""The demo's task: glyphs and their names, the recipe that trains on them, and what it is measured by."""

from __future__ import annotations

import dataclasses
import unicodedata
from pathlib import Path

import numpy as np

import plait
from plait import evaluate, io, losses, optim
from plait.data import BatchOrder, WordTokenizer, glyphs
from plait.train import fit

__all__ = ["INDEX", "MODEL", "Recipe", "Task", "measure", "name", "read_index", "train", "write_index"]

MODEL = "model"
INDEX = "glyphs.safetensors"
CHECKPOINTS = "checkpoints"
K = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the full demo."""

    image_layers: int = 2
    batch_size: int = 256
    steps: int = 1000
    lr: float = 2e-3
    weight_decay: float = 0.5
    label_smoothing: float = 0.1
    evaluations: int = 10  # points of the recall curve

    @classmethod
    def quick(cls):
        """Lower numbers in a few seconds."""
        return cls(image_layers=1, batch_size=128, steps=200, lr=3e-3, weight_decay=0.3, evaluations=4)


class Task:
    """Pictures, names, their split, and the tokenizer of the training names."""

    def __init__(self):
        data = glyphs.load()
        self.codepoints, self.names, self.images = data.codepoints, data.names, data.images
        self.train, self.test = glyphs.split(data.names)
        self.tokenizer = WordTokenizer.train([data.names[i] for i in self.train], min_count=1)
        self.ids = self.tokenizer.encode(data.names)

    def model(self, recipe, seed):
        """The model glyph-tiny, fitted to these data."""
        config = plait.models.get_config("glyph-tiny")
        pixels = self.images[self.train]
        config["config"]["image"].update(
            layers=recipe.image_layers, mean=[float(pixels.mean() / 255)], std=[float(pixels.std() / 255)]
        )
        config["config"]["text"]["vocabulary"] = len(self.tokenizer)
        model = plait.create_model(config, seed=seed)
        model.tokenizer = self.tokenizer
        return model


def train(task, model, recipe, seed, **options):
    """Trains; `options` are those of ``plait.train.fit``."""
    groups = optim.decay_groups(model, recipe.weight_decay, exclude=("tokens", "positions"))
    optimizer = optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), max_grad_norm=1.0)
    schedule = optim.Schedule(optimizer, optim.warmup_cosine(recipe.steps, warmup=recipe.steps // 10))
    order = BatchOrder(task.train, min(recipe.batch_size, len(task.train)), seed)

    def batch(step):
        chosen = order.indices(step)
        images = glyphs.augment(task.images[chosen], order.rng(step))
        images *= 1 / 255
        return images, [task.ids[i] for i in chosen]

    def loss(model, batch):
        images, texts = batch
        a, b = model.encode_image(images), model.encode_text(texts)
        return losses.info_nce(a, b, model.logit_scale, label_smoothing=recipe.label_smoothing)

    def score(model):
        images = model.embed_images(task.images[task.test])
        texts = model.embed_texts([task.ids[i] for i in task.test])
        recall = evaluate.recall_at_k((texts, images), K)
        return {f"recall@{k}": 100 * value for k, value in recall.items()}

    every = max(1, recipe.steps // recipe.evaluations)
    return fit(
        model, optimizer, batch, loss, steps=recipe.steps, schedule=schedule, evaluate=score, every=every, **options
    )


def measure(task, model):
    """Embeddings of all pictures and names, and recall in percent.

    Returns
    -------
    images, texts : (N, D) arrays
    recall : dict
        ``held_out`` (candidates are the held-out ones), ``all`` (candidates are all characters) and for both the
        ``chance``; each by direction and k.
    """
    images, texts = model.embed_images(task.images), model.embed_texts(task.ids)
    test, recall = task.test, {}
    for key, candidates, own in (("held_out", test, np.arange(len(test))), ("all", slice(None), test)):
        ways = {"text_to_image": (texts[test], images[candidates]), "image_to_text": (images[test], texts[candidates])}
        recall[key] = {way: _percent(evaluate.recall_at_k(pair, K, own)) for way, pair in ways.items()}
        recall[key]["chance"] = _percent(evaluate.chance_recall(len(images[candidates]), k=K))
    return images, texts, recall


def _percent(values):
    return {str(k): round(100 * v, 2) for k, v in values.items()}


def name(codepoint) -> str:
    """The lower-case Unicode name of a character."""
    return unicodedata.name(chr(codepoint), f"u+{int(codepoint):04x}").lower()


# ---------------------------------------------------------------- the index that `plait search` reads


def write_index(folder, task, images):
    """Writes the embeddings of all pictures beside the model."""
    held_out = np.zeros(len(task.names), bool)
    held_out[task.test] = True
    arrays = {"codepoints": task.codepoints, "embeddings": images, "held_out": held_out}
    io.save_tensors(Path(folder) / INDEX, arrays)


def read_index(folder, width):
    """Reads what `write_index` wrote, for a model whose embeddings have this width."""
    file = Path(folder) / INDEX
    arrays = io.load_tensors(file)
    n = len(arrays.get("codepoints", ()))
    due = {"codepoints": ("i", (n,)), "embeddings": ("f", (n, width)), "held_out": ("b", (n,))}
    for key, (kind, shape) in due.items():
        if key not in arrays or arrays[key].dtype.kind != kind or arrays[key].shape != shape or not n:
            raise ValueError(f"{file}: {key} is missing or does not fit the model; run plait demo again")
    if arrays["codepoints"].min() < 0 or arrays["codepoints"].max() > 0x10FFFF:
        raise ValueError(f"{file}: codepoints holds a number that is no character; run plait demo again")
    return arrays
