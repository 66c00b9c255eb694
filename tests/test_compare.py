"""The comparison of benchmarks/: the smallest cases with plait alone, and the arithmetic behind its tables."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import plait

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def comparison(monkeypatch):
    """The harness, which is a folder of scripts and no part of plait."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import comparison.products
    import comparison.report
    import comparison.rounds
    import comparison.weights

    return comparison


def run(*arguments, **variables):
    command = [sys.executable, str(BENCHMARKS / "compare.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=200)


def test_plait_alone(tmp_path):
    """Engines that are not installed are said to be absent, and plait is compared with itself in float32."""
    for name in ("torch", "openvino"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('hidden')")
    cases = ("tiny-cross-train", "tiny-clip-text", "tiny-clip-step-checkpoint")
    done = run(
        "--busy", "--rounds", 2, "--seconds", 0, "--threads", 1, "--precision", "f32", "--engine", "plait", "bare",
        "openvino", "--case", *cases, "--out", tmp_path / "out",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    found = {(r["case"], r["engine"]): r for r in rows}
    assert len(found) == len(rows) == 9
    for case in cases:
        ours, bare = found[case, "plait"], found[case, "bare"]
        assert found[case, "openvino"]["absent"] == "not installed: hidden"
        assert ours["error"] == 0 and not ours["wrong"] and ours["reference"] == "plait f32"
        assert len(ours["rounds_ms"]) == 2 and 0 < ours["least_ms"] <= ours["ms"] <= 1e3 * ours["first_s"] + 1e3
        assert 0 < ours["before_mb"] < ours["peak_mb"] < 2000
        assert ours["threads"] == 1 and "plait" in ours["versions"] and bare["ms"] > 0
        assert ours["machine"]["cores"] == os.cpu_count()
    text = (tmp_path / "out/results.md").read_text()
    assert text.strip() == done.stdout.strip()
    assert "| tiny-clip-text |" in text and "* openvino f32: not installed: hidden" in text


def test_unknown_case_is_named():
    done = run("--case", "clip-imagine")
    assert done.returncode == 2
    assert "'clip-imagine' is in no name of a case" in done.stderr


def test_list_measures_nothing():
    done = run("--list", "--case", "clip-image")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == [
        "clip-image-b1",
        "clip-image-b8",
        "clip-image-b32",
    ]
    assert "plait (f32 bf16 int8), torch (f32 bf16)" in done.stdout


def test_deviation(comparison):
    """By hand: the error of (3, 4) + (0, 1) is 1 of 5; NaN and other shapes are as wrong as can be."""
    deviation, due = comparison.rounds.deviation, {"a": np.array([3.0, 4.0]), "b": np.ones((2, 2))}
    assert deviation(due, due)[0] == 0
    assert deviation({**due, "a": np.array([3.0, 5.0])}, due) == (0.2, "a")
    assert deviation({**due, "b": np.ones(4)}, due)[0] == 0  # rows of a stream are compared flat
    assert deviation({**due, "b": np.ones(3)}, due) == (float("inf"), "b")
    assert deviation({**due, "b": np.full(4, np.nan)}, due) == (float("inf"), "b")
    with pytest.raises(ValueError, match="computed"):
        deviation({"a": due["a"]}, due)


def row(engine, ms, **more):
    common = {"case": "cross-20x36-b16", "precision": "f32", "class": "f32", "busy": False, "p90_ms": ms, "import_s": 1}
    return {**common, "engine": engine, "ms": ms, "first_s": 1, "peak_mb": 2, "before_mb": 1, "versions": {}, **more}


def test_table(comparison):
    """The fastest correct peer counts, and a wrong one is said to be wrong."""
    rows = [row("bare", 8.0), row("plait", 10.0), row("torch", 30.0), row("openvino", 12.0, busy=True)]
    rows.append(row("onnxruntime", 1.0, wrong=True))
    line = next(x for x in comparison.report.markdown(rows, "").splitlines() if x.startswith("| cross-20x36-b16 | **"))
    share = round(100 * 0.8 * comparison.products.with_attention(comparison.cases.CASES["cross-20x36-b16"]))
    assert line == f"| cross-20x36-b16 | **10** | 30 | 12 * | 1 (wrong) | 1.20x | {share} % |"


def test_products(comparison):
    """FLOPs of CLIP ViT-B/32's image tower: 4.4 G multiplications and additions a picture, twice that in FLOPs."""
    case = comparison.cases.CASES["clip-image-b8"]
    weights = sum(2.0 * m * k * n * often for m, k, n, often in comparison.products.products(case))
    assert 8.6e9 < weights * comparison.products.with_attention(case) / 8 < 9.0e9


def test_checkpointing(comparison, monkeypatch, tmp_path):
    """The case switches it on, no other does, and its products are those of blocks that run forward twice."""
    import comparison.engines.plait_engine as plait_engine

    switched, cases = [], comparison.cases.CASES
    monkeypatch.setattr(plait.nn.Module, "set_checkpointing", lambda self, on=True: switched.append(on))
    threads = plait.get_num_threads()
    for name in ("tiny-clip-step", "tiny-clip-step-checkpoint"):
        comparison.weights.checkpoint(cases[name], tmp_path)
        plait_engine.build(cases[name], "f32", tmp_path, threads)
    assert switched == [False, True]

    def flops(name):
        weights = sum(2.0 * m * k * n * often for m, k, n, often in comparison.products.products(cases[name]))
        return weights * comparison.products.with_attention(cases[name])

    plain, z = "clip-step-b32", cases["clip-step-b32"].sizes
    blocks = 0.0
    for tower, rows, pairs in ((z["image"], 50, 50 * 50), (z["text"], 77, 77 * 78 / 2)):
        width = tower["width"]
        blocks += 32 * tower["layers"] * (2 * 12 * width**2 * rows + 4 * pairs * width)
    assert flops("clip-step-checkpoint-b32") - flops(plain) == pytest.approx(blocks, rel=1e-9)
