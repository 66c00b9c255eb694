"""OpenVINO: float32 and bfloat16 by the precision hint, int8 by NNCF with calibration."""

from __future__ import annotations

import openvino

from comparison import exported
from comparison.job import Absent, Job

__all__ = ["build", "prepare", "versions"]

SAMPLES = 8  # batches of the calibration


def versions():
    return {"openvino": openvino.__version__.split("-")[0]}


def prepare(case, precision, folder):
    at = exported.place(case, folder, "openvino", "int8" if precision == "int8" else "f32")
    graph = exported.graph(case, folder)
    if at.exists():
        return
    model = openvino.Core().read_model(graph)
    if precision == "int8":
        try:
            import nncf
        except ImportError as e:
            raise Absent(f"quantising needs NNCF: {e}") from None
        model = nncf.quantize(
            model, nncf.Dataset(_samples(case, model)), model_type=nncf.ModelType.TRANSFORMER, subset_size=SAMPLES
        )
    with exported.publish(at) as part:
        openvino.save_model(model, part / "model.xml", compress_to_fp16=False)


def _samples(case, model):
    """Inputs of other seeds than the one that is measured."""
    names = [i.any_name for i in model.inputs]
    batches = (exported.read(case, number + 1) for number in range(SAMPLES))
    return [{name: batch[name] for name in names} for batch in batches]


def build(case, precision, folder, threads):
    core = openvino.Core()
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"bf16": "bf16"}.get(precision, "f32"),
    }
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Absent("OpenVINO has no bfloat16 on this processor")
    path = exported.place(case, folder, "openvino", "int8" if precision == "int8" else "f32") / "model.xml"
    request = core.compile_model(path, "CPU", config).create_infer_request()
    names = {i.any_name for i in request.model_inputs}
    feeds, kept = {k: x for k, x in exported.read(case).items() if k in names}, {}

    def run():
        kept["y"] = request.infer(feeds, share_inputs=True, share_outputs=True)[0]

    return Job(run, lambda: {"y": exported.rows(kept["y"], case)})
