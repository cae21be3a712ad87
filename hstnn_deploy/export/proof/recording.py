"""Record what a network does with one sample: what its layers hand out and carry at every step. T time."""

import re
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hstnn_deploy.errors import OutOfMemoryError
from hstnn_deploy.export.proof.engines import network_engine
from hstnn_deploy.models.network import Network

_MOST = 2**31
"""Bytes of a recording."""
_NAMES = {"v": "membrane", "m": "membrane", "i": "current"}
"""What states are called for people; others keep their name."""


class Recording(NamedTuple):
    """One sample, step by step."""

    x: NDArray[Any]
    """[T, …]."""
    output: NDArray[Any]
    """The answer after each step, [T, C]."""
    layers: dict[str, NDArray[Any]]
    """By `layer3/spikes`, `layer3/membrane`, `layer3/h`, …: [T, …]. A membrane is that after its reset."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name."""
        return {"x": self.x, "output": self.output, **self.layers}

    def rates(self) -> dict[str, float]:
        """Return spikes per unit and step, by the name of the layer."""
        return {
            name.partition("/")[0]: float(value.mean())
            for name, value in self.layers.items()
            if name.endswith("/spikes")
        }


@torch.no_grad()
def record(network: Network, x: Tensor) -> Recording:
    """Run one sample step by step, from zeros.

    Args:
        network: in evaluation mode, on the CPU.
        x: [T, 1, …].

    Raises:
        OutOfMemoryError: what is to be recorded would take more than 2 GiB.
    """
    like = network.initial_state(x[:1])
    values = 2 * sum(prod(value.shape) for value in like.values()) + network.outputs
    if 4 * values * len(x) > _MOST:
        raise OutOfMemoryError(
            f"recording {len(x)} steps of {values} values needs more than 2 GiB", "give a sample with fewer steps"
        )
    engine, state = network_engine(network, show=True), like
    rows: dict[str, list[Tensor]] = {}
    for now in x.split(1):
        run = engine(now, state)
        state = run.state
        rows.setdefault("output", []).append(run.logits.reshape(-1))
        for tap, value in run.taps.items():
            rows.setdefault(f"layer{tap.layer}/{tap.name}", []).append(value[0, 0])
        for name, value in state.items():
            # The names of what a layer carries end with its number: v1, h1, late2_3.
            if (found := re.fullmatch(r"(.*?)_?(\d+)", name)) is None:
                continue
            key = f"layer{found[2]}/{_NAMES.get(found[1], found[1])}"
            if f"layer{found[2]}/{found[1]}" not in {f"layer{tap.layer}/{tap.name}" for tap in run.taps}:
                rows.setdefault(key, []).append(value[0])
    arrays = {name: torch.stack(each).numpy() for name, each in rows.items()}
    order = sorted((name for name in arrays if name != "output"), key=lambda name: int(re.findall(r"\d+", name)[0]))
    return Recording(x[:, 0].numpy(), np.asarray(arrays["output"]), {name: arrays[name] for name in order})
