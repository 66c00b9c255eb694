"""How much of the machine other processes use: from /proc/stat."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

__all__ = ["LIMIT", "Watch", "others", "wait"]

LIMIT = 0.1  # of a core


def _busy():
    """Seconds of processor time that anything has used so far."""
    fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _ours():
    """Seconds of processor time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


class Watch:
    """Cores that others used since it was made, on average."""

    def __init__(self):
        self.begin, self.busy, self.ours = time.perf_counter(), _busy(), _ours()

    def cores(self):
        seconds = time.perf_counter() - self.begin
        return max(0.0, (_busy() - self.busy) - (_ours() - self.ours)) / max(seconds, 1e-3)


def others(seconds=1.0):
    """Cores that others use now."""
    watch = Watch()
    time.sleep(seconds)
    return watch.cores()


def wait(limit):
    """Waits until the machine is idle, this many seconds at most; the cores that others use then."""
    end = time.monotonic() + limit
    while (used := others()) > LIMIT and time.monotonic() < end:
        pass
    return used
