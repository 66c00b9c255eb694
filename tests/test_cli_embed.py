"""plait embed: texts and pictures to numbered files, from the command line; and jobs that are stopped."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tiny
import zoo

import plait
from plait import cli
from plait.commands import _extras, embed
from plait.io import read_shards

rng = random.Random(0)
LINES = [" ".join(rng.choices(zoo.VOCABULARY[5:], k=rng.randrange(1, 12))) for _ in range(57)] + ["", "dog"]


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read(folder):
    parts = list(read_shards(folder))
    ids = [i for ids, _ in parts for i in ids]
    return ids, np.concatenate([vectors for _, vectors in parts])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models, and inputs for them."""
    top = tmp_path_factory.mktemp("models")
    tiny.sentences(top / "sentences")
    tiny.clip(top / "clip")
    (top / "captions.txt").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    image = pytest.importorskip("PIL.Image", reason="the extra 'encode' is not installed")
    for i in range(9):
        file = top / f"photos/{i % 2}/{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(tiny.picture(i)).save(file)
    return top


@pytest.fixture
def here(models, tmp_path, monkeypatch):
    """An empty working directory with links to them."""
    monkeypatch.chdir(tmp_path)
    for path in models.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


# ---------------------------------------------------------------- what comes out


def test_texts(here, models, capsys):
    assert run("embed", "captions.txt", "--model", "sentences", "--out", "vectors", "--shard-size", 20) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith("vectors: 59 vectors of 48 (float32) in 3 files; ") and first.endswith(" texts/s")
    assert err == ""
    ids, vectors = read(here / "vectors")
    assert ids == list(range(59))
    np.testing.assert_array_equal(vectors, plait.load(models / "sentences").encode(LINES))
    # The line that is printed is Python.
    assert second.startswith("in Python: for ids, vectors in ")
    found = {}
    exec(
        second.removeprefix("in Python: ").replace(" ...", " found[len(found)] = vectors"),
        {"plait": plait, "found": found},
    )
    np.testing.assert_array_equal(np.concatenate(list(found.values())), vectors)

    before = content(here / "vectors")
    assert run("embed", "captions.txt", "--model", "sentences", "--out", "vectors", "--shard-size", 20) == 0
    assert capsys.readouterr().out.startswith("vectors: 59 vectors of 48 (float32) in 3 files, 3 of them from before\n")
    assert content(here / "vectors") == before
    options = ["--shard-size", 20, "--batch-size", 3]
    assert run("embed", "captions.txt", "--model", "sentences", "--out", "again", *options) == 0
    assert content(here / "again") == before


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_precision_and_fewer_numbers(here, models, precision):
    arguments = ["--precision", precision, "--truncate-dim", 16]
    assert run("embed", "captions.txt", "--model", "sentences", "--out", "v", *arguments) == 0
    due = plait.load(models / "sentences").encode(LINES, precision=precision, truncate_dim=16)
    vectors = read(here / "v")[1]
    np.testing.assert_array_equal(vectors, due)
    assert vectors.dtype == due.dtype
    options = json.loads((here / "v/manifest.json").read_text())["options"]
    assert options == {"kind": "text", "precision": precision, "truncate_dim": 16, "prompt_name": None}


def test_texts_of_a_dual_encoder_and_prompts(here, models, capsys):
    assert run("embed", "captions.txt", "--model", "clip", "--out", "v", "--truncate") == 0
    err = capsys.readouterr().err
    with pytest.warns(UserWarning, match=r"(\d+) texts") as caught:
        due = plait.load(models / "clip").encode_text(LINES, truncate=True)
    number = str(caught[0].message).split()[1]
    assert err == f"plait embed: {number} texts were cut to 20 tokens\n" and int(number) > 1
    np.testing.assert_array_equal(read(here / "v")[1], due)

    prompts = {"prompts": {"query": "find the ", "plain": ""}, "default_prompt_name": None}
    tiny.sentences(here / "prompted")
    (here / "prompted/config_sentence_transformers.json").write_text(json.dumps(prompts))
    assert run("embed", "captions.txt", "--model", "prompted", "--out", "q", "--prompt-name", "query") == 0
    np.testing.assert_array_equal(
        read(here / "q")[1], plait.load(models / "sentences").encode(["find the " + line for line in LINES])
    )


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_of_every_kind(tmp_path, ending, mark, last):
    lines = ["a", "", "  b ", "ä\u2028x", "c\td\x0be"]
    text = ending.join(lines) + (ending if last else "")
    (tmp_path / "f").write_bytes(mark + text.encode())
    assert list(embed._Lines(tmp_path / "f")) == lines


