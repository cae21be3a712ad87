"""The three stages, each in a run folder of its own (see `stage_folder`): all ratios of a seed share the first two.

A finished stage of the same recipe is never done again.
"""

import math
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from hstnn_deploy import environment, files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.dataset import Cache
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.errors import RunError, UsageError
from hstnn_deploy.foreign import reading
from hstnn_deploy.metrics import shown
from hstnn_deploy.models.compensation import compensate
from hstnn_deploy.models.hybrid.network import as_hybrid
from hstnn_deploy.models.hybrid.shrink import shrink
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.rram import STEPS
from hstnn_deploy.models.sizes import Sizes, kept_counts, layer_sizes
from hstnn_deploy.models.tasks import Task, task_for
from hstnn_deploy.recipe.load import for_its_data
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train import loop
from hstnn_deploy.train.beginnings import (
    check_begun_from,
    first_network,
    keep_selection,
    other_start,
    rram_networks,
    stage_folder,
)
from hstnn_deploy.train.evaluation import PROTOCOLS, Figures, evaluate
from hstnn_deploy.train.loading import for_training
from hstnn_deploy.train.loop import Fit
from hstnn_deploy.train.observer import Observer
from hstnn_deploy.train.ranking import SelectionResult, select
from hstnn_deploy.train.ranks import ALONE, Ranks
from hstnn_deploy.train.traces import (
    load_samples,
    load_traces,
    probe_products,
    rademacher,
    ranked_groups,
    save_traces,
    selection_batch,
)

StageName = Literal["adapt", "traces", "select", "restore", "baseline", "vat", "recover", "prune", "all"]
"""`traces` is the part of `select` that all ratios share; the last four are steps of weights on devices."""

_SAVE_EVERY = 20.0
"""Seconds between saves of the traces under way."""


def train(
    recipe: Recipe,
    out: Path | str = "runs",
    *,
    stage: StageName = "all",
    device: torch.device | str = "cpu",
    data_folder: Path | None = None,
    cache: Cache = "disk",
    resume: bool = False,
    observer: Observer | None = None,
    ranks: Ranks = ALONE,
    graphs: bool = True,
    vat: Path | None = None,
    test_curve: bool = False,
) -> list[RunFolder]:
    """Run a training, or one stage of it; return the run folders of the stages it consists of, in order.

    Args:
        recipe: what to train.
        out: where the run folders go.
        stage: which stage.
        device: where it is computed.
        data_folder: the data folder; None: the usual one.
        cache: where prepared recordings are kept.
        resume: whether to continue an unfinished run.
        observer: what is told how it goes.
        ranks: the processes that train together.
        graphs: whether what repeats on a GPU is replayed as CUDA graphs.
        vat: of the steps recover and prune, the run folder of the RRAM network; None: that beside their own.
        test_curve: whether metrics.jsonl gets the test split's figures of every epoch; no epoch is chosen by them.

    Raises:
        UsageError: a stage that the kind lacks, a ratio that leaves a kind too few units, or an idle `vat`.
        DataError: the data set is missing or damaged.
        RunError: a run folder cannot be written, continued, or belongs to another recipe.
    """
    training = Training(
        for_its_data(recipe),
        Path(out),
        torch.device(device),
        data_folder,
        cache,
        resume,
        observer or Observer(),
        ranks,
        graphs,
        vat,
        test_curve,
    )
    done = training.run(stage)
    # The other ranks have nothing left to assist with.
    ranks.share(None)
    return done


def assist(ranks: Ranks, device: torch.device, data_folder: Path | None, cache: Cache) -> None:
    """Be another rank than 0, of a training that rank 0 runs with `train`; see `loop.assist`."""

    def splits(recipe: Recipe) -> Splits:
        return Training(recipe, Path(), device, data_folder, cache, False, Observer()).splits()

    loop.assist(ranks, device, splits)


