"""CLIP in the names of its authors, as open_clip and the original release write it (MIT; arXiv 2103.00020).

open_clip's folders say their sizes in ``open_clip_config.json``; the original files say nothing, their sizes are those
of their tensors. SigLIP's image towers come in timm's names.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar

from plait.io.schema import choice, flag, integer, number

from .clip import placed
from .fields import LAYERS, read, refuse_code, square
from .keys import KeyTable
from .plan import Plan

__all__ = ["open_clip", "openai"]

BLOCKS = """
encoder.blocks.#.norm1.*                transformer.resblocks.#.ln_1.*
encoder.blocks.#.attention.qkv.weight   transformer.resblocks.#.attn.in_proj_weight
encoder.blocks.#.attention.qkv.bias     transformer.resblocks.#.attn.in_proj_bias
encoder.blocks.#.attention.out.*        transformer.resblocks.#.attn.out_proj.*
encoder.blocks.#.norm2.*                transformer.resblocks.#.ln_2.*
encoder.blocks.#.mlp.fc1.*              transformer.resblocks.#.mlp.c_fc.*
encoder.blocks.#.mlp.fc2.*              transformer.resblocks.#.mlp.c_proj.*
"""
SCALES = """
encoder.blocks.#.scale1                 transformer.resblocks.#.ls_1.gamma
encoder.blocks.#.scale2                 transformer.resblocks.#.ls_2.gamma
"""
VISION = (
    BLOCKS
    + SCALES
    + """
class_token                             class_embedding
positions                               positional_embedding
patches.weight                          conv1.weight
norm.*                                  ln_pre.*
encoder.norm.*                          ln_post.*
projection.weight                       proj                    transposed
"""
)
TEXT = (
    BLOCKS
    + """
