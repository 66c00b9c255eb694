"""PyTorch's models of the cases: transformers' CLIP and BERT, and modules with the names of ``weights.shapes``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from comparison.job import Absent

__all__ = ["arguments", "model"]


class CrossAttention(nn.Module):
    """Attention of x to a context; fused, or with the weights in memory and dropout on them, as fairseq has it."""

    def __init__(self, width, heads, dropout=0.0, fused=True):
        super().__init__()
        self.heads, self.dropout, self.fused = heads, dropout, fused
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, x, context):
        k, v = self.kv(context).chunk(2, -1)
        return self.out(attend(self, self.q(x), k, v))


class SelfAttention(nn.Module):
    def __init__(self, width, heads, dropout=0.0, fused=True):
        super().__init__()
        self.heads, self.dropout, self.fused = heads, dropout, fused
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        return self.out(attend(self, *self.qkv(x).chunk(3, -1)))


def attend(module, q, k, v):
    batch, _, width = q.shape
    q, k, v = (y.view(batch, -1, module.heads, width // module.heads).transpose(1, 2) for y in (q, k, v))
    dropout = module.dropout if module.training else 0.0
    if module.fused:
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    else:
        weights = F.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(2, 3), dim=-1)
        y = F.dropout(weights, dropout) @ v
    return y.transpose(1, 2).reshape(batch, -1, width)


class MLP(nn.Module):
    def __init__(self, width, activation):
        super().__init__()
        self.fc1, self.fc2, self.activation = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), activation

    def forward(self, x):
        return self.fc2(self.activation(self.fc1(x)))


class CrossBlock(nn.Module):
    """Pre-norm cross-attention and MLP; MulT's normalises the context too, with the same norm."""

    def __init__(self, width, heads, activation=F.gelu, norm_context=False, **options):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = CrossAttention(width, heads, **options), MLP(width, activation)
        self.norm_context = norm_context

    def forward(self, x, context):
        x = x + self.attention(self.norm1(x), self.norm1(context) if self.norm_context else context)
        return x + self.mlp(self.norm2(x))


class SelfBlock(nn.Module):
    def __init__(self, width, heads, **options):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mlp = SelfAttention(width, heads, **options), MLP(width, F.relu)

    def forward(self, x, _=None):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Blocks(nn.Module):
    """Blocks and the last norm."""

    def __init__(self, blocks, width):
        super().__init__()
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(width)

    def forward(self, x, context=None):
        for block in self.blocks:
            x = block(x, context)
        return self.norm(x)


class MulT(nn.Module):
    """Multimodal transformer (Tsai et al., arXiv 1906.00295): six directions, three targets, a head of two layers."""

    def __init__(self, z):
        super().__init__()
        width, heads = z["width"], z["heads"]
        options = {"dropout": z["dropout"], "fused": z["fused"]}
        self.project = nn.ModuleList([nn.Linear(w, width, bias=False) for w in z["widths"]])
        cross = {"activation": F.relu, "norm_context": True, **options}
        self.cross = nn.ModuleList(
            [Blocks([CrossBlock(width, heads, **cross) for _ in range(z["layers"])], width) for _ in range(6)]
        )
        self.own = nn.ModuleList(
            [Blocks([SelfBlock(2 * width, heads, **options) for _ in range(z["own"])], 2 * width) for _ in range(3)]
        )
        self.fc1, self.fc2, self.out = nn.Linear(6 * width, 6 * width), nn.Linear(6 * width, 6 * width), None
        self.out = nn.Linear(6 * width, 1)
        self.width = width

    def forward(self, x0, x1, x2, positions, own_positions):
        def placed(x, table):
            return x * x.shape[-1] ** 0.5 + table[: x.shape[1]]

        xs = [placed(p(x), positions) for p, x in zip(self.project, (x0, x1, x2), strict=True)]
        last = []
        for i, x in enumerate(xs):
            others = [j for j in range(3) if j != i]
            seen = [self.cross[2 * i + n](x, xs[j]) for n, j in enumerate(others)]
            y = self.own[i](placed(torch.cat(seen, -1), own_positions))
            last.append(y[:, -1])
        last = torch.cat(last, 1)
        return self.out(self.fc2(F.relu(self.fc1(last))) + last)


class Attention(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.causal = causal

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)


class InfoNCE(nn.Module):
    def __init__(self):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(2.6))

    def forward(self, a, b):
        logits = self.logit_scale.exp() * a @ b.T
        labels = torch.arange(len(a))
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


