"""`hstnn train`: train a recipe through its stages."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import (
    Batch,
    CacheChoice,
    CacheOption,
    Changes,
    DataDir,
    Device,
    Epochs,
    Json,
    Lr,
    OwnData,
    RunsDir,
    Threads,
    recipe_names,
)
from hstnn_deploy.errors import Interrupted, UsageError
from hstnn_deploy.train import starter

if TYPE_CHECKING:
    from rich.console import Console

    from hstnn_deploy.recipe.recipe import Recipe
    from hstnn_deploy.runs import RunFolder
    from hstnn_deploy.train.observer import Observer


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
    baseline = "baseline"
    vat = "vat"
    recover = "recover"
    prune = "prune"
    all = "all"


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A shipped recipe (see `hstnn recipes`), or the path of a YAML file.", autocompletion=recipe_names
        ),
    ],
    kind: Annotated[
        KindChoice | None,
        typer.Option(
            help="Pure recurrent (rnn, lstm), pure spiking (snn), hybrid from the start (ffs), or hybrid by selection."
        ),
    ] = None,
    recurrent: Annotated[
        RecurrentChoice | None, typer.Option(help="The recurrent units of ffs and hybrid (default: the recipe's).")
    ] = None,
    stage: Annotated[
        StageChoice | None,
        typer.Option(
            help="For a hybrid: a single stage (adapt, traces, select or restore). For a stack with convolutions: a "
            "step of weights on devices, or all of them. Default: everything that the recipe has."
        ),
    ] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of spiking units in ffs and hybrid networks.")] = None,
    vat: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For recover and prune: the run folder of the RRAM network (default: vat, next to theirs).",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the initial weights, the order of samples, and the probes.")
    ] = None,
    epochs: Epochs = None,
    lr: Lr = None,
    batch: Batch = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT",
            help="Continue training this checkpoint's network, with the data and settings of the recipe.",
        ),
    ] = None,
    data: OwnData = None,
    device: Device = "auto",
    threads: Threads = None,
    nproc: Annotated[
        int | None,
        typer.Option("--nproc", min=1, metavar="N", help="Train in N processes that share every batch (one GPU each)."),
    ] = None,
    graphs: Annotated[
        bool,
        typer.Option(
            "--graphs/--no-graphs", help="On a GPU, replay steps as CUDA graphs, after checking that they are correct."
        ),
    ] = True,
    test_curve: Annotated[
        bool,
        typer.Option(
            "--test-curve",
            help="Also measure the test split after every epoch; this does not affect which epoch is best.",
        ),
    ] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the metrics of every epoch to this folder for TensorBoard (extra tensorboard)."
        ),
    ] = None,
    observers: Annotated[
        list[str] | None,
        typer.Option(
            "--observer",
            metavar="MODULE:CLASS",
            help="Your own observer, which receives every batch and epoch; see docs/python.md. This runs your code. "
            "Repeatable.",
        ),
    ] = None,
    changes: Changes = None,
    data_dir: DataDir = None,
    cache: CacheOption = CacheChoice.disk,
    out: RunsDir = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network: hybrids in three stages (adapt, select, restore), other kinds in one.

    Finished stages are skipped: another ratio with the same seed starts at the selection. --init continues training the
    network of a checkpoint, in one stage and a new run folder.
    """
    import_torch()
    from hstnn_deploy import devices
    from hstnn_deploy.models.rram import STEPS
    from hstnn_deploy.models.sizes import check_ratio
    from hstnn_deploy.recipe.load import load_recipe
    from hstnn_deploy.recipe.short import short_changes
    from hstnn_deploy.train import ranks as processes
    from hstnn_deploy.train.fitting.progress import make_observer
    from hstnn_deploy.train.observer import Observers
    from hstnn_deploy.train.stages import assist
    from hstnn_deploy.train.stages import train as run_training

    if ratio is not None:
        check_ratio(ratio)
    options = {"kind": kind, "network.recurrent": recurrent, "ratio": ratio, "seed": seed}
    chosen = [f"{key}={value}" for key, value in options.items() if value is not None]
    fitted = list[str]()
    short = short_changes(recipe, {"epochs": epochs, "lr": lr, "batch": batch}, changes or [])
    resolved = load_recipe(recipe, [*(changes or []), *short, *chosen], data, fitted.append, data_dir)
    if recurrent is not None and resolved.kind not in {"ffs", "hybrid"}:
        raise UsageError(
            f"--recurrent {recurrent} is for ffs and hybrid networks, not for kind {resolved.kind}",
            "for a pure recurrent network give --kind rnn or --kind lstm",
        )
    if init is not None:
        if stage is not None and stage.value in STEPS:
            raise UsageError(
                f"--init continues training a network as it is, so the step {stage.value} of weights on devices does "
                "not apply",
                "leave --stage out",
            )
        resolved = _trained_on(init, resolved, changes or [], kind or recurrent or ratio)
    if ratio is not None and resolved.kind not in {"ffs", "hybrid"}:
        raise UsageError(
            f"--ratio {ratio:g} is for ffs and hybrid networks, not for kind {resolved.kind}",
            "leave --ratio out, or give --kind hybrid or --kind ffs",
        )
    if stage is not None and (stage.value in STEPS or (stage is StageChoice.all and resolved.kind == "plain")):
        resolved = resolved.on_devices()
    ranks = processes.started()
    if resolved.init is not None and (ranks is None or ranks.leads):
        _say_network(resolved, console.working(as_json))
    if (count := ranks.size if ranks else nproc or 1) > resolved.batch:
        raise UsageError(
            f"--nproc is {count}, but a batch has only {resolved.batch} samples", f"give at most {resolved.batch}"
        )
    where = devices.resolve(device, threads)
    if count > 1:
        where = devices.one_of(where, count, ranks.local if ranks else 0, named=":" in device)
    if ranks is None and count > 1:
        # Each process runs this command again, and then knows its rank.
        sys.exit(starter.start([sys.executable, "-m", "hstnn_deploy", *sys.argv[1:]], count, processes.RENDEZVOUS))
    ranks = ranks or processes.ALONE
    if not ranks.leads:
        with processes.together(ranks, where):
            assist(ranks, where, data_dir, cache.value)
        # Exit at once: if a library aborted this process during shutdown, torchrun would end rank 0 too.
        os._exit(0)
    working = console.working(as_json)
    if short and ranks.leads:
        working.print(f"set in the recipe: {', '.join(short)}", markup=False, soft_wrap=True)
    for line in fitted if ranks.leads else ():
        working.print(f"fitted to your data: {line}", markup=False, soft_wrap=True)
    observer = Observers([make_observer(working), *_loggers(tensorboard, observers or [])])
    try:
        with processes.together(ranks, where):
            runs = run_training(
                resolved,
                out,
                stage="all" if stage is None else stage.value,
                device=where,
                data_folder=data_dir,
                cache=cache.value,
                resume=resume,
                observer=observer,
                ranks=ranks,
                graphs=graphs,
                vat=vat,
                test_curve=test_curve,
            )
    except processes.LostError as error:
        # The process that started the ranks reports which one ended.
        sys.exit(error.exit_code)
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