tokens.weight                           token_embedding.weight
positions                               positional_embedding
encoder.norm.*                          ln_final.*
"""
)
TIMM = """
class_token                             cls_token
positions                               pos_embed
patches.*                               patch_embed.proj.*
encoder.norm.*                          norm.*
encoder.blocks.#.norm1.*                blocks.#.norm1.*
encoder.blocks.#.attention.qkv.*        blocks.#.attn.qkv.*
encoder.blocks.#.attention.out.*        blocks.#.attn.proj.*
encoder.blocks.#.norm2.*                blocks.#.norm2.*
encoder.blocks.#.mlp.fc1.*              blocks.#.mlp.fc1.*
encoder.blocks.#.mlp.fc2.*              blocks.#.mlp.fc2.*
map.query                               attn_pool.latent
map.attention.q.*                       attn_pool.q.*
map.attention.kv.*                      attn_pool.kv.*
map.attention.out.*                     attn_pool.proj.*
map.norm.*                              attn_pool.norm.*
map.mlp.fc1.*                           attn_pool.mlp.fc1.*
map.mlp.fc2.*                           attn_pool.mlp.fc2.*
"""
_IGNORED = r"(.*\.)?attn_mask|input_resolution|context_length|vocab_size"
# Keys of both configurations that plait has no use for but in their usual form.
_USUAL: dict = {
    key: (False, None)
    for key in ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
} | {"block_type": (None, "default"), "final_ln_after_pool": (False, None)}


@dataclass(frozen=True)
class Vision:
    """Keys of ``vision_cfg``."""

    layers: int = integer(0, LAYERS, default=12)
    width: int = integer(1, 1 << 16, default=768)
    head_width: int = integer(1, 1 << 16, default=64)
    mlp_ratio: float = number(0.01, 64, default=4.0)
    ls_init_value: float = number(0.0, 1e6, default=None)

    REFUSED: ClassVar[dict] = {
        **_USUAL,
        "attentional_pool": (False, None),
        "no_ln_pre": (False, None),
        "pos_embed_type": ("learnable",),
        "pool_type": ("tok",),
        "act_kwargs": (None, {}),
    }


@dataclass(frozen=True)
class Text:
    """Keys of ``text_cfg``."""

    context_length: int = integer(1, 1 << 20, default=77)
    vocab_size: int = integer(1, 1 << 24, default=49408)
    width: int = integer(1, 1 << 16, default=512)
    heads: int = integer(1, 1 << 16, default=8)
    layers: int = integer(0, LAYERS, default=12)
    mlp_ratio: float = number(0.01, 64, default=4.0)
    pad_id: int = integer(0, 1 << 24, default=0)
    eos_id: int = integer(0, 1 << 24, default=2)
    no_causal_mask: bool = flag(default=False)
    pool_type: str = choice("argmax", "last", "first", "eos", default="argmax")
    proj_bias: bool = flag(default=False)
    proj_type: str = choice("linear", default="linear")

    REFUSED: ClassVar[dict] = {
        **_USUAL,
        "embed_cls": (False, None),
        "hf_model_name": (None,),
        "ls_init_value": (None,),
        "act_kwargs": (None, {}, {"approximate": "tanh"}),
    }


@dataclass(frozen=True)
class Model:
    """Keys of ``model_cfg``."""

    embed_dim: int = integer(1, 1 << 16)
    quick_gelu: bool = flag(default=False)
    custom_text: bool = flag(default=False)


def _eps(data):
    options = data.get("norm_kwargs") or {}
    if not isinstance(options, dict):
        raise ValueError(f"norm_kwargs is {repr(options)[:40]}, expected an object")
    value = options.get("eps", 1e-5)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 0.1:
        raise ValueError(f"norm_kwargs.eps is {repr(value)[:40]}, expected a number above 0 and below 0.1")
    return float(value)


def open_clip(config, weights, folder) -> Plan:
    """``open_clip_config.json``."""
    refuse_code(config, "open_clip_config")
    model = config.get("model_cfg")
    c = read(Model, model, "model_cfg")
    vision, text = model.get("vision_cfg"), model.get("text_cfg")
    words = read(Text, text, "model_cfg.text_cfg")
    gelu = "quick_gelu" if c.quick_gelu else "gelu"
    bias = "logit_bias" in weights
    prefix = "text." if "text.token_embedding.weight" in weights else ""
    tower = {
        "vocabulary": words.vocab_size,
        "length": words.context_length,
        "width": words.width,
        "heads": words.heads,
        "layers": words.layers,
        "hidden": int(words.width * words.mlp_ratio),
        "activation": "gelu_tanh" if text.get("act_kwargs") else gelu,
        "eps": _eps(text),
        "causal": not words.no_causal_mask,
        "pool": {"argmax": "end", "eos": "end"}.get(words.pool_type, words.pool_type),
        "end_id": words.eos_id if words.pool_type == "eos" else None,
        "pad_id": folder.pad_id(words.pad_id, words.vocab_size) if words.pool_type == "last" else None,
        "projection_bias": words.proj_bias,
    }
    if vision.get("timm_model_name") if isinstance(vision, dict) else False:
        image, table = _timm(vision, weights), TIMM
        place = "visual.trunk"
    else:
        image, table, place = _vision(vision, gelu), VISION, "visual"
    ours = {
        "embed_dim": c.embed_dim,
        "image": image,
        "text": tower,
        "image_projection": place == "visual",
        "logit_bias": bias,
        "temperature": 0.1,
        "max_logit_scale": 1e4 if bias else 100.0,
    }
    projection = (
        f"text.projection.*  {prefix}text_projection.*"
        if words.proj_bias or f"{prefix}text_projection.weight" in weights
        else f"text.projection.weight  {prefix}text_projection  transposed"
    )
    rows = (placed("image", table, place), placed("text", TEXT, "").replace("  .", f"  {prefix}"), projection)
    family = None if text.get("hf_tokenizer_name") else "clip"
    if family is None:
        family = "siglip2" if words.vocab_size > 100_000 else "siglip"
    return Plan(
        "dual_encoder",
        ours,
        KeyTable(*rows, "logit_scale  logit_scale", "logit_bias  logit_bias"),
        ignored=_IGNORED,
        tokenizer=family,
        settings={"preprocess_cfg": config.get("preprocess_cfg")},
    )


def _vision(data, gelu):
    where = "model_cfg.vision_cfg"
    if isinstance(data, dict) and isinstance(data.get("layers"), list):
        raise ValueError(
            f"{where}.layers is a list: a ResNet, which plait does not have; expected a vision transformer"
        )
    c = read(Vision, data, where)
    return {
        "size": square(data.get("image_size", 224), where, "image_size"),
        "patch": square(data.get("patch_size", 16), where, "patch_size"),
        "width": c.width,
        "layers": c.layers,
        "heads": max(1, c.width // c.head_width),
        "hidden": int(c.width * c.mlp_ratio),
        "activation": gelu,
        "eps": _eps(data),
        "layer_scale": c.ls_init_value is not None,
        "class_token": True,
        "patch_bias": False,
        "input_norm": True,
        "crop": True,
        "pool": "first",
        "last_norm": "pooled",
    }


def _timm(data, weights):
    """SigLIP's towers: sizes from the tensors, heads and activation from the name."""
    name = data["timm_model_name"]
    if not isinstance(name, str) or "siglip" not in name or data.get("timm_pool") != "map":
        raise ValueError(f"model_cfg.vision_cfg.timm_model_name is {repr(name)[:60]}, expected one of SigLIP's")
    shapes = weights.shapes("visual.trunk.")
    width, channels, patch, _ = shapes.of("patch_embed.proj.weight", 4)
    rows = shapes.of("pos_embed", 3)[1]
    return {
        "size": square(data.get("image_size", math.isqrt(rows) * patch), "model_cfg.vision_cfg", "image_size"),
        "patch": patch,
        "channels": channels,
        "width": width,
        "layers": _layers(shapes, r"blocks\.(\d+)\."),
        "heads": max(1, width // next((n for word, n in _HEAD_WIDTHS.items() if word in name), 64)),
        "hidden": shapes.of("attn_pool.mlp.fc1.weight", 2)[0],
        "activation": "gelu_tanh" if _TANH.search(name) else "gelu",
        "eps": 1e-6,
        "crop": True,
        "pool": "map",
    }


# What timm's names say without saying it.
_HEAD_WIDTHS = {"so400m": 72, "giantopt": 96}
_TANH = re.compile(r"so400m_patch16|giantopt")


def _layers(shapes, pattern):
    layers = {m[1] for m in (re.match(pattern, name) for name in shapes) if m}
    if len(layers) > LAYERS:
        raise ValueError(f"tensors of {len(layers)} layers, expected at most {LAYERS}")
    return len(layers)  # where one is missing, its tensors are


def openai(weights, folder) -> Plan:
    """A file with the original names and nothing beside it: every size is one of a tensor's."""
    shapes = weights.shapes("")
    if "visual.layer1.0.conv1.weight" in shapes:
        raise ValueError("the image tower is a ResNet, which plait does not have; expected a vision transformer")
    width, channels, patch, _ = shapes.of("visual.conv1.weight", 4)
    side = math.isqrt(max(0, shapes.of("visual.positional_embedding", 2)[0] - 1))
    vocabulary, text_width = shapes.of("token_embedding.weight", 2)
    ours = {
        "embed_dim": shapes.of("text_projection", 2)[1],
        "image": {
            "size": side * patch,
            "patch": patch,
            "channels": channels,
            "width": width,
            "layers": _layers(shapes, r"visual\.transformer\.resblocks\.(\d+)\."),
            "heads": max(1, width // 64),
            "hidden": shapes.of("visual.transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
            "activation": "quick_gelu",
            "class_token": True,
            "patch_bias": False,
            "input_norm": True,
            "pool": "first",
            "last_norm": "pooled",
        },
        "text": {
            "vocabulary": vocabulary,
            "length": shapes.of("positional_embedding", 2)[0],
            "width": text_width,
            "layers": _layers(shapes, r"transformer\.resblocks\.(\d+)\."),
            "heads": max(1, text_width // 64),
            "hidden": shapes.of("transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
            "activation": "quick_gelu",
            "causal": True,
            "pool": "end",
        },
    }
    table = KeyTable(
        placed("image", VISION, "visual"),
        placed("text", TEXT, "").replace("  .", "  "),
        "text.projection.weight  text_projection  transposed",
        "logit_scale  logit_scale",
    )
    return Plan("dual_encoder", ours, table, ignored=_IGNORED, tokenizer="clip")
