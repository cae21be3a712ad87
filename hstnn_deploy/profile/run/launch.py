"""Isolation: every configuration in a fresh process, with a time limit; whatever ends it becomes a record.

A process sees one GPU alone, by `CUDA_VISIBLE_DEVICES`, or none: it cannot fall back to another device unnoticed.
Configurations that belong together (instances of one, or one on several devices) run at the same time: each waits, once
warm, until all are.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from hstnn_deploy import environment, files, processes
from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.phases.inference import FORMATS, PREPARED
from hstnn_deploy.profile.plan import memory
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.run.worker import GO, READY

TIME_LIMIT = 300.0
"""Seconds that one process may take, start included."""

_TICK = 0.01
"""Seconds between looks at processes that wait for each other."""


class Observer:
    """Listens to the measuring. Every method may be overridden; these do nothing."""

    def started(self, what: str, number: int, total: int) -> None:
        """Say that work on configuration `number` of `total` begins: its export, or its measurement."""

    def finished(self, record: Record, number: int, total: int, seconds: float) -> None:
        """Say that a configuration is done."""


def run(
    configurations: Sequence[Configuration], observer: Observer | None = None, time_limit: float = TIME_LIMIT
) -> Iterator[Record]:
    """Measure the configurations, those that belong together at once; yield each one's record as soon as it is there.

    Leaving the loop early, or Ctrl-C, ends the processes under way; the records that were yielded stand.

    Args:
        configurations: see `plan.plan`; those that belong together stand together.
        observer: is told what is going on.
        time_limit: seconds that one process may take, start included.
    """
    listener = observer or Observer()
    total, number = len(configurations), 0
    prepared: dict[str, _Prepared] = {}
    with files.temporary_folder("profile") as base:
        for _, members in groupby(configurations, key=lambda each: each.together):
            group = list(members)
            first, start = group[0], time.monotonic()
            ready = _Prepared(base)
            if first.phase == "infer" and first.foreign is None:
                key = preparation(first)
                if key not in prepared:
                    listener.started(f"{first.subject}: export for inference", number + 1, total)
                    same = [each for each in configurations if each.phase == "infer" and preparation(each) == key]
                    prepared[key] = _prepare(same, base / f"prepared{number}", time_limit)
                ready = prepared[key]
            listener.started(first.label, number + 1, total)
            for record in _measured(group, base / f"measured{number}", ready, time_limit):
                number += 1
                facts = {**record.facts, **ready.facts(record), **told(record.configuration), "measured_at": _now()}
                record = replace(record, facts=facts)
                listener.finished(record, number, total, time.monotonic() - start)
                yield record


def told(configuration: Configuration) -> dict[str, Any]:
    """Return what a record says of where it was asked for: the command, and the commit of the user's project."""
    foreign = configuration.foreign
    module = configuration.subject.partition(":")[0] if foreign is not None and foreign["kind"] == "module" else ""
    return {"command": sys.argv, "project": environment.project(module)}


def resumed(
    configurations: Sequence[Configuration],
    old: Sequence[Record],
    measure: Callable[[Sequence[Configuration]], Iterator[Record]],
) -> Iterator[Record]:
    """Yield a record for each configuration, in order: an old one where there is one, else a new one.

    Where one of several that belong together is missing, all of them are measured again.
    """
    known = {record.configuration.key: record for record in old}
    missing = {each.together for each in configurations if each.key not in known}
    fresh = measure([each for each in configurations if each.together in missing])
    for each in configurations:
        yield next(fresh) if each.together in missing else known[each.key]


@dataclass(frozen=True)
class _Prepared:
    """What inference of one network stands on."""

    folder: Path
    data: str = ""
    error: str = ""
    """Why nothing could be prepared; empty where it could."""
    absent: dict[str, str] = field(default_factory=dict)
    """By engine, why there is nothing that it could run."""
    sizes: dict[str, int] = field(default_factory=dict)
    """By engine, the bytes of what it runs."""

    def facts(self, record: Record) -> dict[str, Any]:
        """Return what a record should hold of this."""
        size = self.sizes.get(record.configuration.engine) if record.configuration.phase == "infer" else None
        return ({"data": self.data} if self.data else {}) | ({"graph_bytes": size} if size else {})


def preparation(configuration: Configuration) -> str:
    """Return what inference on the same network and data has in common."""
    plain = configuration.plain()
    return json.dumps([plain[key] for key in ("recipe", "ckpt", "sizes", "data_dir", "data", "steps")])


