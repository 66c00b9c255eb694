"""Seeded numbers: the weights and the inputs of a case, from NumPy alone, so that every engine begins with the same."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np

from comparison.cases import Case

__all__ = ["checkpoint", "checkpoint_folder", "clip_shapes", "fill", "gradient", "inputs", "shapes"]


def generator(*parts):
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def fill(shapes):
    """Arrays of these names and shapes: norms around 1, biases small, matrices that keep the size of what they read."""
    state = {}
    for name, shape in shapes:
        x = generator(name, shape).standard_normal(shape, dtype=np.float32)
        if name.endswith("logit_scale"):
            x = np.float32(math.log(1 / 0.07))
        elif name.endswith("bias"):
            x *= 0.1
        elif len(shape) == 1:
            x = 1 + 0.1 * x if "norm" in name.lower() else 0.1 * x
        elif "embedding" in name and "patch" not in name:
            x *= 0.5
        else:
            x *= math.prod(shape[1:]) ** -0.5
        state[name] = np.asarray(x, np.float32)
    return state


def gradient(number, shape):
    """A gradient for the parameter of this number."""
    return np.asarray(generator("gradient", number).standard_normal(shape, dtype=np.float32), np.float32)


# ---------------------------------------------------------------- models that are checkpoints


def _linear(name, out, into, bias=True):
    yield f"{name}.weight", (out, into)
    if bias:
        yield f"{name}.bias", (out,)


def _norm(name, width):
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _clip_layers(name, tower):
    width = tower["width"]
    for i in range(tower["layers"]):
        at = f"{name}.encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{at}.self_attn.{part}", width, width)
        yield from _norm(f"{at}.layer_norm1", width)
        yield from _norm(f"{at}.layer_norm2", width)
        yield from _linear(f"{at}.mlp.fc1", 4 * width, width)
        yield from _linear(f"{at}.mlp.fc2", width, 4 * width)


def clip_shapes(sizes):
    """Names and shapes of CLIP's tensors, as transformers names them."""
    v, t, embed = sizes["image"], sizes["text"], sizes["embed"]
    yield "logit_scale", ()
    yield "vision_model.embeddings.class_embedding", (v["width"],)
    yield "vision_model.embeddings.patch_embedding.weight", (v["width"], 3, v["patch"], v["patch"])
    yield "vision_model.embeddings.position_embedding.weight", ((v["size"] // v["patch"]) ** 2 + 1, v["width"])
    yield from _norm("vision_model.pre_layrnorm", v["width"])
    yield from _clip_layers("vision_model", v)
    yield from _norm("vision_model.post_layernorm", v["width"])
    yield "text_model.embeddings.token_embedding.weight", (t["vocabulary"], t["width"])
    yield "text_model.embeddings.position_embedding.weight", (t["length"], t["width"])
    yield from _clip_layers("text_model", t)
    yield from _norm("text_model.final_layer_norm", t["width"])
    yield from _linear("visual_projection", embed, v["width"], bias=False)
    yield from _linear("text_projection", embed, t["width"], bias=False)


def _bert_shapes(z):
    width = z["width"]
    yield "embeddings.word_embeddings.weight", (z["vocabulary"], width)
    yield "embeddings.position_embeddings.weight", (z["length"], width)
    yield "embeddings.token_type_embeddings.weight", (2, width)
    yield from _norm("embeddings.LayerNorm", width)
    for i in range(z["layers"]):
        at = f"encoder.layer.{i}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            yield from _linear(f"{at}.{part}", width, width)
        yield from _norm(f"{at}.attention.output.LayerNorm", width)
        yield from _linear(f"{at}.intermediate.dense", z["hidden"], width)
        yield from _linear(f"{at}.output.dense", width, z["hidden"])
        yield from _norm(f"{at}.output.LayerNorm", width)


def _clip_config(z):
    def tower(part):
        width = part["width"]
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": part["layers"],
            "num_attention_heads": part["heads"],
            "projection_dim": z["embed"],
            "hidden_act": "quick_gelu",
        }

    v, t = z["image"], z["text"]
    end = t["vocabulary"] - 1
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": z["embed"],
        "vision_config": {**tower(v), "image_size": v["size"], "patch_size": v["patch"]},
        "text_config": {
            **tower(t),
            "vocab_size": t["vocabulary"],
            "max_position_embeddings": t["length"],
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
    }


def _bert_config(z):
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": z["width"],
        "num_hidden_layers": z["layers"],
        "num_attention_heads": z["heads"],
        "intermediate_size": z["hidden"],
        "vocab_size": z["vocabulary"],
        "max_position_embeddings": z["length"],
    }


