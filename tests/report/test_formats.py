"""The same tables in every format: CSV as the original's, Markdown, LaTeX that compiles, JSON without NaN."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.report import formats, latex, sheets
from hstnn_deploy.report.aggregate import Study, studies
from hstnn_deploy.report.collect import collect
from hstnn_deploy.report.costs import sheets as cost_sheets
from hstnn_deploy.report.formats import every_sheet
from hstnn_deploy.report.sheets import Column, Entry, Sheet
from tests.conftest import PATIENCE
from tests.report.conftest import (
    PUBLISHED,
    inference,
    recipe_for,
    records_of,
    study_of,
    training,
    write_run,
    write_sweep,
)

ODD = Sheet(
    '100 % of a_b & c # $ ~ ^ \\ {x} <y> |z| [q] "r" é ± – λ',
    [Column("n_a", "group & co", numeric=False), Column("[b]", "group & co"), Column("c")],
    [[Entry("[1] *"), Entry("<0.5 %"), Entry("")], [Entry("a|b"), Entry("x_y"), Entry("1", 1.0)]],
    ["50 % & more_"],
)


def test_the_demo_s_layout_to_the_letter(sweep: Path) -> None:
    # rnn has 81, 82, 83: mean 82, population variance 2/3.
    assert formats.csv_demo(study_of(sweep), "hybrid") == (
        "type,1,2,3,avg,squ\n"
        "rnn,81.00,82.00,83.00,82.00,0.67\n"
        "0.25,92.00,93.00,94.00,93.00,0.67\n"
        "0.50,93.00,94.00,95.00,94.00,0.67\n"
        "0.75,94.00,95.00,96.00,95.00,0.67\n"
        "snn,71.00,72.00,73.00,72.00,0.67\n"
    )


def test_the_demo_s_layout_averages_nothing_incomplete(sweep: Path) -> None:
    write_run(sweep, recipe_for("snn", seed=4), 74.0)
    rows = list(csv.reader(io.StringIO(formats.csv_demo(study_of(sweep), "ffs"))))
    assert rows[1] == ["rnn", "81.00", "82.00", "83.00", "", "", ""]
    assert rows[-1] == ["snn", "71.00", "72.00", "73.00", "74.00", "72.50", "1.25"]


def test_ratios_keep_their_digits_in_the_demo_s_layout(tmp_path: Path) -> None:
    for ratio in (0.0625, 0.1, 0.9375):
        write_run(tmp_path, recipe_for("ffs", ratio, changes={"network.units": [16, 16]}), 1.0)
    rows = formats.csv_demo(study_of(tmp_path), "ffs").splitlines()
    assert [row.split(",")[0] for row in rows] == ["type", "0.0625", "0.10", "0.9375"]


def test_there_is_a_file_per_study_and_kind(sweep: Path) -> None:
    write_run(sweep, recipe_for("ffs", 0.5, seed=9, changes={"adapt.epochs": 9}), 1.0)
    names = list(formats.demo_files(studies(collect([sweep]).runs)))
    assert names == [
        "digits-adapt.epochs-2-ffs.csv",
        "digits-adapt.epochs-2-hybrid.csv",
        "digits-adapt.epochs-9-ffs.csv",
    ]


def test_the_full_csv_holds_every_cell_in_full_precision(tmp_path: Path) -> None:
    write_sweep(tmp_path, changes={"published": PUBLISHED})
    write_run(tmp_path, recipe_for("rnn", seed=1, changes={"published": PUBLISHED}), 100 / 3)
    rows = list(csv.DictReader(io.StringIO(formats.csv_results([study_of(tmp_path)]))))
    assert len(rows) == 9
    assert rows[0]["network"] == "rnn"
    assert float(rows[0]["1"]) == 100 / 3
    assert rows[0]["complete"] == "yes"
    (hybrid,) = [row for row in rows if (row["kind"], row["ratio"]) == ("hybrid", "0.25")]
    assert (hybrid["mean"], hybrid["sd"], hybrid["published"], hybrid["difference"]) == ("93.0", "1.0", "91.0", "2.0")
    (ffs,) = [row for row in rows if (row["kind"], row["ratio"]) == ("ffs", "0.75")]
    assert ffs["published"] == ffs["difference"] == ""


def test_records_as_csv_hold_every_value_with_its_source_or_reason() -> None:
    failed = replace(training(), status="failed", reason="killed", values=[])
    rows = list(csv.DictReader(io.StringIO(formats.csv_records([inference(), failed]))))
    (peak,) = [row for row in rows if row["name"] == "host_ram_peak"]
    assert (peak["value"], peak["unit"], peak["source"]) == ("500000000.0", "B", "a test")
    (cuda,) = [row for row in rows if row["name"] == "cuda_process"]
    assert (cuda["value"], cuda["note"]) == ("", "measured on the CPU: no GPU here")
    assert (rows[-1]["status"], rows[-1]["note"], rows[-1]["value"]) == ("failed", "killed", "")


def test_markdown_is_a_table_of_as_many_cells_in_every_row(sweep: Path) -> None:
    text = formats.markdown([sheets.summary(study_of(sweep)), ODD])
    for part in text.split("### ")[1:]:
        rows = [line for line in part.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
        assert set(rows[1]) <= set("|:- ")
    assert "| 0.25 | 84.50 | 1.00 | 2.48 | 93.00 | 1.00 | 2.48 |" in text
    assert r"a\|b" in text


def latex_is_sound(text: str) -> None:
    """Hold tables to what a compiler would: balanced, specials escaped, as many cells in every row as columns."""
    body = text.partition("\\makeatother\n")[2].removesuffix("\\hstnnend\n")
    assert body.isascii()
    depth = 0
    for letter in re.sub(r"\\[{}]", "", body):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    begun, ended = (sorted(re.findall(rf"\\{word}{{(\w+)}}", body)) for word in ("begin", "end"))
    assert begun == ended
    assert body.count("$") - body.count(r"\$") == 2 * len(re.findall(r"\$(?:\\pm|\\sim|<|>|\|)\$", body))
    assert not re.search(r"(?<!\\)[#%_^~]", body)
    tabular = r"\\begin{tabular}{@{}((?:[lr]|p{\w+})+)@{}}(.*?)\\end{tabular}"
    for columns, inside in re.findall(tabular, body, re.DOTALL):
        count = len(re.sub(r"p{\w+}", "l", columns))
        rows = re.findall(r"^(.*) \\\\$", inside, re.MULTILINE)
        assert len(rows) > 1
        for row in rows:
            spans = [int(span) for span in re.findall(r"\\multicolumn{(\d+)}", row)]
            assert (sum(spans) or len(re.findall(r"(?<!\\)&", row)) + 1) == count


def test_latex_is_sound(sweep: Path) -> None:
    text = latex.latex([sheets.summary(study_of(sweep)), sheets.by_seed(study_of(sweep)), ODD])
    latex_is_sound(text)
    for rule in ("toprule", "midrule", "bottomrule", "cmidrule(lr){2-4}"):
        assert f"\\{rule}" in text
    assert r"0.25 & 84.50 & 1.00 & 2.48 & 93.00 & 1.00 & 2.48 \\" in text


def test_each_table_has_a_label_of_its_own(sweep: Path) -> None:
    sheet = sheets.summary(study_of(sweep))
    text = latex.latex([sheet, sheet, replace(sheet, title="λ")])
    labels = re.findall(r"\\caption{.*}\n\\label{(.*)}", text)
    assert labels == [
        *("tab:digits-test-accuracy-mean-over-seeds-1-2-3", "tab:digits-test-accuracy-mean-over-seeds-1-2-3-2"),
        "tab:table",
    ]


def test_a_wide_table_is_set_in_parts_that_fit_a_column() -> None:
    columns = [Column("network", numeric=False), *(Column("figure", f"group {place // 3}") for place in range(12))]
    rows = [[Entry(f"net {number}"), *(Entry("123.45") for _ in range(12))] for number in range(2)]
    sheet = Sheet("wide", columns, rows)
    text = latex.latex([sheet])
    latex_is_sound(text)
    parts = re.findall(r"\\begin{tabular}{@{}([lr]+)@{}}", text)
    assert len(parts) == 2
    assert sum(len(part) - 1 for part in parts) == 12
    assert text.count("net 0 &") == len(parts)
    assert text.count(r"\begin{table}") == 1
    # Asked for a page's width, it is one.
    assert len(re.findall(r"\\begin{tabular}", latex.latex([sheet], 7.16))) == 1


def test_a_group_that_fits_a_column_stays_whole_and_its_name_is_measured() -> None:
    groups = ["time", "time", "main memory in megabytes", "memory", "memory", "memory"]
    columns = [Column("network", numeric=False), *(Column("figure", group) for group in groups)]
    sheet = Sheet("t", columns, [[Entry("a long name of a network"), *(Entry("123.45") for _ in groups)]])
    text = latex.latex([sheet])
    latex_is_sound(text)
    heads = [re.findall(r"{c}{(\w[^}]*)}", line) for line in text.splitlines() if r"\multicolumn{1}{c}{} &" in line]
    assert heads == [["time"], ["main memory in megabytes"], ["memory"]]


def test_options_and_powers_are_set_as_they_are_meant() -> None:
    text = latex.latex(
        [Sheet("t", [Column("a")], [[Entry("1")]], ["--repeats 5 \u2013 MB are 10^6 bytes; 2^3", "second"])]
    )
    assert r"-{}-repeats 5 \textendash{} MB are 10\textsuperscript{6} bytes; 2\textasciicircum{}3\par" in text
    assert text.count(r"\parbox") == 1
    assert "No table is wider than 3.5 inches" in text


def test_long_text_is_broken_into_lines() -> None:
    sheet = Sheet("t", [Column("a", numeric=False), Column("b")], [[Entry("a long name " * 9), Entry("1")]])
    text = latex.latex([sheet])
    latex_is_sound(text)
    assert r"\begin{tabular}{@{}p{92pt}r@{}}" in text
    assert r"{\raggedright a long name" in text


@given(st.text(max_size=30))
def test_no_text_breaks_latex(text: str) -> None:
    sheet = Sheet(text, [Column("a"), Column("b")], [[Entry(text), Entry("1")]])
    latex_is_sound(latex.latex([sheet]))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: apt-get install texlive-latex-base")
def test_latex_compiles_by_itself_and_inside_of_a_document(sweep: Path, tmp_path: Path) -> None:
    records_of(tmp_path / "records.jsonl", [inference(), training()])
    made = [*every_sheet([study_of(sweep)], collect([tmp_path / "records.jsonl"])), ODD]
    (tmp_path / "report.tex").write_text(latex.latex(made), encoding="utf-8")
    outer = r"\documentclass{article}\usepackage{booktabs}\begin{document}A\input{report.tex}B\end{document}"
    (tmp_path / "paper.tex").write_text(outer, encoding="utf-8")
    for name in ("report", "paper"):
        result = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"],
            cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 10_000


def test_json_is_plain_and_whole(sweep: Path, tmp_path: Path) -> None:
    write_run(sweep, recipe_for("snn", seed=4), None)
    collected = collect([sweep, records_of(tmp_path / "records.jsonl", [inference()])])
    data = json.loads(formats.dumps(formats.plain([study_of(sweep)], replace(collected, problems=["a problem"]))))
    assert (data["schema"], data["version"], data["problems"]) == ("hstnn-report", 1, ["a problem"])
    (study,) = data["studies"]
    assert (study["metric"], study["protocol"], study["seeds"]) == ("accuracy", "validation", [1, 2, 3, 4])
    cell = next(cell for cell in study["cells"] if cell["network"] == "hybrid 0.5")
    assert (cell["n"], cell["mean"], cell["complete"]) == (3, 94.0, False)
    assert cell["missing"] == {"4": "without a readable run"}
    assert cell["runs"][0]["units"] == [[5, 4], [1, 1]]
    assert data["records"][0]["configuration"]["phase"] == "infer"


def test_costs_are_a_table_per_phase_with_the_reasons_below() -> None:
    failed = replace(inference(engine="torchscript"), status="failed", reason="killed by SIGKILL", values=[])
    train, infer = cost_sheets([inference(), failed, training(epoch=3.25)])
    assert [sheet.title for sheet in (train, infer)] == ["Cost of training", "Cost of inference"]
    assert [entry.text for entry in train.rows[0]][:5] == ["digits hybrid", "fused", "cpu", "100", "3.25"]
    assert "[1] measured on the CPU: no GPU here." in train.notes
    assert [entry.text for entry in infer.rows[0]][4:8] == ["5.00", "9.00", "9.90", "4321"]
    assert infer.rows[1][4].text == "failed [2]"
    assert "[2] killed by SIGKILL." in infer.notes
    assert any("in its own process" in note for note in infer.notes)


def test_a_study_without_hybrids_is_one_column(tmp_path: Path) -> None:
    write_run(tmp_path, recipe_for("rnn"), 1.0)
    study: Study = study_of(tmp_path)
    assert [column.name for column in sheets.summary(study).columns] == ["network", "mean", "sd", "± 95 %"]
    assert list(formats.demo_files([study])) == ["digits-pure.csv"]
