"""Kinds of frames: each as its library makes them (tests/golden), on any recording, whatever keeps it, and when run."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data import registry
from hstnn_deploy.data.cache import VARIABLE, Key
from hstnn_deploy.data.dataset import CACHES, Cache
from hstnn_deploy.data.events.events import Events, Sensor, make_events
from hstnn_deploy.data.events.frames import EventSplit, Framing, frames_of, make_store
from hstnn_deploy.data.events.kinds import FrameKind
from hstnn_deploy.data.events.recordings import EventConfig
from hstnn_deploy.data.events.transforms import Transform, chain
from hstnn_deploy.data.preprocessing import Frames, framed, parse, preprocessing
from hstnn_deploy.data.readers.event_columns import Expected, Found, make_recording, see
from hstnn_deploy.data.readers.event_options import EventOptions
from hstnn_deploy.data.sets.digit_events import recordings
from hstnn_deploy.errors import DataError, ExportError
from hstnn_deploy.export.bundle.export import export_bundle
from hstnn_deploy.export.graph.raw_input import possible
from hstnn_deploy.export.runtime import Session, schema
from hstnn_deploy.export.runtime.input_files import recorded
from hstnn_deploy.export.runtime.inputs import taking
from hstnn_deploy.export.runtime.ranges import trained_range
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import layer_sizes
from hstnn_deploy.profile.phases.synthetic import nbytes, synthetic
from hstnn_deploy.recipe.load import load_recipe
from tests.conftest import Hstnn
from tests.event_files import make_dvs_gesture, make_shd, random_events

GOLDEN = Path(__file__).parent.parent / "golden"
CPU = torch.device("cpu")
SENSOR = Sensor(7, 5)
KINDS: list[dict[str, Any]] = [
    {"by": "time", "time": 3000, "from": "first-event"},
    {"by": "bins", "bins": 6},
    {"by": "parts", "parts": 6},
    {"by": "number", "number": 6},
    {"by": "count", "count": 9, "steps": 1000},
    {"by": "count", "count": 9, "keep_incomplete": True, "steps": 1000},
    {"by": "count", "count": 9, "steps": 3},
    {"by": "number", "number": 6, "pick": 2},
    {"by": "time", "time": 3000, "from": "first-event", "pick": 3},
]
ANY = pytest.mark.parametrize("raw", KINDS, ids=lambda raw: "-".join(map(str, raw.values())))


def kind(**raw: Any) -> FrameKind:
    made: FrameKind = TypeAdapter(FrameKind).validate_python(raw)
    return made


def made(
    events: Events, sensor: Sensor, raw: dict[str, Any], transforms: list[dict[str, Any]] | None = None
) -> NDArray[np.float32]:
    """Return one recording's frames."""
    chosen: list[Transform] = TypeAdapter(list[Transform]).validate_python(transforms or [])
    framing = Framing.of_kind(sensor, chosen, kind(**raw), False)
    found: NDArray[np.float32] = frames_of(chain(chosen, sensor)(events.copy()), framing).numpy()
    return found


