"""Layer norm, RMS norm and L2 norm."""

from __future__ import annotations

from ._apply import apply, operators

_layer_norm, _rms_norm, _l2_normalize = operators["layer_norm"], operators["rms_norm"], operators["l2_normalize"]


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    r"""Layer norm over the last dimension (Ba, Kiros & Hinton, arXiv 1607.06450).

    .. math:: y = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} w + b

    with mean :math:`\mu` and (biased) variance :math:`\sigma^2` of each row. The mean is taken out before the squares
    are summed, so that a large mean costs no precision.

    Parameters
    ----------
    x : (..., D) array or Tensor
    weight, bias : (D,) array or Tensor, optional
        Default: 1 and 0.
    eps : float
        Above 0.

    Returns
    -------
    Tensor
        (..., D).

    Raises
    ------
    ValueError
        A shape does not fit, D is 0, or ``eps`` is not a finite number above 0.

    Examples
    --------
    >>> import plait
    >>> plait.ops.layer_norm([[1.0, 3.0], [2.0, 2.0]]).numpy().round(4)
    array([[-1.,  1.],
           [ 0.,  0.]], dtype=float32)
    """
    return apply(_layer_norm, (x, weight, bias), {"eps": eps})


def rms_norm(x, weight=None, eps=1e-6):
    r"""Root mean square norm over the last dimension (Zhang & Sennrich, arXiv 1910.07467).

    .. math:: y = \frac{x}{\sqrt{\mathrm{mean}(x^2) + \epsilon}} w

    Parameters
    ----------
    x : (..., D) array or Tensor
    weight : (D,) array or Tensor, optional
        Default: 1.
    eps : float
        Above 0.

    Returns
    -------
    Tensor
        (..., D).

    Raises
    ------
    ValueError
        A shape does not fit, D is 0, or ``eps`` is not a finite number above 0.

    Examples
    --------
    >>> import plait
    >>> plait.ops.rms_norm([[3.0, 4.0, 0.0, 0.0]]).numpy().round(4)
    array([[1.2, 1.6, 0. , 0. ]], dtype=float32)
    """
    return apply(_rms_norm, (x, weight), {"eps": eps})


def l2_normalize(x, eps=1e-12):
    r"""Rows of length one over the last dimension: :math:`y = x / \lVert x \rVert_2`.

    A row of zeros (or at most ``eps`` long), such as the feature of an absent modality, stays zero and gets no
    gradient. Rows too long or too short for float32 squares are scaled on the way and come out right.

    Parameters
    ----------
    x : (..., D) array or Tensor
    eps : float
        Above 0.

    Returns
    -------
    Tensor
        (..., D).

    Raises
    ------
    ValueError
        D is 0, or ``eps`` is not a finite number above 0.

    Examples
    --------
    >>> import plait
    >>> plait.ops.l2_normalize([[3.0, 4.0], [0.0, 0.0]]).numpy().round(4)
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    return apply(_l2_normalize, (x,), {"eps": eps})
