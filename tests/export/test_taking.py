"""Sessions of graphs with preprocessing inside: raw pixels and events, whole, in chunks and step by step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hstnn_deploy.data.events.events import event_rows
from hstnn_deploy.data.registry import DATA_SETS
from hstnn_deploy.errors import DataError, UsageError
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.runtime.inputs import RawEvents
from hstnn_deploy.export.runtime.session import Session
from tests.export.cases import Case


def raw_digits() -> Any:
    from sklearn.datasets import load_digits

    return load_digits().images[:3].astype(np.uint8)


def raw_events(count: int = 3) -> Any:
    recordings = DATA_SETS["digit-events"].recordings
    assert recordings is not None
    test = recordings(DATA_SETS["digit-events"].config(), None)["test"]
    return np.concatenate([event_rows(test.read(number), number) for number in range(count)])


@pytest.mark.parametrize("name", ["images", "events"])
@pytest.mark.parametrize("forms", [["window"], ["step"], ["unrolled"], ["window", "step"]])
def test_a_session_takes_raw_samples_whole_in_chunks_and_step_by_step(
    fronts: dict[str, Path], name: str, forms: list[Form], tmp_path: Path
) -> None:
    raw = raw_digits() if name == "images" else raw_events()
    expected = Session(fronts[name]).run(raw)
    assert expected.shape == (3, 10)
    case = Case("sequence", "hybrid") if name == "images" else Case("nmnist", "ffs")
    folder = export_bundle(
        case.checkpoint(tmp_path / "best.pt"), tmp_path / "b", forms=forms, preprocess=True, verify=False
    ).folder
    session = Session(folder)
    assert session.takes == name.removesuffix("s" if name == "images" else "")
    np.testing.assert_allclose(session.run(raw), expected, atol=1e-5)
    if forms == ["unrolled"]:
        with pytest.raises(DataError, match=r"the only graph of .* takes"):
            session.stream(3).run(raw[:, :, :3]) if name == "images" else session.stream(3).run(raw, frames=5)
        return
    stream = session.stream(3)
    for now in session.taking.split(raw):
        logits = stream.step(now)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    stream = session.stream(3)
    if name == "images":
        stream.run(raw[:, :, :3])
        stream.save(tmp_path / "state.npz")
        logits = session.restore(tmp_path / "state.npz").run(raw[:, :, 3:])
    else:
        stream.run(raw, frames=5)
        stream.save(tmp_path / "state.npz")
        assert (stream.state["frames_seen"] == 5).all()
        logits = session.restore(tmp_path / "state.npz").run(raw, frames=7)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    stream.reset([1])
    assert all(not value[1].any() and value[0].any() for value in stream.state.values())


def test_recordings_without_events_have_answers_too(fronts: dict[str, Path]) -> None:
    session = Session(fronts["events"])
    nothing = np.zeros((0, 5), np.int64)
    assert session.run(nothing).shape == (1, 10)
    raw = raw_events(1)
    logits = session.run(raw, batch=3)
    np.testing.assert_allclose(logits[0], session.run(raw)[0], atol=1e-5)
    np.testing.assert_allclose(logits[1:], session.run(nothing).repeat(2, 0), atol=1e-5)


WRONG_RAW: list[tuple[str, Any, str]] = [
    ("images", np.zeros((1, 8, 8)), r"image has type float64; the graph takes raw pixels, uint8 \(0 to 16\)"),
    ("images", np.zeros((1, 8, 8), np.int64), "image has type int64"),
    ("images", np.zeros((1, 9, 8), np.uint8), r"image has shape \[1, 9, 8\]; the network takes \[B, 8, T\]"),
    ("images", np.zeros((8, 8), np.uint8), r"image has shape \[8, 8\]"),
    ("images", np.zeros((0, 8, 8), np.uint8), r"image has shape \[0, 8, 8\]"),
    ("images", np.full((1, 8, 8), 17, np.uint8), "image contains 17; white is 16 in the training data"),
    ("events", np.zeros((2, 5)), "events have type float64; the graph takes raw events, whole numbers"),
    (
        "events",
        np.zeros((2, 4), np.int64),
        r"events have the shape \[2, 4\]; the graph takes \[N, 5\]: recording, time",
    ),
    ("events", np.array([[0, 0, 0, 0, 0], [0, 5, 16, 0, 0]]), "event 1 of 2 has x 16; it must be 0 to 15"),
    ("events", np.array([[0, 5, 0, -1, 0]]), "event 0 of 1 has y -1; it must be 0 to 15"),
    ("events", np.array([[0, 5, 0, 0, 2]]), "event 0 of 1 has polarity 2; it must be 0 to 1"),
    ("events", np.array([[0, -5, 0, 0, 0]]), "event 0 of 1 has time -5; it must be 0 or more"),
    ("events", np.array([[-1, 5, 0, 0, 0]]), "event 0 of 1 has recording -1; it must be 0 or more"),
]


@pytest.mark.parametrize(("name", "raw", "message"), WRONG_RAW)
def test_what_is_not_raw_gets_one_clear_line(fronts: dict[str, Path], name: str, raw: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Session(fronts[name]).run(raw)


def test_a_whole_recording_goes_on_for_as_long_as_it_has_events_to_come() -> None:
    raw = RawEvents({"sensor": [16, 16, 2], "frame_time": 1000, "steps": None, "transforms": []})
    events = np.array([[0, 5500, 0, 0, 0], [0, 7500, 1, 0, 0]])
    seen = {"frames_seen": np.array([5])}
    assert (raw.steps(events), raw.steps(events, seen)) == (8, 3)
    assert [len(step) for step in raw.split(events, state=seen)] == [1, 0, 1]
    several = np.concatenate([events, [[1, 0, 0, 0, 0]]])
    for read in (raw.steps, lambda x: list(raw.split(x))):
        with pytest.raises(DataError, match="events of 2 recordings: whole recordings differ in length"):
            read(several)


def test_a_stream_says_what_it_cannot_take(fronts: dict[str, Path]) -> None:
    stream = Session(fronts["events"]).stream(2)
    with pytest.raises(DataError, match="event 0 of 1 has recording 2; it must be 0 to 1"):
        stream.step(np.array([[2, 0, 0, 0, 0]]))
    with pytest.raises(UsageError, match="frames must be a whole number"):
        stream.run(np.zeros((0, 5), np.int64), frames=0)
    with pytest.raises(UsageError, match="frames applies only to raw events"):
        Session(fronts["images"]).stream(1).run(np.zeros((1, 8, 3), np.uint8), frames=3)
    with pytest.raises(DataError, match=r"column has shape \[1, 9\]; the network takes \[1, 8\]"):
        Session(fronts["images"]).stream(1).step(np.zeros((1, 9), np.uint8))


@pytest.mark.parametrize("how", ["int8-dynamic", "int8-static", "fp16"])
def test_smaller_graphs_keep_their_fronts(how: Any, tmp_path: Path) -> None:
    for case, raw in ((Case("sequence", "hybrid"), raw_digits()), (Case("nmnist", "snn"), raw_events())):
        bundle = export_bundle(
            case.checkpoint(tmp_path / "best.pt"),
            tmp_path / case.family,
            forms=["window"] if case.family == "sequence" else ["step"],
            smaller=[how],
            keep_all=True,
            max_drop=100,
            preprocess=True,
            verify=False,
        )
        failed = [check for check in bundle.failed if "can be made" not in check.name]
        assert not failed, failed
        kept = [each for each in bundle.reductions if not each.refused]
        proofs = [check for check in bundle.checks if "raw samples" in check.name]
        assert len(proofs) == len(kept)
        for _ in kept:
            small, large = Session(bundle.folder, smaller=how).run(raw), Session(bundle.folder).run(raw)
            assert small.shape == large.shape
            assert np.abs(small - large).max() < 0.5
