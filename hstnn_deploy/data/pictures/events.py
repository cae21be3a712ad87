"""Draw recordings of events: frames over time, or spikes of a cochlea, and the rate of events.

Frames of a recipe with a kind of frames (see `data.events.kinds`) are drawn as the network sees them; without one, a
recording is drawn as recorded, over equal times.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.dataset import Card, Choice, Picture, Recordings
from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.events.frames import frames_of
from hstnn_deploy.data.events.recordings import EventConfig, as_trained
from hstnn_deploy.data.events.transforms import chain
from hstnn_deploy.data.pictures.figure import INK, OFF, ON, PALE, choose, counted, new_figure, title

_FRAMES = 8
"""Frames that a recording is drawn as, chosen from those that the network sees."""
_BINS = 100
"""Points of the curve of rates."""


def draw_events(
    name: str, parts: Mapping[str, Recordings], config: EventConfig, protocol: str, choice: Choice, card: Card
) -> Picture:
    """Draw recordings of a split, which is that of a training: before any transform, or the recipe's kind of frames.

    Raises:
        UsageError: a recording or class that the split does not have.
        DataError: a recording is damaged, or there are too few to hold a validation split out.
    """
    # Nothing has to be held out to look at the test split.
    recordings = (parts if choice.split == "test" else as_trained(parts, protocol))[choice.split]
    sensor = config.sensor
    target = recordings.target
    numbers = choose(target, choice, 3)
    drawn = [recordings.read(number) for number in numbers]
    titles = [title(number, int(target[number]), card.classes) for number in numbers]

    figure = new_figure(10, 2.9 * len(drawn) + 0.4)
    figure.suptitle(f"{name}: {choice.split} split", fontsize=11)
    rows: Any = figure.subfigures(len(drawn), 1, squeeze=False)
    for row, events, above_it in zip(rows[:, 0], drawn, titles, strict=True):
        row.suptitle(above_it, fontsize=9, color=INK)
        if sensor.height > 1:
            above, below = row.subfigures(2, 1, height_ratios=[1.25, 1.2])
            if config.frames is None:
                _frames(above, events, sensor)
            else:
                _kind_of_frames(above, _made(events, config), config.framing.sensor)
            rates = below.subplots()
        elif config.frames is not None:
            raster, rates = row.subplots(2, 1, height_ratios=[1.25, 1])
            _channels(raster, _made(events, config))
        else:
            raster, rates = row.subplots(2, 1, sharex=True, height_ratios=[1.25, 1])
            _raster(raster, events, sensor)
        _rates(rates, events, sensor, _window(config))

    if config.frames is not None:
        frames = config.frames.told()
    else:
        frames = f"{config.steps or 'as many as it takes'} frames of {config.frame_time / 1000:g} ms"
    lines = [
        f"{len(target)} recordings in the {choice.split} split, {sensor.width} x {sensor.height} places, "
        f"{sensor.polarities} polarit{'ies' if sensor.polarities > 1 else 'y'}; the recipe makes {frames} of each",
        counted(target),
    ]
    lines += [f"{told}: {_told(events, sensor, config)}" for told, events in zip(titles, drawn, strict=True)]
    return Picture(figure, lines)


def _told(events: Events, sensor: Sensor, config: EventConfig) -> str:
    span = _span(events) / 1000
    told = f"{len(events)} events in {span:.0f} ms, {len(events) / max(span, 1e-9):.1f} per ms"
    if sensor.polarities > 1:
        told += f", {int((events['p'] == 1).sum())} to brighter, {int((events['p'] == 0).sum())} to darker"
    if 0 < (window := _window(config)) < _span(events):
        told += f"; {100 * float((events['t'] < window).mean()):.0f} % of them in the frames that the network sees"
    return told


def _span(events: Events) -> int:
    """Return the microseconds to the last event, at least 1."""
    return int(events["t"][-1]) + 1 if len(events) else 1


def _window(config: EventConfig) -> int:
    """Return the microseconds that the network sees from the beginning; 0 where that is all, or at a random time."""
    fixed = config.frames is None and config.crop == "first"
    return config.steps * config.frame_time if config.steps and fixed else 0


def _frames(above: Any, events: Events, sensor: Sensor) -> None:
    span = _span(events)
    number = np.minimum(events["t"] * _FRAMES // span, _FRAMES - 1)
    counts = np.zeros((_FRAMES, 2, sensor.height, sensor.width))
    np.add.at(counts, (number, events["p"], events["y"], events["x"]), 1)
    ends = [which * span / _FRAMES / 1000 for which in range(_FRAMES + 1)]
    _in_a_row(above, counts, [f"{ends[which]:.0f}-{ends[which + 1]:.0f} ms" for which in range(_FRAMES)])


def _made(events: Events, config: EventConfig) -> NDArray[np.float64]:
    """Return the frames that the network sees of a recording, [T, ...]."""
    found: NDArray[np.float64] = frames_of(chain(config.transforms, config.sensor)(events), config.framing).numpy()
    return found


def _kind_of_frames(above: Any, frames: NDArray[np.float64], seen: Sensor) -> None:
    count = len(frames)
    frames = frames.reshape(count, seen.polarities, seen.height, seen.width)
    chosen = np.unique(np.linspace(0, count - 1, _FRAMES).round().astype(int))
    _in_a_row(above, frames[chosen], [f"{which + 1} of {count}" for which in chosen])


def _channels(place: Any, frames: NDArray[np.float64]) -> None:
    full = max(1.0, float(frames.max()))
    extent = (0, len(frames), 0, frames.shape[1])
    place.imshow(frames.T, aspect="auto", origin="lower", cmap="Greys", vmin=0, vmax=full, extent=extent)
    place.set(ylabel="channel")
    place.set_title("frames that the network sees", fontsize=8)
    _tidy(place)


def _in_a_row(above: Any, counts: NDArray[np.float64], titles: list[str]) -> None:
    """Draw counts [n, polarities, height, width] beside one another."""
    seen = counts[counts > 0]
    # A pixel is of full colour at what only few exceed: one hot pixel would leave the rest pale.
    full = max(1.0, float(np.quantile(seen, 0.9))) if len(seen) else 1.0
    axes = above.subplots(1, max(len(counts), _FRAMES))
    for place in axes[len(counts) :]:
        place.set_axis_off()
    for place, frame, title_ in zip(axes, counts, titles, strict=False):
        place.imshow(coloured(np.minimum(frame / full, 1)), interpolation="nearest")
        place.set(xticks=[], yticks=[])
        place.set_title(title_, fontsize=8)
        for spine in place.spines.values():
            spine.set_color(PALE)


def coloured(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [height, width, RGB] of the strengths 0..1 of darker and brighter [1 or 2, height, width], on white."""
    from matplotlib.colors import to_rgb

    picture = np.ones((*strength.shape[1:], 3))
    for part, colour in zip(strength, (OFF, ON) if len(strength) > 1 else (INK,), strict=True):
        picture *= 1 - part[..., None] * (1 - np.array(to_rgb(colour)))
    return picture


