"""Pictures and image processors against transformers and open_clip: equal in every byte before normalisation."""

import io
import json

import numpy as np
import pytest
from picture_cases import ROWS, hw, named, scene, shortest

transformers = pytest.importorskip("transformers", reason="transformers is not installed: the comparison environment has it")  # fmt: skip  # noqa: E501
Image = pytest.importorskip("PIL.Image", reason="pictures are opened with Pillow")

from plait.processing import ImageProcessor, open_picture  # noqa: E402

PIL_CLASSES = {
    name: getattr(transformers, f"{name}ImageProcessorPil", None) for name in ("CLIP", "Siglip", "ViT", "Bit")
}
if None in PIL_CLASSES.values():
    pytest.skip("transformers 5 has the Pillow classes that are compared with", allow_module_level=True)

RAW = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}


def theirs(config):
    """The Pillow class of transformers for a preprocessor_config.json."""
    name = config.get("image_processor_type") or config["feature_extractor_type"]
    cls = PIL_CLASSES[name.split("Image")[0].split("Feature")[0]]
    return cls(**{key: value for key, value in config.items() if not key.endswith("_type")})


def pixels_of(processor, picture):
    return processor(picture, **RAW)["pixel_values"][0].transpose(1, 2, 0)


def rows(open_clip):
    return [pytest.param(*row[1:], id=row[0]) for row in ROWS if row[0].startswith("open-clip") == open_clip]


def random_config(rng, name):
    edge, other, crop = (int(n) for n in rng.integers(1, 97, 3))
    keys = {"resample": int(rng.integers(0, 4)), "do_resize": bool(rng.random() < 0.95)}
    if rng.random() < 0.2:
        keys["image_mean"], keys["image_std"] = rng.random(3).tolist(), (rng.random(3) + 0.1).tolist()
    if name in ("CLIP", "Bit"):
        sizes = [edge, shortest(edge), hw(edge, other), shortest(edge, longest_edge=edge + int(rng.integers(200)))]
        keys["size"] = sizes[rng.choice(4, p=[0.2, 0.4, 0.2, 0.2])]
        keys["do_center_crop"] = bool(rng.random() < 0.85)
        keys["crop_size"] = [crop, hw(crop, other)][rng.integers(2)]
    else:
        keys["size"] = [edge, hw(edge, other), [edge, other]][rng.integers(3)]
    return named(name, **keys)


def random_size(rng):
    """Mostly everyday shapes, some slivers, some of one pixel."""
    kind = rng.integers(10)
    if kind == 0:
        size = [1, int(rng.integers(1, 1001))]
    elif kind == 1:
        size = [int(rng.integers(1, 4)), int(rng.integers(300, 1001))]
    else:
        size = [int(n) for n in np.exp(rng.uniform(0, np.log(700), 2))]
    return tuple(size if rng.random() < 0.5 else size[::-1])


