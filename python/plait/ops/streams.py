"""Operators between streams: segments joined, split, repeated."""

from __future__ import annotations

import numpy as np

from plait._array import plain_array
from plait.stream import Stream, as_stream
from plait.tensor import Tensor

from ._apply import apply, operators

__all__ = ["Repeated", "repeat_rows", "stream_concat", "stream_split"]

_concat = operators["stream_concat"]
_split = operators["stream_split"]
_MOST = 12  # PL_MAX_OUT, and half of PL_MAX_IN


class Repeated:
    """Rows that every sample gets: what `repeat_rows` returns for `stream_concat`. ``rows`` is (L, D)."""

    __slots__ = ("rows",)

    def __init__(self, rows):
        self.rows = rows

    def __repr__(self):
        return f"Repeated(rows of shape {np.shape(self.rows)})"


def repeat_rows(table, samples=None):
    """The rows of one matrix in every sample: class tokens, separators, latents, bottleneck tokens.

    Parameters
    ----------
    table : (L, D) array or Tensor
    samples : int, optional
        Number of samples. Without it the result is an entry for `stream_concat`, which takes the number from the
        streams beside it and copies once.

    Returns
    -------
    Stream or Repeated
        ``samples`` segments of L rows. The gradient of `table` is the sum over samples, in their order.

    Examples
    --------
    >>> import numpy as np, plait
    >>> latents = plait.Tensor(np.zeros((4, 8), np.float32), requires_grad=True)
    >>> plait.ops.repeat_rows(latents, 3)
    Stream(3 samples, 12 rows of (8,), float32, lengths 4 to 4)
    """
    array = plain_array("repeat_rows", "table", table.data if isinstance(table, Tensor) else table)
    if array.ndim != 2:
        raise ValueError(f"repeat_rows: table has shape {array.shape}, expected (L, D)")
    if array.dtype.kind not in "fV" and isinstance(table, (np.ndarray, Tensor)):
        raise TypeError(f"repeat_rows: table has dtype {array.dtype}, expected a floating dtype")
    if samples is None:
        return Repeated(table)
    rows = apply(_concat, (table, None), {"samples": samples})
    return Stream._trusted(rows, np.arange(samples + 1, dtype=np.int64) * np.shape(table)[0])


def stream_concat(streams):
    """Streams joined sample by sample: the rows of the first, then those of the second, and so on.

    Parameters
    ----------
    streams : list of Stream, (B, T, D) array or `repeat_rows(table)`
        One to twelve, of one width and number of samples; at least one of them not repeated.

    Returns
    -------
    Stream
        With times when all entries have them.

    Raises
    ------
    ValueError
        Widths or numbers of samples differ; the message names the entry.

    Examples
    --------
    A class token in front of every sample, also of the one that has no patches:

    >>> import numpy as np, plait
    >>> patches = plait.Stream(np.ones((5, 2), np.float32), [0, 3, 3, 5])
    >>> token = plait.Tensor(np.zeros((1, 2), np.float32), requires_grad=True)
    >>> plait.ops.stream_concat([plait.ops.repeat_rows(token), patches]).lengths
    array([4, 1, 3])
    """
    if isinstance(streams, (Stream, np.ndarray, Tensor)):
        raise TypeError(f"stream_concat: streams is one {type(streams).__name__}, expected a list")
    parts = [s if isinstance(s, Repeated) else as_stream(s, name=f"streams[{i}]") for i, s in enumerate(streams)]
    if not 1 <= len(parts) <= _MOST:
        raise ValueError(f"stream_concat: streams has {len(parts)} entries, expected 1 to {_MOST}")
    inputs = []
    for part in parts:
        inputs += [part.rows, None if isinstance(part, Repeated) else part.offsets]
    rows = apply(_concat, tuple(inputs), {"samples": -1})
    samples = next(len(part) for part in parts if isinstance(part, Stream))
    shared = sum(np.shape(p.rows)[0] for p in parts if isinstance(p, Repeated))
    offsets = np.arange(samples + 1, dtype=np.int64) * shared
    for part in parts:
        if isinstance(part, Stream):
            offsets += part.offsets
    times = None
    if all(isinstance(p, Stream) and p.times is not None for p in parts):
        times = np.empty(offsets[-1])
        for part, places in zip(parts, _places([p.offsets for p in parts]), strict=True):
            times[places] = part.times
    return Stream._trusted(rows, offsets, times)


