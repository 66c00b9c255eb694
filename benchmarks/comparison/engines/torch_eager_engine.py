"""PyTorch, eager; and what torch.compile shares with it."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F

from comparison import torch_parts, weights
from comparison.job import Job

__all__ = ["build", "make", "versions"]

# What is compared of a whole CLIP step, by transformers' names.
COMPARED = (
    "visual_projection.weight",
    "text_projection.weight",
    "vision_model.encoder.layers.0.mlp.fc1.weight",
    "text_model.encoder.layers.0.mlp.fc1.weight",
)


def versions():
    found = {"torch": torch.__version__}
    with contextlib.suppress(ImportError):
        import transformers

        found["transformers"] = transformers.__version__
    return found


def build(case, precision, folder, threads):
    return make(case, precision, folder, threads, lambda module: module)


def make(case, precision, folder, threads, compiled):
    """The job of a case; `compiled` makes of a module what is called in its place."""
    torch.set_num_threads(threads)
    if case.kind == "adamw":
        return _adamw(case)
    module = torch_parts.model(case, weights.checkpoint(case, folder), weights.fill(weights.shapes(case)))
    found = weights.inputs(case)
    given, dy = torch_parts.arguments(case, found)
    if precision == "bf16":
        module = module.to(torch.bfloat16)
        given = {k: x.to(torch.bfloat16) if x.is_floating_point() else x for k, x in given.items()}
        dy = dy if dy is None else dy.to(torch.bfloat16)
    if case.phase == "forward":
        return _forward(compiled(module.requires_grad_(False)), list(given.values()), case)
    autocast = contextlib.nullcontext
    if precision == "bf16-autocast":

        def autocast():
            return torch.autocast("cpu", torch.bfloat16)

    if case.phase == "backward":
        return _backward(module, compiled(module), given, dy, autocast, case)
    target = torch.from_numpy(found["target"]) if "target" in found else None
    return _step(module, compiled(module), given, target, autocast)


def plain(x, case):
    """A tensor as float32 rows in the order of ``weights.inputs``."""
    x = x.detach().float()
    return (x.transpose(1, 2) if case.kind == "attention" and x.ndim == 4 else x).contiguous().numpy()


def _forward(module, args, case):
    kept = {}

    def run():
        with torch.no_grad():
            kept["y"] = module(*args)

    return Job(run, lambda: {"y": plain(kept["y"], case)})


def _backward(module, called, given, dy, autocast, case):
    leaves = {**{k: x.requires_grad_() for k, x in given.items()}, **dict(module.named_parameters())}
    args, kept = list(given.values()), {}

    def run():
        for leaf in leaves.values():
            leaf.grad = None
        with autocast():
            y = called(*args)
        y.backward(dy if dy is None else dy.to(y.dtype))
        kept["y"] = y

    def outputs():
        grads = {f"d {k}": plain(leaf.grad, case) for k, leaf in leaves.items()}
        return {"y": plain(kept["y"], case), **grads}

    return Job(run, outputs)


def _step(module, called, given, target, autocast):
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)
    args, kept = list(given.values()), {}

    def run():
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            y = called(*args)
            kept["loss"] = y if target is None else F.l1_loss(y.float(), target)
        kept["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    def outputs():
        if target is not None:  # dropout differs, so the model is compared without
            module.eval()
            with torch.no_grad():
                y = module(*args)
            module.train()
            return {"y": y.float().numpy()}
        grads = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        found = {f"d {n}": g.float().numpy() for n, g in grads.items() if n.removeprefix("clip.") in COMPARED}
        return {"loss": kept["loss"].detach().float().numpy(), **{k.replace("clip.", ""): v for k, v in found.items()}}

    return Job(run, outputs)


def _adamw(case):
    shapes = list(weights.clip_shapes(case.sizes))
    parameters = [torch.nn.Parameter(torch.from_numpy(x)) for x in weights.fill(shapes).values()]
    for i, p in enumerate(parameters):
        p.grad = torch.from_numpy(weights.gradient(i, tuple(p.shape)))
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def outputs():
        return {f"{name}": p.detach().numpy() for (name, _), p in zip(shapes[:4], parameters[:4], strict=True)}

    return Job(optimizer.step, outputs)
