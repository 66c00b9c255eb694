"""Twin of the embedding."""

from __future__ import annotations

import numpy as np


def embedding(ids, weight, padding_idx=None):
    """y[i] = weight[ids[i]]."""
    ids, weight = np.asarray(ids), np.asarray(weight, np.float64)
    bad = np.argwhere((ids < 0) | (ids >= len(weight)))
    if len(bad):
        place = tuple(bad[0])
        position = ", ".join(str(i) for i in place)
        raise IndexError(
            f"embedding: ids[{position}] is {ids[place]}, expected 0 to {len(weight) - 1}, the rows of weight"
        )
    return weight[ids]


def embedding_backward(dy, ids, weight, padding_idx=None):
    ids = np.asarray(ids)
    dweight = np.zeros(np.shape(weight))
    np.add.at(dweight, ids, dy)
    if padding_idx is not None and padding_idx >= 0:  # -1 is the C operator's word for none
        dweight[padding_idx] = 0
    return None, dweight
