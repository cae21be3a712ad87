"""Graphs with their states inside: x alone goes in, and the answer is that of zeros, in other engines too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from hstnn_deploy.data.events.events import Sensor
from hstnn_deploy.data.events.transforms import TimeAlignment
from hstnn_deploy.data.preprocessing import Frames
from hstnn_deploy.errors import BundleError, DataError, ExportError, UsageError
from hstnn_deploy.export.bundle.choice import steps_of
from hstnn_deploy.export.bundle.export import StatesAsked, export_bundle
from hstnn_deploy.export.bundle.verify import verify_bundle
from hstnn_deploy.export.graph import raw_input
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.write import UNROLLED_INSIDE_ONNX, WINDOW_INSIDE_ONNX, build_onnx, write_graphs
from hstnn_deploy.export.proof.checks import run_checks
from hstnn_deploy.export.proof.comparisons import Check
from hstnn_deploy.export.proof.engines import onnxruntime_session, reference_session
from hstnn_deploy.export.proof.samples import make_subject
from hstnn_deploy.export.runtime.session import Session
from tests.export.cases import CASES, Case, unoptimised

STEPS = 5
SHAPES = {"window": [(5, 3), (1, 1), (7, 2)], "unrolled": [(5, 3), (5, 1)]}
"""(T, B)"""


@pytest.mark.parametrize("form", ["window", "unrolled"])
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_x_alone_gives_the_logits_of_zeros_to_the_bit(case: Case, form: Form) -> None:
    network = case.network()
    face = interface(network)
    model = build_onnx(network, form, {}, steps=STEPS, states="inside")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["logits"]
    assert not {each.name for each in model.graph.initializer} & {state.name for state in face.states}
    inside, named = (
        unoptimised(build_onnx(network, form, {}, steps=STEPS, states=states)) for states in ("inside", "named")
    )
    for steps, batch in SHAPES[form]:
        x = face.example(steps, batch).numpy()
        zeros = {name: value.numpy() for name, value in face.zeros(batch).items()}
        assert np.array_equal(inside({"x": x})["logits"], named({"x": x, **zeros})["logits"])


@pytest.mark.parametrize("states", ["named", "inside"])
@pytest.mark.parametrize("case", [Case("sequence", "hybrid-lstm"), Case("language", "ffs"), Case("dvs", "ffs")])
def test_openvino_runs_windows_and_finds_their_answers(case: Case, states: Any) -> None:
    openvino = pytest.importorskip("openvino", reason="`pip install openvino` to run graphs in OpenVINO too")
    network = case.network()
    face = interface(network)
    model = build_onnx(network, "window", {}, states=states)
    feeds = {"x": face.example(6, 2).numpy()}
    if states == "named":
        feeds |= {name: value.numpy() for name, value in face.zeros(2).items()}
    core = openvino.Core()
    core.set_property({"INFERENCE_PRECISION_HINT": "f32"})
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU")
    found = compiled(feeds)[compiled.output("logits")]
    np.testing.assert_allclose(found, onnxruntime_session(model)(feeds)["logits"], atol=1e-5)


def test_a_step_graph_has_no_states_inside() -> None:
    with pytest.raises(ExportError, match="passes its states from step to step"):
        build_onnx(Case("sequence", "snn").network(), "step", {}, states="inside")


# ------------------------------------------------------------------------------------------------------------ the proof


def checks_of(case: Case, folder: Path, spoil: Callable[[onnx.ModelProto], None]) -> dict[str, list[Check]]:
    """Return the failed checks of both files, by file, after something was done to their graphs."""
    network = case.network()
    steps = steps_of(case.recipe().data)
    paths = write_graphs(network, folder, {"onnx"}, of_onnx=["window", "unrolled"], steps=steps, states=["inside"])
    assert [path.name for path in paths] == [WINDOW_INSIDE_ONNX, UNROLLED_INSIDE_ONNX]
    for path in paths:
        model = onnx.load(path)
        spoil(model)
        onnx.save(model, path)
    checks: list[Check] = []
    run_checks(make_subject(network, folder, case.recipe(), "", None), [path.name for path in paths], checks.append)
    assert len(checks) == 20
    return {
        path.name: [each for each in checks if each.file == path.name and each.outcome != "passed"] for path in paths
    }


def begins_elsewhere(model: onnx.ModelProto) -> None:
    (zeros,) = [node for node in model.graph.node if node.output[0] == "v1"]
    zeros.attribute[0].t.CopyFrom(helper.make_tensor("zero", onnx.TensorProto.FLOAT, [1], [0.25]))


def one_sample(model: onnx.ModelProto) -> None:
    (batch,) = [node for node in model.graph.node if node.output[0] == "batch"]
    batch.attribute[0].i, batch.attribute[1].i = 2, 3


def states_out(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("v1_next", onnx.TensorProto.FLOAT, ["B", 3]))


@pytest.mark.parametrize("case", [Case("sequence", "ffs"), Case("dvs", "ffs")], ids="-".join)
def test_the_proof_passes_what_is_right(case: Case, tmp_path: Path) -> None:
    assert checks_of(case, tmp_path, lambda _: None) == {WINDOW_INSIDE_ONNX: [], UNROLLED_INSIDE_ONNX: []}


def test_the_proof_fails_states_that_do_not_begin_at_zero(tmp_path: Path) -> None:
    for failed in checks_of(Case("sequence", "ffs"), tmp_path, begins_elsewhere).values():
        assert any("replay" in check.name and "diverges first at layer 1 spikes" in check.figure for check in failed)


def test_the_proof_fails_another_interface(tmp_path: Path) -> None:
    for failed in checks_of(Case("sequence", "ffs"), tmp_path, states_out).values():
        assert "free dimensions" in {check.name for check in failed}


def test_the_proof_fails_a_batch_of_another_size(tmp_path: Path) -> None:
    network, case = Case("sequence", "ffs").network(), Case("sequence", "ffs")
    (path,) = write_graphs(network, tmp_path, {"onnx"}, of_onnx=["window"], states=["inside"])
    model = onnx.load(path)
    one_sample(model)
    onnx.save(model, path)
    checks: list[Check] = []
    run_checks(make_subject(network, tmp_path, case.recipe(), "", None), [path.name], checks.append)
    assert "failed" in {check.outcome for check in checks}


# -------------------------------------------------------------------------------------------------------- preprocessing


@pytest.mark.parametrize("engine", [onnxruntime_session, reference_session])
@pytest.mark.parametrize("form", ["window", "unrolled"])
@pytest.mark.parametrize(("transforms", "steps"), [([], 3), ([TimeAlignment()], 3), ([], None)])
def test_raw_events_alone_become_the_frames_that_states_of_zero_give(
    engine: Any, form: Form, transforms: list[Any], steps: int | None
) -> None:
    how = Frames(sensor=Sensor(5, 4, 2), frame_time=10, binary=False, steps=steps, transforms=transforms)
    generator = np.random.default_rng(0)
    several = [(n, 15 + 4 * t, generator.integers(5), generator.integers(4), 1) for n in (2, 0, 1) for t in range(6)]
    inside, named = (engine(raw_input.build(how, form, steps or 4, inside=each)) for each in (True, False))
    for events in (np.array(several), np.zeros((0, 5)), np.array([[0, 25, 1, 1, 0]])):
        events = events.astype(np.int64)
        if steps is None and form == "window" and events[:, 0].max(initial=0) > 0:
            continue
        batch = int(events[:, 0].max(initial=0)) + 1
        state = {each.name: np.zeros(batch, np.int64) for each in raw_input.states(how)}
        more = {"frames": np.array(steps or 0)} if form == "window" and engine is reference_session else {}
        found, wanted = inside({"events": events}), named({"events": events, **state, **more})
        assert list(found) == ["x"]
        assert np.array_equal(found["x"], wanted["x"])


@pytest.mark.parametrize("case", [Case("sequence", "hybrid"), Case("nmnist", "ffs")], ids="-".join)
def test_preprocessing_and_smaller_graphs_go_with_it(case: Case, tmp_path: Path) -> None:
    """Raw pixels or events alone go in; the same proof, from raw samples too, when exported and when verified."""
    bundle = export_bundle(
        case.checkpoint(tmp_path / "best.pt"),
        tmp_path / "b",
        forms=["window"],
        states="inside",
        preprocess=True,
        smaller=["int8-dynamic", "fp16"],
        max_drop=100,
        keep_all=True,
        opset=18,
    )
    assert not bundle.failed, bundle.failed
    names = {WINDOW_INSIDE_ONNX, *(f"model.window.inside.{how}.onnx" for how in ("int8-dynamic", "fp16"))}
    assert set(bundle.manifest["files"]) == names
    for facts in bundle.manifest["files"].values():
        assert [each["name"] for each in facts["inputs"]] == ["image" if case.family == "sequence" else "events"]
        assert [each["name"] for each in facts["outputs"]] == ["logits"]
        assert (facts["form"], facts["states"], facts["opset"]) == ("window", "inside", 18)
    raw = [check for check in bundle.checks if "from raw samples" in check.name]
    assert len(raw) == 3
    assert all("360 of 360 samples equal training's to the bit" in check.figure for check in raw)
    again = verify_bundle(bundle.folder)
    assert not again.failed, again.failed
    smaller = Session(bundle.folder, smaller="fp16")
    assert smaller.whole_only


# ----------------------------------------------------------------------------------------------------------- in bundles


@pytest.fixture(scope="module")
def only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a window graph with its states inside, and nothing else."""
    folder = tmp_path_factory.mktemp("inside")
    case = Case("sequence", "hybrid")
    bundle = export_bundle(case.checkpoint(folder / "best.pt"), folder / "b", forms=["window"], states="inside")
    assert not bundle.failed
    return bundle.folder


