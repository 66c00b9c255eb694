"""Modules: layers, attention, blocks. A module holds parameters, buffers and other modules."""

from . import init
from .attention import CrossAttention, KVCache, SelfAttention
from .blocks import CrossModalBlock, Encoder, EncoderBlock
from .layers import MLP, Dropout, Embedding, GatedMLP, LayerNorm, Linear, PatchEmbedding, Pool, RMSNorm, Sequential
from .module import Buffer, LoadResult, Module
from .parameter import Parameter

__all__ = [
    "MLP",
    "Buffer",
    "CrossAttention",
    "CrossModalBlock",
    "Dropout",
    "Embedding",
    "Encoder",
    "EncoderBlock",
    "GatedMLP",
    "KVCache",
    "LayerNorm",
    "Linear",
    "LoadResult",
    "Module",
    "Parameter",
    "PatchEmbedding",
    "Pool",
    "RMSNorm",
    "SelfAttention",
    "Sequential",
    "init",
]
