"""Hessian traces per unit by Hutchinson's estimate (docs/mathematics.md, section 3).

For Rademacher probes v over the ranked weights: trace_u = mean over probes of sum over u's weights of v * (H v).
The Hessian-vector product passes through the plain kernels, which are differentiable twice.
Their file in a run folder is written as probes are done, and read to continue and to select.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from hstnn_deploy import checkpoint
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import CheckpointError, RunError
from hstnn_deploy.foreign import brief, reading
from hstnn_deploy.models import kernels
from hstnn_deploy.models.hybrid.groups import UnitKind
from hstnn_deploy.models.hybrid.network import as_hybrid
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.precision import products
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.capture import Work, replayed
from hstnn_deploy.train.ranking import GroupTraces, Traces

Probe = list[list[Tensor]]
"""A probe: for each ranked group, a tensor for each of its ranked weights."""


@dataclass(frozen=True)
class RankedGroup:
    """The units of one kind in one layer, as selection sees them."""

    layer: int
    """Counted from 0."""
    kind: UnitKind
    weights: list[torch.nn.Parameter]
    unit_axis: int = -1
    """The axis of each that runs over the units."""

    @property
    def units(self) -> int:
        """The number of units."""
        return self.weights[0].shape[self.unit_axis]

    def per_unit(self, values: list[Tensor]) -> Tensor:
        """Sum tensors shaped as the weights over everything but the unit; [n]."""
        return torch.stack([value.movedim(self.unit_axis, -1).flatten(0, -2).sum(0) for value in values]).sum(0)

    def importance_scale(self) -> Tensor:
        """Return ||w_u||^2 / p_u for each unit, [n] float64: importance is trace times this."""
        squares = self.per_unit([weight.detach().double().square() for weight in self.weights])
        count = sum(weight.select(self.unit_axis, 0).numel() for weight in self.weights)
        return (squares / count).cpu()


def selection_batch(recipe: Recipe, train: Split, device: torch.device) -> Batch:
    """Return the one batch on which selection takes the loss: random samples, or the first window of a text.

    Args:
        recipe: how many samples, and the seed that draws them.
        train: the training split.
        device: where the batch is to be.
    """
    if isinstance(train, TextSplit):
        return next(train.windows(recipe.batch, device))
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(recipe.seed))
    # For a split that is cropped at random: selection that continues elsewhere sees the same batch.
    torch.manual_seed(recipe.seed)
    return train.batch(chosen[: recipe.selection.samples].sort().values, device)


def ranked_groups(network: Network) -> list[RankedGroup]:
    """Return the groups that selection ranks, layer by layer, spiking first.

    Raises:
        UsageError: the network is not a hybrid one.
    """
    return [
        RankedGroup(number, kind, group.ranked(), group.unit_axis)
        for number, layer in enumerate(as_hybrid(network).stack)
        for kind, group in layer.groups.items()
    ]


def rademacher(groups: list[RankedGroup], seed: int, number: int) -> Probe:
    """Return probe `number` of a seed: +1 or -1 for every ranked weight, the same whatever was drawn before."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
    return [
        [
            # Bytes hold the draw: fewer of them travel to the device.
            torch.randint(0, 2, weight.shape, generator=generator, dtype=torch.int8).to(weight.device).to(weight.dtype)
            * 2
            - 1
            for weight in group.weights
        ]
        for group in groups
    ]


