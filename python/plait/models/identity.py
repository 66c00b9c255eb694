"""What tells one model from another: a short text that is kept beside the vectors it made."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np

__all__ = ["fingerprint"]

_WHOLE = 1 << 16  # bytes: tensors up to this size are read whole
_BLOCK, _BLOCKS = 1 << 12, 16  # of larger ones, these bytes at these many places
_PROCESSOR = ("resize", "mode", "crop", "max_edge", "resample", "mean", "std", "rescale", "fill", "centre")


def fingerprint(model) -> str:
    """A text that says which model it is, to keep beside vectors and to compare before they are mixed with others.

    Models that give different vectors have different fingerprints: it covers the configuration, every tensor, the
    tokenizer, the limit of tokens, the prompts, ``truncate_dim`` and the image processor. Where the folder lies, how
    its files are named and cut, and whether weights were stored as float16 or as the same values in float32 does not
    matter.

    It takes milliseconds, since of tensors above 64 KiB only sixteen pieces of 4 KiB are read, the first and the last
    ones included. Training, pruning or quantising a tensor changes all of it, so that shows; a few values that somebody
    changed by hand may not. It is there against mistakes: whoever wants to make two models of one fingerprint can.

    Parameters
    ----------
    model : DualEncoder, TextEncoder or ImageEncoder

    Returns
    -------
    str
        ``"plait1-"`` and 40 hexadecimal digits of a SHA-256.

    Raises
    ------
    TypeError
        It is none of these models.

    Examples
    --------
    >>> import plait
    >>> a, b = plait.create_model("glyph-tiny", seed=0), plait.create_model("glyph-tiny", seed=1)
    >>> plait.models.fingerprint(a) == plait.models.fingerprint(plait.create_model("glyph-tiny", seed=0))
    True
    >>> plait.models.fingerprint(a) == plait.models.fingerprint(b)
    False
    """
    from plait.models.registry import type_name

    about = {"type": type_name(model), "config": _plain(model.config), "image": _image(model), "text": _text(model)}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.shape}".encode())
        _add(digest, parameter.data)
    return f"plait1-{digest.hexdigest()[:40]}"


def _add(digest, array):
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if data.size <= _WHOLE:
        digest.update(data)
        return
    for place in range(_BLOCKS):
        start = (data.size - _BLOCK) * place // (_BLOCKS - 1)
        digest.update(data[start : start + _BLOCK])


def _plain(config):
    """What differs from the defaults: a key that a later version adds must not change the fingerprints of today."""
    if not dataclasses.is_dataclass(config):
        return [_plain(value) for value in config] if isinstance(config, tuple) else config
    values = {field.name: (getattr(config, field.name), field.default) for field in dataclasses.fields(config)}
    return {name: _plain(value) for name, (value, default) in values.items() if value != default}


def _image(model):
    processor = getattr(model, "processor", None)
    if processor is None:
        return None
    # What it does, and not the file that said so, which has many spellings.
    return [getattr(processor, f"_{name}") for name in _PROCESSOR]


def _text(model):
    if not hasattr(model, "tokenizer"):
        return None
    prompts = (getattr(model, "prompts", None), getattr(model, "default_prompt_name", None))
    about = [model.max_tokens, *prompts, _tokenizer(model)]
    columns = getattr(model, "truncate_dim", None)
    return about if columns is None else [*about, int(columns)]


def _tokenizer(model):
    """Digests of its files, or of what it would save; a tokenizer that was not needed yet is not made for it."""
    later, made = model._later, model._tokenizer
    if later is not None:
        folder, family, lower = later
        files = folder.files
    elif hasattr(made, "files"):
        files, family, lower = made.files, made._family, made._lower
    elif hasattr(made, "to_json"):
        return hashlib.sha256(json.dumps(made.to_json(), sort_keys=True).encode()).hexdigest()
    else:
        return made if made is None else type(made).__qualname__
    from plait.processing import Tokenizer
    from plait.processing._tokenizer_families import FILES

    if not Tokenizer.is_in(files):
        return None  # there is no tokenizer in the folder
    return [family, bool(lower), {name: hashlib.sha256(files[name]).hexdigest() for name in FILES if name in files}]
