"""What plait runs on: versions, the oneDNN in use, instruction set, threads, optional packages."""

from __future__ import annotations

import platform
from importlib import metadata

import numpy as np

from plait import _core

__all__ = ["show_config"]

_OPTIONAL = ("matplotlib", "milvus-lite", "ml_dtypes", "pillow", "pymilvus", "safetensors", "tokenizers", "tqdm")


def show_config() -> dict:
    """Versions and settings, for bug reports and scripts.

    Returns
    -------
    dict
        ``version`` of plait, ``onednn`` (version), ``onednn_path``, ``isa`` (instruction set in use), ``threads``,
        ``python``, ``numpy``, and ``packages``: installed packages that plait can use, with their versions.

    Examples
    --------
    >>> import plait
    >>> sorted(plait.show_config())
    ['isa', 'numpy', 'onednn', 'onednn_path', 'packages', 'python', 'threads', 'version']
    """
    core = _core.config()
    return {
        "version": core["version"],
        "onednn": core["onednn"],
        "onednn_path": core["onednn_path"],
        "isa": core["isa"],
        "threads": core["threads"],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "packages": {name: v for name in _OPTIONAL if (v := _version(name)) is not None},
    }


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
