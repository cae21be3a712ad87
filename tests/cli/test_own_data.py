"""A stranger's folder of each kind: trained, exported and run by the commands of docs/own-data.md, five or fewer."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from hstnn_deploy.export.runtime.manifest import seal
from hstnn_deploy.files import write_json
from hstnn_deploy.recipe.load import load_recipe
from tests import own_data
from tests.conftest import Hstnn

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")

SMALL = {
    "Before you train": ["--set", "train.epochs=1"],
    "Images": ["--set", "train.epochs=1", "--set", "batch=4"],
    "Arrays": ["--set", "train.epochs=1"],
    "Recordings of events": ["--set", "train.epochs=1", "--set", "batch=4"],
    "Text": ["--set", "adapt.epochs=1", "--set", "network.units=[6,5]", "--set", "batch=4"],
}
"""What makes a training short: nothing else is added to the commands of the page."""

MAKE = {
    "Before you train": lambda: own_data.images(Path("pets")),
    "Images": lambda: own_data.images(Path("pets")),
    "Arrays": lambda: own_data.series(Path("series")),
    "Recordings of events": lambda: own_data.events(Path("gestures")),
    "Text": lambda: own_data.text(Path("book")),
}
ANSWERS = {
    "Before you train": r"pets/cat/1\.png: class \d \((cat|dog)\), score .*; then (cat|dog) ",
    "Images": r"pets/cat/1\.png: class \d \((cat|dog)\), score .*; then (cat|dog) ",
    "Arrays": r"series/x\.npy \[0\]: class \d \((down|up)\), score ",
    "Recordings of events": r"gestures/left/p0_0\.npy: class \d \((left|right)\), score ",
    "Text": r"book/book\.txt: \d+ words, perplexity ",
}


def commands(section: str) -> list[list[str]]:
    """The commands of a section of the page."""
    found = re.search(rf"^## {section}$.*?^```console$(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found, section
    return [shlex.split(line.removeprefix("$ hstnn ")) for line in found[1].strip().splitlines()]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("section", SMALL)
def test_the_commands_of_the_page(section: str, hstnn: Hstnn) -> None:
    MAKE[section]()
    lines = commands(section)
    assert len(lines) <= 5
    out = ""
    for words in lines:
        more = [*SMALL[section], "--device", "cpu"] if words[0] == "train" else []
        result = hstnn(*words, *more)
        assert result.code == 0, result.err
        out = result.out
    assert re.match(ANSWERS[section], out), out


def test_the_recipe_and_the_python_of_the_page(hstnn: Hstnn) -> None:
    own_data.images(Path("pets"))
    recipe = re.search(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    python = re.search(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert recipe
    assert python
    Path("pets.yaml").write_text(recipe[1])
    result = hstnn("train", "pets.yaml", "--device", "cpu")
    assert result.code == 0, result.err
    assert "fitted to your data: network.input: left out -> [3, 12, 12]" in result.out + result.err
    exec(compile(python[1], "docs/own-data.md", "exec"), {})


def test_every_key_is_in_the_table() -> None:
    from hstnn_deploy.data.own.config import CONFIGS

    for config in CONFIGS.values():
        for key in config.model_fields.keys() - {"name", "found"}:
            assert f"`{key}`" in PAGE, key


def test_values_are_told(hstnn: Hstnn) -> None:
    own_data.series(Path("series"), "values")
    short = ["--set", "train.epochs=1", "--device", "cpu"]
    result = hstnn("train", "stack-digits", "--data", "series", *short)
    assert result.code == 0, result.err
    ckpt = Path("runs/stack-digits-series/plain/seed1111/best.pt")
    assert "rmse" in hstnn("evaluate", "--ckpt", ckpt).out
    assert hstnn("export", "--ckpt", ckpt, "--out", "bundle").code == 0
    assert "values" in hstnn("run", "bundle", "--input", "series/x.npy").out
    refused = hstnn("train", "stack-digits", "--data", "series", "--set", "loss=cross-entropy", "--out", "r", *short)
    assert "loss is cross-entropy, but your data has" in refused.error
    assert refused.hint == "--set loss=regression"


def train(hstnn: Hstnn, *words: str) -> str:
    result = hstnn("train", "stack-digits", "--device", "cpu", "--set", "train.epochs=1", "--set", "batch=4", *words)
    assert result.code == 0, result.err
    return result.out + result.err


def test_a_folder_in_the_place_of_a_recipe_is_told_what_to_do(hstnn: Hstnn) -> None:
    own_data.images(Path("pets"))
    result = hstnn("train", "pets")
    assert result.error == "pets is a folder, not a recipe"
    assert result.hint == "to train on the images in it: hstnn train stack-digits --data pets"
    Path("empty").mkdir()
    assert "a shipped recipe's name" in hstnn("train", "empty").hint


def test_what_was_trained_is_told_from_what_lies_there_now(hstnn: Hstnn) -> None:
    pets = own_data.images(Path("pets"))
    train(hstnn, "--data", "pets")
    run = Path("runs/stack-digits-pets/plain/seed1111")
    assert "already finished" in train(hstnn, "--data", "pets")
    (pets / "cat" / "9.png").write_bytes((pets / "cat" / "1.png").read_bytes())
    changed = hstnn(
        "train", "stack-digits", "--data", "pets", "--set", "train.epochs=1", "--set", "batch=4", "--resume"
    )
    assert changed.code == 5
    assert "data.found." in changed.error
    result = hstnn("evaluate", "--ckpt", run / "best.pt")
    assert result.code == 3
    assert "pets differs from the data that the recipe was made for: train cat had" in result.error
    # The recipe and the checkpoint say what they need without the files.
    plain = yaml.safe_load((run / "recipe.yaml").read_text())
    assert plain["data"]["found"]["classes"] == ["cat", "dog"]
    pets.rename("moved")
    assert load_recipe(str(run / "recipe.yaml")).data.name == "own"
    assert "does not exist" in hstnn("evaluate", "--ckpt", run / "best.pt").error
    Path("moved/cat/9.png").unlink()
    assert hstnn("evaluate", "--ckpt", run / "best.pt", "--data-dir", "moved").code == 0
    assert hstnn("export", "--ckpt", run / "best.pt", "--data-dir", "moved", "--out", "bundle").code == 0


def test_other_samples_of_known_classes_are_measured_by_name(hstnn: Hstnn) -> None:
    own_data.images(Path("pets"))
    train(hstnn, "--data", "pets")
    ckpt = Path("runs/stack-digits-pets/plain/seed1111/best.pt")
    new = own_data.images(Path("new"), each=3)
    for path in (new / "cat").iterdir():
        path.unlink()
    (new / "cat").rmdir()
    assert "(3 samples of your images in new" in hstnn("evaluate", "--ckpt", ckpt, "--data", "new").out
    (new / "dog").rename(new / "wolf")
    refused = hstnn("evaluate", "--ckpt", ckpt, "--data", "new")
    assert refused.error == "new has the class 'wolf', which the network was not trained on"
    assert refused.hint == "it knows cat, dog"


def test_what_the_network_cannot_take_is_refused_with_what_would_work(hstnn: Hstnn) -> None:
    own_data.events(Path("gestures"))
    size = ["--set", "data.sensor_size=[20,14]"]
    result = hstnn("train", "digit-events", "--data", "gestures", *size)
    assert result.code == 2
    assert "square" in result.hint
    own_data.images(Path("pets"), size=(3, 3))
    result = hstnn("train", "stack-events", "--data", "pets")
    assert "the network of recipe stack-events cannot take images whose time step is [3, 3, 3]" in result.error
    assert "--set data.resize=16" in result.hint
    assert (
        hstnn("train", "stack-events", "--data", "pets", "--set", "data.resize=16", "--set", "train.epochs=1").code == 0
    )
    own_data.series(Path("series"))
    assert "such as stack-digits" in hstnn("train", "stack-events", "--data", "series").hint


def test_a_key_that_is_set_stays(hstnn: Hstnn) -> None:
    own_data.series(Path("series"))
    result = hstnn("train", "digits", "--data", "series", "--set", "network.classes=3")
    assert result.error == "network.classes is 3, but your data has 2"
    result = hstnn("train", "digits", "--data", "series", "--set", "data.fit=false")
    assert result.error == "network.inputs is 8, but your data has 3"


def test_the_sensor_is_asked_for_where_files_do_not_say_it(hstnn: Hstnn) -> None:
    own_data.events(Path("gestures"))
    result = hstnn("train", "stack-events", "--data", "gestures")
    assert "does not state its sensor size" in result.error
    assert "data.sensor_size=[WIDTH,HEIGHT]" in result.hint
    assert "[20,14]" in result.hint


def test_a_bundle_refuses_arrays_of_another_shape(hstnn: Hstnn) -> None:
    own_data.series(Path("series"))
    train(hstnn, "--data", "series", "--set", "data.normalise=auto")
    ckpt = Path("runs/stack-digits-series/plain/seed1111/best.pt")
    assert hstnn("export", "--ckpt", ckpt, "--out", "bundle").code == 0
    np.save("one.npy", np.load("series/x.npy")[0])
    result = hstnn("run", "bundle", "--input", "one.npy")
    assert result.code == 0
    assert "1 samples [T, I] of [10, 3], normalised" in result.err
    np.save("odd.npy", np.zeros((2, 10, 4), np.float32))
    assert (
        "has shape [2, 10, 4]; the network was trained on samples [T, I] of [10, 3]"
        in hstnn("run", "bundle", "--input", "odd.npy").error
    )


def test_names_of_classes_in_a_bundle_are_proved_and_streamed(hstnn: Hstnn) -> None:
    own_data.images(Path("pets"))
    train(hstnn, "--data", "pets")
    ckpt = Path("runs/stack-digits-pets/plain/seed1111/best.pt")
    assert hstnn("export", "--ckpt", ckpt, "--out", "bundle").code == 0
    streamed = hstnn("run", "bundle", "--input", "pets/cat/1.png", "--stream").out
    assert re.search(r"step 1 of 12: \d (cat|dog) \(", streamed), streamed
    found = json.loads(hstnn("run", "bundle", "--input", "pets/cat/1.png", "--json").out)["results"][0]["samples"][0]
    assert found["name"] == found["names"][0] == ["cat", "dog"][found["class"]]
    manifest = json.loads(Path("bundle/manifest.json").read_text())
    assert manifest["network"]["classes"] == ["cat", "dog"]
    del manifest["seal"]
    manifest["network"]["classes"] = ["dog", "cat"]
    write_json(Path("bundle/manifest.json"), manifest | {"seal": seal(manifest)})
    refused = hstnn("verify", "bundle")
    assert refused.code == 8
    assert "network.classes.0 is 'dog'; it should be 'cat'" in refused.out
    manifest["network"]["classes"] = ["dog"]
    write_json(Path("bundle/manifest.json"), manifest | {"seal": seal(manifest)})
    assert "names 1 classes, but its graphs distinguish 2" in hstnn("run", "bundle", "--input", "pets/cat/1.png").error


def test_images_of_another_size_are_not_measured(hstnn: Hstnn) -> None:
    own_data.images(Path("pets"))
    train(hstnn, "--data", "pets")
    ckpt = Path("runs/stack-digits-pets/plain/seed1111/best.pt")
    own_data.images(Path("wide"), size=(20, 12))
    refused = hstnn("evaluate", "--ckpt", ckpt, "--data", "wide")
    assert refused.error == "wide/cat/0.png is 20 x 12 pixels; the network was trained on 12 x 12"
    # Grey images are taken among those of colours, as in training.
    for path in own_data.images(Path("grey")).rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert "(16 samples of your images in grey" in hstnn("evaluate", "--ckpt", ckpt, "--data", "grey").out


def test_a_split_that_is_not_there_is_not_measured(hstnn: Hstnn) -> None:
    own_data.images(Path("pets"))
    train(hstnn, "--data", "pets")
    ckpt = Path("runs/stack-digits-pets/plain/seed1111/best.pt")
    own_data.images(Path("new/valid"))
    refused = hstnn("evaluate", "--ckpt", ckpt, "--data", "new")
    assert refused.error.endswith("the test split is empty")
    assert refused.hint == "--split valid"
    assert "(16 samples" in hstnn("evaluate", "--ckpt", ckpt, "--data", "new", "--split", "valid").out


def test_a_bundle_keeps_how_recordings_are_read(hstnn: Hstnn) -> None:
    own_data.events(Path("gestures"))
    said = ["--set", "data.sensor_size=[20,14]", "--set", "data.events=p=1/0"]
    result = hstnn("train", "stack-events", "--data", "gestures", *said, "--set", "train.epochs=1", "--device", "cpu")
    assert result.code == 0, result.err
    ckpt = Path("runs/stack-events-gestures/plain/seed1111/best.pt")
    assert hstnn("export", "--ckpt", ckpt, "--out", "bundle").code == 0
    file = "gestures/left/p0_0.npy"
    for more in ([], ["--events", "sort"]):
        assert "polarity 1 and 0, taken as 0 and 1, as given" in hstnn("run", "bundle", "--input", file, *more).err
    events = np.load(file)
    events["t"] //= 1000
    np.save("ms.npy", events)
    refused = hstnn("run", "bundle", "--input", "ms.npy")
    assert "ms.npy does not specify the unit of its times" in refused.error
    assert refused.hint.startswith("--events unit=ms")
    assert hstnn("run", "bundle", "--input", "ms.npy", "--events", "unit=ms").code == 0
