"""What the rows of attention cannot say: absent samples, biases as Python objects, weights, views, memory."""

import numpy as np
import pytest
from cases import offsets, relative_error

import plait
from plait.ops import PairBias, RelativeBias, attention


def arrays(queries, keys, heads=2, d=8, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (sum(queries), heads * d), (sum(keys), heads * d), (sum(keys), heads * d)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes], offsets(*queries), offsets(*keys)


def gradients(call, *data):
    leaves = [plait.Tensor(x, requires_grad=True) for x in data]
    out = call(*leaves)
    out.backward(np.random.default_rng(9).standard_normal(out.shape).astype(np.float32))
    return [out.data, *[leaf.grad for leaf in leaves]]


def test_nothing_seen_gives_zeros_and_no_gradient():
    data, q_offsets, kv_offsets = arrays((3, 4, 2), (0, 5, 2))
    mask = [np.ones((3, 0), bool), np.ones((4, 5), bool), np.zeros((2, 2), bool)]
    out, dq, dk, dv = gradients(
        lambda q, k, v: attention(q, k, v, q_offsets, kv_offsets, heads=2, bias=PairBias.from_list(mask)), *data
    )
    for x in (out, dq):
        assert not x[:3].any() and x[3:7].all() and not x[7:].any()
    for x in (dk, dv):
        assert x[:5].all() and not x[5:].any()


def test_early_queries_of_a_long_causal_block_see_nothing():
    data, q_offsets, kv_offsets = arrays((6,), (4,))
    out, weights = attention(*data, q_offsets, kv_offsets, heads=2, causal=True, return_weights=True)
    assert not out.data[:2].any() and out.data[2:].all()
    assert (weights[0][0] > 0).tolist() == np.tri(6, 4, -2, dtype=bool).tolist()


def test_weights_are_those_of_the_output():
    data, q_offsets, kv_offsets = arrays((3, 0, 40), (5, 2, 7))
    options = {"heads": 2, "causal": True, "bias": np.random.default_rng(1).standard_normal((2, 40, 7), np.float32)}
    out, weights = attention(*data, q_offsets, kv_offsets, return_weights=True, **options)
    assert [w.shape for w in weights] == [(2, 3, 5), (2, 0, 2), (2, 40, 7)]
    assert all(w.dtype == np.float32 for w in weights)
    v = data[2][7:].reshape(7, 2, 8)
    again = np.einsum("hij,jhd->ihd", weights[2], v).reshape(40, 16)
    assert relative_error(out.data[3:], again) <= 1e-6
    assert np.allclose(weights[0].sum(-1), 1)


def test_times_keep_the_precision_of_seconds():
    """A microsecond apart at a Unix time: float32 would not tell them from each other."""
    data, q_offsets, kv_offsets = arrays((3,), (4,))
    when = 1.7e9 + 1e-6 * np.array([0, 1, 2, 3.0])
    options = {"heads": 2, "causal": True, "q_times": when[[2, 0, 3]], "kv_times": when}
    _, weights = attention(*data, q_offsets, kv_offsets, return_weights=True, **options)
    assert (weights[0][0] > 0).tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    signed = {**options, "q_times": np.array([-1.0, -0.0, np.inf]), "kv_times": np.array([-np.inf, -2.5, 0.0, 1e300])}
    _, weights = attention(*data, q_offsets, kv_offsets, return_weights=True, **signed)
    assert (weights[0][0] > 0).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    mixed = {**options, "q_times": np.array([2, 3, 4]), "kv_times": np.array([2.5, 3.0, 4.5, 0.0], np.float32)}
    _, weights = attention(*data, q_offsets, kv_offsets, return_weights=True, **mixed)
    assert (weights[0][0] > 0).tolist() == [[0, 0, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1]]


