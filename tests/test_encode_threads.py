"""Encode beside threads and processes: readers, the number of threads, Ctrl-C, many callers, forks and copies."""

import copy
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from small_models import dual, image_encoder, pictures, png, sentences, text_encoder

import plait

pytest.importorskip("PIL.Image", reason="pictures are opened with Pillow")

PICTURES = pictures(11, seed=2)
FILES = [png(p) for p in PICTURES]


@pytest.fixture
def model():
    return dual()


@pytest.fixture(params=[2, 4])
def threads(request):
    """This many threads, which must be there again at the end, and no reader left."""
    before = plait.get_num_threads()
    plait.set_num_threads(request.param)
    yield request.param
    left = plait.get_num_threads(), readers()
    plait.set_num_threads(before)
    assert left == (request.param, [])


def readers():
    return [t.name for t in threading.enumerate() if t.name.startswith("plait-read")]


# ---------------------------------------------------------------- readers


@pytest.mark.parametrize("workers", [None, 0, 1, 2, np.int64(3), 7])
def test_any_number_of_readers_gives_the_same(model, threads, workers):
    due = model.encode_image(PICTURES, workers=0)
    for batch_size in (1, 3, 32):
        rows = model.encode_image(FILES, batch_size, workers=workers)
        np.testing.assert_allclose(rows, due, rtol=0, atol=1e-6)  # computed on fewer threads
        parts = list(model.encode_image_iter(iter(FILES), batch_size, workers=workers))
        assert np.concatenate(parts).tobytes() == rows.tobytes()


class Spy:
    """An image processor that notes on which thread it reads, and how many threads may compute meanwhile."""

    def __init__(self, processor, delay=False):
        self.processor, self.delay, self.seen = processor, delay, []
        self.scale, self.shift, self.size = processor.scale, processor.shift, processor.size

    def pixels(self, image):
        if self.delay:
            time.sleep(random.random() / 200)
        self.seen.append((threading.current_thread().name, plait.get_num_threads()))
        return self.processor.pixels(image)


@pytest.mark.parametrize(("workers", "left"), [(0, 4), (1, 3), (3, 1), (9, 1), (None, 3)])
def test_readers_take_their_threads_from_computing(model, workers, left):
    before = plait.get_num_threads()
    plait.set_num_threads(4)
    try:
        model.processor = spy = Spy(model.processor)
        model.encode_image(PICTURES, 2, workers=workers)
        assert {name.rsplit("_", 1)[0] for name, _ in spy.seen} == {"plait-read"}
        assert {n for _, n in spy.seen} == {left}
        assert len({name for name, _ in spy.seen}) <= (workers or 4)
        assert plait.get_num_threads() == 4
    finally:
        plait.set_num_threads(before)


def test_pictures_that_are_read_out_of_order_come_in_order(model, threads):
    due = model.encode_image(PICTURES * 3, 4)
    model.processor = Spy(model.processor, delay=True)
    for workers in (0, 2):
        np.testing.assert_allclose(model.encode_image(PICTURES * 3, 4, workers=workers), due, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- every way to end


def broken(kind):
    """A model that fails in the second batch."""
    model, count = dual(), 0
    forward = model.image.forward

    def failing(x):
        nonlocal count
        count += 1
        if count == 2:
            if kind is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            raise kind("as asked")
        return forward(x)

    model.image.forward = failing
    return model


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, RuntimeError, SystemExit])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_exception_while_computing(threads, kind, workers):
    with pytest.raises(kind):
        broken(kind).encode_image(FILES * 4, 1, workers=workers)
    with pytest.raises(kind):
        list(broken(kind).encode_image_iter(FILES * 4, 1, workers=workers))
    assert readers() == []


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_exception_of_the_callers(model, threads, workers):
    def ends():
        yield from FILES
        raise LookupError("no more")

    def refuse(i, error):
        raise LookupError("not this one")

    with pytest.raises(LookupError, match="no more"):
        model.encode_image(ends(), 2, workers=workers)
    with pytest.raises(LookupError, match="not this one"):
        model.encode_image([*FILES, b"x"], 2, workers=workers, on_error=refuse)
    with pytest.raises(LookupError, match="no more"):
        for _ in model.encode_image_iter(ends(), 2, workers=workers):
            pass


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("started", [False, True])
def test_an_abandoned_stream(model, threads, workers, started):
    parts = model.encode_image_iter(iter(FILES * 9), 1, workers=workers)
    if started:
        next(parts)
    del parts
    gc.collect()
    assert readers() == []
    for part in model.encode_image_iter(FILES * 9, 1, workers=workers):
        assert part.shape == (2, 16)
        break


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_streams_that_run_side_by_side(model, threads, order):
    streams = [model.encode_image_iter(FILES, 1, workers=1) for _ in range(3)]
    for stream in streams:
        next(stream)
    assert plait.get_num_threads() == max(1, threads - 3)
    for i in order:
        streams[i].close()
    assert plait.get_num_threads() == threads


