"""plait index and plait search on pictures: whole jobs, what changes between them, and jobs that are stopped."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

import plait
from plait import cli
from plait.commands import _extras, _pictures

pytest.importorskip("pymilvus", reason="the extra 'search' is not installed")
pytest.importorskip("milvus_lite", reason="the extra 'search' is not installed")
Image = pytest.importorskip("PIL.Image", reason="the extra 'search' is not installed")

from plait.search import Index  # noqa: E402

PATHS = [f"{2020 + i % 3}/{'deep/' * (i % 2)}picture {i}.{('jpg', 'png', 'webp')[i % 3]}" for i in range(12)]


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def draw(folder, paths=PATHS, first=0):
    for i, name in enumerate(paths, first):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny.picture(i, (40 + i % 20, 60 - i % 20))).save(file)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Pictures in a folder of the working directory."""
    monkeypatch.chdir(tmp_path)
    return draw(tmp_path / "photos")


def stored(db):
    """{id: (vector, metadata)}."""
    with Index.open(db) as index:
        return {i: (v, m) for ids, vectors, rows in index.batches() for i, v, m in zip(ids, vectors, rows, strict=True)}


def due(model, photos):
    """What should be in an index."""
    names = sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*") if p.suffix in (".jpg", ".png", ".webp"))
    vectors = plait.load(model).encode_image([photos / name for name in names])
    facts = [{"size": f.st_size, "mtime": round(f.st_mtime, 3)} for f in ((photos / name).stat() for name in names)]
    return dict(zip(names, zip(vectors, facts, strict=True), strict=True))


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, (vector, facts) in expected.items():
        np.testing.assert_array_equal(found[name][0], vector)
        assert found[name][1] == facts, name


# ---------------------------------------------------------------- indexing and searching


def test_index_then_search(model, photos, capsys):
    assert run("index", "photos", "--model", model, "--db", "photos.db") == 0
    out, err = capsys.readouterr()
    assert out.startswith("photos.db: 12 pictures (12 new); ") and "pictures/s" in out.splitlines()[0]
    assert out.splitlines()[1] == 'try next: plait search "a dog on a beach" --db photos.db' and err == ""
    expected = due(model, photos)
    assert_same(stored("photos.db"), expected)
    with Index.open("photos.db") as index:
        loaded = plait.load(model)
        assert (index.model, index.metric, index.dimension) == (plait.models.fingerprint(loaded), "cosine", 40)

    scores = {n: float(v @ loaded.encode_text("a red dog")) for n, (v, _) in expected.items()}
    best = sorted(scores, key=scores.get, reverse=True)
    assert run("search", "a", "red", "dog", "--db", "photos.db", "--count", "4") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines[:4]] == best[:4] and err == ""
    assert [float(line.split()[1]) for line in lines[:4]] == pytest.approx([scores[n] for n in best[:4]], abs=6e-4)
    assert lines[4:] == ["drawn in photos-search.png"]
    with Image.open("photos-search.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 900

    assert run("search", "a red dog", "--db", "photos.db", "--json", "--filter", 'id like "2021/%"') == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["query"], result["db"]) == ("a red dog", "photos.db")
    assert [r["path"] for r in result["results"]] == [n for n in best if n.startswith("2021/")][:5]
    for rank, row in enumerate(result["results"], 1):
        assert row["rank"] == rank and row["file"] == str(photos / row["path"])
        assert row["score"] == pytest.approx(scores[row["path"]], abs=1e-5)
        assert {k: row[k] for k in ("size", "mtime")} == expected[row["path"]][1]
    assert sorted(os.listdir()) == ["photos", "photos-search.png", "photos.db"]


def test_search_by_a_picture(model, photos, capsys):
    run("index", "photos", "--model", model, "--db", "photos.db")
    capsys.readouterr()
    assert run("search", "--db", "photos.db", "--image", photos / PATHS[7], "--json", "--out", "sheet.png") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["image"] == str(photos / PATHS[7]) and err == "drawn in sheet.png\n"
    assert result["results"][0]["path"] == PATHS[7]
    assert result["results"][0]["score"] == pytest.approx(1, abs=1e-5)
    vectors = {n: v for n, (v, _) in due(model, photos).items()}
    best = sorted(vectors, key=lambda n: -float(vectors[n] @ vectors[PATHS[7]]))
    assert [r["path"] for r in result["results"]] == best[:5]
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")


