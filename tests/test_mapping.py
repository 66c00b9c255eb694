"""Weights that stay in their file: mapped tensors, parameters that adopt them, hollow modules, folders."""

import copy
import dataclasses
import gc
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import plait
from plait import io, nn
from plait.io import schema
from plait.io.folder import Folder, HeldFolder

RNG = np.random.default_rng(0)


def anonymous():
    """Kilobytes of memory that are this process's alone."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))


# ---------------------------------------------------------------- mapped tensors


def every_dtype():
    for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        yield dtype, RNG.integers(0, 100, (3, 5)).astype(dtype)
    yield "bool", RNG.integers(0, 2, 7).astype(bool)
    yield "scalar", np.float32(2.5)
    yield "empty", np.empty((0, 4), np.float32)
    yield "odd", np.arange(3, dtype=np.uint8)


def test_a_mapped_file_is_what_is_read(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="it makes the bfloat16 arrays")
    tensors = dict(every_dtype())
    tensors["bf16"] = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    io.save_tensors(tmp_path / "t", tensors)
    mapped, read = io.map_tensors(tmp_path / "t"), io.load_tensors(tmp_path / "t")
    assert mapped.keys() == read.keys() == tensors.keys()
    for name, array in read.items():
        assert mapped[name].dtype == array.dtype and mapped[name].shape == array.shape
        assert mapped[name].tobytes() == array.tobytes() == np.asarray(tensors[name]).tobytes()


def written_by_hand(path, shift, values):
    """A safetensors file whose data begin `shift` bytes after a multiple of four."""
    entry = f'"w":{{"dtype":"F32","shape":[{values.size}],"data_offsets":[0,{values.nbytes}]}}'
    header = f"{{{entry}}}".encode()
    header += b" " * ((shift - 8 - len(header)) % 4)
    path.write_bytes(struct.pack("<Q", len(header)) + header + values.tobytes())
    assert (8 + len(header)) % 4 == shift


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_data_at_any_place_of_a_file(tmp_path, shift):
    values = RNG.standard_normal(12).astype("<f4")
    written_by_hand(tmp_path / "t", shift, values)
    array = io.map_tensors(tmp_path / "t")["w"]
    assert array.flags.aligned == (shift == 0)
    np.testing.assert_array_equal(array, values)
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.adopt(array.reshape(3, 4))
    x = RNG.standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_allclose(layer(x).data, x @ values.reshape(3, 4).T, rtol=1e-5, atol=1e-6)
    assert np.shares_memory(layer.weight.data, array) == (shift == 0)


def test_what_is_written_never_reaches_the_file(tmp_path):
    file = tmp_path / "t"
    io.save_tensors(file, {"w": np.ones((64, 64), np.float32)})
    before = file.read_bytes()
    file.chmod(0o444)
    first, second = io.map_tensors(file)["w"], io.map_tensors(file)["w"]
    parameter = nn.Parameter(np.zeros((64, 64)))
    parameter.adopt(first)
    with parameter.edit() as array:
        array[3] = 7
    first[5] = 8
    assert (parameter.data[3] == 7).all() and (parameter.data[5] == 8).all()
    assert (second == 1).all() and (io.load_tensors(file)["w"] == 1).all()
    assert file.read_bytes() == before


def test_a_mapped_file_may_be_replaced_and_removed(tmp_path):
    file = tmp_path / "t"
    io.save_tensors(file, {"w": np.full(5000, 3.0, np.float32)})
    array = io.map_tensors(file)["w"]
    io.save_tensors(file, {"w": np.zeros(10, np.float32)})
    file.unlink()
    assert (array == 3).all()
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        io.save_tensors(file, {"w": np.zeros(10, np.float32)})
        array = io.map_tensors(file)["w"]
    del array
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_given_descriptor_is_closed(tmp_path):
    io.save_tensors(tmp_path / "t", {"w": np.arange(3)})
    fd = os.open(tmp_path / "t", os.O_RDONLY)
    assert io.map_tensors("a name", opened=fd)["w"].tolist() == [0, 1, 2]
    with pytest.raises(OSError):
        os.fstat(fd)
    (tmp_path / "t").write_bytes(b"12345")
    fd = os.open(tmp_path / "t", os.O_RDONLY)
    with pytest.raises(ValueError, match="a name: 5 bytes"):
        io.map_tensors("a name", opened=fd)
    with pytest.raises(OSError):
        os.fstat(fd)


SMALL = {"size": 8, "patch": 8, "width": 64, "layers": 0, "heads": 2}
LARGE = {"vocabulary": 100_000, "length": 8, "width": 64, "layers": 1, "heads": 2}  # 26 MB of tokens


def test_a_loaded_model_takes_no_memory_of_its_own(tmp_path):
    """In a process of its own: what others left free would hide it."""
    config = {"type": "dual_encoder", "config": {"embed_dim": 64, "image": SMALL, "text": LARGE}}
    model = plait.create_model(config)
    model.save(tmp_path / "m")
    due = model.eval().encode_text([[1, 2, 99_999]])
    code = """
