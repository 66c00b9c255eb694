"""Image processors: the pixels and values that they make, and the configurations that they come from."""

import io
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from picture_cases import ROWS, hw, named, scene, shortest

Image = pytest.importorskip("PIL.Image", reason="pictures are opened with Pillow")

from plait.processing import ImageProcessor  # noqa: E402

SCENE = scene(11, 14)


def repeated(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


# ---------------------------------------------------------------- pixels


def processor_of(config):
    if any(key.endswith("_type") for key in config):
        return ImageProcessor.from_config(config)
    return ImageProcessor.from_open_clip(config)


@pytest.mark.parametrize("config, size, shape, expected", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_pixels_are_those_of_the_original_libraries(config, size, shape, expected):
    processor = processor_of(config)
    pixels = processor.pixels(scene(*size))
    assert pixels.dtype == np.uint8 and pixels.shape == (*shape, 3) and pixels.flags.c_contiguous
    assert pixels.flags.writeable and processor.size in (None, shape)
    expected = np.frombuffer(bytes.fromhex(expected), np.uint8).reshape(*shape, 3)
    assert abs(pixels.astype(int) - expected).max() <= 1  # Pillow 13 gives these; other releases round in another order


def cubic(x):
    """Keys 1981 with a = -1/2, what Pillow calls bicubic."""
    x = abs(x)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def weights(old, new, kernel, support):
    """(new, old): the kernel, widened where the picture shrinks, at the centres of the pixels."""
    step = max(1.0, old / new)
    centres = (np.arange(new) + 0.5) * old / new
    distance = (np.arange(old) + 0.5 - centres[:, None]) / step
    matrix = np.where(abs(distance) < support, kernel(distance), 0)
    return matrix / matrix.sum(1, keepdims=True)


@pytest.mark.parametrize("size, new", [((30, 47), (12, 9)), ((9, 8), (20, 31)), ((64, 5), (7, 7)), ((1, 1), (3, 4))])
@pytest.mark.parametrize("resample, kernel, support", [
    ("bicubic", cubic, 2), ("bilinear", lambda x: np.maximum(0, 1 - abs(x)), 1),
    ("lanczos", lambda x: np.sinc(x) * np.sinc(x / 3), 3),
    ("hamming", lambda x: np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 1),
])  # fmt: skip
def test_resize_is_the_formula(size, new, resample, kernel, support):
    picture = scene(*size)
    pixels = ImageProcessor(new, resample=resample).pixels(picture)
    rows, columns = (weights(old, n, kernel, support) for old, n in zip(size, new, strict=True))
    expected = np.einsum("iy,yxc,jx->ijc", rows, picture, columns)
    assert abs(pixels - expected).max() < 1.6  # three roundings


TARGETS = [
    # resize, mode, max_edge, (height, width) before and after: int(resize * longer / shorter), and nothing else
    (224, "shortest", None, (480, 640), (224, 298)),
    (224, "shortest", None, (640, 480), (298, 224)),
    (224, "shortest", None, (500, 333), (336, 224)),
    (256, "shortest", None, (333, 500), (256, 384)),
    (10, "shortest", None, (1, 1000), (10, 10000)),
    (10, "shortest", 12, (30, 60), (6, 12)),
    (10, "shortest", 20, (30, 60), (10, 20)),
    ((4, 6), "shortest", None, (10, 10), (6, 6)),
    ((4, 6), "squash", None, (10, 99), (4, 6)),
    (7, "squash", None, (10, 99), (7, 7)),
    (None, "shortest", None, (3, 5), (3, 5)),
]


@pytest.mark.parametrize("resize, mode, max_edge, before, after", TARGETS)
def test_sizes_after_resize(resize, mode, max_edge, before, after):
    processor = ImageProcessor(resize, mode, max_edge=max_edge, resample="nearest")
    assert processor.pixels(np.zeros(before, np.uint8)).shape[:2] == after
    assert processor.size == (after if mode == "squash" else None)


def test_longest_is_filled():
    processor = ImageProcessor((6, 4), "longest", fill=9, centre="torchvision")
    expected = np.full((6, 4), 9)
    expected[2:4] = 200
    pixels = processor.pixels(np.full((10, 20), 200, np.uint8))
    np.testing.assert_array_equal(pixels, repeated(expected))
    assert processor.size == (6, 4)


def test_crop_of_something_smaller_is_surrounded_by_zeros():
    for centre, left in (("transformers", 2), ("torchvision", 1)):
        expected = np.zeros((4, 6), np.uint8)
        expected[:, left : left + 3] = 7
        pixels = ImageProcessor(None, crop=(4, 6), centre=centre).pixels(np.full((9, 3), 7, np.uint8))
        np.testing.assert_array_equal(pixels, repeated(expected))


def test_slivers_cannot_take_all_memory():
    thin = np.zeros((1, 4_000_000), np.uint8)
    with pytest.raises(ValueError, match="ndarray: 4000000 x 1 pixels would become 896000000 x 224"):
        ImageProcessor(224, "shortest", crop=224).pixels(thin)
    with pytest.raises(ValueError, match="4000000 x 1 pixels would become 224 x 0"):
        ImageProcessor(224, "longest").pixels(thin)
    with pytest.raises(ValueError, match=r"images\[1\]: ndarray: 1 x 4000000 pixels"):
        ImageProcessor(224, "shortest", crop=224)([thin[:, :9], thin.T])


# ---------------------------------------------------------------- values

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.mark.parametrize("mean, std, rescale", [(MEAN, STD, 1 / 255), (0.5, 0.5, 1 / 255), (None, None, 1 / 127.5),
                                                ((100, 110, 120), (50, 60, 70), None), (None, None, None)])  # fmt: skip
def test_values(mean, std, rescale):
    processor = ImageProcessor(6, mean=mean, std=std, rescale=rescale)
    pictures = [scene(20, 30), scene(6, 6), Image.fromarray(scene(9, 7))]
    values = processor(pictures)
    assert values.shape == (3, 3, 6, 6) and values.dtype == np.float32 and values.flags.c_contiguous
    pixels = np.stack([processor.pixels(p) for p in pictures]).transpose(0, 3, 1, 2).astype(np.float64)
    expected = pixels * (rescale or 1)
    if mean is not None:
        shape = (3, 1, 1)
        expected = (expected - np.broadcast_to(mean, 3).reshape(shape)) / np.broadcast_to(std, 3).reshape(shape)
    scale = abs(expected).max() + 1
    assert abs(values - expected).max() <= 3e-7 * scale
    folded = pixels * processor.scale[:, None, None] + processor.shift[:, None, None]
    assert abs(folded - expected).max() <= 1e-6 * scale
    assert processor.scale.dtype == processor.shift.dtype == np.float32 and processor.scale.shape == (3,)
    for one, picture in zip(values, pictures, strict=True):
        np.testing.assert_array_equal(processor([picture])[0], one)
    np.testing.assert_array_equal(processor(np.stack([scene(8, 8)] * 2)), processor([scene(8, 8)] * 2))


def test_batches():
    processor = ImageProcessor(6, "shortest")
    assert ImageProcessor(6)([]).shape == (0, 3, 6, 6) and processor([]).shape[0] == 0
    assert processor([scene(6, 9), scene(12, 18)]).shape == (2, 3, 6, 9)
    with pytest.raises(ValueError, match=r"images\[1\] comes out as \(9, 6\), expected \(6, 9\), as images\[0\]"):
        processor([scene(6, 9), scene(9, 6)])
    with pytest.raises(ValueError, match=r"images\[1\]: bytes of 3: not a JPEG"):
        processor([scene(6, 9), b"abc"])
    with pytest.raises(TypeError, match=r"images\[0\]: open_picture: source is NoneType"):
        processor([None])
    with pytest.raises(FileNotFoundError, match=r"cat\.jpg"):
        processor(["cat.jpg"])
    for wrong in ("cat.jpg", scene(4, 4), Image.fromarray(SCENE), b"abc", 3):
        with pytest.raises(TypeError, match="expected a list of pictures"):
            processor(wrong)


def test_threads_share_a_processor_and_a_picture():
    rng = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (300, 400, 3), np.uint8)).save(file, "JPEG", exif=exif)
    data = file.getvalue()
    processor = ImageProcessor(32, "shortest", crop=32)
    expected = processor.pixels(data)
    for _ in range(10):
        lazy, start = Image.open(io.BytesIO(data)), threading.Barrier(8)

        def work(_, lazy=lazy, start=start):
            start.wait()
            return processor.pixels(lazy)

        with ThreadPoolExecutor(8) as pool:
            for pixels in pool.map(work, range(8)):
                np.testing.assert_array_equal(pixels, expected)


