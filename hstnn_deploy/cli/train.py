"""`hstnn train`: a recipe through its stages."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import CacheChoice, CacheOption, Changes, DataDir, Device, Json
from hstnn_deploy.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.runs import RunFolder
    from hstnn_deploy.train.recipe import Recipe


class KindChoice(StrEnum):
    """Model kinds."""

    rnn = "rnn"
    lstm = "lstm"
    snn = "snn"
    ffs = "ffs"
    hybrid = "hybrid"


class RecurrentChoice(StrEnum):
    """Recurrent units."""

    rnn = "rnn"
    lstm = "lstm"


class StageChoice(StrEnum):
    """Stages."""

    adapt = "adapt"
    traces = "traces"
    select = "select"
    restore = "restore"
    all = "all"


def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe (see `hstnn recipes`) or a path to a YAML file.")],
    kind: Annotated[
        KindChoice | None,
        typer.Option(help="Pure recurrent (rnn, lstm), pure spiking, directly hybrid (ffs), or hybrid."),
    ] = None,
    recurrent: Annotated[
        RecurrentChoice | None, typer.Option(help="The recurrent units of ffs and hybrid (default: the recipe's).")
    ] = None,
    stage: Annotated[StageChoice, typer.Option(help="A stage of a hybrid, or all that is left.")] = StageChoice.all,
    ratio: Annotated[float | None, typer.Option(help="Spiking share of the units, of ffs and hybrid.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initial weights, order of samples and probes.")] = None,
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads (default: one per core; small networks are faster with 1).")
    ] = None,
    changes: Changes = None,
    data_dir: DataDir = None,
    cache: CacheOption = CacheChoice.disk,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the run folders go.")] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was begun and not finished.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network: hybrids in three stages (adapt, select, restore), other kinds in one.

    A finished stage is not done again, so another ratio of the same seed starts at its selection.
    """
    from hstnn_deploy import devices
    from hstnn_deploy.cli.progress import make_observer
    from hstnn_deploy.models.sizes import check_ratio
    from hstnn_deploy.train.recipe import load_recipe
    from hstnn_deploy.train.stages import train as run_training

    if ratio is not None:
        check_ratio(ratio)
    options = {"kind": kind, "network.recurrent": recurrent, "ratio": ratio, "seed": seed}
    chosen = [f"{key}={value}" for key, value in options.items() if value is not None]
    resolved = load_recipe(recipe, [*(changes or []), *chosen])
    if recurrent is not None and resolved.kind not in {"ffs", "hybrid"}:
        raise UsageError(
            f"--recurrent {recurrent} is for ffs and hybrid networks, not for kind {resolved.kind}",
            "a pure recurrent network is --kind rnn or --kind lstm",
        )
    where = devices.resolve(device, threads)
    observer = make_observer(console.report(as_json))
    try:
        runs = run_training(
            resolved,
            out,
            stage=stage.value,
            device=where,
            data_folder=data_dir,
            cache=cache.value,
            resume=resume,
            observer=observer,
        )
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted; all finished epochs are kept", "run the same command with --resume to continue"
        ) from error
    finally:
        observer.close()
    if as_json:
        console.emit({"runs": [_facts(run) for run in runs]})
    else:
        _print(runs, resolved, redundant=resolved.kind == "hybrid" and stage is StageChoice.adapt)


def _facts(run: "RunFolder") -> dict[str, Any]:
    status = run.status()
    return {"folder": str(run.path), **{key: status.get(key) for key in ("state", "result")}}


def _print(runs: "list[RunFolder]", recipe: "Recipe", redundant: bool) -> None:
    from hstnn_deploy.train.evaluation import PROTOCOLS
    from hstnn_deploy.train.tasks import task_for

    task = task_for(recipe.network)
    rows, protocol = [], ""
    for run in runs:
        result = run.status().get("result") or {}
        if "test" in result:
            protocol = result["protocol"]
            figures = (result["valid"][f"valid_{task.metric}"], result["test"][task.metric])
            shown = [f"{figure:.2f}{task.unit}" for figure in figures]
            rows.append((run.path.name, f"epoch {result['epoch']} is best", *shown))
        elif "probes" in result:
            rows.append((run.path.name, f"{result['probes']} Hessian probes", "", ""))
        else:
            rows.append((run.path.name, "selection.json", "", ""))
    title = f"Run folders in {runs[-1].path.parent}"
    chosen_on = "test, as chosen" if protocol == "test" else "validation"
    columns = ["folder", "holds", f">{chosen_on} {task.metric}", f">test {task.metric}"]
    console.out.print(console.table(title, columns, rows))
    if protocol:
        console.out.print(
            f"protocol: {PROTOCOLS[protocol]}; precision {recipe.precision}", markup=False, soft_wrap=True
        )
    best = runs[-1].best
    if best.exists():
        console.out.print("Next:", markup=False)
        console.out.print(f"  hstnn evaluate --ckpt {best}", markup=False, soft_wrap=True)
        if redundant:
            console.out.print("  the same command with --stage select", markup=False, soft_wrap=True)
        else:
            console.out.print(f"  hstnn export --ckpt {best}", markup=False, soft_wrap=True)
