"""Options of encode: unit length, precision, leading columns, prompts, pooling, what is cut and kept, zero-shot."""

import copy

import numpy as np
import pytest
from small_models import dual, image_encoder, pictures, processed, sentences, text_encoder, tokenizer

import plait
import plait.processing
from plait.models import quantize_embeddings

RNG = np.random.default_rng(0)


@pytest.fixture
def model():
    return dual()


def unit(x):
    x = np.asarray(x, np.float64)
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / np.where(length > 0, length, 1)


def levels(x):
    """int8 of float64 vectors, not rounded."""
    largest = np.abs(x).max(axis=-1, keepdims=True, initial=0)
    return x / np.where(largest > 0, largest, 1) * 127


def check_precision(got, x, precision):
    """Vectors `x` (float64) in a precision; where x is a tie within float32, either neighbour is right."""
    if precision == "float32":
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, x, rtol=0, atol=2e-7)
    elif precision in ("int8", "uint8"):
        assert got.dtype == np.dtype(precision) and got.shape == x.shape
        values = got.astype(int) - 128 * (precision == "uint8")
        assert np.abs(values - levels(x)).max(initial=0) <= 0.5 + 1e-4
    else:
        assert got.dtype == {"binary": np.int8, "ubinary": np.uint8}[precision]
        packed = (got.astype(int) + 128 * (precision == "binary")).astype(np.uint8)
        bits = np.unpackbits(packed, axis=-1)
        width = x.shape[-1]
        assert packed.shape[-1] == -(-width // 8) and not bits[..., width:].any()
        np.testing.assert_array_equal(bits[..., :width], x > 0)


# ---------------------------------------------------------------- what becomes of vectors

FAMILIES = {
    "encode_text": (dual, "encode_text", [*sentences(9), ""], True),
    "encode_image": (dual, "encode_image", pictures(7), True),
    "sentences": (text_encoder, "encode", [*sentences(9), ""], False),
    "normalised sentences": (lambda: text_encoder(heads=[{"kind": "normalize"}]), "encode", sentences(5), True),
    "pictures": (image_encoder, "encode", processed(5), False),
}


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("truncate_dim", [None, 1, 5, np.int64(8), 16])
@pytest.mark.parametrize("normalize", [None, False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_by_formula(name, normalize, truncate_dim, precision):
    make, function, items, by_default = FAMILIES[name]
    model = make()
    raw = np.stack([getattr(model, function)(item, normalize=False) for item in items]).astype(np.float64)
    options = {"precision": precision, "truncate_dim": truncate_dim}
    if normalize is not None:
        options["normalize"] = normalize
    due = raw[:, :truncate_dim]
    due = unit(due) if (by_default if normalize is None else normalize) else due
    got = getattr(model, function)(items, 3, **options)
    check_precision(got, due, precision)
    one = getattr(model, function)(items[1], **options)
    np.testing.assert_array_equal(one, got[1])
    parts = list(getattr(model, f"{function}_iter")(items, 3, **options))
    np.testing.assert_array_equal(np.concatenate(parts), got)


def test_the_absent_have_zeros(model):
    for precision, due in (("float32", 0), ("int8", 0), ("uint8", 128), ("binary", -128), ("ubinary", 0)):
        row = model.encode_text(["cat", ""], precision=precision)[1]
        np.testing.assert_array_equal(row, due)
    assert not model.encode_text("", truncate_dim=4).any()


VECTORS = RNG.standard_normal((6, 21))
SPECIAL = {
    "zeros": np.zeros((2, 9)),
    "equal": np.full((2, 9), -3.0),
    "tiny": np.array([[1e-40, -5e-41, 0.0]]),
    "huge": np.array([[3e38, -3e38, 1e37]]),
    "one column": np.array([[2.0], [-1.0], [0.0]]),
    "no columns": np.zeros((2, 0)),
    "one vector": VECTORS[0],
    "none": np.zeros((0, 4)),
}


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("x", [VECTORS, *SPECIAL.values()], ids=["normal", *SPECIAL])
def test_quantize_by_formula(x, precision):
    with np.errstate(all="raise", under="ignore"):
        x = x.astype(np.float32)
        before = x.copy()
        check_precision(quantize_embeddings(x, precision), x.astype(np.float64), precision)
        np.testing.assert_array_equal(x, before)
        for other in (np.asfortranarray(x), x.astype(">f4"), x.astype(np.float64)):
            np.testing.assert_array_equal(quantize_embeddings(other, precision), quantize_embeddings(x, precision))


def test_quantize_of_half_precision():
    x = VECTORS.astype(np.float16)
    for precision in ("int8", "ubinary", "float32"):
        np.testing.assert_array_equal(
            quantize_embeddings(x, precision), quantize_embeddings(x.astype(np.float32), precision)
        )


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_quantize_with_ranges(precision):
    """Steps of a calibration set, as sentence-transformers documents them; what is outside is clipped."""
    low, high = VECTORS[:3].min(axis=0), VECTORS[:3].max(axis=0)
    high[4] = low[4]  # a column that is constant
    x, low, high = (a.astype(np.float32) for a in (VECTORS, low, high))
    got = quantize_embeddings(x, precision, ranges=np.stack([low, high])).astype(int)
    step = np.where(high > low, (high - low) / np.float32(255), np.float32(1))  # float32, as there
    due = np.clip(np.floor((x - low) / step), 0, 255)
    np.testing.assert_array_equal(got + 128 * (precision == "int8"), due)
    assert got.max() == 255 - 128 * (precision == "int8")


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        ([[1, 2]], {}, TypeError, "dtype int64 and shape"),
        (np.zeros((2, 2, 2)), {}, TypeError, r"shape \(2, 2, 2\)"),
        (np.array([[np.nan]]), {}, ValueError, "not finite"),
        (np.array([[np.inf]]), {"precision": "binary"}, ValueError, "not finite"),
        (VECTORS, {"precision": "int4"}, ValueError, "precision is 'int4', expected one of float32, int8"),
        (VECTORS, {"ranges": np.zeros(21)}, ValueError, r"ranges has shape \(21,\), expected \(2, 21\)"),
        (VECTORS, {"ranges": np.zeros((2, 20))}, ValueError, r"ranges has shape \(2, 20\)"),
        (VECTORS, {"ranges": np.stack([np.ones(21), np.zeros(21)])}, ValueError, "the least and the largest"),
        (VECTORS, {"ranges": np.full((2, 21), np.nan)}, ValueError, "all finite"),
    ],
)
def test_what_cannot_be_quantized(x, options, error, message):
    with pytest.raises(error, match=f"quantize_embeddings: .*{message}"):
        quantize_embeddings(x, **{"precision": "int8", **options})


# ---------------------------------------------------------------- prompts and pooling


def prompted(**top):
    model = text_encoder(**top)
    model.prompts = {"query": "query: ", "passage": "the ", "": ""}
    return model


@pytest.mark.parametrize(
    ("default", "options", "before"),
    [
        (None, {}, ""),
        (None, {"prompt": "red "}, "red "),
        (None, {"prompt_name": "query"}, "query: "),
        ("passage", {}, "the "),
        ("passage", {"prompt_name": "query"}, "query: "),
        ("passage", {"prompt": "red ", "prompt_name": "query"}, "red "),
        ("passage", {"prompt": ""}, ""),
        ("passage", {"prompt_name": ""}, ""),
    ],
)
def test_a_prompt_goes_in_front_of_every_string(default, options, before):
    model = prompted()
    model.default_prompt_name = default
    plain = text_encoder()
    texts = ["cat", "a dog", "blue"]
    due = plain.encode([before + t for t in texts])
    for given in (texts, tuple(texts), iter(texts), np.array(texts)):
        np.testing.assert_array_equal(model.encode(given, **options), due)
    np.testing.assert_array_equal(model.encode("a dog", **options), due[1])
    np.testing.assert_array_equal(np.concatenate(list(model.encode_iter(texts, **options))), due)
    ids = [[1, 2], [3]]
    np.testing.assert_array_equal(model.encode(ids, **options), plain.encode(ids))  # as they are


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": 3}, TypeError, "encode: prompt is int, expected str"),
        ({"prompt_name": "other"}, ValueError, "encode: prompt_name is 'other', expected one of the model's .*'query'"),
        ({"prompt": "red " * 13}, ValueError, "14 tokens, expected at most 12"),
    ],
)
def test_a_wrong_prompt(options, error, message):
    with pytest.raises(error, match=message):
        prompted().encode(["cat"], **options)
    with pytest.raises(ValueError, match="expected one of the model's prompts: none"):
        text_encoder().encode(["cat"], prompt_name="query")


