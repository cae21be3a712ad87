"""Measure a network's metric under disturbances, level by level and draw by draw."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.dataset import Recordings
from hstnn_deploy.data.events.events import Events
from hstnn_deploy.data.events.recordings import as_trained
from hstnn_deploy.data.images import as_evaluated
from hstnn_deploy.data.preprocessing import Frames, preprocessing
from hstnn_deploy.data.registry import data_set
from hstnn_deploy.data.splits import Split, Splits
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.disturbances import hardware
from hstnn_deploy.disturbances.disturbance import Disturbance
from hstnn_deploy.disturbances.inputs import (
    Attacked,
    DisturbedEvents,
    disturbed_text,
    disturbed_values,
    range_of,
)
from hstnn_deploy.disturbances.table import DISTURBANCES, why_not
from hstnn_deploy.disturbances.values import Range
from hstnn_deploy.errors import RunError, UsageError
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.tasks import Task, task_for
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.robustness.record import Curve, Measured
from hstnn_deploy.train.evaluation import evaluate

_SURE = {"contrast", "stretch", "compress", "fgsm", "weight-bits", "float16", "spike-delay"}
"""Disturbances without randomness: one draw is enough."""


def data_named(recipe: Recipe) -> str:
    """Return the name of a recipe's data set; of a user's own, with the first digits of the SHA-256 of its listing.

    Two folders of a user's own data are two data sets, and one that has moved stays the same.
    """
    found = getattr(recipe.data, "found", None)
    return recipe.data.name if found is None else f"own data {found.listing[:8]}"


def trained_by(recipe: Recipe, stage: str) -> str:
    """Return the first digits of the SHA-256 of what a training of a stage depends on, but for its seed.

    A network that it begins with, which may be another one for each seed, does not count.
    """
    apart = _APART if stage == "restore" else _APART | {"selection", "restore"}
    plain = {key: value for key, value in recipe.dump().items() if key not in apart}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:8]


_APART = {"seed", "init", "about", "experiment", "published"}
"""Keys of a recipe in which the seeds of a network may differ."""


@dataclass
class Bench:
    """A network and the split that it is disturbed on; what they share over all disturbances is made once."""

    engine: ClassVar[Literal["torch", "onnxruntime"]] = "torch"
    """What computes its answers."""
    checkpoint: Checkpoint
    splits: Splits
    split_name: str
    batch: int
    device: torch.device
    data_folder: Path | None = None
    _events: dict[int, Events] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.recipe = self.checkpoint.resolved_recipe()
        self.task: Task = task_for(self.recipe.network, self.recipe.loss)
        self.network: Network = self.checkpoint.deployed(None).network().to(self.device).eval()
        self.split: Split = as_evaluated(self.splits.split(self.split_name))

    @cached_property
    def span(self) -> Range:
        """The range of the split's inputs."""
        return range_of(self.split, self.batch)

    @cached_property
    def clean(self) -> float:
        """The metric without a disturbance."""
        return self._metric(self.network, self.split, "no disturbance")

    @cached_property
    def recordings(self) -> Recordings:
        """The split's recordings, as training has them."""
        found = data_set(self.recipe.data).recordings
        assert found is not None
        return as_trained(found(self.recipe.data, self.data_folder), self.recipe.protocol)[self.split_name]

    def why_not(self, disturbance: Disturbance) -> str:
        """Return why a disturbance does not apply to this network and data, or an empty text."""
        return why_not(disturbance, self.recipe.data, self.split, self.network)

    def usual(self) -> list[Disturbance]:
        """Return the default disturbances: all that fit and make no more steps than the network takes."""
        fitting = [each for each in DISTURBANCES.values() if not self.why_not(each)]
        return [each for each in fitting if each.name != "stretch" or self.network.longest is None]

    def value(self, disturbance: Disturbance, level: float, draw: int, attacked: Network | None = None) -> float:
        """Return the metric at one level in one draw; at level 0 the undisturbed one.

        Args:
            disturbance: which one.
            level: how strong.
            draw: the number of the draw.
            attacked: of an attack, the network whose gradient is known; None: this one.

        Raises:
            UsageError: it does not fit this network or data.
            RunError: the network's loss became NaN or infinite.
        """
        if level == 0:
            return self.clean
        name, network = disturbance.name, self.network
        under = f"{name} of {level:g}"
        match disturbance.where:
            case "values":
                made: Split = disturbed_values(self.split, name, level, draw, lambda: self.span, network.longest)
            case "events":
                how = preprocessing(self.recipe.data)
                assert isinstance(how, Frames)
                made = DisturbedEvents(self.recordings, how, name, level, draw, self._events)
            case "words":
                assert isinstance(self.split, TextSplit)
                made = disturbed_text(self.split, name, level, draw)
            case "adversary":
                made = Attacked(self.split, name, level, draw, self.span, attacked or network, self.task)
            case "weights":
                return self._metric(hardware.disturbed_weights(network, name, level, draw), self.split, under)
            case "neurons":
                return self._metric(hardware.disturbed_neurons(network, name, level, draw), self.split, under)
            case "spikes":
                with hardware.disturbed_spikes(network, name, level, draw):
                    return self._metric(network, self.split, under)
        return self._metric(network, made, under)

    def check(self, disturbance: Disturbance) -> None:
        """Refuse a disturbance that does not fit.

        Raises:
            UsageError: it does not fit this network or data.
        """
        if why := self.why_not(disturbance):
            raise UsageError(f"--disturb {disturbance.name} does not fit {self.recipe.name}: {why}")

    def curve(
        self,
        disturbance: Disturbance,
        levels: Sequence[float],
        draws: int,
        attacked: tuple[str, Network] | None = None,
        done: Callable[[], None] = lambda: None,
    ) -> Curve:
        """Measure a disturbance at some levels.

        Args:
            disturbance: which one.
            levels: from weak to strong.
            draws: how many draws of each level; of one that draws nothing, one.
            attacked: of an attack made on another network: its name, and it.
            done: called after each figure.

        Raises:
            UsageError: it does not fit this network or data.
        """
        self.check(disturbance)
        rows: list[list[float]] = []
        for level in levels:
            rows.append([])
            for draw in range(1 if disturbance.name in _SURE else draws):
                rows[-1].append(self.value(disturbance, level, draw, attacked[1] if attacked else None))
                done()
        return Curve.of(disturbance, levels, rows, attacked[0] if attacked else "")

    def _metric(self, network: Network, split: Split, under: str) -> float:
        loss, metric = self._answers(network, split)
        if not math.isfinite(loss):
            raise RunError(
                f"{self.recipe.name} under {under}: its loss is {loss}, which gives no {self.task.metric}",
                "leave that level out",
            )
        return metric

    def _answers(self, network: Network, split: Split) -> tuple[float, float]:
        """Return the loss and the metric of a network on a split."""
        found = evaluate(network, self.task, split, self.batch, self.device, self.recipe.precision)
        return float(found["loss"]), float(found[self.task.metric])

    def measured(self, source: str, curves: list[Curve]) -> Measured:
        """Return what was measured of the network, to be written down."""
        recipe, task = self.recipe, self.task
        return Measured(
            source=source,
            engine=self.engine,
            parameters=self.checkpoint.fingerprint,
            recipe=recipe.name,
            data=data_named(recipe),
            trained=trained_by(recipe, self.checkpoint.stage),
            kind=recipe.kind,
            recurrent=recipe.network.recurrent,
            step=recipe.step,
            ratio=recipe.ratio if recipe.kind in {"ffs", "hybrid"} else None,
            stage=self.checkpoint.stage,
            seed=recipe.seed,
            metric=task.metric,
            unit=task.unit,
            higher_is_better=task.higher_is_better,
            split=self.split_name,
            batch=self.batch,
            clean=self.clean,
            curves=curves,
        )
