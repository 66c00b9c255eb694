"""Finds the characters whose pictures fit a description best, with the model that `plait demo` trained."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ._extras import require

NAME = "search"
HELP = "find characters by description, after plait demo"
EXAMPLES = """examples:
  plait search "greek small letter omega with tonos"
  plait search --count 10 black chess queen
  plait search --dir my-demo arrow pointing left"""


def _count(text):
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{value}, expected 1 to 100")
    return value


def add_arguments(parser):
    parser.add_argument("query", nargs="+", help="the description, in words of Unicode names")
    parser.add_argument("--dir", type=Path, default=Path("plait-demo"), help="folder of a demo (default: %(default)s)")
    parser.add_argument("--count", type=_count, default=5, help="how many characters (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="where to draw them (default: search.png in the folder of the demo)")


def run(arguments):
    require("plait search", "demo", "matplotlib", "PIL")
    import numpy as np

    import plait
    from plait.commands import _figures, _glyphs

    if not (arguments.dir / _glyphs.MODEL).is_dir():
        raise FileNotFoundError(f"{arguments.dir}: no model of a demo here; run plait demo first, or name its --dir")
    model = plait.load(arguments.dir / _glyphs.MODEL)
    index = _glyphs.read_index(arguments.dir, model.config.embed_dim)
    query = " ".join(arguments.query)
    known = model.tokenizer.encode([query])[0]
    if not known.size or (known == model.tokenizer.unknown_id).all():
        raise ValueError(f"{query!r} has no word or letter of a Unicode name")
    if known.max() <= len(model.tokenizer.characters):  # ids of words follow those of letters
        print(
            f"plait search: no word of {query!r} occurs in the training names; it was spelt in letters, which training "
            "never saw, so expect little of the result",
            file=sys.stderr,
        )
    scores = index["embeddings"] @ model.embed_texts([query])[0]
    best = np.argsort(-scores, kind="stable")[: arguments.count]
    names = [_glyphs.name(c) for c in index["codepoints"][best]]
    for place, (i, name) in enumerate(zip(best, names, strict=True), 1):
        code = int(index["codepoints"][i])
        note = "  (held out)" if index["held_out"][i] else ""
        print(f"{place:3}  {chr(code)}  U+{code:04X}  {scores[i]:6.3f}  {name}{note}")
    out = arguments.out or arguments.dir / "search.png"
    _figures.search(out, query, index["codepoints"][best], names, scores[best])
    print(f"drawn in {out}")
