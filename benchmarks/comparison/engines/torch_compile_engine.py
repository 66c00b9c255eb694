"""torch.compile: with frozen weights for inference, as its documentation advises; the whole model in training."""

from __future__ import annotations

import os

import torch

from comparison.engines import torch_eager_engine
from comparison.engines.torch_eager_engine import versions
from comparison.job import Absent

__all__ = ["build", "versions"]


def build(case, precision, folder, threads):
    if case.kind == "adamw":
        raise Absent("the fused optimiser of torch is one call already")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
    import torch._inductor.config as inductor

    inductor.freezing = case.phase == "forward"
    return torch_eager_engine.make(case, precision, folder, threads, torch.compile)
