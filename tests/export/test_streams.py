"""Streams: shared by threads, bound once, reset by number and name; and their files, refused for what is not right."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hstnn_deploy.errors import DataError, UsageError
from hstnn_deploy.export.bundle.export import Bundle
from hstnn_deploy.export.runtime.session import Session


def test_two_threads_on_one_stream_lose_no_step(bundle: Bundle) -> None:
    stream = Session(bundle.folder, threads=1).stream(1)
    x = np.full((1, 8), 0.5, np.float32)

    def run() -> None:
        for _ in range(300):
            stream.step(x)
            stream.run(x[None])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.state["steps"] == 2400


def test_a_stream_is_bound_once_and_what_it_hands_out_stays_what_it_is(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(bundle.folder)
    bound: list[str] = []
    binding = onnxruntime.InferenceSession.io_binding

    def noted(self: Any) -> Any:
        bound.append("a set of states")
        return binding(self)

    monkeypatch.setattr(onnxruntime.InferenceSession, "io_binding", noted)
    x = np.random.default_rng(0).random((9, 2, 8), dtype=np.float32)
    stream, state = session.stream(2), None
    kept = []
    for now in x:
        kept.append((stream.step(now), stream.state))
    assert len(bound) == 2, "one for each of the two sets of states, however many steps there are"
    graph = session._graph("step")
    for now, (logits, states) in zip(x, kept, strict=True):
        expected, state = graph.step(now, state)
        np.testing.assert_array_equal(logits, expected)
        for name, value in states.items():
            np.testing.assert_array_equal(value, state[name])
    # States that were set, reset or left by a chunk are those that the next step begins with.
    stream.state = {name: value.astype(np.float64) for name, value in kept[3][1].items()}
    np.testing.assert_array_equal(stream.step(x[4]), kept[4][0])
    stream.run(x[5:8])
    np.testing.assert_allclose(stream.step(x[8]), kept[8][0], atol=1e-6)
    stream.reset()
    np.testing.assert_array_equal(stream.step(x[0]), kept[0][0])


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "2", None])
def test_numbers_that_are_none_are_refused(bundle: Bundle, number: Any) -> None:
    if number is not None:
        with pytest.raises(UsageError, match="threads must be a whole number"):
            Session(bundle.folder, threads=number)
    with pytest.raises(UsageError, match="batch must be a whole number"):
        Session(bundle.folder).stream(number)


def test_streams_are_reset_by_one_number_or_name_as_well(bundle: Bundle) -> None:
    stream = Session(bundle.folder, threads=np.int64(1)).stream(np.int32(3))  # type: ignore[arg-type]
    stream.run(np.random.default_rng(0).random((4, 3, 8)))
    for streams in (1, np.int64(1), [1], (1,), np.array([1])):
        stream.state = {"steps": np.full((3, 1), 4)}
        stream.reset(streams, states="steps")  # type: ignore[arg-type]
        assert stream.state["steps"].ravel().tolist() == [4, 0, 4]
    stream.reset([], "steps")
    assert stream.state["steps"].ravel().tolist() == [4, 0, 4]
    for wrong in (3, -1, True, 1.0, [1.0], [True, False, True], "1", [[1]], np.array([True] * 3)):
        with pytest.raises(UsageError, match=r"there is no stream|invalid streams"):
            stream.reset(wrong)  # type: ignore[arg-type]
    assert stream.state["steps"].ravel().tolist() == [4, 0, 4]


def test_states_of_another_type_are_said(bundle: Bundle) -> None:
    stream = Session(bundle.folder).stream(2)
    for value in (np.full((2, 1), "a"), np.full((2, 1), 1j), np.full((2, 1), None), np.zeros((2, 1), "M8[s]")):
        with pytest.raises(UsageError, match="the state steps has type"):
            stream.state = {"steps": value}
    with pytest.raises(UsageError, match="the state steps contains NaN or infinities"):
        stream.state = {"steps": np.full((2, 1), 1e300)}


ABOUT: list[tuple[Any, str]] = [
    (0, "the number of its streams is '0'"),
    (-2, "the number of its streams is '-2'"),
    (2.0, "the number of its streams is"),
    (True, "the number of its streams is"),
    ("2", "the number of its streams is"),
    (None, "the number of its streams is"),
    ([2], "the number of its streams is"),
    (3, "the state v1 has shape"),
    (2 * 10**12, "the state v1 has shape"),
]


def stored(path: Path) -> dict[str, Any]:
    with np.load(path) as found:
        return dict(found)


@pytest.mark.parametrize(("batch", "message"), ABOUT)
def test_a_file_of_states_of_an_odd_number_of_streams_is_refused(
    bundle: Bundle, tmp_path: Path, batch: Any, message: str
) -> None:
    session = Session(bundle.folder)
    session.stream(2).save(tmp_path / "s.npz")
    found = stored(tmp_path / "s.npz")
    about = json.loads(str(found.pop("about"))) | {"batch": batch}
    np.savez(tmp_path / "s.npz", about=np.array(json.dumps(about)), **found)
    with pytest.raises(DataError, match=message):
        session.restore(tmp_path / "s.npz")


@pytest.mark.parametrize("name", ["v1", "h2", "spike_sum", "steps"])
def test_a_file_that_lacks_a_state_or_holds_another_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    session = Session(bundle.folder)
    session.stream(2).save(tmp_path / "s.npz")
    whole = stored(tmp_path / "s.npz")
    value = whole.pop(name)
    for change, message in (
        ({}, f"lacks the state {name}"),
        ({"v9": value}, "contains 'v9', which does not belong there"),
        ({name: value.astype("S4")}, rf"the state {name} has type \|S4"),
        ({name: np.full_like(value, np.inf)}, f"the state {name} contains NaN or infinities"),
    ):
        np.savez(tmp_path / "s.npz", **(whole | change))
        with pytest.raises(DataError, match=message):
            session.restore(tmp_path / "s.npz")
    for about in ("{", "[" * 5000, "3", "[]", '{"format": "hstnn-deploy state", "batch": 2}'):
        np.savez(tmp_path / "s.npz", **(whole | {name: value, "about": np.array(about)}))
        with pytest.raises(DataError, match=r"not a file of states|states of another network"):
            session.restore(tmp_path / "s.npz")
