"""Tiny-ImageNet and CIFAR10-DVS through the command line: prepared, trained, exported and run, on small files."""

import json
from pathlib import Path

import pytest

from hstnn_deploy.data import cache
from hstnn_deploy.data.events.events import Sensor
from tests.cli.test_data import is_png
from tests.conftest import Hstnn
from tests.event_files import aedat2, make_cifar10_dvs, random_events
from tests.tiny_imagenet import make_tiny_imagenet

LIF = "{lif: {decay: 0.9, threshold: 1.0, reset: subtract, surrogate: triangular}}"
TINY = f"""name: tiny
data: {{name: tiny-imagenet, images: {{steps: 3, mean: [0.5, 0.4, 0.3], std: [0.2], crop: 2, flip: true}}}}
network:
  family: stack
  input: [3, 64, 64]
  layers:
    - {{pool: mean, size: 8}}
    - {{conv: 4, kernel: 3}}
    - {{norm: {{over: step, steps: 3}}}}
    - {LIF}
    - flatten
    - {{linear: 200}}
loss: cross-entropy
batch: 9
train: {{epochs: 1, lr: 0.01}}
"""
DVS = f"""name: dvs
data:
  name: cifar10-dvs
  transforms: [{{name: time-alignment}}, {{name: downsample, factor: 16}}]
  frame_time: 100000
  steps: 4
network:
  family: stack
  input: [2, 8, 8]
  layers: [{{conv: 4, kernel: 3}}, {LIF}, flatten, {{linear: 10}}]
loss: cross-entropy
batch: 9
train: {{epochs: 1, lr: 0.01}}
"""


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def trained(hstnn: Hstnn, recipe: str, folder: Path, tmp_path: Path) -> Path:
    """Train a recipe for an epoch; return its checkpoint."""
    (tmp_path / "recipe.yaml").write_text(recipe)
    result = hstnn(
        "train", tmp_path / "recipe.yaml", "--data-dir", folder, "--out", tmp_path / "runs", "--device", "cpu"
    )
    assert (result.code, result.err) == (0, "")
    (best,) = (tmp_path / "runs").rglob("best.pt")
    return best


def test_tiny_imagenet_is_prepared_verified_shown_trained_and_exported(hstnn: Hstnn, tmp_path: Path) -> None:
    folder = make_tiny_imagenet(tmp_path / "data")
    first = json.loads(hstnn("data", "prepare", "tiny-imagenet", "--data-dir", folder, "--json").out)[0]
    assert len(first["cached"]) == 2
    assert "in part: 30 of 100000 training" in first["origin"]
    verified = json.loads(hstnn("data", "verify", "tiny-imagenet", "--data-dir", folder, "--json").out)
    assert (verified["wrong"], verified["checks"]) == ([], 42)
    shown = hstnn("data", "show", "tiny-imagenet", "--data-dir", folder, "--out", tmp_path / "x.png", "--count", "2")
    assert (shown.code, shown.err) == (0, "")
    assert is_png(tmp_path / "x.png")
    best = trained(hstnn, TINY, folder, tmp_path)
    # What is prepared serves images read in any way.
    assert len(list((tmp_path / "cache" / "tiny-imagenet").glob("*.rows"))) == 2
    figures = [
        hstnn("evaluate", "--ckpt", best, "--data-dir", folder, "--json", "--cache", where)
        for where in ("none", "disk")
    ]
    assert figures[0].out == figures[1].out
    assert json.loads(figures[0].out)["samples"] == 12
    exported = hstnn("export", "--ckpt", best, "--data-dir", folder, "--out", tmp_path / "bundle")
    assert exported.code == 0, exported.err


def test_the_first_wrong_file_is_named_and_all_by_verify(hstnn: Hstnn, tmp_path: Path) -> None:
    folder = make_tiny_imagenet(tmp_path / "data")
    wrong = sorted(folder.glob("train/*/images/*_2.JPEG"))
    for path in wrong:
        path.write_bytes(path.read_bytes()[:700])
    (tmp_path / "recipe.yaml").write_text(TINY)
    result = hstnn("train", tmp_path / "recipe.yaml", "--data-dir", folder, "--out", tmp_path / "runs")
    assert result.code == 3
    assert f"{wrong[0]} is damaged, or not a JPEG file" in result.err
    assert not (tmp_path / "runs").exists()
    verified = json.loads(hstnn("data", "verify", "tiny-imagenet", "--data-dir", folder, "--json").out)
    assert [each["file"] for each in verified["wrong"]] == list(map(str, wrong))


def test_a_network_of_cifar10_dvs_runs_on_a_single_recording(hstnn: Hstnn, tmp_path: Path) -> None:
    folder = make_cifar10_dvs(tmp_path / "data")
    best = trained(hstnn, DVS, folder, tmp_path)
    bundle = tmp_path / "bundle"
    exported = hstnn("export", "--ckpt", best, "--data-dir", folder, "--out", bundle)
    assert exported.code == 0, exported.err
    recording = folder / "cat" / "cifar10_cat_0.aedat"
    answer = hstnn("run", bundle, "--input", recording, "--json")
    assert answer.code == 0, answer.err
    assert "AEDAT 2.0 (DVS128)" in answer.out + answer.err
    # A camera that was switched on at another time has the same answer, and so has a file that names no camera.
    events = random_events(1000, 600, Sensor(128, 128), 400_000, 1)
    for number, (content, said) in enumerate(
        ((aedat2(events), "AEDAT 2.0 (DVS128)"), (aedat2(events, ""), "taken for a DVS128"))
    ):
        path = tmp_path / f"{number}.aedat"
        path.write_bytes(content)
        other = hstnn("run", bundle, "--input", path, "--json")
        assert said in other.out + other.err
        assert classes(other.out) == classes(answer.out)
    path.write_bytes(aedat2(events, "eu.seebetter.ini.chips.davis.Davis640", (640, 480)))
    refused = hstnn("run", bundle, "--input", path)
    assert refused.code == 3
    assert "from the camera 'Davis640', whose addresses hstnn does not know" in refused.err


def classes(out: str) -> object:
    """The answer of `hstnn run --json` without the file's name and report."""
    return json.loads(out)["results"][0]["samples"]
