"""Accuracy, robustness and cost of networks side by side: joined by network, and which of them no other one beats.

A network is a recipe with its kind and ratio; its seeds stand together. Robustness is the mean of the areas of its
curves (see `robustness.scores`), over the disturbances that all networks were measured under at the same levels. A cost
is a value of a profile record. Both belong to a network where they were measured of one of its runs' best.pt, whatever
their names; what was measured of another checkpoint is left out with a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.values import Measured as Value
from hstnn_deploy.report import costs
from hstnn_deploy.report.aggregate import AFTER, WORDS, studies
from hstnn_deploy.report.collect import Profiled, Run, differing
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
    "energy": Cost("energy", "nJ", 1e9, "estimate for the arithmetic of one sample"),
    "macs": Cost("macs", "MAC", 1.0, "multiply-accumulates of one sample"),
    "acs": Cost("acs", "AC", 1.0, "accumulates of one sample"),
    "latency": Cost("latency_p50", "ms", 1e3, "median of one call"),
    "ram": Cost("host_ram_peak", "MB", 1e-6, "peak of main memory during inference"),
    "bytes": Cost("parameter_bytes", "kB", 1e-3, "parameters in memory"),
}
"""By name: what networks are compared by."""


@dataclass(frozen=True)
class Candidate:
    """A network that may be deployed."""

    recipe: str
    """Its name; where several recipes have it, with the keys that tell them apart."""
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
    runs: Sequence[Run] = ()
    """One of each seed."""
    parameters: float | None = None
    """How many, where a record says it."""

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


@dataclass(frozen=True)
class Joined:
    """What runs, profile records and robustness come to."""

    networks: list[Candidate]
    left_out: list[str]
    """A line for each measurement that belongs to none of the runs' checkpoints, or to some seeds alone."""


def candidates(
    runs: Sequence[Run], profiles: Sequence[Profiled], robust: Sequence[Measured], disturbance: str | None = None
) -> Joined:
    """Return the networks of finished runs, redundant ones left out, with what was measured of each.

    Recipes of one name that train differently are told apart, as in the tables of a report.

    Args:
        runs: trainings.
        profiles: profile records.
        robust: networks under disturbances.
        disturbance: which one robustness is the area of; None: the mean of all that every network was measured under.
            Either way, at the levels that these networks have in common.
    """
    groups = _networks(runs)
    known = {run.fingerprint for _, same in groups for run in same} if robust else set()
    of_checkpoints = any(each.record.configuration.ckpt for each in profiles)
    ours = _once([each for each in robust if each.parameters in known and each.split == "test"])
    shared = _shared(ours, disturbance)
    made: list[Candidate] = []
    used: set[int] = set()
    few: list[str] = []
    for title, same in groups:
        task = same[0].task
        sign = 1 if task.higher_is_better else -1
        figures = {run.recipe.seed: run.value for run in same if run.value is not None}
        best = max(same, key=lambda run, sign=sign: sign * (run.value or 0.0))  # type: ignore[misc]
        own_sums = {run.checksum for run in same} if of_checkpoints else set()
        records = [each for each in profiles if _of_run(each.record, same[0], own_sums)]
        used |= {id(each) for each in records}
        ways = {(r.record.configuration.engine, r.record.configuration.device) for r in records if _timed(r.record)}
        if len(ways) > 1:
            listed = ", ".join(" on ".join(way) for way in sorted(ways))
            few.append(f"latency and RAM of {title} {same[0].network} are means over {listed}")
        own = [each for each in ours if each.parameters in {run.fingerprint for run in same}] if ours else []
        if own and len({each.parameters for each in own}) < len(figures):
            few.append(
                f"robustness of {title} {same[0].network} covers {len({each.parameters for each in own})} of its "
                f"{len(figures)} seeds"
            )
        made.append(
            Candidate(
                title,
                str(same[0].network),
                same[0].recipe.kind,
                task.metric,
                task.higher_is_better,
                figures,
                best.path / "best.pt",
                _area(own, shared),
                _costs([each.record for each in records]),
                same,
                _parameters([each.record for each in records]),
            )
        )
    unused = [each for each in profiles if id(each) not in used]
    return Joined(made, [*_left_out(runs, unused, robust, known), *few])


