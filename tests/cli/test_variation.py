"""Accuracy of weights on devices against variation and memory, through the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.pictures.variation import draw_memory, draw_variation
from hstnn_deploy.train.stages import train
from hstnn_deploy.train.sweep.plan import plan
from hstnn_deploy.train.sweep.points import Sweep
from hstnn_deploy.train.variation import Curve, Draws
from tests.cli.test_sweep_steps import BITS, CHANGES
from tests.conftest import Hstnn


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a sweep over two bit widths trains, in this process."""
    out = tmp_path_factory.mktemp("swept")
    for job in plan(Sweep(recipe="rram-digits", axes={BITS: [1, 4]}).recipes("x", CHANGES), out):
        train(job.recipe, out, stage=job.argument, vat=job.vat.path if job.vat else None)
    return out


def test_accuracy_against_variation_in_a_table_files_and_pictures(hstnn: Hstnn, swept: Path, tmp_path: Path) -> None:
    words: list[str | Path] = ["evaluate", "--ckpt", swept, "--draws", "2", "--variation", "0,2"]
    shown = hstnn(*words, "--out", tmp_path / "all")
    assert shown.code == 0, shown.err
    for text in ("Accuracy (%) under variation", "Memory and sparsity", "mean of 2 draws", "recover", "±"):
        assert text in shown.out
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        *("variation.json", "variation.csv", "variation.png", "memory.png")
    }
    assert all((tmp_path / "all" / name).stat().st_size > 5000 for name in ("variation.png", "memory.png"))
    found = json.loads((tmp_path / "all/variation.json").read_text())
    assert (found["format"], found["version"], found["draws"]) == ("hstnn-variation", 1, 2)
    assert [(each["bits"], each["step"]) for each in found["networks"]] == [
        (bits, step) for bits in (1, 4) for step in ("baseline", "vat", "recover", "prune")
    ]
    rows = list(csv.DictReader((tmp_path / "all/variation.csv").read_text().splitlines()))
    assert [float(row["scale"]) for row in rows] == [0.0, 2.0] * 8
    assert {row["rram_bits"] for row in rows} == {"4752", "19008"}
    assert rows[0]["half_width_95"] == ""
    ckpt = swept / "rram-digits-bits-4/plain/seed1111/vat/best.pt"
    one = ["--draws", "2", "--variation", "2", "--json"]
    (alone,) = json.loads(hstnn("evaluate", "--ckpt", ckpt, *one).out)["networks"]
    (alone,) = alone["variation"]
    (row,) = (row for row in rows if row["step"] == "vat" and row["bits"] == "4" and row["scale"] == "2.0")
    assert float(row["mean"]) == pytest.approx(alone["mean"])
    assert float(row["half_width_95"]) == pytest.approx(alone["half_width_95"])


def test_one_checkpoint_one_draw_one_file(hstnn: Hstnn, swept: Path, tmp_path: Path) -> None:
    ckpt = swept / "rram-digits-bits-1/plain/seed1111/prune/best.pt"
    words: list[str | Path] = ["evaluate", "--ckpt", ckpt, "--ckpt", ckpt, "--draws", "1", "--variation", "1"]
    shown = hstnn(*words, "--out", tmp_path / "one.png", "--threads", "1")
    assert shown.code == 0, shown.err
    assert "one draw, so no interval" in shown.out
    assert "±" not in shown.out
    assert (tmp_path / "one.png").stat().st_size > 5000
    (network,) = json.loads(hstnn(*words, "--json").out)["networks"]
    assert network["variation"][0]["half_width_95"] is None
    assert network["element_sparsity"] is not None


def test_lines_and_points_of_the_pictures(swept: Path) -> None:
    network = Checkpoint.load(swept / "rram-digits-bits-1/plain/seed1111/prune/best.pt").network()
    memory = network.device_memory()
    assert memory is not None

    def made(bits: int, step: str, name: str = "x") -> Curve:
        draws = {1.0: Draws([70.0, 72.0], 80.0, 0.3), 2.0: Draws([60.0, 64.0], 80.0, 0.6)}
        return Curve("x", name, 1, step, bits, "accuracy", 80.0, draws, None, memory)  # type: ignore[arg-type]

    curves = [made(bits, step) for bits in (1, 2, 4, 8) for step in ("vat", "recover")]
    panels = [panel for panel in draw_variation(curves).axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == [
        f"{text} of RRAM" for text in ("1 bit", "2 bits", "4 bits", "8 bits")
    ]
    assert [len(panel.lines) for panel in panels] == [2, 2, 2, 2]
    assert list(np.asarray(panels[0].lines[0].get_ydata())) == [80.0, 71.0, 62.0]
    (axes,) = draw_memory(curves).axes
    assert axes.get_ylabel() == "accuracy (%) under 1 times sigma"
    many = [made(4, "recover", f"x-{number}") for number in range(5)]
    (panel,) = draw_variation(many).axes
    assert [line.get_label() for line in panel.lines] == [f"recover, x-{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (["--variation", "0,-1", "--draws", "2"], "--variation -1 is not between 0 and 10", "multiples of sigma"),
        (["--variation", "nan", "--draws", "2"], "--variation nan is not between 0 and 10", ""),
        (["--variation", "11", "--draws", "2"], "--variation 11 is not between", ""),
        (["--variation", "much", "--draws", "2"], "--variation 'much' is not a number", ""),
        (["--variation", ",", "--draws", "2"], "--variation is empty", ""),
        (["--variation", "1"], "--variation needs --draws", "add --draws 10"),
        (["--variation", "1", "--draws", "0"], "--variation needs --draws", ""),
        (["--variation", "1", "--draws", "2", "--early-exit"], "--early-exit measures one network", ""),
        (["--variation", "1", "--draws", "2", "--out", "x.txt"], "unsupported file format", "a folder for"),
        (["--ckpt", "other.pt"], "2 checkpoints are given", "--variation"),
    ],
)
def test_what_is_not_measured(hstnn: Hstnn, swept: Path, words: list[str], what: str, hint: str) -> None:
    ckpt = swept / "rram-digits-bits-1/plain/seed1111/vat/best.pt"
    refused = hstnn("evaluate", "--ckpt", ckpt, *words)
    assert refused.code == 2
    assert what in refused.error
    assert hint in refused.err


def test_networks_whose_weights_are_not_on_devices_are_refused(hstnn: Hstnn, swept: Path, tmp_path: Path) -> None:
    few = ["--set", "train.epochs=1", "--set", "train.batches=2"]
    assert hstnn("train", "stack-digits", *few, "--out", tmp_path).code == 0
    words = ["--draws", "2", "--variation", "1"]
    refused = hstnn("evaluate", "--ckpt", tmp_path, "--ckpt", swept, *words)
    assert refused.code == 2
    assert "--variation needs weights on devices, and" in refused.error
    other = hstnn("evaluate", "--ckpt", swept, *words, "--recipe", "rram-digits")
    assert (other.code, "--recipe names another" in other.error) == (2, True)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no finished run" in hstnn("evaluate", "--ckpt", empty, *words).error
    assert hstnn("evaluate", "--ckpt", tmp_path / "no.pt", *words).code != 0
