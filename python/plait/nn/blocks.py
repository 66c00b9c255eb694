"""Transformer blocks: self-attention encoders, and the block in which two streams attend to each other."""

from __future__ import annotations

import itertools

import numpy as np

from plait import ops
from plait._array import flag
from plait.nn.attention import CrossAttention, SelfAttention
from plait.nn.layers import MLP, Dropout, GatedMLP, LayerNorm, RMSNorm
from plait.nn.module import Module
from plait.nn.parameter import Parameter
from plait.ops._apply import chain, operators
from plait.ops.recompute import checkpoint
from plait.stream import as_stream
from plait.tensor import grad_enabled

__all__ = ["CrossModalBlock", "Encoder", "EncoderBlock"]

_ATTENTION, _MLP = operators["attention_block"], operators["mlp_block"]


def _stream_of(x, width, function, name="x"):
    """A stream of rows of a width; the core says what is wrong with rows that are no vectors."""
    x = as_stream(x, name=name)
    shape = x.rows.shape
    if shape[1:] != (width,) and len(shape) == 2:
        raise ValueError(f"{function}: {name} has rows of width {shape[1]}, expected {width}")
    return x


def add_streams(x, y):
    """Residual sum: the segments of x."""
    return x.with_rows(ops.add(x.rows, y.rows))


class EncoderBlock(Module):
    """Self-attention and MLP, each with a norm and a residual (Vaswani et al., arXiv 1706.03762).

    Parameters
    ----------
    width, heads : int
    hidden : int, optional
        Of the MLP; default 4 * width.
    activation : str
    pre_norm : bool
        Norm before the sublayer (Xiong et al., arXiv 2002.04745), else after the residual.
    dropout : float
        After each sublayer.
    attention_dropout : float
    causal, kv_heads, rope
        As in ``SelfAttention``.
    norm : type
        ``LayerNorm`` or ``RMSNorm``.
    eps : float
        Of the norms.
    qkv_bias : bool
        Whether queries, keys and values have a bias.
    gated : bool
        The MLP is a ``GatedMLP``, whose activation is SiLU.
    layer_scale : float, optional
        Initial value of a learned factor for each column of each branch (Touvron et al., arXiv 2103.17239); None for
        none.

    Examples
    --------
    >>> import numpy as np, plait
    >>> block = plait.nn.EncoderBlock(16, heads=4, norm=plait.nn.RMSNorm, causal=True)
    >>> block(np.zeros((2, 5, 16), np.float32))
    Stream(2 samples, 10 rows of (16,), float32, lengths 5 to 5)
    """

    def __init__(
        self,
        width,
        heads,
        hidden=None,
        activation="gelu",
        pre_norm=True,
        dropout=0.0,
        attention_dropout=0.0,
        causal=False,
        kv_heads=None,
        rope=None,
        norm=LayerNorm,
        eps=1e-5,
        qkv_bias=True,
        gated=False,
        layer_scale=None,
    ):
        super().__init__()
        if norm not in (LayerNorm, RMSNorm):
            raise TypeError(f"EncoderBlock: norm is {norm!r}, expected LayerNorm or RMSNorm")
        self.width = width
        self.norm1 = norm(width, eps)
        self.attention = SelfAttention(
            width, heads, kv_heads=kv_heads, causal=causal, dropout=attention_dropout, rope=rope, qkv_bias=qkv_bias
        )
        self.norm2 = norm(width, eps)
        self.mlp = GatedMLP(width, hidden) if gated else MLP(width, hidden, activation)
        self.dropout = Dropout(dropout)
        self.pre_norm = bool(pre_norm)
        self.scale1, self.scale2 = (
            None if layer_scale is None else Parameter(np.full(width, layer_scale, np.float32)) for _ in range(2)
        )

    def forward(self, x, cache=None, bias=None):
        x = _stream_of(x, self.width, "EncoderBlock")
        plain = cache is None and bias is None
        if plain and not self.training and self.fuses:
            return x.with_rows(chain(x.rows, self.calls(x.offsets)))
        if plain and self._fuses_attention:
            weights, options = self._attention_weights(), self._attention_options()
            x = x.with_rows(ops.attention_block(x.rows, x.offsets, *weights, **options))
        else:
            x = self._residual(x, lambda y: self.attention(y, cache=cache, bias=bias), self.norm1, self.scale1)
        if not self._fuses_mlp:
            return self._residual(x, self.mlp, self.norm2, self.scale2)
        return x.with_rows(ops.mlp_block(x.rows, *self._mlp_weights(), **self._mlp_options()))

    @property
    def _fuses_attention(self):
        return self.attention.rope is None and self.scale1 is None

    @property
    def _fuses_mlp(self):
        return self.scale2 is None and isinstance(self.mlp, MLP)

    @property
    def fuses(self):
        """Whether ``calls`` is all that the block does: one operator a sublayer, and no replaced forward."""
        kind = type(self)
        own = (kind, kind.forward, kind.__call__) == _AS_WRITTEN and "forward" not in self.__dict__
        return own and self._fuses_attention and self._fuses_mlp

    def calls(self, offsets):
        """Both sublayers for ``plait.ops._apply.chain``, in evaluation."""
        attention = (offsets, *self._attention_weights(), None, None, None, None)
        return [
            (_ATTENTION, attention, {"scale": 0.0, **self._attention_options()}),
            (_MLP, self._mlp_weights(), self._mlp_options()),
        ]

    def _attention_weights(self):
        a, n = self.attention, self.norm1
        return n.weight, getattr(n, "bias", None), a.qkv.weight, a.qkv.bias, a.out.weight, a.out.bias

    def _attention_options(self):
        a = self.attention
        options = self._options(self.norm1)
        options.update(
            heads=a.heads, kv_heads=a.kv_heads, causal=a.causal, dropout=a.dropout if self.training else 0.0
        )
        return options

    def _mlp_weights(self):
        m, n = self.mlp, self.norm2
        return n.weight, getattr(n, "bias", None), m.fc1.weight, m.fc1.bias, m.fc2.weight, m.fc2.bias

    def _mlp_options(self):
        return {"activation": self.mlp.activation, **self._options(self.norm2)}

    def _options(self, norm):
        return {
            "pre_norm": self.pre_norm,
            "norm": "rms" if isinstance(norm, RMSNorm) else "layer",
            "eps": norm.eps,
            "residual_dropout": self.dropout.p if self.training else 0.0,
        }

    def _residual(self, x, branch, norm, scale):
        """What the fused sublayers do not know, composed."""
        y = branch(norm(x) if self.pre_norm else x)
        if scale is not None:
            y = y.with_rows(ops.multiply(y.rows, scale))
        y = add_streams(x, self.dropout(y))
        return y if self.pre_norm else norm(y)


