"""The network families by name. To add one: write its module and its configuration, and name the latter here."""

from typing import Annotated

from pydantic import Field

from hstnn_deploy.models.convolutional import ConvolutionalConfig
from hstnn_deploy.models.network import HybridNetwork
from hstnn_deploy.models.sequence import SequenceConfig
from hstnn_deploy.models.sizes import Sizes

NetworkConfig = Annotated[SequenceConfig | ConvolutionalConfig, Field(discriminator="family")]
"""A recipe's `network` section: the union of the families' configurations, told apart by their field `family`."""


def misfit(config: NetworkConfig, name: str, inputs: int, classes: int, size: int | None) -> str:
    """Return what keeps a network from taking the data set `name`, or an empty text where nothing does.

    `size` is the height and width of the data's frames, None where a time step is a plain vector.
    """
    wanted = config.size if config.family == "convolutional" else None
    if (wanted is None) != (size is None):
        takes, there = ("vectors", "frames") if wanted is None else ("frames", "vectors")
        return f"network.family is {config.family}, which takes {takes}, but {name} has {there}"
    for key, own, theirs in (("inputs", config.inputs, inputs), ("classes", config.classes, classes)):
        if own != theirs:
            return f"network.{key} is {own}, but {name} has {theirs}"
    return f"network.size is {wanted}, but {name} has {size}" if wanted != size else ""


def build(config: NetworkConfig, sizes: list[Sizes]) -> HybridNetwork:
    """Return a freshly initialised network of the configured family, with the given units per layer."""
    return config.build(sizes)
