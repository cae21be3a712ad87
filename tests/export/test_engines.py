"""`make engines`: its verdicts and its table, on answers made up here; the engines themselves run outside the tests."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.engines import __main__ as engines
from benchmarks.engines.__main__ import OPSETS, Answers, Job, in_onnxruntime, table, verdict
from hstnn_deploy.export.graph.write import VARIANTS
from tests.export.cases import Case


def job(opset: int = 20, values: float = 1.0) -> Job:
    expected = [{"logits": np.full((1, 2), values, np.float32)}]
    return Job(Case("sequence", "snn"), VARIANTS["model.window.onnx"], opset, Path("one.onnx"), [{}], expected)


@pytest.mark.parametrize(
    ("found", "said"), [(1.0, "equal"), (1.000001, "close"), (1.01, "different"), (float("nan"), "different")]
)
def test_numbers_are_equal_close_or_different(found: float, said: str) -> None:
    assert verdict(job(), [{"logits": np.full((1, 2), found, np.float32)}]) == said
    assert verdict(job(), "no Scan") == "refused"


def test_the_table_counts_and_names_what_is_not_right() -> None:
    asked = [job(opset) for opset in OPSETS]
    right, wrong = ([{"logits": np.full((1, 2), value, np.float32)}] for value in (1.0, 2.0))
    lines = table(asked, [Answers("A 1", [right, wrong]), Answers("B 2", [right, "no Scan"]), "C: no network"])
    for line in (
        "| A 1 | 20 | 1 equal |",
        "| A 1 | 17 | 1 different |",
        "| B 2 | 17 | 1 refused |",
        "| C | | n/a |",
        "- A 1, one: other numbers",
        "- B 2, one: no Scan",
        "- C was not run: no network",
    ):
        assert line in lines


def test_every_case_and_form_is_asked_in_every_opset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CASES", [Case("sequence", "ffs-lstm"), Case("dvs", "ffs")])
    asked = engines.jobs(tmp_path)
    assert len(asked) == 2 * len(VARIANTS) * len(OPSETS) == len(list(tmp_path.iterdir()))
    answers = in_onnxruntime(tmp_path, asked)
    assert {verdict(one, outputs) for one, outputs in zip(asked, answers.outputs, strict=True)} <= {"equal", "close"}


def test_the_page_has_a_place_for_the_table_and_a_row_for_every_file() -> None:
    page = engines.PAGE.read_text(encoding="utf-8")
    assert page.count(engines.BEGIN) == page.count(engines.END) == 1
    assert all(f"`{name}`" in page for name in VARIANTS)
    written = page.partition(engines.BEGIN)[2].partition(engines.END)[0]
    assert all(f"| {opset} |" in written for opset in OPSETS), "run `make engines`"
