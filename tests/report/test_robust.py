"""Robustness and the trade-off in every format of a report."""

import csv
import json
from pathlib import Path

import pytest
import torch
from matplotlib.colors import to_hex

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.disturbances.table import DISTURBANCES
from hstnn_deploy.report import robust
from hstnn_deploy.report.collect import collect
from hstnn_deploy.report.formats import every_sheet, markdown, plain
from hstnn_deploy.report.page.document import page
from hstnn_deploy.report.tradeoff import candidates
from hstnn_deploy.robustness.measure import Bench
from hstnn_deploy.robustness.pictures import panels
from hstnn_deploy.robustness.record import Curve, Measured, Robustness, once
from hstnn_deploy.train.stages import train
from tests.conftest import Hstnn
from tests.train.stage_cases import tiny


def _measured(network: str, seed: int, clean: float, values: list[float], recipe: str = "digits") -> Measured:
    curve = Curve(
        name="gaussian",
        unit="of the range",
        where="values",
        levels=[0.1, 0.3],
        axis=[0.1, 0.3],
        values=[[v] for v in values],
    )
    facts = {"metric": "accuracy", "unit": " %", "higher_is_better": True, "split": "test", "batch": 10}
    return Measured(
        source="best.pt", recipe=recipe, data="digits", kind=network, ratio=None, stage="train", seed=seed, clean=clean,
        curves=[curve], **facts,
    )  # fmt: skip


def _number(best: Path) -> str:
    return Checkpoint.load(best).fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in (1111, 2222):
        train(tiny(kind="snn", seed=seed), tmp_path / "runs")
    networks = [_measured("snn", 1111, 90.0, [80.0, 40.0]), _measured("snn", 2222, 92.0, [82.0, 42.0])]
    for each in networks:
        each.parameters = _number(tmp_path / f"runs/digits/snn/seed{each.seed}/best.pt")
    networks.append(_measured("rnn", 1111, 95.0, [90.0, 20.0]))
    (tmp_path / "robustness.json").write_text(json.dumps(Robustness(networks=networks).plain()))
    return tmp_path


def test_the_table_holds_the_mean_area_of_each_network(folder: Path) -> None:
    made = robust.sheet(robust.networks(collect([folder])))
    assert [column.name for column in made.columns] == ["disturbance", "unit of a level", "snn", "rnn"]
    rows = {row[0].text: [entry.number for entry in row[2:]] for row in made.rows}
    assert rows["none"] == [91.0, 95.0]
    # Trapezoids over 0, 0.1, 0.3: of seed 1111 (85 * 0.1 + 60 * 0.2) / 0.3, two more of seed 2222.
    assert rows["gaussian"] == [pytest.approx(20.5 / 0.3 + 1), pytest.approx((92.5 * 0.1 + 55 * 0.2) / 0.3)]


def test_the_tradeoff_joins_runs_and_robustness(folder: Path) -> None:
    (one,) = robust.compared(collect([folder]))
    assert one.name == "digits snn"
    assert one.robustness == pytest.approx(20.5 / 0.3 + 1)
    assert one.best.parent.parent == folder / "runs/digits/snn"


def test_runs_alone_make_no_tradeoff(tmp_path: Path) -> None:
    train(tiny(kind="snn"), tmp_path / "runs")
    collected = collect([tmp_path])
    assert robust.sheets(collected) == []
    assert 'id="robustness"' not in page([], collected)


def test_every_format_has_them(folder: Path, hstnn: Hstnn) -> None:
    collected = collect([folder])
    assert "digits: accuracy under disturbances, test split" in markdown(every_sheet([], collected))
    assert "Accuracy, robustness and cost" in markdown(every_sheet([], collected))
    facts = plain([], collected)
    assert facts["robustness"][0]["networks"][2]["curves"][0]["values"] == [[90.0], [20.0]]
    assert facts["tradeoff"][0]["network"] == "digits snn"
    text = page([], collected)
    assert '<section id="robustness">' in text
    assert text.count('data-chart="disturbances"') == 1
    assert len(text) < 1_500_000
    rows = list(csv.DictReader(robust.as_csv(robust.networks(collected)).splitlines()))
    assert [float(row["value"]) for row in rows][:3] == [90.0, 80.0, 40.0]
    shown = hstnn("report", folder, "--out", folder / "out")
    assert shown.code == 0, shown.err
    assert {"robustness.csv", "robustness.png", "report.html"} <= {path.name for path in (folder / "out").iterdir()}
    assert "under disturbances" in hstnn("report", folder).out


def test_a_damaged_record_in_a_folder_hides_nothing_else(folder: Path, hstnn: Hstnn) -> None:
    (folder / "robustness-old.json").write_text("{")
    shown = hstnn("report", folder)
    assert shown.code == 0
    assert "robustness-old.json" in shown.err
    assert "under disturbances" in shown.out
    named = hstnn("report", folder / "robustness-old.json")
    assert named.code != 0


