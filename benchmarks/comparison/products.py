"""The matrix products of a case: what oneDNN's bare rate is measured at."""

from __future__ import annotations

import numpy as np

from comparison.weights import inputs

__all__ = ["products", "with_attention"]


def _layers(rows, width, hidden, times):
    """Queries, keys and values in one; out; the MLP."""
    shapes = ((width, 3 * width), (width, width), (width, hidden), (hidden, width))
    return [(rows, k, n, times) for k, n in shapes]


def _image(z):
    v = z["image"]
    patches = (v["size"] // v["patch"]) ** 2
    first = (z["batch"] * patches, 3 * v["patch"] ** 2, v["width"], 1)
    last = (z["batch"], v["width"], z["embed"], 1)
    return [first, *_layers(z["batch"] * (patches + 1), v["width"], 4 * v["width"], v["layers"]), last]


def _text(z):
    t = z["text"]
    rows = z["batch"] * z["tokens"]
    return [*_layers(rows, t["width"], 4 * t["width"], t["layers"]), (z["batch"], t["width"], z["embed"], 1)]


def _forward(case):
    z, kind = case.sizes, case.kind
    if kind == "clip_image":
        return _image(z)
    if kind == "clip_text":
        return _text(z)
    if kind == "clip":
        return _image(z) + _text(z)
    if kind == "minilm":
        return _layers(int(inputs(case)["mask"].sum()), z["width"], z["hidden"], z["layers"])
    if kind == "cross":
        n, m, d = z["batch"] * z["queries"], z["batch"] * z["keys"], z["width"]
        return [(n, d, d, 2), (m, d, 2 * d, 1), (n, d, 4 * d, 1), (n, 4 * d, d, 1)]
    return []


def products(case):
    """(rows, inner, columns, how often) of the products with weights, for forward or the whole step; [] where they are
    not what the case is about. Only real tokens count, not padding."""
    found = _forward(case)
    if case.phase == "forward":
        return found
    inner = found[1:] if case.kind == "clip" else found  # pictures need no gradient
    of_inputs, of_weights = [(m, n, k, often) for m, k, n, often in inner], [(n, m, k, o) for m, k, n, o in found]
    return found + _again(case, found) + of_inputs + of_weights


def _again(case, found):
    """Those of blocks, which are there as often as the tower has layers, once more where backward makes them again."""
    return [row for row in found if row[3] > 1] if case.sizes.get("checkpoint") else []


def _attention_flops(case):
    """Two products in forward, made again in backward with checkpointing; there five more of the same size."""
    z, kind = case.sizes, case.kind
    total = 0.0
    if kind in ("clip_image", "clip"):
        v = z["image"]
        total += 4.0 * v["layers"] * z["batch"] * ((v["size"] // v["patch"]) ** 2 + 1) ** 2 * v["width"]
    if kind in ("clip_text", "clip"):
        t = z["text"]
        total += 2.0 * t["layers"] * z["batch"] * z["tokens"] * (z["tokens"] + 1) * t["width"]  # causal: half
    if kind == "minilm":
        counts = inputs(case)["mask"].sum(1).astype(np.float64)
        total += 4.0 * z["layers"] * float((counts**2).sum()) * z["width"]
    if kind == "cross":
        total += 4.0 * z["batch"] * z["queries"] * z["keys"] * z["width"]
    return total * (1.0 if case.phase == "forward" else 4.5 if z.get("checkpoint") else 3.5)


def with_attention(case):
    """How many times as long as its products with weights all products of a case take, at one rate."""
    return 1 + _attention_flops(case) / sum(2.0 * m * k * n * often for m, k, n, often in products(case))
