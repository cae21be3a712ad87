"""Recordings of one's own: event files in folders by class, or in a list, of one sensor whatever its size.

Each file comes through `data.readers`, as `hstnn run` reads it, and then goes the way of every set of recordings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hstnn_deploy.data import cache
from hstnn_deploy.data.dataset import Recordings, Source
from hstnn_deploy.data.events import recordings as sets
from hstnn_deploy.data.events.events import Events, Sensor
from hstnn_deploy.data.own.config import FoundEvents, OwnEvents
from hstnn_deploy.data.own.event_hints import check_length, in_recipe
from hstnn_deploy.data.own.files import check_same, place
from hstnn_deploy.data.own.listing import Listing, counts, list_folder
from hstnn_deploy.data.own.parts import SPLITS, Numbers, divide
from hstnn_deploy.data.preprocessing import Frames, preprocessing
from hstnn_deploy.data.readers import event_files
from hstnn_deploy.data.readers.event_options import parse_options
from hstnn_deploy.data.readers.event_report import Expected, Recording
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import DataError

_LOOKED_AT = 16
"""Recordings that are read to know how long they are."""


def listed(
    config: OwnEvents, given: Path | None = None, known: Sequence[str] = ()
) -> tuple[Listing, dict[str, Numbers]]:
    """Return the recordings of a configuration and those of each split; see `list_folder` and `divide`."""
    ignore = config.unlabelled == "ignore"
    suffixes = frozenset(event_files.EVENT_FILES)
    found = list_folder(place(config, given), suffixes, known, config.split.group, ignore)
    return found, divide(found.samples, config.split, config.measured)


def look(config: OwnEvents, given: Path | None = None, known: Sequence[str] = ()) -> FoundEvents:
    """Return what is found of recordings: some are read.

    Raises:
        DataError: see `listed`; a file is damaged, or does not say how large its sensor is.
    """
    listing, parts = listed(config, given, known)
    sensor = sensor_of(listing.path(0), config)
    facts = counts(listing, parts)
    found = FoundEvents(listing=listing.digest, classes=list(listing.classes), sensor=sensor, longest=1, **facts)
    config = config.model_copy(update={"found": found})
    some = np.unique(np.linspace(0, len(listing.names) - 1, _LOOKED_AT).astype(int))
    reader = Reader(listing, config)
    longest = max(int(reader.read(int(number))["t"][-1]) + 1 for number in some)
    check_length(longest, config)
    return found.model_copy(update={"longest": longest})


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
    if source.protocol == "test":
        merged = torch.cat([parts["train"].numbers, parts["valid"].numbers]).sort().values
        parts = {**parts, "train": OwnRecordings(parts["train"].reader, merged)}
    known = sets.Known("your recordings", len(seen.classes), {name: len(part.target) for name, part in parts.items()})
    count, (width, height, _) = len(parts["train"].reader.listing.names), seen.sensor
    origin = f"your recordings in {folder}, {count} in {len(seen.classes)} classes, of a sensor of {width} x {height}"
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

    def read(self, number: int) -> Events:
        """Return the events of one; see `recording`."""
        return self.recording(number).events

    def recording(self, number: int) -> Recording:
        """Return one, checked, with its report.

        Raises:
            DataError: it is damaged, empty, or of another sensor than the first.
        """
        path, config = self.listing.path(number), self.config
        how = preprocessing(config)
        assert isinstance(how, Frames)
        sensor, options = config.sensor, parse_options(config.events)
        said = config.sensor_size is not None or options.sensor is not None
        if said:
            options = options._replace(sensor=sensor[:2])
        try:
            return event_files.read_recording(path, Expected(how, "own"), options)
        except DataError as error:
            stated = None if said else sensor_stated(path, config)
            if stated is None or stated == sensor[:2]:
                raise in_recipe(error, config) from error
            raise DataError(
                f"{path} is from a sensor of {stated[0]} x {stated[1]}, and {self.listing.path(0)} from one of "
                f"{sensor.width} x {sensor.height}",
                "recordings must be of one sensor: divide them, or say one size with --set data.sensor_size=[W,H]",
            ) from error


@dataclass(frozen=True)
class OwnRecordings:
    """The recordings of a split."""

    reader: Reader
    numbers: Tensor
    """Their numbers in the listing, ascending."""

    @property
    def target(self) -> Tensor:
        """See `Recordings`."""
        return torch.from_numpy(self.reader.listing.labels.astype(np.int64))[self.numbers]

    def read(self, number: int) -> Events:
        """See `Recordings`."""
        return self.reader.read(int(self.numbers[number]))

    def name(self, number: int) -> str:
        """See `Recordings`."""
        return str(self.reader.listing.path(int(self.numbers[number])))

    def fingerprint(self) -> str:
        """See `Recordings`."""
        listing = self.reader.listing
        return cache.fingerprint(listing.folder, (listing.path(number) for number in self.numbers.tolist()))


def sensor_of(path: Path, config: OwnEvents) -> Sensor:
    """Return the sensor of a recording: as the recipe says, or as the file does.

    Raises:
        DataError: neither says it; the hint says how far the events reach.
    """
    options = parse_options(config.events)
    if config.sensor_size is not None:
        width, height, *more = config.sensor_size
        return Sensor(width, height, more[0] if more else 1 if height == 1 else 2)
    if options.sensor is not None:
        return Sensor(*options.sensor)
    try:
        found = event_files.read_columns(path, options)
    except DataError as error:
        raise in_recipe(error, config) from error
    if found.sensor is not None:
        return Sensor(*found.sensor)
    x, y = (np.asarray(found.columns[each]) if each in found.columns else np.zeros(1) for each in "xy")
    reach = f"{int(x.max()) + 1},{int(y.max()) + 1}" if x.size and y.size else "W,H"
    raise DataError(
        f"{path} does not say how large its sensor is",
        f"--set data.sensor_size=[WIDTH,HEIGHT]; its own events would fit on [{reach}]",
    )


def sensor_stated(path: Path, config: OwnEvents) -> tuple[int, int] | None:
    """Return the sensor that a file states, or None."""
    return event_files.read_columns(path, parse_options(config.events)).sensor
