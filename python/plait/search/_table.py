"""The rows of one collection, as the methods of an index need them; nothing is checked here."""

from __future__ import annotations

import numpy as np

from ._checks import MAX_METADATA, quote
from ._layout import METRICS

__all__ = ["MAX_ROWS", "Table"]

MAX_ROWS = 5000  # of a write or an answer
_BYTES = 32 << 20  # of either, which has to stay below the 64 MB of a message
_PAGE = 16384  # ids at once, the most that a server gives
_IDS_BYTES = 1 << 20  # of the ids in a filter
_HITS = 10_000  # of one call
_QUERIES = 128  # of one call: Milvus Lite holds the scores of all its rows for all of them


class Table:
    """A collection behind a connection. `what` is what error messages begin with."""

    def __init__(self, connection, collection, layout):
        self.connection, self.collection, self.layout = connection, collection, layout
        self.width = sum(layout.vectors.values())

    def call(self, what, method, **options):
        """A method of ``MilvusClient`` on the collection."""
        return self.connection.call(what, method, self.collection, **options)

    def flush(self, what):
        """Has everything written to the disk."""
        self.connection.flush(what, self.collection)

    def count(self, what):
        """How many rows there are."""
        self.connection.settle(what, self.collection)
        return int(self.call(what, "query", filter="", output_fields=["count(*)"])[0]["count(*)"])

    # ---------------------------------------------------------------- writing

    def write(self, what, ids, arrays, metadata, sizes):
        """Adds rows, or replaces those of the same ids, in batches; `sizes` are bytes of metadata."""
        # Replacing: retries and two writers at once then never double a row. Milvus Lite's insert replaces too, whereas
        # its upsert keeps what the old row had and the new one lacks.
        method = "insert" if self.connection.lite else "upsert"
        done = 0
        while done < len(ids):
            end, size = done, 0
            while end < len(ids) and end - done < MAX_ROWS and size < _BYTES:
                size += 4 * self.width + sizes[end] + 4 * len(str(ids[end]))
                end += 1
            batch = [
                {"id": ids[i], **{name: array[i] for name, array in arrays.items()}, **metadata[i]}
                for i in range(done, end)
            ]
            try:
                self.call(what, method, data=batch)
            except OSError as error:
                if not done:
                    raise
                raise type(error)(f"{error} (after {done} of {len(ids)} rows, which stay)") from error
            self.connection.wrote((end - done) * self.width)
            done = end

    def remove(self, what, ids):
        """Deletes rows that are there."""
        for condition in _conditions(ids, MAX_ROWS):
            self.call(what, "delete", filter=condition)

    # ---------------------------------------------------------------- reading

    def find(self, what, ids, fields):
        """Rows of these ids in any order, as dicts."""
        widths = [4 * self.layout.vectors.get(name, 0 if name == "id" else MAX_METADATA // 4) for name in fields]
        for condition in _conditions(ids, max(1, min(MAX_ROWS, _BYTES // (sum(widths) + 1)))):
            for row in self.call(what, "query", filter=condition, output_fields=fields):
                yield dict(row)

    def contains(self, what, ids):
        """Which ids there are, a boolean array."""
        found = {row["id"] for row in self.find(what, ids, ["id"])}
        return np.fromiter((i in found for i in ids), bool, len(ids))

    def ids(self, what, filter=""):
        """Lists of ids, increasing. pymilvus has an iterator, which does not quote the id that it goes on from."""
        condition = filter
        self.connection.settle(what, self.collection)
        options = {"output_fields": ["id"], "limit": _PAGE, "iterator": "True", "reduce_stop_for_best": "True"}
        while page := [row["id"] for row in self.call(what, "query", filter=condition, **options)]:
            yield page
            condition = f"id > {quote(page[-1])}" + (f" and ({filter})" if filter else "")

    def batches(self, what, rows, filter, names):
        """(ids, dict of arrays of the vector fields `names`, list of metadata) by increasing ids."""
        for page in self.ids(what, filter):  # by ids, since Milvus Lite goes through the whole index for each page
            for begin in range(0, len(page), rows):
                found = {row["id"]: row for row in self.find(what, page[begin : begin + rows], ["id", "$meta", *names])}
                batch = [found[i] for i in page[begin : begin + rows] if i in found]
                if batch:
                    arrays = {name: np.asarray([row.pop(name) for row in batch], np.float32) for name in names}
                    yield [row.pop("id") for row in batch], arrays, batch

    def nearest(self, what, name, queries, k, filter, fields):
        """For each query up to k of (id, score, metadata), best first."""
        self.connection.settle(what, self.collection)
        step = max(1, min(_QUERIES, _HITS // k))
        if self.connection.lite and self.layout.metric == "l2":
            step = 1  # Milvus Lite takes the differences of all queries and all rows at once
        # Of random vectors, the hardest, 64 finds 20 % among 100,000 x 512 and 1024 finds 80 %, in hardly more time.
        parameters = {"ef": max(1024, 2 * k)} if self.layout.index_type == "HNSW" else {}
        found = []
        for begin in range(0, len(queries), step):
            result = self.call(
                what,
                "search",
                data=list(queries[begin : begin + step]),
                anns_field=name,
                limit=k,
                filter=filter,
                output_fields=fields,
                search_params={"metric_type": METRICS[self.layout.metric], "params": parameters},
            )
            found += [[(hit["id"], self._score(hit["distance"]), hit["entity"]) for hit in hits] for hits in result]
        return found

    def _score(self, distance):
        """Of vectors of unit length rounding makes products of a little more than 1."""
        return min(1.0, max(-1.0, float(distance))) if self.layout.metric == "cosine" else float(distance)


def _conditions(ids, rows):
    """Filters for these ids, each for so many rows at most and none longer than Milvus takes."""
    texts = [quote(i) for i in ids]
    begin = 0
    while begin < len(texts):
        end, size = begin, 0
        while end < len(texts) and end - begin < rows and size < _IDS_BYTES:
            size += len(texts[end])
            end += 1
        yield f"id in [{', '.join(texts[begin:end])}]"
        begin = end
