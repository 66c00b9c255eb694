"""BERT and its kin (Devlin et al., arXiv 1810.04805): RoBERTa, XLM-RoBERTa, MiniLM, DistilBERT, MPNet, CLAP's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from plait.io.schema import choice, integer, number

from .clip import placed
from .fields import ACTIVATION_NAMES, LAYERS, activation, read
from .keys import KeyTable
from .plan import Plan

__all__ = ["bert", "clap", "distilbert", "mpnet", "roberta"]

TOWER = """
tokens.weight                     embeddings.word_embeddings.weight
types                             embeddings.token_type_embeddings.weight
positions                         embeddings.position_embeddings.weight
norm.*                            embeddings.LayerNorm.*
encoder.blocks.#.attention.qkv.*  encoder.layer.#.attention.self.{query,key,value}.*
encoder.blocks.#.attention.out.*  encoder.layer.#.attention.output.dense.*
encoder.blocks.#.norm1.*          encoder.layer.#.attention.output.LayerNorm.*
encoder.blocks.#.mlp.fc1.*        encoder.layer.#.intermediate.dense.*
encoder.blocks.#.mlp.fc2.*        encoder.layer.#.output.dense.*
encoder.blocks.#.norm2.*          encoder.layer.#.output.LayerNorm.*
"""
DISTILLED = """
tokens.weight                     embeddings.word_embeddings.weight
positions                         embeddings.position_embeddings.weight
norm.*                            embeddings.LayerNorm.*
encoder.blocks.#.attention.qkv.*  transformer.layer.#.attention.{q,k,v}_lin.*
encoder.blocks.#.attention.out.*  transformer.layer.#.attention.out_lin.*
encoder.blocks.#.norm1.*          transformer.layer.#.sa_layer_norm.*
encoder.blocks.#.mlp.fc1.*        transformer.layer.#.ffn.lin1.*
encoder.blocks.#.mlp.fc2.*        transformer.layer.#.ffn.lin2.*
encoder.blocks.#.norm2.*          transformer.layer.#.output_layer_norm.*
"""
PERMUTED = """
tokens.weight                     embeddings.word_embeddings.weight
positions                         embeddings.position_embeddings.weight
norm.*                            embeddings.LayerNorm.*
relative                          encoder.relative_attention_bias.weight              transposed
encoder.blocks.#.attention.qkv.*  encoder.layer.#.attention.attn.{q,k,v}.*
encoder.blocks.#.attention.out.*  encoder.layer.#.attention.attn.o.*
encoder.blocks.#.norm1.*          encoder.layer.#.attention.LayerNorm.*
encoder.blocks.#.mlp.fc1.*        encoder.layer.#.intermediate.dense.*
encoder.blocks.#.mlp.fc2.*        encoder.layer.#.output.dense.*
encoder.blocks.#.norm2.*          encoder.layer.#.output.LayerNorm.*
"""
IGNORED = r"(.*\.)?(position_ids|token_type_ids)|pooler\..*|cls\..*|lm_head\..*|classifier\..*|qa_outputs\..*"


@dataclass(frozen=True)
class Bert:
    """Keys of ``config.json``."""

    vocab_size: int = integer(1, 1 << 24, default=30522)
    hidden_size: int = integer(1, 1 << 16, default=768)
    num_hidden_layers: int = integer(0, LAYERS, default=12)
    num_attention_heads: int = integer(1, 1 << 16, default=12)
    intermediate_size: int = integer(1, 1 << 18, default=3072)
    hidden_act: str = choice(*ACTIVATION_NAMES, default="gelu")
    max_position_embeddings: int = integer(1, 1 << 20, default=512)
    type_vocab_size: int = integer(0, 1 << 10, default=2)
    layer_norm_eps: float = number(1e-15, 0.1, default=1e-12)
    hidden_dropout_prob: float = number(0.0, 0.99, default=0.1)
    attention_probs_dropout_prob: float = number(0.0, 0.99, default=0.1)
    pad_token_id: int = integer(0, 1 << 24, default=None)

    REFUSED: ClassVar[dict] = {
        "position_embedding_type": ("absolute",),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
    }


@dataclass(frozen=True)
class MPNet(Bert):
    """Keys of ``config.json``."""

    REFUSED: ClassVar[dict] = {**Bert.REFUSED, "relative_attention_num_buckets": (32,)}


@dataclass(frozen=True)
class DistilBert:
    """Keys of ``config.json``."""

    vocab_size: int = integer(1, 1 << 24, default=30522)
    dim: int = integer(1, 1 << 16, default=768)
    n_layers: int = integer(0, LAYERS, default=6)
    n_heads: int = integer(1, 1 << 16, default=12)
    hidden_dim: int = integer(1, 1 << 18, default=3072)
    activation: str = choice(*ACTIVATION_NAMES, default="gelu")
    max_position_embeddings: int = integer(1, 1 << 20, default=512)
    dropout: float = number(0.0, 0.99, default=0.1)
    attention_dropout: float = number(0.0, 0.99, default=0.1)


def _tower(c, first_position=0):
    if c.max_position_embeddings <= first_position:
        raise ValueError(
            f"config.max_position_embeddings is {c.max_position_embeddings}, expected more than {first_position}, the "
            "place of the first token"
        )
    return {
        "vocabulary": c.vocab_size,
        "length": c.max_position_embeddings - first_position,
        "first_position": first_position,
        "width": c.hidden_size,
        "layers": c.num_hidden_layers,
        "heads": c.num_attention_heads,
        "hidden": c.intermediate_size,
        "activation": activation(c.hidden_act),
        "eps": c.layer_norm_eps,
        "pre_norm": False,
        "types": c.type_vocab_size,
        "input_norm": True,
        "dropout": c.hidden_dropout_prob,
        "attention_dropout": c.attention_probs_dropout_prob,
    }


def bert(config, weights, folder) -> Plan:
    """``model_type: bert``, mean of the last hidden states unless the folder says otherwise."""
    ours = {"text": _tower(read(Bert, config, "config"))}
    table = KeyTable(placed("text", TOWER, ""))
    return Plan("text_encoder", ours, table, prefixes=("", "bert."), ignored=IGNORED, tokenizer="bert")


def roberta(config, weights, folder) -> Plan:
    """``model_type: roberta``, ``xlm-roberta`` or ``camembert``: positions begin after the id of the pad token."""
    c = read(Bert, config, "config")
    pad = 1 if c.pad_token_id is None else c.pad_token_id
    eps = c.layer_norm_eps if "layer_norm_eps" in config else 1e-12
    ours = {"text": {**_tower(c, pad + 1), "eps": eps}}
    prefixes = ("", "roberta.", "camembert.")
    family = "roberta" if config["model_type"] == "roberta" else "xlm-roberta"
    table = KeyTable(placed("text", TOWER, ""))
    return Plan("text_encoder", ours, table, prefixes=prefixes, ignored=IGNORED, tokenizer=family)


def distilbert(config, weights, folder) -> Plan:
    """``model_type: distilbert``."""
    c = read(DistilBert, config, "config")
    tower = {
        "vocabulary": c.vocab_size,
        "length": c.max_position_embeddings,
        "width": c.dim,
        "layers": c.n_layers,
        "heads": c.n_heads,
        "hidden": c.hidden_dim,
        "activation": activation(c.activation),
        "eps": 1e-12,
        "pre_norm": False,
        "input_norm": True,
        "dropout": c.dropout,
        "attention_dropout": c.attention_dropout,
    }
    ignored = IGNORED + r"|vocab_(transform|layer_norm|projector)\..*|pre_classifier\..*"
    table = KeyTable(placed("text", DISTILLED, ""))
    return Plan("text_encoder", {"text": tower}, table, ("", "distilbert."), ignored, "bert")


def mpnet(config, weights, folder) -> Plan:
    """``model_type: mpnet`` (Song et al., arXiv 2004.09297): all layers add one bias by the distance of tokens."""
    # Positions begin behind row 1, its library's place of padding, whatever pad_token_id says.
    tower = {**_tower(read(MPNet, config, "config"), 2), "types": 0, "relative_bias": True}
    table = KeyTable(placed("text", PERMUTED, ""))
    return Plan("text_encoder", {"text": tower}, table, ("", "mpnet."), IGNORED, "mpnet")


@dataclass(frozen=True)
class Clap:
    """Keys of the whole configuration, which hold for the projections."""

    projection_dim: int = integer(1, 1 << 16, default=512)
    projection_hidden_act: str = choice(*ACTIVATION_NAMES, default="relu")


def clap(config, weights, folder) -> Plan:
    """``model_type: clap`` (or ``clap_text_model``), the text side: RoBERTa, its pooler, a projection of two layers."""
    section = config.get("text_config") if config["model_type"] == "clap" else config
    c = read(Bert, section or {}, "config.text_config")
    tower = _tower(c, (1 if c.pad_token_id is None else c.pad_token_id) + 1)
    if "type_vocab_size" not in (section or {}):
        tower["types"] = 1
    both = read(Clap, config if config["model_type"] == "clap" else section, "config")
    heads = [{"kind": "dense", "width": c.hidden_size, "activation": "tanh"}]
    if config["model_type"] == "clap" or "text_projection.linear1.weight" in weights:
        act = activation(both.projection_hidden_act)
        heads += [
            {"kind": "dense", "width": both.projection_dim, "activation": act},
            {"kind": "dense", "width": both.projection_dim},
            {"kind": "normalize"},
        ]
    table = KeyTable(
        placed("text", TOWER, ""),
        """
        heads.0.*  .pooler.dense.*
        heads.1.*  text_projection.linear1.*
        heads.2.*  text_projection.linear2.*
        """,
    )
    ignored = r"audio_(model|projection)\..*|logit_scale_[at]|.*(position_ids|token_type_ids)"
    ours = {"text": tower, "pooling": ["first"], "heads": heads}
    return Plan("text_encoder", ours, table, ("text_model.", ""), ignored, "roberta")