def test_an_image_encoder_searches_by_pictures_only(model, photos, capsys, tmp_path):
    config = {"image": {"size": 32, "patch": 8, "width": 24, "layers": 1, "heads": 2}}
    vit = plait.create_model({"type": "image_encoder", "config": config}).eval()
    vit.processor = plait.load(model).processor
    with pytest.MonkeyPatch.context() as patch:  # plait's own folders keep no processor
        load = plait.load
        patch.setattr(plait, "load", lambda folder: vit if Path(folder).name == "vit" else load(folder))
        vit.save(tmp_path / "vit")
        assert run("index", "photos", "--model", "vit", "--db", "photos.db") == 0
        capsys.readouterr()
        assert run("search", "--db", "photos.db", "--image", photos / PATHS[3]) == 0
        assert capsys.readouterr().out.splitlines()[0].split(maxsplit=2)[1:] == ["1.000", PATHS[3]]
        assert run("search", "--db", "photos.db", "dog") == 1
        assert "the ImageEncoder of this index reads no text; search with --image FILE" in capsys.readouterr().err


# ---------------------------------------------------------------- the second time


def test_only_what_changed_is_encoded(model, photos, capsys, monkeypatch):
    run("index", "photos", "--model", model, "--db", "photos.db")
    seen = []
    encode = plait.models.DualEncoder.encode_image_iter

    def spy(self, images, *arguments, **options):
        images = list(images)
        seen.extend(os.path.relpath(i, photos) for i in images)
        return encode(self, images, *arguments, **options)

    monkeypatch.setattr(plait.models.DualEncoder, "encode_image_iter", spy)
    capsys.readouterr()

    assert run("index", "photos", "--db", "photos.db") == 0  # the model is remembered
    out, err = capsys.readouterr()
    assert seen == [] and out.startswith("photos.db: 12 pictures (12 as before)\n") and err == ""

    Image.fromarray(tiny.picture(50)).save(photos / PATHS[2])
    draw(photos, ["new.png", "2020/new too.jpg"], first=30)
    (photos / PATHS[5]).unlink()
    os.utime(photos / PATHS[8], (1e9, 1e9))
    assert run("index", "photos", "--db", "photos.db") == 0
    out, err = capsys.readouterr()
    assert sorted(seen) == sorted(["new.png", "2020/new too.jpg", PATHS[2], PATHS[8]])
    assert out.startswith("photos.db: 14 pictures (2 new, 2 encoded again, 9 as before); ")
    assert "no longer in photos: 1 picture, still in the index; --prune removes them" in out
    assert err == "9 of 13 pictures are in photos.db already\n"
    now = due(model, photos)
    assert_same({k: v for k, v in stored("photos.db").items() if k != PATHS[5]}, now)

    assert run("index", "photos", "--db", "photos.db", "--prune") == 0
    assert "no longer in photos: 1 picture, removed" in capsys.readouterr().out
    assert_same(stored("photos.db"), now)

    seen.clear()
    assert run("index", "photos", "--db", "photos.db", "--refresh") == 0
    assert len(seen) == 13 and "(13 encoded again)" in capsys.readouterr().out
    assert_same(stored("photos.db"), now)


