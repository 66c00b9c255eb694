"""Instructions that operators take, against a stored table: they tell of a regression where times would only waver."""

import json
import shutil

import instructions
import pytest

MORE, LESS = 115, 70  # percent of what the table has
ROWS = list(instructions.rows())


def wrong(count, due):
    """What is to be said about a count, or None."""
    if LESS * due <= 100 * count <= MORE * due:
        return None
    said = "more than the bound" if count > due else "so much less that the table would hide what comes next"
    return f"{count:,} instructions, the table has {due:,}: {said}; renew it where that is meant, see CONTRIBUTING.md"


@pytest.fixture(scope="module")
def table():
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind on this machine")
    if reason := instructions.unfit():
        pytest.skip(reason)
    tables = json.loads(instructions.TABLE.read_text())
    if instructions.build() not in tables:
        pytest.skip(f"{instructions.TABLE.name} has no counts for {instructions.build()}")
    return tables[instructions.build()]


@pytest.fixture(scope="module")
def counts(table):
    return instructions.measure()


@pytest.mark.parametrize("row", ROWS)
def test_count(row, table, counts):
    said = wrong(counts[0][row], table[row])
    assert said is None, f"{row}: {said}"


@pytest.mark.parametrize("row", ROWS)
def test_twice_the_work_is_noticed(row, table, counts):
    once, twice = counts[0][row], counts[1][row]
    assert 1.9 * once < twice < 2.1 * once  # and not a part of what happens only once
    assert "more than the bound" in wrong(twice, table[row])


def test_the_table_has_these_rows(table):
    assert list(table) == ROWS and min(table.values()) > 0


@pytest.mark.parametrize(
    ("count", "word"), [(0, "less"), (69, "less"), (70, None), (100, None), (115, None), (116, "more")]
)
def test_bounds(count, word):
    said = wrong(count, 100)
    assert said is None if word is None else word in said
