"""A job's process: `hstnn train` on the job's recipe, its output in the run folder, its end turned into a reason."""

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hstnn_deploy import files, processes
from hstnn_deploy.errors import HstnnError, Interrupted, OutOfMemoryError, RunError
from hstnn_deploy.processes import GRACE
from hstnn_deploy.train.sweep.plan import Job


@dataclass(frozen=True)
class Failure:
    """Why a job ended without its result, in one line."""

    reason: str
    kind: Literal["error", "memory", "busy"] = "error"
    """`memory`: host or GPU memory did not suffice. `busy`: another process works in the run folder."""


@dataclass(frozen=True)
class Setting:
    """What all jobs of a sweep have in common."""

    threads: int = 1
    """CPU threads of each: results depend on them, and on nothing else of where a job runs."""
    data_dir: Path | None = None


class Process:
    """One attempt at a job. It continues what earlier attempts left."""

    def __init__(self, job: Job, device: str, setting: Setting, visible: str | None) -> None:
        """Start it.

        Args:
            job: what to do.
            device: `cpu` or `cuda`.
            setting: see `Setting`.
            visible: the one device that the process is to see, `cpu` or `cuda:N`; None: what this process sees.

        Raises:
            RunError: the run folder cannot be written, or belongs to another recipe.
        """
        self.job = job
        run = job.run
        run.check_recipe(job.recipe.for_stage(job.stage), job.recipe.upgraded)
        recipe = run.path / "recipe.yaml"
        files.make_folder(run.path)
        files.write_text(recipe, job.recipe.yaml())
        words = ["train", str(recipe), *job.words, "--resume", "--device", device]
        words += ["--threads", str(setting.threads), "--out", str(job.out)]
        words += ["--data-dir", str(setting.data_dir)] if setting.data_dir else []
        words += ["--vat", str(job.vat.path)] if job.vat else []
        try:
            with run.log.open("a", encoding="utf-8") as log:
                print(f"$ {shlex.join(['hstnn', *words])}", file=log, flush=True)
                self._begin = log.tell()
                self._process = subprocess.Popen(
                    processes.command("cli.job", str(run.path), *words),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=processes.environment(visible) | _threads(setting.threads) | {"COLUMNS": "100"},
                    # Ctrl-C at the terminal reaches the sweep alone, which then ends its jobs in an orderly way.
                    start_new_session=True,
                )
        except OSError as error:
            raise files.cannot_write(run.log, error) from error

    def wait(self) -> Failure | None:
        """Wait for the end; return why it failed, after recording it in the run folder, or None."""
        return self._settled(self._process.wait())

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def ask_to_stop(self) -> None:
        """Let the process end as after Ctrl-C, keeping what is finished; return at once."""
        self._process.terminate()

    def stop(self, patience: float = GRACE) -> None:
        """End the process: let it shut down, or after `patience` seconds kill it."""
        try:
            self._process.terminate()
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()

    def ended_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end; return whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _settled(self, code: int) -> Failure | None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        run = self.job.run
        try:
            if run.finished:
                return None  # by this process or, if it found the folder in use, by another one
            if code == RunError.exit_code and run.in_use:
                return Failure("another process works in the run folder", "busy")
            failure = Failure(self._reason(code), "memory" if code == OutOfMemoryError.exit_code else "error")
            if code != Interrupted.exit_code:
                recipe = self.job.recipe
                run.record_failure(recipe.for_stage(self.job.stage), failure.reason, recipe.upgraded)
            return failure
        except HstnnError as error:
            return Failure(error.message)

    def _reason(self, code: int) -> str:
        with self.job.run.log.open("rb") as file:
            # A library may print a lot; the error is at the end.
            file.seek(max(self._begin, file.seek(0, os.SEEK_END) - 20_000))
            printed = file.read().decode(errors="replace")
        errors = [line for line in printed.splitlines() if line.startswith("error: ")]
        if code > 0 and errors:
            return errors[-1].removeprefix("error: ")
        return f"the process {processes.cause(code, printed) or 'ended without finishing the run'}"


def _threads(number: int) -> dict[str, str]:
    return {name: str(number) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def stop_all(running: list[Process], patience: float = GRACE) -> None:
    """End processes together; Ctrl-C meanwhile ends them by force."""
    try:
        for process in running:
            process.ask_to_stop()
        deadline = time.monotonic() + patience
        for process in running:
            process.stop(max(0.0, deadline - time.monotonic()))
    finally:
        for process in running:
            process.stop(0.0)
