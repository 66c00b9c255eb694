"""Pictures from files and arrays: what is opened, as which pixels, and what is refused."""

import errno
import io
import os
import re
import struct
import sys
import zlib

import numpy as np
import pytest
from picture_cases import scene

Image = pytest.importorskip("PIL.Image", reason="pictures are opened with Pillow")

from plait.processing import ImageProcessor, open_picture  # noqa: E402

SCENE = scene(11, 14)
GREY = SCENE[:, :, 0]
WIDE = (GREY.astype(np.uint16) << 8) + 77  # 16 bits, and more than white if clipped
PLANES = np.dstack([SCENE, GREY])  # the last one as alpha


def repeated(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pil(array, mode=None):
    picture = Image.fromarray(array)
    return picture if mode is None else picture.convert(mode)


def palette(**info):
    picture = Image.fromarray(GREY % 4)
    picture = picture.convert("P") if picture.mode != "P" else picture
    picture.putpalette([200, 10, 30, 0, 255, 0, 9, 9, 9, 250, 251, 252])
    picture.info.update(info)
    return picture


def on_white(colours, alpha):
    """Pixels of which alpha / 255 is what is drawn, and the rest white paper."""
    share = np.asarray(alpha, np.float64)[..., None] / 255
    return np.rint(colours * share + 255 * (1 - share))


COLOURS = np.array([[200, 10, 30], [0, 255, 0], [9, 9, 9], [250, 251, 252]], np.uint8)[GREY % 4]

ALPHAS = np.array([0, 128, 255, 255], np.uint8)[GREY % 4]


def merged(mode, *planes):
    return Image.merge(mode, [Image.fromarray(np.ascontiguousarray(p)) for p in planes])


def ink(black):
    """CMYK with no black, or nothing but black: the two where the conversion is beyond dispute."""
    zero = np.zeros_like(GREY)
    return merged("CMYK", zero, zero, zero, GREY) if black else merged("CMYK", *(255 - SCENE.transpose(2, 0, 1)), zero)


# ---------------------------------------------------------------- what is opened

SOURCES = [
    ("rgb", lambda: pil(SCENE), SCENE),
    ("rgb-with-a-transparent-colour", lambda: encoded(pil(SCENE), transparency=tuple(SCENE[3, 4].tolist())),
     on_white(SCENE, 255 * (SCENE[3, 4] != SCENE).any(-1))),
    ("rgba", lambda: pil(PLANES), on_white(SCENE, GREY)),
    ("rgba-file", lambda: encoded(pil(PLANES)), on_white(SCENE, GREY)),
    ("rgba-premultiplied", lambda: pil(np.dstack([SCENE, np.full_like(GREY, 255)])).convert("RGBa"), SCENE),
    ("rgbx", lambda: merged("RGBX", *SCENE.transpose(2, 0, 1), GREY), SCENE),
    ("grey", lambda: pil(GREY), repeated(GREY)),
    ("grey-with-a-transparent-shade", lambda: encoded(pil(GREY), transparency=int(GREY[2, 2])),
     on_white(repeated(GREY), 255 * (GREY[2, 2] != GREY))),
    ("la", lambda: merged("LA", GREY, 255 - GREY), on_white(repeated(GREY), 255 - GREY)),
    ("la-premultiplied", lambda: merged("LA", GREY, np.full_like(GREY, 255)).convert("La"), repeated(GREY)),
    ("one-bit", lambda: pil(GREY > 100), repeated(np.where(GREY > 100, 255, 0))),
    ("palette", palette, COLOURS),
    ("palette-file", lambda: encoded(palette()), COLOURS),
    ("palette-one-transparent", lambda: encoded(palette(), transparency=2), on_white(COLOURS, 255 * (GREY % 4 != 2))),
    ("palette-transparencies", lambda: encoded(palette(), transparency=b"\x00\x80\xff"),
     on_white(COLOURS, ALPHAS)),
    ("palette-transparencies-in-memory", lambda: palette(transparency=b"\x00\x80\xff"),
     on_white(COLOURS, ALPHAS)),
    ("cmyk", lambda: ink(black=False), SCENE),
    ("cmyk-black", lambda: ink(black=True), repeated(255 - GREY)),
    ("cmyk-tiff", lambda: encoded(ink(black=False), "TIFF"), SCENE),
    ("grey-16-bit", lambda: pil(WIDE), repeated(GREY)),
    ("grey-16-bit-png", lambda: encoded(pil(WIDE)), repeated(GREY)),
    ("grey-16-bit-tiff", lambda: encoded(pil(WIDE), "TIFF"), repeated(GREY)),
    ("grey-16-bit-swapped", lambda: Image.frombytes("I;16B", (14, 11), WIDE.byteswap().tobytes()), repeated(GREY)),
    ("grey-32-bit", lambda: pil(GREY.astype(np.int32)), repeated(GREY)),
    ("floating", lambda: pil(np.float32(GREY / 255)), repeated(GREY)),
    ("floating-tiff", lambda: encoded(pil(np.float32(GREY / 255)), "TIFF"), repeated(GREY)),
    ("png", lambda: encoded(pil(SCENE)), SCENE),
    ("webp", lambda: encoded(pil(SCENE), "WEBP", lossless=True), SCENE),
    ("webp-alpha", lambda: encoded(pil(PLANES), "WEBP", lossless=True, exact=True), on_white(SCENE, GREY)),
    ("gif-first-frame", lambda: encoded(palette(), "GIF", save_all=True, append_images=[pil(GREY)]), COLOURS),
    ("bmp", lambda: encoded(pil(SCENE), "BMP"), SCENE),
    ("tiff", lambda: encoded(pil(SCENE), "TIFF"), SCENE),
    ("tiff-first-page", lambda: encoded(pil(SCENE), "TIFF", save_all=True, append_images=[pil(GREY)]), SCENE),
    ("tiff-compressed", lambda: encoded(pil(SCENE), "TIFF", compression="tiff_lzw"), SCENE),
    ("bytearray", lambda: bytearray(encoded(pil(SCENE))), SCENE),
    ("memoryview", lambda: memoryview(encoded(pil(SCENE))), SCENE),
    ("array", lambda: SCENE, SCENE),
    ("array-grey", lambda: GREY, repeated(GREY)),
    ("array-one-channel", lambda: GREY[:, :, None], repeated(GREY)),
    ("array-alpha", lambda: PLANES, on_white(SCENE, GREY)),
    ("array-channels-first", lambda: SCENE.transpose(2, 0, 1), SCENE),
    ("array-of-three-rows", lambda: SCENE[:3], SCENE[:3]),
    ("array-of-three-rows-and-columns", lambda: SCENE[:3, :3], SCENE[:3, :3]),
    ("array-of-one-pixel", lambda: SCENE[:1, :1], SCENE[:1, :1]),
    ("array-strided", lambda: np.repeat(np.repeat(SCENE, 2, 0), 3, 1)[::2, ::-3], SCENE[:, ::-1]),
    ("array-fortran", lambda: np.asfortranarray(SCENE), SCENE),
    ("array-16-bit", lambda: WIDE, repeated(GREY)),
    ("array-16-bit-swapped", lambda: WIDE.astype(">u2"), repeated(GREY)),
    ("array-bool", lambda: GREY > 100, repeated(np.where(GREY > 100, 255, 0))),
    ("array-int64", lambda: SCENE.astype(np.int64), SCENE),
    ("array-float32", lambda: np.float32(SCENE / 255), SCENE),
    ("array-float64-swapped", lambda: (SCENE / 255).astype(">f8"), SCENE),
    ("array-float16", lambda: (SCENE / 255).astype(np.float16), SCENE),
    ("array-rounds", lambda: np.float32([[0, 0.0019, 0.002, 1]]), repeated(np.array([[0, 0, 1, 255]]))),
]  # fmt: skip


@pytest.mark.parametrize("make, expected", [row[1:] for row in SOURCES], ids=[row[0] for row in SOURCES])
def test_every_kind_of_picture_is_rgb(make, expected):
    source = make()
    picture = open_picture(source)
    assert type(picture) is Image.Image and picture.mode == "RGB" and picture.info == {}
    np.testing.assert_array_equal(np.asarray(picture), expected)
    np.testing.assert_array_equal(ImageProcessor(None).pixels(source), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr", "RGB in WEBP"])
def test_lossy_pictures_are_what_pillow_decodes(mode):
    mode, _, kind = mode.partition(" in ")
    data = encoded(pil(SCENE).convert(mode), kind or "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(open_picture(data)), expected)
    assert abs(expected.astype(int) - SCENE).max() < 256


ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
    9: lambda a: a,  # there is no such orientation
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "in memory"])
@pytest.mark.parametrize("number", ORIENTATIONS)
def test_orientation_is_applied_once(kind, number):
    exif = Image.Exif()
    exif[0x0112] = number
    picture = pil(SCENE)
    if kind == "in memory":
        source = Image.open(io.BytesIO(encoded(picture, exif=exif)))
        source.load()
    else:
        source = encoded(picture, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    plain = SCENE if kind != "JPEG" else np.asarray(Image.open(io.BytesIO(source)))
    once = open_picture(source)
    np.testing.assert_array_equal(np.asarray(once), ORIENTATIONS[number](plain))
    np.testing.assert_array_equal(np.asarray(open_picture(once)), np.asarray(once))


def test_broken_metadata_says_nothing():
    data = encoded(pil(SCENE), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(np.asarray(open_picture(data)), SCENE)


def test_paths(tmp_path):
    file = tmp_path / "a picture.png"
    file.write_bytes(encoded(pil(SCENE)))
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "chain").symlink_to("link")
    for path in (file, str(file), tmp_path / "link", str(tmp_path / "chain"), np.str_(file)):
        np.testing.assert_array_equal(np.asarray(open_picture(path)), SCENE)


# ---------------------------------------------------------------- what is left alone


def test_sources_stay_what_they_are():
    array = np.float32(SCENE / 255)
    array.flags.writeable = False
    before = array.copy()
    processor = ImageProcessor(8, mean=0.5, std=0.5)
    processor.pixels(array), open_picture(array), processor([array])
    np.testing.assert_array_equal(array, before)

    picture = palette(transparency=2)
    before = picture.copy()
    processor.pixels(picture)
    assert (picture.mode, picture.info, picture.tobytes()) == ("P", {"transparency": 2}, before.tobytes())

    picture, array = pil(SCENE), SCENE.copy()
    for source in (picture, array):
        copy = open_picture(source)
        copy.putpixel((0, 0), (1, 2, 3))
        pixels = ImageProcessor(None).pixels(source)
        pixels[:] = 0
        np.testing.assert_array_equal(np.asarray(source), SCENE)


# ---------------------------------------------------------------- what is refused


def png(width, height, *chunks):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*c) for c in chunks) + chunk(b"IDAT", b"")