def _of(seed: int, curves: dict[str, dict[float, float]], made_on: str = "") -> Measured:
    """A network with curves: by name, the metric at each level."""
    own = [
        Curve.of(DISTURBANCES[name], list(levels), [[value] for value in levels.values()], made_on)
        for name, levels in curves.items()
    ]
    return _measured("snn", seed, 90.0, [80.0, 40.0]).model_copy(update={"curves": own})


def test_curves_of_seeds_are_joined_by_disturbance_and_levels_not_by_their_place() -> None:
    one = _of(1, {"gaussian": {0.1: 80.0, 0.2: 60.0}})
    two = _of(2, {"contrast": {0.2: 10.0, 0.4: 4.0}, "gaussian": {0.1: 84.0, 0.2: 64.0}})
    for order in ([one, two], [two, one]):
        drawn = {panel.title: panel.lines for panel in panels(order)}
        assert [line.means for line in drawn["gaussian"]] == [[90.0, 82.0, 62.0]]
        assert [line.means for line in drawn["contrast"]] == [[90.0, 10.0, 4.0]]
        rows = {row[0].text: row[2].number for row in robust.sheet(order).rows}
        assert rows["gaussian"] == pytest.approx((86 * 0.1 + 72 * 0.1) / 0.2)
        assert rows["contrast"] == pytest.approx((50 * 0.2 + 7 * 0.2) / 0.4)


def test_one_disturbance_at_other_levels_is_a_row_and_a_line_of_its_own() -> None:
    both = [_of(1, {"gaussian": {0.1: 80.0, 0.2: 60.0}}), _of(2, {"gaussian": {0.1: 80.0}})]
    assert [row[0].text for row in robust.sheet(both).rows[1:]] == ["gaussian at 0.1, 0.2", "gaussian at 0.1"]
    (panel,) = panels(both)
    assert [line.axis for line in panel.lines] == [[0.0, 0.1, 0.2], [0.0, 0.1]]
    assert panel.ticks == [(0.0, "0"), (0.1, "0.1"), (0.2, "0.2")]


def test_attacks_from_several_seeds_stand_in_one_row() -> None:
    both = [_of(seed, {"pgd": {0.1: value}}, f"seed {3 - seed}") for seed, value in ((1, 40.0), (2, 50.0))]
    assert [row[0].text for row in robust.sheet(both).rows[1:]] == ["pgd, other seed"]
    assert [row[0].text for row in robust.sheet(both[:1]).rows[1:]] == ["pgd from seed 2"]


def test_robustness_is_compared_at_the_levels_that_all_networks_have(tmp_path: Path) -> None:
    train(tiny(kind="snn"), tmp_path / "runs")
    train(tiny(kind="rnn", adapt__epochs=1), tmp_path / "runs")
    runs = collect([tmp_path]).runs
    snn, rnn = ({"parameters": _number(tmp_path / f"runs/digits/{kind}/seed1111/best.pt")} for kind in ("snn", "rnn"))
    own = [_of(1, {"gaussian": {0.1: 80.0}, "contrast": {0.2: 10.0}}), _of(1, {"gaussian": {0.1: 80.0, 0.2: 0.0}})]
    own = [each.model_copy(update=snn) for each in own]
    other = _of(2, {"gaussian": {0.1: 84.0}}).model_copy(update={"kind": "rnn", **rnn})

    def area(robust: list[Measured], disturbance: str | None = None) -> float | None:
        found = candidates(runs, [], robust, disturbance)
        assert found.left_out == []
        return next(each.robustness for each in found.networks if each.kind == "snn")

    assert area([*own, other]) == area([*own, other], "gaussian") == 85.0
    assert area([*own, other], "contrast") == 50.0
    assert area([own[1], other]) is None