def test_broken_pictures_are_reported_and_left_out(model, photos, capsys):
    (photos / "cut.jpg").write_bytes((photos / PATHS[0]).read_bytes()[:200])
    (photos / "text.png").write_text("not a picture")
    (photos / "nowhere.png").symlink_to("absent.png")
    assert run("index", "photos", "--model", model, "--db", "photos.db", "--batch-size", "2") == 0
    out, err = capsys.readouterr()
    assert out.startswith("photos.db: 12 pictures (12 new); ")
    lines = err.splitlines()
    assert lines[0] == "3 could not be read and are left out:"
    assert [line.split(":")[0] for line in lines[1:]] == ["  nowhere.png", "  cut.jpg", "  text.png"]
    assert all(len(line) < 120 and str(photos) not in line for line in lines)
    assert set(stored("photos.db")) == set(PATHS)

    draw(photos, ["text.png"], first=40)  # mended
    (photos / PATHS[1]).write_bytes(b"\xff\xd8\xff")  # and another one spoilt
    assert run("index", "photos", "--db", "photos.db") == 0
    out, err = capsys.readouterr()
    assert "12 pictures (1 new, 11 as before)" in out
    assert PATHS[1] in err and "text.png" not in err
    assert set(stored("photos.db")) == {*PATHS, "text.png"} - {PATHS[1]}


def test_a_list_of_broken_pictures_ends(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photos", ["good.png"])
    for i in range(30):
        (tmp_path / f"photos/{i:02d}.png").write_text("no")
    assert run("index", "photos", "--model", model, "--db", "photos.db") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22 and lines[-1] == "  and 10 more"
    (tmp_path / "photos/good.png").unlink()
    assert run("index", "photos", "--model", model, "--db", "new.db") == 1
    assert "plait index: error: photos: none of its pictures can be read" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["photos", "photos.db"]  # no empty database
    (tmp_path / "others").mkdir()
    (tmp_path / "others/bad.png").write_text("no")
    Index.create("mine.db", 40, model=plait.models.fingerprint(plait.load(model))).close()
    assert run("index", "others", "--model", model, "--db", "mine.db") == 1
    assert Path("mine.db").is_dir()  # what was here before stays


@pytest.mark.parametrize(("rate", "size", "due"), [(4, 32, 10), (100, 32, 32), (0.1, 32, 1), (4, 2, 2), (1e9, 1, 1)])
def test_pictures_are_stored_every_few_seconds(model, tmp_path, monkeypatch, rate, size, due):
    """However slow the model is: the first batches are timed, and the others are as large as the time allows."""
    from plait.commands import _album, index

    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photos", [f"{i:03}.png" for i in range(40)])
    (tmp_path / "photos/020.png").write_text("no")
    clock, batches, encode = [0.0], [], _album.encode_pictures

    def slow(model, paths, batch_size, on_error):
        batches.append(batch_size)
        for rows in encode(model, paths, batch_size=batch_size, on_error=on_error):
            clock[0] += len(rows) / rate
            yield rows

    monkeypatch.setattr(_album, "encode_pictures", slow)
    monkeypatch.setattr(index.time, "perf_counter", lambda: clock[0])
    stored_at, upsert = [], Index.upsert
    monkeypatch.setattr(Index, "upsert", lambda *a: (upsert(*a), stored_at.append(clock[0]))[0])
    assert run("index", "photos", "--model", model, "--db", "photos.db", "--batch-size", size) == 0
    assert batches == [min(size, 4), due]
    if due > 1:
        assert max(np.diff(stored_at)) <= 5
    (tmp_path / "photos/020.png").unlink()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert set(stored("photos.db")) == {f"{i:03}.png" for i in range(40)} - {"020.png"}


def test_a_folder_that_cannot_be_looked_into_is_not_pruned(model, photos, capsys, monkeypatch):
    run("index", "photos", "--model", model, "--db", "photos.db")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("2021"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(_pictures.os, "scandir", refuse)
    capsys.readouterr()
    assert run("index", "photos", "--db", "photos.db", "--prune") == 0
    out, err = capsys.readouterr()
    assert "photos.db: 12 pictures (8 as before)" in out and "no longer" not in out
    assert err == "1 could not be read and are left out:\n  2021/: Permission denied\n"


# ---------------------------------------------------------------- stopped and started again


STOPPED = """
    import os, signal, sys
    from plait import cli
    from plait.search import Index
    number, place, at = sys.argv[1:4]
    real, calls = Index.upsert, 0
    def upsert(self, *arguments):
        global calls
        calls += 1
        if calls == int(at) and place == "before":
            os.kill(os.getpid(), int(number))
        real(self, *arguments)
        if calls == int(at) and place == "after":
            os.kill(os.getpid(), int(number))
    Index.upsert = upsert
    sys.exit(cli.main(["index", "photos", "--model", sys.argv[4], "--db", "photos.db", "--batch-size", "1"]))
"""
# The first call writes the settings, and each other one two pictures.
STOPS = [(signal.SIGKILL, "before", 1), (signal.SIGKILL, "after", 4), (signal.SIGKILL, "before", 7),
         (signal.SIGINT, "before", 3), (signal.SIGINT, "after", 5)]  # fmt: skip


@pytest.mark.parametrize(("number", "place", "at"), STOPS)
def test_a_stopped_index_goes_on(model, photos, capsys, number, place, at):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STOPPED), str(int(number)), place, str(at), model],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    there = max(0, 2 * (at - 1 - (place == "before")))
    if number == signal.SIGINT:
        assert done.returncode == 130
        # After a window was stored it may not have been counted yet.
        counts = [f"stopped after {n} of 12 pictures; the same command goes on\n" for n in (there, there - 2)]
        assert any(done.stderr == f"\nplait index: {text}" for text in counts), done.stderr
    else:
        assert done.returncode == -signal.SIGKILL
    began = time.time()
    assert run("index", "photos", "--model", model, "--db", "photos.db") == 0
    out = capsys.readouterr().out
    assert f"({12 - there} new" in out and time.time() - began < 60
    assert_same(stored("photos.db"), due(model, photos))


