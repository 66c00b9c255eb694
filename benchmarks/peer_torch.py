"""PyTorch's side: eager float32, two threads, in a process of its own. Prints JSON: milliseconds by phase."""

from __future__ import annotations

import json
import sys

import torch
import torch.nn.functional as F
from bare import median
from cases import CASES


def phases(forward, leaves, scalar=False):
    """Median of forward without recording, and of forward + backward."""

    def infer():
        with torch.inference_mode():
            forward()

    y = forward()
    dy = torch.ones_like(y)

    def train():
        for leaf in leaves:
            leaf.grad = None
        y = forward()
        y.backward() if scalar else y.backward(dy)

    return {"forward": 1e3 * median(infer), "forward+backward": 1e3 * median(train)}


def rand(*shape):
    return torch.randn(*shape, requires_grad=True)


def linear(n, k, d, act=None):
    x, w, b = rand(n, k), rand(d, k), rand(d)
    f = {None: lambda y: y, "gelu": F.gelu}[act]
    return phases(lambda: f(F.linear(x, w, b)), (x, w, b))


def layer_norm(n, d):
    x, w, b = rand(n, d), rand(d), rand(d)
    return phases(lambda: F.layer_norm(x, (d,), w, b), (x, w, b))


def rms_norm(n, d):
    x, w = rand(n, d), rand(d)
    return phases(lambda: F.rms_norm(x, (d,), w, 1e-6), (x, w))


def l2_normalize(n, d):
    x = rand(n, d)
    return phases(lambda: F.normalize(x, dim=-1), (x,))


def dropout(n, d):
    x = rand(n, d)
    return phases(lambda: F.dropout(x, 0.1), (x,))


def rope(b, t, h, d):
    x = rand(b, t, h, d)
    angle = torch.arange(t)[:, None] / 10000 ** (torch.arange(0, d, 2) / d)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]

    def forward():
        one, two = x.chunk(2, -1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)

    return phases(forward, (x,))


def add_positions(b, t, d):
    x, table = rand(b, t, d), rand(t, d)
    return phases(lambda: x + table, (x, table))


def pool(b, t, d):
    x = rand(b, t, d)
    return phases(lambda: x.mean(1), (x,))


def attention_pool(b, t, h, d):
    x, scores = rand(b, t, h, d // h), rand(b, t, h)
    return phases(lambda: (x * scores.softmax(1)[..., None]).sum(1), (x, scores))


def stream_concat(b, t, d):
    x, token = rand(b, t, d), rand(1, 1, d)
    return phases(lambda: torch.cat([token.expand(b, 1, d), x], 1), (x, token))


def patch_embed(b, size, patch, d):
    x, w, bias = torch.randn(b, 3, size, size), rand(d, 3, patch, patch), rand(d)
    return phases(lambda: F.conv2d(x, w, bias, stride=patch).flatten(2).transpose(1, 2), (w, bias))


def mlp(n, d):
    x, w1, b1, w2, b2 = rand(n, d), rand(4 * d, d), rand(4 * d), rand(d, 4 * d), rand(d)
    return phases(lambda: F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2), (x, w1, b1, w2, b2))


def sigmoid_contrastive(n, d):
    a, b = F.normalize(rand(n, d)).detach().requires_grad_(), F.normalize(rand(n, d)).detach().requires_grad_()
    s, bias = torch.tensor(2.3, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    labels = 2 * torch.eye(n) - 1
    return phases(lambda: -F.logsigmoid(labels * (s.exp() * a @ b.T + bias)).sum() / n, (a, b, s, bias), scalar=True)


def huber(n, d):
    x, y = rand(n, d), torch.randn(n, d)
    return phases(lambda: F.huber_loss(x, y), (x,), scalar=True)


def gelu(n, d):
    x = rand(n, d)
    return phases(lambda: F.gelu(x), (x,))


def attention(b, h, t, d, causal=False):
    q, k, v = (rand(b, h, t, d) for _ in range(3))
    return phases(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal), (q, k, v))


