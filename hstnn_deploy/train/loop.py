"""The epoch loop: train, evaluate, keep the best epoch, and stop and resume between any two epochs.

On the CPU a seed fixes the result to the bit (at the same thread count and torch version), interrupted or not: the
order of samples in epoch e depends on the seed and e alone, and last.pt holds the optimiser's state.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.splits import Batch, Split, Splits
from hstnn_deploy.disturbances.training import Against
from hstnn_deploy.errors import CheckpointError, RunError
from hstnn_deploy.models.activity import Activity
from hstnn_deploy.models.network import Network, State
from hstnn_deploy.models.precision import Precision, forward, products
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import layer_sizes
from hstnn_deploy.models.tasks import Task, task_for
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.recipe.sections import Regularise, Stage
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.capture import Gradients
from hstnn_deploy.train.doubts import RATE, Doubts, constant_loss
from hstnn_deploy.train.evaluation import count_batches, evaluate, parts
from hstnn_deploy.train.observer import Observer, Observers, Within
from hstnn_deploy.train.penalty import Penalty
from hstnn_deploy.train.ranks import ALONE, Ranks, watched
from hstnn_deploy.train.schedules import check_state, descend, make_optimiser, make_scaler, make_schedule

Step = tuple[Tensor, Tensor, State]
"""What a step returns: the batch's mean loss, how many answers were right, and the state after it."""
Disturbed = AbstractContextManager[None]
"""Disturbs a step; see `Against.step`."""


