"""PyTorch's models as ONNX files, for the engines that read those. Runs beforehand, in a process of its own."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np

from comparison import weights
from comparison.job import Absent

__all__ = ["graph", "place", "publish", "read", "rows"]


def place(case, folder, engine, precision):
    """Folder of what an engine keeps of a case."""
    return Path(folder) / "exported" / f"{case.name}-{engine}-{precision}"


@contextlib.contextmanager
def publish(folder):
    """A folder to write to, which becomes `folder` when everything is written."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    part.rename(folder)


def graph(case, folder):
    """Path of the ONNX file of a case, written on first use: float32, fixed shapes."""
    if case.phase != "forward":
        raise Absent("an engine for inference")
    at = place(case, folder, "onnx", "f32")
    if not at.exists():
        try:
            import onnxscript  # noqa: F401  (what the exporter of torch needs)
            import torch

            from comparison import torch_parts
        except ImportError as e:
            raise Absent(f"making the ONNX file needs PyTorch and onnxscript: {e}") from None
        module = torch_parts.model(case, weights.checkpoint(case, folder), weights.fill(weights.shapes(case)))
        given, _ = torch_parts.arguments(case, weights.inputs(case))
        with publish(at) as part, torch.no_grad():
            torch.onnx.export(
                module.eval(),
                tuple(given.values()),
                str(part / "model.onnx"),
                input_names=list(given),
                output_names=["y"],
                dynamo=True,
                verbose=False,
            )
    return at / "model.onnx"


def read(case, number=0):
    """What a session is fed: arrays by name, laid out as the exported graph takes them."""
    found = {k: x for k, x in weights.inputs(case, number).items() if k != "dy"}
    if case.kind == "attention":
        found = {k: np.ascontiguousarray(x.transpose(0, 2, 1, 3)) for k, x in found.items()}
    return found


def rows(y, case):
    """An output as ``torch_eager_engine.plain`` lays it out."""
    return np.ascontiguousarray(y.transpose(0, 2, 1, 3)) if case.kind == "attention" else y
