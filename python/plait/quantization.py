"""A model in fewer bits, with the accuracy that this cost on samples."""

from __future__ import annotations

import functools
import numbers
import warnings
from dataclasses import dataclass

import numpy as np

from plait import _core
from plait._precision import LOWER, lacking, named
from plait.models import DualEncoder, ImageEncoder, TextEncoder
from plait.models.encoding import evaluating
from plait.nn import Module
from plait.nn.precision import converted
from plait.stream import Stream
from plait.tensor import Tensor

__all__ = ["Quantized", "quantize"]

_TINY = 1e-30  # a norm below it is that of zeros


@dataclass(frozen=True, eq=False, repr=False)
class Quantized:
    """What ``plait.quantize`` gives.

    Attributes
    ----------
    model : Module
        The one in fewer bits.
    precision : str
        "bf16" or "int8".
    cosines : dict of str to (n,) float64 array
        Between each row of the two models' outputs, by what they are: "images", "texts", "samples" or "outputs".
    quantized : bool
        False where this processor has no instructions for the precision: `model` computes in float32 then, and the
        cosines are those of two float32 models.

    Examples
    --------
    >>> import numpy as np, plait
    >>> result = plait.quantize(plait.nn.Linear(8, 4), [np.eye(8, dtype=np.float32)], "bf16")
    >>> list(result.cosines), result.cosines["outputs"].shape, result.worst > 0.999
    (['outputs'], (8,), True)
    """

    model: Module
    precision: str
    cosines: dict
    quantized: bool = True

    @property
    def mean(self) -> float:
        """Mean of all cosines."""
        return float(np.concatenate(list(self.cosines.values())).mean())

    @property
    def worst(self) -> float:
        """The least of all cosines."""
        return min(float(c.min()) for c in self.cosines.values())

    def __str__(self):
        kind = type(self.model).__name__
        if not self.quantized:
            return f"{kind}: nothing was quantised, {lacking(self.precision)}"
        parts = ", ".join(f"{c.min():.5f} among {len(c)} {name}" for name, c in self.cosines.items())
        return f"{kind} in {self.precision}: cosine with float32 {self.mean:.5f}, worst {parts}"

    def __repr__(self):
        return f"<Quantized {self}>"


def quantize(model, samples, precision="int8", limit=0.99, below="warn"):
    """``model.to(precision)``, and what that costs: the outputs of both models on samples, compared by their cosines.

    Parameters
    ----------
    model : Module
        In float32. It stays as it is, in the mode that it is in; what it runs on samples is evaluation mode.
    samples : dict, list or iterable
        Real ones, some dozens. For a dual encoder ``{"images": [...], "texts": [...]}``, or one of the two, or a list
        of str. For an ``ImageEncoder`` or a ``TextEncoder`` what its ``encode`` takes. For any other module batches:
        ``model(batch)``, or ``model(*batch)`` where a batch is a tuple. They are read once.
    precision : {"int8", "bf16", "bfloat16"}
    limit : float
        The least cosine that a row may have; above 0 and at most 1.
    below : {"warn", "raise", "ignore"}
        What happens when one has less.

    Returns
    -------
    Quantized
        With ``model``, ``cosines``, ``mean`` and ``worst``; printed, it says what was lost. On a processor without the
        instructions nothing is quantised, which a warning, ``quantized`` and the printed text say.

    Raises
    ------
    ValueError
        An argument is out of range, samples or outputs are empty, the float32 model gives numbers that are not finite,
        or (with "raise") a cosine is below the limit.
    TypeError
        Samples are none that the model takes, or its outputs are no arrays of floats.
    RuntimeError
        The model is in a lower precision already.

    Notes
    -----
    Outputs are arrays, tensors, streams, or tuples of them; a row is their last dimension, or the whole of an output
    with one number a row. Rows of zeros in both count as 1, one with zeros or no finite number against another as 0.

    Examples
    --------
    >>> import numpy as np, plait
    >>> model = plait.create_model("glyph-tiny").eval()
    >>> pictures = np.random.default_rng(0).random((8, 32, 32))
    >>> result = plait.quantize(model, {"images": pictures, "texts": [[5, 6, 7], [8, 9]]}, limit=0.9)
    >>> result.worst > 0.9, result.cosines["images"].shape
    (True, (8,))
    >>> result.model.encode_text([5, 6, 7]).shape
    (256,)
    """
    precision = _check(model, precision, limit, below)
    run = _runs(model, samples)
    low, cosines = converted(model, precision, "quantize"), {}
    with evaluating(model, thorough=True):
        for name, call in run:
            exact, other = ([_rows(out) for out in _outputs(call(m))] for m in (model, low))
            for a, b in zip(exact, other, strict=True):
                cosines.setdefault(name, []).append(_cosines(name, a, b))
    cosines = {name: np.concatenate(parts) for name, parts in cosines.items()}
    if not cosines or not all(c.size for c in cosines.values()):
        raise ValueError("quantize: samples give no rows of output, expected at least one")
    result = Quantized(low, precision, cosines, _core.has(precision))
    if result.worst < limit and below != "ignore":
        complaint = _complaint(result, limit)
        if below == "raise":
            raise ValueError(complaint)
        warnings.warn(complaint, stacklevel=2)
    return result


