"""Where a model came from, and how it goes back: a folder that the original library loads again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plait.io import strictjson
from plait.io.files import atomic_folder
from plait.io.tensors import save_tensors

from .readers import reader_files

__all__ = ["Source", "save_pretrained"]


@dataclass
class Source:
    """What ``load_pretrained`` keeps of a folder.

    Attributes
    ----------
    plan : Plan
    prefix : str
        Before the names of the plan's table.
    shapes, dtypes : dict
        Of the file's tensors, by their names.
    extras : dict
        Tensors that plait has no use for: written back as they are.
    config : dict or None
        Of ``config.json`` or ``open_clip_config.json``.
    files : dict of str to bytes
        Of tokenizer and image processor.
    steps : list or None
        Of ``modules.json``.
    processor : ImageProcessor or None
        What was made of the files.
    pad_default : int
        The model's pad token where the tokenizer's configuration names none.
    """

    plan: object
    prefix: str
    shapes: dict
    dtypes: dict
    extras: dict
    config: dict | None = None
    files: dict = field(default_factory=dict)
    steps: list | None = None
    processor: object = None
    pad_default: int = 0


def tensors_of(model, source) -> dict:
    """The model's tensors under the names of the file that it came from, float32."""
    tensors = dict(source.extras)
    parts: dict = {}
    for name, parameter in model.named_parameters():
        entry = source.plan.table.find(name, source.prefix)
        for theirs, array, part in entry.theirs(parameter.data, source.shapes):
            if part is None:
                tensors[theirs] = np.asarray(array, order="C")  # a number stays one
            else:
                parts.setdefault(theirs, []).append((part[0], array))
    for theirs, pieces in parts.items():
        tensors[theirs] = np.concatenate([array for _, array in sorted(pieces, key=lambda p: p[0])])
    return tensors


def save_pretrained(model, folder) -> None:
    """Writes a model to a folder in the layout that it was loaded from."""
    source = model.source
    files, config = reader_files(model)
    tensors = tensors_of(model, source)
    folder = Path(folder)
    names = {"config.json", "open_clip_config.json", "model.safetensors", "open_clip_model.safetensors"}
    names |= {*source.files, *files}
    # Of names in the file only these say where something goes: others may be anything, "../x" too.
    dense: dict = {f"{path}/": {} for step, path in source.steps or () if step in ("Dense", "LayerNorm")}
    with atomic_folder(folder, replaces=(*names, *(path for _, path in source.steps or () if path))) as new:
        inner = new / source.steps[0][1] if source.steps else new
        inner.mkdir(exist_ok=True)
        for name, data in files.items():
            (new / name if name in _TOP else inner / name).write_bytes(data)
        config, file = _config(config, source.plan.settings.get("image_size"))
        if config is not None:
            (inner / ("open_clip_config.json" if "model_cfg" in config else "config.json")).write_bytes(
                strictjson.dumps(config, "config.json")
            )
        own: dict = {}
        for name, array in tensors.items():
            path = next((path for path in dense if name.startswith(path)), "")
            dense.get(path, own)[name.removeprefix(path)] = array
        save_tensors(inner / file, own, metadata={"format": "pt"})
        for path, inside in dense.items():
            (new / path).mkdir(exist_ok=True)
            save_tensors(new / path / "model.safetensors", inside, metadata={"format": "pt"})
        for path, data in source.plan.settings.get("step_configs", {}).items():
            (new / path).mkdir(exist_ok=True)
            (new / path / "config.json").write_bytes(strictjson.dumps(data, "config.json"))


_TOP = ("modules.json", "config_sentence_transformers.json")


def _config(config, size):
    """The configuration as it is written, with another size of pictures, and the name of the weights' file."""
    if config is None:
        return None, "model.safetensors"
    if "model_cfg" in config:
        if size is not None:
            vision = {**config["model_cfg"]["vision_cfg"], "image_size": size}
            config = {**config, "model_cfg": {**config["model_cfg"], "vision_cfg": vision}}
        return config, "open_clip_model.safetensors"
    config = dict(config)
    for key in ("dtype", "torch_dtype"):
        if key in config:
            config[key] = "float32"
    if size is not None:
        if "vision_config" in config:
            config["vision_config"] = {**(config["vision_config"] or {}), "image_size": size}
        else:
            config["image_size"] = size
    return config, "model.safetensors"
