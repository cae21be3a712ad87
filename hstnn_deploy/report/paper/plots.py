"""A figure for a paper as plain data: the picture and the CSV come from it, so that both agree."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["line", "points", "level", "bars"]
"""How a series is drawn: a level is a line over the whole width, bars are stacked on those of the series before."""


@dataclass(frozen=True)
class Series:
    """One series of a figure; every list is as long as `x`."""

    name: str
    family: str
    """A kind of network, which has a colour."""
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    kind: Kind = "line"
    published: bool = False
    """Somebody else's figures: drawn hollow and dotted."""
    area: bool = False
    """Low to high is shaded, and not drawn as bars."""
    marker: bool = True
    seeds: Sequence[tuple[float, int, float]] = ()
    """Single seeds: x, seed and value."""
    labels: Sequence[str] = ()
    """Names beside points; empty where one has none."""


@dataclass(frozen=True)
class Plot:
    """One figure: a pair of axes."""

    name: str
    """The stem of its files."""
    x: str
    y: str
    series: Sequence[Series]
    ticks: Sequence[tuple[float, str]] = ()
    """Places on the x axis with their names; empty: round numbers."""
    log: bool = False
    """Whether the x axis is logarithmic."""
    limits: tuple[float, float] | None = None
    """Of the x axis."""
    about: Sequence[str] = field(default=())
    """What a caption has to say."""


def as_csv(plot: Plot) -> str:
    """Return the data of a figure: a row for each point, and for each seed that is drawn."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["series", plot.x, plot.y, "low", "high"])
    table.writerows(row for series in plot.series for row in _rows(plot, series))
    return stream.getvalue()


def _rows(plot: Plot, series: Series) -> Iterator[list[object]]:
    names = dict(plot.ticks) if series.kind == "bars" else {}
    for place, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
        ends = ["" if ends is None else ends[place] for ends in (series.low, series.high)]
        yield [series.name, "" if series.kind == "level" else names.get(x, x), y, *ends]
    for x, seed, value in series.seeds:
        yield [f"{series.name}, seed {seed}", "" if series.kind == "level" else x, value, "", ""]
