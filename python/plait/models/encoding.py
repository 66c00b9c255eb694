"""The loop behind every ``encode``: windows of items, read, sorted, computed in batches, given back in order.

Pictures are read (decoded, resized) by threads. With few cores a window is read by all of them and then computed by all
of them; with more, some read the next window while the others compute this one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from plait._core import get_num_threads, set_num_threads
from plait.tensor import no_grad

__all__ = ["Direct", "Reader", "check_run_options", "evaluating", "run"]

_FEWEST_TO_SHARE = 4  # threads from which on reading and computing go side by side


@contextlib.contextmanager
def evaluating(model, thorough=False):
    """The model in evaluation mode, nothing recorded; afterwards each of its modules is in the mode that it was in.

    Looking through all modules takes as long as a short text: a model that is in evaluation mode itself stays as it is,
    parts in training mode too, unless `thorough`.
    """
    look = thorough or model.training
    trained = [module for _, module in model.named_modules() if module.training] if look else []
    for module in trained:
        module.training = False
    try:
        with no_grad():
            yield
    finally:
        for module in trained:
            module.training = True


class _Shared:
    """Threads that readers have taken from computing. Several may run, and end in any order."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.lock = threading.Lock()
        self.taken, self.total = 0, 1

    def take(self, count):
        with self.lock:
            if not self.taken:
                self.total = get_num_threads()
            self.taken = max(0, self.taken + count)  # a reader may have begun before a fork
            set_num_threads(max(1, self.total - self.taken))


_shared = _Shared()
os.register_at_fork(after_in_child=_shared.forget)


class Reader:
    """Reads items on threads.

    Parameters
    ----------
    read : callable
        ``read(item, index)``.
    workers : int or None
        Threads that read while others compute; 0: all threads read, then all compute. None: by the number of threads.
    """

    def __init__(self, read, workers=None):
        threads = get_num_threads()
        if workers is None:
            workers = 0 if threads < _FEWEST_TO_SHARE else threads // 4
        self.read, self.ahead = read, workers > 0
        self._workers = int(workers)
        self._pool = ThreadPoolExecutor(self._workers or threads, "plait-read")
        if self.ahead:
            _shared.take(self._workers)

    def begin(self, items, start):
        """Starts reading; gives a function that waits for the result: items, and (index, error) of failures.

        One item alone is read by that function: where cores are busy, a thread takes a millisecond to begin.
        """
        tasks = [functools.partial(self.read, item, start + i) for i, item in enumerate(items)]
        if len(tasks) > 1 or start:
            tasks = [self._pool.submit(task).result for task in tasks]

        def result():
            done, failures = [], []
            for i, task in enumerate(tasks):
                try:
                    done.append(task())
                except (OSError, TypeError, ValueError) as error:
                    done.append(None)
                    failures.append((start + i, error))
            return done, failures

        return result

    def close(self):
        self._pool.shutdown(cancel_futures=True)
        if self.ahead:
            _shared.take(-self._workers)


class Direct:
    """Reads a whole window at once, when it is its turn: tokenizers."""

    ahead = False

    def __init__(self, read):
        self.read = read

    def begin(self, items, start):
        return lambda: (self.read(items, start), [])

    def close(self):
        pass


def run(function, items, reader, compute, width, *, window, batch_size, key, on_error="raise", bar=None):
    """Yields (n, width) float32 arrays, a window of items each, in order.

    Parameters
    ----------
    function : str
        For messages.
    items : iterable
    reader : Reader or Direct
        Closed at the end.
    compute : callable
        Read items, at most `batch_size` of them, to rows.
    width : int
    window : int
        Batches that are read and sorted together.
    batch_size : int
    key : callable
        Of a read item: what a window is sorted by.
    on_error : {"raise", "skip"} or callable
        Items that cannot be read are rows of zeros with "skip", and counted in a warning; a function is called with
        index and error of each instead.
    bar : optional
        Has ``update(n)``.
    """
    items, start, skipped = iter(items), 0, []
    size = min(window * int(batch_size), sys.maxsize)

    def begin():
        nonlocal start
        chosen = list(itertools.islice(items, size))
        waiting = reader.begin(chosen, start) if chosen else None
        start += len(chosen)
        return waiting

    try:
        waiting = begin()
        while waiting is not None:
            ready, failures = waiting()
            for i, error in failures:
                if on_error == "raise":
                    raise error
                skipped.append((i, error))
                if callable(on_error):
                    on_error(i, error)
            if bar is not None and failures:
                bar.update(len(failures))
            waiting = begin() if reader.ahead else None
            rows = np.zeros((len(ready), width), np.float32)
            places = sorted((i for i, item in enumerate(ready) if item is not None), key=lambda i: key(ready[i]))
            for i in range(0, len(places), batch_size):
                chosen = places[i : i + batch_size]
                rows[chosen] = compute([ready[j] for j in chosen])
                if bar is not None:
                    bar.update(len(chosen))
            yield rows
            if not reader.ahead:
                waiting = begin()
    finally:
        reader.close()
    if skipped and on_error == "skip":
        i, error = skipped[0]
        what = "item was" if len(skipped) == 1 else "items were"
        warnings.warn(
            f"{function}: {len(skipped)} {what} skipped, whose rows are zeros; the first is number {i}: {error}",
            stacklevel=4,
        )


def check_run_options(function, batch_size, on_error="raise", workers=None):
    """Refuses a wrong batch size, rule for errors or number of workers, before the work."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"{function}: batch_size is {batch_size!r}, expected a whole number of at least 1")
    if on_error not in ("raise", "skip") and not callable(on_error):
        raise ValueError(f"{function}: on_error is {on_error!r}, expected 'raise', 'skip' or a function")
    if workers is not None and (
        isinstance(workers, bool) or not isinstance(workers, (int, np.integer)) or not 0 <= workers <= 256
    ):
        raise ValueError(f"{function}: workers is {workers!r}, expected a whole number from 0 to 256")
