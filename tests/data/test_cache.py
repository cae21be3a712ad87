"""The cache on disk: what is read is what was written for exactly this key, or it is made anew."""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hstnn_deploy.data import cache
from hstnn_deploy.data.cache import Key, Ragged
from hstnn_deploy.errors import DataError
from tests.conftest import PATIENCE

KEY = Key("some-set", "train", {"files": "abc", "frame_time": 3000, "transforms": [{"name": "denoise"}]})
ROWS = [np.array(row, dtype=np.int32) for row in ([1, 2, 3], [], [7], [2**31 - 1, 0])]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


class Counted:
    """Rows that count how often they were computed."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Iterator[NDArray[np.int32]]:
        self.times += 1
        yield from ROWS


def listed(ragged: Ragged) -> list[list[int]]:
    return [part.tolist() for part in ragged.values.tensor_split(ragged.offsets[1:-1])]


def test_rows_are_computed_once_and_read_back() -> None:
    rows = Counted()
    for _ in range(3):
        assert listed(cache.on_disk(KEY, rows)) == [row.tolist() for row in ROWS]
    assert rows.times == 1
    assert cache.in_memory(KEY, rows).values.tolist() == np.concatenate(ROWS).tolist()
    assert rows.times == 1


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=5))
def test_any_rows_come_back(rows: list[list[int]]) -> None:
    found = cache.on_disk(
        KEY._replace(parameters={"rows": rows}), lambda: [np.array(row, dtype=np.int32) for row in rows]
    )
    assert found.offsets.tolist() == np.cumsum([0, *map(len, rows)]).tolist()
    assert found.values.tolist() == [value for row in rows for value in row]


def test_in_memory_writes_nothing(folder: Path) -> None:
    rows = Counted()
    assert listed(cache.in_memory(KEY, rows)) == [row.tolist() for row in ROWS]
    assert cache.in_memory(None, rows).offsets.tolist() == [0, 3, 3, 4, 6]
    assert rows.times == 2
    assert not folder.exists()


@pytest.mark.parametrize(
    "other",
    [
        KEY._replace(data_set="another"),
        KEY._replace(split="test"),
        KEY._replace(parameters={**KEY.parameters, "files": "abd"}),
        KEY._replace(parameters={**KEY.parameters, "frame_time": 3001}),
        KEY._replace(parameters={**KEY.parameters, "transforms": [{"name": "denoise", "filter_time": 1.0}]}),
        KEY._replace(parameters={**KEY.parameters, "transforms": []}),
    ],
)
def test_another_key_is_another_entry(other: Key) -> None:
    cache.on_disk(KEY, Counted())
    assert cache.read(other) is None
    assert other.path != KEY.path


def test_another_format_is_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.on_disk(KEY, Counted())
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert cache.read(KEY) is None


def test_an_entry_under_anothers_name_is_not_read() -> None:
    cache.on_disk(KEY, Counted())
    other = KEY._replace(parameters={})
    KEY.path.rename(other.path)
    assert cache.read(other) is None


def damages(raw: bytes) -> dict[str, bytes]:
    return {
        "first byte": bytes([raw[0] ^ 1]) + raw[1:],
        "an offset": raw[:30] + bytes([raw[30] ^ 1]) + raw[31:],
        "truncated": raw[:-1],
        "half": raw[: len(raw) // 2],
        "empty": b"",
        "not ours": b"\0" * len(raw),
        "footer": raw.replace(b'"rows": 4', b'"rows": 9'),
        "not JSON": raw.replace(b'"rows": 4', b'"rows"; 4'),
    }


@pytest.mark.parametrize("damage", damages(bytes(100)))
def test_a_damaged_entry_is_made_anew_and_said_in_one_line(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = Counted()
    cache.on_disk(KEY, rows)
    raw = KEY.path.read_bytes()
    damaged = damages(raw)[damage]
    assert damaged != raw
    KEY.path.write_bytes(damaged)
    assert cache.read(KEY) is None
    (said,) = caplog.messages
    assert f"{KEY.path} is damaged; hstnn computes it again: " in said
    assert "\n" not in said
    assert listed(cache.on_disk(KEY, rows)) == [row.tolist() for row in ROWS]
    assert rows.times == 2
    assert KEY.path.read_bytes() == raw


def test_what_fails_while_it_is_computed_leaves_nothing(folder: Path) -> None:
    def failing() -> Iterator[NDArray[np.int32]]:
        yield ROWS[0]
        raise DataError("a recording is damaged")

    with pytest.raises(DataError, match="a recording is damaged"):
        cache.on_disk(KEY, failing)
    assert [path.suffix for path in folder.rglob("*") if path.is_file()] in ([], [".lock"])
    assert cache.entries() == []


def test_no_space_left_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hstnn_deploy.files.os.fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*: no space left on the device") as refused:
        cache.on_disk(KEY, Counted())
    assert "--cache memory" in refused.value.hint
    assert cache.entries() == []


def test_a_cache_folder_that_cannot_be_is_said_in_one_line(blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(blocked))
    with pytest.raises(DataError, match="cannot write") as refused:
        cache.on_disk(KEY, Counted())
    assert "HSTNN_CACHE" in refused.value.hint
    assert cache.entries() == []
    assert cache.clear() == []


def _prepare(folder: str, marks: str, gate: Any) -> None:
    import os

    os.environ[cache.VARIABLE] = folder

    def rows() -> Iterator[NDArray[np.int32]]:
        (Path(marks) / str(os.getpid())).touch()
        yield from ROWS

    gate.wait()
    assert listed(cache.on_disk(KEY, rows)) == [row.tolist() for row in ROWS]


def test_two_processes_make_an_entry_once(folder: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    marks = tmp_path / "marks"
    marks.mkdir()
    gate = context.Barrier(2)
    processes = [context.Process(target=_prepare, args=(str(folder), str(marks), gate)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert len(list(marks.iterdir())) == 1


def test_entries_say_what_there_is() -> None:
    cache.on_disk(KEY, Counted())
    cache.on_disk(KEY._replace(split="test"), Counted())
    first, second = cache.entries()
    assert (first.data_set, first.split, second.split) == ("some-set", "test", "train")
    assert second.path == KEY.path
    assert second.bytes == KEY.path.stat().st_size
    assert second.parameters == KEY.parameters
    assert second.created.tzinfo is not None
    KEY.path.write_bytes(b"damaged")
    assert cache.entries()[1].parameters == {}
    assert cache.entries()[1].split == "train"


def test_clear_removes_what_is_named_and_what_was_left_behind(folder: Path) -> None:
    other = KEY._replace(data_set="other-set")
    for key in (KEY, KEY._replace(split="test"), other):
        cache.on_disk(key, Counted())
    left = KEY.path.with_name(f".{KEY.path.name}.x.partial")
    left.touch()
    assert [entry.path for entry in cache.clear("some-set", "train")] == [KEY.path]
    assert not left.exists()
    assert [(entry.data_set, entry.split) for entry in cache.entries()] == [
        ("other-set", "train"),
        ("some-set", "test"),
    ]
    assert len(cache.clear()) == 2
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_clear_leaves_alone_what_is_being_written() -> None:
    KEY.path.parent.mkdir(parents=True)
    partial = KEY.path.with_name(f".{KEY.path.name}.x.partial")
    with FileLock(KEY.path.with_name(f".{KEY.path.name}.lock")):
        partial.touch()
        assert cache.clear() == []
        assert partial.exists()


def test_a_fingerprint_is_new_when_a_file_is_changed(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(b"123")
    before = cache.fingerprint(tmp_path, paths)
    assert cache.fingerprint(tmp_path, paths) == before
    assert cache.fingerprint(tmp_path, paths[:1]) != before
    import os

    os.utime(paths[0], ns=(1, 1))
    assert cache.fingerprint(tmp_path, paths) != before


def test_the_key_on_disk_is_plain_json() -> None:
    cache.on_disk(KEY, Counted())
    assert json.loads(json.dumps(cache.entries()[0].parameters)) == KEY.parameters
    assert cache.on_disk(KEY, Counted()).values.dtype == torch.int32