# ---------------------------------------------------------------- finding the files


def test_which_files_are_pictures(tmp_path):
    root = tmp_path / "root"
    for name in ("b.JPG", "a.jpeg", "c.png", "z/d.WebP", "z/y/e.tiff", "z/f.bmp", "z/g.gif", ".hidden.png",
                 ".folder/h.png", "i.txt", "j.png.bak", "png", "z.png/k.png", "new\nline.png"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * len(name))
    (root / os.fsdecode(b"\xff.png")).write_bytes(b"")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/o.png").write_bytes(b"o")
    (root / "a link").symlink_to(tmp_path / "outside")
    (root / "a loop").symlink_to(root)
    (root / "z/up").symlink_to("..")
    (root / "the same").symlink_to("z/y")
    (root / "l.png").symlink_to("c.png")
    (root / "self.png").symlink_to("self.png")
    os.mkfifo(root / "pipe.png")
    found = _pictures.find_pictures(root)
    names = ["a link/o.png", "a.jpeg", "b.JPG", "c.png", "l.png", "z.png/k.png", "z/d.WebP", "z/f.bmp", "z/g.gif",
             "z/y/e.tiff"]  # fmt: skip
    assert list(found.pictures) == names
    assert found.pictures["z/d.WebP"] == (8, round((root / "z/d.WebP").stat().st_mtime, 3))
    assert list(found.broken) == ["new\nline.png", "self.png", os.fsdecode(b"\xff.png")]
    assert list(_pictures.find_pictures(tmp_path / "root/a loop").pictures) == names


# ---------------------------------------------------------------- what goes wrong


@pytest.fixture(scope="module")
def indexed(model, tmp_path_factory):
    """A folder with an index, and other things that are none. Nothing may change there."""
    top = tmp_path_factory.mktemp("indexed")
    draw(top / "photos")
    draw(top / "others", ["x.png"])
    (top / "empty").mkdir()
    (top / "file").write_text("text")
    tiny.clip(top / "clip2", seed=1)
    tiny.sentences(top / "sentences")
    os.symlink(model, top / "clip")
    assert run("index", top / "photos", "--model", top / "clip", "--db", top / "photos.db") == 0
    Index.create(top / "bare.db", 40, model=plait.models.fingerprint(plait.load(model))).close()
    return top


