"""Measuring on the nodes of a Ray cluster: the same fresh processes, started there by a Ray task (extra `cluster`).

What is measured has a whole node, all its cores and GPUs, so that no neighbour disturbs it: each node measures one
configuration at a time (or those that are measured together), several nodes several. A checkpoint's content is sent
along; a data set must be there.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Self

import hstnn_deploy
from hstnn_deploy import cluster, files
from hstnn_deploy.cluster import Node
from hstnn_deploy.errors import DeviceError, HstnnError, UsageError
from hstnn_deploy.profile.plan import memory
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.run import fitting, launch

_LOOK_EVERY = 0.5
"""Seconds; Ctrl-C waits as long at most."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Ray sets some of these for its workers; what is measured has them as they are here."""

_GONE = {"NodeDiedError", "LocalRayletDiedError", "TaskUnschedulableError"}
"""What Ray raises of a node that it may still list for a while."""


class Nodes:
    """The nodes of a cluster that measure."""

    def __init__(self, address: str | None) -> None:
        """Connect to a cluster, or start one on this machine; see `hstnn_deploy.cluster.connect`.

        Raises:
            UsageError: Ray is not installed, or the address is wrong, or that of Ray's client, which cannot return
                one record after another.
            DeviceError: nothing answers there; no node has cores; or one lacks hstnn-deploy, or has another version.
        """
        if address and address.startswith("ray://"):
            raise UsageError(
                f"--address {address}: hstnn cannot measure through Ray's client",
                "run this on a machine of the cluster, with HOST:PORT or auto",
            )
        # Where memory is nearly full, Ray would end the task: what is measured there fails by itself, and says so.
        self._ray = cluster.connect(address, variables={"RAY_memory_monitor_refresh_ms": "0"})
        try:
            self.nodes = [node for node in cluster.nodes(self._ray) if node.cpus]
            if not self.nodes:
                hint = "start its nodes without --num-cpus 0"
                raise DeviceError("no node of the cluster has CPUs to measure on", hint)
            self._check_versions()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; end it, where it was started here."""
        self._ray.shutdown()

    @property
    def gpus(self) -> int:
        """How many GPUs the node with the most of them has."""
        return max(node.gpus for node in self.nodes)

    def _check_versions(self) -> None:
        try:
            found = cluster.ask(self._ray, self.nodes, _version)
        except self._ray.exceptions.RayError as error:
            raise DeviceError(
                f"a node of the cluster cannot run hstnn-deploy: {cluster.said(error)}",
                f"install hstnn-deploy {hstnn_deploy.__version__} there, with the same Python",
            ) from error
        for node, version in zip(self.nodes, found, strict=True):
            if version != hstnn_deploy.__version__:
                raise DeviceError(
                    f"node {node.name} has hstnn-deploy {version}, and this machine has {hstnn_deploy.__version__}",
                    "install the same version on all nodes",
                )

    def run(
        self,
        configurations: Sequence[Configuration],
        observer: launch.Observer | None = None,
        time_limit: float = launch.TIME_LIMIT,
        find_batch: bool = False,
    ) -> Iterator[Record]:
        """Measure configurations, or search for their largest batches; yield the records in order.

        At Ctrl-C what is under way is ended, and what other nodes have finished out of order is yielded first.

        Args:
            configurations: see `launch.run`, or `fitting.run`.
            observer: is told what is going on.
            time_limit: seconds that one process may take, start included.
            find_batch: whether to search.
        """
        work = _Work(self._ray, self.nodes, configurations, observer or launch.Observer(), time_limit, find_batch)
        number = 0
        try:
            while number < len(configurations):
                work.start()
                work.look()
                while number in work.records:
                    yield work.records[number]
                    number += 1
        except KeyboardInterrupt:
            work.stop()
            yield from (record for place, record in sorted(work.records.items()) if place >= number)
            raise
        finally:
            work.stop()


class _Share(NamedTuple):
    """Configurations that one node measures one after another."""

    first: int
    """The place of the first of them in the plan."""
    configurations: Sequence[Configuration]

    @property
    def gpus(self) -> int:
        """How many GPUs a node must have."""
        devices = {name for each in self.configurations for name in (each.device, *each.at_once)}
        return max((int(name.removeprefix("cuda:")) + 1 for name in devices if name != "cpu"), default=0)


def shares(configurations: Sequence[Configuration], find_batch: bool = False) -> list[_Share]:
    """Return what is given to the nodes: what is measured together, or stands on the same export, is one share."""

    def common(numbered: tuple[int, Configuration]) -> str:
        number, each = numbered
        if find_batch:
            return str(number)
        return launch.preparation(each) + each.device if each.phase == "infer" and not each.at_once else each.together

    found = []
    for _, members in groupby(enumerate(configurations), key=common):
        places, some = zip(*members, strict=True)
        found.append(_Share(places[0], some))
    return found


@dataclass
class _Running:
    share: _Share
    node: Node
    done: int = 0
    """How many of the share are measured."""
    began: float = 0.0

    @property
    def current(self) -> Configuration:
        return self.share.configurations[self.done]


class _Work:
    """What is to be measured, is being measured, and has been."""

    def __init__(
        self,
        ray: Any,
        nodes: Sequence[Node],
        configurations: Sequence[Configuration],
        observer: launch.Observer,
        time_limit: float,
        find_batch: bool,
    ) -> None:
        self.records: dict[int, Record] = {}
        """By place in the plan."""
        self._ray, self._nodes, self._observer, self._total = ray, list(nodes), observer, len(configurations)
        self._waiting = shares(configurations, find_batch)
        self._running: dict[Any, _Running] = {}
        self._options = (time_limit, find_batch, {name: os.environ.get(name) for name in _THREADS})
        self._remote = ray.remote(max_retries=0, num_returns="streaming")(measure_there)
        self._sent: dict[str, Any] = {}

    def start(self) -> None:
        """Give every node that is free the first share that it can do; fail those that no node can."""
        for share in list(self._waiting):
            busy = {running.node.address for running in self._running.values()}
            free = [node for node in self._nodes if node.address not in busy and node.gpus >= share.gpus]
            if not any(node.gpus >= share.gpus for node in self._nodes):
                self._waiting.remove(share)
                why = f"no node with {share.gpus} GPUs is left" if share.gpus else "no node is left"
                self._fail(share, f"{why} in the cluster")
            elif free:
                self._waiting.remove(share)
                self._submit(share, free[0])

    def look(self) -> None:
        """Wait a little for news of what is running."""
        ready, _ = self._ray.wait(list(self._running), timeout=_LOOK_EVERY) if self._running else ([], [])
        for generator in ready:
            running = self._running[generator]
            try:
                self._take(running, self._ray.get(next(generator)))
            except StopIteration:
                del self._running[generator]
            except (self._ray.exceptions.RayError, HstnnError) as error:
                del self._running[generator]
                self._lost(running, error)

    def stop(self) -> None:
        """End what is running."""
        cluster.stop(self._ray, [generator.completed() for generator in self._running])
        self._running.clear()

    def _submit(self, share: _Share, node: Node) -> None:
        first = share.configurations[0]
        if first.ckpt and first.ckpt not in self._sent:
            try:
                self._sent[first.ckpt] = self._ray.put(Path(first.ckpt).read_bytes())
            except OSError as error:
                self._fail(share, f"{first.ckpt} cannot be read: {error.strerror}")
                return
        whole = {"num_cpus": node.cpus, "num_gpus": node.gpus, "scheduling_strategy": cluster.on(node)}
        task = self._remote.options(**whole, name=first.label)
        sent = self._sent[first.ckpt] if first.ckpt else None
        self._running[task.remote(share.configurations, sent, *self._options)] = _Running(share, node)
        self._observer.started(f"waiting for node {node.name} to be free", share.first + 1, self._total)

    def _take(self, running: _Running, record: Record | None) -> None:
        """Take a record, or the news that measuring has begun."""
        if record is not None:
            place = running.share.first + running.done
            # A message about the node's own folder means nothing here.
            facts = {**record.facts, "node": running.node.name, **launch.told(running.current)}
            self.records[place] = replace(record, configuration=running.current, facts=facts)
            self._observer.finished(self.records[place], place + 1, self._total, time.monotonic() - running.began)
            running.done += 1
        running.began = time.monotonic()
        if running.done < len(running.share.configurations):
            what = f"{running.current.label} on {running.node.name}"
            self._observer.started(what, running.share.first + running.done + 1, self._total)

    def _lost(self, running: _Running, error: Exception) -> None:
        """Fail what was being measured when a task ended before its time; what stands behind it is measured yet."""
        share, node, done = running.share, running.node, running.done
        if type(error).__name__ in _GONE or node.number not in [each.number for each in cluster.nodes(self._ray)]:
            self._nodes.remove(node)
            if not running.began:
                self._waiting.insert(0, share)  # another node may still measure it
                return
            reason = f"node {node.name} was lost during this measurement"
        else:
            reason = f"on node {node.name}: {cluster.said(error)}"
        left = share.configurations[done:]
        together = sum(each.together == left[0].together for each in left) if left else 0
        self._fail(_Share(share.first + done, left[:together]), reason, {"node": node.name})
        if left[together:]:
            self._waiting.insert(0, _Share(share.first + done + together, left[together:]))

    def _fail(self, share: _Share, reason: str, facts: dict[str, Any] | None = None) -> None:
        for place, each in enumerate(share.configurations, share.first):
            self.records[place] = Record(each, "failed", facts={**(facts or {}), **launch.told(each)}, reason=reason)
            self._observer.finished(self.records[place], place + 1, self._total, 0.0)


def measure_there(
    configurations: Sequence[Configuration],
    ckpt: bytes | None,
    time_limit: float,
    find_batch: bool,
    variables: dict[str, str | None],
) -> Iterator[Record | None]:
    """Measure configurations in fresh processes, on the node where this is called; yield None, then the records.

    Args:
        configurations: a share of the plan.
        ckpt: the bytes of their checkpoint.
        time_limit: see `launch.run`.
        find_batch: whether to search for the largest batches.
        variables: environment variables of the processes; None: without it.
    """
    cluster.heed_cancellations()
    yield None
    with files.temporary_folder("node") as folder:
        here = configurations
        if ckpt is not None:
            path = folder / "best.pt"
            path.write_bytes(ckpt)
            here = [replace(each, ckpt=str(path)) for each in configurations]
        for name, value in variables.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
        _order_gpus()
        try:
            for each in here:
                memory.check(each, each.instances)
        except HstnnError as error:
            yield from (Record(each, "failed", reason=error.message) for each in here)
            return
        measure: Callable[..., Iterator[Record]] = fitting.run if find_batch else launch.run
        yield from measure(here, time_limit=time_limit)


def _order_gpus() -> None:
    """Let GPU numbers be those of the node, in whatever order Ray named them."""
    numbers = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    with contextlib.suppress(ValueError):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, sorted(map(int, numbers))))


def _version() -> str:
    return hstnn_deploy.__version__
