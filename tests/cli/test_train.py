"""`hstnn train` through the command line: what it trains on, and what it prints."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.fitting.progress import make_observer
from hstnn_deploy.train.stages import train
from tests.conftest import TINY, Hstnn, options, settings

DIGITS = ["train", "digits", "--device", "cpu", *options(TINY)]


SMNIST = ["train", "smnist", "--device", "cpu", "--kind", "snn", *options({**TINY, "batch": 50})]


FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def test_a_hybrid_goes_through_its_stages_and_ends_with_a_table_and_what_to_do_next(
    hstnn: Hstnn, tmp_path: Path
) -> None:
    result = hstnn(*DIGITS, "--out", tmp_path)
    assert (result.code, result.err) == (0, "")
    base = tmp_path / "digits/hybrid/seed1111"
    for text in (
        "data: scikit-learn's digits",
        "adapt: 2 epochs",
        "adapt: epoch 2/2  loss ",
        "samples/s",
        "select: 4 Hessian probes",
        "select: kept 6 spiking and 5 recurrent units",
        "restore: best epoch",
        "protocol: best epoch chosen on a validation split held out of training",
        f"hstnn evaluate --ckpt {base / 'ratio-0.5' / 'best.pt'}",
        f"hstnn export --ckpt {base / 'ratio-0.5' / 'best.pt'}",
    ):
        assert text in result.out
    accuracy = RunFolder(base / "ratio-0.5").status()["result"]["test"]["accuracy"]
    assert f"{accuracy:.2f} %" in result.out

    again = hstnn(*DIGITS, "--out", tmp_path)
    assert again.code == 0
    for stage in ("adapt", "traces", "restore"):
        assert f"{stage}: already finished in {base}" in again.out
    assert f"{accuracy:.2f} %" in again.out


def test_with_json_standard_output_is_json_and_nothing_else(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn(*DIGITS, "--kind", "rnn", "--out", tmp_path, "--json")
    assert result.code == 0
    (run,) = json.loads(result.out)["runs"]
    assert run["folder"] == str(tmp_path / "digits/rnn/seed1111")
    assert run["state"] == "finished"
    assert 0 <= run["result"]["test"]["accuracy"] <= 100
    assert run["result"]["protocol"] == "validation"
    assert "train: 2 epochs" in result.err  # for whoever watches


def test_lstm_networks_have_folders_of_their_own_and_share_none_with_rnn(hstnn: Hstnn, tmp_path: Path) -> None:
    for words in (
        ["--kind", "lstm"],
        ["--kind", "ffs", "--recurrent", "lstm"],
        ["--recurrent", "lstm"],
        ["--kind", "ffs", "--recurrent", "rnn"],
    ):
        result = hstnn(*DIGITS, *words, "--out", tmp_path)
        assert (result.code, result.err) == (0, "")
    names = {path.name for path in (tmp_path / "digits").iterdir()}
    assert names == {"lstm", "ffs-lstm-0.5", "hybrid-lstm", "ffs-0.5"}
    restored = Checkpoint.load(tmp_path / "digits/hybrid-lstm/seed1111/ratio-0.5/best.pt")
    assert sum(size.rnn for size in restored.sizes) == 5
    assert restored.resolved_recipe().network.recurrent == "lstm"
    assert any(value.dim() == 3 for value in restored.parameters.values())
    assert hstnn("evaluate", "--ckpt", tmp_path / "digits/ffs-lstm-0.5/seed1111/best.pt").code == 0


def test_an_adapted_network_is_not_offered_for_export(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn(*DIGITS, "--stage", "adapt", "--out", tmp_path)
    assert result.code == 0
    assert "--stage select" in result.out
    assert "hstnn export" not in result.out
    assert hstnn(*DIGITS, "--stage", "select", "--out", tmp_path).code == 0
    assert "hstnn export" in hstnn(*DIGITS, "--stage", "restore", "--out", tmp_path).out


def test_the_demos_protocol_is_marked_in_the_report(hstnn: Hstnn, tmp_path: Path) -> None:
    result = hstnn(*DIGITS, "--kind", "snn", "--set", "protocol=test", "--out", tmp_path)
    assert "best epoch chosen on the TEST split (the demo's protocol; overstates)" in result.out
    best = tmp_path / "digits/snn/seed1111/best.pt"
    assert "on the TEST split" in hstnn("evaluate", "--ckpt", best).out
    assert json.loads(hstnn("evaluate", "--ckpt", best, "--json").out)["protocol"] == "test"


def test_options_outweigh_set_and_name_the_folder(hstnn: Hstnn, tmp_path: Path) -> None:
    words: list[str | Path] = ["--set", "seed=1", "--kind", "ffs", "--ratio", "0.25", "--seed", "7", "--out", tmp_path]
    assert hstnn(*DIGITS, *words).code == 0
    assert (tmp_path / "digits/ffs-0.25/seed7/best.pt").exists()


def test_a_recipe_of_your_own_is_trained_by_path(hstnn: Hstnn, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(hstnn("recipes", "digits").out.replace("# name: my-digits", "name: mine"))
    result = hstnn("train", path, "--device", "cpu", *options(TINY), "--kind", "rnn", "--out", tmp_path / "out")
    assert result.code == 0
    assert (tmp_path / "out/mine/rnn/seed1111/best.pt").exists()


def test_your_own_idx_files_are_trained_on(hstnn: Hstnn, mnist: Path, tmp_path: Path) -> None:
    words: list[str | Path] = [*SMNIST, "--set", "data.checksum=false", "--data-dir", mnist, "--out", tmp_path / "out"]
    result = hstnn(*words)
    assert (result.code, result.err) == (0, "")
    assert f"MNIST from {mnist}, 108 training, " in result.out
    found = hstnn("evaluate", "--ckpt", tmp_path / "out/smnist/snn/seed1111/best.pt", "--data-dir", mnist)
    assert "20 samples" in found.out


def test_the_data_folder_may_come_from_the_environment(
    hstnn: Hstnn, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSTNN_DATA", str(mnist))
    assert hstnn(*SMNIST, "--set", "data.checksum=false", "--out", tmp_path / "out").code == 0


# What a person sees.


def test_a_terminal_shows_loss_metric_speed_and_time_left(tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=150, highlight=False)
    observer = make_observer(screen)
    train(load_recipe("digits", [*settings(TINY), "batch=10"]), tmp_path, observer=observer)
    observer.close()
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    for pattern in (
        r"adapt.*0/2",
        r"adapt.*2/2.*loss \d+\.\d{4}  valid accuracy \d+\.\d\d",
        r"batch \d+/130  \d+ samples/s",
        r"\d:\d\d:\d\d",
        r"select \(Hessian probes\).*4/4",
        r"restore.*2/2",
    ):
        assert re.search(pattern, shown), pattern
    for line in ("data: scikit-learn's digits", "adapt: best epoch", "select: kept 6", "restore: best epoch"):
        assert line in shown


def test_a_log_file_gets_plain_lines_not_too_many_and_always_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("hstnn_deploy.train.fitting.progress.time.monotonic", lambda: now)
    log = Console(file=io.StringIO(), width=40, highlight=False)
    observer = make_observer(log)
    observer.stage_started("adapt", 50, 0)
    for epoch in range(1, 51):
        now += 1
        observer.batch_done(epoch, 1, 1, 30)
        row = {"epoch": epoch, "train_loss": 1.0, "valid_accuracy": 50.0, "valid_loss": 1.0, "train_seconds": 0.5}
        observer.epoch_done({**row, "best": epoch == 50})
    assert isinstance(log.file, io.StringIO)
    title, *lines = log.file.getvalue().splitlines()
    assert title == "adapt: 50 epochs"
    assert 3 <= len(lines) <= 26
    assert lines[-1] == "adapt: epoch 50/50  loss 1.0000  valid accuracy 50.00  60 samples/s  best"
    assert "\x1b" not in log.file.getvalue()


def test_a_network_that_never_spikes_is_said_in_training_report_and_json(hstnn: Hstnn, tmp_path: Path) -> None:
    silent: dict[str, object] = {"adapt.epochs": 3, "batch": 700, "network.neuron.threshold": 1000}
    result = hstnn(*DIGITS, "--kind", "snn", *options(silent), "--out", tmp_path)
    assert result.code == 0, result.err
    warnings = [line for line in result.out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2, "once each, whatever the number of epochs"
    assert "layers 1 and 2 did not spike once" in warnings[0]
    assert "the training loss is" in warnings[1]
    assert "firing 0, 0 %" in result.out
    report = " ".join(hstnn("report", tmp_path).out.split())
    assert "snn, seed 1111: layers 1 and 2 did not spike once in the validation pass of epoch" in report
    (study,) = json.loads(hstnn("report", tmp_path, "--json").out)["studies"]
    (run,) = study["cells"][0]["runs"]
    assert "did not spike once" in run["warnings"][0]
    assert run["figures"]["spike_rate.layer1"] == 0
