"""plait's side of the benchmark, in a process of its own. Prints JSON: milliseconds by phase."""

from __future__ import annotations

import json
import os
import sys
import warnings

import numpy as np
from bare import median
from cases import CASES

import plait
from plait import losses, nn, ops

RNG = np.random.default_rng(0)
warnings.simplefilter("error")


def rand(*shape):
    return nn.Parameter(RNG.standard_normal(shape, dtype=np.float32))


def phases(forward, leaves, scalar=False):
    """Median of forward without recording, and of forward + backward."""

    def infer():
        with plait.no_grad():
            forward()

    dy = None if scalar else np.ones(forward().shape, np.float32)

    def train():
        for leaf in leaves:
            leaf.zero_grad()
        forward().backward(dy)

    return {"forward": 1e3 * median(infer), "forward+backward": 1e3 * median(train)}


def full(b, t):
    return np.arange(b + 1, dtype=np.int64) * t


def linear(n, k, d, act=None):
    x, w, b = rand(n, k), rand(d, k), rand(d)
    return phases(lambda: ops.linear(x, w, b, act), (x, w, b))


def layer_norm(n, d):
    x, w, b = rand(n, d), rand(d), rand(d)
    return phases(lambda: ops.layer_norm(x, w, b), (x, w, b))


def rms_norm(n, d):
    x, w = rand(n, d), rand(d)
    return phases(lambda: ops.rms_norm(x, w), (x, w))


def l2_normalize(n, d):
    x = rand(n, d)
    return phases(lambda: ops.l2_normalize(x), (x,))


def dropout(n, d):
    x = rand(n, d)
    return phases(lambda: ops.dropout(x, 0.1), (x,))


def rope(b, t, h, d):
    x = rand(b * t, h * d)
    return phases(lambda: ops.rope(x, full(b, t), h), (x,))


def add_positions(b, t, d):
    x, table = rand(b * t, d), rand(t, d)
    return phases(lambda: ops.add_positions(x, full(b, t), table), (x, table))


def pool(b, t, d):
    x = rand(b * t, d)
    return phases(lambda: ops.pool(x, full(b, t)), (x,))


def attention_pool(b, t, h, d):
    x, scores = rand(b * t, d), rand(b * t, h)
    return phases(lambda: ops.attention_pool(x, full(b, t), scores), (x, scores))


def stream_concat(b, t, d):
    x, token = rand(b * t, d), rand(1, d)
    return phases(lambda: ops.stream_concat([ops.repeat_rows(token), plait.Stream(x, full(b, t))]).rows, (x, token))


def patch_embed(b, size, patch, d):
    x, w, bias = rand(b, size, size, 3), rand(d, 3, patch, patch), rand(d)
    return phases(lambda: ops.patch_embed(x, w, bias).rows, (w, bias))


def mlp(n, d):
    x, w1, b1, w2, b2 = rand(n, d), rand(4 * d, d), rand(4 * d), rand(d, 4 * d), rand(d)
    return phases(lambda: ops.mlp(x, w1, b1, w2, b2), (x, w1, b1, w2, b2))


def sigmoid_contrastive(n, d):
    rows = (rand(n, d).data for _ in range(2))
    a, b = (nn.Parameter(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in rows)
    s, bias = nn.Parameter(np.float32(2.3)), nn.Parameter(np.float32(-10))
    return phases(lambda: losses.sigmoid_contrastive(a, b, s, bias), (a, b, s, bias), scalar=True)


def huber(n, d):
    x, y = rand(n, d), RNG.standard_normal((n, d), dtype=np.float32)
    return phases(lambda: losses.huber(x, y), (x,), scalar=True)


def gelu(n, d):
    x = rand(n, d)
    return phases(lambda: ops.gelu(x), (x,))


def attention(b, h, t, d, causal=False):
    q, k, v = (rand(b * t, h * d) for _ in range(3))
    o = full(b, t)
    return phases(lambda: ops.attention(q, k, v, o, o, heads=h, causal=causal), (q, k, v))


def block(b, t, d, h):
    m, x, o = nn.EncoderBlock(d, h), rand(b * t, d), full(b, t)
    return phases(lambda: m(plait.Stream(x, o)).rows, (x, *m.parameters()))


def cross(b, t, s, d, h):
    x, c = rand(b * t, d), rand(b * s, d)
    norm, attention = nn.LayerNorm(d), nn.CrossAttention(d, h)

    def forward():
        return ops.attention_block(
            x, full(b, t), norm.weight, norm.bias, attention.q.weight, attention.q.bias, attention.out.weight,
            attention.out.bias, heads=h, context=c, context_offsets=full(b, s), context_weight=attention.kv.weight,
            context_bias=attention.kv.bias,
        )  # fmt: skip

    return phases(forward, (x, c, *norm.parameters(), *attention.parameters()))


def embedding(n, v, d):
    w, ids = rand(v, d), RNG.integers(0, v, n)
    return phases(lambda: ops.embedding(ids, w), (w,))


def info_nce(n, d):
    rows = (rand(n, d).data for _ in range(2))
    a, b = (nn.Parameter(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in rows)
    s = nn.Parameter(np.float32(2.6))
    return phases(lambda: losses.info_nce(a, b, s), (a, b, s), scalar=True)


def cross_entropy(n, c):
    x, labels = rand(n, c), RNG.integers(0, c, n)
    return phases(lambda: losses.cross_entropy(x, labels), (x,), scalar=True)


def adamw(n):
    p = rand(n)
    o = plait.optim.AdamW([p])
    p.grad = RNG.standard_normal(n, dtype=np.float32)
    return {"forward": 1e3 * median(o.step)}


def tower(b):
    model = plait.create_model("vit-b-32").eval()
    x = RNG.standard_normal((b, 224, 224, 3), dtype=np.float32)
    model.freeze()
    with plait.no_grad():
        seconds = median(lambda: model.encode_image(x), seconds=3)
    return {"forward": 1e3 * seconds}


def demo_step(b):
    import demo_sizes as z

    model = plait.create_model("glyph-tiny")
    optimizer = plait.optim.AdamW(model, max_grad_norm=1.0)
    x = RNG.random((b, z.IMAGE["size"], z.IMAGE["size"]), dtype=np.float32)
    ids = [RNG.integers(0, z.TEXT["vocabulary"], n) for n in z.lengths(b)]

    def step():
        optimizer.zero_grad()
        loss = losses.info_nce(model.encode_image(x), model.encode_text(ids), model.logit_scale)
        loss.backward()
        optimizer.step()

    return {"step": 1e3 * median(step, seconds=4)}


def overhead():
    """Microseconds of an operator call and of a record on the tape, on two rows of eight."""
    x, w = rand(2, 8), rand(8, 8)

    def times(function, n=200):
        def many():
            for _ in range(n):
                function()

        return 1e6 * median(many) / n

    with plait.no_grad():
        call = times(lambda: ops.linear(x, w))

    def train():
        y = ops.linear(x, w)
        y.backward(y.data)

    recorded = times(lambda: ops.linear(x, w))
    return {"call_us": call, "record_us": recorded - call, "with_backward_us": times(train)}


if __name__ == "__main__":
    plait.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if sys.argv[1] == "overhead":
        print(json.dumps(overhead()))
    else:
        kind, sizes = CASES[sys.argv[1]]
        print(json.dumps(globals()[kind](**sizes)))
