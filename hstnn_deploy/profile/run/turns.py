"""Measure several networks in turns, A B A B …, each time in a fresh process: what a comparison stands on.

A machine drifts: its clock, its temperature, what else runs on it. Where A is measured before B, the drift counts as a
difference between them. In turns both have the same share of it (Abedi and Brecht, "Conducting repeatable experiments
in highly variable cloud computing environments", ICPE 2017).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from typing_extensions import override

from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.run import launch


def ordered(sides: Sequence[Sequence[Configuration]], repeats: int) -> list[tuple[int, Configuration]]:
    """Return what is measured, in order: which side it is of, and its configuration with the number of the process.

    Args:
        sides: the configurations of A, of B, …; those at the same place of two sides are measured one after the other.
        repeats: processes of each configuration. What is counted and not timed has one.
    """
    return [
        (side, replace(each, repeat=number))
        for number in range(1, repeats + 1)
        for place in zip_longest(*sides)
        for side, each in enumerate(place)
        if each is not None and (number == 1 or each.phase != "work")
    ]


def run(
    sides: Sequence[Sequence[Configuration]],
    repeats: int,
    observer: launch.Observer | None = None,
    time_limit: float = launch.TIME_LIMIT,
) -> Iterator[tuple[int, Record]]:
    """Measure configurations in turns; yield each record as soon as it is there, with its side.

    Args:
        sides, repeats: see `ordered`.
        observer, time_limit: see `launch.run`.
    """
    order = ordered(sides, repeats)
    # By its number in the whole each process is a configuration of its own, even where A and B are the same network.
    numbered = [replace(each, repeat=number) for number, (_, each) in enumerate(order, 1)]
    listener = _Renumbered(observer or launch.Observer(), [each for _, each in order])
    records = launch.run(numbered, listener, time_limit)
    for (side, each), record in zip(order, records, strict=True):
        yield side, replace(record, configuration=each)


class _Renumbered(launch.Observer):
    """Tells another one of configurations as they were asked for."""

    def __init__(self, told: launch.Observer, asked: Sequence[Configuration]) -> None:
        self._told, self._asked = told, asked

    @override
    def started(self, what: str, number: int, total: int) -> None:
        self._told.started(what, number, total)

    @override
    def finished(self, record: Record, number: int, total: int, seconds: float) -> None:
        self._told.finished(replace(record, configuration=self._asked[number - 1]), number, total, seconds)
