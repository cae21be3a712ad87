"""`hstnn data check` as a user calls it: what it prints and writes, its exit codes, and the recipe to start from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests import own_data
from tests.conftest import Hstnn


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_clean_folder(hstnn: Hstnn) -> None:
    own_data.images(Path("pets"), each=60)
    result = hstnn("data", "check", "pets", "--out", "pets.png")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "pets: images (folders hold .png files); all 120 files were read"
    assert lines[1] == "classes and splits: by subfolders, splits drawn with seed 0"
    assert "chance: always predicting the most frequent class is right for 50.0 % of test" in lines
    assert "no problems found" in lines
    assert lines[-3:] == ["Next:", "  hstnn data check pets --write-recipe mine.yaml", "  hstnn train mine.yaml"]
    with Image.open("pets.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    found = json.loads(hstnn("data", "check", "pets", "--json", "--files", "10").out)
    assert (found["kind"], found["total"], found["read"], found["trainable"]) == ("images", 120, 10, True)
    assert found["splits"]["test"] == [12, 12]
    assert found["notes"] == []


def test_what_would_be_refused_has_a_code_and_notes_have_none(hstnn: Hstnn) -> None:
    pets = own_data.images(Path("pets"), each=60)
    (pets / "cat" / "notes.txt").write_text("x")
    result = hstnn("data", "check", "pets")
    assert result.code == 0
    assert "note: left out: 1 .txt file" in result.out
    for number in (3, 4):
        (pets / "cat" / f"{number}.png").write_bytes(b"")
    result = hstnn("data", "check", "pets", "--write-recipe", "mine.yaml", "--out", "pets.png")
    assert result.code == 3
    assert "refused: pets/cat/3.png is empty (and 1 more: cat/4.png). What to do: copy" in result.out
    assert "error: training would be refused: pets/cat/3.png is empty" in result.err
    assert "mine.yaml is not written" in result.err
    assert not Path("mine.yaml").exists()
    assert Path("pets.png").exists()
    found = hstnn("data", "check", "pets", "--json")
    assert found.code == 3
    notes = json.loads(found.out)["notes"]
    assert notes[0]["refused"] is True
    assert notes[0]["files"] == ["cat/3.png", "cat/4.png"]
    assert hstnn("train", "stack-digits", "--data", "pets").code == 3


def test_the_next_command_says_what_was_asked_for(hstnn: Hstnn) -> None:
    own_data.events(Path("gestures"), each=40)
    result = hstnn("data", "check", "gestures")
    assert result.code == 3
    assert result.out.splitlines()[-1] == "  hstnn data check gestures --set 'data.sensor_size=[20,14]'"
    result = hstnn("data", "check", "gestures", "--set", "data.sensor_size=[20,14]")
    assert result.code == 0
    assert "--set 'data.sensor_size=[20,14]' --write-recipe mine.yaml" in result.out


def test_odd_names_disturb_nothing(hstnn: Hstnn) -> None:
    pets = own_data.images(Path("pe$ts"), each=60)
    Path("pe$ts/cat").rename("pe$ts/ca\u202et $x$")
    (pets / "dog" / "0.png").rename(Path("pe$ts/dog") / b"\xff\n\x1b[31m.png".decode("utf-8", "surrogateescape"))
    result = hstnn("data", "check", "pe$ts", "--out", "p.png")
    assert "cannot be the name of a class" in result.out
    assert result.code == 3
    assert "\x1b" not in result.out + result.err
    Path("pe$ts/ca\u202et $x$").rename("pe$ts/c$a$t")
    result = hstnn("data", "check", "pe$ts", "--out", "p.png", "--write-recipe", "mine.yaml")
    assert result.code == 0, result.err
    assert "dog/\\xff\\x0a\\x1b[31m.png" in result.out
    assert yaml.safe_load(Path("mine.yaml").read_text())["data"]["path"] == "pe$ts"
    json.loads(hstnn("data", "check", "pe$ts", "--json").out)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["empty"], "empty contains nothing"),
        (["file.bin"], "file of no supported kind"),
        (["loop"], "loop"),
        (["pets", "--out", "x.jpg"], "does not end in .png"),
        (["pets", "--out", "pets.png"], "is a folder"),
        (["pets", "--write-recipe", "there.yaml"], "already exists"),
        (["pets", "--write-recipe", "there.txt"], "does not end in .yaml"),
        (["pets", "--set", "network.classes=3"], "is not a key of the data"),
        (["pets", "--set", "data.colors=3"], "colors"),
        (["pets", "--set", "data.kind=videos"], "data.kind is 'videos'"),
        (["pets", "--whole", "--files", "3"], "--whole and --files"),
        (["pets", "--files", "0"], "files"),
        (["pets", "--write-recipe", "file.bin/mine.yaml"], "file.bin"),
    ],
)
def test_what_cannot_be(hstnn: Hstnn, words: list[str], what: str) -> None:
    own_data.images(Path("pets"), each=4)
    Path("empty").mkdir()
    Path("pets.png").mkdir()
    Path("there.yaml").write_text("mine")
    Path("file.bin").write_bytes(b"x")
    Path("loop").symlink_to("loop")
    result = hstnn("data", "check", *words)
    assert result.code in {2, 3, 5}
    assert what in result.err
    assert Path("there.yaml").read_text() == "mine"


def arrays(folder: Path, shape: tuple[int, ...], values: bool = False) -> Path:
    """x and y whose classes, or values, are easily told from the mean."""
    draw = np.random.default_rng(0)
    labels = np.arange(90) % 3
    x = draw.normal(size=(90, *shape)) + 3 * labels.reshape(-1, *[1] * len(shape))
    folder.mkdir()
    np.savez(folder / "data.npz", x=x, y=labels + draw.normal(size=90) / 10 if values else labels)
    return folder


MAKE: dict[str, tuple[Any, list[str], list[str]]] = {
    "images": (lambda path: own_data.images(path, each=30), [], ["train.epochs=6"]),
    "large images": (lambda path: own_data.images(path, each=12, size=(130, 100)), [], ["train.epochs=4"]),
    "events": (
        lambda path: own_data.events(path, each=24),
        ["--set", "data.sensor_size=[20,14]"],
        ["train.epochs=6"],
    ),
    "series": (lambda path: arrays(path, (7, 3)), [], ["train.epochs=12"]),
    "vectors": (lambda path: arrays(path, (9,)), ["--set", "data.axes=I"], ["train.epochs=12"]),
    "rows": (lambda path: arrays(path, (2, 9)), ["--set", "data.axes=CL"], ["train.epochs=12"]),
    "pictures": (lambda path: arrays(path, (1, 9, 6)), [], ["train.epochs=6"]),
    "values": (lambda path: arrays(path, (7, 3), values=True), [], ["train.epochs=12"]),
}
"""Data that is easily learned, what `check` is told of it, and what makes its training short."""

CHANCE = {"images": 50, "large images": 50, "events": 50}


@pytest.mark.parametrize("name", MAKE)
def test_the_recipe_to_start_from_trains_at_once_and_learns(hstnn: Hstnn, name: str) -> None:
    make, said, short = MAKE[name]
    make(Path("easy"))
    written = hstnn("data", "check", "easy", *said, "--write-recipe", "mine.yaml")
    assert written.code == 0, written.err
    assert "recipe: mine.yaml" in written.out
    assert "  hstnn train mine.yaml" in written.out
    text = Path("mine.yaml").read_text()
    assert "  # " in text
    if said:
        assert "# set with --set" in text
    words = [word for change in short for word in ("--set", change)]
    result = hstnn("train", "mine.yaml", "--device", "cpu", *words, "--json")
    assert result.code == 0, result.err
    test = json.loads(result.out)["runs"][-1]["result"]["test"]
    if name == "values":
        assert test["rmse"] < 0.5  # 0.82 is the deviation of the values
    else:
        assert test["accuracy"] > CHANCE.get(name, 34) + 25


def test_the_recipe_for_a_text(hstnn: Hstnn) -> None:
    own_data.text(Path("book"), 300)
    assert hstnn("data", "check", "book", "--write-recipe", "mine.yaml", "--out", "book.png").code == 0
    result = hstnn("train", "mine.yaml", "--device", "cpu", "--set", "adapt.epochs=15", "--json")
    assert result.code == 0, result.err
    # e^2.13 = 8.5 is what the frequencies of the words alone give.
    assert json.loads(result.out)["runs"][-1]["result"]["test"]["perplexity"] < 6
