"""``Stream``: a batch of sequences without padding, and ``as_stream``, which makes one from plain arrays."""

from __future__ import annotations

import numpy as np

from plait._array import plain_array
from plait._rows import concatenate, cut, pad, take, unpad, view
from plait.tensor import Tensor

__all__ = ["Stream", "as_stream"]


class Stream:
    """A batch of sequences: a matrix of rows, and offsets that say which rows belong to which sample.

    Sample ``b`` owns rows ``offsets[b]`` to ``offsets[b + 1]``. There is no padding, and a sample that lacks the
    modality is a sample with no rows. Streams are not changed after they are made.

    Parameters
    ----------
    rows : (N, D) array or Tensor
        Tokens, frames, pixels, regions. Kept as given. (N,) is accepted for token ids, (N, ...) for frames that still
        have to be encoded.
    offsets : (B + 1,) integers
        Ascending, from 0 to N.
    times : (N,) array, optional
        Seconds, one for each row.
    grid : (H, W) or (T, H, W), or a (B, 2) or (B, 3) array, optional
        Where rows are pixels or patches in row-major order: the grid of every sample, or one for each sample. A sample
        has as many rows as its grid has cells, or none.

    Attributes
    ----------
    rows : ndarray or Tensor
    offsets : (B + 1,) int64 array, read-only
    lengths : (B,) int64 array
        Rows of each sample.
    present : (B,) bool array
        ``lengths > 0``.
    times : (N,) float64 array or None
    grid : tuple, (B, 2) or (B, 3) int64 array, or None

    Raises
    ------
    TypeError, ValueError
        The message names the argument, what was got and what was expected.

    Examples
    --------
    >>> import numpy as np, plait
    >>> s = plait.Stream(np.arange(10.0).reshape(5, 2), [0, 3, 3, 5])
    >>> s
    Stream(3 samples, 5 rows of (2,), float64, lengths 0 to 3)
    >>> s.present
    array([ True, False,  True])
    >>> s[2]
    array([[6., 7.],
           [8., 9.]])
    >>> s[[2, 0]].offsets
    array([0, 2, 5])
    """

    __slots__ = ("grid", "offsets", "rows", "times")

    def __init__(self, rows, offsets, times=None, grid=None):
        if not isinstance(rows, Tensor):
            rows = _array(rows, "Stream: rows")
        if rows.ndim < 1:
            raise ValueError("Stream: rows is a single number, expected an (N, D) array")
        self.rows = rows
        self.offsets = _offsets(offsets, rows.shape[0])
        self.times = None if times is None else _times(times, rows.shape[0])
        self.grid = None if grid is None else _grid(grid, np.diff(self.offsets))

    @classmethod
    def _trusted(cls, rows, offsets, times=None, grid=None):
        """No checks: for arguments that come from another stream."""
        self = cls.__new__(cls)
        if offsets.flags.writeable:
            offsets.setflags(write=False)
        self.rows, self.offsets, self.times, self.grid = rows, offsets, times, grid
        return self

    # ---- made from

    @classmethod
    def from_list(cls, samples, times=None, grid=None):
        """Stream of one array a sample; ``None`` or an array without rows is an absent sample.

        Parameters
        ----------
        samples : list of (T_i, D) arrays or Tensors
            At least one of them is not None.
        times : list of (T_i,) arrays, optional
            Seconds; None where a sample is absent.
        grid : optional
            As in `Stream`.

        Examples
        --------
        >>> import numpy as np, plait
        >>> plait.Stream.from_list([np.zeros((2, 4)), None, np.ones((3, 4))]).lengths
        array([2, 0, 3])
        """
        samples = list(samples)
        given = [
            s if s is None or isinstance(s, Tensor) else _array(s, f"from_list: samples[{i}]")
            for i, s in enumerate(samples)
        ]
        known = [s for s in given if s is not None]
        if not known:
            raise ValueError("from_list: samples holds no array, so the width is unknown; give an array of no rows")
        for i, s in enumerate(given):
            if s is not None and (s.ndim < 1 or s.shape[1:] != known[0].shape[1:]):
                due = ", ".join(["*", *map(str, known[0].shape[1:])])
                raise ValueError(f"from_list: samples[{i}] has shape {s.shape}, expected ({due}) like the first")
        lengths = [0 if s is None else s.shape[0] for s in given]
        if times is not None:
            times = [np.empty(0) if t is None else np.asarray(t, np.float64) for t in times]
            if [t.shape for t in times] != [(n,) for n in lengths]:
                raise ValueError(
                    f"from_list: times has shapes {[t.shape for t in times]}, expected {[(n,) for n in lengths]}"
                )
            times = np.concatenate(times)
        return cls(concatenate(known), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), times, grid)

    @classmethod
    def from_padded(cls, x, lengths):
        """Stream of the first ``lengths[b]`` rows of each ``x[b]``; what lies behind them is not read.

        Parameters
        ----------
        x : (B, T, D) array or Tensor
            (B, T) is accepted for token ids.
        lengths : (B,) integers
            From 0 to T.

        Examples
        --------
        >>> import numpy as np, plait
        >>> plait.Stream.from_padded(np.zeros((2, 5, 3)), [5, 1]).offsets
        array([0, 5, 6])
        """
        if not isinstance(x, Tensor):
            x = _array(x, "from_padded: x")
        if x.ndim < 2:
            raise ValueError(f"from_padded: x has shape {x.shape}, expected (B, T, D)")
        batch, longest = x.shape[:2]
        lengths = _integers(lengths, "from_padded: lengths")
        if lengths.shape != (batch,):
            raise ValueError(f"from_padded: lengths has shape {lengths.shape}, expected ({batch},), one for each x[b]")
        wrong = np.flatnonzero((lengths < 0) | (lengths > longest))
        if wrong.size:
            b = wrong[0]
            raise ValueError(f"from_padded: lengths[{b}] is {lengths[b]}, expected 0 to {longest}, the rows of x[b]")
        return cls._trusted(unpad(x, lengths), np.concatenate([[0], np.cumsum(lengths)]))

    # ---- what it is

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def present(self) -> np.ndarray:
        return self.offsets[1:] > self.offsets[:-1]

    def __len__(self):
        return self.offsets.shape[0] - 1

    def __repr__(self):
        lengths = self.lengths
        parts = [
            f"{len(self)} sample{'' if len(self) == 1 else 's'}",
            f"{self.rows.shape[0]} rows of {self.rows.shape[1:]}",
            str(self.rows.dtype),
        ]
        if len(self):
            parts.append(f"lengths {lengths.min()} to {lengths.max()}")
        if self.times is not None:
            parts.append("times")
        if isinstance(self.grid, tuple):
            parts.append(f"grid {self.grid}")
        elif self.grid is not None:
            parts.append("a grid each")
        return f"Stream({', '.join(parts)})"

    # ---- taken apart

    def __getitem__(self, index):
        """``s[i]``: the rows of sample i. ``s[a:b]``, ``s[indices]``, ``s[mask]``: a Stream of those samples."""
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            i = int(index)
            if not -len(self) <= i < len(self):
                raise IndexError(f"Stream: sample {i} of {len(self)}")
            i %= len(self)
            return cut(self.rows, int(self.offsets[i]), int(self.offsets[i + 1]))
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                stop = max(start, stop)
                begin, end = int(self.offsets[start]), int(self.offsets[stop])
                return self._trusted(
                    cut(self.rows, begin, end),
                    self.offsets[start : stop + 1] - begin,
                    None if self.times is None else self.times[begin:end],
                    self.grid[start:stop] if isinstance(self.grid, np.ndarray) else self.grid,
                )
            chosen = np.arange(start, stop, step)
        else:
            chosen = self._chosen(index)
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        picked = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        return self._trusted(
            take(self.rows, picked, distinct=np.unique(chosen).size == chosen.size),
            offsets,
            None if self.times is None else self.times[picked],
            self.grid[chosen] if isinstance(self.grid, np.ndarray) else self.grid,
        )

    def _chosen(self, index):
        chosen = np.asarray(index)
        if chosen.size == 0 and not isinstance(index, np.ndarray):
            chosen = chosen.astype(np.int64)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iub":
            raise TypeError(f"Stream: cannot be indexed with {index!r}; expected a number, a slice, indices or a mask")
        if chosen.dtype.kind == "b":
            if chosen.shape[0] != len(self):
                raise IndexError(f"Stream: a mask of {chosen.shape[0]}, expected {len(self)}, the number of samples")
            return np.flatnonzero(chosen)
        wrong = np.flatnonzero((chosen < -len(self)) | (chosen >= len(self)))
        if wrong.size:
            raise IndexError(f"Stream: sample {chosen[wrong[0]]} of {len(self)}")
        return chosen % len(self) if len(self) else chosen

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def padded(self):
        """The samples side by side, zeros behind the shorter ones.

        Returns
        -------
        x : (B, T, D) ndarray, or Tensor where ``rows`` is one
            T is the largest length. Full streams are viewed and not copied.
        lengths : (B,) int64 array

        Examples
        --------
        >>> import numpy as np, plait
        >>> x, lengths = plait.Stream(np.ones((3, 1)), [0, 1, 3]).padded()
        >>> x[:, :, 0].tolist(), lengths.tolist()
        ([[1.0, 0.0], [1.0, 1.0]], [1, 2])
        """
        lengths = self.lengths
        return pad(self.rows, lengths, int(lengths.max(initial=0))), lengths

    def with_rows(self, rows) -> Stream:
        """The same samples, times and grid over other rows, as many as before.

        Examples
        --------
        >>> import numpy as np, plait
        >>> s = plait.Stream(np.zeros((3, 4)), [0, 1, 3])
        >>> s.with_rows(np.ones((3, 9))).rows.shape
        (3, 9)
        """
        if not isinstance(rows, Tensor):
            rows = _array(rows, "with_rows: rows")
        if rows.ndim < 1 or rows.shape[0] != self.rows.shape[0]:
            raise ValueError(f"with_rows: rows has shape {rows.shape}, expected {self.rows.shape[0]} rows")
        return self._trusted(rows, self.offsets, self.times, self.grid)


