"""Dual encoder: an image tower and a text tower that meet in one space (CLIP; Radford et al., arXiv 2103.00020)."""

from __future__ import annotations

import collections
import math

import numpy as np

from plait.io.schema import parse
from plait.models.config import DualEncoderConfig
from plait.models.encoding import evaluating
from plait.models.images import encode_images, iterate_images
from plait.models.intake import fits
from plait.models.texts import Tokenized, encode_texts, iterate_texts
from plait.models.towers import ImageTower, TextTower
from plait.nn import Module, Parameter
from plait.tensor import Tensor

__all__ = ["DualEncoder"]

_CACHED = 32  # lists of texts whose vectors are kept


class _Cache:
    """Vectors by list of texts, of one state of the model; copies of the model begin anew."""

    def __init__(self):
        self._state, self._held, self._kept = None, None, collections.OrderedDict()

    def while_same(self, state, held):
        """What was kept for this state; another one empties it. `held` are the objects whose ids it has."""
        if state != self._state:
            self._state, self._held, self._kept = state, held, collections.OrderedDict()
        return self._kept

    def __reduce__(self):
        return _Cache, ()


class DualEncoder(Tokenized, Module):
    """Pictures and texts to unit vectors, whose dot product says how well they fit.

    In training mode (``create_model``, ``.train()``) the encoders give tensors on the tape, a batch at once; in
    evaluation mode (``plait.load``, ``.eval()``) plain float32 arrays, batch by batch, for any number of items.

    Parameters
    ----------
    config : DualEncoderConfig or dict
        A dict has the keys of the dataclass, with dicts for the towers, and must fit exactly.

    Attributes
    ----------
    logit_scale : Parameter
        Shape (), the logarithm of 1 / temperature, as the contrastive losses take it. In training the encoders first
        bring it back to at most ``log(config.max_logit_scale)``, so no step can push it away for good.
    logit_bias : Parameter or None
        Shape (): what models of the sigmoid loss add to the scaled cosine.
    tokenizer : object or None
        Turns strings into token ids; saved with the model.
    processor : plait.processing.ImageProcessor or None
        Turns pictures of any size into pixel values; saved with the model.
    max_tokens : int
        Most tokens of a text.

    Examples
    --------
    >>> import numpy as np, plait
    >>> model = plait.create_model("glyph-tiny", seed=0)
    >>> a = model.encode_image(np.zeros((3, 32, 32), np.uint8))
    >>> b = model.encode_text([[5, 6, 7], [8], [9, 10]])
    >>> a.shape == b.shape == (3, model.config.embed_dim)
    True
    >>> model.eval().encode_text([5, 6, 7]).dtype, model.encode_text([5, 6, 7]).shape
    (dtype('float32'), (256,))
    """

    def __init__(self, config: DualEncoderConfig | dict):
        super().__init__()
        self.config = c = parse(DualEncoderConfig, config)
        self.image = ImageTower(c.image, c.image_dim)
        self.text = TextTower(c.text, c.text_dim)
        self.logit_scale = Parameter(np.float32(-math.log(c.temperature)))
        self.logit_bias = Parameter(np.float32(-10.0)) if c.logit_bias else None
        self.processor = None
        self.source = None
        self.max_tokens = c.text.length
        self._cache = _Cache()

    # ---- pictures

    def encode_image(
        self,
        images,
        batch_size: int = 32,
        *,
        normalize: bool = True,
        precision: str = "float32",
        truncate_dim: int | None = None,
        show_progress: bool | None = None,
        on_error="raise",
        workers: int | None = None,
    ):
        """Pictures to vectors.

        Parameters
        ----------
        images : list, generator or array of pictures, or one picture
            A picture is a path, the bytes of a file, a PIL image or an array. With an image processor arrays are
            (H, W, 3), (H, W) and what else ``plait.processing.open_picture`` takes, of any size; without one they have
            the model's own size and are uint8 from 0 to 255, or floating from 0 to 1 (models of one channel take
            (n, H, W) as well). Floating (n, C, S, S) arrays, or items (C, S, S), with the model's own C and S are
            processed already and taken as they are.
        batch_size : int
            Pictures that are computed together.
        normalize : bool
            Whether the vectors are brought to unit length.
        precision : {"float32", "int8", "uint8", "binary", "ubinary"}
            See ``plait.models.quantize_embeddings``.
        truncate_dim : int, optional
            Only the leading columns, brought to unit length after that.
        show_progress : bool, optional
            A bar. Default: if the error stream is a terminal or in a notebook, and it takes long.
        on_error : {"raise", "skip"} or callable
            What becomes of a picture that cannot be read: an exception, which names it; a row of zeros and a warning
            that counts such; or a row of zeros and a call ``on_error(index, exception)``.
        workers : int, optional
            Threads that read pictures while the others compute; 0: all threads take turns at both, which is the
            default below four threads.

        Returns
        -------
        ndarray, or Tensor
            (n, embed_dim), or (embed_dim,) for one picture. A Tensor on the tape in training mode, or where `images`
            is one.

        Raises
        ------
        TypeError, ValueError
            A picture or an option is none; the message says which.
        OSError
            A file cannot be read.
        """
        self._bound_logit_scale()
        return encode_images(
            self,
            "encode_image",
            images,
            self.image,
            self.config.embed_dim,
            batch_size=batch_size,
            normalize=normalize,
            precision=precision,
            truncate_dim=truncate_dim,
            show_progress=show_progress,
            on_error=on_error,
            workers=workers,
        )

    def encode_image_iter(
        self,
        images,
        batch_size: int = 32,
        *,
        normalize: bool = True,
        precision: str = "float32",
        truncate_dim: int | None = None,
        on_error="raise",
        workers: int | None = None,
    ):
        """Like ``encode_image``, but yields arrays of a few batches each, in order: memory stays flat."""
        return iterate_images(
            self,
            "encode_image_iter",
            images,
            self.image,
            self.config.embed_dim,
            batch_size=batch_size,
            normalize=normalize,
            precision=precision,
            truncate_dim=truncate_dim,
            on_error=on_error,
            workers=workers,
        )

    # ---- texts

    def encode_text(
        self,
        texts,
        batch_size: int = 64,
        *,
        normalize: bool = True,
        precision: str = "float32",
        truncate_dim: int | None = None,
        show_progress: bool | None = None,
        truncate: bool = False,
        cache: bool = False,
    ):
        """Texts to vectors. A text without tokens is absent and gives zeros.

        Parameters
        ----------
        texts : list or generator of str, or of (tokens,) integer arrays; Stream of ids; (n, tokens) array; or one text
            Strings need a tokenizer.
        batch_size, normalize, precision, truncate_dim, show_progress
            As in ``encode_image``.
        truncate : bool
            Texts of too many tokens are an error; or, with True, are cut, and a warning counts them.
        cache : bool
            Keep the vectors of these strings (a table of prompts or class names), so that the same list costs nothing
            the next time. Changed weights and another tokenizer are noticed. Only for strings, and in evaluation mode.

        Returns
        -------
        ndarray, or Tensor
            (n, embed_dim), or (embed_dim,) for one text. A Tensor on the tape in training mode.

        Raises
        ------
        TypeError, ValueError
            A text is too long or is none, or the model has no tokenizer.
        IndexError
            An id is outside the vocabulary.
        """
        self._bound_logit_scale()
        options = {
            "batch_size": batch_size,
            "normalize": normalize,
            "precision": precision,
            "truncate_dim": truncate_dim,
            "show_progress": show_progress,
            "truncate": truncate,
        }
        if cache and not self.training:
            if isinstance(texts, str):
                return self._cached((texts,), options)[0]
            if isinstance(texts, (list, tuple)) and all(isinstance(t, str) for t in texts):
                return self._cached(tuple(texts), options)
        return encode_texts(self, "encode_text", texts, self.text, self.config.embed_dim, **options)

    def encode_text_iter(
        self,
        texts,
        batch_size: int = 64,
        *,
        normalize: bool = True,
        precision: str = "float32",
        truncate_dim: int | None = None,
        truncate: bool = False,
    ):
        """Like ``encode_text``, but yields arrays of a few batches each, in order: memory stays flat."""
        return iterate_texts(
            self,
            "encode_text_iter",
            texts,
            self.text,
            self.config.embed_dim,
            batch_size=batch_size,
            normalize=normalize,
            precision=precision,
            truncate_dim=truncate_dim,
            truncate=truncate,
        )

    def _cached(self, texts, options):
        parameters = self.text.parameters()
        held = self.tokenizer, parameters  # alive, so that nothing else gets their ids
        state = id(self.tokenizer), self.max_tokens, tuple((id(p), p.version) for p in parameters)
        kept = self._cache.while_same(state, held)
        key = (texts, *(options[k] for k in ("normalize", "precision", "truncate_dim", "truncate")))
        vectors = kept.pop(key, None)
        if vectors is None:
            vectors = encode_texts(self, "encode_text", list(texts), self.text, self.config.embed_dim, **options)
        kept[key] = vectors  # the newest last
        while len(kept) > _CACHED:
            kept.popitem(last=False)
        return vectors.copy()

    # ---- both

    def zero_shot(
        self,
        images,
        labels,
        templates=("a photo of a {}.",),
        batch_size: int = 32,
        *,
        cache: bool = True,
        show_progress: bool | None = None,
        on_error="raise",
        workers: int | None = None,
    ):
        """Probabilities of labels that nobody trained on, from the texts that describe them.

        A label's vector is the mean of the unit vectors of its texts, one a template, brought to unit length again
        (Radford et al., arXiv 2103.00020, section 3.1.4). With a ``logit_bias`` (SigLIP) the probabilities are
        sigmoids, each label by itself; else a softmax over the labels. A picture that was skipped, or whose vector is
        zeros, gets zeros.

        Parameters
        ----------
        images : as in ``encode_image``; or an (n, embed_dim) or (embed_dim,) array of vectors that it gave
            Floating arrays of one or two dimensions are vectors, of any length: a grey picture of floating values goes
            in a list. uint8 arrays are pictures.
        labels : list of str
        templates : str or list of str
            With ``{}`` where the label goes.
        batch_size, show_progress, on_error, workers
            As in ``encode_image``.
        cache : bool
            Keep the table of label vectors for the next call.

        Returns
        -------
        ndarray
            (n, len(labels)) float32, or (len(labels),) for one picture.

        Raises
        ------
        TypeError, ValueError
            Labels or templates are none, a template has no ``{}``, or a label is no text to the tokenizer; vectors have
            another width, or are quantised.

        Examples
        --------
        >>> import numpy as np, plait
        >>> model = plait.create_model("glyph-tiny", seed=0)
        >>> model.tokenizer = plait.data.WordTokenizer.train(["a small letter", "a big letter"])
        >>> model.zero_shot(np.zeros((3, 32, 32), np.uint8), ["small", "big"], "a {} letter").shape
        (3, 2)
        """
        table = self._label_table(labels, templates, cache)
        x = self._given_vectors(images)
        if x is None:
            options = {"show_progress": show_progress, "on_error": on_error, "workers": workers}
            x = self._evaluated(self.encode_image, images, batch_size, **options)
        logits = np.exp(self.logit_scale.data) * (x @ table.T)
        if self.logit_bias is not None:
            logits = logits + self.logit_bias.data
            e = np.exp(-np.abs(logits))
            probabilities = np.where(logits < 0, e, 1) / (1 + e)
        else:
            e = np.exp(logits - logits.max(axis=-1, keepdims=True))
            probabilities = e / e.sum(axis=-1, keepdims=True)
        return np.where(x.any(axis=-1, keepdims=True), probabilities, 0).astype(np.float32)

    def _given_vectors(self, images):
        """Vectors that came in place of pictures, of unit length; None where these are pictures."""
        x, c = images.data if isinstance(images, Tensor) else images, self.config
        if not isinstance(x, np.ndarray) or x.ndim not in (1, 2):
            return None
        floating = x.dtype.kind == "f" or x.dtype.name == "bfloat16"
        if not floating and x.dtype != np.int8:
            return None
        if not floating or x.shape[-1] != c.embed_dim:
            if floating and x.ndim == 2 and self.processor is None and fits(c.image, x.shape, 1):
                return None
            raise ValueError(
                f"zero_shot: images has shape {x.shape} and dtype {x.dtype}, expected pictures (a grey one of floating "
                f"values in a list), or vectors (n, {c.embed_dim}) as encode_image gives them in float32"
            )
        if not np.isfinite(x).all():
            raise ValueError("zero_shot: images are vectors with a value that is not finite")
        x = x.astype(np.result_type(x, np.float32), copy=False)
        lengths = np.linalg.norm(x, axis=-1, keepdims=True)
        return x / np.where(lengths > 0, lengths, 1)

    def _label_table(self, labels, templates, cache):
        templates = [templates] if isinstance(templates, str) else list(templates)
        labels = list(labels) if not isinstance(labels, str) else labels
        if not isinstance(labels, list) or not labels or not all(isinstance(n, str) for n in labels):
            raise TypeError(f"zero_shot: labels is {str(labels)[:60]!r}, expected a list of at least one str")
        wrong = [t for t in templates if not isinstance(t, str) or "{}" not in t]
        if wrong or not templates:
            raise ValueError(f"zero_shot: templates holds {wrong[:1] or 'nothing'}, expected texts with {{}}")
        texts = [t.replace("{}", label) for label in labels for t in templates]
        vectors = self._evaluated(self.encode_text, texts, show_progress=False, cache=cache)
        mean = vectors.reshape(len(labels), len(templates), -1).mean(axis=1)
        norms = np.linalg.norm(mean, axis=1, keepdims=True)
        if not norms.all():
            i = int(np.argmin(norms))
            raise ValueError(f"zero_shot: labels[{i}] is {labels[i][:60]!r}, which has no tokens")
        return mean / norms

    def embed_images(self, images, batch_size: int = 256) -> np.ndarray:
        """(N, embed_dim) float32 unit vectors: ``encode_image`` in evaluation mode, also while in training."""
        return self._evaluated(self.encode_image, images, batch_size, show_progress=False)

    def embed_texts(self, texts, batch_size: int = 256) -> np.ndarray:
        """(N, embed_dim) float32 unit vectors: ``encode_text`` in evaluation mode, also while the model is in training.

        Texts of too many tokens are cut, with a warning.
        """
        return self._evaluated(self.encode_text, texts, batch_size, show_progress=False, truncate=True)

    def _evaluated(self, encode, *args, **options):
        with evaluating(self):
            vectors = encode(*args, **options)
        return vectors.numpy() if isinstance(vectors, Tensor) else vectors

    def _bound_logit_scale(self):
        # CLIP clips after the optimiser's step. Here at the start of the next one: a hand-written loop needs no line
        # for it, and between the two nobody reads the value.
        limit = math.log(self.config.max_logit_scale)
        if self.training and self.logit_scale.data > limit:
            self.logit_scale.assign(np.float32(limit))
