"""Module: parameters, buffers and other modules, found by attribute name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plait._array import flag
from plait._precision import ALL, copied, named, refuse_copies
from plait.nn.parameter import Parameter

__all__ = ["Buffer", "LoadResult", "Module"]


class Buffer:
    """State that is saved with a model but not trained.

    Parameters
    ----------
    data : array_like
        Copied, in its own dtype.

    Examples
    --------
    >>> import plait
    >>> class Count(plait.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.calls = plait.nn.Buffer(0)
    ...     def forward(self, x):
    ...         self.calls.assign(self.calls.data + 1)
    ...         return x
    >>> count = Count()
    >>> _ = count(1.0), count(2.0)
    >>> count.state_dict()
    {'calls': array(2)}
    """

    __slots__ = ("data",)

    def __init__(self, data):
        self.data = np.array(data)

    @property
    def shape(self) -> tuple:
        """Of ``data``."""
        return self.data.shape

    def assign(self, value) -> None:
        """Replaces the value; the dtype stays."""
        self.data = np.array(self._fitting("assign", "value", value), dtype=self.data.dtype)

    def _fitting(self, function, name, value):
        value = np.asarray(value)
        if value.shape != self.data.shape:
            raise ValueError(f"{function}: {name} has shape {value.shape}, expected {self.data.shape}")
        if not np.can_cast(value.dtype, self.data.dtype, "same_kind"):
            raise TypeError(f"{function}: {name} has dtype {value.dtype}, expected {self.data.dtype}")
        return value


class LoadResult(NamedTuple):
    """Names that ``load_state_dict(strict=False)`` did not find, and names that it did not use.

    Examples
    --------
    >>> import plait
    >>> layer = plait.nn.Linear(2, 2)
    >>> layer.load_state_dict({"weight": [[1, 0], [0, 1]], "scale": 3}, strict=False)
    LoadResult(missing=['bias'], unexpected=['scale'])
    """

    missing: list
    unexpected: list


class Module:
    """Base class of everything with parameters.

    A subclass sets parameters, buffers and modules (also in lists and dicts) as attributes and defines ``forward``.
    Names follow the attributes: ``blocks.0.mlp.fc1.weight``.

    Examples
    --------
    >>> import numpy as np, plait
    >>> class Head(plait.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = plait.nn.Linear(8, 2)
    ...     def forward(self, x):
    ...         return self.fc(x)
    >>> head = Head()
    >>> sorted(head.state_dict())
    ['fc.bias', 'fc.weight']
    >>> head(np.zeros((3, 8), np.float32)).shape
    (3, 2)
    """

    training = True
    precision = "f32"
    training_precision = "f32"

    def __init__(self):
        self.training = True

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    # ---- walking

    def _members(self):
        for name, value in self.__dict__.items():
            yield from _flatten(name, value)

    def named_modules(self, prefix: str = ""):
        """(name, module) of this module and all below it."""
        yield prefix.rstrip("."), self
        for name, value in self._members():
            if isinstance(value, Module):
                yield from value.named_modules(f"{prefix}{name}.")

    def _named(self, kind, prefix=""):
        for name, value in self._members():
            if isinstance(value, kind):
                yield prefix + name, value
            elif isinstance(value, Module):
                yield from value._named(kind, f"{prefix}{name}.")

    def named_parameters(self):
        """(name, parameter), tied ones under each of their names."""
        return self._named(Parameter)

    def parameters(self) -> list:
        """All parameters, tied ones once."""
        return list({id(p): p for _, p in self._named(Parameter)}.values())

    def named_buffers(self):
        """(name, buffer)."""
        return self._named(Buffer)

    def buffers(self) -> list:
        """All buffers."""
        return [b for _, b in self._named(Buffer)]

    def count_parameters(self, trainable_only: bool = False) -> int:
        """Number of scalars, tied ones counted once."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable_only)

    # ---- state

    def state_dict(self) -> dict:
        """Read-only views of all parameters and buffers by name."""
        state = {name: p.data for name, p in self.named_parameters()}
        for name, buffer in self.named_buffers():
            view = buffer.data.view()
            view.flags.writeable = False
            state[name] = view
        return state

    def load_state_dict(self, state, strict: bool = True) -> LoadResult:
        """Copies arrays into parameters and buffers; nothing is changed when anything does not fit.

        Parameters
        ----------
        state : dict of str to array_like
        strict : bool
            Whether missing and unexpected names are an error.

        Raises
        ------
        KeyError
            Names are missing or unexpected (``strict``).
        ValueError, TypeError
            A shape or a dtype does not fit; the message names the tensor.
        """
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        if strict and (missing or unexpected):
            raise KeyError(f"load_state_dict: missing {_some(missing)}, unexpected {_some(unexpected)}")
        arrays = {n: t._fitting("load_state_dict", n, state[n]) for n, t in own.items() if n in state}
        for name, array in arrays.items():
            own[name].assign(array)
        return LoadResult(missing, unexpected)

    # ---- modes

    def train(self, mode: bool = True, precision: str | None = None):
        """Switches dropout and batch statistics on; returns the module.

        Parameters
        ----------
        mode : bool
            False is ``eval()``. What is a copy in another precision (``to``) inside the model stays in evaluation.
        precision : {"f32", "bf16"} or {"float32", "bfloat16"}, optional
            What linear layers and attention multiply in from now on, forward and backward, also in evaluation: "bf16"
            rounds the operands of their products to bfloat16 (mixed precision, Micikevicius et al., arXiv 1710.03740).
            Weights, sums, statistics, gradients of parameters and what the optimiser works on stay float32. None leaves
            it as it is. On a processor without the instructions a warning says so, and products stay float32. Switch
            between steps: what was recorded before goes backward in the new precision, or is an error where rows were
            kept in the old one.

        Raises
        ------
        ValueError
            The precision is unknown.
        TypeError
            `mode` is no bool.
        RuntimeError
            The model is one for inference, of ``to``.

        Examples
        --------
        >>> import plait
        >>> model = plait.nn.Encoder(depth=2, width=16, heads=4).train(precision="f32")
        >>> model.training_precision
        'f32'
        """
        if flag("train", "mode", mode):
            refuse_copies("train", self)
        if precision is not None:
            from plait.nn.precision import multiply_in

            multiply_in(self, precision)
        for _, module in self.named_modules():
            module.training = bool(mode) and module.precision == "f32"
        return self

    def eval(self):
        """Switches dropout and batch statistics off; returns the module."""
        return self.train(False)

    def freeze(self, frozen: bool = True):
        """Takes all parameters out of training (or back in); make the optimiser afterwards.

        Those of a copy in another precision (``to``) inside the model stay out of it.

        Raises
        ------
        RuntimeError
            `frozen` is False, and the model is such a copy.
        """
        if not frozen:
            refuse_copies("freeze", self)
        kept = copied(self)
        for p in self.parameters():
            p.requires_grad = not frozen and id(p) not in kept
        return self

    def set_checkpointing(self, on: bool = True):
        """Training in less memory: every ``Encoder`` in the model computes its blocks again in backward.

        Gradients stay the same in every bit, a training step takes about a third longer. How a model is trained is no
        part of what it is: this is not saved, and no key of a configuration.

        Parameters
        ----------
        on : bool

        Returns
        -------
        Module
            This one.

        Raises
        ------
        ValueError
            There is no ``Encoder`` in it; ``plait.checkpoint`` does the same for any function.
        TypeError
            `on` is no bool.
        RuntimeError
            The model is one for inference, of ``to``.
        """
        on = flag("set_checkpointing", "on", on)
        if on:
            refuse_copies("set_checkpointing", self)
        encoders = [
            module for _, module in self.named_modules() if isinstance(getattr(module, "checkpoint", None), bool)
        ]
        if not encoders:
            raise ValueError(f"set_checkpointing: no nn.Encoder in this {type(self).__name__}; see plait.checkpoint")
        for module in encoders:
            module.checkpoint = on
        return self

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for p in self.parameters():
            p.zero_grad()

    def to(self, precision: str):
        """A model for inference in another precision.

        Weights of linear layers are packed at once: in bfloat16, or in 8 bits with a scale for each output. Rows are
        rounded likewise on their way into a layer, to bfloat16, or to 8 bits with a scale for each row. Attention
        multiplies in bfloat16, also between layers of 8 bits where the processor has the instructions. Sums, norms,
        softmax, residuals and results stay float32. Arrays are shared with this model until one of the two is written
        to: neither follows the other. A saved copy loads in float32.

        Parameters
        ----------
        precision : {"bf16", "int8", "f32"} or {"bfloat16", "float32"}
            "f32" gives the model itself.

        Returns
        -------
        Module
            In evaluation mode; ``train()`` is an error. On a processor without the instructions a warning says so, and
            the model computes in float32.

        Raises
        ------
        ValueError
            The precision is unknown.
        RuntimeError
            The model is in a lower precision already.
        """
        precision = named("to", precision, ALL)
        if precision == self.precision:
            return self
        if self.precision != "f32":
            raise RuntimeError(f"to: the model is in {self.precision} already; convert the float32 one")
        from plait.nn.precision import converted

        return converted(self, precision)

    def save(self, folder) -> None:
        """Writes ``config.json`` and ``model.safetensors`` to a folder, whole or not at all.

        Raises
        ------
        TypeError
            The model has no config: only models of ``plait.create_model`` have one. Their weights can be written with
            ``plait.io.save_tensors``.
        """
        from plait import io

        io.save_model(self, folder)

    def __repr__(self):
        return f"{type(self).__name__}({self.count_parameters():,} parameters)"


def _flatten(name, value):
    if isinstance(value, (Parameter, Buffer, Module)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _flatten(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(f"{name}.{key}", item)


def _some(names):
    return f"{names[:5]}{' and more' if len(names) > 5 else ''}" if names else "nothing"
