"""What a network needs from data that is given in Python, and on which device it computes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from hstnn_deploy import devices
from hstnn_deploy.data.given.checks import Wanted
from hstnn_deploy.errors import DeviceError, UsageError
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.network import LossName, Network, is_network
from hstnn_deploy.models.registry import NetworkConfig
from hstnn_deploy.models.tasks import LOSSES, LossConfig
from hstnn_deploy.plugins import registry as plugins

if TYPE_CHECKING:
    Loss = LossName | str | LossConfig | Mapping[str, object]
else:
    Loss = Any

BATCH = 100
"""Samples of a batch, if not given."""


def check_network(network: Any) -> Network:
    """Return a network, or refuse it if it is not one of this package.

    Raises:
        UsageError: it is something else.
    """
    if is_network(network):
        return network
    hint = "hd.Stack([...]) makes one, hd.load_network reads one"
    if isinstance(network, torch.nn.Module):
        hint = "hd.from_torch(module, example) converts a module of snnTorch, SpikingJelly, sinabs, Norse or torch"
    raise UsageError(f"network is {type(network).__name__}, not a network of this package", hint)


def config_of(network: Network) -> NetworkConfig:
    """Return what a network was built from.

    Raises:
        UsageError: it does not know.
    """
    config: NetworkConfig | None = getattr(network, "config", None)
    if config is None:
        raise UsageError(
            f"this {type(network).__name__} does not record what it was built from", "use one from hd.load_network"
        )
    return config


def wanted(network: Network, loss: LossConfig | None = None) -> Wanted:
    """Return what a network takes, and what is asked of it: by a loss, or by that which it was trained for."""
    return Wanted(
        tuple(network.input_shape),
        network.outputs,
        network.tokens,
        network.words if network.tokens else 0,
        network.every_step,
        network.values if loss is None else loss.name == "regression",
        network.longest,
    )


def loss_of(network: Network, asked: Any) -> LossConfig:
    """Return the loss that a network is trained for.

    Args:
        network: which.
        asked: a name, what a recipe says of it, or None: the usual one.

    Raises:
        UsageError: no loss, or one of another sort of answers than the network gives.
    """
    usual: LossName = "next-word" if network.every_step else "regression" if network.values else "cross-entropy"
    try:
        loss = LossConfig.model_validate(usual if asked is None else asked)
    except ValueError as error:
        name = asked.get("name") if isinstance(asked, Mapping) else asked
        if isinstance(error, ValidationError) and isinstance(name, str) and name in (*LOSSES, *plugins.names("losses")):
            found = error.errors(include_url=False)
            first = next((each for each in found if each["type"] == "finite_number"), found[0])
            # An option may be of several types, and each has an error of its own.
            place = ".".join(map(str, ("loss", *first["loc"][:2])))
            raise UsageError(f"{place} is {brief(first['input'])}: {first['msg']}") from error
        own = ", ".join(plugins.names("losses"))
        known = f"{own}, " if own else ""
        known += (
            "cross-entropy, mse, count, next-word, regression, or {'name': 'count', 'correct': 0.8, 'incorrect': 0.2}"
        )
        raise UsageError(f"loss is {brief(asked)}, which is unknown", f"give {known}") from error
    if (loss.name == "next-word") != network.every_step:
        each = "at every step" if network.every_step else "once for each sample"
        hint = "use another readout, such as sum" if network.every_step else "give cross-entropy"
        raise UsageError(f"loss is {loss.name}, but the network answers {each}", hint)
    return loss


def device_of(network: Network, asked: Any) -> torch.device:
    """Return the device to compute on: the one asked for, or the network's own.

    Raises:
        UsageError: no device; or a network that lies on several, or on none.
        DeviceError: it is not available.
    """
    if asked is not None:
        try:
            return devices.resolve(str(asked))
        except (DeviceError, UsageError) as error:
            raise type(error)(error.message, 'give device="cpu", "cuda" or "cuda:N"') from error
    places = {each.device for each in (*network.parameters(), *network.buffers())}
    if len(places) > 1:
        raise UsageError(f"the network is on {len(places)} devices: {', '.join(sorted(map(str, places)))}", "move it")
    found = next(iter(places), torch.device("cpu"))
    if found.type not in {"cpu", "cuda"}:
        raise UsageError(f"the network is on the device {found}", 'move it: network.to("cpu"), or give device="cpu"')
    return found
