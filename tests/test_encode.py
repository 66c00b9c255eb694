"""Encode: every kind of input, the order, the same bits in any batch, readers and threads, and what is wrong."""

import io
import itertools
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from small_models import SIZE, dual, image_encoder, pictures, png, processed, sentences, text_encoder

import plait

PIL = pytest.importorskip("PIL.Image", reason="pictures are opened with Pillow")


@pytest.fixture(scope="module")
def model():
    return dual()


@pytest.fixture(scope="module")
def encoder():
    return text_encoder()


@pytest.fixture
def threads():
    """Four threads, whatever the machine has, and none of ours left at the end."""
    before = plait.get_num_threads()
    plait.set_num_threads(4)
    yield 4
    left = plait.get_num_threads(), readers()
    plait.set_num_threads(before)
    assert left == (4, [])


@pytest.fixture
def one_thread():
    before = plait.get_num_threads()
    plait.set_num_threads(1)
    yield
    plait.set_num_threads(before)


def readers():
    return [t.name for t in threading.enumerate() if t.name.startswith("plait-read")]


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes()


# ---------------------------------------------------------------- kinds of input

STRINGS = ["a red cat", "dog", "the green cow and the blue dog", ""]
IDS = [[1, 2, 3], [4], [], [59, 0, 7, 8]]
TABLE = [[1, 2, 3], [4, 5, 6]]
TEXTS = {
    "list of str": (STRINGS, STRINGS),
    "tuple of str": (STRINGS, tuple(STRINGS)),
    "generator of str": (STRINGS, lambda: (s for s in STRINGS)),
    "iterator of str": (STRINGS, lambda: iter(STRINGS)),
    "array of str": (STRINGS, np.array(STRINGS)),
    "array of str objects": (STRINGS, np.array(STRINGS, object)),
    "list of np.str_": (STRINGS, [np.str_(s) for s in STRINGS]),
    "keys": (STRINGS, dict.fromkeys(STRINGS).keys()),
    "list of lists": (IDS, IDS),
    "list of arrays": (IDS, [np.array(i, np.int64) for i in IDS]),
    "list of int16": (IDS, [np.array(i, np.int16) for i in IDS]),
    "list of uint8": (IDS, [np.array(i, np.uint8) for i in IDS]),
    "tuple of tuples": (IDS, tuple(map(tuple, IDS))),
    "generator of lists": (IDS, lambda: (i for i in IDS)),
    "array of lists": (IDS, np.array(IDS, object)),
    "stream": (IDS, plait.Stream(np.concatenate(IDS).astype(np.int64), [0, 3, 4, 4, 8])),
    "int32 stream": (IDS, plait.Stream(np.concatenate(IDS).astype(np.int32), [0, 3, 4, 4, 8])),
    "(n, T)": (TABLE, np.array(TABLE)),
    "(n, T) uint16": (TABLE, np.array(TABLE, np.uint16)),
    "(n, T) strided": (TABLE, np.repeat(np.array(TABLE), 2, axis=1)[:, ::2]),
    "(n, T) swapped": (TABLE, np.array(TABLE, ">i4")),
}
ONE_TEXT = {
    "str": ("a red cat", "a red cat"),
    "np.str_": ("a red cat", np.str_("a red cat")),
    "list of int": ([1, 2, 3], [1, 2, 3]),
    "tuple of int": ([1, 2, 3], (1, 2, 3)),
    "list of np.int64": ([1, 2, 3], list(np.array([1, 2, 3]))),
    "(T,)": ([1, 2, 3], np.array([1, 2, 3], np.int32)),
    "no tokens": ([], np.array([], np.int64)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_every_kind_give_a_matrix(model, encoder, name):
    plain, given = TEXTS[name]
    for function, iterate in ((model.encode_text, model.encode_text_iter), (encoder.encode, encoder.encode_iter)):
        due = np.stack([function([item])[0] for item in plain])
        make = given if callable(given) else lambda: given
        same(function(make()), due)
        same(np.concatenate(list(iterate(make()))), due)


@pytest.mark.parametrize("name", ONE_TEXT)
def test_one_text_gives_a_vector(model, encoder, name):
    plain, given = ONE_TEXT[name]
    for function in (model.encode_text, encoder.encode):
        same(function(given), function([plain])[0])


COLOUR = pictures(3, seed=4)
GREY = [p[:, :, 0] for p in COLOUR]
PROCESSED = processed(3)
BATCH = np.random.default_rng(1).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)


def layouts(x):
    """The same values in other memory; none of them may change."""
    wide = np.repeat(x, 2, axis=-1)
    read_only = x.copy()
    read_only.setflags(write=False)
    shifted = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    return {
        "strided": wide[..., ::2],
        "fortran": np.asfortranarray(x),
        "reversed": x[::-1, ::-1].copy()[::-1, ::-1],
        "read-only": read_only,
        "swapped": x.astype(x.dtype.newbyteorder()),
        "misaligned": shifted,
    }


def image_rows():
    """(name, model, pictures one by one, the same together)."""
    yield "list of arrays", "dual", COLOUR, COLOUR
    yield "tuple", "dual", COLOUR, tuple(COLOUR)
    yield "generator", "dual", COLOUR, lambda: (p for p in COLOUR)
    yield "grey", "dual", [np.repeat(g[:, :, None], 3, axis=2) for g in GREY], GREY
    yield "grey (H, W, 1)", "dual", GREY, [g[:, :, None] for g in GREY]
    yield "PIL", "dual", COLOUR, [PIL.fromarray(p) for p in COLOUR]
    yield "PIL grey", "dual", GREY, [PIL.fromarray(p) for p in GREY]
    yield "bytes", "dual", COLOUR, [png(p) for p in COLOUR]
    yield "mixed", "dual", COLOUR, [COLOUR[0], png(COLOUR[1]), PIL.fromarray(COLOUR[2])]
    yield "(n, H, W, 3)", "dual", list(BATCH), BATCH
    yield "float", "dual", COLOUR, [p.astype(np.float32) / 255 for p in COLOUR]
    yield "float64", "dual", COLOUR, [p / 255 for p in COLOUR]
    yield "(n, 3, S, S)", "dual", list(PROCESSED), PROCESSED
    yield "list of (3, S, S)", "dual", list(PROCESSED), list(PROCESSED)
    yield "(n, 3, S, S) float64", "dual", list(PROCESSED), PROCESSED.astype(np.float64)
    yield "(n, 3, S, S), encoder", "image", list(PROCESSED), PROCESSED
    square = BATCH[:, :SIZE, :SIZE]
    yield "(n, S, S, 3), encoder", "image", list(square), square
    yield "(n, S, S), grey encoder", "grey", list(square[..., 0]), square[..., 0]
    yield "(n, S, S, 1), grey encoder", "grey", list(square[..., 0]), square[..., :1]
    half = PROCESSED.astype(np.float16)
    yield "(n, 3, S, S) float16", "image", list(half.astype(np.float32)), half
    for name, x in layouts(BATCH).items():
        yield f"uint8 {name}", "dual", list(BATCH), x
    for name, x in layouts(PROCESSED).items():
        yield f"processed {name}", "image", list(PROCESSED), x
    for name, x in layouts(square / 255).items():
        yield f"float64 {name}", "image", list(square / 255), x


IMAGES = {name: row for name, *row in image_rows()}


@pytest.fixture(scope="module")
def image_models(model):
    grey = image_encoder({"channels": 1, "mean": [0.4], "std": [0.3]})
    return {"dual": model.encode_image, "image": image_encoder().encode, "grey": grey.encode}


@pytest.mark.parametrize("name", IMAGES)
def test_pictures_of_every_kind_give_a_matrix(image_models, name):
    which, plain, given = IMAGES[name]
    encode = image_models[which]
    due = np.stack([encode([picture])[0] for picture in plain])
    arrays = [] if callable(given) else [x for x in given if isinstance(x, np.ndarray)]
    before = [x.copy() for x in arrays]
    same(encode(given() if callable(given) else given), due)
    assert all((x == y).all() for x, y in zip(arrays, before, strict=True)), "an input was changed"


def test_bfloat16_pixels(image_models):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="it makes the bfloat16 arrays")
    x = PROCESSED.astype(ml_dtypes.bfloat16)
    same(image_models["image"](x), image_models["image"](x.astype(np.float32)))
    same(image_models["image"](x[1]), image_models["image"](x.astype(np.float32))[1])


