"""Files: hostile ones are exceptions, interrupted writers leave nothing half-done, what is saved comes back in bits."""

import ast
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from plait import io
from plait.io import files, schema, strictjson

# ---------------------------------------------------------------- tensors


def raw(header, data=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


GOOD = raw({"a": entry(), "b": entry("I16", (2, 2), 8, 16)}, bytes(16))

ATTACKS = {
    "empty": (b"", "too short"),
    "seven bytes": (b"1234567", "too short"),
    "no header": (raw(b"", size=0), "header of 0 bytes"),
    "header past the end": (raw({"a": entry()}, bytes(8), size=10_000), "header of 10000"),
    "header of 2**63": (raw({}, size=2**63), "header of"),
    "header of 2**64 - 1": (raw({}, size=2**64 - 1), "header of"),
    "header over the limit": (raw(b"{" + b" " * (16 << 20) + b"}"), "header of"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "not UTF-8"),
    "not JSON": (raw(b"{a: 1}"), "not JSON"),
    "list": (raw(b"[]"), "not an object"),
    "two documents": (raw(b"{}{}"), "not JSON"),
    "deep": (raw(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "nested deeper"),
    "deep in metadata": (raw(b'{"__metadata__":{"a":' + b"[" * 100 + b"]" * 100 + b"}}"), "nested deeper"),
    "duplicate name": (
        raw(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
        "'a' occurs twice",
    ),
    "duplicate key": (raw(b'{"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}}', bytes(4)), "twice"),
    "metadata is a list": (raw({"__metadata__": []}), "__metadata__"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}}), "__metadata__"),
    "entry is a number": (raw({"a": 1}), "exactly dtype"),
    "extra key": (raw({"a": {**entry(), "module": "os"}}, bytes(8)), "exactly dtype"),
    "no shape": (raw({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "exactly dtype"),
    "unknown dtype": (raw({"a": entry("F33")}, bytes(8)), "dtype is 'F33'"),
    "object dtype": (raw({"a": entry("O")}, bytes(8)), "dtype is 'O'"),
    "dtype is a list": (raw({"a": entry(["F32"])}, bytes(8)), "dtype is"),
    "shape is a number": (raw({"a": {**entry(), "shape": 2}}, bytes(8)), "shape is"),
    "nine dimensions": (raw({"a": entry(shape=(1,) * 9, end=4)}, bytes(4)), "shape is"),
    "negative size": (raw({"a": entry(shape=(-2,))}, bytes(8)), "shape is"),
    "two negative sizes": (raw({"a": entry(shape=(-1, -2))}, bytes(8)), "shape is"),
    "size is true": (raw({"a": entry(shape=(2, True))}, bytes(8)), "shape is"),
    "size is 2.0": (raw({"a": entry(shape=(2.0,))}, bytes(8)), "shape is"),
    "size is 1e400": (raw(b'{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}', bytes(8)), "finite"),
    "size is NaN": (raw(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8)), "finite"),
    "size has 5000 digits": (
        raw(b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}' % (b"9" * 5000), bytes(8)),
        "5000 digits",
    ),
    "product wraps to 8": (raw({"a": entry(shape=(2**62 + 1, 2))}, bytes(8)), "no array"),
    "product wraps to 0": (raw({"a": entry(shape=(2**32, 2**32), end=0)}), "no array"),
    "zero beside huge": (raw({"a": entry(shape=(0, 2**62, 2**62), end=0)}), "no array"),
    "dims larger than data": (raw({"a": entry(shape=(1 << 30,))}, bytes(8)), "8 bytes, expected"),
    "data larger than dims": (raw({"a": entry(shape=(1,))}, bytes(8)), "8 bytes, expected 4"),
    "end past the file": (raw({"a": entry(shape=(1 << 20,), end=4 << 20)}, bytes(8)), "truncated"),
    "end before begin": (raw({"a": entry(begin=8, end=0)}, bytes(8)), "-8 bytes, expected"),
    "negative begin": (raw({"a": entry(begin=-8, end=0)}, bytes(8)), "data_offsets"),
    "three offsets": (raw({"a": {**entry(), "data_offsets": [0, 4, 8]}}, bytes(8)), "data_offsets"),
    "overlap": (raw({"a": entry(), "b": entry(begin=4, end=12)}, bytes(12)), "overlap at b"),
    "same bytes twice": (raw({"a": entry(), "b": entry()}, bytes(8)), "overlap at b"),
    "gap": (raw({"a": entry(), "b": entry(begin=12, end=20)}, bytes(20)), "gap before b"),
    "gap at the start": (raw({"a": entry(begin=4, end=12)}, bytes(12)), "gap before a"),
    "trailing bytes": (GOOD + b"\x80\x04.", "trailing bytes"),
    "empty name": (raw({"": entry()}, bytes(8)), "named ''"),
    "long name": (raw({"n" * 513: entry()}, bytes(8)), "512 bytes"),
    "lone surrogate": (raw(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)), "Unicode"),
    "boolean of 2": (raw({"a": entry("BOOL", (2,), 0, 2)}, b"\x01\x02"), "BOOL"),
    "100,001 tensors": (
        raw(b"{%s}" % b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(100_001))),
        "100001 tensors",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_file_is_an_exception(name, tmp_path):
    content, message = ATTACKS[name]
    file = tmp_path / "evil.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        io.load_tensors(file)


def test_every_truncation_and_every_flipped_bit_is_harmless(tmp_path):
    file = tmp_path / "a.safetensors"
    for size in range(len(GOOD)):
        file.write_bytes(GOOD[:size])
        with pytest.raises(ValueError, match=r"a\.safetensors"):
            io.load_tensors(file)
    for bit in range(8 * (len(GOOD) - 16)):
        flipped = bytearray(GOOD)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            arrays = io.load_tensors(file)
        except ValueError:
            continue
        assert sum(a.nbytes for a in arrays.values()) == 16  # another name or dtype of the same size: fine


def test_a_hostile_header_takes_no_memory(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(raw({"a": entry(shape=(1 << 40,), end=4 << 40)}, bytes(8)))
    code = (
        "import resource, sys; from plait import io\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30,) * 2)\n"
        "try: io.load_tensors(sys.argv[1])\n"
        "except ValueError: print('refused')"
    )
    run = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert run.stdout == "refused\n"


def test_only_regular_files_are_opened(tmp_path):
    good = tmp_path / "good"
    good.write_bytes(GOOD)
    (tmp_path / "link").symlink_to(good)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(ValueError, match=f"{name}: expected a regular file"):
            io.load_tensors(tmp_path / name)
    with pytest.raises(ValueError, match="regular file"):
        io.load_tensors("/dev/zero")
    with pytest.raises(FileNotFoundError, match="absent"):
        io.load_tensors(tmp_path / "absent")


ARRAYS = {
    **{t: np.arange(6).reshape(2, 3).astype(t) for t in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4")},
    "bf16": np.linspace(-2, 2, 5).astype(ml_dtypes.bfloat16),
    "bool": np.array([[True, False]]),
    "scalar": np.float32(7),
    "empty": np.zeros((0, 3), np.float32),
    "special": np.array([np.nan, np.inf, -0.0, 1e-40], np.float32),
    "strided": np.arange(12.0)[::-2],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "swapped": np.arange(3, dtype=">f4"),
    "näme with spaces": np.ones(1),
}


def test_saved_tensors_come_back_in_bits(tmp_path):
    from safetensors.numpy import load_file, save_file

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    io.save_tensors(ours, ARRAYS, metadata={"a": "b"})
    save_file({k: np.array(v, v.dtype.newbyteorder("="), order="C") for k, v in ARRAYS.items()}, theirs)
    for back in (io.load_tensors(ours), io.load_tensors(theirs), load_file(ours)):
        assert set(back) == set(ARRAYS)
        for name, array in ARRAYS.items():
            want = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).reshape(array.shape)
            assert back[name].dtype == want.dtype
            assert back[name].shape == want.shape
            assert back[name].tobytes() == want.tobytes()


@pytest.mark.parametrize(
    ("tensors", "error"),
    [
        ({"a": np.array([None])}, TypeError),
        ({"a": np.array(["x"])}, TypeError),
        ({"a": np.ones(1, np.complex64)}, TypeError),
        ({"a": np.ones(1, np.longdouble)}, TypeError),
        ({"a": np.array(["2020"], "M8[D]")}, TypeError),
        ({1: np.ones(1)}, TypeError),
        ({"": np.ones(1)}, ValueError),
        ({"__metadata__": np.ones(1)}, ValueError),
        ({"a": np.ones((1,) * 9)}, ValueError),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_nothing_is_written(tensors, error, tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"before")
    with pytest.raises(error, match="save_tensors"):
        io.save_tensors(file, {"good": np.ones(2), **tensors})
    assert file.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a"]


# ---------------------------------------------------------------- JSON and schemas


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'[{"a": {"b": 1, "b": 1}}]', "twice"),
        (b"NaN", "finite"),
        (b"-Infinity", "finite"),
        (b"1e999", "finite"),
        (b"[" * 33 + b"]" * 33, "nested"),
        (b'["\\"' + b"[" * 40, "not JSON"),
        (b"\xc3(", "UTF-8"),
        (b'{"a": "\x00"}', "not JSON"),
    ],
)
def test_strict_json_refuses(text, message):
    with pytest.raises(ValueError, match=message):
        strictjson.loads(text, "file")


def test_strict_json_reads_what_it_writes():
    value = {"a": [1, 2.5, None, True, 'ü[{\\"'], "big": 2**127}
    assert strictjson.loads(strictjson.dumps(value, "x"), "x") == value
    with pytest.raises(ValueError, match="x"):
        strictjson.dumps({"a": float("nan")}, "x")


@dataclasses.dataclass(frozen=True)
class Inner:
    width: int = schema.integer(1, 100)
    causal: bool = schema.flag(default=False)


@dataclasses.dataclass(frozen=True)
class Outer:
    image: Inner = schema.section(Inner)
    rate: float = schema.number(0.0, 1.0, default=0.5)
    mode: str = schema.choice("a", "b", default="a")
    hidden: int = schema.integer(1, 9, default=None)
    mean: tuple = schema.numbers(-1, 1, default=(0.0,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, r"config\.image is None, expected an object"),
        ({"image": {}}, r"config\.image\.width is missing"),
        ({"image": {"width": 0}}, r"config\.image\.width is 0, expected 1 to 100"),
        ({"image": {"width": 10**5000}}, r"config\.image\.width is a huge number"),
        ({"image": {"width": True}}, r"config\.image\.width is True, expected a whole number"),
        ({"image": {"width": 2.0}}, r"config\.image\.width is 2\.0"),
        ({"image": {"width": "2"}}, r"config\.image\.width is '2'"),
        ({"image": {"width": [2]}}, r"config\.image\.width is \[2\]"),
        ({"image": {"width": 2, "causal": 1}}, r"config\.image\.causal is 1, expected true or false"),
        ({"image": {"width": 2, "module": "os"}}, r"config\.image\.module is unknown"),
        ({"rate": float("nan")}, r"config\.rate is nan"),
        ({"rate": float("inf")}, r"config\.rate is inf"),
        ({"rate": 10**400}, r"config\.rate is 1000"),
        ({"rate": False}, r"config\.rate is False"),
        ({"mode": "c"}, r"config\.mode is 'c', expected one of a, b"),
        ({"mode": ["a"]}, r"config\.mode"),
        ({"mode": "x" * 10_000}, r"config\.mode is 'x+\.\.\."),
        ({"hidden": 10}, r"config\.hidden is 10"),
        ({"mean": []}, r"config\.mean is \[\]"),
        ({"mean": [0, "x"]}, r"config\.mean\[1\]"),
        ({"mean": [0] * 10_000}, r"config\.mean"),
        ({1: 2}, r"config\.1 is unknown"),
        ({"__class__": "os.system"}, r"config\.__class__ is unknown"),
    ],
)
def test_a_schema_names_the_path_of_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        schema.parse(Outer, {"image": {"width": 5}, **change})


