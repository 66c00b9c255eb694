"""A plain training loop: progress, evaluation, early stopping, and checkpoints that resume to the same bits."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np

from plait import _core, io
from plait._precision import TRAINED, named
from plait.nn.precision import multiply_in
from plait.ops._apply import generator
from plait.optim import Schedule

__all__ = ["History", "fit"]


@dataclasses.dataclass
class History:
    """What happened in ``fit``.

    Attributes
    ----------
    losses : list of float
        One a step, over all sessions of a resumed run.
    evaluations : list of (int, dict)
        Steps done, and metrics by name.
    seconds : float
        Wall time in ``fit``, over all sessions.
    best_step : int or None
        Steps done at the best evaluation.
    stopped_early : bool
    """

    losses: list = dataclasses.field(default_factory=list)
    evaluations: list = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    best_step: int | None = None
    stopped_early: bool = False


def fit(
    model,
    optimizer,
    batches,
    loss_fn,
    *,
    steps,
    schedule=None,
    evaluate=None,
    every=None,
    monitor=None,
    patience=None,
    checkpoint=None,
    save_every=100,
    keep=2,
    resume=False,
    rng=None,
    precision=None,
    progress=True,
) -> History:
    """Trains a model for a number of steps.

    Parameters
    ----------
    model : Module
    optimizer : plait.optim.Optimizer
    batches : callable or iterable
        ``batches(step)`` gives the batch of a step, counted from 0; see ``plait.data.BatchOrder``. An iterable is begun
        again when it ends; to resume at the same bits it has to give the same batches each time.
    loss_fn : callable
        ``loss_fn(model, batch)`` gives a scalar Tensor.
    steps : int
        In all, those before a resume included.
    schedule : plait.optim.Schedule, optional
        Goes on by one after each step.
    evaluate : callable, optional
        ``evaluate(model)`` gives a number or a dict of them, higher being better. Called in evaluation mode, after
        every `every` steps and after the last one.
    every : int, optional
        Default: only after the last step.
    monitor : str, optional
        The metric that decides what is best; default: the first one.
    patience : int, optional
        Stop after so many evaluations without a new best one, and put the best weights back at the end.
    checkpoint : path-like, optional
        Folder for checkpoints: every `save_every` steps, at the end, and on Ctrl-C, which ends the current step first.
    save_every, keep : int
        Steps between checkpoints, and how many of the last ones stay.
    resume : bool
        Go on from the last checkpoint of the folder, if there is one. Without it a folder with checkpoints is an error.
    rng : numpy.random.Generator, optional
        One that `batches` or `loss_fn` draw from: its state is part of checkpoints.
    precision : {"f32", "bf16"} or {"float32", "bfloat16"}, optional
        What the products of the model are computed in, see ``Module.train``; default: as it is.
    progress : bool
        A bar with loss and samples/s, where tqdm is installed.

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        A loss or a metric is not finite; the message names the step.
    KeyboardInterrupt
        Ctrl-C, once the checkpoint is written. A second Ctrl-C does not wait; the last checkpoint is whole then, too.

    Notes
    -----
    A run that was interrupted at any moment, killed for instance, and resumed ends at the same bits as one that was
    not, on the same instruction set, in the same `precision`, and with any number of threads. A warning says where
    that differs.

    Examples
    --------
    >>> import numpy as np, plait
    >>> x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    >>> order = plait.data.BatchOrder(64, batch_size=16)
    >>> model = plait.nn.Linear(4, 1)
    >>> history = plait.train.fit(
    ...     model,
    ...     plait.optim.AdamW(model, lr=0.1),
    ...     lambda step: x[order.indices(step)],
    ...     lambda model, rows: ((model(rows) - rows.sum(1, keepdims=True)) ** 2).mean(),
    ...     steps=50,
    ...     progress=False,
    ... )
    >>> history.losses[-1] < history.losses[0] / 10
    True
    """
    for name, value, least in (
        ("steps", steps, 0),
        ("every", every, 1),
        ("patience", patience, 1),
        ("save_every", save_every, 1),
        ("keep", keep, 1),
    ):
        if value is None and name in ("every", "patience"):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"fit: {name} is {value!r}, expected a whole number of at least {least}")
    if precision is not None:
        precision = named("fit", precision, TRAINED)
    if evaluate is None and (patience is not None or every is not None or monitor is not None):
        raise ValueError("fit: every, patience and monitor need evaluate")
    if schedule is not None and not isinstance(schedule, Schedule):
        raise TypeError(f"fit: schedule is {type(schedule).__name__}, expected plait.optim.Schedule")
    run = _Run(model, optimizer, schedule, rng, monitor, precision or model.training_precision)
    folder = None if checkpoint is None else Path(checkpoint)
    if folder is not None and io.latest_checkpoint(folder) is not None:
        if not resume:
            raise FileExistsError(f"fit: {folder} holds checkpoints; pass resume=True, or another folder")
        run.restore(folder)
    elif resume and folder is None:
        raise ValueError("fit: resume needs checkpoint, the folder")

    draw = _source(batches, run.step)
    start, before = time.perf_counter(), run.history.seconds
    if precision is not None:
        multiply_in(model, precision, "fit")
    model.train()

    def save():
        if folder is not None and run.step != run.saved:
            run.history.seconds = before + time.perf_counter() - start
            run.save(folder, keep)

    with _DeferredInterrupt() as interrupt, _Bar(progress, steps, run.step) as bar:
        while run.step < steps and not run.history.stopped_early:
            batch = draw(run.step)
            bar.show(run.advance(loss_fn, batch), batch)
            if evaluate is not None and (run.step == steps or (every is not None and run.step % every == 0)):
                run.judge(evaluate, patience)
            if run.step % save_every == 0:
                save()
            if interrupt.asked:
                break
        save()
        if interrupt.asked:
            raise KeyboardInterrupt(f"stopped after step {run.step}")
    if patience is not None and run.best is not None:
        model.load_state_dict(run.best)
    run.history.seconds = before + time.perf_counter() - start
    return run.history


class _Run:
    """The state of a run: all that a checkpoint holds."""

    def __init__(self, model, optimizer, schedule, rng, monitor, precision):
        self.model, self.optimizer, self.schedule, self.rng, self.monitor = model, optimizer, schedule, rng, monitor
        self.precision = precision
        self.step = 0  # steps done
        self.saved = None  # the step of the last checkpoint
        self.history = History()
        self.best = None  # weights at the best evaluation
        self.best_score = -math.inf
        self.waited = 0  # evaluations since

    def advance(self, loss_fn, batch) -> float:
        """One step of training; gives the loss."""
        self.optimizer.zero_grad()
        loss = loss_fn(self.model, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"fit: the loss is {value} at step {self.step}")
        loss.backward()
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self.step += 1
        self.history.losses.append(value)
        return value

    def judge(self, evaluate, patience):
        self.model.eval()
        try:
            metrics = evaluate(self.model)
        finally:
            self.model.train()
        if not isinstance(metrics, dict):
            metrics = {self.monitor or "score": metrics}
        metrics = {name: float(value) for name, value in metrics.items()}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"fit: {name} is {value} after step {self.step}")
        monitor = self.monitor or next(iter(metrics), None)
        if monitor not in metrics:
            raise ValueError(f"fit: monitor is {monitor!r}, but evaluate gave {list(metrics)}")
        self.history.evaluations.append((self.step, metrics))
        if metrics[monitor] > self.best_score:
            self.best_score, self.waited, self.history.best_step = metrics[monitor], 0, self.step
            if patience is not None:
                self.best = {name: np.array(a) for name, a in self.model.state_dict().items()}
        else:
            self.waited += 1
            self.history.stopped_early = patience is not None and self.waited >= patience

    # ---- checkpoints

    def machine(self):
        """What the bits of a result depend on besides."""
        config = _core.config()
        return {"precision": self.precision} | {k: config[k] for k in ("version", "onednn", "isa")}

    def save(self, folder, keep):
        counter = next(generator.counter)
        generator.counter = itertools.count(counter)  # reading a count moves it
        tensors = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": {"losses": np.array(self.history.losses, np.float64)},
        }
        if self.best is not None:
            tensors["best"] = self.best
        state = {
            "seconds": self.history.seconds,
            "evaluations": [[step, metrics] for step, metrics in self.history.evaluations],
            "best_step": self.history.best_step,
            "best_score": self.best_score if self.history.best_step is not None else None,
            "waited": self.waited,
            "stopped_early": self.history.stopped_early,
            "schedule": None if self.schedule is None else self.schedule.number,
            "generator": {"key": generator.key, "counter": counter},
            "numpy": None if self.rng is None else _plain(self.rng.bit_generator.state),
            "machine": self.machine(),
        }
        io.save_checkpoint(folder, self.step, tensors, state, keep=keep)
        self.saved = self.step

    def restore(self, folder):
        step, tensors, state = io.load_checkpoint(folder)
        where = f"{folder}: the checkpoint of step {step}"
        expected = {"seconds", "evaluations", "best_step", "best_score", "waited", "stopped_early", "schedule"}
        expected |= {"generator", "numpy", "machine"}
        whole = set(state) == expected and {"model", "optimizer", "history"} <= set(tensors)
        if not whole or not isinstance(state["machine"], dict) or not isinstance(state["generator"], dict):
            raise ValueError(f"{where} was not written by plait.train.fit")
        for name, own in (("schedule", self.schedule), ("numpy", self.rng)):
            if (state[name] is None) != (own is None):
                was, now = ("without", "with") if own is not None else ("with", "without")
                raise ValueError(f"{where} was written {was} {'rng' if name == 'numpy' else name}, this run is {now}")
        then, now = state["machine"], self.machine()
        then.setdefault("precision", self.precision)  # was not kept at first
        changed = [k for k, v in now.items() if then.get(k) != v]
        if changed:
            differences = ", ".join(f"{k} {then.get(k)} then, {now[k]} now" for k in changed)
            warnings.warn(f"{where}: {differences}; the final weights may differ in bits", stacklevel=3)
        try:
            self.model.load_state_dict(tensors["model"])
            self.optimizer.load_state_dict(tensors["optimizer"])
            generator.key = int(state["generator"]["key"])
            generator.counter = itertools.count(int(state["generator"]["counter"]))
            if self.schedule is not None:
                self.schedule.set(int(state["schedule"]))
            if self.rng is not None:
                self.rng.bit_generator.state = _arrays(state["numpy"])
            self.history = History(
                losses=[float(v) for v in tensors["history"]["losses"]],
                evaluations=[(int(s), {str(k): float(v) for k, v in m.items()}) for s, m in state["evaluations"]],
                seconds=float(state["seconds"]),
                best_step=state["best_step"],
                stopped_early=bool(state["stopped_early"]),
            )
            self.best_score = -math.inf if state["best_score"] is None else float(state["best_score"])
            self.waited = int(state["waited"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where} does not fit: {error}") from error
        self.best = tensors.get("best")
        self.step = self.saved = step


def _plain(state):
    """The state of a NumPy bit generator as JSON; some hold an array of words (MT19937, SFC64)."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return {"array": state.tolist(), "dtype": state.dtype.name}
    return int(state) if isinstance(state, np.integer) else state


