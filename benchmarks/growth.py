"""How time and memory grow with the size of the work: ours beside the well-known libraries.

    python -m benchmarks.growth [--rounds N] [--axis NAME …] [--peer NAME …] [--json FILE] [--picture FILE]

Along each axis one size grows and the others stay: time steps, batch and width of a spiking stack 28-n-n (a train step:
forward, loss, backward; see `benchmarks.peers`), and the events of a recording that becomes frames (against tonic). An
exponent is the slope of a straight line through the logarithms, by least squares over all points: 1 is proportional, 0
is constant. Memory is the peak of two train steps beyond what the process held before them. Every library has a process
of its own for each size; in a size they take turns.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.harness import environment, keep_heap, turns, wall
from benchmarks.peer_neurons import PEERS, version
from benchmarks.processes import Worker

USUAL = {"time steps": 28, "batch": 16, "width": 400}
"""What stays along the other axes."""

AXES = {
    "time steps": (28, 100, 250, 500, 1000, 2000),
    "batch": (1, 4, 16, 64, 256, 1024),
    "width": (100, 200, 400, 800, 1600, 4000),
    "events": (10_000, 100_000, 1_000_000, 4_000_000),
}
OURS = "hstnn-deploy"
TONIC = "tonic"


class Point(NamedTuple):
    """What was measured of one library at one size."""

    axis: str
    size: int
    who: str
    seconds: float
    """Median over the rounds."""
    bytes: float
    """Peak; nan where it is not measured."""


def case(axis: str, size: int) -> str:
    """Return the name under which `benchmarks.peers` knows a size: T,B,n."""
    sizes = USUAL | {axis: size}
    return ",".join(str(sizes[each]) for each in USUAL)


def of_networks(axis: str, rounds: int, among: Sequence[str]) -> Iterator[Point]:
    """Measure the stack along an axis, in processes of their own that take turns."""
    for size in AXES[axis]:
        with ExitStack() as stack:
            ask = {
                OURS if who == "ours" else who: stack.enter_context(
                    Worker("benchmarks.peers", case(axis, size), who, "cpu", threads=1)
                ).ask
                for who in ("ours", *among)
            }
            peaks = {who: question("peak") for who, question in ask.items()}
            found = turns({who: partial(question, "train") for who, question in ask.items()}, rounds, warm_up=1)
        for who, seconds in found.seconds.items():
            yield Point(axis, size, who, statistics.median(seconds), peaks[who])


def of_events(rounds: int) -> Iterator[Point]:
    """Turn random events of a camera of 128 x 128 pixels into 60 frames of 20 ms, ours and tonic's; both must agree."""
    from tonic.transforms import ToFrame

    from hstnn_deploy.data.events.events import Sensor, make_events
    from hstnn_deploy.data.events.frames import to_frames

    generator, sensor = np.random.default_rng(0), Sensor(128, 128, 2)
    frame, steps = 20_000, 60
    theirs = ToFrame(sensor_size=(128, 128, 2), time_window=frame, include_incomplete=True)
    for size in AXES["events"]:
        times = np.sort(generator.integers(0, frame * steps, size))
        times[0], times[-1] = 0, frame * steps - 1
        places = [generator.integers(0, most, size) for most in (128, 128, 2)]
        events = make_events(places[0], places[1], times, places[2])
        run = {OURS: partial(to_frames, events, sensor, frame, steps), TONIC: partial(theirs, events)}
        assert np.array_equal(run[OURS]().numpy(), run[TONIC]()), "the frames differ"
        found = turns({who: wall(each) for who, each in run.items()}, rounds, warm_up=1)
        for who, seconds in found.seconds.items():
            yield Point("events", size, who, statistics.median(seconds), math.nan)


