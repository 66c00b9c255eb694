"""Files of tokenizers that nobody vouches for: each is an error that names it, soon, or a tokenizer."""

import base64
import copy
import gzip
import json
import random
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.processing import Tokenizer
from plait.processing._sentencepiece import Charsmap, Unigram, read_sentencepiece

pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")


def ids(tokenizer, text):
    return tokenizer.encode([text])[0].tolist()


# ---------------------------------------------------------------- hostile tokenizer.json


PLAIN = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                   "lowercase": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
              "max_input_chars_per_word": 100, "vocab": {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "##b": 4}},
}  # fmt: skip
AS_IT_STANDS = b'{"tokenizer_class": "PreTrainedTokenizerFast"}'


def plain(change):
    """A tokenizer from PLAIN once `change` was at work, which may give bytes instead."""
    whole = copy.deepcopy(PLAIN)
    content = change(whole)
    content = content if isinstance(content, bytes) else json.dumps(whole).encode()
    return Tokenizer({"tokenizer.json": content, "tokenizer_config.json": AS_IT_STANDS}, "bert")


def put(path, value):
    def change(d):
        *way, last = path.split(".")
        for step in way:
            d = d[step]
        d[last] = value

    return change


def token(content, index, **flags):
    return [{"id": index, "content": content, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, **flags}]  # fmt: skip


