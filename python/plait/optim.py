"""Optimisers over one flat arena.

An optimiser gathers the trainable parameters (tied ones once) into one array of values and one of gradients, each
parameter a 64-byte aligned segment. A step is one pass over them in the C core. Frozen parameters stay where they are
and cost nothing.
"""

from __future__ import annotations

import math

import numpy as np

from plait import _core
from plait._precision import refuse_copies
from plait.nn.module import Module
from plait.nn.parameter import Parameter

__all__ = ["SGD", "AdamW", "Optimizer", "Schedule", "decay_groups", "layer_groups", "warmup_cosine", "warmup_linear"]

_ALIGN = 16  # floats


def _positive(name, value, zero=False):
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} is {value}, expected a finite number {'of at least' if zero else 'above'} 0")
    return float(value)


def decay_groups(model: Module, weight_decay: float = 0.01, exclude=()) -> list:
    """Two groups: matrices with weight decay; vectors and scalars (biases, norms, temperatures) without.

    Parameters
    ----------
    model : Module
    weight_decay : float
    exclude : iterable of str
        Matrices with one of these words in their name are not decayed either: ``"positions"`` takes out
        ``text.positions``, ``"tokens"`` takes out ``text.tokens.weight``.

    Examples
    --------
    >>> import plait
    >>> groups = plait.optim.decay_groups(plait.nn.Linear(4, 2), 0.1)
    >>> [(len(g["params"]), g["weight_decay"]) for g in groups]
    [(1, 0.1), (1, 0.0)]
    """
    if isinstance(exclude, str):
        raise TypeError(f"decay_groups: exclude is {exclude!r}, expected a list of words")
    refuse_copies("decay_groups", model)
    names = [name.split(".") for name, _ in model.named_parameters()]
    unknown = [word for word in exclude if not any(word in parts for parts in names)]
    if unknown:
        raise ValueError(f"decay_groups: exclude has {unknown[0]!r}, which is in no name of a parameter")
    spared = {id(p) for name, p in model.named_parameters() if p.ndim < 2 or set(exclude) & set(name.split("."))}
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) in spared], "weight_decay": 0.0},
    ]


