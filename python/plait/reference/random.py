"""Random words by name: the twin of ``csrc/core/random.h``, equal to it bit for bit."""

from __future__ import annotations

import numpy as np

__all__ = ["drop_below", "drop_below_16", "philox", "random_words"]

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(key: int, counter: int, block) -> np.ndarray:
    """Philox4x32-10: four random words for each block of a stream.

    J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Parameters
    ----------
    key, counter : int
        Name of the stream, 0 to 2**64 - 1 each: the key of the process and the number of the call.
    block : array_like of int
        Any shape, 0 to 2**64 - 1.

    Returns
    -------
    numpy.ndarray
        uint32, shape ``block.shape + (4,)``.

    Examples
    --------
    >>> from plait.reference import philox
    >>> [hex(word) for word in philox(0, 0, 0)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    block = np.asarray(block).astype(np.uint64)
    x0, x1 = block & _LOW, block >> _SHIFT
    x2, x3 = np.full_like(block, counter & 0xFFFFFFFF), np.full_like(block, counter >> 32 & 0xFFFFFFFF)
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * x0, np.uint64(0xCD9E8D57) * x2  # below 2**64, so nothing is lost
        x0, x1 = (p1 >> _SHIFT) ^ x1 ^ np.uint64(k0), p1 & _LOW
        x2, x3 = (p0 >> _SHIFT) ^ x3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def random_words(key: int, counter: int, count: int) -> np.ndarray:
    """The first ``count`` words of a stream, uint32: word ``e`` is word ``e % 4`` of block ``e // 4``."""
    return philox(key, counter, np.arange((count + 3) // 4)).reshape(-1)[:count]


def drop_below(rate: float) -> int:
    """An element is dropped when its word is below this."""
    return int(rate * 4294967296.0)


def drop_below_16(rate: float) -> int:
    """The same for the sixteen bits of an attention weight; at most 65535, for 65536 would leave nothing."""
    return min(int(rate * 65536.0 + 0.5), 65535)
