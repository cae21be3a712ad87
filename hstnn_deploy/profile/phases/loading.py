"""Measure how fast a training split is loaded by each strategy, in turns, and say which to take.

Every round loads one epoch by each strategy, one after another, every other round backwards; the same samples in the
same shuffled batches. A round before them is thrown away: after it, all files lie in the system's page cache. Figures
are medians over rounds. With a recipe, every round also trains one epoch by each strategy: the same network from the
same weights, only the loader is another.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hstnn_deploy.data.events.strategies import first_difference
from hstnn_deploy.data.files.folder import Report
from hstnn_deploy.data.splits import Split
from hstnn_deploy.errors import ProfileError
from hstnn_deploy.models.network import State
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import layer_sizes
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.profile.phases.loaders import ABOUT, SHARE, Absent, NoRoom, Sizes, Strategy, free, plain
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.evaluation import batches, count_batches
from hstnn_deploy.train.loop import train_step
from hstnn_deploy.train.schedules import make_optimiser

MARGIN, TRAINING_MARGIN = 1.5, 1.05
"""How much faster another cache must be, in loading or in training, to be worth its memory."""

METHOD = (
    "one process; strategies in turns, every other round backwards; a first round is thrown away; medians; "
    "the page cache is warm: it is the work that is measured, not the disk"
)


@dataclass
class Row:
    """What was found of a strategy."""

    name: str
    strategy: Strategy | None
    reason: str = ""
    """Why it was not measured."""
    ready: float | None = None
    """Seconds to prepare it, once; None for a first epoch, which includes them."""
    epochs: list[float] = field(default_factory=list)
    """Seconds of an epoch of loading, per round."""
    passes: list[float] = field(default_factory=list)
    """Seconds of a training pass, per round."""
    loss: float | None = None
    """The mean loss of a training pass."""
    sizes: Sizes = field(default_factory=dict)

    @property
    def epoch(self) -> float | None:
        """The median of the epochs of loading."""
        return statistics.median(self.epochs) if self.epochs else None

    @property
    def training(self) -> float | None:
        """The median of the training passes."""
        return statistics.median(self.passes) if self.passes else None

    @property
    def option(self) -> str | None:
        """Which `--cache` it is, once that is filled; None where none is."""
        return self.strategy.option if self.strategy is not None and self.strategy.reset is None else None

    def held(self, scale: float) -> dict[str, float]:
        """Return the bytes in memory by place, times `scale`."""
        kept = ((place, self.sizes.get(place)) for place in ("host", "device"))
        return {place: scale * value.number for place, value in kept if isinstance(value, Measured)}


_Begin = Callable[[Callable[[], Split]], Callable[[], None]]
"""Is given what makes a split, or has it ready, and returns what goes through it once; only that is timed."""


class Advice(NamedTuple):
    """Which strategy to take."""

    take: str | None
    """The value of `--cache`; None where it changes nothing."""
    line: str


class Bench:
    """Strategies to load one split.

    Args:
        strategies: see `loaders`.
        count: samples that are loaded.
        whole: samples of the whole training split, for which the advice is given.
        batch: samples of a batch.
        device: where batches are wanted.
        training: the recipe of a network that is trained by each strategy, or None.
        report: told what is under way.
    """

    def __init__(
        self,
        strategies: list[Strategy | Absent],
        count: int,
        whole: int,
        batch: int,
        device: torch.device,
        training: Recipe | None,
        report: Report,
    ) -> None:
        self.rows = [
            Row(each.name, None, each.reason) if isinstance(each, Absent) else Row(each.name, each)
            for each in strategies
        ]
        self.count, self.whole, self.batch, self.device = count, whole, batch, device
        self.recipe, self._report = training, report
        self._order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
        self._ready: dict[str, Split] = {}
        self.batches = 0
        """Of an epoch."""
        self.rounds = 0
        """That were measured to their end."""

    def prepare(self) -> None:
        """Make every strategy ready, and see that all load the same.

        Raises:
            ProfileError: two load different batches.
            DataError: a recording is damaged.
        """
        for row, strategy in self._present():
            if strategy.reset is not None:
                continue
            self._report(f"preparing {row.name}")
            start = time.perf_counter()
            try:
                self._ready[row.name] = strategy.make()
            except NoRoom as error:
                row.strategy, row.reason = None, str(error)
                continue
            self._wait()
            row.ready = time.perf_counter() - start
        some = self._order[: self.batch]
        if len(self._ready) > 1 and (other := first_difference(self._ready, some, self.device)):
            raise ProfileError(
                f"{other} and {next(iter(self._ready))} load different batches, so they cannot be compared",
                "please report this, with the command you used",
            )
        self.batches = count_batches(next(iter(self._ready.values())), self.batch)

    def measure(self, repeats: int) -> None:
        """Measure `repeats` rounds after one that is discarded; `rows` has them whenever it is stopped."""
        for number in range(repeats + 1):
            what = f"round {number} of {repeats}" if number else "a discarded first round"
            order = list(self._present())
            for place, (row, strategy) in enumerate(order if number % 2 else reversed(order)):
                self._report(what, place, len(order), "strategies")
                seconds, split = self._timed(strategy, self._load)
                trained = self._timed(strategy, self._trained(row))[0] if self.recipe is not None else None
                if number:
                    row.epochs.append(seconds)
                    if trained is not None:
                        row.passes.append(trained)
                row.sizes = strategy.sizes(split)
            self.rounds = number

    def advice(self) -> Advice:
        """Return which strategy to take, judged by what was measured, for the whole split."""
        scale = self.whole / self.count
        trained = all(row.passes for row in self.rows if row.epochs) and self.recipe is not None
        there = {"host": free(torch.device("cpu")), "device": free(self.device)}
        return advise([row for row in self.rows if row.epochs], scale, trained, there, self.whole)

    def plain(self) -> dict[str, Any]:
        """Return everything measured as plain data."""
        naive = next((row.epoch for row in self.rows if row.name == "naive"), None)
        return {
            "samples": self.count,
            "samples_of": self.whole,
            "batch": self.batch,
            "batches": self.batches,
            "rounds": self.rounds,
            "method": METHOD,
            "strategies": [self._plain(row, naive) for row in self.rows],
        }

    def _plain(self, row: Row, naive: float | None) -> dict[str, Any]:
        facts: dict[str, Any] = {"name": row.name, "about": ABOUT[row.name]}
        if row.epoch is None:
            return facts | {"batches_per_second": None, "reason": row.reason or "interrupted before it was measured"}
        return facts | {
            "batches_per_second": self.batches / row.epoch,
            "over_naive": None if naive is None else naive / row.epoch,
            "epoch_seconds": row.epochs,
            "ready_seconds": row.ready,
            "bytes": plain(row.sizes),
            "train_seconds": row.passes or None,
            "train_loss": row.loss,
        }

    def _present(self) -> Iterator[tuple[Row, Strategy]]:
        for row in self.rows:
            if row.strategy is not None:
                yield row, row.strategy

    def _timed(self, strategy: Strategy, begin: "_Begin") -> tuple[float, Split]:
        """Return the seconds of one pass, in which a first epoch is made ready too, and the split it was over."""
        if strategy.reset is not None:
            strategy.reset()
            get = cache(strategy.make)
        else:
            get = cache(partial(self._ready.__getitem__, strategy.name))
        work = begin(get)
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - start, get()

    def _load(self, get: Callable[[], Split]) -> Callable[[], None]:
        def epoch() -> None:
            for _ in batches(get(), self.batch, self._order, self.device):
                pass

        return epoch

    def _trained(self, row: Row) -> "_Begin":
        """Return what makes a training pass of the recipe's network, fresh and always the same."""
        recipe = self.recipe
        assert recipe is not None

        def begin(get: Callable[[], Split]) -> Callable[[], None]:
            torch.manual_seed(recipe.seed)
            task = task_for(recipe.network, recipe.loss)
            network = build(recipe.network, layer_sizes(recipe.kind, recipe.network.units, recipe.ratio))
            network.to(self.device).train()
            stage = recipe.stage("adapt")
            optimiser = make_optimiser(stage, network)

            def run() -> None:
                state: State | None = None
                losses: list[Tensor] = []
                for batch in batches(get(), self.batch, self._order, self.device):
                    before = task.carried(network, batch.x, state)
                    loss, _, state = train_step(network, task, optimiser, stage.clip, batch, before, recipe.precision)
                    losses.append(loss)
                row.loss = float(torch.stack(losses).mean())
                if not math.isfinite(row.loss):
                    raise ProfileError(f"the loss is {row.loss}, so this is not a valid training")

            return run

        return begin

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def advise(rows: list[Row], scale: float, trained: bool, there: dict[str, int], whole: int) -> Advice:
    """Return which `--cache` to take: the one that asks for least of those that are about as fast as the fastest.

    Args:
        rows: those that were measured.
        scale: how many times as many samples the whole split has.
        trained: whether to judge by the training pass, not by loading alone.
        there: bytes of memory that are free, by place.
        whole: samples of the whole split.
    """
    found = {row.option: row for row in rows if row.option}
    # From what asks for least to what asks for most.
    ours = [found[option] for option in ("none", "disk", "memory", "device") if option in found]
    if not ours and not any(row.name == "as loaded" for row in rows):
        return Advice(None, "no advice: interrupted before any --cache was measured")
    if not ours:
        return Advice(None, "keep the default: there is one way to load this data set, so --cache changes nothing")

    def seconds(row: Row) -> float:
        value = row.training if trained else row.epoch
        assert value is not None
        return value

    def fits(row: Row) -> bool:
        return all(bytes <= SHARE * there[place] for place, bytes in row.held(scale).items())

    margin = TRAINING_MARGIN if trained else MARGIN
    able = [row for row in ours if fits(row)] or ours
    best = min(map(seconds, able))
    taken = next(row for row in able if seconds(row) <= margin * best)
    naive = next((row for row in rows if row.name == "naive"), None)
    of = " in training" if trained else ""
    line = f"use --cache {taken.option}"
    if naive is not None:
        line += f": {seconds(naive) / seconds(taken):.2g} times naive{of}"
    later = [row for row in rows if row.strategy is not None and row.strategy.reset is None]
    faster = [row for row in later if seconds(row) < seconds(taken)]
    if not faster:
        return Advice(taken.option, f"{line}; no other one is faster")
    other = min(faster, key=seconds)
    times = f"{seconds(taken) / seconds(other):.2g} times its speed"
    held = sum(other.held(scale).values())
    if not held:
        return Advice(taken.option, f"{line}; {other.name} has {times}")
    need = f"{other.name} would need {_size(held)} of memory for all {whole} samples, for {times}"
    return Advice(taken.option, f"{line}; {need}")


def _size(bytes: float) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if bytes >= one:
            return f"{bytes / one:.3g} {unit}"
    return f"{bytes / 1e3:.3g} kB"
