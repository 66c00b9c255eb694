"""An index of pictures: which model and folder it belongs to, and what it holds of them."""

from __future__ import annotations

import contextlib
import os

import plait
from plait._texts import TextError
from plait.models import DualEncoder, ImageEncoder, fingerprint
from plait.search import Index

from ._pictures import plain_error

__all__ = ["Album", "encode_pictures", "query_of"]

# Beside the vectors lies a second collection of one row, for an index has no place for the folders that it belongs to.
_SETTINGS, _ROW = "plait_settings", "pictures"


class Album:
    """An open index with its model.

    Attributes
    ----------
    index : plait.search.Index
    model : Module
    folder : str
        Of the model.
    fresh : bool
        Whether the index is a local file that was made just now.
    root : str or None
        Folder of the pictures; ids of the index are paths below it. None where ``plait index`` did not make the index.
    """

    def __init__(self, index, model, folder, root, fresh=False):
        self.index, self.model, self.folder, self.root, self.fresh = index, model, folder, root, fresh

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.index.close()

    @classmethod
    def open(cls, db, token, folder):
        """Opens an index; `folder` of the model may be None, for the one that it was made with."""
        return cls._with_model(Index.open(db, token=token), db, token, folder)

    @classmethod
    def make(cls, db, token, folder, root):
        """Opens or makes the index of the pictures below `root`."""
        fresh = not os.path.lexists(db)
        try:
            index = Index.open(db, token=token)
        except FileNotFoundError:
            if folder is None:
                raise ValueError(f"{db} is new: name the model that is to make its vectors by --model") from None
            model = plait.load(folder)
            index = Index.create(db, _width(model, folder), model=fingerprint(model), token=token)
            album = cls(index, model, folder, None, fresh and os.path.isdir(db))  # no address of a server is a folder
        else:
            album = cls._with_model(index, db, token, folder)
        try:
            _width(album.model, album.folder)
            root = os.path.realpath(root)
            if album.root not in (None, root) and os.path.isdir(album.root):
                raise ValueError(f"{db}: holds the pictures of {album.root}; use another --db for {root}")
            album.folder, album.root = os.path.realpath(album.folder), root
            _write_settings(db, token, {"model": album.folder, "root": root})
            return album
        except BaseException:
            index.close()
            raise

    @classmethod
    def _with_model(cls, index, db, token, folder):
        try:
            known = _read_settings(db, token)
            remembered = known.get("model")
            if folder is None and remembered is None:
                raise ValueError(f"{db}: does not say where its model is; name the folder with --model")
            if folder is None and not os.path.isdir(remembered):
                raise FileNotFoundError(
                    f"{db}: its model was in {remembered}, which is gone; name the folder with --model"
                )
            folder = folder or remembered
            model = plait.load(folder)
            if index.model != fingerprint(model):
                made = f", from {remembered}" if remembered and folder != remembered else ""
                raise ValueError(
                    f"{db}: was made with another model ({index.model}{made}) than that in {folder} "
                    f"({fingerprint(model)}), and their vectors cannot be compared; use that model, or another --db"
                )
            return cls(index, model, folder, known.get("root"))
        except BaseException:
            index.close()
            raise

    def stored(self) -> dict:
        """{path: (bytes, time of the last change)} of the pictures in the index."""
        found: dict = {}
        for ids, _, facts in self.index.batches(5000, vectors=False):
            found.update(zip(ids, [(row.get("size"), row.get("mtime")) for row in facts], strict=True))
        return found


def encode_pictures(model, paths, **options):
    """Yields unit vectors of pictures, a few batches at a time."""
    if isinstance(model, ImageEncoder):
        return model.encode_iter(paths, normalize=True, **options)
    return model.encode_image_iter(paths, **options)


def query_of(model, text, image):
    """The unit vector of a text, or of a picture in a file."""
    if text is None:
        try:
            return next(encode_pictures(model, [os.fspath(image)]))[0]
        except (OSError, ValueError) as error:
            raise ValueError(f"--image: {plain_error(error)}") from None
    if not isinstance(model, DualEncoder):
        raise ValueError(f"the {type(model).__name__} of this index reads no text; search with --image FILE")
    try:
        return model.encode_text(text)
    except TextError as error:
        raise ValueError(f"the description {error.reason}") from None


def _width(model, folder):
    """The width of vectors of pictures."""
    if isinstance(model, DualEncoder):
        return model.config.embed_dim
    if isinstance(model, ImageEncoder):
        return model.config.width
    raise ValueError(f"{folder}: a {type(model).__name__}, which takes no pictures; expected a model such as CLIP")


def _read_settings(db, token):
    with contextlib.suppress(FileNotFoundError), Index.open(db, token=token, collection=_SETTINGS) as settings:
        record = settings.get(_ROW)
        return {} if record is None else record.metadata
    return {}


def _write_settings(db, token, values):
    with Index.create(db, 1, metric="l2", token=token, collection=_SETTINGS, exist_ok=True) as settings:
        settings.upsert([_ROW], [[0.0]], [values])
