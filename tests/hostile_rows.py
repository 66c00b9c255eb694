"""Attacks on configurations, as a table: which family, what is done to its folder, and what the message says."""

import os

from hostile import HIDDEN, LENGTH, WIDTH, WORDS, Raw, dumps
from hostile_spoil import MODULES, NOT_JSON, Row, link, put, setting, several

# ---------------------------------------------------------------- configurations

CONFIGS = [
    *(Row("clip", f"config.json: {n}", put("config.json", c), m) for n, (c, m) in NOT_JSON.items()),
    *(
        Row("open_clip", f"open_clip_config.json: {n}", put("open_clip_config.json", c), m)
        for n, (c, m) in NOT_JSON.items()
    ),
    Row("clip", "config of 5 MB", put("config.json", b" " * (5 << 20)), "config.json: larger than"),
    Row("clip", "no config", put("config.json", None), "config.json is missing"),
    *(
        Row("clip", f"model_type {v!r:.30}", setting("config.json", "model_type", v), "config.model_type is")
        for v in ("os.system", "__import__('os')", "", None, 1, True, ["clip"], {"a": 1}, "Clip", "gpt2", "x" * 10**6)
    ),
    *(
        Row("bert", f"{key}", setting("config.json", key, {"AutoModel": "evil.Model"}), f"config.{key} names code")
        for key in ("auto_map", "custom_pipelines", "custom_pipeline")
    ),
    Row("clip", "auto_map in a section", setting("config.json", "text_config.auto_map", {"A": "b.C"}), "names code"),
    Row("open_clip", "auto_map", setting("open_clip_config.json", "auto_map", {"A": "b.C"}), "names code"),
    *(
        Row("clip", f"{key} = {value!r:.20}", setting("config.json", key, value), key)
        for key in ("text_config", "vision_config", "text_config_dict", "vision_config_dict")
        for value in ("x", 1, [1], True)
    ),
    Row("clip", "text_config_dict", setting("config.json", "text_config_dict", {"hidden_size": "8"}), "hidden_size"),
    *(
        Row("open_clip", f"{key} = {value!r:.20}", setting("open_clip_config.json", key, value), key.split(".")[-1])
        for key in ("model_cfg", "model_cfg.vision_cfg", "model_cfg.text_cfg", "model_cfg.text_cfg.norm_kwargs",
                    "model_cfg.text_cfg.act_kwargs", "model_cfg.vision_cfg.norm_kwargs", "preprocess_cfg")
        for value in ("x", 1, [1], True)
    ),
    *(
        Row("open_clip", f"eps {v!r}", setting("open_clip_config.json", "model_cfg.text_cfg.norm_kwargs.eps", v),
            "eps|finite")
        for v in (0, -1, True, "1e-5", [1e-5], 1e300, 1e-300, Raw("1e400"), Raw("NaN"))
    ),
    *(
        Row("open_clip", f"timm_model_name {value!r:.30}",
            setting("open_clip_config.json", "model_cfg.vision_cfg.timm_model_name", value), "timm_model_name is")
        for value in ("resnet50", ["siglip"], 1, True, "../vit_siglip", "vit_siglip")
    ),
    Row("open_clip", "timm's tensors are not there", several(
        setting("open_clip_config.json", "model_cfg.vision_cfg.timm_model_name", "vit_base_patch16_siglip_224"),
        setting("open_clip_config.json", "model_cfg.vision_cfg.timm_pool", "map")), "patch_embed.* is missing"),
    Row("open_clip", "a ResNet", setting("open_clip_config.json", "model_cfg.vision_cfg.layers", [3, 4, 6]), "ResNet"),
]  # fmt: skip

