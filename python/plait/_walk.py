"""What ``Tensor.backward`` does: visits nodes from the newest to the oldest and frees each one as it goes.

A node is newer than every node that made its inputs, so when it is the newest of those pending, all gradients of its
outputs have arrived. When something raises half-way, nodes that ran are freed and leaves hold what reached them.
"""

from __future__ import annotations

import heapq

import numpy as np

from plait import _core
from plait._array import F32, is_place


def walk(root, index, grad):
    """Runs the nodes below ``root``, the newest first, with ``grad`` as the gradient of its output ``index``."""
    pending = {root: [None] * root.n_out}  # node -> gradients of its outputs, as (array, owned)
    pending[root][index] = (grad, False)
    heap = [(-root.order, root)]
    while heap:
        node = heapq.heappop(heap)[1]
        inputs, run = node.inputs, node.run
        if run is None:
            raise RuntimeError(f"{node.name}: backward ran already and freed what it saved")
        for t, version in node.watched:
            if t.version != version:
                raise RuntimeError(f"{node.name}: a parameter of shape {t.shape} was changed since forward")
        if node.expands:
            node.inputs, node.run, node.watched = (), None, ()
            _expand(run, pending.pop(node), pending, heap)
            del run, inputs
            continue
        douts = tuple([None if d is None else d[0] for d in pending.pop(node)])
        dins, wanted, accumulate = _places(inputs, pending) if node.fresh else (None, 0, 0)
        grads = run(douts, dins, wanted, accumulate)
        # Freed before the next node runs: its buffers are what the next one takes from the pool.
        node.inputs, node.run, node.watched = (), None, ()
        del run, douts
        _deliver(node, inputs, dins, grads, pending, heap)
        del inputs, dins, grads


def _deliver(node, inputs, dins, grads, pending, heap):
    """Adds gradients to leaves, or to what is pending for the nodes that made the inputs."""
    for i, t in enumerate(inputs):
        g = grads[i]
        if t is None or g is None:
            continue
        parent = t._node
        if dins is not None and g is dins[i]:  # it is where it belongs already
            if parent is None:
                t._written()
            continue
        if g.shape != t._data.shape:
            raise ValueError(f"{node.name}: the gradient of input {i} has shape {g.shape}, expected {t.shape}")
        if parent is None:
            t._collect(g, node.fresh)
        else:
            _send(t, g, node.fresh, pending, heap)


def _send(t, g, owned, pending, heap):
    """Adds a gradient to what is pending for the node that made a tensor."""
    parent = t._node
    slots = pending.get(parent)
    if slots is None:
        slots = pending[parent] = [None] * parent.n_out
        heapq.heappush(heap, (-parent.order, parent))
    slot = slots[t._index]
    slots[t._index] = (g, owned) if slot is None else _sum(*slot, g)


def _expand(run, gradients, pending, heap):
    """Makes the outputs of a node again and hands their gradients on. What made them is newer than all that is pending,
    so that it is visited next, and sums come in the same order as if it had been on the tape from the start. The node
    `end` is older than the rest of it and comes last."""
    outputs, end = run()
    pending[end] = []
    heapq.heappush(heap, (-end.order, end))
    for t, slot in zip(outputs, gradients, strict=True):
        if slot is not None:
            _send(t, *slot, pending, heap)


def _places(inputs, pending):
    """Where an operator of the core can add its gradients without a pass of their own: (arrays, wanted, accumulate)."""
    wanted = accumulate = 0
    dins, met = [None] * len(inputs), []
    for i, t in enumerate(inputs):
        if t is None:
            continue
        wanted |= 1 << i
        if id(t) in met:  # an input given twice: only one of the two can be added in place
            continue
        met.append(id(t))
        if t._node is None:
            dins[i], add = t._place()
        else:
            slots = pending.get(t._node)
            slot = slots and slots[t._index]
            add = slot is not None and slot[1] and is_place(slot[0])
            if add:
                dins[i] = slot[0]
        if add:
            accumulate |= 1 << i
    return tuple(dins), wanted, accumulate


def _sum(a, owned, b):
    """(a + b, True), in place when a belongs to nobody else."""
    if not owned:
        dtype = a.dtype if a.dtype == b.dtype else np.result_type(a, b)
        small = dtype is not F32 or a.ndim > 6
        return np.add(a, b, out=np.empty(a.shape, dtype) if small else _core.empty(a.shape)), True
    return np.add(a, b, out=a, casting="same_kind"), True
