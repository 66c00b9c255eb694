"""What is quick to know about building: the source archive is whole, and a build without a fit oneDNN says so.

The installs themselves (ordinary, editable, --target, from the archive) are steps of .ci/run."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytest.importorskip("setuptools", reason="setup.py needs setuptools, which the `test` extra brings")


def setup(*arguments, **environment):
    command = [sys.executable, "setup.py", "-q", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PLAIT_")} | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_the_source_archive_is_whole(tmp_path):
    done = setup("egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    due = {"setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"}
    for folder, pattern in (("csrc", "*.[ch]"), ("python", "*.py"), ("tests", "*.py"), ("tests/c", "*")):
        due |= {
            str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob(pattern) if p.is_file() and "build" not in p.parts
        }
    assert due <= inside, sorted(due - inside)
    assert not [name for name in inside if name.endswith((".so", ".so.3", ".o", ".pyc"))]


def build_error(tmp_path, **environment):
    done = setup("build", "--build-base", tmp_path / "build", **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    return line


def test_no_onednn(tmp_path):
    line = build_error(tmp_path, PLAIT_ONEDNN_ROOT=str(tmp_path))
    assert f"oneDNN was not found in {tmp_path}: install onednn-devel-cpu-gomp" in line


def test_no_system_onednn(tmp_path):
    shadow = tmp_path / "oneapi/dnnl"  # hides a system's header, should there be one
    shadow.mkdir(parents=True)
    (shadow / "dnnl_version.h").write_text("#error none\n")
    line = build_error(tmp_path, PLAIT_SYSTEM_ONEDNN="1", CPATH=str(tmp_path))
    assert "did not find oneapi/dnnl/dnnl_version.h: install onednn-devel-cpu-gomp" in line


@pytest.mark.parametrize("version", [(2, 7), (3, 1), (4, 0)])
def test_an_unfit_onednn(tmp_path, version):
    folder = tmp_path / "include/oneapi/dnnl"
    folder.mkdir(parents=True)
    lines = [f"#define DNNL_VERSION_{name} {n}\n" for name, n in zip(("MAJOR", "MINOR"), version, strict=True)]
    (folder / "dnnl_version.h").write_text("".join(lines))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libdnnl.so.3").touch()
    line = build_error(tmp_path, PLAIT_ONEDNN_ROOT=str(tmp_path))
    assert f"oneDNN {version[0]}.{version[1]} was found, expected 3.2 or a later 3.x" in line
    line = build_error(tmp_path, PLAIT_SYSTEM_ONEDNN="1", CPATH=str(tmp_path / "include"))
    assert f"oneDNN {version[0]}.{version[1]} was found, expected 3.2 or a later 3.x" in line


def test_no_compiler(tmp_path):
    line = build_error(tmp_path, CC="/nowhere/cc")
    assert "a C compiler is needed to build plait" in line
