"""Folders that somebody spoiled: an exception that says what is wrong; never a crash, a hang or silent garbage."""

import re

import hostile
import hostile_files
import hostile_parts
import hostile_rows
import hostile_spoil
import pytest
from hostile import Raw

ROWS = (
    hostile_rows.CONFIGS
    + hostile_rows.SENTENCE
    + hostile_files.SHARDS
    + hostile_files.FILES
    + hostile_files.TENSORS
    + hostile_parts.PROCESSORS
    + hostile_parts.TOKENIZERS
)
WELL = hostile_files.WELL | {name: ("bert", spoil) for name, spoil in hostile_parts.HARMLESS.items()}


@pytest.fixture(scope="module", autouse=True)
def parts():
    pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")


@pytest.mark.parametrize("family", hostile.FAMILIES)
def test_the_folders_are_well_before_they_are_spoiled(family, tmp_path):
    assert hostile.attempt(hostile.write(hostile.FAMILIES[family](), tmp_path)) is None


def test_there_are_many_rows():
    assert len(ROWS) >= 400
    assert len({str(row) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_spoiled_folder_is_an_exception(row, tmp_path):
    path = hostile.write(hostile.FAMILIES[row.family](), tmp_path / "model")
    row.spoil(path)
    error = hostile.attempt(path, **row.options)
    assert error is not None, "it was loaded"
    assert re.search(row.match, str(error)), f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("name", WELL)
def test_what_is_odd_but_harmless_loads(name, tmp_path):
    family, spoil = WELL[name]
    path = hostile.write(hostile.FAMILIES[family](), tmp_path)
    spoil(path)
    assert hostile.attempt(path, **({"image_size": 12} if "on request" in name else {})) is None


# What no key of a kind takes.
WRONG = {
    bool: (1, 0, "true", [], {}, 1.5),
    int: (True, "8", 8.5, [8], [], {}, -1, 2**62, 10**49, Raw("9" * 60), Raw("1e400"), Raw("NaN")),
    float: (True, "0.1", [0.1], [], {}, 1e300, -1e300, 10**49, Raw("1e400"), Raw("-Infinity"), Raw("NaN")),
    str: (1, True, [], {}, "os.system", "__import__('os')", "", "gelu ", "x" * 100_000),
}
READ = ("config.json", "open_clip_config.json", "2_Dense/config.json", "sentence_bert_config.json")


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif not isinstance(value, list):
        yield path, value


KEYS = [
    (family, file, ".".join(path), type(value))
    for family, build in hostile.FAMILIES.items()
    for file, content in build().items()
    if file in READ and family != "sharded"
    for path, value in leaves(content)
]


@pytest.mark.parametrize(("family", "file", "where", "kind"), KEYS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_value_of_another_kind_is_refused_by_name(family, file, where, kind, tmp_path):
    path = hostile.write(hostile.FAMILIES[family](), tmp_path)
    before = (path / file).read_bytes()
    for value in WRONG[kind]:
        hostile_spoil.setting(file, where, value)(path)
        error = str(hostile.attempt(path))
        assert re.search(rf"\b{where.split('.')[-1]}\b|not finite|60 digits", error), f"{value!r:.40}: {error:.300}"
        (path / file).write_bytes(before)
