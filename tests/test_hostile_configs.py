"""Configurations changed at random: they load a model that works, or raise what users can catch."""

import copy

import hostile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**31 - 1, 2**31, 2**40, 2**62, 2**63, 10**49, -(2**63), 65536, 16384, 1 << 24]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e-12, 1e-5, 0.1, 0.5, 0.99, 1.0, 2.0, 1e300, -0.0, 5e-324]),
    st.sampled_from([hostile.Raw("1e400"), hostile.Raw("NaN"), hostile.Raw("-Infinity"), hostile.Raw("9" * 60)]),
    st.text(max_size=8),
    st.sampled_from(["gelu", "relu", "silu", "quick_gelu", "tanh", "cls", "last", "os.system", "../x", "\ud800"]),
)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3), max_leaves=4
)


def nodes(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from nodes(inner, (*path, key))


@st.composite
def spoiled(draw, content):
    """A JSON value with one to three changes: a key goes, a value is another one, a key comes."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(nodes(content))))
        if not path:
            if isinstance(content, dict):
                content[draw(st.text(max_size=12))] = draw(VALUES)
            continue
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        what = draw(st.sampled_from(["drop", "value", "value", "neighbour", "new key"]))
        if what == "drop":
            del holder[path[-1]]
        elif what == "new key" and isinstance(holder, dict):
            holder[draw(st.text(max_size=12))] = draw(VALUES)
        elif what == "neighbour" and isinstance(holder, dict):  # of the same file, so perhaps of the right kind
            holder[path[-1]] = copy.deepcopy(holder[draw(st.sampled_from(sorted(holder)))])
        else:
            holder[path[-1]] = draw(VALUES)
    return content


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        name: hostile.write(build(), tmp_path_factory.mktemp(name)) for name, build in hostile.FAMILIES.items()
    }  # fmt: skip


@pytest.mark.parametrize("family", sorted(hostile.FAMILIES.keys() - {"openai"}))  # which has no configuration
def test_a_changed_configuration_gives_a_model_or_an_error(family, folders):
    folder, loaded = hostile.FAMILIES[family](), []
    names = [name for name in folder if name.endswith(".json")]

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        name = data.draw(st.sampled_from(names))
        value = data.draw(spoiled(folder[name]))
        (folders[family] / name).write_bytes(hostile.dumps(value))
        try:
            loaded.append(hostile.attempt(folders[family], seconds=5) is None)
        finally:
            (folders[family] / name).write_bytes(hostile.dumps(folder[name]))

    check()
    assert any(loaded) and not all(loaded)
