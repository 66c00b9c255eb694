"""SentencePiece models: the file, a few fields of one protocol buffer, and unigram tokenisation as its library does it.

The file is read by hand, bounded at every step. The tokenisation repeats the arithmetic of the original in float32:
where two ways to cut a text score almost alike, as with ``aaaaaa``, float64 would choose another one.
"""

from __future__ import annotations

import dataclasses
import math
import re
import struct
from array import array

__all__ = ["MAX_TEXT", "Charsmap", "SentencePiece", "Unigram", "read_sentencepiece"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

_MAX_PIECES = 1 << 20
_MAX_PIECE = 128  # characters; the trainer's default is 16
MAX_TEXT = 3 << 20  # characters of all pieces; a tree of them takes some 300 bytes each
_MAX_REPLACEMENT = 256  # bytes that one character may become; the longest of Unicode's has 33
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclasses.dataclass(frozen=True)
class SentencePiece:
    """What a model file says.

    Parameters
    ----------
    pieces : list of (str, float, int)
        Text, score and type of each id.
    unigram : bool
        Whether it is of the one algorithm that is supported here.
    unk_id : int
    charsmap : bytes
        Table of the normaliser, empty for none.
    dummy_prefix, collapse : bool
        Whether a space is put before the text; whether spaces at the ends and doubled ones go.
    plain : bool
        Whether spaces become "▁" before the word, as they mostly do.
    """

    pieces: list
    unigram: bool
    unk_id: int
    charsmap: bytes
    dummy_prefix: bool
    collapse: bool
    plain: bool


def read_sentencepiece(data: bytes, name: str) -> SentencePiece:
    """Reads a model file; `name` begins the messages.

    Raises
    ------
    ValueError
        It is damaged, or describes more than a tokenizer can be.
    """
    pieces: list = []
    trainer, normalizer = b"", b""
    for field, value in _fields(data, name):
        if field == 1:
            if len(pieces) >= _MAX_PIECES:
                raise ValueError(f"{name}: more than {_MAX_PIECES} pieces")
            pieces.append(_piece(_expect(value, bytes, name), len(pieces), name))
        elif field == 2:
            trainer = _expect(value, bytes, name)
        elif field == 3:
            normalizer = _expect(value, bytes, name)
    if not pieces:
        raise ValueError(f"{name}: no pieces, expected the model of a SentencePiece tokenizer")
    if sum(len(text) for text, _, _ in pieces) > MAX_TEXT:
        raise ValueError(f"{name}: the pieces have more than {MAX_TEXT} characters")
    if len({text for text, _, _ in pieces}) != len(pieces):
        raise ValueError(f"{name}: a piece occurs twice")
    trained, rules = dict(_fields(trainer, name)), dict(_fields(normalizer, name))

    def whole(fields, key, default):
        return _expect(fields.get(key, default), int, name)

    unk_id = whole(trained, 40, 0)
    if not (unk_id < len(pieces) and pieces[unk_id][2] == UNKNOWN):
        raise ValueError(f"{name}: the unknown piece is number {unk_id}, which is none or of another type")
    return SentencePiece(
        pieces=pieces,
        unigram=whole(trained, 3, 1) == 1,
        unk_id=unk_id,
        charsmap=_expect(rules.get(2, b""), bytes, name),
        dummy_prefix=bool(whole(rules, 3, 1)),
        collapse=bool(whole(rules, 4, 1)),
        plain=bool(whole(rules, 5, 1)) and not whole(trained, 24, 0),
    )


def _piece(data, index, name):
    text, score, kind = b"", 0.0, NORMAL
    for field, value in _fields(data, name):
        if field == 1:
            text = _expect(value, bytes, name)
        elif field == 2:
            score = _expect(value, float, name)
        elif field == 3:
            kind = _expect(value, int, name)
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: piece {index} is not UTF-8") from None
    if not 1 <= len(decoded) <= _MAX_PIECE:
        raise ValueError(f"{name}: piece {index} has {len(decoded)} characters, expected 1 to {_MAX_PIECE}")
    if not math.isfinite(score):
        raise ValueError(f"{name}: the score of piece {index} is {score}")
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"{name}: piece {index} has type {kind}, expected {NORMAL} to {BYTE}")
    return decoded, score, kind


def _expect(value, kind, name):
    if not isinstance(value, kind):
        raise ValueError(f"{name}: a field has another type than a SentencePiece model's")
    return value


def _fields(data, name):
    """(number, value) of each field of a message: int, float or bytes."""
    i, n = 0, len(data)
    while i < n:
        key, i = _varint(data, i, name)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, i = _varint(data, i, name)
            yield field, value
        elif wire == _BYTES:
            length, i = _varint(data, i, name)
            if length > n - i:
                raise ValueError(f"{name}: ends within a field of {length} bytes")
            yield field, data[i : i + length]
            i += length
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
            if length > n - i:
                raise ValueError(f"{name}: ends within a number")
            yield field, struct.unpack_from("<f" if wire == _FIXED32 else "<d", data, i)[0]
            i += length
        else:
            raise ValueError(f"{name}: not a SentencePiece model (wire type {wire} at byte {i})")


def _varint(data, i, name):
    value = 0
    for k, byte in enumerate(data[i : i + 10]):
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value, i + k + 1
    raise ValueError(f"{name}: ends within a number, or it has too many bytes")


