"""Standard streams that are closed, full or narrow, and foreign text on a screen."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hstnn_deploy.cli import console
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.screen import Screen
from tests.conftest import PATIENCE, Hstnn, in_part

HSTNN = f"{sys.executable} -m hstnn_deploy"
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full: it runs on Linux")


def shell(command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line of bash in which HSTNN stands for the program."""
    return subprocess.run(
        ["bash", "-c", command.replace("HSTNN", HSTNN)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **environment},
    )


@full
@pytest.mark.parametrize("words", in_part(["recipes --json", "recipes", "--help", "recipes digits"], 2))
def test_a_full_device_behind_standard_output_is_one_line(words: str) -> None:
    done = shell(f"HSTNN {words} > /dev/full")
    assert done.returncode == 5
    assert done.stderr.splitlines()[0] == "error: standard output: no space left on the device"
    assert len(done.stderr.splitlines()) == 2


@full
def test_a_full_device_behind_standard_error_leaves_the_exit_code() -> None:
    assert shell("HSTNN recipes none-such 2> /dev/full").returncode == 2


@pytest.mark.parametrize("words", in_part(["recipes --json", "recipes", "recipes digits"], 3))
def test_a_reader_that_leaves_ends_the_command_without_a_word(words: str) -> None:
    done = shell(f"HSTNN {words} | true; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in {0, 141}  # what fits into the pipe is written before anybody can leave
    assert done.stderr == ""


def test_closed_streams_are_no_accident(tmp_path: Path) -> None:
    assert shell("HSTNN recipes >&-").returncode == 0
    assert shell("HSTNN recipes none-such 2>&-").returncode == 2
    # What is opened next must not take the number of a closed stream: prints would go into the files.
    words = f"train digits --kind rnn --set network.units=[3] --set adapt.epochs=1 --device cpu --out {tmp_path}"
    assert shell(f"HSTNN {words} <&- >&- 2>&-").returncode == 0
    (run,) = [RunFolder(path.parent) for path in tmp_path.rglob("best.pt")]
    assert run.finished
    assert [row["epoch"] for row in run.metrics()] == [1]


def test_letters_that_the_terminal_lacks_are_written_as_escapes(tmp_path: Path) -> None:
    words = "train digits --kind rnn --set network.units=[3] --set adapt.epochs=1 --device cpu --out"
    for name, environment in (("é", {"LC_ALL": "C"}), ("ü", {"LC_ALL": "C", "PYTHONUTF8": "0"})):
        done = shell(f"HSTNN {words} {tmp_path / name}", PYTHONCOERCECLOCALE="0", **environment)
        assert (done.returncode, done.stderr) == (0, "")
    # A name that is no UTF-8 at all, into files that are.
    done = shell(f"HSTNN {words} {tmp_path}/$'\\xe9'", LC_ALL="C.UTF-8")
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_the_program_is_still_being_imported_is_one_line() -> None:
    code = (
        "import os, signal, sys\n"
        "class Asks:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Asks())\n"
        "from hstnn_deploy.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_what_a_library_makes_of_ctrl_c_while_it_is_imported_is_an_interruption(
    hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_something(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(PATIENCE)
        except KeyboardInterrupt:
            raise RecursionError("maximum recursion depth exceeded") from None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr("hstnn_deploy.recipe.load.shipped", import_something)
        result = hstnn("recipes")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.code, result.error) == (130, "interrupted")


def at_a_terminal(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as at a terminal: what runs in the background, as tests may, is started with Ctrl-C ignored."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from hstnn_deploy.__main__ import main\n"
        "main()"
    )
    run = [sys.executable, "-c", code, *words]
    return subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=folder)


@pytest.mark.parametrize("sends", ["INT", "TERM"])
def test_an_import_that_swallows_an_interrupt_does_not_keep_the_command_going(sends: str, tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        f"    os.kill(os.getpid(), signal.SIG{sends})\n"
        "    time.sleep(0.2)\n"
        "except BaseException:\n"
        "    pass\n"
        "def make():\n"
        "    time.sleep(5)\n"
    )
    done = at_a_terminal(tmp_path, "import", "swallows:make", "--input", "2,4")
    assert done.returncode == 130
    assert "error: interrupted" in done.stderr


@pytest.mark.parametrize("again", in_part([True, False], 2))
def test_an_import_that_does_not_end_can_be_interrupted(again: bool, tmp_path: Path) -> None:
    kills = "os.kill(os.getpid(), signal.SIGINT); " * (2 if again else 1)
    (tmp_path / "long.py").write_text(f"import os, signal, time\n{kills}\nfor _ in range(1500): time.sleep(0.01)\n")
    done = at_a_terminal(tmp_path, "--plugin", "long", "data", "list")
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(36, "File name too long", "x" * 300), 2),
        (OSError(28, "No space left on device", "a/file"), 5),
        (OSError(13, "Permission denied", "a/file"), 5),
        (MemoryError(), 10),
        (RuntimeError("Failed to allocate memory for requested buffer of size 9"), 10),
        (BrokenPipeError(), 141),
        (ZeroDivisionError("division by zero"), 70),
        (type("Panic", (BaseException,), {})("a panic"), 70),
    ],
)
def test_every_error_has_one_line_and_a_code(
    error: BaseException, code: int, hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("hstnn_deploy.recipe.load.shipped", fail)
    result = hstnn("recipes")
    assert result.code == code
    if code != 141:
        assert result.error
    assert "Traceback" not in result.err


LONG = "n" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["recipes", LONG],
        ["train", "digits", "--set", f"name={LONG}"],
        ["train", "digits", "--out", LONG],
        ["evaluate", "--ckpt", LONG],
        ["run", LONG, "--input", "x"],
        ["runs", "show", LONG],
        ["report", LONG],
        ["profile", "--matrix", LONG],
        ["sweep", LONG],
        ["data", "verify", "mnist", "--data-dir", LONG],
    ],
    ids=lambda words: words[0],
)
def test_names_of_300_letters_are_refused_in_one_line(
    words: list[str], hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = hstnn(*words)
    assert result.code in {2, 3, 4, 5, 9, 11}
    assert "too long" in result.error or "at most 100" in result.error


NASTY = "[red]a[/]\x1b[2J\x1b]0;t\x07\x9b1mb\u202ec:smile:"


def test_foreign_text_neither_styles_nor_crashes_nor_reaches_the_terminal_as_a_command() -> None:
    file = io.StringIO()
    screen = Screen(file=file, width=200, force_terminal=True, color_system=None)
    screen.print(NASTY)
    screen.print(console.table(NASTY, [NASTY], [(NASTY,)], NASTY))
    shown = file.getvalue()
    assert not set(shown) & set("\x1b\x07\x9b\u202e")
    assert shown.count("[red]a[/][2J]0;t1mbc:smile:") == 5


def test_a_status_of_a_stranger_moves_nothing_on_the_screen(hstnn: Hstnn, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.claim_recipe({**load_recipe("digits").for_stage("adapt"), "name": NASTY})
    run.set_status("failed", error=NASTY)
    (run.path / "log.txt").write_text(NASTY + "\n", encoding="utf-8")
    for words in (["list"], ["show"], ["list", "--json"], ["show", "--json"], ["logs"]):
        result = hstnn("runs", *words, run.path)
        assert result.code == 0, result
        assert not set(result.out + result.err) & set("\x1b\x07\x9b\u202e"), words
        if "--json" in words:
            assert NASTY in json.dumps(json.loads(result.out), ensure_ascii=False).replace("\\u001b", "\x1b").replace(
                "\\u0007", "\x07"
            )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", "many"),
        ("best", [1]),
        ("result", 3),
        ("state", "dancing"),
        ("updated", 3),
        ("pid", "x"),
        ("usage", ""),
    ],
)
def test_a_status_of_another_shape_is_damaged_and_named(hstnn: Hstnn, tmp_path: Path, name: str, value: object) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.claim_recipe(load_recipe("digits").for_stage("adapt"))
    (run.path / "status.json").write_text(json.dumps({"state": "finished", name: value}))
    assert "status.json is damaged" in hstnn("runs", "show", run.path).error
    (listed,) = json.loads(hstnn("runs", "list", run.path, "--json").out)["runs"]
    assert listed["state"] == "damaged"


def test_an_error_is_one_line_however_long_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("a\nb" + "x" * 100_000, "c\nd")
    err = capsys.readouterr().err
    assert len(err) < 3000
    assert [line[:7] for line in err.splitlines()] == ["error: ", "hint: c"]
