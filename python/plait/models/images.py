"""``encode`` of pictures: from whatever holds them to vectors."""

from __future__ import annotations

import os

import numpy as np

from plait import ops
from plait._progress import bar as progress_bar
from plait.models.encoding import Reader, check_run_options, evaluating, run
from plait.models.intake import check_pixels, fits
from plait.models.vectors import check_vector_options, finish
from plait.tensor import Tensor

__all__ = ["encode_images", "images_to_rows", "iterate_images"]

_WINDOW = 2  # batches of pictures that are in memory together


def encode_images(
    model, function, images, forward, width, *, batch_size, normalize, precision, truncate_dim, show_progress, **options
):
    """What every ``encode`` of pictures does, see ``DualEncoder.encode_image``."""
    check_vector_options(function, precision, truncate_dim, width)
    check_run_options(function, batch_size, options["on_error"], options["workers"])
    if isinstance(images, Tensor) or model.training:
        if precision != "float32" or truncate_dim is not None:
            raise ValueError(f"{function}: precision and truncate_dim are for evaluation, see model.eval()")
        rows = forward(images_to_rows(model, function, images))
        return ops.l2_normalize(rows) if normalize else rows
    items, total, single = _items(function, images, _tower(model).config, model.processor)
    bar = progress_bar(show_progress and not single, total, "image")
    try:
        parts = list(_vectors(model, function, items, forward, width, batch_size, bar=bar, **options))
    finally:
        bar.close()
    rows = np.concatenate(parts) if parts else np.empty((0, width), np.float32)
    rows = finish(rows, normalize, truncate_dim, precision)
    return rows[0] if single else rows


def iterate_images(
    model, function, images, forward, width, *, batch_size, normalize, precision, truncate_dim, **options
):
    """The same, a few batches at a time. What is wrong with the options is said at once, and not when it begins."""
    check_vector_options(function, precision, truncate_dim, width)
    check_run_options(function, batch_size, options["on_error"], options["workers"])
    items, _, _ = _items(function, images, _tower(model).config, model.processor)
    parts = _vectors(model, function, items, forward, width, batch_size, **options)
    return (finish(rows, normalize, truncate_dim, precision) for rows in parts)


def images_to_rows(model, function, images):
    """Pictures as the (B, H, W, C) values that the tower takes, all at once."""
    tower = _tower(model)
    plain = isinstance(images, np.ndarray) and model.processor is None and images.ndim in (3, 4)
    if isinstance(images, Tensor) or plain:
        return check_pixels(tower, images, function)
    items, _, single = _items(function, images, tower.config, model.processor)
    if single:
        raise ValueError(f"{function}: images is one picture, expected a list of them where they are one batch")
    read = _reader_of(model, function)
    ready = [read(item, i) for i, item in enumerate(items)]
    for i, x in enumerate(ready):
        if x.shape != ready[0].shape:
            raise ValueError(f"{function}: images[{i}] has shape {x.shape}, expected {ready[0].shape}, as images[0]")
    c = tower.config
    return np.stack(ready) if ready else np.empty((0, c.size, c.size, c.channels), np.float32)


def _vectors(model, function, items, forward, width, batch_size, *, on_error, workers, bar=None):
    def compute(ready):
        rows = np.empty((len(ready), width), np.float32)
        first = 0
        for i in range(1, len(ready) + 1):  # pictures of one size at a time
            if i == len(ready) or ready[i].shape != ready[first].shape:
                with evaluating(model):
                    rows[first:i] = forward(np.stack(ready[first:i])).data
                first = i
        return rows

    yield from run(
        function,
        items,
        Reader(_reader_of(model, function), workers),
        compute,
        width,
        window=_WINDOW,
        batch_size=batch_size,
        key=lambda x: x.shape,
        on_error=on_error,
        bar=bar,
    )


def _tower(model):
    return model.image


def _items(function, images, c, processor):
    """(iterable of pictures, how many or None, whether it is one picture alone)."""
    if isinstance(images, (str, bytes, os.PathLike)) or _is_pil(images):
        return [images], 1, True
    if isinstance(images, np.ndarray):
        # Without a processor (H, W) pictures of one channel come as (n, H, W), too.
        grey = images.ndim == 3 and processor is None and c.channels == 1 and fits(c, images.shape[1:], 1)
        if images.ndim == 4 or grey:
            return list(images), len(images), False
        if images.ndim == 1 and images.dtype.kind in "OUT":  # paths, say
            return images.tolist(), len(images), False
        if images.ndim not in (2, 3):
            raise ValueError(f"{function}: images has shape {images.shape}, expected (n, H, W, C) or one picture")
        return [images], 1, True
    if isinstance(images, (list, tuple)):
        return images, len(images), False
    if hasattr(images, "read"):  # its lines would be taken for pictures
        raise TypeError(
            f"{function}: images is an open file ({type(images).__name__}), expected its path, or its bytes, read()"
        )
    if hasattr(images, "__iter__") and not isinstance(images, (dict, bytearray)):
        return images, None, False
    raise TypeError(
        f"{function}: images is {type(images).__name__}, expected pictures, paths, arrays or a list of them"
    )


