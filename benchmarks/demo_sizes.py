"""Sizes of the demo's model, from its configuration, and token counts as its names have them."""

import json
from pathlib import Path

import numpy as np

_config = json.loads((Path(__file__).parents[1] / "python/plait/models/configs/glyph-tiny.json").read_text())["config"]
IMAGE, TEXT, EMBED = _config["image"], _config["text"], _config["embed_dim"]
TOKENS = (IMAGE["size"] // IMAGE["patch"]) ** 2


def lengths(batch):
    """Token counts of a batch: names have 2 to 9 words, 4.4 on average."""
    counts = np.arange(2, 10)
    share = np.array([0.05, 0.25, 0.30, 0.20, 0.10, 0.06, 0.03, 0.01])
    return np.random.default_rng(0).choice(counts, batch, p=share)
