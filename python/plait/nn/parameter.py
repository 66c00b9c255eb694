"""A parameter: a leaf of the tape that owns its array, counts its writes and carries its packed forms."""

from __future__ import annotations

import contextlib
import mmap
import warnings

import numpy as np

from plait import _core
from plait._precision import lacking
from plait.nn.init import is_hollow
from plait.tensor import Tensor

__all__ = ["Parameter"]

_INT8_INPUTS = 66000  # products of more numbers of 8 bits, 255 times 127 each at most, could leave 32 bits


def _in_a_file(array):
    while isinstance(array, (np.ndarray, memoryview)):
        array = array.base if isinstance(array, np.ndarray) else array.obj
    return isinstance(array, mmap.mmap)


def fitting(function, name, value, shape):
    """The array of a value that is to be copied into one of this shape."""
    if not isinstance(value, np.ndarray):
        value = np.asarray(value.data if hasattr(value, "requires_grad") else value)
    if value.shape != shape:
        raise ValueError(f"{function}: {name} has shape {value.shape}, expected {shape}")
    if value.dtype.kind not in "fiu" and value.dtype.name != "bfloat16":
        raise TypeError(f"{function}: {name} has dtype {value.dtype}, expected a floating dtype")
    return value


class Parameter(Tensor):
    """A trainable array of a module.

    It owns its memory until an optimiser gathers the trainable parameters into one arena. Reading goes through
    ``data`` (a read-only view); every write goes through ``assign``, ``edit``, ``load_state_dict`` or an optimiser
    and raises ``version``, which makes packed forms stale.

    Parameters
    ----------
    data : array_like
        Copied; float32.
    requires_grad : bool
        False freezes it: it costs nothing in training then.

    Examples
    --------
    >>> import plait
    >>> p = plait.nn.Parameter([1.0, 2.0])
    >>> p.assign([3.0, 4.0])
    >>> with p.edit() as a:
    ...     a *= 2
    >>> p.data, p.version
    (array([6., 8.], dtype=float32), 2)
    """

    __slots__ = ("_arena", "_buffer", "_master", "_shared", "_valid", "pack", "version")

    def __init__(self, data, requires_grad: bool = True):
        data = np.asarray(data.data if isinstance(data, Tensor) else data)
        if is_hollow():
            master = np.zeros(data.shape, np.float32)
        else:
            master = np.array(fitting("Parameter", "data", data, data.shape), dtype=np.float32, order="C")
        super().__init__(master, requires_grad)
        self.version = 0
        self.pack = _core.Pack() if master.ndim >= 2 else None
        self._buffer = None  # gradient memory; its content counts when _valid
        self._valid = False
        self._arena = None  # values of the optimiser that gathered it
        self._shared = False  # with a copy in another precision: whoever writes first takes an array of its own
        self._house(master)

    def _house(self, master):
        """The array that holds the value from now on; its content is the value already."""
        self._master = master
        self._data = master.view()
        self._data.flags.writeable = False

    def _house_in(self, values, gradients, span):
        """Moves value and gradient into the arena of an optimiser."""
        master, gradient = values[span].reshape(self.shape), gradients[span].reshape(self.shape)
        master[...] = self._master
        if self._valid:
            gradient[...] = self._buffer
        self._buffer, self._arena, self._shared = gradient, values, False
        self._before_writing()
        if self.pack is not None:
            self.pack.spare()
        self._house(master)

    # ---- writing

    def touch(self) -> None:
        """Notes a write: packed forms are stale, and a backward that recorded the old value will refuse."""
        self.version += 1
        if self.pack is not None:
            self.pack.renew(self.version)

    def _before_writing(self):
        """Pages of a mapped file are given back while they hold what the file holds, and a shared array stays."""
        if self.pack is not None:
            self.pack.mapped = False
        if self._shared:
            self._shared = False
            self._house(self._master.copy())

    @contextlib.contextmanager
    def edit(self):
        """The writable array, inside a ``with`` block."""
        self._before_writing()
        try:
            yield self._master
        finally:
            self.touch()

    def assign(self, value) -> None:
        """Replaces the value.

        Raises
        ------
        ValueError
            The shape differs.
        TypeError
            The value is not floating.
        """
        value = self._fitting("assign", "value", value)
        with self.edit() as master:
            master[...] = value

    def adopt(self, array) -> None:
        """Like ``assign``, but takes the array itself for the value where it can: a mapped file is not copied then.

        Nobody else may write to it. What is not C-contiguous, aligned, writable float32 is copied; a parameter that an
        optimiser has gathered always copies.
        """
        array = self._fitting("adopt", "array", array)
        flags = array.flags
        if self._arena is not None or array.dtype != np.float32 or not (flags.c_contiguous and flags.behaved):
            self.assign(array)
            return
        try:
            self._house(array)
        finally:
            self.touch()
        if self.pack is not None:
            self.pack.mapped = _in_a_file(array)

    def sharing(self, dtype: str) -> Parameter:
        """A frozen parameter of the same value, packed in another dtype ("bf16" or "int8").

        Over the same array until one of the two is written to, or over a copy where an optimiser writes already.
        """
        twin = Parameter(np.empty(0, np.float32), requires_grad=False)
        if self._arena is not None:
            twin._house(self._master.copy())
        else:
            twin._house(self._master)
            self._shared = twin._shared = True
        twin.pack = None
        if self.ndim >= 2:
            twin.pack = _core.Pack()
            if dtype == "int8" and self.shape[-1] > _INT8_INPUTS:
                dtype = "bf16" if _core.has("bf16") else "f32"
            twin.pack.dtype = dtype
        return twin

    def _fitting(self, function, name, value):
        return fitting(function, name, value, self.shape)

    def __reduce__(self):
        # copy.deepcopy(model) is how people keep an average or the best weights: value and flag, no gradient.
        return _again, (np.array(self._master), self.requires_grad, None if self.pack is None else self.pack.dtype)

    # ---- gradient

    @property
    def grad(self) -> np.ndarray | None:
        """The gradient, once ``backward`` ran; further calls add to it until ``zero_grad``."""
        return self._buffer if self._valid else None

    @grad.setter
    def grad(self, value):
        if value is None:
            self._valid = False
            return
        value = np.asarray(value)
        if value.shape != self.shape:
            raise ValueError(f"grad: got shape {value.shape}, expected {self.shape}")
        if self._buffer is None:
            self._buffer = np.empty(self.shape, np.float32)
        self._buffer[...] = value
        self._valid = True

    def zero_grad(self) -> None:
        """Forgets the gradient; its memory stays and the next backward overwrites it."""
        self._valid = False

    def _place(self):
        return self._buffer, self._valid

    def _written(self):
        self._valid = True

    def _collect(self, grad, fresh):
        if self._buffer is None:
            self._buffer = grad if fresh and grad.flags.c_contiguous else np.array(grad, np.float32, order="C")
        elif self._valid:
            np.add(self._buffer, grad, out=self._buffer)
        else:
            self._buffer[...] = grad
        self._valid = True


def _again(data, requires_grad, dtype):
    p = Parameter(data, requires_grad)
    if dtype is not None:
        if not _core.has(dtype):  # made on another processor
            warnings.warn(lacking(dtype), stacklevel=2)
            dtype = "f32"
        p.pack.dtype = dtype
    return p
