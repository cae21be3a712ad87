"""`hstnn robustness --bundle`: a bundle has its checkpoint's figures, another network has others; and refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper

import hstnn_deploy as hd
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.export.bundle.description import write_manifest
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.proof import comparisons
from hstnn_deploy.robustness import deployed
from hstnn_deploy.robustness.record import Measured, Robustness, read, together
from tests import own_data
from tests.conftest import Hstnn
from tests.export.cases import Case

QUICK = ("--draws", "1", "--threads", "1", "--device", "cpu")
FORMS: dict[str, dict[str, Any]] = {
    "both": {},
    "step": {"forms": ["step"]},
    "unrolled": {"forms": ["unrolled"]},
    "inside": {"forms": ["window"], "states": "inside"},
    "raw": {"preprocess": True},
    "other": {},
}


def _digits(folder: Path, seed: int = 1111) -> Path:
    """A spiking network of the digits, as if it had been trained; another seed has other weights."""
    found = Checkpoint.load(Case("sequence", "snn").checkpoint(folder / "digits.pt"))
    torch.manual_seed(seed)
    parameters = {
        name: value if seed == 1111 else value[torch.randperm(len(value))] for name, value in found.parameters.items()
    }
    path = folder / f"digits{seed}.pt"
    found.model_copy(update={"parameters": parameters, "recipe": {**found.recipe, "seed": seed}}).save(path)
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a checkpoint and bundles of it in several forms, and one of another network."""
    folder = tmp_path_factory.mktemp("digits")
    for name, how in FORMS.items():
        ckpt = _digits(folder, 2222 if name == "other" else 1111)
        export_bundle(ckpt, folder / name, verify=False, **how)
    return folder


def _measured(hstnn: Hstnn, *words: str | Path) -> list[dict[str, Any]]:
    shown = hstnn("robustness", *words, *QUICK, "--json")
    assert shown.code == 0, shown.err
    found: list[dict[str, Any]] = json.loads(shown.out)["networks"]
    return found


def _figures(network: dict[str, Any]) -> dict[str, Any]:
    return {"clean": network["clean"], **{curve["name"]: curve["values"] for curve in network["curves"]}}


def _bundles(*folders: Path) -> list[str | Path]:
    return [word for folder in folders for word in ("--bundle", folder)]


def _edited(bundle: Path, to: Path, seal: bool) -> Path:
    """Return a copy of a bundle with one weight of its window graph changed; sealed anew, or not."""
    shutil.copytree(bundle, to)
    path = to / "model.window.onnx"
    model = onnx.load(str(path))
    largest = max(model.graph.initializer, key=lambda each: len(numpy_helper.to_array(each).shape) > 1)
    value = numpy_helper.to_array(largest).copy()
    value.flat[3] += 50
    largest.CopyFrom(numpy_helper.from_array(value, largest.name))
    onnx.save(model, str(path))
    if seal:
        from hstnn_deploy import files

        facts = json.loads((to / "manifest.json").read_text())
        facts["files"][path.name]["sha256"] = files.sha256(path)
        facts.pop("seal")
        write_manifest(to, facts)
    return to


def test_a_bundle_of_any_form_has_the_figures_of_its_checkpoint_and_another_network_has_others(
    hstnn: Hstnn, digits: Path, tmp_path: Path
) -> None:
    changed = _edited(digits / "both", tmp_path / "changed", seal=True)
    asked = ["--disturb", "gaussian=0.1,0.3", "--disturb", "frame-loss=0.3", "--disturb", "occlusion=0.2"]
    bundles = [digits / name for name in ("both", "step", "unrolled", "inside", "raw")]
    words = ["--ckpt", digits / "digits1111.pt", *_bundles(*bundles, changed, digits / "other"), *asked]
    own, *same, edited, other = _measured(hstnn, *words)
    assert own["engine"] == "torch"
    assert len(set(map(str, _figures(own).values()))) == 4
    for network in same:
        assert network["engine"] == "onnxruntime"
        assert network["parameters"] == own["parameters"]
        assert _figures(network) == _figures(own), network["source"]
    assert [each["source"] for each in same] == list(map(str, bundles))
    for network in (edited, other):
        assert network["parameters"] != own["parameters"]
        assert _figures(network) != _figures(own)
        assert network["clean"] != own["clean"]


