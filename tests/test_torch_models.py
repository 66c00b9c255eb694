"""The dual encoder against PyTorch: CLIP as published, written with torch.nn, with the same weights."""

import numpy as np
import pytest

import plait

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the comparison environment has it")
F = torch.nn.functional

WIDTH, HEADS, LAYERS, EMBED, SIZE, PATCH, TOKENS, LENGTH = 32, 4, 2, 24, 16, 8, 50, 9
CONFIG = {
    "type": "dual_encoder",
    "config": {
        "embed_dim": EMBED,
        "image": {
            "size": SIZE, "channels": 3, "patch": PATCH, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3],
            "width": WIDTH, "layers": LAYERS, "heads": HEADS, "activation": "quick_gelu", "class_token": True,
            "patch_bias": False, "input_norm": True, "pool": "first", "position_std": 0.5,
        },
        "text": {
            "vocabulary": TOKENS, "length": LENGTH, "width": WIDTH, "layers": LAYERS, "heads": HEADS,
            "activation": "quick_gelu", "causal": True, "pool": "last", "embed_std": 0.5, "position_std": 0.5,
        },
    },
}  # fmt: skip


class Block(torch.nn.Module):
    """Radford et al., arXiv 2103.00020: pre-norm, QuickGELU."""

    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.attn = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.c_fc, self.c_proj = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, mask=None):
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False, attn_mask=mask)[0]
        h = self.c_fc(self.ln_2(x))
        return x + self.c_proj(h * torch.sigmoid(1.702 * h))


class CLIP(torch.nn.Module):
    def __init__(self):
        super().__init__()
        rows = (SIZE // PATCH) ** 2 + 1
        self.conv1 = torch.nn.Conv2d(3, WIDTH, PATCH, stride=PATCH, bias=False)
        self.class_embedding = torch.nn.Parameter(torch.zeros(WIDTH))
        self.image_positions = torch.nn.Parameter(torch.zeros(rows, WIDTH))
        self.ln_pre, self.ln_post = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.image_blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))
        self.image_projection = torch.nn.Linear(WIDTH, EMBED, bias=False)
        self.token_embedding = torch.nn.Embedding(TOKENS, WIDTH)
        self.text_positions = torch.nn.Parameter(torch.zeros(LENGTH, WIDTH))
        self.text_blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_final = torch.nn.LayerNorm(WIDTH)
        self.text_projection = torch.nn.Linear(WIDTH, EMBED, bias=False)
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))

    def encode_image(self, images):
        x = (images / 255 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.25, 0.3])
        x = self.conv1(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.image_positions
        x = self.ln_pre(x)
        for block in self.image_blocks:
            x = block(x)
        return F.normalize(self.image_projection(self.ln_post(x[:, 0])), dim=-1)

    def encode_text(self, ids, lengths):
        x = self.token_embedding(ids) + self.text_positions[: ids.shape[1]]
        mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)
        for block in self.text_blocks:
            x = block(x, mask)
        return F.normalize(self.text_projection(self.ln_final(x)[torch.arange(len(x)), lengths - 1]), dim=-1)


def names():
    """(plait, torch) for every weight."""
    yield from (
        ("image.patches.weight", "conv1.weight"),
        ("image.class_token", "class_embedding"),
        ("image.positions", "image_positions"),
        ("image.norm.weight", "ln_pre.weight"),
        ("image.norm.bias", "ln_pre.bias"),
        ("image.encoder.norm.weight", "ln_post.weight"),
        ("image.encoder.norm.bias", "ln_post.bias"),
        ("image.projection.weight", "image_projection.weight"),
        ("text.tokens.weight", "token_embedding.weight"),
        ("text.positions", "text_positions"),
        ("text.encoder.norm.weight", "ln_final.weight"),
        ("text.encoder.norm.bias", "ln_final.bias"),
        ("text.projection.weight", "text_projection.weight"),
        ("logit_scale", "logit_scale"),
    )
    parts = {"norm1": "ln_1", "norm2": "ln_2", "attention.out": "attn.out_proj", "mlp.fc1": "c_fc", "mlp.fc2": "c_proj"}
    for tower in ("image", "text"):
        for i in range(LAYERS):
            for kind in ("weight", "bias"):
                yield f"{tower}.encoder.blocks.{i}.attention.qkv.{kind}", f"{tower}_blocks.{i}.attn.in_proj_{kind}"
                for ours, theirs in parts.items():
                    yield f"{tower}.encoder.blocks.{i}.{ours}.{kind}", f"{tower}_blocks.{i}.{theirs}.{kind}"