@dataclass
class Fit:
    """One stage of training of one network, in one run folder."""

    network: Network
    task: Task
    splits: Splits
    stage: Stage
    batch: int
    seed: int
    device: torch.device
    run: RunFolder
    header: Checkpoint
    """The common content of every checkpoint of this stage; parameters and metrics are filled in here."""
    observer: Observer
    precision: Precision = "fp32"
    ranks: Ranks = ALONE
    graphs: bool = False
    """Whether steps on a GPU are replayed as a CUDA graph; see `Trainer`."""
    test_curve: bool = False
    """Whether the test split is measured after every epoch too; no epoch is chosen by it."""

    def run_epochs(self) -> Checkpoint:
        """Train what is left of the stage and return the best epoch's checkpoint.

        Raises:
            RunError: the loss or a parameter is no longer a number, a file cannot be written, or another rank ended.
        """
        self.network.to(self.device)
        optimiser = make_optimiser(self.stage, self.network)
        schedule = make_schedule(self.stage, optimiser, self.task.higher_is_better)
        scaler = make_scaler(self.precision, self.device)
        done, best = self._restore(optimiser, schedule, scaler)
        self.run.keep_metrics(done)
        self.run.set_status("running", epoch=done, epochs=self.stage.epochs, best=best, within=None)
        self.observer.stage_started(self.header.resolved_recipe().step or self.header.stage, self.stage.epochs, done)
        doubts = self._doubts()
        trainer = self._trainer(optimiser, scaler)
        for epoch in range(done + 1, self.stage.epochs + 1):
            rates = [group["lr"] for group in optimiser.param_groups]
            self.ranks.share((epoch, rates, self.test_curve))
            row = self._epoch(epoch, optimiser, trainer)
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(row[f"valid_{self.task.metric}"])
            elif schedule is not None:
                schedule.step()
            for warning in doubts.look(row):
                self.observer.note(warning)
            row["best"] = best is None or _better(row, best, self.task)
            if row["best"]:
                best = row
                self._checkpoint(epoch, row).save(self.run.best)
            self.run.add_metrics(row)
            last = self._checkpoint(epoch, row)
            last.training = {
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict() if schedule else None,
                "best": best,
            } | ({"scaler": scaler.state_dict()} if scaler else {})
            last.save(self.run.last)
            self.run.set_status("running", epoch=epoch, epochs=self.stage.epochs, best=best, within=None)
            self.observer.epoch_done(row)
        self.ranks.share(None)
        return Checkpoint.load(self.run.best)

    def _trainer(self, optimiser: torch.optim.Optimizer, scaler: GradScaler | None) -> "Trainer":
        """Return what trains here and, told so, on the other ranks."""
        if self.ranks.size > 1:
            begun = self._checkpoint(0, {})
            self.ranks.share((begun.model_dump(), optimiser.state_dict(), scaler.state_dict() if scaler else None))
        return Trainer(
            self.network,
            self.task,
            self.splits,
            self.stage,
            self.batch,
            self.seed,
            self.device,
            self.precision,
            optimiser,
            self.ranks,
            self.graphs,
            self.header.resolved_recipe().regularise,
            scaler,
            looked=self.run.add_step,
            against=against(self.header.resolved_recipe(), self.network, self.task, self.splits),
        )

    def _doubts(self) -> Doubts:
        """Return what looks at the epochs; it knows those that are done already, and does not repeat their warnings."""
        doubts = Doubts(self.header.resolved_recipe().network.neuron, constant_loss(self.task, self.splits))
        for row in self.run.metrics():
            doubts.look(row)
        return doubts

    def _restore(
        self, optimiser: torch.optim.Optimizer, schedule: LRScheduler | None, scaler: GradScaler | None
    ) -> tuple[int, dict[str, Any] | None]:
        """Resume from last.pt; return the epochs done and the best row so far."""
        if not self.run.last.exists():
            return 0, None
        last = Checkpoint.load(self.run.last)
        if last.training is None:
            raise CheckpointError(f"{self.run.last} has no optimiser state, so training cannot resume from it")
        try:
            self.network.load_state_dict(last.parameters)
            optimiser.load_state_dict(last.training["optimiser"])
            check_state(optimiser)
            best = last.training["best"]
            if best is not None:
                _better(best, best, self.task)  # raises where it holds no numbers to compare with
            if schedule is not None:
                schedule.load_state_dict(last.training["schedule"])
            if scaler is not None:
                scaler.load_state_dict(last.training["scaler"])
            return last.epoch, best
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{self.run.last} does not fit this training, so training cannot resume from it",
                "remove the run folder, or give another with --out",
            ) from error

    def _checkpoint(self, epoch: int, row: dict[str, Any]) -> Checkpoint:
        parameters = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        return self.header.model_copy(update={"parameters": parameters, "epoch": epoch, "metrics": {"valid": row}})

    def _epoch(self, epoch: int, optimiser: torch.optim.Optimizer, trainer: "Trainer") -> dict[str, Any]:
        start = time.perf_counter()
        train_loss, correct, count = trainer.train(
            epoch, Observers([self.observer, Within(lambda it: self.run.set_status("running", within=it))])
        )
        trained = time.perf_counter()
        held = trainer.evaluate()
        validated = time.perf_counter()
        _check_finite(train_loss, held["loss"], epoch)
        self._check_parameters(epoch)
        test = trainer.evaluate(self.splits.test) if self.test_curve else {}
        return {
            "epoch": epoch,
            "train_loss": train_loss,
            f"train_{self.task.metric}": self.task.score(train_loss, correct, count),
            "valid_loss": held["loss"],
            f"valid_{self.task.metric}": held[self.task.metric],
            **{key: value for key, value in held.items() if key.startswith(RATE)},
            "lr": optimiser.param_groups[0]["lr"],
            "train_seconds": round(trained - start, 4),
            "valid_seconds": round(validated - trained, 4),
            **{f"test_{key}": test[key] for key in ("loss", self.task.metric) if key in test},
        }

    def _check_parameters(self, epoch: int) -> None:
        """Refuse NaN and infinite parameters: a spiking network may still have a finite loss."""
        for name, value in self.network.named_parameters():
            if not torch.isfinite(value).all():
                raise RunError(f"{name} contains NaN or infinity after epoch {epoch}", _CALM)


_CALM = "lower the learning rate or clip the gradient"


def _check_finite(training: float, validation: float, epoch: int) -> None:
    for name, mean in (("training", training), ("validation", validation)):
        if not math.isfinite(mean):
            raise RunError(f"the {name} loss is {mean} in epoch {epoch}", _CALM)


