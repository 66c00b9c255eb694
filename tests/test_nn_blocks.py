"""Attention modules and transformer blocks: fused against composed, caches, absent modalities, training."""

import itertools

import numpy as np
import pytest
from cases import relative_error

import plait
from plait import nn, ops

LENGTHS = (4, 0, 1, 7)


@pytest.fixture(autouse=True)
def seeded():
    """The same initial weights whatever ran before."""
    with nn.init.seeded(0):
        yield


def stream(width, lengths=LENGTHS, seed=0, grad=False):
    rows = np.random.default_rng(seed).standard_normal((sum(lengths), width)).astype(np.float32)
    return plait.Stream(plait.Tensor(rows, requires_grad=True) if grad else rows, np.cumsum([0, *lengths]))


def randomise(module, seed=1):
    """Norms and biases with values that show when they are left out."""
    rng = np.random.default_rng(seed)
    for p in module.parameters():
        p.assign(p.data + 0.3 * rng.standard_normal(p.shape))
    return module


def gradients(module, outputs, inputs):
    """Gradients of all parameters and inputs for a fixed random slope of each output."""
    module.zero_grad()
    rng, total = np.random.default_rng(3), 0.0
    for out in outputs:
        total = total + (out.rows * rng.standard_normal(out.rows.shape).astype(np.float32)).sum()
    total.backward()
    found = {name: p.grad.copy() for name, p in module.named_parameters() if p.grad is not None}
    for i, s in enumerate(inputs):
        found[f"input {i}"], s.rows.grad = s.rows.grad, None
    return found


def same(got, expected, tolerance=1e-5):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert np.isfinite(array).all() and relative_error(got[name], array) <= tolerance, name


def residual(x, y):
    return x.with_rows(x.rows + y.rows)


# ---------------------------------------------------------------- encoder blocks


def composed(block, x):
    """An encoder block written out with the modules that it holds."""
    a, m = block.attention, block.mlp
    if block.pre_norm:
        x = residual(x, a(block.norm1(x)))
        return residual(x, m(block.norm2(x)))
    x = block.norm1(residual(x, a(x)))
    return block.norm2(residual(x, m(x)))


@pytest.mark.parametrize(
    ("pre_norm", "norm", "causal", "kv_heads"),
    list(itertools.product((True, False), (nn.LayerNorm, nn.RMSNorm), (False, True), (None, 2))),
)
def test_encoder_block_is_its_composition(pre_norm, norm, causal, kv_heads):
    block = randomise(
        nn.EncoderBlock(
            16,
            4,
            hidden=24,
            activation="silu",
            pre_norm=pre_norm,
            norm=norm,
            causal=causal,
            kv_heads=kv_heads,
            eps=1e-3,
        )
    )
    x = stream(16, grad=True)
    expected = composed(block, x)
    due = gradients(block, [expected], [x])
    got = block(x)
    assert relative_error(got.rows.data, expected.rows.data) <= 1e-6
    same(gradients(block, [got], [x]), due)
    with plait.no_grad():  # the path that saves nothing
        assert relative_error(block(x).rows.data, expected.rows.data) <= 1e-6


@pytest.mark.parametrize("extra", ["bias", "rope", "cache"])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_encoder_block_with_what_is_composed(extra, pre_norm):
    """A bias of zeros, a cache, and rotary positions at one place change nothing: both ways through a block agree."""
    with nn.init.seeded(0):
        plain = nn.EncoderBlock(16, 4, pre_norm=pre_norm, causal=True)
    with nn.init.seeded(0):
        block = nn.EncoderBlock(16, 4, pre_norm=pre_norm, causal=True, rope=1e4 if extra == "rope" else None)
    x = stream(16, (1, 1, 0, 1) if extra == "rope" else LENGTHS)
    options = {
        "bias": {"bias": np.zeros((4, 7, 7), np.float32)},
        "rope": {},
        "cache": {"cache": nn.KVCache(4, 10)},
    }[extra]
    with plait.no_grad():
        np.testing.assert_allclose(block(x, **options).rows.data, plain(x).rows.data, rtol=1e-4, atol=1e-5)


def test_samples_do_not_see_each_other():
    encoder, x = randomise(nn.Encoder(2, 16, 4)), stream(16)
    together = encoder(x)
    for i in range(len(x)):
        alone = encoder(x[[i]])
        np.testing.assert_allclose(alone.rows.data, together[i].data, rtol=1e-5, atol=1e-6)


