"""Files of checkpoints: cut off, with flipped bits, behind links, replaced while they are in use."""

import hashlib
import os
import re
import shutil
import stat

import hostile
import hostile_files
import hostile_spoil
import numpy as np
import pytest

import plait
from plait.io import load_tensors, save_tensors

WEIGHTS = "model.safetensors"


def load_only(path):
    """The exception of loading without use, None if there is none; hundreds of files in a second."""
    try:
        plait.load(path)
    except hostile.ALLOWED as error:
        assert not re.search(hostile.LEAKED, str(error)), str(error)
        return error
    return None


def every(count, largest):
    """Places up to `largest`, all or evenly spread ones, the first and the last among them."""
    return sorted({round(i * (largest - 1) / max(1, count - 1)) for i in range(min(count, largest))})


SAFETENSORS = [
    (family, name) for family, build in hostile.FAMILIES.items() for name in build() if name.endswith(".safetensors")
]


@pytest.mark.parametrize(("family", "name"), SAFETENSORS)
def test_a_file_that_is_cut_off_says_so(family, name, tmp_path):
    path = hostile.write(hostile.FAMILIES[family](), tmp_path)
    whole = (path / name).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    # Every byte of the header for one family, samples for the others; and a few places among the tensors.
    for size in [*every(header if family == "bert" else 400, header), *range(header, len(whole), 997), len(whole) - 1]:
        (path / name).write_bytes(whole[:size])
        error = load_only(path)
        assert isinstance(error, ValueError) and os.path.basename(name) in str(error), (size, error)
    (path / name).write_bytes(whole)
    assert load_only(path) is None


@pytest.mark.parametrize(("family", "name"), SAFETENSORS)
def test_flipped_bits_of_a_header_do_no_harm(family, name, tmp_path):
    path = hostile.write(hostile.FAMILIES[family](), tmp_path)
    whole = (path / name).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    refused, bits = 0, every(2000 if family == "bert" else 500, 8 * header)
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (path / name).write_bytes(flipped)
        refused += load_only(path) is not None
    assert refused > 0.9 * len(bits)  # a space that became another one is no matter


def test_a_file_of_any_bytes_is_an_exception(tmp_path):
    path, rng = hostile.write(hostile.bert(), tmp_path), np.random.default_rng(0)
    for name in ("config.json", WEIGHTS):
        whole = (path / name).read_bytes()
        for size in (0, 1, 7, 8, 9, 100, 10_000):
            (path / name).write_bytes(rng.bytes(size))
            assert isinstance(load_only(path), ValueError), (name, size)
        (path / name).write_bytes(whole)


# ---------------------------------------------------------------- links, permissions


def cached(family, root):
    """The folder as the hub's cache lays it out: blobs by their hash, a snapshot of links to them."""
    plain = hostile.write(hostile.FAMILIES[family](), root / "plain")
    cache = root / "models--someone--something"
    snapshot = cache / "snapshots" / ("c" * 40)
    (cache / "blobs").mkdir(parents=True)
    for file in [f for f in plain.rglob("*") if f.is_file()]:
        place = snapshot / file.relative_to(plain)
        place.parent.mkdir(parents=True, exist_ok=True)
        data = file.read_bytes()
        digest = (hashlib.sha256 if file.suffix == ".safetensors" else hashlib.sha1)(data).hexdigest()
        (cache / "blobs" / digest).write_bytes(data)
        place.symlink_to(f"{'../' * (len(place.relative_to(cache).parts) - 1)}blobs/{digest}")
    shutil.rmtree(plain)
    return snapshot


@pytest.mark.parametrize("family", ["clip", "sharded", "sentence", "open_clip"])
def test_the_layout_of_the_hub_s_cache_loads(family, tmp_path):
    snapshot = cached(family, tmp_path)
    plait.load(snapshot)
    # also by another name of the snapshot
    (tmp_path / "here").symlink_to(snapshot)
    plait.load(tmp_path / "here")


def test_links_on_the_way_to_a_blob_are_refused(tmp_path):
    snapshot = cached("bert", tmp_path)
    blobs = snapshot.parent.parent / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    assert re.search("config.json: a link to .* no folder", str(load_only(snapshot)))


def test_a_blob_that_is_a_link_is_refused(tmp_path):
    snapshot = cached("bert", tmp_path)
    blob = (snapshot / "config.json").resolve()
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    assert re.search("a link", str(load_only(snapshot)))