def test_a_schema_gives_the_same_config_back():
    config = schema.parse(Outer, {"image": {"width": 5}, "rate": 1, "hidden": None, "mean": [0, 1]})
    assert config == Outer(Inner(5), 1.0, "a", None, (0.0, 1.0))
    assert isinstance(config.rate, float)
    assert schema.parse(Outer, json.loads(json.dumps(schema.unparse(config)))) == config
    assert schema.parse(Outer, config) == config


# ---------------------------------------------------------------- atomic files and folders


def test_an_exception_leaves_the_old_content(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    io.write_file(file, b"old")
    with io.atomic_folder(folder) as new:
        (new / "a").write_bytes(b"old")
    with pytest.raises(KeyError), io.atomic_file(file) as temporary:
        temporary.write_bytes(b"new")
        raise KeyError
    with pytest.raises(KeyError), io.atomic_folder(folder, replaces=["a"]) as new:
        (new / "a").write_bytes(b"new")
        raise KeyError
    assert file.read_bytes() == b"old"
    assert (folder / "a").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("name", ["absent/x", "folder"])
def test_a_place_that_is_none_is_named_as_it_was_given(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as error:
        io.write_file(tmp_path / name, b"new")
    assert error.value.filename == str(tmp_path / name) and ".tmp-" not in str(error.value)
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    folder = tmp_path / "folder"
    for names in (("a", "b"), ("a",), ()):
        with io.atomic_folder(folder, replaces=("a", "b")) as new:
            for name in names:
                (new / name).write_text(name)
        assert sorted(os.listdir(folder)) == list(names)
    assert os.listdir(tmp_path) == ["folder"]


def test_other_files_are_not_lost(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"), io.atomic_folder(tmp_path, replaces=("a",)):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="not a folder"), io.atomic_folder(tmp_path / "file"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["file", "thesis.tex"]


def test_a_read_only_folder_is_an_exception(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        io.write_file(tmp_path / "a", b"x")


def test_a_full_disk_is_an_exception_and_leaves_the_old_content(tmp_path):
    """The limit on the size of files stands in for the disk."""
    io.save_tensors(tmp_path / "a", {"x": np.zeros(2)})
    io.write_file(tmp_path / "b", b"old")
    before = (tmp_path / "a").read_bytes()
    code = (
        "import os, resource, sys, numpy as np; from plait import io\n"
        "os.chdir(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "for write in (lambda: io.save_tensors('a', {'x': np.ones(1000)}), lambda: io.write_file('b', bytes(6000)),\n"
        "              lambda: io.save_checkpoint('c', 1, {'m': {'x': np.ones(1000)}}, {})):\n"
        "    try: write()\n"
        "    except OSError as error: print('OSError')\n"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout == "OSError\n" * 3
    assert (tmp_path / "a").read_bytes() == before
    assert (tmp_path / "b").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
    assert os.listdir(tmp_path / "c") == []


def test_leftovers_of_killed_writers_go_away(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, young, alive = (tmp_path / f".a.tmp-{p}-{i}" for i, p in enumerate((gone.pid, gone.pid, os.getpid())))
    for path in (old, young, alive):
        path.write_text("half")
    for path in (old, alive):
        os.utime(path, (time.time() - 7200,) * 2)
    io.write_file(tmp_path / "a", b"x")
    assert {p.name for p in tmp_path.iterdir()} == {"a", young.name, alive.name}


WRITER = """
import sys, itertools, numpy as np
from plait import io
folder = sys.argv[1]
for i in itertools.count(int(sys.argv[2])):
    arrays = {f"t{k}": np.full(20_000, i, np.float32) for k in range(3)}
    io.save_tensors(folder + "/single", arrays)
    io.save_checkpoint(folder + "/steps", i, {"model": arrays, "optimizer": arrays}, {"i": i})
    with io.atomic_folder(folder + "/whole", replaces=("a", "b")) as new:
        io.save_tensors(new / "a", arrays)
        io.save_tensors(new / "b", arrays)
    print(i, flush=True)
"""


def test_a_killed_writer_leaves_whole_files(tmp_path):
    rng = np.random.default_rng(0)
    for run in range(8):
        first = 1000 * run
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(first)], stdout=subprocess.PIPE)
        assert int(process.stdout.readline()) == first
        time.sleep(0.1 * rng.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        pair = [io.load_tensors(tmp_path / "whole" / name) for name in "ab"]
        checkpoint = io.load_checkpoint(tmp_path / "steps")
        groups = [[io.load_tensors(tmp_path / "single")], pair, list(checkpoint.tensors.values())]
        for group in groups:
            values = {float(v) for arrays in group for a in arrays.values() for v in (a.min(), a.max())}
            assert len(values) == 1
            assert values.pop() >= first
        assert checkpoint.state["i"] == checkpoint.step == checkpoint.tensors["model"]["t0"][0]


# ---------------------------------------------------------------- checkpoints


def save_steps(folder, *steps, keep=2):
    for step in steps:
        io.save_checkpoint(folder, step, {"model": {"w": np.full(4, step)}}, {"step": step}, keep=keep)


def test_the_last_checkpoints_are_kept(tmp_path):
    save_steps(tmp_path, 1, 20, 300, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000020", "step-00000300"]
    assert io.latest_checkpoint(tmp_path).name == "step-00000300"
    checkpoint = io.load_checkpoint(tmp_path)
    assert (checkpoint.step, checkpoint.state) == (300, {"step": 300})
    np.testing.assert_array_equal(checkpoint.tensors["model"]["w"], np.full(4, 300))
    assert io.load_checkpoint(tmp_path / "step-00000020").step == 20
    save_steps(tmp_path, 300)  # again: replaced


def test_a_missing_or_damaged_checkpoint_is_an_exception(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        io.load_checkpoint(tmp_path / "nowhere")
    assert io.latest_checkpoint(tmp_path / "nowhere") is None
    save_steps(tmp_path, 5)
    (tmp_path / "step-notes").mkdir()
    weights, state = (tmp_path / "step-00000005" / name for name in ("model.safetensors", "state.json"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        io.load_checkpoint(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        io.load_checkpoint(tmp_path)
    weights.write_bytes(content)
    good = json.loads(state.read_text())
    for change in (
        {"format": "x"},
        {"version": 2},
        {"step": True},
        {"step": -1},
        {"extra": 1},
        {"files": {"../a": {}}},
    ):
        state.write_text(json.dumps({**good, **change}))
        with pytest.raises(ValueError, match=r"state\.json"):
            io.load_checkpoint(tmp_path)
    state.write_text(json.dumps(good)[:-5])
    with pytest.raises(ValueError, match="not JSON"):
        io.load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "arguments", [{"keep": 0}, {"step": -1}, {"tensors": {"../x": {}}}, {"state": {"a": object()}}]
)
def test_a_wrong_checkpoint_call_writes_nothing(tmp_path, arguments):
    call = {"step": 1, "tensors": {"model": {"w": np.ones(1)}}, "state": {}, **arguments}
    with pytest.raises((TypeError, ValueError), match="save_checkpoint"):
        io.save_checkpoint(tmp_path / "c", **call)
    assert not list(tmp_path.glob("c/*"))


def test_no_file_of_the_package_can_run_what_it_reads():
    modules = {"pickle", "marshal", "shelve", "joblib", "yaml", "dill", "cloudpickle"}
    calls = {"eval", "exec", "compile", "__import__"}
    for file in Path(io.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not modules & {n.split(".")[0] for n in names}, file
            if isinstance(node, ast.Call):
                assert getattr(node.func, "id", None) not in calls, file
                assert not [k for k in node.keywords if k.arg == "allow_pickle"], file


def test_tensors_get_the_mode_of_any_file(tmp_path):
    before = os.umask(0o027)
    try:
        io.save_tensors(tmp_path / "w.safetensors", {"w": np.zeros(3)})
    finally:
        os.umask(before)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o640
