"""Models of one tower: pictures or texts to vectors."""

from __future__ import annotations

import numpy as np

from plait import ops
from plait.io.schema import parse
from plait.models.config import ImageEncoderConfig, TextEncoderConfig
from plait.models.images import encode_images, images_to_rows, iterate_images
from plait.models.texts import Tokenized, batch_of_texts, encode_texts, iterate_texts
from plait.models.towers import ImageTower, TextTower
from plait.nn import LayerNorm, Linear, Module
from plait.stream import Stream

__all__ = ["ImageEncoder", "TextEncoder"]


class ImageEncoder(Module):
    """One image tower: ViT (Dosovitskiy et al., arXiv 2010.11929), DINOv2 (Oquab et al., arXiv 2304.07193), or CLIP's.

    Called with pictures it gives the stream of its last hidden states; ``encode`` gives one vector a picture.

    Parameters
    ----------
    config : ImageEncoderConfig or dict

    Attributes
    ----------
    processor : plait.processing.ImageProcessor or None
        Turns pictures of any size into pixel values; saved with the model.

    Examples
    --------
    >>> import numpy as np, plait
    >>> tower = {"size": 16, "patch": 8, "width": 8, "layers": 1, "heads": 2}
    >>> model = plait.create_model({"type": "image_encoder", "config": {"image": tower}}).eval()
    >>> model(np.zeros((3, 16, 16, 3), np.uint8))
    Stream(3 samples, 12 rows of (8,), float32, lengths 4 to 4, grid (2, 2))
    >>> model.encode(np.zeros((3, 16, 16, 3), np.uint8)).shape
    (3, 8)
    """

    def __init__(self, config: ImageEncoderConfig | dict):
        super().__init__()
        self.config = c = parse(ImageEncoderConfig, config)
        self.image = ImageTower(c.image, c.embed_dim)
        self.processor = None
        self.source = None

    def forward(self, images) -> Stream:
        """Pictures, all of one size, to the stream of the last block's rows."""
        return self.image.hidden(images_to_rows(self, "forward", images))

    def encode(
        self,
        images,
        batch_size: int = 32,
        *,
        normalize: bool = False,
        precision: str = "float32",
        truncate_dim: int | None = None,
        show_progress: bool | None = None,
        on_error="raise",
        workers: int | None = None,
    ):
        """Pictures to vectors, see ``DualEncoder.encode_image``; not of unit length unless asked.

        Returns
        -------
        ndarray, or Tensor
            (n, width), or (width,) for one picture. A Tensor on the tape in training mode.
        """
        return encode_images(
            self,
            "encode",
            images,
            self.image,
            self.config.width,
            batch_size=batch_size,
            normalize=normalize,
            precision=precision,
            truncate_dim=truncate_dim,
            show_progress=show_progress,
            on_error=on_error,
            workers=workers,
        )

    def encode_iter(
        self,
        images,
        batch_size: int = 32,
        *,
        normalize: bool = False,
        precision: str = "float32",
        truncate_dim: int | None = None,
        on_error="raise",
        workers: int | None = None,
    ):
        """Like ``encode``, but yields arrays of a few batches each, in order: memory stays flat."""
        return iterate_images(
            self,
            "encode_iter",
            images,
            self.image,
            self.config.width,
            batch_size=batch_size,
            normalize=normalize,
            precision=precision,
            truncate_dim=truncate_dim,
            on_error=on_error,
            workers=workers,
        )