@dataclass
class Training:
    """One recipe's stages; what they share is loaded once."""

    recipe: Recipe
    out: Path
    device: torch.device
    data_folder: Path | None
    cache: Cache
    resume: bool
    observer: Observer
    ranks: Ranks = ALONE
    graphs: bool = True
    """Whether what repeats on a GPU is replayed as CUDA graphs."""
    vat: Path | None = None
    """The run folder of the RRAM network of a step with an SRAM part; None: that beside its own."""
    test_curve: bool = False
    """Whether the test split is measured after every epoch too."""
    task: Task = field(init=False)
    _splits: Splits | None = None

    def __post_init__(self) -> None:
        self.task = task_for(self.recipe.network, self.recipe.loss)
        self.observer.counts = self.task.counts

    def run(self, stage: StageName) -> list[RunFolder]:
        """Run a stage, or all that the kind has."""
        recipe = self.recipe
        if self.vat is not None and (recipe.step is None or stage not in {"recover", "prune"}):
            raise UsageError(
                f"stage {stage!r} does not start from an RRAM network, but --vat names {self.vat}",
                "use --vat with --stage recover or --stage prune",
            )
        if recipe.init is not None and (kept := self._from_init(stage)) is not None:
            return kept
        if recipe.step is not None:
            return self._on_devices(stage)
        if stage in STEPS:
            raise UsageError(
                f"stage {stage!r} needs weights on devices, but this recipe has none",
                "Recipe.on_devices adds them; see docs/rram.md",
            )
        if recipe.kind != "hybrid":
            if recipe.kind == "plain" and stage != "all":
                raise UsageError(
                    f"a plain network has no stage {stage!r}", "leave --stage out: its only stage is train"
                )
            if stage not in {"all", "adapt"}:
                raise UsageError(
                    f"kind {recipe.kind} has no stage {stage!r}", "only hybrid networks have selection and restoration"
                )
            sizes = layer_sizes(recipe.kind, recipe.network.units, recipe.ratio)
            return [self._fit("train", self.folder("train"), lambda: self._fresh(sizes), None)]
        kept_counts(recipe.network.units, recipe.ratio)
        done = []
        if stage in {"all", "adapt"}:
            sizes = layer_sizes("hybrid", recipe.network.units, recipe.ratio)
            done.append(self._fit("adapt", self.folder("adapt"), lambda: self._fresh(sizes), None))
        if stage in {"all", "traces", "select"}:
            done.append(self._traces())
        if stage in {"all", "select"}:
            done.append(self._select())
        if stage in {"all", "restore"}:
            done.append(self._restore())
        return list({run.path: run for run in done}.values())

    def _from_init(self, stage: StageName) -> list[RunFolder] | None:
        """Continue training an existing network in its own stage; return None if another stage is requested.

        Only an adapted network has stages after its own.
        """
        begun = first_network(self.recipe, stage)
        if begun.stage == "adapt" and stage in {"traces", "select", "restore"}:
            return None

        def make() -> Network:
            torch.manual_seed(self.recipe.seed)  # of what training draws, whatever was done before
            if begun.vocabulary:
                self._check_vocabulary(begun, Path(begun.source))
            return begun.network().train()

        run = self._fit(begun.stage, self.folder(begun.stage), make, begun.selection, begun.origin)
        keep_selection(begun, run)
        if begun.stage == "adapt" and stage == "all":
            return list({each.path: each for each in (run, self._traces(), self._select(), self._restore())}.values())
        return [run]

    def _on_devices(self, stage: StageName) -> list[RunFolder]:
        """Run a step of weights on devices, or all of them."""
        if stage != "all" and stage not in STEPS:
            raise UsageError(
                f"weights on devices have no stage {stage!r}", f"their steps are {', '.join(STEPS)}, or all of them"
            )
        recipes = [self.recipe.at_step(step) for step in (STEPS if stage == "all" else (stage,))]
        # Before anything is trained: what is wrong with a later step.
        for recipe in recipes:
            other_start(recipe)
        done = []
        for recipe in recipes:
            own = replace(self, recipe=recipe)
            own._splits = self._splits
            # Checked before the folder is begun: a missing network is not a failure of this step.
            before = rram_networks(recipe, self.out, self.vat)
            check_begun_from(own.folder("train"), before)
            done.append(own._fit("train", own.folder("train"), partial(own._for_step, before), None))
            self._splits = own._splits
            if recipe.step == "prune" and (zeros := Checkpoint.load(done[-1].best).network().sparsity()):
                shares = f"{100 * zeros[0]:.1f} % of the SRAM weights and {100 * zeros[1]:.1f} % of their groups"
                self.observer.note(f"prune: {shares} are zero")
        return done

    def _for_step(self, before: list[Checkpoint]) -> Network:
        """Return the network that a step of weights on devices begins with."""
        network = self._fresh([])
        if before:
            compensate(network, *(each.network() for each in before))
        return network

    def folder(self, stage: str) -> RunFolder:
        """Return the folder of a stage."""
        return stage_folder(self.recipe, self.out, stage)

    def splits(self) -> Splits:
        """Return the data, loaded on first use.

        Raises: see `for_training`.
        """
        if self._splits is None:
            self._splits = for_training(self.recipe, self.data_folder, self.cache, self.observer)
        return self._splits

    def _check_vocabulary(self, earlier: Checkpoint, path: Path) -> Checkpoint:
        """Refuse a checkpoint of another vocabulary than the data has now: its words would mean something else."""
        if earlier.vocabulary != self.splits().vocabulary:
            raise RunError(
                f"{path} was trained with another vocabulary than {self.recipe.data_called} has now",
                "restore the text it was trained on, or give another folder with --out",
            )
        return earlier

    def _fresh(self, sizes: list[Sizes]) -> Network:
        torch.manual_seed(self.recipe.seed)
        return build(self.recipe.network, sizes)

    def _fit(
        self,
        stage: str,
        run: RunFolder,
        make: Any,
        selection: dict[str, Any] | None,
        origin: dict[str, Any] | None = None,
    ) -> RunFolder:
        """Train one network to the end of its stage, and measure its best epoch on the test split."""
        recipe = self.recipe
        run.check_recipe(recipe.for_stage(stage), recipe.upgraded)
        if run.finished:
            self.observer.note(f"{recipe.step or stage}: already finished in {run.path}")
            return run
        splits = self.splits()
        if recipe.against:
            loop.check_against(recipe, self.task, splits)
            self.observer.note(f"trained {recipe.disturbed}")
        facts = environment.describe(str(self.device)) | {"processes": self.ranks.size}
        self._check_environment(run, facts)
        # What was typed tells nothing of the network: it is no part of the checkpoint.
        written = facts | {"command": environment.command()}
        with run.open(recipe.for_stage(stage), written, self.resume, recipe.upgraded):
            files.write_text(run.path / "recipe.yaml", recipe.yaml())
            if run.last.exists():
                self._check_vocabulary(Checkpoint.load(run.last), run.last)
            network = make()
            header = Checkpoint(
                recipe=recipe.dump(),
                architecture=recipe.network,
                stage=stage,
                sizes=network.sizes,
                parameters={},
                epoch=0,
                metrics={},
                selection=selection,
                environment=facts,
                vocabulary=splits.vocabulary,
                origin=origin,
            )
            plan = recipe.stage(stage)
            fit = Fit(
                network,
                self.task,
                splits,
                plan,
                recipe.batch,
                recipe.seed,
                self.device,
                run,
                header,
                self.observer,
                recipe.precision,
                self.ranks,
                self.graphs,
                self.test_curve,
            )
            best = fit.run_epochs()
            self._judge(best, run)
        return run

    def _judge(self, best: Checkpoint, run: RunFolder) -> None:
        """Measure the best epoch on the test split, and write the result into the checkpoint and the status."""
        protocol, precision = self.recipe.protocol, self.recipe.precision
        network = best.network().to(self.device)
        # Of what is drawn while evaluating: the same whether or not the training was interrupted before.
        torch.manual_seed(self.recipe.seed)
        figures = Figures(self.recipe.metrics, self.task)
        split, size = self.splits().test, self.recipe.batch
        test = evaluate(network, self.task, split, size, self.device, precision, shown=figures.take)
        test |= figures.plain()
        if not math.isfinite(test["loss"]):
            raise RunError(f"the test loss is {test['loss']}", "lower the learning rate or clip the gradient")
        best.metrics |= {"test": test, "protocol": protocol, "precision": precision}
        best.save(run.best)
        run.set_status("finished", result={"epoch": best.epoch, **best.metrics})
        figure = f"{self.task.metric} {shown(self.task.metric, test[self.task.metric])}{self.task.unit}"
        self.observer.stage_finished(
            f"{self.recipe.step or best.stage}: best epoch {best.epoch}, "
            f"test {figure} ({PROTOCOLS[protocol]}; {precision})"
        )

    def _check_environment(self, run: RunFolder, now: dict[str, Any]) -> None:
        if not (self.resume and (before := run.environment())):
            return
        for change in environment.changes(before, now):
            self.observer.note(f"{change}: the result may differ from that of an uninterrupted run")

    def _adapted(self) -> Checkpoint:
        run = self.folder("adapt")
        run.check_recipe(self.recipe.for_stage("adapt"), self.recipe.upgraded)
        if not run.finished:
            raise RunError(
                f"there is no finished adaptation in {run.path}", "run --stage adapt first, or --stage all (--resume)"
            )
        return self._check_vocabulary(Checkpoint.load(run.best), run.best)

    def _traces(self) -> RunFolder:
        """Compute the Hessian traces of the adapted network, saving them as they come."""
        recipe, run = self.recipe, self.folder("traces")
        run.check_recipe(recipe.for_stage("traces"), recipe.upgraded)
        if run.finished:
            self.observer.note(f"traces: already finished in {run.path}")
            return run
        adapted, splits = self._adapted(), self.splits()
        facts = environment.describe(str(self.device))
        with run.open(recipe.for_stage("traces"), facts, self.resume, recipe.upgraded):
            files.write_text(run.path / "recipe.yaml", recipe.yaml())
            network = adapted.network().to(self.device)
            groups = ranked_groups(network)
            batch = selection_batch(recipe, splits.train, self.device)
            samples = load_samples(run, groups)
            total = recipe.selection.probes
            self.observer.probes_started("select", total, len(samples))
            saved = time.monotonic()

            def done(sums: torch.Tensor) -> None:
                nonlocal saved
                samples.append(sums)
                self.observer.probe_done(len(samples))
                if time.monotonic() - saved > _SAVE_EVERY:
                    save_traces(run, groups, samples)
                    saved = time.monotonic()

            probes = (rademacher(groups, recipe.seed, number) for number in range(len(samples), total))
            probe_products(network, groups, self.task, batch, probes, done, self.observer.note if self.graphs else None)
            save_traces(run, groups, samples)
            run.set_status("finished", result={"probes": len(samples), self.task.counts: self.task.answers(batch)})
        return run

    def _select(self) -> RunFolder:
        """Rank for the ratio and write selection.json."""
        recipe, run = self.recipe, self.folder("restore")
        run.check_recipe(recipe.for_stage("restore"), recipe.upgraded)
        if run.selection.exists():
            self.observer.note(f"selection: already in {run.selection}")
            return run
        traces = load_traces(self.folder("traces"), layer_sizes("hybrid", recipe.network.units, recipe.ratio))
        run.claim_recipe(recipe.for_stage("restore"), recipe.upgraded)
        counts = kept_counts(recipe.network.units, recipe.ratio)
        result = select(traces, counts, recipe.ratio, recipe.selection.bootstraps, recipe.seed)
        files.write_json(run.selection, result.model_dump(mode="json"))
        kept = ", ".join(f"layer {unit.layer} {unit.kind} {len(unit.kept)}" for unit in result.units)
        self.observer.stage_finished(
            f"select: kept {counts.snn} spiking and {counts.rnn} recurrent units ({kept}); "
            f"a kept unit is kept again in {100 * result.mean_stability_of_kept:.0f} % of bootstraps on average"
        )
        return run

    def _restore(self) -> RunFolder:
        run = self.folder("restore")
        if not run.selection.exists():
            raise RunError(
                f"there is no selection for ratio {self.recipe.ratio:g} in {run.path}",
                "run --stage select first, or --stage all",
            )
        sizes = layer_sizes("hybrid", self.recipe.network.units, self.recipe.ratio)
        again = "remove it and run --stage select again"
        with reading(run.selection, "a selection from this network", RunError, again, says=False):
            selection = SelectionResult.model_validate_json(run.selection.read_bytes())
            selection.check_fits(sizes)

        def make() -> Network:
            network = shrink(as_hybrid(self._adapted().network()), selection.kept())
            self.observer.note(f"restore: units per layer (snn, rnn): {[tuple(size) for size in network.sizes]}")
            return network

        return self._fit("restore", run, make, selection.summary())
