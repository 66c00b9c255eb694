"""What the configuration of a dual encoder may say: every key, with its meaning and its range."""

from __future__ import annotations

from dataclasses import dataclass

from plait.io.schema import choice, flag, integer, number, numbers, section

__all__ = ["DualEncoderConfig", "ImageConfig", "TextConfig"]

_ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh", "sigmoid")
_MAX_WIDTH = 1 << 16
_MAX_LAYERS = 1 << 10


@dataclass(frozen=True)
class ImageConfig:
    """The image tower: a vision transformer (Dosovitskiy et al., arXiv 2010.11929)."""

    size: int = integer(1, 1 << 14)  # height and width of a picture, pixels
    patch: int = integer(1, 1 << 14)  # height and width of a patch, pixels; divides size
    width: int = integer(1, _MAX_WIDTH)  # of the rows
    layers: int = integer(0, _MAX_LAYERS)  # transformer blocks
    heads: int = integer(1, _MAX_WIDTH)  # of self-attention; divides width
    channels: int = integer(1, 64, default=3)  # 1 for grey pictures
    mean: tuple = numbers(-1e6, 1e6, default=(0.0,))  # of the pixels, on a scale of 0 to 1; one, or one a channel
    std: tuple = numbers(1e-6, 1e6, default=(1.0,))  # of the pixels; a picture enters as (pixels - mean) / std
    hidden: int = integer(1, 4 * _MAX_WIDTH, default=None)  # of the MLPs; null: 4 width
    activation: str = choice(*_ACTIVATIONS, default="gelu")  # of the MLPs
    pre_norm: bool = flag(default=True)  # norms before the sublayers and one at the end, else after each residual
    class_token: bool = flag(default=False)  # one learned row before the patches, for pool "first"
    patch_bias: bool = flag(default=True)  # whether patches enter through a linear layer with bias
    input_norm: bool = flag(default=False)  # a norm before the first block
    pool: str = choice("mean", "max", "first", "last", "flatten", default="mean")  # rows to one; flatten: side by side
    dropout: float = number(0.0, 0.99, default=0.0)  # after every sublayer, in training
    attention_dropout: float = number(0.0, 0.99, default=0.0)  # of attention weights, in training
    init: str = choice("fan_in", "xavier", default="fan_in")  # initial weights of linear layers, see initialise
    position_std: float = number(0.0, 10.0, default=0.02)  # initial standard deviation of positions and class token

    def check(self, path):
        """Refuses keys that do not fit each other; `path` is where they stand in the file."""
        if self.size % self.patch:
            raise ValueError(f"{path}.patch is {self.patch}, expected a divisor of size, {self.size}")
        for key in ("mean", "std"):
            if len(getattr(self, key)) not in (1, self.channels):
                raise ValueError(f"{path}.{key} has {len(getattr(self, key))} numbers, expected 1 or {self.channels}")
        _check_heads(self, path)

    @property
    def rows(self) -> int:
        """Rows of a picture: patches, and the class token."""
        return (self.size // self.patch) ** 2 + self.class_token

    def count_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower, computed without building it."""
        pooled = self.width * (self.rows if self.pool == "flatten" else 1)
        patches = self.width * (self.channels * self.patch**2 + self.patch_bias)
        extra = self.width * (self.rows + self.class_token + 2 * self.input_norm)
        return patches + extra + _count_blocks(self) + pooled * embed_dim


@dataclass(frozen=True)
class TextConfig:
    """The text tower: a transformer over token ids."""

    vocabulary: int = integer(1, 1 << 24)  # number of token ids
    length: int = integer(1, 1 << 20)  # most tokens that a text may have: positions are learned
    width: int = integer(1, _MAX_WIDTH)  # of the rows
    layers: int = integer(0, _MAX_LAYERS)  # transformer blocks
    heads: int = integer(1, _MAX_WIDTH)  # of self-attention; divides width
    hidden: int = integer(1, 4 * _MAX_WIDTH, default=None)  # of the MLPs; null: 4 width
    activation: str = choice(*_ACTIVATIONS, default="gelu")  # of the MLPs
    pre_norm: bool = flag(default=True)  # norms before the sublayers and one at the end, else after each residual
    causal: bool = flag(default=False)  # whether a token sees only those before it
    pool: str = choice("mean", "max", "first", "last", default="mean")  # rows to one
    dropout: float = number(0.0, 0.99, default=0.0)  # after every sublayer, in training
    attention_dropout: float = number(0.0, 0.99, default=0.0)  # of attention weights, in training
    init: str = choice("fan_in", "xavier", default="fan_in")  # initial weights of linear layers, see initialise
    embed_std: float = number(0.0, 10.0, default=0.02)  # initial standard deviation of token embeddings
    position_std: float = number(0.0, 10.0, default=0.01)  # initial standard deviation of positions

    def check(self, path):
        """Refuses keys that do not fit each other; `path` is where they stand in the file."""
        _check_heads(self, path)

    def count_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower, computed without building it."""
        return self.width * (self.vocabulary + self.length + embed_dim) + _count_blocks(self)


@dataclass(frozen=True)
class DualEncoderConfig:
    """Two towers and the temperature of their similarities."""

    embed_dim: int = integer(1, _MAX_WIDTH)  # of the shared space
    image: ImageConfig = section(ImageConfig)
    text: TextConfig = section(TextConfig)
    temperature: float = number(1e-4, 1e4, default=0.07)  # initial; logit_scale is log(1 / temperature)
    max_logit_scale: float = number(1.0, 1e4, default=100.0)  # upper bound of 1 / temperature while training

    def check(self, path):
        """Refuses keys that do not fit each other; `path` is where they stand in the file."""
        if 1 / self.temperature > self.max_logit_scale:
            raise ValueError(f"{path}.temperature is {self.temperature}, below 1 / max_logit_scale")

    def count_parameters(self) -> int:
        """Parameters of the model, computed without building it."""
        return self.image.count_parameters(self.embed_dim) + self.text.count_parameters(self.embed_dim) + 1


def _check_heads(tower, path):
    if tower.width % tower.heads:
        raise ValueError(f"{path}.heads is {tower.heads}, expected a divisor of width, {tower.width}")


def _count_blocks(tower):
    width, hidden = tower.width, tower.hidden or 4 * tower.width
    block = 4 * width * (width + 1) + width * (2 * hidden + 1) + hidden + 4 * width
    return tower.layers * block + 2 * width * tower.pre_norm
