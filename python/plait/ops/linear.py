"""Linear layers."""

from __future__ import annotations

from ._apply import apply, operators

_linear = operators["linear"]


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
