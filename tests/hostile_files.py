"""Attacks on files and tensors, as a table; see hostile_rows.py."""

import json
import os

import ml_dtypes
import numpy as np
from hostile import WIDTH, Raw, entry, raw
from hostile_spoil import (
    DEEP,
    FIRST,
    INDEX,
    MODULES,
    NOT_JSON,
    SECOND,
    WEIGHTS,
    Row,
    header,
    link,
    many,
    put,
    setting,
    several,
    socket_at,
    special,
    tensor,
    tensors,
)

from plait.io import load_tensors

# ---------------------------------------------------------------- shards

NAMES = ("../model.safetensors", "/etc/model.safetensors", "a/model.safetensors", "", "a\0.safetensors",
         "\u00e9.safetensors", "-.safetensors", ".safetensors", "..", "model.bin", INDEX, "x" * 300 + ".safetensors",
         "\ud800.safetensors", "C:\\model.safetensors", "model.safetensors ", 1, None, True, [FIRST], {})  # fmt: skip
LOGIT = "logit_scale"


def both_have_it(path):
    arrays = load_tensors(path / FIRST)
    tensors(lambda other: other.update({LOGIT: arrays.get(LOGIT, np.float32(1))}), SECOND)(path)
    tensors(lambda other: other.update({LOGIT: np.float32(1)}), FIRST)(path)


def index_of(unit, count):
    return lambda: many(unit, count, b'{"weight_map":{', b"}}")


SHARDS = [
    *(
        Row("sharded", f"a shard named {n!r:.30}", setting(INDEX, f"weight_map.{LOGIT}", n), "names|is named")
        for n in NAMES
    ),
    *(Row("sharded", f"index: {n}", put(INDEX, c), f"{INDEX}.*({m}|weight_map)") for n, (c, m) in NOT_JSON.items()),
    *(Row("sharded", f"weight_map {v!r}", setting(INDEX, "weight_map", v), "weight_map") for v in ({}, [], 1, None)),
    Row("sharded", "a million tensors", put(INDEX, index_of(b'"%x":"a.safetensors"', 1_000_000)), "larger than"),
    Row("sharded", "too many tensors", put(INDEX, index_of(b'"%x":"a.safetensors"', 300_000)), "150000 values"),
    Row("sharded", "too many shards", put(INDEX, index_of(b'"%x":"%x.safetensors"', 120_000)), "more than 1000 files"),
    Row("sharded", "a shard that is not there", put(FIRST, None), f"{FIRST} is missing"),
    Row("sharded", "a tensor in the wrong shard", lambda path: setting(INDEX, f"weight_map.{LOGIT}", next(
        f for f in (FIRST, SECOND) if json.loads((path / INDEX).read_text())["weight_map"][LOGIT] != f))(path),
        f"tensor {LOGIT} is"),
    Row("sharded", "a tensor twice", both_have_it, f"tensor {LOGIT} is in"),
    Row("sharded", "a tensor that the index lacks", tensors(lambda t: t.update(more=np.zeros(2)), FIRST), "more is in"),
    Row("sharded", "a tensor that the shard lacks", setting(INDEX, "weight_map.more", FIRST), "more is not in"),
    Row("sharded", "a shard that is a link", several(put(FIRST, None), link(FIRST, SECOND)), f"{FIRST}: a link"),
    Row("sharded", "a shard that is cut off", lambda path: put(FIRST, (path / FIRST).read_bytes()[:-1])(path),
        "truncated"),
]  # fmt: skip

# ---------------------------------------------------------------- files

SPECIAL = {
    "a link to /etc/passwd": (lambda file: os.symlink("/etc/passwd", file), "a link to '/etc/passwd'"),
    "a link to /dev/zero": (lambda file: os.symlink("/dev/zero", file), "a link to '/dev/zero'"),
    "a link to a neighbour": (lambda file: os.symlink("vocab.txt", file), "a link to 'vocab.txt'"),
    "a link upwards": (lambda file: os.symlink("../../x", file), r"a link to '\.\./\.\./x'"),
    "a link to itself": (lambda file: os.symlink(file.name, file), "a link to"),
    "a link to nothing": (lambda file: os.symlink("absent", file), "a link to 'absent'"),
    "a link like the cache's, with more": (
        lambda file: os.symlink(f"../../blobs/{'a' * 40}/../../../x", file), "a link to"),
    "a link like the cache's, too short": (lambda file: os.symlink(f"../../blobs/{'a' * 39}", file), "a link to"),
    "a link like the cache's, too far up": (lambda file: os.symlink(f"{'../' * 5}blobs/{'a' * 40}", file), "a link to"),
    "a link like the cache's, absolute": (lambda file: os.symlink(f"/blobs/{'a' * 40}", file), "a link to"),
    "a link like the cache's, named otherwise": (lambda file: os.symlink(f"../../stuff/{'a' * 40}", file), "a link to"),
    "a pipe": (os.mkfifo, "special file"),
    "a folder": (os.mkdir, "folder"),
    "a socket": (socket_at, "special file"),
}  # fmt: skip
FILES = [
    Row("sentence", f"{name} is {what}", special(name, make), f"{name}.*{match}")
    for name in ("config.json", WEIGHTS, MODULES, "vocab.txt", "tokenizer_config.json", "sentence_bert_config.json")
    for what, (make, match) in SPECIAL.items()
]
PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "tf_model.h5", "flax_model.msgpack", "model.pkl",
           "weights.npz", "model.onnx", "model.gguf")  # fmt: skip
