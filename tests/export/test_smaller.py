"""Smaller graphs: they run, their cost is measured beside the whole one, and what cannot be converted says why."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.bundle import quantise
from hstnn_deploy.export.bundle.quantise import How, Reduction, compare, make_smaller, parse_name, reduce, reduced_name
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.graph.write import ONNX_FILES, write_graphs
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.proof.samples import make_subject, training_windows
from tests.export.cases import Case

HOWS: list[How] = ["int8-dynamic", "int8-static", "fp16"]
CASES = [Case("sequence", "ffs"), Case("sequence", "hybrid-lstm"), Case("language", "ffs"), Case("dvs", "ffs")]


@pytest.mark.parametrize("form", ["window", "step"])
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_each_runs_beside_the_graph_it_was_made_from(case: Case, form: Form, tmp_path: Path) -> None:
    network, recipe = case.network(), case.recipe()
    write_graphs(network, tmp_path, {"onnx"}, of_onnx=[form])
    checks: list[Check] = []
    subject = make_subject(network, tmp_path, recipe, "", None)
    training = training_windows(recipe, None)[:1]
    found = make_smaller(subject, [ONNX_FILES[form]], HOWS, 1e6, training, checks.append, keep_all=True)
    if case.family == "language":
        # Without its vocabulary's hash the text is another one, so that nothing can be said of perplexity.
        assert all(each.refused and each.lost is None for each in found)
        assert {check.outcome for check in checks} == {"failed"}
        assert not (tmp_path / reduced_name(Path(ONNX_FILES[form]), "fp16")).exists()
        return
    assert [each.how for each in found] == HOWS, checks
    for each in found:
        assert each.kept
        assert each.spikes > 1000
        assert 0 <= each.flipped < each.spikes / 4
        assert (tmp_path / each.file).stat().st_size == each.bytes
    assert found[2].left == "", "all of it is in half precision"
    static = found[1].left
    assert ("scan" in static) == (form == "window" and case.kind != "hybrid-lstm")
    assert ("LSTM" in static) == (case.kind == "hybrid-lstm")


def test_a_network_of_lstm_units_alone_has_no_static_int8_but_for_its_readout(tmp_path: Path) -> None:
    write_graphs(Case("sequence", "lstm").network(), tmp_path, {"onnx"}, of_onnx=["step"])
    path = tmp_path / "model.step.onnx"
    written = reduce(path, "step", "int8-static", training_windows(Case("sequence", "lstm").recipe(), None)[:1])
    assert quantise.left_over(path, written, "int8-static").startswith("2 of 2 LSTM left in float32")


def test_a_graph_the_tool_cannot_convert_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graphs(Case("sequence", "ffs").network(), tmp_path, {"onnx"}, of_onnx=["step"])

    def stumbles(*_: object) -> None:
        raise ValueError("no such\noperator")

    monkeypatch.setattr(quantise, "_dynamic", stumbles)
    with pytest.raises(ExportError, match=r"cannot make model\.step\.onnx int8-dynamic: no such operator"):
        reduce(tmp_path / "model.step.onnx", "step", "int8-dynamic", [])
    assert [path.name for path in tmp_path.iterdir()] == ["model.step.onnx"]


def test_a_graph_in_which_nothing_was_converted_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graphs(Case("sequence", "ffs").network(), tmp_path, {"onnx"}, of_onnx=["step"])
    monkeypatch.setattr(quantise, "_dynamic", lambda path, target: target.write_bytes(path.read_bytes()))
    with pytest.raises(ExportError, match=r"nothing in model\.step\.onnx converts to int8-dynamic"):
        reduce(tmp_path / "model.step.onnx", "step", "int8-dynamic", [])
    assert [path.name for path in tmp_path.iterdir()] == ["model.step.onnx"]


@pytest.mark.parametrize(
    ("lost", "refused"), [(0.5, False), (0.51, True), (-3.0, False), (None, True), (float("nan"), True)]
)
def test_what_loses_more_than_it_may_or_nobody_knows_how_much_is_refused(lost: float | None, refused: bool) -> None:
    made = Reduction("f", "fp16", 1, 2, 0.1, 0.2, 3, 4, "accuracy", 90.0, 90.5, lost, "", 0.5, "")
    assert made.refused == refused
    assert made.check().outcome == ("failed" if refused else "passed")


@pytest.mark.parametrize(
    ("size", "time", "effect", "kept"),
    [
        (0.3, 0.5, "smaller, faster", True),
        (0.3, 1.4, "smaller, slower", True),
        (0.3, 1.0, "smaller, as fast", True),
        (1.2, 0.5, "larger, faster", True),
        (1.2, 1.4, "larger, slower", False),
        (1.2, 0.99, "larger, as fast", False),
        (1.0, 1.0, "as large, as fast", False),
    ],
)
def test_what_is_neither_smaller_nor_faster_is_not_kept_unless_all_is(
    size: float, time: float, effect: str, kept: bool
) -> None:
    made = Reduction("f", "fp16", int(1000 * size), 1000, 2 * time, 2.0, 3, 4, "accuracy", 90.0, 90.0, 0.0, "", 0.5, "")
    assert (made.effect, made.kept) == (effect, kept)
    assert made.size_ratio == pytest.approx(size)
    assert made.time_ratio == pytest.approx(time)
    assert made.plain()["size_ratio"] == made.size_ratio
    assert made.plain()["time_ratio"] == made.time_ratio
    assert f"f is {'kept' if kept else 'not kept'}: {effect}" in str(made)
    assert replace(made, keep_all=True).kept
    assert not replace(made, keep_all=True, lost=0.6).kept, "what loses too much is refused all the same"


@pytest.mark.parametrize(("faster", "kept"), [(2.0, True), (0.7, False)])
def test_the_time_decides_where_the_file_has_grown(
    faster: float, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tiny graph the int8 file is larger; how quick it is, is told here, not measured."""

    def told(calls: dict[Path, Callable[[], object]]) -> dict[Path, float]:
        return {path: 0.004 / (faster if "int8" in path.name else 1.0) for path in calls}

    monkeypatch.setattr(quantise, "in_turns", told)
    case = Case("sequence", "ffs")
    write_graphs(case.network(), tmp_path, {"onnx"}, of_onnx=["window"])
    subject = make_subject(case.network(), tmp_path, case.recipe(), "", None)
    checks: list[Check] = []
    (made,) = make_smaller(subject, ["model.window.onnx"], ["int8-dynamic"], 100, [], checks.append)
    assert made.size_ratio > 1
    assert made.time_ratio == pytest.approx(1 / faster)
    assert made.kept == kept
    assert (tmp_path / made.file).exists() == kept
    assert [check.outcome for check in checks] == ["passed"] * kept, "it is not a failure to be of no use"


