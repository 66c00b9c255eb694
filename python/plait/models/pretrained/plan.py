"""A plan: what a folder's configuration means for plait."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Plan"]


@dataclass
class Plan:
    """How to make a model of a checkpoint.

    Attributes
    ----------
    type, config : str, dict
        As ``create_model`` takes them.
    table : KeyTable
    prefixes : tuple of str
        What may stand before names that the table writes with a leading dot; the first that fits the file is taken.
    ignored : str
        Pattern of names that are kept and written back, but not used: heads for other tasks, constants.
    tokenizer : str or None
        Family of the tokenizer.
    """

    type: str
    config: dict
    table: object
    prefixes: tuple = ("",)
    ignored: str = "(?!)"
    tokenizer: str | None = None
    settings: dict = field(default_factory=dict)  # attributes of the model

    def prefix(self, own, names) -> str:
        """The prefix under which most of our tensors are there."""

        def hits(prefix):
            found = (self.table.find(name, prefix) for name in own)
            return sum(entry is not None and all(n in names for n in entry.names) for entry in found)

        return max(self.prefixes, key=hits)

    def is_ignored(self, name, prefix) -> bool:
        """Whether a tensor that the table does not know is no mistake."""
        outside = bool(prefix) and not name.startswith(prefix)  # a head for another task
        return outside or re.fullmatch(self.ignored, name.removeprefix(prefix)) is not None
