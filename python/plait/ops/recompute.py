"""Memory against time: what a function saves for backward is dropped, and made again when backward comes there."""

from __future__ import annotations

import numpy as np

from plait import _core
from plait.stream import Stream
from plait.tensor import Node, Tensor, _mode, _order, grad_enabled

from ._apply import generator

__all__ = ["checkpoint"]


def checkpoint(function, *inputs):
    """Calls a function and keeps its inputs only; backward calls it again for what lies between.

    Chen et al., arXiv 1604.06174. The result and all gradients are the same in every bit as those of
    ``function(*inputs)``, dropout included. A deep model whose blocks are called so needs the memory of one block and
    of the blocks' inputs, for the time of one more forward: about a third more of a training step. Packed forms of the
    weights that it trains do not outlast a call either. Functions may call ``checkpoint`` themselves. Where nothing is
    recorded (``no_grad``, or nothing that requires a gradient) it is a plain call.

    Parameters
    ----------
    function : callable
        A module, or any function of tensors. It must do the same when it is called again: its own random numbers, a
        switch to evaluation mode in between, or state that it changes would spoil the gradients.
    *inputs : Tensor, array, Stream, or anything else
        Handed to the function. Arrays are read-only until backward. The function may also read tensors from around it;
        they get their gradients as well.

    Returns
    -------
    object
        What the function returns. What it saves is dropped for tensors, streams, and tuples, lists and dicts of them.

    Raises
    ------
    RuntimeError
        In backward: a parameter was changed since, or the function gave tensors of other shapes or drew other random
        bits than the first time.

    Examples
    --------
    >>> import numpy as np, plait
    >>> blocks = [plait.nn.EncoderBlock(16, heads=4) for _ in range(3)]
    >>> x = plait.as_stream(np.ones((2, 5, 16), np.float32))
    >>> for block in blocks:
    ...     x = plait.checkpoint(block, x)
    >>> plait.ops.mean(x.rows).backward()
    >>> blocks[0].mlp.fc1.weight.grad.shape
    (64, 16)
    """
    if not callable(function):
        raise TypeError(f"checkpoint: function is {type(function).__name__}, expected something to call")
    if not grad_enabled():
        return function(*inputs)
    # Recorded, though the record is dropped: without one some operators take faster ways that round differently.
    begin = next(_order)
    with generator.noting() as drawn:
        result = function(*inputs)
    outputs = _made(result, begin)
    if not outputs:
        return result
    shapes = [t.shape for t in outputs]
    watched, before = _met(outputs, begin)
    trained = [t for t, _ in watched if t.requires_grad and t.pack is not None]
    _unpack(trained)
    lock = _core.Lock(*[a.data if isinstance(a, Tensor) else a for a in _arrays(inputs)])

    def again(lock=lock):
        end = Node("checkpoint", (), lambda *_: _unpack(trained), 0, False)
        enabled, _mode.enabled = _mode.enabled, True
        try:
            with generator.noting(drawn) as redrawn:
                outputs = _made(function(*inputs), end.order)
        finally:
            _mode.enabled = enabled
        if [t.shape for t in outputs] != shapes or len(redrawn) != len(drawn):
            raise RuntimeError(
                f"checkpoint: the function gave tensors of shapes {[t.shape for t in outputs]} and drew random bits "
                f"{len(redrawn)} times, expected {shapes} and {len(drawn)} as the first time; it has to do the same "
                "again, in the same mode (train, eval)"
            )
        return outputs, end

    node = _Again("checkpoint", before, again, len(outputs), False, watched)
    for i, t in enumerate(outputs):
        t._node, t._index = node, i
    return result


class _Again(Node):
    """Stands for all that a function recorded."""

    __slots__ = ()
    expands = True


def _unpack(parameters):
    """Drops packed forms of weights; they are made again when they are needed."""
    for p in parameters:
        p.pack.spare()


def _arrays(value):
    """The tensors and arrays in what a function takes or returns."""
    if isinstance(value, (Tensor, np.ndarray)):
        return [value]
    if isinstance(value, Stream):
        value = [value.rows]
    elif isinstance(value, dict):
        value = list(value.values())
    return [a for v in value for a in _arrays(v)] if isinstance(value, (tuple, list)) else []


def _made(result, begin):
    """The tensors in a result that were recorded since, each once."""
    tensors = [t for t in _arrays(result) if isinstance(t, Tensor)]
    return list({id(t): t for t in tensors if t._node is not None and t._node.order > begin}.values())


def _met(outputs, begin):
    """Parameters that the function met, with their counts of writes; and tensors from before that it read."""
    watched, before, seen, ahead = {}, {}, set(), [t._node for t in outputs]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        watched.update({id(t): (t, version) for t, version in node.watched})
        for t in node.inputs:
            if t is None or t._node is None:
                continue
            if t._node.order > begin:
                ahead.append(t._node)
            else:
                before[id(t)] = t
    return list(watched.values()), list(before.values())
