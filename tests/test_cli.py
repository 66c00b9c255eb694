"""The plait command: help, errors, and a short demo whose result is searched."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import plait
from plait import cli, io
from plait.commands import COMMANDS, _extras


def run(*arguments):
    return cli.main([str(a) for a in arguments])


@pytest.mark.parametrize("command", [None, *(c.NAME for c in COMMANDS)])
def test_help_exits_with_zero_and_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as end:
        run(*([] if command is None else [command]), "--help")
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "usage: plait" in out
    assert f"plait {command or 'demo'}" in out


def test_info_prints_what_show_config_says(capsys):
    assert run("info", "--json") == 0
    assert json.loads(capsys.readouterr().out) == plait.show_config()
    assert run("info") == 0
    out = capsys.readouterr().out
    for value in (plait.__version__, plait.show_config()["onednn"], plait.show_config()["isa"], np.__version__):
        assert value in out
    assert run("--version") == 0
    assert capsys.readouterr().out == f"plait {plait.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["demo", "--steps", "0"],
        ["demo", "--steps", "many"],
        ["demo", "--seed", "-1"],
        ["demo", "--what"],
        ["demo", "extra"],
        ["search"],
        ["search", "--count", "0", "a"],
        ["info", "extra"],
    ],
)
def test_wrong_arguments_exit_with_two(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert "usage: plait" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_no_command_prints_the_help(capsys):
    assert run() == 2
    assert "usage: plait" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--resume"], "no run to resume"),
        (["demo", "--json", "absent/file.json"], "no such folder"),
        (["demo", "--out", "file"], "--out file: file is a file, expected a folder"),
        (["demo", "--out", "file/in/it"], "--out file/in/it: file is a file, expected a folder"),
        (["demo", "--out", "file", "--resume"], "--out file: file is a file, expected a folder"),
        (["search", "a"], "run plait demo first"),
        (["search", "--dir", "elsewhere", "a"], "elsewhere: no model"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run(*arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"plait {arguments[0]}: error: ")
    assert message in err
    assert err.count("\n") == 1
    with pytest.raises((OSError, ValueError)):
        run("--traceback", *arguments)


def test_a_missing_extra_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_extras.importlib.util, "find_spec", lambda name: None)
    for command in (["demo"], ["search", "a"]):
        assert run(*command) == 1
        assert "pip install 'plait[demo]'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo of three steps, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-W", "error", "-m", "plait", "demo", "--quick", "--steps", "3", "--seed", "4"]
    done = subprocess.run(
        [*command, "--out", folder / "out", "--json", folder / "numbers.json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_demo_writes_and_prints_its_results(demo):
    folder, done = demo
    out = folder / "out"
    names = {"checkpoints", "glyphs.safetensors", "model", "report.json", "retrieval.png", "settings.json"}
    assert set(os.listdir(out)) == names | {"training.png"}
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads((folder / "numbers.json").read_text())
    assert report["seconds"] > 0
    assert (report["steps"], report["seed"], report["quick"], report["held_out"]) == (3, 4, True, 530)
    for scope in ("recall", "recall_among_all"):
        for way in ("text_to_image", "image_to_text"):
            values = [report[scope][way][k] for k in ("1", "5", "10")]
            assert 0 <= values[0] <= values[1] <= values[2] <= 100
    assert report["chance"] == {"1": 0.19, "5": 0.94, "10": 1.89}
    for picture in ("training.png", "retrieval.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert "samples/s" in done.stderr
    assert "loss" in done.stderr
    for text in ("text to image", "image to text", "chance", "among the 530 held out"):
        assert text in done.stdout
    assert done.stdout.splitlines()[-1].endswith('"greek small letter omega with tonos"')


def test_the_model_of_the_demo_gives_the_numbers_of_its_report(demo):
    folder, _ = demo
    from plait.commands import _glyphs

    task = _glyphs.Task()
    _, _, recall = _glyphs.measure(task, plait.load(folder / "out" / "model"))
    assert (
        recall["held_out"]["text_to_image"]
        == json.loads((folder / "numbers.json").read_text())["recall"]["text_to_image"]
    )


def test_search_prints_and_draws_the_nearest(demo, capsys):
    folder, _ = demo
    out = folder / "out"
    assert run("search", "--dir", out, "--count", "3", "--out", folder / "found.png", "small", "omega") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["1", "2", "3"]
    index = io.load_tensors(out / "glyphs.safetensors")
    scores = index["embeddings"] @ plait.load(out / "model").embed_texts(["small omega"])[0]
    assert f"U+{index['codepoints'][scores.argmax()]:04X}" in lines[0]
    assert (folder / "found.png").read_bytes().startswith(b"\x89PNG")
    assert run("search", "--dir", out, "--count", "3", "--out", folder / "odd.png", "qqzz", "xqx") == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("plait search: no word of 'qqzz xqx' occurs in the training names")
    assert printed.err.count("\n") == 1
    assert [line.split()[0] for line in printed.out.splitlines()[:3]] == ["1", "2", "3"]
    assert run("search", "--dir", out, "\N{HIRAGANA LETTER A}") == 1
    assert "no word or letter" in capsys.readouterr().err
    io.save_tensors(folder / "out" / "glyphs.safetensors", {**index, "embeddings": index["embeddings"][:, 1:]})
    assert run("search", "--dir", out, "a") == 1
    assert "embeddings is missing or does not fit" in capsys.readouterr().err
    io.save_tensors(folder / "out" / "glyphs.safetensors", index)


def test_an_interrupted_demo_resumes_to_the_same_weights(demo, tmp_path):
    folder, _ = demo
    command = [sys.executable, "-m", "plait", "demo", "--out", tmp_path / "out"]
    options = ["--quick", "--steps", "3", "--seed", "4"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    seen = ""
    while "0/3" not in seen:  # the bar has begun
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    seen += process.communicate()[1]
    assert process.returncode == 130, seen
    assert "go on with: plait demo --resume --out" in seen
    assert not (tmp_path / "out" / "model").exists()
    wrong = subprocess.run([*command, "--resume", "--seed", "5"], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "--seed is 5, but the run in" in wrong.stderr
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, theirs = (io.load_tensors(f / "out" / "model" / "model.safetensors") for f in (tmp_path, folder))
    for name, array in theirs.items():
        assert ours[name].tobytes() == array.tobytes(), name
