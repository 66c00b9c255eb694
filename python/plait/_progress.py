"""Progress bars on long work, where tqdm is installed and somebody looks."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["bar"]


class _NoBar:
    def update(self, n=1):
        pass

    def close(self):
        pass


def bar(wanted, total, unit, description=None):
    """Something with ``update(n)`` and ``close()``.

    Parameters
    ----------
    wanted : bool or None
        None: if the error stream is a terminal or a notebook's.
    total : int or None
        None: unknown.
    unit : str
    description : str, optional
    """
    if wanted is None:
        wanted = sys.stderr.isatty() or "ipykernel" in sys.modules
    if wanted:
        with contextlib.suppress(ImportError):
            from tqdm.auto import tqdm

            return tqdm(total=total, unit=unit, desc=description, dynamic_ncols=True, delay=0.5)
    return _NoBar()
