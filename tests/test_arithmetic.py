"""Arithmetic, reductions and shapes on the tape: a table of calls against plain NumPy and central differences."""

import zlib

import numpy as np
import pytest

import plait
from plait import ops

A, B, C = (3, 4), (4,), (3, 1)
ROWS = []


def row(name, function, formula, *shapes, positive=False, empty=True):
    """One call: on tensors, the same with NumPy, shapes of the inputs; ``empty`` says that zero-size shapes work."""
    ROWS.append(pytest.param(function, formula, shapes, positive, empty, id=name))


def np_softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis, keepdims=True)


def np_index(key):
    return lambda x: x[key]


BINARY = {
    "add": (ops.add, np.add),
    "subtract": (ops.subtract, np.subtract),
    "multiply": (ops.multiply, np.multiply),
    "divide": (ops.divide, np.divide),
    "power": (ops.power, np.power),
    "maximum": (ops.maximum, np.maximum),
    "minimum": (ops.minimum, np.minimum),
}
for _name, (_f, _g) in BINARY.items():
    for _shapes in [(A, A), (A, B), (B, A), (C, B), ((), A), ((2, 1, 4), C), ((1,), (1, 1)), ((), ())]:
        row(f"{_name}-{_shapes[0]}-{_shapes[1]}", _f, _g, *_shapes, positive=True)
    row(f"{_name}-number", lambda x, f=_f: f(x, 2.5), lambda x, f=_g: f(x, 2.5), A, positive=True)
    row(f"{_name}-number-first", lambda x, f=_f: f(2.5, x), lambda x, f=_g: f(2.5, x), A, positive=True)
for _e in (0, 1, 2, 3, -1, 0.5, -2.0):
    row(f"power-{_e}", lambda x, e=_e: x**e, lambda x, e=_e: x ** float(e), A, positive=True)
row("power-negative-base", lambda x: ops.power(x, 3), lambda x: x**3, A)
for _name in ("negative", "abs", "exp", "tanh"):
    row(_name, getattr(ops, _name), getattr(np, _name), A)
row("log", ops.log, np.log, A, positive=True)
row("sqrt", ops.sqrt, np.sqrt, A, positive=True)
row("sigmoid", ops.sigmoid, lambda x: 1 / (1 + np.exp(-x)), A)
row("clip", lambda x: ops.clip(x, -0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7), A)
row("clip-below", lambda x: ops.clip(x, min=0), lambda x: np.clip(x, 0, None), A)
row("clip-arrays", lambda x: ops.clip(x, max=np.ones(4)), lambda x: np.clip(x, None, np.ones(4)), A, empty=False)
_MASK = np.array([[True], [False], [True]])
row("where", lambda x, y: ops.where(_MASK, x, y), lambda x, y: np.where(_MASK, x, y), A, B, empty=False)
row("where-number", lambda x: ops.where(x.data > 0, x, 0.25), lambda x: np.where(x > 0, x, 0.25), A)

