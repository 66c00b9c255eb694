"""Every row: flat memory over many calls, and a clean MemoryError wherever an allocation fails."""

import resource
import sys
import time

import numpy as np
import pytest
from cases import gradients, load, run

from plait import _core

CASES = load()
each = pytest.mark.parametrize("case", CASES, ids=str)
FIRST_OF_ITS_OPERATOR = {case.op: case.name for case in reversed(CASES)}.values()
FLAT = ("live_blocks", "pool_used_bytes", "pool_used_buffers", "primitives_cached")


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def counters():
    """Now, and without the garbage collector: what is dropped is freed at once, since nothing makes cycles."""
    now = _core.counters()
    return {name: now[name] for name in FLAT}


def arrays_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [a for v in value for a in arrays_in(v)]
    return [value] if isinstance(value, np.ndarray) else []


def call_often(case, arguments, calls):
    begin = time.perf_counter()
    for done in range(calls):
        gradients(case, arguments)
        if done % 10 == 0:
            run(case, arguments)
        if done >= 50 and time.perf_counter() - begin > 2.0:
            break  # a large row: fewer calls show its leaks as well


@each
def test_memory_is_flat(case):
    """1,000 calls for an operator's first row, 50 for the others: with backward, and with a tape that is dropped."""
    arguments = case.arguments()
    for _ in range(3):
        gradients(case, arguments)
        run(case, arguments)
    inputs = arrays_in(arguments)
    counts, before = [sys.getrefcount(a) for a in inputs], counters()
    flags = [a.flags.writeable for a in inputs]
    calls, resident = 1000 if case.name in FIRST_OF_ITS_OPERATOR else 50, resident_bytes()
    call_often(case, arguments, calls)
    if counters() != before:  # two threads met in one primitive for the first time, and it has handles for both now
        before = counters()
        call_often(case, arguments, calls)
    assert counters() == before
    assert [sys.getrefcount(a) for a in inputs] == counts
    assert [a.flags.writeable for a in inputs] == flags
    # A leak of one small object a call would show in the counts; this is for memory that no counter sees.
    assert resident_bytes() - resident < 4 << 20


@each
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from-then-on"])
def test_a_failed_allocation_is_a_clean_memory_error(case, persistent):
    """The nth allocation fails, n = 1, 2, ..., with nothing cached beforehand, until a run needs fewer than n."""
    arguments = case.arguments()
    expected = gradients(case, arguments)
    arrays = arrays_in(arguments)
    copies, counts = [a.copy() for a in arrays], [sys.getrefcount(a) for a in arrays]
    _core.empty_cache()
    before, taken = counters(), _core.counters()["allocations"]
    gradients(case, arguments)
    needed = _core.counters()["allocations"] - taken
    _core.empty_cache()
    errors = 0
    # Every allocation for an operator's first row; for the others a dozen, at other places in each row.
    step = 1 if case.name in FIRST_OF_ITS_OPERATOR else needed // 12 + 1
    for n in [1, *range(2 + len(case.name) % step, needed + 1, step)]:
        _core.fail_at(n, persistent)
        try:
            gradients(case, arguments)
        except MemoryError as error:
            errors += 1
            assert "out of memory" in str(error)
        finally:
            _core.fail_at(0)
        _core.empty_cache()
        assert counters() == before, f"allocation {n} of {needed}"
    assert [sys.getrefcount(a) for a in arrays] == counts
    if persistent and needed:
        assert errors > 0
    for a, c in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, c)
    for got, e in zip(gradients(case, arguments), expected, strict=True):
        for g, want in zip(got, e, strict=True):
            np.testing.assert_array_equal(g, want)


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from-then-on"])
def test_a_failed_allocation_while_a_weight_is_packed(persistent):
    linear, none = _core.operators["linear"], (None,) * 3
    x, weight = np.ones((13, 24), np.float32), np.ones((40, 24), np.float32)

    def step():
        pack = _core.Pack()
        (y,), record = linear((x, weight, None), 3, {"activation": None}, 0, 0, (None, pack, None))
        return y, *record.backward((y,), none, 3, 0)[:2], pack.nbytes

    expected = step()
    _core.empty_cache()
    before, taken, errors = counters(), _core.counters()["allocations"], 0
    step()
    needed = _core.counters()["allocations"] - taken
    for n in range(1, needed + 1):
        _core.empty_cache()
        _core.fail_at(n, persistent)
        try:
            step()
        except MemoryError:
            errors += 1
        finally:
            _core.fail_at(0)
        _core.empty_cache()
        assert counters() == before, f"allocation {n} of {needed}"
    assert errors == needed if persistent else errors > 3
    for got, e in zip(step(), expected, strict=True):
        np.testing.assert_array_equal(got, e)


def test_the_switch_itself():
    """fail_at would make the tests above pass if it did nothing."""
    _core.empty_cache()
    _core.fail_at(1, True)
    try:
        with pytest.raises(MemoryError, match="out of memory: a buffer of 4000 bytes was asked for"):
            _core.empty((1000,))
    finally:
        _core.fail_at(0)
    assert _core.empty((1000,)).shape == (1000,)
