"""Search by vectors in a Milvus database: Milvus Lite in a local file, a Milvus server, or Zilliz Cloud.

Needs the extra: ``pip install 'plait[search]'``.
"""

from .index import Hit, Index, Record

__all__ = ["Hit", "Index", "Record"]
