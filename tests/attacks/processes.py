"""Attacks on processes: killed or interrupted at random times, ten at once in a folder, a disk that is really full."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil

from tests.attacks.box import Box, temporary
from tests.attacks.moments import LIMITS, deeds, tried, undisturbed
from tests.attacks.outcome import Outcome, complaint
from tests.attacks.surroundings import SURROUNDINGS, commands, surrounded, wrong
from tests.attacks.tally import Result
from tests.attacks.worker import Words
from tests.attacks.yard import Yard
from tests.conftest import TINY, options
from tests.contents import contents

GRACE = 2.0
"""Seconds after which no process of a killed command may be left."""


class Job(NamedTuple):
    """A command that starts processes of its own."""

    name: str
    words: Callable[[Box], Words]
    again: tuple[str, ...]
    seen: Callable[[Box], object]


def jobs() -> list[Job]:
    """Return the commands that are killed while they run."""
    tiny = options(TINY)

    def runs(box: Box) -> object:
        return contents(box.out / "runs")

    def measured(box: Box) -> object:
        lines = (box.out / "profile" / "records.jsonl").read_text().splitlines()
        return len(lines), sorted(path.name for path in (box.out / "profile").iterdir())

    sweep: list[str | Path] = ["sweep", "digits", *tiny, "--kinds", "snn,hybrid", "--seeds", "1", "--cpus", "2"]
    ranks: list[str | Path] = ["train", "digits", *tiny, "--kind", "snn", "--nproc", "2", "--threads", "1"]
    profile: list[str | Path] = ["profile", "digits", "--phases", "train,infer", "--engines", "eager,onnxruntime"]
    return [
        Job("sweep", lambda box: [*sweep, "--out", box.out / "runs"], (), runs),
        Job("train on two processes", lambda box: [*ranks, "--out", box.out / "runs"], ("--resume",), runs),
        Job(
            "profile",
            lambda box: [
                *profile,
                "--batch",
                "1",
                "--seconds",
                "0.3",
                "--data",
                "synthetic",
                "--out",
                box.out / "profile",
            ],
            ("--resume",),
            measured,
        ),
    ]


def unlike(found: object, wanted: object) -> str:
    """Return in what a run that was stopped and begun again differs from an undisturbed one, or "" in nothing."""
    if found == wanted:
        return ""
    where = ""
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        where = ", in " + ", ".join(
            f"{name} ({found.get(name)!r:.300} for {wanted.get(name)!r:.300})" for name in names
        )
    return f"the next start ends with something else than an undisturbed run{where}"


def start(box: Box, words: Words) -> "subprocess.Popen[bytes]":
    """Start a command as a user does."""
    variables = {**os.environ, **box.environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    out, err = (path.open("wb") for path in box.streams)
    with out, err:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "hstnn_deploy", *map(str, words)],
            cwd=box.out,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def finish(box: Box, process: "subprocess.Popen[bytes]", seconds: float = 1200) -> Outcome:
    """Wait for a command's end."""
    try:
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = None
    out, err = box.printed()
    return Outcome(code, out, err, f"not done after {seconds:g} s" if code is None else "")


def stopped(box: Box, random: Random) -> Iterator[Result]:
    """Kill or interrupt jobs at random times, for ever; start each again and compare with an undisturbed one."""
    wanted: dict[str, tuple[object, float]] = {}
    while True:
        for job in jobs():
            if job.name not in wanted:
                box.begin()
                begun = time.monotonic()
                outcome = finish(box, start(box, job.words(box)))
                # Seen before anything is handed out: other attacks use the box in between.
                seen = None if outcome.code else job.seen(box)
                took = time.monotonic() - begun
                yield Result(f"undisturbed {job.name}", outcome, complaint(outcome, LIMITS, must_answer=True))
                if outcome.code:
                    return
                wanted[job.name] = seen, took
            number = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
            after = random.uniform(0, wanted[job.name][1])
            label = f"{job.name}: {number.name} after {after:.2f} s"
            outcome, problems = _stopped_once(box, job, number, after, wanted[job.name][0])
            yield Result(f"{number.name} {job.name}", outcome, "; ".join(filter(None, problems)), label=label)