def _is_pil(x):
    return any(c.__module__ == "PIL.Image" and c.__name__ == "Image" for c in type(x).__mro__)


def _reader_of(model, function):
    """read(item, index): one picture to (H, W, C) float32 as the tower takes it."""
    tower, processor = _tower(model), model.processor
    c = tower.config

    def read(item, index):
        what = f"{function}: images[{index}]"
        array = None
        if not isinstance(item, (str, bytes, os.PathLike)) and not _is_pil(item):
            array = _array(item, what)
            floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
            if floating and array.ndim == 3 and fits(c, array.shape[1:], array.shape[0]):
                return _cropped(np.ascontiguousarray(_finite(array, what).transpose(1, 2, 0), np.float32), c)
            if processor is None:
                return _cropped(_scaled(array, c, tower, what), c)
        if processor is None:
            raise ValueError(
                f"{what} is a picture, but the model has no image processor (its folder has no "
                "preprocessor_config.json); set model.processor, or pass processed pixel values "
                f"({c.channels}, {c.size}, {c.size})"
            )
        try:
            pixels = processor.pixels(item if array is None else array)
        except (OSError, TypeError, ValueError) as error:
            kind = ValueError if isinstance(error, UnicodeError) else type(error)  # those take five arguments
            raise kind(f"{what}: {error}") from None
        if not fits(c, pixels.shape[:2], pixels.shape[2]):
            raise ValueError(
                f"{what} is {pixels.shape} after processing, expected ({c.size}, {c.size}, {c.channels}); the image "
                "processor of the folder does not fit the model"
            )
        values = np.multiply(pixels, processor.scale, dtype=np.float32)
        values += processor.shift
        return _cropped(values, c)

    return read


def _array(item, what):
    if isinstance(item, Tensor) and item.requires_grad:
        raise TypeError(f"{what} is a Tensor with a gradient, expected all pictures in one Tensor (see ops.stack)")
    try:
        array = np.asarray(item)
    except Exception as error:
        raise TypeError(f"{what} is {type(item).__name__}, expected a picture, a path or an array ({error})") from None
    if array.dtype.kind not in "fuib" and array.dtype.name != "bfloat16":
        got = f"has dtype {array.dtype}" if isinstance(item, np.ndarray) else f"is {type(item).__name__}"
        raise TypeError(f"{what} {got}, expected a picture, a path or an array of numbers")
    if array.ndim not in (2, 3) and not isinstance(item, (np.ndarray, Tensor, list, tuple)):
        raise TypeError(f"{what} is {type(item).__name__}, expected a picture, a path, the bytes of a file or an array")
    if array.ndim not in (2, 3):
        raise ValueError(f"{what} has shape {array.shape}, expected (H, W, C) or (H, W)")
    return array


def _scaled(array, c, tower, what):
    """A picture of the model's own size, without a processor."""
    if array.dtype != np.uint8 and array.dtype.kind not in "fV":
        raise TypeError(f"{what} has dtype {array.dtype}, expected uint8 or floating")
    if array.ndim == 2:
        array = array[:, :, None]
    if not fits(c, array.shape[:2], array.shape[2]):
        raise ValueError(
            f"{what} has shape {array.shape}, expected ({c.size}, {c.size}, {c.channels}), or processed pixel values "
            f"({c.channels}, {c.size}, {c.size}); a model with an image processor takes pictures of any size"
        )
    if array.dtype != np.uint8:
        _finite(array, what)
    values = np.multiply(
        array, tower.scale / np.float32(255) if array.dtype == np.uint8 else tower.scale, dtype=np.float32
    )
    values += tower.shift
    return values


def _finite(array, what):
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds a value that is not finite")
    return array


def _cropped(values, c):
    """What the patches cover."""
    height, width = (n - n % c.patch for n in values.shape[:2])
    return values if values.shape[:2] == (height, width) else np.ascontiguousarray(values[:height, :width])
