"""JSON from files that nobody vouches for: no duplicate keys, no NaN, bounded depth."""

from __future__ import annotations

import json
import math
import re

__all__ = ["dumps", "loads"]

_MAX_DEPTH = 32


def loads(data: bytes, name: str, max_depth: int = _MAX_DEPTH):
    """Parses UTF-8 JSON.

    Parameters
    ----------
    data : bytes
    name : str
        What error messages call it.
    max_depth : int
        Of nested lists and objects.

    Raises
    ------
    ValueError
        Not UTF-8, not JSON, nested too deep, a key twice in one object, or a number that is not finite.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 ({error.reason} at byte {error.start})") from None
    _check_depth(text, name, max_depth)

    def unique(pairs):
        result = dict(pairs)
        if len(result) != len(pairs):
            seen = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))
            raise ValueError(f"{name}: key {_short(twice)} occurs twice")
        return result

    def finite(literal):
        value = float(literal)
        if not math.isfinite(value):
            raise ValueError(f"{name}: number {literal[:20]} is not finite")
        return value

    def whole(literal):
        if len(literal) > 50:  # 128-bit generator states have 39 digits
            raise ValueError(f"{name}: a whole number has {len(literal)} digits")
        return int(literal)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_float=finite, parse_int=whole, parse_constant=finite)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}: not JSON ({error.msg} at character {error.pos})") from None


def dumps(value, name: str) -> bytes:
    """Readable UTF-8 JSON; NaN and infinity are errors, since no strict reader takes them."""
    try:
        return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


_MARK = re.compile(r'\\.|["\[\]{}]', re.DOTALL)  # an escape is one mark, so that an escaped quote ends no string


def _check_depth(text, name, limit):
    # Before the parser, which recurses. Brackets inside strings don't count.
    depth, inside = 0, False
    for match in _MARK.finditer(text):
        mark = match.group()
        if mark == '"':
            inside = not inside
        elif inside:
            continue
        elif mark in "[{":
            depth += 1
            if depth > limit:
                raise ValueError(f"{name}: nested deeper than {limit} levels")
        elif mark in "]}":
            depth -= 1


def _short(key):
    return repr(key if len(key) <= 60 else key[:57] + "...")
