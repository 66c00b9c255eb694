"""The table of cases: what is timed, at which sizes. Engines look up how to do a kind; a new size is a new row here."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CASES", "DEFAULT", "Case", "chosen"]

VIT = {"width": 768, "layers": 12, "heads": 12, "size": 224, "patch": 32}
TEXT = {"width": 512, "layers": 12, "heads": 8, "length": 77, "vocabulary": 49408}
CLIP = {"image": VIT, "text": TEXT, "embed": 512}
SMALL_CLIP = {
    "image": {"width": 256, "layers": 6, "heads": 4, "size": 64, "patch": 8},
    "text": {"width": 256, "layers": 4, "heads": 4, "length": 32, "vocabulary": 49408},
    "embed": 256,
}
TINY_CLIP = {
    "image": {"width": 32, "layers": 2, "heads": 2, "size": 32, "patch": 16},
    "text": {"width": 32, "layers": 2, "heads": 2, "length": 12, "vocabulary": 64},
    "embed": 24,
}
MINILM = {"width": 384, "layers": 6, "heads": 12, "hidden": 1536, "vocabulary": 30522, "length": 512}
MULT = {"batch": 24, "lengths": (50, 375, 500), "widths": (300, 74, 35), "width": 40, "heads": 8, "layers": 4, "own": 3}
INFERENCE = ("f32", "bf16", "int8")
TRAINING = ("f32", "bf16", "bf16-autocast")


@dataclass(frozen=True)
class Case:
    """One row.

    `kind` names the model, `phase` what a call does: "forward", "backward" (forward and backward) or "step" (forward,
    loss, backward, clipping, AdamW). `precisions` are those that mean something here; engines have some of them.
    """

    name: str
    kind: str
    phase: str
    sizes: dict = field(hash=False)
    precisions: tuple[str, ...] = ("f32",)
    smoke: bool = False  # too small to say anything: only to see that the harness works


def _table():
    for b in (1, 8, 32):
        yield Case(f"clip-image-b{b}", "clip_image", "forward", {**CLIP, "batch": b}, INFERENCE)
    for tokens in (77, 16):
        for b in (1, 32):
            sizes = {**CLIP, "batch": b, "tokens": tokens, "padded": tokens}
            yield Case(f"clip-text{tokens}-b{b}", "clip_text", "forward", sizes, INFERENCE)
    # As stock pipelines run it: captions of 16 tokens, padded to 77 where an engine wants full batches.
    yield Case(
        "clip-text16in77-b32", "clip_text", "forward", {**CLIP, "batch": 32, "tokens": 16, "padded": 77}, INFERENCE
    )
    for queries, keys, b in ((20, 36, 16), (30, 197, 8), (64, 257, 8)):
        sizes = {"batch": b, "queries": queries, "keys": keys, "width": 768, "heads": 12}
        yield Case(f"cross-{queries}x{keys}-b{b}", "cross", "forward", sizes, INFERENCE)
        yield Case(f"cross-{queries}x{keys}-b{b}-train", "cross", "backward", sizes, TRAINING)
    for b, h, t, causal in ((1, 12, 50, 0), (1, 8, 77, 1), (8, 12, 197, 0), (1, 12, 577, 0), (32, 8, 77, 1)):
        sizes = {"batch": b, "heads": h, "length": t, "head": 64, "causal": bool(causal)}
        name = f"attention-{b}x{h}x{t}x64{'-causal' if causal else ''}"
        yield Case(name, "attention", "forward", sizes, ("f32", "bf16"))
        yield Case(f"{name}-train", "attention", "backward", sizes, ("f32", "bf16"))
    for tokens in (77, 16):
        sizes = {**CLIP, "batch": 32, "tokens": tokens, "padded": 77}
        yield Case(f"clip-step{'' if tokens == 77 else tokens}-b32", "clip", "step", sizes, TRAINING)
    # Blocks are computed again in backward.
    sizes = {**CLIP, "batch": 32, "tokens": 77, "padded": 77, "checkpoint": True}
    yield Case("clip-step-checkpoint-b32", "clip", "step", sizes, TRAINING)
    yield Case(
        "small-clip-step-b128", "clip", "step", {**SMALL_CLIP, "batch": 128, "tokens": 32, "padded": 32}, TRAINING
    )
    # Peers with attention weights in memory and dropout on them, as published; the same without; fused and without.
    for name, fused, dropout in (("published", False, 0.1), ("plain", False, 0.0), ("fused", True, 0.0)):
        yield Case(f"mult-step-{name}", "mult", "step", {**MULT, "fused": fused, "dropout": dropout})
    for n in (1024, 4096, 8192, 16384):
        yield Case(f"info-nce-{n}", "info_nce", "backward", {"pairs": n, "width": 512})
    yield Case("adamw-151M", "adamw", "step", {**CLIP})
    yield Case("minilm-1x16", "minilm", "forward", {**MINILM, "batch": 1, "tokens": (16, 16)}, INFERENCE)
    yield Case("minilm-32x8-64", "minilm", "forward", {**MINILM, "batch": 32, "tokens": (8, 64)}, INFERENCE)
    heads = {
        "tensor": {"width": 32, "out": 128},
        "low_rank": {"width": 128, "rank": 8, "out": 128},
        "gated": {"width": 256},
        "bilinear": {"width": 1024, "factor": 5, "out": 512},
    }
    for head, sizes in heads.items():
        yield Case(f"fusion-{head}-b256", f"fusion_{head}", "backward", {"batch": 256, **sizes})
    tiny = {**TINY_CLIP, "batch": 2, "tokens": 6, "padded": 9}
    yield Case("tiny-cross", "cross", "forward", _tiny_cross(), INFERENCE, smoke=True)
    yield Case("tiny-cross-train", "cross", "backward", _tiny_cross(), TRAINING, smoke=True)
    yield Case("tiny-clip-text", "clip_text", "forward", tiny, INFERENCE, smoke=True)
    yield Case("tiny-clip-image", "clip_image", "forward", tiny, INFERENCE, smoke=True)
    yield Case("tiny-clip-step", "clip", "step", tiny, TRAINING, smoke=True)
    yield Case("tiny-clip-step-checkpoint", "clip", "step", {**tiny, "checkpoint": True}, TRAINING, smoke=True)
    sizes = {"width": 32, "layers": 2, "heads": 4, "hidden": 64, "vocabulary": 2100, "length": 32, "batch": 3}
    yield Case("tiny-minilm", "minilm", "forward", {**sizes, "tokens": (3, 9)}, INFERENCE, smoke=True)
    sizes = {"batch": 2, "lengths": (5, 7, 6), "widths": (9, 4, 3), "width": 8, "heads": 2, "layers": 1, "own": 1}
    for fused, dropout in ((False, 0.1), (True, 0.0)):
        name = f"tiny-mult-step-{'fused' if fused else 'published'}"
        yield Case(name, "mult", "step", {**sizes, "fused": fused, "dropout": dropout}, smoke=True)
    yield Case("tiny-info-nce", "info_nce", "backward", {"pairs": 8, "width": 16}, smoke=True)
    yield Case("tiny-adamw", "adamw", "step", {**TINY_CLIP}, smoke=True)
    yield Case(
        "tiny-attention-train",
        "attention",
        "backward",
        {"batch": 2, "heads": 2, "length": 5, "head": 8, "causal": True},
        ("f32", "bf16"),
        smoke=True,
    )
    for head, sizes in heads.items():
        small = {key: 3 if key in ("rank", "factor") else 6 for key in sizes}
        yield Case(f"tiny-fusion-{head}", f"fusion_{head}", "backward", {"batch": 4, **small}, smoke=True)


def _tiny_cross():
    return {"batch": 2, "queries": 3, "keys": 5, "width": 32, "heads": 4}


CASES = {case.name: case for case in _table()}
DEFAULT = [case for case in CASES.values() if not case.smoke]


def chosen(words):
    """Cases by name, or by a part of their names; the smoke cases only where a word begins as they do."""
    if not words:
        return list(DEFAULT)
    found = []
    for word in words:
        hits = [CASES[word]] if word in CASES else [c for c in CASES.values() if word in c.name]
        hits = [c for c in hits if not c.smoke or word.startswith("tiny")]
        if not hits:
            raise ValueError(f"--case: {word!r} is in no name of a case; --list shows them")
        found += [c for c in hits if c not in found]
    return found
