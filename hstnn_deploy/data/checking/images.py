"""Images of one's own, looked at one by one: sizes, colours, damaged files, copies, and pictures of one colour."""

from collections import Counter

import numpy as np

from hstnn_deploy.data.checking.checked import Checked, Example, Measure, spread, told
from hstnn_deploy.data.checking.listed import Asked, Folder, survey
from hstnn_deploy.data.own.config import OwnImages
from hstnn_deploy.data.own.images import LARGEST, size_of
from hstnn_deploy.data.own.listing import list_own
from hstnn_deploy.data.own.walk import IMAGES
from hstnn_deploy.data.preprocessing import Picture
from hstnn_deploy.data.readers.image_files import read_levels
from hstnn_deploy.errors import DataError
from hstnn_deploy.foreign import read_bytes, reading

_LARGE = 128
"""Pixels of a side from which on a training takes long."""


def check(found: Checked, config: OwnImages, asked: Asked) -> None:
    """Look at the images of a configuration; see `Checked`.

    Raises:
        DataError: nothing could be listed.
    """
    listing = list_own(config, IMAGES, tell=found.notes.refuse)
    folder = survey(found, listing, asked)
    sizes: Counter[tuple[int, int]] = Counter()
    colours: Counter[int] = Counter()
    seen: list[tuple[int, int, int, int, float]] = []
    drawn: set[int] = set()
    for done, number in enumerate(folder.numbers.tolist(), 1):
        asked.progress("reading images", done, len(folder.numbers))
        try:
            height, width, planes = size_of(listing.path(number))
            with reading(listing.path(number), "an image"):
                content = read_bytes(listing.path(number), LARGEST)
            folder.contents.add(number, content)
            levels = _levels(found, folder, number, content, (height, width, planes))
        except DataError as error:
            found.notes.refuse(error, folder.name(number))
            continue
        sizes[height, width] += 1
        colours[planes] += 1
        label = folder.label(number)
        seen.append((number, height, width, planes, float(levels.mean())))
        if levels.min() == levels.max():
            found.notes.of_file(
                f"{listing.path(number)} has the same colour everywhere",
                "remove it, unless that is a class",
                folder.name(number),
            )
        if label not in drawn:
            drawn.add(label)
            step = max(1, max(height, width) // 256)
            found.examples.append(Example(label, folder.name(number), "image", levels[::step, ::step].copy()))
    _tell_sizes(found, config, folder, seen)
    folder.tell_copies(found)
    labels = listing.labels[[each[0] for each in seen]] if seen else np.zeros(0, np.int32)
    facts = np.array([each[1:] for each in seen], np.float64).reshape(-1, 4)
    found.measures += [
        Measure("width, pixels", facts[:, 1], labels),
        Measure("height, pixels", facts[:, 0], labels),
        Measure("mean brightness, 0 to 255", facts[:, 3], labels),
    ]
    found.facts |= {
        "sizes": {f"{width}x{height}": count for (height, width), count in sizes.most_common(20)},
        "colours": {"grey" if planes == 1 else "colours": count for planes, count in colours.items()},
        "brightness": spread(facts[:, 3]),
    }
    several = f"{len(sizes)} sizes, the most frequent " if len(sizes) > 1 else ""
    found.lines += [
        "size: " + several + ", ".join(f"{w} x {h} ({count})" for (h, w), count in sizes.most_common(3)),
        "colours: "
        + ", ".join(f"{'grey' if planes == 1 else 'colour'} ({count})" for planes, count in colours.items()),
        f"mean brightness of an image: {told(found.facts['brightness'])} of 255",
    ]


def _levels(found: Checked, folder: Folder, number: int, content: bytes, size: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels of an image as it is, and note what reading it changed."""
    path, name = str(folder.listing.path(number)), folder.name(number)
    how = Picture(height=size[0], width=size[1], colours=3 if size[2] == 3 else 1)
    said: list[str] = []
    levels = read_levels(content, path, how, False, said.append)
    for line in said:
        found.notes.of_file(line, "nothing, if that is correct", name)
    return levels


def _tell_sizes(
    found: Checked, config: OwnImages, folder: Folder, seen: list[tuple[int, int, int, int, float]]
) -> None:
    """Note sizes and colours that differ from those of the first image, which are those of a training."""
    if not seen:
        return
    _, height, width, planes, _ = seen[0]
    other = [each for each in seen if each[1:3] != (height, width)]
    first = folder.listing.path(seen[0][0])
    if config.size is None:
        common = Counter(each[1:3] for each in seen).most_common(1)[0][0]
        for number, h, w, *_ in other:
            error = DataError(
                f"{folder.listing.path(number)} is {w} x {h} pixels, and {first} is {width} x {height}",
                f"all images must have the same size: --set data.resize=[{common[0]},{common[1]}] scales all of them",
            )
            found.notes.refuse(error, folder.name(number))
        if max(height, width) > _LARGE:
            found.notes.note(
                f"images are {width} x {height} pixels: a training takes long",
                "--set data.resize=64 makes them smaller",
            )
    if config.colours is not None:
        return
    for number, _, _, there, _ in seen:
        if there > planes:
            error = DataError(
                f"{folder.listing.path(number)} has colours, and {first} is grey",
                "choose one for all: --set data.colours=3, or data.colours=1 for grey",
            )
            found.notes.refuse(error, folder.name(number))
        elif there < planes:
            found.notes.of_file(
                f"{folder.listing.path(number)} is grey, and {first} has colours: it is read as colours that are equal",
                "nothing, if that is correct; --set data.colours=1 makes all grey",
                folder.name(number),
            )