def test_by_default_the_input_is_disturbed_and_a_note_says_what_is_left_out(
    hstnn: Hstnn, digits: Path, tmp_path: Path
) -> None:
    records = [tmp_path / name / "robustness.json" for name in ("bundles", "checkpoint")]
    for path in records:
        path.parent.mkdir()
    shown = hstnn("robustness", *_bundles(digits / "both", digits / "unrolled"), *QUICK, "--out", records[0])
    assert shown.code == 0, shown.err
    (note,) = [line for line in shown.err.splitlines() if line.startswith("note: ")]
    assert "for weights, neurons, spikes and attacks, measure the checkpoint" in note
    assert "digits, snn in ONNX Runtime: accuracy" in shown.out
    whole, unrolled = ({curve.name: curve.values for curve in each.curves} for each in read(records[0]).networks)
    listed = json.loads(hstnn("robustness", "--list", "--json").out)["disturbances"]
    inputs = [each["name"] for each in listed if each["acts_on"] == "values"]
    assert list(whole) == inputs
    assert [name for name in inputs if name not in unrolled] == ["stretch", "compress"]
    some = ["salt-pepper", "contrast", "stretch", "gaussian"]
    asked = [word for name in some for word in ("--disturb", name)]
    assert hstnn("robustness", "--ckpt", digits / "digits1111.pt", *asked, *QUICK, "--out", records[1]).code == 0
    (own,) = read(records[1]).networks
    assert {curve.name: curve.values for curve in own.curves} == {name: whole[name] for name in some}
    # A checkpoint is compared with its bundle.
    found = read(records[0])
    records[0].write_text(json.dumps(found.model_copy(update={"networks": found.networks[:1]}).plain()))
    rows = json.loads(hstnn("compare", *records, "--metric", "gaussian", "--json").out)["rows"]
    assert [row["difference"] for row in rows] == [0.0]


def test_recordings_are_disturbed_as_the_checkpoint_sees_them(hstnn: Hstnn, tmp_path: Path) -> None:
    ckpt = Case("dvs", "snn").checkpoint(tmp_path / "events.pt")
    for name in ("both", "raw"):
        export_bundle(ckpt, tmp_path / name, verify=False, forms=["window"], preprocess=name == "raw")
    asked = ["--disturb", "event-drop=0.5", "--disturb", "gaussian=0.3"]
    own, *same = _measured(hstnn, "--ckpt", ckpt, *_bundles(tmp_path / "both", tmp_path / "raw"), *asked)
    assert [_figures(each) for each in same] == [_figures(own)] * 2
    assert own["clean"] not in [curve["values"][0][0] for curve in own["curves"]]


