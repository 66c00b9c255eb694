"""Making and opening a collection: what it says about itself is written once and compared each time."""

from __future__ import annotations

import math

from ._connection import Connection
from ._layout import METRICS, Layout, check_model
from ._table import Table

__all__ = ["create", "open_existing"]

_LITE_PROPERTY = "plait"


def create(uri, token, collection, layout, exist_ok, timeout):
    """The `Table` of a new collection; `layout.index_type` may be None, for the default of the place."""
    what = "Index.create"
    layout.with_index_type("FLAT" if layout.index_type is None else layout.index_type).check(what)
    _check(what, token, collection, timeout)
    connection = Connection(uri, token, timeout, make=True)
    try:
        if connection.call(what, "has_collection", collection):
            if not exist_ok:
                raise FileExistsError(
                    f"{what}: {connection.where}: there is a collection {collection!r} already; Index.open opens it"
                )
            return _table(what, connection, collection, layout)
        if layout.index_type is None:
            layout = layout.with_index_type("FLAT" if connection.lite else "AUTOINDEX")
        _make(what, connection, collection, layout)
        return _table(what, connection, collection, layout)
    except BaseException:
        connection.close()
        raise


def open_existing(uri, token, collection, expected, timeout):
    """The `Table` of a collection that is there, with the values in `expected` that are not None."""
    what = "Index.open"
    _check(what, token, collection, timeout)
    check_model(what, expected.model)
    connection = Connection(uri, token, timeout, make=False)
    try:
        if not connection.call(what, "has_collection", collection):
            names = sorted(connection.call(what, "list_collections"))
            there = "there are " + ", ".join(map(repr, names[:10])) if names else "the database is empty"
            raise FileNotFoundError(f"{what}: {connection.where}: no collection {collection!r}; {there}")
        return _table(what, connection, collection, expected)
    except BaseException:
        connection.close()
        raise


def _check(what, token, collection, timeout):
    if token is not None and not isinstance(token, str):
        raise TypeError(f"{what}: token is a {type(token).__name__}, expected text or None")
    if not isinstance(collection, str) or not collection.isidentifier() or not collection.isascii():
        raise ValueError(f"{what}: collection is {collection!r}, expected letters, digits and _, no digit first")
    if len(collection) > 255:
        raise ValueError(f"{what}: collection has {len(collection)} characters, expected at most 255")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
        raise ValueError(f"{what}: timeout is {timeout!r}, expected seconds, more than 0")


def _make(what, connection, collection, layout):
    from pymilvus import DataType, MilvusClient

    line = layout.dumps()
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True, description=line)
    if layout.id_type == "str":
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=65535)
    else:
        schema.add_field("id", DataType.INT64, is_primary=True)
    indexes = MilvusClient.prepare_index_params()
    parameters = {"M": 16, "efConstruction": 200} if layout.index_type == "HNSW" else {}
    for name, dimension in layout.vectors.items():
        schema.add_field(name, DataType.FLOAT_VECTOR, dim=dimension)
        indexes.add_index(name, index_type=layout.index_type, metric_type=METRICS[layout.metric], params=parameters)
    # Strong: what was added is found. Milvus Lite drops descriptions, servers may refuse properties unknown to them.
    options = {"properties": {_LITE_PROPERTY: line}} if connection.lite else {}
    options["consistency_level"] = "Strong"
    connection.call(what, "create_collection", collection, schema=schema, **options)
    # Without waiting, which pymilvus does in steps of half a second: there is nothing to index yet.
    connection.call(what, "create_index", collection, index_params=indexes, sync=False)


def _table(what, connection, collection, expected):
    where = f"{what}: {connection.where}: collection {collection!r}"
    description = connection.call(what, "describe_collection", collection)
    line = description.get("properties", {}).get(_LITE_PROPERTY) or description.get("description") or ""
    layout = Layout.loads(line, where)
    if layout is None:
        raise ValueError(f"{where} was not made by plait")
    found = {f["name"]: f["params"]["dim"] for f in description["fields"] if "dim" in f.get("params", {})}
    if found != layout.vectors:
        raise ValueError(f"{where} has vectors {found}, but describes them as {layout.vectors}")
    differences = layout.differences(expected)
    if differences:
        raise ValueError(f"{where}: " + "; ".join(differences))
    connection.call(what, "load_collection", collection)
    if connection.lite:
        connection.flush(what, collection)  # rows that a killed process left, see `Connection.settle`
    return Table(connection, collection, layout)
