"""`hstnn show`: layers, neurons, and one sample's spikes and membranes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.pictures.raster import draw_raster
from hstnn_deploy.errors import OutOfMemoryError
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.proof.recording import record
from hstnn_deploy.models.stack import Stack, StackConfig
from tests.conftest import Hstnn
from tests.models.stacks import STACKS, example, stack


def neurons() -> Stack:
    """Return two neurons that see the input itself, one of them learned."""
    layers = [{"lif": {"decay": 0.5, "threshold": 1.0}}, {"lif": {"decay": 0.25, "learn": ["decay", "threshold"]}}]
    return StackConfig(input=[2], layers=layers, readout="sum").build([]).eval()


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    """A checkpoint without a recipe."""
    path = tmp_path / "own.pt"
    Checkpoint.of_network(neurons(), {"source": "own.nir"}).save(path)
    return path


def test_a_recording_is_the_equation_worked_out_by_hand() -> None:
    x = torch.tensor([[0.75, 0.0], [0.75, 2.0], [0.0, 1.0]])[:, None]
    found = record(neurons(), x)
    # m = v / 2 + x; a spike above 1; v = 0 after it.
    assert found.layers["layer1/spikes"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert found.layers["layer1/membrane"].tolist() == [[0.75, 0], [0, 0], [0, 1]]
    assert found.rates()["layer1"] == pytest.approx(2 / 6)
    # The readout sums the last layer's spikes.
    assert found.output.tolist() == found.layers["layer2/spikes"].cumsum(0).tolist()


@pytest.mark.parametrize("name", STACKS)
def test_step_by_step_is_what_the_whole_window_gives(name: str) -> None:
    network = stack(name).eval()
    x = example(network, 5, 1)
    found = record(network, x)
    with torch.no_grad():
        answer = network(x)[0]
    assert np.allclose(found.output[-1], answer[-1].flatten() if network.every_step else answer.flatten(), atol=1e-5)
    assert all(len(value) == 5 for value in found.arrays().values())
    # Every tap is there, and every membrane.
    assert {f"layer{tap.layer}/{tap.name}" for tap in network.taps} <= found.layers.keys()
    wanted = {f"layer{name[1:]}/membrane" for name in network.state_shapes() if name[0] == "v" and name[1:].isdigit()}
    assert wanted <= found.layers.keys()


def test_more_than_memory_holds_is_not_recorded() -> None:
    with pytest.raises(OutOfMemoryError, match="more than 2 GiB"):
        record(neurons(), torch.zeros(1, 1, 2).expand(2**28, 1, 2))


def test_layers_neurons_and_rates(ckpt: Path, hstnn: Hstnn) -> None:
    result = hstnn("show", ckpt)
    assert (result.code, result.err) == (0, "")
    for part in ("from own.nir, without a recipe", "decay 0.5, threshold 1", "decay 0.25", "random numbers, seed 0"):
        assert part in result.out
    plain = json.loads(hstnn("show", ckpt, "--steps", "4", "--json").out)
    assert plain["neurons"]["2"]["decay"] == pytest.approx(0.25)
    assert plain["neurons"]["2"]["threshold"] == pytest.approx(0.6)
    assert plain["arrays"]["layer1/membrane"] == [4, 2]
    assert (plain["steps"], plain["recipe"], plain["origin"]) == (4, None, {"source": "own.nir"})
    other = json.loads(hstnn("show", ckpt, "--seed", "7", "--json").out)
    assert other["spike_rates"] != json.loads(hstnn("show", ckpt, "--json").out)["spike_rates"]


def test_a_sample_of_a_file_as_a_picture_and_arrays(ckpt: Path, hstnn: Hstnn, tmp_path: Path) -> None:
    x = np.array([[0.75, 0.0], [0.75, 2.0], [0.0, 1.0]])
    np.save(tmp_path / "x.npy", x)
    out, npz = tmp_path / "raster.png", tmp_path / "spikes.npz"
    result = hstnn("show", ckpt, "--sample", tmp_path / "x.npy", "--out", out, "--npz", npz)
    assert result.code == 0, result.err
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    held = np.load(npz)
    assert held["layer1/spikes"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert held["x"].tolist() == x.tolist()
    assert str(out) in result.out


def test_a_recipe_and_its_own_data(hstnn: Hstnn) -> None:
    plain = json.loads(hstnn("show", "stack-digits", "--index", "3", "--json").out)
    assert plain["weights"] == "random, seed 0"
    assert "no. 3 of the test split of digits, class" in plain["sample"]
    assert plain["steps"] == 8
    assert json.loads(hstnn("show", "digits", "--json").out)["neurons"]["1"]["threshold"] == 0.6


def test_a_checkpoint_on_the_data_of_a_recipe_that_fits(ckpt: Path, hstnn: Hstnn) -> None:
    refused = hstnn("show", ckpt, "--recipe", "digits")
    assert refused.code == 2
    assert "does not fit" in refused.error


def test_a_bundle_is_shown_by_the_weights_of_its_files(ckpt: Path, hstnn: Hstnn, tmp_path: Path) -> None:
    export_bundle(ckpt, tmp_path / "bundle", forms=["step"], verify=False)
    plain = json.loads(hstnn("show", tmp_path / "bundle", "--json").out)
    assert plain["weights"] == "model.step.onnx"
    assert plain["spike_rates"] == json.loads(hstnn("show", ckpt, "--json").out)["spike_rates"]
    export_bundle(ckpt, tmp_path / "pt2", ["pt2"], verify=False)
    assert json.loads(hstnn("show", tmp_path / "pt2", "--json").out)["weights"] == "model.pt2"


def test_a_bundle_of_torchscript_alone_says_what_it_cannot_show(ckpt: Path, hstnn: Hstnn, tmp_path: Path) -> None:
    export_bundle(ckpt, tmp_path / "bundle", ["torchscript"], verify=False)
    result = hstnn("show", tmp_path / "bundle")
    assert result.code == 0, result.err
    assert "spikes n/a" in result.out
    assert "lif" in result.out
    assert json.loads(hstnn("show", tmp_path / "bundle", "--json").out)["spike_rates"] is None
    refused = hstnn("show", tmp_path / "bundle", "--out", tmp_path / "raster.png")
    assert refused.code == 2
    assert "cannot be shown" in refused.error
    assert "--onnx" in refused.hint


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nope"], 2, "unknown recipe 'nope'"),
        (["nope.pt"], 4, "does not exist"),
        (["nope.yaml"], 2, "does not exist"),
        (["own.pt", "--index", "1"], 2, "no test split"),
        (["own.pt", "--out", "raster.jpg"], 2, ".png"),
        (["own.pt", "--npz", "raster.png"], 2, ".npz"),
        (["own.pt", "--sample", "x.npy", "--steps", "3"], 2, "--sample"),
        (["own.pt", "--sample", "x.npy"], 3, "x.npy"),
        (["stack-digits", "--index", "360"], 2, "not in the test split of 360"),
        (["stack-digits", "--index", "1", "--steps", "3"], 2, "--steps"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_line(
    words: list[str], code: int, says: str, ckpt: Path, hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ckpt.parent)
    result = hstnn("show", *words)
    assert result.code == code, result.err
    assert says in result.error


def test_a_picture_leaves_out_what_it_has_no_room_for_and_says_so() -> None:
    spikes = np.zeros((4, 3))
    spikes[1, 2] = 1
    shown = [(f"layer {number}", {"spikes": spikes, "membrane": spikes}) for number in range(30)]
    figure, notes = draw_raster("many", shown)
    assert "24 of 30 layers" in notes[0]
    dots = figure.axes[0].collections[0].get_offsets()
    assert np.asarray(dots).tolist() == [[1, 2]]
    wide, _ = draw_raster("wide", [("layer 1", {"spikes": np.ones((2, 1000))})])
    assert "200 of 1000 units" in wide.axes[0].get_title(loc="left")
    assert np.asarray(wide.axes[0].collections[0].get_offsets())[:, 1].max() == 999


def test_a_picture_numbers_whole_units_and_names_the_steps_below_each_column() -> None:
    two = {"spikes": np.ones((3, 2)), "membrane": np.ones((3, 2))}
    figure, _ = draw_raster("few", [("layer 1", two), ("answer", {"after each step": np.ones((3, 1))})])
    drawn = [axes for axes in figure.axes if axes.get_ylabel() == "unit"]
    assert len(drawn) == 3
    for axes in drawn:
        assert all(float(each).is_integer() for each in (*axes.get_xticks(), *axes.get_yticks()))
    assert [axes.get_xlabel() for axes in drawn] == ["", "step", "step"]
