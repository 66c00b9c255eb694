"""plait.operator and plait.gradcheck."""

import inspect

import numpy as np
import pytest

import plait
from plait import ops

F4 = np.float32
X = np.random.default_rng(0).standard_normal((3, 4))


def bilinear_forward(x, w, y, *, scale=1.0):
    """scale x w y^T, row by row."""
    h = x @ w
    return (scale * (h * y).sum(1), h), (x, w, y, h)


def bilinear_backward(saved, dz, dh, *, scale=1.0):
    x, w, y, h = saved
    dh = dh + scale * dz[:, None] * y
    return dh @ w.T, x.T @ dh, scale * dz[:, None] * h


bilinear = plait.operator(bilinear_forward, bilinear_backward)


def test_several_inputs_outputs_and_options():
    rng = np.random.default_rng(1)
    x, w, y = (rng.standard_normal(s) for s in ((5, 3), (3, 4), (5, 4)))
    z, h = bilinear(x.astype(F4), w.astype(F4), y.astype(F4), scale=2.0)
    assert z.dtype == h.dtype == np.float32 and not z.requires_grad
    np.testing.assert_allclose(z.data, 2 * ((x @ w) * y).sum(1), rtol=1e-5)
    assert plait.gradcheck(lambda *a: bilinear(*a, scale=2.0), x, w, y, rtol=1e-7, atol=1e-7)
    assert plait.gradcheck(lambda *a: bilinear(*a)[0], x, w, y, rtol=1e-7, atol=1e-7)  # no gradient reaches h
    assert plait.gradcheck(lambda a: ops.exp(bilinear(ops.tanh(a), w, y)[1]), x, rtol=1e-6)
    t = plait.Tensor(w.astype(F4), requires_grad=True)
    bilinear(x.astype(F4), t, y)[0].sum().backward()
    assert t.grad.dtype == np.float32
    np.testing.assert_allclose(t.grad, x.T @ y, rtol=1e-5)


def test_decorator_keeps_the_name_and_the_signature():
    @plait.operator
    def cube(x, *, by=1):
        """x cubed."""
        return by * x**3, x

    with pytest.raises(TypeError, match="cube: an input requires a gradient, and no backward was given"):
        cube(plait.Tensor(X, requires_grad=True))
    np.testing.assert_allclose(cube(X, by=2).data, 2 * X**3)

    @cube.backward
    def cube_backward(x, dy, *, by=1):
        return 3 * by * x**2 * dy

    assert callable(cube_backward) and cube.__name__ == "cube" and cube.__doc__ == "x cubed."
    assert list(inspect.signature(cube).parameters) == ["x", "by"] and repr(cube) == "<plait.operator cube>"
    assert plait.gradcheck(lambda x: cube(x, by=3), X, rtol=1e-6)


def test_arguments_that_have_no_gradient():
    @plait.operator
    def gather(x, ids, bias):
        y = x[ids]
        return (y if bias is None else y + bias), (x.shape, ids)

    @gather.backward
    def gather_backward(saved, dy):
        dx = np.zeros(saved[0], dy.dtype)
        np.add.at(dx, saved[1], dy)
        return dx, None, dy.sum(0)

    ids = np.array([2, 0, 2])
    assert plait.gradcheck(lambda x, b: gather(x, ids, b), X, X[0], rtol=1e-6)
    assert plait.gradcheck(lambda x: gather(x, [1, 1], None), X, rtol=1e-6)
    x = plait.Tensor(X, requires_grad=True)
    y = gather(x, ids, None)
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1
    y.sum().backward()
    ids[0] = 1


