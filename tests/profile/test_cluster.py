"""Measuring on a cluster: through the command line on a real Ray started here; and what is lost, on a pretended one."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hstnn_deploy import cluster
from hstnn_deploy.errors import DeviceError, UsageError
from hstnn_deploy.profile.plan import memory
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.records import read
from hstnn_deploy.profile.run import cluster as measuring
from hstnn_deploy.profile.run import fitting, launch
from hstnn_deploy.profile.run.cluster import Nodes, measure_there, shares
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, Hstnn, let_ray_start, settings
from tests.profile.conftest import configured, measured

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'hstnn-deploy[cluster]'"
)


@pytest.mark.matrix
@needs_ray
def test_a_checkpoint_is_measured_on_a_node_as_it_is_here(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_ray_start(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (run,) = train(load_recipe("digits", [*settings(TINY), "kind=rnn"]), tmp_path)
    out = tmp_path / "out"
    words = ["--phases", "work,infer", "--engines", "onnxruntime", "--batch", "1,7", "--seconds", "0.1"]
    words += ["--gpus", "none", "--executor", "ray", "--out", str(out)]
    result = hstnn("profile", "--ckpt", run.best, *words)
    assert result.code == 0, result.err
    assert "Machine, node " in result.out
    work, *infer = read(out / "records.jsonl")
    assert [each.status for each in (work, *infer)] == ["measured"] * 3
    assert [(each.configuration.phase, each.configuration.batch) for each in infer] == [("infer", 1), ("infer", 7)]
    for record in (work, *infer):
        assert record.configuration.ckpt == str(run.best)
        assert record.facts["node"]
        assert record.facts["command"][:2] == ["hstnn", "profile"]
        assert record.facts["cores"] == os.cpu_count()
    assert work.value("checkpoint_bytes").plain()["value"] == run.best.stat().st_size
    assert infer[0].facts["runs_on"] == "CPUExecutionProvider"
    # Nothing is left to do, and nothing is done again.
    again = hstnn("profile", "--ckpt", run.best, *words[:-4], "--out", out, "--resume")
    assert again.code == 0, again.err
    assert read(out / "records.jsonl") == [work, *infer]


class NodeDiedError(Exception):
    """What Ray raises, by its name."""


class FakeRay:
    """Two nodes whose tasks run when they are waited for, a step each; nodes and tasks can be lost."""

    exceptions = SimpleNamespace(RayError=Exception)

    def __init__(self, gpus: Sequence[int] = (0, 0)) -> None:
        self.there = {f"n{number}": count for number, count in enumerate(gpus)}
        self.lost: dict[str, list[Exception]] = {}
        """By node, what its next records are lost by."""
        self.dead: set[str] = set()
        """Nodes that are listed and do not run what they are given."""
        self.submitted: list[dict[str, Any]] = []
        self.cancelled: list[Any] = []
        self.turns = 0
        self.interrupt_at: int | None = None

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": name,
                "NodeManagerHostname": f"host-{name}",
                "NodeManagerAddress": f"10.0.0.{name[1:]}",
                "Alive": True,
                "Resources": {"CPU": 4.0, "GPU": float(gpus)} if gpus else {"CPU": 4.0},
            }
            for name, gpus in self.there.items()
        ]

    def shutdown(self) -> None:
        pass

    def put(self, content: bytes) -> bytes:
        return content

    def get(self, found: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found

    def remote(self, **_: Any) -> Callable[[Any], Any]:
        def task(function: Any) -> Any:
            def options(**given: Any) -> Any:
                def start(*words: Any) -> Any:
                    if not given.get("num_cpus"):
                        return function(*words)
                    self.submitted.append(given)
                    return Task(self, given["scheduling_strategy"], function(*words))

                return SimpleNamespace(remote=start)

            return SimpleNamespace(options=options)

        return task

    def wait(self, running: list[Any], num_returns: int = 1, timeout: float = 0) -> tuple[list[Any], list[Any]]:
        if num_returns > 1 or not isinstance(running[0], Task):
            return running, []
        self.turns += 1
        if self.turns == self.interrupt_at:
            raise KeyboardInterrupt
        # The node that began last is the quickest.
        return [running[-1]], running[:-1]

    def cancel(self, task: Any, force: bool) -> None:
        self.cancelled.append(task)


class Task:
    """A generator of results on a node."""

    def __init__(self, ray: FakeRay, node: str, results: Iterator[Any]) -> None:
        self.ray, self.node, self.results, self.begun = ray, node, results, False

    def __next__(self) -> Any:
        if self.node in self.ray.dead:
            return NodeDiedError("gone")
        if self.begun and (errors := self.ray.lost.get(self.node)):
            return errors.pop(0)
        self.begun = True
        return next(self.results)

    def completed(self) -> str:
        return self.node


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """A pretended cluster, on which nothing is really measured."""
    fake = FakeRay()
    monkeypatch.setattr(cluster, "connect", lambda *_, **__: fake)
    monkeypatch.setattr(cluster, "on", lambda node: node.number)

    def run(configurations: Sequence[Configuration], time_limit: float) -> Iterator[Record]:
        return (measured(each) for each in configurations)

    monkeypatch.setattr(launch, "run", run)
    return fake


def trainings(tiny: Recipe, count: int, **options: Any) -> list[Configuration]:
    return plan([tiny], phases=["train"], gpus=[None], threads=range(1, count + 1), **options)


def test_every_measurement_has_a_whole_node_and_records_come_in_order(tiny: Recipe, ray: FakeRay) -> None:
    planned = trainings(tiny, 4)
    told: list[int] = []

    class Listener(launch.Observer):
        def finished(self, record: Record, number: int, total: int, seconds: float) -> None:
            told.append(number)

    with Nodes("auto") as nodes:
        records = list(nodes.run(planned, Listener()))
    assert [record.configuration for record in records] == planned
    assert told == [2, 3, 4, 1]
    assert [each["scheduling_strategy"] for each in ray.submitted] == ["n0", "n1", "n1", "n1"]
    assert {(each["num_cpus"], each["num_gpus"]) for each in ray.submitted} == {(4, 0)}
    assert [record.facts["node"] for record in records] == ["host-n0", "host-n1", "host-n1", "host-n1"]
    assert all(record.facts["command"] == sys.argv for record in records)


def test_a_machine_that_pretends_to_be_two_nodes_measures_one_thing_at_a_time(
    tiny: Recipe, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ray.nodes()
    monkeypatch.setattr(ray, "nodes", lambda: [{**each, "NodeManagerAddress": "10.0.0.1"} for each in found])
    with Nodes("auto") as nodes:
        assert len(list(nodes.run(trainings(tiny, 3)))) == 3
    assert [each["scheduling_strategy"] for each in ray.submitted] == ["n0"] * 3


def test_a_lost_node_fails_what_it_measured_and_the_others_do_the_rest(tiny: Recipe, ray: FakeRay) -> None:
    ray.lost["n1"] = [NodeDiedError("gone")]
    planned = trainings(tiny, 2, instances=2)
    with Nodes("auto") as nodes:
        records = list(nodes.run([*planned, *trainings(tiny, 3)]))
    # Both instances: one alone is no measurement of two.
    reason = "node host-n1 was lost during this measurement"
    assert [record.reason for record in records] == ["", "", reason, reason, "", "", ""]
    assert [record.status for record in records[2:4]] == ["failed"] * 2
    assert [record.facts["node"] for record in records] == ["host-n0"] * 2 + ["host-n1"] * 2 + ["host-n0"] * 3


def test_what_a_dead_node_never_began_is_measured_on_another(tiny: Recipe, ray: FakeRay) -> None:
    ray.dead = {"n1"}
    with Nodes("auto") as nodes:
        records = list(nodes.run(trainings(tiny, 3)))
    assert [(record.status, record.facts["node"]) for record in records] == [("measured", "host-n0")] * 3


def test_nothing_is_measured_through_rays_client() -> None:
    with pytest.raises(UsageError, match="ray://head:10001: hstnn cannot measure through Ray's client"):
        Nodes("ray://head:10001")


def test_where_no_node_is_left_every_record_says_so(tiny: Recipe, ray: FakeRay) -> None:
    ray.there = {"n0": 0}
    ray.lost["n0"] = [NodeDiedError("gone")]
    with Nodes("auto") as nodes:
        records = list(nodes.run(trainings(tiny, 3)))
    assert records[0].reason == "node host-n0 was lost during this measurement"
    assert {record.reason for record in records[1:]} == {"no node is left in the cluster"}


def test_a_task_that_breaks_fails_what_it_measured_alone(tiny: Recipe, ray: FakeRay) -> None:
    ray.there = {"n0": 0}
    broken = Exception("a traceback of\nmany lines")
    broken.cause = OSError("no space")  # type: ignore[attr-defined]
    ray.lost["n0"] = [broken]
    planned = plan([tiny], phases=["infer"], engines=["eager", "fused"], batches=[1, 2], gpus=[None])
    with Nodes("auto") as nodes:
        records = list(nodes.run(planned))
    assert [record.reason for record in records] == ["on node host-n0: OSError: no space", "", "", ""]
    assert len(ray.submitted) == 2


def test_ctrl_c_keeps_what_is_finished_out_of_order(tiny: Recipe, ray: FakeRay) -> None:
    # Turns 1 to 3 begin, measure and end the second training; then the third has begun beside the first.
    ray.interrupt_at = 4
    planned = trainings(tiny, 4)
    found: list[Record] = []

    def collect(records: Iterator[Record]) -> None:
        for record in records:
            found.append(record)

    with Nodes("auto") as nodes, pytest.raises(KeyboardInterrupt):
        collect(nodes.run(planned))
    assert [record.configuration for record in found] == [planned[1]]
    assert set(ray.cancelled) == {"n0", "n1"}


def test_gpu_numbers_are_those_of_a_node(tiny: Recipe, ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.there = {"n0": 0, "n1": 1, "n2": 2}
    with Nodes("auto") as nodes:
        assert nodes.gpus == 2
        planned = plan([tiny], phases=["work", "train"], gpus=[1, 0, None], cluster_gpus=nodes.gpus)
        records = list(nodes.run(planned))
    where = {
        (record.configuration.phase, *(record.configuration.at_once or [record.configuration.device]))
        for record in records
    }
    assert ("train", "cuda:1", "cuda:0") in where
    needs_two = [each for each in records if each.configuration.device == "cuda:1" or each.configuration.at_once]
    assert {record.facts["node"] for record in needs_two} == {"host-n2"}
    assert all(record.facts["node"] != "host-n0" for record in records if record.configuration.device == "cuda:0")
    with pytest.raises(DeviceError, match="GPU 2 was requested, but no node of the cluster has more than 2"):
        plan([tiny], gpus=[2], cluster_gpus=2)
    with pytest.raises(DeviceError, match="no node of the cluster has a GPU"):
        plan([tiny], gpus=[0], cluster_gpus=0)
    assert plan([tiny], phases=["train"], cluster_gpus=1)[0].device == "cuda:0"
    (on_cpu,) = plan([tiny], phases=["train"], cluster_gpus=0)
    assert on_cpu.no_cuda == "measured on the CPU: no node of the cluster has a GPU"


def test_what_stands_on_one_export_is_one_share_and_a_search_is_one_by_itself(tiny: Recipe) -> None:
    options: dict[str, Any] = {"gpus": [None], "engines": ["eager", "fused"], "batches": [1, 2]}
    planned = plan([tiny], kinds=["rnn", "snn"], phases=["train", "infer"], instances=2, **options)
    counts = [(share.first, len(share.configurations)) for share in shares(planned)]
    assert counts == [(0, 2), (2, 8), (10, 2), (12, 8)]
    searched = fitting.searches(plan([tiny], phases=["train", "infer"], **options))
    assert [len(share.configurations) for share in shares(searched, find_batch=True)] == [1] * len(searched)


def test_a_node_works_with_the_checkpoint_and_environment_that_were_sent(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = train(tiny, tmp_path, stage="adapt")
    (asked,) = plan(ckpt=run.best, phases=["train"], gpus=[None])
    content = run.best.read_bytes()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0,1")
    seen: list[tuple[bytes, Any]] = []

    def measure(configurations: Sequence[Configuration], time_limit: float) -> Iterator[Record]:
        for each in configurations:
            assert each.ckpt is not None
            assert each.ckpt != str(run.best)
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
            seen.append((Path(each.ckpt).read_bytes(), [os.environ.get(name) for name in names]))
            yield measured(each)

    monkeypatch.setattr(launch, "run", measure)
    first, record = measure_there([asked], content, 1.0, False, {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": None})
    assert first is None
    assert record is not None
    assert seen == [(content, ["3", None, "0,1,2"])]


def test_instances_that_a_node_cannot_hold_are_failed_rows(tiny: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = [replace(configured(tiny, "train"), instance=number, instances=9) for number in range(1, 10)]
    monkeypatch.setattr(memory, "free", lambda: memory._TORCH)
    _, *records = measure_there(planned, None, 1.0, False, {})
    assert len(records) == 9
    assert records[0] is not None
    assert "9 instances of digits need at least" in records[0].reason


def test_nodes_without_hstnn_deploy_or_with_another_one_are_refused(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_version", lambda: "0.0.1")
    with pytest.raises(DeviceError, match=r"node host-n0 has hstnn-deploy 0\.0\.1, and this machine has"):
        Nodes("auto")

    def absent() -> str:
        raise ModuleNotFoundError("No module named 'hstnn_deploy'")

    monkeypatch.setattr(measuring, "_version", absent)
    with pytest.raises(DeviceError, match="a node of the cluster cannot run hstnn-deploy: No module named"):
        Nodes("auto")
    ray.there = {}
    with pytest.raises(DeviceError, match="no node of the cluster has CPUs"):
        Nodes("auto")


def test_what_the_command_line_refuses(hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        result = hstnn("profile", "digits", "--phases", "train", "--gpus", "none", "--executor", "ray")
    assert (result.code, result.error) == (2, "--executor ray needs Ray, which is not installed")
    assert "hstnn-deploy[cluster]" in result.hint
    if importlib.util.find_spec("ray") is not None:
        result = hstnn("profile", "digits", "--executor", "ray", "--address", "127.0.0.1:9")
        assert (result.code, result.error[:43]) == (6, "nothing answers at --address 127.0.0.1:9: C")
