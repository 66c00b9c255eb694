"""The tape: order, accumulation, freeing, locks, no_grad, and what happens when something raises."""

import gc
import threading
import weakref

import numpy as np
import pytest

import plait
from plait import _core, ops
from plait.nn.parameter import Parameter

RNG = np.random.default_rng(0)


def leaf(*shape, dtype=np.float32):
    return plait.Tensor(RNG.standard_normal(shape).astype(dtype), requires_grad=True)


# ---------------------------------------------------------------- graphs


def test_a_tensor_used_many_times():
    x = leaf(4, 3)
    total = x * 0.0
    for i in range(50):
        total = total + x * float(i)
    total.sum().backward()
    np.testing.assert_allclose(x.grad, sum(range(50)), rtol=1e-6)


@pytest.mark.parametrize("function", [ops.add, ops.multiply, ops.maximum, lambda a, b: ops.concat([a, b])])
def test_the_same_tensor_twice_in_one_call(function):
    x = leaf(3, 2, dtype=np.float64)
    y = plait.Tensor(x.data.copy(), requires_grad=True)
    w = RNG.standard_normal(function(x, y).shape)
    (function(x, x) * w).sum().backward()
    z = plait.Tensor(x.data.copy(), requires_grad=True)
    (function(y, z) * w).sum().backward()
    np.testing.assert_allclose(x.grad, y.grad + z.grad, rtol=1e-12)


@pytest.mark.parametrize("inner", [False, True])
def test_the_same_tensor_twice_in_one_operator_of_the_core(inner):
    """x x^T by the linear layer: both gradients land in one place, as a leaf's and as an inner tensor's."""
    a = RNG.standard_normal((5, 5)).astype(np.float32)
    for start in (None, np.ones((5, 5), np.float32)):
        x = plait.Tensor(a, requires_grad=True)
        x.grad = start
        h = ops.relu(x + 10.0) if inner else x
        ops.linear(h, h).sum().backward()
        value = a + 10 if inner else a
        expected = np.ones((5, 5)) @ value + np.ones((5, 5)).T @ value + (0 if start is None else start)
        np.testing.assert_allclose(x.grad, expected, rtol=1e-4, atol=1e-4)


def test_diamond_with_operators_of_the_core_and_arithmetic():
    x = leaf(6, 4)
    w = leaf(4, 4)
    h = ops.linear(x, w)
    left, right = ops.relu(h), h * 2.0
    (left * right + ops.linear(h, w) + h).sum().backward()
    h_ = x.data.astype(np.float64) @ w.data.astype(np.float64).T
    dh = 4.0 * np.maximum(h_, 0) + np.ones_like(h_) @ w.data + 1
    np.testing.assert_allclose(x.grad, dh @ w.data, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(w.grad, dh.T @ x.data + np.ones_like(h_).T @ h_, rtol=1e-4, atol=1e-4)


def test_gradients_of_any_layout_meet_operators_of_the_core():
    """Transposed, broadcast and zero-dimensional gradients arrive where an operator would like to add in place."""
    x = leaf(4, 4)
    h = ops.relu(x + 5.0)
    (h.T.sum() + h.T[0].sum() + ops.linear(h, np.eye(4, dtype=np.float32)).sum() + (h.T * h.T).sum()).backward()
    expected = 2.0 + 2 * (x.data + 5)
    expected[:, 0] += 1
    np.testing.assert_allclose(x.grad, expected, rtol=1e-5)
    s = plait.Tensor(np.float32(2.0), requires_grad=True)
    t = ops.relu(s * 1.0)
    (t * t + t + ops.relu(t)).backward()
    assert isinstance(s.grad, np.ndarray) and s.grad == 6


def test_leaves_of_float64_among_float32():
    x = leaf(3, 4, dtype=np.float64)
    w = leaf(2, 4)
    y = ops.linear(x, w)
    assert y.dtype == np.float32
    (y.sum() + (x * x).sum()).backward()
    np.testing.assert_allclose(x.grad, w.data.sum(0) + 2 * x.data, rtol=1e-5)
    assert (x * plait.Tensor(np.ones((3, 4), np.float32))).dtype == np.float32
    assert (x * 2.5).dtype == np.float64


def test_float64_sums_are_no_place_for_operators_of_the_core():
    """Inner gradients in float64 have been added up when an operator that ran in float32 wants to add its own."""
    x, w = leaf(3, 4, dtype=np.float64), leaf(2, 4)
    h = x * 2.0
    y = ops.linear(h, w)
    z = (h * h).sum() + (h * 3.0).sum()
    (z + y.sum()).backward()
    np.testing.assert_allclose(x.grad, 2 * (4 * x.data + 3 + w.data.sum(0)), rtol=1e-5)


def test_no_gradient_is_shared():
    """One array is the gradient of both terms of a sum: each leaf gets its own."""
    a, b, dout = leaf(3, 4), leaf(3, 4), np.ones((3, 4), np.float32)
    (a + b).backward(dout)
    assert not np.shares_memory(a.grad, b.grad) and not np.shares_memory(a.grad, dout)
    ops.relu(a + 10.0).sum().backward()
    np.testing.assert_array_equal(a.grad, 2)
    np.testing.assert_array_equal(b.grad, 1)
    np.testing.assert_array_equal(dout, 1)


@pytest.mark.parametrize("step", [lambda y: y * 1.0, ops.relu], ids=["arithmetic", "core"])
def test_long_chains(step):
    x = leaf(3)
    y = x + 10.0
    for _ in range(10_000):
        y = step(y)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, 1)
    y = x + 10.0
    for _ in range(10_000):
        y = step(y)
    del y  # without backward: the chain is taken down without recursion too


