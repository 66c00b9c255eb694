"""Data sets, tokenizers, and how samples are cut into batches."""

from .order import BatchOrder

__all__ = ["BatchOrder"]
