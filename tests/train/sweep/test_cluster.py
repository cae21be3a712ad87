"""Sweeps on a real Ray of 2 CPUs, started here: the same bits, in place or fetched back; and stopping."""

import importlib.util
import io
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hstnn_deploy.errors import DeviceError, UsageError
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from hstnn_deploy.train.sweep.cluster import Cluster, pack, unpack
from hstnn_deploy.train.sweep.launch import Setting
from hstnn_deploy.train.sweep.plan import plan
from hstnn_deploy.train.sweep.scheduler import Scheduler, Wanted
from tests.conftest import PATIENCE, TINY, let_ray_start, settings
from tests.contents import contents

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'hstnn-deploy[cluster]'"
)


@pytest.fixture(scope="module")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        let_ray_start(patch)
        cluster = Cluster(Setting(), tmp_path_factory.mktemp("ray"), cpus=2)
        yield cluster
        cluster.close()


@needs_ray
def test_a_plan_on_ray_gives_what_training_by_hand_gives(ray_here: Cluster, tmp_path: Path) -> None:
    assert ray_here.places == 2
    hybrid, pure = (load_recipe("digits", [*settings(TINY), f"kind={kind}"]) for kind in ("hybrid", "rnn"))
    train(pure, tmp_path / "hand")
    shared = Scheduler(plan([pure], tmp_path / "shared"))
    shared.run(ray_here)
    assert contents(tmp_path / "shared") == contents(tmp_path / "hand")

    # Its adaptation and traces are there, and are sent along.
    train(hybrid, tmp_path / "hand")
    shutil.copytree(tmp_path / "hand/digits/hybrid", tmp_path / "fetched/digits/hybrid")
    shutil.rmtree(tmp_path / "fetched/digits/hybrid/seed1111/ratio-0.5")
    fetched = Scheduler(plan([hybrid], tmp_path / "fetched"))
    ray_here.fetch = True
    fetched.run(ray_here)
    ray_here.fetch = False
    assert [entry.attempts for entry in fetched.entries] == [0, 0, 1]
    assert {entry.state for entry in [*fetched.entries, *shared.entries]} == {"done"}
    assert contents(tmp_path / "fetched/digits/hybrid") == contents(tmp_path / "hand/digits/hybrid")


@pytest.mark.matrix
@needs_ray
def test_failures_come_back_and_stopping_ends_the_process(ray_here: Cluster, tmp_path: Path) -> None:
    changes = ["kind=snn", "adapt.epochs=100000", "batch=50"]
    (long,) = plan([load_recipe("digits", [*settings(TINY), *changes])], tmp_path)
    (bad,) = plan([load_recipe("digits", [*settings(TINY), "kind=rnn"])], tmp_path)
    bad.run.path.mkdir(parents=True)
    bad.run.last.write_text("no checkpoint")
    assert len(ray_here.start([Wanted(long, False), Wanted(bad, False)])) == 2
    found, patience = ray_here.wait(60), time.monotonic() + PATIENCE
    while not found or not long.run.status().get("epoch"):
        assert time.monotonic() < patience
        found += ray_here.wait(0.1)
    assert [(ended.job.name, ended.failure and ended.failure.reason) for ended in found] == [
        ("digits/rnn/seed1111", f"{bad.run.last} is not a checkpoint")
    ]
    assert bad.run.state == "failed"
    pid = long.run.status()["pid"]
    ray_here.stop()
    while psutil.pid_exists(pid):
        assert time.monotonic() < patience
        time.sleep(0.05)
    assert long.run.state == "interrupted"


def test_run_folders_travel_whole_and_without_locks(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "here/digits/rnn/seed1")
    run.path.mkdir(parents=True)
    for name, content in {"status.json": "{}", "best.pt": "weights", ".lock": "", ".x.partial": "half"}.items():
        (run.path / name).write_text(content)
    packed = pack([run, RunFolder(tmp_path / "here/absent")], tmp_path / "here")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.getnames() == ["digits/rnn/seed1/best.pt", "digits/rnn/seed1/status.json"]
    unpack(packed, tmp_path / "there")
    assert (tmp_path / "there/digits/rnn/seed1/best.pt").read_text() == "weights"


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs Ray, which is not installed") as refused:
        Cluster(Setting(), tmp_path)
    assert "hstnn-deploy[cluster]" in refused.value.hint


@needs_ray
@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("127.0.0.1:9", DeviceError, "nothing answers at --address 127.0.0.1:9: Connection refused"),
        ("ray://127.0.0.1:9", DeviceError, "nothing answers"),
        ("no-such-host.invalid:6379", DeviceError, "nothing answers"),
        ("somewhere", UsageError, "'somewhere' is not an address"),
        ("host:99999", UsageError, "is not an address"),
    ],
)
def test_an_address_where_nothing_is(address: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        Cluster(Setting(), tmp_path, address=address)
