"""Measure an epoch of training: the training pass, the evaluation pass, and their sum.

The steps are those of `train.loop` itself. Where a pass does not fit into the time given, some of its batches are
measured and the pass is extrapolated by its samples, and the value says so; where it fits several times, it is
repeated.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.errors import ProfileError
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.profile.probes import Probe, measured
from hstnn_deploy.profile.records import Configuration
from hstnn_deploy.profile.values import Measured, Value
from hstnn_deploy.train.evaluation import batches, evaluate
from hstnn_deploy.train.loop import make_optimiser, train_step
from hstnn_deploy.train.recipe import Recipe
from hstnn_deploy.train.tasks import task_for

WARMUP_STEPS = 3
_TRAIN_SHARE = 0.75
"""Of the time given, for training passes; the rest is for evaluation passes."""
_FEWEST_STEPS, _MOST_PASSES = 3, 5


@dataclass
class _Part:
    """The first `count` samples of a split, as a split."""

    whole: Split
    count: int

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Tensor, device: torch.device) -> Batch:
        return self.whole.batch(indices, device)


class _Pass(NamedTuple):
    """A pass over a split, and how much of it is measured how often."""

    name: str
    run: Callable[[int], float]
    """Runs over so many samples; returns the mean loss."""
    measured: int
    """Samples."""
    whole: int
    repeats: int


class Epoch:
    """One network and the data of one epoch."""

    def __init__(
        self, configuration: Configuration, recipe: Recipe, network: HybridNetwork, train: Split, valid: Split
    ) -> None:
        self.configuration, self.recipe, self.network = configuration, recipe, network
        self.train, self.valid = train, valid
        self.device = next(network.parameters()).device
        self.task = task_for(recipe.network)
        self.stage = recipe.restore if configuration.stage == "restore" else recipe.adapt
        self.optimiser = make_optimiser(self.stage, network)
        self.order = torch.randperm(len(train), generator=torch.Generator().manual_seed(recipe.seed))

    def measure(self, probes: list[Probe]) -> tuple[list[Value], dict[str, Any]]:
        """Warm up, run both passes under the probes, and return values and facts.

        Raises:
            ProfileError: the loss is not a number, so this is not training.
        """
        training = self._planned("train_pass", self._train, len(self.train), _TRAIN_SHARE)
        evaluation = self._planned("eval_pass", self._evaluate, len(self.valid), 1 - _TRAIN_SHARE)
        with measured(probes, self.synchronise) as values:
            trained, evaluated = self._timed(training), self._timed(evaluation)
        notes = (("training", trained.note), ("evaluation", evaluated.note))
        note = "; ".join(f"{name} {note}" for name, note in notes if note)
        facts: dict[str, Any] = {"warmup_steps": WARMUP_STEPS}
        for name, done in (("train", training), ("eval", evaluation)):
            facts |= {
                f"{name}_steps": self._steps(done.measured),
                f"{name}_steps_of": self._steps(done.whole),
                f"{name}_steps_repeats": done.repeats,
            }
        return [
            trained,
            evaluated,
            Measured("epoch", trained.number + evaluated.number, "s", "train_pass + eval_pass", note),
            Measured("throughput", training.whole / trained.number, "samples/s", "samples / train_pass", trained.note),
            *values,
        ], facts

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _train(self, count: int) -> float:
        self.network.train()
        loss_sum = torch.zeros((), device=self.device)
        for batch in batches(self.train, self.recipe.batch, self.order[:count], self.device):
            loss, _, _ = train_step(self.network, self.task, self.optimiser, self.stage.clip, batch)
            loss_sum += loss * len(batch.target)
        return float(loss_sum) / count

    def _evaluate(self, count: int) -> float:
        part = _Part(self.valid, count)
        return float(evaluate(self.network, self.task, part, self.recipe.batch, self.device)["loss"])

    def _planned(self, name: str, run: Callable[[int], float], whole: int, share: float) -> _Pass:
        """Warm up, and decide how many samples to measure how often: what is affordable, or what was asked for."""
        batch = self.recipe.batch
        # The fastest step: the first ones pay for memory and for compiling.
        step = min(self._seconds(run, min(whole, batch)) for _ in range(WARMUP_STEPS))
        if self.configuration.max_steps is not None:
            return _Pass(name, run, min(whole, self.configuration.max_steps * batch), whole, 1)
        affordable = max(_FEWEST_STEPS, int(share * self.configuration.seconds / step))
        repeats = min(_MOST_PASSES, max(1, affordable // self._steps(whole)))
        return _Pass(name, run, min(whole, affordable * batch), whole, repeats)

    def _timed(self, done: _Pass) -> Measured:
        """Run a pass as planned; return the median of its repeats, scaled to the whole."""
        seconds = [self._seconds(done.run, done.measured) * done.whole / done.measured for _ in range(done.repeats)]
        note = ""
        if done.measured < done.whole:
            note = f"extrapolated from {self._steps(done.measured)} of {self._steps(done.whole)} steps"
        elif done.repeats > 1:
            note = f"median of {done.repeats} passes, {min(seconds):.3g} to {max(seconds):.3g} s"
        return Measured(done.name, statistics.median(seconds), "s", "time.perf_counter", note)

    def _seconds(self, run: Callable[[int], float], count: int) -> float:
        self.synchronise()
        start = time.perf_counter()
        loss = run(count)
        self.synchronise()
        seconds = time.perf_counter() - start
        if not math.isfinite(loss):
            raise ProfileError(f"the loss is {loss}: what was measured is not a training")
        return seconds

    def _steps(self, samples: int) -> int:
        return math.ceil(samples / self.recipe.batch)
