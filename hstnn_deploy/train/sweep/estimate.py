"""A job's estimated seconds and peak memory, from earlier runs; nothing if there are none."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hstnn_deploy.errors import HstnnError
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.sweep.plan import Job


@dataclass(frozen=True)
class Estimate:
    """Of a job; None where no earlier run tells."""

    seconds: float | None = None
    """Of what is left to do, the start of the process included where an earlier run tells it."""
    host_ram: int | None = None
    """Peak of the process, in bytes."""
    cuda: int | None = None
    """Peak of what torch takes on the GPU, in bytes."""
    runs: int = 0
    """How many earlier runs it is judged by."""


@dataclass
class _Seen:
    runs: int = 0
    per_step: list[float] = field(default_factory=list)
    besides: list[float] = field(default_factory=list)
    """Seconds of a process beside its steps: start, data, selection."""
    host_ram: list[int] = field(default_factory=list)
    cuda: list[int] = field(default_factory=list)


class Estimator:
    """Knows earlier runs."""

    def __init__(self, runs: Iterable[RunFolder]) -> None:
        """Read runs; unreadable ones are left out."""
        self._seen: dict[str, _Seen] = {}
        for run in runs:
            self.learn(run)

    def learn(self, run: RunFolder) -> None:
        """Read one more run, if it is readable."""
        try:
            self._learn(run)
        except (HstnnError, KeyError, TypeError, AttributeError):
            return  # damaged, or written by another version

    def of(self, job: Job) -> Estimate:
        """Return what is left of a job."""
        seen = self._seen.get(_like(job.stage, job.recipe.dump()))
        if seen is None:
            return Estimate()
        left = job.steps - (0 if job.stage == "traces" else int(job.run.status().get("epoch", 0)))
        return Estimate(
            seconds=left * statistics.median(seen.per_step) + statistics.median(seen.besides or [0.0])
            if seen.per_step
            else None,
            host_ram=max(seen.host_ram, default=None),
            cuda=max(seen.cuda, default=None),
            runs=seen.runs,
        )

    def _learn(self, run: RunFolder) -> None:
        recipe, status = run.recipe(), run.status()
        seen = self._seen.setdefault(_like(run.stage, recipe), _Seen())
        usage = status.get("usage") or {}
        if run.stage == "traces":
            steps = [usage["seconds"] / recipe["selection"]["probes"]] if "seconds" in usage else []
        else:
            steps = [row["train_seconds"] + row["valid_seconds"] for row in run.metrics()]
        if not steps and not usage:
            return
        seen.runs += 1
        seen.per_step += [statistics.median(steps)] if steps else []
        if steps and usage.get("epochs"):
            seen.besides.append(max(0.0, usage["seconds"] - usage["epochs"] * statistics.median(steps)))
        seen.host_ram += [usage["host_ram_peak"]] if usage.get("host_ram_peak") else []
        seen.cuda += [usage["cuda_peak"]] if usage.get("cuda_peak") else []


def _like(stage: str, recipe: Mapping[str, Any]) -> str:
    """Return the key that jobs of similar cost share."""
    kept = {key: recipe.get(key) for key in ("data", "network", "kind", "batch", "precision")}
    if recipe.get("kind") == "ffs" or stage == "restore":
        kept["ratio"] = recipe.get("ratio")
    if stage == "traces":
        kept["samples"] = (recipe.get("selection") or {}).get("samples")
    return json.dumps([stage, kept], sort_keys=True)