def test_causal_rows_do_not_see_the_future():
    encoder = randomise(nn.Encoder(2, 16, 4, causal=True))
    x = stream(16, (6,))
    changed = x.rows.copy()
    changed[4:] *= -1
    a, b = encoder(x).rows.data, encoder(x.with_rows(changed)).rows.data
    np.testing.assert_array_equal(a[:4], b[:4])
    assert not np.allclose(a[4:], b[4:])


def test_encoder():
    pre, post = nn.Encoder(2, 8, 2), nn.Encoder(2, 8, 2, pre_norm=False)
    assert isinstance(pre.norm, nn.LayerNorm) and post.norm is None
    assert isinstance(nn.Encoder(1, 8, 2, norm=nn.RMSNorm).norm, nn.RMSNorm)
    np.testing.assert_allclose(nn.Encoder(0, 8, 2)(stream(8)).rows.data.mean(1), 0, atol=1e-6)
    assert pre(stream(8, (0, 0))).rows.shape == (0, 8)
    assert pre(np.zeros((2, 3, 8), np.float32)).lengths.tolist() == [3, 3]
    with pytest.raises(ValueError, match="got 1 caches, expected 2"):
        pre(stream(8), caches=[None])
    with pytest.raises(ValueError, match="width is 9, expected a multiple of heads, 2"):
        nn.Encoder(1, 9, 2)
    with pytest.raises(ValueError, match="heads is 4, expected a multiple of kv_heads, 3"):
        nn.EncoderBlock(8, 4, kv_heads=3)
    with pytest.raises(TypeError, match="expected LayerNorm or RMSNorm"):
        nn.EncoderBlock(8, 2, norm=nn.Linear)
    with pytest.raises(ValueError, match="expected"):
        pre(np.zeros((3, 8), np.float32))


def test_dropout_of_a_block_is_seeded_and_off_in_evaluation():
    block = nn.EncoderBlock(16, 4, dropout=0.3, attention_dropout=0.3)
    x = stream(16)
    plain = nn.EncoderBlock(16, 4)
    plain.load_state_dict(block.state_dict())
    plait.seed(1)
    first, second = block(x).rows.data, block(x).rows.data
    plait.seed(1)
    np.testing.assert_array_equal(block(x).rows.data, first)
    assert not np.allclose(first, second)
    assert not np.allclose(first, plain(x).rows.data)
    np.testing.assert_array_equal(block.eval()(x).rows.data, plain(x).rows.data)


def test_an_encoder_learns():
    """Thirty steps: which of two tokens comes first, seen only through attention and position."""
    rng = np.random.default_rng(0)
    with nn.init.seeded(0):
        table, encoder, head = nn.Embedding(12, 16, std=1.0), nn.Encoder(2, 16, 4), nn.Linear(16, 1)
        places = nn.Parameter(nn.init.normal((8, 16), 1.0))
    model = nn.Sequential(table, encoder, head)
    model.places = places
    texts = [rng.permutation(np.concatenate([[0, 1], rng.integers(2, 12, rng.integers(0, 6))])) for _ in range(64)]
    label = np.array([2.0 * (list(t).index(0) < list(t).index(1)) - 1 for t in texts], np.float32)[:, None]

    def loss_of():
        x = table(texts)
        x = x.with_rows(ops.add_positions(x.rows, x.offsets, places))
        return ((head(ops.pool(encoder(x))) - label) ** 2).mean()

    optimizer = plait.optim.AdamW(model, lr=1e-2, max_grad_norm=1.0)
    losses = []
    for _ in range(30):
        loss = loss_of()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.3 * losses[0], losses


# ---------------------------------------------------------------- attention modules


@pytest.mark.parametrize("kv_heads", [None, 1, 2])
@pytest.mark.parametrize("rope", [None, 100.0])
def test_cache_equals_the_whole_sequence(kv_heads, rope):
    """Ragged pieces, some empty, one after the other."""
    attention = randomise(nn.SelfAttention(16, 4, kv_heads=kv_heads, causal=True, rope=rope))
    whole = stream(16, (5, 0, 9))
    cache = nn.KVCache(batch=3, capacity=9)
    pieces = [(2, 0, 0), (1, 0, 4), (0, 0, 5), (2, 0, 0)]
    with plait.no_grad():
        expected = attention(whole)
        done = np.zeros(3, int)
        for piece in pieces:
            part = plait.Stream.from_list([whole[i][done[i] : done[i] + n] for i, n in enumerate(piece)])
            got = attention(part, cache=cache)
            for i, n in enumerate(piece):
                due = expected[i].data[done[i] : done[i] + n]
                np.testing.assert_allclose(got[i].data, due, rtol=1e-4, atol=1e-5)
            done += piece
    assert cache.lengths.tolist() == [5, 0, 9]


