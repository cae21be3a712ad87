"""Jobs on a Ray cluster: the same processes as on one machine, each inside a Ray task (extra `cluster`).

Where every node sees the run folders (one machine, or a shared file system) a job works in them. Where one does not,
what a job needs is sent along, it works in a folder of the node's own, and its run folder is fetched back when it ends.
"""

import io
import tarfile
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from hstnn_deploy import cluster, files
from hstnn_deploy.cluster import Node
from hstnn_deploy.errors import DeviceError, HstnnError
from hstnn_deploy.processes import GRACE
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.sweep.launch import Failure, Process, Setting
from hstnn_deploy.train.sweep.plan import Job
from hstnn_deploy.train.sweep.scheduler import Ended, Executor, Wanted


@dataclass
class _Running:
    job: Job
    cost: int
    hold: ExitStack = field(default_factory=ExitStack)
    """Holds the run folder here while the job works on it elsewhere."""


class Cluster(Executor):
    """Runs jobs as Ray tasks."""

    def __init__(
        self,
        setting: Setting,
        out: Path,
        *,
        address: str | None = None,
        cpus: int | None = None,
        gpus: Sequence[int] | None = None,
        per_gpu: int = 1,
        fetch: bool | None = None,
    ) -> None:
        """Connect to a cluster, or start one on this machine.

        Args:
            setting: see `Setting`.
            out: where the run folders are.
            address: HOST:PORT of a head, ray://HOST:PORT, or auto; None starts a head here.
            cpus: cores of that head (None: all).
            gpus: GPUs of that head, as torch counts here (None: all); of a cluster, () means that none is used.
            per_gpu: how many jobs share a GPU.
            fetch: whether run folders are sent and fetched back (None: where a node does not see `out`).

        Raises:
            UsageError: Ray is not installed, or the address is invalid.
            DeviceError: nothing answers there, or no node is large enough for a job.
        """
        here = setting.data_dir and setting.data_dir.absolute()
        self._setting, self._out, self._per_gpu = replace(setting, data_dir=here), out, per_gpu
        self._running: dict[Any, _Running] = {}
        self._failed: list[Ended] = []
        self._ray = cluster.connect(address, cpus=cpus, gpus=gpus)
        try:
            nodes = cluster.nodes(self._ray)
            self._on_gpu = any(node.gpus for node in nodes) and (gpus is None or len(gpus) > 0)
            self._check_room(nodes)
            self._remote = self._ray.remote(max_retries=0)(_work)
            self.fetch = fetch if fetch is not None else address is not None and not self._all_see_out(nodes)
        except BaseException:
            self.close()
            raise

    @property
    def places(self) -> int:
        """How many jobs may run at once, on the nodes that are there now."""
        total = self._ray.cluster_resources()
        by_cpu = int(total.get("CPU", 0)) // self._setting.threads
        return min(by_cpu, int(total.get("GPU", 0)) * self._per_gpu) if self._on_gpu else by_cpu

    @property
    @override
    def shares_gpus(self) -> bool:
        return self._on_gpu and self._per_gpu > 1

    @override
    def start(self, wanted: Sequence[Wanted]) -> list[tuple[Job, str]]:
        free = self.places - sum(running.cost for running in self._running.values())
        started = []
        for each in sorted(wanted, key=lambda one: not one.alone):
            cost = self._per_gpu if each.alone else 1
            if cost > free:
                break
            free -= cost
            started.append((each.job, "cluster"))
            try:
                self._submit(each, cost)
            except HstnnError as error:
                self._failed.append(Ended(each.job, Failure(error.message)))
        return started

    @override
    def wait(self, seconds: float) -> list[Ended]:
        found, self._failed = self._failed, []
        if found:
            return found
        if not self._running:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [Ended(self._running[reference].job, self._result(reference)) for reference in ready]

    @override
    def stop(self) -> None:
        """A fetched-back job loses what it has not finished."""
        cluster.stop(self._ray, list(self._running))
        for reference in list(self._running):
            self._result(reference)

    def close(self) -> None:
        """Leave the cluster; end it, where it was started here."""
        self._ray.shutdown()

    def _check_room(self, nodes: list[Node]) -> None:
        most = max((node.cpus for node in nodes), default=0)
        if most < self._setting.threads:
            raise DeviceError(
                f"--threads {self._setting.threads}: the largest node of the cluster has {most} CPU(s)",
                f"choose at most --threads {most}" if most else "give the head CPUs, such as --cpus 2",
            )

    def _all_see_out(self, nodes: list[Node]) -> bool:
        """Ask every node whether it sees the run folders."""
        sign = files.make_folder(self._out) / f".{uuid.uuid4().hex}.partial"
        sign.touch()
        try:
            return all(cluster.ask(self._ray, nodes, _sees, sign.absolute()))
        finally:
            sign.unlink(missing_ok=True)

    def _submit(self, wanted: Wanted, cost: int) -> None:
        job = replace(wanted.job, out=wanted.job.out.absolute())
        gpu = (1 if wanted.alone else 1 / self._per_gpu) if self._on_gpu else 0
        running, sent = _Running(wanted.job, cost), None
        if self.fetch:
            files.make_folder(job.run.path)
            running.hold.enter_context(job.run.lock())
            job.run.claim_recipe(job.recipe.for_stage(job.stage), job.recipe.upgraded)
            job.run.set_status("running", error=None)
            sent = pack([job.run, *_needed(job)], job.out)
        options = {"num_cpus": self._setting.threads, "num_gpus": gpu, "name": job.name}
        reference = self._remote.options(**options).remote(job, self._setting, self._on_gpu, sent)
        self._running[reference] = running

    def _result(self, reference: Any) -> Failure | None:
        """Take a task's end: its failure or None, its run folder where that is fetched."""
        running = self._running.pop(reference)
        run = running.job.run
        with running.hold:
            try:
                failure, fetched = self._ray.get(reference)
                if fetched is not None:
                    unpack(fetched, running.job.out)
                found: Failure | None = failure
                return found
            except self._ray.exceptions.TaskCancelledError:
                if self.fetch:
                    run.set_status("interrupted")
                return Failure("interrupted")
            except (self._ray.exceptions.RayError, HstnnError) as error:
                reason = f"Ray: {cluster.said(error)}"
        try:
            recipe = running.job.recipe
            run.record_failure(recipe.for_stage(running.job.stage), reason, recipe.upgraded)
        except HstnnError as error:
            return Failure(f"{reason}; {error.message}")
        return Failure(reason, "memory" if "OutOfMemory" in reason else "error")


