"""Every row: values and gradients against the float64 twin, the twin against central differences."""

import numpy as np
import pytest
from cases import convert, gradients, load, relative_error, run

import plait

CASES = load()
each = pytest.mark.parametrize("case", CASES, ids=str)


@each
def test_forward(case):
    expected, _ = run(case, case.arguments(np.float64), want=())
    for want in ((), case.grads):  # the path that saves and the one that does not
        got, _ = run(case, case.arguments(np.float32), want=want)
        assert len(got) == len(expected)
        for g, e in zip(got, expected, strict=True):
            if g.data.dtype.kind == "f":
                assert g.data.dtype == np.float32
            assert relative_error(g.data, e.data) <= case.tolerance


@each
def test_gradient(case):
    arguments = case.arguments(np.float64)
    _, expected = gradients(case, arguments)
    _, got = gradients(case, convert(arguments, np.float32))
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert relative_error(g, e) <= case.tolerance


@each
def test_twin_against_differences(case):
    """A random direction of all differentiable inputs at once, central differences in float64."""
    if not case.grads:
        pytest.skip("nothing is differentiable")
    arguments = case.arguments(np.float64)
    outputs, _ = run(case, arguments, want=())
    rng = np.random.default_rng(5)
    douts = [rng.standard_normal(o.shape) for o in outputs]
    _, grads = gradients(case, arguments, douts)
    flat = [v for k, value in arguments.items() if k in case.grads and value is not None
            for v in (value if isinstance(value, list) else [value])]
    directions = [rng.standard_normal(v.shape) for v in flat]
    eps = 1e-6
    base = [v.copy() for v in flat]

    def value(sign):
        for v, b, d in zip(flat, base, directions, strict=True):
            v[...] = b + sign * eps * d
        outs, _ = run(case, arguments, want=())
        return sum(float(np.sum(o.data * d)) for o, d in zip(outs, douts, strict=True))

    numeric = (value(1) - value(-1)) / (2 * eps)
    analytic = sum(float(np.sum(g * d)) for g, d in zip(grads, directions, strict=True))
    scale = max(1.0, sum(float(np.sum(np.abs(g * d))) for g, d in zip(grads, directions, strict=True)))
    assert abs(numeric - analytic) <= 1e-6 * scale


def test_every_operator_has_a_row_and_a_twin():
    tested = {case.op.split(".")[-1] for case in CASES}
    for name in plait._core.operators:
        assert name in tested, f"{name} has no row"
        assert hasattr(plait.reference, name), f"{name} has no twin"
        assert hasattr(plait.reference, name + "_backward"), f"{name} has no twin of its gradient"
