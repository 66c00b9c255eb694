"""Models in fewer bits: copies for inference, and products in bfloat16 for training."""

from __future__ import annotations

import copy
import warnings

import numpy as np

from plait import _core, ops
from plait._precision import TRAINED, copied, lacking, named, refuse_copies
from plait.nn.layers import Linear
from plait.tensor import no_grad

__all__ = ["converted", "multiply_in"]


def _fast(function, precision):
    """Whether a precision has instructions here; if not, a warning at the line that called the user's `function`."""
    if _core.has(precision):
        return True
    warnings.warn(f"{function}: {lacking(precision)}", stacklevel=4)
    return False


def converted(model, precision: str, function: str = "to"):
    """A copy whose linear layers are packed in a precision, see ``Module.to``; `function` is what the user called."""
    _fast(function, precision)
    due = {id(p): precision for p in model.parameters()} | copied(model)  # what is a copy already stays what it is
    twins = {id(p): p.sharing(due[id(p)] if _core.has(due[id(p)]) else "f32") for p in model.parameters()}
    mapped = {id(twins[id(p)]) for p in model.parameters() if p.pack is not None and p.pack.mapped}
    other = copy.deepcopy(model, twins).eval()
    for _, module in other.named_modules():
        if module.precision == "f32":
            module.precision, module.training_precision = precision, "f32"
        if isinstance(module, Linear) and _core.has(module.precision):
            _fill(module.weight, id(module.weight) in mapped)
    return other


def _fill(weight, mapped):
    """Packs a weight at once, so that later changes of the original do not reach it.

    `mapped` holds for this moment only: what the original writes into its array later must not be given back.
    """
    weight.pack.mapped = mapped
    with no_grad():
        ops.linear(np.zeros((1, weight.shape[1]), np.float32), weight)  # one row is enough
    weight.pack.mapped = False


def multiply_in(model, precision: str, function: str = "train"):
    """Sets what the products of a model are computed in while it is trained, see ``Module.train``."""
    precision = named(function, precision, TRAINED)
    refuse_copies(function, model)
    dtype = precision if precision == "f32" or _fast(function, precision) else "f32"
    kept = copied(model)
    for p in model.parameters():
        if p.pack is not None and id(p) not in kept:
            p.pack.dtype = dtype
    for _, module in model.named_modules():
        if module.precision == "f32":
            module.training_precision = precision