# ---------------------------------------------------------------- freeing


def build(x, w, seen):
    """Something of everything; weak references to the arrays in between go to ``seen``."""

    def note(t):
        seen.append(weakref.ref(t))
        seen.append(weakref.ref(t.data))
        return t

    h = note(ops.linear(x, w, activation="gelu"))
    h = note(ops.exp(note(h * 0.5)))
    a, b = ops.split(h, 2, axis=1)
    h = note(ops.concat([note(a), note(b)], axis=1))
    h = note(ops.softmax(h)) + note(h[np.array([0, 0, 1])]).mean(axis=0)
    return ops.log(note(h)).sum()


def test_backward_frees_what_lies_between():
    x, w, seen = leaf(4, 6), leaf(8, 6), []
    loss = build(x, w, seen)
    loss.backward()
    assert all(r() is None for r in seen)
    loss.data, x.grad  # noqa: B018  (what the user holds stays)


def test_no_cycles():
    x, w = leaf(4, 6), leaf(8, 6)
    gc.collect()
    gc.disable()
    try:
        for after in (lambda t: None, lambda t: t.backward()):
            seen = []
            loss = build(x, w, seen)
            after(loss)
            del loss
            assert all(r() is None for r in seen)
            assert gc.collect() == 0
    finally:
        gc.enable()


def test_the_pool_is_flat():
    x, w = leaf(64, 96), leaf(96, 96)

    def step():
        (ops.linear(x, w, activation="relu") * ops.exp(x * 0.1)).sum().backward()
        x.grad = w.grad = None

    step()
    before = _core.counters()["pool_used_bytes"]
    for _ in range(20):
        step()
    assert _core.counters()["pool_used_bytes"] == before


# ---------------------------------------------------------------- locks


LOCKING = {
    "core": lambda x: ops.linear(x, np.ones((2, 3), np.float32)),
    "twice": lambda x: x * x,
    "exp": lambda x: ops.exp(x * 1.0).log(),
    "log": lambda x: x.log(),
    "divide": lambda x: 1.0 / x,
    "power": lambda x: x**3,
    "maximum": lambda x: ops.maximum(x, 0.5),
    "matmul": lambda x: x @ np.ones((3, 2), np.float32),
    "max": lambda x: x.max(axis=0),
}


