"""Optimisers through their Python classes: against float64 formulas, against PyTorch, and what they refuse."""

import math

import numpy as np
import pytest

import plait
from plait import nn, optim

STEPS = 20
SHAPES = {"matrix": (7, 5), "vector": (19,), "scalar": (), "tied": (4, 6), "frozen": (3, 3), "unused": (5,)}
KINDS = {
    "adamw": (optim.AdamW, {"betas": (0.9, 0.95), "eps": 1e-7}),
    "sgd": (optim.SGD, {}),
    "momentum": (optim.SGD, {"momentum": 0.9}),
    "nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


class Bag(nn.Module):
    """Parameters of many shapes; "tied" under a second name as well."""

    def __init__(self, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        for name, shape in SHAPES.items():
            setattr(self, name, nn.Parameter(rng.standard_normal(shape), requires_grad=name != "frozen"))
        self.again = self.tied


def slopes(step):
    """The gradient of every parameter in a step; those of the tied one come from two places."""
    rng = np.random.default_rng(1000 + step)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in {**SHAPES, "again": (4, 6)}.items()}


def loss_of(bag, step):
    """A loss whose gradients are those of ``slopes``."""
    total = 0.0
    for name, g in slopes(step).items():
        if name != "unused":
            total = total + (getattr(bag, name) * g).sum()
    return total


def groups_of(bag):
    return [
        {"params": [bag.matrix, bag.frozen, bag.tied], "weight_decay": 0.1},
        {"params": [bag.vector, bag.scalar, bag.unused, bag.again], "lr": 3e-3, "weight_decay": 0.0},
    ]


OPTIONS = {"matrix": (1e-2, 0.1), "tied": (1e-2, 0.1), "vector": (3e-3, 0.0), "scalar": (3e-3, 0.0)}


def formula(kind, max_norm):
    """The same twenty steps in float64."""
    value = {n: getattr(Bag(), n).data.astype(np.float64) for n in SHAPES}
    m, v = ({n: np.zeros(SHAPES[n]) for n in OPTIONS} for _ in range(2))
    norms = []
    for step in range(STEPS):
        g = {n: s.astype(np.float64) for n, s in slopes(step).items()}
        g["tied"] = g["tied"] + g["again"]
        norms.append(math.sqrt(sum(float((g[n] ** 2).sum()) for n in OPTIONS)))
        scale = 1.0 if max_norm is None else min(1.0, max_norm / norms[-1])
        for n, (lr, decay) in OPTIONS.items():
            d = g[n] * scale
            if kind == "adamw":
                m[n] = 0.9 * m[n] + 0.1 * d
                v[n] = 0.95 * v[n] + 0.05 * d**2
                update = m[n] / (1 - 0.9 ** (step + 1)) / (np.sqrt(v[n] / (1 - 0.95 ** (step + 1))) + 1e-7)
                value[n] = value[n] * (1 - lr * decay) - lr * update
                continue
            d = d + decay * value[n]
            if kind != "sgd":
                m[n] = 0.9 * m[n] + d
                d = d + 0.9 * m[n] if kind == "nesterov" else m[n]
            value[n] = value[n] - lr * d
    return value, norms


@pytest.mark.parametrize("max_norm", [None, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_formula(kind, max_norm):
    cls, options = KINDS[kind]
    bag = Bag()
    optimizer = cls(groups_of(bag), lr=1e-2, max_grad_norm=max_norm, **options)
    norms = []
    for step in range(STEPS):
        loss_of(bag, step).backward()
        optimizer.step()
        norms.append(optimizer.grad_norm)
        optimizer.zero_grad()
    expected, expected_norms = formula(kind, max_norm)
    for name in SHAPES:
        np.testing.assert_allclose(getattr(bag, name).data, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
    before = Bag()
    for name in ("frozen", "unused"):
        np.testing.assert_array_equal(getattr(bag, name).data, getattr(before, name).data)
    if max_norm is None:
        assert norms == [None] * STEPS
    else:
        np.testing.assert_allclose(norms, expected_norms, rtol=1e-6)
        assert min(expected_norms) > max_norm, "the gradients must be long enough to be clipped"


def test_micro_batches_add_up():
    once, twice = Bag(), Bag()
    a, b = optim.AdamW(once, lr=1e-2), optim.AdamW(twice, lr=1e-2)
    (loss_of(once, 0) + loss_of(once, 1)).backward()
    loss_of(twice, 0).backward()
    loss_of(twice, 1).backward()
    a.step()
    b.step()
    for name in SHAPES:
        np.testing.assert_allclose(getattr(once, name).data, getattr(twice, name).data, rtol=1e-6)


def test_a_parameter_that_joins_later_counts_its_own_steps():
    """Bias correction goes by the updates of a parameter, not by those of the optimiser."""
    late, fresh = nn.Parameter(np.ones(20)), nn.Parameter(np.ones(20))
    other = nn.Parameter(np.ones(40))
    optimizer = optim.AdamW([other, late], lr=0.1)
    for _ in range(5):
        other.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    (other.sum() + (late * late).sum()).backward()
    optimizer.step()
    alone = optim.AdamW([fresh], lr=0.1)
    (fresh * fresh).sum().backward()
    alone.step()
    np.testing.assert_array_equal(late.data, fresh.data)


def test_gradients_that_exist_survive_the_gathering():
    layer = nn.Linear(3, 2)
    layer(np.ones((4, 3), np.float32)).sum().backward()
    before = layer.weight.grad.copy()
    optimizer = optim.SGD(layer, lr=1.0)
    np.testing.assert_array_equal(layer.weight.grad, before)
    weight = layer.weight.data.copy()
    optimizer.step()
    np.testing.assert_allclose(layer.weight.data, weight - before, rtol=1e-6)


def test_packed_weights_follow_the_optimiser():
    """A product after a step uses the new weights, whatever form they were packed in."""
    layer = nn.Linear(96, 64)
    x = np.random.default_rng(0).standard_normal((128, 96)).astype(np.float32)
    optimizer = optim.SGD(layer, lr=0.5)
    for _ in range(3):
        (layer(x) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        np.testing.assert_allclose(layer(x).data, x @ layer.weight.data.T + layer.bias.data, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("kind", KINDS)
def test_state_continues_at_the_same_bits(kind):
    cls, options = KINDS[kind]

    def run(bag, optimizer, schedule, begin, end):
        for step in range(begin, end):
            loss_of(bag, step).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    def make(bag):
        optimizer = cls(groups_of(bag), lr=1e-2, max_grad_norm=5.0, **options)
        return optimizer, optim.Schedule(optimizer, optim.warmup_cosine(STEPS, 3))

    whole = Bag()
    run(whole, *make(whole), 0, STEPS)
    first = Bag()
    optimizer, schedule = make(first)
    run(first, optimizer, schedule, 0, 8)
    weights = {k: v.copy() for k, v in first.state_dict().items()}
    state = optimizer.state_dict()
    run(first, optimizer, schedule, 8, 11)  # what was taken out is a copy
    second = Bag(seed=5)
    second.load_state_dict(weights)
    optimizer, schedule = make(second)
    optimizer.load_state_dict(state)
    schedule.set(8)
    run(second, optimizer, schedule, 8, STEPS)
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], array)


def test_load_state_dict_is_atomic():
    bag = Bag()
    optimizer = optim.AdamW(bag, lr=1e-2)
    loss_of(bag, 0).backward()
    optimizer.step()
    good = optimizer.state_dict()
    for changed, error, message in (
        ({"v": np.zeros(3, np.float32)}, ValueError, r"v has shape \(3,\), expected \("),
        ({"steps": np.full(good["steps"].shape, 1.5)}, TypeError, "steps has dtype float64, expected int64"),
        ({"steps": -good["steps"]}, ValueError, "steps holds -1"),
        ({"lr": np.array([math.nan])}, ValueError, "lr holds nan"),
        ({"speed": 1.0}, KeyError, "unknown"),
    ):
        bad = {**{k: np.zeros_like(v) for k, v in good.items()}, **changed}
        with pytest.raises(error, match=message):
            optimizer.load_state_dict(bad)
        for name, array in optimizer.state_dict().items():
            np.testing.assert_array_equal(array, good[name])
    with pytest.raises(KeyError, match="missing"):
        optimizer.load_state_dict({k: v for k, v in good.items() if k != "m"})


# ---------------------------------------------------------------- what is refused


def test_gradient_that_is_not_finite():
    bag = Bag()
    optimizer = optim.AdamW(bag, lr=1e-2, max_grad_norm=1.0)
    before, state = {k: v.copy() for k, v in bag.state_dict().items()}, optimizer.state_dict()
    loss_of(bag, 0).backward()
    bag.matrix.grad[1, 1] = math.inf
    with pytest.raises(FloatingPointError, match="gradient norm is inf"):
        optimizer.step()
    for name, array in bag.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    optimizer.zero_grad()
    loss_of(bag, 0).backward()
    optimizer.step()
    assert np.isfinite(bag.matrix.data).all()


def test_step_without_gradient():
    optimizer = optim.SGD(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        optimizer.step()


def test_an_optimiser_that_lost_its_parameters_refuses():
    layer = nn.Linear(2, 2)
    first = optim.SGD(layer, lr=0.1)
    second = optim.SGD([layer.weight], lr=0.1)
    layer(np.ones((1, 2), np.float32)).sum().backward()
    with pytest.raises(RuntimeError, match="another optimiser has gathered a parameter"):
        first.step()
    before = layer.weight.data.copy()
    second.step()
    assert not np.array_equal(layer.weight.data, before)


def layer():
    return nn.Linear(2, 2)


@pytest.mark.parametrize("kind", [optim.AdamW, optim.SGD])
def test_the_first_argument_is_called_model(kind):
    linear = layer()
    assert kind(model=linear, lr=0.1).groups[0]["params"] == linear.parameters()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optim.AdamW([]), ValueError, "AdamW: no parameters were given"),
        (lambda: optim.AdamW(layer().freeze()), ValueError, "AdamW: every parameter is frozen"),
        (lambda: optim.AdamW([np.ones(3)]), TypeError, "AdamW: a group holds ndarray, expected Parameter"),
        (lambda: optim.AdamW(layer(), lr=-1), ValueError, "AdamW: lr is -1, expected a finite number of at least 0"),
        (lambda: optim.AdamW(layer(), lr=math.nan), ValueError, "AdamW: lr is nan"),
        (lambda: optim.AdamW(layer(), lr="fast"), TypeError, "AdamW: lr is 'fast', expected a number"),
        (lambda: optim.AdamW(layer(), lr=True), TypeError, "AdamW: lr is True"),
        (lambda: optim.AdamW(layer(), eps=0), ValueError, "AdamW: eps is 0, expected a finite number above 0"),
        (lambda: optim.AdamW(layer(), betas=(0.9, 1.0)), ValueError, "AdamW: betas is"),
        (lambda: optim.AdamW(layer(), betas=0.9), ValueError, "AdamW: betas is 0.9, expected two numbers"),
        (lambda: optim.AdamW(layer(), betas=(0.9,)), ValueError, "AdamW: betas is"),
        (lambda: optim.AdamW(layer(), weight_decay=-0.1), ValueError, "AdamW: weight_decay is -0.1"),
        (lambda: optim.AdamW(layer(), max_grad_norm=0), ValueError, "AdamW: max_grad_norm is 0"),
        (lambda: optim.SGD(layer(), momentum=1.0), ValueError, "SGD: momentum is 1.0, expected at least 0 and below 1"),
        (lambda: optim.SGD(layer(), nesterov=True), ValueError, "SGD: nesterov needs momentum"),
        (
            lambda: optim.SGD([{"params": layer(), "rate": 1.0}]),
            ValueError,
            r"SGD: a group has keys \['params', 'rate'\], expected params and any of lr, weight_decay",
        ),
        (lambda: optim.SGD([{"lr": 1.0}]), ValueError, "SGD: a group has keys"),
        (lambda: optim.SGD([{"params": layer(), "lr": math.inf}]), ValueError, "SGD: lr of a group is inf"),
        (lambda: optim.Schedule(layer(), abs), TypeError, "Schedule: got Linear and builtin_function_or_method"),
        (lambda: optim.Schedule(optim.SGD(layer()), lambda n: math.nan), ValueError, r"Schedule: factor\(0\) is nan"),
        (lambda: optim.warmup_cosine(0), ValueError, "warmup_cosine: total is 0"),
        (lambda: optim.warmup_linear(10, 11), ValueError, "warmup_linear: warmup is 11, expected at most total, 10"),
        (lambda: optim.warmup_linear(10, 1, -0.5), ValueError, "warmup_linear: final is -0.5"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---------------------------------------------------------------- schedules and groups


def test_schedules():
    for make, due in (
        (optim.warmup_cosine, lambda x: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * x))),
        (optim.warmup_linear, lambda x: 0.1 + 0.9 * (1 - x)),
    ):
        factor = make(total=100, warmup=10, final=0.1)
        assert factor(0) == pytest.approx(0.1)
        assert factor(9) == pytest.approx(1.0)
        for step in (10, 37, 55, 99):
            assert factor(step) == pytest.approx(due((step - 10) / 90))
        assert factor(100) == factor(1000) == pytest.approx(0.1)
        assert make(total=5)(0) == 1.0
        assert make(total=5, warmup=5)(5) == pytest.approx(0.0)


def test_a_schedule_keeps_the_ratio_of_groups():
    bag = Bag()
    optimizer = optim.AdamW(groups_of(bag), lr=1e-2)
    schedule = optim.Schedule(optimizer, optim.warmup_linear(total=10))
    schedule.set(5)
    assert [g["lr"] for g in optimizer.groups] == pytest.approx([5e-3, 1.5e-3])
    optimizer.lr = 0.5
    assert [g["lr"] for g in optimizer.groups] == [0.5, 0.5]


def test_a_rate_of_zero_changes_nothing_but_moments():
    bag = Bag()
    optimizer = optim.AdamW(bag, lr=0.0)
    loss_of(bag, 0).backward()
    optimizer.step()
    for name, array in Bag().state_dict().items():
        np.testing.assert_array_equal(bag.state_dict()[name], array)
    assert optimizer.m.any()


def test_decay_groups():
    bag = Bag()
    decayed, plain = optim.decay_groups(bag, 0.2)
    assert [id(p) for p in decayed["params"]] == [id(bag.matrix), id(bag.tied)]
    assert [id(p) for p in plain["params"]] == [id(bag.vector), id(bag.scalar), id(bag.unused)]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.2, 0.0)
    optimizer = optim.AdamW(optim.decay_groups(bag, 0.2), lr=0.1)
    assert sum(b - a for a, b in optimizer._spans) == sum(p.size for g in (decayed, plain) for p in g["params"])


def test_threads_do_not_change_a_step():
    results, before = [], plait.get_num_threads()
    try:
        for threads in (1, 2):
            plait.set_num_threads(threads)
            bag = Bag()
            optimizer = optim.AdamW(bag, lr=1e-2, max_grad_norm=1.0)
            loss_of(bag, 0).backward()
            optimizer.step()
            results.append(optimizer.values.copy())
    finally:
        plait.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_layers_get_rates_by_depth():
    model = plait.create_model("glyph-tiny")
    groups = plait.optim.layer_groups(model, lr=1.0, decay=0.5, weight_decay=0.1, exclude=("positions",))
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    due = {
        "image.positions": (0.125, 0.0), "image.patches.weight": (0.125, 0.1), "image.patches.bias": (0.125, 0.0),
        "image.encoder.blocks.0.mlp.fc1.weight": (0.25, 0.1), "image.encoder.blocks.1.norm1.weight": (0.5, 0.0),
        "image.encoder.norm.weight": (1.0, 0.0), "image.projection.weight": (1.0, 0.1), "logit_scale": (1.0, 0.0),
        "text.tokens.weight": (0.25, 0.1), "text.encoder.blocks.0.attention.qkv.weight": (0.5, 0.1),
    }  # fmt: skip
    named = dict(model.named_parameters())
    assert {name: rate[id(named[name])] for name in due} == due
    assert sorted(map(id, named.values())) == sorted(rate)
    model.image.freeze()
    assert not any(id(p) in {id(q) for g in plait.optim.layer_groups(model, 1.0) for q in g["params"]}
                   for p in model.image.parameters())  # fmt: skip
    with pytest.raises(ValueError, match="decay is 0"):
        plait.optim.layer_groups(model, 1.0, decay=0)


def test_the_last_blocks_alone_train():
    model = plait.create_model("glyph-tiny")
    tower = model.image.freeze_except_last(1)
    trained = {name for name, p in tower.named_parameters() if p.requires_grad}
    due = {n for n, _ in tower.named_parameters() if n.startswith(("encoder.blocks.1", "encoder.norm", "projection"))}
    assert trained == due
    tower.freeze_except_last(0)
    assert {n for n, p in tower.named_parameters() if p.requires_grad} == {n for n in due if ".blocks." not in n}
    for wrong in (-1, 3, True, 1.0):
        with pytest.raises(ValueError, match="expected 0 to 2"):
            tower.freeze_except_last(wrong)
