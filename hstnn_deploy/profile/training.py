"""Measure an epoch of training: the training pass, the evaluation pass, and their sum.

The steps are those of `train.loop` itself. Where a pass does not fit into the time given, some of its batches are
measured and the pass is extrapolated by its samples (words, of a text), and the value says so; where it fits several
times, it is repeated.
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
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import ProfileError
from hstnn_deploy.models.layers import State
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.profile.probes import Probe, measured
from hstnn_deploy.profile.records import Configuration
from hstnn_deploy.profile.values import Measured, Value
from hstnn_deploy.train.evaluation import batches, count_batches, evaluate
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


def part(split: Split, batch: int, steps: int) -> Split:
    """Return the part of a split that makes so many batches, or all of it: of a text, the upper rows of its columns."""
    if steps >= count_batches(split, batch):
        return split
    if isinstance(split, TextSplit):
        return TextSplit(split.tokens[: batch * (steps * split.bptt + 1)], split.bptt, split.name)
    return _Part(split, steps * batch)


def answers(split: Split, batch: int) -> int:
    """Return what a pass over a split works on: samples, or of a text the words that are predicted."""
    return (len(split.columns(batch)) - 1) * batch if isinstance(split, TextSplit) else len(split)


class _Pass(NamedTuple):
    """A pass over a split, and how much of it is measured how often."""

    name: str
    run: Callable[[Split], float]
    """Runs over a split or a part of it; returns the mean loss."""
    split: Split
    steps: int
    """Batches that are measured."""
    whole: int
    """Batches of the whole split."""
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

    def measure(self, probes: list[Probe]) -> tuple[list[Value], dict[str, Any]]:
        """Warm up, run both passes under the probes, and return values and facts.

        Raises:
            ProfileError: the loss is not a number, so this is not training.
        """
        training = self._planned("train_pass", self._train, self.train, _TRAIN_SHARE)
        evaluation = self._planned("eval_pass", self._evaluate, self.valid, 1 - _TRAIN_SHARE)
        with measured(probes, self.synchronise) as values:
            trained, evaluated = self._timed(training), self._timed(evaluation)
        notes = (("training", trained.note), ("evaluation", evaluated.note))
        note = "; ".join(f"{name} {note}" for name, note in notes if note)
        facts: dict[str, Any] = {"warmup_steps": WARMUP_STEPS}
        for name, done in (("train", training), ("eval", evaluation)):
            facts |= {
                f"{name}_steps": done.steps,
                f"{name}_steps_of": done.whole,
                f"{name}_steps_repeats": done.repeats,
            }
        speed, counts = answers(self.train, self.recipe.batch) / trained.number, self.task.counts
        return [
            trained,
            evaluated,
            Measured("epoch", trained.number + evaluated.number, "s", "train_pass + eval_pass", note),
            Measured("throughput", speed, f"{counts}/s", f"{counts} / train_pass", trained.note),
            *values,
        ], facts

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _train(self, split: Split) -> float:
        self.network.train()
        loss_sum = torch.zeros((), device=self.device)
        count = 0
        state: State | None = None
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(self.recipe.seed))
        for batch in batches(split, self.recipe.batch, order, self.device):
            before = self.task.carried(self.network, batch.x, state)
            loss, _, state = train_step(self.network, self.task, self.optimiser, self.stage.clip, batch, before)
            done = self.task.answers(batch.target)
            loss_sum += loss * done
            count += done
        return float(loss_sum) / count

    def _evaluate(self, split: Split) -> float:
        return float(evaluate(self.network, self.task, split, self.recipe.batch, self.device)["loss"])

    def _planned(self, name: str, run: Callable[[Split], float], split: Split, share: float) -> _Pass:
        """Warm up, and decide how many steps to measure how often: what is affordable, or what was asked for."""
        whole = count_batches(split, self.recipe.batch)
        # The fastest step: the first ones pay for memory and for compiling.
        step = min(self._seconds(run, part(split, self.recipe.batch, 1)) for _ in range(WARMUP_STEPS))
        if self.configuration.max_steps is not None:
            return _Pass(name, run, split, min(whole, self.configuration.max_steps), whole, 1)
        affordable = max(_FEWEST_STEPS, int(share * self.configuration.seconds / step))
        repeats = min(_MOST_PASSES, max(1, affordable // whole))
        return _Pass(name, run, split, min(whole, affordable), whole, repeats)

    def _timed(self, done: _Pass) -> Measured:
        """Run a pass as planned; return the median of its repeats, scaled to the whole."""
        batch = self.recipe.batch
        some = part(done.split, batch, done.steps)
        scale = answers(done.split, batch) / answers(some, batch)
        seconds = [self._seconds(done.run, some) * scale for _ in range(done.repeats)]
        note = ""
        if done.steps < done.whole:
            note = f"extrapolated from {done.steps} of {done.whole} steps"
        elif done.repeats > 1:
            note = f"median of {done.repeats} passes, {min(seconds):.3g} to {max(seconds):.3g} s"
        return Measured(done.name, statistics.median(seconds), "s", "time.perf_counter", note)

    def _seconds(self, run: Callable[[Split], float], split: Split) -> float:
        self.synchronise()
        start = time.perf_counter()
        loss = run(split)
        self.synchronise()
        seconds = time.perf_counter() - start
        if not math.isfinite(loss):
            raise ProfileError(f"the loss is {loss}: what was measured is not a training")
        return seconds
