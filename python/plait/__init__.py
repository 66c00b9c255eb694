"""plait: multimodal deep learning for NumPy, in C, on oneDNN."""

from plait import (
    _load,  # noqa: F401  (first: it decides which oneDNN serves the core)
    ops,
    reference,
)
from plait._core import get_num_threads, set_num_threads
from plait._version import __version__
from plait.ops._apply import seed
from plait.stream import Stream, as_stream
from plait.tensor import Tensor, no_grad

__all__ = [
    "Stream",
    "Tensor",
    "__version__",
    "as_stream",
    "get_num_threads",
    "no_grad",
    "ops",
    "reference",
    "seed",
    "set_num_threads",
]