class Closed:
    """A tokenizer that ends every text with an id of its own, as most do."""

    def __init__(self, inner, **ends):
        self.inner = inner
        vars(self).update(ends)

    def __len__(self):
        return len(self.inner) + 1

    def encode(self, texts, max_length=None, truncate=False, start=0):
        return [np.append(ids, len(self.inner)) for ids in self.inner.encode(texts, None, truncate, start)]


@pytest.mark.parametrize("mode", ["mean", "max", "first", "last", "mean_sqrt", "weighted_mean"])
@pytest.mark.parametrize("key", [None, "eos_id", "sep_id"])
def test_a_prompt_that_is_not_pooled(mode, key):
    """The rows after it, which have seen it; it is as long as its tokens without the one that ends a text."""
    model = prompted(pooling=[mode], pool_prompt=False)
    if key is not None:
        model.tokenizer = Closed(tokenizer(), **{key: len(tokenizer())})
    texts = ["cat", "a red dog", "blue"]
    count = len(tokenizer().encode(["query: "])[0])
    got = model.encode(texts, prompt_name="query")
    for row, text in zip(got, texts, strict=True):
        hidden = model(model.tokenizer.encode(["query: " + text])).rows.data.astype(np.float64)
        np.testing.assert_allclose(row, pooled(hidden, mode, count), rtol=0, atol=2e-6)