@pytest.fixture
def pair():
    """A model, and CLIP with its weights; biases and norms are not at their initial 0 and 1."""
    model, clip = plait.create_model(CONFIG, seed=0), CLIP()
    rng = np.random.default_rng(1)
    parameters = dict(model.named_parameters())
    own = dict(clip.named_parameters())
    assert set(parameters) == {a for a, _ in names()}
    assert set(own) == {b for _, b in names()}
    for ours, theirs in names():
        p = parameters[ours]
        if p.ndim == 1:
            p.assign(p.data + rng.normal(0, 0.2, p.shape).astype(np.float32))
        with torch.no_grad():
            own[theirs].copy_(torch.tensor(p.numpy()).reshape(own[theirs].shape))
    return model, clip


def batch(seed, n=7):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)
    lengths = rng.integers(1, LENGTH + 1, n)
    texts = [rng.integers(0, TOKENS, k) for k in lengths]
    padded = np.zeros((n, lengths.max()), np.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = text
    return images, texts, torch.tensor(images.astype(np.float32)), torch.tensor(padded), torch.tensor(lengths)


def torch_loss(clip, images, ids, lengths):
    logits = clip.logit_scale.exp() * clip.encode_image(images) @ clip.encode_text(ids, lengths).T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def test_embeddings_and_gradients_are_those_of_clip(pair):
    model, clip = pair
    images, texts, t_images, ids, lengths = batch(0)
    a, b = model.encode_image(images), model.encode_text(texts)
    np.testing.assert_allclose(a.data, clip.encode_image(t_images).detach().numpy(), rtol=0, atol=2e-6)
    np.testing.assert_allclose(b.data, clip.encode_text(ids, lengths).detach().numpy(), rtol=0, atol=2e-6)
    plait.losses.info_nce(a, b, model.logit_scale).backward()
    torch_loss(clip, t_images, ids, lengths).backward()
    parameters, own = dict(model.named_parameters()), dict(clip.named_parameters())
    for ours, theirs in names():
        grad, due = parameters[ours].grad, own[theirs].grad.numpy().reshape(parameters[ours].shape)
        assert np.linalg.norm(grad - due) <= 2e-5 * np.linalg.norm(due), ours


def test_twenty_steps_of_training_follow_those_of_pytorch(pair):
    model, clip = pair
    groups = plait.optim.decay_groups(model, 0.2)
    optimizer = plait.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.98), max_grad_norm=1.0)
    schedule = plait.optim.Schedule(optimizer, plait.optim.warmup_cosine(total=20, warmup=5))
    decayed = [p for p in clip.parameters() if p.ndim >= 2]
    rest = [p for p in clip.parameters() if p.ndim < 2 and p is not clip.class_embedding]
    t_optimizer = torch.optim.AdamW(
        # our class token is a row, (1, width), and decays as a matrix
        [{"params": [*decayed, clip.class_embedding], "weight_decay": 0.2}, {"params": rest, "weight_decay": 0.0}],
        lr=3e-3,
        betas=(0.9, 0.98),
    )
    factor = plait.optim.warmup_cosine(total=20, warmup=5)
    for step in range(20):
        images, texts, *theirs = batch(step % 3)
        loss = plait.losses.info_nce(model.encode_image(images), model.encode_text(texts), model.logit_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        for group in t_optimizer.param_groups:
            group["lr"] = 3e-3 * factor(step)
        t_loss = torch_loss(clip, *theirs)
        t_optimizer.zero_grad()
        t_loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        t_optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=np.log(100))
        assert loss.item() == pytest.approx(t_loss.item(), rel=2e-3), step
    assert loss.item() < 0.5