def gif(screen, frame):
    return (b"GIF89a" + struct.pack("<HHBBB", *screen, 0, 0, 0) + b"!\xf9\x04\x04\0\0\0\0,"
            + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00;")  # fmt: skip


def bmp(width, height):
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff(width, height):
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 1)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)  # fmt: skip


def webp(width, height):
    frames = [pil(SCENE), pil(SCENE[::-1])]  # an animation, whose canvas may be larger than its frames
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return data


LARGE = "pixels, more than max_pixels = 67108864"
REFUSED = [
    ("none", lambda: None, TypeError, "source is NoneType, expected a path"),
    ("list", lambda: [[1, 2], [3, 4]], TypeError, "source is list"),
    ("url", lambda: "https://example.org/cat.jpg", ValueError, "cat.jpg: a URL, and those are not opened"),
    ("file-url", lambda: "file:///etc/passwd", ValueError, "a URL"),
    ("data-url", lambda: "data:image/png;base64,iVBORw0KGgo=", ValueError, "a URL"),
    ("no-file", lambda: "nowhere/cat.jpg", FileNotFoundError, "nowhere/cat.jpg"),
    ("nul", lambda: "a\0b", ValueError, "not a path"),
    ("empty-path", lambda: "", ValueError, "regular file"),
    ("no-bytes", lambda: b"", ValueError, "bytes of 0: not a JPEG, PNG"),
    ("text", lambda: b"not a picture at all", ValueError, "bytes of 20: not a JPEG, PNG"),
    ("postscript", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", ValueError, "not a JPEG, PNG"),
    ("ppm", lambda: b"P6 1 1 255 abc", ValueError, "not a JPEG, PNG"),
    ("icon", lambda: encoded(pil(SCENE), "ICO"), ValueError, "not a JPEG, PNG"),
    ("no-data", lambda: png(4, 4), ValueError, "broken or unsupported PNG"),
    ("png-large", lambda: png(100_000, 100_000), ValueError, f"100000 x 100000 {LARGE}"),
    ("png-above-the-limit", lambda: png(8193, 8192), ValueError, f"8193 x 8192 {LARGE}"),
    ("bmp-large", lambda: bmp(30_000, 30_000), ValueError, f"30000 x 30000 {LARGE}"),
    ("bmp-huge", lambda: bmp(2**31 - 1, 2**31 - 1), ValueError, "pixels"),
    ("tiff-large", lambda: tiff(10_000, 10_000), ValueError, f"10000 x 10000 {LARGE}"),
    ("tiff-huge", lambda: tiff(2**32 - 1, 2**32 - 1), ValueError, LARGE),
    ("webp-large", lambda: webp(10_000, 10_000), ValueError, f"10000 x 10000 {LARGE}"),
    ("webp-huge", lambda: webp(16_383, 16_383), ValueError, "268402689 pixels|16383 x 16383 pixels"),  # Pillow's words
    ("gif-large", lambda: gif((65_535, 65_535), (1, 1)), ValueError, f"65535 x 65535 {LARGE}"),
    ("gif-frame-large", lambda: gif((1, 1), (10_000, 10_000)), ValueError, f"10000 x 10000 {LARGE}"),
    ("gif-frame-huge", lambda: gif((1, 1), (65_535, 65_535)), ValueError, f"65535 x 65535 {LARGE}"),
    ("pil-32-bit", lambda: pil(np.int32([[0, 256]])), ValueError, "values from 0 to 256, expected 0 to 255"),
    ("pil-floating", lambda: pil(np.float32([[0, 2]])), ValueError, "values from 0.0 to 2.0, expected 0 to 1"),
    ("pil-empty", lambda: Image.new("RGB", (0, 3)), ValueError, "0 x 3 pixels, expected at least one"),
    ("nan", lambda: np.full((2, 2), np.nan), ValueError, "values from nan to nan, expected 0 to 1"),
    ("infinite", lambda: np.full((2, 2), np.inf, np.float32), ValueError, "inf, expected 0 to 1"),
    ("above-one", lambda: np.float64(SCENE), ValueError, "expected 0 to 1"),
    ("negative", lambda: np.int8([[-1]]), ValueError, "values from -1 to -1, expected 0 to 255"),
    ("complex", lambda: np.ones((2, 2), complex), TypeError, "dtype complex128, expected a picture's values"),
    ("objects", lambda: np.array([[None]]), TypeError, "dtype object"),
    ("masked", lambda: np.ma.array([[1]], mask=[[True]]), TypeError, "masked"),
    ("no-dimension", lambda: np.uint8(3), ValueError, r"shape \(\)"),
    ("one-dimension", lambda: np.zeros(3, np.uint8), ValueError, r"shape \(3,\)"),
    ("two-channels", lambda: np.zeros((5, 5, 2), np.uint8), ValueError, r"shape \(5, 5, 2\), expected a picture"),
    ("batch", lambda: np.zeros((1, 4, 4, 3), np.uint8), ValueError, r"shape \(1, 4, 4, 3\)"),
    ("no-rows", lambda: np.zeros((0, 4, 3), np.uint8), ValueError, "at least one pixel"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_picture_is_an_error_that_says_so(make, error, text):
    source = make()
    with pytest.raises(error, match=text):
        open_picture(source)
    with pytest.raises(error, match=text):
        ImageProcessor(8).pixels(source)


def test_special_files_are_errors_and_nobody_waits(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "loop", tmp_path, "/dev/zero"):
        with pytest.raises(ValueError, match="expected a regular file"):
            open_picture(path)


BEHIND_LINKS = {
    # what the link leads to, made in a folder -> what is raised
    "nothing": (lambda path: None, FileNotFoundError, "no such file"),
    "a folder": (lambda path: path.mkdir(), ValueError, "expected a regular file"),
    "a pipe": (os.mkfifo, ValueError, "expected a regular file"),
    "text": (lambda path: path.write_text("no"), ValueError, "not a JPEG"),
    "half a picture": (lambda path: path.write_bytes(encoded(pil(SCENE))[:60]), ValueError, "broken"),
}


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("kind", BEHIND_LINKS)
def test_messages_name_the_path_that_was_given(tmp_path, monkeypatch, kind, relative):
    make, error, message = BEHIND_LINKS[kind]
    make(tmp_path / "target")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link.png").symlink_to("../target")
    (tmp_path / "album").symlink_to("folder")
    monkeypatch.chdir(tmp_path)
    path = "album/link.png" if relative else str(tmp_path / "album/link.png")
    with pytest.raises(error, match=message) as caught:
        open_picture(path)
    text = str(caught.value)
    assert path in (text.split(": ")[0], text.split(": ")[-1].strip("'"))
    assert "target" not in text and "folder/" not in text


def test_an_error_of_the_system_names_the_path_that_was_given(tmp_path, monkeypatch):
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "link.png").symlink_to("target")

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        open_picture(tmp_path / "link.png")
    assert caught.value.filename == str(tmp_path / "link.png")


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    with open(tmp_path / "sparse.png", "wb") as file:
        file.write(encoded(pil(SCENE)))
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"sparse\.png: 1099511627776 bytes"):
        open_picture(tmp_path / "sparse.png")


def test_the_cap_on_pixels():
    data = encoded(pil(SCENE))
    assert open_picture(data, max_pixels=154).size == (14, 11)
    with pytest.raises(ValueError, match="14 x 11 pixels, more than max_pixels = 153"):
        open_picture(data, max_pixels=153)
    with pytest.raises(ValueError, match="14 x 11 pixels"):  # it may still be in its file
        open_picture(Image.open(io.BytesIO(data)), max_pixels=153)
    assert open_picture(SCENE, max_pixels=1).size == (14, 11)
    for wrong in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match="max_pixels is"):
            open_picture(data, max_pixels=wrong)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_pillows_own_limit_neither_warns_nor_stops(monkeypatch, kind):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)  # below 154: Pillow would warn
    assert open_picture(encoded(pil(SCENE), kind)).size == (14, 11)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "TIFF compressed"])
