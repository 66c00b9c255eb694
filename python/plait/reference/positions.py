"""Twins of positions: added to rows, or turning pairs of columns."""

from __future__ import annotations

import numpy as np


def positions(offsets, start=None):
    """The position of every row: its place in its sample, plus where the sample starts."""
    offsets = np.asarray(offsets)
    lengths = np.diff(offsets)
    first = np.zeros(len(lengths), np.int64) if start is None else np.asarray(start)
    return np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], lengths)


def sinusoids(position, width, base=10000.0):
    """(len(position), width): sin in even columns, cos in odd ones. Vaswani et al., arXiv 1706.03762, section 3.5."""
    column = np.arange(width)
    angle = np.asarray(position)[:, None] * base ** (-(column - column % 2) / max(width, 1))
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle))


def add_positions(x, offsets, table=None, start=None):
    """y = x + table[position], or sinusoids without a table."""
    x, position = np.asarray(x, np.float64), positions(offsets, start)
    if table is None:
        return x + sinusoids(position, x.shape[1])
    if len(position) and position.max() >= len(table):
        raise ValueError(f"add_positions: a row has position {position.max()}, and table has {len(table)} rows")
    return x + np.asarray(table, np.float64)[position]


def add_positions_backward(dy, x, offsets, table=None, start=None):
    if table is None:
        return dy, None, None, None
    dtable = np.zeros(np.shape(table))
    np.add.at(dtable, positions(offsets, start), dy)
    return dy, None, dtable, None


def _turn(x, direction, offsets, heads, times, base, interleaved, start, rotary_dim):
    x = np.asarray(x, np.float64)
    position = positions(offsets, start) if times is None else np.atleast_2d(np.asarray(times, np.float64)).sum(0)
    rotary_dim = x.shape[1] // heads if rotary_dim is None else rotary_dim
    angle = position[:, None] * base ** (-np.arange(0, rotary_dim, 2) / rotary_dim)
    sin, cos = direction * np.sin(angle)[:, None], np.cos(angle)[:, None]  # the same for all heads
    y = x.reshape(len(x), heads, x.shape[1] // heads).copy()
    if interleaved:
        first, second = slice(0, rotary_dim, 2), slice(1, rotary_dim, 2)
    else:
        first, second = slice(0, rotary_dim // 2), slice(rotary_dim // 2, rotary_dim)
    a, b = y[:, :, first].copy(), y[:, :, second].copy()
    y[:, :, first] = a * cos - b * sin
    y[:, :, second] = b * cos + a * sin
    return y.reshape(x.shape)


def rope(x, offsets, heads, *, times=None, base=10000.0, interleaved=False, start=None, rotary_dim=None):
    """Pairs of columns turned by position * base^(-2i / rotary_dim). Su et al., arXiv 2104.09864.

    ``times`` are seconds (N,), or (2, N): rounded seconds, and what rounding left of them. ``rotary_dim`` is the whole
    head unless given.
    """
    return _turn(x, 1, offsets, heads, times, base, interleaved, start, rotary_dim)


def rope_backward(dy, x, offsets, heads, *, times=None, base=10000.0, interleaved=False, start=None, rotary_dim=None):
    return _turn(dy, -1, offsets, heads, times, base, interleaved, start, rotary_dim), None, None, None