def test_dtypes_follow_the_rule_of_arithmetic():
    @plait.operator
    def scale(x, y):
        return x * y * np.float64(2), (x, y)

    @scale.backward
    def scale_backward(saved, dz):
        assert dz.dtype == saved[0].dtype == saved[1].dtype == np.float32
        return dz * saved[1] * np.float64(2), dz * saved[0] * np.float64(2)

    a, b = plait.Tensor(X.astype(F4), requires_grad=True), plait.Tensor(X, requires_grad=True)
    out = scale(a, b)
    assert out.dtype == np.float32
    out.sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(b.grad, 2 * X, rtol=1e-5)
    assert scale(X, 3).dtype == np.float64


def test_arrays_are_read_only_inside():
    @plait.operator
    def wrong(x):
        x *= 2
        return x, None

    array = X.copy()
    with pytest.raises(ValueError, match="read-only"):
        wrong(array)
    np.testing.assert_array_equal(array, X)

    def backward(saved, dy):
        dy *= 2
        return dy

    out = plait.operator(lambda x: (x + 1, None), backward)(plait.Tensor(X, requires_grad=True))
    dout = np.ones(X.shape)
    with pytest.raises(ValueError, match="read-only"):
        out.backward(dout)
    np.testing.assert_array_equal(dout, 1)


def test_inside_the_functions_nothing_is_recorded():
    w = plait.Tensor(X, requires_grad=True)

    @plait.operator
    def inner(x):
        return (w * x).data, None

    @inner.backward
    def inner_backward(saved, dy):
        assert not (w * dy).requires_grad
        return dy * w.data

    x = plait.Tensor(X, requires_grad=True)
    inner(x).sum().backward()
    assert w.grad is None
    np.testing.assert_allclose(x.grad, X)


def test_a_tuple_of_one_output():
    def forward(x):
        return (x + 1,), None

    (y,) = plait.operator(forward, lambda saved, dy: dy)(X)
    np.testing.assert_allclose(y.data, X + 1)


def make(forward, backward=lambda saved, dy: dy):
    forward.__name__ = "strange"
    return plait.operator(forward, backward)


T = plait.Tensor(X, requires_grad=True)
BAD_CALLS = [
    (lambda: make(lambda x: x)(T), TypeError, r"strange: forward returned a ndarray, expected a pair \(output, "),
    (lambda: make(lambda x: (x, x, x))(T), TypeError, r"strange: forward returned a tuple of 3, expected a pair"),
    (lambda: make(lambda x: (3.0, None))(T), TypeError, "strange: forward returned a float as output 0, expected"),
    (lambda: make(lambda x: ((x, [x]), None))(T), TypeError, "strange: forward returned a list as output 1"),
    (lambda: make(lambda x: (plait.Tensor(x), None))(T), TypeError, "strange: forward returned a Tensor as output 0"),
    (lambda: make(lambda x: (x.astype(complex), None))(T), TypeError, "strange: .* its dtype is complex128"),
    (lambda: make(lambda x: (x, None))("abc"), TypeError, "strange: argument 0 has dtype <U3, expected numbers"),
    (lambda: make(lambda x, a=None: (x, None))(X, a=T), TypeError, "strange: a requires a gradient, so it must"),
    (lambda: plait.operator(3), TypeError, "operator: forward is 3, expected a function"),
    (lambda: plait.operator(len, 3), TypeError, "operator: backward is 3, expected a function"),
    (lambda: plait.operator(len).backward(3), TypeError, "len: backward is 3, expected a function"),
]  # fmt: skip
BAD_GRADIENTS = [
    (lambda saved, dy: (dy, dy), ValueError, "strange: backward returned 2 gradients, expected 1, one an argument"),
    (lambda saved, dy: (), ValueError, "strange: backward returned 0 gradients"),
    (lambda saved, dy: dy[0], ValueError, r"strange: backward returned shape \(4,\) for argument 0, expected \(3, 4\)"),
    (lambda saved, dy: 1.0, TypeError, "strange: backward returned a float for argument 0, expected an array or None"),
    (lambda saved, dy: plait.Tensor(dy), TypeError, "strange: backward returned a Tensor for argument 0"),
]


