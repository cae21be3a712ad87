"""Bundles of networks in Python, proved on samples that are given: `export_bundle`, `verify_bundle`, shown."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import hstnn_deploy as hd
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import DataError, UsageError
from hstnn_deploy.train.fitting.fit import fit
from tests.conftest import Hstnn
from tests.train.fitting.cases import Samples, X, Y, network, uneven

TEST = (X[80:], Y[80:])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> hd.History:
    """A training with a folder."""
    out = tmp_path_factory.mktemp("run") / "mine"
    return fit(network(), (X[:80], Y[:80]), test=TEST, epochs=3, batch=20, lr=0.02, progress=False, out=out)


def outcome(found: Any, name: str) -> tuple[str, str]:
    """Return the outcome and the figure of the first check of a name."""
    return next((each.outcome, each.figure) for each in found.checks if each.name == name)


def test_a_stack_is_exported_and_proved_on_samples(trained: hd.History, tmp_path: Path) -> None:
    bundle = hd.export_bundle(trained.network, tmp_path / "bundle", test=TEST)
    assert not bundle.failed
    assert trained.test is not None
    passed, figure = outcome(bundle, "answers on the test split")
    assert passed == "passed"
    assert f"40 of 40 equal; accuracy {trained.test.score:.2f} %" in figure
    assert "40 samples given in Python" in bundle.manifest["samples"]
    scores = hd.Session(tmp_path / "bundle").run(TEST[0].swapaxes(0, 1))
    assert 100 * (scores.argmax(1) == TEST[1]).mean() == trained.test.score


@pytest.mark.parametrize("kind", ["history", "folder", "stack"])
def test_the_manifest_says_where_it_came_from(trained: hd.History, tmp_path: Path, kind: str) -> None:
    own = Checkpoint.load(trained.folder / "best.pt") if trained.folder else None
    assert own is not None
    assert trained.folder is not None
    source: Any = {"history": trained, "folder": trained.folder / "best.pt", "stack": trained.network}[kind]
    out = tmp_path / "bundle"
    manifest = hd.export_bundle(source, out, test=TEST).manifest
    if kind == "stack":
        assert manifest["checkpoint"] == {"file": "(a network in Python)", "sha256": own.fingerprint}
        assert not manifest["recipe"]
        Checkpoint.of_network(trained.network).save(tmp_path / "own.pt")  # type: ignore[arg-type]
        ckpt = tmp_path / "own.pt"
    else:
        assert manifest["recipe"]["name"] == "fit"
        assert manifest["metrics"]["test"]["accuracy"] == own.metrics["test"]["accuracy"]
        ckpt = trained.folder / "best.pt"
    verified = hd.verify_bundle(out, ckpt, test=TEST)
    assert not verified.failed, verified.failed
    assert outcome(verified, f"says what {ckpt} says")[0] == "passed"


def test_a_history_without_a_folder(tmp_path: Path) -> None:
    found = fit(network(), (X[:80], Y[:80]), test=TEST, epochs=1, batch=20, progress=False)
    manifest = hd.export_bundle(found, tmp_path / "bundle", test=TEST).manifest
    assert manifest["checkpoint"]["file"] == "(a network in Python)"
    assert manifest["recipe"]["data"]["name"] == "python"
    found.checkpoint.save(tmp_path / "own.pt")
    assert not hd.verify_bundle(tmp_path / "bundle", tmp_path / "own.pt", test=TEST).failed
    with pytest.raises(UsageError, match="no folder for a bundle"):
        hd.export_bundle(found)


def test_it_is_verified_anywhere_with_and_without_samples(trained: hd.History, tmp_path: Path, hstnn: Hstnn) -> None:
    out = tmp_path / "bundle"
    hd.export_bundle(trained, out, test=TEST)
    alone = hd.verify_bundle(str(out))
    assert not alone.failed
    state, why = outcome(alone, "answers on the test split")
    assert state == "not run"
    assert "given in Python" in why
    # Its own test samples give the figure of the training; others are other samples.
    assert outcome(hd.verify_bundle(out, test=TEST), "test accuracy = measured")[0] == "passed"
    assert outcome(hd.verify_bundle(out, test=(X[:30], Y[:30])), "test accuracy = measured") == (
        "not run",
        "other samples were given",
    )
    assert hstnn("verify", str(out)).code == 0


def test_it_may_be_proved_on_the_data_of_a_recipe(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = hd.Stack([hd.layers.linear(8), "lif", hd.layers.linear(10)], input=[8])
    data = (np.random.default_rng(0).random((40, 8, 8), dtype=np.float32), np.arange(40) % 10)
    run, out = tmp_path / "run", tmp_path / "bundle"
    fit(net, data, data, epochs=1, progress=False, out=run)
    hd.export_bundle(run / "best.pt", out, recipe=hd.load_recipe("digits"))
    verified = hd.verify_bundle(out, run / "best.pt")
    assert not verified.failed, verified.failed
    assert outcome(verified, "answers on the test split")[0] == "passed"


def test_wrong_classes_are_seen_in_the_figure_and_a_changed_graph_fails(trained: hd.History, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    turned = (X[80:], (Y[80:] + 1) % 4)
    bundle = hd.export_bundle(trained, out, test=turned)
    assert "accuracy 0.00 %" in outcome(bundle, "answers on the test split")[1].replace(" (checkpoint", "")
    facts = json.loads((out / "manifest.json").read_text())
    facts["metrics"]["test"]["accuracy"] = 12.0
    from hstnn_deploy.export.bundle.description import write_manifest

    del facts["seal"]
    write_manifest(out, facts)
    assert outcome(hd.verify_bundle(out, test=TEST), "test accuracy = measured")[0] == "failed"


@pytest.mark.parametrize("data", [Samples(), Samples(uneven), ([X[n, : 2 + n % 4] for n in range(40)], Y[:40])])
def test_every_kind_of_data_is_proved_on(trained: hd.History, tmp_path: Path, data: Any) -> None:
    assert not hd.export_bundle(trained.network, tmp_path / "bundle", test=data).failed


def test_what_cannot_be_exported(trained: hd.History, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with pytest.raises(UsageError, match="Linear is neither a checkpoint file nor a network") as refused:
        hd.export_bundle(torch.nn.Linear(2, 2), out)  # type: ignore[arg-type]
    assert "hd.from_torch" in refused.value.hint
    with pytest.raises(DataError, match="x of test has shape"):
        hd.export_bundle(trained, out, test=(X[..., :2], Y))
    with pytest.raises(UsageError, match="the proof of preprocessing needs the files"):
        hd.export_bundle(trained, out, test=TEST, preprocess=True)
    hybrid = hd.train_recipe(
        hd.load_recipe("digits", ["kind=snn", "network.units=[4]", "adapt.epochs=1", "batch=400"]), tmp_path / "runs"
    )
    with pytest.raises(
        UsageError, match="only its checkpoint has the recipe that describes a hybrid network"
    ) as refused:
        hd.export_bundle(hd.load_network(hybrid[0].best), out)
    assert ".best of what hd.train_recipe returned" in refused.value.hint
    assert not out.exists()


def test_results_show_themselves_in_a_line_and_a_table(trained: hd.History, tmp_path: Path) -> None:
    bundle = hd.export_bundle(trained, tmp_path / "bundle", test=TEST)
    verified = hd.verify_bundle(tmp_path / "bundle")
    profile = hd.profile_network(trained.network, seconds=0.02)
    with hd.measure() as ledger, ledger.span("nothing"):
        pass
    console = Console(width=160, file=io.StringIO(), record=True)
    for each, rows in ((bundle, len(bundle.checks)), (verified, len(verified.checks)), (profile, 6), (ledger, 10)):
        assert len(repr(each)) < 300
        assert "\n" not in repr(each)
        assert each._repr_html_().count("<tr>") > rows - 1
        console.print(each)
    text = console.export_text()
    assert "answers on the test split" in text
    assert "how it was obtained" in text
    assert str(profile.latency).endswith(" s")
    assert not np.isnan(float(str(profile.latency).split()[0]))
    session = hd.Session(tmp_path / "bundle")
    assert repr(session).endswith("bundle: model.window.onnx, model.step.onnx; CPUExecutionProvider>")
    assert re.search(r"peak [\d.]+ [MG]B of main memory", repr(ledger))
    for short in (trained.checkpoint, hd.load_recipe("digits"), repr(session)):
        assert len(str(short)) < 200


def test_samples_that_are_no_file_are_refused_with_what_to_give(tmp_path: Any) -> None:
    network = hd.Stack([hd.layers.linear(4), hd.layers.lif(), hd.layers.linear(2)], input=[3])
    with pytest.raises(hd.HstnnError, match="samples is Tensor, not a path") as found:
        hd.export_bundle(network, tmp_path / "b", ["onnx"], samples=torch.rand(5, 4, 3))  # type: ignore[arg-type]
    assert "test=(x, y)" in found.value.hint
    assert not (tmp_path / "b").exists()