def test_caches_of_an_encoder():
    encoder = randomise(nn.Encoder(2, 16, 4, causal=True))
    x = stream(16, (6, 6)).padded()[0]
    caches = [nn.KVCache(2, 6) for _ in range(2)]
    with plait.no_grad():
        whole = encoder(x).padded()[0].data
        steps = [encoder(x[:, i : i + 1], caches=caches).padded()[0].data for i in range(6)]
    np.testing.assert_allclose(np.concatenate(steps, 1), whole, rtol=1e-4, atol=1e-4)


def test_cache_errors():
    attention, x = nn.SelfAttention(8, 2, causal=True), np.zeros((2, 3, 8), np.float32)
    with pytest.raises(RuntimeError, match="a cache needs plait"):
        attention(x, cache=nn.KVCache(2, 8))
    with plait.no_grad():
        with pytest.raises(ValueError, match="KVCache: 3 rows are more than the capacity of 2"):
            attention(x, cache=nn.KVCache(2, 2))
        with pytest.raises(ValueError, match="KVCache: got 2 samples, expected 3"):
            attention(x, cache=nn.KVCache(3, 8))
        cache = nn.KVCache(2, 8)
        attention(x, cache=cache)
        with pytest.raises(ValueError, match="a cache serves one layer"):
            nn.SelfAttention(8, 2, kv_heads=1, causal=True)(x, cache=cache)
        assert cache.lengths.tolist() == [3, 3], "what failed added nothing"
    for batch, capacity in ((0, 8), (2, 0), (2.0, 8)):
        with pytest.raises(ValueError, match="KVCache: "):
            nn.KVCache(batch, capacity)


def test_head_width():
    attention = nn.SelfAttention(9, 2, head_width=5)
    assert attention.qkv.weight.shape == (30, 9) and attention.out.weight.shape == (9, 10)
    assert attention(stream(9)).rows.shape == (12, 9)
    with pytest.raises(ValueError, match="or give head_width"):
        nn.SelfAttention(9, 2)


def test_self_attention_is_softmax_of_products():
    """One head written out in NumPy."""
    attention = randomise(nn.SelfAttention(6, 1))
    x = stream(6, (3, 4))
    got = attention(x)
    for i in range(2):
        q, k, v = np.split(x[i] @ attention.qkv.weight.data.T + attention.qkv.bias.data, 3, axis=1)
        scores = np.exp(q @ k.T / 6**0.5)
        expected = (scores / scores.sum(1, keepdims=True)) @ v @ attention.out.weight.data.T + attention.out.bias.data
        np.testing.assert_allclose(got[i].data, expected, rtol=1e-4, atol=1e-5)


def test_cross_attention_to_nothing_gives_zeros():
    attention = randomise(nn.CrossAttention(8, 2, context_width=6))
    x, context = stream(8, (3, 2, 4), grad=True), stream(6, (2, 0, 5), seed=1, grad=True)
    got = attention(x, context)
    assert not got[1].data.any() and got[0].data.any() and got[2].data.any()
    found = gradients(attention, [got], [x, context])
    assert not found["input 0"][3:5].any() and all(np.isfinite(g).all() for g in found.values())
    projected = attention.project(context)
    np.testing.assert_array_equal(attention(x, context, projected=projected).rows.data, got.rows.data)
    with pytest.raises(ValueError, match="context has 2 samples, expected 3"):
        attention(x, context[:2])


# ---------------------------------------------------------------- two streams


def crossed(block, a, b):
    """A cross-modal block written out; samples without context keep their rows."""

    def side(x, norm, attention, context, rest):
        y = attention(norm(x), context)
        return composed(rest, residual(x, y))

    normed_a, normed_b = block.norm_a(a), block.norm_b(b)
    return (
        side(a, block.norm_a, block.cross_a, normed_b, block.block_a),
        side(b, block.norm_b, block.cross_b, normed_a, block.block_b),
    )