def _arrays(state):
    if not isinstance(state, dict):
        return state
    if set(state) == {"array", "dtype"}:
        return np.array(state["array"], {"uint32": np.uint32, "uint64": np.uint64}[state["dtype"]])
    return {key: _arrays(value) for key, value in state.items()}


def _source(batches, step):
    """A function of the step number, whatever `batches` is."""
    if callable(batches):
        return batches

    def endless():
        while True:
            empty = True
            for batch in batches:
                empty = False
                yield batch
            if empty:
                raise ValueError("fit: batches has no batch (left); give a list, or a function of the step")

    iterator = itertools.islice(endless(), step, None)
    return lambda _: next(iterator)


class _DeferredInterrupt:
    """Ctrl-C sets `asked`, so that a step is never cut in half; the second one raises at once.

    Only in the main thread and where Python's own handler is in place: other handlers are somebody's decision.
    """

    def __init__(self):
        self.asked = False
        self._installed = False

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._installed = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._installed:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error):
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return False

    def _handle(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class _Bar:
    """The progress bar; nothing where tqdm is missing."""

    def __init__(self, wanted, steps, done):
        self._bar = None
        self._samples, self._loss, self._start = 0, None, time.perf_counter()
        if wanted:
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._bar is not None:
            self._bar.close()
        return False

    def show(self, loss, batch):
        if self._bar is None:
            return
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss
        self._samples += _count(batch)
        rate = self._samples / (time.perf_counter() - self._start)
        self._bar.set_postfix_str(f"loss {self._loss:.3f}, {rate:,.0f} samples/s", refresh=False)
        self._bar.update()


def _count(batch):
    """Samples of a batch: of its first part, if it has parts."""
    if isinstance(batch, dict):
        batch = next(iter(batch.values()), ())
    elif isinstance(batch, tuple):
        batch = batch[0] if batch else ()
    try:
        return len(batch)
    except TypeError:
        return 1
