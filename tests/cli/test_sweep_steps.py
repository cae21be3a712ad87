"""Sweeps of weights on devices through the command line: four steps of every point, which share what they can."""

import json
import shutil
from pathlib import Path

import pytest

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.stages import train
from hstnn_deploy.train.sweep.plan import plan
from hstnn_deploy.train.sweep.points import Sweep
from tests.conftest import Hstnn

CHANGES = ["train.epochs=1", "train.batches=3", "finetune.epochs=1", "finetune.batches=3"]
FEW: list[str | Path] = [word for change in CHANGES for word in ("--set", change)]
BITS = "network.weights.bits"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vat of a sweep over two bit widths, trained in this process, for one of them."""
    out = tmp_path_factory.mktemp("swept")
    jobs = plan(Sweep(recipe="rram-digits", axes={BITS: [1, 4]}).recipes("x", CHANGES, "vat"), out)
    train(jobs[1].recipe, out, stage=jobs[1].argument)
    return out


def test_a_sweep_knows_what_is_done_and_what_points_share(hstnn: Hstnn, swept: Path) -> None:
    words = ["--over", f"{BITS}=4,1", "--over", "network.weights.prune.threshold=0.2,0.4"]
    planned = json.loads(hstnn("sweep", "rram-digits", *FEW, *words, "--out", swept, "--dry-run", "--json").out)
    left = [job["job"] for job in planned["jobs"] if job["state"] != "finished"]
    assert [name for name in left if name.endswith("/prune")] == [
        f"rram-digits-bits-{bits}-prune.threshold-{share}/plain/seed1111/prune"
        for bits in (4, 1)
        for share in (0.2, 0.4)
    ]
    assert "rram-digits-bits-4/plain/seed1111/vat" not in left
    needs = {job["job"]: job["needs"] for job in planned["jobs"]}
    assert needs[left[-1]] == ["rram-digits-bits-1/plain/seed1111/vat"]


def test_a_sweep_s_jobs_start_from_the_vat_they_share(hstnn: Hstnn, swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept / "rram-digits-bits-4/plain/seed1111", tmp_path / "rram-digits-bits-4/plain/seed1111")
    words = ["--over", f"{BITS}=4,1", "--over", "network.weights.sram.shift=-2,3", "--stage", "recover"]
    few = [*FEW, *words, "--cpus", "1", "--out", tmp_path]
    (tmp_path / "one.yaml").write_text(
        f"recipe: rram-digits\naxes: {{{BITS}: [1, 4], network.weights.sram.shift: [-2, 3]}}\n"
        f"conditions: [{{when: {{{BITS}: 1}}, skip: true}}, {{when: {{network.weights.sram.shift: 3}}, skip: true}}]\n"
    )
    assert len(json.loads(hstnn("sweep", "rram-digits", *few, "--dry-run", "--json").out)["jobs"]) == 6
    result = hstnn("sweep", tmp_path / "one.yaml", *FEW, "--stage", "recover", "--cpus", "1", "--out", tmp_path)
    assert result.code == 0, result.err
    run = RunFolder(tmp_path / "rram-digits-bits-4-sram.shift--2/plain/seed1111/recover")
    assert run.finished
    vat = tmp_path / "rram-digits-bits-4/plain/seed1111/vat"
    assert f"--vat {vat}" in run.log.read_text()
    fixed = Checkpoint.load(run.best).parameters["layers.0.fixed"]
    assert fixed.equal(Checkpoint.load(vat / "best.pt").parameters["layers.0.weight"])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["rram-digits", "--over", "network.weights.bits"], "is not key=value,value"),
        (["rram-digits", "--over", "network.weights.bits="], "names no value"),
        (["rram-digits", "--over", "network.weights.bitss=1,2"], "unknown key"),
        (["rram-digits", "--over", "network.weights.bits=4,5"], "no variation was measured at 5 bits"),
        (["digits", "--stage", "all"], "weights on devices need a stack"),
    ],
)
def test_what_is_no_sweep(hstnn: Hstnn, tmp_path: Path, words: list[str], what: str) -> None:
    refused = hstnn("sweep", *words, "--out", tmp_path, "--dry-run")
    assert refused.code in {2, 3, 4}
    assert what in refused.err


def test_vat_is_of_steps_that_start_from_one(hstnn: Hstnn, swept: Path, tmp_path: Path) -> None:
    vat = swept / "rram-digits-bits-4/plain/seed1111/vat"
    words = ["train", "rram-digits", *FEW, "--out", tmp_path, "--vat"]
    assert hstnn(*words, vat, "--stage", "recover").code == 0
    other = hstnn(*words, vat, "--stage", "prune", "--set", f"{BITS}=1")
    assert (other.code, "network.weights.bits was 4, is 1" in other.err) == (5, True)
    nowhere = hstnn(*words, tmp_path / "nowhere", "--stage", "prune")
    assert "there is no finished RRAM network in" in nowhere.err
    assert "does not start from an RRAM network" in hstnn(*words, vat, "--stage", "baseline").err


@pytest.mark.matrix
def test_a_stack_of_convolutions_is_swept_plainly(hstnn: Hstnn, tmp_path: Path) -> None:
    """Its weights come on no devices unless somebody says so: in the recipe, or by --stage."""
    small = ["train.epochs=1", "train.batches=2", "batch=8"]
    words = [word for change in small for word in ("--set", change)]
    result = hstnn("sweep", "stack-events", *words, "--seeds", "1,2", "--cpus", "1", "--out", tmp_path)
    assert result.code == 0, result.err
    run = RunFolder(tmp_path / "stack-events/plain/seed2")
    assert "--stage" not in run.log.read_text().splitlines()[0]
    train(load_recipe("stack-events", [*small, "seed=2"]), tmp_path / "hand")
    by_hand = Checkpoint.load(tmp_path / "hand/stack-events/plain/seed2/best.pt")
    swept = Checkpoint.load(run.best).parameters
    assert all(swept[name].equal(values) for name, values in by_hand.parameters.items())
    planned = hstnn("sweep", "stack-events", *words, "--stage", "all", "--out", tmp_path, "--dry-run", "--json")
    assert [job["job"].rpartition("/")[2] for job in json.loads(planned.out)["jobs"]] == [
        "baseline", "vat", "recover", "prune",
    ]  # fmt: skip
