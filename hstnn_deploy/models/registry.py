"""The network families by name. To add one: write its module and its configuration, and name the latter here."""

from typing import Annotated

from pydantic import Field

from hstnn_deploy.models.hybrid.convolutional import ConvolutionalConfig
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.hybrid.sequence import SequenceConfig
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.stack import StackConfig

NetworkConfig = Annotated[
    SequenceConfig | ConvolutionalConfig | LanguageConfig | StackConfig, Field(discriminator="family")
]
"""A recipe's `network` section: the union of the families' configurations, told apart by their field `family`."""


def build(config: NetworkConfig, sizes: list[Sizes]) -> Network:
    """Return a freshly initialised network of the configured family, with the given units per layer."""
    network = config.build(sizes)
    network.config = config
    return network
