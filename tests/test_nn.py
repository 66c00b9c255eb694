"""Modules: names, state, tied and frozen parameters, layers on streams and arrays."""

import copy
import threading

import numpy as np
import pytest
from cases import relative_error

import plait
from plait import nn, ops


@pytest.fixture(autouse=True)
def seeded():
    """The same initial weights whatever ran before."""
    with nn.init.seeded(0):
        yield


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Tower(nn.Module):
    """Lists, dicts, buffers, None, other things, and a module in a module."""

    def __init__(self):
        super().__init__()
        self.width = 4
        self.bias = None
        self.blocks = [nn.Linear(4, 4), (nn.LayerNorm(4), nn.Dropout(0.5))]
        self.heads = {"class": nn.Linear(4, 2, bias=False)}
        self.steps = nn.Buffer(np.array([3, 4], np.int64))
        self.scale = nn.Parameter(2.0)

    def forward(self, x):
        norm, dropout = self.blocks[1]
        return self.heads["class"](dropout(norm(self.blocks[0](x)))) * self.scale


NAMES = ["blocks.0.weight", "blocks.0.bias", "blocks.1.0.weight", "blocks.1.0.bias", "heads.class.weight", "scale"]


# ---------------------------------------------------------------- names and state


def test_names_follow_attributes():
    tower = Tower()
    assert [name for name, _ in tower.named_parameters()] == NAMES
    assert list(tower.state_dict()) == [*NAMES, "steps"]
    assert [name for name, _ in tower.named_buffers()] == ["steps"]
    assert [name for name, _ in tower.named_modules()] == ["", "blocks.0", "blocks.1.0", "blocks.1.1", "heads.class"]
    assert tower.count_parameters() == 16 + 4 + 4 + 4 + 8 + 1


def test_names_of_a_block_are_those_of_checkpoints():
    assert set(nn.Encoder(1, 8, 2).state_dict()) == {
        *(
            f"blocks.0.{n}.{k}"
            for n in ("norm1", "norm2", "attention.qkv", "attention.out", "mlp.fc1", "mlp.fc2")
            for k in ("weight", "bias")
        ),
        *("norm.weight", "norm.bias"),
    }


def test_state_is_read_only_and_live():
    tower = Tower()
    state = tower.state_dict()
    for name, array in state.items():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        assert array.dtype == (np.int64 if name == "steps" else np.float32)
    with tower.scale.edit() as array:
        array[...] = 7
    assert state["scale"] == 7


def test_load_state_dict():
    source, target = Tower(), Tower()
    for i, p in enumerate(source.parameters()):
        p.assign(values(*p.shape, seed=i))
    source.steps.assign([8, 9])
    assert target.load_state_dict(source.state_dict()) == ([], [])
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array)
        assert not np.shares_memory(target.state_dict()[name], array)


def test_load_state_dict_takes_any_array():
    layer = nn.Linear(2, 2)
    for weight in (
        [[1, 2], [3, 4]],
        np.array([[1.0, 2.0], [3.0, 4.0]], ">f8"),
        plait.Tensor([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[1, 2], [3, 4]], order="F"),
    ):
        layer.load_state_dict({"weight": weight, "bias": [0, 1]})
        np.testing.assert_array_equal(layer.weight.data, [[1, 2], [3, 4]])
        assert layer.weight.data.flags.c_contiguous and layer.weight.dtype == np.float32


def test_load_state_dict_strict():
    layer = nn.Linear(2, 2)
    with pytest.raises(KeyError, match=r"missing \['bias'\], unexpected \['gain'\]"):
        layer.load_state_dict({"weight": np.ones((2, 2)), "gain": 1})
    assert not np.array_equal(layer.weight.data, np.ones((2, 2)))
    result = layer.load_state_dict({"weight": np.ones((2, 2)), "gain": 1}, strict=False)
    assert result.missing == ["bias"] and result.unexpected == ["gain"]
    np.testing.assert_array_equal(layer.weight.data, np.ones((2, 2)))