def pooled(rows, mode, skip=0):
    """One vector of the rows of a text, in float64."""
    x = rows[skip:]
    weights = np.arange(1 + skip, 1 + skip + len(x))[:, None]
    return {
        "mean": lambda: x.mean(axis=0),
        "max": lambda: x.max(axis=0),
        "first": lambda: x[0],
        "last": lambda: x[-1],
        "mean_sqrt": lambda: x.sum(axis=0) / np.sqrt(len(x)),
        "weighted_mean": lambda: (x * weights).sum(axis=0) / weights.sum(),
    }[mode]()


@pytest.mark.parametrize(
    "modes", [["mean"], ["max"], ["first"], ["last"], ["mean_sqrt"], ["weighted_mean"], ["first", "mean", "max"]]
)
def test_pooling_by_formula(modes):
    model, texts = text_encoder(pooling=modes), sentences(8)
    got = model.encode([*texts, ""], 3)
    assert got.shape == (9, 16 * len(modes)) == (9, model.config.width)
    for row, text in zip(got, texts, strict=False):
        hidden = model([text]).rows.data.astype(np.float64)
        due = np.concatenate([pooled(hidden, mode) for mode in modes])
        np.testing.assert_allclose(row, due, rtol=0, atol=2e-6)
    assert not got[-1].any()


def test_heads_by_formula():
    heads = [
        {"kind": "dense", "width": 7, "activation": "tanh"},
        {"kind": "layer_norm"},
        {"kind": "dense", "width": 5, "bias": False},
        {"kind": "normalize"},
    ]
    model, texts = text_encoder(heads=heads), sentences(6)
    assert model.count_parameters() == model.config.count_parameters()
    for p in model.parameters():
        p.assign(p.data + 0.1 * RNG.standard_normal(p.shape))
    dense, norm, last, _ = model.heads
    rows = np.stack([model([t]).rows.data.astype(np.float64).mean(axis=0) for t in texts])
    x = np.tanh(rows @ dense.weight.data.T.astype(np.float64) + dense.bias.data)
    x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    x = (x * norm.weight.data + norm.bias.data) @ last.weight.data.T.astype(np.float64)
    np.testing.assert_allclose(model.encode(texts), unit(x), rtol=0, atol=2e-6)
    np.testing.assert_allclose(model.encode(texts, truncate_dim=3), unit(x[:, :3]), rtol=0, atol=2e-6)


