"""Rows of the losses: numbers of pairs around the tile (512) and the vector lengths, absent pairs, large logits."""

import numpy as np
from cases import Case

CONTRASTIVE = ("a", "b", "logit_scale")
PAIRWISE = (*CONTRASTIVE, "logit_bias")


def pairs(n, width, scale=2.0, present=None, shape=(), alike=0.5, bias=None):
    """Unit rows, those of b near those of a. `present`: share of pairs, 0 for none."""

    def make(rng):
        a = rng.standard_normal((n, width))
        b = alike * a + rng.standard_normal((n, width))
        arrays = {
            "a": a / np.linalg.norm(a, axis=1, keepdims=True),
            "b": b / np.linalg.norm(b, axis=1, keepdims=True),
            "logit_scale": np.full(shape, scale),
        }
        if bias is not None:
            arrays["logit_bias"] = np.full(shape, bias)
        if present is not None:
            arrays["present"] = rng.random(n) < present
        return arrays

    return make


NCE_ERRORS = (
    ({"b": "float:5,20"}, ValueError, "info_nce: b has shape (5, 20), expected (13, 20), the shape of a"),
    ({"a": "float:13"}, ValueError, "info_nce: a has 1 dimension, expected 2"),
    ({"a": "float:13,0"}, ValueError, "info_nce: a has width 0, expected at least 1"),
    ({"logit_scale": np.float32(np.nan)}, ValueError, "info_nce: logit_scale is nan, expected -80 to 80"),
    ({"logit_scale": np.float32(np.inf)}, ValueError, "info_nce: logit_scale is inf, expected -80 to 80"),
    ({"logit_scale": 100.0}, ValueError, "info_nce: logit_scale is 100, expected -80 to 80, the logarithm"),
    ({"logit_scale": "float:2"}, ValueError, "info_nce: logit_scale has shape (2,), expected ()"),
    ({"label_smoothing": 1.0}, ValueError, "info_nce: label_smoothing is 1, expected at least 0 and below 1"),
    ({"present": "int:4"}, ValueError, "info_nce: present has shape (4,), expected (13,), the rows of a"),
    ({"present": np.full(13, 2)}, ValueError, "info_nce: present[0] is 2, expected 0 or 1"),
    ({"present": "float:13"}, TypeError, "info_nce: present has dtype float"),
)


def nce(name, *args, errors=(), tolerance=1e-5, smoothing=0.0, **which):
    return Case(
        f"info_nce-{name}",
        "losses.info_nce",
        pairs(*args, **which),
        {"label_smoothing": smoothing},
        CONTRASTIVE,
        errors,
        tolerance,
    )


PAIRWISE_ERRORS = (
    ({"b": "float:5,20"}, ValueError, "sigmoid_contrastive: b has shape (5, 20), expected (13, 20), the shape of a"),
    ({"logit_scale": np.float32(np.nan)}, ValueError, "sigmoid_contrastive: logit_scale is nan, expected -80 to 80"),
    (
        {"logit_bias": np.float32(np.inf)},
        ValueError,
        "sigmoid_contrastive: logit_bias is inf, expected a finite",
    ),
    ({"logit_bias": "float:2"}, ValueError, "sigmoid_contrastive: logit_bias has shape (2,), expected ()"),
    ({"present": "int:4"}, ValueError, "sigmoid_contrastive: present has shape (4,), expected (13,), the rows of a"),
)


def pairwise(name, *args, errors=(), bias=-2.0, **which):
    make = pairs(*args, bias=bias, **which)
    return Case(f"sigmoid_contrastive-{name}", "losses.sigmoid_contrastive", make, {}, PAIRWISE, errors)


def classes(n, c, ignored=0.0, weight=False, size=1.0):
    """Logits of scale `size`; `ignored`: share of rows with label -100."""

    def make(rng):
        labels = rng.integers(0, c, n)
        labels[rng.random(n) < ignored] = -100
        return {
            "logits": size * rng.standard_normal((n, c)),
            "labels": labels.astype(np.int64),
            "weight": rng.random(c) + 0.1 if weight else None,
        }

    return make


