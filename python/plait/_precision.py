"""The names of precisions, and what a copy of a model in a lower one refuses."""

from __future__ import annotations

__all__ = ["ALL", "LOWER", "TRAINED", "copied", "lacking", "named", "names", "refuse_copies", "short"]

ALL = ("f32", "bf16", "int8")  # that products can be computed in
TRAINED = ALL[:2]  # backward too
LOWER = ALL[1:]

_LONG = {"f32": "float32", "bf16": "bfloat16"}
_SHORT = {long: short for short, long in _LONG.items()}


def short(precision):
    """The short name of a precision; None for what is no str."""
    return _SHORT.get(precision, precision) if isinstance(precision, str) else None


def names(known):
    """The names of some precisions, short and long, for a message."""
    *first, last = [repr(n) for name in known for n in (name, _LONG.get(name)) if n]
    return f"{', '.join(first)} or {last}"


def named(function, precision, known):
    """The short name of a precision, which is one of those that `function` knows."""
    name = short(precision)
    if name not in known:
        raise ValueError(f"{function}: precision is {precision!r}, expected {names(known)}")
    return name


def lacking(precision):
    """What is said where a precision has no instructions."""
    return f"this processor has no instructions for {precision}; the model computes in float32"


def copied(model):
    """Precisions of those parameters that belong to copies in a lower one inside a model, by the parameters' ids."""
    return {id(p): m.precision for _, m in model.named_modules() if m.precision != "f32" for p in m.parameters()}


def refuse_copies(function, model):
    """An error where a model is what ``Module.to`` gave in a lower precision."""
    if model.precision != "f32":
        raise RuntimeError(
            f"{function}: the model is a copy in {model.precision}, for inference alone; train the float32 model that "
            "it was made from"
        )
