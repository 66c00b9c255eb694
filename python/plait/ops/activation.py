"""Activations: elementwise functions of arrays of any shape."""

from __future__ import annotations

from ._apply import apply, operators

_activation = operators["activation"]


def activation(x, kind):
    """An elementwise function by name.

    Parameters
    ----------
    x : array or Tensor
        Any shape.
    kind : {None, "none", "relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid"}

        ============== ======================================================= ========================
        relu           max(x, 0)
        gelu           x P(X <= x), X standard normal                          arXiv 1606.08415
        gelu_tanh      x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2       arXiv 1606.08415
        quick_gelu     x sigmoid(1.702 x)                                      arXiv 1606.08415 (CLIP)
        silu           x sigmoid(x)                                            arXiv 1702.03118
        tanh, sigmoid
        ============== ======================================================= ========================

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Raises
    ------
    ValueError
        The name is unknown; the message lists those that are known.

    Examples
    --------
    >>> import plait
    >>> plait.ops.activation([-1.0, 2.0], "relu")
    Tensor([0., 2.])
    """
    return apply(_activation, (x,), {"kind": kind})


def relu(x):
    """max(x, 0), with derivative 0 at 0.

    Parameters
    ----------
    x : array or Tensor
        Any shape.

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Examples
    --------
    >>> import plait
    >>> plait.ops.relu([-1.0, 2.0])
    Tensor([0., 2.])
    """
    return activation(x, "relu")


def gelu(x, approximate="none"):
    """Gaussian error linear unit, x P(X <= x) for a standard normal X (Hendrycks & Gimpel, arXiv 1606.08415).

    Parameters
    ----------
    x : array or Tensor
        Any shape.
    approximate : {"none", "tanh"}
        With ``"tanh"``: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as GPT-2 and SigLIP have it.

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Raises
    ------
    ValueError
        ``approximate`` is neither.

    Examples
    --------
    >>> import plait
    >>> plait.ops.gelu([0.0, 100.0])
    Tensor([  0., 100.])
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    return activation(x, "gelu" if approximate == "none" else "gelu_tanh")


def quick_gelu(x):
    """x sigmoid(1.702 x), the GELU of OpenAI's CLIP models (Hendrycks & Gimpel, arXiv 1606.08415, section 2).

    Parameters
    ----------
    x : array or Tensor
        Any shape.

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Examples
    --------
    >>> import plait
    >>> plait.ops.quick_gelu([0.0, 100.0])
    Tensor([  0., 100.])
    """
    return activation(x, "quick_gelu")


def silu(x):
    """x sigmoid(x), also called swish (Elfwing, Uchibe & Doya, arXiv 1702.03118).

    Parameters
    ----------
    x : array or Tensor
        Any shape.

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Examples
    --------
    >>> import plait
    >>> plait.ops.silu([0.0, 100.0])
    Tensor([  0., 100.])
    """
    return activation(x, "silu")


def tanh(x):
    """Hyperbolic tangent.

    Parameters
    ----------
    x : array or Tensor
        Any shape.

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Examples
    --------
    >>> import plait
    >>> plait.ops.tanh([0.0, 100.0])
    Tensor([0., 1.])
    """
    return activation(x, "tanh")


def sigmoid(x):
    """1 / (1 + exp(-x)).

    Parameters
    ----------
    x : array or Tensor
        Any shape.

    Returns
    -------
    Tensor
        Of the shape of ``x``.

    Examples
    --------
    >>> import plait
    >>> plait.ops.sigmoid([0.0, 100.0])
    Tensor([0.5, 1. ])
    """
    return activation(x, "sigmoid")
