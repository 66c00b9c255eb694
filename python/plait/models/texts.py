"""``encode`` of texts: from strings or token ids to vectors."""

from __future__ import annotations

import numpy as np

from plait import ops
from plait._progress import bar as progress_bar
from plait.models.encoding import Direct, check_run_options, evaluating, run
from plait.models.intake import check_ids
from plait.models.vectors import check_vector_options, finish
from plait.stream import Stream

__all__ = ["Tokenized", "batch_of_texts", "encode_texts", "iterate_texts", "texts_to_ids"]

_WINDOW = 32  # batches of texts that are tokenised and sorted together


class Tokenized:
    """A model with a tokenizer, which is made when it is first needed: large vocabularies take a while."""

    _tokenizer = None
    _later = None  # (folder, family, lower)

    @property
    def tokenizer(self):
        """Turns strings into token ids; saved with the model."""
        later = self._later  # another thread may make it meanwhile
        if later is not None:
            from plait.processing import Tokenizer

            folder, family, lower = later
            made = Tokenizer.from_folder(folder, family, lower=lower)
            if family == "siglip":  # has 100 ids more than its model; those that come are checked like all others
                self._tokenizer, self._later = made, None
            else:
                self.tokenizer = made
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer):
        vocabulary = self.text.config.vocabulary
        if tokenizer is not None and len(tokenizer) > vocabulary:
            raise ValueError(
                f"tokenizer has {len(tokenizer)} ids, expected at most {vocabulary}, the vocabulary of the model"
            )
        self._tokenizer, self._later = tokenizer, None


def encode_texts(
    model,
    function,
    texts,
    forward,
    width,
    *,
    batch_size,
    normalize,
    precision,
    truncate_dim,
    show_progress,
    truncate,
    prompt="",
):
    """What every ``encode`` of texts does, see ``DualEncoder.encode_text``; `prompt` goes before every string."""
    check_vector_options(function, precision, truncate_dim, width)
    check_run_options(function, batch_size)
    if model.training:
        if precision != "float32" or truncate_dim is not None:
            raise ValueError(f"{function}: precision and truncate_dim are for evaluation, see model.eval()")
        rows = forward(batch_of_texts(model, function, texts, truncate, prompt))
        return ops.l2_normalize(rows) if normalize else rows
    items, total, single = _items(function, texts)
    bar = progress_bar(show_progress and not single, total, "text")
    try:
        parts = list(_vectors(model, function, items, forward, width, batch_size, truncate, prompt, bar))
    finally:
        bar.close()
    rows = np.concatenate(parts) if parts else np.empty((0, width), np.float32)
    rows = finish(rows, normalize, truncate_dim, precision)
    return rows[0] if single else rows


def iterate_texts(
    model, function, texts, forward, width, *, batch_size, normalize, precision, truncate_dim, truncate, prompt=""
):
    """The same, a few batches at a time. What is wrong with the options is said at once, and not when it begins."""
    check_vector_options(function, precision, truncate_dim, width)
    check_run_options(function, batch_size)
    items, _, _ = _items(function, texts)
    parts = _vectors(model, function, items, forward, width, batch_size, truncate, prompt)
    return (finish(rows, normalize, truncate_dim, precision) for rows in parts)


def batch_of_texts(model, function, texts, truncate=False, prompt=""):
    """The token ids of all texts as one stream, for a model that is called or trained."""
    items, _, single = _items(function, texts)
    if single:
        raise TypeError(f"{function}: texts is one text, expected a list of them where they are one batch")
    return model.text.ids(texts_to_ids(model, function, list(items), truncate, prompt=prompt))


def _vectors(model, function, items, forward, width, batch_size, truncate, prompt, bar=None):
    def read(chosen, start):
        return texts_to_ids(model, function, chosen, truncate, start, prompt)

    def compute(ready):
        with evaluating(model):
            return forward(model.text.ids(ready)).data

    yield from run(
        function,
        items,
        Direct(read),
        compute,
        width,
        window=_WINDOW,
        batch_size=batch_size,
        key=len,
        bar=bar,
    )


def _items(function, texts):
    """(iterable of texts, how many or None, whether it is one text alone)."""
    if isinstance(texts, str):
        return [texts], 1, True
    if isinstance(texts, Stream):
        if not isinstance(texts.rows, np.ndarray):
            raise TypeError(f"{function}: texts is a stream of tensors, expected one of whole numbers")
        return list(texts), len(texts), False
    if isinstance(texts, np.ndarray):
        if texts.ndim not in (1, 2):
            raise ValueError(f"{function}: texts has shape {texts.shape}, expected (n, tokens) or (tokens,)")
        if texts.ndim == 1 and texts.dtype.kind in "iu":
            return [texts], 1, True
        return texts.tolist() if texts.dtype.kind in "OUT" else list(texts), len(texts), False
    if isinstance(texts, (list, tuple)):
        if texts and all(isinstance(t, (int, np.integer)) and not isinstance(t, bool) for t in texts):
            return [np.asarray(texts)], 1, True
        return texts, len(texts), False
    if hasattr(texts, "__iter__") and not isinstance(texts, (bytes, bytearray, dict)):
        return texts, None, False
    raise TypeError(
        f"{function}: texts is {type(texts).__name__}, expected strings or arrays of token ids, or a list of them"
    )


def texts_to_ids(model, function, texts, truncate, start=0, prompt=""):
    """A list of strings tokenised, each after the prompt; arrays of token ids as they are."""
    strings = [isinstance(t, str) for t in texts]
    if not any(strings):
        ids = check_ids(model.text.config, texts, function, start)
        return [ids.rows[a:b] for a, b in zip(ids.offsets, ids.offsets[1:], strict=False)]
    if not all(strings):
        i = strings.index(False) if strings[0] else strings.index(True)
        raise TypeError(
            f"{function}: texts[{start + i}] is {type(texts[i]).__name__} beside {type(texts[0]).__name__}, expected "
            "strings only or token ids only"
        )
    if model.tokenizer is None:
        raise ValueError(f"{function}: the model has no tokenizer, pass token ids or set model.tokenizer")
    texts = [prompt + text for text in texts] if prompt else texts
    vocabulary = model.text.config.vocabulary
    limit = min(model.max_tokens, model.text.config.length)
    ids = model.tokenizer.encode(texts, max_length=limit, truncate=truncate, start=start)
    if len(model.tokenizer) > vocabulary:
        check_ids(model.text.config, ids, function, start)
    pad = getattr(model.tokenizer, "pad_id", None)
    if model.text.config.pad_id is None or pad is None:
        return ids
    # The model's configuration may name another pad token than the tokenizer that it was trained with.
    length = model.text.config.length
    return [np.concatenate([i, np.full(length - len(i), pad)]) if len(i) else i for i in ids]
