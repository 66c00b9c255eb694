"""Special and added tokens of a folder: several files name them, one before the other."""

from __future__ import annotations

import dataclasses

from . import _tokenizer_json as schema

__all__ = ["Added", "read_object", "special_tokens"]

_CONFIG, _MAP, _ADDED, _JSON = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"
)  # fmt: skip
_MAX_ADDED = 1 << 17


@dataclasses.dataclass(frozen=True)
class Added:
    """A token that is found in the text before the text is cut."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True


def read_object(files: dict, name: str) -> dict:
    """The object of a JSON file, empty where there is no such file."""
    return schema.load(files[name], name) if name in files else {}


def special_tokens(files: dict, config: dict, defaults: dict, data) -> tuple:
    """(contents by name, added tokens in the order of their ids).

    Parameters
    ----------
    files : dict
    config : dict
        ``tokenizer_config.json``. If it lists added tokens, the other files are not asked.
    defaults : dict
        Contents by name, where no file says anything else.
    data : dict or None
        ``tokenizer.json``.
    """
    names = {key: Added(content) for key, content in defaults.items()}
    extra: list = []
    _take(config, names, extra, _CONFIG)
    if config.get("added_tokens_decoder") is not None:
        known = _decoder(config["added_tokens_decoder"])
    else:
        _take(read_object(files, _MAP), names, extra, _MAP)
        special = {token.content for token in [*names.values(), *extra]}
        known = {}
        for content, index in read_object(files, _ADDED).items():
            known[_id(index, f"{_ADDED}: {schema.short(content)}")] = _added(content, _ADDED, content in special)
        for token in schema.added_tokens(data, _JSON) if data else []:
            known[token["id"]] = _added(token, _JSON, False)
    special = {token.content for token in names.values()}
    ordered = {}
    for _, token in sorted(known.items()):
        ordered[token.content] = dataclasses.replace(token, special=token.special or token.content in special)
    for token in [*names.values(), *extra]:
        ordered.setdefault(token.content, token)
    if len(ordered) > _MAX_ADDED:
        raise ValueError(f"{_CONFIG}: more than {_MAX_ADDED} added tokens")
    return {key: token.content for key, token in names.items()}, list(ordered.values())


def _take(data, names, extra, where):
    """Adds what a configuration says: keys such as ``pad_token``, and lists of more."""
    for key, value in data.items():
        if key.endswith("_token") and value is None:
            names.pop(key, None)
        elif key.endswith("_token") and not isinstance(value, bool):  # add_bos_token is no token
            names[key] = _added(value, f"{where}: {key}", True)
    listed = data.get("extra_special_tokens") or data.get("additional_special_tokens") or []
    if isinstance(listed, dict):
        for key, value in listed.items():
            names[key] = _added(value, f"{where}: {key}", True)
    elif isinstance(listed, list):
        extra += [_added(value, f"{where}: extra_special_tokens", True) for value in listed]
    else:
        raise ValueError(f"{where}: extra_special_tokens is {schema.short(listed)}, expected a list")


def _added(value, where, special):
    """A token from a string, or from an object whose flags may be absent."""
    if isinstance(value, str):
        value = {"content": value}
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, str) or not 1 <= len(content) <= 1024:
        raise ValueError(f"{where} is {schema.short(value)}, expected a token of 1 to 1024 characters")
    flags = {field.name: value.get(field.name) for field in dataclasses.fields(Added)[1:]}
    for key, flag in flags.items():
        if flag is not None and not isinstance(flag, bool):
            raise ValueError(f"{where}: {key} is {schema.short(flag)}, expected true or false")
    if flags["special"] is None:
        flags["special"] = special
    if flags["normalized"] is None:
        flags["normalized"] = not flags["special"]
    return Added(content, **{key: bool(flag) for key, flag in flags.items()})


def _decoder(listed):
    if not isinstance(listed, dict):
        raise ValueError(f"{_CONFIG}: added_tokens_decoder is {schema.short(listed)}, expected an object")
    known = {}
    for key, value in listed.items():
        where = f"{_CONFIG}: added_tokens_decoder.{schema.short(key)}"
        known[_id(int(key) if key.isascii() and key.isdigit() else key, where)] = _added(value, where, False)
    return known


def _id(value, where):
    if type(value) is not int or not 0 <= value < schema.MAX_IDS:
        raise ValueError(f"{where} has id {schema.short(value)}, expected 0 to {schema.MAX_IDS - 1}")
    return value
