"""The recipe and the network of a configuration, for processes that build one."""

from pathlib import Path

import torch

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.profile.record import Configuration
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.recipe import Recipe


def recipe_of(configuration: Configuration) -> Recipe:
    """Return the configuration's recipe as an object."""
    return parse(configuration.recipe, "the configuration's recipe")


def fresh_network(configuration: Configuration) -> Network:
    """Return the network to measure, on the CPU: the checkpoint's, or one of the given sizes with random weights.

    Weights on devices are the numbers that they come to, without variation.
    """
    network, config = trained_network(configuration), recipe_of(configuration).network
    if not isinstance(config, StackConfig) or config.weights is None:
        return network
    deployed = build(config.model_copy(update={"weights": None}), network.sizes)
    deployed.load_state_dict(network.deployed())
    return deployed


def trained_network(configuration: Configuration) -> Network:
    """Return the network as it is trained, on the CPU: its weights on devices, where they are; see `fresh_network`."""
    if configuration.ckpt is not None:
        return Checkpoint.load(Path(configuration.ckpt)).network()
    recipe = recipe_of(configuration)
    torch.manual_seed(recipe.seed)
    return build(recipe.network, [Sizes(*size) for size in configuration.sizes])
