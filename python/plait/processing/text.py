"""Texts to token ids, as the tokenizer that a model was trained with gives them."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import string
import warnings
from collections.abc import Callable, Iterable

import numpy as np

from plait._texts import TextError
from plait.io import strictjson
from plait.io.folder import Folder

from ._clip_bpe import clip_files
from ._siglip import SiglipEngine
from ._special_tokens import read_object
from ._tokenizer_families import FAMILIES, FILES, flag, longest, plan

__all__ = ["Tokenizer"]

_MAX_CHARACTERS = 1_000_000
_MAX_GROWN = 1 << 26  # characters that a text may have become, by what the files say
_WINDOW = 4096  # characters of a long text that are looked at first, where the rest will be cut
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLEAN: dict[str, Callable[[str], str]] = {
    "unescape": lambda text: html.unescape(html.unescape(text)),
    "strip": str.strip,
    "whitespace": lambda text: " ".join(text.split()),
    "punctuation": lambda text: text.replace("_", " ").translate(_NO_PUNCTUATION),
    "lower": str.lower,
}
# Where a text may be cut without a change to the tokens before: a space, behind a character that no other one joins.
_CUT = re.compile(r"[!-~À-ԯ]()[ \t\n]")


class Tokenizer:
    """Texts to token ids with the tokenizer of a pretrained model.

    The ids equal those of transformers' tokenizer of the same folder (version 5.24), special tokens in the text
    included. ``vocab.json``, ``merges.txt``, ``vocab.txt`` and SentencePiece models are read where there is no
    ``tokenizer.json``. It needs the ``tokenizers`` package, but for SigLIP's SentencePiece model. An object does not
    change, so that threads may share it, and may be pickled. It uses the thread that calls it.

    Parameters
    ----------
    files : dict of str to bytes
        Files of a folder by name, see `from_folder`.
    family : str
        ``"clip"``, ``"siglip"``, ``"siglip2"``, ``"bert"``, ``"distilbert"``, ``"roberta"``, ``"clap"``,
        ``"xlm-roberta"``, ``"mpnet"`` or ``"t5"``: whose way to cut texts, where ``tokenizer_config.json`` names none.
        ``"siglip2"`` makes all lower case, as in training, whatever the files say.
    clean : sequence of str
        What is done to a text first, in this order: ``"unescape"`` (HTML entities, twice), ``"strip"``,
        ``"whitespace"`` (runs become a space, none at the ends), ``"punctuation"`` ("_" becomes a space, other ASCII
        punctuation goes), ``"lower"``.
    lower : bool
        Lower case as a first step of the tokenizer itself, which leaves special tokens in the text alone.

    Attributes
    ----------
    pad_id, bos_id, eos_id, cls_id, sep_id, unk_id : int or None
        Special tokens as the files name them, None where there is none. BERT has ``cls_id`` and ``sep_id`` where
        others have ``bos_id`` and ``eos_id``.
    max_length : int or None
        ``model_max_length`` of ``tokenizer_config.json``; `encode` doesn't apply it by itself.
    files : dict of str to bytes
        The files as they were, for saving.
    lower : bool
        As given.

    Raises
    ------
    ImportError
        The ``tokenizers`` package is not installed.
    ValueError
        A file is damaged, too large, or asks for what is not supported; the message names it.

    Notes
    -----
    Files are not trusted: sizes are bounded, components come from a closed list, patterns that could take endless
    time are refused, and truncation and padding that ``tokenizer.json`` may contain are not applied.

    Examples
    --------
    >>> from plait.processing import Tokenizer
    >>> tokenizer = Tokenizer({"vocab.txt": b"[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\n[MASK]\\na\\ncat\\n##s\\n"}, "bert")
    >>> [ids.tolist() for ids in tokenizer.encode(["A cat", "cats, a"])]
    [[2, 5, 6, 3], [2, 6, 7, 1, 5, 3]]
    >>> len(tokenizer), tokenizer.pad_id, tokenizer.tokens("cats")
    (8, 0, ['[CLS]', 'cat', '##s', '[SEP]'])
    """

    def __init__(self, files, family, clean=(), lower=False):
        self._files = _checked_files(files)
        made = plan(self._files, family)
        self._family, self._lower = family, bool(lower)
        self._clean = _clean_steps(clean or made.config.get("plait_clean", ()))
        self._engine = _siglip(made, self._lower) if made.sentencepiece else _Rust(made, self._lower)
        self._source = made.source
        self._characters = min(_MAX_CHARACTERS, _MAX_GROWN // made.growth)
        self._before, self._after = self._affix(made, made.before), self._affix(made, made.after)
        self._left = made.config.get("truncation_side", "right") == "left"
        self._local = self._engine.local and not self._left
        self.max_length = longest(made.config)
        if made.sentencepiece and made.config.get("model_max_length") is None:
            self.max_length = 64
        ids = {key: self._engine.id(token) for key, token in made.names.items()}
        self.pad_id, self.bos_id, self.eos_id = map(ids.get, ("pad_token", "bos_token", "eos_token"))
        self.cls_id, self.sep_id, self.unk_id = map(ids.get, ("cls_token", "sep_token", "unk_token"))

    def _affix(self, made, entries):
        ids = []
        for entry in entries:
            index = self._engine.id(made.names.get(entry, "")) if isinstance(entry, str) else entry
            if index is None or index >= self._engine.size:
                raise ValueError(f"{made.source}: the special token {entry} that texts get is not in the vocabulary")
            ids.append(index)
        return ids

    @classmethod
    def from_folder(cls, folder, family, clean=(), lower=False):
        """Reads the tokenizer of a model's folder.

        Parameters
        ----------
        folder : Folder or path-like
        family, clean, lower
            See the class.

        Returns
        -------
        Tokenizer or None
            None where the folder has none of the files of a tokenizer.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from plait.processing import Tokenizer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nothing = Tokenizer.from_folder(folder, "bert")
        ...     _ = pathlib.Path(folder, "vocab.txt").write_text("[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\ncat\\n")
        ...     tokenizer = Tokenizer.from_folder(folder, "bert")
        >>> nothing is None, tokenizer.encode(["cat"])[0].tolist()
        (True, [2, 4, 3])
        """
        if not isinstance(folder, Folder):
            with Folder(folder) as opened:
                return cls.from_folder(opened, family, clean, lower)
        files = {name: data for name, limit in FILES.items() if (data := folder.find(name, limit)) is not None}
        if not cls.is_in(files):
            return None
        return cls(files, family, clean, lower)

    @classmethod
    def clip_from_bpe(cls, data):
        """CLIP's tokenizer from ``bpe_simple_vocab_16e6.txt.gz``, which comes with OpenAI's code and open_clip.

        Texts are cleaned as there: HTML entities are resolved twice, white space becomes single spaces, all is lower
        case. The one thing left out is ftfy, which repairs wrongly decoded text ("schÃ¶n") and makes curly quotes
        straight and wide letters narrow; of its work only the composition of accents (NFC) is done. Where texts need
        it, pass ``ftfy.fix_text(text)``.

        Parameters
        ----------
        data : bytes
            The content of the file, compressed or not.

        Returns
        -------
        Tokenizer
            Whose ``files`` transformers reads too; its tokenizer doesn't resolve HTML entities.

        Raises
        ------
        ValueError
            It is something else, or damaged.

        Examples
        --------
        >>> from plait.processing import Tokenizer
        >>> tokenizer = Tokenizer.clip_from_bpe(b'"bpe_simple_vocab_16e6.txt#version: 0.2\\nc a\\nca t</w>\\n')
        >>> tokenizer.tokens("A &amp; CAT")
        ['<|startoftext|>', 'a</w>', '&</w>', 'cat</w>', '<|endoftext|>']
        """
        return cls(clip_files(data, "the merges file"), "clip")

    @property
    def files(self):
        return dict(self._files)

    @property
    def lower(self):
        return self._lower

    @staticmethod
    def is_in(files) -> bool:
        """Whether files by name hold a tokenizer, and not only settings of one."""
        return any(name in FILES and name not in _SETTINGS for name in files)

    def files_for(self, family):
        """The files with which `from_folder` gives this tokenizer again.

        They are those that it was made of. What the class was told beside them goes into ``tokenizer_config.json``,
        but for `lower`, which the files of a tokenizer cannot say.

        Parameters
        ----------
        family : str
            What `from_folder` will be told.

        Returns
        -------
        dict of str to bytes

        Raises
        ------
        ValueError
            With this family they would give another tokenizer.

        Examples
        --------
        >>> from plait.processing import Tokenizer
        >>> tokenizer = Tokenizer({"vocab.txt": b"[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\ncat\\n"}, "bert")
        >>> list(tokenizer.files_for("bert")), tokenizer.files_for("roberta")["tokenizer_config.json"]
        (['vocab.txt'], b'{\\n  "tokenizer_class": "BertTokenizer"\\n}\\n')
        """
        name, told = "tokenizer_config.json", {}
        files, config = self.files, read_object(self._files, name)
        if list(self._clean) != list(config.get("plait_clean", ())):
            told["plait_clean"] = list(self._clean)
        if config.get("tokenizer_class") is None and FAMILIES[family] != FAMILIES[self._family]:
            told["tokenizer_class"] = FAMILIES[self._family]
        if told:
            files[name] = strictjson.dumps({**config, **told}, name)
        elif family == self._family:
            return files
        first, again = (
            dataclasses.replace(plan(*one), config={}) for one in ((self._files, self._family), (files, family))
        )
        if first != again:
            raise ValueError(f"files of a {self._family} tokenizer are read otherwise as those of {family}")
        return files

    def __len__(self):
        """The largest id and one, added tokens included."""
        return self._engine.size

    def __reduce__(self):
        return type(self), (self._files, self._family, self._clean, self._lower)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self  # nothing can change it

    def __repr__(self):
        return f"Tokenizer({self._family}, {len(self)} ids, from {self._source})"

    def encode(self, texts, max_length=None, truncate=False, start=0):
        """Turns texts into token ids, without padding.

        Parameters
        ----------
        texts : iterable of str
        max_length : int, optional
            The largest number of tokens that a text may have, special tokens included.
        truncate : bool, default False
            Cut longer texts, whose special tokens at the end stay, instead of raising an error; a warning counts them.
        start : int, default 0
            The number of the first text in messages: of texts that come part by part.

        Returns
        -------
        list of numpy.ndarray
            One int64 array ``(tokens,)`` a text, with the special tokens of the model.

        Raises
        ------
        TypeError
            `texts` is one string, or holds something other than strings.
        ValueError
            A text has more than `max_length` tokens and `truncate` is false, is no valid Unicode (a lone surrogate),
            or has more than a million characters and may not or cannot be cut before it is looked at.

        Warns
        -----
        UserWarning
            Texts were cut: how many, and which is the first.

        Examples
        --------
        >>> from plait.processing import Tokenizer
        >>> tokenizer = Tokenizer({"vocab.txt": b"[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\n[MASK]\\na\\ncat\\n##s\\n"}, "bert")
        >>> tokenizer.encode(["a cat"], max_length=3)
        Traceback (most recent call last):
        ...
        plait._texts.TextError: Tokenizer.encode: texts[0] has 4 tokens, expected at most 3; truncate=True cuts it
        """
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise TypeError(f"Tokenizer.encode: texts is one {type(texts).__name__}, expected a sequence of str")
        room = self._room(max_length)
        encoded, cut = [], []
        for i, text in enumerate(texts, start):
            ids = self._content(i, text, room if truncate else None)
            if room is not None and len(ids) > room:
                if not truncate:
                    reason = f"has {max_length + len(ids) - room} tokens, expected at most {max_length}"
                    raise _wrong(i, reason, too_long=True)
                cut.append(i)
                ids = ids[len(ids) - room :] if self._left else ids[:room]
            encoded.append(np.array(self._before + ids + self._end(ids), np.int64))
        if cut:
            warnings.warn(
                f"Tokenizer.encode: {len(cut)} text{'s were' if len(cut) > 1 else ' was'} cut to {max_length} tokens, "
                f"the first is texts[{cut[0]}]",
                stacklevel=2,
            )
        return encoded

    def tokens(self, text):
        """The pieces of one `text`, special tokens included, as the vocabulary writes them."""
        return [self._engine.token(int(i)) for i in self.encode([text])[0]]

    def _room(self, max_length):
        """How many tokens of a text fit between the special ones."""
        if max_length is None:
            return None
        if isinstance(max_length, bool) or not isinstance(max_length, (int, np.integer)):
            raise TypeError(f"Tokenizer.encode: max_length is {max_length!r}, expected a whole number or None")
        around = len(self._before) + len(self._after)
        if max_length < max(1, around):
            raise ValueError(
                f"Tokenizer.encode: max_length is {max_length}, expected at least {max(1, around)}, "
                "which are the special tokens"
            )
        return int(max_length) - around

    def _end(self, ids):
        # SigLIP's tokenizer adds no second end token to a text that ends with one.
        return [] if self._engine.ends_once and ids[-1:] == self._after else self._after

    def _content(self, i, text, room):
        """Ids of one text without those around it; with `room`, perhaps only the first ones, but more than fit."""
        if not isinstance(text, str):
            raise TypeError(f"Tokenizer.encode: texts[{i}] is {type(text).__name__}, expected str")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                reason = f"has a lone surrogate at character {error.start}, which is no text"
                raise _wrong(i, reason) from None
        if room is not None and self._local:
            size = max(_WINDOW, 16 * room)
            while size < min(len(text), self._characters):
                stop = _last_cut(text, size)
                ids = self._ids(i, text[:stop]) if stop else []
                if len(ids) > room:
                    return ids
                size *= 4
        if len(text) > self._characters:
            raise _wrong(i, f"has {len(text)} characters, expected at most {self._characters}")
        return self._ids(i, text)

    def _ids(self, i, text):
        for step in self._clean:
            text = _CLEAN[step](text)
        try:
            return self._engine.encode(text)
        except BaseException as error:
            raise _explained(error, lambda message: _wrong(i, f"with {self._source}: {message}")) from None


def _wrong(i, reason, too_long=False):
    return TextError(f"Tokenizer.encode: texts[{i}]", i, reason, too_long)


_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def _checked_files(files):
    if not isinstance(files, dict):
        raise TypeError(f"Tokenizer: files is {type(files).__name__}, expected a dict of names and bytes")
    checked = {}
    for name, data in files.items():
        if name not in FILES:
            raise ValueError(f"Tokenizer: {name!r} is none of a tokenizer's files: {', '.join(FILES)}")
        if not isinstance(data, bytes):
            raise TypeError(f"Tokenizer: {name} is {type(data).__name__}, expected bytes")
        if len(data) > FILES[name]:
            raise ValueError(f"{name}: larger than {FILES[name]} bytes, which is more than such a file can need")
        checked[name] = data
    return checked


def _clean_steps(steps):
    if isinstance(steps, str) or not isinstance(steps, (list, tuple)):
        raise TypeError(f"Tokenizer: clean is {steps!r}, expected a sequence of steps")
    for step in steps:
        if not isinstance(step, str) or step not in _CLEAN:
            raise ValueError(f"Tokenizer: clean has {step!r}, expected steps of {', '.join(_CLEAN)}")
    return tuple(steps)


def _last_cut(text, size):
    """The last place up to `size` at which a text may be cut, or 0."""
    cuts = [m.start(1) for m in _CUT.finditer(text, max(0, size - _WINDOW), size)]
    return cuts[-1] if cuts else 0


def _explained(error, explain):
    """`explain` of its message, in place of what the Rust library raises, whose panics are no Exception."""
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return error
    if isinstance(error, (MemoryError, RecursionError)):
        return error
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        return explain(str(error)[:200])
    return error


def _siglip(made, lower):
    lower = flag(made.config, "do_lower_case", True) or lower
    return SiglipEngine(made.sentencepiece, made.source, made.added, made.names["unk_token"], lower)


class _Rust:
    """The tokenizers library, behind what `Tokenizer` needs."""

    ends_once = False

    def __init__(self, made, lower):
        try:
            import tokenizers
        except ImportError:
            raise ImportError("this tokenizer needs tokenizers: pip install 'plait[encode]'") from None
        spec = {"version": "1.0", "added_tokens": [], **made.spec}
        if lower:
            own = [spec["normalizer"]] if spec["normalizer"] else []
            spec["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *own]}
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec, ensure_ascii=False))
            added = [tokenizers.AddedToken(**vars(token)) for token in made.added]
            self._tokenizer.add_tokens(added)
        except BaseException as error:
            raise _explained(error, lambda message: ValueError(f"{made.source}: {message}")) from None
        for content, index in made.declared.items():
            if self.id(content) != index:
                raise ValueError(f"{made.source}: token {content!r} has id {index}, which is {self.id(content)}")
        vocab = made.spec["model"]["vocab"]
        largest = len(vocab) - 1 if isinstance(vocab, list) else max(vocab.values())
        extra = self._tokenizer.get_added_tokens_decoder()
        self.size = 1 + max(largest, *extra) if extra else 1 + largest
        spaced = any(re.search(r"\s", token.content) for token in extra.values())
        self.local = made.local and not spaced

    def encode(self, text):
        # One by one: batches would go through threads of its own, beside those that compute.
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def id(self, token):
        return self._tokenizer.token_to_id(token)

    def token(self, index):
        return self._tokenizer.id_to_token(index)
