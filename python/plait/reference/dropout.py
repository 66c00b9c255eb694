"""Twin of dropout."""

from __future__ import annotations

import numpy as np

from .random import drop_below, random_words


def dropout_mask(shape, p, key, counter):
    """1 / (1 - p) where an element stays, 0 where it is dropped: when its word is below p * 2**32."""
    words = random_words(key, counter, int(np.prod(shape, dtype=np.int64)))
    return np.where(words < drop_below(p), 0.0, 1 / (1 - p)).reshape(shape)


def dropout(x, p=0.5, training=True, key=0, counter=0):
    """y = x / (1 - p) with probability 1 - p, else 0. Srivastava et al., JMLR 15 (2014) 1929."""
    x = np.asarray(x, np.float64)
    return x * dropout_mask(x.shape, p, key, counter) if training else x.copy()


def dropout_backward(dy, x, p=0.5, training=True, key=0, counter=0):
    dy = np.asarray(dy, np.float64)
    return (dy * dropout_mask(dy.shape, p, key, counter) if training else dy.copy(),)
