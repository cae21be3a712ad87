"""From recipes to a graph of jobs: one stage of one recipe each, and which others it waits for.

A job is known by the hash of what its result depends on (`Recipe.for_stage`), so all ratios of a seed share one
adaptation and its traces, and a changed hyper-parameter is another job. So do recoveries and prunings of weights on
devices share the RRAM network that they start from.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import hstnn_deploy
from hstnn_deploy.errors import RunError, UsageError
from hstnn_deploy.models.sizes import kept_counts, layer_sizes
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.runs import RunFolder, differences
from hstnn_deploy.train.beginnings import stage_folder
from hstnn_deploy.train.stages import StageName

_ARGUMENTS: dict[str, StageName] = {"train": "all", "adapt": "adapt", "traces": "traces", "restore": "all"}
"""What `hstnn train --stage` is called for a job; a restoration ranks for its ratio first."""


@dataclass(frozen=True)
class Job:
    """One stage of one recipe: what one process does."""

    recipe: Recipe
    stage: str
    """`train`, `adapt`, `traces` or `restore`; each has a run folder of its own."""
    out: Path
    needs: tuple[str, ...] = ()
    """The identities of the jobs that must be done before."""
    rram: Recipe | None = None
    """Of a step of weights on devices that starts from an RRAM network: the recipe of that."""

    @cached_property
    def identity(self) -> str:
        """The hash of all that the result depends on, but for the machine."""
        text = json.dumps(self.recipe.for_stage(self.stage), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def run(self) -> RunFolder:
        """Where the result is, or will be."""
        return stage_folder(self.recipe, self.out, self.stage)

    @property
    def name(self) -> str:
        """The run folder's path below `out`: recipe, kind, seed, and the stage or ratio of a hybrid."""
        return str(self.run.path.relative_to(self.out))

    @property
    def argument(self) -> StageName:
        """The stage that this process trains."""
        return self.recipe.step or _ARGUMENTS[self.stage]

    @property
    def words(self) -> list[str]:
        """The words that tell `hstnn train` its stage: none for all, which would put a stack's weights on devices."""
        return [] if self.argument == "all" else ["--stage", self.argument]

    @property
    def vat(self) -> RunFolder | None:
        """Where the RRAM network is that it starts from, if any."""
        return None if self.rram is None else stage_folder(self.rram, self.out, "train")

    @property
    def steps(self) -> int:
        """Epochs, or Hessian probes."""
        match self.stage:
            case "traces":
                return self.recipe.selection.probes
            case _:
                return self.recipe.stage(self.stage).epochs


def plan(recipes: Sequence[Recipe], out: Path) -> list[Job]:
    """Return the jobs that the recipes consist of, each once, every job after those that it needs.

    Nothing is read or written. Of weights on devices each recipe is one step; a recovery or pruning waits for the first
    vat before it that it could start from, whatever the name of that.

    Raises:
        UsageError: a ratio that leaves a kind too few units, or two jobs that would share a run folder.
    """
    jobs: dict[str, Job] = {}
    trained: dict[str, Job] = {}

    def add(recipe: Recipe, stage: str, *needs: Job, rram: Recipe | None = None) -> Job:
        job = Job(recipe, stage, out, tuple(each.identity for each in needs), rram)
        return jobs.setdefault(job.identity, job)

    def step(recipe: Recipe) -> None:
        weights = getattr(recipe.network, "weights", None)
        if weights is not None and weights.compensated:
            wanted = recipe.at_step("vat")
            vat = trained.get(_but_for_its_name(wanted))
            add(recipe, "train", *([vat] if vat else []), rram=vat.recipe if vat else wanted)
            return
        job = add(recipe, "train")
        if recipe.step == "vat":
            trained.setdefault(_but_for_its_name(recipe), job)

    for recipe in recipes:
        if recipe.init is not None and recipe.kind == "hybrid":
            raise UsageError(
                "a sweep does not continue a hybrid network's checkpoint", "use `hstnn train RECIPE --init CKPT`"
            )
        if recipe.step is not None:
            step(recipe)
            continue
        units = recipe.network.units
        layer_sizes(recipe.kind, units, recipe.ratio)
        if recipe.kind == "hybrid":
            kept_counts(units, recipe.ratio)
            adapted = add(recipe, "adapt")
            add(recipe, "restore", adapted, add(recipe, "traces", adapted))
        else:
            add(recipe, "train")
    _check_folders(list(jobs.values()))
    return list(jobs.values())


def check_runs(jobs: Sequence[Job]) -> None:
    """Refuse run folders that are another recipe's, or damaged, before anything starts.

    Raises:
        RunError: naming the keys that differ, or the file.
    """
    for job in jobs:
        run = job.run
        try:
            run.check_recipe(job.recipe.for_stage(job.stage), job.recipe.upgraded)
        except RunError as error:
            wrote = run.environment().get("versions", {}).get("hstnn-deploy", hstnn_deploy.__version__)
            if wrote == hstnn_deploy.__version__:
                raise
            versions = f"hstnn-deploy {wrote} wrote it, this is {hstnn_deploy.__version__}"
            raise RunError(f"{error.message} ({versions})", error.hint) from error
        run.status()


def chains(jobs: Sequence[Job]) -> dict[str, int]:
    """Return how many jobs follow one another from each job to the end of the longest chain that it begins."""
    length = {job.identity: 1 for job in jobs}
    for job in reversed(jobs):  # dependants stand after what they need
        for need in job.needs:
            length[need] = max(length[need], length[job.identity] + 1)
    return length


def _but_for_its_name(recipe: Recipe) -> str:
    """Return what the result of a training depends on, in a form to compare, without the name."""
    part: dict[str, Any] = {**recipe.for_stage("train"), "name": None}
    return json.dumps(part, sort_keys=True)


def _check_folders(jobs: Sequence[Job]) -> None:
    there: dict[Path, Job] = {}
    for job in jobs:
        other = there.setdefault(job.run.path, job)
        if other is not job:
            both = differences(other.recipe.for_stage(job.stage), job.recipe.for_stage(job.stage))
            raise UsageError(
                f"two jobs of this sweep would share {job.run.path}: {'; '.join(both)}",
                "give the recipes different names, or make the key an axis",
            )