def model(kind, **options):
    base = {
        "BPE": {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                "fuse_unk": False, "byte_fallback": False, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
        "Unigram": {"unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -2.0]], "byte_fallback": False},
    }[kind]  # fmt: skip
    return put("model", {"type": kind, **base, **options})


def split(regex):
    return put("pre_tokenizer", {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False})


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def sequence(*parts):
    return put("normalizer", {"type": "Sequence", "normalizers": list(parts)})


def charsmap(units, texts):
    blob = struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + texts
    return put("normalizer", {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()})


FINE = {
    "as it is": (lambda d: None, "ab a", [2, 4, 2]),
    "no type": (lambda d: d["model"].pop("type") and None, "ab", [2, 4]),
    "added": (put("added_tokens", token("zz", 5)), "azzb", [2, 5, 3]),
    "BPE": (model("BPE"), "ab b", [2, 1]),
    "pairs": (model("BPE", merges=[["a", "b"]]), "ab", [2]),
    "Unigram": (model("Unigram"), "ab", [1, 2]),
    "GPT-2's pattern": (
        split(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
        "ab",
        [2, 4],
    ),
    "CLIP's pattern": (split(r"<\|endoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "ab", [2, 4]),
    "SigLIP's pattern": (split(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"), "a!", [2, 1]),
    "spaces": (split(r" {2,}"), "a", [2]),
    "parts": (
        sequence({"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True}),
        "A",
        [2],
    ),
    "around": (put("post_processor", {"type": "BertProcessing", "sep": ["b", 3], "cls": ["a", 2]}), "b", [2, 3, 3]),
    "twice around": (
        put(
            "post_processor",
            {
                "type": "Sequence",
                "processors": [
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                    {"type": "BertProcessing", "sep": ["b", 3], "cls": ["a", 2]},
                    {"type": "RobertaProcessing", "sep": ["##b", 4], "cls": ["[PAD]", 0], "trim_offsets": True},
                ],
            },
        ),
        "b",
        [0, 2, 3, 3, 4],
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_tokenizer_json_as_it_stands(name):
    change, text, want = FINE[name]
    assert ids(plain(change), text) == want


def test_truncation_and_padding_of_the_file_are_not_applied():
    def change(d):
        d["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
        d["padding"] = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                        "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip

    tokenizer = plain(change)
    assert ids(tokenizer, "ab") == [2, 4] and ids(tokenizer, "a " * 20) == [2] * 20
    assert tokenizer.pad_id == 0


def test_no_cut_where_the_pipeline_is_unknown():
    assert not plain(lambda d: None)._local


HOSTILE = {
    "nothing": (lambda d: b"", "not JSON"),
    "no object": (lambda d: b"[1]", "expected an object"),
    "not UTF-8": (lambda d: b'{"a": "\xff"}', "not UTF-8"),
    "deep": (lambda d: b'{"a": ' + b"[" * 100_000, "deeper than"),
    "a key twice": (lambda d: b'{"model": 1, "model": 2}', "twice"),
    "NaN": (lambda d: b'{"model": NaN}', "not finite"),
    "too many lists": (lambda d: b'{"a": [' + b"[]," * 5_000_000 + b"[]]}", "more entries"),
    "too large": (lambda d: b" " * ((64 << 20) + 1), "larger than"),
    "truncated": (lambda d: json.dumps(d).encode()[:-20], "not JSON"),
    "no model": (lambda d: d.pop("model") and None, "model is None"),
    "another key": (put("import", "os"), "'import' is unknown"),
    "another model": (put("model.type", "Evil"), "type 'Evil'"),
    "an option too many": (put("model.code", "x"), "'code', which is unknown"),
    "no vocabulary": (put("model.vocab", {}), "vocabulary must be"),
    "vocabulary of another kind": (put("model.vocab", [["a", 1.0]]), "vocabulary must be"),
    "id below 0": (put("model.vocab.a", -1), "token 'a' has id -1"),
    "id too large": (put("model.vocab.a", 1 << 24), "has id 16777216"),
    "id of 30 digits": (put("model.vocab.a", 10**30), "has id 1000"),
    "id true": (put("model.vocab.a", True), "has id True"),
    "id 1.0": (put("model.vocab.a", 1.0), "has id 1.0"),
    "id twice": (put("model.vocab.a", 3), "and so has another"),
    "long token": (lambda d: d["model"]["vocab"].update({"a" * 2000: 9}), "more than 1024"),
    "surrogate": (lambda d: json.dumps(d).replace('"a": 2', '"\\ud800": 2').encode(), "surrogate"),
    "no such unknown token": (put("model.unk_token", "zzz"), "unknown token 'zzz'"),
    "words of any length": (put("model.max_input_chars_per_word", 10**9), "expected 1 to 1000"),
    "added id": (put("added_tokens", token("[PAD]", 7)), "has id 7, which is 0"),
    "added id below 0": (put("added_tokens", token("x", -7)), "has id -7"),
    "added nothing": (put("added_tokens", token("", 5)), "expected a content and an id"),
    "added too much": (put("added_tokens", [token("x" * 1000, i)[0] for i in range(2000)]), "have 2000000 characters"),
    "added flag": (put("added_tokens", token("x", 5, lstrip="yes")), "lstrip is 'yes'"),
    "another normaliser": (put("normalizer", {"type": "Evil"}), "type 'Evil'"),
    "a normaliser's code": (put("normalizer.code", "x"), "'code', which is unknown"),
    "a normaliser's switch": (put("normalizer.lowercase", 3), "tokenizer.json: "),
    "a list for a normaliser": (put("normalizer", []), "normalizer is"),
    "100 normalisers": (sequence(*[{"type": "NFC"}] * 100), "more than 64 parts"),
    "a million times as long": (sequence(*[replace("a", "aa")] * 20), "more than 512 times"),
    "long content": (put("normalizer", replace("a", "a" * 1000)), "at most 64"),
    "another pre-tokenizer": (put("pre_tokenizer", {"type": "Evil"}), "type 'Evil'"),
    "underline of three": (
        put("pre_tokenizer", {"type": "Metaspace", "replacement": "abc", "prepend_scheme": "always"}),
        "expected a character",
    ),
    "another post-processor": (put("post_processor", {"type": "Evil"}), "post_processor"),
    "a broken template": (put("post_processor", {"type": "TemplateProcessing", "single": [{}]}), "post_processor"),
    "a template without text": (put("post_processor", {"type": "TemplateProcessing", "single": []}), "post_processor"),
    "an id around that is none": (
        put("post_processor", {"type": "BertProcessing", "sep": ["x", 99], "cls": ["y", 0]}),
        "not in the vocabulary",
    ),
    "random ids": (model("BPE", dropout=0.5), "dropout is 0.5"),
    "merge of nothing": (model("BPE", merges=["a c"]), "out of vocabulary"),
    "merge to nothing": (model("BPE", merges=["b a"]), "out of vocabulary"),
    "merge of three": (model("BPE", merges=["a b c"]), "tokenizer.json: "),
    "merges of another kind": (model("BPE", merges={"a": 1}), "merges must be"),
    "a panic while it is built": (
        model("BPE", continuing_subword_prefix="\u00e9", merges=[["a", "b"]]),
        "tokenizer.json: ",
    ),
    "unigram without pieces": (model("Unigram", vocab=[]), "list of 1 to"),
    "unigram of words": (model("Unigram", vocab=[["a", "b"]]), "piece 0 is"),
    "unigram's unknown": (model("Unigram", unk_id=5), "unk_id is 5"),
    "unigram too large": (model("Unigram", vocab=[["<unk>", 0.0]] + [["a" * 1000, 0.0]] * 3200), "characters"),
    "infinite score": (lambda d: json.dumps(d).replace('"version"', '"x": 1e999, "version"').encode(), "not finite"),
    "no charsmap": (put("normalizer", {"type": "Precompiled", "precompiled_charsmap": "!"}), "expected base64"),
    "short charsmap": (charsmap([], b"abcdefgh"), "is damaged"),
    "long replacement": (charsmap([0], b"a" * 10_000 + b"\0"), "more than 256 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tokenizer_json(name):
    change, message = HOSTILE[name]
    started = time.perf_counter()
    with pytest.raises(ValueError) as caught:
        plain(change)
    assert message in str(caught.value) and "tokenizer.json" in str(caught.value)
    assert len(str(caught.value)) < 500 and time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "regex",
    [
        "(a+)+$", "(?:a|a)*b", "a*a*a*b", "[a-z]+b", r"(a)\1", "a?a?a?aaa", "(?<=a)b", "a{1,1000}b", "a*", "a?|b",
        "^a", "[[a]&&b]+", "[a&&b]+", "(?i:'s)", r"\A +", "a++b", r"\s+(?!\S)b", r"b+(?!\S)", r"a\s+(?!a)", "a|", "[a",
        "a" * 600, ".*.*=", r"\s*[\r\n]+", r" +\z", r"\X+", r"\h{1,2}b",
    ],
)  # fmt: skip
def test_patterns_that_could_take_endless_time_are_refused(regex):
    with pytest.raises(ValueError, match=r"tokenizer\.json: pre_tokenizer\.pattern"):
        plain(split(regex))


@pytest.mark.parametrize("regex", [r"\s+(?!\S)|\s+", r" ?[^\s\p{L}]+", r"[\p{L}]+|a?b?c+", r"x{1,999}", "."])
def test_patterns_that_are_allowed_take_linear_time(regex):
    tokenizer = plain(split(regex))
    started = time.perf_counter()
    for text in (" " * 200_000 + "a", "ab" * 100_000, "x" * 200_000, "!" * 200_000):
        assert len(tokenizer.encode([text])) == 1
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("seed", range(4))
def test_panics_of_the_rust_library_are_errors(seed):
    units = [0xFFFFFFFF] * 256 if seed == 0 else [random.Random(seed).getrandbits(32) for _ in range(256)]
    tokenizer = plain(charsmap(units, b"abc\0"))
    outcomes = set()
    for c in range(1, 256):
        try:
            outcomes.add(len(tokenizer.encode(["a", chr(c)])))
        except ValueError as error:
            assert "with tokenizer.json" in str(error)
            outcomes.add("error")
    assert outcomes <= {2, "error"} and outcomes


@pytest.mark.parametrize(
    "files, family, error, message",
    [
        ({}, "elmo", ValueError, "family is 'elmo', expected one of clip"),
        ({}, None, ValueError, "family is None"),
        ([], "bert", TypeError, "files is list"),
        ({"../vocab.txt": b""}, "bert", ValueError, "none of a tokenizer's files"),
        ({"vocab.txt": "a"}, "bert", TypeError, "vocab.txt is str, expected bytes"),
        ({"vocab.txt": b"a" * ((32 << 20) + 1)}, "bert", ValueError, "vocab.txt: larger"),
        ({}, "bert", ValueError, "vocab.txt is missing"),
        ({"vocab.json": b"{}"}, "clip", ValueError, "merges.txt is missing"),
        ({"merges.txt": b""}, "clip", ValueError, "vocab.json is missing"),
        ({}, "siglip2", ValueError, "tokenizer.json is missing"),
        ({}, "siglip", ValueError, "tokenizer.json is missing"),
        ({}, "t5", ValueError, "spiece.model is missing"),
        ({"vocab.txt": b"a\nb\n"}, "bert", ValueError, "unknown token '[UNK]' is not in the vocabulary"),
        ({"vocab.txt": b"[UNK]\n\xff"}, "bert", ValueError, "vocab.txt: not UTF-8"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b"a b c\n"}, "roberta", ValueError, "merges.txt: line 1"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b"a b\n"}, "roberta", ValueError, "out of vocabulary"),
        ({"vocab.json": b'{"a": 0, "a": 1}', "merges.txt": b""}, "roberta", ValueError, "vocab.json: key 'a' occurs"),
        ({"vocab.json": b'["a"]', "merges.txt": b""}, "roberta", ValueError, "vocab.json: the vocabulary must be"),
        ({"spiece.model": b""}, "t5", ValueError, "spiece.model: no pieces"),
        ({"spiece.model": b"\x00"}, "siglip", ValueError, "spiece.model: "),
    ],
)  # fmt: skip
def test_files_that_make_no_tokenizer(files, family, error, message):
    with pytest.raises(error) as caught:
        Tokenizer(files, family)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"pad_token": 5}, "pad_token is 5"),
        ({"pad_token": ""}, "expected a token of 1 to 1024"),
        ({"pad_token": {"content": "x", "lstrip": 1}}, "lstrip is 1"),
        ({"tokenizer_class": ["a"]}, "tokenizer_class is ['a']"),
        ({"do_lower_case": "yes"}, "do_lower_case is 'yes'"),
        ({"strip_accents": 0}, "strip_accents is 0"),
        ({"added_tokens_decoder": []}, "added_tokens_decoder is []"),
        ({"added_tokens_decoder": {"-1": {"content": "x"}}}, "has id '-1'"),
        ({"added_tokens_decoder": {"99999999999": {"content": "x"}}}, "has id 99999999999"),
        ({"added_tokens_decoder": {"5": {}}}, "expected a token"),
        ({"extra_special_tokens": 5}, "extra_special_tokens is 5"),
        ({"extra_special_tokens": [5]}, "extra_special_tokens is 5"),
        ({"plait_clean": ["exec"]}, "clean has 'exec'"),
        ({"plait_clean": "lower"}, "clean is 'lower'"),
        ({"cls_token": None}, "cls_token that texts get is not in the vocabulary"),
    ],
)
def test_configurations_that_make_no_tokenizer(config, message):
    files = {"vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", "tokenizer_config.json": json.dumps(config).encode()}
    with pytest.raises(ValueError if "lower'" not in message else TypeError) as caught:
        Tokenizer(files, "bert")
    assert message in str(caught.value)


# ---------------------------------------------------------------- SentencePiece models


def field(number, value):
    """One field of a protocol buffer."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def pieces(*entries, trainer=b"", normalizer=b""):
    model = b"".join(
        field(1, field(1, text.encode()) + field(2, score) + field(3, kind)) for text, score, kind in entries
    )
    return model + field(2, trainer + field(40, 2)) + field(3, normalizer)


SMALL = [
    ("<pad>", 0.0, 3),
    ("</s>", 0.0, 3),
    ("<unk>", 0.0, 2),
    ("▁", -2.0, 1),
    ("a", -3.0, 1),
    ("▁a", -3.5, 1),
    ("b", -4.0, 1),
]


def test_small_unigram_by_hand():
    """ab: "▁a" and "b" score -7.5, "▁", "a" and "b" -9; unknown ones are joined, spaces collapse."""
    siglip = Tokenizer({"spiece.model": pieces(*SMALL)}, "siglip")
    assert ids(siglip, "Ab") == [5, 6, 1] and ids(siglip, "xyz b,a") == [3, 2, 3, 6, 4, 1]
    unigram = Unigram(read_sentencepiece(pieces(*SMALL), "m"), "m")
    assert unigram.encode("  b   a ") == [3, 6, 5] and unigram.encode("") == [] and unigram.encode("xx") == [3, 2]
    kept = Unigram(read_sentencepiece(pieces(*SMALL, normalizer=field(4, 0) + field(3, 0)), "m"), "m")
    assert kept.encode("a  b ") == [4, 3, 3, 6, 3] and kept.encode("") == []


@pytest.mark.parametrize(
    "content, message",
    [
        (pieces(*SMALL)[:-1], "ends within"),
        (b"\x0b", "wire type 3"),
        (b"\xff" * 11, "too many bytes"),
        (b"\x0a\xff\xff\xff\xff\x0f", "ends within a field"),
        (field(1, 5), "another type"),
        (pieces(*SMALL, ("a", 0.0, 1)), "a piece occurs twice"),
        (pieces(*SMALL, ("", 0.0, 1)), "piece 7 has 0 characters"),
        (pieces(*SMALL, ("a" * 200, 0.0, 1)), "piece 7 has 200 characters"),
        (pieces(*SMALL, ("c", float("nan"), 1)), "the score of piece 7 is nan"),
        (pieces(*SMALL, ("c", float("inf"), 1)), "the score of piece 7 is inf"),
        (pieces(*SMALL, ("c", 0.0, 9)), "piece 7 has type 9"),
        (field(1, field(1, b"\xff")), "piece 0 is not UTF-8"),
        (pieces(*SMALL[:2]), "the unknown piece is number 2"),
        (pieces(*SMALL[:2], ("x", 0.0, 1)), "the unknown piece is number 2"),
        (pieces(*SMALL, trainer=field(3, 2)), "expected a unigram model"),
        (pieces(*SMALL, trainer=field(24, 1)), "spaces as"),
        (pieces(*SMALL, normalizer=field(5, 0)), "spaces as"),
        (pieces(*SMALL, ("<0x41>", 0.0, 6)), "are not supported"),
        (pieces(*SMALL, normalizer=field(2, b"abc")), "damaged"),
        (pieces(*SMALL, normalizer=field(2, struct.pack("<II", 4, 0) + b"x" * 300)), "more than 256 bytes"),
    ],
)
def test_hostile_sentencepiece(content, message):
    with pytest.raises(ValueError) as caught:
        Tokenizer({"spiece.model": content}, "siglip")
    assert message in str(caught.value) and "spiece.model" in str(caught.value)


def test_every_truncation_of_a_model_is_an_error_or_a_model():
    whole = pieces(*SMALL, normalizer=field(2, struct.pack("<IIII", 8, 0, 0, 0)))
    errors = 0
    for stop in range(len(whole)):
        try:
            Tokenizer({"spiece.model": whole[:stop]}, "siglip").encode(["ab"])
        except ValueError as error:
            errors += "spiece.model" in str(error)
    assert errors > len(whole) // 2


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.builds(lambda d: pieces(*SMALL, normalizer=field(2, d)), st.binary(max_size=120)))
def test_any_bytes_as_a_model(content):
    try:
        tokenizer = Tokenizer({"spiece.model": content}, "siglip")
        outcome = tokenizer.encode(["ab \u00e9\u0301 \U0001f600"])[0].tolist()
    except ValueError as error:
        outcome = str(error)
    assert outcome


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=300), st.text(max_size=20))
def test_any_table_of_characters(units, text):
    blob = struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + b"ab\0\xc3\xa9\0"
    try:
        outcome = Charsmap(blob, "m")(text.encode(errors="replace").decode())
    except ValueError as error:
        outcome = error
        assert str(error) == "m: the table of characters is damaged"
    assert isinstance(outcome, (str, ValueError))


# ---------------------------------------------------------------- OpenAI's merges


HEAD = b'"bpe_simple_vocab_16e6.txt#version: 0.2\n'


@pytest.mark.parametrize(
    "content, error, message",
    [
        ("text", TypeError, "is str, expected the content of the file as bytes"),
        (b"", ValueError, "expected OpenAI's list of merges"),
        (b"#!/bin/sh\n", ValueError, "begins with '#!/bin/sh'"),
        (HEAD + b"a b c\n", ValueError, "line 2 is 'a b c'"),
        (HEAD + b"a b\nab zz\n", ValueError, "line 3 is 'ab zz'"),
        (HEAD + b"a b\n\na c\n", ValueError, "line 3 is ''"),
        (HEAD + b"a b\na b\n", ValueError, "two merges give the same token"),
        (HEAD + b"\xff \xff\n", ValueError, "not UTF-8"),
        (gzip.compress(HEAD + b"a b\n")[:-9], ValueError, "ends early"),
        (b"\x1f\x8bnonsense", ValueError, "damaged"),
        (gzip.compress(b"\0" * (40 << 20)), ValueError, "larger than"),
    ],
)
def test_merges_that_make_no_tokenizer(content, error, message):
    with pytest.raises(error) as caught:
        Tokenizer.clip_from_bpe(content)
    assert message in str(caught.value)


def test_merges_compressed_or_not():
    content = HEAD + b"c a\nca t</w>\n"
    for data in (content, gzip.compress(content), memoryview(content), bytearray(content)):
        tokenizer = Tokenizer.clip_from_bpe(data)
        assert len(tokenizer) == 516 and tokenizer.tokens("CAT &lt;")[1:-1] == ["cat</w>", "<</w>"]