def _check(model, precision, limit, below):
    if not isinstance(model, Module):
        raise TypeError(f"quantize: model is {type(model).__name__}, expected a Module")
    if model.precision != "f32":
        raise RuntimeError(f"quantize: the model is in {model.precision} already; quantise the float32 one")
    precision = named("quantize", precision, LOWER)
    if isinstance(limit, bool) or not isinstance(limit, numbers.Real) or not 0 < limit <= 1:
        raise ValueError(f"quantize: limit is {limit!r}, expected a number above 0 and at most 1")
    if below not in ("warn", "raise", "ignore"):
        raise ValueError(f"quantize: below is {below!r}, expected 'warn', 'raise' or 'ignore'")
    return precision


# ---------------------------------------------------------------- samples


def _runs(model, samples):
    """(name of the outputs, function of a model that gives them), for each part or batch of the samples."""
    if isinstance(model, DualEncoder):
        parts = {name: _several(name, part) for name, part in _by_kind(model, samples).items()}
        calls = {
            "images": lambda m: m.encode_image(parts["images"], show_progress=False),
            "texts": lambda m: m.encode_text(parts["texts"], show_progress=False),
        }
        return [(name, calls[name]) for name in parts]
    if isinstance(model, (ImageEncoder, TextEncoder)):
        part = _several("samples", samples)
        return [("samples", lambda m: m.encode(part, show_progress=False))]
    if isinstance(samples, (str, bytes, dict, np.ndarray, Tensor, Stream)) or not hasattr(samples, "__iter__"):
        raise TypeError(
            f"quantize: samples is {type(samples).__name__}, expected batches for a {type(model).__name__}, such as "
            "[array] for one of them"
        )
    return (("outputs", functools.partial(_call, i, batch)) for i, batch in enumerate(samples))


def _call(i, batch, model):
    try:
        return model(*batch) if isinstance(batch, tuple) else model(batch)
    except (IndexError, TypeError, ValueError) as error:
        error.add_note(f"in samples[{i}] of plait.quantize")
        raise


def _by_kind(model, samples):
    if isinstance(samples, (list, tuple)) and samples and all(isinstance(s, str) for s in samples):
        return {"texts": samples}
    if not isinstance(samples, dict):
        raise TypeError(
            f"quantize: samples is {type(samples).__name__}, expected {{'images': [...], 'texts': [...]}} or a list of "
            f"str for a {type(model).__name__}"
        )
    unknown = [key for key in samples if key not in ("images", "texts")]
    if unknown or not samples:
        raise ValueError(f"quantize: samples has keys {list(samples)}, expected 'images', 'texts' or both")
    return samples


def _several(name, part):
    """Samples that can be read twice."""
    part = part.data if isinstance(part, Tensor) else part
    if isinstance(part, (str, bytes, dict)) or not hasattr(part, "__iter__"):
        raise TypeError(f"quantize: {name} is {type(part).__name__}, expected a list of samples")
    part = part if isinstance(part, (list, tuple, np.ndarray, Stream)) else list(part)
    if not len(part):
        raise ValueError(f"quantize: {name} is empty, expected at least one sample")
    return part


# ---------------------------------------------------------------- outputs


def _outputs(value):
    if isinstance(value, (tuple, list)):
        return [array for part in value for array in _outputs(part)]
    value = value.rows if isinstance(value, Stream) else value
    array = value.data if isinstance(value, Tensor) else value
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        got = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(value).__name__}"
        raise TypeError(f"quantize: the model gives {got}, expected arrays, tensors or streams of floats")
    return [array]


def _rows(array):
    """A matrix of what is compared: a single number a row has no direction, so that all of them are one row then."""
    array = np.asarray(array, np.float64)
    if array.ndim < 2 or array.shape[-1] == 1:
        return array.reshape(1, -1) if array.size else np.empty((0, 1))
    return array.reshape(-1, array.shape[-1])


def _cosines(name, exact, other):
    if not np.isfinite(exact).all():
        raise ValueError(f"quantize: the float32 model gives {name} with numbers that are not finite")
    sound = np.isfinite(other).all(axis=1)
    other = np.where(sound[:, None], other, 0)
    a, b = (np.linalg.norm(x, axis=1) for x in (exact, other))
    zero = (a < _TINY) | (b < _TINY)
    cosines = (exact * other).sum(axis=1) / np.where(zero, 1, a * b)
    return np.where(zero, (a < _TINY) & (b < _TINY) & sound, cosines)


def _complaint(result, limit):
    name, cosines = min(result.cosines.items(), key=lambda item: item[1].min())
    low = int((np.concatenate(list(result.cosines.values())) < limit).sum())
    what = "row of outputs" if name == "outputs" else f"vector of {name}"
    digits = (f"{result.worst:.{n}f}" for n in range(4, 17))
    worst = next((text for text in digits if float(text) < limit), repr(result.worst))  # never rounded up to the limit
    advice = "try precision='bf16', " if result.precision == "int8" else "keep float32, "
    return (
        f"quantize: the worst {what} (number {int(cosines.argmin())} of {len(cosines)}) has cosine "
        f"{worst} with that of float32, and {low} of all are below the limit of {limit:g}; {advice}or lower "
        "the limit if your task does not suffer"
    )
