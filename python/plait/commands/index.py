"""Makes a folder of pictures searchable by words and by pictures.

Walks the folder and all below it, reads every picture, turns it into a vector with a model such as CLIP, and keeps the
vectors in a database: a local file, or a Milvus server. Stop it whenever you like: the same command goes on where it
was, and later takes in what is new or changed since.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

from ._extras import require
from ._pictures import find_pictures, plain_error, print_some

NAME = "index"
HELP = "make a folder of pictures searchable"
EXAMPLES = """pictures are files with the endings jpg, jpeg, png, webp, gif, bmp, tif and the like; names that begin
with a dot are left out. One that cannot be read is reported at the end, left out, and tried again the next time.

exit status: 0 when all pictures that can be read are in the index, 1 when none can or for another error, 2 for wrong
arguments, 130 after Ctrl-C.

examples:
  plait index photos/ --model clip-vit-base-patch32 --db photos.db
  plait index photos/ --db photos.db                  later: what is new or changed
  plait index photos/ --db photos.db --prune          and forget what was deleted
  plait index photos/ --model clip-vit-base-patch32 --db http://localhost:19530
  plait search "a dog on a beach" --db photos.db

in Python:
  index = plait.search.Index.open("photos.db")        ids are paths below photos/"""


def batch_size(text):
    value = int(text)
    if not 1 <= value <= 4096:
        raise argparse.ArgumentTypeError(f"{value}, expected 1 to 4096")
    return value


batch_size.__name__ = "whole number"  # argparse shows it


def add_arguments(parser):
    parser.add_argument("folder", type=Path, help="the pictures, in it and in the folders below")
    parser.add_argument("--db", required=True, metavar="FILE", help="the database, or the address of a Milvus server")
    parser.add_argument("--model", metavar="FOLDER", help="of the model; needed for a new database, which remembers it")
    parser.add_argument("--token", help="user:password or API key of a server")
    parser.add_argument("--prune", action="store_true", help="remove pictures that are no longer in the folder")
    parser.add_argument("--refresh", action="store_true", help="encode all pictures again, not only what has changed")
    parser.add_argument(
        "--batch-size",
        type=batch_size,
        default=32,
        metavar="N",
        help="computed together (default: %(default)s)",
    )


def run(arguments):
    require("plait index", "search", "pymilvus", "milvus_lite", "PIL")
    from plait.commands._album import Album

    found = find_pictures(arguments.folder)
    if not found.pictures and not found.broken:
        raise FileNotFoundError(f"{arguments.folder}: no pictures in this folder or below it")
    with Album.make(arguments.db, arguments.token, arguments.model, arguments.folder) as album:
        stored = album.stored()
        wanted = [n for n, facts in found.pictures.items() if arguments.refresh or stored.get(n) != facts]
        kept = len(found.pictures) - len(wanted)
        if kept and wanted:
            print(f"{kept:,} of {_pictures(len(found.pictures))} are in {arguments.db} already", file=sys.stderr)
        began, done = time.perf_counter(), _Count()
        try:
            _add(album, wanted, found, arguments.batch_size, done)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped after {done.pictures:,} of {_pictures(len(wanted))}; the same command goes on"
            ) from None
        seconds = time.perf_counter() - began
        album.index.delete([name for name in wanted if name in found.broken])  # what they held is there no more
        gone = [name for name in stored if name not in found.pictures and not _hidden(name, found.broken)]
        if arguments.prune and gone:
            album.index.delete(gone)
        album.index.flush()
        total = len(album.index)
    if not total and album.fresh:
        shutil.rmtree(arguments.db)  # an empty database, which was not here before
    new = sum(name not in stored for name in wanted if name not in found.broken)
    changed = len(wanted) - new - sum(name in found.broken for name in wanted)
    parts = [f"{n:,} {what}" for n, what in ((new, "new"), (changed, "encoded again"), (kept, "as before")) if n]
    rate = f"; {len(wanted) / seconds:,.1f} pictures/s" if wanted else ""
    print(f"{arguments.db}: {_pictures(total)} ({', '.join(parts) or 'nothing new'}){rate}")
    if gone:
        left = "removed" if arguments.prune else "still in the index; --prune removes them"
        print(f"no longer in {arguments.folder}: {_pictures(len(gone))}, {left}")
    _report(found.broken)
    if not total:
        raise ValueError(f"{arguments.folder}: none of its pictures can be read")
    print(f'try next: plait search "a dog on a beach" --db {arguments.db}')


_SECONDS = 5.0  # between two writes to the database, so that a job that is killed loses no more
_FIRST = 4  # pictures of the first batches, which are timed


class _Count:
    pictures = 0


def _add(album, wanted, found, size, done):
    """Encodes and stores; what cannot be read moves from ``found.pictures`` to ``found.broken``."""
    from plait._progress import bar as progress_bar
    from plait.commands._album import encode_pictures

    failed: dict = {}

    def encoded(begin, end, batch):
        paths = [os.path.join(album.root, name) for name in wanted[begin:end]]
        rule = lambda i, error: failed.__setitem__(begin + i, error)  # noqa: E731
        return encode_pictures(album.model, paths, batch_size=batch, on_error=rule)

    def windows():  # of two batches each
        first, began = 2 * min(size, _FIRST), time.perf_counter()
        yield from encoded(0, first, min(size, _FIRST))
        rate = min(first, len(wanted)) / (time.perf_counter() - began)
        if len(wanted) > first:
            yield from encoded(first, None, max(1, min(size, int(rate * _SECONDS / 2))))

    bar = progress_bar(None, len(wanted), "picture")
    with contextlib.closing(bar), contextlib.closing(windows()) as vectors:
        for rows in vectors:
            names = wanted[done.pictures : done.pictures + len(rows)]
            good = [i for i in range(len(rows)) if done.pictures + i not in failed]
            if good:
                facts = [dict(zip(("size", "mtime"), found.pictures[names[i]], strict=True)) for i in good]
                album.index.upsert([names[i] for i in good], rows[good], facts)
            done.pictures += len(rows)
            bar.update(len(rows))
    for number, error in failed.items():
        found.broken[wanted[number]] = plain_error(error, album.root).removeprefix(f"{wanted[number]}: ")
        del found.pictures[wanted[number]]


def _hidden(name, broken):
    """Whether it is one of the broken ones, or in a folder that could not be looked into."""
    return name in broken or any(b.endswith("/") and (b == "./" or name.startswith(b)) for b in broken)


def _pictures(n):
    return f"{n:,} picture{'s' * (n != 1)}"


def _report(broken):
    if not broken:
        return
    print(f"{len(broken):,} could not be read and are left out:", file=sys.stderr)
    print_some([f"{name}: {error}" for name, error in broken.items()])
