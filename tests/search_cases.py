"""What the tests of indexes share: NumPy's answers, awkward ids and metadata, scripts in processes of their own."""

import os
import subprocess
import sys
import textwrap

import numpy as np

# Each would end a quoted text, or a list, if it were written into a filter as it is.
NASTY = [
    "a\"b' or 1==1",
    '"] or id != "',
    "'] or id != '",
    "\\",
    '\\"',
    "x\\y\\\\",
    "line\nbreak\r\n",
    "tab\t",
    "日本語 🏖",
    "e\u0301",
    " ",
    "a, b",
    "{ids}",
    "%",
    "id",
    "photos/../x.jpg",
    "ß" * 500,
    "z" * 65535,
]

METADATA = [
    {},
    {"caption": "日本語 \"'\\ \n\t 🏖", "empty": ""},
    {"int": 0, "big": 2**63 - 1, "small": -(2**63), "float": 0.1, "whole": 2.0, "tiny": 5e-324, "minus": -0.0},
    {"true": True, "false": False, "none": None},
    {"list": [1, "a", None, [2.5, {"x": []}]], "dict": {"a": {"b": {"c": [True]}}, "": 1}},
    {"with space": 1, "ü": 2, "a.b": 3, "entity": 4, "distance": 5, "metadata": 6, "score": 7, "offset": 8, "in": 9},
    {"long": "é" * 32000},
]


def unit(rng, *shape):
    x = rng.standard_normal(shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def scores_of(metric, queries, rows):
    """What Milvus should say, in float64."""
    q, x = np.asarray(queries, np.float64), np.asarray(rows, np.float64)
    if metric == "l2":
        return ((q[:, None] - x) ** 2).sum(-1)
    if metric == "cosine":
        q, x = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (q, x))
    return q @ x.T


def best_of(metric, scores, k):
    return np.argsort(scores if metric == "l2" else -scores, axis=1, kind="stable")[:, :k]


def run(code, *arguments, **options):
    """A script in a process of its own; in its text PATH is the first argument."""
    header = "import sys, numpy as np\nfrom plait.search import Index\nPATH = sys.argv[1]\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", header + textwrap.dedent(code), *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip
