"""Models as one callable over columns, for engines that send batches to many processes: Ray, Spark, multiprocessing."""

from __future__ import annotations

import collections
import functools
import inspect
import multiprocessing
import os
import threading
import uuid

import numpy as np

__all__ = ["Embedder"]

_KEPT = 4  # models that stay loaded in a process for copies that come and go
_loaded: collections.OrderedDict = collections.OrderedDict()
_lock = threading.Lock()


class Embedder:
    """Adds columns of vectors to batches of columns: ``embedder({"caption": texts})`` has ``"caption_vector"`` as well.

    It pickles as its arguments. The model is loaded by the first batch in each process, its weights mapped, so that the
    processes of a machine share the pages; copies that a pool unpickles for every batch share what was loaded.

    **Threads.** Workers that each took all cores would stand in each other's way. Engines that know how many workers
    there are say so in OMP_NUM_THREADS, which plait obeys: Ray sets it to the ``num_cpus`` of an actor, Spark to the
    cores of a task, joblib and Dask to their share. Where it is not set, a process that ``multiprocessing`` started
    takes one thread, for as many workers as cores are usual there, and another process keeps what it has. `threads`
    overrides this. It is plait's setting in that process, as by ``plait.set_num_threads``. Processes that were forked
    always compute on one thread: prefer the start methods "spawn" and "forkserver".

    **Absence.** None, or NaN among objects, is an absent value, whose vector is zeros.

    Parameters
    ----------
    model : path-like
        A folder that ``plait.load`` takes, on each machine.
    images, texts : str, list of str, or dict of str to str
        Input columns; a dict has the names of the output columns, which are ``"<input>_vector"`` otherwise. Columns of
        pictures hold arrays (H, W, 3), paths or the bytes of files, columns of texts strings or token ids.
    threads : int, optional
        See above.
    **options
        Of ``encode_image``, ``encode_text`` or ``encode``: batch_size, normalize, precision, truncate_dim, on_error,
        workers, truncate, prompt, prompt_name, cache. Each goes to those that have it. ``on_error="skip"`` gives zeros
        for a picture that cannot be read, and warns.

    Raises
    ------
    TypeError, ValueError
        There is no column, two outputs have one name, or an option is unknown. What needs the model is checked by the
        first batch: its errors are those of ``plait.load`` and ``encode``, and name the column.

    Examples
    --------
    >>> import os, pickle, plait, tempfile
    >>> tower = {"vocabulary": 30, "length": 8, "width": 8, "layers": 1, "heads": 2}
    >>> model = plait.create_model({"type": "text_encoder", "config": {"text": tower}})
    >>> model.tokenizer = plait.data.WordTokenizer(["red", "blue"], "abc")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(os.path.join(folder, "model"))
    ...     embedder = plait.Embedder(os.path.join(folder, "model"), texts="title")
    ...     batch = pickle.loads(pickle.dumps(embedder))({"title": ["red", None, "cab"], "price": [3, 4, 5]})
    >>> batch["title_vector"].shape, bool(batch["title_vector"][1].any()), batch["price"]
    ((3, 8), False, [3, 4, 5])
    """

    def __init__(self, model, images=(), texts=(), threads=None, **options):
        self.model = os.path.abspath(os.fspath(model))
        self.images, self.texts = _columns("images", images), _columns("texts", texts)
        if not self.images and not self.texts:
            raise ValueError("Embedder: no columns, expected images, texts or both")
        outputs = [*self.images.values(), *self.texts.values()]
        twice = [name for name, n in collections.Counter(outputs).items() if n > 1]
        if twice:
            raise ValueError(f"Embedder: two columns would be called {twice[0]!r}")
        whole = isinstance(threads, int) and not isinstance(threads, bool)
        if threads is not None and not (whole and threads >= 1):
            raise ValueError(f"Embedder: threads is {threads!r}, expected a whole number of at least 1, or None")
        self.threads, self.options = threads, dict(options)
        self._check_options()
        self._key, self._encoders = uuid.uuid4().hex, None

    def _check_options(self):
        from plait.models import DualEncoder, ImageEncoder, TextEncoder

        functions = [DualEncoder.encode_image, ImageEncoder.encode] if self.images else []
        functions += [DualEncoder.encode_text, TextEncoder.encode] if self.texts else []
        known = list(dict.fromkeys(name for f in functions for name in _options_of(f)))
        unknown = [name for name in self.options if name not in known]
        if unknown:
            raise TypeError(f"Embedder: {unknown[0]} is no option, expected some of {', '.join(known)}")

    def __getstate__(self):
        return {**vars(self), "_encoders": None}

    def __repr__(self):
        columns = ", ".join(f"{a} -> {b}" for a, b in (*self.images.items(), *self.texts.items()))
        return f"Embedder({self.model!r}, {columns})"

    def __call__(self, batch):
        """The batch and its vectors.

        Parameters
        ----------
        batch : dict of str to array or list
            Columns of one length; they may be read-only. Nothing of them is changed or copied.

        Returns
        -------
        dict
            The same columns, and an array (n, D) for each of `images` and `texts`.

        Raises
        ------
        KeyError, TypeError, ValueError
            A column is missing, there already, of another length, or holds something else.
        OSError
            A picture cannot be read.
        """
        if not isinstance(batch, dict):
            raise TypeError(f"Embedder: batch is {type(batch).__name__}, expected a dict of columns")
        pairs = [("images", *names) for names in self.images.items()]
        pairs += [("texts", *names) for names in self.texts.items()]
        lengths = {}
        for _, name, output in pairs:
            if name not in batch:
                raise KeyError(f"Embedder: the batch has no column {name!r}, only {', '.join(map(repr, batch))}")
            if output in batch:
                raise ValueError(f"Embedder: the batch has a column {output!r} already")
            lengths[name] = len(batch[name])
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Embedder: columns have lengths {lengths}, expected one length")
        encoders = self._load()
        return {**batch, **{output: self._encode(encoders[kind], name, batch[name]) for kind, name, output in pairs}}

    def _encode(self, encode, name, column):
        items = _items(name, column)
        present = [i for i, item in enumerate(items) if not _is_absent(item)]
        numbers = [i for i in present if isinstance(items[i], (float, int, np.number))]
        if numbers:
            raise TypeError(f"Embedder: column {name!r} holds {items[numbers[0]]!r}, expected pictures or texts")
        try:
            rows = encode([items[i] for i in present])
        except (IndexError, OSError, TypeError, ValueError) as error:
            error.add_note(f"in column {name!r} of the batch of plait.Embedder")
            raise
        if len(present) == len(items):
            return rows
        filled = np.zeros((len(items), rows.shape[1]), rows.dtype)
        filled[present] = rows
        return filled

    def _load(self):
        if self._encoders is None:
            with _lock:
                if self._key not in _loaded:
                    _loaded[self._key] = self._make()
                    while len(_loaded) > _KEPT:
                        _loaded.popitem(last=False)
                _loaded.move_to_end(self._key)
                self._encoders = _loaded[self._key]
        return self._encoders

    def _make(self):
        import plait

        threads = _threads(self.threads)
        if threads is not None:
            plait.set_num_threads(threads)
        model = plait.load(self.model)
        encoders, unused = {}, set(self.options)
        for kind, wanted in (("images", self.images), ("texts", self.texts)):
            if wanted:
                function = _encoder_of(model, kind, self.model)
                options = {key: self.options[key] for key in _options_of(function) if key in self.options}
                encoders[kind] = functools.partial(function, show_progress=False, **options)
                unused -= set(options)
        if unused:
            raise TypeError(
                f"Embedder: {min(unused)} is no option of {type(model).__name__}, the model of {self.model}"
            )
        return encoders


