"""`hstnn profile` of networks that hstnn did not make: any ONNX file, and what a factory makes."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hstnn_deploy.profile.records import read
from tests.conftest import Hstnn
from tests.profile.foreign_files import NETS, outside, product

QUICK = ["--seconds", "0.1", "--gpus", "none"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(NETS)
    return tmp_path


def test_an_onnx_file_to_records_that_report_and_compare_take(hstnn: Hstnn, here: Path) -> None:
    product(here / "net.onnx", ["time", "batch", 6])
    for out in ("a", "b"):
        result = hstnn("profile", "net.onnx", "--batch", "1,4", *QUICK, "--out", out)
        assert result.code == 0, result.err
    assert "note: axis 0 of the input x, time, is the time axis by its name: 10" in result.err
    assert "net.onnx: ONNX file on x [10, 4, 6] float32" in result.out
    assert "file size" in result.out
    assert "[1] measured on the CPU, as requested" in result.out
    assert "not counted for an ONNX file" in result.out
    assert "Data for net.onnx: random: floating point uniform in [0, 1)" in result.out
    records = read(here / "a" / "records.jsonl")
    assert [(each.configuration.batch, each.configuration.steps) for each in records] == [(1, 10), (4, 10)]
    assert [span.name for span in records[0].spans] == [
        "import",
        "load",
        "inputs",
        "first call",
        "warm-up",
        "inference",
    ]
    assert records[0].configuration.memory_limit is None
    report = hstnn("report", "a")
    assert report.code == 0, report.err
    assert "net.onnx" in report.out
    assert hstnn("report", "a", "--out", "page").code == 0
    compared = hstnn("compare", "a", "b")
    assert compared.code == 0, compared.err
    assert "net.onnx onnx: infer, onnxruntime, batch 4, cpu" in " ".join(compared.out.split())
    again = hstnn("profile", "net.onnx", "--batch", "1,4", *QUICK, "--out", "a", "--resume")
    assert again.code == 0, again.err
    assert read(here / "a" / "records.jsonl") == records


def test_a_factory_is_called_and_trained(hstnn: Hstnn, here: Path) -> None:
    result = hstnn("profile", "mine:make", "--input", "B,6", "--batch", "3", *QUICK, "--out", "out")
    assert result.code == 0, result.err
    assert "mine:make: torch module on [3, 6] float32" in result.out
    assert "training step, cpu" in result.out
    words = " ".join(result.out.split())
    assert "Training step: forward pass, loss (the mean of the squares of the output), backward pass, SGD" in words
    infer, step = read(here / "out" / "records.jsonl")
    assert (infer.configuration.phase, step.configuration.phase) == ("infer", "step")
    assert set(step.series) == {"step", "step_forward", "step_backward", "step_optimiser"}
    for command in (["report", "out"], ["compare", "out", "out"]):
        shown = hstnn(*command)
        assert shown.code == 0, shown.err
        assert "mine:make" in shown.out


def test_one_output_of_several_is_not_applicable_and_no_failure(hstnn: Hstnn) -> None:
    result = hstnn("profile", "mine:lstm", "--input", "4,1,6", *QUICK, "--phases", "step", "--json")
    assert result.code == 0, result.err
    (step,) = json.loads(result.out)
    assert step["status"] == "n/a"
    assert "gives a tuple with 3 tensors" in step["reason"]


def test_hostile_and_odd_files_are_one_error_each(hstnn: Hstnn, here: Path) -> None:
    (here / "inside").mkdir()
    filled = helper.make_node("ConstantOfShape", ["x"], ["y"])
    shape = numpy_helper.from_array(np.array([6, 3], np.int64), "W")
    (here / "text.onnx").write_text("no model")
    cases = {
        "text.onnx": (9, "text.onnx is damaged, or not an ONNX file"),
        "none.onnx": (9, "none.onnx is not a file"),
        str(product(here / "odd.onnx", ["height", 6])): (2, "axis 0 of the input x, height, has no size in the file"),
        str(product(here / "large.onnx", [10**10, 6])): (10, "the input x [10000000000, 6] float32 is 240 GB; "),
        str(product(here / "inside" / "out.onnx", [1, 6], outside("../w.bin"))): (9, "outside its folder"),
        str(product(here / "custom.onnx", [1, 6], node=helper.make_node("Spike", ["x"], ["y"], domain="my.ops"))): (
            9,
            "has operators that ONNX Runtime does not know: my.ops::Spike",
        ),
        str(product(here / "fit.onnx", [1, 5])): (7, "fit.onnx"),
        str(product(here / "shape.onnx", [2], shape, filled, TensorProto.INT64)): (0, ""),
    }
    for name, (code, message) in cases.items():
        result = hstnn("profile", name, *QUICK)
        assert result.code == code, (name, result.err)
        if code:
            assert message in result.error
            assert result.out == ""


def test_what_would_fill_the_memory_while_it_runs_is_stopped(hstnn: Hstnn, here: Path) -> None:
    huge = numpy_helper.from_array(np.array([10**6, 10**6], np.int64), "W")
    product(here / "bomb.onnx", [1], huge, helper.make_node("ConstantOfShape", ["W"], ["y"]))
    result = hstnn("profile", "bomb.onnx", *QUICK)
    assert result.code in {7, 10}
    assert "bomb.onnx" in result.error


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["mine:make"], 2, "a torch module does not state its inputs", "give --input SHAPE"),
        (["mine:make", "--input", "7"], 9, "mine:make cannot run on [7]: ", ""),
        (["mine:mak", "--input", "6"], 2, "mine:mak: mine has no mak", "did you mean 'make'?"),
        (["mine:broken", "--input", "6"], 2, "mine:broken raises: ValueError: no weights here (mine.py, line ", ""),
        (["absent:make", "--input", "6"], 2, "there is no module absent: searched ", ""),
        (["mine:make", "digits"], 2, "mine:make, digits: a foreign network must be the only one", ""),
        (
            ["digits", "--input", "6"],
            2,
            "--input needs one FILE.onnx or PACKAGE.MODULE:FACTORY (got digits)",
            "",
        ),
        (
            ["mine:make", "--kinds", "rnn"],
            2,
            "mine:make is a foreign network, which has no kinds",
            "use only --input",
        ),
        (["digits", "--find-batch", "--batch", "5"], 2, "--find-batch and --batch are mutually exclusive", "leave one"),
        (["mine:make", "--find-batch"], 2, "--find-batch works only for hstnn's own networks", "leave it out"),
        (["mine:make", "--input", "6", "--phases", "train"], 2, "unknown phase of a foreign network 'train'", ""),
        (["net.onnx", "--phases", "step"], 2, "net.onnx is an ONNX file: hstnn can run it, not train it", "leave"),
        (
            ["mine:make", "--input", "6", "--out", "o", "--resume"],
            2,
            "--resume: the module of mine:make may have changed",
            "",
        ),
        (["digits", "--phases", "step"], 2, "unknown phase 'step'", ""),
    ],
)
def test_what_cannot_be_is_one_line(hstnn: Hstnn, words: list[str], code: int, message: str, hint: str) -> None:
    result = hstnn("profile", *words)
    assert (result.code, result.out) == (code, "")
    assert result.error.startswith(message)
    assert result.hint.startswith(hint)


def test_the_help_says_that_it_runs_their_code(hstnn: Hstnn) -> None:
    words = " ".join(hstnn("profile", "--help").out.replace("│", " ").split())
    assert "imports and runs your code" in words
