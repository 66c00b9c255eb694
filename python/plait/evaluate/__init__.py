"""Measures of how good a model is. NumPy in, Python numbers and NumPy arrays out."""

from .retrieval import chance_recall, mean_average_precision, mrr, ranks, recall_at_k, retrieval, top_k

__all__ = ["chance_recall", "mean_average_precision", "mrr", "ranks", "recall_at_k", "retrieval", "top_k"]
