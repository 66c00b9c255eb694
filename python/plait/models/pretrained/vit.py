"""ViT (Dosovitskiy et al., arXiv 2010.11929) and DINOv2 (Oquab et al., arXiv 2304.07193)."""

from __future__ import annotations

from dataclasses import dataclass

from plait.io.schema import choice, flag, integer, number

from .clip import placed
from .fields import ACTIVATION_NAMES, LAYERS, activation, read, square
from .keys import KeyTable
from .plan import Plan

__all__ = ["dinov2", "vit"]

TOWER = """
class_token                       embeddings.cls_token
registers                         embeddings.register_tokens
patches.*                         embeddings.patch_embeddings.projection.*
positions                         embeddings.position_embeddings
encoder.norm.*                    layernorm.*
encoder.blocks.#.attention.qkv.*  encoder.layer.#.attention.attention.{query,key,value}.*
encoder.blocks.#.attention.out.*  encoder.layer.#.attention.output.dense.*
"""
VIT = (
    TOWER
    + """
encoder.blocks.#.norm1.*          encoder.layer.#.layernorm_before.*
encoder.blocks.#.norm2.*          encoder.layer.#.layernorm_after.*
encoder.blocks.#.mlp.fc1.*        encoder.layer.#.intermediate.dense.*
encoder.blocks.#.mlp.fc2.*        encoder.layer.#.output.dense.*
"""
)
DINO = (
    TOWER
    + """
encoder.blocks.#.norm1.*          encoder.layer.#.norm1.*
encoder.blocks.#.norm2.*          encoder.layer.#.norm2.*
encoder.blocks.#.scale1           encoder.layer.#.layer_scale1.lambda1
encoder.blocks.#.scale2           encoder.layer.#.layer_scale2.lambda1
"""
)
DINO_MLP = """
encoder.blocks.#.mlp.fc1.*        encoder.layer.#.mlp.fc1.*
encoder.blocks.#.mlp.fc2.*        encoder.layer.#.mlp.fc2.*
"""
DINO_GATED = """
encoder.blocks.#.mlp.fc1.*        encoder.layer.#.mlp.weights_in.*
encoder.blocks.#.mlp.fc2.*        encoder.layer.#.mlp.weights_out.*
"""


@dataclass(frozen=True)
class Vit:
    """Keys of ``config.json``."""

    hidden_size: int = integer(1, 1 << 16, default=768)
    num_hidden_layers: int = integer(0, LAYERS, default=12)
    num_attention_heads: int = integer(1, 1 << 16, default=12)
    intermediate_size: int = integer(1, 1 << 18, default=3072)
    hidden_act: str = choice(*ACTIVATION_NAMES, default="gelu")
    hidden_dropout_prob: float = number(0.0, 0.99, default=0.0)
    attention_probs_dropout_prob: float = number(0.0, 0.99, default=0.0)
    layer_norm_eps: float = number(1e-15, 0.1, default=1e-12)
    num_channels: int = integer(1, 64, default=3)
    qkv_bias: bool = flag(default=True)


@dataclass(frozen=True)
class Dino(Vit):
    """Keys of ``config.json``."""

    layer_norm_eps: float = number(1e-15, 0.1, default=1e-6)
    mlp_ratio: float = number(0.01, 64, default=4.0)
    use_swiglu_ffn: bool = flag(default=False)
    num_register_tokens: int = integer(0, 1 << 10, default=4)


def _tower(c, config, default_size):
    return {
        "size": square(config.get("image_size", default_size), "config", "image_size"),
        "patch": square(config.get("patch_size", 16), "config", "patch_size"),
        "channels": c.num_channels,
        "width": c.hidden_size,
        "layers": c.num_hidden_layers,
        "heads": c.num_attention_heads,
        "hidden": c.intermediate_size,
        "activation": activation(c.hidden_act),
        "eps": c.layer_norm_eps,
        "qkv_bias": c.qkv_bias,
        "class_token": True,
        "crop": True,
        "pool": "first",
        "dropout": c.hidden_dropout_prob,
        "attention_dropout": c.attention_probs_dropout_prob,
    }


def vit(config, weights, folder) -> Plan:
    """``model_type: vit``."""
    ours = {"image": _tower(read(Vit, config, "config"), config, 224)}
    table = KeyTable(placed("image", VIT, ""))
    ignored = r"pooler\..*|classifier\..*|.*mask_token|decoder\..*"
    return Plan("image_encoder", ours, table, ("", "vit."), ignored)


def dinov2(config, weights, folder) -> Plan:
    """``model_type: dinov2`` or ``dinov2_with_registers``."""
    c = read(Dino, config, "config")
    registers = config["model_type"] == "dinov2_with_registers"
    hidden = int(c.hidden_size * c.mlp_ratio)
    if c.use_swiglu_ffn:
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
    tower = {
        **_tower(c, config, 224),
        "hidden": hidden,
        "gated": c.use_swiglu_ffn,
        "layer_scale": True,
        "any_size": True,
        "antialias": registers,
        "registers": c.num_register_tokens if registers else 0,
    }
    table = KeyTable(placed("image", DINO + (DINO_GATED if c.use_swiglu_ffn else DINO_MLP), ""))
    ignored = r"classifier\..*|.*mask_token"
    return Plan("image_encoder", {"image": tower}, table, ("", "dinov2.", "dinov2_with_registers."), ignored)
