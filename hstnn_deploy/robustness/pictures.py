"""What a picture of robustness shows: a panel for each disturbance, the seeds of a network in one line."""

from collections.abc import Sequence
from statistics import fmean

from hstnn_deploy.data.pictures.robustness import Line, Panel
from hstnn_deploy.robustness.record import Measured, alike, together


def panels(networks: Sequence[Measured]) -> list[Panel]:
    """Return the panels of some networks; an attack made on another network is a dashed line in the attack's panel."""
    groups = together(networks)
    several = len({recipe for (recipe, _), _ in groups}) > 1
    found: dict[str, Panel] = {}
    for (recipe, network), seeds in groups:
        name = f"{recipe} {network}" if several else network
        for curves in alike(seeds):
            curve = curves[0][1]
            ticks = [(0.0, "0"), *zip(curve.axis, (f"{level:g}" for level in curve.levels), strict=True)]
            panel = found.setdefault(curve.name, Panel(curve.name, curve.unit, ticks, []))
            # Another network may have been measured at other levels.
            panel.ticks.extend(tick for tick in ticks if tick not in panel.ticks)
            series = [one for each, own in curves for one in each.series(own)]
            levels = list(zip(*series, strict=True))
            panel.lines.append(
                Line(
                    name,
                    seeds[0].kind,
                    [0.0, *curve.axis],
                    [fmean(values) for values in levels],
                    [min(values) for values in levels],
                    [max(values) for values in levels],
                    bool(curve.transferred),
                )
            )
    return list(found.values())
