"""What every network is: a stack of hybrid layers that carries its state, and one call."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self, cast

from torch import Tensor, nn

from hstnn_deploy.models.layers import HybridLayer, Outputs, State, joined
from hstnn_deploy.models.sizes import Sizes


class HybridNetwork(nn.Module, ABC):
    """Hybrid layers, one on the other; a family adds what stands before and behind them.

    The state is a flat dict of named tensors: `v{l}` (spiking), `h{l}` (recurrent) and `c{l}` (LSTM) of layer
    l = 1, 2, …, each [B, n], and what the family's readout carries.
    """

    def __init__(self, layers: Sequence[HybridLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    @property
    def stack(self) -> list[HybridLayer]:
        """The hybrid layers, input side first."""
        return [cast(HybridLayer, layer) for layer in self.layers]

    @property
    def sizes(self) -> list[Sizes]:
        """Units of each layer and kind."""
        return [Sizes(layer.count("snn"), layer.count("rnn")) for layer in self.stack]

    def initial_state(self, like: Tensor) -> State:
        """Return zeros for a batch shaped as `like` [T, B, …]."""
        return {
            f"{name}{number}": like.new_zeros(like.shape[1], width)
            for number, layer in enumerate(self.stack, 1)
            for name, width in layer.state_sizes.items()
        }

    def run_layers(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[list[Tensor], State]:
        """Run the layers alone; return every layer's output [T, B, n_s + n_r] and the layers' states after it."""
        outputs, after = self.run_groups(x, state, lengths)
        return [joined(output) for output in outputs], after

    def run_groups(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[list[Outputs], State]:
        """Do the same, but leave the kinds of each layer apart: who reads the last layer needs no joined copy of it."""
        outputs: list[Outputs] = []
        after: State = {}
        for number, layer in enumerate(self.stack, 1):
            seen = joined(outputs[-1]) if outputs else x
            output, new = layer(seen, {name: state[f"{name}{number}"] for name in layer.state_sizes}, lengths)
            outputs.append(output)
            after |= {f"{name}{number}": value for name, value in new.items()}
        return outputs, after

    @abstractmethod
    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window.

        Args:
            x: [T, B, …], T >= 1.
            state: what the window before returned, or None for zeros.
            lengths: valid steps per sample, [B], or None; steps past them change neither state nor readout.

        Returns:
            The output, and the state after the window. Chunk after chunk gives what the whole sequence gives.
        """

    @abstractmethod
    def with_layers(self, layers: Sequence[HybridLayer], outputs: Tensor) -> Self:
        """Return a network of the same family over `layers`.

        Args:
            layers: slices of this network's layers.
            outputs: where the outputs of the last of them stand in this network's last layer, for the readout.
        """