FILES += [
    *(
        Row("bert", f"only {n}", several(put(WEIGHTS, None), put(n, b"\x80\x04.")),
            f"{n} is of a kind.*code.*save_pretrained")
        for n in PICKLES
    ),
    Row("bert", "no weights", put(WEIGHTS, None), "model.safetensors is missing"),
    Row("bert", "two files of weights", lambda path: [put(n, (path / WEIGHTS).read_bytes())(path) for n in (
        "a.safetensors", "b.safetensors")] and put(WEIGHTS, None)(path), "which one are the weights"),
    Row("openai", "nothing but odd tensors", put(WEIGHTS, raw({"a": entry()}, bytes(8))), "config.json is missing"),
]  # fmt: skip

# ---------------------------------------------------------------- tensors

WORD, FC1 = "embeddings.word_embeddings.weight", "encoder.layer.0.intermediate.dense.weight"
QUERY, BIAS = "encoder.layer.0.attention.self.query.weight", "encoder.layer.0.attention.self.key.bias"
PLACES = "vision_model.embeddings.position_embedding.weight"
DTYPES = {"int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}
SHAPES = {
    "transposed": lambda a: np.ascontiguousarray(a.T), "flat": lambda a: a.reshape(-1),
    "of no elements": lambda a: np.zeros((0, WIDTH), "f4"), "of no columns": lambda a: np.zeros((len(a), 0), "f4"),
    "a number": lambda a: np.float32(1), "one row more": lambda a: np.concatenate([a, a[:1]]),
    "one row less": lambda a: a[1:], "of rank 8 and another size": lambda a: np.zeros((1,) * 6 + (3, WIDTH), "f4"),
}  # fmt: skip


def inverse(h):
    """The same bytes under offsets that overlap."""
    h[QUERY]["data_offsets"] = h[QUERY.replace("query", "key")]["data_offsets"]
    return h


def moved(h):
    """A gap before the last tensor."""
    last = max((k for k in h if k != "__metadata__"), key=lambda k: h[k]["data_offsets"][1])
    h[last]["data_offsets"] = [n + 4 for n in h[last]["data_offsets"]]
    return h


def entry_is(key, value):
    def change(h):
        h[WORD][key] = value
        return h

    return header(change)


TENSORS = [
    *(
        Row("bert", f"{key.split('.')[-2]} is {short}", tensor(key, lambda a, t=t: a.astype(t)), f"{key} has dtype {t}")
        for key in (WORD, QUERY, BIAS) for t, short in DTYPES.items()
    ),
    *(
        Row("bert", f"{key.split('.')[-2]} is {name}", tensor(key, change), f"{key}.*where the configuration says")
        for key in (WORD, FC1) for name, change in SHAPES.items()
    ),
    *(
        Row("bert", f"query is {name}", tensor(QUERY, change), "query.weight")
        for name, change in SHAPES.items() if name != "transposed"
    ),
    Row("bert", "a tensor too few", tensor(WORD, None), f"tensor {WORD} is missing"),
    Row("bert", "a tensor too many", tensors(lambda t: t.update(evil=np.zeros(3))), "evil is not part of the model"),
    Row("bert", "F64 beyond float32", tensor(WORD, lambda a: np.full(a.shape, 1e300)), "too large for float32"),
    Row("bert", "old and new name", tensors(lambda t: t.update({"embeddings.LayerNorm.gamma": np.zeros(WIDTH)})),
        "is there under its old name"),
    Row("bert", "overlapping tensors", header(inverse), "bytes, expected|overlap|gap"),
    Row("bert", "a gap", header(moved), "gap|truncated"),
    Row("bert", "2**62 rows", entry_is("shape", [2**62, WIDTH]), "no array"),
    Row("bert", "2**40 rows", entry_is("shape", [2**40, WIDTH]), "bytes, expected"),
    Row("bert", "rows of -1", entry_is("shape", [-1, WIDTH]), "shape is"),
    Row("bert", "rows of true", entry_is("shape", [True, WIDTH]), "shape is"),
    Row("bert", "rows of 1e400", entry_is("shape", [Raw("1e400"), WIDTH]), "not finite"),
    Row("bert", "rank 9", entry_is("shape", [1] * 9), "shape is"),
    Row("bert", "dtype F4", entry_is("dtype", "F4"), "dtype is"),
    Row("bert", "dtype O", entry_is("dtype", "O"), "dtype is"),
    Row("bert", "another dtype", entry_is("dtype", "F64"), "bytes, expected"),
    Row("bert", "offsets of 2**63", entry_is("data_offsets", [2**63, 2**63 + 8]), "data_offsets"),
    Row("bert", "a name twice", header(lambda h: b'{"a":1,"a":2}'), "'a' occurs twice"),
    Row("bert", "a deep header", header(lambda h: DEEP), "nested deeper"),
    Row("bert", "a name of 513 bytes", header(lambda h: {**h, "n" * 513: entry()}), "512 bytes"),
    Row("bert", "trailing bytes", lambda path: put(WEIGHTS, (path / WEIGHTS).read_bytes() + b"\x80\x04.")(path),
        "trailing bytes"),
    Row("bert", "100,000 tensors", put(WEIGHTS, lambda: raw(many(
        b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}', 100_000))), "missing"),
    Row("bert", "a header of lists", put(WEIGHTS, lambda: raw(many(b"[]", 1_900_000, b'{"a":[', b"]}"))),
        "more than tensors"),
    Row("bert", "a header of keys", put(WEIGHTS, lambda: raw(many(b'"%x":0', 550_000))), "more than tensors"),
    Row("bert", "a header of metadata", put(WEIGHTS, lambda: raw(
        many(b'"%x":""', 400_000, b'{"__metadata__":{', b"}}"))), "more than tensors"),
    Row("bert", "a header of one name", put(WEIGHTS, lambda: raw(b'{"' + b"n" * (5 << 20) + b'":{}}')),
        "more than tensors"),
    Row("bert", "a header of 7 MB", put(WEIGHTS, lambda: raw(b"{" + b" " * (7 << 20) + b"}")), "a header of"),
    Row("openai", "conv1 of rank 1", tensor("visual.conv1.weight", np.zeros(3, "f4")), "visual.conv1.weight has shape"),
    Row("openai", "conv1 of no elements", tensor("visual.conv1.weight", np.zeros((0, 3, 4, 4), "f4")), "width is 0"),
    Row("openai", "no positions", tensor("visual.positional_embedding", np.zeros((0, WIDTH), "f4")), "size is 0"),
    *(
        Row("openai", f"{n} is a number", tensor(n, np.float32(1)), n)
        for n in ("visual.positional_embedding", "token_embedding.weight", "text_projection", "positional_embedding",
                  "visual.transformer.resblocks.0.mlp.c_fc.weight", "transformer.resblocks.0.mlp.c_fc.weight")
    ),
    Row("openai", "a thousand layers", tensors(lambda t: t.update(
        {f"visual.transformer.resblocks.{i}.x": np.zeros(1) for i in range(1000)})), "1000 layers"),
    Row("openai", "layer 10**300", tensors(lambda t: t.update(
        {f"visual.transformer.resblocks.{10**300}.x": np.zeros(1)})), "is missing"),
    Row("openai", "a ResNet", tensor("visual.layer1.0.conv1.weight", np.zeros(1)), "ResNet"),
    *(
        Row("clip", f"image_size=12 with {rows} positions", tensor(PLACES, np.zeros((rows, WIDTH), "f4")),
            f"{PLACES}", {"image_size": 12})
        for rows in (0, 1, 3, 4, 6, 7)
    ),
    *(
        Row("clip", f"image_size=12 with positions {name}", tensor(PLACES, change), "position_embedding",
            {"image_size": 12})
        for name, change in (
            ("of I64", lambda a: a.astype(np.int64)), ("of one dimension", lambda a: a[:, 0].copy()),
            ("of another width", lambda a: a[:, :-1].copy()), ("that are a number", lambda a: np.float32(1)),
            ("that are two tables", lambda a: np.stack([a, a])),
            ("beyond float32", lambda a: np.full(a.shape, 1e300)),
        )
    ),
    *(
        Row("clip", f"image_size={size!r}", lambda path: None, "image_size is|describes|patch", {"image_size": size})
        for size in (0, -8, True, "8", 8.0, 2**40, 16384, [8, 12], 3, {})
    ),
    Row("bert", "image_size of a text encoder", lambda path: None, "image_size is for", {"image_size": 8}),
]  # fmt: skip
WELL = {
    "a tensor as float16": ("bert", tensor(WORD, lambda a: a.astype(np.float16))),
    "a tensor as bfloat16": ("bert", tensor(WORD, lambda a: a.astype(ml_dtypes.bfloat16))),
    "a tensor as float64": ("bert", tensor(WORD, lambda a: a.astype(np.float64))),
    "a tensor of rank 8": ("bert", tensor(FC1, lambda a: a.reshape((1,) * 6 + a.shape))),
    "positions for another size, on request": ("clip", lambda path: None),
    "a head for another task": ("bert", tensors(lambda t: t.update({"cls.predictions.bias": np.zeros(3)}))),
    "unknown keys": ("bert", setting("config.json", "trust_remote_code", True)),
    "unknown keys that hold anything": (
        "clip", setting("config.json", "vision_config.x", [{"a": [1e300, None, "os"]}])),
    "metadata": ("bert", header(lambda h: {**h, "__metadata__": {"format": "evil", "code": "os.system"}})),
    "an activation by another path": (
        "sentence", setting("2_Dense/config.json", "activation_function", "evil.module.Tanh")),
}  # fmt: skip