def test_flips_are_counted_in_a_graph_with_other_weights(tmp_path: Path) -> None:
    """The comparison sees a difference where there is one."""
    case = Case("sequence", "snn")
    network = case.network()
    write_graphs(network, tmp_path, {"onnx"}, of_onnx=["step"])
    (tmp_path / "model.step.onnx").rename(tmp_path / "kept")
    for layer in network.stack:
        layer.groups["snn"].ranked()[0].mul_(0.8)
    write_graphs(network, tmp_path, {"onnx"}, of_onnx=["step"])
    (tmp_path / "model.step.onnx").rename(tmp_path / "model.step.fp16.onnx")
    (tmp_path / "kept").rename(tmp_path / "model.step.onnx")
    found = compare(make_subject(network, tmp_path, case.recipe(), "", None), "model.step.fp16.onnx", 0.5)
    assert found.flipped > found.spikes / 50
    assert found.value != found.value_before


def test_names_say_what_was_made_of_what() -> None:
    assert parse_name("model.window.int8-static.onnx") == ("model.window.onnx", "window", "int8-static")
    inside = "model.unrolled.inside.fp16.onnx"
    assert parse_name(inside) == ("model.unrolled.inside.onnx", "unrolled", "fp16")
    assert reduced_name(Path("model.window.onnx"), "fp16") == "model.window.fp16.onnx"
    for other in ("model.window.onnx", "model.window.int4.onnx", "model.ts", "model.window.fp16.unverified.onnx"):
        assert parse_name(other) is None
