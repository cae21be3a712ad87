"""`hstnn robustness` as a user calls it: tables, files, pictures, attacks of another seed, and refusals."""

import csv
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from hstnn_deploy.robustness.record import read
from hstnn_deploy.train.stages import train
from tests import own_data
from tests.conftest import Hstnn
from tests.train.stage_cases import tiny

ALL_OF_DIGITS = [
    *("gaussian", "salt-pepper", "frame-loss", "frame-repeat", "frame-jitter", "occlusion", "contrast", "stretch"),
    *("compress", "sign-noise", "fgsm", "pgd", "weight-gaussian", "weight-lognormal", "weight-stuck", "weight-bits"),
    *("float16", "threshold-mismatch", "leak-mismatch", "spike-loss", "spike-delay"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("robust")
    for seed in (1111, 2222):
        train(tiny(kind="snn", seed=seed, network__units="[20, 20]", batch=50), out)
    train(tiny(kind="rnn", adapt__epochs=1), out)
    return out


def _ckpt(runs: Path, seed: int = 1111, kind: str = "snn") -> Path:
    return runs / f"digits/{kind}/seed{seed}/best.pt"


def test_all_that_fits_is_measured_of_all_networks_and_seeds_stand_together(
    hstnn: Hstnn, runs: Path, tmp_path: Path
) -> None:
    shown = hstnn("robustness", runs, "--draws", "2", "--threads", "1", "--out", tmp_path / "all")
    assert shown.code == 0, shown.err
    for text in ("digits, snn: accuracy in %", "digits, rnn", "pgd, other seed", "a tenth lost", "2 draws"):
        assert text in shown.out
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        *("robustness.json", "robustness.csv", "robustness.png")
    }
    assert (tmp_path / "all/robustness.png").stat().st_size > 20_000
    found = read(tmp_path / "all/robustness.json")
    spiking = [each for each in found.networks if each.kind == "snn"]
    for network in spiking:
        own = [curve.name for curve in network.curves if not curve.transferred]
        assert own == ALL_OF_DIGITS
        assert [curve.name for curve in network.curves if curve.transferred] == ["fgsm", "pgd"]
    recurrent = next(each for each in found.networks if each.kind == "rnn")
    assert [curve.name for curve in recurrent.curves] == ALL_OF_DIGITS[:17]
    rows = list(csv.DictReader((tmp_path / "all/robustness.csv").read_text().splitlines()))
    clean = [float(row["value"]) for row in rows if float(row["level"]) == 0]
    assert clean == [each.clean for each in found.networks]
    plain = json.loads((tmp_path / "all/robustness.json").read_text())
    # A tenth of the range costs a spiking network more by an attack than by noise of the same norm.
    for network in plain["networks"]:
        curves = {(curve["name"], curve["transferred"]): curve for curve in network["curves"]}
        if network["kind"] == "snn":
            noise, attack = (fmean(curves[name, ""]["values"][-1]) for name in ("sign-noise", "pgd"))
            assert attack < noise
        assert all(curve["scores"]["area"]["mean"] is not None for curve in network["curves"])


def test_the_undisturbed_figure_is_that_of_evaluate_and_draws_repeat(hstnn: Hstnn, runs: Path) -> None:
    asked = ["--disturb", "gaussian=0.2", "--json", "--draws"]
    words: list[str | Path] = ["robustness", "--ckpt", _ckpt(runs), *asked]
    first, second = (json.loads(hstnn(*words, "3").out) for _ in range(2))
    assert first["networks"] == second["networks"]
    evaluated = json.loads(hstnn("evaluate", "--ckpt", _ckpt(runs), "--json").out)
    assert first["networks"][0]["clean"] == evaluated["accuracy"]
    assert len(set(first["networks"][0]["curves"][0]["values"][0])) > 1
    more = json.loads(hstnn(*words, "5").out)
    assert more["networks"][0]["curves"][0]["values"][0][:3] == first["networks"][0]["curves"][0]["values"][0]


def test_the_list_says_what_each_level_is(hstnn: Hstnn) -> None:
    shown = hstnn("robustness", "--list")
    assert "standard deviation" in shown.out
    listed = json.loads(hstnn("robustness", "--list", "--json").out)["disturbances"]
    assert {each["name"] for each in listed} >= {*ALL_OF_DIGITS, "event-drop", "word-drop"}
    assert all(each["unit"] and each["about"] and each["levels"] for each in listed)


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ([], "no network is given", "--ckpt"),
        (["--disturb", "gausian"], "unknown disturbance 'gausian'", "gaussian"),
        (["--disturb", "frame-loss=2"], "level 2 must be from 0 to 1", ""),
        (["--disturb", "event-drop"], "acts on raw events, but digits has none", ""),
        (["--disturb", "word-drop"], "acts on words, but digits is not text", ""),
        (["--disturb", "gaussian=0"], "level 0 disturbs nothing", "above 0"),
        (["--disturb", "pgd", "--disturb", "pgd=0.1"], "names a disturbance twice", "together"),
        (["--out", "x.txt"], "unsupported file format", ".png"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    hstnn: Hstnn, runs: Path, words: list[str], said: str, hint: str
) -> None:
    given = ["--ckpt", str(_ckpt(runs))] if words else []
    shown = hstnn("robustness", *given, *words)
    assert shown.code != 0
    assert said in shown.err
    assert hint in shown.err
    assert "Traceback" not in shown.err


def test_neurons_that_a_network_lacks_are_refused(hstnn: Hstnn, runs: Path) -> None:
    shown = hstnn("robustness", "--ckpt", _ckpt(runs, kind="rnn"), "--disturb", "leak-mismatch")
    assert "this network has no LIF neurons" in shown.err


def test_own_data_is_measured_by_its_own_metric_and_never_beside_other_data(
    hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own_data.series(Path("values"), "values")
    own_data.series(Path("few"), "names")
    own_data.series(Path("many"), "names", samples=60)
    short = ["--set", "train.epochs=1", "--set", "batch=4", "--device", "cpu", "--threads", "1"]
    best = {}
    for name in ("values", "few", "many"):
        assert hstnn("train", "stack-digits", "--data", name, *short).code == 0
        best[name] = f"runs/stack-digits-{name}/plain/seed1111/best.pt"
    asked = ["--disturb", "gaussian=0.2", "--disturb", "pgd=0.1", "--draws", "1", "--threads", "1"]
    (values,) = json.loads(hstnn("robustness", "--ckpt", best["values"], *asked, "--json").out)["networks"]
    evaluated = json.loads(hstnn("evaluate", "--ckpt", best["values"], "--json").out)
    assert (values["metric"], values["higher_is_better"]) == ("rmse", False)
    assert values["clean"] == evaluated["rmse"]
    assert values["curves"][1]["values"][0][0] > values["clean"]
    two = hstnn("robustness", "--ckpt", best["few"], "--ckpt", best["many"], *asked)
    assert two.code != 0
    assert "was trained on own data" in two.error
    assert two.hint == "measure networks of one data set at a time"
    mixed = hstnn("robustness", "--ckpt", best["few"], "--ckpt", best["values"], *asked)
    assert "is rmse, and that of" in mixed.error
    Path("few").rename("moved")
    assert "do not exist" in hstnn("robustness", "--ckpt", best["few"], *asked).error
    moved = json.loads(hstnn("robustness", "--ckpt", best["few"], *asked, "--data-dir", "moved", "--json").out)
    assert moved["networks"][0]["metric"] == "accuracy"


def test_a_network_without_a_recipe_is_refused_in_one_line(hstnn: Hstnn, runs: Path, tmp_path: Path) -> None:
    from hstnn_deploy.checkpoint import Checkpoint

    Checkpoint.load(_ckpt(runs)).model_copy(update={"recipe": {}}).save(tmp_path / "bare.pt")
    refused = hstnn("robustness", "--ckpt", tmp_path / "bare.pt")
    assert "has no recipe" in refused.error


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    from hstnn_deploy.errors import RunError

    path = tmp_path / "robustness.json"
    for text, said in (
        ("{", "robustness"),
        ('{"format": "other"}', "not a robustness record"),
        ('{"format": "hstnn-robustness", "version": 9}', "version 9"),
        ('{"format": "hstnn-robustness", "version": 1, "networks": []}', "networks"),
    ):
        path.write_text(text)
        with pytest.raises(RunError, match=said):
            read(path)


@pytest.mark.parametrize("there", [False, True])
def test_ctrl_c_keeps_the_networks_that_are_measured(
    hstnn: Hstnn, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """They are written, unless something whole is there already."""
    from hstnn_deploy.cli import robustness as command

    real, out = command._measure, tmp_path / "robust"
    asked: list[str | Path] = ["--disturb", "float16", "--out", out]
    if there:
        assert hstnn("robustness", "--ckpt", _ckpt(runs), *asked).code == 0
    before = (out / "robustness.json").read_bytes() if there else b""
    calls: list[Path] = []

    def stopped(path: Path, *more: Any) -> Any:
        calls.append(path)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(path, *more)

    monkeypatch.setattr(command, "_measure", stopped)
    result = hstnn("robustness", "--ckpt", _ckpt(runs), "--ckpt", _ckpt(runs, 2222), *asked)
    assert (result.code, result.out) == (130, "")
    assert "interrupted: 1 of 2 networks measured" in result.err
    if there:
        assert (out / "robustness.json").read_bytes() == before
        assert "nothing was written" in result.err
    else:
        assert [each.seed for each in read(out / "robustness.json").networks] == [1111]


def test_an_attack_comes_from_a_network_of_the_same_stage(hstnn: Hstnn, tmp_path: Path) -> None:
    """A redundant network of another seed has the same recipe as a restored one, and another size."""
    for seed in (1111, 2222):
        train(tiny(seed=seed, adapt__epochs=1, restore__epochs=1), tmp_path)
    asked = ["--disturb", "fgsm=0.1", "--json"]
    restored = sorted(tmp_path.rglob("ratio-*/best.pt"))
    redundant = sorted(tmp_path.rglob("adapt/best.pt"))
    named = [word for path in (restored[0], redundant[1], restored[1]) for word in ("--ckpt", path)]
    both = [word for path in (restored[0], restored[1]) for word in ("--ckpt", path)]
    found = [json.loads(hstnn("robustness", *each, *asked).out)["networks"][0]["curves"] for each in (named, both)]
    assert [[(curve["transferred"], curve["values"]) for curve in each] for each in found[:1]] == [
        [(curve["transferred"], curve["values"]) for curve in found[1]]
    ]
    alone = json.loads(hstnn("robustness", *named[:4], *asked).out)["networks"][0]["curves"]
    assert [curve["transferred"] for curve in alone] == [""]
