"""Recomputation: the same bits as without, in less memory, and what must not change in between."""

import gc
import threading

import numpy as np
import pytest

import plait
from plait import _core, nn, ops
from plait.ops._apply import generator

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((9, 32)).astype(np.float32)
OFFSETS = [0, 3, 3, 9]


def plain(function, *inputs):
    return function(*inputs)


def drawn():
    """How many random names have been given out since the seed."""
    return next(generator.counter)


def outcome(call, use, modules, seed=5):
    """Loss, gradients of the input and of the parameters, and the number of draws, of one backward."""
    for module in modules:
        module.zero_grad()
    plait.seed(seed)
    x = plait.Tensor(ROWS, requires_grad=True)
    loss = use(call, x)
    loss.backward()
    found = [loss.data, x.grad] + [p.grad for m in modules for p in m.parameters()]
    return [None if g is None else np.array(g) for g in found] + [drawn()]


def same(got, expected):
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert (g is None) == (e is None)
        np.testing.assert_array_equal(g, e)


# ---------------------------------------------------------------- the same bits

BLOCK = nn.EncoderBlock(32, 4, dropout=0.2, attention_dropout=0.1)
ROPE = nn.EncoderBlock(32, 4, rope=1e4, gated=True, layer_scale=0.5, dropout=0.3)
POST = nn.EncoderBlock(32, 4, pre_norm=False, activation="quick_gelu")
CROSS = nn.CrossModalBlock(32, 4, dropout=0.1)
LINEAR = nn.Linear(32, 32)
FROZEN = nn.EncoderBlock(32, 4).freeze()
WEIGHT = RNG.standard_normal((9, 32)).astype(np.float32)


def total(x):
    return ops.sum(ops.multiply(x, WEIGHT[: x.shape[0]]))


def in_stream(call, x, *blocks):
    s = plait.Stream(x, OFFSETS, times=np.arange(9.0))
    for block in blocks:
        s = call(block, s)
        assert s.times is not None
    return total(s.rows)


def two_streams(call, x):
    s = plait.Stream(x, OFFSETS)
    a, b = call(CROSS, s, s)
    a, b = call(CROSS, b, a)
    return total(a.rows) + total(b.rows)


def one_output_unused(call, x):
    _, b = call(lambda x: ops.split(LINEAR(x), 2, axis=1), x)
    return ops.sum(b * b)


def outputs_of_each_other(call, x):
    """An output that is also read inside, given twice, and used outside again and again."""

    def function(x):
        h = LINEAR(x)
        return {"h": h, "again": [h], "more": ops.exp(h * 0.1), "none": None, "input": x}

    r = call(function, x)
    h, same_one, more, back = r["h"], r["again"][0], r["more"], r["input"]
    return total(h * more) + total(same_one * 1.7) + total(h) + total(back * h) + total(more * 0.3)


def input_used_outside(call, x):
    """Terms of the gradient of x arrive from outside before, and after, those from inside."""
    h = ops.relu(x * 1.1)
    early = h * 0.3
    y = call(lambda h: LINEAR(h) * h + h * 0.7, h)
    return total(y * h) + total(early) + total(h * 1.9)


def tensors_from_around(call, x):
    h, offset = ops.tanh(x), LINEAR(x)
    y = call(lambda h: ops.dropout(h * offset, 0.3) + offset, h)
    return total(y * offset)


def nested(call, x):
    s = plait.Stream(x, OFFSETS)

    def inner(s):
        return call(BLOCK, call(ROPE, s))

    return total(call(lambda s: call(inner, BLOCK(s)), s).rows)


def arrays_only(call, x):
    """No input needs a gradient, parameters do."""
    return total(call(BLOCK, plait.Stream(ROWS, OFFSETS)).rows) + ops.sum(x)


def some_inputs(call, x):
    return total(call(lambda a, x, n, text: ops.dropout(LINEAR(x), 0.1) * a * n, WEIGHT, x, 2.0, "text"))


@plait.operator
def cube(x):
    return x**3, x


@cube.backward
def cube_backward(x, dy):
    return 3 * x**2 * dy


