"""What users get wrong, on every row: the right answer, or an exception that names the argument. Never a crash, never
a write to an input, never an output that shares memory with one."""

import functools
import inspect
import re

import attacks
import numpy as np
import pytest
from cases import convert, gradients, load, relative_error, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plait

CASES = load()
each = pytest.mark.parametrize("case", CASES, ids=str)

# An argument of a row may have another name where the row's function builds a Stream or a bias of it.
ALSO_CALLED = {
    "x": ("rows",),
    "rows": ("streams", "table", "samples"),
    "offsets": ("streams",),
    "table": ("rows",),
    "parts": ("offsets",),
    "relative_bias": ("table", "bias", "values"),
    "relative_index": ("index", "bias"),
    "pair_bias": ("values", "bias"),
    "pair_offsets": ("offsets", "bias"),
    "biases": ("bias",),
}


# Arguments that take several kinds, and those that they take.
ALSO_TAKES = {
    "present": ("bool", "int", "float"),
    "times": ("int",),
    "q_times": ("int", "float"),
    "kv_times": ("int", "float"),
    "pair_bias": ("bool", "float"),
    "relative_index": ("a function",),
}


def places(arguments):
    """(argument, index in a list or None, array) of every array among the arguments."""
    for key, value in arguments.items():
        if isinstance(value, np.ndarray):
            yield key, None, value
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, np.ndarray):
                    yield key, i, item


def changed(arguments, key, i, value):
    """The arguments with one array replaced."""
    if i is None:
        return {**arguments, key: value}
    items = list(arguments[key])
    items[i] = value
    return {**arguments, key: items}


def call(case, arguments, want=()):
    """Outputs as arrays."""
    with np.errstate(all="ignore"):
        outputs, _ = run(case, arguments, want)
    return [None if o is None else o.data for o in outputs]


def same(got, expected):
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(g, e)


def names_of(key):
    return (key, *ALSO_CALLED.get(key, ()))


def known(case):
    """Every name that a message about several arguments may use."""
    parameters = [] if isinstance(case.function, functools.partial) else inspect.signature(case.function).parameters
    return {*case.arguments(), *case.options, *parameters}


def refused(case, arguments, keys, exceptions=attacks.EXCEPTIONS, why=""):
    """The call must raise, and the message must say for which of the arguments."""
    try:
        call(case, arguments)
    except exceptions as error:
        named(error, keys, why)
    else:
        pytest.fail(f"{why}: no exception")


def allowed(case, arguments, keys, why=""):
    """The call may succeed; if it raises, the message must say for which of the arguments."""
    try:
        return call(case, arguments)
    except attacks.EXCEPTIONS as error:
        named(error, keys, why)
        return None


def named(error, keys, why):
    if isinstance(error, MemoryError):
        return
    words = set(re.findall(r"\w+", str(error)))
    expected = {name for key in keys for name in names_of(key)}
    assert words & expected, f"{why}: {type(error).__name__}: {error}: does not name any of {sorted(expected)}"


# ---------------------------------------------------------------- the rows' own errors


