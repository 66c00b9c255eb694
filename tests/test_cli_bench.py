"""plait bench: which cases run, what they count, what is printed and written. Times themselves are not tested."""

import json

import numpy as np
import pytest

import plait
from plait import _core, cli, nn
from plait.commands import _bench_cases, bench
from plait.commands._bench_cases import CASES

NAMED = {case.name: case for case in CASES}


def run(*arguments):
    return cli.main(["bench", *map(str, arguments)])


@pytest.fixture
def once(monkeypatch):
    """One call a case, on a machine where nothing else runs."""
    monkeypatch.setattr(bench, "_SECONDS", 0.0)
    monkeypatch.setattr(bench, "_CALLS", (1, 1))
    monkeypatch.setattr(bench._Others, "share", lambda self: 0.0)


def small(kind, precision):
    """A model that takes the inputs of the real one."""
    size = {"width": 8, "layers": 1, "heads": 2}
    if kind == "cross":
        return nn.CrossModalBlock(768, 12, hidden=8, self_attention=False).eval().to(precision)
    config = (
        {"image": {"size": 224, "patch": 32, **size}}
        if kind == "image"
        else {"text": {"vocabulary": 49408, "length": 77, **size}}
    )
    return plait.create_model({"type": f"{kind}_encoder", "config": config}).eval().to(precision)


