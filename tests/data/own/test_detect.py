"""Which kind of data a folder holds, by what lies there."""

from pathlib import Path

import numpy as np
import pytest

from hstnn_deploy.data.own.detect import detect
from hstnn_deploy.errors import DataError
from tests import own_data


def test_each_kind(tmp_path: Path) -> None:
    assert detect(own_data.images(tmp_path / "i")) == "images"
    assert detect(own_data.series(tmp_path / "a")) == "arrays"
    assert detect(own_data.events(tmp_path / "e")) == "events"
    assert detect(own_data.text(tmp_path / "t")) == "text"
    assert detect(tmp_path / "t" / "book.txt") == "text"
    np.savez(tmp_path / "data.npz", x=1)
    assert detect(tmp_path / "data.npz") == "arrays"


def test_files_of_one_sample_each_are_events_or_arrays_by_what_they_hold(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "s" / name).mkdir(parents=True)
        np.save(tmp_path / "s" / name / "1.npy", np.zeros((10, 3), np.float32))
    assert detect(tmp_path / "s") == "arrays"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "contains nothing"),
        (["a/1.png", "b/2.aedat4"], "may be events or images"),
        (["a/1.txt", "b/2.txt"], "texts in folders: are these events"),
        (["a/1.xyz"], "contains .xyz, which is no supported kind"),
    ],
)
def test_what_is_not_clear_is_asked_for(tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=words):
        detect(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        detect(tmp_path / "nowhere")
