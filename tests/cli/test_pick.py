"""`hstnn pick`: from runs, records and robustness to the network to deploy."""

import json
from pathlib import Path

import pytest

from hstnn_deploy.train.stages import train
from tests.conftest import Hstnn
from tests.train.stage_cases import tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("picked")
    for seed in (1111, 2222):
        train(tiny(kind="snn", seed=seed, network__units="[20, 20]", batch=50), out)
    train(tiny(kind="rnn", adapt__epochs=1), out)
    train(tiny(), out)
    return out


@pytest.fixture
def measured(hstnn: Hstnn, runs: Path) -> Path:
    """Records and robustness beside the runs, measured once."""
    if not (runs / "robust").exists():
        for kind in ("snn", "rnn"):
            words = ["--phases", "work", "--out", str(runs / f"profile-{kind}"), "--threads", "1"]
            assert hstnn("profile", "--ckpt", runs / f"digits/{kind}/seed1111/best.pt", *words).code == 0
        asked = ["--disturb", "gaussian=0.2", "--draws", "1", "--out", str(runs / "robust")]
        assert hstnn("robustness", runs / "digits", *asked).code == 0
    return runs


def test_the_network_within_the_bounds_is_named_with_the_command_that_exports_it(
    hstnn: Hstnn, measured: Path, tmp_path: Path
) -> None:
    shown = hstnn("pick", measured, "--max-energy", "1000", "--out", tmp_path / "pick.png")
    assert shown.code == 0, shown.err
    assert "Picked: digits snn" in shown.out
    assert "hstnn export --ckpt" in shown.out
    assert "seed" in shown.out.split("hstnn export --ckpt")[1]
    assert (tmp_path / "pick.png").stat().st_size > 10_000
    facts = json.loads(hstnn("pick", measured, "--max-energy", "1000", "--json").out)
    networks = {each["network"]: each for each in facts["networks"]}
    # The redundant hybrid is no candidate; the restored one has no record, so that its energy is not known.
    assert set(networks) == {"digits snn", "digits rnn", "digits hybrid 0.5"}
    assert networks["digits hybrid 0.5"]["left_out"] == "energy not measured"
    assert networks["digits snn"]["seeds"] == 2
    best = max(
        (json.loads((measured / f"digits/snn/seed{seed}/status.json").read_text())["result"]["test"]["accuracy"], seed)
        for seed in (1111, 2222)
    )
    assert f"seed{best[1]}" in facts["picked"]["checkpoint"]


def test_what_decides_can_be_chosen(hstnn: Hstnn, measured: Path) -> None:
    def picked(*words: str) -> str:
        return str(json.loads(hstnn("pick", measured, *words, "--json").out)["picked"]["network"])

    facts = json.loads(hstnn("pick", measured, "--json").out)["networks"]
    assert picked() == max(facts, key=lambda each: each["accuracy"])["network"]
    assert picked("--prefer", "robustness") == max(facts, key=lambda each: each["robustness"])["network"]
    known = [each for each in facts if "energy" in each["costs"]]
    assert picked("--prefer", "cost") == min(known, key=lambda each: each["costs"]["energy"])["network"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--min-accuracy", "99.9"], "none of the 3 networks is within the bounds"),
        (["--max-perplexity", "100"], "none of the 3 networks is within the bounds"),
        (["--max-latency", "1"], "none of the 3 networks is within the bounds"),
        (["--disturbance", "pgd"], "no network was measured under the disturbance 'pgd'"),
        (["--out", "pick.txt"], "does not end in .png"),
    ],
)
def test_nothing_to_pick_is_an_error_with_its_reason(hstnn: Hstnn, measured: Path, words: list[str], said: str) -> None:
    shown = hstnn("pick", measured, *words)
    assert shown.code != 0
    assert said in shown.err
    if words[0].startswith("--m"):
        assert "below 99.9" in shown.out or "not perplexity" in shown.out or "latency not measured" in shown.out


def test_a_folder_without_runs_is_refused(hstnn: Hstnn, tmp_path: Path) -> None:
    shown = hstnn("pick", tmp_path)
    assert shown.code != 0
    assert "contains neither runs nor" in shown.err
