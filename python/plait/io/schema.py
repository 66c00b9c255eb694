"""Configurations with a closed schema: a dataclass says which keys exist, of which type, in which range.

Nothing in a file can name code: classes come from tables inside the library, and a key that the dataclass does not
have is an error.
"""

from __future__ import annotations

import dataclasses
import math

__all__ = ["choice", "flag", "integer", "number", "numbers", "parse", "section", "sections", "unparse", "words"]

_REQUIRED = dataclasses.MISSING
_MAX_LIST = 4096


@dataclasses.dataclass(frozen=True)
class _Rule:
    kind: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple = ()
    optional: bool = False
    section: type | None = None

    def check(self, value, path):
        if value is None and self.optional:
            return None
        return getattr(self, f"_{self.kind}")(value, path)

    def _integer(self, value, path):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{path} is {_show(value)}, expected a whole number{self._or_null()}")
        return self._in_range(value, path)

    def _number(self, value, path):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{path} is {_show(value)}, expected a number{self._or_null()}")
        # Ranges first: a huge whole number has no float.
        value = float(self._in_range(value, path))
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value}, expected a finite number")
        return value

    def _numbers(self, value, path):
        if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= _MAX_LIST:
            raise ValueError(f"{path} is {_show(value)}, expected a list of numbers{self._or_null()}")
        return tuple(self._number(v, f"{path}[{i}]") for i, v in enumerate(value))

    def _flag(self, value, path):
        if not isinstance(value, bool):
            raise ValueError(f"{path} is {_show(value)}, expected true or false{self._or_null()}")
        return value

    def _choice(self, value, path):
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"{path} is {_show(value)}, expected one of {', '.join(self.choices)}{self._or_null()}")
        return value

    def _words(self, value, path):
        if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= _MAX_LIST:
            raise ValueError(f"{path} is {_show(value)}, expected a list of words{self._or_null()}")
        return tuple(self._choice(v, f"{path}[{i}]") for i, v in enumerate(value))

    def _section(self, value, path):
        return parse(self.section, value, path)

    def _sections(self, value, path):
        if not isinstance(value, (list, tuple)) or len(value) > _MAX_LIST:
            raise ValueError(f"{path} is {_show(value)}, expected a list of objects")
        return tuple(parse(self.section, v, f"{path}[{i}]") for i, v in enumerate(value))

    def _in_range(self, value, path):
        if not self.low <= value <= self.high:
            raise ValueError(f"{path} is {_show(value)}, expected {self.low} to {self.high}")
        return value

    def _or_null(self):
        return " or null" if self.optional else ""


def _field(default, **rule):
    rule = _Rule(optional=default is None, **rule)
    return dataclasses.field(default=default, metadata={"rule": rule})


def integer(low, high, default=_REQUIRED):
    """Field: a whole number from `low` to `high`. A default of None allows null."""
    return _field(default, kind="integer", low=low, high=high)


def number(low, high, default=_REQUIRED):
    """Field: a finite number from `low` to `high`."""
    return _field(default, kind="number", low=low, high=high)


def numbers(low, high, default=_REQUIRED):
    """Field: a list of finite numbers from `low` to `high`; a tuple in the dataclass."""
    return _field(default, kind="numbers", low=low, high=high)


def flag(default=_REQUIRED):
    """Field: true or false."""
    return _field(default, kind="flag")


def choice(*choices, default=_REQUIRED):
    """Field: one of some words."""
    return _field(default, kind="choice", choices=choices)


def words(*choices, default=_REQUIRED):
    """Field: a list of words out of some; a tuple in the dataclass."""
    return _field(default, kind="words", choices=choices)


def section(cls):
    """Field: a nested object, parsed by another dataclass."""
    return _field(_REQUIRED, kind="section", section=cls)


def sections(cls):
    """Field: a list of objects, each parsed by another dataclass; a tuple in the dataclass, empty by default."""
    return _field((), kind="sections", section=cls)


def parse(cls, data, path: str = "config"):
    """Makes a dataclass from a dict, which must fit exactly.

    Parameters
    ----------
    cls : dataclass
        Every field is made by a function of this module. Fields without a default are required.
    data : dict
    path : str
        Where `data` stands, for error messages.

    Returns
    -------
    cls

    Raises
    ------
    ValueError
        A key is unknown or missing, a type differs (true is no number), or a value is out of range. The message
        names the path of the key, such as ``config.image.width``. A ``check(path)`` method of the dataclass may
        raise more.

    Examples
    --------
    >>> import dataclasses
    >>> from plait.io import schema
    >>> @dataclasses.dataclass(frozen=True)
    ... class Tower:
    ...     width: int = schema.integer(1, 4096)
    ...     causal: bool = schema.flag(default=False)
    >>> schema.parse(Tower, {"width": 128}, "image")
    Tower(width=128, causal=False)
    >>> schema.parse(Tower, {"width": True}, "image")
    Traceback (most recent call last):
    ...
    ValueError: image.width is True, expected a whole number
    """
    if isinstance(data, cls):
        data = unparse(data)
    if not isinstance(data, dict):
        raise ValueError(f"{path} is {_show(data)}, expected an object")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in data:
        if key not in fields:
            raise ValueError(
                f"{path}.{key if isinstance(key, str) else _show(key)} is unknown, expected keys: {', '.join(fields)}"
            )
    missing = [name for name, f in fields.items() if name not in data and f.default is _REQUIRED]
    if missing:
        raise ValueError(f"{path}.{missing[0]} is missing")
    values = {key: fields[key].metadata["rule"].check(value, f"{path}.{key}") for key, value in data.items()}
    config = cls(**values)
    if hasattr(config, "check"):
        config.check(path)
    return config


def unparse(config) -> dict:
    """The plain dict of a dataclass, with every key, ready for JSON."""

    def plain(value):
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return plain(config)


def _show(value):
    try:
        text = repr(value)
    except ValueError:  # a whole number with thousands of digits has no text
        text = "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
