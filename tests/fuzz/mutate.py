"""Changes of bytes, drawn from a seeded generator: the same input and seed give the same bytes everywhere."""

import random
import re

TOKENS = [
    b"null", b"true", b"false", b"0", b"-1", b"1", b"2", b"255", b"65536", b"2147483648", b"4611686018427387904",
    b"9223372036854775808", b"1e400", b"1e300", b"1e-300", b"NaN", b"-Infinity", b"0.5", b"9" * 60, b'""', b'"x"',
    b"[]", b"{}", b"[[]]", b'{"a":1}', b"[" * 40, b"]" * 40, b'"os.system"', b'"../x"', b'"/etc/passwd"',
    b'"\\ud800"', b'"\\u0000"', b'"clip"', b'"bert"', b'"gelu"', b'"model_type"', b'"auto_map":', b'"F64"', b'"BOOL"',
    b'"I64"', b'"BF16"', b'"shape":[0]', b"[1,1,1,1,1,1,1,1,1]", b'"__metadata__":{}', b"\xff", b"\x00", b"\xc3\x28",
    b"\xef\xbb\xbf", b"\n", b",", b":", b'"', b"\\", b"{", b"}", b"[", b"]", b"=== config.json\n", b"=== ",
]  # fmt: skip
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null')


def mutated(data: bytes, rng: random.Random, others) -> bytes:
    """`data` after one to four changes; `others` are inputs that pieces may come from."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        data = rng.choice(CHANGES)(data, rng, others)
    return data


def flip(data, rng, others):
    if not data:
        return b"{"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def byte(data, rng, others):
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + rng.randint(0, 1) :]


def cut(data, rng, others):
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:a] + data[b:] if rng.random() < 0.7 else data[:b]


def repeat(data, rng, others):
    a = rng.randrange(len(data) + 1)
    b = min(len(data), a + rng.randint(1, 64))
    return data[:b] + data[a:b] * rng.randint(1, 8) + data[b:]


def insert(data, rng, others):
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(TOKENS) + data[at:]


def value(data, rng, others):
    """Another token in the place of a string, a number or a word."""
    found = list(_VALUE.finditer(data))
    if not found:
        return insert(data, rng, others)
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(TOKENS) + data[match.end() :]


def swap(data, rng, others):
    """Two tokens change places."""
    found = list(_VALUE.finditer(data))
    if len(found) < 2:
        return flip(data, rng, others)
    first, second = sorted(rng.sample(found, 2), key=lambda m: m.start())
    return b"".join([
        data[: first.start()], second[0], data[first.end() : second.start()], first[0], data[second.end() :],
    ])  # fmt: skip


def length(data, rng, others):
    """The size that a safetensors file begins with."""
    size = rng.choice(
        [0, 1, 2, len(data) - 8, len(data), 1 << 24, 1 << 32, 1 << 63, (1 << 64) - 1, rng.randrange(4096)]
    )
    return max(0, size).to_bytes(8, "little") + data[8:]


def splice(data, rng, others):
    other = rng.choice(others)
    a, b = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return data[:a] + other[b : b + rng.randint(1, 512)] + data[a + rng.randint(0, 64) :]


CHANGES = [flip, byte, cut, repeat, insert, *[value] * 8, swap, swap, length, splice]
