"""Figures for papers: as wide as asked, fonts in the files, and CSV of what is drawn."""

import csv
import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hstnn_deploy import files
from hstnn_deploy.report.aggregate import studies
from hstnn_deploy.report.collect import collect
from hstnn_deploy.report.paper.draw import write
from hstnn_deploy.report.paper.make import plots
from hstnn_deploy.report.paper.plots import Plot, Series
from hstnn_deploy.train.variation import Measurement
from tests.conftest import Hstnn
from tests.report.conftest import PUBLISHED, inference, records_of, varied, write_sweep
from tests.report.test_page_files import disturbed, record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs, records, robustness and variation."""
    folder = tmp_path_factory.mktemp("paper")
    write_sweep(folder / "runs", seeds=(1, 2), changes={"published": PUBLISHED})
    series = {"latency": [0.001 * (1 + number / 50) for number in range(50)]}
    records_of(folder / "records.jsonl", [inference(0.25), inference(0.5)], series=series)
    (folder / "robustness.json").write_text(record([disturbed(1), disturbed(2), disturbed(1, "ffs", 0.5)]))
    networks = [varied(step, bits=bits) for bits in (1, 4) for step in ("baseline", "vat")]
    files.write_json(folder / "variation.json", Measurement("test", 2, 0, networks).plain())
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_a_figure_for_each_thing_that_was_measured(folder: Path) -> None:
    collected = collect([folder])
    names = [plot.name for plot in plots(studies(collected.runs), collected)]
    assert names == [
        *("digits-ratio", "digits-curves", "digits-kept-layer-1", "digits-kept-layer-2"),
        *("variation-1-bit", "variation-4-bits"),
        *("robustness-digits-accuracy-gaussian", "robustness-digits-accuracy-salt-pepper", "latency"),
    ]


def test_the_command_writes_pdf_svg_and_csv_of_a_column_s_width(folder: Path, tmp_path: Path, hstnn: Hstnn) -> None:
    result = hstnn("report", folder / "runs", "--figures", tmp_path / "figures")
    assert result.out == ""
    assert "written: 4 figures as PDF, SVG and CSV, 12 files in" in " ".join(result.err.split())
    for path in (tmp_path / "figures").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.get("width") == "252pt"
        # Letters are shapes: there is no text that needs a font.
        assert not list(root.iter("{http://www.w3.org/2000/svg}text"))
    pdf = (tmp_path / "figures/digits-ratio.pdf").read_bytes()
    inside = pdf + b"".join(_streams(pdf))
    assert b"/FontFile2" in inside
    assert b"/Type3" not in inside
    (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) [\d.]+ ?\]", pdf)
    assert float(box) == pytest.approx(252)
    found = {row["series"]: row for row in rows(tmp_path / "figures/digits-ratio.csv")}
    assert float(found["rnn"]["test accuracy (%)"]) == 81.5
    assert float(found["rnn, seed 2"]["test accuracy (%)"]) == 82
    assert float(found["rnn, published"]["test accuracy (%)"]) == 80


def _streams(pdf: bytes) -> list[bytes]:
    found = []
    for part in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            found.append(zlib.decompress(part))
        except zlib.error:
            continue
    return found


def test_the_same_data_gives_the_same_bytes_and_any_width_is_kept(tmp_path: Path) -> None:
    plot = Plot("a", "x", "y", [Series("one", "snn", [0, 1], [1, 2], [0, 1], [2, 3]), Series("two", "own", [0], [1])])
    for name in ("first", "again"):
        write([plot], tmp_path / name, 7.16)
    for kind in ("pdf", "svg", "csv"):
        assert (tmp_path / f"first/a.{kind}").read_bytes() == (tmp_path / f"again/a.{kind}").read_bytes()
    assert float((ElementTree.parse(tmp_path / "first/a.svg").getroot().get("width") or "")[:-2]) == pytest.approx(
        515.52
    )


def test_figures_go_with_other_formats(folder: Path, tmp_path: Path, hstnn: Hstnn) -> None:
    result = hstnn("report", folder / "records.jsonl", "--figures", tmp_path, "--format", "csv")
    assert result.out.startswith("record,subject")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latency.csv", "latency.pdf", "latency.svg"]
    series = {row["series"] for row in rows(tmp_path / "latency.csv")}
    assert series == {"hybrid 0.25", "hybrid 0.5"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--width", "5"], "--width applies to figures and LaTeX tables, and neither is written"),
        (["--figures", "DIR", "--width", "0.5"], "--width 0.5 is not between 1.5 and 20 inches"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, tmp_path: Path, hstnn: Hstnn, words: list[str], said: str) -> None:
    result = hstnn("report", folder, *(tmp_path / "new" if word == "DIR" else word for word in words))
    assert result.code == 2
    assert said in " ".join(result.err.split())
    assert not (tmp_path / "new").exists()
