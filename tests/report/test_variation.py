"""Accuracy under variation in a report: read back, tables, rows of CSV, pictures; and files that are refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy import files
from hstnn_deploy.errors import RunError
from hstnn_deploy.report import variation
from hstnn_deploy.report.collect import collect
from hstnn_deploy.report.page.document import page
from hstnn_deploy.report.variation_file import read
from hstnn_deploy.train.variation import Measurement
from tests.conftest import Hstnn
from tests.report.conftest import recipe_for, records_of, training, varied, write_run


@pytest.fixture
def measured() -> Measurement:
    return Measurement("test", 2, 0, [varied("vat"), varied("prune", beyond=3)])


@pytest.fixture
def written(measured: Measurement, tmp_path: Path) -> Path:
    files.write_json(tmp_path / "variation.json", measured.plain())
    return tmp_path / "variation.json"


def test_what_was_written_is_read_back(measured: Measurement, written: Path) -> None:
    assert read(written) == measured


def test_a_mean_that_the_draws_do_not_have_is_not_believed(measured: Measurement, written: Path) -> None:
    facts = measured.plain()
    facts["networks"][0]["variation"][0]["mean"] = 99.0
    files.write_json(written, facts)
    assert read(written).networks[0].scales[1.0].mean == 72.0


def test_tables_of_known_figures(measured: Measurement) -> None:
    accuracy, memory = variation.sheets(measured)
    assert accuracy.title == "net: accuracy (%) under variation, test split"
    assert [column.name for column in accuracy.columns] == ["step", "bits", "without", "1", "2"]
    # Student's t of one degree of freedom: 12.706; the deviations are 2.83 and 7.07.
    assert [entry.text for entry in accuracy.rows[0]] == ["vat", "4", "80.00", "72.00±25.41", "55.00±63.53"]
    assert [entry.text for entry in memory.rows[0]] == ["vat", "400", "500", "420", "6400", "", ""]
    assert [entry.text for entry in memory.rows[1]][-2:] == ["25.0", "12.5"]
    assert any("3 weights of 1 network lie beyond 1" in note for note in memory.notes)


def test_networks_that_differ_are_named(measured: Measurement) -> None:
    (accuracy, _) = variation.sheets(Measurement("valid", 2, 5, [varied(seed=1), varied(seed=2)]))
    assert accuracy.title == "Accuracy (%) under variation, valid split, norms after 5 training batches"
    assert [row[0].text for row in accuracy.rows] == ["net, seed 1", "net, seed 2"]
    (accuracy, _) = variation.sheets(Measurement("test", 2, 0, [varied(name="a"), varied(name="b")]))
    assert [row[0].text for row in accuracy.rows] == ["a", "b"]


def test_a_page_holds_the_tables_and_what_its_pictures_show(written: Path) -> None:
    text = page([], collect([written]))
    for part in (
        'id="variation-0"',
        'data-chart="variation" data-of="variations"',
        'data-chart="memory"',
        "55.00±63.53",
    ):
        assert part in text
    (of_page,) = json.loads(text.partition('id="data">')[2].partition("</script>")[0])["variations"]
    assert [point["mean"] for point in of_page["networks"][0]["points"]] == [80.0, 72.0, 55.0]
    assert [each["devices"] for each in of_page["networks"]] == [820, 820]
    assert of_page["networks"][0]["nominal"]["scale"] == 1.0


def test_every_format_has_it(hstnn: Hstnn, written: Path, tmp_path: Path) -> None:
    shown = hstnn("report", written)
    assert shown.code == 0, shown.err
    assert "net: accuracy (%) under variation, test split" in shown.out
    assert hstnn("report", tmp_path, "--out", tmp_path / "alone").code == 0
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert names == {
        "report.html",
        "report.md",
        "report.tex",
        "report.csv",
        "report.json",
        "variation.png",
        "memory.png",
    }
    rows = list(csv.DictReader((tmp_path / "alone/report.csv").read_text().splitlines()))
    assert [(row["step"], row["scale"], row["mean"]) for row in rows[:3]] == [
        ("vat", "0.0", "80.0"),
        ("vat", "1.0", "72.0"),
        ("vat", "2.0", "55.0"),
    ]
    assert {(row["split"], row["readapted"], row["draws"]) for row in rows} == {("test", "0", "0"), ("test", "0", "2")}
    (plain,) = json.loads(hstnn("report", written, "--json").out)["variations"]
    assert plain["networks"][1]["element_sparsity"] == 0.25
    write_run(tmp_path / "runs", recipe_for("rnn"), 90.0)
    records_of(tmp_path / "records.jsonl", [training()])
    assert hstnn("report", tmp_path, "--out", tmp_path / "all").code == 0
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert {"report.csv", "variation.csv", "costs.csv", "curves.png", "variation.png", "memory.png"} <= names
    assert hstnn("report", written, "--out", tmp_path / "one.png").code == 0
    assert (tmp_path / "one.png").stat().st_size > 5000


def _drop(facts: dict[str, Any]) -> None:
    facts["networks"][0]["variation"][0]["draws"].pop()


def _unordered(facts: dict[str, Any]) -> None:
    facts["networks"][0]["variation"].reverse()


def _mixed(facts: dict[str, Any]) -> None:
    facts["networks"][0]["metric"] = "perplexity"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda facts: facts.update(format="other"), "is not what hstnn evaluate --variation writes"),
        (lambda facts: facts.update(version=2), "has version 2; this program reads 1"),
        (lambda facts: facts.update(networks=[]), "networks"),
        (lambda facts: facts["networks"][0].update(step="bake"), "step"),
        (lambda facts: facts["networks"][0].update(bits=9), "bits"),
        (lambda facts: facts["networks"][0]["memory_bits"].update(rram=-1), "rram"),
        (lambda facts: facts["networks"][0].update(element_sparsity=2.0), "element_sparsity"),
        (_drop, "not every scale has the 2 draws"),
        (_unordered, "are not ascending"),
        (_mixed, "different metrics: accuracy and perplexity"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    hstnn: Hstnn, measured: Measurement, written: Path, change: Callable[[dict[str, Any]], None], what: str
) -> None:
    facts = measured.plain()
    change(facts)
    files.write_json(written, facts)
    with pytest.raises(RunError) as caught:
        read(written)
    assert what in caught.value.message
    refused = hstnn("report", written)
    assert (refused.code, what in refused.err) == (5, True)


@pytest.mark.parametrize("text", ["", "[1", "null", "[" * 100000, '{"format": "hstnn-variation", "version": NaN}'])
def test_a_damaged_file_is_a_problem_of_its_own_and_hides_nothing(hstnn: Hstnn, written: Path, text: str) -> None:
    write_run(written.parent / "runs", recipe_for("rnn"), 90.0)
    written.write_text(text)
    shown = hstnn("report", written.parent)
    assert shown.code == 0, shown.err
    assert "warning: left out:" in shown.err
    assert "variation.json" in shown.err
    assert "90.00" in shown.out
