"""Times plait on this machine: models of real shapes with random weights, in under a minute when nothing else runs.

Figures are medians of repeated calls, after others that do not count. GFLOP/s are those of linear layers, attention and
similarities, where backward counts twice forward.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

from plait._precision import ALL, names, short

NAME = "bench"
HELP = "time models, operators and training on this machine"
EXAMPLES = """examples:
  plait bench
  plait bench --list
  plait bench --case image --precision int8      every case whose name has the word in it
  plait bench --threads 1 --json one-thread.json

benchmarks/ in the source tree has more cases, and other libraries beside plait."""

_SECONDS = 0.5  # least time for the calls of one case
_CALLS = (3, 200)  # least and most calls
_QUIET = 0.05  # share of the machine that others may take


def _threads(text):
    value = int(text)
    if not 1 <= value <= 4096:
        raise argparse.ArgumentTypeError(f"{value}, expected 1 to 4096")
    return value


_threads.__name__ = "whole number"  # argparse shows it


def _precision(text):
    if short(text) not in ALL:
        raise argparse.ArgumentTypeError(f"{text!r}, expected {names(ALL)}")
    return short(text)


def add_arguments(parser):
    parser.add_argument("--case", action="append", metavar="WORD", help="only cases with this word in their name")
    parser.add_argument(
        "--precision", action="append", type=_precision, metavar="NAME",
        help="only f32, bf16 or int8 (default: all that the processor has instructions for)",
    )  # fmt: skip
    parser.add_argument("--threads", type=_threads, metavar="N", help="(default: those of plait info)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument("--list", action="store_true", help="show the cases and exit")


def run(arguments):
    import plait
    from plait.commands._bench_cases import CASES, forget

    if arguments.list:
        _check_words(CASES, arguments.case)
        for case in CASES:
            if _named(case, arguments.case) and set(arguments.precision or ALL).intersection(case.precisions):
                print(f"{case.name:16}{', '.join(case.precisions):18}{case.what}")
        return
    if arguments.json is not None and not arguments.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"{arguments.json}: no such folder")  # now, and not after a minute
    if arguments.json is not None and arguments.json.is_dir():
        raise IsADirectoryError(f"{arguments.json}: a folder, expected a file to write")
    chosen = _chosen(CASES, arguments.case, arguments.precision)
    before = plait.get_num_threads()
    if arguments.threads is not None:
        plait.set_num_threads(arguments.threads)
    try:
        machine = {**plait.show_config(), "processor": _processor()}
        print(_heading(machine), flush=True)
        others = _Others()
        time.sleep(0.3)
        _warn(others.share(), "other processes take {} of this machine now")
        others = _Others()
        figures = []
        for i, (case, precision) in enumerate(chosen, 1):
            figures.append(_measure(case, precision))
            ms = figures[-1]["ms"]
            print(f"[{i}/{len(chosen)}] {case.name} {precision}: {_short(ms)} ms", file=sys.stderr, flush=True)
        share = others.share()
    finally:
        plait.set_num_threads(before)
        forget()
    print(_table(figures))
    _warn(share, "other processes took {} of this machine meanwhile")
    if arguments.json is not None:
        from plait import io

        result = {"machine": machine, "others": share, "figures": figures}
        io.write_file(arguments.json, json.dumps(result, indent=2).encode() + b"\n")


def _named(case, words):
    return not words or any(word in case.name for word in words)


def _check_words(cases, words):
    for word in words or ():
        if not any(word in case.name for case in cases):
            raise ValueError(f"--case {word}: no such case, expected one of {', '.join(c.name for c in cases)}")


def _chosen(cases, words, precisions):
    """(case, precision) in the order of the table."""
    from plait import _core

    missing = [p for p in precisions or () if not _core.has(p)]
    if missing:
        raise ValueError(f"--precision {missing[0]}: this processor has no instructions for it")
    _check_words(cases, words)
    chosen = [
        (case, precision)
        for case in cases
        for precision in case.precisions
        if _core.has(precision) and _named(case, words)
        if not precisions or precision in precisions
    ]
    if not chosen:
        raise ValueError(f"--precision {', '.join(precisions)}: none of these cases has it; see plait bench --list")
    return chosen


def _measure(case, precision):
    work = case.make(precision)
    began = time.perf_counter()
    work.call()  # packs weights, fills the pool
    if time.perf_counter() - began < _SECONDS:
        work.call()
    times, began = [], time.perf_counter()
    while len(times) < _CALLS[0] or (time.perf_counter() - began < _SECONDS and len(times) < _CALLS[1]):
        start = time.perf_counter()
        work.call()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    return {
        "case": case.name,
        "what": case.what,
        "precision": precision,
        "ms": 1e3 * seconds,
        "fastest_ms": 1e3 * min(times),
        "calls": len(times),
        "per_second": work.amount / seconds,
        "unit": work.unit,
        "gflops": work.flops / seconds / 1e9 if work.flops else None,
    }


# ---------------------------------------------------------------- the machine


class _Others:
    """What other processes take of the machine, from now on."""

    def __init__(self):
        self._start = self._read()

    @staticmethod
    def _read():
        """Seconds of all processors, those in which they were busy, and our own."""
        with contextlib.suppress(OSError, ValueError):
            ticks = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
            unit = os.sysconf("SC_CLK_TCK")
            return sum(ticks) / unit, (sum(ticks) - ticks[3] - ticks[4]) / unit, time.process_time()
        return None

    def share(self):
        """From 0 to 1; None where the system does not tell."""
        now = self._read()
        if now is None or self._start is None:
            return None
        total, busy, own = (b - a for a, b in zip(self._start, now, strict=True))
        return round(min(1.0, max(0.0, (busy - own) / total)), 3) if total > 0 else 0.0


def _warn(share, text):
    if share is not None and share > _QUIET:
        what = text.format(f"{100 * share:.0f} %")
        print(f"plait bench: {what}; figures are worth little unless it is idle", file=sys.stderr)


def _processor():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"


# ---------------------------------------------------------------- what is printed


def _heading(machine):
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return (
        f"plait {machine['version']}, oneDNN {machine['onednn']}, {machine['processor']}, {machine['isa']}, {threads}\n"
    )


def _short(number):
    """Three digits that count, or all before the point."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.{2 if number < 9.995 else 1}f}"


def _table(figures):
    lines, before = [f"{'case':16}{'':6}{'ms':>9}{'per second':>13} {'':13}{'GFLOP/s':>8}  what"], None
    for f in figures:
        name, what = ("", "") if f["case"] == before else (f["case"], f["what"])
        before = f["case"]
        rate = "" if f["gflops"] is None else f"{f['gflops']:,.0f}"
        numbers = f"{_short(f['ms']):>9}{_short(f['per_second']):>13} {f['unit']:13}{rate:>8}"
        lines.append(f"{name:16}{f['precision']:6}{numbers}  {what}".rstrip())
    return "\n".join(lines)