def made(text, rng):
    """ "float:3,7" or "int:3" -> an array of that dtype and shape; all else is itself."""
    found = re.fullmatch(r"(float|int):([\d,]*)", text) if isinstance(text, str) else None
    if not found:
        return text
    shape = tuple(int(n) for n in found[2].split(",") if n)
    return np.asarray(rng.standard_normal(shape), np.float32) if found[1] == "float" else np.ones(shape, np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", [c for c in CASES if c.errors], ids=str)
def test_errors_of_the_row(case, dtype):
    for change, exception, message in case.errors:
        arguments = case.arguments(dtype)
        change = {k: made(v, np.random.default_rng(0)) for k, v in change.items()}
        options = {**case.options, **{k: v for k, v in change.items() if k not in arguments}}
        arguments |= {k: convert(v, dtype) for k, v in change.items() if k in arguments}
        with pytest.raises(exception) as caught:
            case.function(**arguments, **{k: convert(v, dtype) for k, v in options.items()})
        text = re.sub(r"\bfloat(32|64)\b", "float", str(caught.value))
        assert re.sub(r"\bfloat(32|64)\b", "float", message) in text


# ---------------------------------------------------------------- other forms of the right values


@each
def test_any_layout(case):
    arguments = case.arguments()
    expected = call(case, arguments)
    for key, i, a in places(arguments):
        for name, form in attacks.SAME.items():
            b = form(a)
            if b is None:  # there is no such form of it
                continue
            got = allowed(case, changed(arguments, key, i, b), (key,), name)
            assert got is not None, f"{key} as {name} was refused"
            same(got, expected)


@pytest.mark.parametrize("case", [c for c in CASES if c.grads], ids=str)
def test_gradients_of_any_layout(case):
    arguments = case.arguments()
    outputs, expected = gradients(case, arguments)
    for form in (attacks.strided, attacks.fortran, attacks.misaligned, attacks.swapped):
        moved = {k: convert_with(form, v) if k in case.grads else v for k, v in arguments.items()}
        got_outputs, got = gradients(case, moved)
        same(got_outputs, outputs)
        same(got, expected)


def convert_with(form, value):
    if isinstance(value, list):
        return [convert_with(form, v) for v in value]
    return form(value) if isinstance(value, np.ndarray) else value


@each
def test_other_floats(case):
    """float16 and bfloat16 give the answer of the rounded values; so does float64 among float32."""
    arguments = case.arguments()
    floats = [p for p in places(arguments) if p[2].dtype.kind == "f"]
    for key, i, a in floats:
        for name, dtype in attacks.ROUNDED.items():
            with np.errstate(all="ignore"):
                rounded = a.astype(dtype)
            expected = allowed(case, changed(arguments, key, i, rounded.astype(np.float32)), (key,), name)
            got = allowed(case, changed(arguments, key, i, rounded), (key,), name)
            assert (got is None) == (expected is None)
            if got is not None:
                same(got, expected)
        if len(floats) > 1:
            double = call(case, changed(arguments, key, i, a.astype(np.float64)))
            for d, s in zip(double, call(case, arguments), strict=True):
                np.testing.assert_allclose(d, s, rtol=1e-4, atol=1e-5)


@each
def test_other_integers(case):
    arguments = case.arguments()
    expected = call(case, arguments)
    for key, i, a in places(arguments):
        for name, dtype in attacks.INTEGERS.items():
            if a.dtype.kind in "iu" and np.array_equal(a.astype(dtype), a):
                got = allowed(case, changed(arguments, key, i, a.astype(dtype)), (key,), name)
                assert got is not None, f"{key} as {name} was refused"
                same(got, expected)


@each
def test_inputs_and_outputs_share_nothing(case):
    arguments = case.arguments()
    copies = [a.copy() for _, _, a in places(arguments)]
    outputs, leaves = run(case, arguments)
    arrays = [a for _, _, a in places(arguments)]
    for o in outputs:
        for a in arrays:
            assert case.op == "ops.dropout" or not np.shares_memory(o.data, a)  # dropout may be no operation
    wanted = [o for o in outputs if o.requires_grad]
    douts = [np.ones_like(o.data) for o in wanted]
    for o, d in zip(wanted, douts, strict=True):
        total = (o * d).sum()
        wanted[0] = total if o is wanted[0] else wanted[0] + total
    if wanted:
        wanted[0].backward()
    for t in leaves:
        if t.grad is not None:
            for other in (*arrays, *douts, *[o.data for o in outputs]):
                assert not np.shares_memory(t.grad, other)
    for a, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, copy)
        assert a.flags.writeable
    for d in douts:
        np.testing.assert_array_equal(d, 1)


# ---------------------------------------------------------------- what must be refused


@each
def test_wrong_kinds(case):
    arguments = case.arguments()
    for key, i, a in places(arguments):
        for name, value in attacks.wrong_kinds(a).items():
            if name in ALSO_TAKES.get(key, ()):
                continue
            for tensor in (False, True):
                if tensor and not isinstance(value, np.ndarray):
                    continue
                try:
                    value = plait.Tensor(value) if tensor else value
                except TypeError:
                    continue
                given_arguments = changed(arguments, key, i, value)
                refused(case, given_arguments, (key,), (TypeError, ValueError), f"{key} as {name}")


