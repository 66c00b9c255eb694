"""Models by name: an architecture is a JSON file in ``configs/``, its class comes from the table below."""

from __future__ import annotations

import functools
import os
from importlib import resources

from plait.io import strictjson
from plait.io.files import read_file
from plait.io.models import check_version
from plait.io.schema import parse
from plait.models.config import DualEncoderConfig, ImageEncoderConfig, TextEncoderConfig
from plait.models.dual_encoder import DualEncoder
from plait.models.encoders import ImageEncoder, TextEncoder
from plait.nn import init

__all__ = ["create_model", "get_config", "list_models"]

# The only way from a word in a file to a class.
_TYPES = {
    "dual_encoder": (DualEncoderConfig, DualEncoder),
    "image_encoder": (ImageEncoderConfig, ImageEncoder),
    "text_encoder": (TextEncoderConfig, TextEncoder),
}


def list_models() -> list:
    """Names that ``create_model`` knows.

    Examples
    --------
    >>> import plait
    >>> plait.list_models()
    ['glyph-tiny', 'vit-b-32']
    """
    return sorted(_configs())


def get_config(name: str) -> dict:
    """The configuration of a name, to look at or to change: ``{"type": ..., "description": ..., "config": {...}}``.

    Examples
    --------
    >>> import plait
    >>> config = plait.models.get_config("glyph-tiny")
    >>> config["config"]["text"]["vocabulary"] = 1000
    >>> model = plait.create_model(config)
    """
    configs = _configs()
    if name not in configs:
        raise ValueError(f"{name!r} is no model, expected one of {', '.join(sorted(configs))}")
    return strictjson.loads(configs[name], f"{name}.json")


def create_model(name_or_config, seed: int = 0):
    """Makes a model with initial weights.

    Parameters
    ----------
    name_or_config : str, path-like or dict
        A name of ``list_models()``, a path that ends in ``.json``, or a dict with ``type`` and ``config``.
        What the ``config.json`` of a saved model has beside them, ``format`` and ``version``, may be there.
    seed : int
        Of the initial weights.

    Returns
    -------
    Module
        In training mode.

    Raises
    ------
    ValueError
        The name is unknown (the message lists the known ones), or the configuration does not fit its schema.

    Examples
    --------
    >>> import plait
    >>> plait.create_model("glyph-tiny", seed=1).config.image.size
    32
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"create_model: seed is {seed!r}, expected a whole number of at least 0")
    config = name_or_config
    if isinstance(config, str) and not config.endswith(".json"):
        config = get_config(config)
    elif isinstance(config, (str, os.PathLike)):
        config = strictjson.loads(read_file(config, 1 << 20), str(config))
    if not isinstance(config, dict):
        raise TypeError(f"create_model: got {type(name_or_config).__name__}, expected a name, a path or a dict")
    # format and version: the config.json of a saved model is welcome too.
    unknown = [key for key in config if key not in ("type", "config", "description", "format", "version")]
    missing = [key for key in ("type", "config") if key not in config]
    if unknown or missing:
        problem = f"{unknown[0]} is unknown" if unknown else f"{missing[0]} is missing"
        raise ValueError(f"create_model: {problem}, expected type and config")
    check_version(config, "create_model")
    parsed = parse_config(config["type"], config["config"])
    with init.seeded(seed):
        return build(config["type"], parsed)


def parse_config(model_type, data):
    """Checks a configuration and gives it as the dataclass of its type."""
    if not isinstance(model_type, str) or model_type not in _TYPES:
        raise ValueError(f"type is {repr(model_type)[:60]}, expected one of {', '.join(_TYPES)}")
    return parse(_TYPES[model_type][0], data)


def build(model_type: str, config):
    """The model of a checked configuration."""
    return _TYPES[model_type][1](config)


def type_name(model) -> str:
    """The word for the class of a model in files."""
    for name, (_, cls) in _TYPES.items():
        if type(model) is cls:
            return name
    raise TypeError(
        f"save: {type(model).__name__} has no configuration, only models of plait.create_model do; "
        "plait.io.save_tensors writes the weights of any module"
    )


@functools.cache
def _configs():
    folder = resources.files("plait.models") / "configs"
    return {f.name[:-5]: f.read_bytes() for f in folder.iterdir() if f.name.endswith(".json")}