def test_ctrl_c_ends_a_long_encode():
    code = """
import sys, threading, itertools
sys.path.insert(0, sys.argv[1])
from small_models import dual, pictures
import plait
plait.set_num_threads(2)
model = dual()
def images():
    for i, picture in enumerate(itertools.cycle(pictures(5))):
        if i == 20:
            print("ready", flush=True)
        yield picture
try:
    for _ in model.encode_image_iter(images(), 2, workers=1): pass
except KeyboardInterrupt:
    print(plait.get_num_threads(), [t.name for t in threading.enumerate() if "plait-read" in t.name])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", code, os.path.dirname(__file__)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=30)[0] == "2 []\n"
        assert child.returncode == 0
    finally:
        child.kill()
        child.wait()


# ---------------------------------------------------------------- many callers


def test_four_threads_at_once(model, threads):
    encoder, texts = text_encoder(), sentences(90)
    model.tokenizer  # noqa: B018
    jobs = {
        "text": lambda: model.encode_text(texts, 4),
        "cached": lambda: model.encode_text(texts[:20], cache=True),
        "sentences": lambda: encoder.encode(iter(texts), 8, precision="int8"),
        "pictures": lambda: model.encode_image(FILES, 3, workers=0),
        "readers": lambda: model.encode_image(FILES, 3, workers=1),
        "labels": lambda: model.zero_shot(FILES, ["cat", "dog"], workers=0),
    }
    due = {name: job() for name, job in jobs.items()}
    start, wrong = threading.Barrier(4), []

    def work(first):
        start.wait()
        for name in [*jobs][first:] + [*jobs][:first]:
            try:
                np.testing.assert_allclose(jobs[name](), due[name], rtol=0, atol=1e-5)
            except BaseException as error:
                wrong.append((name, error))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert wrong == []


def test_threads_may_ask_for_a_tokenizer_that_is_not_made_yet(monkeypatch):
    processing = pytest.importorskip("plait.processing")
    made = []

    class Slow:
        @classmethod
        def from_folder(cls, folder, family, lower=False):
            time.sleep(0.05)
            made.append((folder, family, lower))
            return dual().tokenizer

    model = dual()
    model._tokenizer, model._later = None, ("a folder", "bert", True)
    monkeypatch.setattr(processing, "Tokenizer", Slow)
    start, found = threading.Barrier(4), []

    def work(delay):
        start.wait()
        time.sleep(delay)
        found.append(model.tokenizer)

    workers = [threading.Thread(target=work, args=(0.02 * i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4 and None not in found
    assert set(made) == {("a folder", "bert", True)}


# ---------------------------------------------------------------- processes and copies


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_forked_child_encodes(model, threads, workers):
    encoder = text_encoder()
    due = model.encode_image(FILES, 3), encoder.encode(sentences(40), 4)
    parts = model.encode_image_iter(FILES * 9, 1, workers=workers)
    next(parts)  # readers run in the parent
    child = os.fork()
    if not child:
        status = 1
        try:
            got = model.encode_image(FILES, 3, workers=workers), encoder.encode(sentences(40), 4)
            parts.close()
            fine = all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(got, due, strict=True))
            status = 0 if fine and plait.get_num_threads() == 1 and not readers() else 2
        except BaseException as error:
            os.write(2, f"child: {error!r}\n".encode())
        finally:
            os._exit(status)
    parts.close()
    for _ in range(3000):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child hung")
    assert os.waitstatus_to_exitcode(status) == 0


MODELS = {"dual": dual, "text": text_encoder, "image": image_encoder, "bias": lambda: dual(logit_bias=True)}
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda m: pickle.loads(pickle.dumps(m))}


def results(model):
    found = []
    if hasattr(model, "encode_image"):
        found += [model.encode_image(FILES), model.encode_text(sentences(9), cache=True)]
    elif hasattr(model, "tokenizer"):
        found += [model.encode(sentences(9))]
    else:
        found += [model.encode(np.stack([p[:9, :9] for p in PICTURES]).repeat(2, 1).repeat(2, 2)[:, :16, :16])]
    return found


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
def test_copies_compute_the_same_and_are_their_own(how, name, training):
    model = MODELS[name]()
    due = results(model)
    model.train(training)
    frozen = next(iter(model.parameters()))
    frozen.requires_grad = False
    again = COPIES[how](model)
    assert again.training is training and again.config == model.config
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    for a, b in zip(results(again.eval()), due, strict=True):
        assert a.tobytes() == b.tobytes()
    for p in again.parameters():
        p.assign(p.data + 0.25)
    assert all((a != b).any() for a, b in zip(results(again), due, strict=True))
    for a, b in zip(results(model.eval()), due, strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_model_goes_to_another_process(tmp_path):
    """As multiprocessing sends it to a worker that was spawned."""
    model = dual()
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    (tmp_path / "pictures").write_bytes(pickle.dumps(FILES))
    code = """
import pickle, sys
from pathlib import Path
model, files = (pickle.loads(Path(sys.argv[1], name).read_bytes()) for name in ("model", "pictures"))
Path(sys.argv[1], "rows").write_bytes(model.encode_image(files, 4).tobytes() + model.encode_text(["a cat"]).tobytes())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    got = np.frombuffer((tmp_path / "rows").read_bytes(), np.float32)
    due = np.concatenate([model.encode_image(FILES).ravel(), model.encode_text(["a cat"]).ravel()])
    np.testing.assert_allclose(got, due, rtol=0, atol=1e-6)