@dataclass
class Trainer:
    """One network at one rank: its passes over the splits."""

    network: Network
    task: Task
    splits: Splits
    stage: Stage
    batch: int
    seed: int
    device: torch.device
    precision: Precision
    optimiser: torch.optim.Optimizer
    ranks: Ranks = ALONE
    graphs: bool = False
    """Whether steps on a GPU are replayed as a CUDA graph; several ranks' never are."""
    regularise: Regularise | None = None
    scaler: GradScaler | None = None
    """Of gradients, in half precision."""
    looked: Callable[[dict[str, Any]], None] = lambda _: None
    """Hears what was measured within an epoch: `train_` figures are means since the epoch's start."""
    against: Against | None = None
    """What training passes are disturbed by."""

    def __post_init__(self) -> None:
        self.model = self.ranks.joined(self.network)
        self._gradients: Gradients | None = None
        asked = self.regularise is not None or self.network.weight_penalty() is not None
        self._penalty = Penalty(self.network, self.regularise) if asked else None

    def train(self, epoch: int, observer: Observer) -> tuple[float, float, int]:
        """Do a training pass; return the mean loss, and how many answers were right of how many, on all ranks.

        Each rank's part of a batch weighs by its share, so that a step is that of the whole batch.
        """
        self.network.train()
        ranks, stage = self.ranks, self.stage
        generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
        # For whatever draws from the global generator (dropout): a resumed epoch draws the same, each rank its own.
        torch.manual_seed((_mix(self.seed, epoch) + (ranks.rank << 40)) % 2**63)
        split = self.splits.train if self.against is None else self.against.split(epoch)
        size, number = self.batch, count_batches(split, self.batch)
        if stage.batches is not None:
            size, number = min(size, len(split)), stage.batches
        order = _order(len(split), size, stage.batches, generator)
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros(1, device=self.device, dtype=torch.float64)
        count = torch.zeros(1, device=self.device, dtype=torch.long)
        state: State | None = None
        for index, (batch, share) in enumerate(parts(split, size, order, self.device, ranks), 1):
            before = self.task.carried(self.network, batch.x, state)
            disturbed = nullcontext() if self.against is None else self.against.step(epoch, index)
            loss, right, state = self._step(batch, before, share * ranks.size, observer, disturbed)
            answers = self.task.answers(batch)
            if share:
                loss_sum += loss * answers
                correct += right
                count += answers
            observer.batch_done(epoch, index, number, round(answers / share) if share else 0)
            if stage.evaluate_every and index % stage.evaluate_every == 0 and index < number:
                self._look((epoch, index, number), loss_sum, correct, count)
        ranks.sum(loss_sum, correct, count)
        return float(loss_sum) / int(count), float(correct), int(count)

    def _look(self, at: tuple[int, int, int], loss: Tensor, correct: Tensor, count: Tensor) -> None:
        """Measure the validation split within an epoch; training continues as if nothing had been measured."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            held = self.evaluate()
        self.network.train()
        sums = [each.clone() for each in (loss, correct, count)]
        self.ranks.sum(*sums)
        mean = float(sums[0]) / int(sums[2])
        _check_finite(mean, held["loss"], at[0])
        row = {
            **dict(zip(("epoch", "batch", "batches"), at, strict=True)),
            "train_loss": mean,
            f"train_{self.task.metric}": self.task.score(mean, float(sums[1]), int(sums[2])),
            "valid_loss": held["loss"],
            f"valid_{self.task.metric}": held[self.task.metric],
            **{key: value for key, value in held.items() if key.startswith(RATE)},
        }
        self.looked(row)

    def _step(
        self, batch: Batch, before: State | None, weight: float, observer: Observer, disturbed: Disturbed
    ) -> Step:
        clip, optimiser = self.stage.clip, self.optimiser
        plain = self._penalty is None and self.scaler is None and self.against is None
        if self.graphs and plain and self.device.type == "cuda" and self.ranks.size == 1:
            if self._gradients is None:
                self._gradients = Gradients(self.network, self.task, self.precision, observer.note)
            if self._gradients.fits(batch, before):
                done = self._gradients(batch, before)
                descend(self.network, optimiser, clip)
                return done
        with watched():
            return train_step(
                *(self.model, self.task, optimiser, clip, batch, before, self.precision, weight),
                penalty=self._penalty,
                scaler=self.scaler,
                disturbed=disturbed,
            )

    def evaluate(self, split: Split | None = None) -> dict[str, Any]:
        """Return what `evaluation.evaluate` says of a split (of validation by default), and each layer's spike rate."""
        split = self.splits.valid if split is None else split
        with Activity(self.network) as activity:
            held = evaluate(self.network, self.task, split, self.batch, self.device, self.precision, self.ranks)
        self.ranks.sum(activity.counts)
        return held | {f"{RATE}{number}": rate for number, rate in activity.rates().items()}


