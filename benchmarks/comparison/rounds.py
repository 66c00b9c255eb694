"""Runs the table: a process per engine, precision and case, in alternating rounds, and compares what they computed."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comparison import idle, weights
from comparison.engines import precisions

__all__ = ["TOLERANCE", "Options", "compare", "deviation"]

# Relative error of an array against float32 above which a result is called wrong; thrice that for bf16 gradients.
TOLERANCE = {"f32": 1e-3, "bf16": 0.1, "int8": 0.2}
PREPARED = ("onnxruntime", "openvino")


@dataclass
class Options:
    engines: list
    precisions: list
    cache: Path
    rounds: int = 3
    threads: int = 2
    seconds: float = 2.0
    least: int = 3
    patience: float = 60.0  # seconds to wait for an idle machine before each process; 0: none, and no look
    limit: float = 1800.0  # seconds that a process may take
    peers: str = sys.executable


def class_of(precision):
    return precision.removesuffix("-autocast")


def deviation(got: dict, due: dict):
    """(largest relative error of an array, its name)."""
    if set(got) != set(due):
        raise ValueError(f"the engines computed {sorted(got)} and {sorted(due)}")
    worst = (0.0, "")
    for name, x in due.items():
        y = got[name].ravel()
        x = x.ravel()
        if x.shape != y.shape or not np.isfinite(y).all():
            return float("inf"), name
        worst = max(worst, (float(np.linalg.norm(y - x) / max(np.linalg.norm(x), 1e-30)), name))
    return worst


def launch(options, engine, case, precision, out, **more):
    """What a worker process says."""
    threads = str(options.threads)
    here = str(Path(__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OMP_NUM_THREADS": threads,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    spec = {
        "engine": engine, "case": case.name, "precision": precision, "folder": str(options.cache),
        "threads": options.threads, "seconds": options.seconds, "least": options.least, "out": str(out), **more,
    }  # fmt: skip
    python = sys.executable if engine in ("plait", "bare") else options.peers
    command = [python, "-m", "comparison.worker", json.dumps(spec)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=options.limit, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {options.limit:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = done.stderr.strip().splitlines()[-1:]
        return {"failed": f"the process ended with {done.returncode}: {' '.join(last)[:300]}"}
    found = json.loads(lines[-1])
    if "failed" in found:
        print(done.stderr[-4000:], file=sys.stderr)
    return found


def reference(options, case, folder):
    """(name, arrays) of what results are compared with: PyTorch in float32, or plait where there is no PyTorch."""
    for engine in ("torch", "plait"):
        kept = options.cache / f"reference-{case.name}-{engine}.npz"
        if not kept.exists():
            out = Path(folder) / "reference.npz"
            said = launch(options, engine, case, "f32", out, seconds=0, least=1)
            if "ms" not in said:
                continue
            shutil.move(out, kept)
        with np.load(kept, allow_pickle=False) as arrays:
            return f"{engine} f32", dict(arrays)
    return None, None


def compare(case, options, say=lambda text: None):
    """Rows of a case, one for each engine and precision: dicts that go to the JSON lines."""
    weights.checkpoint(case, options.cache)
    sides = [(e, p) for p in options.precisions for e in options.engines if p in precisions(e, case)]
    found: dict = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        for engine, precision in sides:
            if engine in PREPARED:
                say(f"{case.name}: {engine} {precision}: preparing")
                said = launch(options, engine, case, precision, "", prepare=True)
                found[engine, precision] += [] if "prepared" in said else [said]
        name, due = reference(options, case, folder)
        for number in range(options.rounds):
            for side in sides:
                if found[side] and "ms" not in found[side][-1]:
                    continue
                before = idle.wait(options.patience) if options.patience else 0.0
                say(f"{case.name}: {side[0]} {side[1]}: round {number + 1} of {options.rounds}")
                watch, out = idle.Watch(), Path(folder) / "out.npz"
                said = launch(options, *(side[0], case, side[1]), out)
                if "ms" in said:
                    said["others"] = round(max(before, watch.cores()), 3)
                    if side[0] != "bare" and due is not None and not found[side]:
                        with np.load(out, allow_pickle=False) as arrays:
                            said["error"], said["error_at"] = deviation(dict(arrays), due)
                        said["reference"] = name
                found[side].append(said)
    return [_row(case, engine, precision, said, options) for (engine, precision), said in found.items()]


def _row(case, engine, precision, said, options):
    row = {"case": case.name, "engine": engine, "precision": precision, "class": class_of(precision)}
    bad = [s for s in said if "ms" not in s]
    if bad:
        return {**row, **bad[0]}
    row["ms"] = statistics.median(s["ms"] for s in said)
    row["rounds_ms"] = [round(s["ms"], 5) for s in said]
    row["least_ms"] = min(s["least_ms"] for s in said)
    row["p90_ms"] = statistics.median(s["p90_ms"] for s in said)
    for key in ("import_s", "build_s", "first_s", "before_mb", "peak_mb"):
        row[key] = round(statistics.median(s[key] for s in said), 4)
    row["others"] = max(s["others"] for s in said)
    row["busy"] = row["others"] > idle.LIMIT
    if "error" in said[0]:
        row |= {key: said[0][key] for key in ("error", "error_at", "reference")}
        thrice = 3 if row["class"] == "bf16" and case.phase != "forward" else 1
        row["wrong"] = not row["error"] <= thrice * TOLERANCE[row["class"]]
    return {**row, "threads": options.threads, "versions": said[0]["versions"]}