def test_a_session_answers_whole_sequences_and_says_that_there_are_no_streams(only: Path) -> None:
    session = Session(only)
    network = Case("sequence", "hybrid").network()
    x = interface(network).example(9, 4)
    np.testing.assert_allclose(session.run(x.numpy()), network(x)[0].numpy(), atol=1e-5)
    with pytest.raises(UsageError, match="have their states inside: they answer whole sequences, not streams") as error:
        session.stream()
    assert "--states named" in error.value.hint
    with pytest.raises(DataError, match="shape"):
        session.run(x[0].numpy())


def test_a_session_takes_the_window_for_whole_sequences_and_the_step_for_streams(tmp_path: Path) -> None:
    case = Case("sequence", "ffs")
    bundle = export_bundle(case.checkpoint(tmp_path / "best.pt"), tmp_path / "b", states="inside", verify=False)
    assert list(bundle.manifest["files"]) == [WINDOW_INSIDE_ONNX, "model.step.onnx"]
    session = Session(bundle.folder)
    assert not session.whole_only
    x = interface(case.network()).example(6, 2).numpy()
    stream = session.stream(2)
    for now in x:
        last = stream.step(now)
    assert list(session._graphs) == ["step"]
    np.testing.assert_allclose(session.run(x), last, atol=1e-6)
    assert list(session._graphs) == ["step", "window.inside"]


