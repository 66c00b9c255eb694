"""Reads a folder of another library: recognises it, makes our model, fills it with the file's tensors."""

from __future__ import annotations

import logging
import math

from plait.io import strictjson
from plait.io.folder import Folder, HeldFolder
from plait.nn import init

from . import bert, clip, open_clip, siglip, vit
from .fields import refuse_code
from .keys import ShapeError, floats
from .readers import PROCESSOR_FILES, SETTINGS, max_tokens, pad_id
from .sentence import apply_modules, modules_of
from .source import Source
from .weights import find_weights

__all__ = ["FAMILIES", "load_pretrained"]

log = logging.getLogger("plait")

# The only way from a word in a file to code: model_type of config.json.
FAMILIES = {
    "clip": clip.clip,
    "clip_text_model": clip.clip_text,
    "clip_vision_model": clip.clip_vision,
    "siglip": siglip.siglip,
    "siglip2": siglip.siglip,
    "siglip_text_model": siglip.siglip_text,
    "siglip2_text_model": siglip.siglip_text,
    "siglip_vision_model": siglip.siglip_vision,
    "siglip2_vision_model": siglip.siglip_vision,
    "bert": bert.bert,
    "roberta": bert.roberta,
    "xlm-roberta": bert.roberta,
    "camembert": bert.roberta,
    "distilbert": bert.distilbert,
    "mpnet": bert.mpnet,
    "clap": bert.clap,
    "clap_text_model": bert.clap,
    "vit": vit.vit,
    "dinov2": vit.dinov2,
    "dinov2_with_registers": vit.dinov2,
}
_OPEN_CLIP = "open_clip_config.json"
# Files that are kept in memory, to make tokenizer and image processor of, and to be written back; bytes at most.
_KEPT = {
    "tokenizer.json": 64 << 20,
    "vocab.json": 64 << 20,
    "merges.txt": 64 << 20,
    "vocab.txt": 64 << 20,
    "spiece.model": 64 << 20,
    "sentencepiece.bpe.model": 64 << 20,
    "tokenizer.model": 64 << 20,
    "tokenizer_config.json": 4 << 20,
    "special_tokens_map.json": 1 << 20,
    "added_tokens.json": 4 << 20,
    "preprocessor_config.json": 1 << 20,
    "processor_config.json": 1 << 20,
    "sentence_bert_config.json": 1 << 20,
    "config_sentence_transformers.json": 1 << 20,
    "modules.json": 1 << 20,
    "bpe_simple_vocab_16e6.txt.gz": 4 << 20,
}
_SLACK = 4 << 20  # parameters that a configuration may ask for beyond those in the file, until names are compared


class _Side:
    """The small files of a folder."""

    def __init__(self, folder):
        self.files, self.pad_default = {}, 0
        for name, limit in _KEPT.items():
            data = folder.find(name, limit)
            if data is not None:
                self.files[name] = data
        self.held = HeldFolder(folder.path, self.files)

    def pad_id(self, default, vocabulary):
        """The id of the pad token: what the tokenizer's configuration says, else `default`."""
        self.pad_default = default
        return pad_id(self.held.find_json("tokenizer_config.json"), default, vocabulary)


def load_pretrained(folder: Folder, strict: bool = True, image_size: int | None = None, seed: int = 0):
    """The model of a folder and what did not fit, see ``plait.load``.

    Returns
    -------
    model : Module
    report : LoadReport
    """
    steps = modules_of(folder)
    if steps is not None and steps[0][0] == "CLIPModel":
        with folder.sub(steps[0][1]) as sub:
            if modules_of(sub) is not None:
                raise ValueError(f"{steps[0][1]}: a modules.json inside a CLIPModel, expected a model")
            told = folder.find_json(SETTINGS) or {}
            for key in ("truncate_dim", "default_prompt_name"):
                if isinstance(told, dict) and told.get(key) is not None:
                    log.warning("%s: %s is for encode of one kind of input, and not used here", SETTINGS, key)
            return load_pretrained(sub, strict, image_size, seed)
    path = steps[0][1] if steps else ""
    if path:
        with folder.sub(path) as sub:
            config, side, weights = _files(sub)
        for name, data in _Side(folder).files.items():
            side.files.setdefault(name, data)
    else:
        config, side, weights = _files(folder)
    plan = _plan(config, weights, side)
    if steps is not None:
        apply_modules(folder, steps, plan, weights)
    if image_size is not None:
        _set_size(plan, image_size)
    model, report, source = _build(plan, weights, strict, seed)
    source.config, source.files, source.steps, source.pad_default = config, side.files, steps, side.pad_default
    model.source = source
    _attach(model, plan, side, image_size)
    source.processor = getattr(model, "processor", None)
    return model.eval(), report


