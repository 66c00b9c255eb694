"""Folders that ask for time and memory; run as a program, it loads each in a process of its own and says what it took.

A process measures itself: resident memory at its highest after loading, less that before.
"""

import ctypes
import gzip
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import hostile
import numpy as np
from hostile import raw
from hostile_files import PLACES
from hostile_spoil import INDEX, WEIGHTS, header, many, put, setting, several, tensor

import plait
import plait.processing

WORDS = "text_model.embeddings.token_embedding.weight"
U8 = b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
LONG = b'"%x":{"dtype":"U8","shape":[0,999,999,999,999,999,999],"data_offsets":[0,0]}'


def sparse(dtype, size, count):
    """A file of that many bytes that takes no room on the disk."""

    def spoil(path):
        put(WEIGHTS, lambda: raw({"a": hostile.entry(dtype, (count,), 0, size)}))(path)
        with open(path / WEIGHTS, "r+b") as file:
            file.truncate(file.seek(0, os.SEEK_END) + size)

    return spoil


def layers(count):
    return several(*(setting("config.json", f"{t}_config.num_hidden_layers", count) for t in ("text", "vision")))


def positions(side, patch=hostile.PATCH):
    table = np.zeros((side * side + 1, hostile.WIDTH), np.float32)
    patches = np.zeros((hostile.WIDTH, 3, patch, patch), np.float32)
    return several(
        setting("config.json", "vision_config.patch_size", patch),
        tensor(PLACES, table),
        tensor("vision_model.embeddings.patch_embedding.weight", patches),
    )


# name -> family, what is done, options of plait.load; "tokenizer" also makes the tokenizer.
ROWS = {
    "nothing": ("clip", lambda path: None, {}),
    "100,000 tensors": ("clip", put(WEIGHTS, lambda: raw(many(U8, 100_000))), {}),
    "tensors of rank 7": ("clip", put(WEIGHTS, lambda: raw(many(LONG, 70_000))), {}),
    "tensors of two names": ("bert", put(WEIGHTS, lambda: raw(many(b'"LayerNorm%x.gamma"' + U8[4:], 80_000))), {}),
    "a header of lists": ("clip", put(WEIGHTS, lambda: raw(many(b"[]", 1_900_000, b'{"a":[', b"]}"))), {}),
    "a header of keys": ("clip", put(WEIGHTS, lambda: raw(many(b'"%x":0', 500_000))), {}),
    "a header of one list": ("clip", header(lambda h: {"a": hostile.entry(shape=[1] * 300_000)}), {}),
    "a header of open brackets": ("clip", put(WEIGHTS, lambda: raw(b"[" * (5 << 20))), {}),
    "a header of an emoji": ("clip", put(WEIGHTS, lambda: raw(
        ('{"\U0001f600' + "a" * (5 << 20) + '":0}').encode())), {}),
    "a tensor of 4 GB": ("clip", sparse("F32", 4 << 30, 1 << 30), {}),
    "booleans of 100 MB": ("clip", sparse("BOOL", 100 << 20, 100 << 20), {}),
    "a tensor of 8 EB": ("clip", header(lambda h: {"a": hostile.entry(shape=[2**60 - 1], end=2**62 - 4)}), {}),
    "a config of lists": ("clip", put("config.json", lambda: many(b"[]", 65_000, b'{"a":[', b"]}")), {}),
    "a config of keys": ("clip", put("config.json", lambda: many(b'"%x":{}', 99_000)), {}),
    "a config of brackets": ("clip", put("config.json", b"[" * 1_000_000), {}),
    "17 billion parameters": ("clip", setting("config.json", "text_config.hidden_size", 65536), {}),
    "16 million words": ("clip", setting("config.json", "text_config.vocab_size", 1 << 24), {}),
    "16 million words, not strictly": ("clip", several(
        setting("config.json", "text_config.vocab_size", 1 << 24), tensor(WORDS, None)), {"strict": False}),
    "half a million words, not strictly": ("clip", several(
        setting("config.json", "text_config.vocab_size", 1 << 19), tensor(WORDS, None)), {"strict": False}),
    "256 layers": ("clip", layers(256), {}),
    "256 layers, not strictly": ("clip", layers(256), {"strict": False}),
    "10**9 layers": ("clip", layers(10**9), {}),
    "pictures of 16384": ("clip", setting("config.json", "vision_config.image_size", 16384), {}),
    "image_size=16384": ("clip", positions(2, 1), {"image_size": 16384}),
    "image_size=400 of patches of 1": ("clip", positions(350, 1), {"image_size": 400}),
    "a million positions": ("clip", positions(1000), {"image_size": 8}),
    "700,000 tensors in an index": ("sharded", put(INDEX, lambda: many(
        b'"%x":"x.safetensors"', 700_000, b'{"weight_map":{', b"}}")), {}),
    "145,000 files in an index": ("sharded", put(INDEX, lambda: many(
        b'"%x":"%x.safetensors"', 145_000, b'{"weight_map":{', b"}}")), {}),
    "a merges file of 50 MB in 50 KB": ("openai", put("bpe_simple_vocab_16e6.txt.gz", lambda: gzip.compress(
        bytes(50 << 20))), {"tokenizer": True}),
    "a vocabulary of lists": ("clip", put("vocab.json", lambda: many(b"[]", 150_000, b"[", b"]")), {"tokenizer": True}),
    "a tokenizer of lists": ("clip", put("tokenizer.json", lambda: many(b"[]", 5_000_000, b"[", b"]")),
                             {"tokenizer": True}),
    "merges of 20 MB": ("clip", put("merges.txt", b"a b\n" * 100 + b"x" * (20 << 20)), {"tokenizer": True}),
    "/dev/zero": ("clip", lambda path: (os.unlink(path / "config.json"), os.symlink("/dev/zero", path / "config.json")),
                  {}),
}  # fmt: skip


def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def measure(path, options):
    """In this process: (what came out, bytes, seconds of the processor)."""
    options = dict(options)
    then = options.pop("tokenizer", False)
    ctypes.CDLL(None).malloc_trim(0)  # so that memory which was free before does not hide what is taken
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident size begins anew
    before, start = resident("VmRSS"), time.process_time()
    try:
        model = plait.load(path, **options)
        if then:
            _ = model.tokenizer
        what = "loaded"
    except hostile.ALLOWED as error:
        what = f"{type(error).__name__}: {error}"[:300]
    except BaseException as error:
        what = f"UNEXPECTED {type(error).__name__}: {error}"[:300]
    return what, resident("VmHWM") - before, time.process_time() - start


def run(name):
    family, spoil, options = ROWS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = hostile.write(hostile.FAMILIES[family](), Path(folder))
        spoil(path)
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file() and not f.is_symlink())
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            # A mapped file counts, read or not; beyond it 1 GB, so that a mistake ends here and not in the machine.
            limit = resident("VmSize") + size + (1 << 30)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            os.write(writer, json.dumps([name, size, *measure(path, options)]).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            result = pipe.read()
        status = os.waitpid(child, 0)[1]
        return json.loads(result) if result else [name, size, f"UNEXPECTED end {status}", 0, 0]


if __name__ == "__main__":
    import logging

    logging.getLogger("plait").setLevel(logging.ERROR)
    hostile.use(plait.load(hostile.write(hostile.clip(), tempfile.mkdtemp(dir=sys.argv[1]))))  # what is imported late
    for each in ROWS:
        print(json.dumps(run(each)), flush=True)
