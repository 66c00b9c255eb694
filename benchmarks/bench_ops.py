"""Times plait's operators beside oneDNN's bare matmul and, where it is installed, PyTorch.

    python benchmarks/bench_ops.py                          all cases
    python benchmarks/bench_ops.py attention block          cases whose name contains a word
    python benchmarks/bench_ops.py --torch /path/to/python  the interpreter that has PyTorch

Every engine runs in a process of its own with two threads; figures are medians; before each process the machine must
be idle (other processes below 5 % of it for half a second), or the row is marked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from cases import CASES

HERE = Path(__file__).parent


def busy(seconds=0.5):
    """Share of the machine that other processes took during this time."""

    def read():
        fields = [int(f) for f in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = read()
    time.sleep(seconds)
    total2, idle2 = read()
    return 1 - (idle2 - idle) / max(1, total2 - total)


def wait_until_idle(limit=60):
    """True when the machine became idle in time."""
    end = time.time() + limit
    while busy() > 0.05:
        if time.time() > end:
            return False
    return True


def run(python, script, name, threads=2):
    """JSON of one process, or None when it cannot run there."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([python, str(HERE / script), name], capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{script} {name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def products(kind, z):
    """(rows, inner, columns, how often) of the forward products of a case: what the bare rate is measured at."""
    if kind == "linear":
        return [(z["n"], z["k"], z["d"], 1)]
    if kind == "mlp":
        return [(z["n"], z["d"], 4 * z["d"], 1), (z["n"], 4 * z["d"], z["d"], 1)]
    if kind == "patch_embed":
        side = z["size"] // z["patch"]
        return [(z["b"] * side * side, 3 * z["patch"] ** 2, z["d"], 1)]
    if kind == "block":
        n, d = z["b"] * z["t"], z["d"]
        return [(n, d, 3 * d, 1), (n, d, d, 1), (n, d, 4 * d, 1), (n, 4 * d, d, 1)]
    if kind == "cross":
        n, m, d = z["b"] * z["t"], z["b"] * z["s"], z["d"]
        return [(n, d, d, 2), (m, d, 2 * d, 1)]
    if kind == "tower":
        n, d = 50 * z["b"], 768
        return [
            (49 * z["b"], 3 * 32 * 32, d, 1),
            (n, d, 3 * d, 12),
            (n, d, d, 12),
            (n, d, 4 * d, 12),
            (n, 4 * d, d, 12),
        ]
    return []


def bare_milliseconds(kind, sizes):
    """Time of the forward products alone through oneDNN's own API, and their FLOPs."""
    from bare import Bare, median

    import plait

    rows = products(kind, sizes)
    if not rows:
        return None, None
    bare = Bare(plait.show_config()["onednn_path"])
    seconds = sum(often * median(bare.matmul(m, k, n)) for m, k, n, often in rows)
    return 1e3 * seconds, sum(2.0 * m * k * n * often for m, k, n, often in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument("--torch", default=sys.executable, help="interpreter with PyTorch (default: this one)")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for an idle machine; rows are marked")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    names = [n for n in CASES if not args.words or any(w in n for w in args.words)]
    os.environ["OMP_NUM_THREADS"] = "2"
    figures = {}
    print(f"{'case':30} {'phase':18} {'plait ms':>9} {'PyTorch ms':>11} {'ratio':>6} {'bare ms':>9} {'of bare':>8}")
    for name in names:
        kind, sizes = CASES[name]
        limit = 0 if args.no_wait else 60
        quiet = wait_until_idle(limit)
        ours = run(sys.executable, "side_plait.py", name)
        quiet = wait_until_idle(limit) and quiet
        theirs = run(args.torch, "peer_torch.py", name) or {}
        wait_until_idle(limit)
        bare, _ = bare_milliseconds(kind, sizes)
        if ours is None:
            continue
        figures[name] = {"plait": ours, "torch": theirs, "bare": bare, "idle": quiet}
        for phase, ms in ours.items():
            peer = theirs.get(phase)
            mark = f"{bare:9.3f} {100 * bare / ms:7.0f}%" if bare and phase == "forward" else ""
            print(
                f"{name:30} {phase:18} {ms:9.3f} {f'{peer:11.3f}' if peer else ' ' * 11} "
                f"{f'{peer / ms:5.2f}x' if peer else ' ' * 6} {mark}{'' if quiet else '  (machine was busy)'}",
                flush=True,
            )
    if not args.words or "overhead" in args.words:
        figures["overhead"] = run(sys.executable, "side_plait.py", "overhead")
        print("overhead", {k: round(v, 1) for k, v in (figures["overhead"] or {}).items()})
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
