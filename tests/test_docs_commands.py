"""Every command in the documentation can be typed as it stands, and the tutorials run from top to bottom."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hstnn_deploy.cli.app import COMMANDS, commands
from tests.conftest import PATIENCE, Hstnn

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FORM = re.compile(r"\w\|\w|\[-|…|\.\.\.|<")
"""What makes a line a form to fill in, such as `CKPT|BUNDLE` or `[--out FILE]`, and not a command."""
PLACES = {"KIND": "snn", "SEED": "1"}
"""Of words that stand for a value, a value."""
SHORT = ["--set", "adapt.epochs=1", "--set", "restore.epochs=1", "--set", "selection.probes=2"]
MORE = {"train": SHORT, "sweep": SHORT, "profile --ckpt": ["--engines", "onnxruntime", "--phases", "work,infer"]}
"""Options that the test adds, by how a command begins."""
LESS = {"1111,2222,3333": "1111,2222", "rnn,snn,hybrid": "rnn,snn", "1,100": "1", "5": "0.1", "3": "0.1"}
"""Of values in tutorials, those that the test takes."""
FEWER = {"kinds: [rnn, snn]": "kinds: [snn]", "threads: [1, 2]": "threads: [1]"}
"""Of lines of files that tutorials write, those that the test writes: of each kind and thread number one process."""


def of(page: Path) -> Iterator[tuple[str, bool]]:
    """Yield the words behind `hstnn` of each command of a page, and whether it stands alone or within a sentence."""
    fenced = False
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        if found := re.match(r"(?: {4,}|\$ )hstnn ([a-z].*)$" if not fenced else r"(?:\$ )?hstnn ([a-z].*)$", line):
            yield found[1], True
        else:
            yield from ((each, False) for each in re.findall(r"`hstnn ([a-z][^`]*)`", line))


@cache
def program() -> Any:
    """Return the whole command line, made once for all pages."""
    return typer.main.get_command(commands(*COMMANDS))


def parse(words: str) -> None:
    """Parse a command as the program does, without running it."""
    args = [PLACES.get(word, word) for word in shlex.split(words, comments=True)]
    args = args[: args.index(">")] if ">" in args else args
    args = [*args[1:], "--help"] if args[:1] == ["help"] else args
    command = program()
    context = command.make_context("hstnn", args)
    while hasattr(command, "resolve_command"):
        name, command, args = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, args, parent=context)


def look_up(words: str) -> None:
    """See that a command exists, and that the options named with it are its own."""
    command = program()
    words = words.removeprefix("help ")
    for word in words.split():
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
    assert words.split()[0] in {*COMMANDS, "COMMAND"}, words
    options = {name for each in command.params for name in each.opts} | {"--plugin", "--help"}
    assert set(re.findall(r"(?<!\S)--[a-z-]+", words)) <= options, words


CASES = [
    pytest.param(words, alone, id=f"{page.stem}: {words[:60]}")
    for page in PAGES
    for words, alone in dict.fromkeys(of(page))
    if not FORM.search(words)
]


@pytest.mark.parametrize(("words", "alone"), CASES)
def test_a_command_of_a_page_is_one(words: str, alone: bool) -> None:
    (parse if alone else look_up)(words)


@pytest.mark.parametrize("words", ["trian digits", "train digits --sede 1", "train digits --kind cnn", "run"])
def test_what_is_no_command_is_found(words: str) -> None:
    with pytest.raises(Exception, match=r"No such|is not one of|Missing"):
        parse(words)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the indented blocks of a page, and the paragraph before each."""
    text = page.read_text(encoding="utf-8") + "\n"
    for found in re.finditer(r"([^\n]*(?:\n[^\n]+)*)\n\n((?: {4}[^\n]*\n|\n)+)", text):
        yield found[1], re.sub(r"^ {4}", "", found[2], flags=re.MULTILINE).strip("\n")


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, each block in its turn: files are written, commands run; trainings are shorter."""
    monkeypatch.chdir(tmp_path)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, module in (("hstnn", "-m hstnn_deploy"), ("python", "")):
        (bin_ / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (bin_ / name).chmod(0o755)
    ran = 0
    for before, block in blocks(page):
        if block.startswith(("import ", "recipe:")) and (named := re.findall(r"`(\w+\.(?:py|yaml))`", before)):
            Path(named[-1]).write_text("".join(f"{FEWER.get(line, line)}\n" for line in block.splitlines()))
            continue
        if block.startswith("import "):
            subprocess.run([sys.executable, "-c", block], check=True, timeout=PATIENCE, cwd=tmp_path)
            continue
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("hstnn "):
                words = [LESS.get(word, word) for word in shlex.split(line, comments=True)[1:]]
                words += [more for begins, each in MORE.items() if line[6:].startswith(begins) for more in each]
                result = hstnn(*words)
                assert result.code == 0, result.err
            elif re.match(r"(python|head|tail) ", line):
                environment = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"}
                subprocess.run(["sh", "-c", line], check=True, timeout=PATIENCE, env=environment, cwd=tmp_path)
            else:
                continue
            ran += 1
    assert ran > 3
