"""Pictures from wherever they are to 8-bit RGB: bounded, upright, and with one rule for each kind of pixel."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import struct
import threading
from types import SimpleNamespace

import numpy as np

from plait._array import plain_array
from plait.io.files import open_regular, read_file

__all__ = ["describe", "open_picture", "pillow", "rgb"]

_MAX_PIXELS = 1 << 26
# Bytes that a file may have however few pixels are allowed: metadata and thumbnails may be larger than the picture.
_MIN_FILE = 64 << 20
_MAX_BYTES_PER_PIXEL = 16
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")
# The first bytes of a file decide what decodes it; Pillow knows dozens of other formats, and programs to run for some.
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_ORIENTATION = 0x0112
_IMAGE_WIDTH, _IMAGE_LENGTH, _BITS_PER_SAMPLE = 256, 257, 258
# Pillow reads a picture's file at the first use, and two threads may be given the same PIL image.
_LOCKS = tuple(threading.Lock() for _ in range(64))


@functools.cache
def pillow():
    """The modules of Pillow in use, as attributes; imported on first use."""
    try:
        from PIL import (
            BmpImagePlugin,
            GifImagePlugin,
            Image,
            ImageFile,
            ImageOps,
            JpegImagePlugin,
            PngImagePlugin,
            TiffImagePlugin,
            WebPImagePlugin,
        )
    except ImportError:
        raise ImportError("opening pictures needs Pillow: pip install 'plait[encode]'") from None

    # The classes themselves, not Image.open: that warns of large pictures before it says how large they are.
    openers = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    return SimpleNamespace(image=Image, file=ImageFile, ops=ImageOps, openers=openers)


def open_picture(source, max_pixels=_MAX_PIXELS):
    """A picture as an upright 8-bit RGB image of Pillow, whatever it was.

    Pixels are what ``transformers.image_utils.load_image`` makes of them wherever that keeps the picture: the EXIF
    orientation is applied, palettes are looked up, CMYK and YCbCr converted, grey repeated. What is transparent shows
    white paper, as transformers' processors have it (its ``load_image`` drops alpha where it opens a path itself, so
    that hidden colours appear). Colour profiles are not applied. What differs, since plain conversion would clip it:
    16-bit grey keeps its high byte (as Pillow does with 16-bit colour),
    and floating point is 0 to 1.

    Parameters
    ----------
    source : path, bytes, PIL.Image.Image or array
        A JPEG, PNG, WebP, GIF (its first frame), BMP or TIFF (its first page) as the path or the content of a file; an
        image of Pillow; or an array (H, W), (H, W, 1), (H, W, 3), (H, W, 4) or (3, H, W). A last axis of 1, 3 or 4 is
        channels, even if the first has 3. Array elements are uint8; uint16, whose high byte counts; bool; floating
        from 0 to 1, rounded to the nearest of 256 steps; or other whole numbers from 0 to 255. Nothing of it is
        changed. Links are followed; URLs are not opened.
    max_pixels : int
        Refuse files with more, before they are decoded. Arrays and images in memory are taken as they are.

    Returns
    -------
    PIL.Image.Image
        Mode ``"RGB"``, without metadata, sharing no memory with `source`.

    Raises
    ------
    ImportError
        Pillow is not installed.
    FileNotFoundError
        There is no such file.
    TypeError
        `source` is none of these, or an array of something else than numbers.
    ValueError
        The file is something else than a picture in one of these formats, cut off or broken; not a regular file;
        larger than `max_pixels`; an array of another shape, without pixels, or with values out of range or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from plait.processing import open_picture
    >>> picture = open_picture(np.full((4, 6), 0.5, np.float32))
    >>> picture.size, picture.mode, picture.getpixel((0, 0))
    ((6, 4), 'RGB', (128, 128, 128))
    """
    picture = rgb(source, max_pixels)
    if picture is source or type(picture) is not pillow().image.Image:
        picture = picture.copy()
    picture.info = {}
    return picture


def rgb(source, max_pixels=_MAX_PIXELS):
    """What `open_picture` gives, but possibly `source` itself."""
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise ValueError(f"open_picture: max_pixels is {max_pixels!r}, expected a whole number from 1")
    modules, name = pillow(), describe(source)
    if isinstance(source, modules.image.Image):
        if isinstance(source, modules.file.ImageFile):  # its pixels may still be in the file
            _check_size(source.size, max_pixels, name)
        return _upright_rgb(source, name, source.format or "PIL")
    if isinstance(source, (str, os.PathLike)):
        source = _content(source, max_pixels, name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), max_pixels, name)
    if not hasattr(source, "__array__"):
        raise TypeError(
            f"open_picture: source is {type(source).__name__}, expected a path, the bytes of a file, an image of "
            "Pillow or an array"
        )
    return _from_array(plain_array("open_picture", "source", source, "a picture's values"), name)


def describe(source) -> str:
    """What messages call a picture."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fsdecode(source)
        return text if len(text) <= 200 else text[:197] + "..."
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{type(source).__name__} of {len(source)}"
    return type(source).__name__


# ---------------------------------------------------------------- files


