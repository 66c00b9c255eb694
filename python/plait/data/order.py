"""Which samples form which batch: a function of seed and step, so that a resumed run sees the same batches."""

from __future__ import annotations

import numpy as np

__all__ = ["BatchOrder"]


class BatchOrder:
    """Shuffled batches by step number. Each epoch is a new permutation; the samples that fill no batch are left out.

    Parameters
    ----------
    samples : int
        Size of the data set, or an array of indices to choose from.
    batch_size : int
        At most the number of samples.
    seed : int

    Attributes
    ----------
    per_epoch : int
        Batches of an epoch.

    Examples
    --------
    >>> from plait.data import BatchOrder
    >>> order = BatchOrder(10, batch_size=4, seed=0)
    >>> order.per_epoch, len(order.indices(0))
    (2, 4)
    >>> bool((order.indices(7) == BatchOrder(10, 4, seed=0).indices(7)).all())
    True
    """

    def __init__(self, samples, batch_size: int, seed: int = 0):
        pool = np.asarray(samples)
        if pool.dtype.kind not in "iu" or pool.ndim > 1:
            raise TypeError(
                f"BatchOrder: samples is {samples!r:.60}, expected a number of samples or an array of indices"
            )
        self.pool = np.arange(int(pool)) if pool.ndim == 0 else pool
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"BatchOrder: batch_size is {batch_size!r}, expected a whole number")
        if not 1 <= batch_size <= len(self.pool):
            raise ValueError(f"BatchOrder: batch_size is {batch_size}, expected 1 to {len(self.pool)}, the samples")
        self.batch_size, self.seed = int(batch_size), int(seed)
        self.per_epoch = len(self.pool) // self.batch_size
        self._epoch, self._permuted = -1, self.pool

    def indices(self, step: int) -> np.ndarray:
        """The (batch_size,) samples of a step."""
        epoch, i = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._permuted = np.random.default_rng((self.seed, 0, epoch)).permutation(self.pool)
            self._epoch = epoch
        return self._permuted[i * self.batch_size : (i + 1) * self.batch_size]

    def rng(self, step: int) -> np.random.Generator:
        """A generator for what a step draws besides, such as augmentation."""
        return np.random.default_rng((self.seed, 1, step))
