"""What `import plait` costs and touches, and which oneDNN it loads."""

import ctypes
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from plait import _core

OPTIONAL = (
    "matplotlib",
    "PIL",
    "tqdm",
    "torch",
    "tensorflow",
    "jax",
    "sklearn",
    "transformers",
    "soundfile",
    "pymilvus",
    "ray",
    "mpi4py",
    "pandas",
    "tokenizers",
)


def python(code, **environment):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def test_import_costs_at_most_300_ms_more_than_numpy():
    seconds = {"numpy": [], "plait": []}
    for i in range(6):
        for name, times in seconds.items():
            done = python(f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)")
            if i:  # the first one reads from the disk and writes bytecode
                times.append(float(done.stdout))
    assert statistics.median(seconds["plait"]) - statistics.median(seconds["numpy"]) <= 0.3, seconds


def test_import_opens_no_socket_and_starts_nothing():
    done = python(
        "import sys\n"
        "seen = []\n"
        "watched = ('socket.', 'subprocess.', 'os.system', 'os.exec', 'os.posix_spawn', 'os.fork', 'urllib.')\n"
        "sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(watched) else None)\n"
        "import plait\n"
        "assert not seen, seen\n"
        "import socket; socket.socket().close()\n"
        "assert 'socket.__new__' in seen\n"  # the hook sees something when there is something
    )
    assert done.returncode == 0, done.stderr


def test_import_pulls_in_no_optional_package():
    done = python("import sys, plait; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "plait._core" in loaded
    assert not loaded & set(OPTIONAL)


def test_no_module_of_another_package_is_among_the_names():
    done = python(
        "import plait, types\n"
        "print([n for n in dir(plait) if isinstance(v := getattr(plait, n), types.ModuleType) and not n.startswith('_')"
        " and not v.__name__.startswith('plait.')], 'ops' in dir(plait))"
    )
    assert done.stdout.strip() == "[] True", done.stdout + done.stderr
    assert python("import plait; print('importlib' in dir(plait))").stdout.strip() == "False"


def test_the_core_needs_no_new_openmp_runtime_and_exports_one_name():
    """PyTorch ships an older GNU OpenMP under the same name, and whichever is loaded first serves both."""
    binary = Path(_core.__file__).read_bytes()
    versions = {tuple(map(int, v.split(b"."))) for v in re.findall(rb"\0GOMP_([0-9.]+)\0", binary)}
    assert versions and max(versions) <= (4, 5), versions
    library = ctypes.CDLL(_core.__file__)
    assert hasattr(library, "PyInit__core")
    assert not hasattr(library, "pl_pool_trim")  # C programs compile the core, they do not borrow ours


def test_import_prints_nothing_and_warns_of_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", "import plait, plait.ops, plait.reference"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def path_of_onednn(**environment):
    return python("import plait; print(plait._core.config()['onednn_path'])", **environment)


def test_another_onednn_can_be_named(tmp_path):
    packaged = Path(_core.config()["onednn_path"])
    for path in (packaged, Path(shutil.copy(packaged, tmp_path / "libdnnl.so.3"))):
        done = path_of_onednn(PLAIT_ONEDNN=str(path))
        assert done.returncode == 0, done.stderr
        assert os.path.samefile(done.stdout.strip(), path)


@pytest.mark.parametrize("content", [None, b"not a library"], ids=["missing", "text"])
def test_a_file_that_is_no_library_is_an_import_error(tmp_path, content):
    path = tmp_path / "libdnnl.so.3"
    if content is not None:
        path.write_bytes(content)
    done = path_of_onednn(PLAIT_ONEDNN=str(path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: PLAIT_ONEDNN={path} could not be loaded as oneDNN")


@pytest.mark.parametrize(
    "body, message",
    [
        ("int unrelated;", "could not be loaded as oneDNN"),
        (
            "static int v[3] = {2, 7, 1}; int *dnnl_version(void) { return v; }",
            "is oneDNN 2.7.1, expected 3.2 or a later 3.x",
        ),
        (
            "static int v[3] = {3, 1, 0}; int *dnnl_version(void) { return v; }",
            "is oneDNN 3.1.0, expected 3.2 or a later 3.x",
        ),
        (
            "static int v[3] = {4, 0, 0}; int *dnnl_version(void) { return v; }",
            "is oneDNN 4.0.0, expected 3.2 or a later 3.x",
        ),
    ],
    ids=["unrelated", "2.7", "3.1", "4.0"],
)
def test_another_library_is_an_import_error(tmp_path, body, message):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make a wrong library with")
    source, library = tmp_path / "wrong.c", tmp_path / "libwrong.so"
    source.write_text(body)
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    done = path_of_onednn(PLAIT_ONEDNN=str(library))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: PLAIT_ONEDNN={library} ")
    assert message in last
