"""Initialise a network that has an SRAM part from a trained one without it, and perhaps from another one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hstnn_deploy.errors import RunError
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.stack import Stack


@torch.no_grad()
def compensate(network: Network, rram: Network, sram: Network | None = None) -> None:
    """Initialise a network that has an SRAM part.

    Args:
        network: freshly built.
        rram: the same network without that part, trained.
        sram: where the SRAM part starts from another network: that one.

    Raises:
        RunError: one of them does not have the same layers.
    """
    assert isinstance(network, Stack)
    weights = network.devices
    assert weights is not None
    own, theirs = network.state_dict(), rram.state_dict()
    fixed = {name for name in own if name.endswith(".fixed")}
    _check_same(own, theirs, fixed, "the RRAM network")
    norms = {name for name in own if name.endswith((".mean", ".variance"))}
    convolutions = {name.replace(".fixed", ".weight") for name in fixed}
    taken = set(own) - fixed - convolutions if weights.sram.keep == "all" else norms
    found = {name: theirs[name] for name in taken} | {name: theirs[name.replace(".fixed", ".weight")] for name in fixed}
    match weights.sram.start:
        case "rram":
            found |= {name: theirs[name] for name in convolutions}
        case "zeros":
            found |= {name: torch.zeros_like(own[name]) for name in convolutions}
        case "fresh":
            pass
        case path:
            assert sram is not None
            others = sram.state_dict()
            _check_same(own, others, fixed, path)
            found |= {name: others[name] for name in convolutions}
    network.load_state_dict({**own, **found})


def _check_same(own: Mapping[str, Tensor], others: Mapping[str, Tensor], fixed: set[str], what: str) -> None:
    for name in set(own) - fixed:
        if name not in others or others[name].shape != own[name].shape:
            there = list(others[name].shape) if name in others else "nothing"
            raise RunError(
                f"{what} is another network: {name} is {there} there, but {list(own[name].shape)} here",
                "use a checkpoint with the same layers",
            )