def test_pictures(here, models, capsys):
    assert run("embed", "photos", "--model", "clip", "--out", "v", "--shard-size", 4) == 0
    out, err = capsys.readouterr()
    assert out.startswith("v: 9 vectors of 40 (float32) in 3 files; ") and "pictures/s" in out and err == ""
    names = sorted(f"{i % 2}/{i}.png" for i in range(9))
    ids, vectors = read(here / "v")
    assert ids == names
    np.testing.assert_array_equal(
        vectors, plait.load(models / "clip").encode_image([models / "photos" / name for name in names])
    )
    (here / "list.txt").write_text("photos/1/3.png\n\nphotos/0/8.png\r\n")
    assert run("embed", "list.txt", "--images", "--model", "clip", "--out", "w") == 0
    ids, rows = read(here / "w")
    assert ids == ["photos/1/3.png", "photos/0/8.png"]
    np.testing.assert_array_equal(rows, vectors[[names.index("1/3.png"), names.index("0/8.png")]])


def test_broken_pictures(here, capsys):
    (here / "list.txt").write_text("photos/1/3.png\nabsent.png\ncaptions.txt\nphotos/0/8.png\n")
    arguments = ["embed", "list.txt", "--images", "--model", "clip", "--out", "v", "--shard-size", 2]
    assert run(*arguments) == 1
    err = capsys.readouterr().err
    assert err == "plait embed: error: absent.png: no such file; --skip-broken leaves it out\n"
    assert run(*arguments, "--skip-broken") == 0  # the same folder goes on
    out, err = capsys.readouterr()
    assert out.startswith("v: 2 vectors of 40 (float32) in 2 files")
    assert err.splitlines() == [
        "2 could not be read and are left out:",
        "  absent.png: no such file",
        "  captions.txt: not a JPEG, PNG, WebP, GIF, BMP or TIFF picture",
    ]
    assert read(here / "v")[0] == ["photos/1/3.png", "photos/0/8.png"]
    assert run(*arguments, "--skip-broken") == 0
    assert "2 could not be read and are left out:" in capsys.readouterr().err
    (here / "list.txt").write_text("absent.png\n")
    assert run(*[*arguments[:-3], "none", "--skip-broken"]) == 1
    assert "no pictures in it that can be read" in capsys.readouterr().err
    (here / "pictures").mkdir()
    (here / "pictures/link.png").symlink_to("nowhere")
    (here / "pictures/good.png").symlink_to(here / "photos/0/8.png")
    assert run("embed", "pictures", "--model", "clip", "--out", "p") == 1
    assert "pictures/link.png: No such file or directory; --skip-broken leaves it out" in capsys.readouterr().err
    assert run("embed", "pictures", "--model", "clip", "--out", "p", "--skip-broken") == 0
    assert read(here / "p")[0] == ["good.png"]


# ---------------------------------------------------------------- stopped and started again


STOPPED = """
    import os, signal, sys, time
    from plait import cli
    from plait.io import shards
    number, at = int(sys.argv[1]), int(sys.argv[2])
    real, calls = shards.save_tensors, 0
    def save(*arguments):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), number)
        real(*arguments)
    shards.save_tensors = save
    sys.exit(cli.main(["embed", "captions.txt", "--model", "sentences", "--out", "v", "--shard-size", "10"]))
"""


@pytest.mark.parametrize(("number", "at"), [(signal.SIGKILL, 1), (signal.SIGKILL, 4), (signal.SIGINT, 3)])
def test_a_stopped_job_goes_on(here, capsys, number, at):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STOPPED), str(int(number)), str(at)],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if number == signal.SIGINT:
        assert done.returncode == 130
        assert (
            done.stderr == "\nplait embed: stopped; finished files stay, and the same command goes on with the next\n"
        )
    else:
        assert done.returncode == -signal.SIGKILL
    manifest = json.loads((here / "v/manifest.json").read_text())
    assert (len(manifest["shards"]), manifest["complete"]) == (at - 1, False)
    arguments = ["embed", "captions.txt", "--model", "sentences", "--shard-size", 10, "--batch-size", 5]
    assert run(*arguments, "--out", "v") == 0
    assert (f", {at - 1} of them from before" in capsys.readouterr().out) == (at > 1)
    assert run(*arguments, "--out", "quiet") == 0
    assert content(here / "v") == content(here / "quiet")


