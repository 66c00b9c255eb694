"""Every row: many threads at once, and any number of threads inside an operator."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from cases import gradients, load

import plait
from plait import _core
from plait.ops._apply import generator

CASES = load()
each = pytest.mark.parametrize("case", CASES, ids=str)


def flat(result):
    return [a for part in result for a in part]


@pytest.fixture
def split_everything():
    """Small rows run on one thread; here every row is cut into as many pieces as it has."""
    threads = plait.get_num_threads()
    _core.set_thread_worth(1e-3)
    yield
    _core.set_thread_worth(0)
    plait.set_num_threads(threads)


class CounterOfThisThread(threading.local):
    """In place of the generator's counter, which all threads share: each thread names its random bits from 0."""

    at = -1

    def __next__(self):
        self.at += 1
        return self.at


@pytest.fixture
def random_bits_by_thread(monkeypatch):
    counter = CounterOfThisThread()

    def seed(n):
        counter.at = -1

    monkeypatch.setattr(generator, "key", 7)
    monkeypatch.setattr(generator, "counter", counter)
    monkeypatch.setattr(generator, "seed", seed)


@each
def test_eight_threads_at_once(case, random_bits_by_thread):
    """Same inputs, same bits, on eight threads that start together."""
    arguments = case.arguments()
    expected = flat(gradients(case, arguments))
    start, results = threading.Barrier(8), [None] * 8

    def work(i):
        start.wait()
        results[i] = [flat(gradients(case, arguments)) for _ in range(2)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for result in results:
        assert result is not None, "a thread failed"
        for run in result:
            for got, e in zip(run, expected, strict=True):
                np.testing.assert_array_equal(got, e)


@each
def test_number_of_threads(case, split_everything):
    """Equal bits, of outputs and of gradients."""
    arguments = case.arguments()
    results = []
    for n in (1, 2, 4):
        plait.set_num_threads(n)
        results.append(flat(gradients(case, arguments)))
    for result in results[1:]:
        for got, e in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(got, e)


@pytest.mark.parametrize("rows", [16, 70, 1000, 2048, 3000, 9001])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_gradients_of_linear_layers(precision, rows):
    """Widths of few and of many blocks, and sums of one and of several pieces."""
    if precision != "f32" and not _core.has(precision):
        pytest.skip(f"this processor has no instructions for {precision}")
    before, rng = plait.get_num_threads(), np.random.default_rng(rows)
    try:
        for width, out in ((8, 40), (40, 8), (64, 64), (128, 256), (200, 150), (256, 1024)):
            x, dy = (rng.standard_normal((rows, w), dtype=np.float32) for w in (width, out))
            layer = plait.nn.Linear(width, out).train(precision=precision)
            results = []
            for n in (1, 2, 3, 8, 24):
                plait.set_num_threads(n)
                layer.zero_grad()
                t = plait.Tensor(x, requires_grad=True)
                layer(t).backward(dy)
                results.append([t.grad, *(p.grad.copy() for p in layer.parameters())])
            for result in results[1:]:
                for got, e in zip(result, results[0], strict=True):
                    np.testing.assert_array_equal(got, e)
    finally:
        plait.set_num_threads(before)


def test_set_num_threads_is_checked():
    before = plait.get_num_threads()
    for bad, error in (
        (0, ValueError),
        (-1, ValueError),
        (10**20, ValueError),
        (1.0, TypeError),
        ("2", TypeError),
        (True, TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="set_num_threads: n is"):
            plait.set_num_threads(bad)
    assert plait.get_num_threads() == before


def test_the_process_ends_while_daemon_threads_compute():
    code = """
import threading, time
import numpy as np, plait
x, w = np.ones((300, 64), np.float32), np.ones((64, 64), np.float32)
def work(n):
    while True:
        n = n % 299 + 1
        tensor = plait.Tensor(x[:n], requires_grad=True)
        plait.ops.linear(tensor, w).sum().backward()
for i in range(4):
    threading.Thread(target=work, args=(70 * i,), daemon=True).start()
time.sleep(0.1)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_release_waits_for_backward():
    """A record whose backward runs on another thread must not lose what it saved."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2000, 512), dtype=np.float32), rng.standard_normal((512, 512), dtype=np.float32)
    outputs, record = _core.operators["linear"]((x, w, None), 3, {"activation": "gelu"}, 0, 0, None)
    grad = np.ones_like(outputs[0])
    expected = record.backward((grad,), (None,) * 3, 3, 0)
    results, refused = [], 0
    thread = threading.Thread(target=lambda: results.append(record.backward((grad,), (None,) * 3, 3, 0)))
    thread.start()
    while thread.is_alive():
        try:
            record.release()
        except RuntimeError as error:
            assert "backward is running" in str(error)
            refused += 1
    thread.join()
    if results:  # else release came first
        np.testing.assert_array_equal(results[0][1], expected[1])
    with pytest.raises(RuntimeError, match="backward ran already"):
        record.release()
        record.backward((grad,), (None,) * 3, 3, 0)
