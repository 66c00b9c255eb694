"""Twin of the optimiser's step."""

from __future__ import annotations

import numpy as np


def adamw(p, g, m, v, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, step=1):
    """New p, m, v after step number ``step``, from 1 on, with gradient g. Loshchilov & Hutter, arXiv 1711.05101."""
    p, g, m, v = (np.asarray(x, np.float64) for x in (p, g, m, v))
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    update = (m / (1 - betas[0] ** step)) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
    return (1 - lr * weight_decay) * p - lr * update, m, v
