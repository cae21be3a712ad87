"""A run folder: one stage of a training on disk, as shared by train, sweep and report.

    recipe.yaml       the recipe as resolved; `hstnn train` takes it
    stage.yaml        what of the recipe this stage depends on: the folder belongs to it
    environment.json  versions, device, threads, git state
    status.json       state (running, finished, interrupted, failed), epoch, best, times
    metrics.jsonl     one row per epoch
    best.pt last.pt   checkpoints: the best epoch, and the last one with all it takes to continue
    selection.json    in a restoration: kept units, importances, standard errors, stability
    log.txt           of a job of a sweep: what its process printed

Every file is written whole or not at all, so a run that is killed loses the epoch under way and nothing else.
"""

import calendar
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import psutil
from filelock import FileLock, Timeout
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    model_validator,
)

from hstnn_deploy import files, yaml_text
from hstnn_deploy.errors import RunError
from hstnn_deploy.foreign import TEXT_LIMIT, json_value, read_bytes, reading

State = Literal["running", "finished", "interrupted", "failed"]
Number = StrictBool | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | None


def _only_warnings_are_lines(row: dict[str, Any]) -> dict[str, Any]:
    """Refuse a list in place of a number."""
    if wrong := [name for name, value in row.items() if isinstance(value, list) != (name == "warnings")]:
        raise ValueError(f"{wrong[0]} is of the wrong type")
    return row


Row = Annotated[dict[str, Number | list[StrictStr]], AfterValidator(_only_warnings_are_lines)]
"""What was measured in an epoch; its warnings are a list of lines."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Converts the recipe of a stage from an older version to today's."""

_ANOTHER = "remove the run folder, or give another with --out"
_LARGEST = 2**22
"""Bytes of status.json and environment.json, at most."""

_LONGEST = 2**28
"""Bytes of metrics.jsonl, at most: of a million epochs."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"


class _Result(BaseModel):
    """The result of a finished stage; the file may have more keys."""

    model_config = ConfigDict(strict=True)

    epoch: int = 0
    valid: Row = {}
    test: dict[str, Number] = {}
    protocol: str = ""
    precision: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Refuse a test without its epoch, its protocol, and the validation figure of the same metric."""
        if "test" in self.model_fields_set:
            metric = next((name for name in self.test if name != "loss"), "loss")
            figures = [self.test.get(metric), *(self.valid[name] for name in self.valid if name.startswith("valid_"))]
            complete = f"valid_{metric}" in self.valid and "epoch" in self.model_fields_set and self.protocol
            if not complete or None in figures:
                raise ValueError("the result of a test is not complete")
        return self


class _Status(BaseModel):
    """The keys of status.json that are read; the file may have more."""

    model_config = ConfigDict(strict=True)

    state: State | None = None
    updated: str | None = None
    started: str | None = None
    pid: int | None = None
    host: str | None = None
    error: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    best: Row | None = None
    result: _Result | None = None
    usage: dict[str, Number] | None = None


_ROW: TypeAdapter[dict[str, Any]] = TypeAdapter(Row)


