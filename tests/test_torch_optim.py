"""Optimisers against PyTorch's: the classes with groups, clipping and tied parameters, and the bare kernels."""

import numpy as np
import pytest
from test_optim import KINDS, SHAPES, STEPS, Bag, groups_of, loss_of, slopes

from plait import _core

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("kind", KINDS)
def test_classes(kind):
    cls, options = KINDS[kind]
    bag = Bag()
    theirs = {n: torch.nn.Parameter(torch.from_numpy(getattr(bag, n).data.copy())) for n in SHAPES}
    groups = [
        {"params": [theirs["matrix"], theirs["tied"]], "weight_decay": 0.1},
        {"params": [theirs["vector"], theirs["scalar"], theirs["unused"]], "lr": 3e-3, "weight_decay": 0.0},
    ]
    other = (torch.optim.AdamW if kind == "adamw" else torch.optim.SGD)(groups, lr=1e-2, **options)
    optimizer = cls(groups_of(bag), lr=1e-2, max_grad_norm=5.0, **options)
    for step in range(STEPS):
        loss_of(bag, step).backward()
        optimizer.step()
        optimizer.zero_grad()
        loss = 0.0
        for n, g in slopes(step).items():
            if n not in ("unused", "frozen"):
                loss = loss + (theirs["tied" if n == "again" else n] * torch.from_numpy(np.asarray(g))).sum()
        other.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in theirs.values() if p.grad is not None], 5.0)
        other.step()
    for name in SHAPES:
        np.testing.assert_allclose(
            getattr(bag, name).data, theirs[name].detach().numpy(), rtol=2e-5, atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize("which", ["adamw", "sgd", "nesterov"])
def test_kernels(which):
    n, steps = 333, 20
    rng = np.random.default_rng(1)
    p = rng.standard_normal(n).astype(np.float32)
    m, v = np.zeros_like(p), np.zeros_like(p)
    theirs = torch.nn.Parameter(torch.from_numpy(p.copy()))
    if which == "adamw":
        optimizer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), eps=1e-7, weight_decay=0.1)
    else:
        optimizer = torch.optim.SGD([theirs], lr=0.01, momentum=0.9, nesterov=which == "nesterov", weight_decay=0.1)
    for step in range(1, steps + 1):
        g = rng.standard_normal(n).astype(np.float32)
        theirs.grad = torch.from_numpy(g.copy())
        optimizer.step()
        if which == "adamw":
            _core.adamw_step(p, g, m, v, [(0, n, 0.01, 0.1)], 0.9, 0.95, 1e-7, step, 1.0)
        else:
            _core.sgd_step(p, g, m, [(0, n, 0.01, 0.1)], 0.9, which == "nesterov", 1.0)
    np.testing.assert_allclose(p, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
