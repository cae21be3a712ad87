"""What was measured of networks under disturbances, as it is written down and read again: robustness.json."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hstnn_deploy.disturbances.disturbance import Disturbance, Where
from hstnn_deploy.errors import RunError
from hstnn_deploy.foreign import json_value, one_line, read_bytes, reading, rule_broken
from hstnn_deploy.models.sizes import Kind
from hstnn_deploy.robustness.scores import Scores, score
from hstnn_deploy.stats import summarise

FORMAT, VERSION = "hstnn-robustness", 1
PATTERN = "robustness*.json"
"""The name of these files."""
_LARGEST = 2**28
"""Bytes of a file, at most."""


class _Part(BaseModel):
    # There may be more than is known here: later versions add to it.
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Curve(_Part):
    """One network under one disturbance."""

    name: str
    """Of the disturbance."""
    unit: str
    """Of its levels."""
    where: Where
    levels: list[float] = Field(min_length=1)
    """From weak to strong, without 0."""
    axis: list[float]
    """Where each level lies on the axis of the curve; see `Disturbance.severity`."""
    values: list[list[float]]
    """Of each level, the metric of each draw."""
    transferred: str = ""
    """Of an attack that was made on another network: which one."""

    @model_validator(mode="after")
    def _even(self) -> "Curve":
        if not len(self.levels) == len(self.axis) == len(self.values):
            raise ValueError("levels, axis and values differ in length")
        if len({len(row) for row in self.values}) != 1 or not self.values[0]:
            raise ValueError("the levels differ in their number of draws")
        if sorted({0.0, *self.axis}) != [0.0, *self.axis]:
            raise ValueError("the axis does not ascend from 0")
        return self

    @classmethod
    def of(cls, disturbance: Disturbance, levels: Sequence[float], values: list[list[float]], source: str) -> "Curve":
        """Return what was measured of a disturbance."""
        return cls(
            name=disturbance.name,
            unit=disturbance.unit,
            where=disturbance.where,
            levels=list(levels),
            axis=[disturbance.severity(level) for level in levels],
            values=values,
            transferred=source,
        )

    def level_at(self, place: float) -> float:
        """Return the level at a place of the axis, interpolated; of bits, before the first level, that one."""
        if self.axis != self.levels:
            return float(np.interp(place, self.axis, self.levels))
        return float(np.interp(place, [0.0, *self.axis], [0.0, *self.levels]))

    @property
    def key(self) -> tuple[str, bool, tuple[float, ...]]:
        """What curves have in common that may be averaged: disturbance, whether it was made elsewhere, and levels."""
        return self.name, bool(self.transferred), tuple(self.axis)

    @property
    def title(self) -> str:
        """The disturbance, and where an attack came from."""
        return f"{self.name} from {self.transferred}" if self.transferred else self.name


class Measured(_Part):
    """One network under several disturbances."""

    source: str
    """The file that it was read from, or the folder of a bundle."""
    engine: Literal["torch", "onnxruntime"] = "torch"
    """What ran it: the network itself, or ONNX Runtime the graph of a bundle."""
    parameters: str = ""
    """What its numbers are known by; see `Checkpoint.fingerprint`."""
    recipe: str
    """The name."""
    data: str
    """The name of the data set; of a user's own, "own data" and what tells it from others."""
    trained: str = ""
    """The first digits of the SHA-256 of what its training depends on, its seed aside; see `trained_by`."""
    kind: Kind
    recurrent: str = "rnn"
    """The recurrent unit: rnn or lstm."""
    step: str | None = None
    """In which step of training weights on devices are; None of other networks."""
    ratio: float | None
    stage: str
    seed: int
    metric: str
    unit: str
    higher_is_better: bool
    split: str
    batch: int
    clean: float
    """The metric without a disturbance."""
    curves: list[Curve]

    @property
    def network(self) -> str:
        """Which network this is, seeds aside, such as "hybrid 0.5"; with "redundant" if it is.

        The names are those of a report's networks.
        """
        family = self.step or (
            f"{self.kind}-lstm" if self.ratio is not None and self.recurrent == "lstm" else self.kind
        )
        name = family if self.ratio is None else f"{family} {self.ratio:g}"
        return f"{name} redundant" if self.stage == "adapt" and self.kind == "hybrid" else name

    @property
    def title(self) -> str:
        """The network, and what ran it where that is not the network itself."""
        return self.network if self.engine == "torch" else f"{self.network} in ONNX Runtime"

    def series(self, curve: Curve) -> list[list[float]]:
        """Return the metric of each draw at every level, the undisturbed one first."""
        return [[self.clean, *draw] for draw in zip(*curve.values, strict=True)]