@pytest.mark.parametrize(
    ("name", "bad", "error", "message"),
    [
        ("scale", np.ones(3), ValueError, r"load_state_dict: scale has shape \(3,\), expected \(\)"),
        ("scale", np.array("1.0"), TypeError, "load_state_dict: scale has dtype <U3, expected a floating dtype"),
        ("scale", np.array(1j), TypeError, "load_state_dict: scale has dtype complex128"),
        ("scale", np.zeros((), [("a", "f4")]), TypeError, "load_state_dict: scale has dtype"),
        ("steps", np.array([1, 2, 3]), ValueError, r"load_state_dict: steps has shape \(3,\), expected \(2,\)"),
        ("steps", np.array([1.5, 2.5]), TypeError, "load_state_dict: steps has dtype float64, expected int64"),
    ],
)
def test_load_state_dict_is_atomic(name, bad, error, message):
    """The bad one comes last; nothing before it may have been written."""
    tower = Tower()
    before = {k: v.copy() for k, v in tower.state_dict().items()}
    versions = [p.version for p in tower.parameters()]
    state = {k: np.zeros_like(v) for k, v in before.items()}
    state[name] = bad
    with pytest.raises(error, match=message):
        tower.load_state_dict(state)
    for key, array in tower.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    assert [p.version for p in tower.parameters()] == versions


def test_a_module_without_init_still_works():
    class Double(nn.Module):
        def __init__(self):
            self.factor = 2

        def forward(self, x):
            return x * self.factor

    double = Double()
    assert double.training and not double.eval().training
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(1)


def test_copies():
    """deepcopy is how people keep an average or the best weights."""
    tower = Tower()
    tower.heads["class"].freeze()
    plait.optim.SGD(tower, lr=0.1)  # the values live in an arena now
    tower(values(2, 4)).sum().backward()
    twin = copy.deepcopy(tower)
    for name, p in twin.named_parameters():
        own = dict(tower.named_parameters())[name]
        np.testing.assert_array_equal(p.data, own.data)
        assert p is not own and not np.shares_memory(p.data, own.data)
        assert p.grad is None and p.requires_grad == own.requires_grad
    shared = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    shared[1].weight = shared[0].weight
    twin = copy.deepcopy(shared)
    assert twin[0].weight is twin[1].weight and twin[0].weight is not shared[0].weight


def test_buffers():
    buffer = nn.Buffer([1.0, 2.0])
    buffer.assign(np.array([3, 4]))
    assert buffer.data.tolist() == [3.0, 4.0] and buffer.data.dtype == np.float64
    with pytest.raises(ValueError, match="assign: value has shape"):
        buffer.assign([1.0])
    with pytest.raises(TypeError, match="assign: value has dtype complex128, expected float64"):
        buffer.assign([1j, 2j])


# ---------------------------------------------------------------- parameters


def test_every_write_raises_the_version():
    p = nn.Parameter(values(3, 2))
    p.assign(np.ones((3, 2)))
    assert p.version == 1
    with pytest.raises(ZeroDivisionError), p.edit() as array:
        array[0] = 5
        raise ZeroDivisionError
    assert p.version == 2 and p.data[0, 0] == 5, "what was written counts, whatever happened then"
    with pytest.raises(ValueError, match=r"assign: value has shape \(2, 3\), expected \(3, 2\)"):
        p.assign(np.ones((2, 3)))
    with pytest.raises(TypeError, match="assign: value has dtype bool, expected a floating dtype"):
        p.assign(np.ones((3, 2), bool))
    assert p.version == 2
    with pytest.raises(ValueError, match="read-only"):
        p.data[0] = 1
    with pytest.raises(AttributeError):
        p.data = np.ones((3, 2), np.float32)


def test_a_write_between_forward_and_backward_is_refused():
    for write in (lambda p: p.assign(np.ones((2, 2))), _edited, lambda p: p.touch()):
        layer = nn.Linear(2, 2)
        loss = layer(values(3, 2)).sum()
        write(layer.weight)
        with pytest.raises(RuntimeError, match="was changed since forward"):
            loss.backward()


