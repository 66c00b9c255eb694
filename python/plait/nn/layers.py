"""Layers that work row by row, and pooling. Each takes a Stream (and returns one), a Tensor or an array."""

from __future__ import annotations

import math

import numpy as np

from plait import ops
from plait.nn import init
from plait.nn.module import Module
from plait.nn.parameter import Parameter
from plait.stream import Stream, as_stream
from plait.tensor import Tensor

__all__ = [
    "MLP",
    "Dropout",
    "Embedding",
    "GatedMLP",
    "LayerNorm",
    "Linear",
    "PatchEmbedding",
    "Pool",
    "RMSNorm",
    "Sequential",
]


def _rowwise(x, function):
    """Applies a function of (N, D) rows to a stream, to rows, or to the last axis of anything."""
    if isinstance(x, Stream):
        return x.with_rows(function(x.rows))
    if not isinstance(x, (Tensor, np.ndarray)):
        x = Tensor(x).data
    if x.ndim == 2:
        return function(x)
    if x.ndim < 1:
        raise ValueError("got a single number, expected rows (..., D) or a Stream")
    rows = function(ops.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])))
    return ops.reshape(rows, (*x.shape[:-1], rows.shape[-1]))


def _size(owner, name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{owner}: {name} is {value!r}, expected a whole number of at least 1")
    return int(value)


class Linear(Module):
    """Linear layer with an optional activation, see :func:`plait.ops.linear`.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    activation : str, optional

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.nn.Linear(3, 5)(np.zeros((2, 3), np.float32)).shape
    (2, 5)
    """

    def __init__(self, in_features, out_features, bias=True, activation=None):
        super().__init__()
        shape = (_size("Linear", "out_features", out_features), _size("Linear", "in_features", in_features))
        self.weight = Parameter(init.xavier_uniform(shape))
        self.bias = Parameter(np.zeros(out_features, np.float32)) if bias else None
        self.activation = activation

    def forward(self, x):
        return _rowwise(x, lambda rows: ops.linear(rows, self.weight, self.bias, self.activation))


class LayerNorm(Module):
    """Layer normalisation over the last axis, see :func:`plait.ops.layer_norm`.

    Parameters
    ----------
    width : int
    eps : float

    Examples
    --------
    >>> import plait
    >>> plait.nn.LayerNorm(2)([[1.0, 3.0]])
    Tensor([[-0.999995,  0.999995]], requires_grad=True)
    """

    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight = Parameter(np.ones(_size("LayerNorm", "width", width), np.float32))
        self.bias = Parameter(np.zeros(width, np.float32))
        self.eps = float(eps)

    def forward(self, x):
        return _rowwise(x, lambda rows: ops.layer_norm(rows, self.weight, self.bias, self.eps))


class RMSNorm(Module):
    """Root-mean-square normalisation over the last axis, see :func:`plait.ops.rms_norm`.

    Parameters
    ----------
    width : int
    eps : float

    Examples
    --------
    >>> import plait
    >>> plait.nn.RMSNorm(4)([[3.0, 4.0, 0.0, 0.0]]).data.round(3)
    array([[1.2, 1.6, 0. , 0. ]], dtype=float32)
    """

    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.weight = Parameter(np.ones(_size("RMSNorm", "width", width), np.float32))
        self.eps = float(eps)

    def forward(self, x):
        return _rowwise(x, lambda rows: ops.rms_norm(rows, self.weight, self.eps))


class Dropout(Module):
    """Dropout in training, identity in evaluation, see :func:`plait.ops.dropout`.

    Parameters
    ----------
    p : float
        Probability of dropping, at least 0 and below 1.

    Examples
    --------
    >>> import numpy as np, plait
    >>> layer = plait.nn.Dropout(0.5)
    >>> sorted(set(layer(np.ones(100, np.float32)).data.tolist()))
    [0.0, 2.0]
    >>> layer.eval()(np.ones(2, np.float32))
    array([1., 1.], dtype=float32)
    """

    def __init__(self, p=0.5):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is {p}, expected at least 0 and below 1")
        self.p = float(p)

    def forward(self, x):
        if not self.training or not self.p:
            return x
        if isinstance(x, Stream):
            return x.with_rows(ops.dropout(x.rows, self.p))
        return ops.dropout(x, self.p)


class Embedding(Module):
    """Rows of a table by index, see :func:`plait.ops.embedding`.

    Parameters
    ----------
    num : int
        Rows of the table.
    width : int
    std : float
        Standard deviation of the initial values.

    Notes
    -----
    Called with an integer array of any shape it adds a last axis of ``width``; a Stream of ids, or a list of sequences
    (also empty ones), gives a Stream.

    Examples
    --------
    >>> import plait
    >>> s = plait.nn.Embedding(10, 4)([[1, 2, 3], [4]])     # a list of sequences gives a Stream
    >>> s.rows.shape, s.lengths.tolist()
    ((4, 4), [3, 1])
    """

    def __init__(self, num, width, std=0.02):
        super().__init__()
        shape = (_size("Embedding", "num", num), _size("Embedding", "width", width))
        self.weight = Parameter(init.normal(shape, std))

    def forward(self, ids):
        if isinstance(ids, Stream):
            return ids.with_rows(ops.embedding(ids.rows, self.weight))
        if isinstance(ids, (list, tuple)) and ids and all(np.ndim(i) == 1 for i in ids):
            # An empty list is an array of floats to NumPy.
            ids = [np.asarray(i) if len(i) else np.empty(0, np.int64) for i in ids]
            offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
            return Stream(ops.embedding(np.concatenate(ids), self.weight), offsets)
        return ops.embedding(ids, self.weight)


class MLP(Module):
    """Two linear layers with an activation between.

    Parameters
    ----------
    width : int
    hidden : int, optional
        Default 4 * width.
    activation : str
    dropout : float
        After each layer.
    out_features : int, optional
        Default width.

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.nn.MLP(8, hidden=16, out_features=2)(np.zeros((3, 8), np.float32)).shape
    (3, 2)
    """

    def __init__(self, width, hidden=None, activation="gelu", dropout=0.0, out_features=None):
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width if out_features is None else out_features)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x):
        if self.dropout.p and self.training:
            h = _rowwise(x, lambda r: ops.linear(r, self.fc1.weight, self.fc1.bias, self.activation))
            return self.dropout(self.fc2(self.dropout(h)))
        a, b = self.fc1, self.fc2
        return _rowwise(x, lambda r: ops.mlp(r, a.weight, a.bias, b.weight, b.bias, self.activation))


