"""What becomes of embeddings on their way out: shorter, of unit length, in fewer bits."""

from __future__ import annotations

import numpy as np

from plait import ops
from plait.tensor import no_grad

__all__ = ["PRECISIONS", "check_vector_options", "finish", "quantize_embeddings"]

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def quantize_embeddings(embeddings, precision: str, ranges=None) -> np.ndarray:
    """Embeddings in fewer bits.

    Parameters
    ----------
    embeddings : (N, D) or (D,) array
        Floating.
    precision : {"float32", "int8", "uint8", "binary", "ubinary"}
        int8: each vector is scaled so that its largest magnitude is 127, and rounded. Cosines stay (to about 0.5 %), no
        calibration is needed, and the result for a vector does not depend on others. uint8: the same plus 128. binary:
        one bit a value, set where it is above 0, eight to an int8 (as packed bits minus 128); ubinary: the packed bits
        themselves, uint8.
    ranges : (2, D) array, optional
        For int8 and uint8: the least and largest value of each column, as of a calibration set; values are then put
        on 256 levels between them and clipped. Levels are computed in float32, and are those of sentence-transformers'
        ``quantize_embeddings``.

    Returns
    -------
    ndarray
        (N, D), or (N, ceil(D / 8)) for the binary ones.

    Raises
    ------
    ValueError
        The precision is unknown, or a value is not finite.

    Examples
    --------
    >>> import numpy as np, plait
    >>> plait.models.quantize_embeddings(np.array([[0.5, -1.0, 0.25]], np.float32), "int8")
    array([[  64, -127,   32]], dtype=int8)
    >>> plait.models.quantize_embeddings(np.array([[0.5, -1.0, 0.25]], np.float32), "ubinary")
    array([[160]], dtype=uint8)
    """
    check_vector_options("quantize_embeddings", precision, None, None)
    x = np.asarray(embeddings)
    if x.dtype.kind != "f" or x.ndim not in (1, 2):
        raise TypeError(
            f"quantize_embeddings: embeddings has dtype {x.dtype} and shape {x.shape}, expected floating rows"
        )
    if not np.isfinite(x).all():
        raise ValueError("quantize_embeddings: embeddings holds a value that is not finite")
    if precision == "float32":
        return np.asarray(x, np.float32)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(x > 0, axis=-1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    if ranges is not None:
        low, high = _ranges(ranges, x.shape[-1])
        steps = (high - low) / 255
        steps = np.where(steps == 0, 1, steps)
        levels = np.clip(np.floor((x - low) / steps), 0, 255) - 128
    else:
        x = x.astype(np.result_type(x, np.float32), copy=False)
        largest = np.abs(x).max(axis=-1, keepdims=True, initial=0)
        levels = np.rint(x / np.where(largest > 0, largest, 1) * 127)
    return levels.astype(np.int8) if precision == "int8" else (levels + 128).astype(np.uint8)


def _ranges(ranges, width):
    array = np.asarray(ranges, np.float64)
    if array.shape != (2, width) or not np.isfinite(array).all() or not (array[0] <= array[1]).all():
        raise ValueError(
            f"quantize_embeddings: ranges has shape {array.shape}, expected (2, {width}): the least and the largest "
            "value of each column, all finite"
        )
    return array.astype(np.float32)


def check_vector_options(function, precision, truncate_dim, width):
    """Refuses what ``finish`` could not do, before the work."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ValueError(f"{function}: precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if truncate_dim is not None and (
        isinstance(truncate_dim, bool)
        or not isinstance(truncate_dim, (int, np.integer))
        or not 1 <= truncate_dim <= width
    ):
        raise ValueError(f"{function}: truncate_dim is {truncate_dim!r}, expected 1 to {width}")


def finish(rows, normalize, truncate_dim, precision) -> np.ndarray:
    """The leading columns, brought to unit length after that where asked, in the precision."""
    if truncate_dim is not None:
        rows = np.ascontiguousarray(rows[:, :truncate_dim])
    if normalize:
        with no_grad():
            rows = ops.l2_normalize(rows).numpy()
    return quantize_embeddings(rows, precision) if precision != "float32" else rows