def exponents(points: Sequence[Point], value: Callable[[Point], float]) -> dict[tuple[str, str], float]:
    """Return the slope of log(value) over log(size) for each axis and library; nan where a value is not known."""
    found = {}
    for axis, who in dict.fromkeys((each.axis, each.who) for each in points):
        mine = [each for each in points if (each.axis, each.who) == (axis, who)]
        y = np.array([value(each) for each in mine])
        x = np.array([each.size for each in mine])
        usable = len(mine) > 1 and bool(np.all(np.isfinite(y) & (y > 0)))
        found[axis, who] = float(np.polyfit(np.log(x), np.log(y), 1)[0]) if usable else math.nan
    return found


COLOURS = {
    OURS: "#d62728",
    "snnTorch": "#1f77b4",
    "SpikingJelly": "#2ca02c",
    "sinabs": "#9467bd",
    "Norse LIFBox": "#ff7f0e",
}


def draw(points: Sequence[Point], to: Path) -> None:
    """Draw time above and memory below, an axis a column; the legend gives each line's exponent."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    axes = list(dict.fromkeys(each.axis for each in points))
    what: Mapping[str, Callable[[Point], float]] = {
        "train step (frames), ms": lambda each: each.seconds * 1e3,
        "peak memory, MB": lambda each: each.bytes / 1e6,
    }
    figure, plots = pyplot.subplots(len(what), len(axes), figsize=(3.6 * len(axes), 6.4), squeeze=False)
    for row, (label, value) in enumerate(what.items()):
        slopes = exponents(points, value)
        for column, axis in enumerate(axes):
            plot = plots[row][column]
            drawn = [(who, slope) for (on, who), slope in slopes.items() if on == axis and not math.isnan(slope)]
            if not drawn:
                plot.set_axis_off()
                plot.text(0.5, 0.5, "not measured", ha="center", transform=plot.transAxes)
                continue
            for who, slope in drawn:
                mine = [each for each in points if (each.axis, each.who) == (axis, who)]
                x, y = [each.size for each in mine], [value(each) for each in mine]
                style = {"color": COLOURS.get(who, "#7f7f7f"), "linewidth": 2.2 if who == OURS else 1.2}
                plot.loglog(x, y, marker="o", markersize=3, label=f"{who}: {slope:.2f}", **style)
            plot.grid(alpha=0.3)
            plot.legend(fontsize=7, title="exponent", title_fontsize=7)
            plot.set_xlabel(axis)
            plot.set_ylabel(label if column == 0 else "")
    figure.tight_layout()
    figure.savefig(to, dpi=110)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--axis", action="append", choices=AXES, help="which; repeatable; default all")
    parser.add_argument("--peer", action="append", choices=PEERS, help="which; repeatable; default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every point and exponent")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them")
    options = parser.parse_args()
    keep_heap()
    before = environment()
    among = [each for each in options.peer or PEERS if version(PEERS[each])]
    if absent := sorted(set(options.peer or PEERS) - set(among)):
        print(f"not installed, so not measured: {', '.join(absent)}", flush=True)
    points = list[Point]()
    for axis in options.axis or AXES:
        for point in of_events(options.rounds) if axis == "events" else of_networks(axis, options.rounds, among):
            points.append(point)
            memory = "" if math.isnan(point.bytes) else f", {point.bytes / 1e6:.1f} MB"
            print(f"{axis} {point.size} {point.who}: {point.seconds * 1e3:.2f} ms{memory}", flush=True)
    time_slopes = exponents(points, lambda each: each.seconds)
    memory_slopes = exponents(points, lambda each: each.bytes)
    print("\naxis, library: exponent of time, of memory")
    for (axis, who), slope in time_slopes.items():
        memory = "n/a" if math.isnan(memory_slopes[axis, who]) else f"{memory_slopes[axis, who]:.2f}"
        print(f"{axis}, {who}: {slope:.2f}, {memory}")
    if options.json:
        plain = [each._asdict() | {"bytes": None if math.isnan(each.bytes) else each.bytes} for each in points]
        options.json.write_text(json.dumps({"environment": before, "points": plain}, indent=1) + "\n")
    if options.picture:
        draw(points, options.picture)


if __name__ == "__main__":
    main()