@pytest.mark.parametrize("picture", [COLOUR[0], GREY[0], PROCESSED[0], PIL.fromarray(COLOUR[0]), png(COLOUR[0])])
def test_one_picture_gives_a_vector(model, picture):
    same(model.encode_image(picture), model.encode_image([picture])[0])


def test_paths(model, tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, picture in zip(files, COLOUR, strict=True):
        file.write_bytes(png(picture))
    due = model.encode_image(COLOUR)
    strings = list(map(str, files))
    for given in (files, strings, np.array(strings), np.array(strings, object), (f for f in files)):
        same(model.encode_image(given), due)
    same(model.encode_image(files[1]), due[1])
    same(model.encode_image(strings[1]), due[1])


EMPTY_TEXTS = {
    "list": [], "tuple": (), "generator": iter(()), "array of str": np.array([], str), "(0, T)": np.empty((0, 4), int),
    "stream": plait.Stream(np.empty(0, int), [0]),
}  # fmt: skip
EMPTY_IMAGES = {"list": [], "generator": iter(()), "(0, H, W, 3)": BATCH[:0], "(0, 3, S, S)": PROCESSED[:0]}


@pytest.mark.parametrize(
    ("kind", "given"), [("text", g) for g in EMPTY_TEXTS.values()] + [("image", g) for g in EMPTY_IMAGES.values()]
)
def test_nothing_gives_no_rows(model, kind, given):
    function = model.encode_text if kind == "text" else model.encode_image
    assert function(given).shape == (0, 16)
    for precision, width in (("int8", 16), ("binary", 2)):
        assert function([], precision=precision).shape == (0, width)
    iterate = model.encode_text_iter if kind == "text" else model.encode_image_iter
    assert list(iterate([])) == []


# ---------------------------------------------------------------- order and bits


@pytest.fixture(scope="module")
def larger():
    """Widths at which the matrix kernels do their real work."""
    wide = {"width": 64, "heads": 4, "layers": 2}
    return dual(wide, {**wide, "length": 40}, embed_dim=48)


@pytest.fixture(scope="module")
def alone(larger):
    texts, images = sentences(23, longest=38), pictures(9, seed=7)
    return (
        (texts, np.stack([larger.encode_text(t) for t in texts])),
        (images, np.stack([larger.encode_image(p) for p in images])),
    )


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 6, 7, np.int32(11), 64, 10**20])
def test_any_batch_gives_the_bits_of_one_at_a_time(larger, alone, batch_size):
    (texts, vectors), (images, seen) = alone
    same(larger.encode_text(texts, batch_size), vectors)
    same(larger.encode_image(images, batch_size), seen)
    same(np.concatenate(list(larger.encode_text_iter(texts, batch_size))), vectors)
    same(np.concatenate(list(larger.encode_image_iter(images, batch_size))), seen)
    order = np.random.default_rng(3).permutation(len(texts))
    same(larger.encode_text([texts[i] for i in order], batch_size), vectors[order])


