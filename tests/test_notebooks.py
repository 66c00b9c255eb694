"""The notebooks run from top to bottom, and were committed with what they print."""

import importlib.util
import os
from pathlib import Path

import pytest

import plait

nbformat = pytest.importorskip("nbformat", reason="pip install '.[test]' brings it")
nbclient = pytest.importorskip("nbclient", reason="pip install '.[test]' brings it")

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
NEEDS = {"03_search_pictures_with_words.ipynb": ("pymilvus", "milvus_lite")}  # beside the extra demo
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook):
    return sum("image/png" in output.get("data", {}) for cell in code(notebook) for output in cell.outputs)


def test_there_are_notebooks():
    assert [p.name for p in NOTEBOOKS] == [
        "01_first_operator.ipynb",
        "02_train_a_dual_encoder.ipynb",
        "03_search_pictures_with_words.ipynb",
    ]


@each
def test_committed_with_outputs(path):
    assert path.stat().st_size < 400_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert not any(output.output_type == "error" for cell in code(notebook) for output in cell.outputs)
    assert not any(output.get("name") == "stderr" for cell in code(notebook) for output in cell.outputs)
    assert pictures(notebook) >= 3
    assert "/tmp" not in path.read_text() and "/home" not in path.read_text(), "a path of somebody's machine"


@each
@pytest.mark.filterwarnings("default")  # those of the Jupyter packages are not ours
@pytest.mark.timeout(200)
def test_runs(path, tmp_path, monkeypatch):
    missing = [name for name in NEEDS.get(path.name, ()) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: pip install '.[search]' brings it")
    monkeypatch.setenv("PLAIT_NOTEBOOK_STEPS", "20")
    monkeypatch.setenv("PYTHONPATH", str(Path(plait.__file__).parent.parent), prepend=os.pathsep)  # the one under test
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    before = pictures(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert pictures(notebook) == before