def assist(ranks: Ranks, device: torch.device, splits: Callable[[Recipe], Splits]) -> None:
    """Train along with rank 0 until it reports that everything is done.

    Args:
        ranks: this rank, which is not rank 0.
        device: where it computes.
        splits: returns the data of a recipe.

    Raises:
        RunError: another rank ended.
    """
    while begun := ranks.share(None):
        header, optimised, scaled = Checkpoint(**begun[0]), begun[1], begun[2]
        recipe, network = header.resolved_recipe(), header.network().to(device)
        stage = recipe.stage(header.stage)
        optimiser = make_optimiser(stage, network)
        optimiser.load_state_dict(optimised)
        trainer = Trainer(
            network,
            task_for(recipe.network, recipe.loss),
            splits(recipe),
            stage,
            recipe.batch,
            recipe.seed,
            device,
            recipe.precision,
            optimiser,
            ranks,
            regularise=recipe.regularise,
            scaler=make_scaler(recipe.precision, device),
        )
        trainer.against = against(recipe, network, trainer.task, trainer.splits)
        if trainer.scaler is not None:
            trainer.scaler.load_state_dict(scaled)
        while epoch := ranks.share(None):
            number, rates, test_curve = epoch
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate
            trainer.train(number, Observer())
            trainer.evaluate()
            if test_curve:
                trainer.evaluate(trainer.splits.test)


def against(recipe: Recipe, network: Network, task: Task, splits: Splits) -> Against | None:
    """Return what a recipe's training is disturbed by; None: nothing.

    Raises:
        UsageError: a disturbance does not fit the network or the data.
    """
    if not recipe.against:
        return None
    return Against(recipe.against, network, task, splits.train, recipe.data, recipe.seed)


def check_against(recipe: Recipe, task: Task, splits: Splits) -> None:
    """Refuse what `against` refuses, before anything is trained: no weight is made."""
    with torch.device("meta"):
        network = build(recipe.network, layer_sizes(recipe.kind, recipe.network.units, recipe.ratio))
    against(recipe, network, task, splits)


def train_step(
    network: nn.Module,
    task: Task,
    optimiser: torch.optim.Optimizer,
    clip: float | None,
    batch: Batch,
    state: State | None = None,
    precision: Precision = "fp32",
    weight: float = 1.0,
    penalty: Penalty | None = None,
    scaler: GradScaler | None = None,
    disturbed: Disturbed | None = None,
) -> Step:
    """Do one optimiser step on one batch.

    Args:
        network: the network, or what joins it with other ranks'.
        task: its loss.
        optimiser: of its parameters.
        clip: the largest norm of the whole gradient, or None.
        batch: the batch.
        state: what it starts from; None for zeros.
        precision: in which precision the pass computes.
        weight: of the batch's loss in the step.
        penalty: what is added to the loss for spikes.
        scaler: of gradients that half precision could not hold.
        disturbed: what the forward and the backward pass are within, but not the change of the parameters.

    Returns:
        Its mean loss and how many answers were right, without gradients, and the state after it.
    """
    optimiser.zero_grad(set_to_none=True)
    with disturbed or nullcontext(), products(precision):
        with forward(precision, batch.x.device), penalty or nullcontext():
            output, after = network(batch.x, state, batch.lengths)
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        loss = task.loss(output, batch.target, len(batch.x))
        whole = loss if penalty is None else loss + penalty.value()
        whole = whole if weight == 1 else whole * weight
        (whole if scaler is None else scaler.scale(whole)).backward()
    descend(network, optimiser, clip, scaler)
    with torch.no_grad():
        return loss.detach(), task.correct(output, batch.target), after


def _order(samples: int, size: int, batches: int | None, generator: torch.Generator) -> Tensor:
    """Return the numbers of an epoch's samples in order: all of them once, or `batches` random batches of `size`.

    Batches are drawn independently; a batch never holds a sample twice.
    """
    if batches is None:
        return torch.randperm(samples, generator=generator)
    return torch.cat([torch.randperm(samples, generator=generator)[:size] for _ in range(batches)])


def _mix(seed: int, epoch: int) -> int:
    """Return a generator seed for an epoch: distinct for every pair, whatever the seeds."""
    return (seed * 1_000_003 + epoch) % 2**63


def _better(row: dict[str, Any], best: dict[str, Any], task: Task) -> bool:
    """Whether an epoch beats the best: a better metric, or the same one at a lower loss (small splits tie often)."""
    key, sign = f"valid_{task.metric}", 1 if task.higher_is_better else -1
    return (sign * row[key], -row["valid_loss"]) > (sign * best[key], -best["valid_loss"])
