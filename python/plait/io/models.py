"""A model in a folder: ``config.json`` with a closed schema, ``model.safetensors``, and ``tokenizer.json`` if any.

All three are data. The type of a model is looked up in a table of this library, and nothing is built before the
configuration and the header of the weights were found to fit each other.
"""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

from . import strictjson
from .files import atomic_folder, read_file
from .schema import unparse
from .tensors import load_tensors, read_header, save_tensors

__all__ = ["load_model", "save_model"]

_FORMAT, _VERSION = "plait", 1
_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_MAX_CONFIG = 1 << 20
_MAX_TOKENIZER = 64 << 20
_SLACK = 16 << 20  # parameters that a configuration may ask for beyond those in the file, until names are compared
_FLOATS = ("F64", "F32", "F16", "BF16")


class TensorNameError(KeyError):
    """The weights and the model have different tensors. A KeyError whose text is its message, not the repr of it."""

    def __str__(self):
        return str(self.args[0]) if self.args else ""


def save_model(model, folder) -> None:
    """Writes a model to a folder, whole or not at all.

    Parameters
    ----------
    model : Module
        Of ``plait.create_model`` or ``plait.load``.
    folder : path-like
        An existing model there is replaced in one step.

    Raises
    ------
    TypeError
        The model has no configuration.
    FileExistsError
        The folder holds other files, which would be lost.

    Examples
    --------
    >>> import plait, tempfile
    >>> model = plait.create_model("glyph-tiny")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(folder)
    ...     again = plait.load(folder)
    >>> bool((again.logit_scale.data == model.logit_scale.data).all())
    True
    """
    from plait.models.registry import type_name

    config = {"format": _FORMAT, "version": _VERSION, "type": type_name(model), "config": unparse(model.config)}
    tokenizer = getattr(model, "tokenizer", None)
    with atomic_folder(folder, replaces=(_CONFIG, _WEIGHTS, _TOKENIZER)) as new:
        (new / _CONFIG).write_bytes(strictjson.dumps(config, _CONFIG))
        save_tensors(new / _WEIGHTS, model.state_dict())
        if tokenizer is not None:
            (new / _TOKENIZER).write_bytes(strictjson.dumps(tokenizer.to_json(), _TOKENIZER))


def load_model(folder):
    """Reads the model that ``save_model`` wrote; also known as ``plait.load``.

    The result is in evaluation mode; call ``.train()`` to go on training.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    Module

    Raises
    ------
    FileNotFoundError
        The folder, ``config.json`` or ``model.safetensors`` is missing.
    KeyError
        The weights lack a tensor of the model, or hold one that it does not have.
    ValueError
        Anything else that does not fit; the message names the file and the key or tensor.

    Examples
    --------
    >>> import os, plait, tempfile
    >>> model = plait.create_model("glyph-tiny", seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(os.path.join(folder, "model"))
    ...     again = plait.load(os.path.join(folder, "model"))
    >>> bool((again.logit_scale.data == model.logit_scale.data).all()), again.training
    (True, False)
    """
    from plait.models.registry import build, parse_config
    from plait.nn import init

    with _opened(folder) as fd:
        model_type, config = _read_config(fd, parse_config)
        infos = read_header(_WEIGHTS, fd)
        held, due = sum(math.prod(i.shape) for i in infos.values()), config.count_parameters()
        if due > held + _SLACK:
            raise ValueError(f"{_WEIGHTS} holds {held:,} values, but {_CONFIG} describes a model of {due:,}")
        with init.blank():
            model = build(model_type, config)
        _compare(infos, model.state_dict())
        model.load_state_dict(load_tensors(_WEIGHTS, fd))
        with contextlib.suppress(FileNotFoundError):
            data = read_file(_TOKENIZER, _MAX_TOKENIZER, fd)
            model.tokenizer = _tokenizer(strictjson.loads(data, _TOKENIZER))
    return model.eval()


@contextlib.contextmanager
def _opened(folder):
    # Files are opened relative to one descriptor, so that all are of the same model if another one is saved meanwhile.
    path = Path(folder)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such folder") from None
    except NotADirectoryError:
        raise ValueError(f"{path}: expected the folder of a model, got a file") from None
    try:
        yield fd
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: {error.filename or error} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except KeyError as error:
        raise TensorNameError(f"{path}: {error.args[0]}") from None
    finally:
        os.close(fd)


def _read_config(fd, parse_config):
    data = strictjson.loads(read_file(_CONFIG, _MAX_CONFIG, fd), _CONFIG)
    if not isinstance(data, dict):
        raise ValueError(f"{_CONFIG}: expected an object")
    for key in ("format", "version", "type", "config"):
        if key not in data:
            raise ValueError(f"{_CONFIG}: {key} is missing")
    unknown = sorted(set(data) - {"format", "version", "type", "config"})
    if unknown:
        raise ValueError(f"{_CONFIG}: {unknown[0]} is unknown, expected format, version, type and config")
    check_version(data, _CONFIG)
    return data["type"], parse_config(data["type"], data["config"])


def check_version(data, where):
    """Refuses a configuration of another format or version; `where` begins the message."""
    form, version = data.get("format", _FORMAT), data.get("version", _VERSION)
    if form != _FORMAT:
        raise ValueError(f"{where}: format is {repr(form)[:60]}, expected {_FORMAT!r}")
    if isinstance(version, bool) or version != _VERSION:
        raise ValueError(f"{where}: version is {repr(version)[:60]}, expected {_VERSION}")


def _compare(infos, own):
    missing = [name for name in own if name not in infos]
    if missing:
        raise TensorNameError(f"{_WEIGHTS}: tensor {missing[0]} is missing{_more(missing)}")
    extra = [name for name in infos if name not in own]
    if extra:
        raise TensorNameError(f"{_WEIGHTS}: tensor {extra[0]} is not part of the model{_more(extra)}")
    for name, info in infos.items():
        if info.shape != own[name].shape:
            raise ValueError(f"{_WEIGHTS}: {name} has shape {info.shape}, expected {own[name].shape}")
        if own[name].dtype.kind == "f" and info.dtype not in _FLOATS:
            raise ValueError(f"{_WEIGHTS}: {name} has dtype {info.dtype}, expected one of {', '.join(_FLOATS)}")


def _more(names):
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _tokenizer(data):
    from plait.data.words import WordTokenizer

    types = {"words": WordTokenizer}
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in types:
        raise ValueError(f"{_TOKENIZER}: type is {repr(kind)[:60]}, expected one of {', '.join(types)}")
    try:
        return types[kind].from_json(data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{_TOKENIZER}: {error}") from None
