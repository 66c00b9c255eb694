"""Every row: gradients add to what is there, or overwrite it, and may be asked for one by one."""

import numpy as np
import pytest
from cases import gradients, load, output_gradients, pull_back, relative_error, run

import plait

CASES = [case for case in load() if case.grads]
each = pytest.mark.parametrize("case", CASES, ids=str)


def core_record(node):
    return node is not None and isinstance(getattr(node.run, "__self__", None), plait._core.Record)


def record_of(case, arguments):
    """(outputs, node of the row's last operator); skips rows that end on the tape and not in the core."""
    outputs, _ = run(case, arguments)
    if not core_record(outputs[0]._node):
        pytest.skip("the last step of this row is not an operator of the core")
    return outputs, outputs[0]._node


def backward(node, outputs, dins, accumulate, wanted=None):
    bits = sum(1 << i for i, t in enumerate(node.inputs) if t is not None) if wanted is None else wanted
    return node.run(tuple(output_gradients(outputs)), tuple(dins), bits, bits if accumulate else 0)


@each
def test_backward_adds_to_an_existing_gradient(case):
    arguments = case.arguments()
    _, expected = gradients(case, arguments)
    outputs, leaves = run(case, arguments)
    rng = np.random.default_rng(3)
    before = [np.asarray(rng.standard_normal(t.shape), np.float32) for t in leaves]
    for leaf, b in zip(leaves, before, strict=True):
        leaf.grad = b.copy()
    pull_back(outputs, output_gradients(outputs))
    for leaf, b, e in zip(leaves, before, expected, strict=True):
        assert relative_error(leaf.grad, b + e) <= case.tolerance


@each
def test_record_adds_and_overwrites(case):
    """The core itself, without the tape: garbage in the place of a gradient must not shine through."""
    outputs, node = record_of(case, case.arguments())
    fresh = backward(node, outputs, [None] * len(node.inputs), accumulate=False)
    garbage = [None if g is None else np.full_like(g, np.nan) for g in fresh]
    for got, place, e in zip(backward(node, outputs, garbage, False), garbage, fresh, strict=True):
        assert got is place  # written where the caller said
        if e is not None:
            np.testing.assert_array_equal(got, e)
    rng = np.random.default_rng(4)
    before = [None if g is None else np.asarray(rng.standard_normal(g.shape), g.dtype) for g in fresh]
    places = [None if b is None else b.copy() for b in before]
    for got, b, e in zip(backward(node, outputs, places, True), before, fresh, strict=True):
        if e is not None:
            assert relative_error(got, b + e) <= case.tolerance


@each
def test_gradients_one_by_one(case):
    """Backward with one gradient wanted, and forward that saves for one gradient only."""
    arguments = case.arguments()
    outputs, node = record_of(case, arguments)
    expected = backward(node, outputs, [None] * len(node.inputs), accumulate=False)
    for i, e in enumerate(expected):
        if e is None:
            continue
        got = backward(node, outputs, [None] * len(expected), False, wanted=1 << i)
        assert [j for j, g in enumerate(got) if g is not None] == [i]
        assert relative_error(got[i], e) <= case.tolerance
    _, together = gradients(case, arguments)
    at = 0
    for name in case.grads:
        if arguments[name] is None:
            continue
        _, alone = gradients(case, arguments, want=(name,))
        for g in alone:
            assert relative_error(g, together[at]) <= case.tolerance
            at += 1


def test_an_output_without_a_gradient_counts_as_zeros():
    for case in CASES:
        outputs, _ = run(case, case.arguments())
        if len(outputs) > 1 and core_record(outputs[0]._node):
            check_outputs_alone(case, outputs, outputs[0]._node)


def check_outputs_alone(case, outputs, node):
    douts = output_gradients(outputs)
    bits = sum(1 << i for i, t in enumerate(node.inputs) if t is not None)
    places = (None,) * len(node.inputs)
    for kept in range(len(outputs)):
        zeros = tuple(d if i == kept else np.zeros_like(d) for i, d in enumerate(douts))
        nones = tuple(d if i == kept else None for i, d in enumerate(douts))
        for g, e in zip(node.run(nones, places, bits, 0), node.run(zeros, places, bits, 0), strict=True):
            assert (g is None) == (e is None), case.name
            assert g is None or relative_error(g, e) <= case.tolerance, case.name
