"""Named vectors with metadata in a Milvus database: add, replace, delete, search, export."""

from __future__ import annotations

import math
import weakref
from typing import Any, NamedTuple

import numpy as np

from plait._array import plain_array

from . import _checks, _export, _hybrid, _opening
from ._layout import Layout
from ._table import MAX_ROWS

__all__ = ["Hit", "Index", "Record"]


class Hit(NamedTuple):
    """A row that a search found: its id, its score, and what was asked for of its metadata."""

    id: Any
    score: float
    metadata: dict


class Record(NamedTuple):
    """A row of an index: its id, its vector (a dict of them where there are several fields), its metadata."""

    id: Any
    vector: Any
    metadata: dict


class Index:
    """A searchable collection of vectors with ids and metadata; made by `create`, opened by `open`.

    Close it, or use it in a ``with`` block: a local file is locked for other processes until then. It is also closed
    when nothing refers to it any more and when Python ends.

    **Scores.** ``"cosine"``: the cosine similarity, from -1 to 1, higher is better; vectors are kept at unit length.
    ``"ip"``: the inner product, higher is better. ``"l2"``: the *squared* Euclidean distance, as Milvus and FAISS give
    it; lower is better. Hits come best first.

    **Exactness.** Index type ``"FLAT"`` compares with every row: exact. It is the default in a local file, where 10,000
    vectors of 512 take some 10 ms a query and 100,000 some 200 ms on two cores. ``"HNSW"`` (Malkov & Yashunin,
    https://arxiv.org/abs/1603.09320) is approximate, and ``"AUTOINDEX"``, the default on a server, is what that server
    thinks best.

    **Metadata** are dicts of what JSON has, at most 65,536 bytes a row. Their keys are dynamic fields of Milvus, so
    filters use them as names: ``'year > 2000 and label in ["cat", "dog"]'``.

    **Absent modalities.** A row needs a vector in every field. Zeros have no direction, so metric ``"cosine"`` refuses
    them; with ``"ip"`` zeros score 0 with everything.

    **Local files** are folders of Milvus Lite 3. Two indexes of one process may have the same one open; another process
    gets `BlockingIOError`. While it is open, Milvus Lite listens on a free port of the loopback interface, without
    asking for a password. Rows survive a killed process as soon as the method that wrote them has returned.

    Attributes
    ----------
    vectors : dict of str to int
        Names and dimensions of the vector fields.
    dimension : int or dict
        Of the only field; else `vectors`.
    metric, id_type, index_type, model, collection
        As given to `create`.
    uri : str
        Where the database is, without a password.

    Examples
    --------
    >>> import os, tempfile
    >>> from plait.search import Index
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Index.create(os.path.join(folder, "photos.db"), 2, model="a tiny encoder") as index:
    ...         index.add(["cat", "dog", "car"], [[1, 0], [0.8, 0.6], [0, 1]], [{"legs": 4}, {"legs": 4}, {"legs": 0}])
    ...         for hit in index.search([1.0, 0.1], k=2, filter="legs == 4"):
    ...             print(hit.id, round(hit.score, 3), hit.metadata)
    cat 0.995 {'legs': 4}
    dog 0.856 {'legs': 4}
    """

    def __init__(self, table):
        layout = table.layout
        self._table, self.collection, self.uri = table, table.collection, table.connection.where
        self.vectors, self.metric, self.model = dict(layout.vectors), layout.metric, layout.model
        self.id_type, self.index_type = layout.id_type, layout.index_type
        self._reserved = frozenset({"id", *self.vectors})
        self._close = weakref.finalize(self, table.connection.close)

    # ---------------------------------------------------------------- making, opening, closing

    @classmethod
    def create(
        cls,
        uri,
        dimension=None,
        metric="cosine",
        model=None,
        token=None,
        collection="plait",
        vectors=None,
        id_type="str",
        index_type=None,
        exist_ok=False,
        timeout=60.0,
    ):
        """Makes an empty index.

        Parameters
        ----------
        uri : str or path-like
            A path such as ``"photos.db"``, or the address of a server, ``"http://host:19530"``, or of Zilliz Cloud.
        dimension : int
            Of the vectors, 1 to 32,768.
        metric : {"cosine", "ip", "l2"}
        model : str, optional
            Identifies the model that makes the vectors. It is kept in the database, and `open` compares it.
        token : str, optional
            Of a server: ``"user:password"`` or an API key.
        collection : str
            Name inside the database.
        vectors : dict of str to int, optional
            Instead of `dimension`: up to four named vector fields and their dimensions, such as
            ``{"image": 512, "text": 512}``. A single field is called ``"vector"``.
        id_type : {"str", "int64"}
        index_type : {"FLAT", "HNSW", "AUTOINDEX"}, optional
            By default ``"FLAT"`` in a local file, ``"AUTOINDEX"`` on a server.
        exist_ok : bool
            Whether to open an index that is there already and is the same in everything that was given.
        timeout : float
            Seconds that a call to a server may take.

        Raises
        ------
        FileExistsError
            There is an index of that name.
        TypeError, ValueError
            An argument is wrong, the path is something else than a database, or the existing index differs.
        BlockingIOError
            Another process has the file open.
        ConnectionError, PermissionError, OSError
            A server cannot be reached, refuses the token, or fails.
        ImportError
            pymilvus or milvus-lite is not installed.
        """
        what = "Index.create"
        if (dimension is None) == (vectors is None):
            raise TypeError(f"{what}: expected either dimension or vectors")
        fields = {"vector": dimension} if vectors is None else vectors
        layout = Layout(_whole(fields), metric, id_type, index_type, model)
        return cls(_opening.create(uri, token, collection, layout, exist_ok, timeout))

    @classmethod
    def open(cls, uri, model=None, token=None, collection="plait", dimension=None, timeout=60.0):
        """Opens an index that is there.

        Parameters
        ----------
        uri, token, collection, timeout
            As in `create`.
        model : str, optional
            The fingerprint that the index has to have; None takes any.
        dimension : int, optional
            The dimension that its vectors have to have.

        Raises
        ------
        FileNotFoundError
            There is no such file, or no such collection in it.
        ValueError
            The file is no database of Milvus Lite 3, the collection is not plait's, or the index is another model's or
            has another dimension. The message names what was found and what was expected.
        BlockingIOError
            Another process has the file open.
        ConnectionError, PermissionError, OSError
            A server cannot be reached, refuses the token, or fails.
        """
        vectors = None if dimension is None else _whole({"vector": dimension})
        return cls(_opening.open_existing(uri, token, collection, Layout(vectors, model=model), timeout))

    def close(self):
        """Closes the index and gives its file free; again is nothing."""
        self._close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        vectors = ", ".join(f"{name}: {dimension}" for name, dimension in self.vectors.items())
        state = "" if self._table.connection.client is not None else ", closed"
        return f"Index({self.uri!r}, {self.collection!r}, {vectors}, {self.metric}{state})"

    @property
    def dimension(self):
        """The dimension of the only vector field; `vectors` where there are several."""
        return next(iter(self.vectors.values())) if len(self.vectors) == 1 else dict(self.vectors)

    # ---------------------------------------------------------------- writing

    def add(self, ids, vectors, metadata=None):
        """Adds rows with new ids.

        All is checked before anything is written, whether the ids are new too. Rows go in batches of at most 5,000 and
        32 MB; where the database fails in between, the rows written so far stay, and the message counts them.

        Parameters
        ----------
        ids : sequence of n str or int
            Texts of 1 to 65,535 bytes without control characters, or 64-bit numbers, as `id_type` says.
        vectors : (n, D) array_like, or dict of str to (n, D) array_like
            Finite numbers of any floating-point or integer type, kept as float32. A dict where the index has several
            fields.
        metadata : sequence of n dicts, or dict of columns of n values, optional
            Keys are text that does not begin with ``$`` and is not ``id`` or the name of a vector field.

        Raises
        ------
        TypeError, ValueError
            An argument is wrong; an id is there already or occurs twice. Nothing is written then.
        OSError
            The database failed.
        """
        what = "Index.add"
        rows = self._rows(what, ids, vectors, metadata)
        with self._table.connection.writing:
            there = np.flatnonzero(self._table.contains(what, rows[0]))
            if there.size:
                raise ValueError(
                    f"{what}: {there.size} of {len(rows[0])} ids are in the index already, the first is "
                    f"ids[{there[0]}] = {rows[0][there[0]]!r}; Index.upsert replaces them"
                )
            self._table.write(what, *rows)

    def upsert(self, ids, vectors, metadata=None):
        """Adds rows, and replaces those whose ids are there, metadata and all.

        Parameters
        ----------
        ids, vectors, metadata
            As in `add`.

        Raises
        ------
        TypeError, ValueError, OSError
            As in `add`.
        """
        rows = self._rows("Index.upsert", ids, vectors, metadata)
        with self._table.connection.writing:
            self._table.write("Index.upsert", *rows)

    def delete(self, ids=None, filter=None) -> int:
        """Removes rows by their ids or by a filter; ids that are not there are passed over.

        Parameters
        ----------
        ids : sequence of str or int, optional
        filter : str, optional
            Instead of `ids`.

        Returns
        -------
        int
            How many rows there were.
        """
        what = "Index.delete"
        if (ids is None) == (filter is None):
            raise TypeError(f"{what}: expected either ids or filter")
        with self._table.connection.writing:
            if ids is None:
                filter = _checks.check_filter(what, filter)
                found = [i for page in self._table.ids(what, filter) for i in page]
            else:
                ids = list(dict.fromkeys(self._ids(what, ids)))
                found = [i for i, there in zip(ids, self._table.contains(what, ids), strict=True) if there]
            self._table.remove(what, found)
        return len(found)

    def flush(self):
        """Has everything written to the disk: to survive a power failure, not only the end of the process."""
        self._table.flush("Index.flush")

    def _rows(self, what, ids, vectors, metadata):
        ids = self._ids(what, ids, unique=True)
        given = self._by_field(what, "vectors", vectors)
        if set(given) != set(self.vectors):
            raise ValueError(f"{what}: vectors has fields {sorted(given)}, expected {sorted(self.vectors)}")
        arrays = {}
        for name, value in given.items():
            label = "vectors" if value is vectors else f"vectors[{name!r}]"
            arrays[name] = _checks.check_vectors(what, label, value, self.vectors[name], self.metric)
            if len(arrays[name]) != len(ids):
                raise ValueError(f"{what}: {label} has {len(arrays[name])} rows, expected {len(ids)}, one for each id")
        rows, sizes = _checks.check_metadata(what, metadata, len(ids), self._reserved)
        return ids, arrays, rows, sizes

    # ---------------------------------------------------------------- reading

    def __len__(self):
        return self.count()

    def count(self) -> int:
        """How many rows there are; ``len(index)`` is the same."""
        return self._table.count("Index.count")

    def __contains__(self, id):
        return _checks.is_one(id, self.id_type) and bool(self.contains([id])[0])

    def contains(self, ids):
        """Which ids are there, so that a job that was stopped goes on where it was.

        Parameters
        ----------
        ids : sequence of n str or int

        Returns
        -------
        (n,) bool array
        """
        return self._table.contains("Index.contains", self._ids("Index.contains", ids))

    def get(self, ids):
        """Rows by their ids.

        Parameters
        ----------
        ids : sequence of str or int, or one of them

        Returns
        -------
        list of Record or None
            In the order of `ids`, None for one that is not there; for one id a single result.
        """
        what = "Index.get"
        one = _checks.is_one(ids, self.id_type)
        ids = self._ids(what, [ids] if one else ids)
        found = {}
        for row in self._table.find(what, ids, ["id", "$meta", *self.vectors]):
            vectors = {name: np.asarray(row.pop(name), np.float32) for name in self.vectors}
            key = row.pop("id")
            found[key] = Record(key, _only(vectors), row)
        records = [found.get(key) for key in ids]
        return records[0] if one else records

    def search(self, queries, k=10, filter=None, fields=None, vector=None):
        """The k rows that are closest to each query.

        Parameters
        ----------
        queries : (n, D) or (D,) array_like
        k : int
            1 to 16,384.
        filter : str, optional
            A condition of Milvus on ids and metadata, such as ``'year > 2000 and label == "cat"'``.
        fields : sequence of str, optional
            Keys of the metadata to return, all by default; ``[]`` for none.
        vector : str, optional
            The vector field to search; required where there are several.

        Returns
        -------
        list of n lists of Hit, or a list of Hit
            Best first, at most k each; for one query (D,) a single list.

        Raises
        ------
        TypeError, ValueError
            An argument is wrong, or Milvus does not understand the filter; the message is Milvus's then.
        OSError
            The database failed.
        """
        what = "Index.search"
        if vector is None and len(self.vectors) > 1:
            raise TypeError(f"{what}: expected vector, the field to search: {', '.join(self.vectors)}")
        name = next(iter(self.vectors)) if vector is None else self._field(what, vector)
        array, one = self._queries(what, "queries", queries, name)
        k, filter = _checks.check_k(what, k), _checks.check_filter(what, filter)
        keys, asked = _checks.check_fields(what, fields, self._reserved)
        hits = [
            [Hit(row[0], row[1], _chosen(row[2], keys)) for row in rows]
            for rows in self._table.nearest(what, name, array, k, filter, asked)
        ]
        return hits[0] if one else hits

    def hybrid_search(self, queries, weights=None, k=10, filter=None, fields=None):
        """The k rows with the best weighted sum of scores in several vector fields.

        The sum is over the scores of `search`, without any normalisation, and it is exact as far as the searches in the
        fields are: lists are read on until no row outside them can come in (the threshold algorithm of Fagin, Lotem &
        Naor, https://doi.org/10.1145/375551.375567), at most the 16,384 first rows of each. Milvus's own WeightedRanker
        counts a row that is not among the first rows of a field as 0 there.

        Parameters
        ----------
        queries : dict of str to (D,) or (n, D) array_like
            Some or all of the vector fields, each with a query, or each with n.
        weights : dict of str to float, optional
            Of the same fields, at least 0 and not all 0. By default equal ones whose sum is 1.
        k, filter, fields
            As in `search`.

        Returns
        -------
        list of Hit, or list of n lists of Hit
            Scores are the weighted sums; lower is better for metric ``"l2"``.

        Raises
        ------
        TypeError, ValueError, OSError
            As in `search`.

        Examples
        --------
        >>> import os, tempfile
        >>> from plait.search import Index
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Index.create(os.path.join(folder, "photos.db"), vectors={"image": 2, "text": 2}) as index:
        ...         index.add(["a", "b"], {"image": [[1, 0], [0, 1]], "text": [[0, 1], [0, 1]]})
        ...         index.hybrid_search({"image": [1, 0], "text": [0, 1]}, weights={"image": 0.7, "text": 0.3}, k=1)
        [Hit(id='a', score=1.0, metadata={})]
        """
        what = "Index.hybrid_search"
        if not isinstance(queries, dict) or not queries:
            raise TypeError(f"{what}: queries is no dict of vector fields, expected some of {', '.join(self.vectors)}")
        arrays, ones = {}, set()
        for name, value in queries.items():
            name = self._field(what, name)
            arrays[name], one = self._queries(what, f"queries[{name!r}]", value, name)
            ones.add((one, len(arrays[name])))
        if len(ones) > 1:
            raise ValueError(f"{what}: queries has {sorted(n for _, n in ones)} rows, expected as many in each field")
        weights = _weights(what, weights, arrays)
        k, filter = _checks.check_k(what, k), _checks.check_filter(what, filter)
        keys, asked = _checks.check_fields(what, fields, self._reserved)
        found = _hybrid.search(self._table, what, arrays, weights, k, filter)
        metadata = {}
        if asked != ["id"]:
            wanted = list(dict.fromkeys(i for best in found for i, _ in best))
            metadata = {row.pop("id"): row for row in self._table.find(what, wanted, ["id", *asked])}
        hits = [[Hit(i, score, _chosen(metadata.get(i, {}), keys)) for i, score in best] for best in found]
        return hits[0] if next(iter(ones))[0] else hits

    def batches(self, rows=1000, filter=None, vectors=True):
        """Goes through the index in the order of the ids, without holding more than a batch.

        Rows that are added or removed meanwhile may come or not. A copy of an index is
        ``for batch in index.batches(): other.add(*batch)``.

        Parameters
        ----------
        rows : int
            Of a batch at most, 1 to 5,000.
        filter : str, optional
        vectors : bool
            With False they are not read, which takes half as long.

        Yields
        ------
        ids : list
        vectors : (rows, D) float32 array, or dict of str to such arrays, or None
        metadata : list of dict
        """
        what = "Index.batches"
        if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or not 1 <= rows <= MAX_ROWS:
            raise ValueError(f"{what}: rows is {rows!r}, expected 1 to {MAX_ROWS}")
        if not isinstance(vectors, (bool, np.bool_)):
            raise TypeError(f"{what}: vectors is {vectors!r}, expected True or False")
        names = list(self.vectors) if vectors else []
        batches = self._table.batches(what, int(rows), _checks.check_filter(what, filter), names)
        return ((ids, _only(arrays) if vectors else None, metadata) for ids, arrays, metadata in batches)

    def export(self, folder) -> int:
        """Writes the whole index into a folder of safetensors and JSON files, all or nothing.

        ``index.json`` holds what `create` was given and the number of rows and parts. Of each part of some 64 MB,
        ``part-00000.jsonl`` has a line ``{"id": ..., "metadata": {...}}`` for each row, in the order of the ids, and
        ``part-00000.safetensors`` an array for each vector field.

        Parameters
        ----------
        folder : path-like
            New or empty, or an earlier export, which is replaced.

        Returns
        -------
        int
            The number of rows.

        Raises
        ------
        FileExistsError
            The folder holds other files.
        """
        return _export.export(self._table, folder)

    # ---------------------------------------------------------------- inside

    def _ids(self, what, ids, unique=False):
        return _checks.check_ids(what, ids, self.id_type, unique)

    def _field(self, what, name):
        if not isinstance(name, str) or name not in self.vectors:
            raise ValueError(f"{what}: {name!r} is no vector field of this index, expected {', '.join(self.vectors)}")
        return name

    def _by_field(self, what, name, value):
        if isinstance(value, dict):
            return value
        if len(self.vectors) > 1:
            raise TypeError(f"{what}: {name} is no dict, expected one array for each of {', '.join(self.vectors)}")
        return {next(iter(self.vectors)): value}

    def _queries(self, what, label, value, name):
        array = plain_array(what, label, value, "floating-point numbers")
        one = array.ndim == 1
        return _checks.check_vectors(what, label, array[None] if one else array, self.vectors[name], self.metric), one


def _whole(vectors):
    """NumPy's whole numbers as Python's; the rest is checked later."""
    if not isinstance(vectors, dict):
        return vectors
    return {name: int(n) if isinstance(n, np.integer) else n for name, n in vectors.items()}


def _weights(what, weights, arrays):
    if weights is None:
        return dict.fromkeys(arrays, 1 / len(arrays))
    if not isinstance(weights, dict) or set(weights) != set(arrays):
        raise ValueError(f"{what}: weights is {weights!r}, expected a number for each of {', '.join(arrays)}")
    for name, weight in weights.items():
        number = isinstance(weight, (int, float, np.number)) and not isinstance(weight, bool)
        if not number or not 0 <= weight < math.inf:
            raise ValueError(f"{what}: weights[{name!r}] is {weight!r}, expected a number of at least 0")
    if not any(weights.values()):
        raise ValueError(f"{what}: all weights are 0")
    return {name: float(weight) for name, weight in weights.items()}


def _only(vectors):
    return vectors if len(vectors) > 1 else next(iter(vectors.values()))


def _chosen(metadata, keys):
    if keys is None:
        return dict(metadata)
    return {key: metadata[key] for key in keys if key in metadata}
