"""From traces to the kept units: importance, ranking, and how far the probes' noise can be trusted.

Shapes: P probes, U units of all groups in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hstnn_deploy.models.hybrid.groups import UnitKind
from hstnn_deploy.models.hybrid.shrink import Kept
from hstnn_deploy.models.sizes import Sizes

Floats = NDArray[np.float64]

_LAYERS = 10_000
"""More than any network has."""


class SelectedUnits(BaseModel):
    """A group's part of a selection; the lists but `kept` hold a value for every unit."""

    model_config = ConfigDict(allow_inf_nan=False)

    layer: int = Field(gt=0, le=_LAYERS)
    """Counted from 1."""
    kind: UnitKind
    kept: list[int]
    importance: list[float]
    standard_error: list[float]
    stability: list[float]
    """How often the unit is kept when the probes are bootstrapped, 0..1."""


class SelectionResult(BaseModel):
    """The content of selection.json."""

    model_config = ConfigDict(allow_inf_nan=False)

    ratio: float
    counts: dict[UnitKind, int]
    probes: int
    bootstraps: int
    seed: int
    mean_stability_of_kept: float
    units: list[SelectedUnits] = Field(min_length=1)

    def check_fits(self, sizes: Sequence[Sizes]) -> None:
        """Refuse a selection from another network than one of these units in each layer and kind.

        Raises:
            ValueError: a unit or layer that is not there, one that is named twice, or a layer left empty.
        """
        named = [(unit.layer, unit.kind) for unit in self.units]
        if sorted(named) != sorted((n, kind) for n in range(1, len(sizes) + 1) for kind in get_args(UnitKind)):
            raise ValueError(f"its layers do not match a network of {len(sizes)} layers")
        for unit in self.units:
            there = getattr(sizes[unit.layer - 1], unit.kind)
            if unit.kept != sorted(set(unit.kept)) or any(not 0 <= each < there for each in unit.kept):
                raise ValueError(
                    f"layer {unit.layer} has {there} {unit.kind} units; the selection must name each at most once"
                )
        if empty := [n for n, layer in enumerate(self.kept(), 1) if not any(layer.values())]:
            raise ValueError(f"it keeps no unit of layer {empty[0]}")

    def kept(self) -> Kept:
        """Return the kept units of each layer and kind."""
        kept: Kept = [{} for _ in range(max(unit.layer for unit in self.units))]
        for unit in self.units:
            kept[unit.layer - 1][unit.kind] = unit.kept
        return kept

    def summary(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: all but the values of every unit."""
        each = {"importance", "standard_error", "stability"}
        return self.model_dump(mode="json", exclude={"units": {"__all__": each}})


class GroupTraces(BaseModel):
    """Where a group's units stand in the traces, and their scale."""

    model_config = ConfigDict(allow_inf_nan=False)

    layer: int = Field(ge=0, lt=_LAYERS)
    kind: UnitKind
    scale: list[float]
    """||w_u||^2 / p_u of each unit."""


@dataclass(frozen=True)
class Traces:
    """The result of stage 2's costly part: computed once for an adapted network, ranked for any ratio."""

    groups: list[GroupTraces]
    samples: Floats
    """[P, U]: each probe's estimate of each unit's trace."""

    @property
    def scale(self) -> Floats:
        """||w_u||^2 / p_u, [U]."""
        return np.concatenate([np.asarray(group.scale) for group in self.groups])

    def importance(self) -> Floats:
        """Return trace * ||w||^2 / p of each unit, [U]; signed, larger is more important."""
        result: Floats = self.samples.mean(0) * self.scale
        return result

    def standard_error(self) -> Floats:
        """Return the standard error of each unit's importance over the probes, [U]."""
        probes = len(self.samples)
        result: Floats = self.samples.std(0, ddof=1) / np.sqrt(probes) * self.scale
        return result

    def by_group(self, values: Floats) -> list[Floats]:
        """Cut a [U] array into one array per group."""
        return np.split(values, np.cumsum([len(group.scale) for group in self.groups])[:-1])


def keep(traces: Traces, importance: Floats, counts: Sizes) -> Kept:
    """Return the kept units of each layer and kind, ascending (docs/mathematics.md, section 3).

    Each kind is ranked over all layers together and the best are kept, with at least one unit of each kept kind in
    every layer: the last kept unit gives way to the best unit of a layer that would be empty. The original's
    convolutional networks take each layer's best unit first and then fill up from the ranking: the same units.

    Args:
        traces: which unit belongs to which group.
        importance: [U].
        counts: how many units of each kind to keep over all layers; none at all leaves the kind out.
    """
    layers = max(group.layer for group in traces.groups) + 1
    kept: Kept = [{kind: [] for kind in get_args(UnitKind)} for _ in range(layers)]
    parts = traces.by_group(importance)
    wanted: dict[UnitKind, int] = {"snn": counts.snn, "rnn": counts.rnn}
    for kind, count in wanted.items():
        groups = [(group.layer, part) for group, part in zip(traces.groups, parts, strict=True) if group.kind == kind]
        for layer, unit in _best(groups, count) if count else []:
            kept[layer][kind].append(unit)
        for chosen in kept:
            chosen[kind].sort()
    return kept


def _best(groups: list[tuple[int, Floats]], count: int) -> list[tuple[int, int]]:
    """Return (layer, unit) of the `count` best units, every layer with at least one."""
    where = [(layer, unit) for layer, part in groups for unit in range(len(part))]
    # Upwards and then backwards: of equally important units the last comes first, as in the original's selections.
    order = np.argsort(np.concatenate([part for _, part in groups]), kind="stable")[::-1]
    ranked = [where[place] for place in order]
    best = ranked[:count]
    for layer, _ in groups:
        taken = [taken_layer for taken_layer, _ in best]
        if layer not in taken:
            # From the end: the least important unit whose layer can spare it.
            spare = next(i for i in reversed(range(len(best))) if taken.count(taken[i]) > 1)
            del best[spare]
            best.append(next(place for place in ranked if place[0] == layer))
    return best


def stability(traces: Traces, counts: Sizes, bootstraps: int, seed: int) -> Floats:
    """Return how often each unit is kept when the probes are drawn anew with replacement, [U] in 0..1."""
    generator = np.random.default_rng(seed)
    probes = len(traces.samples)
    draws = generator.multinomial(probes, np.full(probes, 1 / probes), size=bootstraps) / probes
    importances = (draws @ traces.samples) * traces.scale
    starts = np.cumsum([0, *(len(group.scale) for group in traces.groups)])
    times: Floats = np.zeros(traces.samples.shape[1])
    for importance in importances:
        kept = keep(traces, importance, counts)
        for group, start in zip(traces.groups, starts, strict=False):
            times[start + np.asarray(kept[group.layer][group.kind], dtype=int)] += 1
    return times / bootstraps


def select(traces: Traces, counts: Sizes, ratio: float, bootstraps: int, seed: int) -> SelectionResult:
    """Rank and keep, with each unit's importance, standard error and stability."""
    importance = traces.importance()
    kept = keep(traces, importance, counts)
    frequency = stability(traces, counts, bootstraps, seed)
    parts = zip(
        traces.groups,
        traces.by_group(importance),
        traces.by_group(traces.standard_error()),
        traces.by_group(frequency),
        strict=True,
    )
    units = [
        SelectedUnits(
            layer=group.layer + 1,
            kind=group.kind,
            kept=kept[group.layer][group.kind],
            importance=values.tolist(),
            standard_error=errors.tolist(),
            stability=often.tolist(),
        )
        for group, values, errors, often in parts
    ]
    steady = [unit.stability[index] for unit in units for index in unit.kept]
    return SelectionResult(
        ratio=ratio,
        counts={"snn": counts.snn, "rnn": counts.rnn},
        probes=len(traces.samples),
        bootstraps=bootstraps,
        seed=seed,
        mean_stability_of_kept=float(np.mean(steady)),
        units=units,
    )
