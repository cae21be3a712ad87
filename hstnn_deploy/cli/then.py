"""`hstnn sweep --then`: measure the networks of a sweep after training.

Each network, with all its seeds, is measured in its own process: `hstnn robustness` on the sweep's devices, and
`hstnn profile` for the best seed, one process at a time, so that nothing disturbs it. Existing results are kept.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from hstnn_deploy import files, processes
from hstnn_deploy.cli.console import counted
from hstnn_deploy.cli.options import words
from hstnn_deploy.errors import HstnnError, Interrupted, SweepError, UsageError, nearest
from hstnn_deploy.processes import GRACE

if TYPE_CHECKING:
    from hstnn_deploy.report.collect import Run
    from hstnn_deploy.train.sweep.launch import Setting
    from hstnn_deploy.train.sweep.plan import Job

MEASURES = ("robustness", "profile")
_COSTS = ["--phases", "work,infer", "--engines", "onnxruntime", "--batch", "1", "--seconds", "5"]
"""What choosing a network needs: its work, and the time of a call of the deployed network."""
FOLDER = "then"
"""Below the folder of the runs: then/RECIPE/NETWORK/, where a report finds it."""


def asked(text: str | None) -> list[str]:
    """Return the measures in a list such as robustness,profile, in the order in which they run.

    Raises:
        UsageError: an unknown measure, or none.
    """
    found = [] if text is None else words(text)
    if text is not None and not found:
        raise UsageError("--then is empty", "give robustness, profile or both")
    for word in found:
        if word not in MEASURES:
            raise UsageError(
                f"--then {word!r} is unknown", f"{nearest(word, MEASURES)}; give robustness, profile or both"
            )
    return [each for each in MEASURES if each in found]


@dataclass
class _Trained:
    """A network and its seeds."""

    name: str
    folder: Path
    runs: "list[Run]"

    @property
    def ordered(self) -> "list[Run]":
        """The seeds, the best one first."""
        sign = -1 if self.runs[0].task.higher_is_better else 1
        return sorted(self.runs, key=lambda run: (sign * (run.value or 0.0), run.recipe.seed))


@dataclass
class After:
    """The measurements after a sweep."""

    jobs: "Sequence[Job]"
    out: Path
    setting: "Setting"
    devices: Sequence[str]
    """`cpu` or `cuda:N` for each process that may run at the same time."""
    say: Callable[[str], None]
    _running: set[subprocess.Popen[str]] = field(default_factory=set)
    _stopped: bool = False
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def run(self, measures: Sequence[str]) -> None:
        """Make the missing measurements.

        Raises:
            SweepError: a measurement failed; the others are made.
            Interrupted: after Ctrl-C; finished measurements are kept.
        """
        networks = self._networks()
        failed: list[str] = []
        try:
            for measure in measures:
                missing = [each for each in networks if not self._done(measure, each)]
                done = len(networks) - len(missing)
                self.say(f"then {measure}: {counted(len(networks), 'network')}, {done} already measured")
                failed += self._measured(measure, missing, done, len(networks))
        except KeyboardInterrupt:
            self._stop()
            raise Interrupted(
                "interrupted while measuring networks", "run the same command again to measure the rest"
            ) from None
        if failed:
            raise SweepError(f"{counted(len(failed), 'measurement')} failed: {failed[0]}", _AGAIN)

    def _networks(self) -> list[_Trained]:
        from hstnn_deploy.report.collect import read_run

        found: dict[Path, _Trained] = {}
        for job in self.jobs:
            run = read_run(job.run)
            if run is None or run.value is None or (job.stage == "adapt" and job.recipe.kind == "hybrid"):
                continue
            folder = self.out / FOLDER / run.recipe.name / str(run.network).replace(" ", "-")
            network = found.setdefault(folder, _Trained(f"{run.recipe.name} {run.network}", folder, []))
            network.runs.append(run)
        return list(found.values())

    def _measured(self, measure: str, missing: Sequence[_Trained], done: int, number: int) -> list[str]:
        """Measure some networks; return the reasons of failures."""
        # Only one timed process runs at a time.
        devices: SimpleQueue[str] = SimpleQueue()
        places = self.devices if measure == "robustness" else self.devices[:1]
        for device in places:
            devices.put(device)
        failed: list[str] = []
        pool = ThreadPoolExecutor(len(places))
        try:
            waiting = [(each, pool.submit(self._one, measure, each, devices)) for each in missing]
            for place, (each, result) in enumerate(waiting, done + 1):
                why = result.result()
                self.say(f"[{place}/{number}] {measure} of {each.name}: {why or 'measured'}")
                if why:
                    failed.append(f"{measure} of {each.name}: {why}")
        except KeyboardInterrupt:
            self._stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return failed

    def _one(self, measure: str, network: _Trained, devices: "SimpleQueue[str]") -> str:
        device = devices.get()
        try:
            return self._process(self._words(measure, network, device), device)
        except HstnnError as error:
            return error.message
        finally:
            devices.put(device)

    def _words(self, measure: str, network: _Trained, device: str) -> list[str]:
        setting, folder = self.setting, files.make_folder(network.folder)
        data = ["--data-dir", str(setting.data_dir)] if setting.data_dir else []
        best = [str(run.path / "best.pt") for run in network.ordered]
        if measure == "robustness":
            chosen = [word for path in [*best, *self._measured_before(network)] for word in ("--ckpt", path)]
            words = [*chosen, "--device", "cpu" if device == "cpu" else "cuda", "--threads", str(setting.threads)]
            return ["robustness", *words, *data, "--out", str(folder / "robustness.json")]
        gpus = "none" if device == "cpu" else "0"
        words = [*_COSTS, "--gpus", gpus, *data, "--out", str(folder), "--resume"]
        return ["profile", "--ckpt", best[0], *words]

    def _measured_before(self, network: _Trained) -> list[str]:
        """Return the checkpoints of other seeds that an earlier sweep measured, to keep their results."""
        from hstnn_deploy.checkpoint import Checkpoint
        from hstnn_deploy.robustness.record import read

        try:
            before = read(network.folder / "robustness.json").networks
            seeds = {run.recipe.seed for run in network.runs}
            others = [each for each in before if each.seed not in seeds and Path(each.source).exists()]
            return [each.source for each in others if Checkpoint.load(Path(each.source)).fingerprint == each.parameters]
        except HstnnError:
            return []

    def _process(self, command: list[str], device: str) -> str:
        """Run one of our commands; return why it failed, or ""."""
        # Its standard input closes when this process ends, even after kill -9.
        theirs, ours = os.pipe()
        try:
            with self._starting:
                if self._stopped:
                    return "interrupted"
                process = subprocess.Popen(
                    processes.command("cli.measurement", *command),
                    stdin=theirs,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=processes.environment(device),
                    text=True,
                    errors="replace",
                    # Ctrl-C at the terminal reaches the sweep alone, which then ends them.
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                _, printed = process.communicate()
            finally:
                self._running.discard(process)
        finally:
            os.close(theirs)
            os.close(ours)
        said = [line.removeprefix("error: ") for line in printed.splitlines() if line.startswith("error: ")]
        return said[-1] if process.returncode and said else processes.cause(process.returncode, printed)

    def _stop(self) -> None:
        with self._starting:
            self._stopped = True
        for process in list(self._running):
            process.terminate()
        for process in list(self._running):
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()

    def _done(self, measure: str, network: _Trained) -> bool:
        """Whether these checkpoints are measured already."""
        from hstnn_deploy.checkpoint import Checkpoint
        from hstnn_deploy.profile.records import read as read_records
        from hstnn_deploy.robustness.record import read

        best = [run.path / "best.pt" for run in network.ordered]
        try:
            if measure == "profile":
                records, ours = read_records(network.folder / "records.jsonl"), files.sha256(best[0])
                own = [each for each in records if each.configuration.ckpt_sha256 == ours]
                # After a kill, only one of the two may be there.
                return {each.configuration.phase for each in own if each.status != "failed"} >= {"work", "infer"}
            measured = read(network.folder / "robustness.json").networks
            return {each.parameters for each in measured} >= {Checkpoint.load(path).fingerprint for path in best}
        except HstnnError:
            return False


_AGAIN = "run the same command again to measure what is missing"
