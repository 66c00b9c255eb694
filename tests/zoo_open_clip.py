"""The zoo's models of open_clip, and those with the key names that OpenAI published."""

import json
from pathlib import Path

import open_clip
import safetensors.torch
import timm
import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer


@register_model
def vit_tiny_patch8_siglip_32(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None,
                              **options):  # fmt: skip
    """A trunk like timm's of SigLIP, in small; heads of 64, as theirs."""
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, class_token=False, **options
    )


def build(row, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    cls = open_clip.CustomTextCLIP if row.config.get("custom_text") else open_clip.CLIP
    config = {k: v for k, v in row.config.items() if k != "custom_text"}
    tensors = {k: v.contiguous() for k, v in cls(**config).state_dict().items()}
    if row.call == "openai":
        dtype = getattr(torch, row.save.get("dtype", "float32"))
        tensors = {k: v.to(dtype) for k, v in tensors.items()}
        # what the published archives also hold
        tensors["input_resolution"] = torch.tensor(row.config["vision_cfg"]["image_size"])
        tensors["context_length"] = torch.tensor(row.config["text_cfg"]["context_length"])
        tensors["vocab_size"] = torch.tensor(row.config["text_cfg"]["vocab_size"])
        safetensors.torch.save_file(tensors, folder / "model.safetensors")
        return
    safetensors.torch.save_file(tensors, folder / "open_clip_model.safetensors")
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    if "timm_model_name" in row.config["vision_cfg"]:
        preprocess = {
            "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash",
        }  # fmt: skip
    settings = {"model_cfg": row.config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2))


def load(row, folder):
    """open_clip's own model of a folder; every weight fits or it raises."""
    assert timm.is_model("vit_tiny_patch8_siglip_32")
    if row.call == "open_clip":
        return open_clip.create_model(f"local-dir:{folder}", load_weights=True, require_pretrained=True).eval()
    tensors = safetensors.torch.load_file(Path(folder) / "model.safetensors")
    model = open_clip.model.build_model_from_openai_state_dict(dict(tensors), cast_dtype=torch.float32).float()
    for name in ("input_resolution", "context_length", "vocab_size"):
        tensors.pop(name, None)
    model.load_state_dict(tensors)  # it had rounded them to float16
    return model.eval()