import re, sys, numpy as np, plait
from pathlib import Path
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
import plait.models.pretrained.load
np.ones((64, 64), np.float32) @ np.ones((64, 64), np.float32)
before = anonymous()
model = plait.load(sys.argv[1])
loaded = anonymous()
row = model.encode_text([[1, 2, 99_999]])
used = anonymous()
table = model.text.tokens.weight
with table.edit() as array:
    array += 1
print(loaded - before, used - before, anonymous() - before)
print(row.tobytes().hex())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    numbers, row = done.stdout.splitlines()
    loaded, used, written = map(int, numbers.split())
    table = LARGE["vocabulary"] * LARGE["width"] * 4 // 1024
    assert loaded < table // 4 and used < table // 2
    assert written > table * 0.9  # the measure sees pages that are written to
    np.testing.assert_allclose(np.frombuffer(bytes.fromhex(row), np.float32)[None], due, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- parameters


def not_adopted():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    frozen = x.copy()
    frozen.setflags(write=False)
    yield "float64", x.astype(np.float64)
    yield "float16", x.astype(np.float16)
    yield "int", x.astype(int)
    yield "swapped", x.astype(">f4")
    yield "fortran", np.asfortranarray(x)
    yield "strided", np.repeat(x, 2, axis=1)[:, ::2]
    yield "reversed", x[::-1].copy()[::-1]
    yield "read-only", frozen
    yield "broadcast", np.broadcast_to(x[:1], (3, 4))
    yield "list", x.tolist()
    yield "tensor", plait.Tensor(x.astype(np.float64))


@pytest.mark.parametrize(("name", "array"), list(not_adopted()))
def test_what_cannot_be_adopted_is_copied(name, array):
    parameter = nn.Parameter(np.zeros((3, 4)))
    held = parameter.data
    parameter.adopt(array)
    due = np.asarray(array.data if isinstance(array, plait.Tensor) else array, np.float32)
    np.testing.assert_array_equal(parameter.data, due)
    assert np.shares_memory(parameter.data, held) and not np.shares_memory(parameter.data, due)
    with parameter.edit() as values:
        values += 1
    np.testing.assert_array_equal(np.asarray(array.data if isinstance(array, plait.Tensor) else array), due)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((4, 3), np.float32), ValueError, r"adopt: array has shape \(4, 3\), expected \(3, 4\)"),
        (np.zeros((3, 4), complex), TypeError, "adopt: array has dtype complex128, expected a floating dtype"),
        (np.full((3, 4), "a"), TypeError, "adopt: array has dtype"),
    ],
)
def test_what_is_no_value(array, error, message):
    parameter = nn.Parameter(np.ones((3, 4)))
    with pytest.raises(error, match=message):
        parameter.adopt(array)
    assert (parameter.data == 1).all() and parameter.version == 0