ERRORS = [
    ("index absent --model clip --db a.db", "absent: no such folder"),
    ("index file --model clip --db a.db", "file: expected a folder of pictures, got a file"),
    ("index empty --model clip --db a.db", "empty: no pictures in this folder"),
    ("index photos --db a.db", "a.db is new: name the model that is to make its vectors by --model"),
    ("index photos --model absent --db a.db", "absent: no such folder. plait reads models from folders"),
    ("index photos --model openai/clip-vit --db a.db", "hf download openai/clip-vit --local-dir clip-vit"),
    ("index photos --model empty --db a.db", "empty"),
    ("index photos --model file --db a.db", "file: expected the folder of a model"),
    ("index photos --model sentences --db a.db", "sentences: a TextEncoder, which takes no pictures"),
    ("index photos --model clip --db file", "no database of Milvus Lite"),
    ("index photos --model clip --db absent/a.db", "no such folder, where the index"),
    ("index photos --model clip2 --db photos.db", "photos.db: was made with another model"),
    ("index others --db photos.db", "holds the pictures of"),
    ("search dog --db absent.db", "no such index"),
    ("search dog --db file", "no database of Milvus Lite"),
    ("search dog --db bare.db", "bare.db: does not say where its model is"),
    ("search dog --db photos.db --model clip2", "their vectors cannot be compared"),
    ("search dog --db photos.db --model hub/name", "hf download hub/name"),
    ("search --db photos.db --image absent.jpg", "absent.jpg: no such file"),
    ("search --db photos.db --image file", "file: not a JPEG, PNG"),
    ("search dog --db photos.db --filter (", "filter"),
    ("search dog --db photos.db --out absent/x.png", "error: [Errno 2] No such file or directory: 'absent/x.png'\n"),
    ("search dog --db photos.db --out photos", "error: [Errno 21] Is a directory: 'photos'\n"),
    ("search --db photos.db " + "dog " * 30, "error: the description has 32 tokens, expected at most 20\n"),
    ("search --db photos.db d\udcffg", "error: the description has a lone surrogate at character 1"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), ERRORS, ids=[row[0][:60] for row in ERRORS])
def test_errors_are_one_line(indexed, capsys, monkeypatch, line, message):
    monkeypatch.chdir(indexed)
    before = sorted(os.listdir())
    assert run(*line.split()) == 1
    err, command = capsys.readouterr().err, line.split()[0]
    assert err.startswith(f"plait {command}: error: ") and err.count("\n") == 1, err
    assert message in err
    assert sorted(os.listdir()) == before