def _edited(p):
    with p.edit() as array:
        array += 1


def test_products_see_every_write():
    """The packed form is renewed: after assign, edit and load_state_dict the product is that of the new weights."""
    layer, x = nn.Linear(64, 96), values(160, 64)
    for write in (
        lambda: layer.weight.assign(values(96, 64, seed=1)),
        lambda: _edited(layer.weight),
        lambda: layer.load_state_dict({"weight": values(96, 64, seed=2), "bias": np.ones(96)}),
    ):
        with plait.no_grad():
            for _ in range(3):  # packed on use
                layer(x)
        write()
        np.testing.assert_allclose(layer(x).data, x @ layer.weight.data.T + layer.bias.data, rtol=1e-4, atol=1e-4)


def test_parameter_data():
    assert nn.Parameter(np.arange(4.0)[::2]).data.tolist() == [0.0, 2.0]
    assert nn.Parameter(3).shape == ()
    source = values(2, 2)
    p = nn.Parameter(source)
    source[...] = 0
    assert p.data.any(), "the value is a copy"
    with pytest.raises(TypeError, match="Parameter: data has dtype <U1, expected a floating dtype"):
        nn.Parameter("a")


def test_tied_parameters():
    """One weight under two names: counted once, its gradient is the sum, one step."""

    def model(tied):
        with nn.init.seeded(3):
            net = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
        if tied:
            net[1].weight = net[0].weight
        else:
            net[1].weight.assign(net[0].weight.data)
        return net

    tied, loose = model(True), model(False)
    assert len(tied.parameters()) == 3 and tied.count_parameters() == 25 + 5 + 5
    assert [n for n, _ in tied.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    optimizer = plait.optim.SGD(tied, lr=0.1)
    x = values(4, 5)
    for net in (tied, loose):
        (net(x) ** 2).sum().backward()
    expected = loose[0].weight.grad + loose[1].weight.grad
    np.testing.assert_allclose(tied[0].weight.grad, expected, rtol=1e-5, atol=1e-5)
    before = tied[0].weight.data.copy()
    optimizer.step()
    np.testing.assert_allclose(tied[0].weight.data, before - 0.1 * expected, rtol=1e-5, atol=1e-5)
    assert tied.state_dict()["1.weight"] is not None and tied[1].weight is tied[0].weight


def test_freezing():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net[0].freeze()
    assert net.count_parameters(trainable_only=True) == 4 * 2 + 2
    before = {k: v.copy() for k, v in net.state_dict().items()}
    optimizer = plait.optim.AdamW(net, lr=0.1)
    net(values(5, 3)).sum().backward()
    assert net[0].weight.grad is None and net[1].weight.grad is not None
    optimizer.step()
    for name, array in net.state_dict().items():
        assert np.array_equal(array, before[name]) == name.startswith("0."), name
    net[0].freeze(False)
    net.zero_grad()
    assert net[1].weight.grad is None
    net(values(5, 3)).sum().backward()
    assert net[0].weight.grad is not None
    everything = nn.Linear(3, 3).freeze()
    assert not everything(values(2, 3)).requires_grad


def test_gradients_accumulate_until_forgotten():
    layer, x = nn.Linear(3, 2), values(4, 3)
    layer(x).sum().backward()
    once = layer.weight.grad.copy()
    layer(x).sum().backward()
    np.testing.assert_allclose(layer.weight.grad, 2 * once, rtol=1e-6)
    layer.zero_grad()
    assert layer.weight.grad is None
    layer(x).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, once)
    with pytest.raises(ValueError, match="grad: got shape"):
        layer.weight.grad = np.ones(3)
    layer.weight.grad = np.ones((2, 3))
    assert layer.weight.grad.dtype == np.float32 and layer.weight.grad.sum() == 6


def test_train_and_eval():
    tower = Tower()
    assert tower.eval() is tower
    assert not any(m.training for _, m in tower.named_modules())
    x = values(50, 4)
    np.testing.assert_array_equal(tower(x).data, tower(x).data)
    assert all(m.training for _, m in tower.train().named_modules())
    assert not np.array_equal(tower(x).data, tower(x).data)
    plait.seed(5)
    first = tower(x).data
    plait.seed(5)
    np.testing.assert_array_equal(tower(x).data, first)
    assert tower.to("f32") is tower


