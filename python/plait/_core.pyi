"""Types of the C core. What users call is exported by ``plait``; the rest serves the package and its tests."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]
_Floats = NDArray[np.float32]
_Segment = tuple[int, int, float, float]
_Weight = tuple[int, int, int, Pack, int]

@final
class Buffer:
    """Memory of the pool; goes back to it with the last array over it."""

@final
class Pack:
    """Packed forms of one weight, for the fast products."""

    def __new__(cls) -> Pack: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @dtype.setter
    def dtype(self, name: str, /) -> None: ...
    @property
    def attention(self) -> str: ...
    @property
    def mapped(self) -> bool: ...
    @mapped.setter
    def mapped(self, value: bool, /) -> None: ...
    def renew(self, version: int, /) -> None: ...
    def spare(self) -> None: ...

@final
class Lock:
    """Arrays are read-only while it lives."""

    def __new__(cls, *arrays: _Array) -> Lock: ...

@final
class Record:
    """What backward needs of one operator call."""

    @property
    def saved(self) -> list[_Array | None]: ...
    def backward(
        self, douts: tuple[Any, ...], dins: tuple[Any, ...], wanted: int, accumulate: int, /
    ) -> tuple[Any, ...]: ...
    def release(self) -> None: ...

@final
class Operator:
    """One operator of the C core."""

    @property
    def name(self) -> str: ...
    @property
    def ports(self) -> tuple[tuple[str, bool], ...]: ...
    @property
    def random(self) -> bool: ...
    @property
    def repeated(self) -> bool: ...
    def check(self, inputs: tuple[Any, ...], attrs: dict[str, Any] | None, /) -> None: ...
    def __call__(
        self,
        inputs: tuple[Any, ...],
        want: int,
        attrs: dict[str, Any] | None,
        key: int,
        counter: int,
        packs: tuple[Pack | None, ...] | None,
        /,
    ) -> tuple[tuple[Any, ...], Record | None]: ...

operators: dict[str, Operator]

def chain(
    calls: tuple[tuple[Operator, tuple[Any, ...], dict[str, Any] | None, tuple[Pack | None, ...] | None], ...], /
) -> _Array: ...

def adamw_step(
    p: _Floats,
    g: _Floats,
    m: _Floats,
    v: _Floats,
    segments: Sequence[_Segment],
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    grad_scale: float,
    weights: Sequence[_Weight] = (),
    /,
) -> None: ...
def sgd_step(
    p: _Floats,
    g: _Floats,
    m: _Floats | None,
    segments: Sequence[_Segment],
    momentum: float,
    nesterov: bool,
    grad_scale: float,
    weights: Sequence[_Weight] = (),
    /,
) -> None: ...
def sum_squares(x: _Floats, spans: Sequence[tuple[int, int]], /) -> float: ...
def config() -> dict[str, Any]: ...
def has(precision: str, /) -> bool: ...
def counters() -> dict[str, int]: ...
def empty(shape: tuple[int, ...], /) -> _Floats: ...
def empty_cache() -> None: ...
def fail_at(nth: int, persistent: bool = ..., /) -> None: ...
def get_num_threads() -> int: ...
def implementations() -> list[tuple[str, int, int, int]]: ...
def set_num_threads(n: int, /) -> None: ...
def set_pool_cap(nbytes: int, /) -> None: ...
def ignore_crowd(ignore: bool, /) -> None: ...
def set_thread_worth(nanoseconds: float, /) -> None: ...
