"""Measure an epoch of training: the training pass, the evaluation pass, their sum, and the parts of a step.

The steps are those of `train.loop` itself. Where a pass does not fit into the time given, some of its batches are
measured and the pass is extrapolated by its samples (words, of a text), and the value says so; where it fits several
times, it is repeated.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import ProfileError
from hstnn_deploy.models.network import Network, State
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.profile.meter import stats
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases.findings import Findings, Meet
from hstnn_deploy.profile.phases.steps import PARTS, StepTimer
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.profile.values import Measured, NotMeasured, Value
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.evaluation import batches, count_batches, evaluate
from hstnn_deploy.train.schedules import make_optimiser

_TRAIN_SHARE, _WARM_UP_SHARE = 0.75, 0.25
"""Of the time given: for training passes, the rest being for evaluation passes; and of that, besides, to warm up."""
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
    """Return the part of a split that makes `steps` batches, or all of it: of a text, the upper rows of its columns."""
    if steps >= count_batches(split, batch):
        return split
    if isinstance(split, TextSplit):
        return TextSplit(split.tokens[: batch * (steps * split.bptt + 1)], split.bptt, split.name)
    return _Part(split, steps * batch)


def answers(split: Split, batch: int) -> int:
    """Return what a pass over a split works on: samples, or of a text the words that are predicted."""
    return (len(split.columns(batch)) - 1) * batch if isinstance(split, TextSplit) else len(split)


class _Pass(NamedTuple):
    """A pass over a split, and what was measured of it."""

    name: str
    seconds: list[float]
    """Of each repeat, scaled to the whole."""
    steps: int
    """Batches that were measured."""
    whole: int
    """Batches of the whole pass."""

    def value(self) -> Measured:
        """Return the median of the repeats."""
        note = ""
        if self.steps < self.whole:
            note = f"extrapolated from {self.steps} of {self.whole} steps"
        elif len(self.seconds) > 1:
            note = f"median of {len(self.seconds)} passes, {min(self.seconds):.3g} to {max(self.seconds):.3g} s"
        return Measured(self.name, statistics.median(self.seconds), "s", "time.perf_counter", note)

    def facts(self) -> dict[str, int]:
        """Return how much of the pass was measured how often."""
        short = self.name.removesuffix("_pass")
        return {
            f"{short}_steps": self.steps,
            f"{short}_steps_of": self.whole,
            f"{short}_steps_repeats": len(self.seconds),
        }


class Epoch:
    """One network and the data of one epoch."""

    def __init__(
        self, configuration: Configuration, recipe: Recipe, network: Network, train: Split, valid: Split
    ) -> None:
        self.configuration, self.recipe, self.network = configuration, recipe, network
        self.train, self.valid = train, valid
        self.device = next(network.parameters()).device
        self.task = task_for(recipe.network, recipe.loss)
        self.stage = recipe.stage(configuration.stage)
        optimiser = make_optimiser(self.stage, network)
        self.timer = StepTimer(network, self.task, optimiser, self.stage.clip, recipe.precision, self.device)
        self.parts: list[dict[str, float]] = []
        """Of every training step so far, in seconds."""

    def measure(self, ledger: Ledger, meet: Meet) -> Findings:
        """Warm up, run both passes, each as a span of its own, and return what was found.

        Raises:
            ProfileError: the loss is not a number, so this is not training.
        """
        seconds, batch = self.configuration.seconds, self.recipe.batch
        whole = self.stage.batches or count_batches(self.train, batch)
        with ledger.span("warm-up"):
            warm = self._warm_up(self._train, _WARM_UP_SHARE * seconds)
            warm_evaluation = self._warm_up(self._evaluate, _WARM_UP_SHARE * seconds / 4)
        meet()
        self.parts.clear()
        with ledger.span("training"):
            training = self._timed("train_pass", self._train, whole, _TRAIN_SHARE * seconds, min(warm.seconds))
        with ledger.span("evaluation"):
            steps = count_batches(self.valid, batch)
            share = (1 - _TRAIN_SHARE) * seconds
            evaluation = self._timed("eval_pass", self._evaluate, steps, share, min(warm_evaluation.seconds))
        parts = self.parts
        facts = {"warm_up": warm.facts(), **training.facts(), **evaluation.facts(), "runs_on": f"torch {self.device}"}
        series = {"step": [each["step"] for each in parts]} | {f"step_{k}": [each[k] for each in parts] for k in PARTS}
        if self.device.type == "cpu":
            del series["step_transfer"]
        return Findings([*self._times(training, evaluation), *self._steps(parts)], facts, series, "training")

    def _times(self, training: _Pass, evaluation: _Pass) -> list[Value]:
        trained, evaluated = training.value(), evaluation.value()
        notes = (("training", trained.note), ("evaluation", evaluated.note))
        note = "; ".join(f"{name} {note}" for name, note in notes if note)
        amount = (
            self.stage.batches * self.recipe.batch if self.stage.batches else answers(self.train, self.recipe.batch)
        )
        low, high = self._interval(trained)
        counts = self.task.counts
        speed = amount / trained.number
        return [
            trained,
            low,
            high,
            evaluated,
            Measured("epoch", trained.number + evaluated.number, "s", "train_pass + eval_pass", note),
            Measured("throughput", speed, f"{counts}/s", f"{counts} / train_pass", trained.note),
        ]

    def _interval(self, trained: Measured) -> list[Value]:
        """Return the ends of the training pass's 95 % interval, from the spread of its steps."""
        steps = [each["step"] for each in self.parts]
        interval = stats.mean_interval(steps)
        if interval is None:
            why = f"{len(steps)} steps are too few for an interval"
            return [NotMeasured(f"train_pass_{end}", why) for end in ("low", "high")]
        scale = trained.number / statistics.fmean(steps)
        source = f"normal interval of the mean of {len(steps)} steps, 95 %"
        ends = zip(("low", "high"), interval, strict=True)
        return [Measured(f"train_pass_{end}", scale * seconds, "s", source) for end, seconds in ends]

    def _steps(self, parts: list[dict[str, float]]) -> list[Value]:
        found = stats.distribution("step", [each["step"] for each in parts], self.timer.clock.source, "steps")
        for name in PARTS:
            if name == "transfer" and self.device.type == "cpu":
                found.append(NotMeasured("step_transfer", "no transfer: the network is in host memory"))
                continue
            median = statistics.median(each[name] for each in parts)
            found.append(Measured(f"step_{name}", median, "s", f"{self.timer.clock.source}, {len(parts)} steps"))
        return found

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _batches(self, steps: int) -> Iterator[Batch]:
        """Yield the batches of an epoch's beginning, in the recipe's manner: a pass, or batches drawn at random."""
        generator = torch.Generator().manual_seed(self.recipe.seed)
        size, count = self.recipe.batch, len(self.train)
        if self.stage.batches is None:
            order = torch.randperm(count, generator=generator)
            shown = part(self.train, size, steps)
            yield from batches(shown, size, order[: len(shown)], self.device)
        else:
            for _ in range(steps):
                order = torch.randperm(count, generator=generator)[:size]
                yield from batches(self.train, size, order, self.device)

    def _train(self, steps: int) -> float:
        """Train `steps` steps from the start of the epoch; return the mean loss."""
        self.network.train()
        loss_sum, count = torch.zeros((), device=self.device), 0
        state: State | None = None
        done = []
        source = self._batches(steps)
        while (batch := self.timer.fetch(source)) is not None:
            before = self.task.carried(self.network, batch.x, state)
            loss, state, step = self.timer.run(batch, before)
            loss_sum += loss * step.answers
            count += step.answers
            done.append(step)
        mean = float(loss_sum) / count
        self.synchronise()
        self.parts += [step.seconds(self.timer.clock) for step in done]
        return mean

    def _evaluate(self, steps: int) -> float:
        split = part(self.valid, self.recipe.batch, steps)
        recipe = self.recipe
        return float(evaluate(self.network, self.task, split, recipe.batch, self.device, recipe.precision)["loss"])

    def _warm_up(self, run: Callable[[int], float], seconds: float) -> stats.WarmUp:
        # One step that takes longer than all the time given hides what a first step pays for.
        return stats.warm_up(lambda: self._seconds(run, 1), seconds, least=1)

    def _amount(self, name: str, steps: int, whole: int) -> float:
        """Return the share of `steps` steps in the whole pass, by its samples or words."""
        if name == "train_pass" and self.stage.batches:
            return steps / whole
        split, batch = self.train if name == "train_pass" else self.valid, self.recipe.batch
        return answers(part(split, batch, steps), batch) / answers(split, batch)

    def _timed(self, name: str, run: Callable[[int], float], whole: int, seconds: float, step: float) -> _Pass:
        """Run as much of a pass as was asked for or as the time allows, or all of it several times.

        Args:
            name: of the pass.
            run: runs over a number of steps.
            whole: steps of the whole pass.
            seconds: the time given.
            step: what one step is expected to take.
        """
        if self.configuration.max_steps is not None:
            steps, repeats = min(whole, self.configuration.max_steps), 1
        else:
            affordable = max(_FEWEST_STEPS, int(seconds / step))
            steps, repeats = min(whole, affordable), min(_MOST_PASSES, max(1, affordable // whole))
        share = self._amount(name, steps, whole)
        return _Pass(name, [self._seconds(run, steps) / share for _ in range(repeats)], steps, whole)

    def _seconds(self, run: Callable[[int], float], steps: int) -> float:
        self.synchronise()
        start = time.perf_counter()
        loss = run(steps)
        self.synchronise()
        seconds = time.perf_counter() - start
        if not math.isfinite(loss):
            raise ProfileError(f"the loss is {loss}, so this is not a valid training")
        return seconds
