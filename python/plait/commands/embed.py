"""Turns the lines of a text file, or pictures, into vectors in numbered files.

Each file is written whole or not at all, and a manifest says what is in it. Stop the job whenever you like: the same
command goes on where it was, and ends with the same bytes as without the stop.
"""

from __future__ import annotations

import argparse
import codecs
import collections
import contextlib
import itertools
import os
import re
import sys
import time
import warnings
from pathlib import Path

from plait._texts import TextError

from ._extras import require
from ._pictures import find_pictures, plain_error, print_some
from .index import batch_size

NAME = "embed"
HELP = "turn texts or pictures into vectors, in files"
EXAMPLES = """written to the folder:
  manifest.json, and vectors-00000.safetensors, vectors-00001.safetensors, ... with vectors and their ids: the numbers
  of lines, from 0; or the paths of pictures

the vectors are those of the model's encode in Python: of unit length with CLIP and the like, with sentence encoders as
their folder says.

examples:
  plait embed captions.txt --model all-MiniLM-L6-v2 --out vectors/
  plait embed captions.txt --model all-MiniLM-L6-v2 --out small/ --precision int8 --truncate-dim 256 --truncate
  plait embed photos/ --model clip-vit-base-patch32 --out vectors/ --skip-broken
  plait embed list-of-pictures.txt --images --model clip-vit-base-patch32 --out vectors/

in Python:
  for ids, vectors in plait.io.read_shards("vectors/"): ..."""

_MAX_LINE = 4 << 20  # bytes


def _whole(text):
    value = int(text)
    if not 1 <= value <= 1 << 24:
        raise argparse.ArgumentTypeError(f"{value}, expected 1 to {1 << 24}")
    return value


_whole.__name__ = "whole number"  # argparse shows it


def add_arguments(parser):
    parser.add_argument("input", type=Path, help="a text file, one text a line; or a folder of pictures")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="of the model")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="for the vectors; new, or of a stopped job"
    )
    parser.add_argument("--images", action="store_true", help="the text file lists pictures, one path a line")
    parser.add_argument(
        "--precision", choices=("float32", "int8", "uint8", "binary", "ubinary"), default="float32",
        help="of the vectors (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--truncate-dim", type=_whole, metavar="D", help="only the first D numbers of each vector")
    parser.add_argument(
        "--batch-size", type=batch_size, metavar="N", help="items computed together (default: 64 texts, 32 pictures)"
    )
    parser.add_argument(
        "--shard-size", type=_whole, default=50_000, metavar="N", help="items a file (default: %(default)s)"
    )
    parser.add_argument("--truncate", action="store_true", help="cut texts of too many tokens, which are an error else")
    parser.add_argument("--prompt-name", metavar="NAME", help="which of the model's prompts goes before each text")
    parser.add_argument("--skip-broken", action="store_true", help="leave pictures out that cannot be read")
    parser.set_defaults(wrong=parser.error)


def run(arguments):
    import plait

    source = arguments.input
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    pictures = arguments.images or source.is_dir()
    if pictures and (arguments.truncate or arguments.prompt_name is not None):
        arguments.wrong("--truncate and --prompt-name are for texts")
    if not pictures and arguments.skip_broken:
        arguments.wrong("--skip-broken is for pictures")
    if pictures:
        require("plait embed of pictures", "encode", "PIL")
    model = plait.load(arguments.model)
    with _plain_warnings():
        (_pictures if pictures else _texts)(arguments, model)


def _texts(arguments, model):
    from plait.models import DualEncoder, TextEncoder

    if not isinstance(model, (DualEncoder, TextEncoder)):
        raise ValueError(f"{arguments.model}: a {type(model).__name__}, which reads no text; expected a text encoder")
    options = {"precision": arguments.precision, "truncate_dim": arguments.truncate_dim, "truncate": arguments.truncate}
    encode = model.encode_text_iter if isinstance(model, DualEncoder) else model.encode_iter
    if isinstance(model, TextEncoder):
        options["prompt_name"] = arguments.prompt_name
    elif arguments.prompt_name is not None:
        raise ValueError(f"--prompt-name: the {type(model).__name__} in {arguments.model} has no prompts")
    job, lines = _Job(arguments, model, encode, options, "text", 64), _Lines(arguments.input)
    texts = _begun(lines, f"{arguments.input}: no texts in it")
    try:
        job.write(texts)
    except TextError as error:
        raise lines.explained(error, arguments.shard_size) from None


