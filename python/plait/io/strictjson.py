"""JSON from files that nobody vouches for: no duplicate keys, no NaN, bounded depth, bounded memory."""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["dumps", "loads"]

_MAX_DEPTH = 32


def loads(data: bytes, name: str, max_depth: int = _MAX_DEPTH, max_values: int | None = None, hook=None):
    """Parses UTF-8 JSON.

    Parameters
    ----------
    data : bytes
    name : str
        What error messages call it.
    max_depth : int
        Of nested lists and objects.
    max_values : int, optional
        Commas and opening brackets: a list of empty lists takes thirty times as much memory as it has characters.
    hook : callable, optional
        Gives what each object becomes, as soon as it is read.

    Raises
    ------
    ValueError
        Not UTF-8, not JSON, nested too deep, too many values, a key twice in one object, or a number that is not
        finite.
    """
    if max_values is not None and data.count(b",") + data.count(b"[") + data.count(b"{") > max_values:
        raise ValueError(f"{name}: more than {max_values} values, which is more than such a file can need")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 ({error.reason} at byte {error.start})") from None
    _check_depth(data, name, max_depth)
    del data  # which nobody else may hold, and is large then

    def unique(pairs):
        result = dict(pairs)
        if len(result) != len(pairs):
            seen = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))
            raise ValueError(f"{name}: key {_short(twice)} occurs twice")
        return result if hook is None else hook(result)

    def finite(literal):
        value = float(literal)
        if not math.isfinite(value):
            raise ValueError(f"{name}: number {literal[:20]} is not finite")
        return value

    def whole(literal):
        if len(literal) > 50:  # 128-bit generator states have 39 digits
            raise ValueError(f"{name}: a whole number has {len(literal)} digits")
        return int(literal)

    # Functions of Python for each number take half of the time: only where a number may be one of those.
    numbers: dict[str, Any] = {"parse_float": finite, "parse_int": whole} if _EXTREME.search(text) else {}
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=finite, **numbers)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}: not JSON ({error.msg} at character {error.pos})") from None


def dumps(value, name: str) -> bytes:
    """Readable UTF-8 JSON; NaN and infinity are errors, since no strict reader takes them."""
    try:
        return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: a text is not valid Unicode ({error.reason})") from None
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


_EXTREME = re.compile(r"\d{51}|[eE][+-]?\d{3}")  # all numbers that are too long, and all that are infinite
_NO_MARK = bytes(sorted(set(range(256)) - set(b'[]{}"')))
_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")  # that braces and brackets fit each other is for the parser to see


def _check_depth(data, name, limit):
    # Before the parser, which recurses, and without an object of Python for every bracket.
    if data.count(b"[") + data.count(b"{") <= limit:
        return
    marks = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_AS_BRACKETS, _NO_MARK)
    # Two quotes with nothing between them change nothing; what is left between quotes are brackets in strings.
    brackets = re.sub(rb'"[^"]*"?', b"", marks.replace(b'""', b""))
    for _ in range(limit):
        brackets, before = brackets.replace(b"[]", b""), len(brackets)
        if len(brackets) == before:
            break
    # What has no partner is an error that the parser finds, if it is not too deep for it.
    if b"[]" in brackets or brackets.count(b"[") > limit:
        raise ValueError(f"{name}: nested deeper than {limit} levels")


def _short(key):
    return repr(key if len(key) <= 60 else key[:57] + "...")
