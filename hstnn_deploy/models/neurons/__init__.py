"""The spiking neurons. To add one: write its module, with its constants and its one `step`, and name it in `Neuron`."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from hstnn_deploy.models.neurons.adaptive import AdaptiveLif
from hstnn_deploy.models.neurons.lif import Lif, Reset

__all__ = ["AdaptiveLif", "Lif", "Neuron", "Reset"]


def _type_of(given: Any) -> str:
    """Return the type of neuron that a recipe names; LIF where it names none."""
    return str(given.get("type", "lif") if isinstance(given, dict) else getattr(given, "type", "lif"))


Neuron = Annotated[Annotated[Lif, Tag("lif")] | Annotated[AdaptiveLif, Tag("adaptive-lif")], Discriminator(_type_of)]
"""What a recipe says under `network.neuron`: the neurons, told apart by their key `type`."""
