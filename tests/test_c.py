"""plait as a C library: tests/c is compiled, linked against oneDNN alone and run, without Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import plait

FOLDER = Path(__file__).parent / "c"


def onednn():
    """The folder of oneDNN's headers and the library, found as setup.py finds them; None when they are missing."""
    given = os.environ.get("PLAIT_ONEDNN_ROOT")
    # a wheel's files may lie below any site-packages, --target and isolated builds included
    near = [Path(p).parents[2] for p in sys.path if p.endswith("site-packages")]
    bundled = Path(plait.__file__).parent / "lib/libdnnl.so.3"
    for root in [Path(given)] if given else [Path(sys.prefix), *near]:
        for library in (root / "lib/libdnnl.so.3", bundled):
            if (root / "include/oneapi/dnnl/dnnl.h").exists() and library.exists():
                return root, library
    return None


def compiler():
    """As make's CC: it may have a wrapper before it, such as ccache."""
    named = os.environ.get("CC", "gcc")
    return named if all(map(shutil.which, named.split())) else None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What `make test` says; -O1, since the tables of kernels take longest to compile and their speed is no matter."""
    found = onednn()
    if found is None:
        pytest.skip("no headers of oneDNN: pip install onednn-devel-cpu-gomp==2023.2.0, or set PLAIT_ONEDNN_ROOT")
    if shutil.which("make") is None or compiler() is None:
        pytest.skip("no make, or no C compiler (gcc, or the one that CC names)")
    root, library = found
    command = ["make", "-C", str(FOLDER), "-j2", "test", f"BUILD={tmp_path_factory.mktemp('c')}", "OPT=-O1"]
    command += [f"ONEDNN_ROOT={root}", f"ONEDNN_LIB={library}", f"CC={compiler()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return done.stdout


def test_block_trains_from_c(made):
    losses = [float(line.split()[-1]) for line in made.splitlines() if line.startswith("step")]
    assert len(losses) == 7 and losses[-1] < losses[0] / 10


def test_core_operators_and_tiles_from_c(made):
    names = [line.split()[-1] for line in made.splitlines() if line.startswith("ok ")]
    assert len(names) == sum(path.read_text().count("    RUN(") for path in FOLDER.glob("test_*.c"))
    assert "FAIL" not in made
