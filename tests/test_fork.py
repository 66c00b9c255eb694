"""A forked child computes right results and does not hang, whatever the parent's threads were doing."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from cases import gradients, load, relative_error

import plait

LIMIT = 10.0  # seconds for a child
# One row an operator, at most twelve, spread over the table.
FIRST = list({case.op: case for case in reversed(load())}.values())[::-1]
ROWS = FIRST[:: max(1, len(FIRST) // 12)]

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def expectations():
    return [(case, case.arguments(), gradients(case, case.arguments())) for case in ROWS]


def wrong_rows(expected):
    """Names of rows whose results differ; on one thread sums of products may differ in the last bits."""
    wrong = []
    for case, arguments, results in expected:
        got = gradients(case, arguments)
        for part, due in zip(got, results, strict=True):
            if any(relative_error(a, b) > case.tolerance for a, b in zip(part, due, strict=True)):
                wrong.append(case.name)
    return wrong


def fork_and_check(work):
    """Runs `work` in a child; it returns the exit status 0 to 254."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 254
        try:
            status = work()
        except BaseException as error:
            os.write(2, f"child: {error!r}\n".encode())
        finally:
            os._exit(status)
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "the child hung"


def test_twenty_forks():
    expected = expectations()
    for i in range(20):
        if i % 2:
            plait._core.empty_cache()  # so that the child makes primitives and packs of its own
        assert fork_and_check(lambda: len(wrong_rows(expected))) == 0
        assert wrong_rows(expected) == []  # the parent goes on with its threads


def test_the_child_runs_on_one_thread():
    assert fork_and_check(lambda: plait.get_num_threads()) == 1
    assert fork_and_check(lambda: plait.set_num_threads(2) or plait.get_num_threads()) == 1


def test_forks_while_other_threads_make_primitives_and_packs():
    """Locks of the core and of oneDNN that other threads hold must be free in the child."""
    expected = expectations()
    x = np.random.default_rng(0).standard_normal((64, 48), dtype=np.float32)
    linear, stop = plait._core.operators["linear"], threading.Event()

    def churn(seed):
        sizes = np.random.default_rng(seed)
        while not stop.is_set():
            rows, width = int(sizes.integers(1, 64)), int(sizes.integers(1, 48))
            weight, pack = np.ones((int(sizes.integers(1, 40)), width), np.float32), plait._core.Pack()
            for _ in range(2):
                linear((x[:rows, :width], weight, None), 0, {"activation": None}, 0, 0, (None, pack, None))
            plait._core.empty_cache()

    threads = [threading.Thread(target=churn, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(20):
            assert fork_and_check(lambda: len(wrong_rows(expected))) == 0
    finally:
        stop.set()
        for t in threads:
            t.join()


def test_multiprocessing_fork_pool():
    expected = expectations()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            names = pool.starmap_async(child_row, [(i,) for i in range(len(expected))]).get(timeout=60)
    assert names == [case.name for case in ROWS]


def child_row(i):
    case = ROWS[i]
    for part in gradients(case, case.arguments()):
        assert all(np.isfinite(a).all() for a in part)
    return case.name