def test_parts_come_in_order_and_fit_the_windows(encoder):
    texts = sentences(150)
    parts = list(encoder.encode_iter(texts, batch_size=2))
    assert [len(p) for p in parts] == [64, 64, 22]
    same(np.concatenate(parts), encoder.encode(texts))


def test_pictures_of_several_sizes_in_one_batch():
    model = image_encoder({"any_size": True, "crop": True, "pool": "first", "class_token": True})
    sizes = [(16, 16), (24, 8), (17, 31), (16, 16), (24, 8)]
    images = [np.random.default_rng(i).random((*s, 3), dtype=np.float32) for i, s in enumerate(sizes)]
    due = np.stack([model.encode(image) for image in images])
    for batch_size in (1, 3, 8):
        same(model.encode(images, batch_size), due)


# ---------------------------------------------------------------- streaming


def test_memory_of_a_stream_does_not_grow_with_the_corpus(one_thread):
    encoder = text_encoder({"width": 128, "layers": 0})

    def peak(n):
        words = itertools.islice(itertools.cycle(["red cat", "a", "blue dog cow"]), n)
        tracemalloc.start()
        count = sum(len(part) for part in encoder.encode_iter(words, batch_size=4))
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == n
        return held

    peak(256)
    small, large = peak(512), peak(5120)
    assert large < 1.1 * small + 20_000
    assert 5120 * encoder.config.width * 4 > 3 * large  # keeping the vectors would show


@pytest.mark.parametrize(("kind", "window"), [("text", 32), ("image", 2)])
@pytest.mark.parametrize("workers", [0, 1])
def test_items_are_read_a_bounded_number_ahead(model, kind, window, workers, threads):
    read = 0

    def items():
        nonlocal read
        for item in itertools.cycle(STRINGS if kind == "text" else COLOUR):  # without an end
            read += 1
            yield item

    parts = (
        model.encode_text_iter(items(), 3) if kind == "text" else model.encode_image_iter(items(), 3, workers=workers)
    )
    assert read == 0
    for done in range(1, 4):
        assert len(next(parts)) == 3 * window
        assert done * 3 * window <= read <= (done + workers) * 3 * window
    parts.close()


