"""How far each operator is from what this machine can do at best.

    python benchmarks/roofline.py                    every operator of cases.py
    python benchmarks/roofline.py attention linear   those whose name contains a word

Two limits are measured here. Products: the rate of oneDNN's own packed matmul at the operator's shapes (bare.py;
attention and contrastive losses at the rate of a large product). Memory: how fast all threads together read what is
in a cache of this size, or in none. An operator reads its inputs and writes its outputs once at least, and once more
in backward, with the gradients. The limit of a row is the longer of both times; "of limit" is its share of the time
that plait took. 100 % is out of reach where an operator must do both, one after the other. Float32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from bench_ops import products, run, wait_until_idle
from cases import CASES

LARGE = (400, 768, 3072)  # rows, inner, columns of the product that stands for all large ones
SETS = (1 << 20, 8 << 20, 64 << 20, 512 << 20)  # bytes


def traffic(kind, z):
    """Numbers that an operator reads and writes in forward, each once."""
    b, t, d = (z.get(name, 0) for name in "btd")
    n, h = z.get("n", 0), z.get("h", 0)
    if kind == "linear":
        return n * z["k"] + z["k"] * d, n * d
    if kind in ("layer_norm", "rms_norm", "l2_normalize", "dropout", "gelu"):
        return n * d, n * d
    if kind == "attention":
        return 3 * b * t * h * d, b * t * h * d
    if kind == "rope":
        return b * t * h * d, b * t * h * d
    if kind in ("add_positions", "stream_concat"):
        return b * t * d, b * t * d
    if kind in ("pool", "attention_pool"):
        return b * t * d, b * d
    if kind == "patch_embed":
        side = z["size"] // z["patch"]
        return 3 * b * z["size"] ** 2 + 3 * z["patch"] ** 2 * d, b * side * side * d
    if kind == "mlp":
        return n * d + 8 * d * d, n * d
    if kind == "block":
        return b * t * d + 12 * d * d, b * t * d
    if kind == "cross":
        return b * (t + z["s"]) * d + 4 * d * d, b * t * d
    if kind == "tower":
        return b * 3 * 224 * 224 + 86_000_000, b * 512
    if kind == "embedding":
        return n * d, n * d
    if kind in ("info_nce", "sigmoid_contrastive"):
        return 2 * n * d, 1
    if kind == "huber":
        return 2 * n * d, 1
    if kind == "cross_entropy":
        return n * z["c"], 1
    if kind == "adamw":
        return 4 * n, 3 * n
    return None


def more_flops(kind, z, backward):
    """Of products without weights: attention's two and in backward five more; a loss's one, and three."""
    if kind in ("attention", "block", "cross", "tower"):
        d = z["d"] * z["h"] if kind == "attention" else z.get("d", 768)
        queries = z.get("t", 50)
        pairs = z["b"] * queries * z.get("s", queries) * (0.5 if z.get("causal") else 1)
        return 4.0 * pairs * d * (12 if kind == "tower" else 1) * (3.5 if backward else 1)
    if kind in ("info_nce", "sigmoid_contrastive"):
        return 2.0 * z["n"] ** 2 * z["d"] * (4 if backward else 1)
    return 0.0


def read_speeds(threads):
    """Bytes a second that all threads read, by size of what they read over and over."""
    speeds = {}
    with ThreadPoolExecutor(threads) as pool:
        for size in SETS:
            parts = np.array_split(np.ones(size // 4, np.float32), threads)
            times = max(1, (256 << 20) // size)

            def read(part, times=times):
                for _ in range(times):
                    part.max()

            best = np.inf
            for _ in range(5):
                begin = time.perf_counter()
                list(pool.map(read, parts))
                best = min(best, time.perf_counter() - begin)
            speeds[size] = size * times / best
    return speeds


class Rates:
    """The bare products of this machine, each shape measured once, and its memory."""

    def __init__(self, threads):
        from bare import Bare, median

        import plait

        plait.set_num_threads(threads)
        bare = Bare(plait.show_config()["onednn_path"])
        self._measure = lambda shape, precision="f32": median(bare.matmul(*shape, precision))
        self._seconds = {}
        self.memory = read_speeds(threads)
        flops = 2.0 * np.prod(LARGE)
        self.large = {precision: flops / self._measure(LARGE, precision) for precision in ("f32", "bf16", "int8")}

    def product(self, *shape):
        """Seconds of a product (m, k) x (k, n)."""
        if shape not in self._seconds:
            self._seconds[shape] = self._measure(shape)
        return self._seconds[shape]

    def bandwidth(self, size):
        return self.memory[next((s for s in SETS if s >= size), SETS[-1])]


def limits(kind, z, phase, rates):
    """Seconds that the products and the memory take at least, FLOPs and bytes; None for what is no operator."""
    moved = traffic(kind, z)
    if moved is None:
        return None
    backward = phase == "forward+backward"
    read, written = moved
    size = 4 * (read + written)
    total = 4 * (3 * read + 2 * written) if backward else size
    shapes = products(kind, z)
    if backward:
        shapes = shapes + [(m, n, k, o) for m, k, n, o in shapes] + [(n, m, k, o) for m, k, n, o in shapes]
    extra = more_flops(kind, z, backward)
    seconds = sum(often * rates.product(m, k, n) for m, k, n, often in shapes) + extra / rates.large["f32"]
    flops = sum(2.0 * m * k * n * often for m, k, n, often in shapes) + extra
    return seconds, total / rates.bandwidth(size), flops, total


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--busy", action="store_true", help="do not wait for an idle machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures, a JSON line a row")
    args = parser.parse_args(argv)
    if args.words and not any(word in name for name in CASES for word in args.words):
        parser.error(f"no case has {' or '.join(args.words)} in its name; there are {', '.join(CASES)}")
    if args.threads < 1:
        parser.error(f"--threads is {args.threads}, expected at least 1")
    if args.json and (args.json.is_dir() or not args.json.absolute().parent.is_dir()):
        parser.error(f"--json {args.json}: expected a file in a folder that is there")
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    quiet = args.busy or wait_until_idle()
    rates, rows = Rates(args.threads), []
    speeds = ", ".join(f"{size >> 20} MB {speed / 1e9:.0f}" for size, speed in rates.memory.items())
    products_ = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.large.items())
    print(f"oneDNN, {' x '.join(map(str, LARGE))}, GFLOP/s: {products_}. Reading over and over, GB/s: {speeds}.")
    print(f"Threads: {args.threads}.{'' if quiet else ' The machine was busy.'}\n")
    heads = ("operator", "phase", "ms", "GFLOP/s", "GB/s", "bound by", "limit, ms", "of limit")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, (kind, z) in CASES.items():
        if (args.words and not any(word in name for word in args.words)) or traffic(kind, z) is None:
            continue
        if not args.busy:
            wait_until_idle()
        for phase, ms in (run(sys.executable, "side_plait.py", name, args.threads) or {}).items():
            by_products, by_memory, flops, moved = limits(kind, z, phase, rates)
            limit = 1e3 * max(by_products, by_memory)
            bound = "products" if by_products > by_memory else "memory"
            rate = f"{flops / ms / 1e6:.0f}" if flops else ""
            cells = [name, phase, f"{ms:.3g}", rate, f"{moved / ms / 1e6:.1f}", bound, f"{limit:.3g}"]
            print(f"| {' | '.join(cells)} | {100 * limit / ms:.0f} % |", flush=True)
            rows.append({"operator": name, "phase": phase, "ms": ms, "limit_ms": limit, "bound": bound})
    if args.json:
        args.json.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
