"""Tokenizer and image processor of a model as files of its folder, also where they came later than the folder."""

from __future__ import annotations

from plait.io import strictjson
from plait.models.settings import NEW, settings_of

__all__ = ["LIMITS", "PROCESSOR_FILES", "SETTINGS", "max_tokens", "pad_id", "reader_files"]

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
LIMITS, SETTINGS = "sentence_bert_config.json", "config_sentence_transformers.json"
_TOKENIZER = "tokenizer_config.json"
# Of a tokenizer, too, though plait reads others of its files.
_MORE = ("tokenizer.model", "bpe_simple_vocab_16e6.txt.gz")


def reader_files(model) -> tuple:
    """(files by name, configuration of the model) that are to be written, from what the model holds now.

    Raises
    ------
    TypeError, ValueError
        The files of that kind of folder cannot say it.
    """
    source = model.source
    files = dict(source.files)
    settings = settings_of(model)
    if source.plan.tokenizer is not None and model._later is None:
        _add_tokenizer(model._tokenizer, model, files)
    if "prompts" in settings:
        _add_prompts(settings, source, files)
    if source.plan.tokenizer is not None:
        _add_limit(settings, model, files)
    processor = getattr(model, "processor", None)
    if processor is source.processor:
        return files, source.config
    return files, _add_processor(processor, model, files)


def pad_id(data, default, vocabulary) -> int:
    """The id of the pad token: what ``tokenizer_config.json``, read or absent, says; else `default`."""
    data = data if isinstance(data, dict) else {}
    token = data.get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    added = data.get("added_tokens_decoder")
    for key, entry in (added if isinstance(added, dict) else {}).items():
        named = isinstance(token, str) and isinstance(entry, dict) and entry.get("content") == token
        if named and key.isascii() and key.isdigit() and len(key) < 9 and int(key) < vocabulary:
            return int(key)
    return default if default < vocabulary else 0


def max_tokens(read, configuration, length) -> int:
    """Most tokens of a text.

    Parameters
    ----------
    read : int or None
        ``max_seq_length`` of sentence-transformers, which goes before all else.
    configuration : object
        ``tokenizer_config.json``, or None.
    length : int
        Of the table of positions.
    """
    from plait.processing._tokenizer_families import longest

    if read is None and isinstance(configuration, dict):
        read = longest(configuration)
    return min(length, read or length)


def _add_prompts(settings, source, files):
    """Prompts and leading columns, where they are other ones than when the model was loaded."""
    now = {key: settings[key] for key in NEW}
    changed = [key for key, value in now.items() if value != source.plan.settings.get(key, NEW[key])]
    if not changed:
        return
    if source.steps is None:
        name = min(changed)
        raise ValueError(
            f"save: model.{name} is {repr(now[name])[:60]}, expected {NEW[name]!r}: only folders of "
            "sentence-transformers, and those of models that plait made, have a place for it"
        )
    data = {**strictjson.loads(files.get(SETTINGS, b"{}"), SETTINGS), **now}
    if now["truncate_dim"] is None:
        del data["truncate_dim"]
    files[SETTINGS] = strictjson.dumps(data, SETTINGS)


def _add_limit(settings, model, files):
    """The limit of tokens, where the files would give another one."""
    from plait.processing import Tokenizer

    length, ours = model.config.text.length, model.source.steps is not None
    data = {name: strictjson.loads(files.get(name, b"{}"), name) for name in (LIMITS, _TOKENIZER)}
    wanted, read = min(settings["max_tokens"], length), data[LIMITS].get("max_seq_length") if ours else None
    if wanted == max_tokens(read, data[_TOKENIZER], length) or not Tokenizer.is_in(files):
        return
    name, key = (LIMITS, "max_seq_length") if ours else (_TOKENIZER, "model_max_length")
    files[name] = strictjson.dumps({**data[name], key: wanted}, name)


def _add_tokenizer(tokenizer, model, files):
    """Puts a tokenizer in the place of that in the files."""
    from plait.processing import Tokenizer
    from plait.processing._tokenizer_families import FILES

    plan = model.source.plan
    lower = plan.settings.get("lower", False)
    if tokenizer is None:
        if Tokenizer.is_in(files):
            _remove(files, (*FILES, *_MORE))
        return
    if not isinstance(tokenizer, Tokenizer):
        raise TypeError(
            f"save: model.tokenizer is a {type(tokenizer).__name__}, which another library's folder has no place for; "
            "expected a plait.processing.Tokenizer or None"
        )
    try:
        new = tokenizer.files_for(plan.tokenizer)
    except ValueError as error:
        raise ValueError(f"save: model.tokenizer would not be read back as it is: {error}") from None
    if new == {name: files[name] for name in FILES if name in files} and tokenizer.lower == lower:
        return
    if tokenizer.lower != lower:
        if model.source.steps is None:
            raise ValueError(
                f"save: model.tokenizer has lower={tokenizer.lower}, expected {lower}: only folders of "
                "sentence-transformers say anything else"
            )
        limits = strictjson.loads(files.get(LIMITS, b"{}"), LIMITS)
        files[LIMITS] = strictjson.dumps({**limits, "do_lower_case": tokenizer.lower}, LIMITS)
    text = model.config.text
    if text.pad_id is not None:
        data = strictjson.loads(new.get(_TOKENIZER, b"{}"), _TOKENIZER)
        found = pad_id(data, model.source.pad_default, text.vocabulary)
        if found != text.pad_id:
            raise ValueError(
                f"save: model.tokenizer has the pad token {found}, expected {text.pad_id}, with which the model fills "
                "up its texts"
            )
    _remove(files, (*FILES, *_MORE))
    files.update(new)


def _add_processor(processor, model, files):
    """Puts an image processor in the place of that in the files; gives the configuration of the model."""
    from plait.processing import ImageProcessor

    config = model.source.config
    open_clip = config is not None and "model_cfg" in config
    if processor is None:
        _remove(files, PROCESSOR_FILES)
        return {k: v for k, v in config.items() if k != "preprocess_cfg"} if open_clip else config
    if not isinstance(processor, ImageProcessor):
        raise TypeError(
            f"save: model.processor is a {type(processor).__name__}, expected a plait.processing.ImageProcessor or None"
        )
    try:
        exact = False
        if open_clip:
            said = processor.to_open_clip()
            config = {**config, "preprocess_cfg": {**(config.get("preprocess_cfg") or {}), **said}}
            exact = processor.does_as(ImageProcessor.from_open_clip(said, model.config.image.size))
        if not exact or any(name in files for name in PROCESSOR_FILES):
            _write_config(processor.to_config(), files)
    except ValueError as error:
        raise ValueError(f"save: model.processor: {error}") from None
    return config


def _write_config(data, files):
    """Into the files that there are; ``preprocessor_config.json`` where there is none."""
    for name in [name for name in PROCESSOR_FILES if name in files] or PROCESSOR_FILES[:1]:
        old = strictjson.loads(files.get(name, b"{}"), name)
        if isinstance(old.get("image_processor"), dict):
            new = {**old, "image_processor": data}
        else:
            new = {**data, **{key: old[key] for key in ("processor_class",) if key in old}}
        files[name] = strictjson.dumps(new, name)


def _remove(files, names):
    for name in names:
        files.pop(name, None)
