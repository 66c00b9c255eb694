"""A picture of the rows: how many times as fast as the fastest peer each engine is."""

from __future__ import annotations

from comparison.report import TITLES, label

__all__ = ["picture"]

LONGEST = 6.0  # what is longer is cut, and its number written
COLOURS = {
    "plait": "#c44536",
    "torch": "#7a8fa6",
    "torch autocast": "#a3b4c4",
    "torch-compile": "#4f6d8a",
    "torch-compile autocast": "#c5d1dc",
    "onnxruntime": "#8a9a5b",
    "openvino": "#5b7f95",
}


def picture(rows, path):
    """Writes the picture; a panel a precision class. Returns whether there was anything to show."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rows = [r for r in rows if "ms" in r and r["engine"] != "bare" and not r.get("wrong")]
    classes = [c for c in TITLES if any(r["class"] == c for r in rows)]
    if not classes:
        return False
    counts = [len({r["case"] for r in rows if r["class"] == c}) for c in classes]
    bars = [sum(r["class"] == c for r in rows) for c in classes]
    figure, panels = plt.subplots(
        len(classes),
        1,
        figsize=(9, 1.2 * len(classes) + 0.2 * sum(bars) + 0.15 * sum(counts)),
        height_ratios=bars,
        squeeze=False,
        layout="constrained",
    )
    for name, panel in zip(classes, panels[:, 0], strict=True):
        _panel(panel, [r for r in rows if r["class"] == name], TITLES[name])
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def _panel(panel, rows, title):
    """A group of bars a case, the slowest peers below; a line marks the fastest peer."""
    place, ticks, named = 0.0, [], set()
    for case in dict.fromkeys(r["case"] for r in rows):
        group = [r for r in rows if r["case"] == case]
        peers = [r["ms"] for r in group if r["engine"] != "plait"]
        best = min(peers or [r["ms"] for r in group])
        begin = place
        for r in group:
            text = label(r)
            times = best / r["ms"]
            label_once = None if text in named else text
            panel.barh(place, min(times, LONGEST), 0.9, color=COLOURS[text], label=label_once)
            more = f" ({times:.1f}x)" if times > LONGEST else ""
            panel.text(min(times, LONGEST), place, f" {r['ms']:.3g} ms{more}", va="center", fontsize=6)
            named.add(text)
            place += 1
        ticks.append(((begin + place - 1) / 2, case))
        place += 0.8
    panel.axvline(1, color="black", linewidth=0.6)
    panel.set_yticks([t for t, _ in ticks], [c for _, c in ticks], fontsize=7)
    panel.set_title(f"{title}: speed, fastest peer = 1", fontsize=9, loc="left")
    panel.invert_yaxis()
    panel.margins(x=0.12, y=0.01)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.2)
