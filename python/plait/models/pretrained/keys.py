"""Tables of tensor names: ours on the left, a checkpoint's on the right, in both directions.

A row of a table is ``ours  theirs  [form]``. ``#`` stands for the number of a layer, a last ``*`` for weight or bias,
``{q,k,v}`` for several tensors whose rows are one of ours, in that order. Forms: ``transposed`` (stored input by
output), ``rows a-b/n`` (ours are parts a to b of the n parts of their rows), ``flat patches`` (pixels of a patch in the
order height, width, channel, as a linear layer over them).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

__all__ = ["Entry", "KeyTable", "ShapeError", "floats"]


class ShapeError(ValueError):
    """A tensor of the file has another shape than the model's."""


class Entry(NamedTuple):
    """Where one of our tensors is in a checkpoint."""

    names: tuple
    form: str

    def ours(self, arrays, shape):
        """Our float32 tensor from theirs; `shape` is due."""
        arrays = [floats(a, name) for a, name in zip(arrays, self.names, strict=True)]
        if len({(a.ndim, *a.shape[1:]) for a in arrays}) > 1 or any(a.ndim != len(shape) for a in arrays[1:]):
            raise self._unlike(arrays, shape)
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if self.form == "transposed":
            array = array.T
        elif self.form == "flat patches":
            d, c, p, q = shape
            if array.shape == (d, p * q * c):
                array = array.reshape(d, p, q, c).transpose(0, 3, 1, 2)
        elif self.form:
            begin, end, parts = _parts(self.form)
            if array.ndim and len(array) % parts == 0:
                array = array[begin * len(array) // parts : end * len(array) // parts]
        if array.shape != tuple(shape):
            if _squeezed(array.shape) != _squeezed(shape):
                raise self._unlike([array], shape)
            array = array.reshape(shape)
        return array

    def shapes(self, array) -> dict:
        """The shapes that their tensors should have, by name, from an array of ours."""
        found = {}
        for name, piece, part in self.theirs(array, {}):
            begin, end, parts = part or (0, 1, 1)
            found[name] = (*(n * parts // (end - begin) for n in piece.shape[:1]), *piece.shape[1:])
        return found

    def _unlike(self, arrays, shape):
        got = " and ".join(str(a.shape) for a in arrays)
        return ShapeError(f"{' and '.join(self.names)}: {got} where the configuration says {tuple(shape)}")

    def theirs(self, array, shapes):
        """(name, array, part of the rows) of what is written; `shapes` are those that the file had."""
        if self.form == "transposed":
            array = array.T
        elif self.form == "flat patches":
            array = array.transpose(0, 2, 3, 1).reshape(len(array), -1)
        part = _parts(self.form) if self.form.startswith("rows") else None
        pieces = [array] if len(self.names) == 1 else np.split(array, len(self.names))
        for name, piece in zip(self.names, pieces, strict=True):
            shape = shapes.get(name, piece.shape)
            if part is None and shape != piece.shape:
                if _squeezed(shape) == _squeezed(piece.shape):
                    piece = piece.reshape(shape)
                elif len(shape) == piece.ndim + 1 and shape[0] == 1:  # positions of another grid than the file's
                    piece = piece[None]
            yield name, piece, part


class KeyTable:
    """A table made from its text.

    Parameters
    ----------
    *texts : str
        Rows, one a line; empty lines and what follows ``//`` are skipped.
    """

    def __init__(self, *texts):
        self.rows = []
        for line in "\n".join(texts).splitlines():
            words = line.split("//")[0].split(None, 2)
            if words:
                ours, theirs = words[:2]
                pattern = re.escape(ours).replace(r"\#", r"(?P<layer>\d+)").replace(r"\*", "(?P<last>weight|bias)")
                self.rows.append((re.compile(pattern), theirs, words[2].strip() if len(words) > 2 else ""))

    def find(self, name, prefix="") -> Entry | None:
        """Where our tensor of this name is; `prefix` stands before names that the table writes with a leading dot."""
        for pattern, theirs, form in self.rows:
            match = pattern.fullmatch(name)
            if match:
                found = {"layer": "", "last": "", **match.groupdict()}
                text = theirs.replace("#", found["layer"] or "").replace("*", found["last"] or "")
                text = prefix + text[1:] if text.startswith(".") else text
                return Entry(_expanded(text), form)
        return None


def _expanded(text):
    match = re.search(r"\{([^}]*)\}", text)
    if not match:
        return (text,)
    return tuple(text[: match.start()] + word + text[match.end() :] for word in match[1].split(","))


def _parts(form):
    return tuple(map(int, re.fullmatch(r"rows (\d+)-(\d+)/(\d+)", form).groups()))


def _squeezed(shape):
    return tuple(n for n in shape if n != 1)


def floats(array, name):
    """A tensor of a file as float32."""
    if array.dtype.kind not in "fV":
        raise ValueError(f"{name} has dtype {array.dtype}, expected a floating dtype")
    if array.dtype == np.float32:
        return array
    try:
        with np.errstate(over="raise", invalid="ignore"):
            return array.astype(np.float32)
    except FloatingPointError:
        raise ValueError(f"{name} holds numbers that are too large for float32") from None
