"""What the towers take: pictures that are pixel arrays already, and token ids."""

from __future__ import annotations

import numpy as np

from plait import ops
from plait.stream import Stream
from plait.tensor import Tensor

__all__ = ["check_ids", "check_pixels", "fits"]


def check_pixels(tower, images, function="encode_image"):
    """Pictures as (B, H, W, C) values that the first layer takes.

    Parameters
    ----------
    tower : ImageTower
    images : array, Tensor or list of arrays
        (B, H, W, C), or (B, H, W) for one channel: uint8 from 0 to 255 or floating from 0 to 1; the mean and deviation
        of the configuration are applied. Floating (B, C, H, W) with the model's own C, H and W: processed already.
    function : str
        For messages.
    """
    c = tower.config
    if not isinstance(images, Tensor):
        images = np.asarray(images if not isinstance(images, (list, tuple)) else _each(images, function))
    if images.dtype != np.uint8 and (images.dtype.kind not in "fV" or images.dtype.names):
        raise TypeError(f"{function}: images has dtype {images.dtype}, expected uint8 or floating")
    if images.ndim == 3 and c.channels == 1:
        images = _reshape(images, (*images.shape, 1))
    processed = images.ndim == 4 and images.dtype != np.uint8 and fits(c, images.shape[2:], images.shape[1])
    if not processed and (images.ndim != 4 or not fits(c, images.shape[1:3], images.shape[3])):
        size = "H, W" if c.any_size else f"{c.size}, {c.size}"
        due = [f"(B, {size}, {c.channels})", *([f"(B, {size})"] if c.channels == 1 else [])]
        due += [f"(B, {c.channels}, {size}) of processed pixel values"]
        raise ValueError(f"{function}: images has shape {images.shape}, expected {' or '.join(due)}")
    _check_finite(images, function)
    # A picture of one channel is the same in both layouts; then it counts as not processed.
    if processed and fits(c, images.shape[1:3], images.shape[3]):
        processed = False
    if processed:
        images = images if isinstance(images, Tensor) else np.asarray(images, np.float32)
        images = _nhwc(images)
    elif isinstance(images, Tensor):
        images = images * tower.scale + tower.shift
    else:
        scale = tower.scale / np.float32(255) if images.dtype == np.uint8 else tower.scale
        images = np.multiply(images, scale, dtype=np.float32)
        images += tower.shift
    height, width = (n - n % c.patch for n in images.shape[1:3])
    return images if images.shape[1:3] == (height, width) else images[:, :height, :width]


def fits(c, size, channels):
    """Whether a picture of this size and number of channels is one of the model's."""
    if channels != c.channels:
        return False
    if not c.any_size:
        return tuple(size) == (c.size, c.size)
    return all(n >= c.patch for n in size)


def _check_finite(images, function):
    values = images.data if isinstance(images, Tensor) else images
    if values.dtype != np.uint8 and not (finite := np.isfinite(values).all(axis=(1, 2, 3))).all():
        raise ValueError(f"{function}: images[{int(finite.argmin())}] holds a value that is not finite")


def _reshape(images, shape):
    return images.reshape(shape) if isinstance(images, np.ndarray) else ops.reshape(images, shape)


def _nhwc(images):
    if isinstance(images, Tensor):
        return ops.transpose(images, (0, 2, 3, 1))
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _each(images, function):
    """Pictures of a list as arrays of one shape; says which of them is none."""
    pictures = []
    for i, picture in enumerate(images):
        try:
            array = np.asarray(picture)
        except Exception:  # a ragged list, or an array that refuses
            array = None
        if array is None or array.ndim < 2:
            raise TypeError(f"{function}: images[{i}] is {type(picture).__name__}, expected a picture (H, W, C)")
        if pictures and array.shape != pictures[0].shape:
            raise ValueError(
                f"{function}: images[{i}] has shape {array.shape}, expected {pictures[0].shape}, as images[0]"
            )
        pictures.append(array)
    return pictures


def check_ids(config, texts, function="encode_text", start=0) -> Stream:
    """Token ids as one stream, each of them inside the vocabulary.

    Parameters
    ----------
    config : TextConfig
    texts : Stream, (B, T) array, or list of (T,) arrays
        Whole numbers.
    function : str
    start : int
        For messages: the number of the first text.
    """
    if not isinstance(texts, Stream):
        arrays = [_ids(text, f"{function}: texts[{start + i}]") for i, text in enumerate(texts)]
        flat = np.concatenate(arrays) if arrays else np.empty(0, np.int64)
        texts = Stream(flat, np.cumsum([0, *map(len, arrays)]))
    rows = texts.rows
    if isinstance(rows, Tensor) or rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(f"{function}: the rows of the stream are expected to be whole numbers, (N,)")
    longest = int(texts.lengths.max(initial=0))
    if longest > config.length:
        i = start + int(texts.lengths.argmax())
        raise ValueError(f"{function}: texts[{i}] has {longest} tokens, expected at most {config.length}")
    if rows.size and not 0 <= rows.min() <= rows.max() < config.vocabulary:
        at = int(np.argmax((rows < 0) | (rows >= config.vocabulary)))
        i = start + int(np.searchsorted(texts.offsets, at, side="right")) - 1
        raise IndexError(f"{function}: texts[{i}] holds {rows[at]}, expected ids from 0 to {config.vocabulary - 1}")
    return texts


def _ids(text, what):
    try:
        ids = np.asarray(text)
    except Exception:  # a ragged list, or an array that refuses
        ids = None
    one = ids is not None and not ids.ndim and not isinstance(text, np.ndarray)  # None, bytes, a number
    if ids is None or one or (ids.ndim == 1 and ids.size and ids.dtype.kind not in "iu"):
        got = f"is {type(text).__name__}" if ids is None or one else f"has dtype {ids.dtype}"
        raise TypeError(f"{what} {got}, expected a string or whole numbers (tokens,)")
    if ids.ndim != 1:
        raise ValueError(f"{what} has shape {ids.shape}, expected a string or whole numbers (tokens,)")
    return ids.astype(np.int64, copy=False)
