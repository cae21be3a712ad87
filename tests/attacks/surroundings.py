"""Commands in odd surroundings: streams that are closed or full, another locale, odd names, many at once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tests.attacks.box import Box
from tests.attacks.kinds import Kind
from tests.attacks.outcome import Outcome
from tests.attacks.payloads import Shot
from tests.attacks.worker import Call, Words
from tests.attacks.yard import Yard


def kinds(yard: Yard) -> list[Kind]:
    """Return what is no file: a command line, given as JSON, and threads that share a stream."""

    def line(box: Box, content: bytes) -> Call:
        (box.given / "text.txt").write_text("the import\n")
        words: Words = json.loads(content)
        return [str(word).replace("BOX", str(box.root)) for word in words]

    def threads(box: Box, content: bytes) -> Call:
        return lambda: _share_a_stream(yard)

    return [Kind("command line", b'["recipes"]', line), Kind("threads on a stream", b"", threads)]


def _share_a_stream(yard: Yard) -> None:
    """Step one stream from four threads: every step counts, or is refused."""
    import threading

    from hstnn_deploy.errors import HstnnError
    from hstnn_deploy.export.runtime.session import Session

    session, x = Session(yard.bundle("sequence"), threads=1), np.full((1, 8), 0.7, np.float32)
    shared, done = session.stream(1), []

    def step() -> None:
        for _ in range(50):
            try:
                shared.step(x)
            except HstnnError:
                continue
            done.append(1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=step) for _ in range(4)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
    finally:
        sys.setswitchinterval(interval)
    alone = session.stream(1)
    for _ in done:
        alone.step(x)
    same = all(np.array_equal(value, alone.state[name]) for name, value in shared.state.items())
    assert same, f"{len(done)} steps were taken, and not all of them count"


_NAMES = [
    "x" * 300,
    "é",
    "\udcff",
    "a\nb",
    "\x1b[31m",
    "[red]x[/red]",
    "[/]",
    "x" * 5000,
    " ",
    "",
    "\u202e",
    "~",
    "a\\b",
]


def lines(yard: Yard) -> Iterator[Shot]:
    """Yield command lines with odd names, at every place that takes one."""
    bundle = str(yard.bundle("sequence"))
    places: list[list[str]] = [
        ["recipes", "{}"],
        ["recipes", "BOX/given/{}.yaml"],
        ["train", "{}"],
        ["train", "digits", "--set", "{}"],
        ["train", "digits", "--set", "adapt.epochs={}"],
        ["train", "digits", "--set", "{}=1"],
        ["train", "digits", "--kind", "rnn", "--out", "BOX/given/text.txt/{}"],
        ["sweep", "digits", "--dry-run", "--out", "BOX/out/{}"],
        ["sweep", "digits", "--dry-run", "--kinds", "{}"],
        ["sweep", "digits", "--dry-run", "--seeds", "{}"],
        ["evaluate", "--ckpt", "BOX/given/{}"],
        ["export", "--ckpt", str(yard.ckpt), "--no-verify", "--out", "BOX/out/{}"],
        ["verify", "BOX/given/{}"],
        ["run", "BOX/given/{}", "--input", "x.npy"],
        ["run", bundle, "--input", "BOX/given/{}"],
        ["run", bundle, "--input", "BOX/given/{}.npy"],
        ["run", bundle, "--input", "BOX/given/{}.csv"],
        ["run", bundle, "--input", str(yard.steps), "--save-state", "BOX/out/{}"],
        ["run", bundle, "--input", str(yard.steps), "--load-state", "BOX/out/{}"],
        ["run", bundle, "--input", str(yard.steps), "--provider", "{}"],
        ["run", bundle, "--input", str(yard.steps), "--smaller", "{}"],
        ["report", "BOX/given/{}"],
        ["report", str(yard.runs), "--format", "{}"],
        ["report", str(yard.runs), "--out", "BOX/out/{}"],
        ["compare", "BOX/given/{}", str(yard.runs)],
        ["compare", str(yard.runs), str(yard.runs), "--metric", "{}"],
        ["compare", str(yard.runs), str(yard.runs), "--fail-if", "{}"],
        ["data", "verify", "{}"],
        ["data", "verify", "nmnist", "--data-dir", "BOX/given/{}"],
        ["data", "show", "digits", "--out", "BOX/out/{}"],
        ["runs", "list", "BOX/given/{}"],
        ["runs", "show", "BOX/given/{}"],
        ["profile", "digits", "--matrix", "BOX/given/{}"],
        ["profile", "{}"],
        ["profile", "digits", "--phases", "{}"],
        ["profile", "digits", "--batch", "{}"],
        ["{}"],
        ["--{}"],
        ["train", "--{}"],
    ]
    for words in places:
        for name in _NAMES:
            line = json.dumps([word.replace("{}", name) for word in words]).encode()
            yield Shot("command line", f"{' '.join(words)[:60]} {name[:20]!r}", line)


class Surrounding(NamedTuple):
    """How a process of its own is started."""

    name: str
    shell: str
    """What follows the command in a shell."""
    environment: Mapping[str, str] = MappingProxyType({})
    codes: tuple[int, ...] | None = None
    """What it may end with; None: whatever is documented."""


SURROUNDINGS = [
    Surrounding("standard output full", ">/dev/full", codes=(1, 2, 3, 5, 7)),
    Surrounding("standard error full", "2>/dev/full"),
    Surrounding("both full", ">/dev/full 2>/dev/full"),
    Surrounding("standard output closed", ">&-"),
    Surrounding("standard error closed", "2>&-"),
    Surrounding("standard input closed", "<&-"),
    Surrounding("all closed", "<&- >&- 2>&-"),
    Surrounding("reader gone", "| true"),
    Surrounding("locale C", "", {"LC_ALL": "C"}),
    Surrounding("locale C, strictly", "", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Surrounding("ascii", "", {"PYTHONIOENCODING": "ascii:strict"}),
    Surrounding("no home", "", {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/proc/x"}),
]


def commands(yard: Yard, box: Box) -> dict[str, Words]:
    """Return commands that are started in these surroundings."""
    odd = box.given / "é"
    odd.mkdir(exist_ok=True)
    (odd / "é.npy").write_bytes(yard.steps.read_bytes())
    return {
        "recipes": ["recipes"],
        "help": ["--help"],
        "an error": ["recipes", "dïgits"],
        "run": ["run", yard.bundle("sequence"), "--input", odd / "é.npy", "--json"],
        "run from standard input": ["run", yard.bundle("sequence"), "--input", "-", "--stream"],
        "report": ["report", yard.runs],
        "no such file": ["run", yard.bundle("sequence"), "--input", odd / "ü.npy"],
    }


def surrounded(box: Box, words: Words, how: Surrounding) -> Outcome:
    """Start a command in odd surroundings."""
    import shlex

    command = shlex.join([sys.executable, "-P", "-m", "hstnn_deploy", *map(str, words)])
    # The exit code of the command, not that of whoever reads from it.
    script = f"set -o pipefail; {command} {how.shell}"
    variables = {**os.environ, **box.environment, "PYTHONPATH": str(Path(__file__).parents[2]), **how.environment}
    done = subprocess.run(
        ["bash", "-c", script], cwd=box.out, env=variables, capture_output=True, timeout=1200, stdin=subprocess.DEVNULL
    )
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    return Outcome(done.returncode, out, err)


def wrong(how: Surrounding, outcome: Outcome, judge: Callable[[Outcome], str]) -> str:
    """Return what is wrong with how a command ended: where its error cannot be seen, only its exit code counts."""
    if "2>" in how.shell and outcome.code not in (0, None):
        outcome = outcome._replace(err="error: cannot be seen\n")
    found: Any = judge(outcome)
    if how.codes and outcome.code not in how.codes and not found and outcome.code == 0 and outcome.out == "":
        return "what it had to say is lost, and it ends with 0"
    return str(found)