for _a, _b in [((3, 4), (4, 2)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((4,), (4, 2)),
               ((3, 4), (4,)), ((4,), (4,)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (2, 4, 3)),
               ((2, 3, 4), (4,))]:  # fmt: skip
    row(f"matmul-{_a}-{_b}", ops.matmul, np.matmul, _a, _b)

for _name in ("sum", "mean", "max", "min"):
    _f, _g = getattr(ops, _name), getattr(np, _name)
    for _axis in (None, 0, 1, -1, (0, 2), (-1, 0), ()):
        for _keep in (False, True):
            row(
                f"{_name}-{_axis}-{_keep}",
                lambda x, f=_f, a=_axis, k=_keep: f(x, axis=a, keepdims=k),
                lambda x, f=_g, a=_axis, k=_keep: f(x, axis=a, keepdims=k),
                (2, 3, 4),
                empty=_name == "sum",
            )
for _axis in (-1, 0, 1):
    row(f"softmax-{_axis}", lambda x, a=_axis: ops.softmax(x, a), lambda x, a=_axis: np_softmax(x, a), (2, 3, 4))
    row(
        f"log_softmax-{_axis}",
        lambda x, a=_axis: ops.log_softmax(x, a),
        lambda x, a=_axis: np.log(np_softmax(x, a)),
        (2, 3, 4),
    )

row("reshape", lambda x: ops.reshape(x, (4, 3)), lambda x: x.reshape(4, 3), A, empty=False)
row("reshape-method", lambda x: x.reshape(2, -1), lambda x: x.reshape(2, -1), A, empty=False)
row("transpose", ops.transpose, np.transpose, (2, 3, 4))
row("transpose-axes", lambda x: ops.transpose(x, (2, 0, -2)), lambda x: x.transpose(2, 0, 1), (2, 3, 4))
row("transpose-method", lambda x: x.transpose(1, 2, 0), lambda x: x.transpose(1, 2, 0), (2, 3, 4))
row("T", lambda x: x.T, lambda x: x.T, A)
row("swapaxes", lambda x: ops.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1), (2, 3, 4))
row("expand_dims", lambda x: ops.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1)), A)
row("squeeze", ops.squeeze, np.squeeze, (1, 3, 1, 2))
row("squeeze-axis", lambda x: ops.squeeze(x, -2), lambda x: x.squeeze(-2), (1, 3, 1, 2))
row("concat", lambda x, y: ops.concat([x, y]), lambda x, y: np.concatenate([x, y]), A, (2, 4))
row("concat-axis", lambda x, y, z: ops.concat((x, y, z), -1), lambda *a: np.concatenate(a, -1), A, C, (3, 0))
row("stack", lambda x, y: ops.stack([x, y]), lambda x, y: np.stack([x, y]), A, A)
row("stack-axis", lambda x, y: ops.stack([x, y], -1), lambda x, y: np.stack([x, y], -1), A, A)
row("split", lambda x: ops.split(x, 2, 1)[1], lambda x: np.split(x, 2, 1)[1], A)
row("split-all", lambda x: ops.concat(ops.split(x, [1, 3], -1)[::-1], 1), lambda x: x[:, [3, 1, 2, 0]], A, empty=False)
KEYS = {
    "integer": 1,
    "negative": -1,
    "slice": slice(None, None, 2),
    "backwards": (Ellipsis, slice(None, None, -1)),
    "new axis": (slice(None), None, 0),
    "ellipsis": (Ellipsis, 2),
    "array": np.array([2, 0, 2, -1, 2]),
    "array 2-D": np.array([[0, 1], [1, 1]]),
    "list": [1, 1],
    "no rows": np.array([], np.int64),
    "unsigned": np.array([2, 2], np.uint8),
    "two arrays": (np.array([0, 0, 2]), np.array([1, 1, -1])),
    "array and slice": (slice(1, None), np.array([3, 3, 0])),
    "mask": np.array([True, False, True]),
    "mask of elements": np.arange(12).reshape(A) % 3 == 0,
    "zero-dimensional": np.array(1),
}
for _name, _key in KEYS.items():
    row(f"index-{_name}", lambda x, k=_key: x[k], np_index(_key), A, empty=False)


def arrays(shapes, positive, dtype, seed):
    rng = np.random.default_rng(seed)
    made = [rng.standard_normal(s) for s in shapes]
    return [np.asarray(np.abs(a) + 0.3 if positive else a, dtype) for a in made]


