"""What is fuzzed: functions of bytes that return, or raise what is a mistake.

A folder is written as text: ``=== family`` on the first line, then ``=== name`` before the content of each file that is
another one than the family's own (see ``hostile.FAMILIES``). The same without a family goes to the tokenizer.
"""

import atexit
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import hostile

from plait.io import load_tensors, map_tensors, read_header, strictjson

_HERE = None
_MAX = 1 << 16  # bytes: what is found in large inputs is found in small ones
_TEXTS = ["a cat", "", "dogs & CATS\u00e9\u732b \U0001f600\n" * 3, "<|endoftext|>[SEP]</s> ab"]


def place() -> Path:
    """A folder of this process, in memory where there is such a thing."""
    global _HERE
    if _HERE is None:
        _HERE = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        atexit.register(shutil.rmtree, _HERE, ignore_errors=True)
    return _HERE


def tensors(data: bytes):
    """A safetensors file: three readers, one opinion, no more memory than there is file."""
    file = place() / "x.safetensors"
    file.write_bytes(data)
    found = []
    for read in (read_header, load_tensors, map_tensors):
        try:
            found.append(read(file))
        except ValueError as error:
            assert str(error).startswith("x.safetensors"), error
            found.append(None)
    header, loaded, mapped = found
    assert (loaded is None) == (mapped is None)
    if loaded is not None:
        assert list(header) == list(loaded) == list(mapped)
        assert sum(a.nbytes for a in loaded.values()) <= len(data)
        for name, info in header.items():
            assert loaded[name].shape == mapped[name].shape == info.shape
            assert loaded[name].tobytes() == mapped[name].tobytes()


def text(data: bytes):
    """JSON: what is read, Python reads in the same way."""
    try:
        value = strictjson.loads(data, "x.json")
    except ValueError as error:
        assert str(error).startswith("x.json"), error
        return
    assert value == json.loads(data)
    try:
        assert strictjson.loads(strictjson.dumps(value, "x.json"), "x.json") == value
    except ValueError as error:
        assert "not valid Unicode" in str(error), error


def folder(data: bytes):
    """A checkpoint: a model that encodes, or an exception that says why not."""
    family, files = parts(data)
    family = family if family in hostile.FAMILIES else "clip"
    path, own = place() / family, hostile.FAMILIES[family]()
    if not path.exists():
        hostile.write(own, path)
    files = {name: content for name, content in files.items() if name in NAMES}
    try:
        for name, content in files.items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_bytes(content)
        hostile.attempt(path, seconds=10)
    finally:
        for name in files:
            (path / name).unlink()
        hostile.write({name: own[name] for name in files if name in own}, path)
        for name in {name.split("/")[0] for name in files if "/" in name} - {name.split("/")[0] for name in own}:
            (path / name).rmdir()


def tokenizer(data: bytes):
    """The files of a tokenizer: ids inside its vocabulary, or an exception that says why not."""
    from plait.processing import Tokenizer

    family, files = parts(data)
    try:
        made = Tokenizer({name: content for name, content in files.items() if name in TOKENIZER}, family)
        ids = made.encode(_TEXTS)
    except (ValueError, TypeError) as error:
        assert not isinstance(error, UnicodeError) and not re.search(hostile.LEAKED, str(error)), repr(error)
        return
    for each in ids:
        assert each.ndim == 1 and (each.size == 0 or 0 <= each.min() <= each.max() < len(made))
    made.tokens(_TEXTS[0])


def parts(data):
    """(family, files by name) of a folder that is written as text."""
    family, *chunks = data[:_MAX].split(b"=== ")[1:] or [b""]
    pairs = (chunk.partition(b"\n") for chunk in chunks)
    return family.strip().decode("ascii", "replace"), {
        name.decode("ascii", "replace"): content for name, _, content in pairs
    }


TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
             "merges.txt", "vocab.txt"}  # fmt: skip
NAMES = TOKENIZER | {
    "config.json", "open_clip_config.json", "preprocessor_config.json", "processor_config.json", "modules.json",
    "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json", "2_Dense/config.json",
    "model.safetensors.index.json", "model.safetensors",
}  # fmt: skip
TARGETS = {f.__name__: f for f in (tensors, text, folder, tokenizer)}
