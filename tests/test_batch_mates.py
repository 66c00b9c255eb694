"""The result of a sample does not depend on the samples beside it: equal bits alone, with one mate, and with all."""

import numpy as np
import pytest
from cases import load, run

import plait

# Which arguments hold the rows that an offsets argument cuts.
ROWS_OF = {
    "offsets": ("x", "times", "scores", "residual"),
    "q_offsets": ("q", "q_times"),
    "kv_offsets": ("k", "v", "kv_times"),
    "context_offsets": ("context", "context_times"),
}
PER_SAMPLE = ("start", "kv_lengths")


def segmented(case):
    """Names of the offsets arguments, the one that cuts the output first; none when mates do matter."""
    names = [n for n, value in case.arguments().items() if n.endswith("offsets") and isinstance(value, np.ndarray)]
    if any("dropout" in name and value for name, value in case.options.items()) or {
        "kv_index",
        "pair_offsets",
        "parts",
    } & set(case.arguments()):
        return []  # random bits and shared segments go by position in the batch
    if case.samples:
        names.sort(key=lambda n: n != case.samples)
    return names


CASES = [case for case in load() if segmented(case)]


def part(case, arguments, samples):
    """The row's arguments with these samples only."""
    kept = dict(arguments)
    for name in segmented(case):
        offsets = arguments[name]
        picked = [np.arange(offsets[s], offsets[s + 1]) for s in samples]
        for rows in ROWS_OF[name]:
            if arguments.get(rows) is not None:
                kept[rows] = arguments[rows][np.concatenate(picked)]
        kept[name] = np.cumsum([0, *map(len, picked)])
    for name in PER_SAMPLE:
        if arguments.get(name) is not None:
            kept[name] = arguments[name][samples]
    return kept


def rows_in(case, arguments, output, samples):
    """Rows of the output that belong to these samples."""
    offsets = arguments[segmented(case)[0]]
    if output.shape[0] == offsets[-1]:
        return output[np.concatenate([np.arange(offsets[s], offsets[s + 1]) for s in samples])]
    assert output.shape[0] == len(offsets) - 1, "neither a row a row nor a row a sample"
    return output[samples]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_samples_alone(case):
    arguments = case.arguments()
    count = len(arguments[segmented(case)[0]]) - 1
    chosen = range(count) if count <= 8 else [0, 1, 2, count // 2, count - 1]
    for want in ((), case.grads):  # inference and training may take different paths
        together, _ = run(case, arguments, want=want)
        for s in chosen:
            for samples in ([s], [s, (s + 1) % count]):
                alone, _ = run(case, part(case, arguments, samples), want=want)
                for a, t in zip(alone, together, strict=True):
                    np.testing.assert_array_equal(a.data, rows_in(case, arguments, t.data, samples))


@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("width, out", [(20, 12), (64, 64), (128, 512), (512, 128), (768, 768)])
def test_rows_of_a_linear_layer(width, out, activation):
    """Any number of rows, the first time and the third, when a size has its own primitive; plain and packed."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, width), dtype=np.float32)
    weight = rng.standard_normal((out, width), dtype=np.float32)
    bias, pack = rng.standard_normal(out, dtype=np.float32), plait._core.Pack()
    linear = plait._core.operators["linear"]

    def forward(rows, packs):
        return linear((rows, weight, bias), 0, {"activation": activation}, 0, 0, packs)[0][0]

    for packs in (None, (None, pack, None)):
        due = forward(x, packs)
        for m in (1, 2, 3, 5, 7, 8, 9, 16, 31, 33, 63, 64, 65, 100, 129, 197, 500, 777):
            for begin in (0, 1000 - m):
                for _ in range(3):
                    np.testing.assert_array_equal(forward(x[begin : begin + m], packs), due[begin : begin + m])


def test_results_do_not_depend_on_what_ran_before():
    """The same step gives the same bits the first time, later, and after the caches were emptied: resuming needs it."""
    rng = np.random.default_rng(1)
    linear, none = plait._core.operators["linear"], (None,) * 3
    for n in (13, 100, 130, 777, 1576):
        x, w, b, dy = (rng.standard_normal(s, dtype=np.float32) for s in ((n, 96), (72, 96), (72,), (n, 72)))
        results = []
        for i in range(5):
            if i == 4:
                plait._core.empty_cache()
            (y,), record = linear((x, w, b), 7, {"activation": "gelu"}, 0, 0, None)
            results.append((y, *record.backward((dy,), none, 7, 0)))
        for later in results[1:]:
            for a, b_ in zip(results[0], later, strict=True):
                np.testing.assert_array_equal(a, b_)
