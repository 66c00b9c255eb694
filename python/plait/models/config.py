"""What the configuration of a model may say: every key, with its meaning and its range."""

from __future__ import annotations

from dataclasses import dataclass

from plait.io.schema import choice, flag, integer, number, numbers, section, sections, words

__all__ = ["DualEncoderConfig", "HeadConfig", "ImageConfig", "ImageEncoderConfig", "TextConfig", "TextEncoderConfig"]

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid")
BUCKETS = 32  # of distances between two tokens, see plait.models.positions.buckets
_MAX_WIDTH = 1 << 16
_MAX_LAYERS = 1 << 10


@dataclass(frozen=True)
class ImageConfig:
    """The image tower: a vision transformer (Dosovitskiy et al., arXiv 2010.11929)."""

    size: int = integer(1, 1 << 14)  # height and width of a picture, pixels
    patch: int = integer(1, 1 << 14)  # height and width of a patch, pixels
    width: int = integer(1, _MAX_WIDTH)  # of the rows
    layers: int = integer(0, _MAX_LAYERS)  # transformer blocks
    heads: int = integer(1, _MAX_WIDTH)  # of self-attention; divides width
    channels: int = integer(1, 64, default=3)  # 1 for grey pictures
    mean: tuple = numbers(-1e6, 1e6, default=(0.0,))  # of the pixels, on a scale of 0 to 1; one, or one a channel
    std: tuple = numbers(1e-6, 1e6, default=(1.0,))  # of the pixels; a picture enters as (pixels - mean) / std
    hidden: int = integer(1, 4 * _MAX_WIDTH, default=None)  # of the MLPs; null: 4 width
    activation: str = choice(*ACTIVATIONS, default="gelu")  # of the MLPs
    eps: float = number(1e-15, 0.1, default=1e-5)  # of the norms
    pre_norm: bool = flag(default=True)  # norms before the sublayers and one at the end, else after each residual
    qkv_bias: bool = flag(default=True)  # whether queries, keys and values have a bias
    gated: bool = flag(default=False)  # MLPs whose hidden half is gated by the other (SwiGLU; arXiv 2002.05202)
    layer_scale: bool = flag(default=False)  # a learned factor a column on each branch (arXiv 2103.17239)
    class_token: bool = flag(default=False)  # one learned row before the patches, for pool "first"
    registers: int = integer(0, 1 << 10, default=0)  # learned rows after it, without positions (arXiv 2309.16588)
    patch_bias: bool = flag(default=True)  # whether patches enter through a linear layer with bias
    input_norm: bool = flag(default=False)  # a norm before the first block
    last_norm: str = choice("rows", "pooled", default="rows")  # where the one at the end is: on all rows or the result
    crop: bool = flag(default=False)  # patches need not divide the picture: what is left over at its end is not seen
    any_size: bool = flag(default=False)  # other sizes than `size` are welcome: positions are interpolated
    antialias: bool = flag(default=False)  # whether positions are smoothed where they are interpolated
    pool: str = choice("mean", "max", "first", "last", "flatten", "map", default="mean")  # flatten: side by side;
    # map: attention by a learned query, and an MLP (Zhai et al., arXiv 2106.04560)
    projection_bias: bool = flag(default=False)  # whether the last linear layer has a bias
    dropout: float = number(0.0, 0.99, default=0.0)  # after every sublayer, in training
    attention_dropout: float = number(0.0, 0.99, default=0.0)  # of attention weights, in training
    init: str = choice("fan_in", "xavier", default="fan_in")  # initial weights of linear layers, see initialise
    position_std: float = number(0.0, 10.0, default=0.02)  # initial standard deviation of positions and class token

    def check(self, path):
        """Refuses keys that do not fit each other; `path` is where they stand in the file."""
        if self.patch > self.size:
            raise ValueError(f"{path}.patch is {self.patch}, expected at most size, {self.size}")
        if self.size % self.patch and not self.crop:
            raise ValueError(f"{path}.patch is {self.patch}, expected a divisor of size, {self.size}")
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, self.channels):
                raise ValueError(f"{path}.{key} has {len(getattr(self, key))} numbers, expected 1 or {self.channels}")
        if self.any_size and self.pool == "flatten":
            raise ValueError(f"{path}.pool is 'flatten', which any_size does not go with")
        _check_heads(self, path)

    @property
    def rows(self) -> int:
        """Rows of a picture that have a position: patches, and the class token."""
        return (self.size // self.patch) ** 2 + self.class_token

    @property
    def pooled_width(self) -> int:
        """Of what pooling makes of a picture."""
        return self.width * (self.rows + self.registers if self.pool == "flatten" else 1)

    def count_parameters(self, embed_dim: int | None) -> int:
        """Parameters of the tower, computed without building it."""
        width, hidden = self.width, self.hidden or 4 * self.width
        patches = width * (self.channels * self.patch**2 + self.patch_bias)
        extra = width * (self.rows + self.class_token + self.registers + 2 * self.input_norm)
        if self.pool == "map":
            extra += width + 4 * width * (width + 1) + 2 * width + width * (2 * hidden + 1) + hidden
        block = 3 * width * (not self.qkv_bias) * -1 + 2 * width * self.layer_scale
        block += self.gated * hidden * (width + 1)
        head = _count_head(self, self.pooled_width, embed_dim)
        return patches + extra + _count_blocks(self) + self.layers * block + head


@dataclass(frozen=True)
class TextConfig:
    """The text tower: a transformer over token ids."""

    vocabulary: int = integer(1, 1 << 24)  # number of token ids
    length: int = integer(1, 1 << 20)  # most tokens that a text may have: positions are learned
    width: int = integer(1, _MAX_WIDTH)  # of the rows
    layers: int = integer(0, _MAX_LAYERS)  # transformer blocks
    heads: int = integer(1, _MAX_WIDTH)  # of self-attention; divides width
    hidden: int = integer(1, 4 * _MAX_WIDTH, default=None)  # of the MLPs; null: 4 width
    activation: str = choice(*ACTIVATIONS, default="gelu")  # of the MLPs
    eps: float = number(1e-15, 0.1, default=1e-5)  # of the norms
    pre_norm: bool = flag(default=True)  # norms before the sublayers and one at the end, else after each residual
    causal: bool = flag(default=False)  # whether a token sees only those before it
    types: int = integer(0, 1 << 10, default=0)  # rows of a table of segments, of which texts get the first; 0: none
    first_position: int = integer(0, 1 << 10, default=0)  # row of the table that the first token gets
    input_norm: bool = flag(default=False)  # a norm before the first block
    relative_bias: bool = flag(default=False)  # all blocks learn one bias of attention a head and bucket of distances
    pool: str = choice("mean", "max", "first", "last", "end", default="mean")  # rows to one; end: the end token
    end_id: int = integer(0, 1 << 24, default=None)  # of the end token; null: the largest id of the text
    pad_id: int = integer(0, 1 << 24, default=None)  # texts are filled up with it to `length`; null: they are not
    projection_bias: bool = flag(default=False)  # whether the last linear layer has a bias
    dropout: float = number(0.0, 0.99, default=0.0)  # after every sublayer, in training
    attention_dropout: float = number(0.0, 0.99, default=0.0)  # of attention weights, in training
    init: str = choice("fan_in", "xavier", default="fan_in")  # initial weights of linear layers, see initialise
    embed_std: float = number(0.0, 10.0, default=0.02)  # initial standard deviation of token embeddings
    position_std: float = number(0.0, 10.0, default=0.01)  # initial standard deviation of positions

    def check(self, path):
        """Refuses keys that do not fit each other; `path` is where they stand in the file."""
        _check_heads(self, path)
        if self.pad_id is not None and self.pad_id >= self.vocabulary:
            raise ValueError(f"{path}.pad_id is {self.pad_id}, expected an id below vocabulary, {self.vocabulary}")

    def count_parameters(self, embed_dim: int | None) -> int:
        """Parameters of the tower, computed without building it."""
        rows = self.vocabulary + self.length + self.first_position + self.types + 2 * self.input_norm
        extra = self.heads * BUCKETS * self.relative_bias
        return self.width * rows + extra + _count_blocks(self) + _count_head(self, self.width, embed_dim)


@dataclass(frozen=True)
class DualEncoderConfig:
    """Two towers and the temperature of their similarities."""

    embed_dim: int = integer(1, _MAX_WIDTH)  # of the shared space
    image: ImageConfig = section(ImageConfig)
    text: TextConfig = section(TextConfig)
    image_projection: bool = flag(default=True)  # else the pooled row of the image tower is the embedding
    text_projection: bool = flag(default=True)
    logit_bias: bool = flag(default=False)  # a learned number beside logit_scale, for the sigmoid loss
    temperature: float = number(1e-4, 1e4, default=0.07)  # initial; logit_scale is log(1 / temperature)
    max_logit_scale: float = number(1.0, 1e4, default=100.0)  # upper bound of 1 / temperature while training

    def check(self, path):
        """Refuses keys that do not fit each other; `path` is where they stand in the file."""
        if 1 / self.temperature > self.max_logit_scale:
            raise ValueError(f"{path}.temperature is {self.temperature}, below 1 / max_logit_scale")
        for name in ("image", "text"):
            width = getattr(self, name).width
            if not getattr(self, f"{name}_projection") and width != self.embed_dim:
                raise ValueError(f"{path}.embed_dim is {self.embed_dim}, expected {width}, the width of {name}")

    @property
    def image_dim(self) -> int | None:
        """Width of the image tower's projection, None without one."""
        return self.embed_dim if self.image_projection else None

    @property
    def text_dim(self) -> int | None:
        """Width of the text tower's projection, None without one."""
        return self.embed_dim if self.text_projection else None

    def count_parameters(self) -> int:
        """Parameters of the model, computed without building it."""
        towers = self.image.count_parameters(self.image_dim) + self.text.count_parameters(self.text_dim)
        return towers + 1 + self.logit_bias


@dataclass(frozen=True)
class ImageEncoderConfig:
    """One image tower."""

    image: ImageConfig = section(ImageConfig)
    embed_dim: int = integer(1, _MAX_WIDTH, default=None)  # of a last linear layer; null: there is none

    @property
    def width(self) -> int:
        """Of the embeddings."""
        return self.embed_dim or self.image.pooled_width

    def count_parameters(self) -> int:
        """Parameters of the model, computed without building it."""
        return self.image.count_parameters(self.embed_dim)


@dataclass(frozen=True)
class HeadConfig:
    """A step after pooling: a linear layer with an activation, a layer norm, or unit length."""

    kind: str = choice("dense", "layer_norm", "normalize")
    width: int = integer(1, _MAX_WIDTH, default=None)  # of a dense layer's output
    bias: bool = flag(default=True)  # of a dense layer
    activation: str = choice(*ACTIVATIONS, default=None)  # of a dense layer

    def check(self, path):
        """Refuses keys that do not fit each other; `path` is where they stand in the file."""
        if (self.kind == "dense") != (self.width is not None):
            raise ValueError(f"{path}.width is {self.width}, expected one for dense and for nothing else")


POOLING = ("first", "last", "mean", "max", "mean_sqrt", "weighted_mean", "end")


@dataclass(frozen=True)
class TextEncoderConfig:
    """One text tower, pooled in one or more ways, and what comes after (Reimers & Gurevych, arXiv 1908.10084)."""

    text: TextConfig = section(TextConfig)
    pooling: tuple = words(*POOLING, default=("mean",))  # several: side by side
    pool_prompt: bool = flag(default=True)  # whether the tokens of a prompt are pooled, too
    heads: tuple = sections(HeadConfig)

    @property
    def width(self) -> int:
        """Of the embeddings."""
        width = self.text.width * len(self.pooling)
        for head in self.heads:
            width = head.width or width
        return width

    def count_parameters(self) -> int:
        """Parameters of the model, computed without building it."""
        count, width = self.text.count_parameters(None), self.text.width * len(self.pooling)
        for head in self.heads:
            if head.kind == "dense":
                count += head.width * (width + head.bias)
                width = head.width
            elif head.kind == "layer_norm":
                count += 2 * width
        return count


def _check_heads(tower, path):
    if tower.width % tower.heads:
        raise ValueError(f"{path}.heads is {tower.heads}, expected a divisor of width, {tower.width}")


def _count_blocks(tower):
    width, hidden = tower.width, tower.hidden or 4 * tower.width
    block = 4 * width * (width + 1) + width * (2 * hidden + 1) + hidden + 4 * width
    return tower.layers * block + 2 * width * tower.pre_norm


def _count_head(tower, width, embed_dim):
    return 0 if embed_dim is None else embed_dim * (width + tower.projection_bias)