# ---------------------------------------------------------------- progress


@pytest.fixture
def bars(monkeypatch):
    made = []

    class Bar:
        def __init__(self, total=None, unit=None, **options):
            self.total, self.unit, self.n, self.closed = total, unit, 0, False
            made.append(self)

        def update(self, n=1):
            assert not self.closed
            self.n += n

        def close(self):
            self.closed = True

    fake = type(sys)("tqdm.auto")
    fake.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", type(sys)("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", fake)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    return made


@pytest.mark.parametrize(
    ("asked", "terminal", "shown"),
    [(True, False, True), (False, True, False), (None, True, True), (None, False, False)],
)
def test_a_bar_is_shown_where_it_is_asked_for(model, bars, monkeypatch, asked, terminal, shown):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    model.encode_text(sentences(70), batch_size=2, show_progress=asked)
    model.encode_image(COLOUR, show_progress=asked)
    model.encode_image((p for p in COLOUR), show_progress=asked)
    due = [(70, "text", 70, True), (3, "image", 3, True), (None, "image", 3, True)]
    assert [(b.total, b.unit, b.n, b.closed) for b in bars] == (due if shown else [])


def test_a_bar_counts_what_is_skipped_and_ends_with_an_error(model, bars):
    model.encode_image([COLOUR[0], b"broken", COLOUR[1]], show_progress=True, on_error=lambda i, e: None)
    assert (bars[0].total, bars[0].n, bars[0].closed) == (3, 3, True)
    with pytest.raises(ValueError, match=r"images\[1\]: bytes of 6"):
        model.encode_image([COLOUR[0], b"broken"], show_progress=True)
    with pytest.raises(TypeError):
        model.encode_text(["cat", 3], show_progress=True)
    assert [b.closed for b in bars] == [True] * 3
    model.encode_text("cat", show_progress=True)  # one text is no work
    model.zero_shot(COLOUR, ["cat"])
    model.embed_texts(["cat"])
    assert len(bars) == 3