# Sizes that no file can fill, sizes that contradict each other or the tensors. A heading is family and file.
ABSURD = {
    ("clip", "config.json"): [
        ("text_config.hidden_size", 2**40, "hidden_size"), ("text_config.hidden_size", 65536, "describes"),
        ("text_config.num_hidden_layers", 10**9, "num_hidden_layers"),
        ("text_config.num_hidden_layers", 256, "layers.1.* is missing"),
        ("text_config.num_hidden_layers", 0, "is not part of the model"),
        ("text_config.num_attention_heads", 0, "num_attention_heads"),
        ("text_config.num_attention_heads", 3, "heads is 3"), ("text_config.num_attention_heads", 2**40, "heads"),
        ("text_config.vocab_size", 2**62, "vocab_size"), ("text_config.vocab_size", -WORDS, "vocab_size"),
        ("text_config.vocab_size", WORDS + 1, "token_embedding"), ("text_config.vocab_size", 2**24, "describes"),
        ("text_config.max_position_embeddings", 2**40, "max_position"),
        ("text_config.max_position_embeddings", LENGTH + 1, "position_embedding"),
        ("text_config.layer_norm_eps", 0, "layer_norm_eps"), ("text_config.layer_norm_eps", -1e-5, "layer_norm_eps"),
        ("text_config.layer_norm_eps", 1e300, "layer_norm_eps"), ("text_config.layer_norm_eps", 1, "layer_norm_eps"),
        ("text_config.attention_dropout", 1.0, "attention_dropout"), ("text_config.eos_token_id", 2**62, "eos_token"),
        ("text_config.hidden_act", "os.system", "hidden_act"), ("vision_config.patch_size", 16, "patch is 16"),
        ("vision_config.patch_size", 2, "patch_embedding"), ("vision_config.patch_size", [4, 2], "patch_size"),
        ("vision_config.patch_size", {"height": 4}, "patch_size"), ("vision_config.image_size", 2**31, "image_size"),
        ("vision_config.image_size", 16384, "describes|position_embedding"),
        ("vision_config.image_size", 0, "image_size"), ("vision_config.image_size", 12, "position_embedding"),
        ("vision_config.num_channels", 0, "num_channels"), ("vision_config.num_channels", 1, "patch_embedding"),
        ("projection_dim", 2**40, "projection_dim"), ("projection_dim", 5, "projection"),
        ("logit_scale_init_value", 1e300, "logit_scale_init_value"),
    ],
    ("siglip", "config.json"): [
        ("text_config.projection_size", 4, "projection_size is 4"), ("text_config.pad_token_id", -1, "pad_token_id"),
        ("text_config.pad_token_id", 2**40, "pad_token_id"), ("vision_config.vision_use_head", False, "head"),
        ("vision_config.image_size", 10**9, "image_size"),
    ],
    ("bert", "config.json"): [
        ("position_embedding_type", "relative_key", "position_embedding_type"), ("is_decoder", True, "is_decoder"),
        ("add_cross_attention", True, "add_cross_attention"), ("type_vocab_size", 2**40, "type_vocab_size"),
        ("type_vocab_size", 3, "token_type"), ("hidden_dropout_prob", 1, "hidden_dropout_prob"),
        ("intermediate_size", 2**40, "intermediate_size"), ("intermediate_size", HIDDEN + 1, "intermediate"),
        ("hidden_size", WIDTH + 2, "where the configuration says"),
    ],
    ("roberta", "config.json"): [
        ("pad_token_id", LENGTH, "max_position_embeddings"), ("pad_token_id", 2**24, "max_position_embeddings"),
        ("pad_token_id", -1, "pad_token_id"), ("max_position_embeddings", 1, "max_position_embeddings"),
    ],
    ("mpnet", "config.json"): [
        ("relative_attention_num_buckets", 64, "relative_attention_num_buckets is 64, .*expected 32"),
        ("relative_attention_num_buckets", "32", "relative_attention_num_buckets"),
        ("max_position_embeddings", 2, "max_position_embeddings is 2, expected more than 2"),
        ("max_position_embeddings", LENGTH - 1, "position_embedding"),
        ("num_attention_heads", 4, "relative_attention_bias"),
    ],
    ("vit", "config.json"): [
        ("qkv_bias", False, "bias is not part"), ("image_size", [8, 12], "image_size"), ("patch_size", 0, "patch_size"),
        ("hidden_act", "__import__('os').system", "hidden_act"),
    ],
    ("dinov2", "config.json"): [
        ("mlp_ratio", 1e300, "mlp_ratio"), ("mlp_ratio", 0, "mlp_ratio"), ("mlp_ratio", -2, "mlp_ratio"),
        ("mlp_ratio", 0.01, "hidden is 0"), ("mlp_ratio", 64, "where the configuration says"),
        ("use_swiglu_ffn", True, "is missing"), ("num_attention_heads", 5, "heads is 5"),
    ],
    ("open_clip", "open_clip_config.json"): [
        ("model_cfg.embed_dim", 2**40, "embed_dim"), ("model_cfg.embed_dim", 5, "proj"),
        ("model_cfg.vision_cfg.mlp_ratio", 1e300, "mlp_ratio"), ("model_cfg.vision_cfg.mlp_ratio", 1e-9, "mlp_ratio"),
        ("model_cfg.vision_cfg.head_width", 0, "head_width"), ("model_cfg.vision_cfg.layers", 10**9, "layers"),
        ("model_cfg.vision_cfg.image_size", 2**40, "image_size"),
        ("model_cfg.vision_cfg.pool_type", "avg", "pool_type"),
        ("model_cfg.text_cfg.heads", 0, "heads"), ("model_cfg.text_cfg.heads", 3, "heads is 3"),
        ("model_cfg.text_cfg.context_length", 2**62, "context_length"),
        ("model_cfg.text_cfg.pool_type", "os.system", "pool_type"),
        ("model_cfg.text_cfg.hf_model_name", "evil/model", "hf_model_name"),
        ("model_cfg.text_cfg.act_kwargs", {"approximate": "os"}, "act_kwargs"),
    ],
}  # fmt: skip
CONFIGS += [
    Row(family, f"{where} = {value!r:.30}", setting(file, where, value), match)
    for (family, file), rows in ABSURD.items()
    for where, value, match in rows
]

