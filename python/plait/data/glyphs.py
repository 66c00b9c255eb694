"""Glyphs and their Unicode names: a small image-text data set that needs no download.

Every character that has a name in :mod:`unicodedata` and is drawn by the DejaVu Sans font (which matplotlib ships)
becomes one pair: a small grey picture and its lower-case name.  Names are compositional ("greek small letter omega with
tonos"), so a model can be asked for characters that it never saw, as long as it saw every word of their names.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Glyphs", "augment", "draw", "load", "split"]

_REFERENCE_SIZE = 32  # pictures of this size decide which characters count as blank or duplicate


@dataclass(frozen=True)
class Glyphs:
    """Characters, their names and their pictures, in ascending order of code point.

    Attributes
    ----------
    codepoints : numpy.ndarray
        ``(n,)`` int64, the Unicode code points.
    names : list of str
        ``n`` names in lower case, as in ``unicodedata.name``.
    images : numpy.ndarray
        ``(n, size, size)`` uint8, white (255) ink on black (0).
    """

    codepoints: np.ndarray
    names: list[str]
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


def _font_path() -> Path:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the glyph data set needs matplotlib: pip install 'plait[demo]'") from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def _charmap(path: Path) -> list[int]:
    """The code points that the font draws, ascending."""
    from matplotlib.ft2font import FT2Font  # matplotlib itself was found by _font_path

    return sorted(int(code) for code in FT2Font(str(path)).get_charmap())


def _draw(path: Path, codepoints: Sequence[int], size: int) -> np.ndarray:
    """Draw characters into ``(n, size, size)`` uint8.

    All share one font size and one baseline, so that case, accents, subscripts and combining marks keep their size and
    height; each is centred by its ink from left to right.  The few that are too large for the square are drawn in a
    smaller font, and moved up or down until they fit.
    """
    try:
        from PIL import ImageFont
    except ImportError as error:
        raise ImportError("the glyph data set needs Pillow: pip install 'plait[demo]'") from error

    fonts: dict[int, ImageFont.FreeTypeFont] = {}

    def ink(code: int, pixels: int) -> tuple[np.ndarray, int]:
        """The drawn rectangle and the height of its upper edge over the baseline (negative is above)."""
        if pixels not in fonts:
            fonts[pixels] = ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)
        mask, (_, top) = fonts[pixels].getmask2(chr(code), mode="L", anchor="ls")
        width, height = mask.size
        return np.array(mask, np.uint8).reshape(height, width), top

    regular = max(4, round(size * 0.78))
    baseline = round(size * 0.74)
    images = np.zeros((len(codepoints), size, size), np.uint8)
    for image, code in zip(images, codepoints, strict=True):
        drawn, top = ink(code, regular)
        if max(drawn.shape) > size:
            drawn, top = ink(code, max(1, int(regular * size / max(drawn.shape))))
            drawn = drawn[:size, :size]
        height, width = drawn.shape
        row = min(max(baseline + top, 0), size - height)
        column = (size - width) // 2
        image[row : row + height, column : column + width] = drawn
    return images


def draw(codepoints: Sequence[int], size: int = 32) -> np.ndarray:
    """Draw characters as :func:`load` does, in any size.

    Parameters
    ----------
    codepoints : sequence of int
    size : int, default 32
        Height and width of the pictures in pixels, at least 8.

    Returns
    -------
    numpy.ndarray
        ``(n, size, size)`` uint8, white ink on black.

    Examples
    --------
    >>> from plait.data import glyphs
    >>> glyphs.draw([ord("A")], size=64).shape
    (1, 64, 64)
    """
    if size < 8:
        raise ValueError(f"draw: size is {size}, expected at least 8 pixels")
    return _draw(_font_path(), codepoints, size)


def load(size: int = 32) -> Glyphs:
    """Draw the data set.

    Parameters
    ----------
    size : int, default 32
        Height and width of the pictures in pixels, at least 8.  The characters chosen do not depend on it.

    Returns
    -------
    Glyphs
        About 5,300 pairs.  Characters that the font draws blank are left out, and of several with the same drawing
        only the first code point stays.

    Raises
    ------
    ImportError
        If Pillow or matplotlib is missing.
    ValueError
        If ``size`` is below 8.

    Examples
    --------
    >>> from plait.data import glyphs
    >>> data = glyphs.load()
    >>> data.images.shape[1:], data.images.dtype.name
    ((32, 32), 'uint8')
    >>> data.names[data.codepoints.tolist().index(ord("A"))]
    'latin capital letter a'
    """
    size = int(size)
    if size < 8:
        raise ValueError(f"load: size is {size}, expected at least 8 pixels")
    path = _font_path()
    codes = [code for code in _charmap(path) if unicodedata.name(chr(code), "")]
    images = _draw(path, codes, _REFERENCE_SIZE)
    seen = {bytes(_REFERENCE_SIZE * _REFERENCE_SIZE)}  # the blank picture
    keep = []
    for i, image in enumerate(images):
        drawing = image.tobytes()
        if drawing not in seen:
            seen.add(drawing)
            keep.append(i)
    kept = [codes[i] for i in keep]
    pictures = images[keep] if size == _REFERENCE_SIZE else _draw(path, kept, size)
    return Glyphs(np.array(kept, np.int64), [unicodedata.name(chr(code)).lower() for code in kept], pictures)


def split(names: Sequence[str], held_out: int = 530, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Choose held-out names at random such that each of their words also occurs in a training name.

    Names are visited in a random order; one is held out when all its words (separated by white space) occur in at least
    one other name that is still in training.

    Parameters
    ----------
    names : sequence of str
        The names of all pairs.
    held_out : int, default 530
        How many to hold out, exactly.
    seed : int, default 0
        Seed of the order.

    Returns
    -------
    train, test : numpy.ndarray
        Ascending int64 indices, together a partition of ``range(len(names))``.

    Raises
    ------
    ValueError
        If fewer than ``held_out`` names can be held out.

    Examples
    --------
    >>> from plait.data.glyphs import split
    >>> train, test = split(["small a", "small b", "large a", "large b"], held_out=1, seed=0)
    >>> len(train), len(test)
    (3, 1)
    """
    words = [sorted(set(name.split())) for name in names]
    left = Counter(word for name in words for word in name)
    chosen = np.zeros(len(words), bool)
    count = 0
    for i in np.random.default_rng(seed).permutation(len(words)):
        if count == held_out:
            break
        if words[i] and all(left[word] > 1 for word in words[i]):
            left.subtract(words[i])
            chosen[i] = True
            count += 1
    if count != held_out:
        raise ValueError(f"split: held_out is {held_out}, but only {count} of {len(words)} names can be held out")
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def augment(
    images: np.ndarray,
    rng: np.random.Generator,
    *,
    rotate: float = 6.0,
    scale: float = 0.1,
    shift: float = 1.5,
    shear: float = 0.1,
) -> np.ndarray:
    """Turn, scale, slant and shift each picture a little, with bilinear interpolation and black outside.

    Parameters
    ----------
    images : array_like
        ``(n, height, width)`` uint8 or floating point.
    rng : numpy.random.Generator
        Source of the random numbers; six per picture are drawn, whatever the strengths.
    rotate : float, default 6.0
        Largest angle in degrees, either way.
    scale : float, default 0.1
        Largest relative change of height and width, each drawn by itself.
    shift : float, default 1.5
        Largest shift in pixels along either axis.
    shear : float, default 0.1
        Largest sideways slant, in pixels per pixel of height.

    Returns
    -------
    numpy.ndarray
        ``(n, height, width)`` float32, in the units of ``images`` (0 to 255 for uint8).

    Examples
    --------
    >>> import numpy as np
    >>> from plait.data.glyphs import augment
    >>> pictures = np.zeros((4, 32, 32), np.uint8)
    >>> augment(pictures, np.random.default_rng(0)).shape
    (4, 32, 32)
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"augment: images has shape {images.shape}, expected (n, height, width)")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise TypeError(f"augment: images has dtype {images.dtype}, expected uint8 or floating point")
    n, height, width = images.shape
    draw = rng.uniform(-1.0, 1.0, (6, n)).astype(np.float32)
    angle = draw[0] * np.float32(np.deg2rad(rotate))
    cos, sin = np.cos(angle), np.sin(angle)
    down, right = 1 / (1 + scale * draw[1]), 1 / (1 + scale * draw[2])
    slant = shear * draw[3]
    # Source position of every target pixel: (y, x)_source = M (y, x)_target + shift, both measured from the centre.
    m = np.empty((n, 2, 3), np.float32)
    m[:, 0, 0], m[:, 0, 1], m[:, 0, 2] = cos * down, -sin * down, shift * draw[4]
    m[:, 1, 0], m[:, 1, 1], m[:, 1, 2] = (sin + slant * cos) * right, (cos - slant * sin) * right, shift * draw[5]
    m[:, 0, 2] += (height - 1) / 2 + 1  # from here on in a picture with a black rim of one pixel, two at the far end
    m[:, 1, 2] += (width - 1) / 2 + 1
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    grid = np.stack([y.ravel(), x.ravel(), np.ones(height * width)]).astype(np.float32)
    source = m @ grid  # (n, 2, height * width)
    ys, xs = source[:, 0], source[:, 1]
    np.clip(ys, 0, height + 1, out=ys)
    np.clip(xs, 0, width + 1, out=xs)
    row, column = ys.astype(np.int32), xs.astype(np.int32)
    ys -= row
    xs -= column
    stride = width + 3
    row *= stride
    row += column
    row += np.arange(n, dtype=np.int32)[:, None] * ((height + 3) * stride)

    padded = np.zeros((n, height + 3, stride), images.dtype if images.dtype == np.uint8 else np.float32)
    padded[:, 1 : height + 1, 1 : width + 1] = images
    if padded.dtype == np.uint8:
        # The four neighbours of a pixel are gathered as the four bytes of one integer.
        four = np.zeros((*padded.shape, 4), np.uint8)
        four[..., 0] = padded
        four[:, :, :-1, 1] = padded[:, :, 1:]
        four[:, :-1, :, 2] = padded[:, 1:]
        four[:, :-1, :-1, 3] = padded[:, 1:, 1:]
        corners = four.view(np.uint32).ravel().take(row).view(np.uint8).reshape(n, -1, 4)
        a, b, c, d = (corners[..., i].astype(np.float32) for i in range(4))
    else:
        flat = padded.ravel()
        a, b, c, d = flat.take(row), flat[1:].take(row), flat[stride:].take(row), flat[stride + 1 :].take(row)
    b -= a
    b *= xs
    a += b  # the upper edge
    d -= c
    d *= xs
    c += d  # the lower edge
    c -= a
    c *= ys
    a += c
    return a.reshape(n, height, width)
