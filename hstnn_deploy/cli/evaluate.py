"""`hstnn evaluate`: a checkpoint on a split."""

from typing import Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import CacheChoice, CacheOption, Ckpt, DataDir, Device, Json, SplitChoice
from hstnn_deploy.errors import DataError


def evaluate(
    ckpt: Ckpt,
    split: Annotated[SplitChoice, typer.Option(help="Which samples.")] = SplitChoice.test,
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size (default: the recipe's).")] = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    cache: CacheOption = CacheChoice.disk,
    as_json: Json = False,
) -> None:
    """Measure loss and metric (accuracy, perplexity) of a checkpoint on a split of its recipe's data."""
    import torch

    from hstnn_deploy import devices
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.cli.progress import make_observer
    from hstnn_deploy.data.registry import load
    from hstnn_deploy.models.tasks import task_for
    from hstnn_deploy.train.evaluation import PROTOCOLS
    from hstnn_deploy.train.evaluation import evaluate as run_evaluation

    checkpoint = Checkpoint.load(ckpt)
    where = devices.resolve(device)
    recipe = checkpoint.resolved_recipe()
    network = checkpoint.network().to(where)
    observer = make_observer(console.report(as_json))
    try:
        splits = load(recipe.data, recipe.protocol, data_dir, cache.value, observer.preparing)
    finally:
        observer.close()
    if checkpoint.vocabulary != splits.vocabulary:
        raise DataError(
            f"{ckpt} was trained with another vocabulary than {recipe.data.name} has now",
            "give the text it was trained on with --data-dir",
        )
    task = task_for(recipe.network, recipe.loss)
    # Of a training split that is cropped at random, the same crops at every call.
    torch.manual_seed(recipe.seed)
    result = run_evaluation(network, task, splits.split(split.value), batch or recipe.batch, where, recipe.precision)
    facts = {
        "checkpoint": str(ckpt),
        "recipe": recipe.name,
        "kind": recipe.kind,
        "stage": checkpoint.stage,
        "epoch": checkpoint.epoch,
        "split": split.value,
        "protocol": recipe.protocol,
        "precision": recipe.precision,
        "device": str(where),
        **result,
    }
    if as_json:
        console.emit(facts)
        return
    sizes = ", ".join(f"{size.snn}+{size.rnn}" for size in checkpoint.sizes)
    made_of = f"spiking+recurrent units {sizes}" if sizes else f"{len(network.described())} layers"
    console.out.print(
        f"{ckpt}: {recipe.name} {recipe.kind}, {checkpoint.stage} epoch {checkpoint.epoch}, "
        f"{made_of}\n"
        f"{split.value} split: {task.metric} {result[task.metric]:.2f}{task.unit}, loss {result['loss']:.4f} "
        f"({result[task.counts]} {task.counts} of {splits.origin}, on {where})\n"
        f"protocol: {PROTOCOLS[recipe.protocol]}; precision {recipe.precision}",
        markup=False,
        soft_wrap=True,
    )
