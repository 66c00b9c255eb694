"""Tiny models of every family that plait loads, as a table: their configurations, weights and inputs, in NumPy alone.

`zoo_build.py` has the libraries write and run them. Weights are a function of their name and shape, so that no file
holds them: whoever has the names can make the model.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Row:
    """One model. ``call`` says how it is run and what is compared; ``cls`` is its class in transformers."""

    name: str
    call: str
    cls: str
    config: dict
    save: dict = field(default_factory=dict)  # keywords of save_pretrained, and "dtype"
    sizes: tuple = ()  # sides of the pictures where they are not config's
    eos: int = -1  # the id that ends a text, where the model looks for it
    rename: tuple = ()  # (pattern, replacement) pairs that turn the stored names into those of older files


def _clip_text(**changes):
    return {
        "vocab_size": 120, "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 20, "projection_dim": 40,
        "bos_token_id": 118, "eos_token_id": 119, "pad_token_id": 1,
    } | changes  # fmt: skip


def _clip_vision(**changes):
    return {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8, "projection_dim": 40,
    } | changes  # fmt: skip


def _clip(text=None, vision=None, **changes):
    return {"text_config": _clip_text(**text or {}), "vision_config": _clip_vision(**vision or {}),
            "projection_dim": 40} | changes  # fmt: skip


def _siglip_text(**changes):
    return {
        "vocab_size": 100, "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 16, "bos_token_id": 98, "eos_token_id": 1,
        "pad_token_id": 1,
    } | changes  # fmt: skip


def _siglip_vision(**changes):
    return {
        "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3,
        "image_size": 32, "patch_size": 8,
    } | changes  # fmt: skip


def _siglip(text=None, vision=None):
    return {"text_config": _siglip_text(**text or {}), "vision_config": _siglip_vision(**vision or {})}


def _naflex(**changes):
    config = _siglip_vision(**changes)
    del config["image_size"]
    return {"num_patches": 16} | config


def _bert(**changes):
    return {
        "vocab_size": 150, "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 40,
    } | changes  # fmt: skip


def _vit(**changes):
    return {
        "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8,
    } | changes  # fmt: skip


def _dino(**changes):
    return {
        "hidden_size": 48, "mlp_ratio": 4, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 28,
        "patch_size": 7,
    } | changes  # fmt: skip


_CLAP_AUDIO = {
    "window_size": 4, "num_mel_bins": 16, "spec_size": 32, "patch_size": 4, "patch_stride": [4, 4], "num_classes": 5,
    "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16,
    "num_hidden_layers": 2,
}  # fmt: skip
_DISTIL = {"vocab_size": 150, "dim": 48, "hidden_dim": 192, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 40}

CLIP = [
    Row("clip", "clip", "CLIPModel", _clip({"eos_token_id": 2, "bos_token_id": 0}), eos=119),
    Row("clip_eos", "clip", "CLIPModel", _clip({"eos_token_id": 7, "bos_token_id": 3}), eos=7),
    Row("clip_gelu", "clip", "CLIPModel", _clip({"hidden_act": "gelu"}, {"hidden_act": "gelu"}), eos=119),
    Row("clip_mixed_gelu", "clip", "CLIPModel", _clip({"hidden_act": "gelu"}), eos=119),
    Row("clip_odd", "clip", "CLIPModel", _clip(
        {"hidden_size": 72, "num_attention_heads": 3, "intermediate_size": 100, "layer_norm_eps": 1e-3,
         "hidden_act": "gelu_pytorch_tanh", "vocab_size": 131, "max_position_embeddings": 23},
        {"hidden_size": 40, "num_attention_heads": 5, "intermediate_size": 70, "layer_norm_eps": 1e-6,
         "image_size": 30, "patch_size": 7, "hidden_act": "gelu_new", "num_hidden_layers": 2},
        projection_dim=29), eos=119),
    Row("clip_relu", "clip", "CLIPModel", _clip(
        {"hidden_act": "relu"}, {"hidden_act": "relu", "layer_norm_eps": 1e-3}), eos=119),
    Row("clip_silu", "clip", "CLIPModel", _clip({"hidden_act": "silu"}, {"hidden_act": "silu"}), eos=119),
    Row("clip_one_patch", "clip", "CLIPModel", _clip(vision={"image_size": 28, "patch_size": 28}), eos=119),
    Row("clip_text", "clip_text", "CLIPTextModel", _clip_text(), eos=119),
    Row("clip_text_projection", "clip_text", "CLIPTextModelWithProjection", _clip_text(), eos=119),
    Row("clip_vision", "clip_vision", "CLIPVisionModel", _clip_vision()),
    Row("clip_vision_projection", "clip_vision", "CLIPVisionModelWithProjection", _clip_vision()),
    Row("clip_sharded", "clip", "CLIPModel", _clip(), {"max_shard_size": "60KB"}, eos=119),
    Row("clip_fp16", "clip", "CLIPModel", _clip(), {"dtype": "float16"}, eos=119),
    Row("clip_bf16", "clip", "CLIPModel", _clip(), {"dtype": "bfloat16"}, eos=119),
]  # fmt: skip

SIGLIP = [
    Row("siglip", "siglip", "SiglipModel", _siglip()),
    Row("siglip_projection", "siglip", "SiglipModel", _siglip(
        {"hidden_size": 40, "num_attention_heads": 2, "projection_size": 48, "pad_token_id": 0})),
    Row("siglip_indivisible", "siglip", "SiglipModel", _siglip(
        vision={"image_size": 38, "patch_size": 7, "num_attention_heads": 2, "layer_norm_eps": 1e-3})),
    Row("siglip_gelu", "siglip", "SiglipModel", _siglip({"hidden_act": "gelu"}, {"hidden_act": "gelu"})),
    Row("siglip2_fixed", "siglip", "SiglipModel", _siglip({"vocab_size": 256, "pad_token_id": 0, "eos_token_id": 1})),
    Row("siglip2_naflex", "siglip2", "Siglip2Model", {"text_config": _siglip_text(), "vision_config": _naflex()},
        sizes=(32,)),
    Row("siglip_text", "siglip_text", "SiglipTextModel", _siglip_text()),
    Row("siglip_vision", "siglip_vision", "SiglipVisionModel", _siglip_vision()),
    Row("siglip_vision_no_head", "siglip_vision", "SiglipVisionModel", _siglip_vision(vision_use_head=False)),
    Row("siglip_bf16", "siglip", "SiglipModel", _siglip(), {"dtype": "bfloat16"}),
]  # fmt: skip

BERT = [
    Row("bert", "bert", "BertModel", _bert()),
    Row("bert_gelu_new", "bert", "BertModel", _bert(hidden_act="gelu_new", layer_norm_eps=1e-6)),
    Row("bert_relu", "bert", "BertModel", _bert(
        hidden_act="relu", hidden_size=72, num_attention_heads=3, intermediate_size=90, type_vocab_size=1,
        layer_norm_eps=1e-3)),
    Row("bert_masked_lm", "bert", "BertForMaskedLM", _bert()),
    Row("bert_pretraining", "bert", "BertForPreTraining", _bert()),
    Row("bert_fp16", "bert", "BertModel", _bert(), {"dtype": "float16"}),
    Row("roberta", "bert", "RobertaModel", _bert(type_vocab_size=1, layer_norm_eps=1e-5)),
    Row("roberta_masked_lm", "bert", "RobertaForMaskedLM", _bert(type_vocab_size=1)),
    Row("xlm_roberta", "bert", "XLMRobertaModel", _bert(vocab_size=210, layer_norm_eps=1e-3, pad_token_id=1)),
    Row("roberta_pad_3", "bert", "RobertaModel", _bert(pad_token_id=3)),
    Row("distilbert", "bert", "DistilBertModel", _DISTIL),
    Row("distilbert_masked_lm", "bert", "DistilBertForMaskedLM", _DISTIL | {"activation": "relu"}),
    Row("mpnet", "bert", "MPNetModel", _bert(layer_norm_eps=1e-5)),
    Row("mpnet_long", "bert", "MPNetModel", _bert(  # longer than the 128 tokens from which on distances are alike
        max_position_embeddings=183, hidden_size=72, num_attention_heads=3, intermediate_size=90, num_hidden_layers=2,
        hidden_act="relu", layer_norm_eps=1e-3)),
    Row("mpnet_masked_lm", "bert", "MPNetForMaskedLM", _bert()),
    Row("mpnet_bf16", "bert", "MPNetModel", _bert(), {"dtype": "bfloat16"}),
]  # fmt: skip

VIT = [
    Row("vit", "vit", "ViTModel", _vit()),
    Row("vit_no_qkv_bias", "vit", "ViTModel", _vit(qkv_bias=False, layer_norm_eps=1e-6)),
    Row("vit_odd", "vit", "ViTModel", _vit(
        hidden_size=72, num_attention_heads=3, intermediate_size=100, image_size=30, patch_size=7, hidden_act="relu",
        layer_norm_eps=1e-3)),
    Row("vit_classifier", "vit", "ViTForImageClassification", _vit(num_labels=5)),
    Row("dinov2", "vit", "Dinov2Model", _dino()),
    Row("dinov2_resized", "vit", "Dinov2Model", _dino(image_size=42), sizes=(28,)),
    Row("dinov2_swiglu", "vit", "Dinov2Model", _dino(use_swiglu_ffn=True)),
    Row("dinov2_no_qkv_bias", "vit", "Dinov2Model", _dino(qkv_bias=False, mlp_ratio=3, layer_norm_eps=1e-3)),
    Row("dinov2_classifier", "vit", "Dinov2ForImageClassification", _dino(num_labels=5)),
    Row("dinov2_registers", "vit", "Dinov2WithRegistersModel", _dino(num_register_tokens=3, layer_norm_eps=1e-3)),
    Row("dinov2_registers_classifier", "vit", "Dinov2WithRegistersForImageClassification", _dino(num_labels=4)),
]  # fmt: skip

CLAP = [
    Row("clap", "clap", "ClapModel", {
        "text_config": _bert(type_vocab_size=1), "audio_config": _CLAP_AUDIO, "projection_dim": 40}),
    Row("clap_text", "clap_text", "ClapTextModelWithProjection", _bert(type_vocab_size=1, projection_dim=40)),
]  # fmt: skip

OLDER = [
    Row("clip_text_v4", "clip_text", "CLIPTextModel", _clip_text(), eos=119, rename=((r"^", "text_model."),)),
    Row("clip_vision_v4", "clip_vision", "CLIPVisionModel", _clip_vision(), rename=((r"^", "vision_model."),)),
    Row("siglip_text_v4", "siglip_text", "SiglipTextModel", _siglip_text(), rename=((r"^", "text_model."),)),
    Row("siglip_vision_v4", "siglip_vision", "SiglipVisionModel", _siglip_vision(),
        rename=((r"^", "vision_model."),)),
    Row("bert_gamma_beta", "bert", "BertModel", _bert(), rename=(
        (r"^", "bert."), (r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta"))),
]  # fmt: skip


def _open_clip(text=None, vision=None, **changes):
    return {
        "embed_dim": 40,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8, "head_width": 16} | (vision or {}),
        "text_cfg": {"context_length": 20, "vocab_size": 120, "width": 48, "heads": 4, "layers": 2} | (text or {}),
    } | changes


_TIMM = {"timm_model_name": "vit_tiny_patch8_siglip_32", "timm_model_pretrained": False, "timm_pool": "map",
         "timm_proj": "none", "image_size": 32}  # fmt: skip
_SIGLIP_TEXT = {"context_length": 16, "vocab_size": 100, "width": 128, "heads": 2, "layers": 2, "no_causal_mask": True,
                "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}, "pad_id": 1}  # fmt: skip
_TANH = {"act_kwargs": {"approximate": "tanh"}}

OPEN_CLIP = [
    Row("oc_gelu", "open_clip", "", _open_clip(), eos=119),
    Row("oc_quick_gelu", "open_clip", "", _open_clip(quick_gelu=True), eos=119),
    Row("oc_odd", "open_clip", "", _open_clip(
        {"width": 72, "heads": 3, "mlp_ratio": 2.5, "context_length": 13, "norm_kwargs": {"eps": 1e-3}},
        {"width": 40, "head_width": 8, "mlp_ratio": 1.5, "patch_size": 7, "image_size": 30}, embed_dim=29), eos=119),
    Row("oc_custom_text", "open_clip", "", _open_clip(custom_text=True, quick_gelu=True), eos=119),
    Row("oc_siglip", "open_clip", "", {"embed_dim": 128, "init_logit_bias": -10, "custom_text": True,
                                       "vision_cfg": _TIMM, "text_cfg": _SIGLIP_TEXT}),
    Row("oc_siglip2", "open_clip", "", {"embed_dim": 128, "init_logit_bias": -10, "custom_text": True,
                                        "vision_cfg": _TIMM, "text_cfg": _SIGLIP_TEXT | _TANH}),
    Row("openai", "openai", "", _open_clip(
        {"width": 64, "heads": 1}, {"width": 128, "head_width": 64}, quick_gelu=True), eos=119),
    Row("openai_fp16", "openai", "", _open_clip(
        {"width": 128, "heads": 2}, {"width": 64, "head_width": 64}, quick_gelu=True), {"dtype": "float16"}, eos=119),
]  # fmt: skip

_DENSE = {"in_features": 48, "out_features": 20}

# Of the configuration: "pooling" and "after" are the modules behind the tower, "options" those of SentenceTransformer,
# "limit" max_seq_length, "old" asks for the files as version 2 wrote them.
SENTENCE = [
    Row("st_mean_unit", "sentence", "BertModel", {"pooling": "mean", "after": ["Normalize"]}),
    *(Row(f"st_{mode}", "sentence", "BertModel", {"pooling": mode})
      for mode in ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")),
    Row("st_two_modes", "sentence", "BertModel", {"pooling": ["cls", "mean"], "after": ["Normalize"]}),
    Row("st_dense_tanh", "sentence", "BertModel", {"pooling": "mean", "after": [_DENSE | {"activation": "Tanh"}]}),
    Row("st_dense_unit", "sentence", "BertModel", {
        "pooling": "cls", "after": [_DENSE | {"activation": "Identity", "bias": False}, "Normalize"]}),
    Row("st_prompts", "sentence", "BertModel", {
        "pooling": "mean", "after": ["Normalize"],
        "options": {"prompts": {"query": "find a ", "document": ""}, "default_prompt_name": "query"}}),
    Row("st_prompt_left_out", "sentence", "BertModel", {
        "pooling": "mean", "include_prompt": False, "options": {"prompts": {"query": "find a "},
                                                                "default_prompt_name": "query"}}),
    Row("st_limit", "sentence", "BertModel", {"pooling": "mean", "limit": 24, "lower": True}),
    Row("st_old", "sentence", "BertModel", {"pooling": "mean", "after": ["Normalize"], "old": True, "limit": 32}),
    Row("st_distilbert", "sentence", "DistilBertModel", {"pooling": "mean", "after": ["Normalize"]}),
    Row("st_mpnet", "sentence", "MPNetModel", {"pooling": "mean", "after": ["Normalize"]}),
]  # fmt: skip

# Relatives that plait does not load, and says so.
OTHERS = [
    Row("electra_narrow", "bert", "ElectraModel", _bert(embedding_size=32, layer_norm_eps=1e-3)),
    Row("deit", "vit", "DeiTModel", _vit()),
]

ROWS = CLIP + SIGLIP + BERT + VIT + CLAP + OLDER + OPEN_CLIP + SENTENCE

# The vocabulary of the sentence encoders, and sentences for them: known words, pieces, unknown characters, nothing.
VOCABULARY = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *"0123456789", *".,!?'-:",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"), "a", "the", "cat", "dog", "on", "in", "of", "sits",
    "red", "picture", "house", "find", "##s", "##ing", "run",
]  # fmt: skip
VOCABULARY = list(dict.fromkeys(VOCABULARY))
MPNET_VOCABULARY = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", *VOCABULARY[5:], "<mask>"]
SENTENCES = [
    "a picture of a cat", "the dog runs", "A red House, in 1984!", "", "find the cat's house: it is on the red dog",
    "caf\u00e9 \u732b", "dog", "sitting in the house",
]  # fmt: skip

_NORM = ("norm", "ln_", "layrnorm")


def counter(name, n):
    """24 random bits, n times: the same on every machine and with every NumPy."""
    return np.random.Philox(key=zlib.crc32(name.encode())).random_raw(n) >> 40


def noise(name, shape):
    """Uniform numbers of mean 0 and deviation 1."""
    bits = counter(name, int(np.prod(shape, dtype=np.int64)))
    return (bits.astype(np.float64) / (1 << 24) - 0.5).reshape(shape) * 12**0.5


def weight(name, shape, dtype="float32"):
    """The weight of that name: noise, scaled by what the weight is for."""
    x, kind = noise(name, shape), name.lower()
    if name.endswith("logit_scale") or "logit_scale_" in name:
        x = 2 + 0.2 * x
    elif name.endswith("running_var"):
        x = 1 + 0.2 * abs(x)
    elif len(shape) <= 1 and kind.endswith("weight") and any(part in kind for part in _NORM):
        x = 1 + 0.2 * x
    elif "lambda" in kind or kind.endswith(("gamma", "ls_1", "ls_2")):
        x = 0.5 + 0.3 * x
    elif "embedding" in kind or "pos_embed" in kind or "relative_attention_bias" in kind:
        x = 0.4 * x
    elif len(shape) <= 1 or (min(shape) <= 1 and "proj" not in kind):
        x = 0.2 * x
    elif name in ("text_projection", "visual.proj"):  # stored input x output
        x = x / shape[0] ** 0.5
    else:
        x = x / np.prod(shape[1:]) ** 0.5
    return np.asarray(x, dtype)


def pixels(row, n=5):
    """Pictures as a processor would give them: (n, 3, S, S) float32."""
    config = row.config.get("vision_config") or row.config.get("vision_cfg") or row.config
    side = row.sizes[0] if row.sizes else config["image_size"]
    return noise(f"{row.name}/pixels", (n, 3, side, side)).astype(np.float32)


def texts(row):
    """Ragged lists of ids. Texts that end with ``row.eos`` have it once inside, some with more ids after it."""
    config = row.config.get("text_config") or row.config.get("text_cfg") or row.config
    longest = config.get("max_position_embeddings") or config.get("context_length")
    if "Roberta" in row.cls or "Clap" in row.cls or "MPNet" in row.cls:
        longest -= 1 + config.get("pad_token_id", 1)  # positions start behind the padding's
    highest = min(config["vocab_size"], 110) if row.eos >= 0 else config["vocab_size"]
    result = []
    for i, length in enumerate([longest, 3, longest // 2, 5, 2, longest - 1, 7]):
        bits = counter(f"{row.name}/text {i}", length)
        ids = 8 + (bits * np.uint64(highest - 8) >> 24).astype(np.int64)
        if row.eos >= 0:
            ids[-1 if i % 3 else length // 2] = row.eos
            if i == 2:
                ids[-2:] = row.eos
        result.append(ids)
    return result