class Block(torch.nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.h = h
        self.n1, self.n2 = torch.nn.LayerNorm(d), torch.nn.LayerNorm(d)
        self.qkv, self.out = torch.nn.Linear(d, 3 * d), torch.nn.Linear(d, d)
        self.fc1, self.fc2 = torch.nn.Linear(d, 4 * d), torch.nn.Linear(4 * d, d)

    def forward(self, x, mask=None):
        b, t, d = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, t, 3, self.h, d // self.h).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(b, t, d)
        x = x + self.out(y)
        return x + self.fc2(F.gelu(self.fc1(self.n2(x))))


def block(b, t, d, h):
    m, x = Block(d, h), rand(b, t, d)
    return phases(lambda: m(x), (x, *m.parameters()))


def cross(b, t, s, d, h):
    x, c = rand(b, t, d), rand(b, s, d)
    norm, q, kv, out = (torch.nn.LayerNorm(d), torch.nn.Linear(d, d), torch.nn.Linear(d, 2 * d), torch.nn.Linear(d, d))

    def forward():
        split = lambda y: y.view(b, -1, h, d // h).transpose(1, 2)  # noqa: E731
        k, v = kv(c).chunk(2, -1)
        y = F.scaled_dot_product_attention(split(q(norm(x))), split(k), split(v))
        return x + out(y.transpose(1, 2).reshape(b, t, d))

    leaves = [x, c, *(p for m in (norm, q, kv, out) for p in m.parameters())]
    return phases(forward, leaves)


def embedding(n, v, d):
    w, ids = rand(v, d), torch.randint(0, v, (n,))
    return phases(lambda: F.embedding(ids, w), (w,))


def info_nce(n, d):
    a, b, s = F.normalize(rand(n, d)).detach(), F.normalize(rand(n, d)).detach(), torch.tensor(2.6, requires_grad=True)
    a.requires_grad_(), b.requires_grad_()
    labels = torch.arange(n)

    def forward():
        logits = s.exp() * a @ b.T
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

    return phases(forward, (a, b, s), scalar=True)


def cross_entropy(n, c):
    x, labels = rand(n, c), torch.randint(0, c, (n,))
    return phases(lambda: F.cross_entropy(x, labels), (x,), scalar=True)


def adamw(n):
    p = torch.nn.Parameter(torch.randn(n))
    p.grad = torch.randn(n)
    o = torch.optim.AdamW([p], fused=True)
    return {"forward": 1e3 * median(o.step)}


class Tower(torch.nn.Module):
    """Patches, class token or mean pooling, positions, blocks, projection."""

    def __init__(self, channels, patch, tokens, d, h, depth, out, cls, flat=False):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, d, patch, patch)
        self.cls = torch.nn.Parameter(torch.zeros(d)) if cls else None
        self.pos = torch.nn.Parameter(torch.zeros(tokens + cls, d))
        self.blocks = torch.nn.ModuleList([Block(d, h) for _ in range(depth)])
        self.flat = flat
        self.norm, self.proj = torch.nn.LayerNorm(d), torch.nn.Linear(d * (tokens if flat else 1), out, bias=False)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        if self.cls is not None:
            x = torch.cat([self.cls.expand(len(x), 1, -1), x], 1)
        x = x + self.pos
        for b in self.blocks:
            x = b(x)
        x = self.norm(x)
        x = x[:, 0] if self.cls is not None else x.flatten(1) if self.flat else x.mean(1)
        return F.normalize(self.proj(x), dim=-1)


def tower(b):
    m, x = Tower(3, 32, 49, 768, 12, 12, 512, 1), torch.randn(b, 3, 224, 224)
    return phases(lambda: m(x), tuple(m.parameters()))


class Text(torch.nn.Module):
    def __init__(self, vocab, length, d, h, depth, out):
        super().__init__()
        self.emb = torch.nn.Embedding(vocab, d)
        self.pos = torch.nn.Parameter(torch.zeros(length, d))
        self.blocks = torch.nn.ModuleList([Block(d, h) for _ in range(depth)])
        self.norm, self.proj = torch.nn.LayerNorm(d), torch.nn.Linear(d, out, bias=False)

    def forward(self, ids, mask):
        x = self.emb(ids) + self.pos[: ids.shape[1]]
        for b in self.blocks:
            x = b(x, mask[:, None, None, :])
        x = self.norm(x)
        w = mask[..., None].float()
        return F.normalize(self.proj((x * w).sum(1) / w.sum(1)), dim=-1)


def demo_step(b):
    """The demo's model and batch: see plait's side for the sizes, which come from its config."""
    import demo_sizes as z

    i, t = z.IMAGE, z.TEXT
    flat = i["pool"] == "flat"
    image = Tower(1, i["patch"], z.TOKENS, i["width"], i["heads"], i["layers"], z.EMBED, 0, flat)
    text = Text(t["vocabulary"], t["length"], t["width"], t["heads"], t["layers"], z.EMBED)
    scale = torch.nn.Parameter(torch.tensor(2.6))
    parameters = [*image.parameters(), *text.parameters(), scale]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    x = torch.randn(b, 1, i["size"], i["size"])
    lengths = torch.tensor(z.lengths(b))
    longest = int(lengths.max())
    mask = torch.arange(longest)[None] < lengths[:, None]
    ids = torch.randint(0, t["vocabulary"], (b, longest))
    labels = torch.arange(b)

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = scale.exp() * image(x) @ text(ids, mask).T
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return {"step": 1e3 * median(step, seconds=4)}


if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.manual_seed(0)
    kind, sizes = CASES[sys.argv[1]]
    print(json.dumps(globals()[kind](**sizes)))