def pair(grad=True):
    """The second sample lacks b, the third lacks a, the fourth lacks both."""
    return stream(16, (3, 5, 0, 0, 2), grad=grad), stream(8, (4, 0, 2, 0, 1), seed=2, grad=grad)


def test_cross_modal_block_is_its_composition():
    block = randomise(nn.CrossModalBlock((16, 8), heads=4, hidden=24))
    a, b = pair()
    expected = crossed(block, a, b)
    due = gradients(block, expected, [a, b])
    got = block(a, b)
    for g, e in zip(got, expected, strict=True):
        assert relative_error(g.rows.data, e.rows.data) <= 1e-6
    same(gradients(block, got, [a, b]), due)


def test_an_absent_modality_skips_the_cross_branch():
    """What the docstring says: such a sample passes its own self-attention and MLP only."""
    block = randomise(nn.CrossModalBlock((16, 8), heads=4))
    a, b = pair()
    got_a, got_b = block(a, b)
    np.testing.assert_array_equal(got_a.offsets, a.offsets)
    np.testing.assert_array_equal(got_b.offsets, b.offsets)
    np.testing.assert_allclose(got_a[1].data, block.block_a(a[[1]]).rows.data, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got_b[2].data, block.block_b(b[[2]]).rows.data, rtol=1e-5, atol=1e-6)
    assert not np.allclose(got_a[0].data, block.block_a(a[[0]]).rows.data, atol=1e-3), "present ones do not skip it"
    found = gradients(block, [got_a, got_b], [a, b])
    assert set(found) == {*(n for n, _ in block.named_parameters()), "input 0", "input 1"}
    assert all(np.isfinite(g).all() for g in found.values())


def test_a_batch_in_which_one_modality_is_absent_everywhere():
    block = randomise(nn.CrossModalBlock(16, heads=4))
    a, nothing = stream(16, (3, 2), grad=True), plait.Stream(np.zeros((0, 16), np.float32), [0, 0, 0])
    got, empty = block(a, nothing)
    assert empty.rows.shape == (0, 16)
    np.testing.assert_allclose(got.rows.data, block.block_a(a).rows.data, rtol=1e-5, atol=1e-6)
    found = gradients(block, [got], [a])
    for name, g in found.items():
        assert np.isfinite(g).all(), name
        assert not (name.startswith("cross_") and g.any()), f"{name} took no part"


def test_cross_modal_block_without_self_attention():
    block = randomise(nn.CrossModalBlock((16, 8), heads=4, self_attention=False))
    assert not any("attention" in name for name in block.state_dict())
    a, b = pair()
    got_a, _ = block(a, b)
    x = a[[1]]
    rows = x.rows + block.block_a.mlp(block.block_a.norm2(x)).rows
    np.testing.assert_allclose(got_a[1].data, rows.data, rtol=1e-5, atol=1e-6)


BLOCKS = {
    "fused": nn.Encoder(1, 16, 4),
    "composed": nn.Encoder(1, 16, 4, rope=1e4),
    "post-norm": nn.Encoder(1, 16, 4, pre_norm=False),
    "no blocks": nn.Encoder(0, 16, 4),
    "one block": nn.EncoderBlock(16, 4),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_rows_of_another_width(name, training):
    module = BLOCKS[name].train(training)
    message = f"{type(module).__name__}: x has rows of width 12, expected 16"
    for rows in (stream(12), np.ones((2, 3, 12), np.float32), stream(12, (0, 0))):
        with pytest.raises(ValueError, match=message):
            module(rows)


def test_rows_that_are_no_vectors():
    for shape, message in (((3, 2, 16), "x has 3 dimensions, expected 2"), ((3,), "x has 1 dimension, expected 2")):
        with pytest.raises(ValueError, match=message):
            nn.Encoder(1, 16, 4)(plait.Stream(np.ones(shape, np.float32), [0, 3]))


def test_cross_modal_errors():
    block = nn.CrossModalBlock((16, 8), heads=4)
    with pytest.raises(ValueError, match="the streams have 5 and 2 samples"):
        block(stream(16, (1, 1, 1, 1, 1)), stream(8, (1, 1)))
    with pytest.raises(ValueError, match="CrossModalBlock: a has rows of width 8, expected 16"):
        block(stream(8), stream(8))
    with pytest.raises(ValueError, match="CrossModalBlock: b has rows of width 16, expected 8"):
        block(stream(16), stream(16))
    with pytest.raises(ValueError, match="heads"):
        nn.CrossModalBlock((16, 6), heads=4)
