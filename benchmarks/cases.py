"""What is timed: shapes that real models have. Shared by plait's side and the peers', which build their own arrays."""

CASES = {
    # name: (kind, sizes)
    "linear-vit-qkv": ("linear", {"n": 400, "k": 768, "d": 2304}),
    "linear-vit-fc1-gelu": ("linear", {"n": 400, "k": 768, "d": 3072, "act": "gelu"}),
    "linear-vit-fc2": ("linear", {"n": 400, "k": 3072, "d": 768}),
    "linear-small": ("linear", {"n": 4096, "k": 128, "d": 512}),
    "layer_norm-768": ("layer_norm", {"n": 1600, "d": 768}),
    "layer_norm-128": ("layer_norm", {"n": 4096, "d": 128}),
    "gelu": ("gelu", {"n": 1600, "d": 3072}),
    "attention-1x12x50x64": ("attention", {"b": 1, "h": 12, "t": 50, "d": 64}),
    "attention-8x12x50x64": ("attention", {"b": 8, "h": 12, "t": 50, "d": 64}),
    "attention-8x12x197x64": ("attention", {"b": 8, "h": 12, "t": 197, "d": 64}),
    "attention-1x12x577x64": ("attention", {"b": 1, "h": 12, "t": 577, "d": 64}),
    "attention-32x8x77x64-causal": ("attention", {"b": 32, "h": 8, "t": 77, "d": 64, "causal": True}),
    "attention-256x4x16x32": ("attention", {"b": 256, "h": 4, "t": 16, "d": 32}),
    "block-8x50x768": ("block", {"b": 8, "t": 50, "d": 768, "h": 12}),
    "block-256x16x128": ("block", {"b": 256, "t": 16, "d": 128, "h": 4}),
    "cross-16x20x36x768": ("cross", {"b": 16, "t": 20, "s": 36, "d": 768, "h": 12}),
    "embedding": ("embedding", {"n": 2048, "v": 30000, "d": 512}),
    "info_nce-256": ("info_nce", {"n": 256, "d": 128}),
    "info_nce-1024": ("info_nce", {"n": 1024, "d": 512}),
    "info_nce-4096": ("info_nce", {"n": 4096, "d": 512}),
    "cross_entropy": ("cross_entropy", {"n": 512, "c": 10000}),
    "adamw-25M": ("adamw", {"n": 25_000_000}),
    "vit-b-32-tower-8": ("tower", {"b": 8}),
    "demo-step-256": ("demo_step", {"b": 256}),
}
