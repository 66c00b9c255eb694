"""Gradients against central differences."""

from __future__ import annotations

import numpy as np

from plait._array import F64, plain_array
from plait.tensor import Tensor, _mode, no_grad

__all__ = ["GradcheckError", "gradcheck"]

_FULL = 1024  # entries up to which the whole Jacobian is compared
_DIRECTIONS = 4


class GradcheckError(AssertionError):
    """A gradient disagrees with central differences."""


def gradcheck(function, *inputs, eps=1e-6, rtol=1e-3, atol=1e-5):
    """Compares the gradients of a function with central differences, in float64.

    While inputs times outputs have at most 1,024 entries the whole Jacobian is compared; beyond that, random
    directions. Float64 runs the readable twins of plait's operators, so this checks the mathematics of a composition
    and of your own operators; it is slow.

    Parameters
    ----------
    function : callable
        Takes the inputs and returns a Tensor or a tuple of them. Calling it twice must give the same result.
    *inputs : array or Tensor
        Floating arrays are converted to float64 and checked; so are tensors that require a gradient. Others, among
        them tensors that do not, are passed on (floats in float64).
    eps : float
        Half of the step of the central difference.
    rtol, atol : float
        The largest difference allowed is ``atol + rtol * abs(numeric)``.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradcheckError
        A gradient is wrong or missing. The message has the position and both numbers.
    TypeError, ValueError
        Nothing to check, a result that is not float64, or a function that does not repeat its result.

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.gradcheck(lambda x: plait.ops.exp(x).sum(axis=0), np.ones((2, 3)))
    True
    """
    arguments, checked = [], []
    for i, value in enumerate(inputs):
        tensor = isinstance(value, Tensor)
        if not tensor and not isinstance(value, np.ndarray):
            arguments.append(value)
            continue
        array = plain_array("gradcheck", f"input {i}", value.data if tensor else value)
        floating = array.dtype.kind in "fV"
        wanted = floating and (value.requires_grad if tensor else True)
        array = np.array(array, F64, order="C") if floating else array
        arguments.append(Tensor(array, requires_grad=wanted) if tensor or wanted else array)
        if wanted:
            checked.append((i, arguments[-1]))
    if not checked:
        raise ValueError("gradcheck: no input is a floating array or requires a gradient")
    before, _mode.twin_expected = _mode.twin_expected, True
    try:
        _compare(function, arguments, checked, eps, rtol, atol)
    finally:
        _mode.twin_expected = before
    return True


def _compare(function, arguments, checked, eps, rtol, atol):
    rng = np.random.default_rng(0)
    first = _outputs(function, arguments)
    sizes = [o.size for o in first]
    with no_grad():
        again = _outputs(function, arguments)
    if any(not np.array_equal(a.data, b.data, equal_nan=True) for a, b in zip(first, again, strict=True)):
        raise ValueError("gradcheck: function returns something else when called again (seed its random numbers)")
    del first, again
    full = sum(t.size for _, t in checked) * sum(sizes) <= _FULL
    weights = np.eye(sum(sizes)) if full else rng.standard_normal((_DIRECTIONS, sum(sizes)))
    analytic = [_gradients(function, arguments, checked, w) for w in weights]
    for at, (i, tensor) in enumerate(checked):
        if full:
            steps = ((np.unravel_index(j, tensor.shape), _unit(tensor.shape, j)) for j in range(tensor.size))
        else:
            steps = ((None, rng.standard_normal(tensor.shape)) for _ in range(_DIRECTIONS))
        for position, step in steps:
            numeric = weights @ _difference(function, arguments, tensor, step, eps)
            for w, expected in enumerate(numeric):
                got = float(np.sum(analytic[w][at] * step))
                if abs(got - expected) <= atol + rtol * abs(expected):
                    continue
                where = "along a random direction" if position is None else f"at {tuple(int(p) for p in position)}"
                of = "a random sum of outputs" if position is None else _output(sizes, w)
                raise GradcheckError(
                    f"gradcheck: the derivative of {of} with respect to input {i} {where} is {got:.9g} by backward "
                    f"and {expected:.9g} by central differences"
                )


def _outputs(function, arguments):
    outputs = function(*arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for o in outputs:
        if not isinstance(o, Tensor):
            raise TypeError(f"gradcheck: function returned a {type(o).__name__}, expected a Tensor or a tuple of them")
        if o.dtype != F64:
            raise TypeError(
                f"gradcheck: function returned {o.dtype} for float64 inputs; does it use float32 arrays or parameters "
                "that are not among the inputs?"
            )
    return outputs


def _gradients(function, arguments, checked, weights):
    """Gradient of the weighted sum of all outputs, for each checked input."""
    for _, tensor in checked:
        tensor.grad = None
    start, total = 0, None
    for o in _outputs(function, arguments):
        part = (o * weights[start : start + o.size].reshape(o.shape)).sum()
        total = part if total is None else total + part
        start += o.size
    if not total.requires_grad:
        raise GradcheckError("gradcheck: the outputs do not depend on the inputs by way of the tape")
    total.backward()
    return [np.zeros(t.shape) if t.grad is None else t.grad for _, t in checked]


def _difference(function, arguments, tensor, step, eps):
    """Central difference of all outputs, flat."""
    before, values = tensor.data.copy(), []
    try:
        for sign in (1, -1):
            tensor.data[...] = before + sign * eps * step
            with no_grad():
                values.append(np.concatenate([o.data.ravel() for o in _outputs(function, arguments)]))
    finally:
        tensor.data[...] = before
    return (values[0] - values[1]) / (2 * eps)


def _unit(shape, j):
    step = np.zeros(shape)
    step.flat[j] = 1
    return step


def _output(sizes, w):
    for k, size in enumerate(sizes):
        if w < size:
            return f"element {w} of output {k}"
        w -= size
    raise AssertionError("beyond the outputs")
