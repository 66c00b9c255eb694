"""Finds pictures by words, or by a picture that is like them, in what `plait index` made.

Without --db it finds characters by description, with the model that `plait demo` trained.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from ._extras import require

NAME = "search"
HELP = "find pictures by words; or characters, after plait demo"
EXAMPLES = """a score is the cosine of the angle between two vectors, 1 at most. With models such as CLIP, those of
words and pictures that fit are about 0.3, and those of two similar pictures 0.8 and more.

filters are conditions of Milvus on the path (id), the size in bytes and the time of the last change (mtime, in seconds
since 1970): 'size > 100000 and id like "2024/%"'.

examples:
  plait search "a dog on a beach" --db photos.db
  plait search --db photos.db --image dog.jpg --count 20 --out like-this.png
  plait search "a red bicycle" --db photos.db --filter 'id like "2024/%"' --json

after plait demo:
  plait search "greek small letter omega with tonos"
  plait search --count 10 black chess queen
  plait search --dir my-demo arrow pointing left"""

_OF_DB = ("image", "filter", "model", "token", "json")


def _count(text):
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{value}, expected 1 to 100")
    return value


def add_arguments(parser):
    parser.add_argument("query", nargs="*", help="a description; in words of Unicode names without --db")
    parser.add_argument("--db", metavar="FILE", help="what plait index made: a file, or the address of a server")
    parser.add_argument(
        "--image", metavar="FILE", help="find pictures that are like this one, instead of a description"
    )
    parser.add_argument("--count", type=_count, default=5, metavar="N", help="how many to find (default: %(default)s)")
    parser.add_argument("--filter", help="a condition on path, size and time, see below")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="contact sheet (default: beside the database, or in --dir)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and draw nothing but what --out asks for")
    parser.add_argument("--model", metavar="FOLDER", help="of the model, where it has moved since plait index")
    parser.add_argument("--token", help="user:password or API key of a server")
    parser.add_argument("--dir", type=Path, metavar="FOLDER", help="of a demo (default: plait-demo)")
    parser.set_defaults(wrong=parser.error)


def run(arguments):
    if arguments.db is None:
        asked = [name for name in _OF_DB if getattr(arguments, name)]
        if asked:
            arguments.wrong(f"--{asked[0]} goes with --db")
        if not " ".join(arguments.query).strip():
            arguments.wrong("expected a description")
        return _characters(arguments)
    if arguments.dir is not None:
        arguments.wrong("expected either --db or --dir")
    if bool(arguments.query) == (arguments.image is not None):
        arguments.wrong("expected either a description or --image")
    if arguments.query and not " ".join(arguments.query).strip():
        arguments.wrong("expected a description, got an empty one")
    return _pictures(arguments)


# ---------------------------------------------------------------- pictures of an index


def _pictures(arguments):
    require("plait search --db", "search", "pymilvus", "milvus_lite", "PIL")
    from plait.commands._album import Album, query_of

    text = " ".join(arguments.query) or None
    with Album.open(arguments.db, arguments.token, arguments.model) as album:
        vector = query_of(album.model, text, arguments.image)
        try:
            hits = album.index.search(vector, k=arguments.count, filter=arguments.filter)
        except ValueError as error:  # the rest of it points at a place in the filter
            raise ValueError(str(error).splitlines()[0]) from None
        root = album.root
    found = [
        {"rank": i, "path": hit.id, "file": _file(root, hit.id), "score": round(hit.score, 6), **hit.metadata}
        for i, hit in enumerate(hits, 1)
    ]
    if arguments.json:
        query = {"query": text} if text is not None else {"image": arguments.image}
        print(json.dumps({**query, "db": arguments.db, "results": found}, indent=2, ensure_ascii=False))
    else:
        for row in found:
            print(f"{row['rank']:3}  {row['score']:6.3f}  {row['path']}")
    if not found:
        print("plait search: nothing in the database meets the condition", file=sys.stderr)
        return
    out = arguments.out or (None if arguments.json else _sheet_beside(arguments.db))
    if out is not None:
        from plait.commands._sheet import contact_sheet

        contact_sheet(out, text or Path(arguments.image), [(r["file"], r["path"], r["score"]) for r in found])
        print(f"drawn in {out}", file=sys.stderr if arguments.json else sys.stdout)


def _file(root, path):
    return None if root is None else os.path.join(root, path)


def _sheet_beside(db):
    if "://" in db or db.startswith("unix:"):
        return Path("search.png")
    path = Path(db)
    return path.with_name(f"{path.stem}-search.png")


# ---------------------------------------------------------------- characters of the demo


def _characters(arguments):
    require("plait search", "demo", "matplotlib", "PIL")
    import numpy as np

    import plait
    from plait.commands import _figures, _glyphs

    folder = arguments.dir or Path("plait-demo")
    if not (folder / _glyphs.MODEL).is_dir():
        raise FileNotFoundError(
            f"{folder}: no model of a demo here; run plait demo first, or name its --dir, or a --db of pictures"
        )
    model = plait.load(folder / _glyphs.MODEL)
    index = _glyphs.read_index(folder, model.config.embed_dim)
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
    out = arguments.out or folder / "search.png"
    _figures.search(out, query, index["codepoints"][best], names, scores[best])
    print(f"drawn in {out}")