def test_an_adopted_array_is_the_value():
    layer, x = nn.Linear(64, 48), RNG.standard_normal((7, 64)).astype(np.float32)
    with plait.no_grad():
        layer(x)  # packs the old weight
    array = RNG.standard_normal((48, 64)).astype(np.float32)
    layer.weight.adopt(array)
    assert layer.weight.version == 1 and np.shares_memory(layer.weight.data, array)
    assert not layer.weight.data.flags.writeable and array.flags.writeable
    with plait.no_grad():
        np.testing.assert_allclose(layer(x).data, x @ array.T, rtol=1e-4, atol=1e-4)
    layer.weight.assign(np.zeros((48, 64)))
    assert not array.any()  # it is the same memory
    again = copy.deepcopy(layer)
    again.weight.assign(np.ones((48, 64)))
    assert not array.any()


def test_a_tape_that_recorded_the_old_value_refuses():
    layer = nn.Linear(4, 3)
    loss = layer(plait.Tensor(np.ones((2, 4), np.float32), requires_grad=True)).sum()
    layer.weight.adopt(np.zeros((3, 4), np.float32))
    with pytest.raises(RuntimeError, match="was changed since forward"):
        loss.backward()


def test_a_parameter_in_an_arena_stays_there():
    layer = nn.Linear(4, 3, bias=False)
    optimizer = plait.optim.SGD(layer, lr=1.0)
    housed = layer.weight.data
    array = np.full((3, 4), 2.0, np.float32)
    layer.weight.adopt(array)
    assert np.shares_memory(layer.weight.data, housed) and not np.shares_memory(layer.weight.data, array)
    layer(np.ones((2, 4), np.float32)).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(layer.weight.data, 0.0)  # 2 - 1 * 2
    assert (array == 2).all()


def test_training_moves_a_mapped_model_out_of_its_file(tmp_path):
    io.save_tensors(tmp_path / "t", {"weight": np.ones((3, 4), np.float32)})
    before = (tmp_path / "t").read_bytes()
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.adopt(io.map_tensors(tmp_path / "t")["weight"])
    optimizer = plait.optim.AdamW(layer, lr=0.1)
    layer(np.ones((2, 4), np.float32)).sum().backward()
    optimizer.step()
    assert (layer.weight.data < 1).all() and (tmp_path / "t").read_bytes() == before


def resident(array):
    """Kilobytes of the mapping around an array that are in memory."""
    size, found = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            begin, end = (int(group, 16) for group in head.groups())
            found = begin <= array.ctypes.data < end
        elif found and line.startswith("Rss:"):
            size += int(line.split()[1])
    return size


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_packed_weights_leave_no_second_copy_in_memory(tmp_path, precision):
    if not plait._core.has(precision):
        pytest.skip(f"this processor has no instructions for {precision}")
    weight = RNG.standard_normal((1024, 2048), dtype=np.float32)  # 8 MB
    io.save_tensors(tmp_path / "t", {"weight": weight})
    layer = nn.Linear(2048, 1024, bias=False)
    layer.weight.adopt(io.map_tensors(tmp_path / "t")["weight"])
    layer.freeze()
    x = RNG.standard_normal((3, 2048), dtype=np.float32)
    low = layer.to(precision)
    y = low(x).data
    assert layer.weight.pack.mapped and low.weight.pack.nbytes >= weight.nbytes // 4
    assert resident(layer.weight.data) < 100
    assert np.array_equal(layer.weight.data, weight)  # the file is still there
    with layer.weight.edit() as values:
        assert not layer.weight.pack.mapped
        values[0] = 1
    changed = layer(x).data
    np.testing.assert_allclose(changed[:, 0], x.sum(1), rtol=1e-3, atol=1e-3)
    assert (layer.weight.data[0] == 1).all() and np.array_equal(layer.weight.data[1:], weight[1:])
    assert np.array_equal(low(x).data, y) or precision == "f32"  # a copy keeps its packs
    plait.empty_cache()
    assert (layer.weight.data[0] == 1).all()