def test_initial_values_are_seeded():
    def weights():
        return nn.Linear(4, 4).weight.data

    with nn.init.seeded(1):
        a, b = weights(), weights()
    with nn.init.seeded(1):
        c = weights()
        with nn.init.seeded(2):
            weights()
        d = weights()
    assert np.array_equal(a, c) and np.array_equal(b, d) and not np.array_equal(a, b)
    with nn.init.blank():
        assert not weights().any()
    seen = []
    with nn.init.seeded(1):
        thread = threading.Thread(target=lambda: seen.append(weights()))
        thread.start()
        thread.join()
        assert np.array_equal(weights(), a), "another thread draws from its own"


# ---------------------------------------------------------------- layers


def test_linear_on_any_rank():
    layer, x = nn.Linear(3, 5, activation="relu"), values(2, 4, 3)
    expected = np.maximum(x @ layer.weight.data.T + layer.bias.data, 0)
    for given, due in (
        (x, expected),
        (x[0], expected[0]),
        (x[0, 0], expected[0, 0]),
        (x[:0], expected[:0]),
        (x[0].tolist(), expected[0]),
        (plait.Tensor(x), expected),
    ):
        got = layer(given)
        assert got.shape == due.shape
        np.testing.assert_allclose(got.data, due, rtol=1e-5, atol=1e-6)
    t = plait.Tensor(x, requires_grad=True)
    layer(t).sum().backward()
    assert t.grad.shape == x.shape
    s = plait.Stream(x.reshape(8, 3), [0, 3, 3, 8])
    np.testing.assert_allclose(layer(s).rows.data, expected.reshape(8, 5), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer(s).offsets, s.offsets)
    with pytest.raises(ValueError, match="last dimension of x"):
        layer(values(2, 4))
    with pytest.raises(ValueError, match="single number"):
        layer(np.float32(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LayerNorm(6),
        lambda: nn.RMSNorm(6),
        lambda: nn.MLP(6, 9),
        lambda: nn.Linear(6, 3),
        lambda: nn.MLP(6, dropout=0.5).eval(),
    ],
)
def test_row_layers_agree_on_streams_and_arrays(make):
    layer, x = make(), values(2, 5, 6)
    expected = layer(x)
    assert expected.shape[:2] == (2, 5)
    flat = layer(x.reshape(10, 6)).data
    np.testing.assert_array_equal(expected.data.reshape(10, -1), flat)
    s = plait.Stream(x.reshape(10, 6), [0, 0, 4, 10], times=np.arange(10.0))
    np.testing.assert_array_equal(layer(s).rows.data, flat)
    assert layer(s).times is s.times


def test_mlp_with_dropout_is_the_composition():
    mlp = nn.MLP(6, 9, "silu", dropout=0.25, out_features=4)
    x = values(40, 6)
    plait.seed(1)
    got = mlp(x).data
    plait.seed(1)
    h = ops.dropout(ops.linear(x, mlp.fc1.weight, mlp.fc1.bias, "silu"), 0.25)
    np.testing.assert_array_equal(got, ops.dropout(mlp.fc2(h), 0.25).data)
    assert (got == 0).any()


def test_embedding():
    table = nn.Embedding(10, 3)
    w = table.weight.data
    ids = np.array([[1, 2], [3, 1]])
    np.testing.assert_array_equal(table(ids).data, w[ids])
    s = table([[1, 2, 3], [], (4,)])
    assert s.lengths.tolist() == [3, 0, 1]
    np.testing.assert_array_equal(s.rows.data, w[[1, 2, 3, 4]])
    assert table([[], []]).rows.shape == (0, 3)
    assert table([np.array([5], np.uint8), np.array([6], np.int32)]).rows.shape == (2, 3)
    given = plait.Stream(np.array([7, 8]), [0, 2, 2], times=[0.0, 1.0])
    np.testing.assert_array_equal(table(given).rows.data, w[[7, 8]])
    assert table(given).times is given.times
    (table([[1, 1], [2]]).rows * 2).sum().backward()
    assert table.weight.grad[:4, 0].tolist() == [0, 4, 2, 0]
    with pytest.raises(IndexError):
        table([[10]])
    with pytest.raises(TypeError):
        table([[1.5]])
    with pytest.raises(ValueError, match="Embedding: num is 0, expected a whole number of at least 1"):
        nn.Embedding(0, 3)