class RunFolder:
    """The folder of one stage. Only `open` creates it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        """Return the path and the state."""
        return f"<RunFolder {self.path}: {self.state or 'not begun'}>"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.path / "best.pt"

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch, to continue from."""
        return self.path / "last.pt"

    @property
    def selection(self) -> Path:
        """The selection of a restoration."""
        return self.path / "selection.json"

    @property
    def log(self) -> Path:
        """The output of a sweep's processes for this run."""
        return self.path / "log.txt"

    def status(self) -> dict[str, Any]:
        """Return status.json, or an empty dict if the stage never started."""
        path = self.path / "status.json"
        status = _read_json(path)
        with reading(path, "", RunError, _ANOTHER, says=False):
            _Status.model_validate(status)
        return status

    @property
    def finished(self) -> bool:
        """Whether the stage is complete."""
        return self.status().get("state") == "finished"

    @property
    def state(self) -> State | Literal["dead", ""]:
        """The state in status.json, or `dead` if it is "running" but the process is gone."""
        status = self.status()
        state: State | Literal[""] = status.get("state", "")
        return "dead" if state == "running" and not self._alive(status) else state

    def _alive(self, status: dict[str, Any]) -> bool:
        """Whether the process that wrote a status is still running."""
        if status.get("host", platform.node()) == platform.node():
            return _process_lives(status)
        # For another machine only the lock tells. (It would tell here too, but testing it could block a new process.)
        return self.in_use

    @property
    def in_use(self) -> bool:
        """Whether a process holds the folder's lock."""
        try:
            with self.lock():
                return False
        except RunError:
            return True

    def set_status(self, state: State, **facts: Any) -> None:
        """Update status.json."""
        where = {"pid": os.getpid(), "host": platform.node()}
        status = {**self.status(), "state": state, "updated": _now(), **where, **facts}
        files.write_json(self.path / "status.json", status)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl, one per epoch, without a half-written last row."""
        return self._rows("metrics.jsonl")

    def steps(self) -> list[dict[str, Any]]:
        """Return the rows of steps.jsonl: measurements within epochs, if the recipe enables them."""
        return self._rows("steps.jsonl")

    def _rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        path, counts = self.path / name, ("epoch",) if name == "metrics.jsonl" else ("epoch", "batch", "batches")
        if path.exists():
            with reading(path, "a curve", RunError, _ANOTHER):
                text = read_bytes(path, _LONGEST).decode("utf-8", errors="replace")
            for line in text.splitlines():
                try:
                    row = _ROW.validate_python(json_value(line))
                except ValueError:
                    break
                if any(type(row.get(key, 0)) is not int for key in counts):
                    break
                rows.append(row)
        return rows

    def keep_metrics(self, epochs: int) -> None:
        """Drop the rows of epochs after `epochs`, which a killed run had not finished."""
        for name in ("metrics.jsonl", "steps.jsonl"):
            if name == "metrics.jsonl" or (self.path / name).exists():
                rows = [row for row in self._rows(name) if row.get("epoch", 0) <= epochs]
                files.write_text(self.path / name, "".join(json.dumps(row) + "\n" for row in rows))

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Append one epoch's row."""
        self._add(row, "metrics.jsonl")

    def add_step(self, row: dict[str, Any]) -> None:
        """Append measurements within an epoch."""
        self._add(row, "steps.jsonl")

    def _add(self, row: dict[str, Any], name: str) -> None:
        path = self.path / name
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError as error:
            raise files.cannot_write(path, error) from error

    @contextmanager
    def open(
        self, recipe: dict[str, Any], environment: dict[str, Any], resume: bool, upgrade: Upgrade | None = None
    ) -> Iterator[None]:
        """Claim the folder for this process, with the recipe that it must belong to, and record how the work ends.

        Args:
            recipe: what this stage depends on; it must equal that in the folder.
            environment: see `environment.describe`.
            resume: whether unfinished work may be continued.
            upgrade: see `check_recipe`.

        Raises:
            RunError: the folder cannot be written, is in use, belongs to another recipe, or was begun and `resume` is
                not set.
        """
        files.make_folder(self.path)
        with self.lock():
            files.clear_partial(self.path)
            self._begin(recipe, environment, resume, upgrade)
            try:
                yield
            except (KeyboardInterrupt, BrokenPipeError):
                # The reader of the output has gone; a finished stage stays finished.
                if not self.finished:
                    self.set_status("interrupted")
                raise
            except Exception as error:
                self.set_status("failed", error=str(error))
                raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against other processes.

        Raises:
            RunError: another process has locked it.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunError(f"{self.path} is in use by another hstnn process", "wait for it, or give --out") from error
        try:
            yield
        finally:
            lock.release()

    def record_failure(self, recipe: dict[str, Any], reason: str, upgrade: Upgrade | None = None) -> None:
        """Record that the stage failed, on behalf of a process that could not record it itself.

        Raises:
            RunError: the folder is in use, or cannot be written.
        """
        files.make_folder(self.path)
        with self.lock():
            self.claim_recipe(recipe, upgrade)
            if not self.finished:
                self.set_status("failed", error=reason)

    def _begin(
        self, recipe: dict[str, Any], environment: dict[str, Any], resume: bool, upgrade: Upgrade | None
    ) -> None:
        begun = bool(self.status())
        self.claim_recipe(recipe, upgrade)
        if begun and not resume and not self.finished:
            raise RunError(
                f"{self.path} contains an unfinished run ({self.status().get('state')})",
                "add --resume to continue it, or give another folder with --out",
            )
        files.write_json(self.path / "environment.json", environment)
        self.set_status("running", error=None, **({} if begun else {"started": _now()}))

    def claim_recipe(self, recipe: dict[str, Any], upgrade: Upgrade | None = None) -> None:
        """Record the recipe that this folder belongs to; refuse another one, see `check_recipe`."""
        self.check_recipe(recipe, upgrade)
        files.write_text(self.path / "stage.yaml", yaml_text.dump(recipe))

    def check_recipe(self, recipe: dict[str, Any], upgrade: Upgrade | None = None) -> None:
        """Refuse a recipe other than the one this folder was begun with, naming the keys that differ.

        Args:
            recipe: what this stage depends on.
            upgrade: turns an older version's recipe into today's: a key that did not exist then has its default.
        """
        old = _read_yaml(self.path / "stage.yaml")
        if old and upgrade is not None and differences(old, recipe):
            old = upgrade(old)
        if old and (different := differences(old, recipe)):
            begun, now = ((each.get("init") or {}).get("parameters") for each in (old, recipe))
            if begun and now and begun != now:
                raise RunError(
                    f"{self.path} was begun with the network of another checkpoint (parameters {begun[:12]}…, "
                    f"not {now[:12]}…)",
                    "give another folder with --out",
                )
            raise RunError(
                f"{self.path} was begun with another recipe: {'; '.join(different)}",
                "use the recipe it was begun with, or give another folder with --out",
            )

    def environment(self) -> dict[str, Any]:
        """Return environment.json, or an empty dict."""
        return _read_json(self.path / "environment.json")

    @property
    def stage(self) -> str:
        """The stage the folder belongs to: train, adapt, traces or restore; "" if it was never started."""
        return str(_read_yaml(self.path / "stage.yaml").get("stage", ""))

    def recipe(self) -> dict[str, Any]:
        """Return recipe.yaml as plain data, or else what the stage depends on; {} if neither exists."""
        return _read_yaml(self.path / "recipe.yaml") or _read_yaml(self.path / "stage.yaml")


