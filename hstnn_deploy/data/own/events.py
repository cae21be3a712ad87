"""Recordings of one's own: event files in folders by class, or in a list, of one sensor whatever its size.

Each file comes through `data.readers`, as `hstnn run` reads it, and then goes the way of every set of recordings.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hstnn_deploy.data import cache
from hstnn_deploy.data.dataset import Recordings, Source
from hstnn_deploy.data.events import recordings as sets
from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.own.config import FoundEvents, OwnEvents
from hstnn_deploy.data.own.event_hints import check_length, in_recipe
from hstnn_deploy.data.own.files import check_same, place
from hstnn_deploy.data.own.listing import Listing, counts, list_own
from hstnn_deploy.data.own.parts import SPLITS, Numbers, divide
from hstnn_deploy.data.preprocessing import Frames, preprocessing
from hstnn_deploy.data.readers import event_files
from hstnn_deploy.data.readers.event_options import EventOptions, parse_options
from hstnn_deploy.data.readers.event_report import Expected, Recording, Report
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import visible

_LOOKED_AT = 16
"""Recordings that are read to know how long they are."""
_ANOTHER_UNIT = 100
"""Times as long as most: a recording whose unit is taken for another seems 1000 times as long."""
_TOLD = 4
"""Ways of reading that are reported."""
_LOGGER = logging.getLogger(__name__)


def listed(
    config: OwnEvents, given: Path | None = None, known: Sequence[str] = ()
) -> tuple[Listing, dict[str, Numbers]]:
    """Return the recordings of a configuration and those of each split; see `list_own` and `divide`."""
    found = list_own(config, event_files.EVENT_FILES, given, known)
    return found, divide(found.samples, config.split, config.measured)


def look(config: OwnEvents, given: Path | None = None, known: Sequence[str] = ()) -> FoundEvents:
    """Return what is found of recordings: some are read. What was found in training, if `config` says it, stays so.

    Raises:
        DataError: see `listed`; a file is damaged, or does not say how large its sensor is.
    """
    listing, parts = listed(config, given, known)
    trained = config.found
    sensor = trained.sensor if trained else sensor_of(listing.path(0), config)
    facts = counts(listing, parts)
    span = trained.span if trained else None
    found = FoundEvents(
        listing=listing.digest, classes=list(listing.classes), sensor=sensor, longest=1, span=span, **facts
    )
    config = config.model_copy(update={"found": found})
    reader = Reader(listing, config)
    seen = [reader.recording(number) for number in looked_at(len(listing.names))]
    _tell([each.report for each in seen])
    longest = max(int(each.events["t"][-1]) + 1 for each in seen)
    check_length(longest, config)
    return found.model_copy(update={"longest": longest, "span": span or usual_span([each.events for each in seen])})


def looked_at(count: int) -> list[int]:
    """Return the numbers of the recordings that are read to know how long all are, of `count`."""
    found: list[int] = np.unique(np.linspace(0, count - 1, _LOOKED_AT).astype(int)).tolist()
    return found


def usual_span(seen: Sequence[Events]) -> int:
    """Return the microseconds of the longest recording, without those that are so long that their unit is another."""
    spans = np.array([int(each["t"][-1]) - int(each["t"][0]) + 1 for each in seen])
    return int(spans[spans <= _ANOTHER_UNIT * np.median(spans)].max())


def _tell(reports: Sequence[Report]) -> None:
    """Say how recordings were read: of the first, and of each that was read in another way."""
    told: set[tuple[str, ...]] = set()
    for report in reports:
        how = (report.form, report.unit.partition(" ")[0], report.polarity.partition(" (")[0])
        if how in told or len(told) >= _TOLD:
            continue
        for line in report.lines()[: 1 if told else None]:
            _LOGGER.warning("note: %s", visible(line))
        told.add(how)


def load(config: OwnEvents, source: Source) -> Splits:
    """Return the recordings as frames.

    Raises:
        DataError: they are not there, not what the recipe was made for, of several sensors, or damaged.
    """
    folder = place(config, source.folder)
    seen = config.found or look(config, source.folder)
    config = config.model_copy(update={"found": seen})
    parts, found = _recordings(config, source.folder)
    check_same(config, found, folder)
    if config.measured and (empty := next((name for name in SPLITS if not len(parts[name].numbers)), None)):
        raise DataError(
            f"{folder} contains no {empty} recordings",
            "if folders or a list define splits, each needs recordings; without splits, hstnn measures all recordings",
        )
    if source.protocol == "test":
        merged = torch.cat([parts["train"].numbers, parts["valid"].numbers]).sort().values
        parts = {**parts, "train": OwnRecordings(parts["train"].reader, merged)}
    known = sets.Known("your recordings", len(seen.classes), {name: len(part.target) for name, part in parts.items()})
    listing, (width, height, _) = parts["train"].reader.listing, seen.sensor
    origin = (
        f"your recordings in {folder}, {len(listing.names)} in {len(seen.classes)} classes, of a sensor of "
        f"{width} x {height}{listing.beside}"
    )
    return replace(sets.make_splits(config, "own", parts, known, folder, source), origin=origin)


def recordings(config: OwnEvents, given: Path | None) -> Mapping[str, Recordings]:
    """Return the recordings of each split as they were recorded."""
    seen = config.found or look(config, given)
    return _recordings(config.model_copy(update={"found": seen}), given)[0]


def _recordings(config: OwnEvents, given: Path | None) -> tuple[dict[str, "OwnRecordings"], FoundEvents]:
    assert config.found is not None
    listing, parts = listed(config, given, config.found.classes)
    reader = Reader(listing, config)
    found = config.found.model_copy(update={"listing": listing.digest, **counts(listing, parts)})
    return {name: OwnRecordings(reader, torch.from_numpy(parts[name])) for name in SPLITS}, found


@dataclass(frozen=True)
class Reader:
    """Reads the recordings of a listing, each as `hstnn run` reads it."""

    listing: Listing
    config: OwnEvents

    @cached_property
    def _reading(self) -> tuple[Expected, EventOptions, bool]:
        """What recordings are read for, the options given for them, and whether these define their sensor."""
        config = self.config
        how = preprocessing(config)
        assert isinstance(how, Frames)
        options = parse_options(config.events)
        said = sensor_said(config, options) is not None
        if said:
            options = options._replace(sensor=config.sensor[:2])
        return Expected(how, "own", span=config.found.span if config.found else None), options, said

    def read(self, number: int) -> Events:
        """Return the events of one; see `recording`."""
        return self.recording(number).events

    def recording(self, number: int) -> Recording:
        """Return one, checked, with the report of how it was read.

        Raises:
            DataError: it is damaged, empty, of another sensor than the first, or of times whose unit is not certain.
        """
        path, config, sensor = self.listing.path(number), self.config, self.config.sensor
        expected, options, said = self._reading
        try:
            return event_files.read_recording(path, expected, options)
        except DataError as error:
            if config.measured and "--events" in error.hint:
                message = in_recipe(error, config).message
                raise DataError(message, "convert them to the form of the training recordings") from error
            stated = None if said else sensor_stated(path, config)
            if stated is None or stated == sensor[:2]:
                raise in_recipe(error, config) from error
            raise DataError(
                f"{path} is from a sensor of {stated[0]} x {stated[1]}, but {self.listing.path(0)} is from one of "
                f"{sensor.width} x {sensor.height}",
                "all recordings must come from the same sensor: separate them, or --set data.sensor_size=[W,H]",
            ) from error


@dataclass(frozen=True)
class OwnRecordings(Recordings):
    """The recordings of a split."""

    reader: Reader
    numbers: Tensor
    """Their numbers in the listing, ascending."""

    @property
    @override
    def target(self) -> Tensor:
        return torch.from_numpy(self.reader.listing.labels.astype(np.int64))[self.numbers]

    @override
    def read(self, number: int) -> Events:
        return self.reader.read(int(self.numbers[number]))

    @override
    def name(self, number: int) -> str:
        return str(self.reader.listing.path(int(self.numbers[number])))

    @override
    def fingerprint(self) -> str:
        listing = self.reader.listing
        return cache.fingerprint(listing.folder, (listing.path(number) for number in self.numbers.tolist()))


def sensor_of(path: Path, config: OwnEvents) -> Sensor:
    """Return the sensor of a recording: as the recipe says, or as the file does.

    Raises:
        DataError: neither says it; the hint says how far the events reach.
    """
    options = parse_options(config.events)
    if (said := sensor_said(config, options)) is not None:
        return said
    try:
        found = event_files.read_columns(path, options)
    except DataError as error:
        raise in_recipe(error, config) from error
    if found.sensor is not None:
        return Sensor(*found.sensor)
    x, y = (np.asarray(found.columns[each]) if each in found.columns else np.zeros(1) for each in "xy")
    reach = f"{int(x.max()) + 1},{int(y.max()) + 1}" if x.size and y.size else "W,H"
    raise DataError(
        f"{path} does not state its sensor size",
        f"--set data.sensor_size=[WIDTH,HEIGHT]; its own events would fit on [{reach}]",
    )


def sensor_said(config: OwnEvents, options: EventOptions) -> Sensor | None:
    """Return the sensor that a recipe says, or None."""
    if config.sensor_size is not None:
        width, height, *more = config.sensor_size
        return Sensor(width, height, more[0] if more else 1 if height == 1 else 2)
    return Sensor(*options.sensor) if options.sensor is not None else None


def sensor_stated(path: Path, config: OwnEvents) -> tuple[int, int] | None:
    """Return the sensor that a file states, or None."""
    return event_files.read_columns(path, parse_options(config.events)).sensor