@pytest.mark.parametrize("call, exception, message", BAD_CALLS)
def test_bad_calls(call, exception, message):
    with pytest.raises(exception, match=message):
        call()


@pytest.mark.parametrize("backward, exception, message", BAD_GRADIENTS)
def test_bad_gradients(backward, exception, message):
    with pytest.raises(exception, match=message):
        make(lambda x: (x * 1, None), backward)(T).sum().backward()


# ---------------------------------------------------------------- gradcheck


def wrong_at(*position, output=None):
    """The identity, whose gradient is off by 1 % in one element."""

    def backward(saved, dy):
        dx = dy.copy()
        dx[position] *= 1.01
        return dx

    return plait.operator(lambda x: (x * 1, None), backward)


def test_gradcheck_finds_and_names_one_wrong_element():
    message = (
        r"the derivative of element 6 of output 0 with respect to input 1 at \(1, 2\) is 1.01 by backward and "
        r"(1|0.99999\d+|1.00000\d+) by central"
    )
    with pytest.raises(plait.GradcheckError, match=message):
        plait.gradcheck(lambda a, x: wrong_at(1, 2)(x), X, X)
    assert issubclass(plait.GradcheckError, AssertionError)
    assert plait.gradcheck(lambda x: wrong_at(1, 2)(x), X, rtol=0.02)


def test_gradcheck_along_directions():
    big = np.random.default_rng(2).standard_normal((40, 50))
    assert plait.gradcheck(lambda x: ops.tanh(x) * 2.0, big)
    twice = plait.operator(lambda x: (x * 2, None), lambda saved, dy: dy)
    with pytest.raises(
        plait.GradcheckError, match="a random sum of outputs with respect to input 0 along a random dir"
    ):
        plait.gradcheck(twice, big)
    with pytest.raises(plait.GradcheckError):
        plait.gradcheck(wrong_at(slice(0, 20)), big)


def test_gradcheck_counts_missing_gradients():
    forget = plait.operator(lambda x, y: (x * y, y), lambda y, dz: (dz * y, None))
    with pytest.raises(plait.GradcheckError, match=r"with respect to input 1 at \(0, 0\) is 0 by backward and"):
        plait.gradcheck(forget, X, X)
    with pytest.raises(plait.GradcheckError, match="do not depend on the inputs by way of the tape"):
        plait.gradcheck(lambda x: plait.Tensor(np.exp(x.data)), X)


def test_gradcheck_leaves_its_arguments_alone():
    x, constant = plait.Tensor(X.astype(F4), requires_grad=True), plait.Tensor(X.astype(F4))
    ids = np.array([0, 2])
    kept = X.astype(F4)
    assert plait.gradcheck(lambda a, b, i, text: (a * b)[i] if text == "text" else a, x, constant, ids, "text")
    np.testing.assert_array_equal(x.data, kept)
    assert x.grad is None and x.dtype == np.float32


def test_gradcheck_of_operators_of_the_core():
    rng = np.random.default_rng(3)
    x, w, b = rng.standard_normal((3, 4)), rng.standard_normal((2, 4)), rng.standard_normal(2)
    assert plait.gradcheck(lambda *a: ops.linear(*a, activation="gelu"), x, w, b, rtol=1e-6)


def test_gradcheck_refuses_what_it_cannot_check():
    with pytest.raises(ValueError, match="no input is a floating array or requires a gradient"):
        plait.gradcheck(ops.exp, np.arange(3))
    with pytest.raises(TypeError, match="function returned a ndarray, expected a Tensor"):
        plait.gradcheck(lambda x: x.data, X)
    with pytest.raises(TypeError, match="function returned float32 for float64 inputs"):
        plait.gradcheck(lambda x: x * plait.Tensor(X.astype(F4)), X)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="returns something else when called again"):
        plait.gradcheck(lambda x: x * rng.standard_normal(), X)