@pytest.mark.parametrize("name", LOCKING)
def test_recorded_arrays_are_read_only_until_backward(name):
    array = np.abs(RNG.standard_normal((4, 3))).astype(np.float32) + 0.5
    x = plait.Tensor(array, requires_grad=True)
    for ending in ("backward", "drop"):
        out = LOCKING[name](x).sum()
        if name != "exp":  # it keeps its output in place of its input
            with pytest.raises(ValueError, match="read-only"):
                x.data[0, 0] = 1
            with pytest.raises(ValueError, match="read-only"):
                array += 1
        if ending == "backward":
            out.backward()
        del out
        x.data[0, 0] = array[0, 0]
        assert array.flags.writeable


def test_what_an_operator_keeps_of_its_output_is_read_only():
    x = leaf(3)
    y = ops.exp(x)
    with pytest.raises(ValueError, match="read-only"):
        y.data[0] = 0
    y.sum().backward()
    y.data[0] = 0


def test_locks_count():
    """An array stays read-only until the last of its records is gone; one that was read-only before stays so."""
    array = np.ones((3, 3), np.float32)
    x = plait.Tensor(array, requires_grad=True)
    first, second, third = ops.relu(x), x * x, ops.linear(x, x)
    for out in (first, second, third):
        assert not array.flags.writeable
        out.sum().backward()
    assert array.flags.writeable
    array.flags.writeable = False
    (x * x).sum().backward()
    assert not array.flags.writeable


def test_many_locks_at_once():
    """The table of locks grows and shrinks without losing one."""
    arrays = [np.ones(2, np.float32) for _ in range(3000)]
    order = RNG.permutation(3000)
    locks = {i: (_core.Lock(arrays[i]), _core.Lock(arrays[i], arrays[0])) for i in order}
    assert not any(a.flags.writeable for a in arrays)
    for i in RNG.permutation(order[order != 0]):
        del locks[i]
        assert arrays[i].flags.writeable
    assert not arrays[0].flags.writeable
    locks.clear()
    assert arrays[0].flags.writeable
    with pytest.raises(TypeError, match="no array"):
        _core.Lock(arrays[0], 1)
    assert arrays[0].flags.writeable


def test_an_input_without_gradient_is_locked_too():
    w = np.ones((2, 3), np.float32)
    y = leaf(4, 3) @ w.T.copy()
    x, c = leaf(4, 3), np.ones((4, 3), np.float32)
    y = x * c
    with pytest.raises(ValueError, match="read-only"):
        c[0] = 2
    y.sum().backward()
    c[0] = 2


# ---------------------------------------------------------------- backward


def test_second_backward_raises():
    x = leaf(3)
    loss = (ops.relu(x) * 2.0).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="sum: backward ran already"):
        loss.backward()
    h = ops.relu(x)
    (h * 2.0).sum().backward()
    with pytest.raises(RuntimeError, match="activation: backward ran already"):
        (h * 3.0).sum().backward()


def test_leaf_gradients_accumulate():
    x = leaf(4, 3)
    for i in range(1, 4):
        ops.relu(x + 10.0).sum().backward()
        np.testing.assert_array_equal(x.grad, i)
    mine = np.full((4, 3), 5.0)
    x.grad = mine
    (x * 1.0).sum().backward()
    np.testing.assert_array_equal(x.grad, 6)
    np.testing.assert_array_equal(mine, 5)  # what the user handed in is not written to
    x.backward(np.ones((4, 3)))
    np.testing.assert_array_equal(x.grad, 7)
    x.grad = None
    assert x.grad is None


@pytest.mark.parametrize("order", ["C", "F", "read-only"])
def test_any_gradient_can_be_added_to(order):
    x = leaf(4, 3)
    (x.T * np.ones((3, 4), np.float32)).sum().backward()
    if order == "read-only":
        x.grad.flags.writeable = False
    elif order == "F":
        x.grad = np.asfortranarray(x.grad)
    ops.relu(x + 10.0).sum().backward()
    np.testing.assert_array_equal(x.grad, 2)
    ops.linear(x, np.eye(3, dtype=np.float32)).sum().backward()
    np.testing.assert_array_equal(x.grad, 3)


