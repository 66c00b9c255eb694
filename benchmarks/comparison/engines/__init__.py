"""Engines: modules with PRECISIONS, ``versions()``, ``build(case, precision, folder, threads)`` and, where files are
made beforehand, ``prepare(case, precision, folder)``. One that is not installed raises ImportError; what it cannot do,
``Absent``."""

from importlib import import_module

__all__ = ["NAMES", "engine", "precisions"]

MODULES = {
    "bare": "bare",
    "plait": "plait",
    "torch": "torch_eager",
    "torch-compile": "torch_compile",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
NAMES = tuple(MODULES)
PRECISIONS = {
    "bare": ("f32", "bf16", "int8"),
    "plait": ("f32", "bf16", "int8"),
    "torch": ("f32", "bf16", "bf16-autocast"),
    "torch-compile": ("f32", "bf16", "bf16-autocast"),
    "onnxruntime": ("f32", "int8"),
    "openvino": ("f32", "bf16", "int8"),
}


def engine(name):
    """The module of an engine; only worker processes import it."""
    return import_module(f"comparison.engines.{MODULES[name]}_engine")


def precisions(name, case):
    """The precisions of a case that an engine has, in the order of the case."""
    return [p for p in case.precisions if p in PRECISIONS[name]]