def _files(folder):
    config, other = (_object(folder, name) for name in ("config.json", _OPEN_CLIP))
    # open_clip's folders may hold a config.json for the hub that says nothing about the model.
    if other and not (config and config.get("model_type") and "model.safetensors" in folder.names()):
        config = other
    return config, _Side(folder), find_weights(folder)


def _object(folder, name):
    data = folder.find_json(name)
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"{name}: expected an object")
    return data


def _plan(config, weights, side):
    if config is None:
        if "visual.conv1.weight" in weights or "visual.layer1.0.conv1.weight" in weights:
            return open_clip.openai(weights, side)
        raise FileNotFoundError(2, "no such file", "config.json")
    refuse_code(config, "config")
    if "model_cfg" in config:
        return open_clip.open_clip(config, weights, side)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"config.model_type is {repr(kind)[:60]}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[kind](config, weights, side)


def _build(plan, weights, strict, seed):
    from plait.io.models import LoadReport, TensorNameError, log_report, more
    from plait.models.registry import build, parse_config

    config = parse_config(plan.type, plan.config)
    due = config.count_parameters()
    if due > weights.size + _SLACK:
        raise ValueError(f"{weights.files[0]} holds {weights.size:,} values, but the configuration describes {due:,}")
    with init.hollow():
        model = build(plan.type, config)
    own = dict(model.named_parameters())
    prefix = plan.prefix(own, weights)
    entries = {name: plan.table.find(name, prefix) for name in own}
    left = {n: _absent(n, e, weights) for n, e in entries.items()}  # what the file has not for each of ours
    if strict and any(left.values()):
        raise TensorNameError(f"{weights.files[0]}: tensor {_some(left)[0]} is missing{more(_some(left))}")
    used = {name for n, e in entries.items() if not left[n] for name in e.names}
    extras = [name for name in weights if name not in used]
    # One without values (registers, of which there are none) has nothing to say.
    unexpected = [name for name in extras if weights[name].size and not plan.is_ignored(name, prefix)]
    if strict and unexpected:
        raise TensorNameError(f"{weights.files[0]}: tensor {unexpected[0]} is not part of the model{more(unexpected)}")
    arrays, mismatched = {}, {}
    for name, entry in entries.items():
        if not left[name]:
            try:
                arrays[name] = _taken(name, entry, weights, plan, config, own[name].shape)
                own[name].adopt(arrays[name])
            except ShapeError as error:
                if strict:
                    raise ValueError(f"{weights.files[0]}: {error}") from None
                left[name] = list(entry.names)
                mismatched.update({n: (weights[n].shape, due) for n, due in entry.shapes(own[name].data).items()})
            except ValueError as error:
                raise ValueError(f"{weights.files[0]}: {error}") from None
    report = LoadReport(_some(left), unexpected, mismatched)
    if report.missing:  # they begin as those of a new model
        with init.seeded(seed):
            model = build(plan.type, config)
        own = dict(model.named_parameters())
        for name, array in arrays.items():
            own[name].adopt(array)
    log_report(report)
    used -= mismatched.keys()
    shapes = {name: weights[name].shape for name in used}
    dtypes = {name: weights[name].dtype for name in used}
    source = Source(plan, prefix, shapes, dtypes, {name: weights[name] for name in extras})
    return model, report, source