def test_shared_keys_are_the_same_as_copies():
    data, q_offsets, kv_offsets = arrays((5, 2, 9), (6, 4))
    index = np.array([1, 0, 1])
    rows = np.concatenate([np.arange(kv_offsets[s], kv_offsets[s + 1]) for s in index])

    def copied(q, k, v):
        return attention(q, k[rows], v[rows], q_offsets, offsets(4, 6, 4), heads=2)

    def shared(q, k, v):
        return attention(q, k, v, q_offsets, kv_offsets, heads=2, kv_index=index)

    for got, due in zip(gradients(shared, *data), gradients(copied, *data), strict=True):
        assert relative_error(got, due) <= 1e-6


def test_cache_with_room_to_grow_reads_its_first_rows_only():
    (q, k, v), q_offsets, kv_offsets = arrays((1, 2), (8, 8))
    k[3:8] = v[3:8] = k[13:] = v[13:] = np.nan
    out = attention(q, k, v, q_offsets, kv_offsets, heads=2, kv_lengths=[3, 5], causal=True).data
    rows = [0, 1, 2, 8, 9, 10, 11, 12]
    due = attention(q, k[rows], v[rows], q_offsets, [0, 3, 8], heads=2, causal=True).data
    assert out.tobytes() == due.tobytes()


@pytest.mark.parametrize("causal", [False, True])
def test_batch_mates_change_no_bit(causal):
    lengths = (5, 0, 70, 300, 16)
    data, rows, _ = arrays(lengths, lengths, heads=4, d=16)
    whole = gradients(lambda q, k, v: attention(q, k, v, rows, rows, heads=4, causal=causal), *data)
    for b, n in enumerate(lengths):
        own = slice(rows[b], rows[b + 1])
        one = attention(*[x[own] for x in data], [0, n], [0, n], heads=4, causal=causal).data
        assert one.tobytes() == whole[0][own].tobytes()


def test_threads_change_no_bit():
    lengths = (5, 0, 270, 30, 16)
    data, rows, _ = arrays(lengths, lengths, heads=4)
    table = np.random.default_rng(2).standard_normal((4, 270, 270), np.float32)
    before = plait.get_num_threads()

    def call(q, k, v, bias):
        plait.seed(1)
        return attention(q, k, v, rows, rows, heads=4, bias=bias, dropout=0.1)

    results = []
    try:
        for threads in (1, 2, 5):
            plait.set_num_threads(threads)
            results.append([x.tobytes() for x in gradients(call, *data, table)])
    finally:
        plait.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_relative_bias_by_function_is_the_table_it_describes():
    data, q_offsets, kv_offsets = arrays((3, 20), (8, 11))
    values = np.random.default_rng(4).standard_normal((2, 9)).astype(np.float32)

    def distance(queries, keys):
        assert (queries, keys) == (20, 11)
        return np.clip(np.arange(keys)[None, :] - np.arange(queries)[:, None], -4, 4) + 4

    by_function = attention(*data, q_offsets, kv_offsets, heads=2, bias=RelativeBias(values, distance)).data
    table = values[:, distance(20, 11)]
    assert relative_error(by_function, attention(*data, q_offsets, kv_offsets, heads=2, bias=table).data) <= 1e-6


def test_biases_add_up():
    data, q_offsets, kv_offsets = arrays((3,), (4,))
    rng = np.random.default_rng(5)
    table, pairs = (rng.standard_normal((2, 3, 4)).astype(np.float32) for _ in range(2))
    both = attention(*data, q_offsets, kv_offsets, heads=2, bias=[table, PairBias.from_list([pairs])]).data
    assert relative_error(both, attention(*data, q_offsets, kv_offsets, heads=2, bias=table + pairs).data) <= 1e-6