def _work(job: Job, setting: Setting, on_gpu: bool, sent: bytes | None) -> tuple[Failure | None, bytes | None]:
    """Do a job, in a Ray worker; return its failure and, where its needs were sent, its run folder."""
    if sent is None:
        return _run(job, setting, on_gpu), None
    with files.temporary_folder("job") as folder:
        here = replace(job, out=folder)
        unpack(sent, here.out)
        # The run is unfinished and nobody works on it here: the status that was sent is that of its owner.
        (here.run.path / "status.json").unlink(missing_ok=True)
        failure = _run(here, setting, on_gpu)
        return failure, pack([here.run], here.out)


def _run(job: Job, setting: Setting, on_gpu: bool) -> Failure | None:
    cluster.heed_cancellations()
    try:
        # Ray has set which GPUs this process sees.
        process = Process(job, "cuda" if on_gpu else "cpu", setting, None if on_gpu else "cpu")
    except HstnnError as error:
        return Failure(error.message)
    try:
        while process.running:
            time.sleep(0.1)  # a worker that is told to stop sees that between two steps, not in a wait without end
        return process.wait()
    finally:  # also when the task is cancelled
        _stop(process)


def _stop(process: Process) -> None:
    """Let a job shut down. A repeated cancellation does not cut that short."""
    until = time.monotonic() + GRACE
    with suppress(KeyboardInterrupt):
        process.ask_to_stop()
    while time.monotonic() < until:
        with suppress(KeyboardInterrupt):
            if process.ended_within(until - time.monotonic()):
                break
    process.stop(0.0)


def _sees(path: Path) -> bool:
    return path.exists()


def _needed(job: Job) -> list[RunFolder]:
    """Return the run folders that a job reads beside its own."""
    if job.vat is not None:
        return [job.vat]
    return [replace(job, stage=stage).run for stage in ("adapt", "traces") if job.needs and stage != job.stage]


def pack(runs: Sequence[RunFolder], out: Path) -> bytes:
    """Return run folders as an archive, with their paths below `out`."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for run in runs:
            for path in sorted(run.path.iterdir()) if run.path.is_dir() else []:
                if path.is_file() and not path.name.startswith("."):
                    archive.add(path, str(path.relative_to(out)))
    return whole.getvalue()


def unpack(packed: bytes, out: Path) -> None:
    """Write the files of an archive below `out`, each whole, each status last.

    Raises:
        RunError: a file cannot be written.
    """
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = sorted(archive.getmembers(), key=lambda member: member.name.endswith("status.json"))
        for member in members:
            content = archive.extractfile(member)
            assert content is not None, "only files are packed"
            with files.atomic(out / member.name) as temporary:
                temporary.write_bytes(content.read())
