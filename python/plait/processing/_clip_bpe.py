"""OpenAI's merges file of CLIP, ``bpe_simple_vocab_16e6.txt.gz``, to the files that other tokenizers read."""

from __future__ import annotations

import json
import zlib

__all__ = ["clip_files"]

_MAX_TEXT = 32 << 20
_MERGES = 49152 - 256 - 2  # the file has more of them than the vocabulary of the models
_START, _END = "<|startoftext|>", "<|endoftext|>"


def clip_files(data: bytes, name: str) -> dict:
    """``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` from the merges file, compressed or not.

    The vocabulary is the 256 bytes, the bytes at the end of a word, the merges in order, and two special tokens.

    Raises
    ------
    ValueError
        It is damaged, too large, or not a list of merges.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"{name} is {type(data).__name__}, expected the content of the file as bytes")
    try:
        text = _plain(bytes(data), name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 ({error.reason} at byte {error.start})") from None
    lines = text.split("\n")
    if not lines[0].startswith(('"bpe_simple_vocab', "#version")):
        raise ValueError(f"{name}: begins with {lines[0][:40]!r}, expected OpenAI's list of merges")
    alphabet = byte_letters()
    vocab = {letter: i for i, letter in enumerate(alphabet + [letter + "</w>" for letter in alphabet])}
    merges = []
    for number, line in enumerate(lines[1 : _MERGES + 1], 2):
        if not line and number == len(lines):
            break  # the end of the last line
        parts = line.split(" ")
        if len(parts) != 2 or not all(part in vocab for part in parts):
            raise ValueError(f"{name}: line {number} is {line[:40]!r}, expected two tokens of the lines before it")
        merges.append(line)
        vocab.setdefault("".join(parts), len(vocab))
    if len(vocab) != 2 * len(alphabet) + len(merges):
        raise ValueError(f"{name}: two merges give the same token")
    for token in (_START, _END):
        vocab[token] = len(vocab)
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": _START,
        "eos_token": _END,
        "unk_token": _END,
        "pad_token": _END,
        "model_max_length": 77,
        "plait_clean": ["unescape", "whitespace", "lower"],
    }
    return {
        "vocab.json": json.dumps(vocab, ensure_ascii=False).encode(),
        "merges.txt": ("#version: 0.2\n" + "".join(line + "\n" for line in merges)).encode(),
        "tokenizer_config.json": (json.dumps(config, indent=2) + "\n").encode(),
    }


def _plain(data, name):
    if data[:2] != b"\x1f\x8b":
        return data
    decoder = zlib.decompressobj(wbits=31)
    try:
        text = decoder.decompress(data, _MAX_TEXT)
    except zlib.error as error:
        raise ValueError(f"{name}: damaged ({error})") from None
    if decoder.unconsumed_tail:
        raise ValueError(f"{name}: larger than {_MAX_TEXT} bytes, which is more than such a file can need")
    if not decoder.eof:
        raise ValueError(f"{name}: ends early")
    return text


def byte_letters() -> list:
    """A printable letter for each byte, in the order of CLIP's ids: the printable bytes, then the other ones."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
