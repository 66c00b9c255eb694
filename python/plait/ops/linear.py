"""Linear layers."""

from __future__ import annotations

import math

from plait._array import plain_array, shape_of
from plait.stream import Stream
from plait.tensor import Tensor

from ._apply import apply, operators
from .shape import reshape

_linear = operators["linear"]
_mlp = operators["mlp"]
_LAYERS = {"linear": "Linear", "mlp": "MLP"}  # take streams


def _leading(name, x, call):
    """Calls a function of (N, K) rows on an `x` that has no `ndim` of 2: dimensions before the last are rows."""
    if isinstance(x, Stream):
        raise TypeError(f"{name}: x is a Stream, pass its rows or use nn.{_LAYERS[name]}")
    shape = x.shape if isinstance(x, Tensor) else shape_of(x)
    if len(shape) < 2 and hasattr(x, "ndim"):
        raise ValueError(f"{name}: x has {len(shape)} dimension{'s' * (not shape)}, expected 2 or more")
    if len(shape) < 3:
        return call(x)  # a list; the core says what does not fit
    if not isinstance(x, Tensor):
        array = plain_array(name, "x", x, "a floating dtype")
        x = array if hasattr(x, "ndim") else array.astype("float32")
    rows = call(reshape(x, (math.prod(shape[:-1]), shape[-1])))
    return reshape(rows, (*shape[:-1], rows.shape[-1]))


def linear(x, weight, bias=None, activation=None):
    r"""Linear layer with an optional activation: :math:`y = f(x W^T + b)`.

    Parameters
    ----------
    x : (..., K) array or Tensor
        At least two dimensions; all but the last are rows.
    weight : (D, K) array or Tensor
        Laid out as in PyTorch.
    bias : (D,) array or Tensor, optional
    activation : {None, "relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid"}

    Returns
    -------
    Tensor
        (..., D).

    Raises
    ------
    ValueError
        A shape does not fit; the message names the argument.
    TypeError
        `x` is a Stream: pass its rows, or use ``nn.Linear``.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x = np.ones((2, 3), np.float32)
    >>> plait.ops.linear(x, np.eye(3, dtype=np.float32), activation="relu").shape
    (2, 3)
    """
    if getattr(x, "ndim", 0) != 2:
        return _leading("linear", x, lambda rows: apply(_linear, (rows, weight, bias), {"activation": activation}))
    return apply(_linear, (x, weight, bias), {"activation": activation})


def mlp(x, weight1, bias1, weight2, bias2, activation="gelu"):
    r"""Two linear layers with an activation between: :math:`y = f(x W_1^T + b_1) W_2^T + b_2`.

    Parameters
    ----------
    x : (..., K) array or Tensor
        As in ``linear``.
    weight1 : (F, K) array or Tensor
    bias1 : (F,) array or Tensor, or None
    weight2 : (D, F) array or Tensor
    bias2 : (D,) array or Tensor, or None
    activation : str
        As in ``linear``.

    Returns
    -------
    Tensor
        (..., D).

    Raises
    ------
    ValueError
        A shape does not fit; the message names the argument.
    TypeError
        `x` is a Stream: pass its rows, or use ``nn.MLP``.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x, w = np.ones((2, 3), np.float32), np.ones((5, 3), np.float32)
    >>> plait.ops.mlp(x, w, None, w.T, None, activation="relu").data[0, 0]
    np.float32(15.0)
    """
    parameters = weight1, bias1, weight2, bias2
    if getattr(x, "ndim", 0) != 2:
        return _leading("mlp", x, lambda rows: apply(_mlp, (rows, *parameters), {"activation": activation}))
    return apply(_mlp, (x, *parameters), {"activation": activation})
