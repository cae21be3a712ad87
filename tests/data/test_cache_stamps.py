"""A cached file is read whole once per change: what a stamp spares, what it does not, and what it misses."""

import hashlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hstnn_deploy import files
from hstnn_deploy.data import cache
from hstnn_deploy.data.cache import Key
from tests.conftest import PATIENCE

KEY = Key("some-set", "train", {"files": "abc"})
ROWS = [np.array(row, dtype=np.int32) for row in ([1, 2, 3], [], [7])]


def rows() -> Iterator[NDArray[np.int32]]:
    yield from ROWS


def stamp() -> Path:
    return KEY.path.with_name(KEY.path.name + ".checked")


def flip(place: int = 0) -> None:
    """Change a bit in place."""
    with KEY.path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry whose last change is long ago."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    cache.on_disk(KEY, rows)
    # Longer than the system's clock for files takes from one time to the next.
    time.sleep(0.05)
    monkeypatch.setattr(cache, "_SETTLED", 0)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all content that is hashed; keys are not content."""
    sizes: list[int] = []
    real = hashlib.sha256

    def counted(content: Any = b"") -> Any:
        if isinstance(content, memoryview):
            sizes.append(content.nbytes)
        return real(content)

    monkeypatch.setattr(hashlib, "sha256", counted)
    return sizes


def test_an_unchanged_file_is_read_whole_once(hashed: list[int]) -> None:
    for _ in range(3):
        found = cache.read(KEY)
        assert found is not None
        assert found.values.tolist() == [1, 2, 3, 7]
        assert found.offsets.tolist() == [0, 3, 3, 4]
    assert hashed == [16 + 8 * 4]


def test_a_file_that_was_just_changed_has_no_stamp_yet(monkeypatch: pytest.MonkeyPatch, hashed: list[int]) -> None:
    # A second change might bear the same time.
    monkeypatch.setattr(cache, "_SETTLED", 10**18)
    assert cache.read(KEY) is not None
    assert not stamp().exists()
    assert cache.read(KEY) is not None
    assert len(hashed) == 2


@pytest.mark.parametrize("place", [0, 7, 17, 40])
def test_a_flipped_bit_is_found(place: int) -> None:
    assert cache.read(KEY) is not None
    flip(place)
    assert cache.read(KEY) is None
    assert cache.on_disk(KEY, rows).values.tolist() == [1, 2, 3, 7]


def test_a_change_whose_time_was_set_back_is_found() -> None:
    assert cache.read(KEY) is not None
    before = KEY.path.stat()
    flip()
    os.utime(KEY.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert KEY.path.stat().st_mtime_ns == before.st_mtime_ns
    assert cache.read(KEY) is None


def test_a_truncated_file_is_found() -> None:
    assert cache.read(KEY) is not None
    os.truncate(KEY.path, 20)
    assert cache.read(KEY) is None


def test_another_file_in_its_place_is_read_whole(tmp_path: Path, hashed: list[int]) -> None:
    assert cache.read(KEY) is not None
    shutil.copy2(KEY.path, tmp_path / "copy")
    (tmp_path / "copy").replace(KEY.path)
    assert cache.read(KEY) is not None
    assert cache.read(KEY) is not None
    assert len(hashed) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff", b'{"size": NaN}', b"[" * 100_000])
def test_a_stamp_that_says_nothing_is_as_none(content: bytes, hashed: list[int]) -> None:
    stamp().write_bytes(content)
    assert cache.read(KEY) is not None
    assert len(hashed) == 1
    assert cache.read(KEY) is not None
    assert len(hashed) == 1


def test_a_stamp_that_cannot_be_written_costs_only_the_reading(hashed: list[int]) -> None:
    stamp().mkdir()
    assert cache.read(KEY) is not None
    assert cache.read(KEY) is not None
    assert len(hashed) == 2


def missed() -> None:
    """Damage the file as a failing disk does: nothing that the system says of it tells. Its stamp says the same."""
    flip()
    footer = cache._footer(KEY.path)
    assert footer is not None
    files.write_json(stamp(), cache._state(KEY.path, footer))


def test_verify_reads_whole_what_a_stamp_calls_right(hashed: list[int]) -> None:
    assert cache.read(KEY) is not None
    assert [problem for _, problem in cache.verify()] == [""]
    assert len(hashed) == 2
    missed()
    assert cache.read(KEY) is not None, "this is what a stamp misses"
    assert [problem for _, problem in cache.verify("some-set")] == ["its checksum differs"]
    assert cache.read(KEY) is None
    assert cache.on_disk(KEY, rows).values.tolist() == [1, 2, 3, 7]
    assert [problem for _, problem in cache.verify("some-set")] == [""]
    assert list(cache.verify("other-set")) == []


def test_verify_tells_a_file_under_anothers_name() -> None:
    KEY.path.rename(KEY._replace(split="test").path)
    assert [problem for _, problem in cache.verify()] == ["it does not end as its name says"]


def test_clear_removes_stamps_too(tmp_path: Path) -> None:
    assert cache.read(KEY) is not None
    assert stamp().exists()
    assert len(cache.clear()) == 1
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def _read(gate: Any) -> None:
    gate.wait()
    for _ in range(20):
        stamp().unlink(missing_ok=True)
        found = cache.read(KEY)
        assert found is not None
        assert found.values.tolist() == [1, 2, 3, 7]


def test_eight_processes_check_at_once() -> None:
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(8)
    processes = [context.Process(target=_read, args=(gate,)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert cache.read(KEY) is not None
    assert not list(KEY.path.parent.glob(".*.partial"))
