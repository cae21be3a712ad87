"""The file of Hessian traces in a run folder: written as probes are done, read to go on and to select."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import torch

from hstnn_deploy import checkpoint
from hstnn_deploy.errors import CheckpointError, RunError
from hstnn_deploy.foreign import brief, reading
from hstnn_deploy.models.hybrid.groups import UnitKind
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.ranking import GroupTraces, Traces
from hstnn_deploy.train.traces import RankedGroup


def _traces_file(run: RunFolder) -> Path:
    return run.path / "traces.pt"


def save_traces(run: RunFolder, groups: list[RankedGroup], samples: list[torch.Tensor]) -> None:
    """Write the traces of the probes that are done."""
    described = [
        GroupTraces(layer=group.layer, kind=group.kind, scale=group.importance_scale().tolist()).model_dump()
        for group in groups
    ]
    checkpoint.save(_traces_file(run), "traces", {"groups": described, "samples": torch.stack(samples)})


def load_samples(run: RunFolder, groups: list[RankedGroup]) -> list[torch.Tensor]:
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
    """Return traces of groups of so many units, by layer and kind; anything else is refused.

    Raises:
        CheckpointError: the file is missing, damaged, or of another network.
    """
    data = checkpoint.load(path, "traces")
    again = "remove the folder of the traces, and run --stage select again"
    with reading(path, "traces of this network", CheckpointError, again):
        groups = [GroupTraces.model_validate(group) for group in data["groups"]]
        found = {(group.layer, group.kind): len(group.scale) for group in groups}
        samples: torch.Tensor = data["samples"]
        if found != units or len(groups) != len(units):
            raise ValueError("its groups are not those of the network")
        if samples.ndim != 2 or samples.shape[1] != sum(units.values()) or not len(samples):
            raise ValueError(f"its samples are {brief(list(samples.shape))}")
        if samples.dtype != torch.float64 or samples.untyped_storage().nbytes() < 8 * samples.numel():
            raise ValueError("it does not hold the numbers of its samples")
        return Traces(groups, samples.numpy())
