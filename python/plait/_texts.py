"""The error about one of several texts."""

from __future__ import annotations

__all__ = ["TextError"]


class TextError(ValueError):
    """A text that cannot become token ids.

    Attributes
    ----------
    number : int
        Of the text.
    reason : str
        What is wrong with it, to be read behind its name: "has 9 tokens, expected at most 8".
    too_long : bool
        Whether ``truncate=True`` cuts it.
    """

    def __init__(self, name, number, reason, too_long=False):
        super().__init__(name, number, reason, too_long)
        self.number, self.reason, self.too_long = number, reason, too_long

    def __str__(self):
        return f"{self.args[0]} {self.reason}{'; truncate=True cuts it' if self.too_long else ''}"
