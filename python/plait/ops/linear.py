"""Linear layers."""

from __future__ import annotations

from ._apply import apply, operators

_linear = operators["linear"]
_mlp = operators["mlp"]


def linear(x, weight, bias=None, activation=None):
    r"""Linear layer with an optional activation: :math:`y = f(x W^T + b)`.

    Parameters
    ----------
    x : (N, K) array or Tensor
        Rows.
    weight : (D, K) array or Tensor
        Laid out as in PyTorch.
    bias : (D,) array or Tensor, optional
    activation : {None, "relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid"}

    Returns
    -------
    Tensor
        (N, D).

    Raises
    ------
    ValueError
        A shape does not fit; the message names the argument.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x = np.ones((2, 3), np.float32)
    >>> plait.ops.linear(x, np.eye(3, dtype=np.float32), activation="relu").shape
    (2, 3)
    """
    return apply(_linear, (x, weight, bias), {"activation": activation})


def mlp(x, weight1, bias1, weight2, bias2, activation="gelu"):
    r"""Two linear layers with an activation between: :math:`y = f(x W_1^T + b_1) W_2^T + b_2`.

    Parameters
    ----------
    x : (N, K) array or Tensor
    weight1 : (F, K) array or Tensor
    bias1 : (F,) array or Tensor, or None
    weight2 : (D, F) array or Tensor
    bias2 : (D,) array or Tensor, or None
    activation : str
        As in ``linear``.

    Returns
    -------
    Tensor
        (N, D).

    Raises
    ------
    ValueError
        A shape does not fit; the message names the argument.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x, w = np.ones((2, 3), np.float32), np.ones((5, 3), np.float32)
    >>> plait.ops.mlp(x, w, None, w.T, None, activation="relu").data[0, 0]
    np.float32(15.0)
    """
    return apply(_mlp, (x, weight1, bias1, weight2, bias2), {"activation": activation})
