"""Embedding: rows of a table by index."""

from __future__ import annotations

from ._apply import apply, operators

_embedding = operators["embedding"]


def embedding(ids, weight, padding_idx=None):
    """Rows of a table: ``weight[ids]``.

    The gradient adds the rows of equal ids up in their order, whatever the number of threads; when it is added to one
    that exists (micro-batches, tied weights), rows that no id names are not touched.

    Parameters
    ----------
    ids : int array
        Any shape.
    weight : (V, D) array or Tensor
    padding_idx : int, optional
        An id that brings no gradient.

    Returns
    -------
    Tensor
        The shape of ``ids``, then D.

    Raises
    ------
    IndexError
        An id is below 0 or not below V; the message names its position.
    ValueError
        ``weight`` has not two dimensions, or ``padding_idx`` is out of range.

    Examples
    --------
    >>> import plait
    >>> plait.ops.embedding([2, 0], [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    Tensor([[4., 5.],
            [0., 1.]])
    """
    if padding_idx is None:
        padding_idx = -1
    elif padding_idx < 0:
        raise ValueError(f"embedding: padding_idx is {padding_idx}, expected at least 0 or None")
    return apply(_embedding, (ids, weight), {"padding_idx": padding_idx})
