"""Help is there for everything, errors are one line with an exit code by class, and nothing is a traceback."""

import os
import subprocess
import sys

import pytest

import hstnn_deploy
from hstnn_deploy import errors
from hstnn_deploy.cli import app
from tests.conftest import PATIENCE, Hstnn

COMMANDS = ("train", "evaluate", "recipes")


def test_help_names_every_command(hstnn: Hstnn) -> None:
    result = hstnn("--help")
    assert (result.code, result.err) == (0, "")
    for command in (*COMMANDS, "export", "profile", "demo", "doctor"):
        assert f" {command} " in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_says_what_it_does(hstnn: Hstnn, command: str) -> None:
    result = hstnn(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert "Usage:" in result.out
    assert "--json" in result.out


def test_train_explains_each_of_its_options(hstnn: Hstnn) -> None:
    out = hstnn("train", "--help").out
    for option in (
        "--kind", "--stage", "--ratio", "--seed", "--device", "--set", "--data-dir", "--out", "--resume", "--json"
    ):  # fmt: skip
        assert option in out


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (["-h"], ["--help"]),
        (["help"], ["--help"]),
        (["sweep", "-h"], ["sweep", "--help"]),
        (["help", "sweep"], ["sweep", "--help"]),
        (["help", "data", "cache", "info"], ["data", "cache", "info", "--help"]),
    ],
)
def test_help_is_there_by_shorter_words(hstnn: Hstnn, short: list[str], long: list[str]) -> None:
    assert hstnn(*short) == hstnn(*long)
    assert hstnn(*short).code == 0


def test_help_of_an_unknown_command_is_refused(hstnn: Hstnn) -> None:
    assert "No such command 'swep'" in hstnn("help", "swep").error


def test_no_command_shows_help_and_no_empty_error(hstnn: Hstnn) -> None:
    result = hstnn()
    assert result.code == 2
    assert "Usage:" in result.out
    assert result.err == ""


def test_the_version_is_printed(hstnn: Hstnn) -> None:
    assert hstnn("--version").out == f"hstnn-deploy {hstnn_deploy.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frob"], "No such command 'frob'"),
        (["--frob"], "No such option: --frob"),
        (["train"], "Missing argument 'recipe'"),
        (["train", "digits", "--frob"], "No such option: --frob"),
        (
            ["train", "digits", "--kind", "cnn"],
            "value for '--kind': 'cnn' is not one of 'rnn', 'lstm', 'snn', 'ffs', 'hybrid'",
        ),
        (["train", "digits", "--stage", "x"], "'x' is not one of 'adapt', 'traces', 'select', 'restore'"),
        (["train", "digits", "--ratio", "half"], "Invalid value for '--ratio': it must be a number"),
        (["train", "digits", "--seed", "1.5"], "Invalid value for '--seed': it must be an integer"),
        (["train", "digits", "--out"], "--out"),
        (["train", "digits", "smnist"], "smnist"),
        (["verify", "a", "b"], "Got unexpected extra argument"),
        (["evaluate", "--ckpt", "x", "--split", "y"], "'y' is not one of 'train', 'valid', 'test'"),
        (["evaluate", "--ckpt", "x", "--batch", "0"], "'--batch': it must be greater than or equal to 1"),
    ],
)
def test_words_the_command_line_does_not_know_are_usage_errors(hstnn: Hstnn, words: list[str], message: str) -> None:
    result = hstnn(*words)
    assert result.code == 2
    assert message in result.error
    assert "--help" in result.hint
    assert result.out == ""


@pytest.mark.parametrize(
    "error",
    [
        errors.HstnnError,
        errors.UsageError,
        errors.RecipeError,
        errors.DataError,
        errors.CheckpointError,
        errors.RunError,
        errors.DeviceError,
        errors.ExportError,
        errors.VerificationError,
        errors.ProfileError,
        errors.SweepError,
        errors.Interrupted,
    ],
)
def test_the_exit_code_is_that_of_the_errors_class(
    hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, error: type[errors.HstnnError]
) -> None:
    def fail(_: str) -> None:
        raise error("what [is] wrong", "what [would] work")

    monkeypatch.setattr("hstnn_deploy.recipe.load.load_recipe", fail)
    result = hstnn("recipes", "digits", "--json")
    assert result.code == error.exit_code
    assert result.error == "what [is] wrong"
    assert result.hint == "what [would] work"


@pytest.mark.parametrize("message", ["one\ntwo", "", "a" * 500])
def test_what_nobody_foresaw_is_one_line_too(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError(message)

    monkeypatch.setattr("hstnn_deploy.recipe.load.load_recipe", fail)
    result = hstnn("recipes", "digits", "--json")
    assert result.code == 70
    assert result.error.startswith("unexpected error: ZeroDivisionError")
    assert "--traceback" in result.hint


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_traceback_is_shown_when_asked_for_wherever_the_option_stands(hstnn: Hstnn, place: int) -> None:
    words = ["recipes", "digit"]
    words.insert(place, "--traceback")
    result = hstnn(*words)
    assert result.code == 2
    first, hint, *rest = result.err.splitlines()
    assert first == "error: unknown recipe 'digit'"
    assert hint == "hint: did you mean 'digits'?"
    assert rest[0] == "Traceback (most recent call last):"
    assert "RecipeError" in rest[-1]


def test_ctrl_c_anywhere_is_one_line(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hstnn_deploy.recipe.load.load_recipe", interrupt)
    result = hstnn("recipes", "digits", "--json")
    assert result.code == 130
    assert result.err.split() == ["error:", "interrupted"]


def test_the_module_is_the_command() -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "hstnn_deploy", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    right, wrong = run("--version"), run("recipes", "digit")
    assert (right.returncode, right.stdout, right.stderr) == (0, f"hstnn-deploy {hstnn_deploy.__version__}\n", "")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: unknown recipe 'digit'\nhint: did you mean 'digits'?\n"


def test_a_reader_that_leaves_is_not_an_error_to_talk_about() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "hstnn_deploy", "recipes", "digits"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    os.close(writer)
    assert result.returncode != 0
    assert result.stderr == ""


def test_commands_are_an_explicit_list() -> None:
    made = app.commands(*app.COMMANDS)
    names = [command.callback.__name__ for command in made.registered_commands if command.callback]
    assert len(names) == len(set(names))
    assert set(COMMANDS) < set(names)


def test_a_command_is_the_same_alone_and_among_the_others(hstnn: Hstnn) -> None:
    for name in app.COMMANDS:
        alone, whole = app.commands(name), app.commands(*app.COMMANDS)
        if alone.registered_groups:
            assert alone.registered_groups[0].typer_instance in [
                each.typer_instance for each in whole.registered_groups
            ]
        else:
            [made] = alone.registered_commands
            assert (made.name, made.callback) in [(each.name, each.callback) for each in whole.registered_commands]
    assert hstnn("frob").code == 2
    assert "train" in hstnn("--help").out
