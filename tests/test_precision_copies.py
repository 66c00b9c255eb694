"""A copy in another precision and the model that it was made from: neither follows the other."""

import copy
import pickle

import numpy as np
import pytest
from test_isa import subprocess_with

import plait
from plait import _core, nn

PRECISIONS = [p for p in ("bf16", "int8") if _core.has(p)]
PICTURES = np.random.default_rng(0).random((4, 32, 32)).astype(np.float32)
TEXTS = ["latin small letter a", "greek small letter omega"]
each = pytest.mark.parametrize("precision", PRECISIONS)


def model(seed=0):
    made = plait.create_model("glyph-tiny", seed=seed)
    made.tokenizer = plait.data.WordTokenizer.train(TEXTS, min_count=1)
    return made


def seen(m):
    return np.concatenate([m.encode_image(PICTURES), m.encode_text(TEXTS)])


def step(m, optimizer):
    m.train()
    plait.ops.mean(plait.ops.power(m.encode_image(PICTURES) - 0.1, 2)).backward()
    optimizer.step()
    m.eval()


def trained_before(m):
    optimizer = plait.optim.AdamW(m, lr=3e-2)
    step(m, optimizer)
    return lambda: step(m, optimizer)


def trained_after(m):
    return lambda: step(m, plait.optim.AdamW(m, lr=3e-2))


def loaded_into(m):
    return lambda: m.load_state_dict(model(1).state_dict())


def assigned(m):
    return lambda: m.image.encoder.norm.bias.assign(np.ones(m.image.encoder.norm.bias.shape, np.float32))


def edited(m):
    def change():
        with m.image.encoder.blocks[0].mlp.fc1.weight.edit() as weight:
            weight += 1

    return change


CHANGES = [trained_before, trained_after, loaded_into, assigned, edited]


@each
@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_does_not_follow_the_model(change, precision, tmp_path):
    original = model().eval()
    run = change(original)
    quick = original.to(precision)
    before, plain = seen(quick), seen(original)
    run()
    assert not np.array_equal(seen(original), plain)
    np.testing.assert_array_equal(seen(quick), before)
    np.testing.assert_array_equal(seen(copy.deepcopy(quick)), before)
    np.testing.assert_array_equal(seen(pickle.loads(pickle.dumps(quick))), before)
    quick.save(tmp_path / "saved")
    again = plait.load(tmp_path / "saved")
    assert again.precision == "f32"
    np.testing.assert_array_equal(seen(again.to(precision)), before)


@each
def test_the_model_does_not_follow_a_copy(precision):
    original, other = model().eval(), model(1).eval()
    plain = seen(original)
    quick = original.to(precision)
    quick.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(seen(original), plain)
    np.testing.assert_array_equal(seen(quick), seen(other.to(precision)))


@each
def test_two_copies_share_one_array_until_somebody_writes(precision):
    original = model().eval()
    first, second = original.to(precision), original.to(precision)
    weights = [m.image.encoder.blocks[0].mlp.fc1.weight for m in (original, first, second)]
    assert all(np.shares_memory(weights[0].data, w.data) for w in weights)
    want = seen(first)
    weights[2].assign(np.zeros(weights[2].shape, np.float32))
    assert not np.shares_memory(weights[0].data, weights[2].data)
    np.testing.assert_array_equal(seen(first), want)


def head():
    return plait.nn.Linear(4, 4).parameters()


# What trains a model, as a function of it.
TRAINING = {
    "train": lambda m: m.train(),
    "train, bfloat16": lambda m: m.train(precision="bf16"),
    "freeze": lambda m: m.freeze(False),
    "set_checkpointing": lambda m: m.set_checkpointing(),
    "set_checkpointing of a tower": lambda m: m.image.set_checkpointing(),
    "AdamW": plait.optim.AdamW,
    "AdamW of a group": lambda m: plait.optim.AdamW([{"params": head()}, {"params": m}]),
    "SGD": plait.optim.SGD,
    "decay_groups": plait.optim.decay_groups,
}


@each
@pytest.mark.parametrize("name", TRAINING)
def test_a_copy_is_not_trained(name, precision):
    message = (
        f"{name.split()[0].rstrip(',')}: the model is a copy in {precision}, for inference alone; train the float32 "
        "model that it was made from"
    )
    with pytest.raises(RuntimeError, match=message):
        TRAINING[name](model().to(precision))


