"""Completion in a shell: typer's scripts, and what they ask for, without importing what is slow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A folder with an `hstnn` that is this package."""
    script = tmp_path / "bin" / "hstnn"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m hstnn_deploy "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return script.parent


def completed(**variables: str) -> list[str]:
    """Return the suggestions of a shell."""
    slow = "print(sorted({'torch', 'onnx', 'numpy'} & {*sys.modules}), file=sys.stderr)"
    code = f"import sys; from hstnn_deploy.__main__ import main\ntry: main()\nfinally: {slow}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"
    return done.stdout.splitlines()


def test_bash_completes_commands_options_and_values() -> None:
    def ask(line: str, place: int) -> list[str]:
        return completed(_HSTNN_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(place))

    assert ask("hstnn ru", 1) == ["run", "runs"]
    assert ask("hstnn run", 1) == ["run", "runs"]
    assert ask("hstnn data ch", 2) == ["check"]
    assert ask("hstnn train --st", 2) == ["--stage"]
    assert ask("hstnn train --kind ", 3) == ["rnn", "lstm", "snn", "ffs", "hybrid"]
    assert ask("hstnn train dig", 2) == ["digit-events", "digits"]
    assert ask("hstnn recipes smn", 2) == ["smnist"]
    assert ask("hstnn sweep wiki", 2) == ["wikitext2"]
    assert ask("hstnn train mine.y", 2) == [""]  # the shell itself completes files
    assert ask("hstnn frob", 1) == [""]


def test_zsh_and_fish_are_told_what_each_suggestion_means() -> None:
    zsh = completed(_HSTNN_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="hstnn data ch")
    assert zsh == ["""_arguments '*: :(("check":"Describe a folder of your own data, and..."))'"""]
    fish = completed(
        _HSTNN_COMPLETE="complete_fish",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        _TYPER_COMPLETE_ARGS="hstnn export --st",
    )
    assert [line.split("\t")[0] for line in fish] == ["--standalone", "--steps", "--states"]


def test_a_file_of_the_users_that_is_wrong_does_not_disturb_it(tmp_path: Path) -> None:
    (tmp_path / "hstnn.toml").write_text("x = [", encoding="utf-8")
    found = completed(
        _HSTNN_COMPLETE="complete_bash",
        COMP_WORDS="hstnn do",
        COMP_CWORD="1",
        HSTNN_CONFIG=str(tmp_path / "hstnn.toml"),
    )
    assert found == ["doctor"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_is_shown_and_installed_for_the_shell_that_runs(command: Path, tmp_path: Path, shell: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    variables = os.environ | {
        "HOME": str(home),
        "PATH": f"{command}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }

    def run(*words: str) -> str:
        done = subprocess.run(
            ["hstnn", *words], env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "_HSTNN_COMPLETE=complete_" + shell in run("--show-completion", shell)
    assert f"{shell} completion installed in {home}" in run("--install-completion", shell)
    assert any("_HSTNN_COMPLETE" in path.read_text() for path in home.rglob("*") if path.is_file())


def test_bash_itself_completes_with_the_script(command: Path) -> None:
    script = (
        "source <(hstnn --show-completion bash); COMP_WORDS=(hstnn train --re); COMP_CWORD=2; _hstnn_completion hstnn; "
        'echo "${COMPREPLY[@]}"'
    )
    variables = os.environ | {
        "PATH": f"{command}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(
        ["bash", "-c", script], env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout.split() == ["--recurrent", "--resume"], done.stderr
