"""Configurations of other libraries: the keys that are read, with their types, ranges and defaults.

Such files hold dozens of keys that say nothing about the computation. Those that are read go through the closed schema
of ``plait.io.schema``; those that would change the computation in a way that plait does not have are refused by name;
the others are left alone, kept, and written back when the model is saved.
"""

from __future__ import annotations

import dataclasses

from plait.io import schema
from plait.models.config import ACTIVATIONS

__all__ = ["ACTIVATION_NAMES", "LAYERS", "activation", "read", "refuse_code", "square"]

LAYERS = 256  # at most: a thousand take seconds to build, before anybody sees that the file has other ones

# Names in configurations -> ours. The tanh form has several names.
_NAMES = {
    **{name: name for name in ACTIVATIONS if name != "gelu_tanh"},
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python": "gelu",
    "swish": "silu",
}
ACTIVATION_NAMES = tuple(_NAMES)


def activation(name: str) -> str:
    """Our name of an activation function."""
    return _NAMES[name]


def read(cls, data, where: str):
    """The dataclass made of the keys of `data` that it has.

    Parameters
    ----------
    cls : dataclass
        Fields of ``plait.io.schema``. ``REFUSED`` may map keys to the only values that are supported.
    data : dict
    where : str
        For messages.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where} is {type(data).__name__}, expected an object")
    refuse_code(data, where)
    for key, allowed in getattr(cls, "REFUSED", {}).items():
        if key in data and data[key] not in allowed:
            raise ValueError(
                f"{where}.{key} is {repr(data[key])[:60]}, which plait does not have; expected {allowed[0]!r}"
            )
    names = {f.name for f in dataclasses.fields(cls)}
    return schema.parse(cls, {k: v for k, v in data.items() if k in names}, where)


def refuse_code(data, where):
    """Refuses configurations that name code for their model."""
    for key in ("auto_map", "custom_pipelines", "custom_pipeline"):
        if data.get(key):
            raise ValueError(f"{where}.{key} names code that comes with the model, which plait never runs")


def square(value, where: str, key: str) -> int:
    """A size that may be written as a number, [n, n] or {"height": n, "width": n}."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 14:
        raise ValueError(f"{where}.{key} is {repr(value)[:60]}, expected one whole number from 1 to {1 << 14}")
    return value