@pytest.mark.parametrize("function, formula, shapes, positive, empty", ROWS)
def test_row(function, formula, shapes, positive, empty, request):
    seed = zlib.crc32(request.node.callspec.id.encode())
    given = arrays(shapes, positive, np.float64, seed)
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 2e-6)):
        tensors = [plait.Tensor(a.astype(dtype), requires_grad=True) for a in given]
        out, expected = function(*tensors), formula(*[t.data for t in tensors])
        assert out.dtype == dtype and type(out.data) is np.ndarray
        np.testing.assert_allclose(out.data, expected, rtol=rtol, atol=rtol)
        with plait.no_grad():
            np.testing.assert_array_equal(function(*tensors).data, out.data)
        out.backward(np.ones(out.shape))
        for t in tensors:
            assert t.grad.shape == t.shape and t.grad.dtype == dtype
    plait.gradcheck(function, *given, rtol=1e-6, atol=1e-7)
    # float32 gradients against those of float64
    weights = np.random.default_rng(seed).standard_normal(formula(*given).shape)
    grads = {}
    for dtype in (np.float64, np.float32):
        tensors = [plait.Tensor(a.astype(dtype), requires_grad=True) for a in given]
        function(*tensors).backward(weights.astype(dtype))
        grads[dtype] = [t.grad for t in tensors]
    for a, b in zip(grads[np.float32], grads[np.float64], strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-5, atol=3e-5)


EMPTY = [p for p in ROWS if p.values[4]]


@pytest.mark.parametrize("function, formula, shapes, positive, empty", EMPTY)
def test_zero_size(function, formula, shapes, positive, empty):
    """The same calls where a dimension of every input is 0."""
    sizes = {n for s in shapes for n in s} - {0, 1}
    for gone in sizes:
        given = arrays([tuple(0 if n == gone else n for n in s) for s in shapes], positive, np.float32, 0)
        expected = formula(*given)
        tensors = [plait.Tensor(a, requires_grad=True) for a in given]
        out = function(*tensors)
        np.testing.assert_allclose(out.data, expected, rtol=2e-6, atol=2e-6)
        out.backward(np.ones(out.shape))
        for t in tensors:
            assert t.grad.shape == t.shape
            if not out.size:
                np.testing.assert_array_equal(t.grad, 0)


@pytest.mark.parametrize("name", ["mean", "max", "min"])
def test_reductions_of_nothing(name):
    with pytest.raises(ValueError, match=rf"{name}: x has shape \(0, 3\), expected elements along axis 0"):
        getattr(ops, name)(np.ones((0, 3), np.float32), axis=0)
    assert getattr(ops, name)(np.ones((0, 3), np.float32), axis=1).shape == (0,)


def test_large_results_come_from_the_pool():
    x = plait.Tensor(np.ones((300, 300), np.float32), requires_grad=True)
    before = plait._core.counters()["pool_used_buffers"]
    y = x + 1.0
    assert plait._core.counters()["pool_used_buffers"] == before + 1
    np.testing.assert_array_equal(y.data, 2)
    np.testing.assert_array_equal(ops.multiply(np.ones((5, 1, 300), np.float32), y).data, 2)


# ---------------------------------------------------------------- ties, kinks, extremes


def test_ties_share_the_gradient():
    x = plait.Tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    x.max(axis=1).sum().backward()
    np.testing.assert_allclose(x.grad, [[0, 0.5, 0.5], [1 / 3] * 3], rtol=1e-6)
    a, b = plait.Tensor([1.0, 2.0], requires_grad=True), plait.Tensor([1.0, 3.0], requires_grad=True)
    (ops.maximum(a, b) + ops.minimum(a, b)).sum().backward()
    np.testing.assert_array_equal(a.grad, 1)
    np.testing.assert_array_equal(b.grad, 1)


def test_kinks():
    x = plait.Tensor([0.0, -1.0, 2.0], requires_grad=True)
    (ops.abs(x) + ops.clip(x, -1.0, 1.0)).sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 0, 1])
    x = plait.Tensor([0.0, 2.0], requires_grad=True)
    e = plait.Tensor([0.0, 0.0], requires_grad=True)
    ops.power(x, e).sum().backward()
    np.testing.assert_array_equal(x.grad, 0)
    np.testing.assert_allclose(e.grad, [0, np.log(2)], rtol=1e-6)
    x.grad = None
    (x**0).sum().backward()
    np.testing.assert_array_equal(x.grad, 0)


