"""The table that drives the operator tests: one row a case, kept by area in ``tests/rows``.

A row names a public function, makes its inputs, and says which of them have gradients. Everything else follows: the
function runs on float32 in the C core and, with the same arguments in float64, on its twin; gradients of both are
compared, the twin's against central differences; layouts, dtypes, errors, leaks, threads, allocation failures and
batch mates are tried on every row.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import rows

import plait


@dataclass(frozen=True)
class Case:
    """One row.

    Parameters
    ----------
    name : str
        Unique; the operator's name, then what is special about the row.
    op : str
        Dotted path below ``plait``: "ops.linear", "losses.info_nce".
    inputs : callable
        rng -> dict of keyword arguments that are arrays; floats in float64, indices and offsets in int64. An argument
        may be a list of arrays (operators with repeated inputs) or None.
    options : dict
        Keyword arguments that are not arrays.
    grads : tuple of str
        Inputs that have a gradient. For a list argument every entry has one.
    errors : tuple
        (changed arguments, exception, part of the message): calls that must fail.
    tolerance : float
        Largest relative error (norm) of float32 against the twin.
    samples : str
        Name of the offsets argument when rows of one sample do not depend on other samples: enables batch-mate tests.
    """

    name: str
    op: str
    inputs: Callable[[np.random.Generator], dict]
    options: dict = field(default_factory=dict)
    grads: tuple = ()
    errors: tuple = ()
    tolerance: float = 1e-5
    samples: str | None = None

    @property
    def function(self):
        target = plait
        for part in self.op.split("."):
            target = getattr(target, part)
        return target

    def arguments(self, dtype=np.float32, seed=0):
        """The arrays, floats in the given dtype."""
        return convert(self.inputs(np.random.default_rng(seed)), dtype)

    def __str__(self):
        return self.name


def convert(value, dtype):
    """Floating arrays inside dicts and lists, in another dtype."""
    if isinstance(value, dict):
        return {k: convert(v, dtype) for k, v in value.items()}
    if isinstance(value, list):
        return [convert(v, dtype) for v in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(dtype)
    return value


def offsets(*lengths):
    """Row offsets of samples with these lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def run(case, arguments, want=None, seed=7):
    """Calls the row's function on tensors; returns (outputs, leaves), both in order."""
    plait.seed(seed)
    want = case.grads if want is None else want
    leaves, call = [], {}

    def leaf(value):
        tensor = plait.Tensor(value, requires_grad=True)
        leaves.append(tensor)
        return tensor

    for key, value in arguments.items():
        if key in want and value is not None:
            value = [leaf(v) for v in value] if isinstance(value, list) else leaf(value)
        call[key] = value
    outputs = case.function(**call, **case.options)
    return (outputs if isinstance(outputs, tuple) else (outputs,)), leaves


def output_gradients(outputs, seed=99):
    """Random gradients of the outputs, the same whatever the dtype."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(o.shape)).astype(o.dtype) for o in outputs]


def pull_back(outputs, douts):
    """Runs backward of sum(dout * output)."""
    total = None
    for output, dout in zip(outputs, douts, strict=True):
        if not output.requires_grad:
            continue
        if len(outputs) == 1:
            output.backward(dout)
            break
        part = (output * dout).sum()
        total = part if total is None else total + part
    if total is not None:
        total.backward()


def gradients(case, arguments, douts=None, seed=7, want=None):
    """Outputs and gradients of sum(dout * output) as arrays."""
    outputs, leaves = run(case, arguments, want, seed)
    pull_back(outputs, output_gradients(outputs) if douts is None else douts)
    grads = [np.zeros_like(t.data) if t.grad is None else t.grad for t in leaves]
    return [o.data for o in outputs], grads


def relative_error(got, expected):
    """Norm of the difference over the norm of what is expected (of ones, where that is tiny)."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    floor = 1e-3 * max(expected.size, 1) ** 0.5
    return float(np.linalg.norm(got - expected) / max(np.linalg.norm(expected), floor))


CASES: list[Case] = []


def load():
    """All rows of all areas, once."""
    if not CASES:
        for module in sorted(pkgutil.iter_modules(rows.__path__), key=lambda m: m.name):
            CASES.extend(importlib.import_module(f"rows.{module.name}").ROWS)
        names = [case.name for case in CASES]
        assert len(set(names)) == len(names), "row names must be unique"
    return CASES