def _loggers(tensorboard: Path | None, names: list[str]) -> "list[Observer]":
    """Return the observers that write for other programs."""
    from hstnn_deploy.train.fitting.loggers import TensorBoard, load_observer

    found = [] if tensorboard is None else [TensorBoard(tensorboard)]
    return [*found, *map(load_observer, names)]


def _trained_on(ckpt: Path, recipe: "Recipe", changes: list[str], kind: object) -> "Recipe":
    """Return the recipe that continues training a checkpoint's network.

    Raises:
        UsageError: an option changes the network or a stage that does not run, or the network does not fit the data.
    """
    from hstnn_deploy.checkpoint import Checkpoint

    keys = {change.partition("=")[0].strip().partition(".")[0] for change in changes}
    if kind or keys & {"network", "kind", "ratio"}:
        raise UsageError(
            "--init uses the network of the checkpoint as it is",
            "leave out --kind, --recurrent, --ratio and --set network…",
        )
    checkpoint = Checkpoint.load(ckpt)
    if idle := sorted(keys & set(_IDLE.get(checkpoint.stage, ()))):
        section = "restore" if checkpoint.stage == "restore" else "train" if recipe.method == "plain" else "adapt"
        raise UsageError(
            f"--set {idle[0]}… has no effect: --init continues training the network of {ckpt} in one stage, "
            f"configured by {section}",
            f"give --set {section}…",
        )
    return checkpoint.begin(recipe, ckpt)


