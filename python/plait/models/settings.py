"""What a model that reads texts is told beside its configuration: attributes that `encode` obeys and folders keep."""

from __future__ import annotations

import numpy as np

__all__ = ["NEW", "check_settings", "settings_of"]

# Of a new model; `max_tokens` is the length of its table of positions then.
NEW: dict = {"prompts": {}, "default_prompt_name": None, "truncate_dim": None}
_MOST = 1 << 24


def settings_of(model) -> dict:
    """The settings that a model has now, checked for saving; none for a model of pictures.

    Raises
    ------
    ValueError
        One of them is none; the message names the attribute.
    """
    names = [name for name in ("max_tokens", *NEW) if hasattr(model, name)]
    return check_settings({name: getattr(model, name) for name in names}, "save: model.")


def check_settings(values: dict, where: str) -> dict:
    """The same values, as JSON has them.

    Parameters
    ----------
    values : dict
        Some of ``max_tokens``, ``prompts``, ``default_prompt_name`` and ``truncate_dim``.
    where : str
        What messages begin with.
    """
    values = dict(values)
    for name in ("max_tokens", "truncate_dim"):
        value = values.get(name)
        if name not in values or (value is None and name == "truncate_dim"):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= _MOST:
            raise ValueError(f"{where}{name} is {repr(value)[:60]}, expected a whole number of at least 1")
        values[name] = int(value)
    prompts, default = values.get("prompts", {}), values.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(x, str) for pair in prompts.items() for x in pair):
        raise ValueError(f"{where}prompts is {repr(prompts)[:60]}, expected texts by their names")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        raise ValueError(f"{where}default_prompt_name is {repr(default)[:80]}, which is none of prompts")
    if "prompts" in values:
        values["prompts"] = dict(prompts)
    return values