def probe_products(
    network: Network,
    groups: list[RankedGroup],
    task: Task,
    batch: Batch,
    probes: Iterable[Probe],
    done: Callable[[Tensor], None],
    note: Callable[[str], None] | None = None,
) -> None:
    """Call `done` with each probe's sum over u's weights of v * (H v), for all units of all groups, [U] float64.

    The loss is taken on one batch in evaluation mode; everything but the ranked weights is held fixed. U runs over the
    groups in order. On a GPU the product is replayed as a CUDA graph where `note` is given, which is told if not.
    """
    network.eval()
    weights = [weight for group in groups for weight in group.weights]
    # A backward pass runs where its forward pass ran, and a graph cannot be recorded on the default stream.
    stream = torch.cuda.Stream(batch.x.device) if batch.x.is_cuda else None
    with kernels.using("plain"), products("fp32"), torch.enable_grad(), torch.cuda.stream(stream):
        if stream is not None:
            stream.wait_stream(torch.cuda.default_stream(batch.x.device))
        output, _ = network(batch.x, None, batch.lengths)
        gradients = torch.autograd.grad(task.loss(output, batch.target, len(batch.x)), weights, create_graph=True)

        def product(*flat: Tensor) -> list[Tensor]:
            # H v is the gradient of g v (Pearlmutter 1994). Handing v to `grad` gives the same bits, but torch then
            # imports sympy to compare their shapes, a tenth of a small training's time.
            along = torch.stack([(g * v).sum() for g, v in zip(gradients, flat, strict=True)]).sum()
            curvature = iter(torch.autograd.grad(along, weights, retain_graph=True, materialize_grads=True))
            vectors = iter(flat)
            sums = [group.per_unit([next(vectors) * next(curvature) for _ in group.weights]) for group in groups]
            return [torch.cat(sums).double()]

        work: Work | None = product if stream is None or note is None else None
        pending: Tensor | None = None
        for probe in probes:
            flat = [vector for vectors in probe for vector in vectors]
            if work is None:
                assert note is not None
                work = replayed(product, flat, note, stream)
            # A GPU computes while the next probe is drawn, and is waited for only then.
            if pending is not None:
                done(pending.cpu())
            (pending,) = work(*flat)
            if stream is None:
                done(pending)
                pending = None
        if pending is not None:
            done(pending.cpu())


def _traces_file(run: RunFolder) -> Path:
    return run.path / "traces.pt"


def save_traces(run: RunFolder, groups: list[RankedGroup], samples: list[Tensor]) -> None:
    """Write the traces of the probes that are done."""
    described = [
        GroupTraces(layer=group.layer, kind=group.kind, scale=group.importance_scale().tolist()).model_dump()
        for group in groups
    ]
    checkpoint.save(_traces_file(run), "traces", {"groups": described, "samples": torch.stack(samples)})


def load_samples(run: RunFolder, groups: list[RankedGroup]) -> list[Tensor]:
    """Return the traces of the probes that are done; none where none were saved."""
    path = _traces_file(run)
    if not path.exists():
        return []
    traces = read_traces(path, {(group.layer, group.kind): group.units for group in groups})
    return list(torch.from_numpy(traces.samples).unbind(0))


def load_traces(run: RunFolder, sizes: Sequence[Sizes]) -> Traces:
    """Return the finished traces of a network of these sizes.

    Raises:
        RunError: they are not finished.
        CheckpointError: the file is damaged, or of another network.
    """
    if not run.finished:
        raise RunError(f"there are no finished traces in {run.path}", "run --stage select first (--resume)")
    units = {(layer, kind): getattr(size, kind) for layer, size in enumerate(sizes) for kind in get_args(UnitKind)}
    return read_traces(_traces_file(run), units)


def read_traces(path: Path, units: Mapping[tuple[int, UnitKind], int]) -> Traces:
    """Return traces of groups of these numbers of units, by layer and kind; anything else is refused.

    Raises:
        CheckpointError: the file is missing, damaged, or of another network.
    """
    data = checkpoint.load(path, "traces")
    again = "remove the folder of the traces, and run --stage select again"
    with reading(path, "traces of this network", CheckpointError, again):
        groups = [GroupTraces.model_validate(group) for group in data["groups"]]
        found = {(group.layer, group.kind): len(group.scale) for group in groups}
        samples: Tensor = data["samples"]
        if found != units or len(groups) != len(units):
            raise ValueError("its groups differ from those of the network")
        if samples.ndim != 2 or samples.shape[1] != sum(units.values()) or not len(samples):
            raise ValueError(f"its samples have shape {brief(list(samples.shape))}")
        if samples.dtype != torch.float64 or samples.untyped_storage().nbytes() < 8 * samples.numel():
            raise ValueError("it has fewer numbers than its samples' shape")
        return Traces(groups, samples.numpy())
