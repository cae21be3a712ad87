"""Isolation: every configuration in a fresh process, with a time limit; whatever ends it becomes a record.

A process sees one GPU alone, by `CUDA_VISIBLE_DEVICES`, or none: it cannot fall back to another device unnoticed.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hstnn_deploy import processes
from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.inference import PREPARED
from hstnn_deploy.profile.records import Configuration, Record

TIME_LIMIT = 300.0
"""Seconds that one process may take, start included."""


class Observer:
    """Listens to the measuring. Every method may be overridden; these do nothing."""

    def started(self, what: str, number: int, total: int) -> None:
        """Say that work on configuration `number` of `total` begins: its export, or its measurement."""

    def finished(self, record: Record, number: int, total: int, seconds: float) -> None:
        """Say that a configuration is done."""


def run(
    configurations: Sequence[Configuration], observer: Observer | None = None, time_limit: float = TIME_LIMIT
) -> Iterator[Record]:
    """Measure the configurations one after another; yield each one's record as soon as it is there.

    Leaving the loop early, or Ctrl-C, ends the process under way; the records that were yielded stand.

    Args:
        configurations: see `plan.plan`.
        observer: is told what is going on.
        time_limit: seconds that one process may take, start included.
    """
    listener = observer or Observer()
    total = len(configurations)
    prepared: dict[str, _Prepared] = {}
    with tempfile.TemporaryDirectory(prefix="hstnn-profile-") as base:
        for number, configuration in enumerate(configurations, 1):
            start = time.monotonic()
            ready = _Prepared(Path(base))
            if configuration.phase == "infer":
                key = _preparation(configuration)
                if key not in prepared:
                    listener.started(f"{configuration.subject}: export for inference", number, total)
                    same = [each for each in configurations if each.phase == "infer" and _preparation(each) == key]
                    prepared[key] = _prepare(same, Path(base) / f"prepared{number}", time_limit)
                ready = prepared[key]
            listener.started(configuration.label, number, total)
            record = _measured(configuration, Path(base) / f"measured{number}", ready, time_limit)
            facts = {**record.facts, **ready.facts(), "command": sys.argv, "measured_at": _now()}
            record = replace(record, facts=facts)
            listener.finished(record, number, total, time.monotonic() - start)
            yield record


@dataclass(frozen=True)
class _Prepared:
    """What inference of one network stands on."""

    folder: Path
    data: str = ""
    error: str = ""
    """Why nothing could be prepared; empty where it could."""
    failures: dict[str, str] = field(default_factory=dict)
    """By engine."""

    def failure(self, engine: str) -> str:
        """Return why an engine cannot be measured, or ""."""
        return self.error or self.failures.get(engine, "")

    def facts(self) -> dict[str, Any]:
        """Return what a record should hold of this."""
        return {"data": self.data} if self.data else {}


def _preparation(configuration: Configuration) -> str:
    """Return what inference on the same network and data has in common."""
    plain = configuration.plain()
    return json.dumps([plain[key] for key in ("recipe", "ckpt", "sizes", "data_dir")])


def _prepare(configurations: list[Configuration], folder: Path, time_limit: float) -> _Prepared:
    folder.mkdir()
    request = folder / "request.json"
    engines = sorted({configuration.engine for configuration in configurations})
    request.write_text(json.dumps({"configuration": configurations[0].plain(), "engines": engines}), encoding="utf-8")
    failure = run_alone("prepare", [str(request), str(folder)], "cpu", folder / "output", time_limit)
    if failure:
        return _Prepared(folder, error=f"the export before it {failure}")
    result = json.loads((folder / PREPARED).read_text(encoding="utf-8"))
    failures = {engine: f"export failed: {why}" for engine, why in result.get("failures", {}).items()}
    return _Prepared(folder, result.get("data", ""), result.get("error", ""), failures)


def _measured(configuration: Configuration, folder: Path, prepared: _Prepared, time_limit: float) -> Record:
    if failure := prepared.failure(configuration.engine):
        return Record(configuration, "failed", reason=failure)
    folder.mkdir()
    asked, answer = folder / "configuration.json", folder / "record.json"
    asked.write_text(json.dumps(configuration.plain()), encoding="utf-8")
    words = [str(asked), str(answer), str(prepared.folder)]
    failure = run_alone("worker", words, configuration.device, folder / "output", time_limit)
    if failure:
        return Record(configuration, "failed", reason=f"the process {failure}")
    try:
        return Record.from_plain(json.loads(answer.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, ProfileError) as error:
        return Record(configuration, "failed", reason=f"the process left no whole record: {error}")


def run_alone(module: str, words: list[str], device: str, output: Path, time_limit: float) -> str:
    """Run a module of this room in a fresh process and wait for it; return why it failed, in one line, or "".

    Args:
        module: its name, such as "worker".
        words: its arguments.
        device: `cpu` or `cuda:N`; the process sees no other GPU.
        output: a file for what the process prints.
        time_limit: seconds.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            processes.command(f"profile.{module}", *words),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            env=processes.environment(device),
            # Ctrl-C at the terminal reaches this process alone, which then ends the other one in an orderly way.
            start_new_session=True,
        )
        try:
            code = process.wait(time_limit)
        except subprocess.TimeoutExpired:
            return f"was stopped after {time_limit:g} s (the time limit)"
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
    return processes.cause(code, output.read_text(encoding="utf-8", errors="replace"))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