def _absent(name, entry, weights):
    """Names of the file's tensors that one of ours is made of, and that are not there; ours where no table has it."""
    return [name] if entry is None else [n for n in entry.names if n not in weights]


def _some(left):
    return list(dict.fromkeys(name for names in left.values() for name in names))


def _taken(name, entry, weights, plan, config, shape):
    """Our tensor of the file's."""
    arrays = [weights[n] for n in entry.names]
    if name == "image.positions" and "image_size" in plan.settings:
        arrays = [_positions(floats(arrays[0], *entry.names), config, shape)]
    return entry.ours(arrays, shape)


def _set_size(plan, size):
    from .fields import square

    if "image" not in plan.config:
        raise ValueError("image_size is for models with an image tower")
    plan.config["image"]["size"] = square(size, "load", "image_size")
    plan.settings["image_size"] = size


def _positions(array, config, shape):
    """Positions for another picture size than the file's."""
    from plait.models.positions import resized

    c, due = config.image, tuple(shape)
    *ones, rows, width = array.shape if array.ndim > 1 else (0, 0)
    side = math.isqrt(max(0, rows - c.class_token))
    odd = side * side + c.class_token != rows or not side or math.prod(ones) != 1
    if (rows, width) == due or width != due[1] or odd:
        return array  # as it should be; if not, the message about shapes says it
    grid = (c.size // c.patch,) * 2
    return resized(array.reshape(rows, width), int(c.class_token), grid, c.antialias)


def _attach(model, plan, side, image_size):
    """Tokenizer, image processor and limits."""
    from plait.processing import ImageProcessor

    if plan.tokenizer is not None:
        model._later = (side.held, plan.tokenizer, plan.settings.get("lower", False))
        configuration = side.held.find_json("tokenizer_config.json")
        model.max_tokens = max_tokens(plan.settings.get("max_seq_length"), configuration, model.config.text.length)
    if plan.type != "text_encoder":
        name = next((name for name in PROCESSOR_FILES if name in side.files), None)
        data = None if name is None else side.held.json(name)
        if name is not None and _makes_patches(data, model.source.config):
            log.warning("the folder's image processor makes patches of any number, plait's pictures have one size")
        elif name is not None:
            model.processor = ImageProcessor.from_config(data)
            if image_size is not None:
                data = _resized(data, image_size)
                side.files[name] = strictjson.dumps(data, name)
                model.processor = ImageProcessor.from_config(data)
        elif plan.settings.get("preprocess_cfg") is not None:
            model.processor = ImageProcessor.from_open_clip(plan.settings["preprocess_cfg"], model.config.image.size)
    if "prompts" in plan.settings:
        model.prompts, model.truncate_dim = dict(plan.settings["prompts"]), plan.settings["truncate_dim"]
        model.default_prompt_name = plan.settings["default_prompt_name"]


def _makes_patches(data, config):
    """Whether a folder's image processor is SigLIP 2's own, and not one that was put in its place."""
    inner = data.get("image_processor", data) if isinstance(data, dict) else None
    kind = inner.get("image_processor_type") if isinstance(inner, dict) else None
    return (config or {}).get("model_type") == "siglip2" and (kind is None or str(kind).startswith("Siglip2"))


def _resized(data, size):
    """The configuration of an image processor for another size of pictures; what was cut off stays in proportion."""
    from plait.processing._image_configs import from_hugging_face

    nested = data.get("image_processor")
    if isinstance(nested, dict):
        return {**data, "image_processor": _resized(nested, size)}
    now, both = from_hugging_face(data), {"height": size, "width": size}
    data = {**data, "size": both}
    if now["mode"] == "shortest" and now["resize"] is not None:
        before = now["crop"][0] if now["crop"] else now["resize"]
        data["size"] = {"shortest_edge": max(1, round(now["resize"] * size / before))}
    if now["crop"]:
        data["crop_size"] = both
    return data