def test_what_is_written_to_is_no_longer_of_the_file(tmp_path):
    io.save_tensors(tmp_path / "t", {"weight": np.ones((64, 64), np.float32)})
    writes = {
        "assign": lambda layer: layer.weight.assign(np.full((64, 64), 2.0)),
        "load_state_dict": lambda layer: layer.load_state_dict({"weight": np.full((64, 64), 2.0)}),
        "adopt": lambda layer: layer.weight.adopt(np.full((64, 64), 2.0, np.float32)),
        "optimiser": lambda layer: plait.optim.SGD(layer, lr=1.0),
    }
    for name, write in writes.items():
        layer = nn.Linear(64, 64, bias=False)
        layer.weight.adopt(io.map_tensors(tmp_path / "t")["weight"])
        assert layer.weight.pack.mapped
        write(layer)
        assert not layer.weight.pack.mapped, name
        layer(np.ones((2, 64), np.float32))
        assert (layer.weight.data == (1 if name == "optimiser" else 2)).all(), name


def test_hollow_modules_are_zeros_that_nobody_touched():
    assert not nn.init.is_hollow()
    before = anonymous()
    with nn.init.hollow():
        assert nn.init.is_hollow()
        with nn.init.hollow():
            pass
        assert nn.init.is_hollow()  # the outer one still is
        block = nn.EncoderBlock(2048, 8, layer_scale=3.0)  # 200 MB
        assert all(not p.data.flags.writeable for p in block.parameters())
    assert not nn.init.is_hollow()
    assert anonymous() - before < 20_000
    assert (
        not block.norm1.weight.data.any() and not block.scale1.data.any() and not block.attention.qkv.weight.data.any()
    )
    with pytest.raises(RuntimeError), nn.init.hollow():
        raise RuntimeError
    assert not nn.init.is_hollow()
    assert nn.LayerNorm(3).weight.data.all()


def test_hollow_is_of_its_thread():
    import threading

    found = []
    with nn.init.hollow():
        worker = threading.Thread(target=lambda: found.append(nn.init.is_hollow()))
        worker.start()
        worker.join()
    assert found == [False]


# ---------------------------------------------------------------- the schema


@dataclasses.dataclass(frozen=True)
class Part:
    width: int = schema.integer(1, 9)
    kind: str = schema.choice("a", "b", default="a")

    def check(self, path):
        if self.width == 7:
            raise ValueError(f"{path}.width is unlucky")


@dataclasses.dataclass(frozen=True)
class Whole:
    modes: tuple = schema.words("mean", "max", default=("mean",))
    parts: tuple = schema.sections(Part)


def test_words_and_sections():
    assert schema.parse(Whole, {}) == Whole(("mean",), ())
    data = {"modes": ["max", "mean"], "parts": [{"width": 3}, {"width": 4, "kind": "b"}]}
    config = schema.parse(Whole, data)
    assert config == Whole(("max", "mean"), (Part(3), Part(4, "b")))
    assert schema.parse(Whole, config) == schema.parse(Whole, schema.unparse(config)) == config
    assert schema.unparse(config)["parts"] == [{"width": 3, "kind": "a"}, {"width": 4, "kind": "b"}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"modes": []}, r"config\.modes is \[\], expected a list of words"),
        ({"modes": "mean"}, r"config\.modes is 'mean', expected a list of words"),
        ({"modes": ["mean", "sum"]}, r"config\.modes\[1\] is 'sum', expected one of mean, max"),
        ({"modes": [["mean"]]}, r"config\.modes\[0\] is"),
        ({"modes": None}, r"config\.modes is None"),
        ({"modes": ["mean"] * 5000}, r"config\.modes is"),
        ({"parts": None}, r"config\.parts is None, expected a list of objects"),
        ({"parts": {"width": 1}}, r"config\.parts is"),
        ({"parts": [3]}, r"config\.parts\[0\] is 3, expected an object"),
        ({"parts": [{"width": 1}, {}]}, r"config\.parts\[1\]\.width is missing"),
        ({"parts": [{"width": 10}]}, r"config\.parts\[0\]\.width is 10, expected 1 to 9"),
        ({"parts": [{"width": 1, "x": 1}]}, r"config\.parts\[0\]\.x is unknown"),
        ({"parts": [{"width": 7}]}, r"config\.parts\[0\]\.width is unlucky"),
        ({"parts": [{"width": 1}] * 5000}, r"config\.parts is"),
    ],
)
def test_what_words_and_sections_refuse(data, message):
    with pytest.raises(ValueError, match=message):
        schema.parse(Whole, data)


