"""The spiking neurons. To add one: write its module, with its constants and its one `step`, and name it in `Neuron`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hstnn_deploy.models.neurons.adaptive import AdaptiveLif
from hstnn_deploy.models.neurons.lif import Lif, Reset

__all__ = ["AdaptiveLif", "Lif", "Neuron", "Reset"]


def _lif_unless_said(given: Any) -> Any:
    """Return what a recipe says of a neuron, with its type."""
    return {"type": "lif", **given} if isinstance(given, dict) else given


Neuron = Annotated[Lif | AdaptiveLif, Field(discriminator="type"), BeforeValidator(_lif_unless_said)]
"""What a recipe says under `network.neuron`: the neurons, told apart by their key `type`, which is lif where it is
left out."""
