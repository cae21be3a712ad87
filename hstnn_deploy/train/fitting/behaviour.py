"""What a network does on a split, beside its figure: a confusion matrix, spikes of each layer, a raster of a sample.

`hstnn evaluate --save` writes it beside the checkpoint as evaluation.json; reports read it.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from hstnn_deploy import files
from hstnn_deploy.errors import RunError
from hstnn_deploy.foreign import json_value, one_line, read_bytes, reading, rule_broken
from hstnn_deploy.models.network import SPIKES, Network

FILE = "evaluation.json"
FORMAT, VERSION = "hstnn-evaluation", 1
UNITS, STEPS = 64, 200
"""Of a raster: units of a layer and time steps, at most."""
CLASSES = 1000
"""Of a confusion matrix, at most."""
_LARGEST = 2**26
"""Bytes of a file, at most."""
_HINT = "write it again with hstnn evaluate --ckpt RUN/best.pt --save"


class _Part(BaseModel):
    # There may be more than is known here: later versions add to it.
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)


class Layer(_Part):
    """The spikes of one layer."""

    layer: int = Field(ge=1)
    units: int = Field(ge=1)
    """Spiking units of the layer; of maps, all of their sites."""
    rate: float = Field(ge=0)
    """Spikes per unit and step, over the split; steps past a sample's length do not count."""
    per_sample: float = Field(ge=0)
    """Spikes per sample, over the split."""
    shown: int = Field(default=0, ge=0, le=UNITS)
    """Units in the raster: the first ones."""
    raster: list[tuple[int, int]] = Field(default=[], max_length=UNITS * STEPS)
    """Of the split's first sample, the step and unit of each spike, both from 0."""


class Behaviour(_Part):
    """All of a file."""

    format: Literal["hstnn-evaluation"] = "hstnn-evaluation"
    version: Literal[1] = 1
    checkpoint_sha256: str
    """Of the checkpoint's file."""
    split: str
    samples: int = Field(ge=1)
    metric: str
    value: float
    parameters: int = Field(ge=0)
    steps: int = Field(default=0, ge=0)
    """Time steps of the raster."""
    layers: list[Layer] = Field(default=[], max_length=10_000)
    """Layers with spiking units."""
    names: list[str] = Field(default=[], max_length=CLASSES)
    """Of the classes; empty: they have numbers alone."""
    confusion: list[list[int]] = Field(default=[], max_length=CLASSES)
    """A row for each class, a column for each answer; empty where the network answers with no class."""

    @model_validator(mode="after")
    def _square(self) -> "Behaviour":
        if any(len(row) != len(self.confusion) or min(row, default=0) < 0 for row in self.confusion):
            raise ValueError("the confusion matrix is not square, or counts below zero")
        if self.names and len(self.names) != len(self.confusion):
            raise ValueError("there is not a name for each class")
        return self

    def checksum_of(self, checkpoint: Path) -> bool:
        """Whether a checkpoint is the one that was evaluated."""
        return checkpoint.exists() and files.sha256(checkpoint) == self.checkpoint_sha256

    @property
    def spikes(self) -> float:
        """Spikes per sample, of all layers."""
        return sum(layer.per_sample for layer in self.layers)


class Watch:
    """Counts spikes and answers while a network is evaluated: enter it, and hand `take` to `evaluate`."""

    def __init__(self, network: Network, classes: int) -> None:
        """Take a network and how many classes it tells apart; 0: its answers are no classes, or too many."""
        self._groups = {tap.layer: units for tap, units in network.taps.items() if tap.name == SPIKES}
        self._counts = {layer: [0.0, 0.0, 0.0] for layer in self._groups}
        self._rasters: dict[int, Tensor] = {}
        self._samples = 0
        self._confusion = torch.zeros((classes, classes), dtype=torch.long)
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles = [group.register_forward_hook(self._counting(layer)) for layer, group in self._groups.items()]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

    def _counting(self, layer: int) -> Any:
        @torch.no_grad()
        def hook(_group: Any, inputs: tuple[Any, ...], result: tuple[Tensor, Any]) -> None:
            spikes, lengths = result[0].flatten(2), inputs[2] if len(inputs) > 2 else None
            if layer not in self._rasters:
                length = len(spikes) if lengths is None else int(lengths[0])
                self._rasters[layer] = spikes[: min(STEPS, length), 0, :UNITS].cpu()
            sites, total = spikes.shape[0] * spikes.shape[1], float(spikes.sum(dtype=torch.float64))
            if lengths is not None:
                valid = torch.arange(len(spikes), device=spikes.device)[:, None] < lengths
                sites = int(valid.sum())
                total = float(torch.where(valid, spikes.sum(2, dtype=torch.float64), 0.0).sum())
            counts = self._counts[layer]
            counts[0], counts[1], counts[2] = counts[0] + total, counts[1] + sites, float(spikes.shape[2])

        return hook

    def take(self, output: Tensor, target: Tensor) -> None:
        """Take a batch's outputs [B, C] and classes [B], or other outputs, which only count."""
        self._samples += len(target)
        classes = len(self._confusion)
        if classes:
            pairs = target.cpu() * classes + output.argmax(-1).cpu()
            self._confusion += torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    @property
    def confusion(self) -> list[list[int]]:
        """The matrix so far."""
        found: list[list[int]] = self._confusion.tolist()
        return found

    def layers(self, samples: int) -> list[Layer]:
        """Return the spikes of each layer, over a number of samples."""
        made = []
        for layer, (spikes, sites, units) in self._counts.items():
            if not sites:
                continue
            raster = self._rasters[layer]
            places = [(int(step), int(unit)) for step, unit in (raster > 0).nonzero().tolist()]
            made.append(
                Layer(
                    layer=layer,
                    units=int(units),
                    rate=spikes / sites / units,
                    per_sample=spikes / samples,
                    shown=raster.shape[1],
                    raster=places,
                )
            )
        return made

    @property
    def steps(self) -> int:
        """Time steps of the rasters."""
        return max((len(raster) for raster in self._rasters.values()), default=0)


def read(path: Path) -> Behaviour:
    """Read a file that `hstnn evaluate --save` wrote.

    Raises:
        RunError: it cannot be read, is of a later version, or is something else.
    """
    with reading(path, "an evaluation", RunError, _HINT):
        plain = json_value(read_bytes(path, _LARGEST))
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise RunError(f"{path} is not an evaluation", _HINT)
    if plain.get("version") != VERSION:
        raise RunError(f"{path} is of version {plain.get('version')!r}; this hstnn reads {VERSION}", "upgrade hstnn")
    try:
        return Behaviour.model_validate_json(read_bytes(path, _LARGEST))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunError(f"{path} is damaged: {where}: {one_line(rule_broken(first['msg']))}", _HINT) from error