def test_the_list_shows_every_case(capsys):
    assert run("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMED)
    for line, case in zip(lines, CASES, strict=True):
        assert case.what in line and ", ".join(case.precisions) in line


def test_the_list_shows_what_is_asked_for(capsys):
    assert run("--list", "--case", "image-", "--precision", "f32") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [n for n in NAMED if "image-" in n]
    assert run("--list", "--case", "nothing") != 0
    assert "--case nothing: no such case" in capsys.readouterr().err


def test_one_case_of_real_size(once, capsys, tmp_path):
    assert run("--case", "image-1", "--precision", "f32", "--threads", 1, "--json", tmp_path / "figures.json") == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("[1/1] image-1 f32: ") and shown.err.count("\n") == 1
    heading, _, columns, line = shown.out.splitlines()
    assert heading.startswith(f"plait {plait.__version__}, oneDNN ") and heading.endswith(", 1 thread")
    assert columns.split() == ["case", "ms", "per", "second", "GFLOP/s", "what"]
    assert line.startswith("image-1         f32") and line.endswith("CLIP ViT-B/32 image tower, 1 picture")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["others"] == 0 and written["machine"]["threads"] == 1 and written["machine"]["processor"]
    (figure,) = written["figures"]
    seconds = figure["ms"] / 1e3
    assert figure["case"] == "image-1" and figure["precision"] == "f32" and figure["calls"] == 1
    assert figure["fastest_ms"] == figure["ms"] > 0
    assert figure["per_second"] == pytest.approx(1 / seconds) and figure["unit"] == "pictures"
    # 4.41 thousand million multiplications and additions a picture, as others count this tower as well
    assert figure["gflops"] * seconds == pytest.approx(2 * 4.41, rel=0.001)


def test_the_models_are_those_that_the_cases_name():
    model = _bench_cases._float_model("image")
    assert model.count_parameters() == pytest.approx(87.8e6, rel=0.001)  # of CLIP's image tower
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    _bench_cases.forget()
    assert _bench_cases._float_model.cache_info().currsize == 0


def test_every_precision_and_every_other_case(once, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(_bench_cases, "_model", small)
    monkeypatch.setattr(_bench_cases, "forget", lambda: None)
    threads = plait.get_num_threads()
    words = [w for name in NAMED if name not in ("nce-4096", "train") for w in ("--case", name)]
    assert run(*words, "--json", tmp_path / "figures.json") == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    has = [p for p in ("f32", "bf16", "int8") if _core.has(p)]
    expected = [(n, p) for n, c in NAMED.items() if n not in ("nce-4096", "train") for p in c.precisions if p in has]
    assert [(f["case"], f["precision"]) for f in figures] == expected
    assert plait.get_num_threads() == threads
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3 + len(expected)
    assert out.count("CLIP ViT-B/32 image tower, 1 picture") == 1


def test_operations_are_counted_as_the_text_says(monkeypatch):
    monkeypatch.setattr(_bench_cases, "_model", small)
    block = nn.CrossModalBlock(768, 12)

    def rows_of(name):
        return 16 * (36 if name.startswith(("cross_a.kv", "cross_b.q", "cross_b.out", "block_b")) else 20)

    cross = 2 * sum(p.size * rows_of(name) for name, p in block.named_parameters() if p.ndim == 2)
    cross += 4 * 768 * 16 * (20 * 36 + 36 * 20 + 20 * 20 + 36 * 36)
    exact = {
        "image-32": (32 * 2 * 4.41e9, 0.001),
        "text-77": (32 * 2 * (12 * 12 * 77 * 512**2 + 12 * 2 * 512 * sum(range(1, 78))), 1e-9),
        "cross": (cross, 1e-9),
        "attention": (8 * 12 * 2 * 2 * 197 * 197 * 64, 1e-9),
        "attention-grad": (3 * 8 * 12 * 2 * 2 * 197 * 197 * 64, 1e-9),
        "nce-1024": (3 * 2 * 1024 * 1024 * 512, 1e-9),
        "adamw": (0, 1e-9),
    }
    for name, (flops, tolerance) in exact.items():
        assert NAMED[name].make("f32").flops == pytest.approx(flops, rel=tolerance), name


@pytest.mark.parametrize("precision", [p for p in NAMED["train"].precisions if _core.has(p)])
def test_the_training_step_trains(precision, monkeypatch):
    made = []
    create = plait.create_model
    monkeypatch.setattr(plait, "create_model", lambda config: made.append(create(config)) or made[0])
    work = _bench_cases._training(4, precision)
    model = made[0]
    assert model.training and {m.training_precision for _, m in model.named_modules()} == {precision}
    before = np.array(model.image.projection.weight.data)
    work.call()
    assert not np.array_equal(before, model.image.projection.weight.data)
    rows = {"image": 4 * 64, "text": 4 * 32}
    linear = sum(
        p.size * rows[name.split(".")[0]] for name, p in model.named_parameters() if ".blocks." in name and p.ndim == 2
    )
    attention = 2 * 256 * 4 * (6 * 64**2 + 4 * 32**2)
    rest = 4 * 64 * 3 * 64 * 256 + 2 * 4 * 256**2 + 16 * 256
    assert work.flops == pytest.approx(6 * (linear + attention + rest), rel=1e-9)


@pytest.mark.parametrize("name", ["attention", "attention-grad"])
def test_attention_alone_multiplies_in_its_precision(name, monkeypatch):
    used, attention = [], plait.ops.attention

    def noted(*arguments, **options):
        used.append(options["precision"])
        return attention(*arguments, **options)

    monkeypatch.setattr(plait.ops, "attention", noted)
    for precision in NAMED[name].precisions:
        NAMED[name].make(precision).call()
    assert used == ["f32", "bf16"]


# ---------------------------------------------------------------- others on the machine


@pytest.mark.parametrize(
    ("share", "warnings"), [(None, 0), (0.0, 0), (0.05, 0), (0.4, 2)], ids=["unknown", "idle", "nearly", "busy"]
)
def test_a_busy_machine_is_said(once, monkeypatch, capsys, share, warnings):
    monkeypatch.setattr(bench._Others, "share", lambda self: share)
    assert run("--case", "attention-grad") == 0
    assert capsys.readouterr().err.count("40 % of this machine") == warnings


def test_what_others_take_is_a_share(monkeypatch, tmp_path):
    others = bench._Others()
    assert others.share() is None or 0 <= others.share() <= 1
    ticks = iter([(100.0, 50.0, 10.0), (104.0, 53.0, 12.0)])  # busy for 3 of 4 seconds, 2 of them are ours
    monkeypatch.setattr(bench._Others, "_read", staticmethod(lambda: next(ticks)))
    assert bench._Others().share() == 0.25
    monkeypatch.setattr(bench._Others, "_read", staticmethod(lambda: None))
    assert bench._Others().share() is None


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--case", "vision"], "--case vision: no such case, expected one of image-1, "),
        (["--json", "absent/figures.json"], "absent/figures.json: no such folder"),
        (["--json", "."], ".: a folder, expected a file to write"),
        (["--case", "adamw", "--precision", "bf16"], "--precision bf16: none of these cases has it"),
    ],
)
def test_errors_come_before_the_work(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_core, "has", lambda precision: True)
    monkeypatch.setattr(bench, "_measure", lambda *_: pytest.fail("it ran"))
    assert run(*arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("plait bench: error: ") and message in shown.err and not shown.out


def test_a_precision_without_instructions_is_an_error_where_it_is_asked_for(once, capsys, monkeypatch):
    monkeypatch.setattr(_core, "has", lambda precision: precision == "f32")
    assert run("--precision", "int8") == 1
    assert "--precision int8: this processor has no instructions for it" in capsys.readouterr().err
    assert bench._chosen(CASES, ["image-1"], None) == [(NAMED["image-1"], "f32")]


@pytest.mark.parametrize(("name", "short"), [("float32", "f32"), ("bfloat16", "bf16"), ("int8", "int8")])
def test_precisions_have_long_names_too(once, name, short, monkeypatch):
    seen = []
    monkeypatch.setattr(bench, "_chosen", lambda cases, words, precisions: seen.extend(precisions) or [])
    assert run("--precision", name) == 0
    assert seen == [short]


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--threads", "two"], ["--precision", "fp8"], ["extra"]])
def test_wrong_arguments_exit_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert "usage: plait" in shown
    if "--precision" in arguments:
        assert "argument --precision: 'fp8', expected 'f32', 'float32', 'bf16', 'bfloat16' or 'int8'" in shown