@pytest.mark.parametrize("name", PIL_CLASSES)
def test_pixels_of_random_sizes_and_modes_are_equal(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    compared = 0
    while compared < 125:
        config, size = random_config(rng, name), random_size(rng)
        picture = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        if rng.random() < 0.2:
            picture = picture.convert("L")
        original, ours = theirs(config), ImageProcessor.from_config(config)
        try:
            expected = pixels_of(original, picture.convert("RGB"))
        except ValueError:  # a sliver would become a picture without pixels
            with pytest.raises(ValueError, match="would become"):
                ours.pixels(picture)
            continue
        pixels = ours.pixels(picture)
        np.testing.assert_array_equal(pixels, expected, err_msg=f"{config} {size}")
        values = original(picture.convert("RGB"), return_tensors="np")["pixel_values"]
        np.testing.assert_array_max_ulp(ours([picture]), values, 2)
        compared += 1


@pytest.mark.parametrize("name, size", [("CLIP", (1, 1000)), ("Bit", (1000, 1)), ("Siglip", (3, 4000)),
                                        ("ViT", (4000, 3000)), ("CLIP", (2333, 3501))])  # fmt: skip
def test_pixels_of_extreme_sizes_are_equal(name, size):
    picture, config = Image.fromarray(scene(*size)), named(name)
    np.testing.assert_array_equal(
        ImageProcessor.from_config(config).pixels(picture), pixels_of(theirs(config), picture)
    )


@pytest.mark.parametrize("config, size, shape, expected", rows(open_clip=False))
def test_the_stored_pixels_are_those_of_transformers(config, size, shape, expected):
    pixels = pixels_of(theirs(config), Image.fromarray(scene(*size)))
    assert pixels.shape == (*shape, 3)
    expected = np.frombuffer(bytes.fromhex(expected), np.uint8).reshape(pixels.shape)
    assert abs(pixels.astype(int) - expected).max() <= 1


# ---------------------------------------------------------------- open_clip


def open_clip_steps(config):
    transform = pytest.importorskip("open_clip.transform", reason="open_clip is not installed")
    return transform.image_transform_v2(transform.PreprocessCfg(**config), is_train=False)


def open_clip_pixels(steps, picture):
    for step in steps.transforms[:-2]:  # all but ToTensor and Normalize
        picture = step(picture)
    return np.asarray(picture)


def test_open_clip_of_random_sizes_and_modes_is_equal():
    rng = np.random.default_rng(4)
    compared = {"shortest": 0, "longest": 0, "squash": 0}
    while min(compared.values()) < 60:
        edge, other = (int(n) for n in rng.integers(1, 97, 2))
        config = {
            "size": [edge, (edge, other), [edge, edge]][rng.integers(3)],
            "mean": rng.random(3).tolist(),
            "std": (rng.random(3) + 0.1).tolist(),
            "interpolation": str(rng.choice(["bicubic", "bilinear", "random"])),
            "resize_mode": str(rng.choice(list(compared))),
            "fill_color": int(rng.integers(256)),
        }
        size = random_size(rng)
        picture = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        if rng.random() < 0.2:
            picture = picture.convert("L")
        steps, ours = open_clip_steps(config), ImageProcessor.from_open_clip(config)
        try:
            expected = open_clip_pixels(steps, picture)
        except ValueError:  # a sliver would become a picture without pixels
            with pytest.raises(ValueError, match="would become"):
                ours.pixels(picture)
            continue
        np.testing.assert_array_equal(ours.pixels(picture), expected, err_msg=f"{config} {size}")
        values = steps(picture).numpy()
        assert abs(ours([picture])[0] - values).max() <= 1e-6 * (1 + abs(values).max())
        compared[config["resize_mode"]] += 1


@pytest.mark.parametrize("config, size, shape, expected", rows(open_clip=True))
def test_the_stored_pixels_are_those_of_open_clip(config, size, shape, expected):
    pixels = open_clip_pixels(open_clip_steps(config), Image.fromarray(scene(*size)))
    assert pixels.shape == (*shape, 3)
    expected = np.frombuffer(bytes.fromhex(expected), np.uint8).reshape(pixels.shape)
    assert abs(pixels.astype(int) - expected).max() <= 1


def test_defaults_of_open_clip():
    steps, picture = open_clip_steps({}), Image.fromarray(scene(300, 401))
    ours = ImageProcessor.from_open_clip({}, 224)
    np.testing.assert_array_equal(ours.pixels(picture), open_clip_pixels(steps, picture))
    assert abs(ours([picture])[0] - steps(picture).numpy()).max() < 1e-6


# ---------------------------------------------------------------- opening


def by_load_image(picture):
    return np.asarray(transformers.image_utils.load_image(picture))


def file_by_load_image(path):
    # Not by its path: load_image leaves the file open, and Pillow 13 maps TIFF files and then turns other bytes.
    return by_load_image(Image.open(io.BytesIO(path.read_bytes())))


def by_processor(picture):
    """Transparent pictures: load_image drops alpha, the processors blend it with white."""
    from PIL.ImageOps import exif_transpose
    from transformers.image_transforms import convert_to_rgb

    return convert_to_rgb(exif_transpose(picture), return_numpy=True)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "PA", "RGBX"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_pictures_are_what_load_image_makes_of_them(tmp_path, mode, orientation):
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (9, 13, 4), np.uint8))
    picture = picture.convert(mode) if mode in ("LA", "RGBA") else picture.convert("RGB").convert(mode)
    picture.getexif()[0x0112] = orientation
    due = by_processor if "A" in mode else by_load_image
    np.testing.assert_array_equal(np.asarray(open_picture(picture)), due(picture))
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"):
        try:
            picture.save(tmp_path / "picture", kind, exif=picture.getexif())
        except (OSError, KeyError, ValueError):
            continue  # this format has no such mode
        with Image.open(io.BytesIO((tmp_path / "picture").read_bytes())) as saved:
            saved.load()  # before it is asked for its orientation: TIFF turns itself
            transparent = "A" in saved.mode or "transparency" in saved.info
            expected = by_processor(saved) if transparent else file_by_load_image(tmp_path / "picture")
        np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "picture")), expected, err_msg=kind)


