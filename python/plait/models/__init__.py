"""Models that are made from a configuration, saved to a folder and loaded from it."""

from .config import DualEncoderConfig, HeadConfig, ImageConfig, ImageEncoderConfig, TextConfig, TextEncoderConfig
from .dual_encoder import DualEncoder
from .encoders import ImageEncoder, TextEncoder
from .identity import fingerprint
from .registry import create_model, get_config, list_models
from .vectors import quantize_embeddings

__all__ = [
    "DualEncoder",
    "DualEncoderConfig",
    "HeadConfig",
    "ImageConfig",
    "ImageEncoder",
    "ImageEncoderConfig",
    "TextConfig",
    "TextEncoder",
    "TextEncoderConfig",
    "create_model",
    "fingerprint",
    "get_config",
    "list_models",
    "quantize_embeddings",
]
