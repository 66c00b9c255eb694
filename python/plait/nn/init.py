"""Initial values. All draw from one generator, which ``plait.seed`` begins anew and ``seeded`` replaces for a block of
code."""

from __future__ import annotations

import contextlib
import threading

import numpy as np

from plait.ops._apply import generator

__all__ = ["blank", "hollow", "is_hollow", "normal", "seeded", "xavier_uniform"]

_local = threading.local()  # what holds inside a block of code: `rng`, `blank`


def _rng():
    return getattr(_local, "rng", generator.values)


@contextlib.contextmanager
def seeded(seed):
    """Modules made inside draw their initial values from this seed.

    Examples
    --------
    >>> import plait
    >>> with plait.nn.init.seeded(1):
    ...     a = plait.nn.Linear(2, 2)
    >>> with plait.nn.init.seeded(1):
    ...     b = plait.nn.Linear(2, 2)
    >>> bool((a.weight.data == b.weight.data).all())
    True
    """
    previous = getattr(_local, "rng", None)
    _local.rng = np.random.default_rng(seed)
    try:
        yield
    finally:
        if previous is None:
            del _local.rng
        else:
            _local.rng = previous


@contextlib.contextmanager
def blank():
    """Modules made inside begin with zeros: for weights that a file replaces at once.

    Examples
    --------
    >>> import plait
    >>> with plait.nn.init.blank():
    ...     layer = plait.nn.Linear(2, 2)
    >>> layer.weight.data.any()
    np.False_
    """
    previous = getattr(_local, "blank", False)
    _local.blank = True
    try:
        yield
    finally:
        _local.blank = previous


@contextlib.contextmanager
def hollow():
    """Parameters made inside, norms' too, are zeros in memory that nobody has touched: for a file's values to replace.

    Examples
    --------
    >>> import plait
    >>> with plait.nn.init.hollow():
    ...     norm = plait.nn.LayerNorm(2)
    >>> norm.weight.data
    array([0., 0.], dtype=float32)
    """
    previous = is_hollow()
    _local.hollow = True
    try:
        with blank():
            yield
    finally:
        _local.hollow = previous


def is_hollow() -> bool:
    """Whether ``hollow`` is in force on this thread.

    Examples
    --------
    >>> import plait
    >>> plait.nn.init.is_hollow()
    False
    """
    return getattr(_local, "hollow", False)


def normal(shape, std=0.02):
    """A float32 array of this shape: normal values with mean 0 and standard deviation std.

    Examples
    --------
    >>> import plait
    >>> plait.nn.init.normal((2, 3), std=0.1).shape
    (2, 3)
    """
    if getattr(_local, "blank", False):
        return np.zeros(shape, np.float32)
    values = _rng().standard_normal(shape, dtype=np.float32)
    values *= np.float32(std)
    return values


def xavier_uniform(shape, gain=1.0):
    """A float32 array of shape (out, in, ...): uniform in +-gain * sqrt(6 / (fan_in + fan_out)).

    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    Examples
    --------
    >>> import plait
    >>> float(abs(plait.nn.init.xavier_uniform((3, 3))).max()) <= 1.0
    True
    """
    if getattr(_local, "blank", False):
        return np.zeros(shape, np.float32)
    fan_out, fan_in = shape[0], int(np.prod(shape[1:]))
    bound = gain * (6.0 / (fan_in + fan_out)) ** 0.5
    return (_rng().random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)