def _networks(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Return the finished runs of each network, one of a seed, with the name of its recipe.

    Where networks of one kind and ratio have recipes of one name, each says what tells it from the others.
    """
    found: dict[tuple[Path, ...], tuple[str, list[Run]]] = {}
    for study in studies(runs):
        for cell in study.cells:
            same = list(cell.runs.values())
            if same and not (cell.stage == "adapt" and same[0].recipe.kind == "hybrid"):
                # A pure network is in several studies where hybrids were restored in several ways.
                found.setdefault(tuple(run.path for run in same), (study.title, same))
    names = [(same[0].recipe.name, str(same[0].network)) for _, same in found.values()]
    return [
        (title if names.count(name) > 1 else name[0], same)
        for name, (title, same) in zip(names, found.values(), strict=True)
    ]


def _left_out(
    runs: Sequence[Run], profiles: Sequence[Profiled], robust: Sequence[Measured], known: set[str | None]
) -> list[str]:
    """Say which measurements could not be joined, where there are runs that they bear the name of."""
    names = {(run.recipe.name, str(run.network)) for run in runs if run.stage != "adapt" or run.recipe.kind != "hybrid"}
    lines = []
    for each in robust:
        if (each.recipe, each.network) not in names:
            continue
        what = f"not joined: robustness of {each.recipe} {each.network}, seed {each.seed}, measured on {each.source}"
        if each.parameters not in known:
            lines.append(f"{what}: no best.pt of these runs has those weights (it was trained again, or elsewhere)")
        elif each.split != "test":
            lines.append(f"{what}: it is from the {each.split} split, but accuracy is from the test split")
    for profiled in profiles:
        asked = profiled.record.configuration
        kind, ratio = costs.network(profiled.record)
        like = any(
            (run.recipe.name, run.recipe.kind, run.network.ratio) == (asked.recipe.get("name"), kind, ratio)
            for run in runs
        )
        if like and asked.stage != "adapt":
            of = asked.ckpt or "random weights"
            why = "it is not the best.pt of any of these runs" if asked.ckpt else "their recipes differ"
            lines.append(f"not joined: a profile record of {asked.recipe.get('name')} {kind}, measured on {of}: {why}")
    return list(dict.fromkeys(lines))


def _once(robust: Sequence[Measured]) -> list[Measured]:
    """Return what was measured without bundles whose checkpoint was measured too, which would count twice."""
    there = {each.parameters for each in robust if each.engine == "torch"}
    return [each for each in robust if each.engine == "torch" or each.parameters not in there]


def _shared(robust: Sequence[Measured], disturbance: str | None) -> set[_Key]:
    """Return the keys of the curves that every network has; attacks made on another network are left out.

    Where one disturbance is asked for, a network that was not measured under it does not count.
    """
    keys: dict[str, set[_Key]] = {}
    for each in robust:
        own = {curve.key for curve in each.curves if not curve.transferred and disturbance in {None, curve.name}}
        keys.setdefault(each.parameters, set()).update(own)
    asked = [own for own in keys.values() if own or disturbance is None]
    return set.intersection(*asked) if asked else set()


def _area(own: Sequence[Measured], shared: set[_Key]) -> float | None:
    """Return the mean area of a network's curves that others have too; None if there are no such curves."""
    areas = [scores(curves).area.mean for curves in alike(own) if curves[0][1].key in shared]
    known = [area for area in areas if area is not None]
    return fmean(known) if known else None


def _timed(record: Record) -> bool:
    return record.status == "measured" and record.configuration.phase == "infer"


def _of_run(record: Record, run: Run, sums: set[str | None]) -> bool:
    """Whether a record is of a network: of the checkpoint of one of its seeds, or of random weights by its recipe."""
    asked = record.configuration
    if asked.ckpt is not None or asked.foreign is not None:
        return asked.ckpt_sha256 in sums
    if asked.stage == "adapt" or costs.network(record) != (run.network.kind, run.network.ratio):
        return False
    apart = {"seed", *WORDS} | (AFTER if run.stage != "restore" else set())
    return not [key for key in differing([asked.recipe, run.recipe.dump()]) if key.split(".")[0] not in apart]


def _costs(same: Sequence[Record]) -> dict[str, float]:
    """Return the mean of each cost over the records of a network; inference counts at its smallest batch."""
    same = [record for record in same if record.status == "measured"]
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


def _parameters(same: Sequence[Record]) -> float | None:
    counts = [value.number for record in same if isinstance(value := record.value("parameters"), Value)]
    return fmean(counts) if counts else None


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
