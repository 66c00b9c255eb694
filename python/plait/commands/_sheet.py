"""A contact sheet: the pictures that a search found, with place, score and name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from plait.io import atomic_file
from plait.processing import open_picture

__all__ = ["contact_sheet"]

_INK, _GREY, _PAPER, _TRAY = "#222222", "#777777", "#ffffff", "#f4f4f4"
_TILE, _GAP, _MARGIN = 240, 20, 28  # pixels
_COLUMNS = 5
_MAX_PIXELS = 1 << 26


def contact_sheet(file, title, pictures) -> None:
    """Draws a PNG.

    Parameters
    ----------
    file : path-like
    title : str or path-like
        The words of the query; or the path of the picture, which is drawn then.
    pictures : list of (path or None, name, score)
        Best first. One that cannot be opened is an empty tile.
    """
    large, small, line = _font(26), _font(16), 22
    columns = min(_COLUMNS, max(3, len(pictures)))
    rows = -(-len(pictures) // columns)
    width = 2 * _MARGIN + columns * (_TILE + _GAP) - _GAP
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    words = _wrapped(probe, title, large, width - 2 * _MARGIN, 3) if isinstance(title, str) else []
    head = 36 * len(words) if words else _TILE // 2 + 10
    height = _MARGIN + head + _GAP + rows * (_TILE + 2 * line + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if words:
        for i, text in enumerate(words):
            draw.text((_MARGIN, _MARGIN + 36 * i), text, _INK, large)
    else:
        used = _paste(sheet, draw, title, (_MARGIN, _MARGIN), _TILE // 2)
        text = _wrapped(probe, Path(title).name, large, width - 3 * _MARGIN - used, 1)[0]
        draw.text((_MARGIN + used + _GAP, _MARGIN + _TILE // 4), text, _INK, large, anchor="lm")
    for place, (path, name, score) in enumerate(pictures):
        x = _MARGIN + place % columns * (_TILE + _GAP)
        y = _MARGIN + head + _GAP + place // columns * (_TILE + 2 * line + _GAP)
        _paste(sheet, draw, path, (x, y), _TILE)
        draw.text((x, y + _TILE + 5), f"{place + 1}", _INK, small)
        draw.text((x + _TILE, y + _TILE + 5), f"{score:.3f}", _GREY, small, anchor="ra")
        draw.text((x, y + _TILE + 5 + line), _shortened(draw, name, small, _TILE), _GREY, small)
    with atomic_file(file) as temporary:
        sheet.save(temporary, format="PNG")


def _paste(sheet, draw, path, corner, side):
    """A thumbnail in the middle of a square; gives its width."""
    x, y = corner
    draw.rectangle((x, y, x + side - 1, y + side - 1), _TRAY)
    try:
        if path is None:
            raise FileNotFoundError
        picture = open_picture(path, _MAX_PIXELS)
    except (OSError, ValueError):
        draw.text((x + side // 2, y + side // 2), "not there", _GREY, _font(16), anchor="mm")
        return side
    scale = min(side / picture.width, side / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    sheet.paste(picture, (x + (side - size[0]) // 2, y + (side - size[1]) // 2))
    return side


def _wrapped(draw, text, font, width, lines):
    """Words in at most so many lines of a width."""
    result, words = [], " ".join(text.split()).split(" ")
    while words and len(result) < lines:
        n = 1
        while n < len(words) and draw.textlength(" ".join(words[: n + 1]), font) <= width:
            n += 1
        if len(result) == lines - 1:
            n = len(words)
        result.append(_shortened(draw, " ".join(words[:n]), font, width))
        words = words[n:]
    return result


def _shortened(draw, text, font, width):
    """The end of a path says most, so the middle goes."""
    if draw.textlength(text, font) <= width:
        return text
    keep = min(len(text), 400)
    while keep > 1:
        keep -= 1
        short = text[: keep // 3] + "…" + text[len(text) - (keep - keep // 3) :]
        if draw.textlength(short, font) <= width:
            return short
    return "…"


def _font(size):
    """DejaVu Sans of matplotlib, which has more scripts, where that is installed; Pillow's own font otherwise."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin:
        file = Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(file, size)
    return ImageFont.load_default(size)
