"""A Chrome trace of one training step and one inference, by torch.profiler: which operation takes how long, in order.

The steps are those of `train.loop` and of the network itself. Steps before them are not in it: what happens once,
such as a compilation or the first allocation, would hide the rest.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from hstnn_deploy import files
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.models.precision import forward, products
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.profile.meter import gpu
from hstnn_deploy.profile.phases import inputs, networks
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.train.evaluation import batches
from hstnn_deploy.train.loop import train_step
from hstnn_deploy.train.schedules import make_optimiser

_WARM_UP = 3
"""Steps before the one that is traced."""
TRAINING, INFERENCE = "hstnn: training step", "hstnn: inference"
"""What both are called in the trace."""


class Traced(NamedTuple):
    """What was traced."""

    data: str
    """What the data is, as in a record."""
    batch: int
    steps: int
    """Time steps of the batch."""
    device: str
    operations: dict[str, int]
    """Calls of torch's operations within each of both."""


def trace(configuration: Configuration, path: Path) -> Traced:
    """Run a training step and an inference of the same batch size under torch.profiler, and write the trace.

    Args:
        configuration: of training; the network's weights change, and are thrown away.
        path: the file, in the format that chrome://tracing and Perfetto read; `.gz`: compressed.

    Raises:
        RunError: the file cannot be written.
    """
    if configuration.threads is not None:
        torch.set_num_threads(configuration.threads)
    device = gpu.torch_device(configuration)
    recipe = networks.recipe_of(configuration)
    data, what = inputs.splits_of(configuration, recipe)
    network = networks.trained_network(configuration).to(device)
    task, stage = task_for(recipe.network, recipe.loss), recipe.stage(configuration.stage)
    optimiser = make_optimiser(stage, network)
    seen = _first(data.train, recipe.batch, device)

    def train() -> None:
        network.train()
        train_step(network, task, optimiser, stage.clip, seen, None, recipe.precision)

    @torch.no_grad()
    def infer() -> None:
        network.eval()
        with products(recipe.precision), forward(recipe.precision, device):
            network(seen.x, None, seen.lengths)

    for _ in range(_WARM_UP):
        train()
        infer()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds, record_shapes=True) as watched:
        for name, step in ((TRAINING, train), (INFERENCE, infer)):
            with record_function(name):
                step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
    with files.atomic(path) as temporary:
        # Whether it is compressed, torch's profiler knows by the name.
        ending = ".json.gz" if path.suffix == ".gz" else ".json"
        written = temporary.with_name(f"{temporary.name}{ending}")
        watched.export_chrome_trace(str(written))
        written.replace(temporary)
    return Traced(what, seen.x.shape[1], len(seen.x), str(device), _operations(watched))


def _first(split: Split, size: int, device: torch.device) -> Batch:
    """Return the first batch of a split."""
    return next(iter(batches(split, size, None, device)))


def _operations(watched: profile) -> dict[str, int]:
    """Return how many operations began within each of both."""
    every = list(watched.events() or [])
    found = {}
    for name in (TRAINING, INFERENCE):
        around = next(each for each in every if each.name == name).time_range
        found[name] = sum(
            around.start <= each.time_range.start <= around.end and each.name.startswith("aten::") for each in every
        )
    return found
