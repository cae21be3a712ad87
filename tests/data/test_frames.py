"""Frames: one binning, which is tonic's; the same whatever keeps the recordings."""

from itertools import pairwise

import numpy as np
import pytest
import tonic.transforms
import torch
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.cache import in_memory
from hstnn_deploy.data.dataset import CACHES
from hstnn_deploy.data.events.events import EVENT, Events, Sensor, make_events
from hstnn_deploy.data.events.frames import EventSplit, Framing, Packed, make_store, to_frames
from hstnn_deploy.errors import DataError
from tests.event_files import random_events

CPU = torch.device("cpu")
CAMERA, COCHLEA = Sensor(7, 5), Sensor(11, 1, 1)


def tonics(events: Events, sensor: Sensor, frame_time: int, steps: int, start: int = 0) -> torch.Tensor:
    """Return tonic's frames of the same window."""
    stop = start + frame_time * steps
    framed = tonic.transforms.ToFrame(tuple(sensor), time_window=frame_time, start_time=start, end_time=stop)(
        events.copy()
    )
    return torch.from_numpy(framed.astype(np.float32)).view(steps, *sensor.step)


def packed(recordings: list[Events], framing: Framing) -> Packed:
    return Packed(in_memory(None, lambda: [framing.pack(events) for events in recordings]), framing)


def split(recordings: list[Events], framing: Framing) -> EventSplit:
    store = make_store(recordings.__getitem__, len(recordings), framing, "memory", None, lambda _d, _t: None)
    return EventSplit.of(store, framing, torch.arange(len(recordings)))


def test_frames_count_events() -> None:
    events = np.array([(1, 2, 0, 1), (1, 2, 9, 1), (3, 0, 9, 0), (0, 0, 10, 0), (0, 0, 20, 1)], dtype=EVENT)
    frames = to_frames(events, Sensor(4, 3), 10, 2)
    assert frames.shape == (2, 2, 3, 4)
    assert [int(count) for count in (frames[0, 1, 2, 1], frames[0, 0, 0, 3], frames[1, 0, 0, 0])] == [2, 1, 1]
    # The last event comes after the last frame.
    assert frames.sum() == 4
    assert to_frames(events, Sensor(4, 3), 10).shape == (3, 2, 3, 4)
    assert to_frames(events[:0], Sensor(4, 3), 10, 2).shape == (2, 2, 3, 4)


@given(st.integers(0, 200), st.sampled_from([CAMERA, COCHLEA]), st.sampled_from([3000, 1000, 777]), st.integers(1, 9))
def test_frames_are_tonics(seed: int, sensor: Sensor, frame_time: int, steps: int) -> None:
    events = random_events(seed, 200, sensor, 8000)
    assert torch.equal(to_frames(events, sensor, frame_time, steps), tonics(events, sensor, frame_time, steps))