def _pictures(arguments, model):
    from plait.models import DualEncoder, ImageEncoder

    if not isinstance(model, (DualEncoder, ImageEncoder)):
        raise ValueError(
            f"{arguments.model}: a {type(model).__name__}, which takes no pictures; expected one that does"
        )
    options = {"precision": arguments.precision, "truncate_dim": arguments.truncate_dim}
    encode = model.encode_image_iter if isinstance(model, DualEncoder) else model.encode_iter
    job = _Job(arguments, model, encode, options, "picture", 32)
    source, skip, broken = arguments.input, arguments.skip_broken, []
    if source.is_dir():
        found = find_pictures(source)
        broken += [f"{source / name}: {error}" for name, error in found.broken.items()]
        if broken and not skip:
            raise ValueError(f"{broken[0]}; --skip-broken leaves it out")
        root = os.path.join(source, "")
        paths, total, id_of = [root + name for name in found.pictures], len(found.pictures), lambda p: p[len(root) :]
    else:
        paths, total, id_of = (line for line in _Lines(source) if line.strip()), None, str
    paths = _begun(paths, f"{source}: no pictures in it" + " that can be read" * bool(broken))
    rule = (lambda _, error: broken.append(plain_error(error))) if skip else "raise"
    try:
        done = job.write(paths, total, ids=id_of, on_error=rule)
    except (OSError, ValueError) as error:
        if ": images[" not in str(error):
            raise
        raise ValueError(f"{plain_error(error)}; --skip-broken leaves it out") from None
    left_out = done.items - done.rows
    if left_out or broken:
        print(f"{max(left_out, len(broken)):,} could not be read and are left out:", file=sys.stderr)
        print_some(broken)
    if not done.rows:
        raise ValueError(f"{source}: no pictures in it" + " that can be read" * bool(left_out or broken))


def _begun(items, message):
    """All of some items, of which there is one at least: nothing is written for none."""
    items = iter(items)
    first = next(items, None)
    if first is None:
        raise ValueError(message)
    return itertools.chain([first], items)


class _Job:
    """What is the same for texts and pictures: options, progress, and what is printed."""

    def __init__(self, arguments, model, encode, options, unit, size):
        self.out, self.shard_size, self.unit = arguments.out, arguments.shard_size, unit
        self.batch_size = arguments.batch_size or size
        # What decides about the vectors. The batch size does not, and neither do --truncate and --skip-broken: without
        # them the job stops, and can go on with them.
        self.about = {"kind": unit, **{key: value for key, value in options.items() if key != "truncate"}}
        self.model, self.encode, self.options, self.encoded = model, encode, options, 0
        list(encode([], **options))  # a wrong option is an error now, before anything is written

    def write(self, items, total=None, **options):
        """Writes the files and says so."""
        from plait import io, models
        from plait._progress import bar as progress_bar

        bar, began = progress_bar(None, total, self.unit), time.perf_counter()

        def encode(part, **rule):
            for rows in self.encode(part, self.batch_size, **self.options, **rule):
                self.encoded += len(rows)
                bar.update(len(rows))
                yield rows

        name = models.fingerprint(self.model)
        try:
            with contextlib.closing(bar):
                done = io.write_shards(
                    self.out, items, encode, model=name, options=self.about, shard_size=self.shard_size, **options
                )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "stopped; finished files stay, and the same command goes on with the next"
            ) from None
        seconds = time.perf_counter() - began
        if done.shards:
            shape = io.read_header(done.folder / done.shards[-1].file)["vectors"].shape
            kept = f", {done.kept:,} of them from before" if done.kept else ""
            rate = f"; {self.encoded / seconds:,.1f} {self.unit}s/s" if self.encoded else ""
            files = "1 file" if len(done.shards) == 1 else f"{len(done.shards):,} files"
            print(f"{self.out}: {done.rows:,} vectors of {shape[1]} ({self.about['precision']}) in {files}{kept}{rate}")
            print(f"in Python: for ids, vectors in plait.io.read_shards({str(self.out)!r}): ...")
        return done


class _Lines:
    """The lines of a text file, one after the other; ``count`` of them so far."""

    def __init__(self, file):
        self.file, self.count = file, 0

    def __iter__(self):
        with open(self.file, "rb") as stream:
            while line := stream.readline(_MAX_LINE + 1):
                self.count += 1
                where = f"{self.file}: line {self.count}"
                if len(line) > _MAX_LINE:
                    raise ValueError(f"{where} has more than {_MAX_LINE} bytes; expected one text a line")
                if self.count == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                try:
                    yield line.decode().removesuffix("\n").removesuffix("\r")
                except UnicodeDecodeError as error:
                    raise ValueError(f"{where} is not UTF-8, at its byte {error.start}") from None

    def explained(self, error, shard_size):
        """An error about a text of the shard that was being read, as one about a line of the file."""
        line = (self.count - 1) // shard_size * shard_size + error.number + 1
        advice = "; --truncate cuts it" if error.too_long else ""
        return ValueError(f"{self.file}: line {line} {error.reason}{advice}")


@contextlib.contextmanager
def _plain_warnings():
    """Warnings as lines for a person; those about texts that were cut are added up."""
    cut, others = {}, collections.Counter()

    def show(message, *_):
        found = re.search(r"(\d+) texts? (?:was|were) cut to (\d+) tokens", str(message))
        if found:
            cut[found[2]] = cut.get(found[2], 0) + int(found[1])
        else:
            others[str(message)] += 1

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show
            yield
    finally:
        for length, count in cut.items():
            print(f"plait embed: {count:,} {'text was' if count == 1 else 'texts were'} cut to {length} tokens",
                  file=sys.stderr)  # fmt: skip
        for message in others:
            print(f"plait embed: {message}", file=sys.stderr)
