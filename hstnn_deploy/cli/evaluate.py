"""`hstnn evaluate`: measure a checkpoint on a split."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import (
    CacheChoice,
    CacheOption,
    DataDir,
    Device,
    ForRecipe,
    Json,
    OwnData,
    SplitChoice,
    Threads,
    one_of,
)
from hstnn_deploy.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.models.network import Network
    from hstnn_deploy.models.tasks import Task
    from hstnn_deploy.recipe.recipe import Recipe
    from hstnn_deploy.train.early_exit import Answers
    from hstnn_deploy.train.fitting.behaviour import Watch


_OUTPUTS = 20
"""Outputs of a regression that are shown, at most."""


def evaluate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="CKPT",
            help="A checkpoint, such as a run folder's best.pt. With --variation, also several, and folders of runs.",
        ),
    ] = None,
    ckpt: Annotated[
        list[Path] | None, typer.Option("--ckpt", metavar="FILE", help="The same, instead of the argument.")
    ] = None,
    split: Annotated[SplitChoice, typer.Option(help="The split to evaluate on.")] = SplitChoice.test,
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size (default: the recipe's).")] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="For weights on devices: measure this many draws of the variation (0: none)."
        ),
    ] = None,
    readapt: Annotated[
        int, typer.Option(min=0, metavar="N", help="With --draws: adapt norms to N training batches after each draw.")
    ] = 0,
    variation: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="With --draws: measure at these multiples of sigma, such as 0,0.5,1,2, in tables and pictures.",
        ),
    ] = None,
    early_exit: Annotated[
        bool,
        typer.Option("--early-exit", help="Measure the savings and the cost of answering before the last time step."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="With --early-exit: write a .png of accuracy against mean steps. With --variation: write a .png of "
            "accuracy against variation, a .csv or a .json, or all of them and accuracy against memory into a folder.",
        ),
    ] = None,
    save: Annotated[
        bool,
        typer.Option(
            "--save",
            help="Write the confusion matrix and the spikes of each layer next to the checkpoint (evaluation.json), "
            "for hstnn report.",
        ),
    ] = False,
    recipe: ForRecipe = None,
    data: OwnData = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A metric of your own, in addition to the recipe's. Repeatable."),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    data_dir: DataDir = None,
    cache: CacheOption = CacheChoice.disk,
    as_json: Json = False,
) -> None:
    """Measure loss and metric (accuracy, perplexity, rmse) of a checkpoint on a split of its recipe's data.

    A checkpoint without a recipe, such as an imported one, needs --recipe, which gives data, loss and protocol.

    With --draws, weights on devices are drawn once for each pass over the split. --variation measures several networks
    at several multiples of their sigma.
    """
    import_torch()
    from hstnn_deploy import devices

    if paths and ckpt:
        one_of(paths[0], ckpt[0], "--ckpt", "checkpoint")
    named = paths or ckpt or [one_of(None, None, "--ckpt", "checkpoint")]
    where = devices.resolve(device, threads)
    if save and (variation is not None or draws is not None or early_exit or recipe is not None or data is not None):
        raise UsageError(
            "--save needs a single pass of a checkpoint over its own recipe's data",
            "leave --variation, --draws, --early-exit, --recipe and --data out",
        )
    if variation is not None:
        if recipe is not None:
            raise UsageError(
                "--variation evaluates networks on the data of their own recipes, and --recipe names another",
                "leave --recipe out",
            )
        _vary(named, variation, draws, early_exit, where, split, batch, readapt, out, data_dir, cache, as_json)
        return
    if len(named) > 1:
        raise UsageError(
            f"{len(named)} checkpoints are given, and only --variation takes several",
            "give one, or add --draws 10 --variation 0,0.5,1",
        )
    metrics = metric or []
    if metrics and (draws is not None or early_exit):
        raise UsageError("--metric needs a single pass over the split", "leave --draws and --early-exit out")
    _evaluate(
        named[0], split, batch, draws, readapt, early_exit, out, save, recipe, data, metrics, where, data_dir, cache,
        as_json,
    )  # fmt: skip


def _vary(
    ckpt: list[Path],
    variation: str,
    draws: int | None,
    early_exit: bool,
    where: "torch.device",
    split: SplitChoice,
    batch: int | None,
    readapt: int,
    out: Path | None,
    data_dir: Path | None,
    cache: CacheChoice,
    as_json: bool,
) -> None:
    from hstnn_deploy.cli.variation import scales_of, show_variation

    scales = scales_of(variation)
    if not draws:
        raise UsageError("--variation needs --draws", "add --draws 10")
    if early_exit:
        raise UsageError("--early-exit measures one network", "leave --variation out")
    show_variation(
        ckpt,
        scales,
        split=split.value,
        batch=batch,
        draws=draws,
        readapt=readapt,
        out=out,
        device=where,
        data_dir=data_dir,
        cache=cache.value,
        as_json=as_json,
    )


def _evaluate(
    ckpt: Path,
    split: SplitChoice,
    batch: int | None,
    draws: int | None,
    readapt: int,
    early_exit: bool,
    out: Path | None,
    save: bool,
    recipe: str | None,
    data: Path | None,
    metrics: list[str],
    where: "torch.device",
    data_dir: Path | None,
    cache: CacheChoice,
    as_json: bool,
) -> None:
    import torch

    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.data.images import as_evaluated
    from hstnn_deploy.data.registry import load
    from hstnn_deploy.metrics import shown
    from hstnn_deploy.models.tasks import task_for
    from hstnn_deploy.recipe.adopted import check_network
    from hstnn_deploy.recipe.load import load_recipe
    from hstnn_deploy.recipe.own_data import moved
    from hstnn_deploy.train.early_exit import answers
    from hstnn_deploy.train.evaluation import PROTOCOLS, Figures, PerOutput
    from hstnn_deploy.train.evaluation import evaluate as run_evaluation
    from hstnn_deploy.train.fitting.progress import make_observer
    from hstnn_deploy.train.loading import check_vocabulary
    from hstnn_deploy.train.variation import under_variation

    checkpoint = Checkpoint.load(ckpt)
    if recipe is not None:
        checkpoint = checkpoint.under(load_recipe(recipe))
    asked = checkpoint.resolved_recipe()
    if data is not None:
        asked = moved(asked, data)
    if asked.step is None and (draws is not None or readapt):
        raise UsageError(f"--draws is for weights on devices, and {ckpt} has none", "leave --draws and --readapt out")
    if early_exit and (readapt or (draws or 0) > 1):
        raise UsageError("--early-exit measures one network", "give --draws 1 for draw 0, or leave --draws out")
    if readapt and not draws:
        raise UsageError("--readapt follows a draw of the weights", "give --draws too")
    network = checkpoint.network().to(where)
    observer = make_observer(console.working(as_json))
    try:
        splits = load(asked.data, asked.protocol, data_dir, cache.value, observer.preparing)
    finally:
        observer.close()
    if recipe is not None:
        # The number of words in a text is known only from its files.
        check_network(asked, splits.family, splits.sizes, ckpt)
    check_vocabulary(checkpoint, splits)
    task = task_for(asked.network, asked.loss)
    # A training split that is cropped at random gets the same crops at every call.
    torch.manual_seed(asked.seed)
    if out is not None and (not early_exit or out.suffix != ".png"):
        raise UsageError(
            f"--out {out} is for the picture of --early-exit, a .png",
            "give --early-exit --out exit.png, or --variation",
        )
    if not len(splits.split(split.value)):
        there = [each for each in ("train", "valid", "test") if len(splits.split(each))]
        raise DataError(f"{splits.origin}: the {split.value} split is empty", f"--split {there[0]}")
    samples, size = as_evaluated(splits.split(split.value)), batch or asked.batch
    if early_exit:
        alone = checkpoint.deployed(0 if draws else None).network().to(where)
        found = answers(alone, samples, size, where, asked.precision)
        _show_exits(found, _weights_said(checkpoint, draws or 0), out, as_json)
        return
    if draws == 0:
        network = checkpoint.deployed().network().to(where)
    if draws:
        from hstnn_deploy.cli.variation import show_draws

        drawn = under_variation(checkpoint, task, splits, split.value, size, where, draws, readapt)
        show_draws(drawn, ckpt, asked, task, split.value, readapt, as_json)
        return
    each = PerOutput() if task.asks == "values" else None
    figures = Figures(list(dict.fromkeys([*asked.metrics, *metrics])), task)

    def take(output: "torch.Tensor", target: "torch.Tensor") -> None:
        figures.take(output, target)
        if each is not None:
            each.take(output, target)
        if watch is not None:
            watch.take(output, target)

    watch = _watch(network, task) if save else None
    with watch or nullcontext():
        result = run_evaluation(network, task, samples, size, where, asked.precision, shown=take)
    if watch is not None:
        _save(watch, ckpt, network, task, asked, split.value, result, console.report(as_json))
    own = figures.plain()
    outputs = each.plain(asked.loss.outputs if asked.loss else ()) if each else []
    facts = {
        "checkpoint": str(ckpt),
        "recipe": asked.name,
        "kind": asked.kind,
        "stage": checkpoint.stage,
        "epoch": checkpoint.epoch,
        "split": split.value,
        "protocol": asked.protocol,
        "precision": asked.precision,
        "device": str(where),
        **result,
        **own,
        **({"outputs": outputs} if outputs else {}),
    }
    if as_json:
        console.emit(facts)
        return
    came = f"{asked.name} {asked.step or asked.kind}, {checkpoint.stage} epoch {checkpoint.epoch}"
    if recipe is not None:
        told = f"from {checkpoint.came_from}" if checkpoint.origin else f"{checkpoint.stage} epoch {checkpoint.epoch}"
        came = f"{told}, on the data of {asked.name}"
    sizes = ", ".join(f"{size.snn}+{size.rnn}" for size in checkpoint.sizes)
    made_of = f"spiking+recurrent units {sizes}" if sizes else f"{len(network.described())} layers"
    console.out.print(
        f"{ckpt}: {came}, {made_of}\n"
        f"{split.value} split: {task.metric} {shown(task.metric, result[task.metric])}{task.unit}, "
        f"loss {result['loss']:.4{'g' if outputs else 'f'}} "
        f"({result[task.counts]} {task.counts} of {splits.origin}, on {where})\n"
        f"protocol: {PROTOCOLS[asked.protocol]}; precision {asked.precision}{_weights_said(checkpoint, draws)}",
        markup=False,
        soft_wrap=True,
    )
    for name, value in own.items():
        console.out.print(f"{name}: {value:.4g}", markup=False, soft_wrap=True)
    for one in outputs[:_OUTPUTS]:
        explained = "n/a (all targets are equal)" if one["r2"] is None else f"{one['r2']:.4f}"
        name = one.get("name", one["output"])
        console.out.print(f"output {name}: rmse {one['rmse']:.4g}, R² {explained}", markup=False, soft_wrap=True)
    if len(outputs) > _OUTPUTS:
        console.out.print(f"… {len(outputs)} outputs; --json gives all")


def _watch(network: "Network", task: "Task") -> "Watch":
    """Return a counter of spikes, and of classes if the network predicts one."""
    from hstnn_deploy.train.fitting.behaviour import CLASSES, Watch

    classes = network.outputs if task.asks == "classes" else 0
    return Watch(network, classes if classes <= CLASSES else 0)


def _save(
    watch: "Watch",
    ckpt: Path,
    network: "Network",
    task: "Task",
    recipe: "Recipe",
    split: str,
    result: dict[str, Any],
    screen: "Console",
) -> None:
    """Write the confusion matrix and the spikes next to the checkpoint."""
    from hstnn_deploy import files
    from hstnn_deploy.data.registry import DATA_SETS
    from hstnn_deploy.train.fitting.behaviour import FILE, Behaviour

    known = DATA_SETS.get(recipe.data.name)
    names = list(known.card.classes) if known is not None else []
    count = int(result[task.counts])
    found = Behaviour(
        checkpoint_sha256=files.sha256(ckpt),
        split=split,
        samples=count,
        metric=task.metric,
        value=result[task.metric],
        parameters=sum(each.numel() for each in network.parameters()),
        steps=watch.steps,
        layers=watch.layers(count),
        names=names if len(names) == len(watch.confusion) else [],
        confusion=watch.confusion,
    )
    path = ckpt.parent / FILE
    files.write_json(path, found.model_dump(mode="json"))
    screen.print(f"written: {path}", soft_wrap=True, markup=False)


def _weights_said(checkpoint: "Checkpoint", draws: int | None) -> str:
    """Return a line that names the variation of weights on devices; "" for other networks.

    Args:
        checkpoint: the network.
        draws: None: its own variation, drawn for each batch; 0: without; 1: draw 0.
    """
    weights = getattr(checkpoint.architecture, "weights", None)
    if weights is None:
        return ""
    if not weights.sigma or draws == 0:
        return "\nweights: without variation" + ("" if draws == 0 else "; --draws 20 evaluates it")
    said = f"\nweights: variation of sigma {weights.sigma:.4g}, "
    if draws:
        return f"{said}draw 0"
    return f"{said}drawn anew for every batch; --draws 20 keeps each draw for the whole split, as on a device"


def _show_exits(measured: "Answers", weights: str, out: Path | None, as_json: bool) -> None:
    found = measured.every()
    if out is not None:
        from hstnn_deploy.data.pictures.exits import draw_exits
        from hstnn_deploy.data.pictures.figure import save

        save(draw_exits(found), out)
    if as_json:
        console.emit([each._asdict() for each in found])
        return
    whole = max((each for each in found if each.rule == "steps"), key=lambda each: each.threshold)
    rows = [
        (
            each.rule,
            f"{each.threshold:g}",
            f"{each.mean_steps:.2f}",
            f"{each.accuracy:.2f}",
            f"{each.accuracy - whole.accuracy:+.2f}",
        )
        for each in found
    ]
    title = f"Early exit, of {whole.threshold:g} steps"
    columns = ["rule", ">threshold", ">mean steps", ">accuracy %", ">difference"]
    console.out.print(console.table(title, columns, rows))
    if (largest := measured.largest_scales) is not None:
        console.out.print(
            f"scale: a step's largest mean scale is between {min(largest):.3g} and {max(largest):.3g}; "
            f"a threshold up to {min(largest):.3g} saves nothing",
            markup=False,
            soft_wrap=True,
        )
    if weights:
        console.out.print(weights.strip(), markup=False, soft_wrap=True)
    if out is not None:
        console.out.print(f"written: {out}", markup=False, soft_wrap=True)
