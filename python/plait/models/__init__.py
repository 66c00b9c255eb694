"""Models that are made from a configuration, saved to a folder and loaded from it."""

from .config import DualEncoderConfig, ImageConfig, TextConfig
from .dual_encoder import DualEncoder
from .registry import create_model, get_config, list_models

__all__ = [
    "DualEncoder",
    "DualEncoderConfig",
    "ImageConfig",
    "TextConfig",
    "create_model",
    "get_config",
    "list_models",
]
