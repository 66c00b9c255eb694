"""The libraries' side of the zoo: they write each row's folder, load it again, and say what is due."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers
import zoo
from safetensors import safe_open


def numpy_tree(values):
    return {name: value.detach().float().numpy() for name, value in values.items()}


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def padded(texts, length=None, pad=0):
    """(ids, mask) as tensors."""
    length = length or max(map(len, texts))
    ids = torch.full((len(texts), length), pad)
    mask = torch.zeros((len(texts), length), dtype=torch.int64)
    for i, text in enumerate(texts):
        ids[i, : len(text)] = torch.from_numpy(text)
        mask[i, : len(text)] = 1
    return ids, mask


def rows_of(hidden, texts):
    """The rows of the real tokens, one text behind the other."""
    return torch.cat([x[: len(text)] for x, text in zip(hidden, texts, strict=True)])


def refill(folder):
    """Give every floating-point tensor of the folder's files the value that its name and shape ask for."""
    for path in sorted(Path(folder).rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = safetensors.torch.load_file(path)
        for name, old in tensors.items():
            if old.is_floating_point():
                tensors[name] = torch.from_numpy(zoo.weight(name, tuple(old.shape))).to(old.dtype).contiguous()
        safetensors.torch.save_file(tensors, path, metadata=metadata)


def rename(folder, pairs):
    """Give the tensors of ``model.safetensors`` other names."""
    path = Path(folder) / "model.safetensors"
    tensors = {}
    for name, tensor in safetensors.torch.load_file(path).items():
        for pattern, new in pairs:
            name = re.sub(pattern, new, name)
        tensors[name] = tensor
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def library(row):
    """The module that builds and loads a row of another library than transformers, or None."""
    name = {"open_clip": "zoo_open_clip", "openai": "zoo_open_clip", "sentence": "zoo_sentence"}.get(row.call)
    return name and importlib.import_module(name)


def build(row, folder):
    """Write the model of a row as a folder."""
    other = library(row)
    if other:
        other.build(row, folder)
    else:
        build_transformers(row, folder)
    refill(folder)


def build_transformers(row, folder):
    cls = getattr(transformers, row.cls)
    torch.manual_seed(0)
    model = cls(cls.config_class(**row.config)).eval()
    save = dict(row.save)
    if "dtype" in save:
        model = model.to(getattr(torch, save.pop("dtype")))
    model.save_pretrained(folder, **save)
    if row.rename:
        rename(folder, row.rename)


def load(row, folder, allowed=()):
    """The library's own model of a folder, in float32; complains about any weight that does not fit, but for missing
    ones with a part of ``allowed`` in their names."""
    other = library(row)
    if other:
        return other.load(row, folder)
    cls = getattr(transformers, row.cls)
    model, info = cls.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    info["missing_keys"] = [k for k in info["missing_keys"] if not any(part in k for part in allowed)]
    left = {key: value for key, value in info.items() if value}
    assert not left, (row.name, left)
    return model.eval()


def base_of(model):
    """The tower inside a model with a head."""
    return getattr(model, model.base_model_prefix, model)


def patches_of(x, patch):
    """(n, 3, S, S) as the flattened patches, channels last, that SigLIP 2 takes."""
    n, channels, side, _ = x.shape
    grid = side // patch
    x = x.reshape(n, channels, grid, patch, grid, patch).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(n, grid * grid, -1)


@torch.no_grad()
def expected(row, model):
    """Inputs and outputs of a row, as arrays: ``pixels``, ``ids`` (one behind the other) and ``lengths``, and what
    the model makes of them."""
    out = globals()["_run_" + row.call](row, model)
    result = {}
    if "pixels" in out:
        result["pixels"] = out.pop("pixels")
    if "texts" in out:
        texts = out.pop("texts")
        result["ids"], result["lengths"] = np.concatenate(texts), np.array([len(x) for x in texts])
    for name in ("image", "text", "pooled"):
        if name in out:
            out[f"{name}_unit"] = unit(out[name])
    return result | numpy_tree(out)


def _run_clip(row, model):
    x, texts = zoo.pixels(row), zoo.texts(row)
    ids, mask = padded(texts)
    out = model(input_ids=ids, attention_mask=mask, pixel_values=torch.from_numpy(x))
    image = model.get_image_features(torch.from_numpy(x)).pooler_output
    text = model.get_text_features(ids, mask).pooler_output
    return {
        "pixels": x, "texts": texts, "image": image, "text": text, "logits_per_image": out.logits_per_image,
        "image_hidden": out.vision_model_output.last_hidden_state,
        "text_hidden": rows_of(out.text_model_output.last_hidden_state, texts),
    }  # fmt: skip


def _run_siglip(row, model):
    x, texts = zoo.pixels(row), zoo.texts(row)
    config = model.config.text_config
    ids, _ = padded(texts, config.max_position_embeddings, config.pad_token_id)
    if row.call == "siglip2":
        grid = x.shape[-1] // model.config.vision_config.patch_size
        vision = {
            "pixel_values": patches_of(torch.from_numpy(x), model.config.vision_config.patch_size),
            "pixel_attention_mask": torch.ones(len(x), grid * grid, dtype=torch.int64),
            "spatial_shapes": torch.full((len(x), 2), grid),
        }
    else:
        vision = {"pixel_values": torch.from_numpy(x)}
    out = model(input_ids=ids, **vision)
    return {
        "pixels": x, "texts": texts, "image": model.get_image_features(**vision).pooler_output,
        "text": model.get_text_features(ids).pooler_output, "logits_per_image": out.logits_per_image,
        "image_hidden": out.vision_model_output.last_hidden_state,
        "text_hidden": out.text_model_output.last_hidden_state,
    }  # fmt: skip


_run_siglip2 = _run_siglip


def _run_clip_text(row, model):
    texts = zoo.texts(row)
    ids, mask = padded(texts)
    out = model(input_ids=ids, attention_mask=mask)
    pooled = out.text_embeds if "text_embeds" in out else out.pooler_output
    return {"texts": texts, "hidden": rows_of(out.last_hidden_state, texts), "pooled": pooled}


def _run_siglip_text(row, model):
    texts = zoo.texts(row)
    ids, _ = padded(texts, model.config.max_position_embeddings, model.config.pad_token_id)
    out = model(input_ids=ids)
    return {"texts": texts, "hidden": out.last_hidden_state, "pooled": out.pooler_output}


def _run_clip_vision(row, model):
    x = zoo.pixels(row)
    out = model(pixel_values=torch.from_numpy(x))
    pooled = out.image_embeds if "image_embeds" in out else out.pooler_output
    result = {"pixels": x, "hidden": out.last_hidden_state}
    return result if pooled is None else result | {"pooled": pooled}


_run_siglip_vision = _run_clip_vision


def _run_vit(row, model):
    x = zoo.pixels(row)
    out = base_of(model)(pixel_values=torch.from_numpy(x))
    return {"pixels": x, "hidden": out.last_hidden_state, "pooled": out.last_hidden_state[:, 0]}


def _run_bert(row, model):
    texts = zoo.texts(row)
    tower = base_of(model)
    ids, mask = padded(texts, pad=model.config.pad_token_id)
    hidden = tower(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask[..., None].float()
    return {
        "texts": texts, "hidden": rows_of(hidden, texts), "pooled": (hidden * weights).sum(1) / weights.sum(1),
    }  # fmt: skip


def _run_clap(row, model):
    texts = zoo.texts(row)
    ids, mask = padded(texts, pad=1)
    out = model.get_text_features(ids, mask)
    return {"texts": texts, "hidden": rows_of(out.last_hidden_state, texts), "text": out.pooler_output}


def _run_clap_text(row, model):
    texts = zoo.texts(row)
    ids, mask = padded(texts, pad=1)
    out = model(input_ids=ids, attention_mask=mask)
    return {"texts": texts, "hidden": rows_of(out.last_hidden_state, texts), "text": out.text_embeds}


def _run_open_clip(row, model):
    x, texts = zoo.pixels(row), zoo.texts(row)
    ids, _ = padded(texts, model.context_length, row.config["text_cfg"].get("pad_id", 0))
    image, text = model.encode_image(torch.from_numpy(x)), model.encode_text(ids)
    logits = unit(image) @ unit(text).T * model.logit_scale.exp()
    if model.logit_bias is not None:
        logits += model.logit_bias
    return {"pixels": x, "texts": texts, "image": image, "text": text, "logits_per_image": logits}


_run_openai = _run_open_clip


def _run_sentence(row, model):
    ids = [np.array(x) for x in library(row).ids_of(model, zoo.SENTENCES)]
    return {"texts": ids, "pooled": model.encode(zoo.SENTENCES, convert_to_tensor=True)}


def names_and_shapes(folder):
    """{file: {tensor: [dtype, shape]}} of the weights in a folder."""
    result = {}
    for path in sorted(Path(folder).rglob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        result[str(path.relative_to(folder))] = {k: [v["dtype"], v["shape"]] for k, v in sorted(header.items())}
    return result
