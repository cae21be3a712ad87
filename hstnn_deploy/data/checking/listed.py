"""What all folders of samples share: their listing, their splits, and what is odd about these."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.checking import classes, duplicates
from hstnn_deploy.data.checking.checked import Checked
from hstnn_deploy.data.checking.notes import some
from hstnn_deploy.data.checking.sample import drawn
from hstnn_deploy.data.own.labels import LABELS
from hstnn_deploy.data.own.listing import Listing, counts
from hstnn_deploy.data.own.parts import SPLITS, Numbers, Samples, divide
from hstnn_deploy.data.own.walk import AGAIN_LISTED
from hstnn_deploy.errors import DataError

Progress = Callable[[str, int, int], None]
"""Is told what is under way, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Asked:
    """How much is read, and who is told."""

    most: int | None
    """Samples at most; None: all."""
    progress: Progress = lambda _what, _done, _total: None


@dataclass(frozen=True)
class Folder:
    """A folder of samples, listed and divided."""

    listing: Listing
    sides: NDArray[np.int8]
    """The split of each sample, a place in `SPLITS`, [N]; -1 where none is known."""
    numbers: Numbers
    """Those that are to be read, ascending."""
    contents: duplicates.Contents

    def name(self, number: int) -> str:
        """Return what a sample is called."""
        return self.listing.names[number]

    def label(self, number: int) -> int:
        """Return the class of a sample."""
        return int(self.listing.labels[number])

    def tell_copies(self, found: Checked) -> None:
        """Note samples of the same content."""
        groups = self.contents.groups()
        labels = self.listing.labels
        found.facts["copies"] = duplicates.tell(found.notes, groups, labels, self.sides, self.name)


def survey(found: Checked, listing: Listing, asked: Asked) -> Folder:
    """Return a folder's samples with their splits; what is odd about these is noted.

    Args:
        found: what is found is written there.
        listing: the samples.
        asked: how much is read.
    """
    found.classes, found.total, found.how = listing.classes, len(listing.names), listing.how
    found.left_out = listing.left_out
    found.unit = "files"
    classes.tell_names(found.notes, listing.classes)
    sides, parts = divided(found, listing.samples)
    found.counts = counts(listing, parts)
    if (sides >= 0).any():
        classes.tell_splits(found.notes, listing.classes, found.counts)
    classes.tell_weights(found.notes, listing.classes, found.counts["train"])
    _tell_left_out(found, listing)
    _tell_odd_names(found, listing)
    numbers = drawn(listing.sizes, listing.labels, asked.most)
    found.read = len(numbers)
    return Folder(listing, sides, numbers, duplicates.Contents())


def divided(found: Checked, samples: Samples) -> tuple[NDArray[np.int8], dict[str, Numbers]]:
    """Return the split of each sample, [N], and the samples of each; none are known where training would be refused."""
    sides = np.full(len(samples.labels), -1, np.int8)
    drawn_by = f", splits drawn with seed {found.config.split.seed}" if samples.split is None else ""
    try:
        parts = divide(samples, found.config.split)
        found.how += drawn_by
    except DataError as error:
        found.notes.refuse(error)
        found.how += ", no splits drawn" if drawn_by else ""
        parts = {name: np.arange(0) for name in SPLITS}
        if samples.split is not None:
            parts = {name: np.flatnonzero(samples.split == place) for place, name in enumerate(SPLITS)}
        else:
            parts["train"] = np.arange(len(sides))
            return sides, parts
    for place, name in enumerate(SPLITS):
        sides[parts[name]] = place
    return sides, parts


def _tell_left_out(found: Checked, listing: Listing) -> None:
    for suffix, count in sorted(listing.left_out.items(), key=lambda each: -each[1])[:10]:
        if suffix == AGAIN_LISTED:
            found.notes.note(
                f"left out: {some(count, 'link')} to a folder that is listed already",
                "remove it, or make it a folder",
            )
            continue
        what = f"{suffix} file" if suffix else "file"
        ending = "" if suffix else " without a suffix"
        why = "labels.csv does not name them" if listing.how == LABELS else f"not {found.kind} in a supported format"
        found.notes.note(
            f"left out: {some(count, what)}{ending}, {why}", "remove them, or save them in a supported format"
        )


def _tell_odd_names(found: Checked, listing: Listing) -> None:
    """Note names that other programs stumble over."""
    odd = [name for name in listing.names if not (name.isprintable() and name == name.strip())]
    if odd:
        found.notes.note(
            "a name contains letters that no screen shows, or spaces at its end: " + "".join(map(_letter, odd[0])),
            "rename it: lists and other programs may not handle this name",
            odd,
        )


def _letter(letter: str) -> str:
    """Return a letter, or where none shows what it is called: a byte that is no UTF-8 by its number."""
    number = ord(letter)
    return letter if letter.isprintable() else f"\\x{number - 0xDC00 if 0xDC80 <= number <= 0xDCFF else number:02x}"