class TextEncoder(Tokenized, Module):
    """One text tower, pooled: sentence embeddings (Reimers & Gurevych, arXiv 1908.10084).

    Called with token ids (or strings) it gives the stream of its last hidden states; ``encode`` a vector for each text.

    Parameters
    ----------
    config : TextEncoderConfig or dict

    Attributes
    ----------
    tokenizer : object or None
        Turns strings into token ids; saved with the model.
    max_tokens : int
        Most tokens of a text.
    prompts : dict of str to str
        Texts that ``encode`` puts in front, by name.
    default_prompt_name : str or None
    truncate_dim : int or None
        How many columns ``encode`` gives where it is not told; more than there are mean all. Training has all of them.

    Examples
    --------
    >>> import plait
    >>> tower = {"vocabulary": 30, "length": 8, "width": 8, "layers": 1, "heads": 2}
    >>> model = plait.create_model({"type": "text_encoder", "config": {"text": tower}}).eval()
    >>> model([[1, 2, 3], [4]])
    Stream(2 samples, 4 rows of (8,), float32, lengths 1 to 3)
    >>> model.encode([[1, 2, 3], [4]]).shape
    (2, 8)
    """

    def __init__(self, config: TextEncoderConfig | dict):
        super().__init__()
        self.config = c = parse(TextEncoderConfig, config)
        self.text = TextTower(c.text, None)
        width, self.heads = c.text.width * len(c.pooling), []
        for head in c.heads:
            self.heads.append(_head(head, width, c.text.eps))
            width = head.width or width
        self.source = None
        self.max_tokens = c.text.length
        self.prompts: dict = {}
        self.default_prompt_name: str | None = None
        self.truncate_dim: int | None = None

    def forward(self, texts) -> Stream:
        """Token ids (or strings) to the stream of the last block's rows."""
        return self.text.hidden(self.text.filled(batch_of_texts(self, "forward", texts)))

    def encode(
        self,
        sentences,
        batch_size: int = 64,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        normalize: bool | None = None,
        precision: str = "float32",
        truncate_dim: int | None = None,
        show_progress: bool | None = None,
        truncate: bool = False,
    ):
        """Texts to vectors.

        Parameters
        ----------
        sentences : list or generator of str, or of (tokens,) integer arrays; Stream of ids; (n, tokens) array; one text
        batch_size : int
            Texts that are computed together.
        prompt : str, optional
            Put in front of every string. Token ids are taken as they are: with the prompt's in front, if there is one.
        prompt_name : str, optional
            Of one in ``prompts``; default ``default_prompt_name``.
        normalize : bool, optional
            Unit length; default: as the folder says (it has a Normalize step).
        precision, show_progress
            As in ``DualEncoder.encode_image``.
        truncate_dim : int, optional
            Only the leading columns, brought to unit length after that where `normalize` says so; default: the model's
            ``truncate_dim``.
        truncate : bool
            Texts of more than ``max_tokens`` tokens are an error; or, with True, are cut, and a warning counts them.

        Returns
        -------
        ndarray, or Tensor
            (n, width), or (width,) for one text. A Tensor on the tape in training mode.

        Raises
        ------
        TypeError, ValueError
            A text is too long or is none, an option is wrong, or there is no tokenizer.
        IndexError
            An id is outside the vocabulary.
        """
        return self._with_prompt(encode_texts, "encode", sentences, prompt, prompt_name)(
            batch_size=batch_size,
            normalize=self._unit(normalize),
            precision=precision,
            truncate_dim=self._columns(truncate_dim),
            show_progress=show_progress,
            truncate=truncate,
        )

    def encode_iter(
        self,
        sentences,
        batch_size: int = 64,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        normalize: bool | None = None,
        precision: str = "float32",
        truncate_dim: int | None = None,
        truncate: bool = False,
    ):
        """Like ``encode``, but yields arrays of a few batches each, in order: memory stays flat."""
        return self._with_prompt(iterate_texts, "encode_iter", sentences, prompt, prompt_name)(
            batch_size=batch_size,
            normalize=self._unit(normalize),
            precision=precision,
            truncate_dim=self._columns(truncate_dim),
            truncate=truncate,
        )

    def _unit(self, normalize):
        ends = bool(self.config.heads) and self.config.heads[-1].kind == "normalize"
        return ends if normalize is None else bool(normalize)

    def _columns(self, truncate_dim):
        default = self.truncate_dim
        if truncate_dim is not None or self.training:
            return truncate_dim
        return None if isinstance(default, (int, np.integer)) and default > self.config.width else default

    def _with_prompt(self, function, name, sentences, prompt, prompt_name):
        prompt, skip = self._prompt(name, prompt, prompt_name), 0
        if prompt and not self.config.pool_prompt:
            ids = self.tokenizer.encode([prompt]) if self.tokenizer is not None else [np.empty(0)]
            ends = [getattr(self.tokenizer, key, None) for key in ("eos_id", "sep_id")]
            skip = len(ids[0]) - (len(ids[0]) > 0 and ids[0][-1] in ends)  # without what closes a text

        def forward(ids):
            return self._pooled(ids, skip)

        return lambda **options: function(self, name, sentences, forward, self.config.width, prompt=prompt, **options)

    def _prompt(self, function, prompt, prompt_name):
        if prompt is not None and not isinstance(prompt, str):
            raise TypeError(f"{function}: prompt is {type(prompt).__name__}, expected str")
        if prompt is not None:
            return prompt
        name = self.default_prompt_name if prompt_name is None else prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise ValueError(f"{function}: prompt_name is {name!r}, expected one of the model's prompts: {known}")
        return self.prompts[name]

    def _pooled(self, ids, skip):
        x = None
        parts = []
        for mode in self.config.pooling:
            if mode == "end":
                parts.append(self.text.pooled(ids, "end"))
                continue
            if x is None:
                x = _without_first(self.text.hidden(self.text.filled(ids)), skip)
            parts.append(_pool(x, mode, skip))
        rows = parts[0] if len(parts) == 1 else ops.concat(parts, axis=1)
        for head in self.heads:
            rows = head(rows)
        return rows


class _Normalize(Module):
    def forward(self, x):
        return ops.l2_normalize(x)


def _head(config, width, eps):
    if config.kind == "dense":
        return Linear(width, config.width, bias=config.bias, activation=config.activation)
    return LayerNorm(width, 1e-5) if config.kind == "layer_norm" else _Normalize()


def _pool(x, mode, skip):
    if mode == "mean_sqrt":
        return ops.multiply(ops.pool(x, mode="mean"), np.sqrt(x.lengths, dtype=np.float32)[:, None])
    if mode == "weighted_mean":  # the i-th row weighs i: a softmax of log i
        places = 1 + skip + np.arange(x.offsets[-1]) - np.repeat(x.offsets[:-1], x.lengths)
        return ops.attention_pool(x, None, np.log(places).astype(np.float32)[:, None])
    return ops.pool(x, mode=mode)


def _without_first(x, count):
    if not count:
        return x
    kept = np.minimum(x.lengths, count)
    inside = np.arange(x.offsets[-1]) - np.repeat(x.offsets[:-1], x.lengths) >= np.repeat(kept, x.lengths)
    return Stream(ops.index(x.rows, np.flatnonzero(inside)), np.concatenate([[0], np.cumsum(x.lengths - kept)]))