def test_palettes_with_transparency_are_what_processors_make_of_them(tmp_path):
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (9, 13, 3), np.uint8)).quantize(16)
    for kind, transparency in (("PNG", 3), ("GIF", 3)):
        file = tmp_path / f"picture.{kind}"
        picture.save(file, kind, transparency=transparency)
        with Image.open(file) as saved:
            np.testing.assert_array_equal(np.asarray(open_picture(file)), by_processor(saved))


# ---------------------------------------------------------------- configurations

CONFIGS = [
    *(named(name) for name in PIL_CLASSES),
    named("CLIP", size=shortest(20), crop_size=hw(18, 16), resample=2, image_mean=[0.1, 0.2, 0.3]),
    named("CLIP", size=shortest(20, longest_edge=30), do_center_crop=False, do_normalize=False),
    named("Siglip", size=hw(21, 17), do_rescale=False),
    named("ViT", size=24, rescale_factor=1 / 127.5),
    {"feature_extractor_type": "ViTFeatureExtractor", "size": 20},
    {"feature_extractor_type": "CLIPFeatureExtractor", "size": 20, "crop_size": 16},
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join(map(str, c.values()))[:40])
@pytest.mark.parametrize("nested", [False, True])
def test_what_transformers_saves_is_loaded(tmp_path, config, nested):
    original = theirs(config)
    original.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    ours = ImageProcessor.from_config({"image_processor": written} if nested else written)
    assert ours.to_config() == written
    picture = Image.fromarray(scene(50, 71))
    expected = original(picture, return_tensors="np")["pixel_values"].astype(np.float32)
    np.testing.assert_array_max_ulp(ours([picture]), expected, 2)


PARAMETERS = [
    dict(resize=20, mode="shortest", crop=(18, 16), mean=(0.4, 0.5, 0.6), std=0.25),
    dict(resize=20, mode="shortest", max_edge=24, resample="lanczos"),
    dict(resize=(21, 17), resample="bilinear", mean=0.5, std=0.5),
    dict(resize=None, crop=30, rescale=None, mean=100, std=50),
    dict(resize=(9, 9), rescale=1 / 127.5),
    dict(resize=None),
]


def loaded(tmp_path, config):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    return transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_transformers_loads_what_to_config_says(tmp_path, parameters):
    ours = ImageProcessor(**parameters)
    original, picture = loaded(tmp_path, ours.to_config()), Image.fromarray(scene(50, 71))
    expected = original(picture, return_tensors="np")["pixel_values"].astype(np.float32)
    np.testing.assert_array_max_ulp(ours([picture]), expected, 2)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join(map(str, c.values()))[:40])
def test_transformers_loads_the_original_configuration_again(tmp_path, config):
    ours, picture = ImageProcessor.from_config(config), Image.fromarray(scene(50, 71))
    expected = loaded(tmp_path, ours.to_config())(picture, return_tensors="np")["pixel_values"].astype(np.float32)
    np.testing.assert_array_max_ulp(ours([picture]), expected, 2)


def test_open_clip_in_the_layout_of_transformers(tmp_path):
    """Equal where the middle is one pixel; plait reads back its own choice elsewhere."""
    ours = ImageProcessor.from_open_clip({"size": 20})
    config = ours.to_config()
    even = Image.fromarray(scene(40, 60))
    np.testing.assert_array_equal(ours.pixels(even), pixels_of(loaded(tmp_path, config), even))
    odd = scene(40, 62)  # 31 columns: the crop begins at 5.5, which is 6 here and 5 there
    again = ImageProcessor.from_config(json.loads(json.dumps(config)))
    np.testing.assert_array_equal(again.pixels(odd), ours.pixels(odd))
    assert (pixels_of(loaded(tmp_path, config), Image.fromarray(odd)) != ours.pixels(odd)).any()