def test_patch_embedding():
    layer, images = nn.PatchEmbedding(3, 5, (2, 4)), values(2, 6, 8, 3)
    s = layer(images)
    assert (len(s), s.grid, s.rows.shape) == (2, (3, 2), (12, 5))
    patch = images[1, 2:4, 4:8]  # the second sample's row 1, column 1
    expected = np.einsum("hwc,dchw->d", patch, layer.weight.data) + layer.bias.data
    np.testing.assert_allclose(s[1].data[3], expected, rtol=1e-5, atol=1e-5)
    assert nn.PatchEmbedding(3, 5, 2, bias=False).bias is None
    with pytest.raises(ValueError, match="patch_embed"):
        layer(values(2, 7, 8, 3))
    with pytest.raises(ValueError, match="PatchEmbedding: patch is 0"):
        nn.PatchEmbedding(3, 5, 0)


def test_pool():
    s = plait.Stream(values(5, 4), [0, 2, 2, 5])
    due = {"mean": lambda r: r.mean(0), "max": lambda r: r.max(0), "first": lambda r: r[0], "last": lambda r: r[-1]}
    for mode, f in due.items():
        expected = [f(s.rows[:2]), np.zeros(4), f(s.rows[2:])]
        np.testing.assert_allclose(nn.Pool(mode)(s).data, expected, rtol=1e-5, atol=1e-6)
    pool = nn.Pool("attention", width=4, heads=2)
    scores = s.rows @ pool.score.weight.data.T + pool.score.bias.data
    weights = np.exp(scores[2:]) / np.exp(scores[2:]).sum(0)
    expected = np.concatenate([(weights[:, :1] * s.rows[2:, :2]).sum(0), (weights[:, 1:] * s.rows[2:, 2:]).sum(0)])
    got = pool(s)
    np.testing.assert_allclose(got.data[2], expected, rtol=1e-5, atol=1e-6)
    assert not got.data[1].any()
    got.sum().backward()
    assert np.isfinite(pool.score.weight.grad).all()
    np.testing.assert_allclose(nn.Pool("mean")(values(2, 3, 4)).data, values(2, 3, 4).mean(1), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Pool: mode is 'sum'"):
        nn.Pool("sum")
    with pytest.raises(ValueError, match="Pool: width is None"):
        nn.Pool("attention")


def test_sequential():
    net = nn.Sequential(nn.Linear(3, 4, activation="tanh"), nn.LayerNorm(4), nn.Linear(4, 2))
    x = values(5, 3)
    np.testing.assert_array_equal(net(x).data, net[2](net[1](net[0](x))).data)
    assert len(net) == 3 and net[-1] is net[2]
    assert list(net.state_dict())[:2] == ["0.weight", "0.bias"]
    with pytest.raises(IndexError):
        net[3]
    with pytest.raises(TypeError, match="Sequential: argument 1 is function, expected Module"):
        nn.Sequential(nn.Linear(2, 2), relative_error)


def test_dropout():
    layer = nn.Dropout(0.25)
    x = np.ones(4000, np.float32)
    kept = layer(x).data
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)} and abs((kept > 0).mean() - 0.75) < 0.05
    s = plait.Stream(np.ones((6, 3), np.float32), [0, 6])
    assert layer(s).rows.shape == (6, 3)
    assert layer.eval()(s) is s and nn.Dropout(0.0)(x) is x
    for p in (1.0, -0.1):
        with pytest.raises(ValueError, match=f"Dropout: p is {p}"):
            nn.Dropout(p)
