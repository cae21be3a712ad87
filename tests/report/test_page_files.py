"""Every figure of the page as a file: SVG that stands alone, CSV of what is drawn; and a page that stays small."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hstnn_deploy.report.aggregate import studies
from hstnn_deploy.report.collect import collect
from hstnn_deploy.report.page.document import page
from hstnn_deploy.report.page.drawn import of_disturbed
from hstnn_deploy.robustness.record import Curve, Measured
from tests.report.conftest import inference, records_of, training, write_sweep
from tests.report.views import View

SVG = "{http://www.w3.org/2000/svg}"
MOST = 1_500_000
"""Bytes of a page, of a large study too."""


def disturbed(seed: int, kind: str = "snn", ratio: float | None = None, draws: int = 2, **more: Any) -> Measured:
    """Return a network under two disturbances, the same each time."""
    curves = [
        Curve(
            name=name, unit="share", where="values", levels=[0.1, 0.2], axis=[0.1, 0.2],
            values=[[80.0 + draw for draw in range(draws)], [60.0 - seed] * draws],
        )
        for name in ("gaussian", "salt-pepper")
    ]  # fmt: skip
    facts: dict[str, Any] = {"source": "", "recipe": "digits", "data": "digits", "kind": kind, "ratio": ratio}
    facts |= {"stage": "train", "seed": seed, "metric": "accuracy", "unit": " %", "higher_is_better": True}
    return Measured(**{**facts, "split": "test", "batch": 1, "clean": 90.0, "curves": curves, **more})


def record(networks: list[Measured]) -> str:
    """Return a robustness record."""
    inside = ",".join(each.model_dump_json() for each in networks)
    return f'{{"format": "hstnn-robustness", "version": 1, "networks": [{inside}]}}'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every sort of figure but those of weights on devices."""
    folder = tmp_path_factory.mktemp("files")
    write_sweep(folder / "runs", seeds=(1, 2))
    series = {"latency": [0.001 * (1 + number / 50) for number in range(50)]}
    records_of(folder / "records.jsonl", [inference(0.25), inference(0.5, latency_p50=0.002)], series=series)
    records_of(folder / "records-train.jsonl", [training()])
    (folder / "robustness.json").write_text(record([disturbed(1), disturbed(2), disturbed(1, "ffs", 0.5)]))
    collected = collect([folder])
    path = folder / "report.html"
    path.write_text(page(studies(collected.runs), collected), encoding="utf-8")
    return path


@pytest.fixture(params=["light", "dark"])
def view(browser: Any, made: Path, request: pytest.FixtureRequest) -> Iterator[View]:
    shown = View(browser, made, viewport={"width": 1200, "height": 900}, color_scheme=request.param)
    yield shown
    assert shown.trouble == []
    assert [url for url in shown.requests if not url.startswith("blob:")] == [made.as_uri()]
    shown.page.close()


def download(view: View, kind: str, what: str) -> tuple[str, str]:
    """Press a figure's button; return the name and the text of the file."""
    with view.page.expect_download() as waiting:
        view.figure(kind).get_by_role("button", name=re.compile(f"^Download .* as {what}$")).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_text(encoding="utf-8")


def test_every_figure_has_both_buttons(view: View) -> None:
    figures = view.page.locator(".chart")
    assert figures.count() >= 7
    for figure in figures.all():
        assert figure.locator(".save button").all_inner_texts() == ["SVG", "CSV"]