# ---------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    (path / "1_Pooling").mkdir(parents=True)
    (path / "config.json").write_text('{"width": 8}')
    (path / "1_Pooling" / "config.json").write_text("[1]")
    (path / "data.bin").write_bytes(b"0123456789")
    (tmp_path / "secret").write_text("secret")
    return path


def test_a_folder_and_what_is_held_of_it(folder):
    held = HeldFolder(folder, {n: (folder / n).read_bytes() for n in ("config.json", "data.bin")})
    with Folder(folder) as opened:
        assert opened.names() == ["1_Pooling", "config.json", "data.bin"]
        assert held.names() == ["config.json", "data.bin"]
        for one in (opened, held):
            assert one.path == folder
            assert one.json("config.json") == one.find_json("config.json") == {"width": 8}
            assert one.read("data.bin", 10) == one.find("data.bin", 10) == b"0123456789"
            assert one.find("absent", 10) is None and one.find_json("absent.json") is None
            with pytest.raises(FileNotFoundError, match="no such file: 'absent'"):
                one.read("absent", 10)
            with pytest.raises(ValueError, match=r"data\.bin: .*9 bytes"):
                one.read("data.bin", 9)
            with pytest.raises(ValueError, match=r"data\.bin: not JSON"):
                one.json("data.bin")
        with opened.sub("1_Pooling") as inner:
            assert inner.json("config.json") == [1] and inner.path == folder / "1_Pooling"
        folder.rename(folder.parent / "moved")  # all files are of the folder that was opened
        assert opened.json("config.json") == {"width": 8}
    with pytest.raises(OSError):
        os.fstat(opened.fd)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "a\0b", "a\n", None, 3])
def test_no_name_leads_out_of_a_folder(folder, name):
    with Folder(folder) as opened:
        for call in (lambda: opened.read(name, 100), lambda: opened.json(name), lambda: opened.open(name)):
            with pytest.raises(ValueError, match="a file is named"):
                call()
        with pytest.raises(ValueError, match="a file is named"), opened.sub(name):
            pass


def test_links_are_refused_but_those_of_the_hubs_cache(folder):
    (folder / "link").symlink_to("../secret")
    (folder / "loop").symlink_to("loop")
    (folder / "inside").symlink_to("data.bin")
    (folder / "sub").symlink_to("1_Pooling")
    os.mkfifo(folder / "pipe")
    blobs, snapshot = folder.parent / "blobs", folder.parent / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    name = "ab" * 20
    (blobs / name).write_bytes(b"a blob")
    (snapshot / "file").symlink_to(f"../../blobs/{name}")
    (snapshot / "other").symlink_to(f"../../blobs/{name}x")
    with Folder(folder) as opened:
        for one in ("link", "loop", "inside"):
            with pytest.raises(ValueError, match=f"{one}: a link to .*, expected a regular file"):
                opened.read(one, 100)
        with pytest.raises(ValueError, match="expected a folder, got a file or a link"), opened.sub("sub"):
            pass
        with pytest.raises(ValueError, match="expected a folder"), opened.sub("data.bin"):
            pass
        with pytest.raises(FileNotFoundError), opened.sub("absent"):
            pass
        for one in ("pipe", "1_Pooling"):
            with pytest.raises(ValueError):
                opened.read(one, 100)
    with Folder(snapshot) as opened:
        assert opened.read("file", 100) == b"a blob"
        with pytest.raises(ValueError, match="a link to"):
            opened.read("other", 100)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Folder(folder / "absent")
    with pytest.raises(ValueError, match="expected the folder of a model, got a file"):
        Folder(folder / "config.json")
