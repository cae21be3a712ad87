"""Images of one's own as splits: the pixels of the files, columns and whole; what is odd is refused by name."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hstnn_deploy.data.own.config import OwnImages
from hstnn_deploy.data.own.images import listed
from hstnn_deploy.data.own.resolve import complete, load_folder
from hstnn_deploy.data.preprocessing import Pixels, Whole, preprocessing
from hstnn_deploy.data.readers.image_files import read_image
from hstnn_deploy.errors import DataError
from tests import own_data


@pytest.fixture(autouse=True)
def _cached_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSTNN_CACHE", str(tmp_path / "cache"))


def all_of(split: Any) -> Any:
    return split.batch(torch.arange(len(split)), torch.device("cpu"))


def pixels_of(folder: Path, name: str) -> Any:
    return np.asarray(Image.open(folder / name).convert("RGB"), np.float32)


@pytest.mark.parametrize("size", [(12, 12), (10, 7)])
@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_columns_and_whole_images_are_the_pixels_of_the_files(
    tmp_path: Path, size: tuple[int, int], cache: Any
) -> None:
    folder = own_data.images(tmp_path / "pets", size=size)
    config, columns = load_folder(folder, cache=cache)
    assert (columns.inputs, columns.classes, columns.family) == (3 * size[1], 2, "sequence")
    batch = all_of(columns.test)
    assert batch.x.shape == (size[0], 4, 3 * size[1])
    config, whole = load_folder(folder, cache=cache, images={"steps": 2, "encoding": "repeat"})
    assert config.found is not None
    there = all_of(whole.test)
    assert there.x.shape == (2, 4, 3, size[1], size[0])
    # x[t] is column t: its rows in each colour.
    assert torch.allclose(batch.x.unflatten(2, (3, size[1])).permute(1, 2, 3, 0), there.x[0], atol=1e-6)
    files = [pixels_of(folder, f"{name}/{number}.png") for name in ("cat", "dog") for number in range(8)]
    told = {(x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().tobytes() for x in there.x[0]}
    assert told <= {each.astype(np.uint8).tobytes() for each in files}
    assert there.target.tolist() == [0, 0, 1, 1]
    counts = [len(whole.split(name)) for name in ("train", "valid", "test")]
    assert counts == [10, 2, 4]
    assert sum(config.found.train) == 10


def test_images_are_resized_and_made_grey_as_a_bundle_does(tmp_path: Path) -> None:
    folder = own_data.images(tmp_path / "pets")
    config, splits = load_folder(folder, resize=[4, 6], colours=1, images={"steps": 1, "encoding": "repeat"})
    how = preprocessing(config)
    assert isinstance(how, Whole)
    assert (how.height, how.width, how.colours, how.resize) == (4, 6, 1, True)
    assert splits.sizes.step == (1, 4, 6)
    image = Image.open(folder / "cat" / "0.png").convert("L").resize((6, 4), Image.Resampling.BILINEAR)
    wanted = torch.from_numpy(np.asarray(image, np.float32)) / 255
    every = torch.cat([all_of(splits.split(name)).x[0, :, 0] for name in ("train", "valid", "test")])
    # While training an image may be moved; here it is not asked for.
    assert any(torch.allclose(each, wanted) for each in every)


def test_normalise_auto_is_that_of_the_training_images_alone(tmp_path: Path) -> None:
    folder = own_data.images(tmp_path / "pets")
    plain = complete(
        {"name": "own", "path": str(folder), "images": {"steps": 1, "encoding": "repeat"}, "normalise": "auto"}
    )
    _, splits = load_folder(folder, images={"steps": 1, "encoding": "repeat"})
    train = all_of(splits.train).x[0].double()
    assert plain["images"]["mean"] == pytest.approx(train.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert plain["images"]["std"] == pytest.approx(train.std((0, 2, 3), correction=0).tolist(), abs=1e-5)
    _, normal = load_folder(folder, images={"steps": 1, "encoding": "repeat"}, normalise="auto")
    assert all_of(normal.train).x.mean().abs() < 1e-5


def test_protocol_test_trains_on_what_would_choose(tmp_path: Path) -> None:
    folder = own_data.images(tmp_path / "pets")
    _, chosen = load_folder(folder)
    _, test = load_folder(folder, protocol="test")
    assert len(test.train) == len(chosen.train) + len(chosen.valid)
    assert test.valid is test.test


def test_a_bundle_knows_the_pixels(tmp_path: Path) -> None:
    config, _ = load_folder(own_data.images(tmp_path / "pets", size=(10, 7)))
    how = preprocessing(config)
    assert isinstance(how, Pixels)
    assert how.model_dump() == {"height": 7, "width": 10, "colours": 3, "white": 255, "kind": "pixels"}


def spoil(folder: Path, what: str) -> None:
    path = folder / "dog" / "3.png"
    match what:
        case "size":
            Image.new("RGB", (5, 5)).save(path)
        case "damaged":
            path.write_bytes(path.read_bytes()[:60])
        case "text":
            path.write_text("no image")
        case "colours":
            for each in folder.glob("*/*.png"):
                Image.open(each).convert("L").save(each)
            Image.new("RGB", (12, 12), (9, 0, 0)).save(path)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("size", ["dog/3.png is 5 x 5 pixels, and", "cat/0.png is 12 x 12", "data.resize=[12,12]"]),
        ("damaged", ["dog/3.png is damaged"]),
        ("text", ["dog/3.png is damaged, or not a PNG or JPEG image"]),
        ("colours", ["dog/3.png has colours, and", "cat/0.png is grey", "data.colours=3"]),
    ],
)
def test_an_image_that_is_odd_is_refused_by_name(tmp_path: Path, what: str, words: list[str]) -> None:
    folder = own_data.images(tmp_path / "pets")
    spoil(folder, what)
    with pytest.raises(DataError) as error:
        load_folder(folder)
    for word in words:
        assert word in error.value.message + error.value.hint


def test_mixed_sizes_and_colours_are_taken_where_it_is_said_how(tmp_path: Path) -> None:
    folder = own_data.images(tmp_path / "pets")
    spoil(folder, "size")
    _, splits = load_folder(folder, resize=8)
    assert splits.inputs == 24
    spoil(folder, "colours")
    _, splits = load_folder(folder, colours=1)
    assert splits.inputs == 12


def test_an_option_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = own_data.images(tmp_path / "pets")
    with pytest.raises(DataError, match=r"^unknown key 'data\.nothing'$"):
        load_folder(folder, nothing=3)
    with pytest.raises(DataError, match=r"^unknown key 'data\.colors'$") as error:
        load_folder(folder, colors=3)
    assert error.value.hint == "did you mean 'colours'?"
    with pytest.raises(DataError, match=r"^unknown key 'data\.images\.stepz'$"):
        load_folder(folder, images={"steps": 4, "stepz": 3})
    with pytest.raises(DataError, match=r"^key 'data\.images\.steps' is missing$"):
        load_folder(folder, images={})
    with pytest.raises(DataError, match="normalise is for whole images"):
        load_folder(folder, normalise="auto")


def test_a_bundle_reads_sixteen_bits_as_training_did(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number in range(10):
        path = tmp_path / "deep" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 2**16, (6, 8)).astype(np.uint16)).save(path)
    config, splits = load_folder(tmp_path / "deep")
    how = Pixels(height=6, width=8, colours=1)
    assert isinstance(config, OwnImages)
    listing, parts = listed(config)
    found = splits.train.batch(torch.arange(len(splits.train)), torch.device("cpu")).x.numpy()
    for place, number in enumerate(parts["train"].tolist()):
        content = listing.path(number).read_bytes()
        assert np.abs(read_image(content, "a.png", how, False, print) - found[:, place]).max() < 1e-6


def test_names_of_files_that_are_no_letters(tmp_path: Path) -> None:
    folder = own_data.images(tmp_path / "pets")
    first = folder / "cat" / "0.png"
    try:
        first.rename(os.fsdecode(os.fsencode(folder / "cat") + b"/\xff.png"))
    except OSError:
        pytest.skip(
            "names are text on this file system; to run it: --basetemp=DIR on one that takes any bytes, as ext4"
        )
    _, splits = load_folder(folder)
    assert sum(len(splits.split(name)) for name in ("train", "valid", "test")) == 16
    (folder / "cat").rename(os.fsdecode(os.fsencode(folder) + b"/\xfe"))
    with pytest.raises(DataError, match="cannot be the name of a class"):
        load_folder(folder)


def test_another_format_under_the_name_of_an_image_is_refused(tmp_path: Path) -> None:
    folder = own_data.images(tmp_path / "pets")
    Image.new("RGB", (12, 12)).save(folder / "cat" / "0.png", format="GIF")
    code = (
        "import sys\nfrom hstnn_deploy.data.own.resolve import load_folder\n"
        "try: load_folder(sys.argv[1])\nexcept Exception as error: print(error)"
    )
    # In a process of its own: what Pillow has once loaded stays.
    told = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True).stdout
    assert "0.png is damaged, or not a PNG or JPEG image" in told
    assert "MPO" not in told
