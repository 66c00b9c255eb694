"""sentence-transformers folders: a transformer, pooling, and what comes after (arXiv 1908.10084).

``modules.json`` lists the steps by the path of a Python class. Nothing is imported: the last word of the path is looked
up in a table of the steps that plait has.
"""

from __future__ import annotations

from dataclasses import dataclass

from plait.io.schema import choice, flag, integer
from plait.io.tensors import map_tensors
from plait.models.settings import NEW, check_settings

from .fields import read
from .keys import KeyTable
from .readers import LIMITS, SETTINGS

__all__ = ["apply_modules", "modules_of"]

_MODULES = "modules.json"
_STEPS = ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
_MOST = 32
_MODES = {
    "cls": "first",
    "mean": "mean",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
_FLAGS = {  # of older files, in the order in which their vectors are put side by side
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {
    "Identity": None,
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}


@dataclass(frozen=True)
class Dense:
    """Keys of a Dense step."""

    in_features: int = integer(1, 1 << 16)
    out_features: int = integer(1, 1 << 16)
    bias: bool = flag(default=True)


@dataclass(frozen=True)
class Limits:
    """Keys of ``sentence_bert_config.json``."""

    max_seq_length: int = integer(1, 1 << 20, default=None)
    do_lower_case: bool = flag(default=False)


@dataclass(frozen=True)
class Similarity:
    """Keys of ``config_sentence_transformers.json`` that say nothing about vectors."""

    similarity_fn_name: str = choice("cosine", "dot", "dot_product", "euclidean", "manhattan", default=None)


def modules_of(folder):
    """[(step, sub-folder)], or None where the folder is no sentence-transformers folder."""
    data = folder.find_json(_MODULES)
    if data is None:
        return None
    if not isinstance(data, list) or not 1 <= len(data) <= _MOST or not all(isinstance(m, dict) for m in data):
        raise ValueError(f"{_MODULES}: expected a list of 1 to {_MOST} objects")
    steps = []
    for i, module in enumerate(data):
        kind, path = module.get("type"), module.get("path")
        step = kind.rsplit(".", 1)[-1] if isinstance(kind, str) and kind.startswith("sentence_transformers.") else None
        if step not in (*_STEPS, "CLIPModel"):
            raise ValueError(f"{_MODULES}: [{i}].type is {repr(kind)[:80]}, expected one of {', '.join(_STEPS)}")
        if not isinstance(path, str):
            raise ValueError(f"{_MODULES}: [{i}].path is {repr(path)[:80]}, expected text")
        if path:
            folder.check_name(path)
        steps.append((step, path))
    if steps[0][0] not in ("Transformer", "CLIPModel") or any(s in ("Transformer", "CLIPModel") for s, _ in steps[1:]):
        raise ValueError(f"{_MODULES}: expected a Transformer as the first step, and as no other")
    return steps


def apply_modules(folder, steps, plan, weights):
    """Adds pooling, heads, prompts and limits to the plan of the transformer, and the heads' tensors to the weights."""
    if plan.type != "text_encoder":
        raise ValueError(f"{_MODULES}: pooling over {plan.type}, expected a text encoder")
    pooling = [path for step, path in steps if step == "Pooling"]
    if len(pooling) != 1 or steps[1][0] != "Pooling":
        raise ValueError(f"{_MODULES}: expected one Pooling step, behind the Transformer")
    config, rows = plan.config, []
    config["heads"] = []
    with folder.sub(pooling[0]) as sub:
        config["pooling"], config["pool_prompt"] = _pooling(sub.json("config.json"), f"{pooling[0]}/config.json")
    for step, path in steps[2:]:
        where = f"{path}/config.json"
        if step == "Dense":
            with folder.sub(path) as sub:
                data = sub.json("config.json")
                file = "model.safetensors"
                weights.update(f"{path}/", map_tensors(file, opened=sub.open(file)))
            c = read(Dense, data, where)
            head = {"kind": "dense", "width": c.out_features, "bias": c.bias, "activation": _activation(data, where)}
            rows.append(f"heads.{len(config['heads'])}.*  {path}/linear.*")
        elif step == "LayerNorm":
            with folder.sub(path) as sub:
                weights.update(f"{path}/", map_tensors("model.safetensors", opened=sub.open("model.safetensors")))
            head = {"kind": "layer_norm"}
            rows.append(f"heads.{len(config['heads'])}.*  {path}/norm.*")
        elif step == "Normalize":
            head = {"kind": "normalize"}
        else:  # Dropout, which does nothing but in training
            continue
        config["heads"].append(head)
    plan.table.rows += KeyTable(*rows).rows
    plan.settings["step_configs"] = _configs(folder, steps)
    plan.settings.update(_settings(folder, steps[0][1]))


def _configs(folder, steps):
    """The configurations of the steps by sub-folder, to be written back."""
    found = {}
    for _, path in steps[1:]:
        if path in folder.names():
            with folder.sub(path) as sub:
                found[path] = sub.find_json("config.json") or {}
    return found


def _pooling(data, where):
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected an object")
    modes = data.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _FLAGS.items() if data.get(key) is True] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(isinstance(m, str) and m in _MODES for m in modes):
        raise ValueError(f"{where}: pooling_mode is {repr(modes)[:80]}, expected among {', '.join(_MODES)}")
    return [_MODES[m] for m in modes], data.get("include_prompt", True) is not False


def _activation(data, where):
    name = data.get("activation_function", "torch.nn.modules.activation.Tanh")
    word = name.rsplit(".", 1)[-1] if isinstance(name, str) else None
    if word not in _ACTIVATIONS:
        raise ValueError(
            f"{where}: activation_function is {repr(name)[:80]}, expected one of {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[word]


def _settings(folder, path):
    """Attributes of the model: most tokens, lower case, prompts, leading columns."""
    if path:
        with folder.sub(path) as sub:
            data = sub.find_json(LIMITS)
    else:
        data = folder.find_json(LIMITS)
    limits = read(Limits, data or {}, LIMITS)
    settings = {"max_seq_length": limits.max_seq_length, "lower": limits.do_lower_case}
    data = folder.find_json(SETTINGS) or {}
    read(Similarity, data, SETTINGS)
    found = {key: data[key] for key in NEW if data.get(key) is not None}
    return {**settings, **NEW, **check_settings(found, f"{SETTINGS}: ")}
