"""What `Stream` does with rows: ndarrays stay ndarrays, tensors stay on the tape."""

from __future__ import annotations

import numpy as np

from plait.tensor import Node, Tensor, grad_enabled


def _record(inputs, value, run, fresh=True):
    """A tensor over `value`, recorded when an input needs a gradient."""
    out = Tensor(value)
    leaves = [t if isinstance(t, Tensor) and t.requires_grad else None for t in inputs]
    if grad_enabled() and any(t is not None for t in leaves):
        out._node = Node("stream", leaves, run, 1, fresh)
        out.requires_grad = True
    return out


def view(x, forward, back, fresh=False):
    """`forward(x)`, with `back` as its gradient. `fresh`: back returns new memory."""
    if not isinstance(x, Tensor):
        return forward(x)
    return _record([x], forward(x.data), lambda douts, dins, wanted, accumulate: (back(douts[0]),), fresh)


def cut(rows, begin, end):
    """Rows [begin, end)."""
    if not isinstance(rows, Tensor):
        return rows[begin:end]
    shape, dtype = rows.shape, rows.dtype

    def run(douts, dins, wanted, accumulate):
        if accumulate & 1:  # one sample after another: only its own rows are touched
            dins[0][begin:end] += douts[0]
            return dins
        dx = np.zeros(shape, dtype)
        dx[begin:end] = douts[0]
        return (dx,)

    return _record([rows], rows.data[begin:end], run)


def take(rows, picked, distinct):
    """rows[picked]; `distinct` says that no row is picked twice."""
    if not isinstance(rows, Tensor):
        return rows[picked]
    shape, dtype = rows.shape, rows.dtype

    def run(douts, dins, wanted, accumulate):
        dx = np.zeros(shape, dtype)
        if distinct:
            dx[picked] = douts[0]
        else:
            np.add.at(dx, picked, douts[0])
        return (dx,)

    return _record([rows], rows.data[picked], run)


def concatenate(parts):
    """The parts below each other."""
    if not any(isinstance(p, Tensor) for p in parts):
        return np.concatenate(parts)
    ends = np.cumsum([0] + [p.shape[0] for p in parts])

    def run(douts, dins, wanted, accumulate):
        return [douts[0][ends[i] : ends[i + 1]] for i in range(len(parts))]

    value = np.concatenate([p.data if isinstance(p, Tensor) else p for p in parts])
    return _record(parts, value, run, fresh=False)


def _full(lengths, longest):
    return lengths.size > 0 and bool((lengths == longest).all())


def _scatter(rows, lengths, longest):
    if _full(lengths, longest):
        return rows.reshape(lengths.size, longest, *rows.shape[1:])
    x = np.zeros((lengths.size, longest, *rows.shape[1:]), rows.dtype)
    x[np.arange(longest) < lengths[:, None]] = rows
    return x


def _gather(x, lengths):
    longest = x.shape[1]
    if _full(lengths, longest):
        return x.reshape(lengths.size * longest, *x.shape[2:])
    return x[np.arange(longest) < lengths[:, None]]


def pad(rows, lengths, longest):
    """(N, ...) to (B, longest, ...), zeros behind short samples."""
    fresh = not _full(lengths, longest)
    return view(rows, lambda a: _scatter(a, lengths, longest), lambda d: _gather(d, lengths), fresh)


def unpad(x, lengths):
    """(B, T, ...) to (N, ...)."""
    longest = x.shape[1]
    fresh = not _full(lengths, longest)
    return view(x, lambda a: _gather(a, lengths), lambda d: _scatter(d, lengths, longest), fresh)
