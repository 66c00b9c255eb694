"""How a folder is spoiled: functions that give functions of its path, and what stands in files that are no JSON."""

import json
import os
import socket
from dataclasses import dataclass, field
from typing import Any

from hostile import changed, raw, write

from plait.io import load_tensors, save_tensors

WEIGHTS, INDEX, MODULES = "model.safetensors", "model.safetensors.index.json", "modules.json"
FIRST, SECOND = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))


@dataclass(frozen=True)
class Row:
    family: str
    name: str
    spoil: Any  # a function of the folder
    match: str  # a pattern that the message fits
    options: dict = field(default_factory=dict)  # of plait.load

    def __str__(self):
        return f"{self.family}: {self.name}"


# ---------------------------------------------------------------- what is done


def put(name, content):
    """Another content of a file; None: no file. A large one may be a function that makes it."""

    def spoil(path):
        (path / name).unlink(missing_ok=True)
        if content is not None:
            write({name: content() if callable(content) else content}, path)

    return spoil


def setting(name, where, value):
    """One value of a JSON file; `where` is a dotted path."""

    def spoil(path):
        keys = [int(k) if k.isdigit() else k for k in where.split(".")]
        put(name, changed(json.loads((path / name).read_text()), keys, value))(path)

    return spoil


def several(*spoilers):
    def spoil(path):
        for each in spoilers:
            each(path)

    return spoil


def tensors(change, name=WEIGHTS):
    """`change` is a function of the dict of a file's tensors."""

    def spoil(path):
        arrays = load_tensors(path / name)
        change(arrays)
        save_tensors(path / name, arrays)

    return spoil


def tensor(key, value, name=WEIGHTS):
    """One tensor, from an array or by a function of the old one; None: it is missing."""

    def change(arrays):
        arrays[key] = value(arrays[key]) if callable(value) else value
        if arrays[key] is None:
            del arrays[key]

    return tensors(change, name)


def header(change, name=WEIGHTS):
    """`change` is a function of the header of a file, which says what comes in its place."""

    def spoil(path):
        data = (path / name).read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        put(name, raw(change(json.loads(data[8:end])), data[end:]))(path)

    return spoil


def link(name, target):
    def spoil(path):
        if (path / name).is_file():
            (path / name).unlink()
        os.symlink(target, path / name)

    return spoil


def special(name, make):
    """Something else than a regular file in the place of one."""

    def spoil(path):
        (path / name).unlink()
        make(path / name)

    return spoil


def socket_at(file):
    here = os.getcwd()
    os.chdir(file.parent)  # the name of a socket has room for 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(file.name)
    finally:
        os.chdir(here)


def many(unit, count, begin=b"{", end=b"}"):
    """JSON of many members; `unit` has a place for a number, which makes each another one."""
    return begin + b",".join(unit % ((i,) * unit.count(b"%x")) for i in range(count)) + end


# ---------------------------------------------------------------- no JSON

DEEP = b"[" * 100_000 + b"]" * 100_000
NOT_JSON = {
    "empty": (b"", "not JSON"),
    "NUL bytes": (bytes(100), "not JSON"),
    "UTF-16": ('{"model_type": "clip"}'.encode("utf-16"), "not UTF-8"),
    "byte-order mark": (b"\xef\xbb\xbf{}", "not JSON"),
    "two documents": (b"{}{}", "not JSON"),
    "deep": (DEEP, "nested deeper"),
    "deep objects": (b'{"a":' * 100_000 + b"1", "nested deeper"),
    "open brackets": (b"[" * 1_000_000, "nested deeper|more than 150000 values"),
    "a key twice": (b'{"a": 1, "a": 2}', "'a' occurs twice"),
    "NaN": (b'{"a": NaN}', "not finite"),
    "1e400": (b'{"a": 1e400}', "not finite"),
    "5000 digits": (b'{"a": %s}' % (b"9" * 5000), "5000 digits"),
    "many lists": (many(b"[]", 300_000, b'{"a":[', b"]}"), "more than 150000 values"),
    "many keys": (many(b'"%x":0', 390_000), "more than 150000 values|larger than"),
    "a list": (b"[]", "expected an object"),
    "a text": (b'"clip"', "expected an object"),
    "null": (b"null", "expected"),
    "a program": (b"import os\nos.system('true')\n", "not JSON"),
    "a pickle": (b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94.", "not UTF-8"),
}
