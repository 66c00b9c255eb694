"""No engine: the products of a case alone, through oneDNN's own API, which says how fast it could be at best.

Products of attention are not run; reports count them at the rate that the others reach.
"""

from __future__ import annotations

from bare import Bare

import plait
from comparison.job import Absent, Job
from comparison.products import products

__all__ = ["build", "versions"]


def versions():
    return {"onednn": plait.show_config()["onednn"]}


def build(case, precision, folder, threads):
    rows = products(case)
    if not rows:
        raise Absent("matrix products with weights are not what this case is about")
    plait.set_num_threads(threads)
    bare = Bare(plait.show_config()["onednn_path"])
    calls = [(bare.matmul(m, k, n, precision.removesuffix("-autocast")), often) for m, k, n, often in rows]

    def run():
        for call, often in calls:
            for _ in range(often):
                call()

    return Job(run, dict)