class GatedMLP(Module):
    """SwiGLU: one half of the first layer, through SiLU, gates the other (Shazeer, arXiv 2002.05202).

    Parameters
    ----------
    width : int
    hidden : int, optional
        Of each half; default 4 * width.

    Notes
    -----
    ``fc1.weight`` holds the rows of the gate, then those that it gates.

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.nn.GatedMLP(8, hidden=16)(np.zeros((3, 8), np.float32)).shape
    (3, 8)
    """

    def __init__(self, width, hidden=None):
        super().__init__()
        self.hidden = 4 * width if hidden is None else hidden
        self.fc1 = Linear(width, 2 * self.hidden)
        self.fc2 = Linear(self.hidden, width)

    def forward(self, x):
        def rows(r):
            h = ops.linear(r, self.fc1.weight, self.fc1.bias)
            gated = ops.multiply(ops.silu(h[:, : self.hidden]), h[:, self.hidden :])
            return ops.linear(gated, self.fc2.weight, self.fc2.bias)

        return _rowwise(x, rows)


class PatchEmbedding(Module):
    """Pictures to rows of patches, see :func:`plait.ops.patch_embed`.

    Parameters
    ----------
    channels, width : int
    patch : int or (int, int)
        Height and width of a patch.
    bias : bool

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.nn.PatchEmbedding(3, 16, patch=8)(np.zeros((2, 32, 24, 3), np.float32))
    Stream(2 samples, 24 rows of (16,), float32, lengths 12 to 12, grid (4, 3))
    """

    def __init__(self, channels, width, patch, bias=True):
        super().__init__()
        ph, pw = (patch, patch) if isinstance(patch, (int, np.integer)) else patch
        shape = (width, channels, ph, pw)
        for name, n in zip(("width", "channels", "patch", "patch"), shape, strict=True):
            _size("PatchEmbedding", name, n)
        self.weight = Parameter(init.xavier_uniform(shape))
        self.bias = Parameter(np.zeros(width, np.float32)) if bias else None

    def forward(self, images):
        return ops.patch_embed(images, self.weight, self.bias)


class Pool(Module):
    """One row a sample, see :func:`plait.ops.pool`.

    Parameters
    ----------
    mode : {"mean", "max", "first", "last", "attention"}
    width : int, optional
        Needed by "attention", which learns a score a row (and head).
    heads : int
        Heads of "attention".

    Examples
    --------
    >>> import numpy as np, plait
    >>> s = plait.Stream(np.ones((3, 4), np.float32), [0, 3, 3])     # the second sample is absent
    >>> plait.nn.Pool("attention", width=4)(s).data
    array([[1., 1., 1., 1.],
           [0., 0., 0., 0.]], dtype=float32)
    """

    def __init__(self, mode="mean", width=None, heads=1):
        super().__init__()
        if mode not in ("mean", "max", "first", "last", "attention"):
            raise ValueError(f"Pool: mode is {mode!r}, expected mean, max, first, last or attention")
        self.mode = mode
        self.score = Linear(_size("Pool", "width", width), heads) if mode == "attention" else None

    def forward(self, x):
        x = as_stream(x)
        if self.mode == "attention":
            return ops.attention_pool(x.rows, x.offsets, self.score(x.rows))
        return ops.pool(x.rows, x.offsets, self.mode)


class Sequential(Module):
    """Modules one after the other.

    Examples
    --------
    >>> import numpy as np, plait
    >>> net = plait.nn.Sequential(plait.nn.Linear(4, 8, activation="relu"), plait.nn.Linear(8, 2))
    >>> net(np.zeros((3, 4), np.float32)).shape
    (3, 2)
    """

    def __init__(self, *modules):
        super().__init__()
        for i, m in enumerate(modules):
            if not isinstance(m, Module):
                raise TypeError(f"Sequential: argument {i} is {type(m).__name__}, expected Module")
            setattr(self, str(i), m)
        self._count = len(modules)

    def __len__(self):
        return self._count

    def __getitem__(self, i):
        return getattr(self, str(range(self._count)[i]))

    def forward(self, x):
        for i in range(self._count):
            x = self[i](x)
        return x
