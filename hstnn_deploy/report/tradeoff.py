"""Accuracy, robustness and cost of networks side by side: joined by network, and which of them no other one beats.

A network is a recipe with its kind and ratio; its seeds stand together. Robustness is the mean of the areas of its
curves (see `robustness.scores`), over the disturbances that all networks were measured under at the same levels. A cost
is a value of a profile record of the same recipe, kind and ratio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.values import Measured as Value
from hstnn_deploy.report import costs
from hstnn_deploy.report.collect import Profiled, Run
from hstnn_deploy.robustness.record import Measured, alike, scores

_Key = tuple[str, bool, tuple[float, ...]]
"""See `Curve.key`."""


class Cost(NamedTuple):
    """What a network costs, by a value of a record."""

    value: str
    """The value's name in a record."""
    unit: str
    scale: float
    about: str


COSTS: dict[str, Cost] = {
    "energy": Cost("energy", "nJ", 1e9, "arithmetic of one sample, an estimate"),
    "macs": Cost("macs", "MAC", 1.0, "multiply-accumulates of one sample"),
    "acs": Cost("acs", "AC", 1.0, "accumulates of one sample"),
    "latency": Cost("latency_p50", "ms", 1e3, "median of one call"),
    "ram": Cost("host_ram_peak", "MB", 1e-6, "peak of main memory while inferring"),
    "bytes": Cost("parameter_bytes", "kB", 1e-3, "parameters in memory"),
}
"""By name: what networks are compared by."""


@dataclass(frozen=True)
class Candidate:
    """A network that may be deployed."""

    recipe: str
    network: str
    """Kind and ratio, such as "hybrid 0.5"."""
    kind: str
    metric: str
    higher_is_better: bool
    figures: dict[int, float]
    """The metric on the test split, by seed."""
    best: Path
    """The checkpoint of the seed with the best figure."""
    robustness: float | None = None
    """None where it was not measured under all disturbances that others were."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """By the names of `COSTS`, those that were measured."""

    @property
    def figure(self) -> float:
        """The mean metric over the seeds."""
        return fmean(self.figures.values())

    @property
    def name(self) -> str:
        """Recipe and network."""
        return f"{self.recipe} {self.network}"

    def objectives(self, cost: str) -> list[float | None]:
        """Return accuracy, robustness and a cost, so that more is better in each."""
        sign = 1.0 if self.higher_is_better else -1.0
        price = self.costs.get(cost)
        return [
            sign * self.figure,
            None if self.robustness is None else sign * self.robustness,
            None if price is None else -price,
        ]


def candidates(
    runs: Sequence[Run], profiles: Sequence[Profiled], robust: Sequence[Measured], disturbance: str | None = None
) -> list[Candidate]:
    """Return the networks of finished runs, redundant ones left out, with what was measured of each.

    Args:
        runs: trainings.
        profiles: profile records.
        robust: networks under disturbances.
        disturbance: which one robustness is the area of; None: the mean of all that every network was measured under.
            Either way, at the levels that these networks have in common.
    """
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.value is not None and not (run.stage == "adapt" and run.recipe.kind == "hybrid"):
            found.setdefault((run.recipe.name, str(run.network)), []).append(run)
    robust = _once(robust)
    shared = _shared(robust, disturbance)
    made = []
    for (recipe, network), same in found.items():
        task = same[0].task
        sign = 1 if task.higher_is_better else -1
        figures = {run.recipe.seed: run.value for run in same if run.value is not None}
        best = max(same, key=lambda run, sign=sign: sign * (run.value or 0.0))  # type: ignore[misc]
        own = [each for each in robust if (each.recipe, each.network) == (recipe, network)]
        made.append(
            Candidate(
                recipe,
                network,
                same[0].recipe.kind,
                task.metric,
                task.higher_is_better,
                figures,
                best.path / "best.pt",
                _area(own, shared),
                _costs(same[0], [each.record for each in profiles]),
            )
        )
    return made


def _once(robust: Sequence[Measured]) -> list[Measured]:
    """Return what was measured without bundles whose checkpoint was measured too, which would count twice."""

    def which(each: Measured) -> tuple[str, str, int]:
        return each.recipe, each.network, each.seed

    there = {which(each) for each in robust if each.engine == "torch"}
    return [each for each in robust if each.engine == "torch" or which(each) not in there]


def _shared(robust: Sequence[Measured], disturbance: str | None) -> set[_Key]:
    """Return the keys of the curves that every network has; attacks made on another network are left out.

    Where one disturbance is asked for, a network that was not measured under it does not count.
    """
    keys: dict[tuple[str, str, int], set[_Key]] = {}
    for each in robust:
        own = {curve.key for curve in each.curves if not curve.transferred and disturbance in {None, curve.name}}
        keys.setdefault((each.recipe, each.network, each.seed), set()).update(own)
    asked = [own for own in keys.values() if own or disturbance is None]
    return set.intersection(*asked) if asked else set()


def _area(own: Sequence[Measured], shared: set[_Key]) -> float | None:
    """Return the mean area of a network's curves that others have too; None where there is none."""
    areas = [scores(curves).area.mean for curves in alike(own) if curves[0][1].key in shared]
    known = [area for area in areas if area is not None]
    return fmean(known) if known else None


def _costs(run: Run, records: Sequence[Record]) -> dict[str, float]:
    """Return the mean of each cost over the records of a run's network; inference counts at its smallest batch."""
    of_kind = (run.network.kind, run.network.ratio)
    same = [
        record
        for record in records
        if record.status == "measured"
        and record.configuration.recipe.get("name") == run.recipe.name
        and record.configuration.stage != "adapt"
        and costs.network(record) == of_kind
    ]
    found = {}
    for name, cost in COSTS.items():
        there = [
            (record.configuration.batch or 0, value.number * cost.scale)
            for record in same
            if (cost.value != "host_ram_peak" or record.configuration.phase == "infer")
            and isinstance(value := record.value(cost.value), Value)
        ]
        if there:
            least = min(batch for batch, _ in there) if name in {"latency", "ram"} else None
            found[name] = fmean(number for batch, number in there if least is None or batch == least)
    return found


def undominated(all_of_them: Sequence[Candidate], cost: str) -> list[Candidate]:
    """Return the networks that no other one beats: at least as good in all that was measured of both, better in one.

    What was not measured of one of them tells nothing between them, and never lets one beat the other.
    """
    return [each for each in all_of_them if not any(_beats(other, each, cost) for other in all_of_them)]


def _beats(one: Candidate, other: Candidate, cost: str) -> bool:
    if one is other or one.metric != other.metric:
        return False
    pairs = list(zip(one.objectives(cost), other.objectives(cost), strict=True))
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    # An objective that one of them lacks is unknown, so that neither is shown to be worse in it.
    if len(known) < sum(b is not None for _, b in pairs):
        return False
    return all(a >= b for a, b in known) and any(a > b for a, b in known)
