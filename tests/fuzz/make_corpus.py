"""Writes the stored corpus: ``python tests/fuzz/make_corpus.py``. Small, whole and readable inputs to begin with."""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import hostile  # noqa: E402
from targets import NAMES, TOKENIZER  # noqa: E402


def as_text(family, files):
    parts = [b"=== " + family.encode() + b"\n"]
    for name, content in files.items():
        content = content if isinstance(content, bytes) else hostile.dumps(content)
        parts.append(b"=== " + name.encode() + b"\n" + content.rstrip(b"\n") + b"\n")
    return b"".join(parts)


def seeds():
    """(target, name, bytes)."""
    for family, build in hostile.FAMILIES.items():
        files = {n: c for n, c in build().items() if n in NAMES and not n.endswith(".safetensors")}
        yield "folder", family, as_text(family, files)
        for name, content in build().items():
            if name.endswith(".json"):
                yield "text", f"{family}-{name.replace('/', '-')}", hostile.dumps(content)
    for family in ("clip", "bert"):
        files = {n: c for n, c in hostile.FAMILIES[family]().items() if n in TOKENIZER}
        yield "tokenizer", family, as_text(family, files)
    for name, files in whole_tokenizers():
        yield "tokenizer", name, as_text("bert", files)
    yield from safetensors()


def whole_tokenizers():
    lower, words = {"type": "Lowercase"}, {"type": "Whitespace"}
    split = {"type": "Split", "pattern": {"Regex": r"\s+|\w+"}, "behavior": "Isolated", "invert": False}
    vocab = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "cat": 4, "c": 5, "t": 6, "ca": 7}
    template = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}},
    }  # fmt: skip
    added = [{"id": 8, "content": "<x>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False}]  # fmt: skip
    models = {
        "word-level": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
        "word-piece": {"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]", "max_input_chars_per_word": 100},
        "bpe": {"type": "BPE", "vocab": vocab, "merges": [["c", "a"], ["ca", "t"]], "unk_token": "[UNK]"},
        "unigram": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.5], ["cat", -2.0]], "unk_id": 0},
    }
    for name, model in models.items():
        whole = {"version": "1.0", "added_tokens": added if name != "unigram" else [], "normalizer": lower,
                  "pre_tokenizer": split if name == "bpe" else words,
                  "post_processor": template if name != "unigram" else None, "model": model}  # fmt: skip
        yield name, {"tokenizer.json": whole, "tokenizer_config.json": {"tokenizer_class": "Other"}}


def safetensors():
    import numpy as np

    rng = np.random.default_rng(0)
    one = hostile.entry("F32", (2,), 0, 8)
    yield "tensors", "empty", hostile.raw({})
    yield "tensors", "one", hostile.raw({"a": one}, rng.bytes(8))
    yield "tensors", "metadata", hostile.raw({"__metadata__": {"format": "pt"}, "a": one}, rng.bytes(8))
    dtypes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    header, end = {}, 0
    for name, size in dtypes.items():
        header[name] = hostile.entry(name, (2, 1), end, end + 2 * size)
        end += 2 * size
    yield "tensors", "dtypes", hostile.raw(header, bytes(end))
    shapes = {"scalar": (), "none": (0, 3), "eight": (1,) * 8, "row": (1, 4)}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = hostile.entry("F32", shape, end, end + size)
        end += size
    yield "tensors", "shapes", hostile.raw(header, rng.bytes(end))
    yield "tensors", "bert", hostile.packed(hostile.bert()["model.safetensors"])


if __name__ == "__main__":
    shutil.rmtree(HERE / "corpus", ignore_errors=True)
    for target, name, data in seeds():
        (HERE / "corpus" / target).mkdir(parents=True, exist_ok=True)
        (HERE / "corpus" / target / name).write_bytes(data)
