"""The fuzz targets over their stored corpus and some thousand changes of it; ``tests/fuzz`` runs them for longer."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(HERE))

import targets  # noqa: E402
from mutate import mutated  # noqa: E402

RUNS = {"tensors": 12_000, "text": 40_000, "folder": 800, "tokenizer": 12_000}


@pytest.fixture(autouse=True)
def parts():
    pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")


def corpus(name):
    return [file.read_bytes() for file in sorted((HERE / "corpus" / name).iterdir())]


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_stored_corpus(name):
    seeds = corpus(name)
    assert seeds
    for data in seeds:
        targets.TARGETS[name](data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_changes_of_the_corpus(name):
    seeds, rng, different = corpus(name), random.Random(1), set()
    for _ in range(RUNS[name]):
        data = mutated(rng.choice(seeds), rng, seeds)
        different.add(data)
        targets.TARGETS[name](data)
    assert len(different) > 0.9 * RUNS[name]


def test_changes_are_the_same_everywhere():
    rng, digest = random.Random(7), hashlib.sha256()
    for _ in range(100):
        digest.update(mutated(b'{"a": [1, 2, {"b": "text"}]}', rng, [b"other"]))
    assert digest.hexdigest()[:16] == "53d7dd7d69a47ecb"


def test_the_corpus_is_small():
    assert sum(file.stat().st_size for file in (HERE / "corpus").rglob("*") if file.is_file()) < 300_000


def test_what_is_found_is_kept(tmp_path):
    """A mistake of a target ends in a file, and the exit status says so."""
    code = (
        "import sys, runpy; sys.path.insert(0, sys.argv.pop(1)); import targets\n"
        "def wrong(data): raise IndexError\n"
        "targets.TARGETS['text'] = wrong\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    options = ["text", "--runs", "3", "--found", tmp_path / "found"]
    command = [str(part) for part in (sys.executable, "-c", code, HERE, HERE / "__main__.py", *options)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1 and "IndexError" in done.stderr, done.stderr
    assert len(list((tmp_path / "found").iterdir())) == 3