@pytest.mark.parametrize(
    "bias, message",
    [
        ([np.zeros((2, 3, 4)), np.zeros((2, 3, 4))], "attention: bias holds two tables"),
        (PairBias(plait.Tensor(np.zeros(12, np.float32), requires_grad=True), [0, 12]), "have no gradient"),
        (PairBias(np.zeros((3, 12), np.float32), [0, 12]), "attention: pair_bias has shape (3, 12), expected (2, *)"),
        (PairBias(np.zeros(12, np.float32), [0, 6, 12]), "attention: pair_offsets has shape (3,), expected (2,)"),
    ],
)
def test_wrong_biases(bias, message):
    data, q_offsets, kv_offsets = arrays((3,), (4,))
    with pytest.raises(ValueError) as error:
        attention(*data, q_offsets, kv_offsets, heads=2, bias=bias)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["causal", "return_weights"])
@pytest.mark.parametrize("value", ["no", None, 1])
def test_switches_are_true_or_false(name, value):
    data, rows, _ = arrays((3,), (3,))
    with pytest.raises(TypeError, match=f"attention: {name} is {value!r}, expected True or False"):
        attention(*data, rows, rows, heads=2, **{name: value})
    with pytest.raises(TypeError, match=f"SelfAttention: causal is {value!r}, expected True or False"):
        plait.nn.SelfAttention(8, 2, causal=value)


def test_dropout_keeps_the_share_it_should():
    plait.seed(3)
    n = 400
    zeros, values = np.zeros((n, 4), np.float32), np.eye(n, dtype=np.float32)
    out = attention(zeros, zeros, values, [0, n], [0, n], heads=1, dropout=0.25).data  # rows of weights
    kept = out > 0
    assert abs(kept.mean() - 0.75) < 5 * (0.25 * 0.75 / n**2) ** 0.5
    assert np.allclose(out[kept], 1 / (0.75 * n), rtol=1e-5)
    assert abs(np.corrcoef(kept[:-1].ravel(), kept[1:].ravel())[0, 1]) < 0.01  # neighbouring queries
    for lag in (1, 2, 4, 8):  # keys that share a word, its half, a block
        assert abs(np.corrcoef(kept[:, :-lag].ravel(), kept[:, lag:].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("rate, dropped", [(1e-6, 0), (0.1, 6554), (0.5, 32768), (0.999999, 65535)])
def test_dropout_rates_have_sixteen_bits(rate, dropped):
    """The mean of a kept weight and of zeros is the weight, whatever the rate is rounded to."""
    plait.seed(5)
    n = 1000
    zeros = np.zeros((n, 4), np.float32)
    out = attention(zeros, zeros, np.ones((n, 1), np.float32), [0, n], [0, n], heads=1, dropout=rate).data
    kept = out * n * (1 - dropped / 65536)  # how many keys each query still sees
    assert np.allclose(kept, np.round(kept), atol=2e-3)
    expected = n * n * (1 - dropped / 65536)
    assert abs(kept.sum() - expected) <= 5 * (expected * dropped / 65536) ** 0.5 + 1e-2


def test_memory_grows_with_rows_and_not_with_pairs():
    n = 6000
    (q, k, v), rows, _ = arrays((n,), (n,), heads=1)
    before = plait._core.counters()
    attention(q, k, v, rows, rows, heads=1)
    after = plait._core.counters()
    grown = sum(after[x] - before[x] for x in ("pool_free_bytes", "pool_used_bytes"))
    assert grown < 4_000_000 < 4 * n * n


def test_failed_allocations_are_errors():
    data, rows, _ = arrays((300, 20), (300, 20))
    failures, used = 0, plait._core.counters()["pool_used_buffers"]
    for nth in range(1, 40):
        leaves = [plait.Tensor(x, requires_grad=True) for x in data]
        plait._core.empty_cache()
        plait._core.fail_at(nth, True)
        try:
            attention(*leaves, rows, rows, heads=2).backward(np.ones((320, 16), np.float32))
        except MemoryError:
            failures += 1
        finally:
            plait._core.fail_at(0)
    assert failures >= 5
    del leaves
    assert plait._core.counters()["pool_used_buffers"] == used
