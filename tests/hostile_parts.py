"""Attacks on tokenizers and image processors, as a table; see hostile_rows.py."""

import gzip

from hostile import Raw, dumps
from hostile_spoil import NOT_JSON, Row, many, put, setting, several

PROCESSOR, CONFIG = "preprocessor_config.json", "tokenizer_config.json"

# ---------------------------------------------------------------- image processors

VALUES = {
    "size.shortest_edge": (0, -8, 2**31, 16385, True, "8", 8.0, [8], {}, Raw("1e400"), Raw("NaN")),
    "size": (0, -1, 2**40, True, "8", [8, 8, 8], [8], {}, {"height": 8}, {"shortest_edge": 8, "height": 8}, {"a": 1}),
    "crop_size": (0, -1, 2**40, 16385, True, "8", [], [8], {}, {"height": 8}, {"height": 2**31, "width": 8},
                  {"shortest_edge": 8}, {"height": "8", "width": "8"}),
    "resample": (99, -1, 6, True, "bicubic", 3.0, [3], {}),
    "rescale_factor": (0, -1, 1e300, True, "x", [1], {}, Raw("NaN"), Raw("-Infinity")),
    "image_mean": ("x", True, [], [1], [1] * 4, ["a"] * 3, [True] * 3, [1e300] * 3, {}, [Raw("NaN")] * 3, [None] * 3),
    "image_std": (0, -1, [0, 0, 0], [1, 1, 0], [-1] * 3, [1e-300] * 3, [], "x", True, [Raw("1e400")] * 3, {}),
    "do_resize": (1, 0, "true", [], {}), "do_center_crop": (1, "x", [1]), "do_rescale": (2, "no", {}),
    "do_normalize": (1.5, "", ["true"]),
    "image_processor_type": ("os.system", "evil.Processor", "", 1, True, ["CLIPImageProcessor"], {"a": 1}, None),
    "do_pad": (True, 1, "yes"), "centre": ("os", 1, True, []),
}  # fmt: skip
PROCESSORS = [
    *(
        Row("clip", f"{key} = {value!r:.99}", setting(PROCESSOR, key, value), f"{PROCESSOR[:-5]}|{key}")
        for key, values in VALUES.items()
        for value in values
    ),
    *(Row("clip", f"{PROCESSOR}: {n}", put(PROCESSOR, c), f"{PROCESSOR[:-5]}.*({m})")
      for n, (c, m) in NOT_JSON.items()),
    *(
        Row("siglip", f"{PROCESSOR}: size {value!r:.20}", setting(PROCESSOR, "size", value), "size")
        for value in ({"height": 0, "width": 8}, {"height": 8, "width": -1}, {"height": 2**31, "width": 8}, {})
    ),
    Row("siglip", "pictures of 268 million pixels", setting(PROCESSOR, "size", {"height": 16384, "width": 16384}),
        "pixels"),
    Row("vit", "another size than the model's", setting(PROCESSOR, "size", {"height": 12, "width": 12}),
        "does not fit"),
    Row("clip", "a processor in a processor", put(PROCESSOR, dumps({"image_processor": {"size": 8}})),
        "image_processor_type"),
    *(
        Row("clip", f"image_size=12 with {key} = {value!r}", setting(PROCESSOR, key, value), f"{PROCESSOR[:-5]}|{key}",
            {"image_size": 12})
        for key, value in (
            ("crop_size", "8"), ("crop_size", {"height": "8"}), ("crop_size", 0), ("size", {"shortest_edge": 0}),
            ("size", {"shortest_edge": 10**300}), ("size", {"shortest_edge": True}), ("image_processor_type", None),
        )
    ),
    *(
        Row("open_clip", f"preprocess_cfg.{key} = {value!r:.99}",
            setting("open_clip_config.json", f"preprocess_cfg.{key}", value), key)
        for key, values in {
            "mean": ("x", [1], [], True, [1e300] * 3, {}), "std": (0, [0, 0, 0], "x", [1, 1]),
            "interpolation": ("os.system", 3, True, []), "resize_mode": ("x", 1, True), "mode": ("L", 1, ["RGB"]),
            "fill_color": (-1, 256, "x", True, 1e300),
        }.items()
        for value in values
    ),
]  # fmt: skip

# ---------------------------------------------------------------- tokenizers

LETTERS = {letter: i for i, letter in enumerate("abcdefg")}
TEXT = {"vocab": LETTERS, "merges": []}


def vocab(value):
    return put("vocab.json", value if isinstance(value, bytes) else dumps(value))


def merges(text):
    return put("merges.txt", text)


def whole(changes=None, **model):
    """A tokenizer.json, of no family; None: without the key."""
    base = {"type": "WordLevel", "vocab": {"[UNK]": 0, "cat": 1}, "unk_token": "[UNK]"}
    value = {"version": "1.0", "added_tokens": [], "model": base | model} | (changes or {})
    return several(put("vocab.txt", None), put(CONFIG, dumps({"tokenizer_class": "Other"})),
                   put("tokenizer.json", dumps(value)))  # fmt: skip