def _stopped_once(
    box: Box, job: Job, number: signal.Signals, after: float, wanted: object
) -> tuple[Outcome, list[str]]:
    box.begin()
    process = start(box, job.words(box))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    family = [each for each in _family(process) if each.pid != process.pid]
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    first = finish(box, process)
    problems = []
    if number is signal.SIGKILL:
        first = first._replace(code=0 if first.code == 0 else 130)
    elif first.code == -number:
        first = first._replace(code=130)  # before Python could take the signal
    else:
        problems.append(complaint(first, LIMITS))
    time.sleep(GRACE)
    left = [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    problems.append(f"{len(left)} processes left after {GRACE:g} s" if left else "")
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    second = finish(box, start(box, [*job.words(box), *job.again]))
    problems.append(f"the next start: {again}" if (again := complaint(second, LIMITS, must_answer=True)) else "")
    if not second.code:
        try:
            problems.append(unlike(job.seen(box), wanted))
        except Exception as error:
            problems.append(f"damaged after the next start: {type(error).__name__}: {error}")
    lying = temporary(box)
    problems.append(f"left in the temporary folder: {', '.join(lying)}" if lying else "")
    return first, problems


def _family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def moments(box: Box, yard: Yard, random: Random) -> Iterator[Result]:
    """Disturb every deed at random changes to files, for ever."""
    known: dict[str, tuple[object, int]] = {}
    while True:
        for deed in deeds(yard):
            if deed.name not in known:
                known[deed.name] = undisturbed(box, deed)
            wanted, count = known[deed.name]
            act = random.choice(("SIGKILL", "SIGKILL", "SIGINT", "SIGTERM", "full", "limit"))
            number = random.choice((1500, 3000, 6000, 12_000, 40_000)) if act == "limit" else random.randint(1, count)
            problem, outcome = tried(box, deed, act, number, wanted)  # type: ignore[arg-type]
            if act == "SIGKILL" and outcome.ended:
                outcome = Outcome(130)
            name = {"full": "full disk", "limit": "files that cannot grow"}.get(act, act)
            yield Result(f"{name} in {deed.name}", outcome, problem, label=f"{deed.name}: {act} at change {number}")


def crowded(box: Box) -> Iterator[Result]:
    """Start ten trainings in one folder at once: one of them trains, the others say that it does."""
    words: Words = ["train", "digits", *options(TINY), "--kind", "snn"]
    for _ in range(3):
        box.begin()
        others = [Box(box.root.with_name(f"crowd{n}")) for n in range(10)]
        for each in others:
            each.begin()
        running = [start(each, [*words, "--out", box.out / "runs"]) for each in others]
        ended = [finish(*pair) for pair in zip(others, running, strict=True)]
        problems = [complaint(outcome, LIMITS) for outcome in ended]
        # Who comes when all is done has nothing to do, and says so.
        problems += [f"exit code {outcome.code}" for outcome in ended if outcome.code not in (0, 5)]
        problems.append("" if any(outcome.code == 0 for outcome in ended) else "none of ten trained")
        try:
            contents(box.out / "runs")
        except Exception as error:
            problems.append(f"damaged: {error}")
        yield Result("ten trainings in a folder", Outcome(0), "; ".join(filter(None, problems)))
        for each in others:
            shutil.rmtree(each.root, ignore_errors=True)


def surrounding(box: Box, yard: Yard) -> Iterator[Result]:
    """Start commands in odd surroundings."""
    for how in SURROUNDINGS:
        box.begin()
        for name, words in commands(yard, box).items():
            outcome = surrounded(box, words, how)
            problem = wrong(how, outcome, lambda outcome: complaint(outcome, LIMITS))
            yield Result(f"surroundings: {how.name}", outcome, problem, label=name)


def full_disk(box: Box, yard: Yard, random: Random) -> Iterator[Result]:
    """Fill a small file system of our own at several sizes; where it cannot be mounted, there is nothing to yield."""
    small = box.root.with_name("small")
    for kilobytes in (4, 16, 32, 64, 100, 200, 400, 800, 1600, 3200, 6400):
        for deed in deeds(yard):
            if deed.name == "data prepare":
                continue
            box.begin()
            small.mkdir(exist_ok=True)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "hstnn-attack", str(small)]
            if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
                return
            try:
                shutil.rmtree(box.out)
                box.out.symlink_to(small)
                with contextlib.suppress(OSError):
                    deed.prepare(box)
                outcome = finish(box, start(box, deed.words(box)))
                problem = complaint(outcome, LIMITS)
                yield Result(f"full disk, mounted: {deed.name}", outcome, problem, label=f"{kilobytes} kB")
            finally:
                subprocess.run(["umount", "-l", str(small)], check=False)


def interrupted_imports(box: Box, yard: Yard, random: Random) -> Iterator[Result]:
    """Interrupt commands while they begin."""
    words: Words = ["run", yard.bundle("sequence"), "--input", yard.steps]
    for _ in range(200):
        box.begin()
        process = start(box, words)
        after = random.uniform(0, 1.5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        process.send_signal(signal.SIGINT)
        outcome = finish(box, process)
        # What comes before our first line is Python's own.
        own = "hstnn_deploy" in outcome.err and "init_import_site" not in outcome.err
        if outcome.code == -signal.SIGINT or (outcome.code == 1 and not own):
            outcome = Outcome(130, "", "error: interrupted before we began\n")
        yield Result("SIGINT while it begins", outcome, complaint(outcome, LIMITS), label=f"after {after:.2f} s")
