"""Read what `hstnn evaluate --variation` wrote; what follows from the draws is computed anew, and not believed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hstnn_deploy.errors import RunError
from hstnn_deploy.foreign import json_value, read_bytes, reading
from hstnn_deploy.models.device_memory import DeviceMemory
from hstnn_deploy.models.rram import Step
from hstnn_deploy.train.variation import FORMAT, VERSION, Curve, Draws, Measurement

PATTERN = "variation*.json"
"""The files of a folder that hold such measurements."""

_LIMIT = 2**24
"""Bytes of a file: a hundred networks of a hundred draws at ten scales take a tenth."""
_WHAT = "what hstnn evaluate --variation writes"
_AGAIN = "measure again: hstnn evaluate --ckpt … --draws 10 --variation 0,1,2 --out DIR"

_Share = Annotated[float, Field(ge=0, le=1)]
_Bits = Annotated[int, Field(ge=0, le=2**53)]


class _Data(BaseModel):
    # What follows from the rest, such as a mean, is in the file for other readers: it is computed anew, not believed.
    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class _Scale(_Data):
    scale: float = Field(gt=0)
    sigma: float = Field(ge=0)
    draws: list[float] = Field(min_length=1)


class _Memory(_Data):
    weights: _Bits
    rram: _Bits
    sram: _Bits
    sram_groups: _Bits
    other: _Bits
    beyond: _Bits
    reads_rram: _Bits
    reads_sram: _Bits
    parts: list[str]


class _Network(_Data):
    checkpoint: str
    recipe: str
    seed: int
    step: Step
    bits: int = Field(ge=1, le=8)
    metric: str
    clean: float
    variation: list[_Scale]
    element_sparsity: _Share | None
    group_sparsity: _Share | None
    memory_bits: _Memory

    def curve(self) -> Curve:
        sparsity = None
        if self.element_sparsity is not None and self.group_sparsity is not None:
            sparsity = self.element_sparsity, self.group_sparsity
        memory = self.memory_bits.model_dump()
        return Curve(
            self.checkpoint,
            self.recipe,
            self.seed,
            self.step,
            self.bits,
            self.metric,
            self.clean,
            {each.scale: Draws(each.draws, self.clean, each.sigma) for each in self.variation},
            sparsity,
            DeviceMemory(**{**memory, "parts": tuple(memory["parts"])}),
        )


class _File(_Data):
    split: Literal["train", "valid", "test"]
    draws: int = Field(ge=1)
    readapted: int = Field(ge=0)
    networks: list[_Network] = Field(min_length=1)

    @model_validator(mode="after")
    def _agrees(self) -> "_File":
        for network in self.networks:
            scales = [each.scale for each in network.variation]
            if scales != sorted(set(scales)):
                raise ValueError(f"the scales {scales} are not ascending")
            if any(len(each.draws) != self.draws for each in network.variation):
                raise ValueError(f"not every scale has the {self.draws} draws that it states")
        if len(metrics := sorted({network.metric for network in self.networks})) > 1:
            raise ValueError(f"its networks have different metrics: {' and '.join(metrics)}")
        return self


def read(path: Path) -> Measurement:
    """Return the measurement in a file.

    Args:
        path: a variation.json of `hstnn evaluate --variation --out`.

    Raises:
        RunError: it cannot be read, is something else, is damaged, or is of a newer version.
    """
    with reading(path, _WHAT, RunError, _AGAIN):
        facts = json_value(read_bytes(path, _LIMIT))
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise RunError(f"{path} is not {_WHAT}", _AGAIN)
        version = facts.get("version")
        if isinstance(version, int) and version > VERSION:
            raise RunError(f"{path} has version {version}; this program reads {VERSION}", "update hstnn-deploy")
        found = _File.model_validate(facts)
    return Measurement(found.split, found.draws, found.readapted, [each.curve() for each in found.networks])