def pattern(text):
    return whole({"pre_tokenizer": {
        "type": "Split", "pattern": {"Regex": text}, "behavior": "Isolated", "invert": False}})  # fmt: skip


def nested(depth):
    part = {"type": "Lowercase"}
    for _ in range(depth):
        part = {"type": "Sequence", "normalizers": [part]}
    return part


BOMBS = ("(a+)+$", "(a|a)*b", "(?:a*)*b", r"(\w+\s?)+$", "a*a*a*a*a*b", "(?=a)", r"(a)\1", "[", "(", "a{1,99999}", "",
         "x" * 1000, "(?i)a", r"\w*\w*\w*\w*$", "(?#aaaa", "a|", "[[:alpha:]]", r"\p{", r"(?<n>a)\k<n>")  # fmt: skip
IDS = {
    "2**62": {"a": 2**62}, "2**31": {"a": 2**31}, "negative": {"a": -1}, "true": {"a": True}, "text": {"a": "1"},
    "fraction": {"a": 1.0}, "list": {"a": [1]}, "null": {"a": None}, "twice": {"a": 1, "b": 1},
    "1e400": {"a": Raw("1e400")}, "NaN": {"a": Raw("NaN")}, "beyond the model": LETTERS | {"x": 41},
}  # fmt: skip
TOKENIZERS = [
    *(Row("clip", f"vocab.json: {n}", vocab(c), f"vocab.*|{m}") for n, (c, m) in NOT_JSON.items()),
    *(Row("clip", f"ids: {n}", vocab(LETTERS | v), "vocab.json|ids") for n, v in IDS.items()),
    *(Row("clip", f"vocabulary {v!r:.20}", vocab(v), "vocab.json") for v in ([], {}, ["a"], 1, "abc")),
    Row("clip", "a token of a million letters", vocab(LETTERS | {"x" * 10**6: 8}), "vocab.json"),
    Row("clip", "a lone surrogate", vocab(LETTERS | {"\ud800": 8}), "vocab.json|end"),
    Row("clip", "no special tokens", several(vocab(LETTERS), merges(b"#version: 0.2\n")), "vocab|special|token"),
    Row("clip", "a merge of three", merges(b"#version: 0.2\na b c\n"), "merges.txt: line 2"),
    Row("clip", "a merge of one", merges(b"#version: 0.2\nabc\n"), "merges.txt: line 2"),
    Row("clip", "a merge of what is not there", merges(b"#version: 0.2\nx y\n"), "vocab.json"),
    Row("clip", "a merge into what is not there", merges(b"#version: 0.2\na b\n"), "vocab.json"),
    Row("clip", "merges of no UTF-8", merges(b"#version: 0.2\n\xff\xfe \xff\n"), "merges.txt: not UTF-8"),
    Row("clip", "merges of zeros", merges(bytes(1000)), "merges.txt|vocab.json"),
    Row("clip", "merges are not there", merges(None), "merges.txt is missing"),
    Row("clip", "the vocabulary is not there", vocab(b""), "vocab.json"),
    *(Row("clip", f"{CONFIG}: {n}", put(CONFIG, c), f"{CONFIG}.*({m})") for n, (c, m) in NOT_JSON.items()
      if not n.startswith("many")),
    *(
        Row("clip", f"{key} = {value!r:.99}", setting(CONFIG, key, value), CONFIG)
        for key, values in {
            "tokenizer_class": (1, True, [], {"a": 1}), "eos_token": (1, [], {}, {"content": 1}, "", "x" * 2000),
            "added_tokens_decoder": (1, [1], {"x": {}}, {"1": {}}, {"-1": {"content": "a"}},
                                     {"9" * 30: {"content": "a"}}, {str(2**40): {"content": "a"}},
                                     {"1": {"content": "a", "special": 1}}),
            "extra_special_tokens": (1, [1], [[]], {"a": 1}, "x"),
            "additional_special_tokens": ([{"content": 1}], [{}], [None]),
        }.items()
        for value in values
    ),
    Row("bert", "an empty vocab.txt", put("vocab.txt", b""), "vocab.txt"),
    Row("bert", "vocab.txt is no UTF-8", put("vocab.txt", b"[UNK]\n\xff\n"), "vocab.txt: not UTF-8"),
    Row("bert", "vocab.txt without its special tokens", put("vocab.txt", b"a\nb\n"), "vocab.txt"),
    Row("bert", "vocab.txt of more than the model's tokens", put("vocab.txt", b"\n".join(
        [b"[PAD]", b"[UNK]", b"[CLS]", b"[SEP]", b"[MASK]", *(b"%d" % i for i in range(99))])), "104 ids"),
    Row("bert", "vocab.txt of a line of 10 MB", put("vocab.txt", b"x" * (10 << 20)), "vocab.txt"),
    *(
        Row("bert", f"{key} = {value!r}", setting(CONFIG, key, value), key)
        for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars") for value in (1, "true", [], {})
    ),
    *(Row("bert", f"pattern {text!r:.30}", pattern(text), "pattern") for text in BOMBS),
    *(Row("bert", f"tokenizer.json: {n}", put("tokenizer.json", c), m) for n, (c, m) in NOT_JSON.items()
      if not n.startswith("many")),
    *(
        Row("bert", f"model is {value!r:.99}", whole({"model": value}), "tokenizer.json")
        for value in (None, 1, [], {}, {"type": "os.system"}, {"type": ["BPE"]}, {"type": "BPE"},
                      {"type": "BPE", "vocab": []}, {"type": "BPE", **TEXT, "merges": [1]},
                      {"type": "BPE", **TEXT, "merges": [["a"]]},
                      {"type": "BPE", **TEXT, "merges": ["a z"]}, {"type": "BPE", **TEXT, "dropout": 0.5},
                      {"type": "BPE", **TEXT, "evil": 1}, {"type": "Unigram", "vocab": [["a", Raw("NaN")]]},
                      {"type": "Unigram", "vocab": [["a"]]}, {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7},
                      {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": -1}, {"type": "Unigram", "vocab": []},
                      {"type": "Unigram", "vocab": [["a", "x"]]}, {"type": "WordPiece", "vocab": {"a": 0},
                                                                   "max_input_chars_per_word": 10**9})
    ),
    *(Row("bert", f"an id of {n}", whole(vocab={"[UNK]": 0} | v), "tokenizer.json|vocabulary")
      for n, v in IDS.items()),
    *(
        Row("bert", f"normalizer {value!r:.99}", whole({"normalizer": value}), "tokenizer.json")
        for value in (1, [], {}, {"type": "os.system"}, {"type": "Sequence"}, {"type": "Sequence", "normalizers": 1},
                      {"type": "Lowercase", "evil": 1}, {"type": "Precompiled", "precompiled_charsmap": "!!"},
                      {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
                      {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
                      {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 65},
                      {"type": "Sequence", "normalizers": [
                          {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 60}] * 10},
                      {"type": "Prepend", "prepend": "x" * 10**6}, nested(20),
                      {"type": "Sequence", "normalizers": [{"type": "Lowercase"}] * 100})
    ),
    *(
        Row("bert", f"pre_tokenizer {value!r:.99}", whole({"pre_tokenizer": value}), "tokenizer.json")
        for value in (1, "x", {"type": "Custom"}, {"type": "Delimiter", "delimiter": "x"}, {"type": "Split"},
                      {"type": "Split", "pattern": {"Regex": 1}}, {"type": "Metaspace", "replacement": "xx"})
    ),
    *(
        Row("bert", f"post_processor {value!r:.99}", whole({"post_processor": value}), "post_processor|special")
        for value in (1, [], {}, {"type": "os"}, {"type": "TemplateProcessing"},
                      {"type": "BertProcessing", "sep": ["a", -1], "cls": ["a", 1]},
                      {"type": "BertProcessing", "sep": ["a", 2**40], "cls": ["a", 1]},
                      {"type": "BertProcessing", "sep": ["a", 9], "cls": ["a", 1]},
                      {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}], "special_tokens": {}})
    ),
    *(
        Row("bert", f"added_tokens {value!r:.99}", whole({"added_tokens": value}), "tokenizer.json")
        for value in (1, {"a": 1}, [1], [{}], [{"id": 2**40, "content": "x"}], [{"id": -1, "content": "x"}],
                      [{"id": True, "content": "x"}], [{"id": 1, "content": ""}], [{"id": 1, "content": 1}],
                      [{"id": 1, "content": "x" * 2000}], [{"id": 30, "content": "x", "special": 1}])
    ),
    Row("bert", "tokenizer.json with another key", whole({"auto_map": "evil"}), "auto_map"),
    Row("bert", "tokenizer.json of many lists", put("tokenizer.json", lambda: many(b"[]", 5_000_000, b'{"a":[', b"]}")),
        "more entries"),
]  # fmt: skip
HARMLESS = {
    "truncation and padding in tokenizer.json": whole({
        "truncation": {"max_length": 1, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 10**9}}}),
    "model_max_length of 1e30": setting(CONFIG, "model_max_length", 1e30),
    "a chat template": setting(CONFIG, "chat_template", "{{ ''.__class__.__mro__ }}"),
    "auto_map": setting(CONFIG, "auto_map", {"AutoTokenizer": ["evil.Tokenizer", None]}),
    "a compressed bomb beside it": put("bpe_simple_vocab_16e6.txt.gz", lambda: gzip.compress(bytes(50 << 20), 1)),
}  # fmt: skip
