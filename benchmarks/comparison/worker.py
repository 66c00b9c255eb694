"""One engine, one case, one precision, in a process of its own: ``python -m comparison.worker '{...}'`` prints a line.

The line is a JSON object: the times of the calls, the time from the start of building to the first result, memory,
versions; or ``absent`` with the reason, or ``failed`` with the error.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from comparison.cases import CASES
from comparison.engines import engine
from comparison.job import Absent, memory, timed


def main(spec):
    case, folder = CASES[spec["case"]], Path(spec["folder"])
    begin = time.perf_counter()
    try:
        module = engine(spec["engine"])
    except ImportError as e:
        return {"absent": f"not installed: {e}"}
    imported = time.perf_counter() - begin
    if spec.get("prepare"):
        if hasattr(module, "prepare"):
            module.prepare(case, spec["precision"], folder)
        return {"prepared": time.perf_counter() - begin}
    before, _ = memory()
    begin = time.perf_counter()
    job = module.build(case, spec["precision"], folder, spec["threads"])
    built = time.perf_counter() - begin
    job.run()
    first = time.perf_counter() - begin
    np.savez(spec["out"], **{k: np.asarray(v, np.float32) for k, v in job.outputs().items()})
    job.run()
    times = timed(job.run, spec["seconds"], spec["least"])
    _, peak = memory()
    figures = {"import_s": imported, "build_s": built, "first_s": first, "before_mb": before, "peak_mb": peak}
    ms = {name: 1e3 * float(np.quantile(times, q)) for name, q in (("ms", 0.5), ("least_ms", 0.0), ("p90_ms", 0.9))}
    return {**ms, "calls": len(times), **figures, "versions": module.versions()}


def guarded(spec):
    """What main gives, or why it gave nothing."""
    try:
        return main(spec)
    except Absent as e:
        return {"absent": str(e)}
    except Exception as e:
        traceback.print_exc()
        return {"failed": f"{type(e).__name__}: {e}".splitlines()[0][:300]}


if __name__ == "__main__":
    # Engines print what they like; the line goes to what was the standard output.
    line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    line.write(json.dumps(guarded(json.loads(sys.argv[1]))) + "\n")
    line.flush()