class TensorFusion(nn.Module):
    """Outer product of three vectors, each with a 1 behind it (Zadeh et al., arXiv 1707.07250)."""

    def __init__(self, z):
        super().__init__()
        self.out = nn.Linear((z["width"] + 1) ** 3, z["out"])

    def forward(self, *xs):
        a, b, c = (torch.cat([x, torch.ones_like(x[:, :1])], 1) for x in xs)
        ab = (a[:, :, None] * b[:, None, :]).flatten(1)
        return F.relu(self.out((ab[:, :, None] * c[:, None, :]).flatten(1)))


class LowRankFusion(nn.Module):
    """The same with a weight of low rank (Liu et al., arXiv 1806.00064)."""

    def __init__(self, z):
        super().__init__()
        self.rank, self.width = z["rank"], z["out"]
        self.factor = nn.ModuleList([nn.Linear(z["width"], z["rank"] * z["out"]) for _ in range(3)])
        self.ranks, self.bias = nn.Parameter(torch.zeros(z["rank"], 1)), nn.Parameter(torch.zeros(z["out"]))

    def forward(self, *xs):
        a, b, c = (f(x).view(-1, self.rank, self.width) for f, x in zip(self.factor, xs, strict=True))
        return (a * b * c * self.ranks).sum(1) + self.bias


class GatedFusion(nn.Module):
    """Gated multimodal unit (Arevalo et al., arXiv 1702.01992)."""

    def __init__(self, z):
        super().__init__()
        d = z["width"]
        self.a, self.b, self.gate = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(2 * d, d)

    def forward(self, a, b):
        gate = torch.sigmoid(self.gate(torch.cat([a, b], 1)))
        return gate * torch.tanh(self.a(a)) + (1 - gate) * torch.tanh(self.b(b))


class BilinearFusion(nn.Module):
    """Factorised bilinear pooling (Yu et al., arXiv 1708.01471), to unit length, without the power norm."""

    def __init__(self, z):
        super().__init__()
        self.factor, self.width = z["factor"], z["out"]
        out = z["factor"] * z["out"]
        self.a, self.b = nn.Linear(z["width"], out), nn.Linear(z["width"], out)

    def forward(self, a, b):
        y = (self.a(a) * self.b(b)).view(-1, self.width, self.factor).sum(2)
        return F.normalize(y, dim=-1)


class Image(nn.Module):
    """CLIP's image tower to its vectors."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, pixels):
        return self.tower(pixel_values=pixels).image_embeds


class Text(nn.Module):
    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, ids):
        return self.tower(input_ids=ids).text_embeds


class Both(nn.Module):
    """CLIP to its contrastive loss."""

    def __init__(self, clip):
        super().__init__()
        self.clip = clip

    def forward(self, pixels, ids):
        return self.clip(pixel_values=pixels, input_ids=ids, return_loss=True).loss


class Sentences(nn.Module):
    """BERT, the mean of the real tokens, unit length."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, ids, mask):
        rows = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(rows.dtype)
        return F.normalize((rows * weight).sum(1) / weight.sum(1), dim=-1)


PARTS = {
    "cross": lambda z: CrossBlock(z["width"], z["heads"]),
    "attention": lambda z: Attention(z["causal"]),
    "mult": MulT,
    "info_nce": lambda z: InfoNCE(),
    "fusion_tensor": TensorFusion,
    "fusion_low_rank": LowRankFusion,
    "fusion_gated": GatedFusion,
    "fusion_bilinear": BilinearFusion,
}
TRANSFORMERS = {
    "clip_image": ("CLIPVisionModelWithProjection", Image),
    "clip_text": ("CLIPTextModelWithProjection", Text),
    "clip": ("CLIPModel", Both),
    "minilm": ("BertModel", Sentences),
}


def model(case, folder, state):
    """The module of a case with its weights; `folder` is its checkpoint, `state` its arrays where it has none."""
    if case.kind in TRANSFORMERS:
        try:
            import transformers
        except ImportError as e:
            raise Absent(f"needs transformers: {e}") from None
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        name, wrap = TRANSFORMERS[case.kind]
        options = {"add_pooling_layer": False} if name == "BertModel" else {}
        loaded = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32, **options)
        if case.sizes.get("checkpoint"):  # torch.utils.checkpoint.checkpoint around each layer
            loaded.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return wrap(loaded).train(case.phase == "step")
    made = PARTS[case.kind](case.sizes)
    made.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=case.kind != "info_nce")
    return made.train(case.phase != "forward")


def arguments(case, found):
    """(tensors that the module is called with, dy or None); attention's have the heads before the rows."""
    given = {name: torch.from_numpy(x) for name, x in found.items() if name not in ("dy", "target")}
    dy = torch.from_numpy(found["dy"]) if "dy" in found else None
    if case.kind == "attention":
        given = {name: x.transpose(1, 2).contiguous() for name, x in given.items()}
        dy = dy.transpose(1, 2).contiguous()
    return given, dy
