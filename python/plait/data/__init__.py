"""Data sets, tokenizers, and how samples are cut into batches."""

from . import glyphs
from .order import BatchOrder
from .words import WordTokenizer

__all__ = ["BatchOrder", "WordTokenizer", "glyphs"]
