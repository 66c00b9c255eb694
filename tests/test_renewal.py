"""An optimiser packs the weights that it changed in the same pass, to the same bits as packing them anew."""

import numpy as np
import pytest

import plait
from plait import Tensor, _core, nn

SHAPES = [(1, 1), (5, 7), (64, 256), (65, 257), (63, 33), (200, 300), (7, 600), (520, 40)]
MAKERS = {"AdamW": plait.optim.AdamW, "SGD": lambda m, **k: plait.optim.SGD(m, momentum=0.9, **k)}


def has(precision):
    return precision == "f32" or _core.has(precision)


def losses(make, precision, shape, renewed, groups=False):
    """Of some steps; without `renewed` packed forms are dropped before each."""
    out, width = shape
    rng = np.random.default_rng(out * width)
    model = nn.Sequential(nn.Linear(width, out), nn.Linear(out, width)).train(precision=precision)
    for p in model.parameters():
        p.assign(rng.standard_normal(p.shape, dtype=np.float32) / width**0.5)
    x = Tensor(rng.standard_normal((40, width), dtype=np.float32), requires_grad=True)
    given = [{"params": [p], "lr": 0.01 * (i + 1)} for i, p in enumerate(model.parameters())] if groups else model
    optimizer = make(given, lr=0.01)
    seen = []
    for step in range(6):
        if not renewed:
            for p in model.parameters():
                if p.pack is not None:
                    p.pack.renew(1000 + step)
                    p.pack.renew(p.version)
        loss = (model(x) * model(x)).mean()
        loss.backward()
        seen += [loss.data.tobytes(), x.grad.tobytes()]
        x.grad = None
        optimizer.step()
        optimizer.zero_grad()
    return seen + [p.data.tobytes() for p in model.parameters()]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_renewed_forms_have_the_bits_of_new_ones(make, precision, shape):
    if not has(precision):
        pytest.skip("this processor has no instructions for bf16")
    assert losses(make, precision, shape, True) == losses(make, precision, shape, False)


def test_groups_with_rates_of_their_own():
    assert losses(MAKERS["AdamW"], "f32", (65, 257), True, True) == losses(
        MAKERS["AdamW"], "f32", (65, 257), False, True
    )


@pytest.mark.parametrize(
    "precision, passes, packed_a_step", [("f32", 1, 16), ("f32", 2, 0), ("bf16", 1, 8), ("bf16", 2, 0)]
)
def test_what_is_packed_once_more(precision, passes, packed_a_step):
    """Forms that a step uses once are not kept, but for forward's in bfloat16; others are renewed by the optimiser."""
    if not has(precision):
        pytest.skip("this processor has no instructions for bf16")
    model = nn.Encoder(2, 64, 4).train(precision=precision)
    optimizer = plait.optim.AdamW(model)
    x = Tensor(np.random.default_rng(0).standard_normal((30, 64), dtype=np.float32), requires_grad=True)
    filled = []
    for _ in range(5):
        for _ in range(passes):
            model(plait.Stream(x, [0, 10, 30])).rows.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        filled.append(_core.counters()["packs_filled"])
    assert np.diff(filled)[1:].tolist() == [packed_a_step] * 3


def test_a_step_that_fails_leaves_no_stale_forms():
    layer = nn.Linear(64, 64)
    optimizer = plait.optim.AdamW(layer)
    x = np.ones((3, 64), np.float32)
    layer(x).mean().backward()
    p = layer.weight
    weights = [(0, *p.shape, p.pack, p.version + 1)]
    arrays = optimizer.values, optimizer.gradients, optimizer.m, optimizer.v
    with pytest.raises(ValueError, match="step is 0"):
        _core.adamw_step(*arrays, [(0, p.size, 0.1, 0.0)], 0.9, 0.99, 1e-8, 0, 1.0, weights)
    optimizer.step()
    with plait.no_grad():
        assert np.allclose(layer(x).data, x @ p.data.T + layer.bias.data, atol=1e-6)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_ctrl_c_in_a_step_leaves_no_stale_forms(precision, where):
    """The signal comes between the core's call and what follows it in Python."""
    if not has(precision):
        pytest.skip("this processor has no instructions for bf16")
    layer = nn.Linear(64, 64).train(precision=precision)
    optimizer = plait.optim.AdamW(layer, lr=0.1)
    x = np.random.default_rng(0).standard_normal((8, 64), dtype=np.float32)
    start = {name: value.copy() for name, value in layer.state_dict().items()}

    def fresh():
        other = nn.Linear(64, 64)
        other.load_state_dict(layer.state_dict())
        return other.train(precision=precision)(x).data

    def train():
        for _ in range(2):
            (layer(x) * layer(x)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    train()
    update = optimizer._update

    def interrupted(*arguments):
        if where == "after":
            update(*arguments)
        raise KeyboardInterrupt

    optimizer._update = interrupted
    with pytest.raises(KeyboardInterrupt):
        train()
    optimizer._update = update
    optimizer.zero_grad()
    assert np.array_equal(layer(x).data, fresh())
    layer.load_state_dict(start)
    assert np.array_equal(layer(x).data, fresh())
    train()
    assert np.array_equal(layer(x).data, fresh())


@pytest.mark.parametrize(
    "weight, message",
    [
        ((0, 64, 65), "weights\\[0\\] is 64 x 65 at 0, expected to lie behind the one before and within 4096 values"),
        ((-1, 4, 4), "weights\\[0\\] is 4 x 4 at -1"),
        ((0, 0, 4), "weights\\[0\\] is 0 x 4 at 0"),
        ((0, 1 << 40, 1 << 40), "weights\\[0\\] is"),
        ((4090, 4, 4), "weights\\[0\\] is 4 x 4 at 4090"),
    ],
)
def test_weights_lie_within_the_arena(weight, message):
    arrays = [np.zeros(4096, np.float32) for _ in range(4)]
    with pytest.raises(ValueError, match=message):
        _core.adamw_step(*arrays, [(0, 4096, 0.1, 0.0)], 0.9, 0.99, 1e-8, 1, 1.0, [(*weight, _core.Pack(), 1)])
    with pytest.raises(ValueError, match=message):
        _core.sgd_step(*arrays[:3], [(0, 4096, 0.1, 0.0)], 0.9, False, 1.0, [(*weight, _core.Pack(), 1)])


@pytest.mark.parametrize("weights", [[(0, 4, 4)], [(0, 4, 4, None, 1)], [5], [(0, 4, 4, "pack", 1)], 7])
def test_weights_are_tuples_with_a_pack(weights):
    arrays = [np.zeros(64, np.float32) for _ in range(4)]
    with pytest.raises(TypeError):
        _core.adamw_step(*arrays, [(0, 64, 0.1, 0.0)], 0.9, 0.99, 1e-8, 1, 1.0, weights)