def _as_it_is(block):
    """The block, in the mode that it is in now when it is called once more in backward."""
    if not grad_enabled() or not isinstance(block, Module):
        return block
    modes, calls = [(module, module.training) for _, module in block.named_modules()], itertools.count()

    def run(*inputs):
        again = next(calls) > 0
        switched = [(module, mode) for module, mode in modes if again and module.training != mode]
        for module, mode in switched:
            module.training = mode
        try:
            return block(*inputs)
        finally:
            for module, mode in switched:
                module.training = not mode

    return run


_AS_WRITTEN = EncoderBlock, EncoderBlock.forward, EncoderBlock.__call__


class Encoder(Module):
    """Blocks one after the other, with a last norm when they are pre-norm.

    Parameters
    ----------
    depth : int
    width, heads : int
    checkpoint : bool
        In training, keep the rows between the blocks only, and compute each block again in backward, see
        ``plait.checkpoint``. An attribute as well, which is not saved with a model; ``Module.set_checkpointing`` sets
        it everywhere.
    **options
        Of ``EncoderBlock``.

    Examples
    --------
    >>> import numpy as np, plait
    >>> encoder = plait.nn.Encoder(depth=2, width=16, heads=4)
    >>> s = plait.Stream(np.zeros((5, 16), np.float32), [0, 2, 5])
    >>> encoder(s).rows.shape
    (5, 16)
    """

    def __init__(self, depth, width, heads, checkpoint=False, **options):
        super().__init__()
        self.width = width
        self.checkpoint = flag("Encoder", "checkpoint", checkpoint)
        self.blocks = [EncoderBlock(width, heads, **options) for _ in range(depth)]
        norm, eps = options.get("norm", LayerNorm), options.get("eps", 1e-5)
        self.norm = norm(width, eps) if options.get("pre_norm", True) else None

    def forward(self, x, caches=None, bias=None):
        x = self.before_norm(x, caches, bias)
        return x if self.norm is None else self.norm(x)

    def before_norm(self, x, caches=None, bias=None):
        """The rows of the last block, as ``forward`` takes them to the norm."""
        if caches is not None and len(caches) != len(self.blocks):
            raise ValueError(f"Encoder: got {len(caches)} caches, expected {len(self.blocks)}, one a block")
        x = _stream_of(x, self.width, "Encoder")
        if caches is None and bias is None and self._fuses:
            return x.with_rows(chain(x.rows, [call for block in self.blocks for call in block.calls(x.offsets)]))
        for i, block in enumerate(self.blocks):
            cache = None if caches is None else caches[i]
            x = checkpoint(_as_it_is(block), x, cache, bias) if self.checkpoint else block(x, cache, bias)
        return x

    @property
    def _fuses(self):
        return not self.checkpoint and all(
            isinstance(block, EncoderBlock) and block.fuses and not block.training for block in self.blocks
        )


