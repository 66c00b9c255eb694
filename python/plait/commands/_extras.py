"""Optional packages: a clear error that names the extra, before any work was done."""

from __future__ import annotations

import importlib.util

__all__ = ["require"]

_PACKAGES = {
    "PIL": "Pillow",
    "matplotlib": "matplotlib",
    "milvus_lite": "milvus-lite",
    "pymilvus": "pymilvus",
    "tokenizers": "tokenizers",
    "tqdm": "tqdm",
}


def require(what: str, extra: str, *modules: str) -> None:
    """Raises ImportError when one of the modules is not installed."""
    missing = [_PACKAGES[m] for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise ImportError(f"{what} needs {' and '.join(missing)}: pip install 'plait[{extra}]'")
