"""How an operator of the C core meets the tape: the one way in for every wrapper in this folder."""

from __future__ import annotations

import contextlib
import itertools
import threading
import warnings

import numpy as np

from plait import _core, reference
from plait._array import F32
from plait.tensor import Node, Tensor, _mode


class _Draws(threading.local):
    noted = None  # a list of what this thread draws
    again = None  # an iterator over what it draws once more


class _Generator:
    """Random bits are named, not drawn: a key for the process, a counter for each call."""

    def __init__(self):
        self.seed(0)
        self._draws = _Draws()

    def seed(self, n):
        self.key = n
        self.counter = itertools.count()
        self.values = np.random.default_rng(n)  # for initial values

    def draw(self):
        """(key, counter): the name of the next bits."""
        draws = self._draws
        if draws.again is None:
            name = self.key, next(self.counter)
        else:
            name = next(draws.again, None)
            if name is None:
                raise RuntimeError("checkpoint: the function draws more random bits than the first time")
        if draws.noted is not None:
            draws.noted.append(name)
        return name

    @contextlib.contextmanager
    def noting(self, again=None):
        """A list that fills with what this thread draws inside; with `again`, such a list, it draws that once more."""
        draws, drawn = self._draws, []
        before = draws.noted, draws.again
        draws.noted, draws.again = drawn, before[1] if again is None else iter(again)
        try:
            yield drawn
        finally:
            draws.noted, draws.again = before
            if again is None and before[0] is not None:
                before[0].extend(drawn)


generator = _Generator()


def seed(n: int) -> None:
    """Seeds everything random in plait: dropout, and the initial values of modules made from then on.

    ``plait.nn.init.seeded`` and the seeds of ``create_model`` and ``load`` are apart from it. Without a call it is 0.

    Parameters
    ----------
    n : int
        At least 0 and below 2**64.

    Examples
    --------
    >>> import plait
    >>> plait.seed(0)
    >>> a = plait.nn.Linear(2, 2)
    >>> plait.seed(0)
    >>> bool((plait.nn.Linear(2, 2).weight.data == a.weight.data).all())
    True
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"seed: n is {n!r}, expected a whole number")
    if not 0 <= n < 2**64:
        raise ValueError(f"seed: n is {n}, expected 0 to 2**64 - 1")
    generator.seed(int(n))


def tensor(array, node=None, index=0):
    """A tensor over an output of a call, without the checks that an array of the user's needs."""
    t = _new(Tensor)
    t._data = array
    t._grad = None
    t._node = node
    t._index = index
    t.requires_grad = node is not None and array.dtype.kind == "f"
    return t


_new = Tensor.__new__


def wrap(outputs, node):
    """Tensors over the outputs of a call, None for one that this call does not have; one tensor when there is one."""
    if len(outputs) == 1:
        return tensor(outputs[0], node)
    return tuple([None if array is None else tensor(array, node, i) for i, array in enumerate(outputs)])


def apply(op, inputs, attrs=None, key=0, counter=0):
    """Calls an operator of the core on tensors and arrays, and records it when an input needs a gradient.

    Parameters
    ----------
    op : plait._core.Operator
    inputs : tuple
        One entry an input of the operator: Tensor, array or None.
    attrs : dict
        Every attribute of the operator, by name.
    key, counter : int
        Names of the random bits.
    """
    arrays, packs, want, double = _gather(inputs)
    if double:
        return _twin(op, arrays, *_watch(inputs, want), want, attrs, key, counter)
    outputs, record = op(tuple(arrays), want, attrs, key, counter, packs)
    if record is None:
        return wrap(outputs, None)
    leaves, watched = _watch(inputs, want)
    return wrap(outputs, Node(op.name, leaves, record.backward, len(outputs), True, watched))


def _gather(inputs):
    """Arrays and packs of a call, which inputs want a gradient, and whether the twin is due: all floats are float64."""
    arrays, packs, want, double, single = [None] * len(inputs), None, 0, False, False
    recording = _mode.enabled
    for i, t in enumerate(inputs):
        if t is None:
            continue
        a = t
        if isinstance(t, Tensor):
            a = t._data
            if recording and t.requires_grad:
                want |= 1 << i
            if t.version is not None:  # a parameter: float32
                arrays[i] = a
                single = True
                if t.pack is not None:
                    if packs is None:
                        packs = [None] * len(inputs)
                    packs[i] = t.pack
                continue
        arrays[i] = a
        if isinstance(a, np.ndarray):
            dtype = a.dtype
            if dtype is F32:
                single = True
            elif dtype.char == "d":
                double = True
            elif dtype.kind in "fV":
                single = True
    return arrays, None if packs is None else tuple(packs), want, double and not single


def chain(rows, calls):
    """Calls of the core in a row: each has what the one before gave as its first input, `rows` being the first one.

    Equal to ``apply`` on each; one call of the core, without Python in between, where nothing is recorded.

    Parameters
    ----------
    rows : Tensor or array
    calls : list of (plait._core.Operator, tuple, dict)
        Inputs after the first one, and attributes. Output and first input have one shape, and nothing is random.
    """
    first, links = rows._data if isinstance(rows, Tensor) else rows, []
    if type(first) is np.ndarray and first.dtype is F32 and first.flags.c_contiguous and first.flags.aligned:
        for op, inputs, attrs in calls:
            arrays, packs, want, _ = _gather((rows, *inputs))
            if want:
                break
            arrays[0] = first
            links.append((op, tuple(arrays), attrs, packs))
    if calls and len(links) == len(calls):
        return tensor(_core.chain(tuple(links)))
    for op, inputs, attrs in calls:
        rows = apply(op, (rows, *inputs), attrs)
    return rows


def _watch(inputs, want):
    """What a node keeps: the inputs that get gradients, and parameters with the version that was read."""
    leaves = [t if want >> i & 1 else None for i, t in enumerate(inputs)]
    return leaves, [(t, t.version) for t in inputs if isinstance(t, Tensor) and t.version is not None]


# ---------------------------------------------------------------- float64: the twin

_said = False


def _twin(op, arrays, leaves, watched, want, attrs, key, counter):
    global _said
    if not _said and not _mode.twin_expected:
        _said = True
        warnings.warn("float64 input runs the NumPy twin, which is slow; pass float32 for speed", stacklevel=4)
    op.check(tuple(arrays), attrs)  # the twin is for reading and checks nothing
    arrays = [None if a is None else np.asarray(a) for a in arrays]
    ports = op.ports
    names = [name for name, _ in ports]
    if op.repeated:  # lists
        arguments = {name: arrays[i :: len(ports)] for i, name in enumerate(names)}
    else:
        arguments = dict(zip(names, arrays, strict=True))
    arguments.update(attrs or {})
    if op.random:
        arguments.update(key=key, counter=counter)
    forward = getattr(reference, op.name)
    backward = getattr(reference, op.name + "_backward")
    outputs = forward(**arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    if not want:
        return wrap(outputs, None)
    lock = _core.Lock(*[a for a in arrays if a is not None])

    def run(douts, dins, wanted, accumulate, lock=lock):
        douts = tuple(np.zeros_like(o) if d is None else d for o, d in zip(outputs, douts, strict=True))
        return backward(douts[0] if len(douts) == 1 else douts, **arguments)

    return wrap(outputs, Node(op.name, leaves, run, len(outputs), False, watched))


operators = _core.operators