# ---------------------------------------------------------------- texts that are too long

LONG = " ".join(["cat"] * 14)


@pytest.mark.parametrize("place", [0, 31, 32, 77])
def test_a_long_text_is_an_error_or_cut_with_a_warning(place):
    model = dual()
    texts = ["a dog"] * 100
    texts[place] = LONG
    with pytest.raises(ValueError, match=f"text {place} has 14 tokens, expected at most 12"):
        model.encode_text(texts, batch_size=1)
    with pytest.warns(UserWarning, match=f"1 texts were cut to 12 tokens, the first is number {place}") as seen:
        rows = model.encode_text(iter(texts), batch_size=1, truncate=True)
    assert len(seen) == 1
    np.testing.assert_array_equal(rows[place], model.encode_text(" ".join(["cat"] * 12)))
    np.testing.assert_array_equal(rows[place - 1], model.encode_text("a dog"))
    with pytest.warns(UserWarning, match=f"the first is number {place}"):
        np.testing.assert_array_equal(model.embed_texts(texts, 1), rows)


def test_a_pretrained_tokenizer_says_where_too():
    pytest.importorskip("tokenizers", reason="the tokenizer is made with it")
    words = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\n"
    model = text_encoder()
    model.tokenizer = plait.processing.Tokenizer({"vocab.txt": words}, "bert")
    texts = ["cat"] * 50 + [LONG] + ["cat"] * 20 + [LONG, LONG]
    with pytest.raises(ValueError, match=r"texts\[50\] has 16 tokens, expected at most 12"):
        model.encode(texts, batch_size=1)
    with pytest.warns(UserWarning) as seen:
        model.encode(texts, batch_size=1, truncate=True)
    assert [str(w.message).split(": ")[1] for w in seen] == [
        "1 text was cut to 12 tokens, the first is texts[50]",
        "2 texts were cut to 12 tokens, the first is texts[71]",
    ]


def test_max_tokens_may_be_lower_than_the_table():
    model = text_encoder()
    model.max_tokens = 3
    with pytest.raises(ValueError, match="text 1 has 4 tokens, expected at most 3"):
        model.encode(["cat", "a red cat dog"])
    assert model.encode([[1] * 12]).shape == (1, 16)  # ids are bounded by the table
    model.max_tokens = 99
    with pytest.raises(ValueError, match="text 40 has 14 tokens, expected at most 12"):
        model.encode(["cat"] * 40 + [LONG], batch_size=1)


# ---------------------------------------------------------------- what is kept


@pytest.fixture
def counted(model):
    """The model, and a list that gets the number of texts of every batch that is computed."""
    forward, seen = model.text.forward, []

    def counting(ids):
        seen.append(len(ids))
        return forward(ids)

    model.text.forward = counting
    return model, seen


TABLE = ("a cat", "a dog", "red")


def test_the_same_list_is_computed_once(counted):
    model, seen = counted
    due = model.encode_text(list(TABLE))
    seen.clear()
    first = model.encode_text(list(TABLE), cache=True)
    first[:] = 7  # the caller's own
    again = model.encode_text(TABLE, cache=True)
    again[:] = 8
    np.testing.assert_array_equal(model.encode_text(list(TABLE), cache=True), due)
    assert seen == [3]
    for one in range(2):
        np.testing.assert_array_equal(model.encode_text("a cat", cache=True), due[0])
        assert len(seen) == 2, one
    model.encode_text(TABLE[::-1], cache=True)
    model.encode_text(TABLE, cache=True, normalize=False)
    model.encode_text(TABLE, cache=True, precision="int8")
    model.encode_text(TABLE, cache=True, truncate_dim=3)
    assert len(seen) == 6
    assert model.encode_text(TABLE, cache=True, truncate_dim=3).shape == (3, 3)
    assert model.encode_text(TABLE, cache=True, precision="int8").dtype == np.int8
    assert len(seen) == 6
    model.encode_text(TABLE)  # not asked for
    model.encode_text(iter(TABLE), cache=True)  # not a list
    model.encode_text([[1], [2]], cache=True)  # not strings
    assert len(seen) == 9