def _encoder_of(model, kind, folder):
    """The method that takes pictures or texts."""
    from plait.models import DualEncoder, ImageEncoder, TextEncoder

    if isinstance(model, DualEncoder):
        return model.encode_image if kind == "images" else model.encode_text
    if isinstance(model, ImageEncoder if kind == "images" else TextEncoder):
        return model.encode
    raise TypeError(f"Embedder: {folder} is a {type(model).__name__}, which does not take {kind}")


def _options_of(function):
    """Names of keyword options, without the items, and without the bar, which many processes would draw over."""
    names = list(inspect.signature(function).parameters)
    return [name for name in names if name not in ("self", "images", "texts", "sentences", "show_progress")]


def _columns(argument, value):
    """{input: output}."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, dict):
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"Embedder: {argument} is {type(value).__name__}, expected names of columns")
        value = {name: f"{name}_vector" for name in value}
    for name in (*value.keys(), *value.values()):
        if not isinstance(name, str) or not name:
            raise TypeError(f"Embedder: {argument} holds {name!r}, expected names of columns")
    return dict(value)


def _items(name, column):
    """The values of a column, none of them copied."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind == "S":
            raise TypeError(
                f"Embedder: column {name!r} has dtype {column.dtype}, which drops zeros at the end of bytes; expected "
                "an array of objects, or of strings"
            )
        if column.dtype.kind in "UT":
            return column.tolist()
    return list(column)


def _is_absent(item):
    return item is None or (isinstance(item, float) and item != item)


def _threads(asked):
    """How many a worker takes; None: what it has."""
    if asked is not None:
        return asked
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if given.isdecimal() and int(given) > 0:
        return min(int(given), 1024)
    return 1 if multiprocessing.parent_process() is not None else None