def find_runs(root: Path) -> list[RunFolder]:
    """Return every run folder at or below `root`, sorted by path.

    Raises:
        RunError: `root` does not exist.
    """
    if not root.is_dir():
        raise RunError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}", "give a folder of runs")
    return [RunFolder(path.parent) for path in sorted(root.rglob("stage.yaml"))]


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return a line for each key that differs, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if old == new else [f"{path} was {_short(old)}, is {_short(new)}"]


def _short(value: Any) -> Any:
    """Return a value as text; a SHA-256 is cut to its first digits."""
    return f"{value[:12]}…" if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with reading(path, "", RunError, _ANOTHER, says=False):
        value = json_value(read_bytes(path, _LARGEST))
    if not isinstance(value, dict):
        raise _damaged(path)
    return value


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with reading(path, "", RunError, _ANOTHER, says=False):
        value = yaml_text.parse(read_bytes(path, TEXT_LIMIT).decode("utf-8"))
    if not isinstance(value, dict) or not value:
        raise _damaged(path)
    return value


def _damaged(path: Path) -> RunError:
    return RunError(f"{path} is damaged", _ANOTHER)


def _process_lives(status: dict[str, Any]) -> bool:
    """Whether the process on this machine that wrote a status is still running."""
    try:
        process = psutil.Process(status["pid"])
        # Process numbers are reused: the process must be older than what it wrote (to the second).
        written = calendar.timegm(time.strptime(status["updated"], _TIME))
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() < written + 1)
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False
    except psutil.AccessDenied:
        return True


def _now() -> str:
    return time.strftime(_TIME, time.gmtime())
