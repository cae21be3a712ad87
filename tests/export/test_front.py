"""Preprocessing inside a graph gives to the bit what training makes of raw pixels and events."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.events.events import Events, Sensor, event_rows, make_events
from hstnn_deploy.data.events.transforms import (
    CenterCrop,
    CropTime,
    Decimation,
    Denoise,
    Downsample,
    HotPixels,
    MergePolarities,
    Pick,
    RefractoryPeriod,
    TimeAlignment,
    Transform,
)
from hstnn_deploy.data.files.idx import read_idx
from hstnn_deploy.data.preprocessing import Frames, Pixels, Preprocessing, Values, Words, framed, preprocessing
from hstnn_deploy.data.registry import DATA_SETS, DataConfig, load
from hstnn_deploy.data.sets.cifar import read_records
from hstnn_deploy.data.sets.digits import DigitsConfig
from hstnn_deploy.data.sets.mnist import MnistConfig
from hstnn_deploy.data.splits import Split
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.graph import raw_input
from hstnn_deploy.export.graph.forms import FORMS, Form
from hstnn_deploy.export.graph.forms import build as build_network
from hstnn_deploy.export.proof.engines import onnxruntime_session, read_network
from hstnn_deploy.export.proof.raw_input import check_front
from hstnn_deploy.export.proof.samples import make_subject
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import layer_sizes
from hstnn_deploy.recipe.load import load_recipe
from tests.conftest import settings
from tests.event_files import make_shd, random_events
from tests.export.cases import Case

CPU = torch.device("cpu")


def frames(
    sensor: Sensor, transforms: list[Transform], frame_time: int, steps: int | None, *, binary: bool = False
) -> Frames:
    """Return a preprocessing of events."""
    return Frames(sensor=sensor, transforms=transforms, frame_time=frame_time, steps=steps, binary=binary)


def whole(split: Split) -> Tensor:
    """Return all of a split, x[T, N, …]."""
    return split.batch(torch.arange(len(split)), CPU).x


# --------------------------------------------------------------------------------------------------------------- pixels


def digits_raw(_folder: Path) -> tuple[DataConfig, Any, Tensor]:
    from sklearn.datasets import load_digits

    from hstnn_deploy.data.splits import hold_out

    bundle = load_digits()
    _, held = hold_out(torch.tensor(bundle.target), 0.2)
    config = DigitsConfig()
    return config, bundle.images[held.numpy()].astype(np.uint8), whole(load(config, "validation").test)


def mnist_raw(folder: Path) -> tuple[DataConfig, Any, Tensor]:
    config = MnistConfig(checksum=False)
    raw = read_idx(folder / "t10k-images-idx3-ubyte", 3).numpy()
    return config, raw, whole(load(config, "validation", folder).test)


def cifar_raw(folder: Path) -> tuple[DataConfig, Any, Tensor]:
    config = DATA_SETS["cifar10"].config()
    for name, count in (("train", 100), ("test", 7)):
        records = np.random.default_rng(count).integers(0, 256, (count, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(count) % 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    # As an image file is read: [row, column, colour].
    raw = read_records(folder / "test.bin", "cifar10")[0].transpose(0, 2, 3, 1)
    return config, np.ascontiguousarray(raw), whole(load(config, "validation", folder).test)


@pytest.mark.parametrize("raw_of", [digits_raw, mnist_raw, cifar_raw])
@pytest.mark.parametrize("form", FORMS)
def test_pixels_out_of_the_files_become_what_training_takes(
    raw_of: Callable[[Path], tuple[DataConfig, Any, Tensor]], form: Form, mnist: Path
) -> None:
    config, raw, x = raw_of(mnist)
    how = raw_input.possible(preprocessing(config))
    session = onnxruntime_session(raw_input.build(how, form, len(x)))
    if form == "step":
        found = np.stack([session({"column": raw[:, :, t]})["x"] for t in range(raw.shape[2])])
    else:
        found = session({"image": raw})["x"]
    assert found.dtype == np.float32
    assert np.array_equal(found, x.numpy())
    assert 0.9 < found.max() <= 1


# --------------------------------------------------------------------------------------------------------------- events

TRANSFORMS: list[list[Transform]] = [
    [],
    [Downsample(factor=2)],
    [Downsample(factor=3), MergePolarities()],
    [Pick(factor=2), MergePolarities()],
    [CenterCrop(size=5), CropTime(start=40, stop=250)],
    [CropTime(stop=300), Downsample(factor=2), CropTime(start=100, stop=400), CenterCrop(size=3)],
    [TimeAlignment(), Downsample(factor=4)],
    [Downsample(factor=2), TimeAlignment(), CropTime(start=3, stop=300), CenterCrop(size=3)],
]


def counted(how: Frames, form: Form, recordings: list[Events], frames_seen: int = 0, length: int = 0) -> Any:
    """Return the frames of recordings as a front of this form makes them."""
    steps = length or how.steps or 1
    session = onnxruntime_session(raw_input.build(how, form, steps))
    rows = np.concatenate([event_rows(events, number) for number, events in enumerate(recordings)])
    rows = np.random.default_rng(0).permutation(rows)
    state = {each.name: np.zeros(len(recordings), np.int64) for each in raw_input.states(how)}
    state["frames_seen"] += frames_seen
    if form == "step":
        made = []
        for _ in range(steps):
            found = session({"frame_events": rows, **state})
            made.append(found["x"])
            state = {name: found[f"{name}_next"] for name in state}
        assert (state["frames_seen"] == frames_seen + steps).all()
        return np.stack(made)
    given_length = {"frames": np.array(length)} if length and form == "window" else {}
    found = session({"events": rows, **state, **given_length})
    assert (found["frames_seen_next"] == frames_seen + len(found["x"])).all()
    return found["x"]


@given(
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3),
    count=st.integers(1, 200),
    transforms=st.sampled_from(TRANSFORMS),
    sensor=st.sampled_from([Sensor(9, 9), Sensor(7, 7, 1), Sensor(30, 1, 1)]),
    steps=st.integers(1, 6),
    frame_time=st.integers(1, 120),
    binary=st.booleans(),
    form=st.sampled_from(FORMS),
)
def test_random_events_are_counted_as_in_training(
    seeds: list[int],
    count: int,
    transforms: list[Transform],
    sensor: Sensor,
    steps: int,
    frame_time: int,
    binary: bool,
    form: Form,
) -> None:
    how = frames(sensor, transforms, frame_time, steps, binary=binary)
    recordings = [random_events(seed, count, sensor, 500) for seed in seeds]
    expected = torch.stack([framed(events, how) for events in recordings], 1)
    assert np.array_equal(counted(how, form, recordings), expected.numpy())


def test_events_at_the_borders_of_frames_known_by_hand() -> None:
    how = frames(Sensor(3, 2), [], 10, 3)
    events = make_events([0, 1, 2, 2, 2, 0], [0, 0, 1, 1, 1, 0], [0, 9, 10, 29, 29, 30], [0, 0, 1, 1, 1, 0])
    expected = np.zeros((3, 1, 2, 2, 3))
    expected[0, 0, 0, 0, 0] = expected[0, 0, 0, 0, 1] = expected[1, 0, 1, 1, 2] = 1
    expected[2, 0, 1, 1, 2] = 2
    for form in FORMS:
        assert np.array_equal(counted(how, form, [events]), expected)
    binary = frames(Sensor(3, 2), [], 10, 3, binary=True)
    assert counted(binary, "window", [events]).max() == 1
    before = make_events([0], [0], [-1], [0])
    assert counted(how, "window", [before]).sum() == 0, "what lies before the beginning is in no frame"


def test_chunks_of_any_length_are_what_the_whole_is_made_of() -> None:
    how = frames(Sensor(9, 9), [Downsample(factor=2)], 50, 10)
    recordings = [random_events(seed, 300, Sensor(9, 9), 600) for seed in (1, 2)]
    parts = [
        counted(how, "window", recordings, frames_seen=start, length=length)
        for start, length in ((0, 3), (3, 1), (4, 6))
    ]
    assert np.array_equal(np.concatenate(parts), counted(how, "window", recordings))


def test_a_recording_stays_aligned_to_its_first_event_from_chunk_to_chunk() -> None:
    how = frames(Sensor(4, 1, 1), [TimeAlignment()], 10, 2)
    session = onnxruntime_session(raw_input.build(how, "step"))
    # Two recordings; the first begins at 1003, the second has no event yet.
    state = {"frames_seen": np.zeros(2, np.int64), "began": np.zeros(2, np.int64)}
    found = session({"frame_events": np.array([[0, 1005, 1, 0, 0], [0, 1003, 2, 0, 0]]), **state})
    assert found["x"].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert found["began_next"].tolist() == [1004, 0]
    state = {name: found[f"{name}_next"] for name in state}
    found = session({"frame_events": np.array([[0, 1013, 3, 0, 0], [0, 1012, 0, 0, 0], [1, 0, 0, 0, 0]]), **state})
    assert found["x"].tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]], "1012 and 0 were of the first frame"
    assert found["began_next"].tolist() == [1004, 1]


@pytest.mark.parametrize("transforms", [[], [Downsample(factor=2)], [MergePolarities()]])
def test_whole_recordings_end_with_their_last_event(transforms: list[Transform]) -> None:
    how = frames(Sensor(9, 9), transforms, 70, None)
    for count in (0, 1, 40):
        events = random_events(count, count, Sensor(9, 9), 500)
        expected = framed(events, how)[:, None].numpy()
        assert np.array_equal(counted(how, "window", [events]), expected)
        assert np.array_equal(counted(how, "step", [events], length=len(expected)), expected)


def test_an_event_beside_the_sensor_is_an_error_of_the_graph_not_another_pixels() -> None:
    session = onnxruntime_session(raw_input.build(frames(Sensor(4, 4), [], 10, 2), "window"))
    for row in ([0, 0, 4, 0, 0], [0, 0, 0, 4, 0], [0, 0, 0, 0, 2], [1, 0, 0, 0, 0]):
        with pytest.raises(ExportError, match="the graph cannot run on this input"):
            session({"events": np.array([row]), "frames_seen": np.zeros(1, np.int64)})


# ------------------------------------------------------------------------------------------------- joined and apart


@pytest.mark.parametrize("form", FORMS)
def test_a_network_comes_off_its_front_as_it_was(form: Form, tmp_path: Path) -> None:
    how = raw_input.possible(preprocessing(Case("dvs", "ffs").recipe().data))
    network, head = build_network(Case("dvs", "ffs").network(), form, {"a": "b"}, 3), raw_input.build(how, form, 3)
    joined = raw_input.join(head, network)
    onnx.checker.check_model(joined, full_check=True)
    apart, behind = raw_input.split(joined)
    assert apart is not None
    assert behind.graph == network.graph
    for field in ("node", "input", "initializer"):
        assert list(getattr(apart.graph, field)) == list(getattr(head.graph, field))
    onnx.save(joined, str(tmp_path / "model.onnx"))
    assert read_network(tmp_path / "model.onnx") == network
    assert raw_input.split(network) == (None, network)


REFUSED: list[tuple[Preprocessing, list[str], str]] = [
    *[
        (frames(Sensor(8, 8), [transform], 10, 2), ["onnx"], f"the transform {transform.name} {why}")
        for transform, why in (
            (Denoise(), "drops an event that lacks neighbours"),
            (RefractoryPeriod(delta=3), "drops an event because of an earlier one"),
            (Decimation(n=2), "counts the events of each pixel"),
            (HotPixels(frequency=3), "needs the rate of each pixel"),
        )
    ],
    (frames(Sensor(8, 8), [Pick(factor=2)], 10, None), ["onnx"], "is known only after pick"),
    (frames(Sensor(8, 8), [CropTime(stop=9)], 10, None), ["onnx"], "is known only after crop-time"),
    (frames(Sensor(8, 8), [TimeAlignment()], 10, None), ["onnx"], "is known only after time-alignment"),
    (
        frames(Sensor(8, 8), [CenterCrop(size=3), TimeAlignment()], 10, 2),
        ["onnx"],
        "knows the first event only after center-crop",
    ),
    (Words(split="spaces", lower=True, window=5), ["onnx"], "cannot look up a text's words in a vocabulary"),
    (Values(), ["onnx"], "the format of the files behind x is unknown"),
    (Pixels(height=8, width=8, colours=1), ["onnx", "pt2"], "pt2 has no front"),
    (Pixels(height=8, width=8, colours=1), ["torchscript"], "torchscript has no front"),
]


@pytest.mark.parametrize(("how", "formats", "message"), REFUSED)
def test_what_a_graph_cannot_hold_is_refused_and_says_why(how: Preprocessing, formats: list[str], message: str) -> None:
    with pytest.raises(ExportError, match=message) as refused:
        raw_input.possible(how, formats)
    assert refused.value.hint


# ---------------------------------------------------------------------------------------------------------- the proof


def changed(model: onnx.ModelProto, name: str, change: Callable[[Any], Any]) -> None:
    """Change a stored number of a graph."""
    (stored,) = [each for each in model.graph.initializer if each.name == name]
    value = onnx.numpy_helper.to_array(stored)
    stored.CopyFrom(onnx.numpy_helper.from_array(change(value).astype(value.dtype), name))


TAMPERED: list[tuple[str, Callable[[onnx.ModelProto], None]]] = [
    ("images", lambda model: changed(model, "constant/preprocessing/scale", lambda scale: np.nextafter(scale, 1))),
    ("events", lambda model: changed(model, "constant/preprocessing/index_3000", lambda time: time + 1)),
    ("events", lambda model: changed(model, "constant/preprocessing/places", lambda table: table[::-1])),
    ("events", lambda model: changed(model, "frames", lambda length: length - 1)),
]


@pytest.mark.parametrize(("name", "tamper"), TAMPERED)
def test_a_front_that_does_anything_else_fails_its_checks(
    fronts: dict[str, Path], name: str, tamper: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    model = onnx.load(str(fronts[name] / "model.window.onnx"))
    tamper(model)
    onnx.save(model, str(tmp_path / "model.window.onnx"))
    case = Case("sequence", "hybrid") if name == "images" else Case("nmnist", "ffs")
    subject = make_subject(case.network(), tmp_path, case.recipe(), "", None)
    checks = list(check_front(tmp_path / "model.window.onnx", subject, "window"))
    assert [check.outcome for check in checks] == ["passed", "failed", "failed", "failed"]


def test_a_set_of_spoken_words_is_proved_on_its_files(tmp_path: Path) -> None:
    folder = make_shd(tmp_path)
    for name, changes in (("first", {}), ("whole", {"data.steps": "null"})):
        recipe = load_recipe("shd", settings({"network.units": [4], "kind": "ffs", **changes}))
        torch.manual_seed(0)
        network = build(recipe.network, sizes := layer_sizes("ffs", recipe.network.units, 0.5))
        Checkpoint(
            recipe=recipe.dump(),
            architecture=recipe.network,
            stage="train",
            sizes=sizes,
            parameters=network.state_dict(),
            epoch=1,
            metrics={"protocol": "validation"},
        ).save(tmp_path / "best.pt")
        bundle = export_bundle(
            tmp_path / "best.pt", tmp_path / name, preprocess=True, data_folder=folder, forms=["window", "step"]
        )
        assert not bundle.failed, bundle.failed
        assert sum("raw samples" in check.name and check.outcome == "passed" for check in bundle.checks) == 2
        states = {each["name"] for each in bundle.manifest["network"]["states"]}
        assert {"frames_seen", "steps", "spike_sum"} <= states
