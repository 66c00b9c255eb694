"""SigLIP and SigLIP 2 of fixed resolution (Zhai et al., arXiv 2303.15343; Tschannen et al., arXiv 2502.14786)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from plait.io.schema import choice, flag, integer, number

from .clip import BLOCKS, TEXT, common, placed, sections
from .fields import ACTIVATION_NAMES, LAYERS, read, square
from .keys import KeyTable
from .plan import Plan

__all__ = ["siglip", "siglip_text", "siglip_vision"]

VISION = (
    BLOCKS
    + """
patches.*                  embeddings.patch_embedding.*
positions                  embeddings.position_embedding.weight
encoder.norm.*             post_layernorm.*
map.query                  head.probe
map.attention.q.weight     head.attention.in_proj_weight   rows 0-1/3
map.attention.q.bias       head.attention.in_proj_bias     rows 0-1/3
map.attention.kv.weight    head.attention.in_proj_weight   rows 1-3/3
map.attention.kv.bias      head.attention.in_proj_bias     rows 1-3/3
map.attention.out.*        head.attention.out_proj.*
map.norm.*                 head.layernorm.*
map.mlp.fc1.*              head.mlp.fc1.*
map.mlp.fc2.*              head.mlp.fc2.*
"""
)
FLAT = VISION.replace("patches.*  ", "patches.bias").replace(
    "embeddings.patch_embedding.*",
    "embeddings.patch_embedding.bias\npatches.weight  embeddings.patch_embedding.weight  flat patches",
)


@dataclass(frozen=True)
class Vision:
    """Keys of ``vision_config``."""

    hidden_size: int = integer(1, 1 << 16, default=768)
    intermediate_size: int = integer(1, 1 << 18, default=3072)
    num_hidden_layers: int = integer(0, LAYERS, default=12)
    num_attention_heads: int = integer(1, 1 << 16, default=12)
    num_channels: int = integer(1, 64, default=3)
    hidden_act: str = choice(*ACTIVATION_NAMES, default="gelu_pytorch_tanh")
    layer_norm_eps: float = number(1e-15, 0.1, default=1e-6)
    attention_dropout: float = number(0.0, 0.99, default=0.0)
    vision_use_head: bool = flag(default=True)
    num_patches: int = integer(1, 1 << 20, default=256)  # of SigLIP 2


@dataclass(frozen=True)
class Text:
    """Keys of ``text_config``."""

    vocab_size: int = integer(1, 1 << 24, default=32000)
    hidden_size: int = integer(1, 1 << 16, default=768)
    intermediate_size: int = integer(1, 1 << 18, default=3072)
    num_hidden_layers: int = integer(0, LAYERS, default=12)
    num_attention_heads: int = integer(1, 1 << 16, default=12)
    max_position_embeddings: int = integer(1, 1 << 20, default=64)
    hidden_act: str = choice(*ACTIVATION_NAMES, default="gelu_pytorch_tanh")
    layer_norm_eps: float = number(1e-15, 0.1, default=1e-6)
    attention_dropout: float = number(0.0, 0.99, default=0.0)
    pad_token_id: int = integer(0, 1 << 24, default=1)
    projection_size: int = integer(1, 1 << 16, default=None)


def vision_tower(data, where, flat):
    """Our image tower."""
    c = read(Vision, data, where)
    patch = square(data.get("patch_size", 16), where, "patch_size")
    size = data.get("image_size", 224)
    if flat:  # a number of patches instead of a size
        side = math.isqrt(c.num_patches)
        if side * side != c.num_patches:
            raise ValueError(f"{where}.num_patches is {c.num_patches}, expected a square number: a fixed resolution")
        size = side * patch
    return c, {
        **common(c),
        "size": square(size, where, "image_size"),
        "patch": patch,
        "channels": c.num_channels,
        "crop": True,
        "pool": "map" if c.vision_use_head else "mean",
    }


def text_tower(data, where, folder):
    """Our text tower: texts are filled up with pad tokens, as in training, and the last place is pooled."""
    c = read(Text, data, where)
    return c, {
        **common(c),
        "vocabulary": c.vocab_size,
        "length": c.max_position_embeddings,
        "pool": "last",
        "pad_id": folder.pad_id(c.pad_token_id, c.vocab_size),
        "projection_bias": True,
    }


def siglip(config, weights, folder) -> Plan:
    """``model_type: siglip`` or ``siglip2``."""
    flat = config["model_type"] == "siglip2"
    text, vision = sections(config)
    image, image_tower = vision_tower(vision, "config.vision_config", flat)
    words, words_tower = text_tower(text, "config.text_config", folder)
    ours = {
        "embed_dim": image.hidden_size,
        "image": image_tower,
        "text": words_tower,
        "image_projection": False,
        "logit_bias": True,
        "temperature": 0.1,
        "max_logit_scale": 1e4,
    }
    due = words.projection_size or words.hidden_size
    if due != image.hidden_size:
        raise ValueError(
            f"config.text_config.projection_size is {due}, expected {image.hidden_size}, the width of the image tower"
        )
    table = KeyTable(
        placed("image", FLAT if flat else VISION, "vision_model"),
        placed("text", TEXT, "text_model"),
        """
        text.projection.*  text_model.head.*
        logit_scale        logit_scale
        logit_bias         logit_bias
        """,
    )
    family = "siglip2" if words.vocab_size > 100_000 or flat else "siglip"
    return Plan("dual_encoder", ours, table, ignored=r".*position_ids", tokenizer=family)


def siglip_vision(config, weights, folder) -> Plan:
    """``model_type: siglip_vision_model``."""
    _, tower = vision_tower(config, "config", config["model_type"].startswith("siglip2"))
    table = KeyTable(placed("image", FLAT if config["model_type"].startswith("siglip2") else VISION, ""))
    return Plan("image_encoder", {"image": tower}, table, prefixes=("", "vision_model."), ignored=r".*position_ids")


def siglip_text(config, weights, folder) -> Plan:
    """``model_type: siglip_text_model``."""
    c, tower = text_tower(config, "config", folder)
    heads = [{"kind": "dense", "width": c.projection_size or c.hidden_size}]
    table = KeyTable(placed("text", TEXT, ""), "heads.0.*  .head.*")
    ours = {"text": tower, "pooling": ["last"], "heads": heads}
    family = "siglip2" if config["model_type"].startswith("siglip2") or c.vocab_size > 100_000 else "siglip"
    return Plan("text_encoder", ours, table, prefixes=("", "text_model."), ignored=r".*position_ids", tokenizer=family)
