"""Where each stage of a training lies: in a run folder of its own.

    OUT/RECIPE/KIND/seedS/                    rnn, lstm, snn, ffs-RATIO: one stage, `train`
    OUT/RECIPE/hybrid/seedS/adapt/            1. the redundant network
    OUT/RECIPE/hybrid/seedS/traces/           2. Hessian traces, once
    OUT/RECIPE/hybrid/seedS/ratio-R/          2. the selection for a ratio, and 3. its restoration
    OUT/RECIPE/plain/seedS/STEP/              weights on devices: baseline, vat, recover, prune (the last two from vat)

With LSTM units in the recurrent place, ffs-RATIO is ffs-lstm-RATIO and hybrid is hybrid-lstm.
"""

from pathlib import Path
from typing import Literal

from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.runs import RunFolder

StageName = Literal["adapt", "traces", "select", "restore", "baseline", "vat", "recover", "prune", "all"]
"""`traces` is the part of `select` that all ratios share; the last four are steps of weights on devices."""


def stage_folder(recipe: Recipe, out: Path, stage: str) -> RunFolder:
    """Return the run folder of a stage: train, adapt, traces or restore."""
    base = out / recipe.name / recipe.kind_name / f"seed{recipe.seed}"
    return RunFolder(
        {
            "train": base if recipe.step is None else base / recipe.step,
            "adapt": base / "adapt",
            "traces": base / "traces",
            "restore": base / f"ratio-{recipe.ratio:g}",
        }[stage]
    )
