"""plait itself."""

from __future__ import annotations

import numpy as np

import plait
from comparison import weights
from comparison.job import Absent, Job
from comparison.plait_parts import PARTS

__all__ = ["build", "versions"]

# What is compared of a whole CLIP step: our names of torch_eager_engine.COMPARED.
COMPARED = {
    "visual_projection.weight": "image.projection.weight",
    "text_projection.weight": "text.projection.weight",
    "vision_model.encoder.layers.0.mlp.fc1.weight": "image.encoder.blocks.0.mlp.fc1.weight",
    "text_model.encoder.layers.0.mlp.fc1.weight": "text.encoder.blocks.0.mlp.fc1.weight",
}


def versions():
    config = plait.show_config()
    return {"plait": config["version"], "onednn": config["onednn"], "isa": config["isa"]}


def build(case, precision, folder, threads):
    plait.set_num_threads(threads)
    if case.phase != "forward" and precision not in ("f32", "bf16"):
        raise Absent(f"plait does not train in {precision}")
    found = weights.inputs(case)
    if case.kind == "adamw":
        return _adamw(case)
    if case.kind in ("clip_image", "clip_text", "minilm"):
        return _encode(case, precision, folder, found)
    if case.kind == "clip":
        return _clip_step(case, precision, folder, found)
    model = PARTS[case.kind](case.sizes)
    if case.kind not in ("attention", "info_nce"):
        model.load_state_dict(weights.fill(weights.shapes(case)))
    if case.kind == "attention":
        model.precision = precision
    elif case.phase != "forward":
        model.train(precision=precision)
    if case.phase == "step":
        return _step(model, found)
    given = {k: _rows(x) for k, x in found.items() if k != "dy"}
    if case.phase == "backward":
        return _backward(model, given, _rows(found["dy"]) if "dy" in found else None)
    return _forward(model, precision, given)


def _rows(x):
    """(B, T, D) and (B, T, H, D) as rows."""
    return {2: x, 3: x.reshape(-1, x.shape[-1]), 4: x.reshape(x.shape[0] * x.shape[1], -1)}[x.ndim]


def _converted(model, precision):
    if precision == "f32":
        return model
    try:
        converted = model.to(precision)
    except (AttributeError, NotImplementedError) as e:
        raise Absent(f"this plait has no {precision}: {e}") from None
    return model if converted is None else converted


def _encode(case, precision, folder, found):
    model = _converted(plait.load(weights.checkpoint(case, folder)).eval(), precision)
    batch, kept = case.sizes["batch"], {}
    options = {"batch_size": batch, "show_progress": False}
    if case.kind == "clip_image":
        items = found["pixels"]
        encode, options["normalize"] = model.encode_image, False
    elif case.kind == "clip_text":
        items = list(found["ids"][:, : case.sizes["tokens"]])
        encode, options["normalize"] = model.encode_text, False
    else:
        items = [ids[mask != 0] for ids, mask in zip(found["ids"], found["mask"], strict=True)]
        encode = model.encode

    def run():
        kept["y"] = encode(items, **options)

    return Job(run, lambda: {"y": kept["y"]})


def _forward(model, precision, given):
    kept = {}
    if not isinstance(model, PARTS["attention"]):
        model = _converted(model.eval().freeze(), precision)

    def run():
        with plait.no_grad():
            kept["y"] = model(*given.values())

    return Job(run, lambda: {"y": kept["y"].numpy()})


def _backward(model, given, dy):
    given = {k: plait.nn.Parameter(x) for k, x in given.items()}
    leaves, kept = {**given, **dict(model.named_parameters())}, {}

    def run():
        for leaf in leaves.values():
            leaf.zero_grad()
        kept["y"] = model(*given.values())
        kept["y"].backward(dy)

    return Job(run, lambda: {"y": kept["y"].numpy(), **{f"d {k}": np.array(t.grad) for k, t in leaves.items()}})


def _step(model, found):
    optimizer = plait.optim.AdamW(model, lr=1e-6, max_grad_norm=1.0)
    target = found.pop("target")

    def run():
        optimizer.zero_grad()
        plait.losses.l1(model(*found.values()), target).backward()
        optimizer.step()

    def outputs():  # dropout differs, so the model is compared without
        model.eval()
        with plait.no_grad():
            y = model(*found.values()).numpy()
        model.train()
        return {"y": y}

    return Job(run, outputs)


def _clip_step(case, precision, folder, found):
    model = plait.load(weights.checkpoint(case, folder)).train(precision=precision)
    model.set_checkpointing(case.sizes.get("checkpoint", False))
    optimizer = plait.optim.AdamW(model, lr=1e-6, max_grad_norm=1.0)
    ids, kept = list(found["ids"][:, : case.sizes["tokens"]]), {}

    def run():
        optimizer.zero_grad()
        images, texts = model.encode_image(found["pixels"]), model.encode_text(ids)
        kept["loss"] = plait.losses.info_nce(images, texts, model.logit_scale)
        kept["loss"].backward()
        optimizer.step()

    def outputs():  # peers clip the gradients themselves, we on the way to the moments
        parameters, clip = dict(model.named_parameters()), min(1.0, 1.0 / optimizer.grad_norm)
        grads = {f"d {name}": clip * parameters[ours].grad for name, ours in COMPARED.items()}
        return {"loss": kept["loss"].numpy(), **grads}

    return Job(run, outputs)


def _adamw(case):
    filled = weights.fill(weights.clip_shapes(case.sizes))
    parameters = {name: plait.nn.Parameter(filled.pop(name)) for name in list(filled)}
    optimizer = plait.optim.AdamW(list(parameters.values()), lr=1e-3)
    for i, p in enumerate(parameters.values()):
        p.grad = weights.gradient(i, p.shape)

    def outputs():
        return {name: parameters[name].numpy() for name in list(parameters)[:4]}

    return Job(optimizer.step, outputs)
