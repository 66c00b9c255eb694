"""An index as a folder of safetensors and JSON files, which need neither Milvus nor plait to be read."""

from __future__ import annotations

import dataclasses
import json
import os
import re

import numpy as np

from plait.io import atomic_folder, save_tensors, strictjson

from ._table import MAX_ROWS

__all__ = ["export"]

_FORMAT, _VERSION = "plait index export", 1
_PART_BYTES = 64 << 20
_NAME = re.compile(r"index\.json|part-[0-9]{5}\.(?:safetensors|jsonl)")


def export(table, folder):
    """Writes the parts as the rows come; memory holds the vectors of one of them."""
    layout = table.layout
    older = [name for name in os.listdir(folder) if _NAME.fullmatch(name)] if os.path.isdir(folder) else []
    per_part = max(1, _PART_BYTES // (4 * sum(layout.vectors.values())))
    total, parts, held = 0, 0, []

    def save_part():
        arrays = {name: np.concatenate([batch[name] for batch in held]) for name in layout.vectors}
        save_tensors(new / f"part-{parts:05d}.safetensors", arrays)
        held.clear()

    with atomic_folder(folder, replaces=older) as new:
        for ids, arrays, metadata in table.batches("Index.export", min(MAX_ROWS, per_part), "", list(layout.vectors)):
            with open(new / f"part-{parts:05d}.jsonl", "ab") as lines:
                for key, data in zip(ids, metadata, strict=True):
                    lines.write(json.dumps({"id": key, "metadata": data}, ensure_ascii=False).encode() + b"\n")
            held.append(arrays)
            total += len(ids)
            if sum(len(batch[next(iter(batch))]) for batch in held) >= per_part:
                save_part()
                parts += 1
        if held:
            save_part()
            parts += 1
        about = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(layout), "rows": total, "parts": parts}
        (new / "index.json").write_bytes(strictjson.dumps(about, "index.json"))
    return total