@each
def test_missing(case):
    arguments = case.arguments()
    for n, (key, i, _) in enumerate(places(arguments)):
        given_arguments = changed(arguments, key, i, None)
        if n == 0:
            refused(case, given_arguments, known(case), why=f"{key} is None")
        else:
            allowed(case, given_arguments, known(case), f"{key} is None")


@each
def test_wrong_shapes(case):
    arguments = case.arguments()
    for key, i, a in places(arguments):
        for name, value in attacks.shapes(a).items():
            allowed(case, changed(arguments, key, i, value), known(case), f"{key} {name}")


@each
def test_huge_shapes(case):
    arguments = case.arguments()
    for key, i, a in places(arguments):
        for name, value in attacks.huge(a).items():
            refused(case, changed(arguments, key, i, value), known(case), why=f"{key} {name}")
        if a.ndim > 1:
            value = np.zeros((2**50, *(0,) * (a.ndim - 1)), a.dtype)
            allowed(case, changed(arguments, key, i, value), known(case), f"{key} huge and empty")


@each
def test_broken_offsets(case):
    arguments = case.arguments()
    for key, i, a in places(arguments):
        if "offsets" in key and a.dtype.kind == "i":
            for name, value in attacks.broken_offsets(a).items():
                refused(case, changed(arguments, key, i, value), known(case), why=f"{key} {name}")
            whole = {k: v for k, v in arguments.items()}
            refused(case, changed(whole, key, i, a.astype(np.float32)), (key,), why=f"{key} as floats")


@each
def test_special_values(case):
    arguments = case.arguments()
    for key, i, a in places(arguments):
        if a.dtype.kind == "f" and a.size:
            for value in (np.nan, np.inf, -np.inf, 3e38, 1e-45):
                for everywhere in (False, True):
                    b = a.copy()
                    b.reshape(-1)[:: 1 if everywhere else 3] = value
                    allowed(case, changed(arguments, key, i, b), known(case), f"{key} with {value}")
        elif a.dtype.kind in "iu" and a.size:
            for value in (-1, 2**31, 2**63 - 1, -(2**63)):
                b = a.copy()
                b.reshape(-1)[-1] = value
                allowed(case, changed(arguments, key, i, b), known(case), f"{key} with {value}")


# ---------------------------------------------------------------- random shapes

OPERATORS = list(
    {(case.op, tuple(k for k, v in case.arguments().items() if v is not None)): case for case in CASES}.values()
)
SIZES = st.integers(0, 5)


@pytest.mark.parametrize("case", OPERATORS, ids=str)
def test_random_shapes(case):
    """Any shapes and small integers: float32 and its twin accept the same calls and agree, and neither crashes."""
    arguments = case.arguments(np.float64)
    where = list(places(arguments))

    @given(data=st.data())
    @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def attack(data):
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        attacked = dict(arguments)
        for key, i, a in data.draw(st.lists(st.sampled_from(where), min_size=1, max_size=3)):
            shape = list(a.shape)
            for _ in range(data.draw(st.integers(1, 2))):
                axis = data.draw(st.integers(-1, a.ndim - 1))
                if axis < 0:
                    shape = data.draw(st.lists(SIZES, max_size=3))
                elif axis < len(shape):
                    shape[axis] = max(0, shape[axis] + data.draw(st.integers(-2, 2)))
            if a.dtype.kind == "f":
                value = rng.standard_normal(shape)
            elif a.dtype.kind == "b":
                value = rng.random(shape) < 0.5
            else:
                value = np.sort(rng.integers(-1, 9, shape), axis=-1) if len(shape) else rng.integers(0, 9, shape)
            attacked = changed(attacked, key, i, value)
        single = allowed(case, convert(attacked, np.float32), known(case), "float32")
        double = allowed(case, attacked, known(case), "float64")
        assert (single is None) == (double is None)
        if single is not None:
            for s, d in zip(single, double, strict=True):
                assert relative_error(s, d) <= 1e-4

    attack()