def test_backward_of_several_elements_needs_grad():
    x = leaf(4, 3)
    with pytest.raises(ValueError, match=r"backward: a tensor of shape \(4, 3\) needs `grad`"):
        (x * 2.0).backward()
    with pytest.raises(ValueError, match=r"backward: grad has shape \(3,\), expected \(4, 3\)"):
        (x * 2.0).backward(np.ones(3))
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        x.detach().backward()
    (x * 2.0).backward(plait.Tensor(np.ones((4, 3))))
    np.testing.assert_array_equal(x.grad, 2)
    with pytest.raises(ValueError, match=r"grad: value has shape \(2,\), expected \(4, 3\)"):
        x.grad = np.ones(2)
    with pytest.raises(TypeError, match="grad: value has dtype <U1"):
        x.grad = "a"


@pytest.mark.parametrize("trained", [True, False])
def test_a_parameter_changed_between_forward_and_backward(trained):
    p = Parameter(RNG.standard_normal((3, 3)), requires_grad=trained)
    x = leaf(2, 3)
    for function in (ops.linear, ops.matmul):
        out = function(x, p).sum()
        p.assign(p.data * 2)
        with pytest.raises(RuntimeError, match=r"parameter of shape \(3, 3\) was changed since forward"):
            out.backward()


def test_a_parameter_twice_in_one_call():
    """Its old gradient is overwritten by one of the two and added to by the other."""
    p = Parameter(RNG.standard_normal((4, 4)))
    expected = np.ones((4, 4)) @ p.data + np.ones((4, 4)).T @ p.data
    for _ in range(3):
        ops.linear(p, p).sum().backward()
        np.testing.assert_allclose(p.grad, expected, rtol=1e-5)
        p.zero_grad()


def test_a_parameter_keeps_its_gradient_memory():
    p = Parameter(np.ones((3, 3)))
    for _ in range(2):
        ops.linear(ops.linear(leaf(2, 3), p), p).sum().backward()
        memory, value = p.grad, p.grad.copy()
        (p * 1.0).sum().backward()
        assert p.grad is memory
        np.testing.assert_allclose(p.grad, value + 1, rtol=1e-6)
        p.zero_grad()
        assert p.grad is None


# ---------------------------------------------------------------- exceptions


class Broken(Exception):
    pass


def test_an_exception_inside_backward():
    """What ran is freed, what did not can be dropped or run, other graphs and the locks are whole."""

    def fail(saved, dy):
        raise Broken

    identity = plait.operator(lambda x: (x * 1, None), fail)
    array = np.ones((2, 2), np.float32)
    x, other = plait.Tensor(array, requires_grad=True), leaf(2, 2)
    h = ops.relu(x)
    beside = (other * other).sum()
    out = (identity(h) * ops.linear(h, array)).sum()
    with pytest.raises(Broken):
        out.backward()
    with pytest.raises(RuntimeError, match="ran already"):
        out.backward()
    beside.backward()
    np.testing.assert_allclose(other.grad, 2 * other.data)
    x.grad = None
    h.backward(np.ones((2, 2)))  # relu was not reached
    np.testing.assert_array_equal(x.grad, 1)
    del out, h
    gc.collect()  # the traceback holds frames
    assert array.flags.writeable