def test_processors_are_pickled():
    processor = ImageProcessor.from_config(named("CLIP", size=shortest(8), crop_size=8))
    again = pickle.loads(pickle.dumps(processor))
    np.testing.assert_array_equal(again([SCENE]), processor([SCENE]))
    assert again.to_config() == processor.to_config() and repr(again) == repr(processor)


# ---------------------------------------------------------------- configurations

PARAMETERS = [
    (dict(resize=0), "resize is 0"), (dict(resize=16385), "resize is 16385"), (dict(resize=(3, 0)), "resize is"),
    (dict(resize=True), "resize is True"), (dict(resize=(1, 2, 3)), "resize is"), (dict(resize=2.5), "resize is 2.5"),
    (dict(resize=(16384, 16384)), "16384 x 16384 pixels"), (dict(crop="224"), "crop is '224'"),
    (dict(mode="cover"), "mode is 'cover', expected one of 'squash'"), (dict(resample=3), "resample is 3"),
    (dict(centre="left"), "centre is 'left'"), (dict(mode="longest", crop=3), "mode 'longest'"),
    (dict(mode="longest", resize=None), "mode 'longest'"), (dict(max_edge=300), "max_edge is 300"),
    (dict(mode="shortest", max_edge=0), "max_edge is 0"), (dict(fill=1), "fill is 1"),
    (dict(mode="longest", fill=256), "fill is 256"), (dict(mode="longest", fill=True), "fill is True"),
    (dict(mean=0.5), "mean and std belong together"), (dict(std=0.5), "mean and std belong together"),
    (dict(mean=0.5, std=0), "std is 0"), (dict(mean=0.5, std=(1, 1)), "std is"), (dict(mean="a", std=1), "mean is 'a'"),
    (dict(mean=(0, 0, float("nan")), std=1), "mean is"), (dict(rescale=0), "rescale is 0"),
    (dict(rescale=float("inf")), "rescale is inf"), (dict(rescale=True), "rescale is True"),
]  # fmt: skip