def test_a_figure_as_svg_stands_alone_in_colours_for_paper(view: View) -> None:
    for kind in ("ratio", "kept", "disturbances"):
        name, text = download(view, kind, "SVG")
        assert name.endswith(".svg")
        root = ElementTree.fromstring(text)
        assert root.tag == f"{SVG}svg"
        assert not re.search(r"var\(|class=|style=|oklab|NaN|undefined", text)
        paper = root.find(f"{SVG}rect")
        assert paper is not None
        assert paper.get("fill") == "#ffffff"
        written = {one.text for one in root.iter(f"{SVG}text")}
        wanted = {
            "ratio": {"ffs", "hybrid", "rnn"},
            "kept": {"Layer 1"},
            "disturbances": {"gaussian", "snn", "ffs 0.5"},
        }
        assert wanted[kind] <= written
        colours = {one.get("stroke") for one in root.iter(f"{SVG}path")} | {
            one.get("fill") for one in root.iter(f"{SVG}rect")
        }
        # Blue of ffs and pink of spiking units, as light pages have them.
        assert colours & {"#0072b2", "#a3357a"}


def test_a_figure_as_csv_is_what_was_measured(view: View) -> None:
    name, text = download(view, "ratio", "CSV")
    assert name == "digits-test-accuracy-against-the-spiking-share-of-the-units.csv"
    rows = list(csv.DictReader(io.StringIO(text)))
    (half,) = [row for row in rows if row["series"] == "ffs" and row["ratio: spiking share of the units"] == "0.5"]
    assert float(half["test accuracy, %"]) == 86.5
    seeds = {row["series"]: row["test accuracy, %"] for row in rows if row["series"].startswith("rnn, seed")}
    assert seeds == {"rnn, seed 1": "81", "rnn, seed 2": "82"}
    _, text = download(view, "disturbances", "CSV")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["panel"] for row in rows} == {"gaussian", "salt-pepper"}
    ends = [row for row in rows if (row["panel"], row["series"], row["share"]) == ("gaussian", "snn", "0.2")]
    assert [(row["accuracy, %"], row["low"], row["high"]) for row in ends] == [("58.5", "58", "59")]


def test_single_seeds_are_dots(view: View) -> None:
    # Two seeds of rnn, snn, and of ffs and hybrid at three ratios.
    assert view.figure("ratio").locator("circle.seed").count() == 2 * (2 + 2 * 3)


def test_a_hidden_network_is_in_no_panel_and_not_in_the_svg(view: View) -> None:
    figure = view.figure("disturbances")
    before = figure.locator("g[data-series]").count()
    figure.get_by_role("button", name="ffs 0.5", exact=True).click()
    assert figure.locator("g[data-series]").count() == before - 2
    _, text = download(view, "disturbances", "SVG")
    assert "ffs 0.5" not in text
    assert "ffs 0.5" in download(view, "disturbances", "CSV")[1]


def test_what_a_line_does_not_need_is_left_out_of_the_page() -> None:
    (_, spread), (_, alone) = (
        (found["panels"][0], found["panels"][0]["lines"][0])
        for found in (of_disturbed([disturbed(1)]), of_disturbed([disturbed(1, draws=1)]))
    )
    assert spread["lows"] == [90, 80, 59]
    assert spread["highs"] == [90, 81, 59]
    assert set(alone) == {"network", "means"}


def test_a_page_of_many_networks_and_disturbances_stays_small(tmp_path: Path) -> None:
    curves = [
        Curve(
            name=f"disturbance-{number}", unit="share", where="values", levels=[0.05, 0.1, 0.2, 0.4, 0.8],
            axis=[0.05, 0.1, 0.2, 0.4, 0.8], values=[[80.123456789 + number / 7] * 5] * 5,
        )
        for number in range(40)
    ]  # fmt: skip
    networks = [
        disturbed(seed, "ffs", ratio / 10, curves=curves) for ratio in range(1, 10) for seed in (1111, 2222, 3333)
    ]
    (tmp_path / "robustness.json").write_text(record(networks))
    calls = {"latency": [0.000123456789 * (1 + number / 5000) for number in range(5000)]}
    records_of(tmp_path / "records.jsonl", [inference(ratio / 8) for ratio in range(2, 7)] * 6, series=calls)
    collected = collect([tmp_path])
    text = page(studies(collected.runs), collected)
    assert len(text.encode()) < MOST / 2