# ---------------------------------------------------------------- sentence-transformers

PATHS = ("../1_Pooling", "/etc", ".", "..", "1_Pooling/../../x", "a/b", "a\0b", "\u00e9", "-x", " ", "C:\\x", "x" * 300,
         "1_Pooling/", "./1_Pooling", "\ud800", 1, None, True, ["1_Pooling"], {})  # fmt: skip
TYPES = ("os.system", "sentence_transformers.models.Transformer; import os", "__import__('os')", "Pooling",
         "sentence_transformers.models.os.system", "evil.sentence_transformers.models.Pooling", "", 1, None, True,
         ["sentence_transformers.models.Pooling"], "sentence_transformers.models.Pooling\0")  # fmt: skip
SENTENCE = [
    *(Row("sentence", f"path {p!r:.20}", setting(MODULES, "1.path", p), "named|path") for p in (*PATHS, "")),
    *(Row("sentence", f"first path {p!r:.20}", setting(MODULES, "0.path", p), "named|path") for p in PATHS),
    *(Row("sentence", f"type {t!r:.50}", setting(MODULES, "1.type", t), r"\[1\].type is") for t in TYPES),
    *(
        Row("sentence", f"modules are {v!r:.20}", put(MODULES, dumps(v)), "modules.json: expected a list of 1 to 32")
        for v in ([], {}, 1, "x", [1], [None], [{}] * 33, [[]])
    ),
    Row("sentence", "a module without keys", put(MODULES, b"[{}]"), "type is None"),
    Row("sentence", "no Pooling", setting(MODULES, "1.type", "sentence_transformers.models.Normalize"), "one Pooling"),
    Row("sentence", "two Poolings", setting(MODULES, "3.type", "sentence_transformers.models.Pooling"), "one Pooling"),
    Row("sentence", "two Transformers", setting(MODULES, "1.type", "sentence_transformers.models.Transformer"),
        "as the first step"),
    Row("sentence", "a CLIPModel in itself", several(
        put(MODULES, dumps([{"type": "sentence_transformers.models.CLIPModel", "path": "0_CLIP"}])),
        put("0_CLIP/modules.json", dumps([{"type": "sentence_transformers.models.CLIPModel", "path": "0_CLIP"}]))),
        "modules.json inside"),
    Row("sentence", "Pooling is a link", several(
        lambda path: os.rename(path / "1_Pooling", path / "other"), link("1_Pooling", "other")), "1_Pooling"),
    Row("sentence", "Pooling is a link to /etc", several(
        lambda path: os.rename(path / "1_Pooling", path / "other"), link("1_Pooling", "/etc")), "1_Pooling"),
    Row("sentence", "Pooling is a file", several(
        lambda path: os.rename(path / "1_Pooling", path / "other"), put("1_Pooling", b"")), "expected a folder"),
    Row("sentence", "Pooling is not there", lambda path: os.rename(path / "1_Pooling", path / "x"),
        "1_Pooling is missing"),
    *(
        Row("sentence", f"pooling_mode {v!r}", setting("1_Pooling/config.json", "pooling_mode", v), "pooling_mode is")
        for v in ("os.system", 1, True, [], [1], ["mean", []], {"mean": 1}, "Mean")
    ),
    *(
        Row("sentence", f"pooling: {n}", put("1_Pooling/config.json", c), m)
        for n, (c, m) in NOT_JSON.items()
    ),
    *(
        Row("sentence", f"activation_function {v!r:.40}", setting("2_Dense/config.json", "activation_function", v),
            "activation_function is")
        for v in ("os.system", "torch.nn.modules.activation.Tanh()", "torch.load", "", 1, None, ["Tanh"], "Tanh\n")
    ),
    *(
        Row("sentence", f"dense {k} {v!r:.20}", setting("2_Dense/config.json", k, v), k if v != 5 else "linear")
        for k in ("in_features", "out_features") for v in (0, -1, True, "8", 2**40, 8.0, None)
    ),
    Row("sentence", "dense of another width", setting("2_Dense/config.json", "out_features", 5), "linear"),
    Row("sentence", "dense without tensors", put("2_Dense/model.safetensors", None), "model.safetensors is missing"),
    Row("sentence", "dense is a pickle", several(
        put("2_Dense/model.safetensors", None), put("2_Dense/pytorch_model.bin", b"\x80\x04.")), "missing"),
    *(
        Row("sentence", f"max_seq_length {v!r:.20}", setting("sentence_bert_config.json", "max_seq_length", v),
            "max_seq_length")
        for v in (0, -1, 10**12, "5", True, 5.5, [5], {})
    ),
    Row("sentence", "do_lower_case 1", setting("sentence_bert_config.json", "do_lower_case", 1), "do_lower_case"),
    *(
        Row("sentence", f"prompts {v!r:.20}", setting("config_sentence_transformers.json", "prompts", v), "prompts")
        for v in (1, "x", ["x"], {"query": 1}, {"query": None}, {"query": ["a"]}, {"other": "x"}, True)
    ),
    *(
        Row("sentence", f"default_prompt_name {v!r:.20}",
            setting("config_sentence_transformers.json", "default_prompt_name", v), "default_prompt_name")
        for v in ("other", 1, ["query"], {"query": 1}, True)
    ),
    *(
        Row("sentence", f"similarity {v!r:.20}", setting("config_sentence_transformers.json", "similarity_fn_name", v),
            "similarity_fn_name")
        for v in ("os.system", 1, ["cosine"], True)
    ),
    *(
        Row("sentence", f"{file}: a list", put(file, b"[1]"), "object")
        for file in ("sentence_bert_config.json", "config_sentence_transformers.json", "2_Dense/config.json")
    ),
]  # fmt: skip