class Robustness(_Part):
    """All of a file."""

    format: Literal["hstnn-robustness"] = "hstnn-robustness"
    version: Literal[1] = 1
    device: str = "cpu"
    environment: dict[str, Any] = {}
    networks: list[Measured] = Field(min_length=1)

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data, with the scores of each curve."""
        found = self.model_dump(mode="json")
        for network, made in zip(self.networks, found["networks"], strict=True):
            for curve, plain in zip(network.curves, made["curves"], strict=True):
                plain["scores"] = scores([(network, curve)]).plain()
        found["together"] = [
            {
                "recipe": recipe,
                "network": network,
                "seeds": [each.seed for each in seeds],
                "areas": [_over_seeds(curves) for curves in alike(seeds)],
            }
            for (recipe, network), seeds in together(self.networks)
        ]
        return found


def _over_seeds(curves: "Alike") -> dict[str, Any]:
    """Return the area over seeds: draws of one network say little about another, so each seed counts once."""
    first = curves[0][1]
    areas = [mean for pair in curves if (mean := scores([pair]).area.mean) is not None]
    return {"name": first.name, "transferred": bool(first.transferred), "levels": first.levels} | summarise(
        areas
    )._asdict()


def together(networks: Iterable[Measured]) -> list[tuple[tuple[str, str], list[Measured]]]:
    """Return networks by recipe and title, their seeds together, in the order in which they come first.

    A bundle does not stand among the checkpoints: it would count as another seed. Recipes of one name by which networks
    of one kind and ratio are trained differently, as with another `against`, are told apart by their digits: "digits
    (recipe 3fa4b2c1)".
    """
    found: dict[tuple[str, str], dict[str, list[Measured]]] = {}
    for each in networks:
        found.setdefault((each.recipe, each.title), {}).setdefault(each.trained, []).append(each)
    return [
        ((f"{recipe} (recipe {trained or 'unknown'})" if len(ways) > 1 else recipe, network), same)
        for (recipe, network), ways in found.items()
        for trained, same in ways.items()
    ]


def once(networks: Iterable[Measured]) -> list[Measured]:
    """Return networks without what was measured twice of the same weights and split: the curve of more draws is kept.

    So a seed that stands in two files, as where `robustness` was called once more, weighs no more than others.
    """
    kept: dict[Any, tuple[Measured, dict[Any, Curve]]] = {}
    for each in networks:
        who = (each.parameters or id(each), each.recipe, each.title, each.seed, each.split)
        _, curves = kept.setdefault(who, (each, {}))
        for curve in each.curves:
            before = curves.get(curve.key)
            if before is None or len(curve.values[0]) > len(before.values[0]):
                curves[curve.key] = curve
    return [first.model_copy(update={"curves": list(curves.values())}) for first, curves in kept.values()]


Alike = list[tuple[Measured, Curve]]
"""Curves of one disturbance at the same levels, each with the network that it is of."""


def alike(networks: Iterable[Measured]) -> list[Alike]:
    """Return the curves of some networks, those of one disturbance at the same levels together, as they come first."""
    found: dict[Any, Alike] = {}
    for network in networks:
        for curve in network.curves:
            found.setdefault(curve.key, []).append((network, curve))
    return list(found.values())


def title_of(curves: Alike) -> str:
    """Return the disturbance of some curves that are alike, and where an attack came from."""
    titles = {curve.title for _, curve in curves}
    return titles.pop() if len(titles) == 1 else f"{curves[0][1].name}, other seed"


def scores(curves: Sequence[tuple[Measured, Curve]]) -> Scores:
    """Return the scores of curves of one network that are `alike`, of several seeds together: each draw is a series."""
    network, first = curves[0]
    series = [one for each, curve in curves for one in each.series(curve)]
    return score([0.0, *first.axis], series, network.higher_is_better)


def read(path: Path) -> Robustness:
    """Read a file that `hstnn robustness --out` wrote.

    Raises:
        RunError: it cannot be read, or is not a robustness record.
    """
    with reading(path, "a robustness record", RunError, "give a robustness.json that hstnn robustness wrote"):
        plain = json_value(read_bytes(path, _LARGEST))
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise RunError(f"{path} is not a robustness record", "give a robustness.json that hstnn robustness wrote")
    if plain.get("version") != VERSION:
        raise RunError(f"{path} has version {plain.get('version')!r}; this hstnn reads {VERSION}", "upgrade hstnn")
    try:
        return Robustness.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(f"{path} is damaged: {where}: {one_line(rule_broken(first['msg']))}") from error