def test_no_hit_is_no_error(indexed, capsys, monkeypatch):
    monkeypatch.chdir(indexed)
    for extra, due_out in (([], ""), (["--json"], '"results": []')):
        assert run("search", "dog", "--db", "photos.db", "--filter", "size < 0", *extra) == 0
        out, err = capsys.readouterr()
        assert err == "plait search: nothing in the database meets the condition\n"
        assert due_out in out
    assert not (indexed / "photos-search.png").exists()
    assert run("search", "dog", "--db", "bare.db", "--model", "clip", "--json") == 0  # an index made in Python
    assert json.loads(capsys.readouterr().out)["results"] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("index", "required: folder, --db"),
        ("index photos", "required: --db"),
        ("index photos --db a.db --batch-size 0", "0, expected 1 to 4096"),
        ("index photos --db a.db --batch-size many", "invalid whole number"),
        ("search --db a.db", "expected either a description or --image"),
        ("search dog --db a.db --image x.png", "expected either a description or --image"),
        ("search dog --db a.db --dir demo", "expected either --db or --dir"),
        ("search dog --json", "--json goes with --db"),
        ("search --image x.png", "--image goes with --db"),
        ("search dog --filter x", "--filter goes with --db"),
        ("search", "expected a description"),
        ("search dog --db a.db --count 101", "101, expected 1 to 100"),
    ],
)
def test_wrong_arguments_exit_with_two(line, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run(*line.split())
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert os.listdir() == []


@pytest.mark.parametrize("words", [[""], ["  "], ["", " "], ["\n"]])
@pytest.mark.parametrize("more", [["--db", "a.db"], []])
def test_an_empty_description_is_a_wrong_argument(words, more, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run("search", *words, *more)
    assert end.value.code == 2
    assert "error: expected a" in capsys.readouterr().err and os.listdir() == []


@pytest.mark.parametrize(("line", "extra"), [("index photos --db a.db", "search"), ("search dog --db a.db", "search")])
def test_a_missing_extra_is_named(line, extra, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_extras.importlib.util, "find_spec", lambda name: None)
    assert run(*line.split()) == 1
    err = capsys.readouterr().err
    assert f"needs pymilvus and milvus-lite and Pillow: pip install 'plait[{extra}]'" in err
    assert os.listdir() == []


def test_folders_that_moved(model, photos, capsys, tmp_path):
    os.symlink(model, "clip")
    tiny.clip(tmp_path / "first")
    assert run("index", "photos", "--model", "first", "--db", "photos.db") == 0
    (tmp_path / "first").rename("second")
    capsys.readouterr()
    assert run("search", "dog", "--db", "photos.db") == 1
    assert (
        f"its model was in {tmp_path / 'first'}, which is gone; name the folder with --model" in capsys.readouterr().err
    )
    assert run("search", "dog", "--db", "photos.db", "--model", "second") == 0
    photos.rename("pictures")
    capsys.readouterr()
    # The pictures are gone from where they were: the sheet says so, and index takes the new place for the same.
    assert run("search", "dog", "--db", "photos.db", "--model", "second") == 0
    assert run("index", "pictures", "--db", "photos.db", "--model", "second") == 0
    assert "12 pictures (12 as before)" in capsys.readouterr().out
    assert run("search", "dog", "--db", "photos.db", "--json") == 0
    row = json.loads(capsys.readouterr().out)["results"][0]
    assert row["file"] == str(tmp_path / "pictures" / row["path"])


# ---------------------------------------------------------------- the contact sheet


def colours(file):
    with Image.open(file) as sheet:
        counts = sheet.convert("RGB").getcolors(1 << 20)
    return {colour: n for n, colour in counts}


@pytest.mark.parametrize("title", ["a dog", "", "word " * 200, "x" * 5000, "ein Hund\nam Strand 🏖 犬"])
def test_a_contact_sheet_shows_every_picture(tmp_path, title):
    from plait.commands._sheet import contact_sheet

    rng = np.random.default_rng(0)
    rows, due_colours = [], []
    for i in range(7):
        colour = tuple(int(c) for c in rng.integers(0, 200, 3))
        shape = [(300, 300), (8, 8), (400, 100), (100, 400), (1, 1000), (1000, 1), (50, 51)][i]
        Image.new("RGB", shape, colour).save(tmp_path / f"{i}.png")
        rows.append((tmp_path / f"{i}.png", ("deep/" * 60 if i == 3 else "") + f"{i}.png", 1 - i / 10))
        due_colours.append(colour)
    (tmp_path / "broken.png").write_text("no")
    rows += [(tmp_path / "broken.png", "broken.png", 0.1), (tmp_path / "absent.png", "", 0), (None, "?", -0.1)]
    contact_sheet(tmp_path / "sheet.png", title, rows)
    found = colours(tmp_path / "sheet.png")
    for colour, (path, _, _) in zip(due_colours, rows, strict=False):
        assert found.get(colour, 0) >= 240, path
    assert found[due_colours[0]] == found[due_colours[1]] == 240 * 240  # both fill their squares
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width < 1500 and sheet.height < 1100
        if title:
            assert len(sheet.crop((0, 0, sheet.width, 60)).getcolors()) > 2  # something is written there


def test_a_contact_sheet_for_a_picture(tmp_path):
    from plait.commands._sheet import contact_sheet

    Image.new("RGB", (64, 64), (10, 20, 30)).save(tmp_path / "query.png")
    Image.new("RGB", (64, 64), (200, 20, 30)).save(tmp_path / "hit.png")
    contact_sheet(tmp_path / "sheet.png", tmp_path / "query.png", [(tmp_path / "hit.png", "hit.png", 1.0)])
    found = colours(tmp_path / "sheet.png")
    assert found[10, 20, 30] == 120 * 120 and found[200, 20, 30] == 240 * 240