@pytest.mark.parametrize("number", [4, 15])
def test_a_picture_of_many_networks_has_a_colour_for_each_and_a_legend_within_it(number: int) -> None:
    """Seeds 1 and 2 of each; the attack of the other seed is dashed, and named once."""
    networks = []
    for place in range(number):
        for seed in (1, 2):
            made = _measured("hybrid", seed, 90.0, [80.0, 40.0])
            attack = made.curves[0].model_copy(update={"name": "pgd"})
            other = attack.model_copy(update={"transferred": f"seed {3 - seed}"})
            ratio = round((place + 1) / (number + 1), 3)
            networks.append(made.model_copy(update={"ratio": ratio, "curves": [made.curves[0], attack, other]}))
    figure = robust.draw_robust(networks)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == len(set(names)) == number + 1
    assert names[-1].startswith("dashed: ")
    solid = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "-"]
    assert len({to_hex(line.get_color()) for line in solid}) == number
    assert {line.get_linestyle() for line in figure.axes[1].get_lines()} == {"-", "--"}
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_what_was_measured_of_other_weights_is_not_joined(folder: Path) -> None:
    """A checkpoint of the same name that was trained again, elsewhere or differently has a robustness of its own."""
    path = folder / "robustness.json"
    plain = json.loads(path.read_text())
    plain["networks"][0]["parameters"] = "0" * 64
    plain["networks"][1]["split"] = "valid"
    path.write_text(json.dumps(plain))
    collected = collect([folder])
    found = robust.joined(collected)
    assert [each.robustness for each in found.networks] == [None]
    lines = [line for line in found.left_out if "seed" in line]
    assert [line[: line.index(":", 20)] for line in lines] == [
        f"not joined: robustness of digits snn, seed {seed}, measured on best.pt" for seed in (1111, 2222)
    ]
    assert "trained again" in lines[0]
    assert "valid split" in lines[1]
    # Two splits are two tables.
    assert len(robust.by_data(collected)) == 2


def test_recipes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Two trainings that differ in `against` are two networks, in the table as in the choice."""
    networks = []
    for name, more in (("plain", {}), ("hard", {"against": "{gaussian: 0.3}"})):
        best = train(tiny(kind="snn", adapt__epochs=1, **more), tmp_path / name)[-1].best
        one = Bench(Checkpoint.load(best), load(tiny().data, "validation"), "test", 200, torch.device("cpu"))
        networks.append(one.measured(str(best), [one.curve(DISTURBANCES["gaussian"], [0.2], 1)]))
    (tmp_path / "robustness.json").write_text(json.dumps(Robustness(networks=networks).plain()))
    collected = collect([tmp_path])
    found = robust.joined(collected)
    areas = {each.recipe: each.robustness for each in found.networks}
    expected = [(each.clean + each.curves[0].values[0][0]) / 2 for each in networks]
    assert {name: pytest.approx(area) for name, area in areas.items()} == {
        "digits": expected[0],
        "digits (against.gaussian 0.3)": expected[1],
    }
    assert found.left_out == []
    columns = [column.name for column in robust.sheet(networks).columns[2:]]
    assert len(columns) == 2
    assert all(name.startswith("digits (recipe ") for name in columns)


def test_what_was_measured_twice_counts_once() -> None:
    one = _of(1, {"gaussian": {0.1: 80.0}}).model_copy(update={"parameters": "a"})
    two = _of(2, {"gaussian": {0.1: 60.0}}).model_copy(update={"parameters": "b"})
    more = _of(1, {"gaussian": {0.1: 80.0}, "contrast": {0.2: 50.0}}).model_copy(update={"parameters": "a"})
    more.curves[0].values = [[78.0, 82.0]]
    found = once([one, two, more])
    assert [[(curve.name, curve.values) for curve in each.curves] for each in found] == [
        [("gaussian", [[78.0, 82.0]]), ("contrast", [[50.0]])],
        [("gaussian", [[60.0]])],
    ]


def test_the_area_over_seeds_counts_each_seed_once() -> None:
    """By hand: areas of (90 + 80) / 2 and (90 + 60) / 2, however many draws there were of one."""
    one, two = _of(1, {"gaussian": {0.1: 80.0}}), _of(2, {"gaussian": {0.1: 60.0}})
    one.curves[0].values = [[70.0, 80.0, 90.0]]
    (found,) = Robustness(networks=[one, two]).plain()["together"]
    (area,) = found["areas"]
    assert (found["seeds"], area["number"], area["mean"]) == ([1, 2], 2, 80.0)
    # Student's t of one degree of freedom, times the standard error of 85 and 75.
    assert area["half"] == pytest.approx(12.706 * 5, rel=1e-4)


def test_robustness_of_some_seeds_alone_is_said(folder: Path) -> None:
    path = folder / "robustness.json"
    plain = json.loads(path.read_text())
    plain["networks"].pop(1)
    path.write_text(json.dumps(plain))
    assert "robustness of digits snn covers 1 of its 2 seeds" in robust.joined(collect([folder])).left_out


def test_a_checkpoint_is_read_once_however_often_networks_are_joined(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected = collect([folder])
    read: list[Path] = []
    load_it = Checkpoint.load

    def counted(path: Path) -> Checkpoint:
        read.append(path)
        return load_it(path)

    monkeypatch.setattr(Checkpoint, "load", counted)
    tables, pictures = robust.sheets(collected), robust.drawn(collected)
    assert (len(tables), len(pictures)) == (2, 1)
    assert sorted(read) == [folder / f"runs/digits/snn/seed{seed}/best.pt" for seed in (1111, 2222)]