def _places(parts):
    """For each part the rows of the joined stream that it fills."""
    start = np.sum(parts, axis=0)[:-1]
    for offsets in parts:
        lengths = np.diff(offsets)
        yield np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
        start = start + lengths


def stream_split(stream, parts):
    """Each sample's rows dealt out to several streams, in order: the inverse of `stream_concat`.

    Parameters
    ----------
    stream : Stream or (B, T, D) array
    parts : list
        One to twelve entries. How many rows of each sample a part takes: an int (as many of every sample), (B + 1,)
        offsets, a Stream (as many as it has), or, once, None: what the others leave.

    Returns
    -------
    list of Stream
        With the times of `stream`, if it has them; a part given as a Stream keeps the times and grid of that.

    Raises
    ------
    ValueError
        The parts do not add up to the rows of a sample.

    Examples
    --------
    >>> import numpy as np, plait
    >>> s = plait.Stream(np.arange(12, dtype=np.float32).reshape(6, 2), [0, 4, 6])
    >>> token, rest = plait.ops.stream_split(s, [1, None])
    >>> token.rows.data[:, 0], rest.lengths
    (array([0., 8.], dtype=float32), array([3, 1]))
    """
    stream = as_stream(stream, name="stream")
    parts = list(parts)
    if not 1 <= len(parts) <= _MOST:
        raise ValueError(f"stream_split: parts has {len(parts)} entries, expected 1 to {_MOST}")
    offsets = [_part_offsets(part, i, len(stream)) for i, part in enumerate(parts)]
    open_parts = [i for i, o in enumerate(offsets) if o is None]
    if len(open_parts) > 1:
        raise ValueError(f"stream_split: parts {open_parts} are None, expected at most one")
    if open_parts:
        taken = sum((o for o in offsets if o is not None), np.zeros_like(stream.offsets))
        left = stream.offsets - taken
        short = np.flatnonzero(left[1:] < left[:-1])
        if short.size:
            b = short[0]
            raise ValueError(
                f"stream_split: parts take {taken[b + 1] - taken[b]} rows of sample {b}, which has {stream.lengths[b]}"
            )
        offsets[open_parts[0]] = left
    rows = apply(_split, (stream.rows, stream.offsets, np.stack(offsets)), None)
    rows = rows if isinstance(rows, tuple) else (rows,)
    times = [None] * len(parts) if stream.times is None else [stream.times[i] for i in _places(offsets)]
    return [
        Stream._trusted(own, part.offsets, part.times, part.grid)
        if isinstance(part, Stream)
        else Stream._trusted(own, at, when)
        for part, own, at, when in zip(parts, rows, offsets, times, strict=True)
    ]


def _part_offsets(part, i, samples):
    if part is None:
        return None
    if isinstance(part, Stream):
        part = part.offsets
    elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        if part < 0:
            raise ValueError(f"stream_split: parts[{i}] is {part}, expected at least 0")
        return np.arange(samples + 1, dtype=np.int64) * int(part)
    array = plain_array("stream_split", f"parts[{i}]", part)
    if array.dtype.kind not in "iu":
        raise TypeError(f"stream_split: parts[{i}] is {part!r}, expected an int, offsets, a Stream or None")
    if array.shape != (samples + 1,):
        raise ValueError(f"stream_split: parts[{i}] has shape {array.shape}, expected ({samples + 1},)")
    return array.astype(np.int64)
