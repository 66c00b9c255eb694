"""Tables from the configurations that other libraries write to the parameters of `ImageProcessor`, and back."""

from __future__ import annotations

import dataclasses

from plait.io import schema

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "MAX_EDGE",
    "RESAMPLE",
    "from_hugging_face",
    "from_open_clip",
    "to_hugging_face",
    "to_open_clip",
]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_EDGE = 16384
RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Pillow's numbers
_RESAMPLE_NAMES = {number: name for name, number in RESAMPLE.items()}

_ALL = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
_CROPPED = {
    **_ALL,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "default_to_square": False,  # a single number as `size` is the shortest edge
}
_SQUARE = {**_ALL, "size": {"height": 224, "width": 224}, "do_center_crop": False, "image_mean": 0.5, "image_std": 0.5}
# What a key that is absent or null stands for.
_DEFAULTS = {
    "CLIPImageProcessor": _CROPPED,
    "BitImageProcessor": _CROPPED,
    "SiglipImageProcessor": {**_SQUARE, "resample": 3, "default_to_square": False},
    "ViTImageProcessor": {**_SQUARE, "resample": 2, "default_to_square": True},
}
# Names that were or are written for the same thing.
_TYPES = {name + backend: name for name in _DEFAULTS for backend in ("", "Fast", "Pil")} | {
    "CLIPFeatureExtractor": "CLIPImageProcessor",
    "ViTFeatureExtractor": "ViTImageProcessor",
}
_UNSUPPORTED = ("do_pad", "use_square_size")
_OPEN_CLIP = {
    "mode": "RGB",
    "mean": CLIP_MEAN,
    "std": CLIP_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


@dataclasses.dataclass(frozen=True)
class _Size:
    height: int | None = schema.integer(1, MAX_EDGE, default=None)
    width: int | None = schema.integer(1, MAX_EDGE, default=None)
    shortest_edge: int | None = schema.integer(1, MAX_EDGE, default=None)
    longest_edge: int | None = schema.integer(1, MAX_EDGE, default=None)

    def check(self, path):
        given = {key for key, value in vars(self).items() if value is not None}
        if given not in ({"height", "width"}, {"shortest_edge"}, {"shortest_edge", "longest_edge"}):
            raise ValueError(
                f"{path} has {' and '.join(sorted(given)) or 'no keys'}, expected height and width, or shortest_edge, "
                "or shortest_edge and longest_edge"
            )


@dataclasses.dataclass(frozen=True)
class _Options:
    do_resize: bool = schema.flag()
    do_center_crop: bool = schema.flag()
    do_rescale: bool = schema.flag()
    do_normalize: bool = schema.flag()
    default_to_square: bool = schema.flag()
    resample: int = schema.integer(0, 5)
    rescale_factor: float = schema.number(1e-9, 1e6)
    size: _Size = schema.section(_Size)
    crop_size: _Size | None = schema.section(_Size)
    image_mean: tuple = schema.numbers(-1e6, 1e6)
    image_std: tuple = schema.numbers(1e-6, 1e6)
    centre: str = schema.choice("transformers", "torchvision")


@dataclasses.dataclass(frozen=True)
class _OpenClip:
    mode: str = schema.choice("RGB")
    mean: tuple = schema.numbers(-1e6, 1e6)
    std: tuple = schema.numbers(1e-6, 1e6)
    interpolation: str = schema.choice("bicubic", "bilinear", "random")
    resize_mode: str = schema.choice("shortest", "longest", "squash")
    fill_color: int = schema.integer(0, 255)
    size: _Size = schema.section(_Size)


def from_hugging_face(config) -> dict:
    """Parameters of `ImageProcessor` from the content of preprocessor_config.json."""
    path = "preprocessor_config"
    if not isinstance(config, dict):
        raise ValueError(f"{path} is {type(config).__name__}, expected an object")
    written = next((config[k] for k in ("image_processor_type", "feature_extractor_type") if config.get(k)), None)
    name = _TYPES.get(written) if isinstance(written, str) else None
    if name is None:
        raise ValueError(f"{path}.image_processor_type is {repr(written)[:60]}, expected one of {', '.join(_DEFAULTS)}")
    for key in _UNSUPPORTED:
        if config.get(key):
            raise ValueError(f"{path}.{key} is {repr(config[key])[:60]}, which is not supported")
    # Other keys do not change pixels in these classes.
    values = {"crop_size": 1, "centre": "transformers", **_DEFAULTS[name]}
    values |= {f.name: config[f.name] for f in dataclasses.fields(_Options) if config.get(f.name) is not None}
    values["size"] = _size_keys(values["size"], values["default_to_square"] is True)
    if values["do_center_crop"] is True and "crop_size" not in _DEFAULTS[name] and config.get("crop_size") is None:
        raise ValueError(f"{path}.crop_size is missing, and do_center_crop is true")
    values["crop_size"] = _size_keys(values["crop_size"], True)
    for key in ("image_mean", "image_std"):
        values[key] = _three(values[key])
    options = schema.parse(_Options, values, path)
    _check_three(path, image_mean=options.image_mean, image_std=options.image_std)
    size, crop = options.size, options.crop_size
    if options.do_center_crop and crop.height is None:
        raise ValueError(f"{path}.crop_size has shortest_edge, expected height and width")
    squash = size.height is not None
    return {
        "resize": ((size.height, size.width) if squash else size.shortest_edge) if options.do_resize else None,
        "mode": "squash" if squash else "shortest",
        "max_edge": size.longest_edge if options.do_resize else None,
        "crop": (crop.height, crop.width) if options.do_center_crop else None,
        "resample": _RESAMPLE_NAMES[options.resample],
        "mean": options.image_mean if options.do_normalize else None,
        "std": options.image_std if options.do_normalize else None,
        "rescale": options.rescale_factor if options.do_rescale else None,
        "centre": options.centre,
    }


def from_open_clip(config, size) -> dict:
    """Parameters of `ImageProcessor` from preprocess_cfg of open_clip_config.json."""
    path = "preprocess_cfg"
    if not isinstance(config, dict):
        raise ValueError(f"{path} is {type(config).__name__}, expected an object")
    values = _OPEN_CLIP | {k: config[k] for k in _OPEN_CLIP if config.get(k) is not None}
    size = config.get("size") if size is None else size
    if size is None:
        raise ValueError(f"{path}.size is missing, and no size of the model was given")
    values["size"] = _size_keys(size, True)
    for key in ("mean", "std"):
        values[key] = _three(values[key])
    options = schema.parse(_OpenClip, values, path)
    _check_three(path, mean=options.mean, std=options.std)
    target = (options.size.height, options.size.width)
    if target[0] is None:
        raise ValueError(f"{path}.size has shortest_edge, expected a number or [height, width]")
    shortest, square = options.resize_mode == "shortest", target[0] == target[1]
    # open_clip resizes to a shortest edge that is not square with bicubic, whatever it is told.
    bilinear = options.interpolation == "bilinear" and (square or not shortest)
    return {
        "resize": target[0] if shortest and square else target,
        "mode": options.resize_mode,
        "crop": target if shortest else None,
        "resample": "bilinear" if bilinear else "bicubic",
        "mean": options.mean,
        "std": options.std,
        "fill": options.fill_color if options.resize_mode == "longest" else 0,
        "centre": "torchvision",
    }


def to_open_clip(size, mode, resample, mean, std, fill) -> dict:
    """The content of preprocess_cfg that comes closest."""
    return {
        "size": list(size),
        "mean": list(mean or (0.0, 0.0, 0.0)),
        "std": list(std or (1.0, 1.0, 1.0)),
        "interpolation": resample,
        "resize_mode": mode,
        "fill_color": fill,
    }


def to_hugging_face(resize, mode, max_edge, crop, resample, mean, std, rescale, centre) -> dict:
    """The content of preprocessor_config.json, as a CLIPImageProcessor, whose keys say all that can be said."""
    if mode == "longest" or (mode == "shortest" and isinstance(resize, tuple)):
        raise ValueError(f"mode {mode!r} with resize {resize} has no counterpart in preprocessor_config.json")
    config: dict = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": resize is not None,
        "do_center_crop": crop is not None,
        "do_rescale": rescale is not None,
        "do_normalize": mean is not None,
        "resample": RESAMPLE[resample],
    }
    if resize is not None:
        size = {"height": resize[0], "width": resize[1]} if mode == "squash" else {"shortest_edge": resize}
        config["size"] = size if max_edge is None else {**size, "longest_edge": max_edge}
    if crop is not None:
        config["crop_size"] = {"height": crop[0], "width": crop[1]}
    if rescale is not None:
        config["rescale_factor"] = rescale
    if mean is not None:
        config |= {"image_mean": list(mean), "image_std": list(std)}
    if centre != "transformers":
        config["centre"] = centre  # which transformers does not read
    return config


def _size_keys(value, square):
    """A size as the object that it stands for: one number, [height, width], or that object; checked later."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"height": value, "width": value} if square else {"shortest_edge": value}
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return {"height": value[0], "width": value[1]}
    return value


def _three(value):
    return [value] * 3 if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _check_three(path, **named):
    for key, values in named.items():
        if len(values) != 3:
            raise ValueError(f"{path}.{key} has {len(values)} numbers, expected 3")
