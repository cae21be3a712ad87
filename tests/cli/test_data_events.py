"""`hstnn data` on event recordings: prepared once, whoever asks; verified one by one; drawn; and what is cached."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hstnn_deploy.data import cache
from hstnn_deploy.data.registry import DATA_SETS
from tests.cli.test_data import is_png
from tests.conftest import PATIENCE, Hstnn
from tests.event_files import make_cifar10_dvs, make_dvs_gesture, make_nmnist, make_shd

Make = Callable[[Path], Path]
SETS: dict[str, Make] = {
    "nmnist": make_nmnist,
    "dvs-gesture": make_dvs_gesture,
    "cifar10-dvs": make_cifar10_dvs,
    "shd": lambda root: make_shd(root, count=60),
    "ssc": lambda root: make_shd(root, "ssc"),
}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def nmnist(tmp_path: Path) -> Path:
    return make_nmnist(tmp_path / "data")


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_prepared_once_verified_and_drawn(hstnn: Hstnn, tmp_path: Path, name: str) -> None:
    folder = SETS[name](tmp_path / "data")
    first = json.loads(hstnn("data", "prepare", name, "--data-dir", folder, "--json").out)[0]
    assert first["cached"]
    times = {path: Path(path).stat().st_mtime_ns for path in first["cached"]}
    again = hstnn("data", "prepare", name, "--data-dir", folder)
    assert again.code == 0
    assert "none new" in again.out
    assert {path: Path(path).stat().st_mtime_ns for path in first["cached"]} == times

    verified = json.loads(hstnn("data", "verify", name, "--data-dir", folder, "--json").out)
    assert verified["wrong"] == []
    assert verified["checks"] == sum(split["count"] for split in verified["splits"].values())
    assert set(verified["splits"]) == ({"train", "valid", "test"} if name == "ssc" else {"train", "test"})

    out = tmp_path / "picture.png"
    shown = hstnn("data", "show", name, "--data-dir", folder, "--out", out, "--count", "2", "--split", "test")
    assert (shown.code, shown.err) == (0, "")
    assert "recordings in the test split" in shown.out
    assert is_png(out)


def test_another_transform_is_another_entry_and_the_cache_can_be_seen_and_cleared(hstnn: Hstnn, nmnist: Path) -> None:
    for steps in (15, 5):
        assert hstnn("data", "prepare", "nmnist", "--data-dir", nmnist, "--set", f"data.steps={steps}").code == 0
    facts = json.loads(hstnn("data", "cache", "info", "--json").out)
    assert [(each["data_set"], each["split"]) for each in facts["entries"]].count(("nmnist", "train")) == 2
    assert {each["parameters"]["steps"] for each in facts["entries"]} == {5, 15}
    shown = hstnn("data", "cache", "info")
    assert "4 files" in shown.out
    assert "steps 5" in shown.out
    assert "removed 0 files" in hstnn("data", "cache", "clear", "shd").out
    gone = json.loads(hstnn("data", "cache", "clear", "nmnist", "--json").out)
    assert len(gone["removed"]) == 4
    assert json.loads(hstnn("data", "cache", "info", "--json").out)["entries"] == []


def test_two_processes_prepare_a_set_once(nmnist: Path, cache_folder: Path) -> None:
    command = [sys.executable, "-m", "hstnn_deploy", "data", "prepare", "nmnist", "--data-dir", str(nmnist), "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0][0] == outputs[1][0]
    # Each split was computed by one of the two.
    assert "".join(err for _, err in outputs).count("preparing nmnist train") == 1
    assert len(list(cache_folder.glob("nmnist/*.rows"))) == 2
    assert not list(cache_folder.glob("nmnist/.*.partial"))


def test_no_space_left_while_caching_is_one_clear_line(
    hstnn: Hstnn, nmnist: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hstnn_deploy.files.os.fsync", full)
    result = hstnn("data", "prepare", "nmnist", "--data-dir", nmnist)
    assert result.code == 3
    assert "no space left on the device" in result.err
    assert cache.VARIABLE in result.err
    assert not list(cache_folder.glob("nmnist/*.rows"))


def test_the_cache_is_verified_on_request(hstnn: Hstnn, nmnist: Path) -> None:
    assert "0 files" in hstnn("data", "cache", "verify").out
    assert hstnn("data", "prepare", "nmnist", "--data-dir", nmnist).code == 0
    good = json.loads(hstnn("data", "cache", "verify", "nmnist", "--json").out)
    assert good["entries"]
    assert {each["problem"] for each in good["entries"]} == {""}
    with Path(good["entries"][0]["path"]).open("r+b") as file:
        file.write(b"\xff")
    wrong = hstnn("data", "cache", "verify")
    assert wrong.code == 3
    assert f"error: 1 of {len(good['entries'])} cached files are damaged, the first: " in wrong.err
    assert "its checksum differs\nhint: they are rebuilt" in wrong.err
    assert f"{len(good['entries']) - 1} are intact" in wrong.out
    assert hstnn("data", "cache", "verify", "nmnits").hint == "did you mean 'nmnist'?"


def test_a_cache_folder_that_cannot_be_written_is_one_clear_line(
    hstnn: Hstnn, nmnist: Path, blocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(blocked))
    result = hstnn("data", "prepare", "nmnist", "--data-dir", nmnist)
    assert result.code == 3
    assert f"cannot write {blocked}" in result.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"1234", "is truncated: 4 bytes are not whole events of 5"),
        (bytes([40, 1, 0, 0, 1]), "event 0 of 1 has x 40, but the sensor ends at 33"),
        (bytes([1, 1, 0, 0, 9]) + bytes([1, 1, 0, 0, 3]), "event 1 of 2 is at 3 us, before the one before it (9)"),
    ],
)
def test_every_damaged_recording_is_named(hstnn: Hstnn, nmnist: Path, content: bytes, message: str) -> None:
    paths = [nmnist / "Test/1/00001.bin", nmnist / "Train/0/00002.bin"]
    for path in paths:
        path.write_bytes(content)
    result = hstnn("data", "verify", "nmnist", "--data-dir", nmnist, "--json")
    assert result.code == 3
    assert "nmnist: 2 of 39 checks failed, the first: " in result.err
    wrong = json.loads(result.out)["wrong"]
    assert {each["file"] for each in wrong} == set(map(str, paths))
    assert all(message in each["problem"] for each in wrong)
    assert json.loads(result.out)["splits"]["test"]["count"] == 8


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("nmnist", "Train", "contains no train recordings"),
        ("nmnist", "Test", "nmnist is incomplete"),
        ("shd", "shd_test.h5", "shd_test.h5 is damaged, or not an HDF5 file"),
        ("dvs-gesture", "ibmGestureTest/user00_led/4.npy", "4.npy is damaged, or not a .npy file"),
    ],
)
def test_what_is_damaged_or_empty_is_named(hstnn: Hstnn, tmp_path: Path, name: str, damage: str, message: str) -> None:
    folder = SETS[name](tmp_path / "data")
    path = folder / damage
    match damage:
        case "Train":
            for each in path.glob("*/*.bin"):
                each.unlink()
        case "Test":
            path.rename(tmp_path / "elsewhere")
        case _:
            path.write_bytes(path.read_bytes()[:100])
    result = hstnn("data", "verify", name, "--data-dir", folder)
    assert result.code == 3
    assert message in result.err
    assert str(folder) in result.err


def test_a_validation_split_out_of_train_is_drawn_as_a_training_has_it(
    hstnn: Hstnn, nmnist: Path, tmp_path: Path
) -> None:
    words = ("data", "show", "nmnist", "--data-dir", nmnist, "--out", tmp_path / "x.png", "--split")
    for split, count in (("train", 27), ("valid", 3), ("test", 9)):
        shown = hstnn(*words, split)
        assert (shown.code, shown.err) == (0, "")
        assert f"{count} recordings in the {split} split" in shown.out
    # The demo's protocol holds nothing out: it chooses on the test split.
    for split, count in (("train", 30), ("valid", 9)):
        assert f"{count} recordings in the {split} split" in hstnn(*words, split, "--set", "protocol=test").out
    drawn = hstnn("data", "show", "digit-events", "--split", "valid", "--out", tmp_path / "y.png")
    assert "144 recordings in the valid split" in drawn.out
    assert is_png(tmp_path / "y.png")
    few = make_nmnist(tmp_path / "few", train=2)
    refused = hstnn("data", "show", "nmnist", "--data-dir", few, "--out", tmp_path / "x.png", "--split", "valid")
    assert refused.code == 3
    assert "samples with every class on both sides" in refused.error


def test_the_published_files_are_those_that_tonic_knows() -> None:
    from tonic.datasets import NMNIST, SHD, SSC, DVSGesture

    def known(url: str, checksum: str) -> set[tuple[str, str]]:
        return {(url, f"md5:{checksum}")}

    expected = {
        "nmnist": known(NMNIST.train_url, NMNIST.train_md5) | known(NMNIST.test_url, NMNIST.test_md5),
        "dvs-gesture": known(DVSGesture.train_url, DVSGesture.train_md5)
        | known(DVSGesture.test_url, DVSGesture.test_md5),
        "shd": known(SHD.base_url + SHD.train_zip, SHD.train_md5) | known(SHD.base_url + SHD.test_zip, SHD.test_md5),
        "ssc": known(SSC.base_url + SSC.train_zip, SSC.train_md5)
        | known(SSC.base_url + SSC.valid_zip, SSC.valid_md5)
        | known(SSC.base_url + SSC.test_zip, SSC.test_md5),
    }
    for name, remotes in expected.items():
        assert {(each.url, each.checksum) for each in DATA_SETS[name].remotes} == remotes
