"""Two groups of networks under disturbances, side by side: the area under each curve, by seed."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from hstnn_deploy.errors import ReportError, UsageError, nearest
from hstnn_deploy.report.comparing.pairing import Row, by_seed, paired
from hstnn_deploy.robustness.record import Alike, Measured, alike, scores, title_of, together

Network = tuple[tuple[str, str], list[Measured]]
"""Recipe and network, and its seeds."""

CLEAN = "undisturbed"
"""The metric without a disturbance, as a metric's name."""


def rows_of(
    first: Path, second: Path, a: Sequence[Measured], b: Sequence[Measured], wanted: Sequence[str]
) -> tuple[list[Row], list[str]]:
    """Return a row for each network and disturbance that both sides have at the same levels, and notes.

    Args:
        first: where A was read.
        second: where B was read.
        a: networks of A.
        b: networks of B.
        wanted: names of disturbances; none for all.

    Raises:
        ReportError: the two are of other data, or have nothing in common.
        UsageError: a disturbance that neither side was measured under.
    """
    for what, mine, theirs in (
        ("of the data set", {each.data for each in a}, {each.data for each in b}),
        ("measured in", {each.metric for each in a}, {each.metric for each in b}),
        ("on the split", {each.split for each in a}, {each.split for each in b}),
    ):
        if len(mine | theirs) > 1:
            shown = " and ".join(
                f"{path} is {what} {', '.join(sorted(x))}"
                for path, x in zip((first, second), (mine, theirs), strict=True)
            )
            raise ReportError(shown, "these figures cannot be compared")
    known = {CLEAN, *(curve.name for each in (*a, *b) for curve in each.curves)}
    if unknown := next((name for name in wanted if name not in known), None):
        raise UsageError(f"unknown metric {unknown!r}", nearest(unknown, known))
    metric = a[0].metric
    notes = [
        f"A is {first}, B is {second}. Each figure is the area under a curve: the mean {metric} over all levels of a "
        "disturbance, averaged over the draws of a seed; difference: B - A, with its 95 % confidence interval."
    ]
    pairs: list[tuple[Network, Network]] = paired(
        together(a),
        together(b),
        [_same, _same_elsewhere, _same_kind],
        lambda network: " ".join(network[0]),
        notes,
        f"no network of {first} has a counterpart in {second}",
    )
    rows = []
    for (names, ours), (others, other) in pairs:
        name = " : ".join(dict.fromkeys((" ".join(names), " ".join(others))))
        if not wanted or CLEAN in wanted:
            rows += by_seed(name, CLEAN, _clean(ours), _clean(other))
        there = {curves[0][1].key: curves for curves in alike(other)}
        for curves in alike(ours):
            if wanted and curves[0][1].name not in wanted:
                continue
            title, like = title_of(curves), there.pop(curves[0][1].key, None)
            if like is None:
                notes.append(f"Only in A, or at other levels in B: {title} of {name}.")
                continue
            rows += by_seed(name, title, _areas(curves), _areas(like))
        notes += [
            f"Only in B, or at other levels in A: {title_of(curves)} of {name}."
            for curves in there.values()
            if not wanted or curves[0][1].name in wanted
        ]
    if not rows:
        raise ReportError(
            f"{first} and {second} have no disturbance at the same levels in common", "measure both with the same ones"
        )
    return rows, notes


def _same(network: Network) -> tuple[str, str]:
    return network[0]


def _same_elsewhere(network: Network) -> tuple[str, str]:
    """Return what a checkpoint and its bundle have in common."""
    (recipe, _), seeds = network
    return recipe, seeds[0].network


def _same_kind(network: Network) -> str:
    return network[0][1]


def _clean(seeds: Sequence[Measured]) -> dict[int, float]:
    return {each.seed: each.clean for each in seeds}


def _areas(curves: Alike) -> dict[int, float]:
    """Return the area of each seed."""
    found: dict[int, list[float]] = {}
    for network, curve in curves:
        area = scores([(network, curve)]).area.mean
        assert area is not None
        found.setdefault(network.seed, []).append(area)
    return {seed: fmean(areas) for seed, areas in found.items()}
