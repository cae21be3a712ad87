"""Files are whole or not there, and a disk that refuses is explained."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hstnn_deploy import files
from hstnn_deploy.errors import RunError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_json_are_written_with_their_folders(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "text", "zwölf\n")
    files.write_json(tmp_path / "a" / "json", {"größe": [1, None]})
    assert (tmp_path / "a" / "b" / "text").read_text(encoding="utf-8") == "zwölf\n"
    assert json.loads((tmp_path / "a" / "json").read_text(encoding="utf-8")) == {"größe": [1, None]}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")

    def fail_halfway() -> None:
        with files.atomic(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail_halfway()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "old")
    with files.atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # else the rename could not be atomic
    assert path.read_text() == "new"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_is_not_json_is_not_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "file", value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "no space left on the device"),
        (errno.EDQUOT, "disk quota exceeded"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_refuses_is_explained_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "Input/output error" if code == errno.EIO else "?")

    path = tmp_path / "file"
    files.write_text(path, "old")
    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(RunError) as refused:
        files.write_text(path, "new")
    assert refused.value.message == f"cannot write {path}: {reason}"
    assert "--out" in refused.value.hint
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_path_below_a_file_cannot_be_written(blocked: Path) -> None:
    for write in (lambda: files.write_text(blocked / "x", ""), lambda: files.make_folder(blocked)):
        with pytest.raises(RunError, match="a file, not a folder"):
            write()


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="a file has the name of the folder"):
        files.make_folder(tmp_path / "file")


def test_making_a_folder_twice_is_fine_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    for _ in range(2):
        assert names(files.make_folder(tmp_path / "a" / "b")) == []


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refuse(**_: object) -> Iterator[None]:
        raise PermissionError(errno.EACCES, "?")
        yield

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(RunError, match="permission denied"):
        files.make_folder(tmp_path)


def test_checksums_are_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content" * 100_000)
    assert files.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


# Temporary folders.

HOLDS = """
import sys, time
from hstnn_deploy import files
with files.temporary_folder("test") as folder:
    (folder / "large").write_text("x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder() -> tuple["subprocess.Popen[str]", Path]:
    """Start a process that holds a temporary folder until its standard input ends; return it and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_temporary_folder_is_gone_at_the_end_whatever_ends_it(temporary: Path) -> None:
    with files.temporary_folder("test") as folder:
        (folder / "a").mkdir()
        assert folder.parent == temporary
        assert folder.name.startswith("hstnn-test-")
    with pytest.raises(KeyboardInterrupt), files.temporary_folder("test"):
        raise KeyboardInterrupt
    assert names(temporary) == []


def test_what_a_killed_process_left_is_cleared_by_the_next_start_and_nothing_else_is(temporary: Path) -> None:
    (dead, left), (alive, held) = holder(), holder()
    dead.kill()
    dead.wait()
    other = temporary / "hstnn-test-not-ours"
    other.mkdir()
    (temporary / "hstnn-test-link").symlink_to(other)
    assert (left / "large").exists()
    with files.temporary_folder("another"):
        assert left.exists()  # of another kind
    with files.temporary_folder("test") as folder:
        assert sorted([*names(temporary)]) == sorted([held.name, folder.name, other.name, "hstnn-test-link"])
        assert (held / "large").exists()
    alive.communicate("")
    assert not held.exists()


def test_many_processes_clear_and_hold_at_once(temporary: Path) -> None:
    for _ in range(3):
        process, _ = holder()
        process.kill()
        process.wait()
    running = [holder() for _ in range(4)]
    assert names(temporary) == sorted(folder.name for _, folder in running)
    assert all((folder / "large").exists() for _, folder in running)
    for process, _ in running:
        process.communicate("")
    assert names(temporary) == []


def test_no_place_for_a_temporary_folder_is_said_in_one_line(blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(blocked))
    with pytest.raises(RunError, match="cannot write"), files.temporary_folder("test"):
        pass


def test_a_name_that_is_no_utf_8_is_written_as_json_can(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xe9")
    files.write_json(tmp_path / "json", {"file": name})
    assert json.loads((tmp_path / "json").read_text(encoding="utf-8")) == {"file": name}
    files.write_text(tmp_path / "text", name)
    assert (tmp_path / "text").read_text(encoding="utf-8") == "\\udce9"