def test_softmax_of_large_and_masked_values():
    x = plait.Tensor([[1000.0, 0.0, -np.inf], [-1000.0, -1000.0, -np.inf]], requires_grad=True)
    y = ops.softmax(x)
    np.testing.assert_allclose(y.data, [[1, 0, 0], [0.5, 0.5, 0]])
    y[:, 0].sum().backward()
    np.testing.assert_allclose(x.grad, [[0, 0, 0], [0.25, -0.25, 0]])
    assert ops.log_softmax([0.0, -200.0]).data[1] == -200


def test_nothing_is_written_to():
    a, b = np.ones((3, 3), np.float32) * 2, np.ones(3, np.float32) * 3
    x, y = plait.Tensor(a, requires_grad=True), plait.Tensor(b, requires_grad=True)
    kept = a.copy(), b.copy()
    ((x * y - y / x) ** 2 + ops.softmax(x) @ y).sum().backward()
    first = x.grad
    np.testing.assert_array_equal(a, kept[0])
    np.testing.assert_array_equal(b, kept[1])
    dout = np.ones((3, 3), np.float32)
    (x + x.T).backward(dout)
    np.testing.assert_array_equal(dout, 1)
    assert not np.shares_memory(x.grad, dout) and x.grad is first


# ---------------------------------------------------------------- dtypes


def test_dtype_rules():
    f4, f8, i8 = np.ones(3, np.float32), np.ones(3), np.arange(3)
    x, d, n = plait.Tensor(f4), plait.Tensor(f8), plait.Tensor(i8)
    for value in (1, 2.5, np.float64(2.5), True, np.int64(3), [1.0, 2.0, 3.0], i8, f8, np.array(2.5), d, n, f4 > 0):
        for out in (x + value, value + x, x * value, ops.maximum(x, value), ops.where(f4 > 0, value, x)):
            assert out.dtype == np.float32
    for value in (1, 2.5, np.float32(2.5), True, i8, n):
        assert (d + value).dtype == (value - d).dtype == np.float64
    assert (n + 1).dtype == np.int64 and (n * n)[1].dtype == np.int64
    assert (n / 2).dtype == (n * 0.5).dtype == ops.exp(n).dtype == ops.mean(n).dtype == np.float32
    assert ops.add(1, 2.5).dtype == ops.add([1.0], [2.0]).dtype == np.float32
    assert ops.concat([f4, f8, [1]]).dtype == np.float32
    assert ops.add(f8.astype(">f8"), 1).dtype == np.float64
    half, brain = f4.astype(np.float16), f4.astype(pytest.importorskip("ml_dtypes").bfloat16)
    assert (x + half).dtype == ops.exp(brain).dtype == (d + half).dtype == np.float32
    t = plait.Tensor(brain, requires_grad=True)
    (t * 2).sum().backward()
    np.testing.assert_array_equal(t.grad, 2)


def test_arrays_of_any_layout():
    base = np.arange(24, dtype=np.float32).reshape(4, 6) + 1
    raw = np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 6)
    for view in (np.asfortranarray(base), base.astype(">f4"), base.repeat(2, 1)[:, ::2], base[::-1][::-1], raw):
        x = plait.Tensor(view, requires_grad=True)
        out = ops.exp(ops.log(x) * 2.0) @ base.T
        np.testing.assert_allclose(out.data, base**2 @ base.T, rtol=1e-4)
        out.sum().backward()
        np.testing.assert_allclose(x.grad, 2 * base * base.sum(0), rtol=1e-4)


# ---------------------------------------------------------------- Python's and NumPy's ways in