def test_a_language_model_carries_its_states_from_window_to_window(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Checkpoint.load(Case("language", "ffs").checkpoint(tmp_path / "text.pt"))
    # So strong a decoder that the perplexity follows from what was read.
    decoder = {name: 20 * value for name, value in found.parameters.items() if name.startswith("decoder")}
    assert decoder
    ckpt = tmp_path / "text.pt"
    found.model_copy(update={"parameters": found.parameters | decoder}).save(ckpt)
    for name in ("both", "step", "inside"):
        export_bundle(ckpt, tmp_path / name, verify=False, **FORMS[name])
    asked = ["--disturb", "word-replace=0.3"]
    own, *same = _measured(hstnn, "--ckpt", ckpt, *_bundles(tmp_path / "both", tmp_path / "step"), *asked)
    assert own["metric"] == "perplexity"
    ((disturbed,),) = own["curves"][0]["values"]
    assert abs(disturbed / own["clean"] - 1) > 1e-2
    for each in same:
        assert each["clean"] == pytest.approx(own["clean"], rel=1e-5)
        assert each["curves"][0]["values"][0] == pytest.approx([disturbed], rel=1e-5)
    found.model_copy(update={"vocabulary": "0" * 64}).save(tmp_path / "words.pt")
    export_bundle(tmp_path / "words.pt", tmp_path / "words", verify=False)
    others = hstnn("robustness", "--bundle", tmp_path / "words", *asked)
    assert "words: the checkpoint was trained with another vocabulary" in others.error
    refused = hstnn("robustness", "--bundle", tmp_path / "inside")
    assert "have their states inside, but measuring perplexity needs states" in refused.error
    assert "--states named" in refused.hint
    # The same without what is carried.
    monkeypatch.setattr(comparisons.Score, "start", lambda *_: None)
    (forgetful,) = _measured(hstnn, "--bundle", tmp_path / "both", *asked)
    assert abs(forgetful["clean"] / own["clean"] - 1) > 1e-3


def test_values_are_compared_in_their_own_unit(hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own_data.series(Path("values"), "values")
    short = ["--set", "train.epochs=1", "--set", "batch=4", "--device", "cpu", "--threads", "1"]
    assert hstnn("train", "stack-digits", "--data", "values", *short).code == 0
    ckpt = Path("runs/stack-digits-values/plain/seed1111/best.pt")
    export_bundle(ckpt, Path("bundle"), verify=False)
    asked = ["--disturb", "gaussian=0.2", "--disturb", "stretch=0.5"]
    # A folder of runs and a bundle in one call.
    own, same = _measured(hstnn, "runs", "--bundle", "bundle", *asked)
    assert (own["metric"], same["engine"], same["data"]) == ("rmse", "onnxruntime", own["data"])
    assert same["clean"] == pytest.approx(own["clean"], rel=1e-5)
    for mine, theirs in zip(own["curves"], same["curves"], strict=True):
        assert theirs["values"][0] == pytest.approx(mine["values"][0], rel=1e-5)
        assert abs(mine["values"][0][0] / own["clean"] - 1) > 1e-3


@pytest.mark.parametrize(
    ("name", "asked", "said", "hint"),
    [
        ("both", "pgd", "--disturb pgd does not work with the bundle", "--ckpt"),
        ("both", "fgsm=0.1", "goes through the network's gradient", "--ckpt"),
        ("both", "weight-gaussian", "it acts on the network's weights", "--ckpt"),
        ("both", "leak-mismatch", "it acts on the network's neurons", "--ckpt"),
        ("both", "spike-loss", "it acts on the network's spikes", "--ckpt"),
        ("both", "word-drop", "it acts on words, but digits is not text", ""),
        ("unrolled", "stretch", "it changes the number of steps, but the graph takes 8", "--ckpt"),
        ("digits1111.pt", "gaussian", "is not a bundle: it is a file", "hstnn export"),
        ("nowhere", "gaussian", "does not exist", "hstnn export"),
    ],
)
def test_what_cannot_be_measured_of_a_bundle_is_refused_by_name(
    hstnn: Hstnn, digits: Path, name: str, asked: str, said: str, hint: str
) -> None:
    shown = hstnn("robustness", "--bundle", digits / name, "--disturb", asked, *QUICK)
    assert shown.code != 0
    assert said in shown.error
    assert hint in shown.hint


def test_damage_and_what_is_missing_are_said_in_one_line(
    hstnn: Hstnn, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampered = hstnn("robustness", "--bundle", _edited(digits / "both", tmp_path / "tampered", seal=False))
    assert tampered.code == 11
    assert "is not the file that was exported" in tampered.error
    damaged = shutil.copytree(digits / "both", tmp_path / "damaged")
    (damaged / "manifest.json").write_text("{")
    assert "is damaged" in hstnn("robustness", "--bundle", damaged).error
    export_bundle(digits / "digits1111.pt", tmp_path / "script", {"torchscript"}, verify=False)
    assert "contains no verified ONNX graph" in hstnn("robustness", "--bundle", tmp_path / "script").error
    export_bundle(Case("dvs", "snn").checkpoint(tmp_path / "events.pt"), tmp_path / "events", verify=False)
    two = hstnn("robustness", *_bundles(digits / "both", tmp_path / "events"))
    assert "was trained on digit-events, and" in two.error
    assert two.hint == "measure networks of one data set at a time"
    monkeypatch.setattr(deployed, "find_spec", lambda _: None)
    missing = hstnn("robustness", "--bundle", digits / "both")
    assert "ONNX Runtime, which is not installed" in missing.error
    assert "pip install" in missing.hint


def test_a_bundle_without_a_recipe_is_refused_and_told_what_works(hstnn: Hstnn, tmp_path: Path) -> None:
    layers = hd.layers
    network = hd.Stack([layers.linear(16), layers.lif(), layers.linear(10)], input=[8])
    hd.export_bundle(network, tmp_path / "own", verify=False)
    refused = hstnn("robustness", "--bundle", tmp_path / "own")
    assert refused.code == 2
    assert "names no data to measure it on: the network has no recipe" in refused.error
    assert "--recipe NAME" in refused.hint


def test_older_records_load_and_a_bundle_is_no_other_seed(hstnn: Hstnn, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "robustness.json"
    words: list[str | Path] = ["--ckpt", digits / "digits1111.pt", "--bundle", digits / "both"]
    words += ["--disturb", "gaussian=0.2"]
    assert hstnn("robustness", *words, *QUICK, "--out", out).code == 0
    found = read(out)
    assert [name for (_, name), _ in together(found.networks)] == ["snn", "snn in ONNX Runtime"]
    plain = json.loads(out.read_text())
    for network in plain["networks"]:
        del network["engine"]
    older = Robustness.model_validate(plain)
    assert [each.engine for each in older.networks] == ["torch", "torch"]
    from hstnn_deploy.report.tradeoff import _once

    checkpoint, bundle = found.networks
    assert _once([bundle, checkpoint]) == [checkpoint]
    assert _once([bundle]) == [bundle]
    assert isinstance(bundle, Measured)
