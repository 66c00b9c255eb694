"""Tiny folders of every family that plait loads, in NumPy and JSON alone, for the tests that spoil them."""

import json
import re
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

import plait

WIDTH, HIDDEN, WORDS, LENGTH, SIDE, PATCH = 8, 16, 40, 8, 8, 4
ROWS = (SIDE // PATCH) ** 2
# What a folder that does not fit may raise. plait.load's KeyError says which tensor; nothing else raises one.
ALLOWED = (ValueError, OSError, KeyError)
# Words of Python and NumPy about their own affairs, which tell nobody what is wrong with the file.
LEAKED = "unpack|isqrt|reshape array|broadcast|operands|invalid literal|zero-dimensional|unhashable|object is not"


def values(name, shape):
    """A tensor that is a function of its name."""
    bits = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(int(np.prod(shape))) >> 40
    return ((bits / (1 << 23) - 1) * 0.3).astype(np.float32).reshape(shape)


def tensors(**shapes):
    return {name: values(name, shape) for name, shape in shapes.items()}


def layer(prefix, names, width=WIDTH, hidden=HIDDEN):
    """The tensors of one block. `names` are those of query, key, value (or all three), output, the norms, the MLP."""
    *qkv, out, norm1, norm2, up, down = names
    shapes = {f"{name}.weight": (width * 3 // len(qkv), width) for name in qkv}
    shapes |= {f"{name}.bias": (width * 3 // len(qkv),) for name in qkv}
    shapes |= {f"{out}.weight": (width, width), f"{out}.bias": (width,)}
    for norm in (norm1, norm2):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    shapes |= {f"{up}.weight": (hidden, width), f"{up}.bias": (hidden,)}
    shapes |= {f"{down}.weight": (width, hidden), f"{down}.bias": (width,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def norm(name):
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


CLIP_LAYER = [f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")]
CLIP_LAYER += ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"]
BERT_LAYER = [f"attention.self.{x}" for x in ("query", "key", "value")] + ["attention.output.dense"]
BERT_LAYER += ["attention.output.LayerNorm", "output.LayerNorm", "intermediate.dense", "output.dense"]
VIT_LAYER = [f"attention.attention.{x}" for x in ("query", "key", "value")] + ["attention.output.dense"]
CROP = {"height": SIDE, "width": SIDE}


def clip():
    shapes = {"logit_scale": (), "visual_projection.weight": (4, WIDTH), "text_projection.weight": (4, WIDTH)}
    shapes |= {
        "vision_model.embeddings.class_embedding": (WIDTH,),
        "vision_model.embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "vision_model.embeddings.position_embedding.weight": (ROWS + 1, WIDTH),
        "text_model.embeddings.token_embedding.weight": (WORDS, WIDTH),
        "text_model.embeddings.position_embedding.weight": (LENGTH, WIDTH),
    }
    for name in ("vision_model.pre_layrnorm", "vision_model.post_layernorm", "text_model.final_layer_norm"):
        shapes |= norm(name)
    for tower in ("vision", "text"):
        shapes |= layer(f"{tower}_model.encoder.layers.0.", CLIP_LAYER)
    sizes = {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "attention_dropout": 0.0, "projection_dim": 4}
    config = {
        "model_type": "clip", "projection_dim": 4, "logit_scale_init_value": 2.6592,
        "text_config": {**sizes, "vocab_size": WORDS, "max_position_embeddings": LENGTH, "eos_token_id": 2},
        "vision_config": {**sizes, "image_size": SIDE, "patch_size": PATCH, "num_channels": 3},
    }  # fmt: skip
    processor = {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": SIDE}, "crop_size": CROP,
        "do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True, "resample": 3,
        "rescale_factor": 1 / 255, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.3],
    }  # fmt: skip
    return {"config.json": config, "model.safetensors": tensors(**shapes), "preprocessor_config.json": processor,
            **clip_tokenizer()}  # fmt: skip


def clip_tokenizer():
    letters = "abcdefg"
    vocab = [*letters, *(f"{x}</w>" for x in letters), "ca", "ca</w>", "<|startoftext|>", "<|endoftext|>"]
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "bos_token": "<|startoftext|>",
              "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}  # fmt: skip
    return {
        "vocab.json": {token: i for i, token in enumerate(vocab)},
        "merges.txt": b"#version: 0.2\nc a\nc a</w>\n",
        "tokenizer_config.json": config,
    }


def sharded():
    folder = clip()
    everything = folder.pop("model.safetensors")
    names, table = sorted(everything), {}
    for i in range(2):
        part, file = names[i::2], f"model-{i + 1:05}-of-00002.safetensors"
        folder[file] = {name: everything[name] for name in part}
        table |= dict.fromkeys(part, file)
    folder["model.safetensors.index.json"] = {"metadata": {"total_size": 1}, "weight_map": table}
    return folder


def siglip():
    vision, text = "vision_model.", "text_model."
    shapes = {
        "logit_scale": (1,), "logit_bias": (1,),
        f"{vision}embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        f"{vision}embeddings.patch_embedding.bias": (WIDTH,),
        f"{vision}embeddings.position_embedding.weight": (ROWS, WIDTH),
        f"{vision}head.probe": (1, 1, WIDTH),
        f"{vision}head.attention.in_proj_weight": (3 * WIDTH, WIDTH),
        f"{vision}head.attention.in_proj_bias": (3 * WIDTH,),
        f"{vision}head.attention.out_proj.weight": (WIDTH, WIDTH),
        f"{vision}head.attention.out_proj.bias": (WIDTH,),
        f"{vision}head.mlp.fc1.weight": (HIDDEN, WIDTH), f"{vision}head.mlp.fc1.bias": (HIDDEN,),
        f"{vision}head.mlp.fc2.weight": (WIDTH, HIDDEN), f"{vision}head.mlp.fc2.bias": (WIDTH,),
        f"{text}embeddings.token_embedding.weight": (WORDS, WIDTH),
        f"{text}embeddings.position_embedding.weight": (LENGTH, WIDTH),
        f"{text}head.weight": (WIDTH, WIDTH), f"{text}head.bias": (WIDTH,),
    }  # fmt: skip
    for name in (f"{vision}post_layernorm", f"{vision}head.layernorm", f"{text}final_layer_norm"):
        shapes |= norm(name)
    for tower in (vision, text):
        shapes |= layer(f"{tower}encoder.layers.0.", CLIP_LAYER)
    sizes = {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "attention_dropout": 0.0}
    config = {
        "model_type": "siglip",
        "text_config": {**sizes, "vocab_size": WORDS, "max_position_embeddings": LENGTH, "pad_token_id": 1,
                        "projection_size": WIDTH},
        "vision_config": {**sizes, "image_size": SIDE, "patch_size": PATCH, "num_channels": 3,
                          "vision_use_head": True},
    }  # fmt: skip
    processor = {"image_processor_type": "SiglipImageProcessor", "size": CROP, "resample": 3}
    return {"config.json": config, "model.safetensors": tensors(**shapes), "preprocessor_config.json": processor}


def bert():
    shapes = {f"embeddings.{name}_embeddings.weight": (rows, WIDTH)
              for name, rows in (("word", WORDS), ("token_type", 2), ("position", LENGTH))}  # fmt: skip
    shapes |= norm("embeddings.LayerNorm") | layer("encoder.layer.0.", BERT_LAYER)
    config = {
        "model_type": "bert", "vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": HIDDEN, "hidden_act": "gelu", "type_vocab_size": 2,
        "max_position_embeddings": LENGTH, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "pad_token_id": 0,
    }  # fmt: skip
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijk", "cat", "##s", "dog"]
    return {
        "config.json": config, "model.safetensors": tensors(**shapes),
        "vocab.txt": ("\n".join(words) + "\n").encode(),
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": True},
    }  # fmt: skip


def roberta():
    folder = bert()
    folder["config.json"] |= {"model_type": "roberta", "pad_token_id": 1}
    del folder["vocab.txt"], folder["tokenizer_config.json"]
    return folder


def mpnet():
    shapes = {f"embeddings.{name}_embeddings.weight": (rows, WIDTH)
              for name, rows in (("word", WORDS), ("position", LENGTH))}  # fmt: skip
    shapes |= norm("embeddings.LayerNorm") | {"encoder.relative_attention_bias.weight": (32, 2)}
    names = [f"attention.attn.{x}" for x in "qkvo"] + ["attention.LayerNorm", *BERT_LAYER[-3:]]
    config = bert()["config.json"] | {
        "model_type": "mpnet", "pad_token_id": 1, "relative_attention_num_buckets": 32
    }  # fmt: skip
    del config["type_vocab_size"]
    return {"config.json": config, "model.safetensors": tensors(**shapes, **layer("encoder.layer.0.", names))}


def sentence():
    folder = bert()
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    modules = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for i, (path, kind) in enumerate(kinds.items())]  # fmt: skip
    return folder | {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True,
                                  "include_prompt": True},
        "2_Dense/config.json": {"in_features": WIDTH, "out_features": 4, "bias": True,
                                "activation_function": "torch.nn.modules.activation.Tanh"},
        "2_Dense/model.safetensors": tensors(**{"linear.weight": (4, WIDTH), "linear.bias": (4,)}),
        "sentence_bert_config.json": {"max_seq_length": LENGTH, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "a "}, "default_prompt_name": "query",
                                              "similarity_fn_name": "cosine"},
    }  # fmt: skip


def vit():
    shapes = {
        "embeddings.cls_token": (1, 1, WIDTH), "embeddings.position_embeddings": (1, ROWS + 1, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
    }  # fmt: skip
    shapes |= norm("layernorm")
    last = ["layernorm_before", "layernorm_after", "intermediate.dense", "output.dense"]
    shapes |= layer("encoder.layer.0.", VIT_LAYER + last)
    config = {
        "model_type": "vit", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": HIDDEN, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": SIDE,
        "patch_size": PATCH, "num_channels": 3, "qkv_bias": True, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    processor = {"image_processor_type": "ViTImageProcessor", "size": CROP, "resample": 2, "image_mean": [0.5] * 3,
                 "image_std": [0.5] * 3}  # fmt: skip
    return {"config.json": config, "model.safetensors": tensors(**shapes), "preprocessor_config.json": processor}


def dinov2():
    shapes = {
        "embeddings.cls_token": (1, 1, WIDTH), "embeddings.position_embeddings": (1, ROWS + 1, WIDTH),
        "embeddings.mask_token": (1, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "encoder.layer.0.layer_scale1.lambda1": (WIDTH,), "encoder.layer.0.layer_scale2.lambda1": (WIDTH,),
    }  # fmt: skip
    shapes |= norm("layernorm")
    shapes |= layer("encoder.layer.0.", [*VIT_LAYER, "norm1", "norm2", "mlp.fc1", "mlp.fc2"])
    config = {
        "model_type": "dinov2", "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2,
        "mlp_ratio": 2.0, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": SIDE, "patch_size": PATCH,
        "num_channels": 3, "qkv_bias": True, "use_swiglu_ffn": False, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    processor = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": SIDE}, "crop_size": CROP}
    return {"config.json": config, "model.safetensors": tensors(**shapes), "preprocessor_config.json": processor}


def openai_names(width):
    last = ["attn.out_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    shapes = {
        "logit_scale": (), "text_projection": (width, 4), "visual.proj": (width, 4), "visual.class_embedding": (width,),
        "visual.positional_embedding": (ROWS + 1, width), "visual.conv1.weight": (width, 3, PATCH, PATCH),
        "token_embedding.weight": (WORDS, width), "positional_embedding": (LENGTH, width),
    }  # fmt: skip
    for name in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for place in ("visual.", ""):
        block = layer(f"{place}transformer.resblocks.0.", ["attn.in_proj_", *last], width, 2 * width)
        shapes |= {name.replace("in_proj_.", "in_proj_"): shape for name, shape in block.items()}
    return tensors(**shapes)


def open_clip():
    config = {
        "model_cfg": {
            "embed_dim": 4, "quick_gelu": True,
            "vision_cfg": {"image_size": SIDE, "layers": 1, "width": WIDTH, "patch_size": PATCH, "head_width": 4,
                           "mlp_ratio": 2.0},
            "text_cfg": {"context_length": LENGTH, "vocab_size": WORDS, "width": WIDTH, "heads": 2, "layers": 1,
                         "mlp_ratio": 2.0, "norm_kwargs": {"eps": 1e-5}},
        },
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3]},
    }  # fmt: skip
    return {"open_clip_config.json": config, "open_clip_model.safetensors": openai_names(WIDTH)}


def openai():
    return {"model.safetensors": openai_names(WIDTH)}


FAMILIES = {
    f.__name__: f for f in (clip, sharded, siglip, bert, roberta, mpnet, sentence, vit, dinov2, open_clip, openai)
}


# ---------------------------------------------------------------- on the disk


class Raw:
    """A token of JSON that Python would not write: 1e400, NaN, a key twice."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text[:20]


def dumps(value) -> bytes:
    text = json.dumps(value, default=lambda raw: f"<raw>{raw.text}</raw>")
    return re.sub('"<raw>(.*?)</raw>"', lambda m: m[1], text).encode()


def write(folder: dict, path):
    """The folder on the disk: bytes as they are, arrays of a .safetensors file as such, all else as JSON."""
    path = Path(path)
    for name, content in folder.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes):
            content = packed(content) if name.endswith(".safetensors") else dumps(content)
        (path / name).write_bytes(content)
    return path


def packed(arrays) -> bytes:
    """A safetensors file of float32 arrays."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        header[name] = entry("F32", array.shape, end, end + array.nbytes)
        end += array.nbytes
    text = dumps(header)
    return raw(text + b" " * (-len(text) % 8), b"".join(array.tobytes() for array in arrays.values()))


def raw(header, data=b""):
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else dumps(header)
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def changed(value, path, new):
    """A copy of a JSON value with the one at `path` replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new) if len(path) > 1 else new
    return copy


# ---------------------------------------------------------------- what becomes of it


def use(model):
    """Encodes something by every way that the model has; the results are finite and have the right shape."""
    c = model.config
    if hasattr(c, "image"):
        encode = getattr(model, "encode_image", None) or model.encode
        width = c.embed_dim if hasattr(model, "encode_image") else c.width
        check(encode(np.full((2, c.image.channels, c.image.size, c.image.size), 0.5, np.float32)), (2, width))
        if model.processor is not None:
            check(encode([np.arange(3 * 12 * 10, dtype=np.uint8).reshape(12, 10, 3)]), (1, width))
    if hasattr(c, "text"):
        encode = getattr(model, "encode_text", None) or model.encode
        width = c.embed_dim if hasattr(model, "encode_text") else c.width
        ids = [[i % c.text.vocabulary for i in range(min(n, c.text.length))] for n in (3, 1)]
        check(encode(ids), (2, width))
        if model.tokenizer is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".* cut to .* tokens")
                check(encode(["a cat", "b"], truncate=True), (2, width))


def check(rows, shape):
    assert rows.shape == shape and rows.dtype == np.float32, (rows.shape, shape, rows.dtype)
    assert np.isfinite(rows).all()


def attempt(path, seconds=2.0, **options):
    """Loads and uses a folder. None where all went well, else the exception, which must be one that users can catch."""
    start = time.process_time()
    try:
        use(plait.load(path, **options))
        error = None
    except ALLOWED as caught:
        error = caught
        # A KeyError that says which tensor; a plain one would be a mistake in a dict. The same for UnicodeError.
        assert not isinstance(error, UnicodeError), repr(error)
        assert not isinstance(error, KeyError) or re.search("tensor .* is (missing|not part)", str(error)), repr(error)
        assert not re.search(LEAKED, str(error)), str(error)
    taken = time.process_time() - start
    assert taken < seconds, f"{taken:.1f} s: {error}"
    return error