def test_operators_and_methods():
    a, b = np.array([[1.5, -2.0]], np.float32), np.array([[0.5], [4.0]], np.float32)
    x, y = plait.Tensor(a), plait.Tensor(b)
    pairs = [
        (x + y, a + b), (x - y, a - b), (x * y, a * b), (x / y, a / b), (y**x, b**a), (y @ x, b @ a),
        (a + y, a + b), (a - y, a - b), (a * y, a * b), (a / y, a / b), (b**x, b**a), (b @ x, b @ a),
        (2 - x, 2 - a), (2 / x, 2 / a), (2**x, 2**a), (-x, -a), (abs(x), np.abs(a)), (np.float32(2) * x, 2 * a),
        (x.sum(), a.sum()), (x.mean(1), a.mean(1)), (x.max(), a.max()), (x.min(0), a.min(0)),
        (x.exp(), np.exp(a)), (y.log(), np.log(b)), (y.sqrt(), np.sqrt(b)), (x.tanh(), np.tanh(a)), (x.abs(), abs(a)),
        (x.clip(0, 1), np.clip(a, 0, 1)), (x.swapaxes(0, 1), a.T), (x.squeeze(0), a[0]), (x.T, a.T), (x[0, 1], a[0, 1]),
    ]  # fmt: skip
    for got, expected in pairs:
        assert isinstance(got, plait.Tensor)
        np.testing.assert_allclose(got.data, expected, rtol=1e-6)
    for got, expected in [(x == y, a == b), (x != y, a != b), (x < y, a < b), (x >= 1.5, a >= 1.5), (a > y, a > b)]:
        assert type(got) is np.ndarray and got.dtype == bool
        np.testing.assert_array_equal(got, expected)
    assert (x == None) is False and (x != None) is True  # noqa: E711
    x += 1
    np.testing.assert_array_equal(x.data, a + 1)
    np.testing.assert_array_equal(a, [[1.5, -2.0]])


def test_functions_of_numpy():
    a = np.array([[0.5, 2.0], [1.0, 3.0]], np.float32)
    x = plait.Tensor(a, requires_grad=True)
    for function in (np.exp, np.log, np.sqrt, np.tanh, np.abs, np.negative, np.sum, np.mean, np.max, np.min, np.squeeze,
                     np.transpose, lambda v: np.add(v, 1), lambda v: np.subtract(1, v), lambda v: np.matmul(a, v),
                     lambda v: np.sum(v, axis=0, keepdims=True), lambda v: np.concatenate([v, a], axis=1),
                     lambda v: np.stack([a, v]), lambda v: np.where(a > 1, v, 0), lambda v: np.clip(v, 1, 2),
                     lambda v: np.reshape(v, (4,)), lambda v: np.expand_dims(v, 0), lambda v: np.split(v, 2)[1],
                     lambda v: np.swapaxes(v, 0, 1), lambda v: a - v, lambda v: np.maximum(v, 1)):  # fmt: skip
        got = function(x)
        assert isinstance(got, plait.Tensor) and got.requires_grad, function
        np.testing.assert_allclose(got.data, function(a), rtol=1e-6)
    for function in (np.isfinite, np.greater, np.argmax, np.shape, np.allclose, np.array_equal):
        arguments = (x, a) if function in (np.greater, np.allclose, np.array_equal) else (x,)
        got = function(*arguments)
        assert not isinstance(got, plait.Tensor)
        np.testing.assert_array_equal(got, function(*[np.asarray(v) for v in arguments]))


def test_what_numpy_may_not_do_with_a_gradient():
    a = np.ones((2, 2), np.float32)
    x = plait.Tensor(a, requires_grad=True)
    for call in (
        lambda: np.sin(x),
        lambda: np.add.reduce(x),
        lambda: np.add(a, x, out=a.copy()),
        lambda: np.add(a, x, dtype=np.float64),
        lambda: np.cumsum(x),
        lambda: np.linalg.norm(x),
        lambda: np.vstack([a, x]),
    ):
        with pytest.raises(TypeError, match=r"numpy\.\S+.* is not on the tape"):
            call()
        with plait.no_grad():
            assert type(call()) in (np.ndarray, np.float32)
    b = a.copy()
    with pytest.raises(TypeError, match=r"numpy\.add with out= is not on the tape"):
        b += x
    b += x.detach()
    np.testing.assert_array_equal(b, 2)
    np.testing.assert_array_equal(np.sin(x.detach()), np.sin(a))