def step(model):
    optimizer = plait.optim.SGD(model, lr=0.5)
    model.train()
    plait.ops.mean(model.encode_text(list(TABLE)) * RNG.standard_normal((3, 16)).astype(np.float32)).backward()
    optimizer.step()
    model.eval()


def edit(model):
    with model.text.tokens.weight.edit() as table:
        table[:] = 1


def replace_layer(model):
    old = model.text.projection.weight
    model.text.projection = plait.nn.Linear(*old.shape[::-1], bias=False)
    model.text.projection.weight.version = old.version  # written to as often


def other_words(model):
    words = tokenizer()
    model.tokenizer = type(words)(words.words[::-1], words.characters)


CHANGES = {
    "assign": lambda m: m.text.positions.assign(m.text.positions.data[::-1]),
    "edit": edit,
    "adopt": lambda m: m.text.positions.adopt(np.ones(m.text.positions.shape, np.float32)),
    "load_state_dict": lambda m: m.load_state_dict({k: -v for k, v in m.state_dict().items()}),
    "optimizer": step,
    "another layer": replace_layer,
    "another tokenizer": other_words,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_vectors_empties_the_cache(model, name):
    before = model.encode_text(TABLE, cache=True)
    CHANGES[name](model)
    after = model.encode_text(TABLE, cache=True)
    assert (before != after).any()
    np.testing.assert_array_equal(after, model.encode_text(TABLE))


def test_max_tokens_and_copies_do_not_share_what_is_kept(model):
    with pytest.warns(UserWarning, match="1 texts were cut to 12"):
        model.encode_text([LONG], truncate=True, cache=True)
    model.max_tokens = 5
    with pytest.warns(UserWarning, match="1 texts were cut to 5"):
        model.encode_text([LONG], truncate=True, cache=True)
    for p in model.text.parameters():
        p.assign(p.data * 0.5)
    before = model.encode_text(TABLE, cache=True)
    again = copy.deepcopy(model)  # parameters of a copy count their writes anew
    assert model._cache._kept and not again._cache._kept
    for p in again.text.parameters():
        p.assign(np.flip(p.data))
    after = again.encode_text(TABLE, cache=True)
    assert (after != before).any()
    np.testing.assert_array_equal(after, again.encode_text(TABLE))


def test_the_cache_is_bounded(counted):
    model, seen = counted
    lists = [[a, b] for a in sentences(9) for b in sentences(6, seed=1)]
    for texts in lists:
        model.encode_text(texts, cache=True)
    assert len(model._cache._kept) == 32 and len(seen) == len(lists)
    for texts in lists[-32:]:
        model.encode_text(texts, cache=True)
    assert len(seen) == len(lists)
    model.encode_text(lists[0], cache=True)
    assert len(seen) == len(lists) + 1


# ---------------------------------------------------------------- zero-shot


def zero_shot_by_formula(model, x, labels, templates):
    x = np.asarray(x, np.float64)
    table = []
    for label in labels:
        texts = [template.replace("{}", label) for template in templates]
        table.append(unit(np.mean([model.encode_text(t).astype(np.float64) for t in texts], axis=0)))
    logits = np.exp(np.float64(model.logit_scale.item())) * x @ np.stack(table).T
    if model.logit_bias is not None:
        return 1 / (1 + np.exp(-(logits + model.logit_bias.item())))
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


LABELS = ["cat", "red dog", "cow"]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("templates", [None, "the {}", ["a {}", "photo of {} and {}", "{}"], ("{}",)])
@pytest.mark.parametrize("cache", [False, True])
def test_zero_shot_by_formula(bias, templates, cache):
    model, images = dual(logit_bias=bias), pictures(5)
    x = model.encode_image(images)
    given = {} if templates is None else {"templates": templates}
    used = ["a photo of a {}."] if templates is None else [templates] if isinstance(templates, str) else templates
    due = zero_shot_by_formula(model, x, LABELS, used)
    forms = {"pictures": images, "generator": iter(images), "vectors": x, "float64": x.astype(np.float64)}
    for name, form in forms.items():
        got = model.zero_shot(form, LABELS, cache=cache, **given)
        assert got.dtype == np.float32 and got.shape == (5, 3), name
        np.testing.assert_allclose(got, due, rtol=2e-4, atol=1e-7, err_msg=name)
    for one in (images[2], x[2]):
        got = model.zero_shot(one, tuple(LABELS), cache=cache, **given)
        assert got.shape == (3,)
        np.testing.assert_allclose(got, due[2], rtol=2e-4, atol=1e-7)
    tensor = plait.Tensor(processed(2))
    np.testing.assert_array_equal(model.zero_shot(tensor, LABELS), model.zero_shot(tensor.data, LABELS))


@pytest.mark.parametrize("bias", [-80.0, 0.0, 80.0])
def test_sigmoids_of_large_logits(bias):
    model = dual(logit_bias=True)
    model.logit_scale.assign(np.float32(np.log(100)))
    model.logit_bias.assign(np.float32(bias))
    cat = model.encode_text("cat")
    got = model.zero_shot(np.stack([cat, -cat]), ["cat"], "{}")[:, 0]
    logits = np.array([100.0, -100.0]) + bias
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-logits)), rtol=1e-4, atol=1e-37)


