"""CLIP as transformers saves it (Radford et al., arXiv 2103.00020), whole or one tower of it."""

from __future__ import annotations

from dataclasses import dataclass

from plait.io.schema import choice, integer, number

from .fields import ACTIVATION_NAMES, LAYERS, activation, read, square
from .keys import KeyTable
from .plan import Plan

__all__ = ["BLOCKS", "TEXT", "clip", "clip_text", "clip_vision"]

BLOCKS = """
encoder.blocks.#.norm1.*          encoder.layers.#.layer_norm1.*
encoder.blocks.#.attention.qkv.*  encoder.layers.#.self_attn.{q,k,v}_proj.*
encoder.blocks.#.attention.out.*  encoder.layers.#.self_attn.out_proj.*
encoder.blocks.#.norm2.*          encoder.layers.#.layer_norm2.*
encoder.blocks.#.mlp.fc1.*        encoder.layers.#.mlp.fc1.*
encoder.blocks.#.mlp.fc2.*        encoder.layers.#.mlp.fc2.*
"""
VISION = (
    BLOCKS
    + """
class_token        embeddings.class_embedding
patches.*          embeddings.patch_embedding.*
positions          embeddings.position_embedding.weight
norm.*             pre_layrnorm.*                          // spelt so in the files
encoder.norm.*     post_layernorm.*
"""
)
TEXT = (
    BLOCKS
    + """
tokens.weight      embeddings.token_embedding.weight
positions          embeddings.position_embedding.weight
encoder.norm.*     final_layer_norm.*
"""
)


@dataclass(frozen=True)
class Vision:
    """Keys of ``vision_config``."""

    hidden_size: int = integer(1, 1 << 16, default=768)
    intermediate_size: int = integer(1, 1 << 18, default=3072)
    num_hidden_layers: int = integer(0, LAYERS, default=12)
    num_attention_heads: int = integer(1, 1 << 16, default=12)
    num_channels: int = integer(1, 64, default=3)
    hidden_act: str = choice(*ACTIVATION_NAMES, default="quick_gelu")
    layer_norm_eps: float = number(1e-15, 0.1, default=1e-5)
    attention_dropout: float = number(0.0, 0.99, default=0.0)
    projection_dim: int = integer(1, 1 << 16, default=512)


@dataclass(frozen=True)
class Text:
    """Keys of ``text_config``."""

    vocab_size: int = integer(1, 1 << 24, default=49408)
    hidden_size: int = integer(1, 1 << 16, default=512)
    intermediate_size: int = integer(1, 1 << 18, default=2048)
    num_hidden_layers: int = integer(0, LAYERS, default=12)
    num_attention_heads: int = integer(1, 1 << 16, default=8)
    max_position_embeddings: int = integer(1, 1 << 20, default=77)
    hidden_act: str = choice(*ACTIVATION_NAMES, default="quick_gelu")
    layer_norm_eps: float = number(1e-15, 0.1, default=1e-5)
    attention_dropout: float = number(0.0, 0.99, default=0.0)
    eos_token_id: int = integer(0, 1 << 24, default=49407)
    projection_dim: int = integer(1, 1 << 16, default=512)


@dataclass(frozen=True)
class Both:
    """Keys of the whole configuration."""

    projection_dim: int = integer(1, 1 << 16, default=512)
    logit_scale_init_value: float = number(-100.0, 100.0, default=2.6592)


def sections(config, names=("text", "vision")):
    """The sections of a configuration; old files repeat them as ``text_config_dict``, which count then."""
    found = []
    for name in names:
        section: dict = {}
        for key in (f"{name}_config", f"{name}_config_dict"):
            part = config.get(key) or {}
            if not isinstance(part, dict):
                raise ValueError(f"config.{key} is {type(part).__name__}, expected an object")
            section |= part
        found.append(section)
    return found


def common(c):
    """What both towers have."""
    return {
        "width": c.hidden_size,
        "layers": c.num_hidden_layers,
        "heads": c.num_attention_heads,
        "hidden": c.intermediate_size,
        "activation": activation(c.hidden_act),
        "eps": c.layer_norm_eps,
        "attention_dropout": c.attention_dropout,
    }


def vision_tower(data, where):
    """Our image tower."""
    c = read(Vision, data, where)
    return c, {
        **common(c),
        "size": square(data.get("image_size", 224), where, "image_size"),
        "patch": square(data.get("patch_size", 32), where, "patch_size"),
        "channels": c.num_channels,
        "class_token": True,
        "patch_bias": False,
        "input_norm": True,
        "last_norm": "pooled",
        "crop": True,
        "pool": "first",
    }


def text_tower(data, where):
    """Our text tower."""
    c = read(Text, data, where)
    return c, {
        **common(c),
        "vocabulary": c.vocab_size,
        "length": c.max_position_embeddings,
        "causal": True,
        "pool": "end",
        # Files of before 2023 say 2, which is no end token; the largest id is one then.
        "end_id": None if c.eos_token_id == 2 else c.eos_token_id,
    }


def clip(config, weights, folder) -> Plan:
    """``model_type: clip``."""
    text, vision = sections(config)
    both = read(Both, config, "config")
    ours = {
        "embed_dim": both.projection_dim,
        "image": vision_tower(vision, "config.vision_config")[1],
        "text": text_tower(text, "config.text_config")[1],
    }
    table = KeyTable(
        placed("image", VISION, "vision_model"),
        placed("text", TEXT, "text_model"),
        """
        image.projection.weight  visual_projection.weight
        text.projection.weight   text_projection.weight
        logit_scale              logit_scale
        """,
    )
    return Plan("dual_encoder", ours, table, ignored=r"(text|vision)_model\.embeddings\.position_ids", tokenizer="clip")


def clip_vision(config, weights, folder) -> Plan:
    """``model_type: clip_vision_model``: a tower, with or without its projection."""
    c, tower = vision_tower(config, "config")
    projected = "visual_projection.weight" in weights
    table = KeyTable(
        placed("image", VISION, ""),
        "image.projection.weight  visual_projection.weight",
    )
    ours = {"image": tower, "embed_dim": c.projection_dim if projected else None}
    return Plan("image_encoder", ours, table, prefixes=("", "vision_model."), ignored=r".*position_ids")


def clip_text(config, weights, folder) -> Plan:
    """``model_type: clip_text_model``: a tower, with or without its projection."""
    c, tower = text_tower(config, "config")
    projected = "text_projection.weight" in weights
    table = KeyTable(placed("text", TEXT, ""), "heads.0.weight  text_projection.weight")
    heads = [{"kind": "dense", "width": c.projection_dim, "bias": False}] if projected else []
    ours = {"text": tower, "pooling": ["end"], "heads": heads}
    return Plan("text_encoder", ours, table, prefixes=("", "text_model."), ignored=r".*position_ids", tokenizer="clip")


def placed(ours: str, table: str, theirs: str) -> str:
    """A tower's table with the tower's names in front; "" for `theirs` leaves the place to the prefix of the file."""
    lines = [line.split(None, 1) for line in table.splitlines() if line.strip()]
    return "\n".join(f"{ours}.{left}  {theirs}.{right}" for left, right in lines)
