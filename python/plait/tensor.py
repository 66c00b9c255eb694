"""The tape: ``Tensor``, ``Node`` and ``no_grad``.

A tensor wraps an ndarray. The output of an operator holds the node that made it, a node holds its inputs: there is no
global list and no cycle, so what the user drops is freed at once. ``_walk.py`` has what ``backward`` does.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import Any

import numpy as np

from plait._array import F32, is_place, plain_array
from plait._walk import walk

__all__ = ["Node", "Tensor", "grad_enabled", "no_grad"]


class _Mode(threading.local):
    enabled = True
    twin_expected = False  # float64 input is meant, as in gradcheck: no warning that it is slow

    def __init__(self):
        self.before = []  # what no_grad has to bring back


_mode = _Mode()
_order = itertools.count()


def grad_enabled() -> bool:
    """Whether operators record on this thread."""
    return _mode.enabled


class no_grad(contextlib.ContextDecorator):
    """Context manager and decorator: operators on this thread record nothing.

    Examples
    --------
    >>> import plait
    >>> x = plait.Tensor([1.0, 2.0], requires_grad=True)
    >>> with plait.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __new__(cls, function=None):
        self = super().__new__(cls)
        return self if function is None else self(function)  # also as a bare decorator

    def __enter__(self):
        _mode.before.append(_mode.enabled)
        _mode.enabled = False
        return self

    def __exit__(self, *error):
        _mode.enabled = _mode.before.pop()
        return False


class Node:
    """One operator call on the tape.

    ``run(douts, dins, wanted, accumulate)`` returns a gradient for each input. ``fresh`` says that the arrays it
    returns belong to nobody else, and that it can write or add into ``dins`` itself; other nodes get no ``dins``.
    ``watched`` are the inputs that count their writes, trained or not, with their counts. The ``run()`` of a node that
    ``expands`` makes its outputs again, recorded, and they take its place on the tape; it also gives a node to visit
    when backward is through with them.
    """

    __slots__ = ("fresh", "inputs", "n_out", "name", "order", "run", "watched")
    expands = False

    def __init__(self, name, inputs, run, n_out, fresh, watched=()):
        self.name = name
        self.inputs = inputs  # a Tensor where a gradient is due, else None
        self.run = run
        self.n_out = n_out
        self.fresh = fresh
        self.order = next(_order)
        self.watched = watched


class Tensor:
    """An array on the tape.

    Parameters
    ----------
    data : array_like
        Floating data stay what they are; a Python number or list becomes float32. Not copied.
    requires_grad : bool
        Whether ``backward`` should fill ``grad``.

    Attributes
    ----------
    data : numpy.ndarray
        The value. Do not write to it between forward and backward: it is read-only then.
    grad : numpy.ndarray or None
        The gradient, of the same shape, once ``backward`` ran; further calls add to it.

    Examples
    --------
    >>> import plait
    >>> x = plait.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4., 6.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_index", "_node", "requires_grad")
    __array_priority__ = 1000
    version: Any = None  # parameters count their writes
    pack: Any = None  # parameters have packed forms

    def __init__(self, data, requires_grad: bool = False):
        if isinstance(data, Tensor):
            data = data.data
        array = plain_array("Tensor", "data", data)
        if not isinstance(data, (np.ndarray, np.generic)) and array.dtype.kind == "f":
            array = array.astype(np.float32)
        if requires_grad and array.dtype.kind not in "fV":
            raise TypeError(f"Tensor: only floating data can require a gradient, got {array.dtype}")
        self._data = array
        self._grad = None
        self._node = None
        self._index = 0
        self.requires_grad = bool(requires_grad)

    # ---- value

    @property
    def data(self) -> np.ndarray:
        return self._data

    @property
    def grad(self) -> np.ndarray | None:
        return self._grad

    @grad.setter
    def grad(self, value):
        if value is not None:
            value = plain_array("grad", "value", value.data if isinstance(value, Tensor) else value)
            if value.shape != self.shape:
                raise ValueError(f"grad: value has shape {value.shape}, expected {self.shape}")
            value = np.array(value, self.dtype if self.dtype.kind == "f" else F32, order="C")
        self._grad = value

    @property
    def shape(self) -> tuple:
        """Sizes of the dimensions."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._data.size

    @property
    def dtype(self):
        """Of ``data``."""
        return self._data.dtype

    @property
    def is_leaf(self) -> bool:
        """Made by the user and not by an operator."""
        return self._node is None

    def numpy(self) -> np.ndarray:
        """A copy of the value, in memory that the caller owns."""
        return np.array(self._data)

    def item(self) -> float:
        """The value of a tensor with one element, as a Python number."""
        return self._data.item()

    def detach(self) -> Tensor:
        """The same value, off the tape."""
        return Tensor(self._data)

    def __array__(self, dtype=None, copy=None):
        if copy is False and dtype is not None and np.dtype(dtype) != self._data.dtype:
            raise ValueError("Tensor: a conversion of dtype needs a copy")
        return np.array(self._data, dtype=dtype) if copy is not False else self._data

    def __len__(self):
        if not self._data.ndim:
            raise TypeError("len() of a 0-d Tensor")
        return self._data.shape[0]

    def __float__(self):
        return float(self._data.item())

    def __int__(self):
        return int(self._data.item())

    def __bool__(self):
        return bool(self._data)

    def __repr__(self):
        tail = ", requires_grad=True" if self.requires_grad else ""
        text = np.array2string(self._data, separator=", ", threshold=20, prefix="Tensor(")
        return f"Tensor({text}{tail})"

    # ---- gradients

    def backward(self, grad=None) -> None:
        """Adds the gradient of this tensor to ``grad`` of every leaf that requires one, and frees the tape.

        Parameters
        ----------
        grad : array_like, optional
            Gradient with respect to this tensor, of its shape. Default: 1, for a tensor with one element.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: this tensor does not require a gradient (no_grad, detached, or no parameter)")
        if grad is None:
            if self.size != 1:
                raise ValueError(f"backward: a tensor of shape {self.shape} needs `grad`, of the same shape")
            grad = np.ones(self.shape, self.dtype)
        else:
            grad = np.asarray(grad.data if isinstance(grad, Tensor) else grad, dtype=self.dtype)
            if grad.shape != self.shape:
                raise ValueError(f"backward: grad has shape {grad.shape}, expected {self.shape}")
        if self._node is None:
            self._collect(grad, False)
        else:
            walk(self._node, self._index, grad)

    def _place(self):
        """(array, add): where an operator may write the gradient of this leaf, and whether it adds to it."""
        g = self._grad
        return (g, True) if g is not None and is_place(g) else (None, False)

    def _collect(self, grad, fresh):
        """Takes a gradient that was not written into ``_place()``."""
        g = self._grad
        if g is None:
            self._grad = grad if fresh else np.array(grad, order="C")
        elif g.flags.writeable:
            np.add(g, grad, out=g, casting="same_kind")
        else:
            self._grad = np.add(g, grad, out=np.empty(g.shape, g.dtype), casting="same_kind")

    def _written(self):
        """Called when an operator wrote into ``_place()``."""
