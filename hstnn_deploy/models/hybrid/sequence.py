"""The sequence classifier: hybrid layers over a sequence, read out once (docs/mathematics.md, section 2).

Shapes: T time, B batch, I inputs, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from hstnn_deploy.models.algebra import Algebra, V
from hstnn_deploy.models.eager import Fast
from hstnn_deploy.models.hybrid.groups import Emitted, HybridLayer, RecurrentUnit, UnitKind, fresh_layers
from hstnn_deploy.models.hybrid.network import HybridNetwork
from hstnn_deploy.models.network import LossName, State
from hstnn_deploy.models.neurons import Lif, SpikingNeuron
from hstnn_deploy.models.sizes import Sizes


class SequenceConfig(BaseModel):
    """A sequence classifier's keys in a recipe."""

    model_config = ConfigDict(extra="forbid")

    usual_loss: ClassVar[LossName] = "cross-entropy"
    """The default task of its networks."""
    data_keys: ClassVar[dict[str, str]] = {"inputs": "inputs", "classes": "classes"}
    """The property of a data set that each of these keys must equal."""

    family: Literal["sequence"] = "sequence"
    inputs: int = Field(gt=0)
    """Values per time step."""
    classes: int = Field(gt=0)
    """Number of classes; for a regression, number of values (1 is only for a regression)."""
    units: list[PositiveInt] = Field(min_length=1)
    """Units per layer: of the only kind, of both kinds together (ffs), or of each kind (hybrid)."""
    neuron: SpikingNeuron = Lif()
    recurrent: RecurrentUnit = "rnn"
    """The type of the recurrent units; the pure kinds rnn and lstm set it themselves."""

    def build(self, sizes: Sequence[Sizes]) -> "SequenceClassifier":
        """Return a freshly initialised network with the given units per layer."""
        layers = fresh_layers(self.inputs, sizes, self.neuron, self.recurrent)
        readout = nn.Linear(layers[-1].units, self.classes)
        nn.init.uniform_(readout.weight, -0.1, 0.1)
        nn.init.zeros_(readout.bias)
        return SequenceClassifier(layers, readout)


class SequenceClassifier(HybridNetwork):
    """Linear readout of [mean over time of the last layer's spikes, the last layer's h at the last step].

    State: that of the layers and, where the last layer spikes, `spike_sum` [B, n_s] over `steps` [B, 1].
    """

    gathered: ClassVar[dict[str, str]] = {
        "spike_sum": "spikes of the last layer's spiking units, summed over the steps seen",
        "steps": "steps seen",
    }

    def __init__(self, layers: Sequence[HybridLayer], readout: nn.Linear) -> None:
        super().__init__(layers)
        self.readout = readout

    @property
    def outputs(self) -> int:
        """The number of classes."""
        return self.readout.out_features

    def initial_state(self, like: Tensor) -> State:
        """Return zeros for a batch shaped as `like` [T, B, I]."""
        state = super().initial_state(like)
        if spiking := self.sizes[-1].snn:
            state["spike_sum"] = like.new_zeros(like.shape[1], spiking)
            state["steps"] = like.new_zeros(like.shape[1], 1)
        return state

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window; see `HybridNetwork.forward`. The output is logits [B, C] of everything seen so far."""
        return self.window(Fast(lengths), x, self.initial_state(x) if state is None else state)

    def needed(self, layer: int) -> set[UnitKind]:
        """Return all kinds; of the last layer's recurrent units, only the state after everything is read."""
        return {"snn"} if layer == len(self.layers) else {"snn", "rnn"}

    def gather(self, o: Algebra[V], x: V, last: Emitted[V], state: Mapping[str, V], window: bool) -> dict[str, V]:
        """Add up the last layer's spikes, and steps."""
        if "snn" not in last:
            return {}
        if not window:
            return {
                "spike_sum": o.add(state["spike_sum"], last["snn"], "spike_sum"),
                "steps": o.add(state["steps"], 1.0, "steps"),
            }
        spikes, steps = o.total(last["snn"], "spikes_in_window"), o.length(x, "window")
        return {
            "spike_sum": o.add(state["spike_sum"], spikes, "spike_sum"),
            "steps": o.add(state["steps"], steps, "steps"),
        }

    def answer(self, o: Algebra[V], last: Emitted[V], state: Mapping[str, V]) -> V:
        """Return the readout of the mean of the last layer's spikes, and its last h."""
        features = []
        if "spike_sum" in state:
            features.append(o.share(state["spike_sum"], state["steps"], "spike_rate"))
        if (h := f"h{len(self.layers)}") in state:
            features.append(state[h])
        seen = features[0] if len(features) == 1 else o.concat(features, 1, "seen")
        return o.linear(seen, self.readout, "logits")

    def with_layers(self, layers: Sequence[HybridLayer], outputs: Tensor) -> "SequenceClassifier":
        """Return a classifier over `layers` whose readout sees the last layer's outputs `outputs` (indices)."""
        old = self.readout
        readout = nn.Linear(len(outputs), old.out_features, device=old.weight.device, dtype=old.weight.dtype)
        with torch.no_grad():
            readout.weight.copy_(old.weight[:, outputs])
            readout.bias.copy_(old.bias)
        return SequenceClassifier(layers, readout)
