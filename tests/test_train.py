"""The training loop: resuming ends at the same bits whatever the interruption, early stopping, wrong arguments."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import plait
from plait import io
from plait.data import BatchOrder
from plait.train import fit

DATA = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
TARGET = np.tanh(DATA @ np.random.default_rng(1).standard_normal((6, 3))).astype(np.float32)


def make(seed=0, dropout=0.3, lr=1e-2, total=40):
    """Model, optimiser, schedule, batches and loss of a small task, with all that a resume has to bring back."""
    plait.seed(7)
    with plait.nn.init.seeded(seed):
        model = plait.nn.Sequential(
            plait.nn.Linear(6, 16, activation="tanh"), plait.nn.Dropout(dropout), plait.nn.Linear(16, 3)
        )
    optimizer = plait.optim.AdamW(model, lr=lr, max_grad_norm=1.0)
    schedule = plait.optim.Schedule(optimizer, plait.optim.warmup_cosine(total=total, warmup=5))
    order = BatchOrder(len(DATA), batch_size=32, seed=3)

    def batches(step):
        i = order.indices(step)
        return DATA[i] + order.rng(step).normal(0, 0.1, (32, 6)).astype(np.float32), TARGET[i]

    return model, optimizer, schedule, batches


def loss_fn(model, batch):
    x, y = batch
    return ((model(x) - y) ** 2).mean()


def weights(model):
    return {name: a.tobytes() for name, a in model.state_dict().items()}


def whole(steps=40, **options):
    model, optimizer, schedule, batches = make()
    history = fit(model, optimizer, batches, loss_fn, steps=steps, schedule=schedule, progress=False, **options)
    return weights(model), history


def test_training_learns_and_tells_its_history(tmp_path):
    _, history = whole(steps=40, evaluate=lambda m: {"one": 1.0, "training": float(m.training)}, every=15)
    assert len(history.losses) == 40
    assert history.losses[-1] < history.losses[0]
    assert history.seconds > 0
    assert history.evaluations == [(n, {"one": 1.0, "training": 0.0}) for n in (15, 30, 40)]
    assert history.best_step == 15


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 9, 10, 23, 39])
def test_resuming_after_an_exception_ends_at_the_same_bits(tmp_path, at, error):
    due, straight = whole()
    calls = {"checkpoint": tmp_path, "save_every": 10, "resume": True}

    def fail(model, batch):
        fail.step += 1
        if fail.step > at:
            raise error
        return loss_fn(model, batch)

    fail.step = 0
    model, optimizer, schedule, batches = make()
    with pytest.raises(error):
        fit(model, optimizer, batches, fail, steps=40, schedule=schedule, progress=False, **calls)
    saved = io.latest_checkpoint(tmp_path)
    assert saved is None if at < 10 else saved.name == f"step-{at // 10 * 10:08d}"
    plait.seed(1234)  # as another process: not the state that the checkpoint has
    model, optimizer, schedule, batches = make(seed=0 if saved is None else 99)
    if saved is not None:
        plait.seed(1234)
    history = fit(model, optimizer, batches, loss_fn, steps=40, schedule=schedule, progress=False, **calls)
    assert weights(model) == due
    assert history.losses == straight.losses
    again = fit(model, optimizer, batches, loss_fn, steps=40, schedule=schedule, progress=False, **calls)
    assert weights(model) == due  # nothing left to do
    assert again.losses == straight.losses


CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
import test_train as t
model, optimizer, schedule, batches = t.make()
def slow(step):
    time.sleep(0.01)
    if step == 2: print("running", flush=True)
    return batches(step)
t.fit(model, optimizer, slow, t.loss_fn, steps=40, schedule=schedule, progress=False,
      checkpoint=sys.argv[1], save_every=3, resume=True)
print("done", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_resuming_after_a_signal_ends_at_the_same_bits(tmp_path, number):
    due, _ = whole()
    code = CHILD.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "running\n"
    time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate()
    assert "done" not in out
    assert process.returncode != 0
    step = io.load_checkpoint(tmp_path).step
    assert 0 < step < 40
    if number == signal.SIGINT:
        assert f"KeyboardInterrupt: stopped after step {step}" in err
    model, optimizer, schedule, batches = make(seed=5)
    options = {"checkpoint": tmp_path, "resume": True, "progress": False}
    fit(model, optimizer, batches, loss_fn, steps=40, schedule=schedule, **options)
    assert weights(model) == due


def test_the_interrupt_handler_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    whole(steps=2)
    assert signal.getsignal(signal.SIGINT) is before

    def press(model, batch):
        os.kill(os.getpid(), signal.SIGINT)
        return loss_fn(model, batch)

    model, optimizer, schedule, batches = make()
    with pytest.raises(KeyboardInterrupt, match="after step 1"):
        fit(model, optimizer, batches, press, steps=9, schedule=schedule, progress=False, checkpoint=tmp_path)
    assert io.load_checkpoint(tmp_path).step == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_an_iterable_and_a_generator_of_numpy_resume_too(tmp_path):
    def run(steps, folder, seed):
        rng = np.random.default_rng(seed)
        model, optimizer, _, _ = make(dropout=0.0)

        def noisy(model, batch):
            return loss_fn(model, (batch[0] + rng.normal(0, 1, batch[0].shape).astype(np.float32), batch[1]))

        batches = [(DATA[i : i + 50], TARGET[i : i + 50]) for i in (0, 50, 100)]
        fit(model, optimizer, batches, noisy, steps=steps, progress=False, checkpoint=folder, resume=True, rng=rng)
        return weights(model)

    due = run(8, tmp_path / "straight", 1)
    run(4, tmp_path / "halves", 1)
    assert run(8, tmp_path / "halves", 2) == due


def test_early_stopping_puts_the_best_weights_back(tmp_path):
    scores, seen = [1.0, 3.0, 2.0, 3.0, 9.0], []

    def evaluate(model):
        seen.append(weights(model))
        return {"other": 0.0, "score": scores[len(seen) - 1]}

    model, optimizer, schedule, batches = make()
    options = {
        "evaluate": evaluate,
        "every": 5,
        "patience": 2,
        "monitor": "score",
        "checkpoint": tmp_path,
        "progress": False,
        "resume": True,
    }
    history = fit(model, optimizer, batches, loss_fn, steps=40, schedule=schedule, **options)
    assert history.stopped_early
    assert (history.best_step, len(history.losses), len(seen)) == (10, 20, 4)
    assert weights(model) == seen[1]
    model, optimizer, schedule, batches = make(seed=8)  # resuming a stopped run: nothing to do, the same result
    assert fit(model, optimizer, batches, loss_fn, steps=40, schedule=schedule, **options).stopped_early
    assert weights(model) == seen[1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps is -1"),
        ({"steps": True}, ValueError, "steps is True"),
        ({"steps": 2.0}, ValueError, "steps is 2.0"),
        ({"save_every": 0}, ValueError, "save_every is 0"),
        ({"keep": 0}, ValueError, "keep is 0"),
        ({"patience": 3}, ValueError, "need evaluate"),
        ({"resume": True}, ValueError, "resume needs checkpoint"),
        ({"precision": "int8"}, ValueError, "fit: precision is 'int8', expected 'f32'"),
        ({"schedule": lambda s: 1}, TypeError, "schedule is function"),
        ({"evaluate": lambda m: float("nan")}, FloatingPointError, "score is nan after step 4"),
        ({"evaluate": lambda m: {"a": 1}, "monitor": "b"}, ValueError, "monitor is 'b'"),
        ({"batches": []}, ValueError, "no batch"),
        ({"batches": iter([(DATA, TARGET)])}, ValueError, "no batch"),
        ({"loss_fn": lambda m, b: loss_fn(m, b) * np.float32("nan")}, FloatingPointError, "loss is nan at step 0"),
    ],
)
def test_wrong_arguments_are_named(options, error, message):
    model, optimizer, _, batches = make()
    call = {"batches": batches, "loss_fn": loss_fn, "steps": 4, "progress": False, **options}
    with pytest.raises(error, match=message):
        fit(model, optimizer, call.pop("batches"), call.pop("loss_fn"), **call)


def test_a_checkpoint_that_does_not_fit_is_an_error(tmp_path):
    whole(steps=3, checkpoint=tmp_path)
    model, optimizer, schedule, batches = make()
    call = {"steps": 5, "progress": False, "checkpoint": tmp_path}
    with pytest.raises(FileExistsError, match="resume=True"):
        fit(model, optimizer, batches, loss_fn, schedule=schedule, **call)
    with pytest.raises(ValueError, match="written with schedule"):
        fit(model, optimizer, batches, loss_fn, resume=True, **call)
    before = weights(model)
    with pytest.raises(ValueError, match="fit: precision is 'half'"):
        fit(model, optimizer, batches, loss_fn, schedule=schedule, resume=True, precision="half", **call)
    assert weights(model) == before  # nothing was restored
    other = plait.nn.Linear(6, 3)
    optimizer = plait.optim.AdamW(other)
    schedule = plait.optim.Schedule(optimizer, lambda step: 1.0)
    with pytest.raises(ValueError, match="does not fit"):
        fit(other, optimizer, batches, loss_fn, schedule=schedule, resume=True, **call)


def test_another_machine_is_said_and_another_number_of_threads_is_none(tmp_path, monkeypatch):
    whole(steps=3, checkpoint=tmp_path)
    threads = plait.get_num_threads()
    plait.set_num_threads(threads + 1)
    try:
        resumed, _ = whole(steps=4, checkpoint=tmp_path, resume=True)
    finally:
        plait.set_num_threads(threads)
    assert resumed == whole(steps=4)[0]
    core = plait.train._core.config()
    monkeypatch.setattr(plait.train._core, "config", lambda: {**core, "isa": "another"})
    with pytest.warns(UserWarning, match=r"isa \w+ then, another now; the final weights may differ in bits"):
        whole(steps=5, checkpoint=tmp_path, resume=True)


def test_another_precision_is_said(tmp_path):
    whole(steps=3, checkpoint=tmp_path, precision="f32")
    whole(steps=4, checkpoint=tmp_path, resume=True)  # the same, by default
    if not plait._core.has("bf16"):
        pytest.skip("this processor has no instructions for bf16")
    with pytest.warns(UserWarning, match="precision f32 then, bf16 now; the final weights may differ in bits"):
        whole(steps=5, checkpoint=tmp_path, resume=True, precision="bf16")


def test_a_checkpoint_without_a_precision_says_nothing_of_it(tmp_path, monkeypatch):
    """Those of before it was kept."""
    machine = plait.train._Run.machine
    with monkeypatch.context() as m:
        m.setattr(plait.train._Run, "machine", lambda run: {k: v for k, v in machine(run).items() if k != "precision"})
        whole(steps=3, checkpoint=tmp_path)
    whole(steps=4, checkpoint=tmp_path, resume=True)


def test_batch_order_covers_an_epoch_and_depends_on_seed_and_step_only():
    order = BatchOrder(10, batch_size=3, seed=1)
    assert order.per_epoch == 3
    epoch = np.concatenate([order.indices(i) for i in range(3)])
    assert len(set(epoch.tolist())) == 9
    assert not np.array_equal(epoch, np.concatenate([order.indices(i) for i in range(3, 6)]))
    np.testing.assert_array_equal(BatchOrder(10, 3, seed=1).indices(4), order.indices(4))
    assert BatchOrder(10, 3, seed=1).rng(4).random() == order.rng(4).random() != order.rng(5).random()
    assert set(BatchOrder([5, 7, 9], batch_size=3).indices(0).tolist()) == {5, 7, 9}
    for arguments in ((10, 11), (10, 0)):
        with pytest.raises(ValueError, match="batch_size"):
            BatchOrder(*arguments)
    with pytest.raises(TypeError, match="batch_size"):
        BatchOrder(10, 2.5)
    with pytest.raises(TypeError, match="samples"):
        BatchOrder("abc", 1)
