"""The tape: ``Tensor``, ``no_grad`` and the walk that ``backward`` does.

A tensor wraps an ndarray. The output of an operator holds the node that made it, a node holds its inputs: there is no
global list and no cycle, so what the user drops is freed at once. ``backward`` visits nodes from the newest to the
oldest and frees each one as it goes.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading

import numpy as np

__all__ = ["Node", "Tensor", "grad_enabled", "no_grad"]


class _Mode(threading.local):
    enabled = True


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

    def __enter__(self):
        # A stack, so that one object may be entered again inside itself.
        self.__dict__.setdefault("_previous", []).append(_mode.enabled)
        _mode.enabled = False
        return self

    def __exit__(self, *error):
        _mode.enabled = self._previous.pop()
        return False

    def _recreate_cm(self):
        return no_grad()


class Node:
    """One operator call on the tape.

    ``run(douts, dins, wanted, accumulate)`` returns a gradient for each input. ``fresh`` says that the arrays it
    returns belong to nobody else, and that it can write into ``dins`` itself.
    """

    __slots__ = ("fresh", "inputs", "n_out", "name", "order", "run", "versions")

    def __init__(self, name, inputs, run, n_out, fresh):
        self.name = name
        self.inputs = inputs  # a Tensor where a gradient is due, else None
        self.run = run
        self.n_out = n_out
        self.fresh = fresh
        self.order = next(_order)
        self.versions = tuple([0 if t is None else t.version for t in inputs])


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
    version = 0  # parameters count their writes
    pack = None  # parameters have packed forms

    def __init__(self, data, requires_grad: bool = False):
        if isinstance(data, Tensor):
            data = data.data
        array = data if isinstance(data, np.ndarray) else np.asarray(data)
        if not isinstance(data, (np.ndarray, np.generic)) and array.dtype.kind == "f":
            array = array.astype(np.float32)
        if array.dtype.kind in "OUSMm" or array.dtype.names:
            raise TypeError(f"Tensor: data has dtype {array.dtype}, expected numbers")
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
            value = np.asarray(value)
            if value.shape != self.shape:
                raise ValueError(f"grad: got shape {value.shape}, expected {self.shape}")
        self._grad = value

    @property
    def shape(self) -> tuple:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def dtype(self):
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
            _walk(self._node, self._index, grad)

    def _place(self):
        """(array, add): where an operator may write the gradient of this leaf, and whether it adds to it."""
        return self._grad, self._grad is not None

    def _collect(self, grad, fresh):
        """Takes a gradient that was not written into ``_place()``."""
        if self._grad is None:
            self._grad = grad if fresh else np.array(grad)
        else:
            self._grad = np.asarray(self._grad + grad)  # the sum of two arrays of shape () is no array

    def _written(self):
        """Called when an operator wrote into ``_place()``."""


def _walk(root, index, grad):
    pending = {root: [None] * root.n_out}  # node -> gradients of its outputs, as (array, owned)
    pending[root][index] = (grad, False)
    heap = [(-root.order, root)]
    while heap:
        _, node = heapq.heappop(heap)
        douts = tuple([None if d is None else d[0] for d in pending.pop(node)])
        inputs, run, fresh = node.inputs, node.run, node.fresh
        if run is None:
            raise RuntimeError(f"{node.name}: backward ran already and freed what it saved")
        wanted = accumulate = 0
        dins, met = [None] * len(inputs), set()
        for i, t in enumerate(inputs):
            if t is None:
                continue
            if t.version != node.versions[i]:
                raise RuntimeError(f"{node.name}: input {i} was changed between forward and backward")
            wanted |= 1 << i
            if not fresh or id(t) in met:
                continue
            met.add(id(t))
            if t._node is None:
                dins[i], add = t._place()
            else:
                slots = pending.get(t._node)
                slot = slots[t._index] if slots else None
                add = slot is not None and slot[1]
                dins[i] = slot[0] if add else None
            if add:
                accumulate |= 1 << i
        grads = run(douts, tuple(dins), wanted, accumulate)
        # Freed before the next node runs: its buffers are what the next one takes from the pool.
        node.inputs, node.run = (), None
        for i, t in enumerate(inputs):
            if t is None:
                continue
            g = grads[i]
            if g is None or g is dins[i]:  # nothing flows, or it is where it belongs already
                if g is not None and t._node is None:
                    t._written()
                continue
            if g.shape != t.shape:
                raise ValueError(f"{node.name}: the gradient of input {i} has shape {g.shape}, expected {t.shape}")
            parent = t._node
            if parent is None:
                t._collect(g, fresh)
                continue
            slots = pending.get(parent)
            if slots is None:
                slots = pending[parent] = [None] * parent.n_out
                heapq.heappush(heap, (-parent.order, parent))
            slot = slots[t._index]
            if slot is None:
                slots[t._index] = (g, fresh)
            elif slot[1]:
                np.add(slot[0], g, out=slot[0])
            else:
                slots[t._index] = (np.asarray(slot[0] + g), True)