_IDLE = {"train": ("restore", "selection"), "restore": ("adapt", "selection")}
"""Sections of a recipe that have no effect when training continues, by the stage of the checkpoint."""


def _say_network(recipe: "Recipe", screen: "Console") -> None:
    """Print in one line the network whose training continues."""
    from hstnn_deploy.checkpoint import Checkpoint

    assert recipe.init is not None
    ckpt = Path(recipe.init.checkpoint)
    checkpoint = Checkpoint.load(ckpt)
    network = checkpoint.network()
    count = sum(each.numel() for each in network.parameters())
    layers = len(network.described()) or len(network.sizes)
    came = f" (from {checkpoint.came_from})" if checkpoint.origin else ""
    screen.print(
        f"network: {ckpt}{came}, {console.counted(layers, 'layer')}, {count} parameters, "
        f"SHA-256 {checkpoint.fingerprint[:12]}…; data, loss and training: {recipe.name}",
        markup=False,
        soft_wrap=True,
    )


def _facts(run: "RunFolder") -> dict[str, Any]:
    status = run.status()
    return {"folder": str(run.path), **{key: status.get(key) for key in ("state", "result")}}


def _print(runs: "list[RunFolder]", recipe: "Recipe", redundant: bool) -> None:
    from hstnn_deploy.metrics import shown
    from hstnn_deploy.models.tasks import task_for
    from hstnn_deploy.train.evaluation import PROTOCOLS

    task = task_for(recipe.network, recipe.loss)
    rows, protocol = [], ""
    for run in runs:
        result = run.status().get("result") or {}
        if "test" in result:
            protocol = result["protocol"]
            figures = (result["valid"][f"valid_{task.metric}"], result["test"][task.metric])
            drawn = [f"{shown(task.metric, figure)}{task.unit}" for figure in figures]
            rows.append((run.path.name, f"best epoch: {result['epoch']}", *drawn))
        elif "probes" in result:
            rows.append((run.path.name, f"{result['probes']} Hessian probes", "", ""))
        else:
            rows.append((run.path.name, "selection.json", "", ""))
    title = f"Run folders in {runs[-1].path.parent}"
    chosen_on = "best test" if protocol == "test" else "validation"
    columns = ["folder", "contents", f">{chosen_on} {task.metric}", f">test {task.metric}"]
    console.out.print(console.table(title, columns, rows))
    if protocol:
        disturbed = f"; trained {recipe.disturbed}" if recipe.against else ""
        console.out.print(
            f"protocol: {PROTOCOLS[protocol]}; precision {recipe.precision}{disturbed}", markup=False, soft_wrap=True
        )
    best = runs[-1].best
    if best.exists():
        devices = "" if recipe.step is None else " --draws 20"
        console.advise(f"Next:\n{console.again(f'  hstnn evaluate --ckpt {best}{devices}')}")
        if redundant:
            console.advise("  the same command with --stage select")
        else:
            console.advise(console.again(f"  hstnn export --ckpt {best}"))