def golden(name: str, part: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a part of a file, by the rest of their names."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key.removeprefix(f"{part}."): file[key] for key in file.files if key.startswith(f"{part}.")}


def events_of(arrays: dict[str, NDArray[Any]], before: str = "") -> Events:
    x, y, t, p = (arrays.get(f"{before}{name}", np.zeros(len(arrays["t"]))) for name in "xytp")
    return make_events(x, y, t, p)


# ---------------------------------------------------------------------------------------- as their libraries make them


@pytest.mark.parametrize("part", ["a", "b", "c"])
def test_splits_by_number_are_spikingjellys(part: str) -> None:
    arrays = golden("sj_split_by_number", part)
    frames = arrays["frames"]
    found = made(events_of(arrays), Sensor(32, 24), {"by": "number", "number": len(frames)})
    assert np.array_equal(found, frames)
    if "frames_by_time" in arrays:
        by_time = made(events_of(arrays), Sensor(32, 24), {"by": "parts", "parts": 16})
        assert np.array_equal(by_time, arrays["frames_by_time"])


@pytest.mark.parametrize("part", ["ssc.a", "ssc.b", "ssc.c"])
def test_windows_from_the_first_event_are_tonics(part: str) -> None:
    arrays = golden("tonic_frames", part)
    transforms = [{"name": "downsample", "factor": 7}, {"name": "crop-time", "stop": 1_000_001}]
    raw = {"by": "time", "time": 4000, "from": "first-event"}
    found = made(events_of(arrays), Sensor(700, 1, 1), raw, transforms)
    assert np.array_equal(found, arrays["frames"][:, 0])


def test_channels_taken_together_by_seven_and_the_first_second_are_tonics() -> None:
    x = np.arange(700)
    events = make_events(x, 0, 999_301 + x, 0)
    transforms: list[Transform] = TypeAdapter(list[Transform]).validate_python(
        [{"name": "downsample", "factor": 7}, {"name": "crop-time", "stop": 1_000_001}]
    )
    assert np.array_equal(
        chain(transforms[:1], Sensor(700, 1, 1))(events)["x"], golden("tonic_frames", "ssc")["downsample_700"]
    )
    assert np.array_equal(golden("tonic_frames", "ssc")["downsample_700"], x // 7)
    # An event at exactly one second stays.
    assert len(chain(transforms, Sensor(700, 1, 1))(events)) == 700
    events["t"] += 1
    assert len(chain(transforms, Sensor(700, 1, 1))(events)) == 699


def test_bins_of_a_denoised_recording_are_tonics() -> None:
    arrays = golden("tonic_frames", "dvs")
    sensor, denoise = Sensor(32, 32), [{"name": "denoise", "filter_time": 10_000}]
    left = chain(TypeAdapter(list[Transform]).validate_python(denoise), sensor)(events_of(arrays))
    for name in "xytp":
        assert np.array_equal(left[name], arrays[f"denoised.{name}"])
    raw = {"by": "bins", "bins": 25}
    assert np.array_equal(made(events_of(arrays), sensor, raw, denoise), arrays["frames25"])
    assert np.array_equal(made(events_of(arrays), sensor, raw), arrays["frames25_raw"])


def test_frames_of_so_many_events_are_tonics() -> None:
    arrays = golden("tonic_frames", "dvs")
    found = made(events_of(arrays), Sensor(32, 32), {"by": "count", "count": 100, "steps": 50})
    assert np.array_equal(found, arrays["frames_count100"])


def test_picked_pixels_are_those_of_torchs_interpolate() -> None:
    with np.load(GOLDEN / "snntorch_interpolate.npz") as file:
        frames, out = file["frames"], file["out"]
    for sample in range(frames.shape[1]):
        t, p, y, x = (
            np.repeat(axis, frames[:, sample].ravel())
            for axis in (a.ravel() for a in np.indices(frames[:, sample].shape))
        )
        events = make_events(x, y, 100 * t, p)
        # Of three frames whose times do not begin and end with a picked pixel's event.
        found = made(events, Sensor(128, 128), {"by": "parts", "parts": 3, "pick": 4})
        assert np.array_equal(found, out[:, sample])
        assert found.sum() < len(events) / 8
        config: Any = {"kind": "frames", "sensor": [128, 128, 2], "frame_time": 100, "steps": 3, "binary": False}
        how = parse(config | {"transforms": [{"name": "pick", "factor": 4}]})
        assert isinstance(how, Frames)
        assert np.array_equal(framed(events, how).numpy(), out[:, sample])


# ------------------------------------------------------------------------------------------------------- any recording


def by_hand(events: Events, raw: dict[str, Any]) -> list[list[int]]:
    """Return the numbers of each frame's events, one event after another."""
    times, number = [int(time) for time in events["t"]], len(events)
    begin, end = (times[0], times[-1]) if times else (0, 0)
    match raw["by"]:
        case "time":
            frames: list[list[int]] = [[]]
            while begin + len(frames) * raw["time"] < end:
                frames.append([])
            spans = [(begin + n * raw["time"], begin + (n + 1) * raw["time"]) for n in range(len(frames))]
            return [[i for i in range(number) if low <= times[i] < high] for low, high in spans]
        case "bins" | "parts":
            count = raw[raw["by"]]
            width = (end - begin) // count
            spans = [(begin + n * width, begin + (n + 1) * width) for n in range(count)]
            found = [[i for i in range(number) if low <= times[i] < high] for low, high in spans]
            if raw["by"] == "parts":
                found[-1] = [i for i in range(number) if times[i] >= spans[-1][0]]
            return found
        case "number":
            count, each = raw["number"], number // raw["number"]
            found = [list(range(n * each, (n + 1) * each)) for n in range(count)]
            found[-1] = list(range((count - 1) * each, number))
            return found
        case _:
            rows = [list(range(i, min(i + raw["count"], number))) for i in range(0, number, raw["count"])]
            if rows and len(rows[-1]) < raw["count"] and len(rows) > 1 and not raw.get("keep_incomplete"):
                rows.pop()
            return (rows or [[]])[: raw["steps"]]


RECORDINGS = st.builds(
    random_events,
    st.integers(0, 500),
    st.integers(0, 90),
    st.just(SENSOR),
    st.sampled_from([1, 4, 3001, 6000, 20_000, 90_000]),
)


@ANY
@given(RECORDINGS)
def test_frames_are_what_they_are_event_by_event(raw: dict[str, Any], events: Events) -> None:
    pick = raw.get("pick", 1)
    groups = by_hand(events, raw)
    expected = np.zeros((len(groups), 2, -(-5 // pick), -(-7 // pick)), np.float32)
    for frame, group in zip(expected, groups, strict=True):
        for x, y, _, p in (events[i].tolist() for i in group):
            if x % pick == y % pick == 0:
                frame[p, y // pick, x // pick] += 1
    found = made(events, SENSOR, raw)
    assert np.array_equal(found, expected)
    if raw["by"] in {"parts", "number"} and pick == 1:
        assert found.sum() == len(events)


def split(kept: list[Events], framing: Framing, where: Cache, key: Key | None = None) -> EventSplit:
    store = make_store(kept.__getitem__, len(kept), framing, where, key, lambda _done, _total: None)
    return EventSplit.of(store, framing, torch.arange(len(kept)))


@ANY
def test_every_cache_gives_the_same_frames_and_lengths(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    kept = [random_events(seed, count, SENSOR, 9000 + 7000 * seed) for seed, count in enumerate((40, 0, 1, 77, 12))]
    # The last window of this one holds no event: the one at its end is dropped.
    kept.append(make_events([1, 2, 3], 0, [100, 200, 6100], 1))
    framing = Framing.of_kind(SENSOR, [], kind(**raw), False)
    alone = [frames_of(events, framing) for events in kept]
    numbers = torch.tensor([5, 0, 3, 1, 2, 4])
    for where in (*CACHES, "disk"):
        x, target, lengths = split(kept, framing, where, Key("tests", "train", {"files": "1"})).batch(numbers, CPU)
        assert target.tolist() == numbers.tolist()
        assert (lengths is None) == (kind(**raw).fixed is not None)
        for place, number in enumerate(numbers.tolist()):
            length = len(alone[number])
            assert lengths is None or int(lengths[place]) == length
            assert torch.equal(x[:length, place], alone[number])
            assert not x[length:, place].any()
    assert len(list(tmp_path.glob("tests/*.rows"))) == 1


def test_the_last_window_is_there_though_it_is_empty() -> None:
    found = made(make_events([1, 2, 3], 0, [100, 200, 6100], 1), SENSOR, KINDS[0])
    assert found.sum(axis=(1, 2, 3)).tolist() == [2, 0]


def test_a_recording_shorter_than_its_bins_has_none_and_one_of_few_events_is_one_frame() -> None:
    events = make_events([1, 2, 3], 0, [100, 101, 102], 1)
    assert made(events, SENSOR, {"by": "bins", "bins": 6}).sum() == 0
    assert made(events, SENSOR, {"by": "parts", "parts": 6}).sum(axis=(1, 2, 3)).tolist() == [0] * 5 + [3]
    assert made(events, SENSOR, {"by": "count", "count": 9, "steps": 4}).sum(axis=(1, 2, 3)).tolist() == [3]


def test_too_many_frames_are_refused() -> None:
    framing = Framing.of_kind(Sensor(128, 128), [], kind(by="number", number=2**17), False)
    with pytest.raises(DataError, match="131072 frames on 32768 places are too many to pack"):
        framing.pack(random_events(0, 9, SENSOR, 1000))


def test_binary_frames_say_only_that_there_were_events() -> None:
    events = make_events([1, 1, 2], 0, [0, 1, 2], 1)
    framing = Framing.of_kind(SENSOR, [], kind(by="number", number=1), True)
    assert frames_of(events, framing).max() == 1


# ----------------------------------------------------------------------------------------------- recipes and manifests


@ANY
def test_a_recipe_and_a_bundle_say_them_and_nothing_of_fixed_times(raw: dict[str, Any]) -> None:
    config: Any = registry.DATA_SETS["digit-events"].config.model_validate({"frames": raw})
    assert isinstance(config, EventConfig)
    plain = config.model_dump(mode="json")
    assert not {"frame_time", "steps", "crop"} & set(plain)
    whole = {"keep_incomplete": False} if raw["by"] == "count" else {}
    assert plain["frames"] == whole | raw
    assert type(config).model_validate(plain) == config
    how = preprocessing(config)
    assert isinstance(how, Frames)
    assert how.framing == config.framing
    manifest = how.model_dump(mode="json")
    assert parse(json.loads(json.dumps(manifest))) == how
    assert schema.misfit(manifest, schema._INPUT, "input") == ""
    assert trained_range(manifest).steps == how.length == kind(**raw).fixed
    with pytest.raises(
        ExportError, match=f"--preprocess: a graph makes frames at fixed times, and frames by {raw['by']}"
    ):
        possible(how)


def test_what_there_was_before_is_written_as_it_was() -> None:
    for name, data_set in registry.DATA_SETS.items():
        config = data_set.config()
        if isinstance(config, EventConfig):
            assert list(config.model_dump()) == ["transforms", "frame_time", "steps", "crop", "binary", "name"], name
            keys = ["kind", "sensor", "transforms", "frame_time", "steps", "binary"]
            assert list(preprocessing(config).model_dump()) == keys


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("lif-dvs128", [16, 16]),
        ("leaky-dvs", [25, 25]),
        ("iaf-shd", [1, 250]),
        ("iaf-ssc", [1, 250]),
    ],
)
def test_the_recipes_make_frames_of_files_of_the_sets_own_layout(name: str, frames: list[int], tmp_path: Path) -> None:
    recipe = load_recipe(name)
    data = recipe.data.name
    folder = make_dvs_gesture(tmp_path / "data") if data == "dvs-gesture" else make_shd(tmp_path / "data", data)
    splits = registry.load(recipe.data, "test", folder)
    known = registry.shape(recipe.data)
    assert known is not None
    recipe.check_fits(splits.family, splits.sizes)
    x, _, lengths = splits.test.batch(torch.arange(4), CPU)
    assert frames[0] <= len(x) <= frames[1]
    assert x.shape[2:] == known.step
    assert (lengths is None) == (frames[0] == frames[1])
    assert x.any()
    if data == "dvs-gesture":
        assert "(tonic's cuts, 1077 + 264)" in splits.origin


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("raw", [{"by": "number", "number": 3}, {"by": "count", "count": 150, "steps": 20}], ids=str)
def test_a_bundle_runs_a_recording_as_training_frames_it(raw: dict[str, Any], hstnn: Hstnn, tmp_path: Path) -> None:
    changes = [f"data.frames={json.dumps(raw)}"]
    if kind(**raw).fixed is None:
        changes.append("data.transforms=[{name: crop-time, stop: 20001}]")
    recipe = load_recipe("stack-events", changes)
    torch.manual_seed(0)
    sizes = layer_sizes(recipe.kind, recipe.network.units, recipe.ratio)
    network = build(recipe.network, sizes)
    Checkpoint(
        recipe=recipe.dump(),
        architecture=recipe.network,
        stage="train",
        sizes=sizes,
        parameters=network.state_dict(),
        epoch=1,
        metrics={"protocol": "validation"},
    ).save(tmp_path / "best.pt")
    bundle = export_bundle(tmp_path / "best.pt", tmp_path / "bundle", forms=["window"])
    assert not bundle.failed, bundle.failed
    held = recordings()["test"]
    splits = registry.load(recipe.data, "test")
    with torch.no_grad():
        network.eval()
        for number in (0, 5):
            x, _, _ = splits.test.batch(torch.tensor([number]), CPU)
            np.save(tmp_path / "recording.npy", held.read(number))
            found = hstnn("run", tmp_path / "bundle", "--input", tmp_path / "recording.npy", "--json")
            assert found.code == 0, found.err
            (result,) = json.loads(found.out)["results"]
            assert result["steps"] == len(x)
            how = parse(bundle.manifest["input"])
            assert isinstance(how, Frames)
            assert torch.equal(framed(held.read(number), how), x[:, 0])
            logits, _ = network(x)
            answer = Session(tmp_path / "bundle").run(x.numpy())
            np.testing.assert_allclose(answer, logits.numpy(), atol=1e-5)


def test_a_recording_of_too_many_frames_is_refused_before_they_are_made() -> None:
    how = Frames(sensor=Sensor(128, 128), transforms=[], binary=False, frames=kind(**KINDS[0]))
    with pytest.raises(DataError, match=r"a\.bin: it makes 3333334 frames of 3 ms from the first event on, too many"):
        see("a.bin", np.array([0, 10**10]), Expected(how))
    assert see("a.bin", np.array([0, 10**6]), Expected(how)) == []


@pytest.mark.parametrize("name", ["iaf-shd", "leaky-dvs"])
def test_random_data_in_their_place_is_held_and_framed_alike(name: str) -> None:
    recipe = load_recipe(name)
    config: Any = recipe.data
    found = registry.shape(config)
    assert found is not None
    if name == "leaky-dvs":
        assert nbytes(recipe) > 0
        return
    x, _, lengths = synthetic(recipe).test.batch(torch.arange(3), CPU)
    assert x.shape == (found.steps, 3, *found.step)
    assert lengths is not None
    assert lengths.tolist() == [found.steps] * 3


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("digit-events", {"by": "number", "number": 5}, "5 frames of equal numbers of events"),
        ("digit-events", {"by": "count", "count": 30, "steps": 20}, "frames of 30 events, 20 at most,"),
        ("shd", KINDS[0], "frames of 3 ms from the first event on"),
    ],
)
def test_they_are_drawn(name: str, raw: dict[str, Any], told: str, hstnn: Hstnn, tmp_path: Path) -> None:
    changes = [f"data.frames={json.dumps(raw)}", "data.frame_time=null", "data.steps=null", "data.crop=null"]
    words = [word for change in changes for word in ("--set", change)]
    if name == "shd":
        words += ["--data-dir", str(make_shd(tmp_path / "shd"))]
    result = hstnn("data", "show", name, "--out", tmp_path / "a.png", *words)
    assert (result.code, result.err) == (0, "")
    assert told in result.out
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_frames_are_counted_in_order() -> None:
    # Of every kind, a frame's events are before the next one's.
    events = random_events(3, 80, SENSOR, 40_000)
    for raw in KINDS:
        frame, _ = kind(**raw).cut(events["t"])
        assert all(a <= b for a, b in pairwise(frame[frame >= 0]))


def test_a_recording_of_which_no_frame_holds_an_event_is_refused_in_one_line() -> None:
    how = Frames(sensor=SENSOR, transforms=[], binary=False, frames=kind(by="bins", bins=50))
    events = make_events([1, 2], 0, [100, 120], 1)
    found = make_recording(
        "a.npy", Found("plain", {name: events[name] for name in "txyp"}, "us"), Expected(how), EventOptions()
    )
    with pytest.raises(DataError, match=r"a\.npy: no event is within the 50 frames of equal time from the first event"):
        recorded(found, how, raw=False)


def test_raw_events_are_taken_only_where_a_graph_can_frame_them() -> None:
    how = Frames(sensor=SENSOR, transforms=[], binary=False, frames=kind(by="bins", bins=5)).model_dump(mode="json")
    with pytest.raises(DataError, match="takes raw events, but its preprocessing has no frame_time"):
        taking({"inputs": [{"name": "events"}]}, how)
