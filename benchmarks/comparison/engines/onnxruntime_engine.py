"""ONNX Runtime: float32, and dynamic quantisation to int8."""

from __future__ import annotations

import onnxruntime

from comparison import exported
from comparison.job import Job

__all__ = ["build", "prepare", "versions"]


def versions():
    return {"onnxruntime": onnxruntime.__version__}


def prepare(case, precision, folder):
    """The graph as exported, which the session optimises when it loads it; or with int8 weights.

    The engine's own tool for transformers finds no attention in graphs of torch's exporter, and gained nothing.
    """
    at = exported.place(case, folder, "onnxruntime", precision)
    graph = exported.graph(case, folder)
    if at.exists():
        return
    with exported.publish(at) as part:
        if precision == "int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(graph, part / "model.onnx", weight_type=QuantType.QInt8, per_channel=True)
        else:
            (part / "model.onnx").symlink_to(graph)
            (part / "model.onnx.data").symlink_to(graph.with_name("model.onnx.data"))


def build(case, precision, folder, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    path = exported.place(case, folder, "onnxruntime", precision) / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    feeds, kept = {k: x for k, x in exported.read(case).items() if k in names}, {}

    def run():
        kept["y"] = session.run(None, feeds)[0]

    return Job(run, lambda: {"y": exported.rows(kept["y"], case)})
