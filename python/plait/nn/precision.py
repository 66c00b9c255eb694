"""Models in fewer bits, for inference."""

from __future__ import annotations

import copy
import warnings

import numpy as np

from plait import _core, ops
from plait.nn.layers import Linear
from plait.tensor import no_grad

__all__ = ["converted"]


def converted(model, precision: str):
    """A copy whose linear layers are packed in a precision, see ``Module.to``."""
    fast = _core.has(precision)
    if not fast:
        warnings.warn(
            f"to: this processor has no instructions for {precision}; the model computes in float32", stacklevel=3
        )
    twins = {id(p): p.sharing(precision if fast else "f32") for p in model.parameters()}
    other = copy.deepcopy(model, twins).eval()
    for _, module in other.named_modules():
        module.precision = precision
        if isinstance(module, Linear) and fast:
            # One row is enough to fill the pack: later changes of the original do not reach it.
            with no_grad():
                ops.linear(np.zeros((1, module.weight.shape[1]), np.float32), module.weight)
    return other
