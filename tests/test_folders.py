"""A folder is replaced whole: killed at any moment, there is the old one or the new one."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hstnn_deploy import folders
from hstnn_deploy.errors import RunError

KILLED = 9


def ours(name: str) -> bool:
    return name.startswith("model.")


def fill(folder: Path, content: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("model.a", "model.b"):
        (folder / name).write_text(content)


def replace(folder: Path, content: str) -> None:
    with folders.beside(folder) as staging:
        fill(staging, content)
        folders.put(staging, folder, ours)


def in_a_process(work: Callable[[], object], at: int) -> bool:
    """Do some work in a process that is killed at its n-th call of the file system; return whether it was."""
    child = os.fork()
    if not child:
        left = at

        def count(event: str, _: object) -> None:
            nonlocal left
            if event.startswith(("os.", "shutil.", "open", "tempfile.", "ctypes.", "fcntl.")):
                left -= 1
                if left < 0:
                    os._exit(KILLED)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


def seen(folder: Path) -> set[str]:
    folders.restore(folder)
    return {(folder / name).read_text() for name in ("model.a", "model.b")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork: it runs on Linux and macOS")
@pytest.mark.parametrize("exchange", [True, False], ids=["at once", "set aside"])
def test_killed_at_any_moment_there_is_a_whole_folder_and_what_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(folders, "_exchanged", lambda *_: False)
    folder = tmp_path / "bundle"
    outcomes = []
    for at in range(200):
        fill(folder, "old")
        (folder / "notes.txt").write_text("mine")
        (folder / "more").mkdir(exist_ok=True)
        (folder / "more" / "deep.txt").write_text("mine too")
        killed = in_a_process(lambda: replace(folder, "new"), at)
        found = seen(folder)
        assert found in ({"old"}, {"new"}), f"killed at call {at}"
        assert (folder / "notes.txt").read_text() == "mine"
        assert (folder / "more" / "deep.txt").read_text() == "mine too"
        outcomes.append((killed, *found))
        # The next one works, and clears what the killed one left.
        replace(folder, "next")
        assert seen(folder) == {"next"}
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
        if not killed:
            break
    assert outcomes[0] == (True, "old")
    assert outcomes[-1] == (False, "new")
    assert (True, "new") in outcomes, "killed after the new one had its name"


def test_what_another_process_is_making_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with folders.beside(folder) as one:
        (one / "model.a").write_text("being made")
        replace(folder, "other")
        assert (one / "model.a").read_text() == "being made"
        fill(one, "one")
        folders.put(one, folder, ours)
    assert seen(folder) == {"one"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_is_not_ours_comes_along_and_what_is_ours_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    fill(folder, "old")
    (folder / "model.stale").write_text("old")
    (folder / "notes.txt").write_text("mine")
    (folder / "link").symlink_to("notes.txt")
    folder.chmod(0o750)
    replace(folder, "new")
    assert {path.name for path in folder.iterdir()} == {"model.a", "model.b", "notes.txt", "link"}
    assert (folder / "link").is_symlink()
    assert folder.stat().st_mode & 0o777 == 0o750


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    fill(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    replace(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert seen(tmp_path / "real") == {"new"}


def test_what_fails_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundle"
    fill(folder, "old")
    monkeypatch.setattr(folders, "_exchanged", lambda *_: False)
    rename = Path.rename

    def refuses(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise PermissionError(13, "no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuses)
    with pytest.raises(RunError, match="cannot write"):
        replace(folder, "new")
    assert seen(folder) == {"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_without_locks_nothing_is_taken_for_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "fcntl", None)
    (tmp_path / ".bundle.x.new").mkdir()
    replace(tmp_path / "bundle", "new")
    assert seen(tmp_path / "bundle") == {"new"}
    assert (tmp_path / ".bundle.x.new").exists()
