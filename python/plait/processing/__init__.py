"""What users have to what models take: pictures to pixels, texts to token ids."""

from .image import ImageProcessor, open_picture
from .text import Tokenizer

__all__ = ["ImageProcessor", "Tokenizer", "open_picture"]
