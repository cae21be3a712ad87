"""Where each stage of a training lies, and which networks a stage begins with that others have left there.

    OUT/RECIPE/KIND/seedS/                    rnn, lstm, snn, ffs-RATIO: one stage, `train`
    OUT/RECIPE/hybrid/seedS/adapt/            1. the redundant network
    OUT/RECIPE/hybrid/seedS/traces/           2. Hessian traces, once
    OUT/RECIPE/hybrid/seedS/ratio-R/          2. the selection for a ratio, and 3. its restoration
    OUT/RECIPE/plain/seedS/STEP/              weights on devices: baseline, vat, recover, prune (the last two from vat)

With LSTM units in the recurrent place, ffs-RATIO is ffs-lstm-RATIO and hybrid is hybrid-lstm.
"""

from collections.abc import Sequence
from pathlib import Path

from hstnn_deploy import files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import RunError, UsageError
from hstnn_deploy.models.rram import STEPS, Weights
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.runs import RunFolder


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


def first_network(recipe: Recipe, stage: str) -> Checkpoint:
    """Return the checkpoint that a training begins with.

    Args:
        recipe: with `init`.
        stage: which stage is asked for.

    Raises:
        CheckpointError: it cannot be read.
        RunError: its parameters differ from those that the training began with.
        UsageError: it has no such stage.
    """
    init = recipe.init
    assert init is not None
    begun = Checkpoint.load(Path(init.checkpoint))
    if begun.fingerprint != init.parameters:
        raise RunError(
            f"{init.checkpoint} has other parameters than the checkpoint that this training began with",
            "give the checkpoint that it began with, with --init",
        )
    if recipe.step is not None or stage in STEPS:
        raise UsageError(
            "training continues a checkpoint's network as it is, without steps for weights on devices",
            "network.weights.sram.start names the network that weights on devices start from",
        )
    after = {"traces", "select", "restore"} if begun.stage == "adapt" else set()
    if stage not in {"all", begun.stage, *after}:
        raise UsageError(f"stage is {stage!r}, but {init.checkpoint} is of stage {begun.stage!r}", "leave --stage out")
    return begun


def keep_selection(begun: Checkpoint, run: RunFolder) -> None:
    """Copy the selection of a restored network into the run folder of what was trained from it, if it is at hand.

    Raises:
        RunError: it cannot be written.
    """
    beside = Path(begun.source).parent / run.selection.name
    if begun.selection is not None and beside.is_file() and not run.selection.exists():
        files.write_text(run.selection, beside.read_text(encoding="utf-8"))


def rram_networks(recipe: Recipe, out: Path, named: Path | None) -> list[Checkpoint]:
    """Return the networks that a step with an SRAM part starts from; none of the other steps.

    Args:
        recipe: of the step.
        out: where the run folders are.
        named: where another name has it: a sweep shares one among all steps that start from it.

    Raises:
        RunError: there is no RRAM network yet, or it is of another recipe.
        CheckpointError: one cannot be read.
    """
    weights = getattr(recipe.network, "weights", None)
    assert isinstance(weights, Weights)
    if not weights.compensated:
        return []
    vat = recipe.at_step("vat")
    wanted = vat.for_stage("train")
    rram = stage_folder(vat, out, "train")
    if named is not None:
        rram = RunFolder(named)
        wanted |= {"name": rram.recipe().get("name", vat.name)}
    rram.check_recipe(wanted, vat.upgraded)
    if not rram.finished:
        raise RunError(
            f"there is no finished RRAM network in {rram.path}",
            "run --stage vat first, or --stage all, or name one with --vat DIR",
        )
    other = other_start(recipe)
    return [Checkpoint.load(rram.best), *([other] if other else [])]


def other_start(recipe: Recipe) -> Checkpoint | None:
    """Return the other network that the SRAM part of a step starts from; None where it starts from no other.

    Raises:
        CheckpointError: it cannot be read.
    """
    weights = getattr(recipe.network, "weights", None)
    assert isinstance(weights, Weights)
    if not weights.compensated or weights.sram.start in {"rram", "zeros", "fresh"}:
        return None
    return Checkpoint.load(Path(weights.sram.start))


def check_begun_from(run: RunFolder, before: Sequence[Checkpoint]) -> None:
    """Refuse a step with an SRAM part that was begun from another RRAM network than there is now.

    With `finetune` its recipe does not say how the RRAM network was trained; but it keeps those weights as they were.

    Args:
        run: of the step.
        before: see `rram_networks`.

    Raises:
        RunError: its fixed weights are not those of the RRAM network.
        CheckpointError: it cannot be read.
    """
    kept = run.best if run.finished else run.last
    if not before or not kept.exists():
        return
    own, rram = Checkpoint.load(kept).parameters, before[0]
    for name in (each for each in own if each.endswith(".fixed")):
        there = rram.parameters.get(name.replace(".fixed", ".weight"))
        if there is None or not own[name].equal(there):
            raise RunError(
                f"{run.path} was begun from another RRAM network than the one now in {rram.source}",
                "remove it with `hstnn runs rm`, and train it again; or give another folder with --out",
            )
