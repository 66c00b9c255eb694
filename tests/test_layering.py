"""Includes and imports point one way, and files stay small: read from the text of every source file."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
C_FILES = sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".c", ".h"))
PY_FILES = sorted((ROOT / "python/plait").rglob("*.py"))
LINES = 600

# A folder of csrc may include itself, plait.h, and these.
C_MAY_INCLUDE = {
    "include": set(),
    "core": set(),
    "dnnl": {"core", "simd"},
    "simd": {"core"},
    "ops": {"core", "dnnl", "simd"},
    "py": {"core", "dnnl", "ops"},
}
# A part of the package (a module or folder of python/plait) may import itself and these; parts that are not listed may
# import anything but the command line. `_core` is the C extension.
BASE = {"_core", "_version", "_load", "_array", "_precision", "_walk"}
TAPE = BASE | {"tensor", "_rows", "reference"}
OPS = TAPE | {"stream", "ops"}
PY_MAY_IMPORT = {
    "reference": set(),
    "_array": set(),
    "_precision": set(),
    "_walk": BASE,
    "tensor": BASE | {"_walk"},
    "gradcheck": BASE | {"tensor"},
    "_rows": BASE | {"tensor"},
    "stream": BASE | {"tensor", "_rows"},
    "ops": TAPE | {"stream"},
    "losses": OPS,
    "nn": OPS | {"io"},  # Module.save, on use
    "optim": OPS | {"nn"},
}


def folder_of(path):
    return path.relative_to(ROOT / "csrc").parts[0]


def code_of(path):
    """The text without comments: includes inside comments do not count."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("path", C_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_c_includes(path):
    here, code = folder_of(path), code_of(path)
    for kind, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', code, flags=re.MULTILINE):
        if kind == '"':
            target = (path.parent / name).resolve()
            if not target.exists():
                target = (ROOT / "csrc/include" / name).resolve()
            assert target.exists(), f"{name} is included from nowhere in csrc"
            there = folder_of(target)
            assert there in {here, "include"} | C_MAY_INCLUDE[here], f"{here} must not include {there}/{target.name}"
            continue
        if "dnnl" in name:
            assert here == "dnnl", f"{name}: only csrc/dnnl knows oneDNN"
        if name.startswith("numpy/") or name in ("Python.h", "structmember.h"):
            assert here == "py", f"{name}: only csrc/py knows Python"
        if name == "omp.h":
            assert path.name == "parallel.c" and here == "core"
    if "pragma omp" in code or re.search(r"\bomp_\w+\(", code):
        assert path.relative_to(ROOT / "csrc") == Path("core/parallel.c"), "only core/parallel.c knows OpenMP"
    if here != "core" or path.name != "memory.c":
        assert not re.search(r"\b(malloc|calloc|realloc|posix_memalign|aligned_alloc|strdup)\s*\(", code), (
            "only core/memory.c takes memory from the system"
        )
    assert not re.search(r"\b(abort|exit|assert)\s*\(", code), "a library does not end its caller's process"


def imports_of(path):
    """Dotted names that a module imports, relative ones resolved, function bodies included."""
    package = ["plait", *path.relative_to(ROOT / "python/plait").parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from plait import ops` names a part; `from plait.ops import linear` names one already
            yield from (f"{module}.{a.name}" if module == "plait" else module for a in node.names)


@pytest.mark.parametrize("path", PY_FILES, ids=lambda p: str(p.relative_to(ROOT / "python")))
def test_python_imports(path):
    relative = path.relative_to(ROOT / "python/plait")
    part = relative.parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return  # what users see: it may gather everything
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "plait":
            target = rest.split(".")[0]
            if (
                (ROOT / "python/plait" / f"{target}.py").exists()
                or (ROOT / "python/plait" / target).is_dir()
                or (target == "_core")
            ):
                allowed = PY_MAY_IMPORT.get(part)
                if allowed is not None:
                    assert target in allowed | {part}, f"{part} must not import plait.{target}"
                assert target != "cli" or part == "cli"
        elif part == "reference":
            assert top in {"numpy", *sys.stdlib_module_names}, f"the twins are NumPy only, not {top}"


@pytest.mark.parametrize("path", PY_FILES, ids=lambda p: str(p.relative_to(ROOT / "python")))
def test_no_code_from_data(path):
    """No pickle in any disguise, and no evaluation of strings."""
    tree = ast.parse(path.read_text())
    banned = {
        "pickle",
        "cPickle",
        "_pickle",
        "dill",
        "cloudpickle",
        "joblib",
        "marshal",
        "shelve",
        "runpy",
        "torch.load",
    }
    for name in imports_of(path):
        assert not {name, name.split(".")[0]} & banned, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {
                "eval",
                "exec",
                "compile",
                "__import__",
                "builtins.eval",
                "builtins.exec",
                "os.system",
            }
            assert not called.endswith("torch.load"), called
            if called.endswith("import_module"):
                name = ast.unparse(node.args[0])
                # A name of our own (lazy parts), or what a table in this file names; never what a file or user says.
                assert re.match("""f?['"]plait\\.""", name) or name == "module", f"import_module({name})"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False"
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert ast.unparse(node.value) == "False"
    for node in ast.walk(tree):  # numpy's default is allow_pickle=False; said aloud where files come from outside
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            assert any(k.arg == "allow_pickle" for k in node.keywords), "np.load without allow_pickle=False"


def test_files_are_small():
    others = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tests").rglob("*.c"), *(ROOT / "benchmarks").rglob("*.py")]
    for path in [*C_FILES, *PY_FILES, *others]:
        lines = path.read_text().count("\n")
        assert lines <= LINES, f"{path.relative_to(ROOT)} has {lines} lines, expected at most {LINES}"
    assert (ROOT / "setup.py").read_text().count("\n") < 100


def test_the_rules_can_fail(tmp_path):
    """The parsing above sees what it should."""
    sample = ROOT / "python/plait/ops/sample.py"
    text = "from ..nn import x\nfrom . import y\nfrom plait import nn\nimport plait.models.dual\ndef f():\n    import torch\n"  # noqa: E501
    tree_of = {"plait.nn", "plait.ops", "plait.models.dual", "torch"}

    class Text(type(sample)):
        def read_text(self, *args):
            return text

    assert set(imports_of(Text(sample))) == tree_of