def as_stream(x, layout=None, *, name="x") -> Stream:
    """A stream from a plain array; a Stream passes through.

    Parameters
    ----------
    x : Stream, array or Tensor
        (B, T, D): B full sequences. Pictures have four dimensions and need `layout`: their rows are pixels and their
        grid is (H, W).
    layout : {None, "NHWC", "NCHW"}
    name : str
        What error messages call `x`.

    Raises
    ------
    ValueError
        Any other rank. A bare 2-D array is refused, since it may be a batch of vectors as well as one sequence.

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.as_stream(np.zeros((2, 5, 3)))
    Stream(2 samples, 10 rows of (3,), float64, lengths 5 to 5)
    >>> plait.as_stream(np.zeros((2, 3, 8, 8)), layout="NCHW")
    Stream(2 samples, 128 rows of (3,), float64, lengths 64 to 64, grid (8, 8))
    """
    if isinstance(x, Stream):
        return x
    if layout not in (None, "NHWC", "NCHW"):
        raise ValueError(f"as_stream: layout is {layout!r}, expected None, 'NHWC' or 'NCHW'")
    if not isinstance(x, Tensor):
        x = _array(x, f"as_stream: {name}")
    due = "(B, T, D)" if layout is None else "(B, H, W, C)" if layout == "NHWC" else "(B, C, H, W)"
    if x.ndim == 4 and layout is None:
        raise ValueError(f"as_stream: {name} has shape {x.shape}; pictures need layout='NHWC' or 'NCHW'")
    if x.ndim != (3 if layout is None else 4):
        hint = "; make a Stream with offsets, or add the batch dimension" if x.ndim == 2 else ""
        raise ValueError(f"as_stream: {name} has shape {x.shape}, expected {due}{hint}")
    grid = None
    if layout is not None:
        if layout == "NCHW":
            x = view(x, lambda a: a.transpose(0, 2, 3, 1), lambda d: d.transpose(0, 3, 1, 2))
        grid = x.shape[1:3]
    batch, length = x.shape[0], int(np.prod(x.shape[1:-1]))
    rows, shape = (batch * length, x.shape[-1]), x.shape
    rows = view(x, lambda a: a.reshape(rows), lambda d: d.reshape(shape))
    return Stream._trusted(rows, np.arange(batch + 1, dtype=np.int64) * length, None, grid)