@pytest.mark.parametrize("parameters, text", PARAMETERS)
def test_parameters_out_of_range(parameters, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        ImageProcessor(**parameters)


def siglip(**keys):
    return named("Siglip", **keys)


CONFIGS = [
    (None, "preprocessor_config is NoneType"), ([], "preprocessor_config is list"),
    ({}, "image_processor_type is None, expected one of CLIPImageProcessor"),
    (named("ConvNext"), "image_processor_type is 'ConvNextImageProcessor'"), ({"image_processor_type": 3}, "is 3"),
    ({"image_processor_type": ["CLIPImageProcessor"]}, "image_processor_type is ["),
    ({"image_processor_type": "os.system"}, "is 'os.system'"), (siglip(do_pad=True), "do_pad is True"),
    (named("CLIP", use_square_size=True), "use_square_size is True"), (siglip(size=0), "size.shortest_edge is 0"),
    (siglip(size=hw(1, 16385)), "size.width is 16385, expected 1 to 16384"), (siglip(size="224"), "size is '224'"),
    (siglip(size=hw(10**30, 1)), "size.height is 1000"), (siglip(size=True), "size is True"),
    (siglip(size={"longest_edge": 5}), "size has longest_edge, expected height and width"),
    (siglip(size={"height": 5}), "size has height, expected"), (siglip(size={}), "size has no keys"),
    (siglip(size={"max_height": 5, "max_width": 5}), "size.max_height is unknown"),
    (siglip(size=[1, 2, 3]), "size is [1, 2, 3]"),
    (siglip(size=hw(16384, 16384)), "16384 x 16384 pixels"), (siglip(resample=6), "resample is 6, expected 0 to 5"),
    (siglip(resample="bicubic"), "resample is 'bicubic'"), (siglip(do_resize=1), "do_resize is 1, expected true or"),
    (siglip(do_center_crop=True), "crop_size is missing"),
    (siglip(do_center_crop=True, crop_size=None), "crop_size is missing"),
    (named("CLIP", crop_size=shortest(3)), "crop_size has shortest_edge"),
    (siglip(image_mean=[0.5]), "image_mean has 1 numbers, expected 3"), (siglip(image_mean=[]), "image_mean is []"),
    (siglip(image_std=[0.5, 0.5, 0]), "image_std[2] is 0"), (siglip(image_std="x"), "image_std is 'x'"),
    (siglip(image_mean=[0.5, 0.5, None]), "image_mean[2] is None"), (siglip(rescale_factor=0), "rescale_factor is 0"),
    (siglip(rescale_factor=10**400), "rescale_factor is"), (siglip(centre="left"), "centre is 'left'"),
]  # fmt: skip


@pytest.mark.parametrize("config, text", CONFIGS)
def test_configurations_that_are_refused(config, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        ImageProcessor.from_config(config)


OPEN_CLIP = [
    (None, 4, "preprocess_cfg is NoneType"), ({}, None, "preprocess_cfg.size is missing"), ({}, 0, "size.height is 0"),
    ({"mode": "L"}, 4, "mode is 'L', expected one of RGB"), ({"size": [1, 2, 3]}, None, "size is [1, 2, 3]"),
    ({"interpolation": "lanczos"}, 4, "interpolation is 'lanczos'"), ({"fill_color": 256}, 4, "fill_color is 256"),
    ({"resize_mode": "crop"}, 4, "resize_mode is 'crop'"), ({"mean": [1, 2]}, 4, "mean has 2 numbers"),
    ({"std": 0}, 4, "std[0] is 0"), ({"std": "x"}, 4, "std is 'x'"),
    ({"size": {"shortest_edge": 4}}, None, "size has shortest_edge"),
]  # fmt: skip


@pytest.mark.parametrize("config, size, text", OPEN_CLIP)
def test_open_clip_configurations_that_are_refused(config, size, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        ImageProcessor.from_open_clip(config, size)


def same(a, b, pictures=((30, 47), (47, 30), (5, 9), (64, 64))):
    for size in pictures:
        np.testing.assert_array_equal(a.pixels(scene(*size)), b.pixels(scene(*size)))
    np.testing.assert_array_equal(a.scale, b.scale)
    np.testing.assert_array_equal(a.shift, b.shift)


def test_what_a_configuration_may_leave_out():
    clip = ImageProcessor(224, "shortest", crop=224, mean=MEAN, std=STD)
    same(ImageProcessor.from_config(named("CLIP")), clip, [(30, 47)])
    same(ImageProcessor.from_config(named("Bit")), clip, [(30, 47)])
    same(ImageProcessor.from_config(siglip()), ImageProcessor(224, mean=0.5, std=0.5), [(30, 47)])
    vit = ImageProcessor(224, resample="bilinear", mean=0.5, std=0.5)
    same(ImageProcessor.from_config(named("ViT", size=None, do_rescale=None, image_mean=None)), vit, [(30, 47)])
    raw = named("CLIP", do_resize=False, do_center_crop=False, do_rescale=False, do_normalize=False)
    same(ImageProcessor.from_config(raw), ImageProcessor(None, rescale=None))
    assert ImageProcessor.from_config(raw).size is None
    by_width = ImageProcessor.from_config(named("ViT", size=6, default_to_square=False, image_mean=0.25))
    same(by_width, ImageProcessor(6, "shortest", resample="bilinear", mean=0.25, std=0.5))
    same(ImageProcessor.from_open_clip({}, 6), ImageProcessor.from_open_clip({"size": [6, 6], "mean": None, "x": 1}))
    assert ImageProcessor.from_open_clip({"size": 6}, (4, 5)).size == (4, 5)


def test_keys_that_change_nothing_and_nested_configurations():
    config = named("CLIP", size=shortest(8), crop_size=hw(8, 8))
    plain = ImageProcessor.from_config(config)
    noise = {
        "processor_class": "CLIPProcessor",
        "auto_map": {"AutoImageProcessor": "code.py"},
        "do_pad": False,
        "do_convert_rgb": False,
        "data_format": "channels_first",
        "device": None,
        "_valid_processor_keys": ["size"],
    }
    same(ImageProcessor.from_config({**config, **noise}), plain)
    nested = {"processor_class": "CLIPProcessor", "image_processor": config}
    same(ImageProcessor.from_config(nested), plain)
    assert ImageProcessor.from_config(nested).to_config() == config
    wider = ImageProcessor.from_config({**config, "image_processor_type": "CLIPImageProcessorPil"})
    same(wider, plain)


@pytest.mark.parametrize("parameters", [
    dict(resize=9, mode="shortest", crop=(7, 8), mean=MEAN, std=STD), dict(resize=(5, 6), resample="lanczos"),
    dict(resize=9, mode="shortest", max_edge=12, rescale=None), dict(resize=None, crop=4, mean=0.5, std=0.5),
    dict(resize=8, mode="shortest", crop=5, centre="torchvision"),
])  # fmt: skip
def test_to_config_says_the_same(parameters):
    processor = ImageProcessor(**parameters)
    same(ImageProcessor.from_config(processor.to_config()), processor)


def test_to_config():
    config = named("CLIP", size=shortest(8), crop_size={"height": 8, "width": 8}, processor_class="X")
    processor = ImageProcessor.from_config(config)
    kept = processor.to_config()
    config["size"]["shortest_edge"] = kept["crop_size"]["height"] = 3
    assert processor.to_config() == named("CLIP", size=shortest(8), crop_size=hw(8, 8), processor_class="X")
    for wrong in (ImageProcessor(8, "longest"), ImageProcessor((8, 9), "shortest")):
        with pytest.raises(ValueError, match="no counterpart"):
            wrong.to_config()
