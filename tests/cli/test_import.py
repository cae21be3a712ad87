"""`hstnn import`, and every command on what it writes: a checkpoint without a recipe."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import DataError
from hstnn_deploy.export.graph.neuromorphic import write_nir
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.profile.phases.inputs import splits
from tests.conftest import Hstnn

pytest.importorskip("nir")

LAYERS = [
    {"linear": 12},
    {"lif": {"decay": 0.85, "threshold": 0.3}},
    {"linear": 10},
    {"lif": {"decay": 0.9, "threshold": 0.2}},
]


@pytest.fixture(scope="session")
def _nir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = StackConfig(input=[8], layers=LAYERS, readout="sum").build([]).eval()
    return write_nir(network, tmp_path_factory.mktemp("nir") / "own.nir")


@pytest.fixture
def graph(_nir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A NIR file in the folder that the commands run in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.nir").write_bytes(_nir.read_bytes())
    return Path("own.nir")


@pytest.fixture
def ckpt(graph: Path, hstnn: Hstnn) -> Path:
    """Its checkpoint."""
    assert hstnn("import", graph, "--readout", "sum").code == 0
    return Path("runs/imported/own/best.pt")


def test_a_nir_file_becomes_a_checkpoint_and_a_table(graph: Path, hstnn: Hstnn) -> None:
    result = hstnn("import", graph, "--readout", "sum")
    assert (result.code, result.err) == (0, "")
    for part in ("own.nir", "linear", "lif", "decay 0.85, threshold 0.3", "runs/imported/own/best.pt", "hstnn export"):
        assert part in result.out
    found = Checkpoint.load(Path("runs/imported/own/best.pt"))
    assert found.recipe == {}
    assert found.origin is not None
    assert (found.origin["source"], found.origin["format"]) == ("own.nir", "NIR")
    assert found.origin["proof"].startswith("not run")
    assert found.architecture.readout == "sum"  # type: ignore[union-attr]


def test_the_table_as_json(graph: Path, hstnn: Hstnn) -> None:
    plain = json.loads(hstnn("import", graph, "--out", "there", "--json").out)
    assert plain["checkpoint"] == "there/best.pt"
    assert [layer["kind"] for layer in plain["layers"]] == ["linear", "lif", "linear", "lif"]
    assert plain["parameters"] == 12 * 8 + 12 + 12 * 10 + 10
    assert plain["neurons"]["2"]["threshold"] == pytest.approx(0.3)
    assert plain["input"] == [8]


def test_another_network_is_not_replaced_unasked(graph: Path, ckpt: Path, hstnn: Hstnn) -> None:
    assert hstnn("import", graph, "--readout", "sum").code == 0
    refused = hstnn("import", graph, "--readout", "mean")
    assert refused.code == 5
    assert "contains a different network" in refused.error
    assert "--force" in refused.hint
    assert hstnn("import", graph, "--readout", "mean", "--force").code == 0
    ckpt.write_bytes(b"somebody else's")
    assert hstnn("import", graph).code == 5


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nope.nir"], 3, "nope.nir does not exist"),
        (["own:net", "--input", "4,8"], 2, "no module"),
        (["own.nir", "--dt", "0"], 2, "--dt must be positive"),
        (["own.nir", "--readout", "median"], 2, "median"),
        (["bad.nir"], 3, "bad.nir"),
    ],
)
def test_what_is_no_network_is_refused_in_a_line(
    words: list[str], code: int, says: str, graph: Path, hstnn: Hstnn
) -> None:
    Path("bad.nir").write_bytes(graph.read_bytes()[:200])
    result = hstnn("import", *words)
    assert result.code == code
    assert says in result.error
    assert not Path("runs").exists()


def test_it_is_exported_with_proof_on_random_inputs(ckpt: Path, hstnn: Hstnn) -> None:
    formats = ("--onnx", "--form", "window", "--pt2", "--torchscript", "--nir")
    plain = json.loads(hstnn("export", "--ckpt", ckpt, *formats, "--json").out)
    assert {*plain["files"], *plain["carried"]} == {"model.window.onnx", "model.pt2", "model.ts", "model.nir"}
    assert plain["verification"]["result"] == "passed"
    assert "random numbers, seed 0" in plain["samples"]
    assert "no recipe" in plain["samples"]
    assert (plain["recipe"], plain["metrics"]) == ({}, {"epoch": 0})
    assert plain["origin"]["source"] == "own.nir"
    assert plain["network"]["architecture"]["layers"] == LAYERS
    answers = [each for each in plain["verification"]["checks"] if each["name"].startswith("answers on the test")]
    assert answers
    assert {(each["outcome"], "no recipe" in each["figure"]) for each in answers} == {("not run", True)}
    bundle = ckpt.parent / "bundle"
    proved = hstnn("verify", bundle, "--ckpt", ckpt)
    assert proved.code == 0, proved.err
    np.save("x.npy", np.random.default_rng(0).random((7, 1, 8), dtype=np.float32))
    ran = json.loads(hstnn("run", bundle, "--input", "x.npy", "--json").out)
    network = Checkpoint.load(ckpt).network()
    with torch.no_grad():
        logits = network(torch.from_numpy(np.load("x.npy")))[0]
    assert str(int(logits.argmax())) in json.dumps(ran)


def test_a_bundle_without_a_recipe_cannot_be_another_networks(ckpt: Path, graph: Path, hstnn: Hstnn) -> None:
    assert hstnn("export", "--ckpt", ckpt, "--form", "window", "--no-verify").code == 0
    assert hstnn("import", graph, "--readout", "mean", "--out", "other").code == 0
    refused = hstnn("verify", ckpt.parent / "bundle", "--ckpt", "other/best.pt")
    assert refused.code == 8
    assert "checkpoint.sha256" in refused.out
    from hstnn_deploy.export.bundle.description import write_manifest

    folder = ckpt.parent / "bundle"
    facts = json.loads((folder / "manifest.json").read_text())
    del facts["seal"]
    facts["network"]["architecture"]["layers"][1] = {"lif": {"decay": 0.85, "threshold": 0.31}}
    write_manifest(folder, facts)
    forged = hstnn("verify", folder)
    assert forged.code == 8
    facts["network"]["architecture"] = {"family": "stack", "input": [8], "layers": [{"linear": 2**40}]}
    write_manifest(folder, facts)
    damaged = hstnn("verify", folder)
    assert damaged.code == 2
    assert "at most" in damaged.error


def test_the_proof_takes_samples_of_a_file(ckpt: Path, hstnn: Hstnn) -> None:
    np.save("x.npy", np.random.default_rng(0).random((5, 9, 8)))
    words = ("export", "--ckpt", ckpt, "--form", "window", "--json", "--samples")
    plain = json.loads(hstnn(*words, "x.npy").out)
    assert plain["samples"].startswith("5 samples of x.npy (SHA-256 ")
    names = [each["name"] for each in plain["verification"]["checks"]]
    assert "replay in ONNX Runtime, T=9 B=5" in names
    figures = [each["figure"] for each in plain["verification"]["checks"] if each["name"] == "the network spikes"]
    assert "windows of x.npy" in figures[0]
    assert hstnn("verify", ckpt.parent / "bundle", "--samples", "x.npy").code == 0
    np.save("x.npy", np.ones((5, 9, 7)))
    refused = hstnn(*words[:-2], "--samples", "x.npy")
    assert refused.code == 3
    assert "[N, T, 8]" in refused.error


def test_the_proof_takes_the_test_split_of_a_recipe(ckpt: Path, hstnn: Hstnn) -> None:
    words = ("export", "--ckpt", ckpt, "--form", "window")
    plain = json.loads(hstnn(*words, "--recipe", "digits", "--json").out)
    assert "test split of digits" in plain["samples"]
    assert plain["recipe"]["network"]["layers"] == LAYERS
    assert "an existing network" in plain["recipe"]["about"]
    answers = [each for each in plain["verification"]["checks"] if each["name"] == "answers on the test split"]
    assert [each["outcome"] for each in answers] == ["passed"]
    assert hstnn("verify", ckpt.parent / "bundle", "--ckpt", ckpt).code == 0
    misfit = hstnn(*words, "--recipe", "smnist")
    assert misfit.code == 2
    assert "does not fit recipe smnist" in misfit.error
    static = hstnn(*words, "--int8", "static")
    assert static.code == 2
    assert "no training samples" in static.error


def test_it_is_evaluated_by_a_recipe_and_not_without_one(ckpt: Path, hstnn: Hstnn) -> None:
    refused = hstnn("evaluate", "--ckpt", ckpt)
    assert refused.code == 4
    assert "has no recipe" in refused.error
    assert "--recipe" in refused.hint
    plain = json.loads(hstnn("evaluate", "--ckpt", ckpt, "--recipe", "digits", "--json").out)
    assert (plain["recipe"], plain["samples"]) == ("digits", 360)
    assert 0 <= plain["accuracy"] <= 100
    text = hstnn("evaluate", "--ckpt", ckpt, "--recipe", "pydoc-text")
    assert text.code == 2
    assert "hstnn recipes" in text.hint


def test_it_is_trained_on_and_the_run_belongs_to_it(ckpt: Path, graph: Path, hstnn: Hstnn) -> None:
    train = ("train", "digits", "--set", "adapt.epochs=2", "--init")
    result = hstnn(*train, ckpt)
    assert result.code == 0, result.err
    first = Checkpoint.load(ckpt)
    line = result.out.replace("\n", " ")
    assert "network: runs/imported/own/best.pt (from own.nir), 4 layers, 238 parameters" in line
    assert first.fingerprint[:12] in line
    run = Path("runs/digits/plain/seed1111")
    best = Checkpoint.load(run / "best.pt")
    assert best.architecture == first.architecture
    assert best.fingerprint != first.fingerprint
    assert best.origin == first.origin
    assert first.fingerprint in (run / "stage.yaml").read_text()
    assert "decay: 0.85" in (run / "recipe.yaml").read_text()
    # Finished, whether by these words or by the recipe that lies there.
    for again in ((*train, ckpt), ("train", run / "recipe.yaml")):
        assert "already finished" in hstnn(*again).out
    other = hstnn(*train, run / "best.pt", "--resume")
    assert other.code == 5
    assert "was begun with the network of another checkpoint (parameters" in other.error
    # Any checkpoint is trained on, one with a recipe too.
    more = hstnn(*train, run / "best.pt", "--out", "more")
    assert more.code == 0, more.err
    assert hstnn("report", "runs").code == 0
    assert "hstnn" not in hstnn("compare", "runs", "more").err
    assert "plain" in hstnn("runs", "list", "runs").out
    assert hstnn("export", "--ckpt", run / "best.pt", "--form", "window").code == 0


def test_it_starts_from_its_weights_not_from_fresh_ones(ckpt: Path, hstnn: Hstnn) -> None:
    result = hstnn("train", "digits", "--set", "adapt.epochs=1", "--set", "adapt.lr=1e-30", "--init", ckpt)
    assert result.code == 0, result.err
    best, first = Checkpoint.load(Path("runs/digits/plain/seed1111/best.pt")), Checkpoint.load(ckpt)
    for name, value in first.parameters.items():
        torch.testing.assert_close(best.parameters[name], value, rtol=0, atol=1e-20)


def test_a_hybrid_checkpoint_is_trained_on_in_its_own_stage(hstnn: Hstnn, tmp_path: Path) -> None:
    small = [word for key in ("network.units=[6, 5]", "adapt.epochs=1", "batch=200") for word in ("--set", key)]
    assert hstnn("train", "digits", *small, "--kind", "ffs", "--out", tmp_path / "a").code == 0
    first = tmp_path / "a" / "digits" / "ffs-0.5" / "seed1111" / "best.pt"
    result = hstnn("train", "stack-digits", "--set", "train.epochs=1", "--init", first, "--out", tmp_path / "b")
    assert result.code == 0, result.err
    second = Checkpoint.load(tmp_path / "b" / "stack-digits" / "ffs-0.5" / "seed1111" / "best.pt")
    assert (second.sizes, second.stage) == (Checkpoint.load(first).sizes, "train")
    assert hstnn("report", tmp_path / "b").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--kind", "snn"], "as it is"),
        (["--set", "network.units=[3, 3]"], "as it is"),
        (["--ratio", "0.25"], "as it is"),
        (["--stage", "vat"], "weights on devices"),
        (["--stage", "restore"], "of stage 'train'"),
        (["--set", "restore.epochs=3"], "--set restore… has no effect"),
        (["--set", "selection.probes=3"], "in one stage, configured by adapt"),
    ],
)
def test_options_that_change_the_network_are_refused(words: list[str], says: str, ckpt: Path, hstnn: Hstnn) -> None:
    result = hstnn("train", "digits", "--init", ckpt, *words)
    assert result.code == 2
    assert says in result.err
    assert not Path("runs/digits").exists()


def test_a_checkpoint_that_changed_since_is_not_taken_for_the_first(ckpt: Path, graph: Path, hstnn: Hstnn) -> None:
    assert hstnn("train", "digits", "--set", "adapt.epochs=1", "--init", ckpt, "--out", "a").code == 0
    changed = Checkpoint.load(ckpt)
    changed.parameters = {name: value + 1 for name, value in changed.parameters.items()}
    changed.save(ckpt)
    result = hstnn("train", "a/digits/plain/seed1111/recipe.yaml", "--out", "b")
    assert result.code == 5
    assert "other parameters" in result.err
    ckpt.unlink()
    assert hstnn("train", "a/digits/plain/seed1111/recipe.yaml", "--out", "b").code == 4


def test_profile_needs_no_data_for_inference_and_says_why_it_measures_no_training(ckpt: Path) -> None:
    from hstnn_deploy.profile.plan.plan import plan
    from hstnn_deploy.profile.run.worker import measure

    planned = plan(ckpt=ckpt, phases=["work", "train"], engines=["fused"], batches=[2], steps=[5], gpus=[None])
    assert [each.phase for each in planned] == ["work", "train"]
    assert {each.steps for each in planned} == {5}
    work, train = (measure(each, Path()) for each in planned)
    assert work.status == "measured"
    assert "no recipe" in work.facts["data"]
    assert (train.status, train.values) == ("n/a", [])
    assert "no recipe" in train.reason
    under = plan(["digits"], ckpt=ckpt, phases=["train"], engines=["fused"], gpus=[None])
    assert [(each.recipe["name"], each.ckpt) for each in under] == [("digits", str(ckpt.absolute()))]


def test_profile_takes_one_recipe_for_a_checkpoint_without_one(ckpt: Path, hstnn: Hstnn) -> None:
    result = hstnn("profile", "digits", "stack-digits", "--ckpt", ckpt)
    assert result.code == 2
    assert "2 recipes were named" in result.error
    with pytest.raises(DataError, match="no real data"):
        splits(Checkpoint.load(ckpt).recipe_or_bare(), None, "real")