# ---------------------------------------------------------------- checks


def _array(value, what):
    if type(value) is np.ndarray:
        array = value
    elif isinstance(value, np.ndarray):
        array = plain_array(*what.split(": ", 1), value)
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{what} is not one array ({error}); Stream.from_list takes a list of arrays") from None
        except Exception as error:
            raise TypeError(f"{what} is not an array: {type(value).__name__} ({error})") from None
        if array.dtype == np.float64 and not hasattr(value, "__array__"):
            array = array.astype(np.float32)  # Python numbers, as in Tensor
    if array.dtype.kind in "OUSMmc" or array.dtype.names:
        raise TypeError(f"{what} has dtype {array.dtype}, expected numbers")
    return array


def _integers(value, what):
    array = plain_array(*what.split(": ", 1), value)
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what} has dtype {array.dtype}, expected integers")
    # A copy: nobody else may change it later. Values past int64 turn negative, which the checks refuse.
    return np.array(array, dtype=np.int64, order="C")


def _offsets(value, rows):
    offsets = _integers(value, "Stream: offsets")
    if offsets.ndim != 1 or offsets.size < 1:
        raise ValueError(f"Stream: offsets has shape {offsets.shape}, expected (B + 1,)")
    if offsets[0] != 0:
        raise ValueError(f"Stream: offsets[0] is {offsets[0]}, expected 0")
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    if falls.size:
        i = falls[0] + 1
        raise ValueError(
            f"Stream: offsets[{i}] is {offsets[i]}, below the {offsets[i - 1]} before it; offsets must ascend"
        )
    if offsets[-1] != rows:
        raise ValueError(f"Stream: offsets ends at {offsets[-1]}, expected {rows}, the number of rows")
    offsets.setflags(write=False)
    return offsets


