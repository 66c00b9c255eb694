"""One engine, one case, for encode.py: prints a JSON object of figures, and writes the vectors to a file."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

BATCH = 32


def memory():
    """Resident memory now and at its peak, MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, peak = (int(status[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return {"resident MB": now, "peak MB": peak}


def pictures_of(folder):
    if Path(folder).suffix == ".npz":
        with np.load(folder) as file:
            return list(file["images"][:512])
    return sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))


def captions_of(file):
    text = Path(file).read_text()
    return json.loads(text) if text.lstrip().startswith("[") else text.splitlines()


class Plait:
    def __init__(self, folder):
        begin = time.perf_counter()
        import plait

        self.imported = time.perf_counter() - begin
        begin = time.perf_counter()
        self.model = plait.load(folder)
        self.loaded = time.perf_counter() - begin

    def images(self, paths):
        return self.model.encode_image(paths, batch_size=BATCH, show_progress=False)

    def texts(self, texts):
        return self.model.encode_text(texts, batch_size=BATCH, show_progress=False, truncate=True)

    def sentences(self, texts):
        return self.model.encode(texts, batch_size=BATCH, show_progress=False, truncate=True)


class Torch:
    def __init__(self, folder):
        begin = time.perf_counter()
        import torch

        if (Path(folder) / "modules.json").exists():
            from sentence_transformers import SentenceTransformer as Model
        else:
            from transformers import AutoTokenizer, CLIPImageProcessor
            from transformers import CLIPModel as Model
        self.imported = time.perf_counter() - begin
        torch.set_num_threads(2)
        self.torch = torch
        begin = time.perf_counter()
        if (Path(folder) / "modules.json").exists():
            self.model = Model(str(folder), device="cpu")
        else:
            self.model = Model.from_pretrained(folder).eval()
            self.processor = CLIPImageProcessor.from_pretrained(folder)
            self.tokenizer = AutoTokenizer.from_pretrained(folder) if (Path(folder) / "vocab.json").exists() else None
        self.loaded = time.perf_counter() - begin

    def images(self, paths):
        from PIL import Image

        rows = []
        with self.torch.inference_mode():
            for i in range(0, len(paths), BATCH):
                batch = paths[i : i + BATCH]
                pictures = [Image.fromarray(p) if isinstance(p, np.ndarray) else Image.open(p) for p in batch]
                pictures = [p.convert("RGB") for p in pictures]
                pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
                features = self.model.get_image_features(pixel_values=pixels)
                rows.append(getattr(features, "pooler_output", features).numpy())
        rows = np.concatenate(rows)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def texts(self, texts):
        rows = []
        with self.torch.inference_mode():
            for i in range(0, len(texts), BATCH):
                ids = self.tokenizer(texts[i : i + BATCH], padding=True, truncation=True, return_tensors="pt")
                features = self.model.get_text_features(**ids)
                rows.append(getattr(features, "pooler_output", features).numpy())
        rows = np.concatenate(rows)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def sentences(self, texts):
        return self.model.encode(texts, batch_size=BATCH, show_progress_bar=False)


def main(engine, case, folder, data, out):
    side = {"plait": Plait, "torch": Torch}[engine](folder)
    if case.startswith("load"):
        print(json.dumps({"import s": side.imported, "load s": side.loaded, **memory()}))
        return
    items = pictures_of(data) if case == "images" else captions_of(data)
    encode = getattr(side, case)
    begin = time.perf_counter()
    encode(items[:1])
    first = time.perf_counter() - begin
    encode(items[:BATCH])
    begin = time.perf_counter()
    vectors = encode(items)
    seconds = time.perf_counter() - begin
    one = []
    for _ in range(10):
        begin = time.perf_counter()
        encode(items[:1])
        one.append(time.perf_counter() - begin)
    np.save(out, vectors)
    rate = {"images": "images/s", "texts": "texts/s", "sentences": "texts/s"}[case]
    figures = {rate: len(items) / seconds, "first item s": first, "one item s": float(np.median(one))}
    print(json.dumps({**figures, **memory()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