def test_a_cut_or_damaged_file_is_an_error_or_a_picture(tmp_path, kind):
    name, _, compressed = kind.partition(" ")
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if name in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    data = encoded(pil(SCENE), name, **options, **({"compression": "tiff_lzw"} if compressed else {}))
    whole, file = np.asarray(open_picture(data)), tmp_path / "cut.picture"
    rng = np.random.default_rng(0)
    refused = 0
    for end in range(0, len(data), max(1, len(data) // 150)):
        file.write_bytes(data[:end])
        try:
            np.asarray(open_picture(file))
        except ValueError as error:
            assert str(error).startswith(f"{file}: "), error
            refused += 1
    assert refused >= 20
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] = rng.integers(256)
        try:
            picture = open_picture(damaged, max_pixels=1 << 20)
        except ValueError as error:
            assert re.match(r"bytearray of \d+: ", str(error)), error
        else:
            assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(open_picture(data)), whole)


def test_the_systems_errors_stay_what_they_are(monkeypatch):
    from plait.processing import _pictures

    def fails(error):
        def opener(file, name):
            raise error

        return opener

    data = encoded(pil(SCENE))
    for error in (OSError(5, "input/output error"), MemoryError()):
        monkeypatch.setitem(_pictures.pillow().openers, "PNG", fails(error))
        with pytest.raises(type(error)):
            open_picture(data)


def test_without_pillow_the_extra_is_named(monkeypatch):
    from plait.processing import _pictures

    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"needs Pillow: pip install 'plait\[encode\]'"):
        _pictures.pillow.__wrapped__()