CROSS_ENTROPY_ERRORS = (
    ({"logits": "float:5"}, ValueError, "cross_entropy: logits has 1 dimension, expected 2"),
    ({"logits": "float:13,0"}, ValueError, "cross_entropy: logits has no classes"),
    ({"labels": "int:4"}, ValueError, "cross_entropy: labels has shape (4,), expected (13,), the rows of logits"),
    ({"labels": np.full(13, 10)}, IndexError, "cross_entropy: labels[0] is 10, expected 0 to 9 or -100"),
    ({"labels": np.full(13, -1)}, IndexError, "cross_entropy: labels[0] is -1, expected 0 to 9 or -100"),
    ({"labels": "float:13"}, TypeError, "cross_entropy: labels has dtype float"),
    ({"weight": "float:3"}, ValueError, "cross_entropy: weight has shape (3,), expected (10,), the classes of logits"),
    ({"weight": np.full(10, -1.0)}, ValueError, "cross_entropy: weight[0] is -1, expected a finite weight, 0 or more"),
    ({"label_smoothing": 1.0}, ValueError, "cross_entropy: label_smoothing is 1, expected at least 0 and below 1"),
    ({"reduction": "max"}, ValueError, "cross_entropy: reduction is 'max', expected one of mean, sum, none"),
    ({"ignore_index": 0.5}, TypeError, "cross_entropy: ignore_index is 0.5, expected a whole number"),
    ({"present": np.ones(4, bool)}, ValueError, "cross_entropy: present has shape (4,), expected (13,), as labels"),
    ({"present": np.ones(13)}, TypeError, "cross_entropy: present has dtype float64"),
)


def labelled(name, *args, errors=(), options=None, **which):
    make = classes(*args, **which)
    return Case(f"cross_entropy-{name}", "losses.cross_entropy", make, options or {}, ("logits",), errors)


SMOOTH = {"label_smoothing": 0.1}

ROWS = [
    nce("plain", 13, 20, errors=NCE_ERRORS),
    nce("vector", 64, 32, shape=(1,)),
    nce("one-pair", 1, 16),
    nce("no-pairs", 0, 16),
    nce("demo", 256, 128, scale=4.6),
    nce("two-tiles", 600, 24, scale=3.0),
    nce("some-absent", 150, 24, present=0.6),
    nce("some-absent-two-tiles", 1200, 16, present=0.5),
    nce("all-absent", 40, 24, present=0.0),
    nce("all-present", 40, 24, present=1.0),
    nce("few-present", 20, 24, scale=1.0, present=0.05),
    nce("cold", 33, 12, scale=-5.0),
    nce("smooth", 33, 12, scale=3.0, smoothing=0.1),
    nce("smooth-two-tiles-some-absent", 900, 12, scale=2.0, smoothing=0.3, present=0.8),
    nce("large-logits", 70, 24, scale=9.2),  # up to 9900
    pairwise("plain", 13, 20, errors=PAIRWISE_ERRORS),
    pairwise("vector", 64, 32, shape=(1,)),
    pairwise("one-pair", 1, 16),
    pairwise("no-pairs", 0, 16),
    pairwise("start", 200, 48, scale=2.3, bias=-10.0),
    pairwise("two-tiles", 600, 24),
    pairwise("some-absent-two-tiles", 1200, 16, present=0.5),
    pairwise("all-absent", 40, 24, present=0.0),
    pairwise("large-logits", 70, 24, scale=9.2),
    labelled("plain", 13, 10, errors=CROSS_ENTROPY_ERRORS),
    labelled("many-classes", 7, 1003),
    labelled("one-class", 5, 1),
    labelled("no-rows", 0, 10),
    labelled("all-ignored", 6, 10, ignored=1.1),
    labelled("all-ignored-sum", 6, 10, ignored=1.1, options={"reduction": "sum"}),
    labelled("large-logits", 50, 33, size=1e3),
    *[
        labelled(f"everything-{how}", 70, 37, ignored=0.3, weight=True, options=SMOOTH | {"reduction": how})
        for how in ("mean", "sum", "none")
    ],
    labelled("smooth", 70, 37, options=SMOOTH),
    labelled("ignored-class", 40, 5, options={"ignore_index": 2}),
]