def _times(value, rows):
    times = np.array(value, dtype=np.float64)
    if times.shape != (rows,):
        raise ValueError(f"Stream: times has shape {times.shape}, expected ({rows},), one for each row")
    wrong = np.flatnonzero(~np.isfinite(times))
    if wrong.size:
        raise ValueError(f"Stream: times[{wrong[0]}] is {times[wrong[0]]}, expected a finite number of seconds")
    return times


def _grid(value, lengths):
    grid = _integers(value, "Stream: grid")
    common = grid.ndim == 1
    if grid.shape[-1:] not in ((2,), (3,)) or not (common or grid.shape[:-1] == lengths.shape):
        raise ValueError(
            f"Stream: grid has shape {grid.shape}, expected (H, W), (T, H, W), or one of them for each of the "
            f"{lengths.size} samples"
        )
    if (grid < (1 if common else 0)).any():
        raise ValueError(f"Stream: grid is {grid.tolist()}, expected sizes of at least 1")
    cells = np.broadcast_to(grid, (*lengths.shape, grid.shape[-1])).prod(-1)
    wrong = np.flatnonzero((lengths != cells) & (lengths != 0))
    if wrong.size:
        b = wrong[0]
        raise ValueError(
            f"Stream: grid has {cells[b]} cells, but sample {b} has {lengths[b]} rows; expected as many, or no rows"
        )
    return tuple(grid.tolist()) if common else grid