def layer_groups(model: Module, lr: float, decay: float = 0.75, weight_decay: float = 0.01, exclude=()) -> list:
    """Groups with a learning rate for each layer: what lies deeper in a pretrained tower changes less.

    What comes after the blocks of a tower, and what is in no tower, gets `lr`; the last block ``lr * decay``, the one
    before it ``lr * decay ** 2``, and so on to the embeddings (Clark et al., arXiv 2003.10555; He et al., arXiv
    2111.06377). Within a layer weight decay is as in ``decay_groups``.

    Parameters
    ----------
    model : Module
        Its towers are the modules with ``depth_of(name)`` and ``encoder.blocks``, as those of ``plait.load``.
    lr : float
    decay : float
        Above 0 and at most 1.
    weight_decay, exclude
        As in ``decay_groups``.

    Examples
    --------
    >>> import plait
    >>> model = plait.create_model("glyph-tiny")       # two blocks in its image tower, one in its text tower
    >>> sorted({round(g["lr"], 6) for g in plait.optim.layer_groups(model, lr=1e-3, decay=0.5)})
    [0.000125, 0.00025, 0.0005, 0.001]
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer_groups: decay is {decay}, expected above 0 and at most 1")
    rates = {}
    for _, module in model.named_modules():
        if hasattr(module, "depth_of"):
            above = len(module.encoder.blocks) + 1
            for name, p in module.named_parameters():
                rates[id(p)] = lr * decay ** (above - module.depth_of(name))
    groups: dict = {}
    for plain in decay_groups(model, weight_decay, exclude):
        for p in plain["params"]:
            key = (rates.get(id(p), lr), plain["weight_decay"])
            groups.setdefault(key, []).append(p)
    return [{"params": ps, "lr": rate, "weight_decay": wd} for (rate, wd), ps in groups.items()]


class Optimizer:
    """What AdamW and SGD share: groups, the arena, clipping, state.

    A parameter belongs to the optimiser that gathered it last; the ``step`` of an earlier one refuses.
    """

    moments: tuple[str, ...] = ()  # names of per-value state arrays
    group_options = ("lr", "weight_decay")

    def __init__(self, model, lr, weight_decay, max_grad_norm):
        name = type(self).__name__
        self.max_grad_norm = None if max_grad_norm is None else _positive(f"{name}: max_grad_norm", max_grad_norm)
        self.grad_norm = None
        defaults = {
            "lr": _positive(f"{name}: lr", lr, zero=True),
            "weight_decay": _positive(f"{name}: weight_decay", weight_decay, zero=True),
        }
        self.groups = self._make_groups(model, defaults)
        self._gather()

    def _make_groups(self, model, defaults):
        given = list(self._parameters_of(model))
        if not given:
            raise ValueError(f"{type(self).__name__}: no parameters were given")
        if not isinstance(given[0], dict):
            given = [{"params": given}]
        groups, seen = [], set()
        for g in given:
            unknown = set(g) - {"params", *self.group_options}
            if "params" not in g or unknown:
                raise ValueError(
                    f"{type(self).__name__}: a group has keys {sorted(g)}, expected params and any of "
                    f"{', '.join(self.group_options)}"
                )
            params = []
            for p in self._parameters_of(g["params"]):
                if not isinstance(p, Parameter):
                    raise TypeError(f"{type(self).__name__}: a group holds {type(p).__name__}, expected Parameter")
                if p.requires_grad and id(p) not in seen:
                    seen.add(id(p))
                    params.append(p)
            options = {
                k: _positive(f"{type(self).__name__}: {k} of a group", g[k], zero=True) if k in g else defaults[k]
                for k in self.group_options
            }
            groups.append({"params": params, **options})
        if not seen:
            raise ValueError(f"{type(self).__name__}: every parameter is frozen, as those of a copy by `to` are")
        return groups

    def _parameters_of(self, given):
        if not isinstance(given, Module):
            return given
        refuse_copies(type(self).__name__, given)
        return given.parameters()

    def _gather(self):
        self._params, self._spans, size = [], [], 0
        for index, group in enumerate(self.groups):
            for p in group["params"]:
                self._params.append((p, index))
                self._spans.append((size, size + p.size))
                size += -(-p.size // _ALIGN) * _ALIGN
        self.values = _zeros(size)
        self.gradients = _zeros(size)
        for name in self.moments:
            setattr(self, name, _zeros(size))
        for (p, _), (a, b) in zip(self._params, self._spans, strict=True):
            p._house_in(self.values, self.gradients, slice(a, b))
        self._steps = [0] * len(self._params)

    @property
    def lr(self) -> float:
        """Learning rate of the first group; setting it sets all groups."""
        return self.groups[0]["lr"]

    @lr.setter
    def lr(self, value):
        value = _positive("lr", value, zero=True)
        for group in self.groups:
            group["lr"] = value

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for p, _ in self._params:
            p._valid = False

    def step(self) -> None:
        """Updates every parameter that has a gradient; parameters without one stay as they are.

        With ``max_grad_norm`` gradients are scaled down so that their global norm does not exceed it;
        ``grad_norm`` then holds the norm before scaling.

        Raises
        ------
        FloatingPointError
            With ``max_grad_norm``: the gradient norm is not finite. Nothing was updated.
        """
        segments: dict[int, list] = {}  # step number -> merged segments
        if any(p._arena is not self.values for p, _ in self._params):
            raise RuntimeError("step: another optimiser has gathered a parameter of this one since; use that one")
        for i, ((p, g), (a, b)) in enumerate(zip(self._params, self._spans, strict=True)):
            if not p._valid:
                continue
            self._steps[i] += 1
            group = self.groups[g]
            row = segments.setdefault(self._steps[i], [])
            # the gap behind a segment is zero and stays zero, so neighbours may be merged over it
            if row and row[-1][1] + _ALIGN > a and row[-1][2:] == (group["lr"], group["weight_decay"]):
                row[-1] = (row[-1][0], b, *row[-1][2:])
            else:
                row.append((a, b, group["lr"], group["weight_decay"]))
        if not segments:
            raise RuntimeError("step: no parameter has a gradient; call backward first")
        scale = 1.0
        if self.max_grad_norm is not None:
            spans = [(a, b) for rows in segments.values() for a, b, _, _ in rows]
            self.grad_norm = math.sqrt(_core.sum_squares(self.gradients, spans))
            if not math.isfinite(self.grad_norm):
                for i, (p, _) in enumerate(self._params):
                    self._steps[i] -= p._valid
                raise FloatingPointError(f"step: the gradient norm is {self.grad_norm}; nothing was updated")
            scale = min(1.0, self.max_grad_norm / max(self.grad_norm, 1e-12))
        # As Parameter.touch() does, but the core drops or renews packed forms in the call that writes: wherever Ctrl-C
        # comes between, no form is of another value than its version says.
        weights = []
        for (p, _), (a, _) in zip(self._params, self._spans, strict=True):
            if p._valid:
                p.version += 1
                if p.pack is not None and p.size:
                    weights.append((a, p.shape[0], p.size // p.shape[0], p.pack, p.version))
        for number, rows in segments.items():
            self._update(rows, number, scale, weights)

    def _update(self, segments, step, scale, weights):
        raise NotImplementedError

    # ---- state

    def state_dict(self) -> dict:
        """Arrays by name: what ``load_state_dict`` needs to go on at the same bits."""
        return {
            **{name: getattr(self, name).copy() for name in self.moments},
            "steps": np.array(self._steps, np.int64),
            **{k: np.array([g[k] for g in self.groups], np.float64) for k in self.group_options},
        }

    def load_state_dict(self, state) -> None:
        """Takes the arrays of ``state_dict`` of an optimiser over the same parameters; all of them or none.

        Raises
        ------
        KeyError
            An array is missing or unknown.
        ValueError, TypeError
            One does not fit; the message names it.
        """
        own = self.state_dict()
        missing, unknown = sorted(set(own) - set(state)), sorted(set(state) - set(own))
        if missing or unknown:
            raise KeyError(f"load_state_dict: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
        arrays = {}
        for name, array in own.items():
            value = arrays[name] = np.asarray(state[name])
            if value.shape != array.shape:
                raise ValueError(f"load_state_dict: {name} has shape {value.shape}, expected {array.shape}")
            if not np.can_cast(value.dtype, array.dtype, "same_kind"):
                raise TypeError(f"load_state_dict: {name} has dtype {value.dtype}, expected {array.dtype}")
            if name not in self.moments and not (np.isfinite(value).all() and (value >= 0).all()):
                raise ValueError(f"load_state_dict: {name} holds {value.min()}, expected finite numbers of at least 0")
        for name in self.moments:
            getattr(self, name)[...] = arrays[name]
        self._steps = [int(n) for n in arrays["steps"]]
        for k in self.group_options:
            for group, value in zip(self.groups, arrays[k], strict=True):
                group[k] = float(value)


def _zeros(size):
    array = _core.empty((size,))
    array[...] = 0
    return array


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101).

    Parameters
    ----------
    model : Module, iterable of Parameter, or list of groups
        A group is a dict with ``params`` (a Module or parameters) and any of ``lr``, ``weight_decay``. Frozen
        parameters are left out; one that is in several groups belongs to the first.
    lr : float
    betas : (float, float)
    eps : float
    weight_decay : float
        Applied to every parameter, as in PyTorch; see ``decay_groups``.
    max_grad_norm : float, optional
        Clips the global norm of the gradients.

    Examples
    --------
    >>> import numpy as np, plait
    >>> layer = plait.nn.Linear(4, 1)
    >>> optimizer = plait.optim.AdamW(layer, lr=1e-2)
    >>> loss = layer(np.ones((8, 4), np.float32)).mean()
    >>> loss.backward(); optimizer.step(); optimizer.zero_grad()
    """

    moments = ("m", "v")

    def __init__(self, model, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_grad_norm=None):
        try:
            self.betas = tuple(_positive("betas", b, zero=True) for b in betas)
        except (TypeError, ValueError):
            self.betas = ()
        if len(self.betas) != 2 or max(self.betas) >= 1:
            raise ValueError(f"AdamW: betas is {betas!r}, expected two numbers of at least 0 and below 1")
        self.eps = _positive("AdamW: eps", eps)
        super().__init__(model, lr, weight_decay, max_grad_norm)

    def _update(self, segments, step, scale, weights):
        numbers = (self.betas[0], self.betas[1], self.eps, step, scale)
        _core.adamw_step(self.values, self.gradients, self.m, self.v, segments, *numbers, weights)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (as in PyTorch: v = momentum v + g, p -= lr v).

    Parameters
    ----------
    model : Module, iterable of Parameter, or list of groups
    lr : float
    momentum : float
    nesterov : bool
    weight_decay : float
        Added to the gradient (L2), after clipping.
    max_grad_norm : float, optional
        Clips the global norm of the gradients.

    Examples
    --------
    >>> import plait
    >>> p = plait.nn.Parameter([1.0, 2.0])
    >>> optimizer = plait.optim.SGD([p], lr=0.5)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.data
    array([0., 0.], dtype=float32)
    """

    moments = ("m",)

    def __init__(self, model, lr=1e-2, momentum=0.0, nesterov=False, weight_decay=0.0, max_grad_norm=None):
        self.momentum = _positive("SGD: momentum", momentum, zero=True)
        if self.momentum >= 1:
            raise ValueError(f"SGD: momentum is {momentum}, expected at least 0 and below 1")
        if nesterov and not self.momentum:
            raise ValueError("SGD: nesterov needs momentum")
        self.nesterov = bool(nesterov)
        super().__init__(model, lr, weight_decay, max_grad_norm)

    def _update(self, segments, step, scale, weights):
        _core.sgd_step(self.values, self.gradients, self.m, segments, self.momentum, self.nesterov, scale, weights)


# ---------------------------------------------------------------- schedules


class Schedule:
    """Sets the learning rates of an optimiser to their initial values times ``factor(step)``.

    Parameters
    ----------
    optimizer : Optimizer
    factor : callable
        step number, from 0 -> factor.

    Notes
    -----
    The initial values are those of the groups when the schedule is made: make it before ``load_state_dict`` of the
    optimiser, and go to the step with ``set``.

    Examples
    --------
    >>> import plait
    >>> optimizer = plait.optim.SGD(plait.nn.Linear(2, 2), lr=0.1)
    >>> schedule = plait.optim.Schedule(optimizer, plait.optim.warmup_linear(total=10, warmup=2))
    >>> rates = [optimizer.lr]
    >>> for _ in range(3):
    ...     schedule.step()                    # after optimizer.step()
    ...     rates.append(round(optimizer.lr, 4))
    >>> rates
    [0.05, 0.1, 0.1, 0.0875]
    """

    def __init__(self, optimizer, factor):
        if not isinstance(optimizer, Optimizer) or not callable(factor):
            raise TypeError(
                f"Schedule: got {type(optimizer).__name__} and {type(factor).__name__}, expected an optimiser and a "
                "function of the step number"
            )
        self.optimizer = optimizer
        self.factor = factor
        self.base = [g["lr"] for g in optimizer.groups]
        self.number = -1
        self.step()

    def step(self) -> None:
        """Goes on to the next step; call it after ``optimizer.step()``."""
        self.set(self.number + 1)

    def set(self, number: int) -> None:
        """Goes to a step, for resuming."""
        factor = _positive(f"Schedule: factor({number})", self.factor(number), zero=True)
        self.number = number
        for group, base in zip(self.optimizer.groups, self.base, strict=True):
            group["lr"] = base * factor


def _check_schedule(name, total, warmup, final):
    for what, value, least in (("total", total, 1), ("warmup", warmup, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name}: {what} is {value!r}, expected a whole number of at least {least}")
    if warmup > total:
        raise ValueError(f"{name}: warmup is {warmup}, expected at most total, {total}")
    _positive(f"{name}: final", final, zero=True)


def warmup_cosine(total: int, warmup: int = 0, final: float = 0.0):
    """Factor that rises linearly over ``warmup`` steps and falls as a half cosine to ``final`` at ``total``.

    Loshchilov & Hutter, arXiv 1608.03983, without restarts.

    Parameters
    ----------
    total, warmup : int
        Steps; the factor stays at ``final`` after ``total``.
    final : float

    Examples
    --------
    >>> import plait
    >>> factor = plait.optim.warmup_cosine(total=10, warmup=2)
    >>> [round(factor(i), 2) for i in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    _check_schedule("warmup_cosine", total, warmup, final)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        done = 1.0 if step >= total else (step - warmup) / (total - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def warmup_linear(total: int, warmup: int = 0, final: float = 0.0):
    """Factor that rises linearly over ``warmup`` steps and falls linearly to ``final`` at ``total``.

    Parameters
    ----------
    total, warmup : int
        Steps; the factor stays at ``final`` after ``total``.
    final : float

    Examples
    --------
    >>> import plait
    >>> factor = plait.optim.warmup_linear(total=10, warmup=2, final=0.2)
    >>> [round(factor(i), 2) for i in (0, 1, 2, 6, 10, 11)]
    [0.5, 1.0, 1.0, 0.6, 0.2, 0.2]
    """
    _check_schedule("warmup_linear", total, warmup, final)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        done = 1.0 if step >= total else (step - warmup) / (total - warmup)
        return 1 + (final - 1) * done

    return factor
