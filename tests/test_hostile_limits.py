"""What a folder may cost, and what it may touch: memory, time, files, modules, sockets, processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile_limits
import pytest

HERE = Path(__file__).parent
SLACK = 64 << 20  # beyond the size of the files


def python(script, *arguments, timeout=250):
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # threads that wait count as work
    environment = {**os.environ, **one, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module", autouse=True)
def parts():
    pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the highest resident size cannot be set back here")
    lines = python(HERE / "hostile_limits.py", tmp_path_factory.mktemp("limits"))
    return {name: rest for name, *rest in map(json.loads, lines)}


@pytest.mark.parametrize("name", hostile_limits.ROWS)
def test_a_folder_costs_little_more_than_its_size(name, measured):
    size, what, memory, seconds = measured[name]
    assert "UNEXPECTED" not in what, what
    assert memory <= size + SLACK, f"{memory >> 20} MB for files of {size >> 20} MB: {what}"
    assert seconds < 2, f"{seconds:.1f} s of the processor: {what}"


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return dict(map(json.loads, python(HERE / "hostile_audit.py", tmp_path_factory.mktemp("audit"))))


def test_the_audit_hook_sees_what_it_should(events):
    assert events["the hook is alive"] == ["compile", "exec", "open", "open", "os.listdir", "os.system"]
    assert events["rows"] >= 900


def test_no_folder_has_anything_imported_executed_connected_or_opened_elsewhere(events):
    assert {name: seen for name, seen in events.items() if name not in ("the hook is alive", "rows")} == {}
