"""The manifest of a folder of vectors: which model made them, how, and what each file holds."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from . import strictjson
from .files import read_file, write_file

__all__ = ["FILE", "MANIFEST", "Shard", "Shards", "file_name", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"
FILE = re.compile(r"vectors-[0-9]{5,9}\.safetensors")
_FORMAT, _VERSION = "plait vectors", 1
_MAX_BYTES = 256 << 20
_KEYS = ("format", "version", "model", "options", "shard_size", "complete", "rows", "shards")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """A file of vectors of the items `begin` to `end` (exclusive): `rows` of them, fewer where items were skipped.

    `sha256` is that of the file, `input_sha256` that of the items it was made of.
    """

    file: str
    begin: int
    end: int
    rows: int
    sha256: str
    input_sha256: str


@dataclass(frozen=True)
class Shards:
    """What a folder of vectors holds.

    Attributes
    ----------
    folder : Path
    model : str
        See ``plait.models.fingerprint``.
    options : dict
        What else decided about the vectors.
    shard_size : int
        Items a file.
    shards : tuple of Shard
    complete : bool
        Whether the input came to its end.
    kept : int
        Of `shards`, how many ``write_shards`` found there already.
    """

    folder: Path
    model: str
    options: dict
    shard_size: int
    shards: tuple = ()
    complete: bool = False
    kept: int = 0

    @property
    def rows(self) -> int:
        """Vectors in all files."""
        return sum(shard.rows for shard in self.shards)

    @property
    def items(self) -> int:
        """Items that they were made of."""
        return self.shards[-1].end if self.shards else 0


def file_name(number) -> str:
    """The name of a file of vectors."""
    return f"vectors-{number:05d}.safetensors"


def write_manifest(made) -> None:
    """Writes the manifest of `made`, whole or not at all; the same content is not written again."""
    data = {
        "format": _FORMAT, "version": _VERSION, "model": made.model, "options": made.options,
        "shard_size": made.shard_size, "complete": made.complete, "rows": made.rows,
        "shards": [dataclasses.asdict(shard) for shard in made.shards],
    }  # fmt: skip
    content, file = strictjson.dumps(data, MANIFEST), made.folder / MANIFEST
    if not file.exists() or read_file(file, _MAX_BYTES) != content:
        write_file(file, content)


def read_manifest(folder):
    """The manifest of a folder, or None where there is none."""
    file = folder / MANIFEST
    try:
        data = strictjson.loads(read_file(file, _MAX_BYTES), str(file))
    except FileNotFoundError:
        return None
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise ValueError(f"{file}: no manifest of vectors that plait wrote")
    if _short(data.get("version")) != repr(_VERSION):
        raise ValueError(f"{file}: version is {_short(data.get('version'))}, expected {_VERSION}")
    if set(data) != set(_KEYS) or not isinstance(data["shards"], list) or not isinstance(data["options"], dict):
        raise ValueError(f"{file}: expected exactly {', '.join(_KEYS)}")
    texts = isinstance(data["model"], str) and isinstance(data["complete"], bool)
    if not texts or not _is_count(data["shard_size"]):
        raise ValueError(f"{file}: model, shard_size or complete is not what it should be")
    shards, begin = [], 0
    for number, entry in enumerate(data["shards"]):
        shards.append(_shard(entry, number, begin, f"{file}: shards[{number}]"))
        begin = shards[-1].end
    found = Shards(folder, data["model"], data["options"], data["shard_size"], tuple(shards), data["complete"])
    if _short(data["rows"]) != repr(found.rows):
        raise ValueError(f"{file}: rows is {_short(data['rows'])}, expected {found.rows}, the sum over the shards")
    return found


def _shard(entry, number, begin, where):
    names = [field.name for field in dataclasses.fields(Shard)]
    if not isinstance(entry, dict) or set(entry) != set(names):
        raise ValueError(f"{where}: expected exactly {', '.join(names)}")
    shard = Shard(**entry)
    counts = all(_is_count(n) for n in (shard.begin, shard.end, shard.rows))
    if not counts or not begin == shard.begin < shard.end or shard.rows > shard.end - begin:
        raise ValueError(f"{where}: begin, end and rows do not fit, expected a begin of {begin}")
    if shard.file != file_name(number):
        raise ValueError(f"{where}: file is {_short(shard.file)}, expected {file_name(number)}")
    if not all(isinstance(h, str) and _HEX.fullmatch(h) for h in (shard.sha256, shard.input_sha256)):
        raise ValueError(f"{where}: sha256 and input_sha256 are expected to have 64 hexadecimal digits")
    return shard


def _is_count(n):
    return isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
