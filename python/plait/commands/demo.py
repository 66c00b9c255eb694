"""Trains a small CLIP-like model on characters and their Unicode names, and shows what it finds.

Every character that has a name and is drawn by the DejaVu Sans font is a pair: a picture and a text. 530 of them are
held out. After training the model is asked for characters that it never saw. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path

from ._extras import require

NAME = "demo"
HELP = "train an image-text model on glyphs and their names"
EXAMPLES = """written to the folder:
  report.json, training.png, retrieval.png, model/, and checkpoints/ for --resume

examples:
  plait demo
  plait demo --quick --out quick-demo
  plait demo --seed 1 --steps 1000 --json result.json
  plait demo --resume                 after Ctrl-C"""

_SETTINGS = "settings.json"
_TRY_NEXT = "greek small letter omega with tonos"


def _whole(least):
    def parse(text):
        value = int(text)
        if not least <= value < 2**31:
            raise argparse.ArgumentTypeError(f"{value}, expected a whole number of at least {least}")
        return value

    parse.__name__ = "whole number"  # argparse shows it
    return parse


def add_arguments(parser):
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer steps: seconds, lower numbers")
    parser.add_argument(
        "--out", type=Path, default=Path("plait-demo"), help="folder for results (default: %(default)s)"
    )
    parser.add_argument("--seed", type=_whole(0), help="of weights, batches and augmentation (default: 0)")
    parser.add_argument("--steps", type=_whole(1), help="training steps (default: 1,000, or 200 with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of report.json here, too")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in the folder")


def run(arguments):
    require("plait demo", "demo", "matplotlib", "PIL", "tqdm")
    from plait import io
    from plait.commands import _figures, _glyphs

    out = arguments.out
    if arguments.json is not None and not arguments.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"{arguments.json}: no such folder")  # now, and not after the training
    there = next((folder for folder in (out, *out.parents) if folder.exists()), None)
    if there is not None and not there.is_dir():
        raise NotADirectoryError(f"--out {out}: {there} is a file, expected a folder")
    settings = _settings(arguments, io)
    recipe = _glyphs.Recipe.quick() if settings["quick"] else _glyphs.Recipe()
    if settings["steps"] is not None:
        recipe = dataclasses.replace(recipe, steps=settings["steps"])
    seed = settings["seed"]

    try:
        task = _glyphs.Task()
        model = task.model(recipe, seed)
        print(
            f"{len(task.names):,} characters, {len(task.test)} of them held out; "
            f"a model of {model.count_parameters():,} parameters; {recipe.steps} steps of {recipe.batch_size} pairs"
        )
        checkpoints = out / _glyphs.CHECKPOINTS
        history = _glyphs.train(
            task, model, recipe, seed, checkpoint=checkpoints, save_every=100, resume=arguments.resume
        )
        images, texts, recall = _glyphs.measure(task, model)
    except KeyboardInterrupt as stop:
        where = "" if out == Path("plait-demo") else f" --out {out}"
        raise KeyboardInterrupt(f"{stop or 'stopped'}; go on with: plait demo --resume{where}") from None

    report = _report(task, model, recipe, settings, history, recall)
    model.save(out / _glyphs.MODEL)
    _glyphs.write_index(out, task, images)
    text = json.dumps(report, indent=2).encode() + b"\n"
    io.write_file(out / "report.json", text)
    if arguments.json is not None:
        io.write_file(arguments.json, text)
    _figures.training(out / "training.png", history, recall)
    _figures.retrieval(out / "retrieval.png", task, images, texts)
    print(_table(recall, len(task.test), len(task.names)))
    rate = len(history.losses) * recipe.batch_size / history.seconds
    print(f"trained in {history.seconds:.1f} s ({rate:,.0f} pairs/s)")
    print(f"{out}: {_glyphs.MODEL}/, report.json, training.png, retrieval.png")
    where = "" if out == Path("plait-demo") else f"--dir {out} "
    print(f'try next: plait search {where}"{_TRY_NEXT}"')


def _settings(arguments, io):
    """What the run is made of: from the command line, or with --resume from the run in the folder."""
    from plait.commands._glyphs import CHECKPOINTS
    from plait.io import strictjson

    out, file = arguments.out, arguments.out / _SETTINGS
    given = {"quick": arguments.quick, "seed": arguments.seed or 0, "steps": arguments.steps}
    if not arguments.resume:
        out.mkdir(parents=True, exist_ok=True)
        if io.latest_checkpoint(out / CHECKPOINTS) is not None:
            print(f"{out}: an earlier run is replaced (--resume would go on with it)", file=sys.stderr)
        # Settings last: a run can be resumed once they are there.
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        io.write_file(file, strictjson.dumps(given, _SETTINGS))
        return given
    if not file.exists():
        raise FileNotFoundError(f"{out}: no run to resume in this folder")
    found = strictjson.loads(io.read_file(file, 10_000), str(file))
    if not isinstance(found, dict) or set(found) != set(given):
        raise ValueError(f"{file}: expected {', '.join(given)}")
    asked = {"quick": arguments.quick or None, "seed": arguments.seed, "steps": arguments.steps}
    for key, value in asked.items():
        if value is not None and value != found[key]:
            raise ValueError(f"--{key} is {value}, but the run in {out} has {found[key]}; leave it out to resume")
    return found


def _report(task, model, recipe, settings, history, recall):
    import plait

    held_out = recall["held_out"]
    return {
        "recall": {way: held_out[way] for way in ("text_to_image", "image_to_text")},
        "recall_among_all": {way: recall["all"][way] for way in ("text_to_image", "image_to_text")},
        "chance": held_out["chance"],
        "chance_among_all": recall["all"]["chance"],
        "seconds": round(history.seconds, 2),
        "samples_per_second": round(len(history.losses) * recipe.batch_size / history.seconds, 1),
        "seed": settings["seed"],
        "quick": settings["quick"],
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "parameters": model.count_parameters(),
        "characters": len(task.names),
        "held_out": len(task.test),
        "loss": {"first": history.losses[0], "last": history.losses[-1]},
        "machine": plait.show_config(),
    }


def _table(recall, held_out, total):
    lines = [
        f"{'recall, %':16}{f'among the {held_out} held out':>26}{f'among all {total:,}':>26}",
        " " * 16 + "".join(f"{'@' + k:>{w}}" for _ in range(2) for k, w in (("1", 12), ("5", 7), ("10", 7))),
    ]
    for key, title in (("text_to_image", "text to image"), ("image_to_text", "image to text"), ("chance", "chance")):
        numbers = [recall[scope][key][k] for scope in ("held_out", "all") for k in ("1", "5", "10")]
        digits = 2 if key == "chance" else 1
        lines.append(
            f"{title:16}" + "".join(f"{n:{w}.{digits}f}" for n, w in zip(numbers, (12, 7, 7) * 2, strict=True))
        )
    return "\n".join(lines)
