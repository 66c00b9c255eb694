"""What an engine makes of a case, and how it is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Absent", "Job", "memory", "timed"]


class Absent(Exception):
    """An engine does not have this; the message says why."""


@dataclass
class Job:
    """`run` is what is timed; `outputs`, called once after the first run, gives the arrays that are compared."""

    run: Callable[[], object]
    outputs: Callable[[], dict]


def timed(run, seconds, least):
    """Seconds of each call: for this long, and this often at least."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


def memory():
    """Resident memory of this process now and at its peak, MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    now, peak = (int(status[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return now, peak