def test_a_blob_that_is_gone_is_a_missing_file(tmp_path):
    snapshot = cached("bert", tmp_path)
    (snapshot / WEIGHTS).resolve().unlink()
    assert re.search("model.safetensors is missing", str(load_only(snapshot)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may")
@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer_config.json"])
def test_what_must_not_be_read_is_an_os_error(name, tmp_path):
    path = hostile.write(hostile.bert(), tmp_path)
    (path / name).chmod(0)
    assert isinstance(load_only(path), OSError)


@pytest.mark.parametrize("what", ["a file", "nothing", "a link to itself", "text with NUL"])
def test_the_folder_itself_may_be_something_else(what, tmp_path):
    path = tmp_path / "model"
    if what == "a file":
        path.write_text("{}")
    elif what == "a link to itself":
        path.symlink_to(path)
    with pytest.raises((ValueError, OSError)):
        plait.load(f"{path}\0" if "NUL" in what else path)


# ---------------------------------------------------------------- what is mapped, and what is saved


@pytest.mark.parametrize("family", ["clip", "bert", "sentence", "dinov2", "open_clip", "openai"])
def test_a_loaded_model_does_not_see_what_becomes_of_its_folder(family, tmp_path):
    path = hostile.write(hostile.FAMILIES[family](), tmp_path / "model")
    first = plait.load(path)
    before = {name: np.array(p.data) for name, p in first.named_parameters()}
    other = plait.load(path)
    for parameter in other.parameters():
        parameter.assign(parameter.data + 1)
    other.save(path)

    def unchanged():
        return all((p.data == before[name]).all() for name, p in first.named_parameters())

    assert unchanged()
    assert not all((p.data == before[name]).all() for name, p in plait.load(path).named_parameters())
    shutil.rmtree(path)
    assert unchanged()
    hostile.use(first)
    first.save(path)  # and it goes back
    assert all((p.data == before[name]).all() for name, p in plait.load(path).named_parameters())


def test_writing_to_a_loaded_model_does_not_reach_its_file(tmp_path):
    path = hostile.write(hostile.bert(), tmp_path)
    digest = hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
    model = plait.load(path)
    for parameter in model.parameters():
        with parameter.edit() as values:
            values += 1
    assert hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest() == digest


def test_a_folder_that_may_only_be_read_loads(tmp_path):
    path = hostile.write(hostile.sentence(), tmp_path / "model")
    for file in [f for f in path.rglob("*") if f.is_file()]:
        file.chmod(stat.S_IRUSR)
    hostile.use(plait.load(path))


def test_shards_are_not_saved_over(tmp_path):
    path = hostile.write(hostile.sharded(), tmp_path / "model")
    model = plait.load(path)
    with pytest.raises(FileExistsError, match="holds other files"):
        model.save(path)
    hostile.use(plait.load(path))


@pytest.mark.parametrize("name", ["../evil", "../../evil/x", "/evil/x", "a/b/c", "2_Dense/../../x", "\u00e9/x"])
def test_names_of_tensors_say_nothing_about_places(name, tmp_path):
    """Tensors that a model has no use for are written back, into the file that they came from."""
    path = hostile.write(hostile.sentence(), tmp_path / "model")
    tensors = load_tensors(path / WEIGHTS)
    save_tensors(path / WEIGHTS, {f"bert.{key}": a for key, a in tensors.items()} | {name: np.ones(3, np.float32)})
    model = plait.load(path)  # of a head for another task, it seems
    (tmp_path / "out").mkdir()
    model.save(tmp_path / "out/again")
    assert sorted(os.listdir(tmp_path)) == ["model", "out"] and os.listdir(tmp_path / "out") == ["again"]
    assert sorted(os.listdir(tmp_path / "out/again")) == sorted(os.listdir(path))
    kept = load_tensors(tmp_path / "out/again" / WEIGHTS) | {
        f"2_Dense/{k}": a for k, a in load_tensors(tmp_path / "out/again/2_Dense" / WEIGHTS).items()
    }
    np.testing.assert_array_equal(kept[name], np.ones(3, np.float32))
    hostile.use(plait.load(tmp_path / "out/again"))


def test_a_text_that_is_no_unicode_is_not_half_saved(tmp_path):
    path = hostile.write(hostile.bert(), tmp_path / "model")
    hostile_spoil.setting("config.json", "note", "\ud800")(path)
    model = plait.load(path)
    with pytest.raises(ValueError, match=r"config\.json: a text is not valid Unicode"):
        model.save(tmp_path / "again")
    assert os.listdir(tmp_path) == ["model"]


def test_the_rows_of_links_cover_every_file_that_is_read():
    names = {row.name.split(" is ")[0] for row in hostile_files.FILES if " is a link" in row.name}
    assert names >= {"config.json", WEIGHTS, "modules.json", "vocab.txt", "tokenizer_config.json"}
