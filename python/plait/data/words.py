"""A small word tokenizer: words of the training names, and character pieces for words that it does not know."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from plait._texts import TextError

__all__ = ["WordTokenizer"]


class WordTokenizer:
    """Split text into known words; spell the unknown ones in characters.

    Text is lower-cased and cut at white space.  A word in the vocabulary is one token.  Any other word is cut at its
    hyphens, each part (and each hyphen) again being one token if it is known and one token per character if not.  A
    character outside the vocabulary becomes the unknown token.  Ids: 0 is the unknown token, then the characters, then
    the words.  Nothing is padded and no start or end token is added.

    Parameters
    ----------
    words : sequence of str
        The known words, without white space, all different; their order gives the ids.
    characters : sequence of str
        The known single characters, all different.

    Examples
    --------
    >>> tokenizer = WordTokenizer.train(["greek small letter alpha", "greek small letter beta"])
    >>> tokenizer.encode(["small alpha"])[0].dtype.name, len(tokenizer.encode(["small alpha"])[0])
    ('int64', 2)
    >>> tokenizer.tokens("beta heat")
    ['beta', 'h', 'e', 'a', 't']
    """

    unknown_id = 0

    def __init__(self, words: Sequence[str], characters: Sequence[str] = ()):
        self.words = tuple(words)
        self.characters = tuple(characters)
        for name, entries in (("words", self.words), ("characters", self.characters)):
            for entry in entries:
                if not isinstance(entry, str):
                    raise TypeError(f"WordTokenizer: {name} holds {entry!r}, expected only str")
                if entry.split() != [entry]:
                    raise ValueError(f"WordTokenizer: {name} holds {entry!r}, which is empty or has white space")
                if name == "characters" and len(entry) != 1:
                    raise ValueError(f"WordTokenizer: characters holds {entry!r}, expected single characters")
            if len(set(entries)) != len(entries):
                raise ValueError(f"WordTokenizer: {name} holds an entry twice")
        self._characters = {entry: 1 + i for i, entry in enumerate(self.characters)}
        self._words = {entry: 1 + len(self.characters) + i for i, entry in enumerate(self.words)}

    @classmethod
    def train(cls, texts: Iterable[str], min_count: int = 1) -> WordTokenizer:
        """Build the vocabulary.

        Parameters
        ----------
        texts : iterable of str
            The training texts.
        min_count : int, default 1
            Words seen less often are left to be spelt.  At 1 no training text is spelt, so the characters serve only
            to keep unknown words apart: their embeddings are never trained.

        Returns
        -------
        WordTokenizer
            With words from the most to the least frequent (ties in alphabetical order) and all characters seen.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cls._split(text))
        words = [word for word, count in counts.items() if count >= min_count]
        words.sort(key=lambda word: (-counts[word], word))
        return cls(words, sorted({character for word in counts for character in word}))

    @staticmethod
    def _split(text: str) -> list[str]:
        if not isinstance(text, str):
            raise TypeError(f"WordTokenizer: got {type(text).__name__}, expected str")
        return text.lower().split()

    def __len__(self) -> int:
        """The number of ids, the unknown token included."""
        return 1 + len(self.characters) + len(self.words)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in self._split(text):
            known = self._words.get(word)
            if known is not None:
                ids.append(known)
                continue
            for part in word.replace("-", " - ").split():
                known = self._words.get(part)
                if known is not None:
                    ids.append(known)
                else:
                    ids.extend(self._characters.get(character, self.unknown_id) for character in part)
        return ids

    def encode(
        self, texts: Sequence[str], max_length: int | None = None, truncate: bool = False, start: int = 0
    ) -> list[np.ndarray]:
        """Turn texts into token ids.

        Parameters
        ----------
        texts : sequence of str
            One text per sample.  Empty text gives an empty array.
        max_length : int, optional
            The largest number of tokens a text may have, for models with a table of positions.
        truncate : bool, default False
            Drop what exceeds `max_length` instead of raising an error; a warning counts such texts.
        start : int, default 0
            The number of the first text in messages: of texts that come part by part.

        Returns
        -------
        list of numpy.ndarray
            One int64 array ``(tokens,)`` per text.

        Raises
        ------
        TypeError
            If `texts` is a single string, or holds something other than strings.
        ValueError
            If a text has more than `max_length` tokens and `truncate` is false.
        """
        if isinstance(texts, str):
            raise TypeError("WordTokenizer.encode: texts is one str, expected a sequence of them")
        if max_length is not None and max_length < 1:
            raise ValueError(f"WordTokenizer.encode: max_length is {max_length}, expected at least 1")
        encoded, cut = [], []
        for i, text in enumerate(texts, start):
            ids = self._ids(text)
            if max_length is not None and len(ids) > max_length:
                if not truncate:
                    reason = f"has {len(ids)} tokens, expected at most {max_length}"
                    raise TextError(f"WordTokenizer.encode: text {i}", i, reason, too_long=True)
                cut.append(i)
                ids = ids[:max_length]
            encoded.append(np.array(ids, np.int64))
        if cut:
            warnings.warn(
                f"WordTokenizer.encode: {len(cut)} texts were cut to {max_length} tokens, the first is number {cut[0]}",
                stacklevel=2,
            )
        return encoded

    def tokens(self, text: str) -> list[str]:
        """The pieces that one text is cut into, ``"?"`` for an unknown character."""
        entries = ("?", *self.characters, *self.words)
        return [entries[i] for i in self._ids(text)]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that :meth:`from_json` reads back."""
        return {"type": "words", "characters": list(self.characters), "words": list(self.words)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WordTokenizer:
        """Rebuild a tokenizer from :meth:`to_json`.

        Raises
        ------
        ValueError
            If a key is missing, unknown, or holds something else than :meth:`to_json` writes.
        """
        if not isinstance(data, Mapping) or set(data) != {"type", "characters", "words"} or data["type"] != "words":
            got = sorted(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
            raise ValueError(f"WordTokenizer.from_json: got {got}, expected type 'words' with characters and words")
        for key in ("characters", "words"):
            if not isinstance(data[key], (list, tuple)):
                raise ValueError(f"WordTokenizer.from_json: {key} is {type(data[key]).__name__}, expected a list")
        return cls(data["words"], data["characters"])
