"""Documents against the code: docstrings, their examples, the README's code and commands, names, paths, switches."""

import contextlib
import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import plait

ROOT = Path(__file__).parent.parent
DOCUMENTS = [p for p in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md") if (ROOT / p).exists()]
README = (ROOT / "README.md").read_text()
MODULES = sorted(m.name for m in pkgutil.walk_packages(plait.__path__, "plait.") if not m.name.endswith("._core"))


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """Examples may write files, choose threads and seeds."""
    monkeypatch.chdir(tmp_path)
    threads = plait.get_num_threads()
    yield tmp_path
    plait.set_num_threads(threads)
    plait.seed(0)


# ---------------------------------------------------------------- docstrings


@pytest.mark.filterwarnings("ignore:.*this processor has no instructions")
@pytest.mark.parametrize("name", ["plait", *MODULES])
def test_examples_run(name, somewhere):
    if name == "plait.__main__":
        pytest.skip("it is the command itself")
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert not failed


def public():
    """(dotted name, object) of what users are meant to call: all that __all__ lists, from plait downwards."""
    modules, found = ["plait"], {}
    for name in modules:  # grows
        module = importlib.import_module(name)
        for key in module.__all__:
            value = getattr(module, key)
            if inspect.ismodule(value):
                modules.append(value.__name__)
            elif callable(value):
                found[f"{name}.{key}"] = value
    return found


PUBLIC = public()
TWINS = "plait.reference."
# Public names without an example, each for a reason.
WITHOUT_EXAMPLE = {
    "plait.GradcheckError": "an exception",
    "plait.train.History": "a record; fit shows it",
    "plait.optim.Optimizer": "a base class; AdamW and SGD show it",
    "plait.models.DualEncoderConfig": "a schema; get_config and create_model show it",
    "plait.models.ImageConfig": "a schema",
    "plait.models.TextConfig": "a schema",
    "plait.io.Checkpoint": "a record; save_checkpoint shows it",
    "plait.models.HeadConfig": "a schema",
    "plait.models.ImageEncoderConfig": "a schema; ImageEncoder shows it",
    "plait.models.TextEncoderConfig": "a schema; TextEncoder shows it",
    "plait.search.Hit": "a record; Index.search gives it",
    "plait.search.Record": "a record; Index.get gives it",
    "plait.io.Shard": "a record; Shards gives it",
    "plait.io.Shards": "files of plait embed, which the command shows",
    "plait.io.TensorInfo": "a record; read_header gives it",
    "plait.data.glyphs.Glyphs": "a record; load gives it",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name):
    if name.startswith(TWINS) and name.endswith("_backward"):
        return  # the gradient of the twin above it, as the package says
    text = inspect.getdoc(PUBLIC[name])
    assert PUBLIC[name].__doc__ and text, f"{name} has no docstring"
    if name.startswith(TWINS):
        return  # the code is the documentation, and the public function of the same name has the example
    if name in WITHOUT_EXAMPLE:
        assert ">>>" not in text, f"{name} has an example now; take it off the list"
        return
    assert re.search(r"^Examples\n-+$", text, re.M) and ">>>" in text, f"{name} has no example"
    for heading, line in re.findall(r"^(\w[\w ]*)\n(-{3,})$", text, re.M):
        assert len(heading) == len(line), f"{name}: the line below {heading} has another length"


def test_the_list_of_exceptions_is_no_longer_than_needed():
    assert set(WITHOUT_EXAMPLE) <= set(PUBLIC)


@pytest.mark.parametrize("name", [n for n in PUBLIC if inspect.isclass(PUBLIC[n])])
def test_public_methods_say_what_they_do(name):
    for key, value in vars(PUBLIC[name]).items():
        if key.startswith("_") or key == "forward":
            continue
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if inspect.isfunction(function) and function.__module__.startswith("plait") and function.__name__ != "<lambda>":
            documented = inspect.getdoc(getattr(PUBLIC[name], key)) or f"``{key}``" in inspect.getdoc(PUBLIC[name])
            attributes = section(inspect.getdoc(PUBLIC[name]), "Attributes")
            assert documented or key in attributes, f"{name}.{key} has no docstring"


def section(text, heading):
    """Names in a numpydoc section: "x, y : type" are two, "**options" is options."""
    match = re.search(rf"^{heading}\n-+\n(.*?)(?=^\w[^\n]*\n-{{3,}}$|\Z)", text or "", re.M | re.S)
    names = []
    for line in match.group(1).splitlines() if match else []:
        if line and not line.startswith(" "):
            names += [n.strip().lstrip("*") for n in line.split(" : ")[0].split(",")]
    return names


@pytest.mark.parametrize("name", [n for n in PUBLIC if not n.startswith(TWINS)])
def test_documented_parameters_are_those_of_the_signature(name):
    documented = section(inspect.getdoc(PUBLIC[name]), "Parameters")
    try:
        signature = inspect.signature(PUBLIC[name])
    except ValueError:
        pytest.skip("a function of the core has no signature")
    if documented:
        assert sorted(documented) == sorted(signature.parameters)  # the order may group them
    elif inspect.isfunction(PUBLIC[name]):
        # Without a section the sentence has to name what it takes.
        for parameter in signature.parameters:
            assert re.search(rf"\b{parameter}\b", inspect.getdoc(PUBLIC[name])), f"{name} does not mention {parameter}"


def test_the_checks_above_see_what_is_wrong():
    text = "One.\n\nParameters\n----------\nx, y : array\n    Two.\n**options\n\nReturns\n-------\nz : int\n"
    assert section(text, "Parameters") == ["x", "y", "options"] and section(text, "Returns") == ["z"]


# ---------------------------------------------------------------- README


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def test_readme_code_runs(somewhere, capsys):
    """One block after the other in one namespace; the long loop only a little, which must show in the loss."""
    pytest.importorskip("matplotlib", reason="the glyphs are drawn with its font")
    pytest.importorskip("PIL", reason="the glyphs are drawn with Pillow")
    code = blocks(README, "python")
    assert len(code) == 5 and code[0].count("steps = 200\n") == 1
    namespace, losses = {}, []
    with contextlib.ExitStack() as stack:
        info_nce = plait.losses.info_nce

        def watched(*arguments):
            losses.append(info_nce(*arguments))
            return losses[-1]

        plait.losses.info_nce = watched
        stack.callback(setattr, plait.losses, "info_nce", info_nce)
        exec(code[0].replace("steps = 200\n", "steps = 15\n"), namespace)
    assert len(losses) == 15 and losses[-1].item() < losses[0].item() - 0.3
    assert {"config.json", "model.safetensors"} <= {p.name for p in (somewhere / "glyphs").iterdir()}
    capsys.readouterr()
    for block in code[1:]:
        if "int8" in block and not (plait._core.has("int8") and plait._core.has("bf16")):
            continue  # it would warn, and rightly
        exec(block, namespace)
        for line, printed in zip(re.findall(r"print\(.*?\)  +# (.*)", block), capsys.readouterr().out.splitlines(),
                                 strict=False):  # fmt: skip
            assert printed.split(":")[0] in line or line.split(":")[0] == printed, (printed, line)
    present = namespace["captions"].present
    assert (namespace["features"].data.any(1) == present).all()


def test_the_example_is_about_twenty_lines():
    lines = [line for line in blocks(README, "python")[0].splitlines() if line.strip()]
    assert len(lines) <= 27


def commands(text):
    """Lines of indented blocks: what a user types."""
    return [
        line.split("#")[0].strip()
        for line in re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    ]


def test_the_two_commands_are_there():
    assert "pip install '.[demo]' && plait demo" in commands(README)
    assert "pip install '.[test]' && pytest" in commands(README)


def plait_command(*arguments):
    path = os.pathsep.join([str(Path(plait.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "plait", *arguments],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_commands_of_the_documents_exist():
    """Each ``plait ...`` has a help text that knows its options; extras named by pip exist."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    seen, helps = set(), {}
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        for line in commands(text):
            for name in re.findall(r"pip install (?:-e )?'?\.\[(\w+)\]", line):
                assert name in extras, f"{document}: {line}"
            for part in line.split("&&"):
                words = shlex.split(part)
                if words[:1] != ["plait"]:
                    continue
                seen.add(words[1])
                helps.setdefault(words[1], plait_command(words[1], "--help"))
                assert helps[words[1]].returncode == 0, f"{document}: {line}"
                for option in re.findall(r"(?<!\S)--[\w-]+", part):
                    assert option in helps[words[1]].stdout, f"{document}: {line}"
        for name in re.findall(r"`plait (\w+)`", text):
            seen.add(name)
    assert {"demo", "info", "search"} <= seen
    listed = plait_command("--help").stdout
    for name in seen:
        assert re.search(rf"^ +{name} ", listed, re.M), name


def test_plait_info_runs():
    result = plait_command("info")
    assert result.returncode == 0 and plait.__version__ in result.stdout and "oneDNN" in result.stdout


def test_what_the_table_lists_is_what_there_is():
    """Both ways: no name without code, and no operator, module or loss that the table forgets."""
    table = README[README.index("## What there is") : README.index("## Install")]
    rows = {row.split("|")[1].strip(): row.split("|")[2] for row in table.splitlines() if row.startswith("| ")}
    spaces = {"ops": ("operators in C, `plait.ops`", "on the tape, in NumPy")}
    for name in ("nn", "losses", "optim", "evaluate"):
        spaces[name] = tuple(key for key in rows if f"`plait.{name}`" in key)
        assert spaces[name], name
    for space, keys in spaces.items():
        listed = {name for key in keys for name in re.findall(r"`(\w+)`", rows[key])}
        module = getattr(plait, space)
        for name in listed:
            assert hasattr(module, name), f"README lists {name}, which plait.{space} has not"
        small = {"concatenate", "regression_loss", "init", "LoadResult", "Optimizer"}  # other names, and parts
        assert set(module.__all__) - listed - small == set(), f"plait.{space}"


# ---------------------------------------------------------------- links, paths, switches


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_exist(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+?)(?:#[\w-]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document} links to {target}"
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    for path in re.findall(r"`((?:csrc|python|tests|benchmarks|notebooks|docs|\.ci)/[^`\s]*)`", prose):
        pattern = re.sub(r"<\w+>", "*", path).rstrip("/")
        assert list(ROOT.glob(pattern)), f"{document} names {path}"


def test_house_of_contributing_is_the_house():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    folders = re.findall(r"^((?:csrc|python|tests|benchmarks|notebooks)/\S*)", text, re.M)
    assert len(folders) >= 7
    for folder in folders:
        assert (ROOT / folder).exists(), folder
    for folder in (ROOT / "csrc").iterdir():
        assert any(f.startswith(f"csrc/{folder.name}/") for f in folders), f"csrc/{folder.name} is not in the list"


def test_lines_of_the_recipe_are_the_real_ones():
    """Each block of CONTRIBUTING names its file in the first line; every other line stands in that file."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.findall(r"^```(?:c|python)\n(?:/\* |# )(\S+)(?: \*/)?\n(.*?)^```$", text, re.M | re.S)
    assert len(found) >= 6 and len(found) == len(re.findall(r"^```(?:c|python)$", text, re.M))
    for file, block in found:
        lines = [" ".join(line.split()) for line in (ROOT / file).read_text().splitlines()]
        for line in block.splitlines():
            assert " ".join(line.split()) in lines, f"CONTRIBUTING.md: {file} has no line {line!r}"


def test_switches_are_documented_and_exist():
    """Each PLAIT_ variable that code reads is in README or CONTRIBUTING, and the other way round."""
    sources = [
        ROOT / "setup.py",
        *ROOT.glob("python/**/*.py"),
        *ROOT.glob("csrc/**/*.[ch]"),
        *ROOT.glob("notebooks/*.ipynb"),
    ]
    read = set()
    for path in sources:
        read |= set(re.findall(r"""["'](PLAIT_[A-Z_]+)\\?["']""", path.read_text()))
    written = {
        w for d in ("README.md", "CONTRIBUTING.md") for w in re.findall(r"\bPLAIT_[A-Z_]+\b", (ROOT / d).read_text())
    }
    assert read == written


def test_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or f"## {plait.__version__}" in text
