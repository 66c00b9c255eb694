"""Pictures that the demo and the search draw. Figures are made without pyplot: no window, no global state."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plait.data import glyphs
from plait.io import atomic_file

__all__ = ["retrieval", "search", "training"]

_INK, _GREY, _BLUE, _ORANGE, _GREEN = "#222222", "#8a8a8a", "#2a6f97", "#d9822b", "#2e8b57"
_PIXELS = 96  # of a drawn character


def training(file, history, recall):
    """Loss and held-out recall over the steps."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, len(history.losses) + 1)
    left.plot(steps, history.losses, color=_BLUE, alpha=0.3, linewidth=0.8)
    left.plot(steps, _smooth(history.losses), color=_BLUE)
    left.set_title("training loss", loc="left")
    at = [step for step, _ in history.evaluations]
    for key, colour in (("recall@10", _ORANGE), ("recall@1", _BLUE)):
        values = [metrics[key] for _, metrics in history.evaluations]
        right.plot(at, values, marker="o", markersize=3.5, color=colour)
        right.annotate(
            f"{key}  {values[-1]:.1f} %", (at[-1], values[-1]), xytext=(-4, 8), textcoords="offset points",
            color=colour, ha="right",
        )  # fmt: skip
    for k in ("1", "10"):
        right.axhline(recall["held_out"]["chance"][k], color=_GREY, linewidth=0.8, linestyle=":")
    right.annotate(
        "chance", (0, recall["held_out"]["chance"]["10"]), xytext=(2, 3), textcoords="offset points", color=_GREY
    )
    right.set_title("held-out characters found by their names, %", loc="left")
    right.set_ylim(0, 100)
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.set_xlim(0, len(steps) * 1.02)
        _plain(axes)
    _save(figure, file)


def retrieval(file, task, images, texts, rows=8, nearest=5):
    """Held-out names, their pictures, and the held-out pictures that are nearest to them."""
    test = task.test
    chosen = np.sort(np.random.default_rng(0).choice(len(test), min(rows, len(test)), replace=False))
    order = np.argsort(-(texts[test[chosen]] @ images[test].T), axis=1, kind="stable")
    places = (order == chosen[:, None]).argmax(1) + 1
    figure = Figure(figsize=(10.2, 1.42 * len(chosen) + 0.9), layout="constrained")
    figure.suptitle(
        f"Held-out names, and the {nearest} nearest of {len(test)} held-out pictures", x=0.01, ha="left", fontsize=14
    )
    grid = figure.subplots(len(chosen), nearest + 3, width_ratios=[2.0, 1, 0.2] + [1] * nearest, squeeze=False)
    for axes, query, found, place in zip(grid, test[chosen], test[order[:, :nearest]], places, strict=True):
        for blank in (axes[0], axes[2]):
            blank.set_axis_off()
        name = "\n".join(textwrap.wrap(task.names[query], 24))
        axes[0].text(1, 0.55, name, ha="right", va="center", transform=axes[0].transAxes, fontsize=11, color=_INK)
        pictures = glyphs.draw([int(task.codepoints[i]) for i in (query, *found)], _PIXELS)
        _glyph(axes[1], pictures[0], f"found at place {place}", frame=False)
        for cell, i, picture in zip(axes[3:], found, pictures[1:], strict=True):
            _glyph(cell, picture, task.names[i], right=i == query)
    _save(figure, file)


def search(file, query, codepoints, names, scores):
    """The characters found for a query."""
    columns = min(5, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(6.0, 1.9 * columns), 2.1 * rows + 0.6), layout="constrained")
    figure.suptitle("\n".join(textwrap.wrap(query, 22 * columns)), x=0.01, ha="left", fontsize=13)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    pictures = glyphs.draw([int(c) for c in codepoints], _PIXELS)
    for cell, picture, name, score in zip(cells, pictures, names, scores, strict=False):
        _glyph(cell, picture, name)
        cell.set_title(f"{score:.2f}", fontsize=9, color=_GREY, pad=3)
    for cell in cells[len(names) :]:
        cell.set_axis_off()
    _save(figure, file)


def _glyph(axes, picture, name, right=False, frame=True):
    axes.imshow(255 - picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if frame:
        colour, width = (_GREEN, 3.5) if right else ("#d5d5d5", 1.0)
        size = picture.shape[0]
        axes.add_patch(Rectangle((-0.5, -0.5), size, size, fill=False, edgecolor=colour, lw=width, clip_on=False))
    lines = textwrap.wrap(name, 22)
    text = "\n".join(lines[:2]) + ("..." if len(lines) > 2 else "")
    axes.set_xlabel(text, fontsize=7, color=_GREEN if right else _GREY, labelpad=5)


def _smooth(values, window=21):
    values = np.asarray(values)
    half = min(window, len(values)) // 2
    padded = np.cumsum(np.concatenate([[0], values]))
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (padded[high] - padded[low]) / (high - low)


def _plain(axes):
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)


def _save(figure, file):
    FigureCanvasAgg(figure)
    with atomic_file(file) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