def test_an_unrolled_graph_says_which_length_it_takes(tmp_path: Path) -> None:
    case = Case("sequence", "ffs")
    bundle = export_bundle(
        case.checkpoint(tmp_path / "best.pt"), tmp_path / "b", forms=["unrolled"], states="inside", verify=False
    )
    session, face = Session(bundle.folder), interface(case.network())
    assert session.run(face.example(8, 2).numpy()).shape == (2, 10)
    with pytest.raises(DataError, match=r"x has 7 steps, but the only graph of .* takes 8"):
        session.run(face.example(7, 2).numpy())


def test_of_raw_events_the_graph_counts_the_recordings(tmp_path: Path) -> None:
    case = Case("nmnist", "ffs")
    bundle = export_bundle(
        case.checkpoint(tmp_path / "best.pt"),
        tmp_path / "b",
        forms=["window"],
        states="inside",
        preprocess=True,
        verify=False,
    )
    session = Session(bundle.folder)
    events = np.array([[0, 5, 1, 1, 0], [1, 7, 2, 2, 1]], np.int64)
    assert session.run(events).shape == session.run(events, batch=2).shape == (2, 10)
    with pytest.raises(DataError, match="the events are from 2 recordings, not 3"):
        session.run(events, batch=3)


def test_both_are_written_side_by_side_and_one_form_alone_is_refused(tmp_path: Path) -> None:
    ckpt = Case("sequence", "snn").checkpoint(tmp_path / "best.pt")
    both = export_bundle(ckpt, tmp_path / "b", states="both", verify=False).manifest["files"]
    assert {name: facts["states"] for name, facts in both.items()} == {
        "model.window.onnx": "named",
        WINDOW_INSIDE_ONNX: "inside",
        "model.step.onnx": "named",
    }
    asked: tuple[StatesAsked, ...] = ("inside", "both")
    for states in asked:
        with pytest.raises(UsageError, match="a step graph passes its states from step to step"):
            export_bundle(ckpt, tmp_path / "c", forms=["step"], states=states)
    chosen = export_bundle(ckpt, tmp_path / "d", forms="auto", states="inside", verify=False)
    assert list(chosen.manifest["files"]) == [WINDOW_INSIDE_ONNX]
    assert chosen.choice is not None
    assert "its states cannot be inside" in chosen.choice.left_out["step"]
    with pytest.raises(BundleError, match="contains no verified fp16 ONNX graph"):
        Session(tmp_path / "d", smaller="fp16")


@torch.no_grad()
def test_a_language_model_begins_each_window_at_zeros_and_its_proof_says_so(tmp_path: Path) -> None:
    case = Case("language", "hybrid")
    bundle = export_bundle(case.checkpoint(tmp_path / "best.pt"), tmp_path / "b", forms=["window"], states="inside")
    assert not bundle.failed
    (left,) = [check for check in bundle.checks if check.outcome == "not run"]
    assert "begins each at zeros" in left.figure
    network = case.network()
    x = interface(network).example(5, 2)
    np.testing.assert_allclose(Session(bundle.folder).run(x.numpy()), network(x)[0].numpy(), atol=1e-5)
