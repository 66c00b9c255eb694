"""Every row on every instruction set of the machine, each in a process of its own: oneDNN is capped once."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from cases import convert, gradients, load, relative_error

from plait import _core

ORDER = ["avx2", "avx512", "avx512_bf16", "amx"]
HERE = _core.config()["isa"]


def subprocess_with(isa, *arguments):
    environment = {**os.environ, "PLAIT_MAX_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Results of the twins, computed once."""
    folder = tmp_path_factory.mktemp("twins")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="float64 input runs")
        for i, case in enumerate(load()):
            outputs, grads = gradients(case, case.arguments(np.float64))
            np.savez(folder / f"{i}.npz", *outputs, *grads)
    return folder


@pytest.mark.parametrize("isa", ORDER)
def test_every_row(isa, expected):
    if ORDER.index(isa) > ORDER.index(HERE):
        pytest.skip(f"this machine has {HERE} at most")
    done = subprocess_with(isa, __file__, str(expected))
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["isa"] == isa
    assert report["wrong"] == []
    assert report["rows"] == len(load())
    # oneDNN is capped as well
    if isa == "avx2":
        assert not [name for name in report["implementations"] if "avx512" in name or "amx" in name]


def test_batch_mates_below_avx512():
    """oneDNN's kernels are others there, so equal bits whatever the batch mates are a promise of their own."""
    if HERE == "avx2":
        pytest.skip("test_batch_mates.py runs on avx2 already")
    run_tests("avx2", "test_batch_mates.py", "-k", "linear_layer or ran_before or block")


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_products_below_the_best(isa):
    if ORDER.index(isa) >= ORDER.index(HERE):
        pytest.skip(f"test_panels.py runs on {HERE} already, which is the most that this machine has")
    run_tests(isa, "test_panels.py")


def run_tests(isa, file, *arguments):
    path = str(Path(__file__).with_name(file))
    done = subprocess_with(isa, "-m", "pytest", "-q", "-p", "no:cacheprovider", path, *arguments)
    assert done.returncode == 0, done.stdout[-3000:]


def test_an_unknown_name_is_an_import_error():
    done = subprocess_with("sse2", "-c", "import plait")
    assert done.returncode == 1
    assert "ImportError: PLAIT_MAX_ISA is 'sse2', expected avx2, avx512, avx512_bf16 or amx" in done.stderr


def test_a_name_above_the_machine_changes_nothing():
    done = subprocess_with("amx", "-c", "import plait; print(plait._core.config()['isa'])")
    assert done.stdout.strip() in ("avx2", "avx512", "avx512_bf16", "amx"), done.stderr


def main(folder):
    """In the subprocess: names of the rows that are wrong, as JSON."""
    wrong, rows = [], load()
    for i, case in enumerate(rows):
        with np.load(Path(folder) / f"{i}.npz") as twins:
            due = [twins[name] for name in twins.files]
        outputs, grads = gradients(case, convert(case.arguments(np.float64), np.float32))
        for got, e in zip([*outputs, *grads], due, strict=True):
            if not relative_error(got, e) <= case.tolerance:
                wrong.append(case.name)
    names = sorted({row[0] for row in _core.implementations()})
    print(json.dumps({"isa": HERE, "wrong": wrong, "rows": len(rows), "implementations": names}))


if __name__ == "__main__":
    main(sys.argv[1])
