"""Losses of differences: mean squared error, mean absolute error, Huber loss."""

from __future__ import annotations

import numpy as np

from plait._array import plain_array
from plait.tensor import Tensor

from ._apply import apply, operators

_regression_loss = operators["regression_loss"]


def regression_loss(prediction, target, kind="mse", *, reduction="mean", delta=1.0, present=None):
    r"""A loss of the differences :math:`d = prediction - target`, element by element.

    ========= =======================================================================================
    mse       :math:`d^2`
    l1        :math:`|d|`, with derivative 0 at 0
    huber     :math:`d^2 / 2` where :math:`|d| \le \delta`, else :math:`\delta (|d| - \delta / 2)`
    ========= =======================================================================================

    Parameters
    ----------
    prediction, target : (N, ...) array or Tensor
        Of one shape. Both get gradients.
    kind : {"mse", "l1", "huber"}
    reduction : {"mean", "sum", "none"}
        Over all elements.
    delta : float
        Above 0; of ``"huber"`` (P. J. Huber, Ann. Math. Statist. 35 (1964) 73).
    present : (N,) array of bool or float, optional
        Weights of the rows, 0 or more. A row of weight 0 counts as absent, whatever it holds: loss and gradient are 0.
        The mean divides by the elements counted with their weights; if nothing is present it is 0. Not differentiable.

    Returns
    -------
    Tensor
        (), or the losses of the elements, times the weights of their rows, for ``"none"``.

    Raises
    ------
    ValueError
        Shapes differ, a name is unknown, or a weight is negative or not finite.

    Examples
    --------
    >>> import plait
    >>> plait.ops.regression_loss([1.0, 2.0], [1.0, 4.0], "l1")
    Tensor(1.)
    """
    return _loss("regression_loss", prediction, target, kind, reduction, delta, present)


def _loss(name, prediction, target, kind, reduction, delta, present):
    attrs = {"kind": kind, "reduction": reduction, "delta": delta}
    inputs = prediction, target, _weights(name, present, prediction)
    try:
        return apply(_regression_loss, inputs, attrs)
    except (TypeError, ValueError) as error:  # the core says regression_loss, whatever the user called
        text = str(error)
        if not text.startswith("regression_loss:") or type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(name + text.removeprefix("regression_loss")) from None


def _weights(name, present, prediction):
    if present is None:
        return None
    due = "booleans or weights"
    weights = present.data if isinstance(present, Tensor) else present
    weights = plain_array(name, "present", weights, due)
    if weights.dtype.kind not in "biufV":
        raise TypeError(f"{name}: present has dtype {weights.dtype}, expected {due}")
    return weights.astype(np.float64 if getattr(prediction, "dtype", None) == np.float64 else np.float32)


def mse(prediction, target, *, reduction="mean", present=None):
    """Mean squared error, the mean of ``(prediction - target) ** 2``.

    Parameters
    ----------
    prediction, target : (N, ...) array or Tensor
        Of one shape. Both get gradients.
    reduction : {"mean", "sum", "none"}
    present : (N,) array of bool or float, optional
        Weights of the rows; rows of weight 0 are absent, see ``ops.regression_loss``.

    Returns
    -------
    Tensor
        (), or the losses of the elements for ``"none"``.

    Raises
    ------
    ValueError
        Shapes differ, ``reduction`` is unknown, or a weight is negative or not finite.

    Examples
    --------
    >>> import plait
    >>> plait.losses.mse([1.0, 2.0], [1.0, 4.0])
    Tensor(2.)
    """
    return _loss("mse", prediction, target, "mse", reduction, 1.0, present)


def l1(prediction, target, *, reduction="mean", present=None):
    """Mean absolute error, the mean of ``abs(prediction - target)``.

    Parameters
    ----------
    prediction, target : (N, ...) array or Tensor
        Of one shape. Both get gradients.
    reduction : {"mean", "sum", "none"}
    present : (N,) array of bool or float, optional
        Weights of the rows; rows of weight 0 are absent, see ``ops.regression_loss``.

    Returns
    -------
    Tensor
        (), or the losses of the elements for ``"none"``.

    Raises
    ------
    ValueError
        Shapes differ, ``reduction`` is unknown, or a weight is negative or not finite.

    Examples
    --------
    >>> import plait
    >>> plait.losses.l1([1.0, 2.0], [1.0, 4.0], present=[False, True])
    Tensor(2.)
    """
    return _loss("l1", prediction, target, "l1", reduction, 1.0, present)


def huber(prediction, target, delta=1.0, *, reduction="mean", present=None):
    """Huber loss: squares / 2 of differences up to ``delta``, straight lines beyond.

    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Statist. 35 (1964) 73.

    Parameters
    ----------
    prediction, target : (N, ...) array or Tensor
        Of one shape. Both get gradients.
    delta : float
        Above 0.
    reduction : {"mean", "sum", "none"}
    present : (N,) array of bool or float, optional
        Weights of the rows; rows of weight 0 are absent, see ``ops.regression_loss``.

    Returns
    -------
    Tensor
        (), or the losses of the elements for ``"none"``.

    Raises
    ------
    ValueError
        Shapes differ, ``delta`` is not above 0, ``reduction`` is unknown, or a weight is negative or not finite.

    Examples
    --------
    >>> import plait
    >>> plait.losses.huber([1.0, 2.0], [0.5, 4.0], reduction="none")
    Tensor([0.125, 1.5  ])
    """
    return _loss("huber", prediction, target, "huber", reduction, delta, present)
