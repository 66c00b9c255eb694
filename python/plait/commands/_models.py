"""Models that a command line names: always a folder."""

from __future__ import annotations

import os
import re

__all__ = ["load_model"]

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load_model(folder):
    """``plait.load``, with an error for those who know models by their names on a hub."""
    import plait

    name = os.fspath(folder)
    if not os.path.exists(name):
        hub = _HUB.fullmatch(name)
        get, where = (name, name.split("/")[1]) if hub else ("OWNER/NAME", "NAME")
        raise FileNotFoundError(
            f"{name}: no such folder. plait reads models from folders and downloads nothing; one from the Hugging Face "
            f"hub comes with: pip install huggingface_hub && hf download {get} --local-dir {where}"
        )
    return plait.load(folder)