def test_a_picture_that_is_skipped_is_nothing(model):
    for m in (model, dual(logit_bias=True)):
        with pytest.warns(UserWarning, match="1 item was skipped"):
            got = m.zero_shot([pictures(1)[0], b"broken"], LABELS, on_error="skip", batch_size=1)
        assert got[0].any() and not got[1].any()
        with pytest.raises(ValueError, match=r"images\[1\]"):
            m.zero_shot([pictures(1)[0], b"broken"], LABELS)


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        ("cat", {}, TypeError, "labels is 'cat', expected a list of at least one str"),
        ([], {}, TypeError, "labels is"),
        (["cat", 3], {}, TypeError, "labels is"),
        (["cat"], {"templates": []}, ValueError, "templates holds nothing"),
        (["cat"], {"templates": "a photo"}, ValueError, r"templates holds \['a photo'\], expected texts with {}"),
        (["cat"], {"templates": ["{}", 3]}, ValueError, r"templates holds \[3\]"),
        (["cat", ""], {"templates": "{}"}, ValueError, r"labels\[1\] is '', which has no tokens"),
        (["cat"], {"templates": "a a a a a a {} a a a a a a"}, ValueError, "13 tokens, expected at most 12"),
        (["cat"], {"precision": "int8"}, TypeError, "precision"),
    ],
)
def test_wrong_labels_and_templates(model, labels, options, error, message):
    with pytest.raises(error, match=message):
        model.zero_shot(pictures(1), labels, **options)


# ---------------------------------------------------------------- modes


def refused(call):
    with pytest.raises(ValueError, match="bytes of 1"):
        call()


CALLS = {
    "zero_shot": lambda m: m.zero_shot(pictures(2), LABELS),
    "zero_shot of what is broken": lambda m: refused(lambda: m.zero_shot([b"x"], LABELS)),
    "embed_images": lambda m: m.embed_images(pictures(2)),
    "embed_images of a tensor": lambda m: m.embed_images(plait.Tensor(processed(2))),
    "embed_texts": lambda m: m.embed_texts(TABLE),
    "embed_texts of ids": lambda m: m.embed_texts([[1], [2]]),
    "encode_text_iter": lambda m: np.concatenate(list(m.encode_text_iter(TABLE))),
    "encode_image_iter": lambda m: np.concatenate(list(m.encode_image_iter(pictures(2)))),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("mode", ["training", "evaluation", "mixed"])
def test_modes_stay_what_they_are(name, mode):
    model = dual({"dropout": 0.5}, {"dropout": 0.5})
    due = CALLS[name](model)
    model.train(mode != "evaluation")
    if mode == "mixed":
        model.image.eval()  # a frozen tower, say
    before = [m.training for _, m in model.named_modules()]
    got = CALLS[name](model)
    assert [m.training for _, m in model.named_modules()] == before
    if isinstance(due, np.ndarray):
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, due)
    assert plait.Tensor(1.0).requires_grad is False and plait.tensor.grad_enabled()
