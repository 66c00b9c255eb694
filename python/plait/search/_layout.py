"""What an index says about itself: kept in the database as one line of JSON, checked when the index is opened."""

from __future__ import annotations

import dataclasses
import json
import re

from plait.io import strictjson

__all__ = ["ID_TYPES", "INDEX_TYPES", "METRICS", "WORDS", "Layout"]

# And what Milvus calls them. For the cosine rows have unit length; Milvus Lite's own COSINE divides all rows by their
# norms in every search.
METRICS = {"cosine": "IP", "ip": "IP", "l2": "L2"}
ID_TYPES = ("str", "int64")
INDEX_TYPES = ("FLAT", "HNSW", "AUTOINDEX")
_FORMAT, _VERSION = "plait index", 1
_KEYS = ("format", "version", "vectors", "metric", "id_type", "index_type", "model")
_MAX_VECTORS = 4  # what a Milvus server takes unless it is configured otherwise
_MAX_DIMENSION = 32768
_MAX_MODEL = 1000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# The name of the ids, and words that Milvus or its filters keep for themselves.
WORDS = frozenset(
    {"id", "and", "or", "not", "in", "like", "is", "null", "exists", "true", "false", "iso", "interval", "count"}
    | {"distance", "score", "_seq", "_partition"}
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Vector fields with their dimensions, metric, type of ids, index type, and fingerprint of the model.

    None stands for anything where a layout says what is expected.
    """

    vectors: dict | None = None
    metric: str | None = None
    id_type: str | None = None
    index_type: str | None = None
    model: str | None = None

    def check(self, what):
        """Raises where a value is not one that an index can have; `what` begins the message."""
        vectors = self.vectors
        if not isinstance(vectors, dict) or not 1 <= len(vectors) <= _MAX_VECTORS:
            raise ValueError(f"{what}: vectors is {_short(vectors)}, expected 1 to {_MAX_VECTORS} names and dimensions")
        for name, dimension in vectors.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in WORDS:
                raise ValueError(
                    f"{what}: a vector field is named {_short(name)}, expected letters, digits and _, and no word of "
                    "Milvus such as 'id'"
                )
            if isinstance(dimension, bool) or not isinstance(dimension, int):
                raise TypeError(f"{what}: the dimension of {name!r} is {_short(dimension)}, expected a whole number")
            if not 1 <= dimension <= _MAX_DIMENSION:
                raise ValueError(f"{what}: the dimension of {name!r} is {dimension}, expected 1 to {_MAX_DIMENSION}")
        for key, known in (("metric", tuple(METRICS)), ("id_type", ID_TYPES), ("index_type", INDEX_TYPES)):
            if getattr(self, key) not in known:
                raise ValueError(f"{what}: {key} is {_short(getattr(self, key))}, expected one of {', '.join(known)}")
        check_model(what, self.model)

    def with_index_type(self, index_type):
        """The same with another index type."""
        return dataclasses.replace(self, index_type=index_type)

    def differences(self, expected):
        """Sentences on what differs from the values of another layout that are not None."""
        pairs = [(f.name, getattr(self, f.name), getattr(expected, f.name)) for f in dataclasses.fields(self)]
        return [f"{name} is {ours!r}, expected {other!r}" for name, ours, other in pairs if other not in (None, ours)]

    def dumps(self) -> str:
        """The line that `loads` reads."""
        values = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(self)}
        return json.dumps({key: values[key] for key in _KEYS}, ensure_ascii=False)

    @classmethod
    def loads(cls, text, where):
        """The layout in the database, or None where the line is another program's."""
        try:
            values = strictjson.loads(text.encode(), where, max_depth=3)
        except ValueError:
            return None
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            return None
        if values.get("version") != _VERSION:
            raise ValueError(
                f"{where}: an index of format version {_short(values.get('version'))}, expected {_VERSION}; "
                "another version of plait made it"
            )
        if set(values) != set(_KEYS):
            raise ValueError(f"{where}: the description of the index has keys {sorted(values)}, expected {_KEYS}")
        layout = cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})
        try:
            layout.check(where)
        except TypeError as error:
            raise ValueError(str(error)) from None
        return layout


def check_model(what, model):
    """A fingerprint is any short text, or None."""
    if model is None:
        return
    if not isinstance(model, str):
        raise TypeError(f"{what}: model is a {type(model).__name__}, expected text that identifies the model, or None")
    if not 1 <= len(model) <= _MAX_MODEL or not model.isprintable():
        raise ValueError(f"{what}: model is {_short(model)}, expected 1 to {_MAX_MODEL} printable characters")


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