USES = {
    "a block": (lambda c, x: in_stream(c, x, BLOCK), [BLOCK]),
    "a block twice": (lambda c, x: in_stream(c, x, BLOCK, BLOCK), [BLOCK]),
    "other blocks": (lambda c, x: in_stream(c, x, ROPE, POST), [ROPE, POST]),
    "a frozen one first": (lambda c, x: in_stream(c, ops.relu(x), FROZEN, BLOCK), [FROZEN, BLOCK]),
    "two streams": (two_streams, [CROSS]),
    "one output unused": (one_output_unused, [LINEAR]),
    "outputs of each other": (outputs_of_each_other, [LINEAR]),
    "input used outside": (input_used_outside, [LINEAR]),
    "tensors from around": (tensors_from_around, [LINEAR]),
    "nested": (nested, [BLOCK, ROPE]),
    "arrays only": (arrays_only, [BLOCK]),
    "some inputs": (some_inputs, [LINEAR]),
    "an operator of one's own": (lambda c, x: total(c(lambda x: cube(ops.dropout(x, 0.5)), x)), []),
    "identity": (lambda c, x: total(c(lambda x: x, x) * 2.0), []),
}


@pytest.mark.parametrize("name", USES)
def test_the_same_in_every_bit(name):
    use, modules = USES[name]
    expected = outcome(plain, use, modules)
    same(outcome(plait.checkpoint, use, modules), expected)
    same(outcome(plait.checkpoint, use, modules), expected)  # and it leaves nothing behind


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_add_up_over_steps(threads):
    before = plait.get_num_threads()
    plait.set_num_threads(threads)
    try:
        found = []
        for call in (plain, plait.checkpoint):
            BLOCK.zero_grad()
            plait.seed(1)
            for _ in range(3):
                in_stream(call, plait.Tensor(ROWS, requires_grad=True), BLOCK).backward()
            found.append([np.array(p.grad) for p in BLOCK.parameters()])
        same(*found)
    finally:
        plait.set_num_threads(before)


def test_gradients_are_those_of_differences():
    w = plait.Tensor(RNG.standard_normal((4, 3)), requires_grad=True)
    x = RNG.standard_normal((5, 3))
    assert plait.gradcheck(lambda x, w: plait.checkpoint(lambda x: ops.tanh(ops.linear(x, w)), x), x, w)


# ---------------------------------------------------------------- how often, and when not


def counting(function):
    def call(*inputs):
        call.count += 1
        return function(*inputs)

    call.count = 0
    return call


def test_backward_calls_again_and_nothing_else_does():
    function = counting(lambda x: ops.exp(x))
    x = plait.Tensor(ROWS, requires_grad=True)
    y = plait.checkpoint(function, x)
    assert function.count == 1 and y.requires_grad and not y.is_leaf
    with plait.no_grad():
        loss = total(y)
    total(y).backward()
    assert function.count == 2 and not loss.requires_grad
    with pytest.raises(RuntimeError, match="checkpoint: backward ran already"):
        total(y).backward()


def test_nothing_is_recorded_where_no_gradient_is_due():
    function = counting(FROZEN)
    x = plait.Tensor(ROWS, requires_grad=True)
    with plait.no_grad():
        assert not plait.checkpoint(function, plait.Stream(x, OFFSETS)).rows.requires_grad
    y = plait.checkpoint(function, plait.Stream(ROWS, OFFSETS)).rows
    assert not y.requires_grad and y.is_leaf and function.count == 2
    assert plait.checkpoint(lambda: 3) == 3
    assert ROWS.flags.writeable


def test_backward_may_run_where_nothing_is_recorded():
    x = plait.Tensor(ROWS, requires_grad=True)
    y = total(plait.checkpoint(ops.exp, x))
    with plait.no_grad():
        y.backward()
        assert not plait.tensor.grad_enabled()
    np.testing.assert_array_equal(x.grad, WEIGHT * np.exp(ROWS))


def test_no_cycles_and_no_tape():
    x = plait.Tensor(ROWS, requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        for after in (lambda t: None, lambda t: t.backward()):
            before = _core.counters()["pool_used_bytes"]
            loss = ops.sum(plait.checkpoint(BLOCK, plait.Stream(x, OFFSETS)).rows)
            after(loss)
            BLOCK.zero_grad()
            del loss
            x.grad = None
            assert gc.collect() == 0
        assert _core.counters()["pool_used_bytes"] == before
    finally:
        gc.enable()


# ---------------------------------------------------------------- what must not change


def test_inputs_are_read_only_until_backward():
    array, rows = np.array(ROWS), np.array(ROWS)
    x = plait.Tensor(array, requires_grad=True)
    for end in ("backward", "drop"):
        y = plait.checkpoint(lambda x, s: x * s.rows, x, plait.Stream(rows, OFFSETS))
        for held in (array, rows):
            with pytest.raises(ValueError, match="read-only"):
                held += 1
        if end == "backward":
            ops.sum(y).backward()
        del y
        array += 1
        rows += 1


def test_a_changed_parameter_is_an_error():
    layer = nn.Linear(32, 32)
    outer = nn.Parameter(np.ones(32))
    for changed in (layer.weight, outer):
        y = plait.checkpoint(lambda x: plait.checkpoint(layer, x * outer), plait.Tensor(ROWS))
        changed.assign(changed.data * 2)
        with pytest.raises(RuntimeError, match=r"a parameter of shape .* was changed since forward"):
            total(y).backward()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, n: x[:n] * 2.0, r"gave tensors of shapes \[\(2, 32\)\] .* expected \[\(1, 32\)\]"),
        (lambda x, n: tuple(x * 2.0 for _ in range(n)), "gave tensors of shapes"),
        (lambda x, n: ops.dropout(x, 0.5, training=n == 1), "drew random bits 0 times, .* and 1 as the first"),
        (lambda x, n: ops.dropout(ops.dropout(x, 0.5), 0.5, training=n == 2), "draws more random bits than the first"),
    ],
)
def test_a_function_that_changes_is_an_error(function, message):
    counted = counting(lambda x: function(x, counted.count))
    y = plait.checkpoint(counted, plait.Tensor(ROWS, requires_grad=True))
    y = y[0] if isinstance(y, tuple) else y
    with pytest.raises(RuntimeError, match=message):
        total(y).backward()
    assert plait.tensor.grad_enabled() and plait.checkpoint(ops.dropout, ROWS).shape == (9, 32)


