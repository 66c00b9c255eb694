"""A model in a folder: ``config.json`` with a closed schema, ``model.safetensors``, and what it reads input with.

All of it is data. The type of a model is looked up in a table of this library, and nothing is built before the
configuration and the header of the weights were found to fit each other. Checkpoints of other libraries go through
``plait.models.pretrained``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from typing import NamedTuple

from . import strictjson
from .files import atomic_folder
from .folder import Folder
from .schema import unparse
from .tensors import map_tensors, save_tensors

__all__ = ["LoadReport", "load_model", "save_model"]

_FORMAT, _VERSION = "plait", 1
_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
_PROCESSOR, _SETTINGS = "preprocessor_config.json", "settings.json"
_MAX_CONFIG = 1 << 20
_MAX_TOKENIZER = 64 << 20
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # names of models that others know
_SLACK = 16 << 20  # parameters that a configuration may ask for beyond those in the file, until names are compared


class TensorNameError(KeyError):
    """The weights and the model have different tensors. A KeyError whose text is its message, not the repr of it."""

    def __str__(self):
        return str(self.args[0]) if self.args else ""


class LoadReport(NamedTuple):
    """What ``plait.load(folder, strict=False)`` could not take.

    Attributes
    ----------
    missing : list of str
        Tensors that the model begins anew with, by their names in the file; those of another shape among them.
    unexpected : list of str
        Tensors of the file that the model has no place for.
    mismatched : dict of str to (tuple, tuple)
        Those of `missing` that the file has in another shape: the shape there, and that of the model.

    Examples
    --------
    >>> import os, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plait.create_model("glyph-tiny").save(folder)
    ...     tensors = plait.io.load_tensors(os.path.join(folder, "model.safetensors"))
    ...     tensors["text.positions"] = tensors["text.positions"][:5]
    ...     plait.io.save_tensors(os.path.join(folder, "model.safetensors"), tensors)
    ...     model, report = plait.load(folder, strict=False)
    >>> report
    LoadReport(missing=['text.positions'], unexpected=[], mismatched={'text.positions': ((5, 96), (32, 96))})
    """

    missing: list
    unexpected: list
    mismatched: dict


def log_report(report) -> None:
    """Says it in the log."""
    log = logging.getLogger("plait")
    odd = [f"{name} {theirs} where the model has {ours}" for name, (theirs, ours) in report.mismatched.items()]
    missing = [name for name in report.missing if name not in report.mismatched]
    for what, names in (("missing, so drawn anew", missing), ("of another shape, so drawn anew", odd)):
        if names:
            log.warning("%s: %s", what, ", ".join(names))
    if report.unexpected:
        log.warning("left over, so not used: %s", ", ".join(report.unexpected))


def save_model(model, folder) -> None:
    """Writes a model to a folder, whole or not at all.

    A model that came from another library's checkpoint is written in the layout of that, as float32, for that library
    to load; others in plait's own. Tokenizer, image processor, ``max_tokens``, prompts and ``truncate_dim`` are those
    that the model holds now.

    Parameters
    ----------
    model : Module
        Of ``plait.create_model`` or ``plait.load``.
    folder : path-like
        An existing model there is replaced in one step.

    Raises
    ------
    TypeError, ValueError
        The model has no configuration; or its tokenizer, image processor or prompts are such as the folder has no place
        for. Nothing is written then.
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
    from plait.models.pretrained.source import save_pretrained
    from plait.models.registry import type_name
    from plait.models.settings import settings_of

    if getattr(model, "source", None) is not None:
        save_pretrained(model, folder)
        return
    config = {"format": _FORMAT, "version": _VERSION, "type": type_name(model), "config": unparse(model.config)}
    tokenizer, processor = getattr(model, "tokenizer", None), getattr(model, "processor", None)
    if tokenizer is not None and not hasattr(tokenizer, "to_json"):
        raise TypeError(
            f"save: model.tokenizer is a {type(tokenizer).__name__}, which plait's own folders have no place for; "
            "expected a plait.data.WordTokenizer or None"
        )
    if processor is not None and not hasattr(processor, "to_config"):
        raise TypeError(
            f"save: model.processor is a {type(processor).__name__}, expected a plait.processing.ImageProcessor or None"
        )
    pictures = None if processor is None else strictjson.dumps(processor.to_config(), _PROCESSOR)
    usual = _usual(model)
    settings = {name: value for name, value in settings_of(model).items() if value != usual[name]}
    with atomic_folder(folder, replaces=(_CONFIG, _WEIGHTS, _TOKENIZER, _PROCESSOR, _SETTINGS)) as new:
        (new / _CONFIG).write_bytes(strictjson.dumps(config, _CONFIG))
        save_tensors(new / _WEIGHTS, model.state_dict())
        if tokenizer is not None:
            (new / _TOKENIZER).write_bytes(strictjson.dumps(tokenizer.to_json(), _TOKENIZER))
        if pictures is not None:
            (new / _PROCESSOR).write_bytes(pictures)
        if settings:
            (new / _SETTINGS).write_bytes(strictjson.dumps(settings, _SETTINGS))