def test_no_bar_without_tqdm(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert model.encode_text(["cat"], show_progress=True).shape == (1, 16)


# ---------------------------------------------------------------- what is wrong, and where


def wrong_texts():
    """(name, a good text, a bad one, error, message); the index stands for {i}."""
    good, ids = "cat", [1, 2]
    yield "too long", good, " ".join(["cat"] * 13), ValueError, r"text {i} has 13 tokens, expected at most 12"
    yield "bytes", good, b"cat", TypeError, r"texts\[{i}\] is bytes beside str"
    yield "None", good, None, TypeError, r"texts\[{i}\] is NoneType beside str"
    yield "nan", good, float("nan"), TypeError, r"texts\[{i}\] is float beside str"
    yield "ids among strings", good, [1], TypeError, r"texts\[{i}\] is list beside str"
    yield "outside the vocabulary", ids, [3, 60, 1], IndexError, r"texts\[{i}\] holds 60, expected ids from 0 to 59"
    yield "below 0", ids, [-1], IndexError, r"texts\[{i}\] holds -1"
    yield "uint64", ids, np.array([2**63 + 1], np.uint64), IndexError, r"texts\[{i}\] holds -"
    yield "ids too long", ids, [1] * 13, ValueError, r"texts\[{i}\] has 13 tokens, expected at most 12"
    yield "floats", ids, [1.0, 2.0], TypeError, r"texts\[{i}\] has dtype float64"
    yield "bool", ids, np.array([True]), TypeError, r"texts\[{i}\] has dtype bool"
    yield "two dimensions", ids, [[1], [2]], ValueError, r"texts\[{i}\] has shape \(2, 1\)"
    yield "ragged", ids, [[1], [2, 3]], TypeError, r"texts\[{i}\] is list, expected a string or whole numbers"
    yield "None among ids", ids, None, TypeError, r"texts\[{i}\] is NoneType, expected a string or whole numbers"
    yield "bytes among ids", ids, b"cat", TypeError, r"texts\[{i}\] is bytes, expected a string or whole numbers"
    yield "a number among ids", ids, 5, TypeError, r"texts\[{i}\] is int, expected a string"
    yield "no dimension", ids, np.array(5), ValueError, r"texts\[{i}\] has shape \(\)"
    yield "huge", ids, [10**30], TypeError, r"texts\[{i}\] has dtype object"


WRONG_TEXTS = list(wrong_texts())


@pytest.mark.parametrize("row", WRONG_TEXTS, ids=[r[0] for r in WRONG_TEXTS])
@pytest.mark.parametrize("place", [1, 63, 64, 101, 140])  # batches of 2 are read 64 texts at a time
def test_a_wrong_text_is_named_by_its_place_in_the_corpus(encoder, row, place):
    _, good, bad, error, message = row
    texts = [good] * 141
    texts[place] = bad
    if place == 64 and isinstance(good, str) and error is TypeError:
        return  # the first of its window decides what the others are expected to be
    for given in (texts, iter(texts)):
        with pytest.raises(error, match=message.format(i=place)):
            encoder.encode(given, batch_size=2)


def test_a_wrong_text_ends_a_stream_after_what_came_before(encoder):
    parts = encoder.encode_iter([[1]] * 70 + [[99]], batch_size=1)
    assert [len(next(parts)), len(next(parts))] == [32, 32]
    with pytest.raises(IndexError, match=r"texts\[70\]"):
        next(parts)


def wrong_pictures():
    yield "broken", b"broken", ValueError, r"images\[{i}\]: bytes of 6"
    yield "cut off", png(COLOUR[0])[:-30], ValueError, r"images\[{i}\]"
    yield "no file", "absent.png", FileNotFoundError, r"images\[{i}\]: .*no such file: .*absent.png"
    yield "surrogate", "\ud800.png", ValueError, r"images\[{i}\]"
    yield "NUL", "a\0b", ValueError, r"images\[{i}\]: .*not a path"
    yield "URL", "https://example.org/a.png", ValueError, r"images\[{i}\]"
    yield "None", None, TypeError, r"images\[{i}\] is NoneType"
    yield "one number", 5, TypeError, r"images\[{i}\] is int, expected a picture, a path"
    yield "one number of NumPy", np.float32(3), TypeError, r"images\[{i}\] is float32, expected a picture"
    yield "no dimension", np.array(3), ValueError, r"images\[{i}\] has shape \(\)"
    yield "bytearray", bytearray(b"x"), TypeError, r"images\[{i}\] is bytearray, expected a picture"
    yield "processed nan", np.full((3, 16, 16), np.nan), ValueError, r"images\[{i}\] holds a value that is not finite"
    yield "processed inf", np.full((3, 16, 16), -np.inf, "f4"), ValueError, r"images\[{i}\] holds a value that is not"
    yield "five channels", np.zeros((8, 8, 5), np.uint8), ValueError, r"images\[{i}\]: ndarray has shape \(8, 8, 5\)"
    yield "no pixels", np.zeros((0, 8, 3), np.uint8), ValueError, r"images\[{i}\]"
    yield "out of range", np.full((8, 8, 3), 2.0), ValueError, r"images\[{i}\]: .*expected 0 to 1"
    yield "nan", np.full((8, 8, 3), np.nan), ValueError, r"images\[{i}\]"
    yield "strings", np.array([["a"]]), TypeError, r"images\[{i}\] has dtype"


WRONG_PICTURES = list(wrong_pictures())


@pytest.mark.parametrize("row", WRONG_PICTURES, ids=[r[0] for r in WRONG_PICTURES])
@pytest.mark.parametrize("place", [0, 5, 13])  # batches of 2 are read 4 pictures at a time
@pytest.mark.parametrize("workers", [0, 2])
def test_a_wrong_picture_is_named_or_skipped(model, row, place, workers, threads):
    _, bad, error, message = row
    images = (COLOUR * 5)[:14]
    images[place] = bad
    message = message.format(i=place)
    with pytest.raises(error, match=message):
        model.encode_image(images, 2, workers=workers)
    with pytest.warns(UserWarning, match=rf"1 item was skipped, .* the first is number {place}: .*images") as seen:
        rows = model.encode_image(iter(images), 2, workers=workers, on_error="skip")
    assert len(seen) == 1
    failures = []
    again = model.encode_image(images, 2, workers=workers, on_error=lambda i, e: failures.append((i, type(e))))
    assert failures == [(place, error)]
    same(rows, again)
    good = [i for i in range(14) if i != place]
    np.testing.assert_array_equal(rows[place], 0)
    np.testing.assert_allclose(rows[good], model.encode_image([images[i] for i in good]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("places", [[0, 49], [3], list(range(50)), [4, 5, 6, 7]])
def test_many_broken_pictures_are_counted(model, places):
    images = [b"x" if i in places else COLOUR[i % 3] for i in range(50)]
    due = model.encode_image(COLOUR)[np.arange(50) % 3]
    due[places] = 0
    what = "1 item was" if len(places) == 1 else f"{len(places)} items were"
    for workers in (0, 1):
        with pytest.warns(UserWarning, match=f"encode_image: {what} skipped, .* number {places[0]}:"):
            rows = model.encode_image(images, 2, on_error="skip", workers=workers)
        np.testing.assert_allclose(rows, due, rtol=0, atol=1e-6)
        numbers = []
        parts = model.encode_image_iter(images, 2, on_error=lambda i, e: numbers.append(i), workers=workers)  # noqa: B023
        np.testing.assert_allclose(np.concatenate(list(parts)), due, rtol=0, atol=1e-6)
        assert numbers == places


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected a whole number of at least 1"),
        ({"batch_size": 2.0}, "batch_size is 2.0"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": None}, "batch_size is None"),
        ({"precision": "int4"}, "precision is 'int4', expected one of float32, int8"),
        ({"precision": ["int8"]}, "precision is"),
        ({"truncate_dim": 0}, "truncate_dim is 0, expected 1 to 16"),
        ({"truncate_dim": 17}, "truncate_dim is 17, expected 1 to 16"),
        ({"truncate_dim": True}, "truncate_dim is True"),
        ({"workers": -1}, "workers is -1, expected a whole number from 0 to 256"),
        ({"workers": 257}, "workers is 257"),
        ({"workers": 1.0}, "workers is 1.0"),
        ({"on_error": "ignore"}, "on_error is 'ignore', expected 'raise', 'skip' or a function"),
        ({"on_error": None}, "on_error is None"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(model, encoder, options, message):
    def never():
        raise AssertionError("it was read")
        yield

    calls = [model.encode_image, model.encode_image_iter]
    if not {"workers", "on_error"} & set(options):
        calls += [model.encode_text, model.encode_text_iter, encoder.encode, encoder.encode_iter]
    for function in calls:
        with pytest.raises(ValueError, match=f"{function.__name__}: {message}"):
            function(never(), **options)


@pytest.mark.parametrize("given", [7, None, b"cat", bytearray(b"cat"), {"a": 1}, 1.5, object()])
def test_what_is_no_text_at_all(model, encoder, given):
    for function in (model.encode_text, model.encode_text_iter, encoder.encode, encoder.encode_iter, encoder):
        with pytest.raises(TypeError, match=f"texts is {type(given).__name__}, expected strings or arrays"):
            function(given)


def test_an_open_file_is_no_list_of_pictures(model, tmp_path):
    (tmp_path / "a.png").write_bytes(png(COLOUR[0]))
    path = tmp_path / "a.png"
    for opened in (lambda: path.open("rb"), lambda: io.BytesIO(png(COLOUR[0])), lambda: path.open(errors="replace")):
        with opened() as file:
            for function in (model.encode_image, model.encode_image_iter):
                with pytest.raises(TypeError, match=r"images is an open file \(\w+\), expected its path, or its bytes"):
                    function(file)
            with pytest.raises(TypeError, match=r"images\[0\] is \w+, expected a picture"):
                model.encode_image([file])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("make", [dual, image_encoder])
def test_pixels_that_are_no_numbers(make, value):
    """Of pictures that are computed at once, and as they are with no image processor."""
    model = make()
    model.processor = None
    call = getattr(model, "encode_image", None) or model.encode
    for shape in ((5, 3, 16, 16), (5, 16, 16, 3)):
        images = np.zeros(shape, np.float32)
        images[3, 1, 2, 0] = value
        for given in (images, list(images), plait.Tensor(images)):
            with pytest.raises(ValueError, match=r"images\[3\] holds a value that is not finite"):
                call(given)
        with pytest.raises(ValueError, match=r"images\[3\] holds a value that is not finite"):
            model.train()
            call(images)
        model.eval()


@pytest.mark.parametrize("given", [7, None, {"a": 1}, bytearray(b"x"), object()])
def test_what_is_no_picture_at_all(model, given):
    for function in (model.encode_image, model.encode_image_iter):
        with pytest.raises(TypeError, match=f"images is {type(given).__name__}, expected pictures"):
            function(given)
