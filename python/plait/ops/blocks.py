"""The fused MLP sublayer: norm, branch, dropout and residual in one call and one record."""

from __future__ import annotations

from ._apply import apply, generator, operators

_mlp_block = operators["mlp_block"]


def mlp_block(
    x,
    norm_weight,
    norm_bias,
    weight1,
    bias1,
    weight2,
    bias2,
    *,
    activation="gelu",
    pre_norm=True,
    norm="layer",
    eps=1e-5,
    residual_dropout=0.0,
):
    r"""MLP sublayer: :math:`x + \mathrm{mlp}(\mathrm{norm}(x))`, or :math:`\mathrm{norm}(x + \mathrm{mlp}(x))`.

    Equal to the composition of ``layer_norm``, ``mlp``, ``dropout`` and the sum; one record on the tape.

    Parameters
    ----------
    x : (N, D) array or Tensor
    norm_weight, norm_bias : (D,) array or Tensor
        The bias may be None; RMS norm has none.
    weight1, bias1, weight2, bias2 : array or Tensor
        (F, D), (F,), (D, F), (D,); the biases may be None.
    activation : str
        As in ``linear``.
    pre_norm : bool
        Norm before the branch (Xiong et al., arXiv 2002.04745), else after the residual.
    norm : {"layer", "rms"}
    eps : float
        Of the norm.
    residual_dropout : float
        On the branch.

    Returns
    -------
    Tensor
        (N, D).

    Raises
    ------
    ValueError
        A shape or a number does not fit; the message names the argument.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x, one = np.ones((2, 4), np.float32), np.ones(4, np.float32)
    >>> w = np.zeros((8, 4), np.float32)
    >>> plait.ops.mlp_block(x, one, one, w, None, w.T, None).data[0]
    array([1., 1., 1., 1.], dtype=float32)
    """
    attrs = {
        "activation": activation,
        "pre_norm": pre_norm,
        "norm": norm,
        "eps": eps,
        "residual_dropout": residual_dropout,
    }
    inputs = (x, norm_weight, norm_bias, weight1, bias1, weight2, bias2)
    if not residual_dropout:
        return apply(_mlp_block, inputs, attrs)
    return apply(_mlp_block, inputs, attrs, *generator.draw())