@each
def test_what_evaluates_a_copy_does_not_refuse_it(precision):
    quick = model().set_checkpointing().to(precision)
    assert quick.eval().train(False).set_checkpointing(False).image.encoder.checkpoint is False
    with pytest.raises(ValueError, match="AdamW: every parameter is frozen, as those of a copy by `to` are"):
        plait.optim.AdamW(quick.parameters())


@each
def test_a_copy_in_a_model_that_is_trained_stays_what_it_is(precision):
    """A frozen tower in fewer bits below a head that is trained."""
    rng = np.random.default_rng(0)
    tower, head = nn.Encoder(1, 64, 4, dropout=0.5).to(precision), nn.Linear(64, 8)
    x = rng.standard_normal((2, 5, 64), dtype=np.float32)
    expected = tower(x).rows.data.copy()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower, self.head = tower, head

        def forward(self, x):
            return self.head(self.tower(x).rows)

    model = Model().train(precision="bf16" if _core.has("bf16") else None)
    assert model.training and head.training and not tower.training and not tower.blocks[0].mlp.training
    assert tower.precision == precision and tower.training_precision == "f32"
    optimizer = plait.optim.AdamW(model)
    for _ in range(2):
        (model(x) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert np.array_equal(tower(x).rows.data, expected)
    with pytest.raises(RuntimeError, match="a copy in"):
        tower.train()


@each
def test_freezing_and_thawing_a_model_leaves_a_copy_in_it_frozen(precision):
    layers = nn.Sequential(nn.Linear(8, 8).to(precision), nn.Linear(8, 4)).freeze().freeze(False)
    assert [p.requires_grad for p in layers.parameters()] == [False, False, True, True]


@pytest.mark.filterwarnings("ignore:.*this processor has no instructions")
def test_a_copy_in_a_model_that_is_copied_stays_what_it_is():
    """Bits of a part in int8 are the same whatever the rest is in."""
    x = np.random.default_rng(0).standard_normal((5, 64), dtype=np.float32)
    part, rest = nn.Linear(64, 64).to("int8"), nn.Linear(64, 8)
    expected = part(x).data.copy()
    copy = nn.Sequential(part, rest).to("bf16")
    inner, outer = [m for _, m in copy.named_modules() if isinstance(m, nn.Linear)]
    assert (inner.precision, outer.precision) == ("int8", "bf16")
    assert np.array_equal(inner(x).data, expected) and np.array_equal(part(x).data, expected)
    np.testing.assert_array_equal(outer(x).data, rest.to("bf16")(x).data)


def test_train_takes_no_precision_for_its_mode():
    with pytest.raises(TypeError, match="train: mode is 'bf16', expected True or False"):
        nn.Linear(4, 4).train("bf16")


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
@each
def test_a_pickled_copy_on_a_lesser_processor_warns_and_computes_in_float32(precision, isa, tmp_path):
    model = nn.Linear(64, 64)
    x = np.random.default_rng(0).standard_normal((5, 64), dtype=np.float32)
    trained = nn.Linear(64, 64).train(precision="bf16") if precision == "bf16" else model
    (tmp_path / "p").write_bytes(pickle.dumps((model.to(precision), trained, x, x @ model.weight.data.T)))
    code = (
        "import pickle, sys, warnings, numpy as np\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    model, trained, x, y = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert any('no instructions' in str(w.message) for w in seen), seen\n"
        "assert np.abs(model(x) - y - model.bias.data).max() < 1e-4\n"
        "t = trained(x)\n"
        "assert np.abs(t.data - x @ trained.weight.data.T - trained.bias.data).max() < 1e-4\n"
    )
    done = subprocess_with(isa, "-c", code, str(tmp_path / "p"))
    assert done.returncode == 0, done.stderr[-2000:]


def test_rows_too_long_for_sums_of_32_bits_are_not_rounded_to_8():
    if not _core.has("int8"):
        pytest.skip("this processor has no instructions for int8")
    x = np.ones((3, 66400), np.float32)
    x[:, 0] = 0
    weight = nn.Parameter(np.ones((8, 66400), np.float32))
    got = plait.ops.linear(x, weight.sharing("int8")).data
    np.testing.assert_allclose(got, 66399, rtol=0.01)