@given(st.integers(0, 200), st.sampled_from([3000, 20_000, 1500, 777]), st.integers(1, 4), st.data())
def test_a_crop_at_any_time_is_tonics(seed: int, frame_time: int, steps: int, data: st.DataObject) -> None:
    recordings = [random_events(seed + number, 150, CAMERA, 4000 + 30_000 * number) for number in range(3)]
    framing = Framing(CAMERA, frame_time, steps, random=True)
    starts = torch.tensor([data.draw(st.integers(0, 40_000 // framing.tick)) for _ in recordings])
    frames, lengths = packed(recordings, framing).frames(torch.arange(3), starts, CPU)
    assert lengths is None
    for number, (events, start) in enumerate(zip(recordings, starts.tolist(), strict=True)):
        assert torch.equal(frames[:, number], tonics(events, CAMERA, frame_time, steps, start * framing.tick))


def test_whole_recordings_are_padded_and_say_how_long_they_are() -> None:
    recordings = [
        random_events(0, 50, CAMERA, 9000),
        make_events(*np.array([[1], [1], [0], [1]])),
        random_events(0, 0, CAMERA, 1),
        random_events(1, 50, CAMERA, 24_000),
    ]
    framing = Framing(CAMERA, 3000, None)
    numbers = torch.tensor([3, 0, 2, 1])
    frames, lengths = packed(recordings, framing).frames(numbers, None, CPU)
    assert lengths is not None
    assert lengths.tolist() == [8, 3, 1, 1]
    assert frames.shape == (8, 4, *CAMERA.step)
    for place, number in enumerate(numbers.tolist()):
        alone, length = packed(recordings, framing).frames(torch.tensor([number]), None, CPU)
        assert length is not None
        assert len(alone) == int(length) == int(lengths[place])
        assert torch.equal(frames[: len(alone), place], alone[:, 0])
        assert frames[len(alone) :, place].sum() == 0
        assert frames[:, place].sum() == len(recordings[number])


def test_binary_frames_say_only_that_there_were_events() -> None:
    events = random_events(0, 2000, CAMERA, 9000)
    framing = Framing(CAMERA, 3000, 3, binary=True)
    frames, _ = packed([events], framing).frames(torch.zeros(1, dtype=torch.int64), None, CPU)
    counts = to_frames(events, CAMERA, 3000, 3)
    assert counts.max() > 1
    assert torch.equal(frames[:, 0], (counts > 0).float())


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("where", CACHES)
def test_every_cache_gives_the_same_bits(where: str, random: bool) -> None:
    recordings = [random_events(number, 100 * number, CAMERA, 20_000 + 9000 * number) for number in range(6)]
    framing = Framing(CAMERA, 3000, 4, random=random)
    indices = torch.tensor([5, 0, 3, 3, 1])

    def batches(cache: str) -> list[torch.Tensor]:
        told: list[int] = []
        store = make_store(recordings.__getitem__, 6, framing, cache, None, lambda done, _: told.append(done))  # type: ignore[arg-type]
        assert told == ([] if cache == "none" else [1, 2, 3, 4, 5, 6])
        part = EventSplit.of(store, framing, torch.arange(6)).take(torch.tensor([5, 4, 3, 2, 1, 0]))
        part = part.cropped_at_random() if random else part
        torch.manual_seed(3)
        found = [part.batch(indices, CPU) for _ in range(2)]
        assert all(batch.target.tolist() == [0, 5, 2, 2, 4] for batch in found)
        return [batch.x for batch in found]

    ours, memory = batches(where), batches("memory")
    assert all(torch.equal(a, b) for a, b in zip(ours, memory, strict=True))
    assert torch.equal(ours[0], ours[1]) != random


def test_random_crops_follow_the_global_seed_and_cover_the_whole_recording() -> None:
    # An event every millisecond tells where a crop of one frame began.
    events = make_events(np.arange(50) % 7, 0, np.arange(50) * 1000, 0)
    framing = Framing(CAMERA, 2000, 1, random=True)
    part = split([events, events[:1]], framing).cropped_at_random()
    seen = set()
    for seed in range(200):
        torch.manual_seed(seed)
        x = part.batch(torch.tensor([0, 1]), CPU).x
        torch.manual_seed(seed)
        assert torch.equal(x, part.batch(torch.tensor([0, 1]), CPU).x)
        assert x[:, 0].sum() == 2
        # A recording shorter than the crop begins at its beginning.
        assert x[0, 1, 0, 0, 0] == 1
        seen.add(tuple(x[0, 0, 0, 0].nonzero().flatten().tolist()))
    assert seen == {tuple(sorted({first, second % 7})) for first, second in pairwise(range(8))}
    starts = packed([events], framing).draw(torch.zeros(5000, dtype=torch.int64))
    assert sorted(set(starts.tolist())) == list(range(49))


def test_a_split_without_random_crops_draws_nothing() -> None:
    part = split([random_events(0, 100, CAMERA, 50_000)], Framing(CAMERA, 3000, 4, random=True))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    x = part.batch(torch.zeros(1, dtype=torch.int64), CPU).x
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x[:, 0], to_frames(random_events(0, 100, CAMERA, 50_000), CAMERA, 3000, 4))


@pytest.mark.parametrize("random", [False, True])
def test_recordings_without_events_are_empty_frames(random: bool) -> None:
    framing = Framing(CAMERA, 3000, 4, random=random)
    nothing = random_events(0, 0, CAMERA, 1)
    part = split([nothing, nothing], framing)
    part = part.cropped_at_random() if random else part
    x = part.batch(torch.tensor([1, 0]), CPU).x
    assert x.shape == (4, 2, *CAMERA.step)
    assert x.sum() == 0


def test_a_recording_too_long_to_be_packed_is_refused() -> None:
    hours = make_events([0, 0], 0, [0, 4 * 3600 * 10**6], 0)
    with pytest.raises(DataError, match="14400 s of events on 512 places are too many"):
        Framing(Sensor(16, 16), 20_000, 60, random=True).pack(hours)
    assert len(Framing(Sensor(16, 16), 20_000, 60).pack(hours)) == 1