def test_a_job_that_is_killed_at_random(here):
    (here / "many.txt").write_text("".join(f"{line} {i}\n" for i in range(30) for line in LINES))
    command = [sys.executable, "-m", "plait", "embed", "many.txt", "--model", "sentences", "--shard-size", "40"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    began = time.perf_counter()
    subprocess.run([*command, "--out", "quiet"], env=environment, check=True, capture_output=True)
    whole = time.perf_counter() - began
    for _ in range(4):
        process = subprocess.Popen([*command, "--out", "v"], env=environment, stdout=subprocess.DEVNULL)
        time.sleep(random.uniform(0.3, 0.95) * whole)
        process.kill()
        process.wait()
    subprocess.run([*command, "--out", "v"], env=environment, check=True, capture_output=True)
    assert content(here / "v") == content(here / "quiet")


# ---------------------------------------------------------------- what goes wrong


ERRORS = [
    ("absent.txt --model sentences", "absent.txt: no such file or folder"),
    ("captions.txt --model absent", "absent: no such folder. plait reads models from folders"),
    ("captions.txt --model sentence-transformers/all-MiniLM-L6-v2", "--local-dir all-MiniLM-L6-v2"),
    ("photos --model sentences", "sentences: a TextEncoder, which takes no pictures"),
    ("captions.txt --model sentences --truncate-dim 49", "truncate_dim is 49, expected 1 to 48"),
    ("captions.txt --model sentences --prompt-name q", "prompt_name is 'q', expected one of"),
    ("captions.txt --model clip --prompt-name q", "--prompt-name: the DualEncoder in clip has no prompts"),
    ("long.txt --model sentences --shard-size 10", "long.txt: line 27 has 102 tokens, expected at most 64; --truncate"),
    ("long.txt --model sentences", "long.txt: line 27 has 102 tokens"),
    ("bytes.txt --model sentences", "bytes.txt: line 2 is not UTF-8, at its byte 1"),
    ("endless.txt --model sentences", "endless.txt: line 1 has more than 4194304 bytes"),
    ("empty.txt --model sentences", "empty.txt: no texts in it"),
    ("empty.txt --model clip --images", "empty.txt: no pictures in it"),
    ("nothing --model clip", "nothing: no pictures in it"),
    ("captions.txt --model sentences --out full", "the folder holds other files (notes)"),
    ("captions.txt --model sentences --out captions.txt", "error: captions.txt: exists and is not a folder, name"),
    ("captions.txt --model sentences --out captions.txt/v", "captions.txt/v"),
    ("blank.txt --model clip --images", "blank.txt: no pictures in it"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), ERRORS, ids=[row[0] for row in ERRORS])
def test_errors_are_one_line(here, capsys, line, message):
    (here / "long.txt").write_text("a dog\n" * 26 + "dog " * 100 + "\nthe cat\n")
    (here / "bytes.txt").write_bytes(b"a dog\na\xff\n")
    (here / "endless.txt").write_bytes(b"dog " * (1 << 21))
    (here / "empty.txt").write_text("")
    (here / "blank.txt").write_text("\n \n")
    (here / "nothing").mkdir()
    (here / "full").mkdir()
    (here / "full/notes").write_text("mine")
    assert run("embed", *line.split(), *([] if "--out" in line else ["--out", "v"])) == 1
    err = capsys.readouterr().err
    assert err.startswith("plait embed: error: ") and err.count("\n") == 1, err
    assert message in err
    assert content(here / "full") == {"notes": b"mine"}
    assert not (here / "v").exists() or "--shard-size" in line  # where files were finished, they stay


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "required: input, --model, --out"),
        ("captions.txt --model m", "required: --out"),
        ("captions.txt --model m --out v --precision int4", "invalid choice"),
        ("captions.txt --model m --out v --batch-size 0", "0, expected 1 to 4096"),
        ("captions.txt --model m --out v --shard-size 0", "0, expected 1 to"),
        ("captions.txt --model m --out v --truncate-dim x", "invalid whole number"),
        ("captions.txt --model m --out v --skip-broken", "--skip-broken is for pictures"),
        ("photos --model m --out v --truncate", "--truncate and --prompt-name are for texts"),
        ("captions.txt --images --model m --out v --prompt-name q", "--truncate and --prompt-name are for texts"),
    ],
)
def test_wrong_arguments_exit_with_two(here, line, message, capsys):
    with pytest.raises(SystemExit) as end:
        run("embed", *line.split())
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (here / "v").exists()


def test_a_missing_extra_is_named(here, capsys, monkeypatch):
    monkeypatch.setattr(_extras.importlib.util, "find_spec", lambda name: None)
    assert run("embed", "photos", "--model", "clip", "--out", "v") == 1
    assert "plait embed of pictures needs Pillow: pip install 'plait[encode]'" in capsys.readouterr().err
    assert not (here / "v").exists()


def test_a_terminal_sees_a_bar(here, monkeypatch):
    pytest.importorskip("tqdm", reason="the extra 'encode' is not installed")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    (here / "many.txt").write_text("a dog in the house\n" * 20_000)
    assert run("embed", "many.txt", "--model", "sentences", "--out", "v") == 0
    assert "text/s" in screen.getvalue()
