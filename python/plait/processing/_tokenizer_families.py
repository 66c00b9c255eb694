"""How each family of models cuts texts: which files it has, its special tokens, its components.

The components of a family are fixed here, as its original tokenizer has them, and only vocabulary, special tokens and a
few options come from the files. A ``tokenizer.json`` whose configuration names no family is taken as it stands.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable

from plait.io import strictjson

from . import _tokenizer_json as schema
from ._sentencepiece import CONTROL, USER_DEFINED, read_sentencepiece
from ._special_tokens import Added, read_object, special_tokens

__all__ = ["FAMILIES", "FILES", "Plan", "flag", "longest", "plan"]

# Names of files that a tokenizer may have, and their sizes at most.
FILES = {
    "tokenizer.json": 64 << 20,
    "tokenizer_config.json": 4 << 20,
    "special_tokens_map.json": 1 << 20,
    "added_tokens.json": 4 << 20,
    "vocab.json": 32 << 20,
    "merges.txt": 32 << 20,
    "vocab.txt": 32 << 20,
    "spiece.model": 16 << 20,
    "sentencepiece.bpe.model": 16 << 20,
}
_MAX_LENGTH = 1_000_000  # above it, model_max_length is a way to say that there is none
_CONFIG, _JSON = "tokenizer_config.json", "tokenizer.json"
_SIGLIP = "SiglipTokenizer"
FAMILIES = {
    "clip": "CLIPTokenizer",
    "siglip": _SIGLIP,
    "siglip2": "Siglip2Tokenizer",
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "clap": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "mpnet": "MPNetTokenizer",
    "t5": "T5Tokenizer",
}
_CLIP_TOKENS = {"unk_token": "<|endoftext|>", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>"}  # fmt: skip
_T5_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_SIGLIP_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
_BERT_TOKENS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
                "mask_token": "[MASK]"}  # fmt: skip
_ROBERTA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>",
                   "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}  # fmt: skip
_MPNET_TOKENS = {**_ROBERTA_TOKENS, "unk_token": "[UNK]"}
_GEMMA_TOKENS = {"unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
                 "mask_token": "<mask>"}  # fmt: skip


@dataclasses.dataclass
class Plan:
    """What there is to build.

    Parameters
    ----------
    source : str
        The file that errors name.
    spec : dict or None
        Components and model for the tokenizers library; None for SigLIP's own tokenizer.
    sentencepiece : SentencePiece or None
    names : dict
        Contents of special tokens by name, such as ``pad_token``.
    added : list of Added
        In the order in which those that the vocabulary lacks get ids.
    declared : dict
        Ids that the file says its added tokens have.
    before, after : tuple
        Names of the special tokens around a text, or their ids.
    config : dict
        ``tokenizer_config.json``.
    local : bool
        Whether words are independent of each other: white space that begins a word also begins a token.
    growth : int
        How many times as long a text may become.
    """

    source: str
    names: dict
    added: list
    config: dict
    spec: dict | None = None
    sentencepiece: object = None
    declared: dict = dataclasses.field(default_factory=dict)
    before: tuple = ()
    after: tuple = ()
    local: bool = False
    growth: int = 64


@dataclasses.dataclass(frozen=True)
class _Kind:
    model: str  # of the tokenizers library
    tokens: dict  # special tokens, where the files name no others
    components: Callable  # (model, names, config) -> (model, normalizer, pre_tokenizer)
    before: tuple | None = ()  # names of special tokens around a text; None: as the post-processor of the file says
    after: tuple | None = ()


def flag(config: dict, key: str, default, *kinds):
    """A switch of the configuration."""
    value = config.get(key, default)
    if not isinstance(value, kinds or (bool,)):
        raise ValueError(f"{_CONFIG}: {key} is {schema.short(value)}, expected true or false")
    return value


def longest(config: dict) -> int | None:
    """Most tokens of a text, ``model_max_length``; None where there is no limit, which a huge number says, too."""
    length = config.get("model_max_length")
    if isinstance(length, bool) or not isinstance(length, (int, float)) or not 1 <= length <= _MAX_LENGTH:
        return None
    return int(length)


def _clip(model, names, config):
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    model = {
        **model,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "</w>",
        "fuse_unk": False,
        "unk_token": names.get("unk_token"),
    }
    spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    words = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
    return (
        model,
        {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]},
        {"type": "Sequence", "pretokenizers": [words, _byte_level(False)]},
    )


def _byte_level(add_prefix_space):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}


def _roberta(model, names, config):
    model = {**model, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False, "unk_token": None}
    return model, None, _byte_level(flag(config, "add_prefix_space", False))


def _bert(model, names, config):
    model = {
        **model,
        "unk_token": names.get("unk_token"),
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": flag(config, "tokenize_chinese_chars", True),
        "strip_accents": flag(config, "strip_accents", None, bool, type(None)),
        "lowercase": flag(config, "do_lower_case", True),
    }
    return model, normalizer, {"type": "BertPreTokenizer"}


def _words_behind_underlines(unk_id, key=None):
    """Of XLM-RoBERTa and T5: the charsmap, then words, each behind "▁"."""

    def components(model, names, config):
        prefix = "always" if key is None or flag(config, key, True) else "never"
        underlines = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix, "split": True}
        words = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, underlines]}
        model = {**model, "unk_id": unk_id, "byte_fallback": False}
        charsmap = model.pop("charsmap", None)
        return model, charsmap and {"type": "Precompiled", "precompiled_charsmap": charsmap}, words

    return components


def _gemma(lower):
    def components(model, names, config):
        model = {
            **model,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "unk_token": names.get("unk_token"),
        }
        normalizers = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
        if lower:
            normalizers.insert(0, {"type": "Lowercase"})
        # Its spaces are "▁" by then, so that a whole text is one word to the model.
        words = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
        return model, {"type": "Sequence", "normalizers": normalizers}, words

    return components


_KINDS = {
    "CLIPTokenizer": _Kind("BPE", _CLIP_TOKENS, _clip, ("bos_token",), ("eos_token",)),
    "BertTokenizer": _Kind("WordPiece", _BERT_TOKENS, _bert, ("cls_token",), ("sep_token",)),
    "MPNetTokenizer": _Kind("WordPiece", _MPNET_TOKENS, _bert, ("cls_token",), ("sep_token",)),
    "RobertaTokenizer": _Kind("BPE", _ROBERTA_TOKENS, _roberta, ("cls_token",), ("sep_token",)),
    "XLMRobertaTokenizer": _Kind(
        "Unigram", _ROBERTA_TOKENS, _words_behind_underlines(3, "add_prefix_space"), ("bos_token",), ("eos_token",)
    ),
    "T5Tokenizer": _Kind("Unigram", _T5_TOKENS, _words_behind_underlines(2), (), ("eos_token",)),
    "GemmaTokenizer": _Kind("BPE", _GEMMA_TOKENS, _gemma(False), None, None),
    "Siglip2Tokenizer": _Kind("BPE", _GEMMA_TOKENS, _gemma(True), None, None),
}
_SAME = {"DistilBertTokenizer": "BertTokenizer", "ClapTokenizer": "RobertaTokenizer"}


def plan(files: dict, family: str) -> Plan:
    """What to build from files, by name, of a folder.

    Raises
    ------
    ValueError
        A file is damaged, or one is missing.
    """
    config = read_object(files, _CONFIG)
    kind = _class(config, family)
    data = schema.load(files[_JSON], _JSON) if _JSON in files else None
    if kind == _SIGLIP and "spiece.model" in files:
        return _siglip_plan(files, config, data)
    known = _KINDS.get(kind)
    if data is None:
        known = known or _KINDS.get(FAMILIES[family])
        if known is None or known.before is None:
            raise ValueError(f"{_JSON} is missing, which a tokenizer of {family} needs")
        source, model, names, added = _from_parts(files, config, kind if kind in _KINDS else FAMILIES[family], known)
        return _family_plan(known, source, model, names, added, config, None)
    if known is None or schema.check_model(data.get("model"), _JSON)["type"] != known.model:
        return _plain_plan(files, config, data)
    model = {"type": known.model, "vocab": data["model"]["vocab"]}
    if known.model == "BPE":
        model["merges"] = data["model"]["merges"]
    if known.model == "Unigram":
        model["charsmap"] = _charsmap_of(data.get("normalizer"))
    names, added = special_tokens(files, config, known.tokens, data)
    if kind == "T5Tokenizer" and not _lists_more(config):
        added = _with(added, _extra_ids(config))
    return _family_plan(known, _JSON, model, names, added, config, data)


def _class(config, family):
    if family not in FAMILIES:
        raise ValueError(f"family is {schema.short(family)}, expected one of {', '.join(FAMILIES)}")
    if family == "siglip2":
        return FAMILIES[family]  # its folders name other classes, which keep the case
    kind = config.get("tokenizer_class")
    if kind is None:
        return FAMILIES[family]
    if not isinstance(kind, str):
        raise ValueError(f"{_CONFIG}: tokenizer_class is {schema.short(kind)}, expected a name")
    kind = kind.removesuffix("Fast")
    return _SAME.get(kind, kind)


def _family_plan(known, source, model, names, added, config, data):
    model, normalizer, pre_tokenizer = known.components(model, names, config)
    charsmap = normalizer.get("precompiled_charsmap") if normalizer else None
    growth = schema.check_charsmap(charsmap, f"{source}: the table of characters") if charsmap else 18
    before, after = known.before, known.after
    if before is None or after is None:
        before, after = schema.affixes(data.get("post_processor"), source)
    return Plan(
        source=source,
        names=names,
        added=added,
        config=config,
        spec={"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "model": schema.check_model(model, source)},
        before=before,
        after=after,
        local=known.before is not None or not any("▁" in token.lstrip("▁") for token in model["vocab"]),
        growth=growth,
    )


def _plain_plan(files, config, data):
    """A tokenizer.json as it stands."""
    spec, growth = schema.check_pipeline(data, _JSON)
    tokens = schema.added_tokens(data, _JSON)
    spec["added_tokens"] = tokens
    padding = data.get("padding")
    pad = padding.get("pad_token") if isinstance(padding, dict) else None
    names, added = special_tokens(files, config, {"pad_token": pad} if isinstance(pad, str) else {}, data)
    present = {token["content"] for token in tokens}
    before, after = schema.affixes(data.get("post_processor"), _JSON)
    return Plan(
        source=_JSON,
        names=names,
        added=[token for token in added if token.content not in present],
        config=config,
        spec=spec,
        declared={token["content"]: token["id"] for token in tokens},
        before=before,
        after=after,
        growth=growth,
    )


def _siglip_plan(files, config, data):
    name = "spiece.model"
    names, added = special_tokens(files, config, _SIGLIP_TOKENS, data)
    if "unk_token" not in names or "eos_token" not in names:
        raise ValueError(f"{_CONFIG}: SigLIP's tokenizer needs an unknown and an end token")
    return Plan(
        source=name,
        names=names,
        added=added,
        config=config,
        sentencepiece=read_sentencepiece(files[name], name),
        after=("eos_token",),
    )


# ---------------------------------------------------------------- vocabularies


def _from_parts(files, config, kind, known):
    """(file to name, model, names, added tokens) from the files that there were before tokenizer.json."""
    names, added = special_tokens(files, config, known.tokens, None)
    if known.model == "BPE":
        vocab = strictjson.loads(_needed(files, "vocab.json", kind), "vocab.json")
        merges = _merges(_needed(files, "merges.txt", kind))
        return "vocab.json", {"type": "BPE", "vocab": vocab, "merges": merges}, names, added
    if known.model == "WordPiece":
        vocab = _lines(_needed(files, "vocab.txt", kind))
        return "vocab.txt", {"type": "WordPiece", "vocab": vocab}, names, added
    source = next((n for n in ("sentencepiece.bpe.model", "spiece.model") if n in files), None)
    model = read_sentencepiece(_needed(files, source or "spiece.model", kind), source)
    if not model.unigram:
        raise ValueError(f"{source}: expected a unigram model, got one of another algorithm")
    vocab = [[text, score] for text, score, _ in model.pieces]
    marked = [Added(t, special=k == CONTROL) for t, _, k in model.pieces if k in (CONTROL, USER_DEFINED)]
    if kind == "XLMRobertaTokenizer":
        first = [names.get(key) for key in ("bos_token", "pad_token", "eos_token", "unk_token")]
        vocab = [[text, 0.0] for text in first] + vocab[3:] + [[names.get("mask_token"), 0.0]]
    else:
        extra = _extra_ids(config)
        vocab += [[token.content, 0.0] for token in reversed(extra)]
        marked += [] if _lists_more(config) else extra
    charsmap = base64.b64encode(model.charsmap).decode() if model.charsmap else None
    return source, {"type": "Unigram", "vocab": vocab, "charsmap": charsmap}, names, _with(added, marked)


def _extra_ids(config):
    """T5's tokens for gaps in a text."""
    count = config.get("extra_ids", 100)
    if type(count) is not int or not 0 <= count <= 1000:
        raise ValueError(f"{_CONFIG}: extra_ids is {schema.short(count)}, expected 0 to 1000")
    return [Added(f"<extra_id_{i}>") for i in range(count)]


def _lists_more(config):
    return bool(config.get("extra_special_tokens") or config.get("additional_special_tokens"))


def _with(added, more):
    present = {token.content for token in added}
    return added + [token for token in more if token.content not in present]


def _needed(files, name, kind):
    if name not in files:
        raise ValueError(f"{name} is missing, which {kind} needs where there is no tokenizer.json")
    return files[name]


def _text(data, name):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _merges(data):
    lines = _text(data, "merges.txt").split("\n")
    merges = []
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if line.startswith("#version") or (not line and number == len(lines)):
            continue
        if line.count(" ") != 1:
            raise ValueError(f"merges.txt: line {number} is {schema.short(line)}, expected two tokens and a space")
        merges.append(line.split(" "))
    return merges


def _lines(data):
    vocab: dict = {}
    lines = _text(data, "vocab.txt").split("\n")
    if not lines[-1]:
        lines.pop()
    for i, line in enumerate(lines):
        vocab[line.rstrip()] = i
    return vocab


def _charsmap_of(normalizer):
    """The first charsmap of a normaliser or of its parts."""
    if not isinstance(normalizer, dict):
        return None
    parts = normalizer.get("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("type") == "Precompiled":
            return part.get("precompiled_charsmap")
    return None
