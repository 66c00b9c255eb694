"""``tokenizer.json`` by a closed schema: what the tokenizers library may be asked to build, and within which bounds.

That library trusts its files. Here components come from a closed list, patterns are of a kind that cannot backtrack
without end, and nothing can make a text much longer than it was.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import reprlib

from plait.io import strictjson

from ._sentencepiece import MAX_TEXT, Charsmap

__all__ = ["MAX_IDS", "added_tokens", "affixes", "check_model", "check_pattern", "check_pipeline", "load", "short"]

MAX_IDS = 1 << 24
_MAX_ENTRIES = 1 << 20
_MAX_MERGES = 1 << 21
_MAX_TOKEN = 1024  # characters
_MAX_ADDED, _MAX_ADDED_TEXT = 1 << 17, 1 << 20
_MAX_DEPTH, _MAX_COMPONENTS = 16, 64
_MAX_GROWTH = 512
_MAX_PATTERN = 512

_KEYS = ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
         "model")  # fmt: skip
_MODELS = {
    "BPE": {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
            "ignore_merges", "vocab", "merges"},
    "WordPiece": {"unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"},
    "WordLevel": {"unk_token", "vocab"},
    "Unigram": {"unk_id", "vocab", "byte_fallback"},
}  # fmt: skip
_NORMALIZERS = {
    "Sequence": {"normalizers"},
    "BertNormalizer": {"clean_text", "handle_chinese_chars", "strip_accents", "lowercase"},
    "Lowercase": set(),
    "NFC": set(),
    "NFD": set(),
    "NFKC": set(),
    "NFKD": set(),
    "Nmt": set(),
    "Precompiled": {"precompiled_charsmap"},
    "Prepend": {"prepend"},
    "Replace": {"pattern", "content"},
    "Strip": {"strip_left", "strip_right"},
    "StripAccents": set(),
}
_PRE_TOKENIZERS = {
    "Sequence": {"pretokenizers"},
    "BertPreTokenizer": set(),
    "ByteLevel": {"add_prefix_space", "trim_offsets", "use_regex"},
    "Digits": {"individual_digits"},
    "Metaspace": {"replacement", "add_prefix_space", "str_rep", "prepend_scheme", "split"},
    "Punctuation": {"behavior"},
    "Split": {"pattern", "behavior", "invert"},
    "Whitespace": set(),
    "WhitespaceSplit": set(),
}


def load(data: bytes, name: str) -> dict:
    """The object of a tokenizer file, before anything in it is looked at."""
    # An empty list takes twenty times as much memory as it has characters.
    if data.count(b"[") + data.count(b"{") > 2 * _MAX_MERGES or data.count(b",") > 4 * _MAX_MERGES:
        raise ValueError(f"{name}: more entries than a tokenizer can have")
    value = strictjson.loads(data, name)
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected an object")
    return value


def check_pipeline(data: dict, name: str) -> tuple:
    """(description of all but special tokens, how many times as long a text may become at most).

    Truncation and padding are left out, and so is the decoder.
    """
    for key in data:
        if key not in _KEYS:
            raise ValueError(f"{name}: {short(key)} is unknown, expected {', '.join(_KEYS)}")
    growth = _Growth(name)
    growth.component(data.get("normalizer"), "normalizer", _NORMALIZERS, "normalizers")
    growth.component(data.get("pre_tokenizer"), "pre_tokenizer", _PRE_TOKENIZERS, "pretokenizers")
    model = check_model(data.get("model"), name)
    return {key: data.get(key) for key in ("normalizer", "pre_tokenizer")} | {"model": model}, growth.factor


class _Growth:
    """Walks through components and multiplies by how much each may lengthen a text."""

    def __init__(self, name):
        self.name, self.factor, self.seen = name, 1, 0

    def component(self, value, path, table, key, depth=0):
        name = self.name
        if value is None and depth == 0:
            return
        if not isinstance(value, dict):
            raise ValueError(f"{name}: {path} is {short(value)}, expected an object")
        kind = value.get("type")
        if not isinstance(kind, str) or kind not in table:
            raise ValueError(f"{name}: {path} has type {short(kind)}, expected one of {', '.join(table)}")
        unknown = set(value) - table[kind] - {"type"}
        if unknown:
            raise ValueError(f"{name}: {path} ({kind}) has {short(min(unknown))}, which is unknown")
        self.seen += 1
        if depth > _MAX_DEPTH or self.seen > _MAX_COMPONENTS:
            raise ValueError(f"{name}: {path} has more than {_MAX_COMPONENTS} parts")
        if kind == "Sequence":
            parts = value.get(key)
            if not isinstance(parts, list):
                raise ValueError(f"{name}: {path}.{key} is {short(parts)}, expected a list")
            for i, part in enumerate(parts):
                self.component(part, f"{path}.{key}[{i}]", table, key, depth + 1)
            return
        for option, entry in value.items():
            if option != "precompiled_charsmap" and isinstance(entry, str) and len(entry) > 64:
                raise ValueError(f"{name}: {path}.{option} has {len(entry)} characters, expected at most 64")
        factor = {"Lowercase": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "BertNormalizer": 9}.get(kind, 1)
        if "pattern" in value:
            check_pattern(value["pattern"], f"{name}: {path}.pattern")
        if kind in ("Replace", "Prepend"):
            factor = max(1, len(str(value.get("content", value.get("prepend", "")))))
        if kind == "Precompiled":
            factor = check_charsmap(value.get("precompiled_charsmap"), f"{name}: {path}.precompiled_charsmap")
        self.factor *= factor
        if self.factor > _MAX_GROWTH:
            raise ValueError(f"{name}: {path} may make a text more than {_MAX_GROWTH} times as long")


def check_charsmap(value, where) -> int:
    """How many bytes one character may become; the table is base64."""
    try:
        blob = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except binascii.Error:
        blob = None
    if blob is None:
        raise ValueError(f"{where} is {short(value)}, expected base64")
    return Charsmap(blob, where).longest


# One character of a pattern: an escape, a class without nested ones, or a letter.
_ATOM = r"(?:\\[sSdDwWnrtfv]|\\[pP]\{\^?\w{1,24}\}|\\[^\w]|\[\^?(?:\\.|(?!&&)[^\[\]\\])+\]|[^\\\[\](){}*+?|^$])"
_PART = re.compile(rf"{_ATOM}(?P<count>[?*+]|\{{(?P<low>\d{{1,3}})(?:,\d{{0,3}})?\}})?", re.DOTALL)


def check_pattern(pattern, where):
    """Refuses what could take time beyond all bounds.

    Alternatives are allowed in which nothing follows what repeats, so that none fails after a long match: time is
    proportional to the text.
    """
    kind, text = next(iter(pattern.items())) if isinstance(pattern, dict) and len(pattern) == 1 else (None, None)
    if kind not in ("String", "Regex") or not isinstance(text, str) or not 1 <= len(text) <= _MAX_PATTERN:
        raise ValueError(f"{where} is {short(pattern)}, expected a String or Regex of 1 to {_MAX_PATTERN} characters")
    if kind == "String":
        return
    optional, due, repeats, i = 0, 0, False, 0
    while i <= len(text):
        if i == len(text) or text[i] == "|":
            if not due:
                raise ValueError(f"{where}: {text!r} has an alternative that matches nothing")
            optional, due, repeats = 0, 0, False
            i += 1
            continue
        if repeats and text.startswith(r"(?!\S)", i):  # behind white space: fails, if at all, on one character
            if not text[:i].endswith(r"\s+"):
                break
            i += 6
            continue
        part = _PART.match(text, i)
        if part is None or repeats:
            break
        count = part["count"]
        optional += count == "?"
        due += count is None or count == "+" or int(part["low"] or 0) > 0
        repeats = count is not None and count != "?"
        if optional > 2:
            break
        i = part.end()
    else:
        return
    raise ValueError(f"{where}: {text!r} is not of the patterns that are allowed, see character {i}")


def check_model(model, name: str) -> dict:
    """The model with its type, once vocabulary and options are within bounds."""
    if not isinstance(model, dict):
        raise ValueError(f"{name}: model is {short(model)}, expected an object")
    kind = model.get("type", _untyped(model))
    if not isinstance(kind, str) or kind not in _MODELS:
        raise ValueError(f"{name}: model has type {short(kind)}, expected one of {', '.join(_MODELS)}")
    unknown = set(model) - _MODELS[kind] - {"type"}
    if unknown:
        raise ValueError(f"{name}: model ({kind}) has {short(min(unknown))}, which is unknown")
    model = {**model, "type": kind}
    vocab = model.get("vocab")
    if kind == "Unigram":
        _check_pieces(vocab, model.get("unk_id"), name)
        return model
    check_vocab(vocab, name)
    unk = model.get("unk_token")
    if unk is not None and (not isinstance(unk, str) or unk not in vocab):
        raise ValueError(f"{name}: the unknown token {short(unk)} is not in the vocabulary")
    if kind == "BPE":
        if model.get("dropout") not in (None, 0):
            raise ValueError(f"{name}: dropout is {short(model['dropout'])}, which would make ids random")
        merges = model.get("merges")
        if not isinstance(merges, list) or len(merges) > _MAX_MERGES:
            raise ValueError(f"{name}: merges must be a list of at most {_MAX_MERGES}")
    if kind == "WordPiece":
        longest = model.get("max_input_chars_per_word", 100)
        if isinstance(longest, bool) or not isinstance(longest, int) or not 1 <= longest <= 1000:
            raise ValueError(f"{name}: max_input_chars_per_word is {short(longest)}, expected 1 to 1000")
    return model


def _untyped(model):
    """Files of the first versions leave the type out."""
    if "merges" in model:
        return "BPE"
    return "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"


def check_vocab(vocab, name: str):
    """An object of tokens and ids, each id once."""
    if not isinstance(vocab, dict) or not 1 <= len(vocab) <= _MAX_ENTRIES:
        raise ValueError(f"{name}: the vocabulary must be an object of 1 to {_MAX_ENTRIES} tokens")
    if set(map(type, vocab.values())) != {int} or min(vocab.values()) < 0 or max(vocab.values()) >= MAX_IDS:
        token = next(t for t, i in vocab.items() if type(i) is not int or not 0 <= i < MAX_IDS)
        raise ValueError(f"{name}: token {short(token)} has id {short(vocab[token])}, expected 0 to {MAX_IDS - 1}")
    if len(set(vocab.values())) != len(vocab):
        last = {i: t for t, i in vocab.items()}
        token = next(t for t, i in vocab.items() if last[i] != t)
        raise ValueError(f"{name}: token {short(token)} has id {vocab[token]}, and so has another one")
    if max(map(len, vocab)) > _MAX_TOKEN:
        raise ValueError(f"{name}: a token has more than {_MAX_TOKEN} characters")


def _check_pieces(vocab, unk_id, name):
    if not isinstance(vocab, list) or not 1 <= len(vocab) <= _MAX_ENTRIES:
        raise ValueError(f"{name}: the vocabulary must be a list of 1 to {_MAX_ENTRIES} pieces")
    size = 0
    for i, entry in enumerate(vocab):
        if not (
            isinstance(entry, (list, tuple))
            and len(entry) == 2
            and isinstance(entry[0], str)
            and type(entry[1]) in (int, float)
            and math.isfinite(entry[1])
            and len(entry[0]) <= _MAX_TOKEN
        ):
            raise ValueError(f"{name}: piece {i} is {short(entry)}, expected a text and a finite number")
        size += len(entry[0])
    if size > MAX_TEXT:
        raise ValueError(f"{name}: the pieces have {size} characters, expected at most {MAX_TEXT}")
    if unk_id is not None and (type(unk_id) is not int or not 0 <= unk_id < len(vocab)):
        raise ValueError(f"{name}: unk_id is {short(unk_id)}, expected 0 to {len(vocab) - 1}")


def added_tokens(data: dict, name: str) -> list:
    """The entries of ``added_tokens``, checked: dicts with an id, a content and five flags."""
    tokens = data.get("added_tokens") or []
    if not isinstance(tokens, list) or len(tokens) > _MAX_ADDED:
        raise ValueError(f"{name}: added_tokens must be a list of at most {_MAX_ADDED}")
    size = 0
    for i, token in enumerate(tokens):
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not 1 <= len(content) <= _MAX_TOKEN:
            raise ValueError(f"{name}: added_tokens[{i}] is {short(token)}, expected a content and an id")
        index = token.get("id")
        if type(index) is not int or not 0 <= index < MAX_IDS:
            raise ValueError(f"{name}: token {short(content)} has id {short(index)}, expected 0 to {MAX_IDS - 1}")
        size += len(content)
    if size > _MAX_ADDED_TEXT:
        raise ValueError(f"{name}: the added tokens have {size} characters, expected at most {_MAX_ADDED_TEXT}")
    return tokens


def affixes(processor, name: str, depth: int = 0) -> tuple:
    """(ids before, ids after) that a post-processor puts around a text.

    Raises
    ------
    ValueError
        It does something else, or is of an unknown type.
    """
    if processor is None:
        return (), ()
    kind = processor.get("type") if isinstance(processor, dict) else None
    try:
        if kind == "ByteLevel":
            return (), ()
        if kind in ("BertProcessing", "RobertaProcessing"):
            return _ids([processor["cls"][1]]), _ids([processor["sep"][1]])
        if kind == "TemplateProcessing":
            return _template(processor)
        if kind == "Sequence" and depth < _MAX_DEPTH and len(processor["processors"]) <= _MAX_COMPONENTS:
            before: tuple = ()
            after: tuple = ()
            for part in processor["processors"]:
                first, last = affixes(part, name, depth + 1)
                before, after = first + before, after + last
            return before, after
    except (KeyError, IndexError, TypeError, AttributeError):
        pass
    raise ValueError(f"{name}: post_processor ({short(kind)}) is none of the supported kinds, or damaged")


def _template(processor):
    sides: list = [[]]
    for part in processor["single"]:
        if "Sequence" in part:
            sides.append([])
        else:
            sides[-1] += _ids(processor["special_tokens"][part["SpecialToken"]["id"]]["ids"])
    if len(sides) != 2 or max(map(len, sides)) > 64:
        raise KeyError
    return tuple(sides[0]), tuple(sides[1])


def _ids(values):
    if not all(type(v) is int and 0 <= v < MAX_IDS for v in values):
        raise KeyError
    return tuple(values)


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60


def short(value):
    """A value for a message, whatever its size."""
    return _repr.repr(value)