def _content(path, max_pixels, name):
    path = os.fsdecode(path)
    if _URL.match(path):
        raise ValueError(f"{name}: a URL, and those are not opened; expected a path")
    if "\0" in path:
        raise ValueError(f"{name!r}: not a path")
    fd = open_regular(os.path.realpath(path), name=path)
    size = os.fstat(fd).st_size
    if size > max(_MIN_FILE, _MAX_BYTES_PER_PIXEL * max_pixels):
        os.close(fd)
        raise ValueError(f"{name}: {size} bytes, more than a picture of max_pixels = {max_pixels} needs")
    return read_file(name, size, opened=fd)


def _decode(file, max_pixels, name):
    kind = _kind(file.read(16))
    if kind is None:
        raise ValueError(f"{name}: not a JPEG, PNG, WebP, GIF, BMP or TIFF picture")
    file.seek(0)
    if kind == "GIF":  # whose frame may be larger than its header says; Pillow warns of that while it opens the file
        with _readable(name, kind):
            size = _gif_size(file)
        _check_size(size, max_pixels, name)
        file.seek(0)
    with _readable(name, kind):
        picture = pillow().openers[kind](file, "")
    _check_size(picture.size, max_pixels, name)
    if kind == "TIFF" and picture.width * picture.height > (pillow().image.MAX_IMAGE_PIXELS or max_pixels):
        # Room for the pixels, or Pillow would make it and apply its own limit again.
        size = picture.tag_v2[_IMAGE_WIDTH], picture.tag_v2[_IMAGE_LENGTH]
        picture.im = pillow().image.new(picture.mode, size).im
    return _upright_rgb(picture, name, kind)


def _kind(head):
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def _gif_size(file):
    """The area that the screen and the first frame cover."""
    width, height, flags = struct.unpack("<6xHHB2x", file.read(13))
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, os.SEEK_CUR)
    while (mark := file.read(1)) not in (b"", b";"):
        if mark == b"!":  # an extension: a label, and blocks up to an empty one
            file.read(1)
            while (length := file.read(1)) not in (b"", b"\0"):
                file.seek(length[0], os.SEEK_CUR)
        elif mark == b",":
            x, y, w, h = struct.unpack("<4H", file.read(8))
            return max(width, x + w), max(height, y + h)
    return width, height


def _check_size(size, max_pixels, name):
    width, height = size
    if width * height > max_pixels:
        raise ValueError(f"{name}: {width} x {height} pixels, more than max_pixels = {max_pixels}")


@contextlib.contextmanager
def _readable(name, kind):
    """Whatever Pillow raises at broken data is a ValueError; the system's own errors stay what they are."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ValueError(f"{name}: a broken or unsupported {kind} picture ({error})") from error


# ---------------------------------------------------------------- pixels


def _upright_rgb(picture, name, kind):
    with _readable(name, kind), _LOCKS[(id(picture) >> 4) % len(_LOCKS)]:
        picture.load()
        try:
            orientation = picture.getexif().get(_ORIENTATION, 1)
        except Exception:  # metadata that cannot be read says nothing
            orientation = 1
    if 0 in picture.size:
        raise ValueError(f"{name}: {picture.width} x {picture.height} pixels, expected at least one")
    with _readable(name, kind):
        if orientation in range(2, 9):
            picture = pillow().ops.exif_transpose(picture)
        if picture.mode not in ("I", "F") and not picture.mode.startswith("I;"):
            return _convert(picture)
        array = np.asarray(picture)
        if picture.mode.startswith("I;") or (picture.mode == "I" and kind == "PNG"):
            array = (array >> _bits(picture) - 8).astype(np.uint8)
    return _from_array(array, name)


def _convert(picture):
    if picture.info.get("transparency") is not None or "A" in picture.getbands() or "a" in picture.getbands():
        if picture.mode == "La":
            picture = picture.convert("LA")
        picture = picture.convert("RGBA")
        paper = pillow().image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = pillow().image.alpha_composite(paper, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _bits(picture):
    """Of the values of 16-bit pixels: 12 in some TIFF files."""
    bits = getattr(picture, "tag_v2", {}).get(_BITS_PER_SAMPLE, 16)
    return 12 if bits in (12, (12,)) else 16


def _from_array(array, name):
    shape = array.shape
    if array.ndim == 3 and shape[0] == 3 and shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(f"{name} has shape {shape}, expected a picture (H, W), (H, W, 1 or 3 or 4) or (3, H, W)")
    if array.size == 0:
        raise ValueError(f"{name} has shape {shape}, expected at least one pixel")
    if array.ndim == 3:
        array = array[:, :, 0] if array.shape[2] == 1 else array
    return _convert(pillow().image.fromarray(np.ascontiguousarray(_eight_bits(array, name))))


def _eight_bits(array, name):
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return (array >> 8).astype(np.uint8)
    floating = array.dtype.kind not in "iu"
    low, high, top = array.min(), array.max(), 1 if floating else 255
    if not (low >= 0 and high <= top):  # also where they are NaN
        raise ValueError(f"{name} has dtype {array.dtype} and values from {low} to {high}, expected 0 to {top}")
    if floating:
        array = np.rint(array.astype(np.float32) * np.float32(255))
    return array.astype(np.uint8)
