"""Networks under disturbances, and accuracy, robustness and cost together, as tables, rows and pictures of a report."""

import csv
import io
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hstnn_deploy.metrics import titled
from hstnn_deploy.report.collect import Collected
from hstnn_deploy.report.sheets import NONE, Column, Entry, Sheet, figure
from hstnn_deploy.report.tradeoff import COSTS, Candidate, Joined, candidates, undominated
from hstnn_deploy.robustness.pictures import panels
from hstnn_deploy.robustness.record import Measured, alike, once, scores, title_of, together

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COST = "energy"
"""What networks are compared by beside accuracy and robustness."""


def networks(collected: Collected) -> list[Measured]:
    """Return all networks that were measured under disturbances, each curve of a network once: that of most draws."""
    return once(network for each in collected.robustness.values() for network in each.networks)


def by_data(collected: Collected) -> list[list[Measured]]:
    """Return them by data set, metric and split: each group is one table."""
    found: dict[tuple[str, str, str], list[Measured]] = {}
    for each in networks(collected):
        found.setdefault((each.data, each.metric, each.split), []).append(each)
    return list(found.values())


def sheet(measured: Sequence[Measured]) -> Sheet:
    """Return a table of the area under each curve, a row for each disturbance, a column for each network."""
    groups = together(measured)
    several = len({recipe for (recipe, _), _ in groups}) > 1
    first = measured[0]
    unit = first.unit.strip()
    named = [f"{recipe} {network}" if several else network for (recipe, network), _ in groups]
    columns = [Column("disturbance", numeric=False), Column("unit of a level", numeric=False)]
    columns += [Column(name, f"mean {first.metric}{f', {unit}' if unit else ''}") for name in named]
    rows = [
        [Entry("none"), Entry(""), *(figure(fmean(e.clean for e in seeds), metric=first.metric) for _, seeds in groups)]
    ]
    found = alike(measured)
    titles = [title_of(curves) for curves in found]
    by_network = [{curves[0][1].key: curves for curves in alike(seeds)} for _, seeds in groups]
    for title, curves in zip(titles, found, strict=True):
        curve = curves[0][1]
        levels = f" at {', '.join(f'{level:g}' for level in curve.levels)}" if titles.count(title) > 1 else ""
        there = [network.get(curve.key) for network in by_network]
        cells = [figure(scores(own).area.mean if own else None, metric=first.metric) for own in there]
        rows.append([Entry(f"{title}{levels}"), Entry(curve.unit), *cells])
    return Sheet(
        f"{first.data}: {first.metric} under disturbances, {first.split} split",
        columns,
        rows,
        ["Mean over the axis from 0 to the strongest level, over draws and seeds; see docs/robustness.md."],
    )


def compared(collected: Collected) -> list[Candidate]:
    """Return the networks of finished runs with robustness and costs; none where no robustness was measured."""
    found = joined(collected).networks
    return found if any(each.robustness is not None for each in found) else []


def joined(collected: Collected) -> Joined:
    """Return the networks of finished runs with what was measured of them, and what belongs to none of them."""
    measured = networks(collected)
    return candidates(collected.runs, collected.profiles, measured) if measured else Joined([], [])


def tradeoff_sheet(found: Sequence[Candidate], left_out: Sequence[str] = ()) -> Sheet:
    """Return a table of accuracy, robustness and all costs, a row for each network."""
    front = {each.name for each in undominated(found, COST)}
    columns = [
        Column("network", numeric=False),
        Column("metric", numeric=False),
        Column("test"),
        Column("robustness"),
        *(Column(f"{name}, {cost.unit}", "cost") for name, cost in COSTS.items()),
        Column("undominated", numeric=False),
    ]
    rows = []
    for each in found:
        prices = [each.costs.get(name) for name in COSTS]
        rows.append(
            [
                Entry(each.name),
                Entry(each.metric),
                figure(each.figure, metric=each.metric),
                figure(each.robustness, metric=each.metric),
                *(Entry(NONE) if price is None else Entry(_price(price), price) for price in prices),
                Entry("yes" if each.name in front else "no"),
            ]
        )
    notes = [
        "Test: mean over seeds. Robustness: mean over all levels of the disturbances measured on every network.",
        f"Undominated: no other network is at least as good in metric, robustness and {COST}, and better in one.",
        "n/a: not measured (hstnn robustness, hstnn profile --phases work,infer).",
        *(f"{line}." for line in left_out),
    ]
    return Sheet("Accuracy, robustness and cost", columns, rows, notes)


def _price(price: float) -> str:
    """Return a cost with four digits, and large ones whole: 365934, not 3.659e+05."""
    return f"{price:.0f}" if price >= 1000 else f"{price:.4g}"


def sheets(collected: Collected) -> list[Sheet]:
    """Return all tables of this kind."""
    made = [sheet(each) for each in by_data(collected)]
    if found := compared(collected):
        made.append(tradeoff_sheet(found, joined(collected).left_out))
    return made


def drawn(collected: Collected) -> "dict[str, Figure]":
    """Return the pictures, by the name of their file."""
    pictures = {}
    for number, measured in enumerate(by_data(collected), 1):
        pictures["robustness.png" if number == 1 else f"robustness-{number}.png"] = draw_robust(measured)
    found = compared(collected)
    if len({each.metric for each in found}) == 1 and any(COST in each.costs for each in found):
        pictures["tradeoff.png"] = draw(found, COST)
    return pictures


def draw_robust(measured: Sequence[Measured]) -> "Figure":
    """Return the picture of networks of one metric under disturbances."""
    from hstnn_deploy.data.pictures.robustness import draw_robustness

    metric, unit = titled(measured[0].metric), measured[0].unit.strip()
    return draw_robustness(panels(measured), f"{metric} ({unit})" if unit else metric)


def draw(found: Sequence[Candidate], cost: str) -> "Figure":
    """Return the picture of accuracy, robustness and a cost, for the networks whose cost was measured."""
    from hstnn_deploy.data.pictures.tradeoff import Point, draw_tradeoff

    front = {each.name for each in undominated(found, cost)}
    several = len({each.recipe for each in found}) > 1
    points = [
        Point(
            each.name if several else each.network,
            each.kind,
            each.costs[cost],
            each.figure,
            each.robustness,
            each.name in front,
        )
        for each in found
        if cost in each.costs
    ]
    return draw_tradeoff(points, found[0].metric, f"{cost} ({COSTS[cost].unit}): {COSTS[cost].about}")


def as_csv(measured: Sequence[Measured]) -> str:
    """Return a row for each network, disturbance, level and draw; the undisturbed figure has level 0."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = ["checkpoint", "recipe", "network", "seed", "disturbance", "made_on", "unit", "level", "draw", "metric"]
    table.writerow([*names, "value"])
    for each in measured:
        before = [each.source, each.recipe, each.title, each.seed]
        table.writerow([*before, "", "", "", 0, "", each.metric, each.clean])
        for curve in each.curves:
            for level, values in zip(curve.levels, curve.values, strict=True):
                for draw_number, value in enumerate(values):
                    row = [curve.name, curve.transferred, curve.unit, level, draw_number, each.metric, value]
                    table.writerow([*before, *row])
    return text.getvalue()


def plain(found: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the networks with robustness and costs as plain data."""
    front = {each.name for each in undominated(found, COST)}
    return [
        {
            "network": each.name,
            "checkpoint": str(each.best),
            "metric": each.metric,
            "value": each.figure,
            "robustness": each.robustness,
            "costs": dict(each.costs),
            "undominated": each.name in front,
        }
        for each in found
    ]