# ---------------------------------------------------------------- errors

T = np.ones((3, 4), np.float32)
ERRORS = [
    (lambda: ops.add(T, "a"), TypeError, "add: y has dtype <U1, expected numbers"),
    (lambda: plait.Tensor(T) * 1j, TypeError, "multiply: y has dtype complex128, expected numbers"),
    (lambda: ops.exp(np.array([None])), TypeError, "exp: x has dtype object, expected numbers"),
    (lambda: ops.exp(None), TypeError, "exp: x has dtype object, expected numbers"),
    (lambda: ops.log([[1.0], [1.0, 2.0]]), TypeError, "log: x is not an array: list"),
    (lambda: ops.concat([T, {}]), TypeError, r"concat: arrays\[1\] has dtype object, expected numbers"),
    (lambda: ops.concat([]), ValueError, r"concat: arrays is \[\], expected a list with at least one array"),
    (lambda: ops.concat([T, T[0]]), ValueError, "concat: "),
    (lambda: ops.stack([T, T[0]]), ValueError, "stack: "),
    (lambda: ops.add(T, np.ones(3)), ValueError, r"add: .*\(3,4\) \(3,\)"),
    (lambda: ops.where(T[0, :3] > 0, T, T), ValueError, "where: "),
    (lambda: ops.matmul(T, T), ValueError, r"matmul: y has shape \(3, 4\), expected 4 rows as x has shape \(3, 4\)"),
    (lambda: ops.matmul(T, 2.0), ValueError, "matmul: y is a number, expected at least 1 dimension"),
    (lambda: ops.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 1))), ValueError, "matmul: "),
    (lambda: ops.clip(T), ValueError, "clip: min and max are both None"),
    (lambda: ops.sum(T, axis=2), ValueError, "sum: axis 2 is out of bounds"),
    (lambda: ops.mean(T, axis=2), ValueError, "mean: axis 2 is out of bounds"),
    (lambda: ops.max(T, axis=(0, 0)), ValueError, "max: duplicate value in 'axis'"),
    (lambda: ops.softmax(T, axis=-3), ValueError, "softmax: axis -3 is out of bounds"),
    (lambda: ops.softmax(T, axis=1.0), TypeError, "softmax: "),
    (lambda: ops.reshape(T, (5, -1)), ValueError, r"reshape: .*\(5,newaxis\)|reshape: cannot reshape"),
    (lambda: ops.transpose(T, (0, 0)), ValueError, "transpose: repeated axis"),
    (lambda: ops.transpose(T, (0,)), ValueError, "transpose: axes don't match"),
    (lambda: ops.swapaxes(T, 0, 2), ValueError, "swapaxes: "),
    (lambda: ops.squeeze(T, 0), ValueError, "squeeze: "),
    (lambda: ops.expand_dims(T, 5), ValueError, "expand_dims: "),
    (lambda: ops.split(T, 2), ValueError, "split: "),
    (lambda: plait.Tensor(T)[3], IndexError, "index: index 3 is out of bounds"),
    (lambda: plait.Tensor(T)[0.5], IndexError, "index: only integers"),
    (lambda: plait.Tensor(T)[np.array([0, 7])], IndexError, "index: index 7 is out of bounds"),
    (lambda: plait.Tensor(T)["a"], IndexError, "index: only integers"),
    (lambda: plait.Tensor(T)[T[:, :3] > 0], IndexError, "index: boolean index did not match"),
]


@pytest.mark.parametrize("call, exception, message", ERRORS)
def test_errors(call, exception, message):
    with pytest.raises(exception, match=message):
        call()