class Charsmap:
    """The normaliser's table: what runs of characters become, in a double array (Aoe, IEEE TSE 15(9), 1989).

    Of the runs that the table knows, the longest one at a place is replaced, and the search goes on behind it.

    Parameters
    ----------
    blob : bytes
        Size of the double array in bytes, the array (little-endian 32-bit units), and texts that end with NUL.
    name : str
        For messages.
    """

    def __init__(self, blob: bytes, name: str):
        size = int.from_bytes(blob[:4], "little")
        if len(blob) < 8 or size % 4 or not 4 <= size <= len(blob) - 4:
            raise ValueError(f"{name}: the table of characters is damaged")
        self._name = name
        self._units = struct.unpack(f"<{size // 4}I", blob[4 : 4 + size])
        self._texts = blob[4 + size :]
        self.longest = max(map(len, self._texts.split(b"\0")))  # bytes
        if self.longest > _MAX_REPLACEMENT:
            raise ValueError(f"{name}: a character becomes more than {_MAX_REPLACEMENT} bytes")
        simple = bytes(c for c in range(128) if not self._begins(c))
        self._simple = re.compile(b"[" + re.escape(simple) + b"]+") if simple else None

    def _begins(self, c):
        """Whether some run begins with this ASCII character and has no other one, or another ASCII one behind it."""
        node = self._step(_offset(self._units[0]), c)
        if node is None:
            return False
        node, leaf = node
        return leaf or any(self._step(node, d) for d in range(128))

    def _step(self, node, byte):
        """(the next node, whether a run ends here), or None."""
        node ^= byte
        if node >= len(self._units) or self._units[node] & 0x800000FF != byte:
            return None
        unit = self._units[node]
        return node ^ _offset(unit), bool(unit >> 8 & 1)

    def __call__(self, text: str) -> str:
        data, units = text.encode("utf-8"), self._units
        n, count, root = len(data), len(units), _offset(units[0])
        out = bytearray()
        i = 0
        while i < n:
            if self._simple and (match := self._simple.match(data, i)):
                # The last one may be the beginning of a run: a letter and an accent.
                stop = match.end() - (match.end() < n)
                out += data[i:stop]
                i = stop
                if i == n:
                    break
            node, j, end, found = root, i, i, 0
            while j < n:
                byte = data[j]
                node ^= byte
                if node >= count or units[node] & 0x800000FF != byte:
                    break
                unit = units[node]
                node ^= (unit >> 10) << ((unit & 512) >> 6)
                j += 1
                if unit >> 8 & 1:
                    if node >= count:
                        raise ValueError(f"{self._name}: the table of characters is damaged")
                    end, found = j, units[node] & 0x7FFFFFFF
            if end > i:
                stop = self._texts.find(b"\0", found)
                out += self._texts[found : stop if stop >= 0 else len(self._texts)]
                i = end
            else:
                byte = data[i]
                step = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                out += data[i : i + step]
                i += step
        try:
            return out.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{self._name}: the table of characters is damaged") from None


def _offset(unit):
    return (unit >> 10) << ((unit & 512) >> 6)


class Unigram:
    """Texts to ids by the best-scoring cut into pieces (Kudo, arXiv 1804.10959), normaliser included.

    Parameters
    ----------
    model : SentencePiece
    name : str
        For messages.
    """

    def __init__(self, model: SentencePiece, name: str):
        if not model.unigram:
            raise ValueError(f"{name}: expected a unigram model, got one of another algorithm")
        if not model.plain:
            raise ValueError(f"{name}: expected a model that writes spaces as '▁' before the word")
        if any(kind in (USER_DEFINED, BYTE) for _, _, kind in model.pieces):
            raise ValueError(f"{name}: pieces of users or bytes are not supported")
        self._charsmap = Charsmap(model.charsmap, name) if model.charsmap else None
        self._dummy_prefix, self._collapse = model.dummy_prefix, model.collapse
        self._unk_id = model.unk_id
        # Each piece, and each beginning of one: the search stops where no piece goes on.
        self._nodes: dict = {}
        for i, (text, score, kind) in enumerate(model.pieces):
            if kind == NORMAL:
                for k in range(1, len(text)):
                    self._nodes.setdefault(text[:k], None)
                self._nodes[text] = (score, i)
        lowest = min((score for _, score, kind in model.pieces if kind == NORMAL), default=0.0)
        self._unknown = array("f", [lowest - 10.0])[0]

    def normalize(self, text: str) -> str:
        """The text as pieces are looked for in it."""
        if self._charsmap is not None:
            text = self._charsmap(text)
        if self._collapse:
            text = re.sub(" {2,}", " ", text).lstrip(" ")
        elif not text:
            return ""
        text = text.replace(" ", "▁")
        if self._dummy_prefix:
            text = "▁" + text
        return text.rstrip("▁") if self._collapse else text

    def encode(self, text: str) -> list:
        """Ids of one text; neighbouring unknown characters are one id."""
        text = self.normalize(text)
        n = len(text)
        nodes, unknown, unk_id = self._nodes, self._unknown, self._unk_id
        best, start, ids = array("f", bytes(4 * (n + 1))), [-1] * (n + 1), [unk_id] * (n + 1)
        rounded = array("f", [0.0])  # through which a sum becomes a float32
        for i in range(n):
            till_here, alone = best[i], False
            for j in range(i + 1, n + 1):
                node = nodes.get(text[i:j], False)
                if node is None:
                    continue
                if node is False:
                    break
                rounded[0] = till_here + node[0]
                score = rounded[0]
                if start[j] < 0 or score > best[j]:
                    best[j], start[j], ids[j] = score, i, node[1]
                alone = alone or j == i + 1
            if not alone:
                rounded[0] = till_here + unknown
                score = rounded[0]
                if start[i + 1] < 0 or score > best[i + 1]:
                    best[i + 1], start[i + 1], ids[i + 1] = score, i, unk_id
        found: list = []
        while n > 0:
            if ids[n] != unk_id or not found or found[-1] != unk_id:
                found.append(ids[n])
            n = start[n]
        found.reverse()
        return found