def test_memory_that_runs_out_inside_backward():
    x, w = leaf(8, 16), leaf(24, 16)
    expected = np.ones((8, 24)) @ w.data
    failures = 0
    for nth in range(1, 30):
        out = ops.linear(x, w).sum()
        _core.empty_cache()
        _core.fail_at(nth)
        try:
            out.backward()
        except MemoryError:
            failures += 1
        finally:
            _core.fail_at(0)
        x.grad = w.grad = None
    assert failures
    out = ops.linear(x, w).sum()
    out.backward()
    np.testing.assert_allclose(x.grad, expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- no_grad


def test_no_grad_nests():
    x = leaf(3)
    with plait.no_grad():
        with plait.no_grad():
            assert not (x * 2.0).requires_grad
        assert not ops.relu(x).requires_grad
    assert (x * 2.0).requires_grad
    again = plait.no_grad()
    with again, again:
        assert not (x * 2.0).requires_grad
    assert ops.relu(x).requires_grad
    with pytest.raises(Broken), plait.no_grad():
        raise Broken
    assert (x * 2.0).requires_grad


def test_no_grad_decorates():
    x = leaf(3)

    @plait.no_grad()
    def called(depth):
        return called(depth - 1) if depth else x * 2.0

    @plait.no_grad
    def bare():
        """Kept."""
        return x * 2.0

    assert not called(3).requires_grad
    assert not bare().requires_grad
    assert bare.__doc__ == "Kept."
    assert (x * 2.0).requires_grad


def test_no_grad_is_per_thread():
    x, seen = leaf(3), {}
    inside, release = threading.Event(), threading.Event()
    shared = plait.no_grad()

    def other():
        with shared:
            inside.set()
            release.wait(10)
            seen["other"] = (x * 2.0).requires_grad
        seen["after"] = (x * 2.0).requires_grad

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    seen["main"] = (x * 2.0).requires_grad
    with shared:
        release.set()
        thread.join()
        seen["main inside"] = (x * 2.0).requires_grad
    seen["main after"] = (x * 2.0).requires_grad
    assert seen == {"other": False, "after": True, "main": True, "main inside": False, "main after": True}


def test_threads_do_not_disturb_each_other():
    def work(seed, results):
        rng = np.random.default_rng(seed)
        w = plait.Tensor(rng.standard_normal((8, 8)).astype(np.float32), requires_grad=True)
        for _ in range(20):
            x = rng.standard_normal((4, 8)).astype(np.float32)
            ops.tanh(ops.linear(x, w) * 0.5).sum().backward()
        results[seed] = w.grad

    alone, together = {}, {}
    for seed in range(4):
        work(seed, alone)
    threads = [threading.Thread(target=work, args=(seed, together)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for seed in range(4):
        np.testing.assert_allclose(together[seed], alone[seed], rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- Tensor


def test_what_a_tensor_takes():
    assert plait.Tensor([1, 2]).dtype.kind == "i"
    assert plait.Tensor([1.0]).dtype == np.float32
    assert plait.Tensor(np.ones(2)).dtype == np.float64
    assert type(plait.Tensor(np.ones((1, 1)).view(np.matrix)).data) is np.ndarray
    for data, message in [
        (np.array([1 + 2j]), "Tensor: data has dtype complex128, expected numbers"),
        (np.array([None]), "Tensor: data has dtype object, expected numbers"),
        ("abc", "Tensor: data has dtype <U3"),
        (np.ma.masked_array([1.0, 2.0], [0, 1]), "Tensor: data has masked elements"),
        ([[1.0], [1.0, 2.0]], "Tensor: data is not an array: list"),
        (np.zeros(1, "datetime64[s]"), "Tensor: data has dtype datetime64"),
        (np.zeros(1, [("a", "f4")]), "Tensor: data has dtype"),
    ]:
        with pytest.raises(TypeError, match=message.replace("[", r"\[")):
            plait.Tensor(data)
    with pytest.raises(TypeError, match="only floating data can require a gradient, got int64"):
        plait.Tensor([1], requires_grad=True)


def test_copies_and_views():
    x = leaf(3)
    kept = x.numpy()
    kept[:] = 0
    assert x.data.any() and np.asarray(x).base is not x.data
    assert float(plait.Tensor(2.5)) == 2.5 and int(plait.Tensor(2)) == 2 and plait.Tensor([[3.0]]).item() == 3
    assert len(leaf(4, 2)) == 4 and [r.shape for r in leaf(2, 3)] == [(3,), (3,)]
    with pytest.raises(TypeError):
        len(plait.Tensor(1.0))
    assert x in [x] and {x: 1}[x] == 1
