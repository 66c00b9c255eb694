"""How plait uses oneDNN: no reference loops, a bounded number of primitives, steady memory."""

import numpy as np
import pytest
from cases import gradients, load
from test_memory import resident_bytes

import plait
from plait import _core

# Sizes of pieces: 64 * 2^k rows (8 of them), tails of 8, 16, ..., 56 rows; for sums over rows four sizes an octave,
# each in two forms, first and following. Then a primitive for each size that comes a third time.
PIECES_OF_ROWS = 8 + 7
PIECES_OF_SUMS = 2 * (4 * 8 + 8)


@pytest.mark.parametrize("case", load(), ids=str)
def test_no_reference_implementation(case):
    _core.empty_cache()
    for _ in range(3):  # the third time sizes get primitives of their own
        gradients(case, case.arguments())
    names = {row[0] for row in _core.implementations()}
    assert not [name for name in names if name.startswith(("ref", "simple"))], names


def test_names_are_seen():
    _core.empty_cache()
    x = np.ones((64, 16), np.float32)
    plait.ops.linear(x, x[:16])
    found = _core.implementations()
    for name, _, n, k in found:
        assert name.startswith(("brg", "gemm", "jit")) and (n, k) == (16, 16)
    rows = {m for _, m, _, _ in found}
    assert rows == {64} if plait.show_config()["isa"] != "avx2" else rows <= {24, 48, 72} and rows  # in blocks there


def test_a_thousand_batch_sizes():
    """Random sizes, forward and backward: few primitives, and resident memory that does not go on growing."""
    rng = np.random.default_rng(0)
    linear, none = _core.operators["linear"], (None,) * 3
    x = rng.standard_normal((2000, 48), dtype=np.float32)
    dy = rng.standard_normal((2000, 40), dtype=np.float32)
    weight, bias, pack = dy[:40, :1] * x[:1], dy[0].copy(), _core.Pack()
    sizes = rng.integers(1, 2001, 1000)
    again = int((np.bincount(sizes) >= 3).sum())
    _core.empty_cache()
    created, resident = _core.counters()["primitives_created"], []
    for i, n in enumerate(sizes):
        _, record = linear((x[:n], weight, bias), 7, {"activation": None}, 0, 0, (None, pack, None))
        record.backward((dy[:n],), none, 7, 0)
        if i % 250 == 249:
            resident.append(resident_bytes())
    created = _core.counters()["primitives_created"] - created
    assert created <= 2 * (PIECES_OF_ROWS + again) + PIECES_OF_SUMS, created
    assert _core.counters()["primitives_cached"] <= 768
    assert resident[-1] - resident[0] <= 16 << 20, resident
