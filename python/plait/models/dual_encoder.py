"""Dual encoder: an image tower and a text tower that meet in one space (CLIP; Radford et al., arXiv 2103.00020)."""

from __future__ import annotations

import math

import numpy as np

from plait import ops
from plait.io.schema import parse
from plait.models.config import DualEncoderConfig
from plait.models.towers import ImageTower, TextTower
from plait.nn import Module, Parameter
from plait.tensor import no_grad

__all__ = ["DualEncoder"]


class DualEncoder(Module):
    """Pictures and texts to unit vectors, whose dot product says how well they fit.

    Parameters
    ----------
    config : DualEncoderConfig or dict
        A dict has the keys of the dataclass, with dicts for the towers, and must fit exactly.

    Attributes
    ----------
    logit_scale : Parameter
        Shape (), the logarithm of 1 / temperature, as the contrastive losses take it. In training the encoders first
        bring it back to at most ``log(config.max_logit_scale)``, so no step can push it away for good.
    tokenizer : object or None
        Turns strings into token ids; saved with the model.

    Examples
    --------
    >>> import numpy as np, plait
    >>> model = plait.create_model("glyph-tiny", seed=0)
    >>> a = model.encode_image(np.zeros((3, 32, 32), np.uint8))
    >>> b = model.encode_text([[5, 6, 7], [8], [9, 10]])
    >>> a.shape == b.shape == (3, model.config.embed_dim)
    True
    """

    def __init__(self, config: DualEncoderConfig | dict):
        super().__init__()
        self.config = c = parse(DualEncoderConfig, config)
        self.image = ImageTower(c.image, c.embed_dim)
        self.text = TextTower(c.text, c.embed_dim)
        self.logit_scale = Parameter(np.float32(-math.log(c.temperature)))
        self._tokenizer = None

    @property
    def tokenizer(self):
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer):
        if tokenizer is not None and len(tokenizer) > self.config.text.vocabulary:
            raise ValueError(
                f"tokenizer has {len(tokenizer)} ids, expected at most {self.config.text.vocabulary}, "
                "the vocabulary of the model"
            )
        self._tokenizer = tokenizer

    def encode_image(self, images):
        """Pictures to unit vectors.

        Parameters
        ----------
        images : (B, H, W, C) array or Tensor, or list of (H, W, C) arrays
            uint8 from 0 to 255, or floating from 0 to 1; the mean and deviation of the configuration are applied here.
            Models of one channel take (B, H, W) as well.

        Returns
        -------
        Tensor
            (B, embed_dim)

        Raises
        ------
        TypeError, ValueError
            The dtype or the shape does not fit the model.
        """
        self._bound_logit_scale()
        return ops.l2_normalize(self.image(images))

    def encode_text(self, texts, truncate: bool = False):
        """Texts to unit vectors. A text without tokens is absent and gives zeros.

        Parameters
        ----------
        texts : list of (tokens,) integer arrays, Stream of ids, or list of str
            Strings need a tokenizer.
        truncate : bool
            Whether strings of too many tokens are cut instead of refused.

        Returns
        -------
        Tensor
            (B, embed_dim)

        Raises
        ------
        TypeError, ValueError
            A text is too long or is none, or the model has no tokenizer.
        IndexError
            An id is outside the vocabulary.
        """
        self._bound_logit_scale()
        return ops.l2_normalize(self.text(self.text.ids(self._tokenized(texts, truncate))))

    def _tokenized(self, texts, truncate):
        if isinstance(texts, str):
            raise TypeError("encode_text: texts is one str, expected a list of them")
        if not isinstance(texts, (list, tuple)) or not any(isinstance(t, str) for t in texts):
            return texts
        if self._tokenizer is None:
            raise ValueError("encode_text: the model has no tokenizer, pass token ids or set model.tokenizer")
        return self._tokenizer.encode(texts, max_length=self.config.text.length, truncate=truncate)

    def embed_images(self, images, batch_size: int = 256) -> np.ndarray:
        """(N, embed_dim) float32 array of unit vectors, computed in evaluation mode, `batch_size` at a time."""
        return self._embed(self.encode_image, images, batch_size)

    def embed_texts(self, texts, batch_size: int = 256) -> np.ndarray:
        """(N, embed_dim) float32 array of unit vectors, computed in evaluation mode, `batch_size` at a time."""
        return self._embed(lambda t: self.encode_text(t, truncate=True), texts, batch_size)

    def _embed(self, encode, items, batch_size):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        out = np.empty((len(items), self.config.embed_dim), np.float32)
        training = self.training
        self.eval()
        try:
            with no_grad():
                for i in range(0, len(items), batch_size):
                    out[i : i + batch_size] = encode(items[i : i + batch_size]).data
        finally:
            self.train(training)
        return out

    def _bound_logit_scale(self):
        # CLIP clips after the optimiser's step. Here at the start of the next one: a hand-written loop needs no line
        # for it, and between the two nobody reads the value.
        limit = math.log(self.config.max_logit_scale)
        if self.training and self.logit_scale.data > limit:
            self.logit_scale.assign(np.float32(limit))
