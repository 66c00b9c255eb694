"""The tokenizer of SigLIP: canonical text, special tokens, and a unigram model."""

from __future__ import annotations

import re
import string

from ._sentencepiece import CONTROL, UNKNOWN, SentencePiece, Unigram

__all__ = ["SiglipEngine"]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPACES = re.compile(r"\s+")


class SiglipEngine:
    """Texts to ids as SigLIP's own tokenizer gives them, without the end token.

    Special tokens in the text are found first. What is between them loses ASCII punctuation and case, white space
    becomes single spaces, and the pieces are those that stand behind the unknown token's own text, so that no space is
    put before a text that follows a special token.

    Parameters
    ----------
    model : SentencePiece
    name : str
        For messages.
    added : list of Added
        Special tokens; one that the model lacks gets the next free id.
    unk_token : str
    lower : bool
    """

    def __init__(self, model: SentencePiece, name: str, added, unk_token: str, lower: bool):
        self._unigram = Unigram(model, name)
        self._lower, self._unk_token = lower, unk_token
        self._pieces = [text for text, _, _ in model.pieces]
        # A piece that stands for itself in a text must not be one of the special ones, whose scores mean nothing.
        known = {text: i for i, (text, _, _) in enumerate(model.pieces)}
        self._added: dict = {}
        for token in added:
            if token.single_word:
                raise ValueError(f"{name}: token {token.content!r} is for single words, which is not supported")
            content = token.content.lower() if lower and token.normalized and not token.special else token.content
            if content not in known:
                known[content] = len(self._pieces)
                self._pieces.append(content)
            self._added[content] = known[content]
        self._ids = known
        self.size = len(self._pieces)
        longest_first = sorted(self._added, key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None
        self._skipped = len(self._unigram.encode(unk_token))
        # Words are independent of each other if no piece goes on behind the beginning of a word.
        kinds = (CONTROL, UNKNOWN)
        self.local = not any("▁" in text.lstrip("▁") for text, _, kind in model.pieces if kind not in kinds)

    def encode(self, text: str) -> list:
        """Ids of one text."""
        text = "▁" + text.replace("▁", " ")
        if self._special is None:
            return self._segment(text)
        ids: list = []
        for i, part in enumerate(self._special.split(text)):
            if i % 2:
                ids.append(self._added[part])
            elif part:
                ids += self._segment(part)
        return ids

    def _segment(self, text):
        if self._lower:
            text = text.lower()
        text = _SPACES.sub(" ", text.translate(_NO_PUNCTUATION)).strip()
        ids = self._unigram.encode(self._unk_token + text)
        return ids[self._skipped :] if len(ids) >= self._skipped else ids

    ends_once = True

    def id(self, token: str):
        """The id of a token, or None."""
        return self._ids.get(token)

    def token(self, index: int) -> str:
        """The token of an id."""
        return self._pieces[index]