def load_model(folder, strict: bool = True, image_size: int | None = None, seed: int = 0):
    """Reads a model from a folder; also known as ``plait.load``.

    The folder is one that ``model.save`` wrote, or a checkpoint of another library as its hub or ``save_pretrained``
    lays it out: transformers (CLIP, SigLIP, SigLIP 2, BERT, RoBERTa, DistilBERT, MPNet, the text side of CLAP, ViT,
    DINOv2), sentence-transformers, open_clip, or a file with the names of the original CLIP. docs/checkpoints.md lists
    them with how exact they are. Weights are mapped and not read: what is never used costs nothing, and processes share
    it. Copied are tensors in another form than plait computes with: float16 and bfloat16, and queries, keys and values
    that are three tensors in the file and one here, as transformers writes them (123 MB of the 605 MB of CLIP
    ViT-B/32). What oneDNN packs of the weights at the first use is each process's own, too.

    The result is in evaluation mode; call ``.train()`` to go on training. Nothing that comes with a model is run: files
    are JSON and safetensors, and others are refused.

    Parameters
    ----------
    folder : path-like
    strict : bool
        Whether missing and unexpected tensors and other shapes than the configuration says are an error. With False
        what fits is taken, and the rest of the model begins as that of a new one; it is logged and returned.
    image_size : int, optional
        Pictures of another size than the model was trained with: its positions are interpolated (bicubic), and the
        image processor makes pictures of this size.
    seed : int
        Of tensors that are missing.

    Returns
    -------
    Module, or (Module, LoadReport) where `strict` is False
        A ``DualEncoder``, ``TextEncoder`` or ``ImageEncoder``.

    Raises
    ------
    FileNotFoundError
        The folder, its configuration or its weights are missing.
    TypeError
        `folder` is no path.
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
    from plait.models.pretrained.load import load_pretrained

    _check_folder(folder)
    with _explained(folder), Folder(folder) as found:
        config = found.find_json(_CONFIG, _MAX_CONFIG)
        if isinstance(config, dict) and "model_type" not in config and ("format" in config or "type" in config):
            if image_size is not None:
                raise ValueError("image_size is for checkpoints of other libraries")
            model, result = _load_own(found, config, strict, seed)
        else:
            model, result = load_pretrained(found, strict, image_size, seed)
    return model if strict else (model, result)


def _check_folder(folder):
    """Refuses what is no path, and says how to get a model whose name on a hub was given."""
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"load: folder is {type(folder).__name__}, expected the path of a model's folder")
    name = os.fspath(folder)
    if not os.path.exists(name):
        get, where = (name, name.split("/")[1]) if _HUB.fullmatch(str(name)) else ("OWNER/NAME", "NAME")
        raise FileNotFoundError(
            f"{name}: no such folder. plait reads models from folders and downloads nothing; one from the Hugging Face "
            f"hub comes with: pip install huggingface_hub && hf download {get} --local-dir {where}"
        )


def _load_own(folder, config, strict, seed):
    from plait.models.registry import build, parse_config
    from plait.nn import init

    model_type, config = _read_config(config, parse_config)
    arrays = map_tensors(_WEIGHTS, opened=folder.open(_WEIGHTS))
    held, due = sum(a.size for a in arrays.values()), config.count_parameters()
    if due > held + _SLACK:
        raise ValueError(f"{_WEIGHTS} holds {held:,} values, but {_CONFIG} describes a model of {due:,}")
    with init.hollow():
        model = build(model_type, config)
    own = model.state_dict()
    missing, extra = [n for n in own if n not in arrays], [n for n in arrays if n not in own]
    if strict:
        _refuse(missing, extra)
    mismatched = {}
    for name in [name for name in own if name in arrays]:
        if arrays[name].shape != own[name].shape:
            if not strict:
                mismatched[name] = (arrays.pop(name).shape, own[name].shape)
                continue
            raise ValueError(f"{_WEIGHTS}: {name} has shape {arrays[name].shape}, expected {own[name].shape}")
        if own[name].dtype.kind == "f" and arrays[name].dtype.kind not in "fV":
            raise ValueError(f"{_WEIGHTS}: {name} has dtype {arrays[name].dtype}, expected a floating dtype")
    missing = [name for name in own if name not in arrays]
    if missing:
        with init.seeded(seed):
            model = build(model_type, config)
    for name, target in (*model.named_parameters(), *model.named_buffers()):
        if name in arrays:
            (target.adopt if hasattr(target, "adopt") else target.assign)(arrays[name])
    data = folder.find_json(_TOKENIZER, _MAX_TOKENIZER)
    if data is not None:
        model.tokenizer = _tokenizer(data)
    data = folder.find_json(_PROCESSOR)
    if data is not None:
        from plait.processing import ImageProcessor

        model.processor = ImageProcessor.from_config(data)
    _set(model, folder.find_json(_SETTINGS, _MAX_CONFIG))
    report = LoadReport(missing, extra, mismatched)
    log_report(report)
    return model.eval(), report


def _usual(model) -> dict:
    """The settings of a new model, by their names; none where it reads no texts."""
    from plait.models.settings import NEW

    new = {"max_tokens": model.config.text.length, **NEW} if hasattr(model, "max_tokens") else {}
    return {name: value for name, value in new.items() if hasattr(model, name)}


def _set(model, data):
    from plait.models.settings import check_settings

    if data is None:
        return
    if not isinstance(data, dict):
        raise ValueError(f"{_SETTINGS}: expected an object")
    usual = _usual(model)
    unknown = sorted(set(data) - set(usual))
    if unknown:
        raise ValueError(f"{_SETTINGS}: {unknown[0]} is unknown, expected some of {', '.join(usual) or 'none'}")
    for name, value in check_settings(data, f"{_SETTINGS}: ").items():
        setattr(model, name, value)


@contextlib.contextmanager
def _explained(folder):
    """Errors that begin with the folder."""
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None:  # the folder itself
            raise
        raise FileNotFoundError(f"{folder}: {error.filename} is missing") from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(folder)) else f"{folder}: {text}") from None
    except KeyError as error:
        raise TensorNameError(f"{folder}: {error.args[0]}") from None


def _read_config(data, parse_config):
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


def _refuse(missing, extra):
    if missing:
        raise TensorNameError(f"{_WEIGHTS}: tensor {missing[0]} is missing{more(missing)}")
    if extra:
        raise TensorNameError(f"{_WEIGHTS}: tensor {extra[0]} is not part of the model{more(extra)}")


def more(names):
    """How many there are beside the first, for messages."""
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
