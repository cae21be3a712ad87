"""What a newcomer with data of his own is told: hints that work when they are followed, and names that are his."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests import own_data
from tests.conftest import Hstnn

SHORT = ["--device", "cpu", "--set", "train.epochs=1", "--set", "batch=4"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(folder: Path, start: int = 0, fold: int = 1) -> Path:
    """Recordings as plain rows of t, x, y and p, whose clock begins at `start`."""
    own_data.events(folder)
    for path in folder.rglob("*.npy"):
        events = np.load(path)
        columns = [events["t"].astype(np.int64) * fold + start, *(events[each].astype(np.int64) for each in "xyp")]
        np.save(path, np.stack(columns, axis=1))
    return folder


def test_each_hint_is_an_option_of_train_and_works(hstnn: Hstnn) -> None:
    # Numbers of a spot that goes straight: x ascends as t does.
    for path in rows(Path("waves")).rglob("*.npy"):
        table = np.load(path)
        table[:, 1].sort()
        np.save(path, table)
    words = ["train", "stack-events", "--data", "waves", *SHORT]
    first = hstnn(*words)
    assert "--set data.events=order=txyp," in first.hint
    assert "--events" not in first.err
    words += ["--set", "data.events=order=txyp"]
    second = hstnn(*words)
    size = re.search(r"\[\d+,\d+\]", second.hint)
    assert size
    third = hstnn(*words, "--set", f"data.sensor_size={size[0]}")
    assert third.code == 0, third.err
    assert "data: your recordings in waves, 12 in 2 classes, of a sensor of 20 x 14, " in third.out + third.err


def test_a_hint_keeps_what_is_said_already_and_says_it_once(hstnn: Hstnn) -> None:
    rows(Path("waves"), fold=10**6)
    words = ["train", "stack-events", "--data", "waves", "--set", "data.sensor_size=[20,14]", *SHORT]
    long = hstnn(*words, "--set", "data.events=order=txyp,unit=s")
    assert long.code == 3
    assert re.match(r"the longest recording lasts \d{8,} s, but a sample may last at most 2147 s", long.error), (
        long.error
    )
    assert "--set data.events=order=txyp,unit=us;" in long.hint
    assert hstnn(*words, "--set", "data.events=order=txyp,unit=ns").code == 0


def test_a_sensor_that_was_said_too_small_is_not_called_that_of_a_training(hstnn: Hstnn) -> None:
    own_data.events(Path("gestures"))
    small = hstnn("train", "stack-events", "--data", "gestures", "--set", "data.sensor_size=[9,14]", *SHORT)
    assert small.code == 3
    assert "if its sensor is larger than 9 x 14: --set data.sensor_size=[WIDTH,HEIGHT]" in small.hint
    assert "trained" not in small.err


def test_an_impossible_option_of_recordings_says_what_would_work(hstnn: Hstnn) -> None:
    own_data.events(Path("gestures"))
    result = hstnn("train", "stack-events", "--data", "gestures", "--set", "data.events=ordr=txyp", *SHORT)
    assert result.error.endswith("data.events is 'ordr=txyp': unknown key 'ordr'; did you mean 'order'?")


@pytest.mark.parametrize("start", [1_605_000_000_000_000, 3_000_000_000], ids=["unix", "camera on for 50 minutes"])
def test_recordings_of_a_clock_that_began_long_before_are_trained_on_and_run(hstnn: Hstnn, start: int) -> None:
    rows(Path("late"), start)
    own_data.events(Path("gestures"))
    options = ["--set", "data.events=order=txyp", "--set", "data.sensor_size=[20,14]", *SHORT]
    result = hstnn("train", "stack-events", "--data", "late", *options)
    assert result.code == 0, result.err
    plain = hstnn("train", "stack-events", "--data", "gestures", "--set", "data.sensor_size=[20,14]", *SHORT)

    def curve(text: str) -> list[str]:
        return re.findall(r"loss [\d.]+  valid accuracy [\d.]+", text)

    assert curve(result.out + result.err) == curve(plain.out + plain.err) != []
    ckpt = Path("runs/stack-events-late/plain/seed1111/best.pt")
    assert hstnn("export", "--ckpt", ckpt, "--out", "bundle").code == 0
    ran = hstnn("run", "bundle", "--input", "late/left/p0_0.npy")
    assert ran.code == 0, ran.err
    assert "time begins at the first event" in ran.err


def test_texts_in_folders_are_events_once_that_is_said(hstnn: Hstnn) -> None:
    for path in own_data.events(Path("waves")).rglob("*.npy"):
        events = np.load(path)
        lines = [f"{t},{x},{y},{p}" for t, x, y, p in zip(*(events[each] for each in "txyp"), strict=True)]
        path.with_suffix(".csv").write_text("\n".join(["t,x,y,p", *lines]))
        path.unlink()
    words = ["train", "stack-events", "--data", "waves", "--set", "data.sensor_size=[20,14]", *SHORT]
    asked = hstnn(*words)
    assert asked.hint == "if so: --set data.kind=events"
    assert hstnn(*words, *shlex.split(asked.hint.removeprefix("if so: "))).code == 0


def test_a_key_that_the_network_lacks_is_named_with_own_data_too(hstnn: Hstnn) -> None:
    own_data.series(Path("series"))
    result = hstnn("train", "stack-digits", "--data", "series", "--set", "network.classes=4", *SHORT)
    assert (result.code, result.error) == (2, "recipe stack-digits: unknown key 'network.classes'")


def test_own_in_the_place_of_a_recipe_says_how_own_data_is_given(hstnn: Hstnn) -> None:
    result = hstnn("train", "own")
    assert result.code == 2
    assert "--data DIR" in result.hint


def test_classes_whose_names_are_their_numbers_are_said_once(hstnn: Hstnn) -> None:
    own_data.series(Path("series"))
    np.save("series/y.npy", np.arange(40) % 2)
    result = hstnn("train", "stack-digits", "--data", "series", *SHORT)
    assert result.code == 0, result.err
    assert re.search(r"data: .*, \d+ training, \d+ validation and \d+ test samples", result.out + result.err)
    ckpt = Path("runs/stack-digits-series/plain/seed1111/best.pt")
    exported = hstnn("export", "--ckpt", ckpt, "--out", "bundle")
    assert re.search(r"Proved on \d+ samples of the test split of the arrays in series, by", exported.out)
    assert re.match(r"series/x\.npy \[0\]: class \d, score ", hstnn("run", "bundle", "--input", "series/x.npy").out)
    shown = hstnn("show", ckpt, "--index", "0")
    assert "no. 0 of the test split of the arrays in series, class" in " ".join(shown.out.split())
