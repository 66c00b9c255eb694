"""plait: multimodal deep learning for NumPy, in C, on oneDNN."""

from importlib import import_module as _import_module

from plait import (
    _load,  # noqa: F401  (first: it decides which oneDNN serves the core)
    losses,
    ops,
    reference,
)
from plait._core import empty_cache, get_num_threads, set_num_threads
from plait._version import __version__
from plait.gradcheck import GradcheckError, gradcheck
from plait.ops._apply import seed
from plait.ops.custom import operator
from plait.ops.recompute import checkpoint
from plait.stream import Stream, as_stream
from plait.tensor import Tensor, no_grad

from plait import nn, optim  # isort: skip  (they take the names above from this module)

# Imported on first use, so that `import plait` stays quick.
_MODULES = ("data", "evaluate", "io", "models", "processing", "search", "train")
_NAMES = {
    "Embedder": ("plait.embedder", "Embedder"),
    "create_model": ("plait.models", "create_model"),
    "list_models": ("plait.models", "list_models"),
    "load": ("plait.io", "load_model"),
    "quantize": ("plait.quantization", "quantize"),
    "show_config": ("plait.config", "show_config"),
}

__all__ = [
    "Embedder",
    "GradcheckError",
    "Stream",
    "Tensor",
    "__version__",
    "as_stream",
    "checkpoint",
    "create_model",
    "data",
    "empty_cache",
    "evaluate",
    "get_num_threads",
    "gradcheck",
    "io",
    "list_models",
    "load",
    "losses",
    "models",
    "nn",
    "no_grad",
    "operator",
    "ops",
    "optim",
    "processing",
    "quantize",
    "reference",
    "search",
    "seed",
    "set_num_threads",
    "show_config",
    "train",
]


def __getattr__(name):
    if name in _MODULES:
        value = _import_module(f"plait.{name}")
    elif name in _NAMES:
        module, attribute = _NAMES[name]
        value = getattr(_import_module(module), attribute)
    else:
        raise AttributeError(f"module 'plait' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