def _prepare(configurations: list[Configuration], folder: Path, time_limit: float) -> _Prepared:
    folder.mkdir()
    request = folder / "request.json"
    engines = sorted({configuration.engine for configuration in configurations})
    request.write_text(json.dumps({"configuration": configurations[0].plain(), "engines": engines}), encoding="utf-8")
    failure = run_alone("prepare", [str(request), str(folder)], "cpu", folder / "output", time_limit)
    if failure:
        return _Prepared(folder, error=f"the export before it {failure}")
    result = json.loads((folder / PREPARED).read_text(encoding="utf-8"))
    absent, sizes = result.get("absent", {}), result.get("sizes", {})
    return _Prepared(folder, result.get("data", ""), result.get("error", ""), absent, sizes)


def _measured(group: list[Configuration], folder: Path, prepared: _Prepared, time_limit: float) -> list[Record]:
    """Measure configurations at the same time; return their records in order."""
    first = group[0]
    if prepared.error:
        return [Record(each, "failed", reason=prepared.error) for each in group]
    if reason := _absent(first, prepared):
        return [Record(each, "n/a", reason=reason) for each in group]
    folder.mkdir()
    started = []
    try:
        for number, each in enumerate(group):
            own = folder / str(number)
            own.mkdir()
            (own / "configuration.json").write_text(json.dumps(memory.bounded(each).plain()), encoding="utf-8")
            words = [str(own / "configuration.json"), str(own / "record.json"), str(prepared.folder)]
            meeting = [str(folder)] if len(group) > 1 else []
            started.append(_Process("worker", [*words, *meeting], each.device, own / "output"))
        if len(group) > 1:
            _let_them_meet(started, folder, time_limit)
        failures = [process.wait(time_limit) for process in started]
    finally:
        for process in started:
            process.end()
    return [_read(each, folder / str(number), failures[number]) for number, each in enumerate(group)]


def _absent(configuration: Configuration, prepared: _Prepared) -> str:
    """Return why there is nothing to measure, or ""."""
    if configuration.phase != "infer" or configuration.engine not in FORMATS or configuration.foreign is not None:
        return ""
    if configuration.precision != "fp32":
        return f"exported graphs compute in fp32, not in {configuration.precision}"
    return prepared.absent.get(configuration.engine, "")


def _let_them_meet(started: "list[_Process]", folder: Path, time_limit: float) -> None:
    """Wait until every process that still runs is warm, then let all of them begin."""
    begin = time.monotonic()
    while time.monotonic() - begin < time_limit:
        if all((folder / f"{READY}{process.number}").exists() for process in started if process.running):
            break
        time.sleep(_TICK)
    (folder / GO).touch()


def _read(configuration: Configuration, folder: Path, failure: str) -> Record:
    if failure:
        return Record(configuration, "failed", reason=f"the process {failure}")
    try:
        record = Record.from_plain(json.loads((folder / "record.json").read_text(encoding="utf-8")))
        return replace(record, configuration=configuration)
    except (OSError, json.JSONDecodeError, ProfileError) as error:
        return Record(configuration, "failed", reason=f"the process left an incomplete record: {error}")


class _Process:
    """A module of this package in a fresh process.

    Args:
        module: its name, such as "worker".
        words: its arguments.
        device: `cpu` or `cuda:N`; the process sees no other GPU.
        output: a file for what the process prints.
    """

    def __init__(self, module: str, words: list[str], device: str, output: Path) -> None:
        self._output, self._begin = output, time.monotonic()
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                processes.command(f"profile.run.{module}", *words),
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=processes.environment(device),
                # Ctrl-C at the terminal reaches this process alone, which then ends the other one in an orderly way.
                start_new_session=True,
            )

    @property
    def number(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait(self, time_limit: float) -> str:
        """Wait until it has ended, at most until the time limit; return why it failed, or ""."""
        left = max(0.0, time_limit - (time.monotonic() - self._begin))
        try:
            code = self._process.wait(left)
        except subprocess.TimeoutExpired:
            return f"was stopped after {time_limit:g} s (the time limit)"
        finally:
            self.end()
        return processes.cause(code, self._output.read_text(encoding="utf-8", errors="replace"))

    def end(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


def run_alone(module: str, words: list[str], device: str, output: Path, time_limit: float) -> str:
    """Run a module of this package in a fresh process and wait for it; return why it failed, in one line, or ""."""
    return _Process(module, words, device, output).wait(time_limit)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
