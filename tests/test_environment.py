"""Of which commit a user's project was, and what is said where nothing tells it."""

import subprocess
import sys
from pathlib import Path

import pytest

import hstnn_deploy
from hstnn_deploy import environment


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a user", "-c", "user.email=user@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A repository of a user's own, with a module in it."""
    folder = tmp_path / "mine"
    (folder / "nets").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "nets" / "conv.py").write_text("import no_such_module\n")
    (folder / "nets" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def test_the_commit_is_that_of_the_working_directory(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / "runs").mkdir()
    monkeypatch.chdir(mine / "runs")
    commit = git(mine, "rev-parse", "HEAD")
    assert environment.project() == {"of": "the working directory", "commit": commit, "changed": False}
    (mine / "new.txt").write_text("not under version control")
    assert environment.project()["changed"] is False
    (mine / "nets" / "conv.py").write_text("a = 1\n")
    assert environment.project() == {"of": "the working directory", "commit": commit, "changed": True}


def test_a_module_from_elsewhere_is_of_its_own_repository_and_is_not_imported(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(mine, "rev-parse", "HEAD")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(mine), *sys.path])
    assert environment.project("nets.conv") == {"of": "the module nets", "commit": commit, "changed": False}
    # What is installed and under no version control tells nothing: then it is the working directory's.
    assert environment.project("pytest")["commit"] is None
    assert environment.project("no_such_module.x")["commit"] is None
    monkeypatch.chdir(mine)
    assert environment.project("nets.conv")["of"] == "the working directory"


def test_where_there_is_no_commit_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.project() == {"commit": None, "reason": "the working directory is in no git repository"}
    git(tmp_path, "init", "--quiet")
    assert environment.project() == {"commit": None, "reason": "the repository has no commit"}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.project() == {"commit": None, "reason": "git is not installed"}


def test_this_package_s_own_repository_is_not_the_user_s(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hstnn_deploy, "__file__", str(mine / "hstnn_deploy" / "__init__.py"))
    monkeypatch.chdir(mine / "nets")
    assert "hstnn-deploy itself" in environment.project()["reason"]


def test_what_git_s_own_environment_names_is_not_taken(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(mine / ".git"))
    assert environment.project()["commit"] is None


def test_no_program_that_a_repository_names_is_run(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = mine / "trap.sh"
    trap.write_text("#!/bin/sh\ntouch ran\n")
    trap.chmod(0o755)
    git(mine, "config", "core.fsmonitor", str(trap))
    monkeypatch.chdir(mine)
    assert environment.project()["changed"] is False
    assert not (mine / "ran").exists()
