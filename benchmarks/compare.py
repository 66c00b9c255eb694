"""Compares plait with PyTorch, torch.compile, ONNX Runtime and OpenVINO on the same models, numbers and threads.

    python benchmarks/compare.py --list                             the cases and the engines
    python benchmarks/compare.py --case clip-image --precision f32  cases whose name contains a word
    python benchmarks/compare.py --out results --cache cache        everything; hours, and some 5 GB of files

Every engine runs a case in a process of its own, in alternating rounds; a figure is the median over the rounds of the
medians. Weights and inputs come from a seeded generator (CLIP and BERT as checkpoints that transformers, and what is
exported from it, load), and outputs and gradients are compared with PyTorch in float32. Nothing but plait is needed:
an engine that is not installed is listed as absent. `pip install torch transformers onnx onnxscript onnxruntime
openvino nncf matplotlib` brings all of them; --peers names another interpreter that has them.

Precisions are classes of their own: f32; bf16 (models as bfloat16, and -autocast in training); int8 (ONNX Runtime by
dynamic quantisation, OpenVINO by NNCF with calibration). `bare`, with plait's oneDNN, times the matrix products alone.

The machine has to be idle: other processes below a tenth of a core. With --busy it may be anything; rows are marked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from comparison import idle
from comparison.cases import CASES, chosen
from comparison.engines import NAMES, precisions
from comparison.report import markdown
from comparison.rounds import Options, compare

PRECISIONS = ("f32", "bf16", "bf16-autocast", "int8")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--case", nargs="+", default=[], metavar="WORD", help="cases of this name, or with it in theirs (default: all)")
    add("--engine", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    add(
        "--precision",
        nargs="+",
        default=list(PRECISIONS),
        choices=PRECISIONS,
        metavar="NAME",
        help=", ".join(PRECISIONS),
    )
    add("--rounds", type=int, default=3, help="processes per engine and case (default 3)")
    add("--threads", type=int, default=os.cpu_count(), help="of every engine (default: all cores)")
    add("--seconds", type=float, default=2.0, help="how long a process measures, 3 calls at least (default 2)")
    add("--out", type=Path, metavar="FOLDER", help="writes results.jsonl, results.md and results.png there")
    add("--cache", type=Path, metavar="FOLDER", help="keeps checkpoints and exported models for the next run")
    add("--minilm", type=Path, metavar="FOLDER", help="a real checkpoint of MiniLM-L6; give it a cache of its own")
    add("--peers", default=sys.executable, metavar="PYTHON", help="interpreter that has the other engines")
    add("--busy", action="store_true", help="measure on a machine that is not idle; rows are marked")
    add("--list", action="store_true", help="show the cases and their engines, and measure nothing")
    return parser, parser.parse_args(argv)


def show(cases):
    """The table of cases."""
    for case in cases:
        sides = ", ".join(f"{e} ({' '.join(p)})" for e in NAMES if (p := precisions(e, case)))
        print(f"{case.name:28} {case.phase:9} {sides}")
    print(f"and, to see that it works: {', '.join(c.name for c in CASES.values() if c.smoke)}")


def machine():
    """What the figures were measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "processor": model[0].split(":", 1)[1].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "instructions": [f for f in FLAGS if f in flags],
        "huge_pages": pages.read_text().split("[")[1].split("]")[0] if pages.exists() else None,
        "python": platform.python_version(),
    }


def headline(about, rows, options):
    versions = {}
    for row in rows:
        versions |= row.get("versions", {})
    what = f"{about['cores']} cores of {about['processor']} ({', '.join(about['instructions'])})"
    how = f"{options.threads} threads, rounds: {options.rounds}, Python {about['python']}"
    return f"{what}, {how}; {', '.join(f'{k} {v}' for k, v in sorted(versions.items()))}."


def place_minilm(folder, cache):
    """Makes a real checkpoint the one of the MiniLM cases."""
    from comparison import weights

    place = weights.checkpoint_folder(CASES["minilm-1x16"], cache)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(folder.resolve(), target_is_directory=True)


def main(argv=None):
    parser, args = arguments(argv)
    try:
        cases = chosen(args.case)
    except ValueError as e:
        parser.error(str(e))
    if args.list:
        return show(cases)
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    if not 0 <= args.seconds < 3600:
        parser.error(f"--seconds is {args.seconds}, expected 0 or more and less than 3600")
    if shutil.which(args.peers) is None:
        parser.error(f"--peers {args.peers}: no such program")
    if args.minilm and not (args.minilm / "config.json").is_file():
        parser.error(f"--minilm {args.minilm}: no folder with a config.json")
    for name in ("out", "cache"):
        try:
            if folder := getattr(args, name):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            parser.error(f"--{name} {folder}: {e.strerror}")
    used = idle.others()
    if used > idle.LIMIT:
        text = f"other processes use {used:.1f} cores"
        if not args.busy:
            parser.exit(2, f"{text}: figures would mean nothing. End them, or measure all the same with --busy\n")
        print(f"warning: {text}; rows are marked", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="plait-benchmarks-") as folder:
        cache = args.cache.resolve() if args.cache else Path(folder)
        if args.minilm:
            place_minilm(args.minilm, cache)
        options = Options(
            args.engine,
            args.precision,
            cache,
            args.rounds,
            args.threads,
            args.seconds,
            patience=0 if args.busy else 60,
            peers=args.peers,
        )
        rows, about, stopped = [], machine(), False
        if args.out:
            lines = args.out / "results.jsonl"
            lines.write_text("")
        try:
            for case in cases:
                found = compare(case, options, say=lambda text: print(text, file=sys.stderr, flush=True))
                rows += found
                if args.out:  # as they come: a run of hours may be stopped
                    with lines.open("a") as file:
                        file.writelines(json.dumps({**row, "machine": about}) + "\n" for row in found)
        except KeyboardInterrupt:
            stopped = True
            print("stopped; these are the cases that were finished", file=sys.stderr)
        text = markdown(rows, headline(about, rows, options) + stopped * " Stopped before the last case.")
        print(text)
        if args.out:
            (args.out / "results.md").write_text(text)
            draw(rows, args.out / "results.png")
    if stopped:
        sys.exit(130)


def draw(rows, path):
    try:
        from comparison.bars import picture

        picture(rows, path)
    except ImportError as e:
        print(f"no picture: {e}", file=sys.stderr)


if __name__ == "__main__":
    main()
