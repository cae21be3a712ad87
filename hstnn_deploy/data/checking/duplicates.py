"""Samples of the same content: 16 bytes are kept of each, so that a million take 16 MB.

Shapes: N samples.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.checking.notes import Notes, some
from hstnn_deploy.data.own.parts import SPLITS
from hstnn_deploy.foreign import reading

_PIECE = 2**20


class Contents:
    """The hashes of samples, by number."""

    def __init__(self) -> None:
        """Begin without any."""
        self._numbers: list[int] = []
        self._hashes = bytearray()

    def add(self, number: int, content: bytes | memoryview) -> None:
        """Keep the hash of a sample that is in memory."""
        self._keep(number, hashlib.blake2b(content, digest_size=16).digest())

    def add_file(self, number: int, path: Path) -> None:
        """Keep the hash of a file, read in pieces.

        Raises:
            DataError: it cannot be read.
        """
        found = hashlib.blake2b(digest_size=16)
        with reading(path, ""), path.open("rb") as file:
            while piece := file.read(_PIECE):
                found.update(piece)
        self._keep(number, found.digest())

    def _keep(self, number: int, digest: bytes) -> None:
        self._numbers.append(number)
        self._hashes += digest

    def groups(self) -> list[NDArray[np.int64]]:
        """Return the numbers of samples that are of one content, for each content that two or more have."""
        if not self._numbers:
            return []
        numbers = np.array(self._numbers, np.int64)
        hashes = np.frombuffer(bytes(self._hashes), "V16")
        order = np.argsort(hashes, kind="stable")
        same = hashes[order][1:] == hashes[order][:-1]
        starts = np.flatnonzero(np.concatenate([[True], ~same]))
        return [np.sort(each) for each in np.split(numbers[order], starts[1:]) if len(each) > 1]


def of_text(text: str) -> bytes:
    """Return the hash of a line, 16 bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def tell(
    notes: Notes,
    groups: Sequence[NDArray[np.int64]],
    labels: NDArray[np.int32],
    sides: NDArray[np.int8],
    name: Callable[[int], str],
    what: str = "file",
) -> dict[str, int]:
    """Note samples of the same content, and return how many copies there are of each sort.

    Args:
        notes: told what is odd.
        groups: see `Contents.groups`.
        labels: the class of each sample, [N].
        sides: the split of each, a place in `SPLITS`, [N]; -1 where none is known.
        name: returns what a sample is called.
        what: what a sample is, in a word.
    """
    found: Counter[str] = Counter()
    first: dict[str, tuple[int, int]] = {}

    def keep(kind: str, one: int, other: int, count: int = 1) -> None:
        found[kind] += count
        first.setdefault(kind, (one, other))

    for group in groups:
        one = int(group[0])
        if (other := labels[group] != labels[one]).any():
            keep("labels", one, int(group[other.argmax()]), int(other.sum()))
        held = {int(side) for side in sides[group].tolist() if side >= 0}
        for place in sorted(held - {0}) if 0 in held else ():
            here = group[sides[group] == place]
            keep(f"train and {SPLITS[place]}", int(group[sides[group] == 0][0]), int(here[0]), len(here))
        for place in {-1, *held}:
            here = group[sides[group] == place]
            if len(here) > 1:
                keep(SPLITS[place] if place >= 0 else "all", int(here[0]), int(here[1]), len(here) - 1)
    for kind, count in found.items():
        pair = f"such as {name(first[kind][0])} and {name(first[kind][1])}"
        if kind == "labels":
            notes.note(
                f"{some(count, what)} with the same content as one of another class, {pair}", "keep the right one"
            )
        elif "and" in kind:
            side = kind.rpartition(" ")[2]
            do = f"take them out of one side, or set groups: a network that has seen them proves nothing in {side}"
            notes.note(f"{some(count, what)} of {side} with the same content as one of train, {pair}", do)
        else:
            where = "" if kind == "all" else f" of {kind}"
            notes.note(f"{some(count, what)}{where} with the same content as another, {pair}", "remove the copies")
    return dict(found)
