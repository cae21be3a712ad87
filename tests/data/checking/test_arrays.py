"""Arrays with each fault planted, and some without any."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hstnn_deploy.data.checking import arrays
from hstnn_deploy.data.own.resolve import load_folder
from hstnn_deploy.errors import DataError
from tests import own_data
from tests.data.checking.folders import checked, clean, said


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return own_data.series(tmp_path / "series", samples=120)


def change(folder: Path, name: str, edit: Any) -> None:
    values = np.load(folder / f"{name}.npy")
    made = edit(values)
    np.save(folder / f"{name}.npy", values if made is None else made)


def test_clean_arrays_have_no_note(series: Path) -> None:
    found = checked(series)
    clean(found)
    x = np.load(series / "x.npy")
    assert found.facts["shape"] == [10, 3]
    assert found.facts["axes"] == "TI"
    assert found.facts["mean"] == pytest.approx(x.mean(), rel=1e-4)
    assert found.facts["std"] == pytest.approx(x.std(), rel=1e-4)
    assert (found.facts["min"], found.facts["max"]) == (
        pytest.approx(x.min(), rel=1e-4),
        pytest.approx(x.max(), rel=1e-4),
    )
    assert found.facts["constant"] == 0
    assert found.counts == {"train": [43, 43], "valid": [5, 5], "test": [12, 12]}


def test_the_deviation_of_large_numbers_is_theirs(series: Path) -> None:
    change(series, "x", lambda x: np.round(x * 1000).astype(np.int64) + 10**12)
    x = np.load(series / "x.npy")
    facts = checked(series).facts
    assert facts["std"] == pytest.approx((x - 10**12).std(), rel=1e-5)
    assert facts["mean"] == pytest.approx(1e12)


def test_clean_values(tmp_path: Path) -> None:
    found = checked(own_data.series(tmp_path / "series", "values", samples=120))
    clean(found)
    assert found.classes == ()
    assert found.counts == {"train": [86], "valid": [10], "test": [24]}
    assert any(line.startswith("target values, 1 per sample") for line in found.lines)


def spoil(value: float) -> Any:
    def edit(x: np.ndarray) -> None:
        x[3, 2, 1] = value

    return edit


def times(x: np.ndarray) -> Any:
    made = x.astype(np.float64)
    made[..., 1] = 1.7e9 + np.arange(made[..., 1].size).reshape(made.shape[:-1]) % 100
    return made


REFUSED: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "times": ("x", times, ("channel 1 ranges from 1700000000.0 to 1700000099.0", "float32 has steps of 128")),
    "nan": ("x", spoil(np.nan), ("x.npy contains nan at [3, 2, 1] (1 numbers in 120 samples)",)),
    "infinity": ("x", spoil(-np.inf), ("contains -inf at [3, 2, 1]",)),
    "float32": ("x", lambda x: np.where(x == x[5, 5, 1], 1e300, x.astype(float)), ("contains 1e+300 at [5, 5, 1]",)),
    "fewer labels": ("y", lambda y: y[:-2], ("x.npy contains 120 samples, and", "y.npy 118")),
    "one class": ("y", lambda y: np.zeros(len(y), int), ("has only one class",)),
    "whole fractions": ("y", lambda y: (y == "up").astype(float), ("are they classes, or values?", "data.targets=")),
    "lone class": ("y", lambda y: np.where(np.arange(len(y)) == 0, "rare", y), ("'rare' has 1 sample, too few",)),
    "axes": ("x", lambda x: x.reshape(120, 5, 2, 3, 1, 1), ("more axes than samples have", "data.axes=TI")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_training_refuses_is_refused(series: Path, name: str) -> None:
    array, edit, words = REFUSED[name]
    change(series, array, edit)
    if name == "fewer labels":  # x and y do not belong together: nothing can be looked at
        with pytest.raises(DataError, match=r"contains 120 samples, and .*y\.npy 118"):
            checked(series)
    else:
        said(checked(series), *words, refused=True)
    with pytest.raises(DataError):
        load_folder(series)


def test_what_is_odd_is_noted(series: Path) -> None:
    def edit(x: np.ndarray) -> np.ndarray:
        x[:, :, 2] = 7
        x[7] = x[5]
        x[8] = x[9]
        return x * 100

    change(series, "x", edit)
    found = checked(series)
    assert not found.notes.refused
    said(found, "10 of 30 numbers of a sample are the same in every sample, the first at [0, 2]")
    said(found, "numbers reach from", "data.normalise=auto")
    said(found, "1 sample with the same content as one of another class, such as sample 8 and sample 9")
    said(found, "with the same content as", "sample 5", "sample 7")
    assert not any("data.normalise" in note.hint for note in checked(series, normalise="auto").notes.found)


def test_a_file_for_each_sample(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(60):
            np.save(tmp_path / name / f"{number}.npy", draw.normal(size=(6, 7)).astype(np.float32))
    found = checked(tmp_path)
    clean(found)
    assert found.facts["shapes"] == {"6x7": 120}
    np.save(tmp_path / "a" / "1.npy", np.zeros((6, 8)))
    np.save(tmp_path / "a" / "2.npy", np.array(["x"]))
    np.save(tmp_path / "b" / "3.npy", np.full((6, 7), np.nan))
    found = checked(tmp_path)
    said(found, "1.npy has shape [6, 8], and others of [6, 7]", refused=True)
    said(found, "2.npy has type <U1", refused=True)
    said(found, "3.npy contains nan at [0, 0] (42 numbers in 1 samples)", refused=True)


def test_of_large_arrays_a_part_is_drawn(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_BYTES", 30 * 10 * 3 * 8)
    found = checked(series, most=5)
    assert (found.read, found.total) == (30, 120)
    assert "drawn with a fixed seed" in found.extent
    assert checked(series).read == 120


@pytest.mark.parametrize(("shape", "form"), [((9,), "series"), ((1, 8, 8), "map"), ((5, 2, 8, 6), "map")])
def test_examples_of_all_shapes(tmp_path: Path, shape: tuple[int, ...], form: str) -> None:
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=draw.normal(size=(80, *shape)), y=np.arange(80) % 3)
    found = checked(tmp_path)
    assert {example.form for example in found.examples} == {form}
    assert [example.label for example in found.examples] == [0, 1, 2]


def test_numbers_of_files_that_float32_does_not_tell_apart(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"c{number % 2}").mkdir(exist_ok=True)
        np.save(tmp_path / f"c{number % 2}" / f"{number}.npy", 1.7e9 + np.arange(8) + number)
    found = checked(tmp_path)
    said(found, "channel 0 ranges from 1700000000.0 to 1700000036.0", refused=True)
    with pytest.raises(DataError, match="where float32 has steps"):
        load_folder(tmp_path)