def _raster(place: Any, events: Events, sensor: Sensor) -> None:
    place.scatter(events["t"] / 1000, events["x"], s=0.6, color=INK, linewidths=0)
    place.set(xlim=(0, _span(events) / 1000), ylim=(0, sensor.width), ylabel="channel")
    _tidy(place)


def _rates(place: Any, events: Events, sensor: Sensor, window: int) -> None:
    span = _span(events)
    kinds = [(ON, "to brighter", events["p"] == 1), (OFF, "to darker", events["p"] == 0)]
    if sensor.polarities == 1:
        kinds = [(INK, "spikes", np.ones(len(events), dtype=bool))]
    edges = np.linspace(0, span, _BINS + 1)
    for colour, name, chosen in kinds:
        count, _ = np.histogram(events["t"][chosen], edges)
        place.plot(edges[:-1] / 1000 + span / _BINS / 2000, count / (span / _BINS / 1000), color=colour, label=name)
    if 0 < window < span:
        place.axvspan(0, window / 1000, color=PALE, alpha=0.3, linewidth=0, label="what the network sees")
    place.set(xlim=(0, span / 1000), ylabel="events per ms")
    place.set_xlabel("ms", labelpad=0)
    place.set_ylim(bottom=0)
    place.legend(frameon=False, fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 0.94), borderaxespad=0)
    _tidy(place)


def _tidy(place: Any) -> None:
    place.tick_params(labelsize=8)
    place.spines[["top", "right"]].set_visible(False)
    for axis in (place.xaxis, place.yaxis):
        axis.label.set_size(8)
