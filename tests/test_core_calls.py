"""Calls of the core that the tape never makes: each of them once crashed, hung, or freed what was in use."""

import gc
import threading

import numpy as np
import pytest

import plait
from plait import _core

OPERATORS = _core.operators
NORM = {"eps": 1e-5}


def ones(*shape):
    return np.ones(shape, np.float32)


def norm_record():
    return OPERATORS["layer_norm"]((ones(2, 4), None, None), 1, NORM, 0, 0, None)[1]


# ---------------------------------------------------------------- packs


@pytest.mark.parametrize("width_in, width_out", [(1, 64), (64, 1), (1, 1), (2, 64)])
def test_packs_of_thin_weights(width_in, width_out):
    """A weight with one column has the strides of its transpose."""
    layer = plait.nn.Linear(width_in, width_out)
    rng = np.random.default_rng(0)
    x = plait.Tensor(rng.standard_normal((8, width_in)).astype(np.float32), requires_grad=True)
    dy = rng.standard_normal((8, width_out)).astype(np.float32)
    for _ in range(2):
        x.grad = None
        y = layer(x)
        y.backward(dy)
        np.testing.assert_allclose(y.data, x.data @ layer.weight.data.T + layer.bias.data, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(x.grad, dy @ layer.weight.data, rtol=1e-5, atol=1e-5)


def test_pack_of_another_weight():
    """What a pack holds of a smaller weight does not serve a larger one."""
    pack = _core.Pack()
    for width in (16, 512, 16):
        (y,), _ = OPERATORS["linear"](
            (ones(8, width), ones(2 * width, width), None), 0, {"activation": None}, 0, 0, (None, pack, None)
        )
        assert (y == width).all()


# ---------------------------------------------------------------- records


def test_missing_output_gradient():
    with pytest.raises(TypeError, match="layer_norm: the gradient of the output is missing"):
        norm_record().backward((None,), (None, None, None), 1, 0)


def test_record_released_by_a_conversion():
    record = norm_record()

    class Gradient:
        def __array__(self, dtype=None, copy=None):
            record.release()

    with pytest.raises(TypeError, match="backward is running"):
        record.backward((Gradient(),), (None, None, None), 1, 0)
    record.backward((ones(2, 4),), (None, None, None), 1, 0)
    record.release()


def test_backward_on_two_threads():
    record = norm_record()
    dy = np.arange(8, dtype=np.float32).reshape(2, 4)
    expected = record.backward((dy,), (None, None, None), 1, 0)[0]
    results = [None] * 4

    def work(i):
        results[i] = [record.backward((dy,), (None, None, None), 1, 0)[0] for _ in range(200)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all((g == expected).all() for gradients in results for g in gradients)


def test_operator_called_by_a_finalizer():
    """The collector may run while the core lists what it keeps; up to Python 3.11 it does so at any allocation."""
    linear, called = OPERATORS["linear"], []

    class Garbage:
        def __init__(self):
            self.me = self

        def __del__(self):
            called.append(linear((ones(2, 2), ones(2, 2), None), 0, {"activation": None}, 0, 0, None))

    for rows in (64, 128, 256):
        linear((ones(rows, 2), ones(2, 2), None), 0, {"activation": None}, 0, 0, None)
    thresholds = gc.get_threshold()
    try:
        for threshold in range(1, 40):
            gc.disable()
            gc.collect()
            gc.set_threshold(threshold)
            Garbage()
            gc.enable()
            _core.implementations()
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    gc.collect()
    assert len(called) == 39


# ---------------------------------------------------------------- what was checked is what is used


@pytest.mark.parametrize("how", ["a view made before", "the flag set again"])
def test_indices_written_between_forward_and_backward(how):
    ids = np.array([0, 1, 2, 3], np.int64)
    view = ids[:]
    ids.flags.writeable = False
    _, record = OPERATORS["embedding"]((ids, ones(4, 8)), 2, {"padding_idx": -1}, 0, 0, None)
    if how == "a view made before":
        view[:] = 10**12
    else:
        ids.flags.writeable = True
        ids[:] = 10**12
    gradient = record.backward((ones(4, 8),), (None, None), 2, 0)[1]
    assert (gradient == 1).all()


def test_memory_taken_while_numbers_are_read():
    """A number of a segment may be Python code; the arrays are looked at when it is through."""
    p, g, m, v = (np.zeros(1 << 16, np.float32) for _ in range(4))
    rows = []

    class Rate:
        def __float__(self):
            rows.clear()
            p.resize(4, refcheck=False)
            return 0.1

    rows += [(0, 4, Rate(), 0.0), (4, 8, 0.1, 0.0)]
    with pytest.raises(ValueError, match="g has 65536 values, expected 4"):
        _core.adamw_step(p, g, m, v, rows, 0.9, 0.99, 1e-8, 1, 1.0)
    with pytest.raises(TypeError):
        _core.adamw_step(p, g, m, v, None, 0.9, 0.99, 1e-8, 1, 1.0)


def test_attributes_that_change_while_they_are_read():
    class Number:
        def __float__(self):
            attrs.clear()
            raise TypeError("no")

    attrs = {"eps": Number()}
    with pytest.raises(TypeError, match=r"layer_norm: eps is .*, expected a number"):
        OPERATORS["layer_norm"]((ones(2, 4), None, None), 0, attrs, 0, 0, None)


@pytest.mark.parametrize("name, attrs", [("layer_norm", "eps"), ("embedding", "padding_idx")])
@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_that_no_type_holds(name, attrs, digits):
    inputs = (ones(2, 4), None, None) if name == "layer_norm" else (np.zeros(2, np.int64), ones(2, 4))
    with pytest.raises(ValueError, match=f"{name}: {attrs} is .*, which is out of range"):
        OPERATORS[name](inputs, 0, {attrs: 10**digits}, 0, 0, None)


# ---------------------------------------------------------------- shapes without elements, sizes without end


def empty(*shape):
    return np.empty(shape, np.float32)


def offsets(*values):
    return np.array(values, np.int64)


HUGE = 2**31 - 1
SHAPES = {
    "positions of rows without columns": ("add_positions", (empty(HUGE, 0), offsets(0, HUGE), None, None), None),
    "more rows than a loop ends with": ("add_positions", (empty(2**60, 0), offsets(0, 2**60), None, None), None),
    "heads without columns": ("attention_pool", (empty(0, 0), offsets(0, 0), empty(0, HUGE)), None),
    "samples without rows": ("stream_concat", (empty(0, 4), None), {"samples": 2**62}),
    "pictures without columns": ("patch_embed", (empty(HUGE, 8, 0, 3), ones(4, 3, 8, 8), None), None),
    "heads without queries": (
        "attention",
        (empty(0, HUGE), empty(0, HUGE), empty(0, HUGE), offsets(0, 0), offsets(0, 0), *[None] * 9),
        {"heads": HUGE, "kv_heads": HUGE, "scale": 1.0, "dropout": 0.0, "causal": False, "bf16": False},
    ),
}


@pytest.mark.parametrize("what", SHAPES)
def test_ends_soon(what):
    """The right answer or a ValueError, and no loop over 2^31 rows of nothing."""
    name, inputs, attrs = SHAPES[what]
    try:
        (y,), record = OPERATORS[name](inputs, 1, attrs, 0, 0, None)
    except ValueError as error:
        assert str(error).startswith(name)
        return
    assert y.size == 0
    assert record.backward((y,), (None,) * len(inputs), 1, 0)[0].shape == inputs[0].shape