def test_a_switch_to_evaluation_before_backward_changes_nothing():
    """As without recomputation: backward is that of the forward that was."""
    found = []
    for checkpoint in (False, True):
        plait.seed(0)
        encoder = nn.Encoder(2, 32, 4, dropout=0.3, checkpoint=checkpoint)
        y = encoder(plait.Stream(plait.Tensor(ROWS, requires_grad=True), OFFSETS))
        encoder.eval()
        total(y.rows).backward()
        assert not any(module.training for _, module in encoder.named_modules())
        found.append([np.array(p.grad) for p in encoder.parameters()])
    same(*found)


def test_a_recomputed_block_changes_no_mode_that_is_right():
    """Of a block that changes its own, and without a look through the modules where nothing is recorded."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, x, cache=None, bias=None):
            self.dropout.eval()
            return x.with_rows(self.dropout(x.rows) * 2.0)

    encoder = nn.Encoder(1, 32, 4, checkpoint=True)
    encoder.blocks = [Block()]
    y = encoder(plait.Stream(plait.Tensor(ROWS, requires_grad=True), OFFSETS))
    assert not encoder.blocks[0].dropout.training and encoder.blocks[0].training
    total(y.rows).backward()
    encoder.blocks = [lambda x, cache, bias: x]
    with plait.no_grad():
        assert encoder(plait.Stream(ROWS, OFFSETS)).rows.shape == ROWS.shape
    assert encoder(plait.Stream(plait.Tensor(ROWS, requires_grad=True), OFFSETS)).rows.shape == ROWS.shape


def test_errors_of_the_function_come_through():
    def function(x):
        ops.dropout(x, 0.5)
        if wrong():
            raise KeyError("mine")
        return x * 2.0

    x = plait.Tensor(ROWS, requires_grad=True)
    wrong = lambda: True  # noqa: E731
    with pytest.raises(KeyError, match="mine"):
        plait.checkpoint(function, x)
    wrong = lambda: False  # noqa: E731
    y = plait.checkpoint(function, x)
    wrong = lambda: True  # noqa: E731
    with pytest.raises(KeyError, match="mine"):
        total(y).backward()
    plait.seed(0)
    ops.dropout(ROWS, 0.5)
    assert drawn() == 1 and plait.tensor.grad_enabled()
    with pytest.raises(TypeError, match="checkpoint: function is Tensor, expected something to call"):
        plait.checkpoint(x, x)


def test_dropout_is_the_same_while_other_threads_draw():
    """Their numbers lie among ours in forward, and their draws go on while ours are repeated."""
    x = plait.Tensor(ROWS, requires_grad=True)
    stop = threading.Event()

    def others():
        while not stop.is_set():
            ops.dropout(ROWS, 0.5)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for _ in range(20):
            x.grad = None
            y = plait.checkpoint(lambda x: ops.dropout(ops.dropout(x, 0.3), 0.3) * 1.0, x)
            value = y.data / np.where(ROWS == 0, 1, ROWS)  # the factor of each element is its gradient
            ops.sum(y).backward()
            np.testing.assert_allclose(x.grad, value, rtol=1e-5)
    finally:
        stop.set()
        thread.join()


# ---------------------------------------------------------------- encoders and models


def model_gradients(model, on):
    model.set_checkpointing(on)
    model.zero_grad()
    plait.seed(2)
    images = np.random.default_rng(3).random((4, 32, 32), dtype=np.float32)
    a, b = model.encode_image(images), model.encode_text([[5, 6, 7], [8], [], [9, 10]])
    plait.losses.info_nce(a, b, model.logit_scale).backward()
    return {name: None if p.grad is None else np.array(p.grad) for name, p in model.named_parameters()}


@pytest.mark.parametrize("blocks", [None, 1, 0], ids=["all", "the last block", "the projection"])
def test_towers_train_the_same_with_checkpointing(blocks):
    config = plait.models.get_config("glyph-tiny")
    for tower in ("image", "text"):
        config["config"][tower].update(layers=3, dropout=0.1, attention_dropout=0.1)
    model = plait.create_model(config)
    if blocks is not None:
        model.image.freeze_except_last(blocks)
    expected, got = model_gradients(model, False), model_gradients(model, True)
    same(list(got.values()), list(expected.values()))
    assert any(g is None for g in got.values()) == (blocks is not None)


def test_set_checkpointing_reaches_every_encoder_and_is_not_saved(tmp_path):
    model = plait.create_model("glyph-tiny")
    assert model.set_checkpointing() is model
    assert model.image.encoder.checkpoint is model.text.encoder.checkpoint is True
    model.save(tmp_path / "model")
    assert plait.load(tmp_path / "model").image.encoder.checkpoint is False
    assert model.set_checkpointing(False).image.encoder.checkpoint is False
    assert nn.Encoder(1, 8, 2, checkpoint=True).checkpoint is True
    with pytest.raises(ValueError, match=r"no nn\.Encoder in this Linear; see plait\.checkpoint"):
        nn.Linear(2, 2).set_checkpointing()


@pytest.mark.parametrize("on", ["no", "yes", 1, None])
def test_checkpointing_is_switched_by_a_bool(on):
    with pytest.raises(TypeError, match=f"set_checkpointing: on is {on!r}, expected True or False"):
        nn.Encoder(1, 8, 2).set_checkpointing(on)
    with pytest.raises(TypeError, match=f"Encoder: checkpoint is {on!r}, expected True or False"):
        nn.Encoder(1, 8, 2, checkpoint=on)


def test_an_encoder_passes_biases_and_caches_on():
    encoder = nn.Encoder(2, 32, 4, causal=True, checkpoint=True)
    table = plait.Tensor(RNG.standard_normal((4, 19)).astype(np.float32), requires_grad=True)
    bias = ops.RelativeBias(table, lambda q, k: np.arange(q)[:, None] - np.arange(k) + 9)
    s, found = plait.Stream(ROWS, OFFSETS), []
    for on in (False, True):
        table.grad = None
        total(encoder.set_checkpointing(on)(s, bias=bias).rows).backward()
        found.append([np.array(table.grad)])
    same(*found)
    with plait.no_grad():
        caches = [nn.KVCache(3, 8) for _ in range(2)]
        np.testing.assert_allclose(encoder(s, caches=caches).rows.data, encoder(s).rows.data, atol=1e-5)


def test_memory_is_that_of_one_block_and_of_the_rows_between():
    depth, width, count = 16, 128, 1600
    encoder = nn.Encoder(depth, width, 4)
    rows = RNG.standard_normal((count, width)).astype(np.float32)
    stream = plait.Stream(rows, np.arange(33) * 50)

    def taken(on):
        """Bytes that the pool had to get for a step: what is used at once, since freed buffers are used again."""
        encoder.set_checkpointing(on)
        encoder.zero_grad()
        _core.empty_cache()
        before = _core.counters()
        ops.mean(encoder(stream).rows).backward()
        after = _core.counters()
        return sum(after[k] - before[k] for k in ("pool_free_bytes", "pool_used_bytes"))

    taken(False)  # gradients and packed weights find their place
    between, saved, less = count * width * 4, taken(False), taken(True)
    assert saved > 10 * depth * between
    assert less < (1.25 * depth + 30) * between
    assert less < saved / 3


def test_packed_weights_do_not_outlast_a_call_unless_they_are_frozen():
    block = nn.EncoderBlock(64, 4)
    block.mlp.fc1.weight.requires_grad = False
    rows = RNG.standard_normal((200, 64)).astype(np.float32)
    stream = plait.Stream(rows, [0, 200])

    def packed():
        return {name for name, p in block.named_parameters() if p.pack is not None and p.pack.nbytes}

    loss = ops.sum(block(stream).rows)
    everything = packed()
    del loss
    loss = ops.sum(plait.checkpoint(block, stream).rows)
    assert len(everything) == 4 and packed() == {"mlp.fc1.weight"}
    loss.backward()
    assert packed() == {"mlp.fc1.weight"}
