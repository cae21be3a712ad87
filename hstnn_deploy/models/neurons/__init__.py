"""The spiking neurons. To add one: write its module, with its constants and its one `step`, and name it in `Neuron`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hstnn_deploy.models.neurons.adaptive import AdaptiveLif
from hstnn_deploy.models.neurons.integrator import Integrator
from hstnn_deploy.models.neurons.lif import Lif, Reset

__all__ = ["AdaptiveLif", "Integrator", "Lif", "Neuron", "Reset", "SpikingNeuron"]


def _lif_unless_said(given: Any) -> Any:
    """Return what a recipe says of a neuron, with its type."""
    return {"type": "lif", **given} if isinstance(given, dict) else given


SpikingNeuron = Annotated[Lif | AdaptiveLif, Field(discriminator="type"), BeforeValidator(_lif_unless_said)]
"""What a recipe says under `network.neuron`: the neurons, told apart by their key `type`, which is lif where it is
left out."""

Neuron = Lif | AdaptiveLif | Integrator
"""All that step through time by an equation of their own."""
