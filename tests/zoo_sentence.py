"""The zoo's folders of sentence-transformers: a tiny tower, a tokenizer of a hundred words, and modules behind it."""

import json
from pathlib import Path

import sentence_transformers
import torch
import transformers
import zoo
from sentence_transformers.sentence_transformer import modules

_MODES = {
    "cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
}  # fmt: skip


def vocabulary(row):
    return zoo.MPNET_VOCABULARY if row.cls == "MPNetModel" else zoo.VOCABULARY


def tower_config(row):
    sizes = {"vocab_size": len(vocabulary(row)), "max_position_embeddings": 64}
    return next(r for r in zoo.BERT if r.cls == row.cls).config | sizes


def build(row, folder):
    folder, config = Path(folder), row.config
    cls = getattr(transformers, row.cls)
    torch.manual_seed(0)
    tower = folder.parent / f"{folder.name}-tower"
    cls(cls.config_class(**tower_config(row))).save_pretrained(tower)
    (tower / "vocab.txt").write_text("\n".join(vocabulary(row)) + "\n")
    kind, longest = transformers.BertTokenizerFast, 64
    if row.cls == "MPNetModel":
        kind, longest = transformers.MPNetTokenizer, 62
    kind(str(tower / "vocab.txt"), do_lower_case=True, model_max_length=longest).save_pretrained(tower)
    parts = [
        modules.Transformer(str(tower), max_seq_length=config.get("limit"), do_lower_case=config.get("lower", False)),
        modules.Pooling(48, config["pooling"], include_prompt=config.get("include_prompt", True)),
    ]
    for part in config.get("after", ()):
        if part == "Normalize":
            parts.append(modules.Normalize())
        else:
            activation = getattr(torch.nn, part["activation"])()
            parts.append(modules.Dense(**_dense(part, activation)))
    sentence_transformers.SentenceTransformer(modules=parts, device="cpu", **config.get("options", {})).save(
        str(folder), create_model_card=False
    )
    if config.get("old"):
        _as_version_2(folder, config)
    for path in sorted(tower.iterdir()):
        path.unlink()
    tower.rmdir()


def _dense(part, activation):
    return {k: v for k, v in part.items() if k != "activation"} | {"activation_function": activation}


def _as_version_2(folder, config):
    """The same folder as the first releases wrote it: flags for pooling modes, other class names, fewer keys."""
    flags = {flag: mode == config["pooling"] for mode, flag in _MODES.items()}
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 48} | flags))
    parts = json.loads((folder / "modules.json").read_text())
    for part in parts:
        part["type"] = "sentence_transformers.models." + part["type"].rsplit(".", 1)[-1]
    (folder / "modules.json").write_text(json.dumps(parts))
    limits = {"max_seq_length": config["limit"], "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    versions = {"__version__": {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(versions))


def load(row, folder):
    model = sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    return model.eval()


def ids_of(model, sentences):
    """The ids that each sentence becomes, with the folder's default prompt, without padding."""
    prompt = model.prompts[model.default_prompt_name] if model.default_prompt_name else ""
    out = model.preprocess([prompt + s for s in sentences])
    return [row[mask.bool()].tolist() for row, mask in zip(out["input_ids"], out["attention_mask"], strict=True)]