class CrossModalBlock(Module):
    """Each of two streams attends to the other, then to itself, then passes an MLP (Tan & Bansal, arXiv 1908.07490).

    Both directions read the streams as they came in, so the block is symmetric. A sample that lacks one modality
    passes the other one through its own self-attention and MLP only.

    Parameters
    ----------
    width : int or (int, int)
        Of the two streams.
    heads : int
    hidden : int, optional
        Of the MLPs; default 4 * width.
    activation : str
    dropout, attention_dropout : float
    self_attention : bool

    Examples
    --------
    >>> import numpy as np, plait
    >>> block = plait.nn.CrossModalBlock((16, 8), heads=4)
    >>> image = plait.Stream(np.zeros((5, 16), np.float32), [0, 2, 5])
    >>> text = plait.Stream(np.zeros((3, 8), np.float32), [0, 3, 3])     # the second sample has no text
    >>> a, b = block(image, text)
    >>> a.rows.shape, b.rows.shape
    ((5, 16), (3, 8))
    """

    def __init__(
        self, width, heads, hidden=None, activation="gelu", dropout=0.0, attention_dropout=0.0, self_attention=True
    ):
        super().__init__()
        a, b = (width, width) if isinstance(width, int) else width
        self.norm_a, self.norm_b = LayerNorm(a), LayerNorm(b)
        self.cross_a = CrossAttention(a, heads, context_width=b, dropout=attention_dropout)
        self.cross_b = CrossAttention(b, heads, context_width=a, dropout=attention_dropout)
        block = EncoderBlock if self_attention else _MLPBlock
        options = {"activation": activation, "dropout": dropout, "hidden": hidden}
        if self_attention:
            options["attention_dropout"] = attention_dropout
        self.block_a = block(a, heads, **options)
        self.block_b = block(b, heads, **options)
        self.dropout = Dropout(dropout)

    def forward(self, a, b):
        a = _stream_of(a, self.norm_a.weight.shape[0], "CrossModalBlock", "a")
        b = _stream_of(b, self.norm_b.weight.shape[0], "CrossModalBlock", "b")
        normed_a, normed_b = self.norm_a(a), self.norm_b(b)
        cross_a = self._cross(a, self.norm_a, self.cross_a, normed_b)
        cross_b = self._cross(b, self.norm_b, self.cross_b, normed_a)
        return self.block_a(cross_a), self.block_b(cross_b)

    def _cross(self, x, norm, attention, context):
        if len(x) != len(context):
            raise ValueError(f"CrossModalBlock: the streams have {len(x)} and {len(context)} samples, expected as many")
        rows = ops.attention_block(
            x.rows,
            x.offsets,
            norm.weight,
            norm.bias,
            attention.q.weight,
            attention.q.bias,
            attention.out.weight,
            attention.out.bias,
            heads=attention.heads,
            kv_heads=attention.kv_heads,
            context=context.rows,
            context_offsets=context.offsets,
            context_weight=attention.kv.weight,
            context_bias=attention.kv.bias,
            dropout=attention.dropout if self.training else 0.0,
            eps=norm.eps,
            residual_dropout=self.dropout.p if self.training else 0.0,
        )
        return x.with_rows(rows)


class _MLPBlock(Module):
    """The MLP half of a block."""

    def __init__(self, width, heads, hidden=None, activation="gelu", dropout=0.0):
        super().__init__()
        self.norm2 = LayerNorm(width)
        self.mlp = MLP(width, hidden, activation)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        n, m = self.norm2, self.mlp
        rows = ops.mlp_block(
            x.rows,
            n.weight,
            n.bias,
            m.fc1.weight,
            m.fc1.bias,
            m.fc2.weight,
            m.fc2.bias,
            activation=m.activation,
            eps=n.eps,
            residual_dropout=self.dropout.p if self.training else 0.0,
        )
        return x.with_rows(rows)