def _sentence_files(width):
    """What sentence-transformers writes beside BERT: the mean of the tokens, to unit length."""
    parts = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    kind = "sentence_transformers.models."
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind + n} for i, (path, n) in enumerate(parts)]
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    return {"modules.json": modules, "1_Pooling/config.json": pooling}


def _checkpoint(case):
    """(shapes, config, name of the folder), or None where a case has no checkpoint."""
    z = case.sizes
    if "image" in z:
        shapes, config, sizes = clip_shapes(z), _clip_config(z), (z["image"], z["text"], z["embed"])
    elif case.kind == "minilm":
        own = {key: z[key] for key in ("width", "layers", "heads", "hidden", "vocabulary", "length")}
        shapes, config, sizes = _bert_shapes(z), _bert_config(z), own
    else:
        return None
    return shapes, config, f"{config['model_type']}-{zlib.crc32(repr(sizes).encode()):08x}"


def checkpoint_folder(case: Case, cache):
    """Where the checkpoint of a case is or will be."""
    return Path(cache) / _checkpoint(case)[2]


def checkpoint(case: Case, cache):
    """Folder of the checkpoint of a case, in transformers' layout, written on first use; None where there is none."""
    found = _checkpoint(case)
    if found is None or case.kind == "adamw":
        return None
    shapes, config, name = found
    folder = Path(cache) / name
    if not (folder / "config.json").exists():  # written last
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(fill(shapes), folder / "model.safetensors", metadata={"format": "pt"})
        for file, content in _sentence_files(config["hidden_size"]).items() if case.kind == "minilm" else ():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(json.dumps(content))
        (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


# ---------------------------------------------------------------- models of a few layers: names as both sides have them


def _mlp(name, width):
    yield from _linear(f"{name}.fc1", 4 * width, width)
    yield from _linear(f"{name}.fc2", width, 4 * width)


def _cross(name, width):
    yield from _norm(f"{name}norm1", width)
    yield from _linear(f"{name}attention.q", width, width)
    yield from _linear(f"{name}attention.kv", 2 * width, width)
    yield from _linear(f"{name}attention.out", width, width)
    yield from _norm(f"{name}norm2", width)
    yield from _mlp(f"{name}mlp", width)


def _mult(z):
    width = z["width"]
    for i, into in enumerate(z["widths"]):
        yield from _linear(f"project.{i}", width, into, bias=False)
    for i in range(6):
        for j in range(z["layers"]):
            yield from _cross(f"cross.{i}.blocks.{j}.", width)
        yield from _norm(f"cross.{i}.norm", width)
    for i in range(3):
        for j in range(z["own"]):
            at = f"own.{i}.blocks.{j}"
            yield from _norm(f"{at}.norm1", 2 * width)
            yield from _linear(f"{at}.attention.qkv", 6 * width, 2 * width)
            yield from _linear(f"{at}.attention.out", 2 * width, 2 * width)
            yield from _norm(f"{at}.norm2", 2 * width)
            yield from _mlp(f"{at}.mlp", 2 * width)
        yield from _norm(f"own.{i}.norm", 2 * width)
    yield from _linear("fc1", 6 * width, 6 * width)
    yield from _linear("fc2", 6 * width, 6 * width)
    yield from _linear("out", 1, 6 * width)


def shapes(case: Case):
    """Names and shapes of the parameters of a model that is not a checkpoint."""
    z, d = case.sizes, case.sizes.get("width")
    if case.kind == "cross":
        return list(_cross("", d))
    if case.kind == "mult":
        return list(_mult(z))
    if case.kind == "fusion_tensor":
        return list(_linear("out", z["out"], (d + 1) ** 3))
    if case.kind == "fusion_low_rank":
        parts = [pair for i in range(3) for pair in _linear(f"factor.{i}", z["rank"] * z["out"], d)]
        return [*parts, ("ranks", (z["rank"], 1)), ("bias", (z["out"],))]
    if case.kind == "fusion_gated":
        return [*_linear("a", d, d), *_linear("b", d, d), *_linear("gate", d, 2 * d)]
    if case.kind == "fusion_bilinear":
        out = z["factor"] * z["out"]
        return [*_linear("a", out, d), *_linear("b", out, d)]
    return []


# ---------------------------------------------------------------- inputs


def _positions(length, width):
    """Sinusoids, (length, width): sines in the first half, cosines in the second."""
    half = width // 2
    angle = np.arange(length)[:, None] * np.exp(np.arange(half) * -(math.log(10000) / max(1, half - 1)))
    return np.concatenate([np.sin(angle), np.cos(angle)], 1).astype(np.float32)


def _captions(rng, z):
    end = z["text"]["vocabulary"] - 1
    ids = np.full((z["batch"], z["padded"]), end, np.int64)  # CLIP pads with its end token
    ids[:, 0] = end - 1
    ids[:, 1 : z["tokens"] - 1] = rng.integers(0, end - 1, (z["batch"], z["tokens"] - 2))
    return ids


def inputs(case: Case, number=0) -> dict:
    """Named arrays, in the order of the arguments: what a call of the case reads.

    Another `number` gives others, for calibration.
    """
    z, rng, kind = case.sizes, generator("inputs", case.name, number), case.kind

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    found: dict = {}
    if kind in ("clip_image", "clip"):
        size = z["image"]["size"]
        found["pixels"] = normal(z["batch"], 3, size, size)
    if kind in ("clip_text", "clip"):
        found["ids"] = _captions(rng, z)
    if kind == "minilm":
        least, most = z["tokens"]
        counts = np.linspace(least, most, z["batch"]).astype(np.int64) if z["batch"] > 1 else np.array([most])
        rng.shuffle(counts)
        ids = rng.integers(2000, z["vocabulary"], (z["batch"], counts.max()))
        ids[:, 0] = 101
        ids[np.arange(z["batch"]), counts - 1] = 102
        mask = (np.arange(counts.max()) < counts[:, None]).astype(np.int64)
        found = {"ids": ids * mask, "mask": mask}
    if kind == "cross":
        b, d = z["batch"], z["width"]
        found = {"x": normal(b, z["queries"], d), "context": normal(b, z["keys"], d), "dy": normal(b, z["queries"], d)}
    if kind == "attention":
        shape = (z["batch"], z["length"], z["heads"], z["head"])
        found = {name: normal(*shape) for name in ("q", "k", "v", "dy")}
    if kind == "mult":
        for i, (length, width) in enumerate(zip(z["lengths"], z["widths"], strict=True)):
            found[f"x{i}"] = normal(z["batch"], length, width)
        found["positions"] = _positions(max(z["lengths"]), z["width"])
        found["own_positions"] = _positions(max(z["lengths"]), 2 * z["width"])
        found["target"] = normal(z["batch"], 1)
    if kind == "info_nce":
        for name in ("a", "b"):
            x = normal(z["pairs"], z["width"])
            found[name] = x / np.linalg.norm(x, axis=1, keepdims=True)
    if kind.startswith("fusion"):
        count = 3 if kind in ("fusion_tensor", "fusion_low_rank") else 2
        found = {f"x{i}": normal(z["batch"], z["width"]) for i in range(count)}
        out = z.get("out", z["width"])
        found["dy"] = normal(z["batch"], out)
    return found
