"""Hybrid networks: layers of spiking and recurrent units side by side, one on the other."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.errors import UsageError
from hstnn_deploy.models.algebra import Algebra, Strand, V
from hstnn_deploy.models.hybrid.groups import Emitted, HybridLayer, Outputs, UnitKind, joined
from hstnn_deploy.models.network import Network, Part, State, Tap
from hstnn_deploy.models.sizes import Sizes


def as_hybrid(network: Network) -> "HybridNetwork":
    """Return a network as a hybrid one: only hybrid networks have units to rank and select.

    Raises:
        UsageError: it is not one.
    """
    if not isinstance(network, HybridNetwork):
        raise UsageError("only hybrid networks have units to select; this one is a plain stack of layers")
    return network


class HybridNetwork(Network):
    """Hybrid layers, one on the other; a family adds what stands before and behind them.

    The state is a flat dict of named tensors: `v{l}` (spiking), `h{l}` (recurrent) and `c{l}` (LSTM) of layer
    l = 1, 2, …, each [B, n], and what the family's readout carries.
    """

    together: ClassVar[bool] = False
    """Whether a window's layers go step by step together where that saves memory; see `window`."""
    gathered: ClassVar[dict[str, str]] = {}
    """What the readout adds up from step to step, and its meaning."""

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

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one time step of x for one sample; a token is a scalar."""
        return (self.stack[0].input_size,)

    def initial_state(self, like: Tensor) -> State:
        """Return zeros for a batch shaped as `like` [T, B, …]."""
        return {
            f"{name}{number}": like.new_zeros(like.shape[1], width)
            for number, layer in enumerate(self.stack, 1)
            for name, width in layer.state_sizes.items()
        }

    @override
    def parts(self) -> list[Part]:
        like = torch.zeros(1, 1, *self.input_shape, device="meta", dtype=torch.int64 if self.tokens else None)
        states = {name: list(value.shape[1:]) for name, value in self.initial_state(like).items()}
        parameters: dict[str, int] = {}
        for name, value in self.named_parameters():
            part = self.part_of(name).partition(".")[0]
            parameters[part] = parameters.get(part, 0) + value.numel()
        found = []
        for number, size in enumerate(self.sizes, 1):
            # The names of what a layer carries end with its number: v1, h1, c1.
            own = [name for name in states if (last := re.search(r"\d+$", name)) and int(last[0]) == number]
            kind = " + ".join(
                f"{count} {name}" for count, name in zip(size, ("spiking", "recurrent"), strict=True) if count
            )
            carried = {name: states.pop(name) for name in own}
            found.append(Part(number, kind, parameters.pop(f"layer{number}"), [sum(size)], carried))
        others = [Part(None, name, count, None, {}) for name, count in parameters.items()]
        return [*found, *others, *([Part(None, "gathered over time", 0, None, states)] if states else [])]

    # --------------------------------------------------------------------------------- the equations, for any reading

    def enter(self, o: Algebra[V], x: V) -> V:
        """Return what the first layer sees of x, of a step or of a window."""
        return x

    def needed(self, layer: int) -> set[UnitKind]:
        """Return the kinds of units of layer `layer`, from 1, whose outputs somebody sees at every step."""
        return {"snn", "rnn"}

    def gather(self, o: Algebra[V], x: V, last: Emitted[V], state: Mapping[str, V], window: bool) -> dict[str, V]:
        """Return the readout's own states after a step x[B, …], or a window x[T, B, …]; `last` is of the last layer."""
        return {}

    @abstractmethod
    def answer(self, o: Algebra[V], last: Emitted[V], state: Mapping[str, V]) -> V:
        """Return the answer, from what the last layer emitted (of each step) or from the states after everything."""

    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run one step x[B, …] in a reading; return the answer, and all states."""
        last, after = self._one_step(o, self.enter(o, x), state)
        return self.answer(o, last, after), after

    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run a window x[T, B, …] in a reading; return the answer, and all states.

        Layers run one after another, each over all the time there is; or, where they go together, step by step, so that
        memory does not grow with time.
        """
        x = self.enter(o, x)
        last: Emitted[V] = {}
        if self.together:
            names = list(state)
            _, after = o.loop(
                [Strand("x", x, lambda o, now, state: (now, self._one_step(o, now, state)[1]), names)], state
            )
        else:
            last, after = self.layer_by_layer(o, x, state)
        return self.answer(o, last, after), after

    def layer_by_layer(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[Emitted[V], dict[str, V]]:
        """Run a window, each layer over all of it; return what the last one emits, and all states but the answer."""
        seen = x
        after: dict[str, V] = {}
        last: Emitted[V] = {}
        for number, layer in enumerate(self.stack, 1):
            last, new = layer.window(o.at(number), seen, self._states_of(number, state), self.needed(number))
            after |= {f"{name}{number}": value for name, value in new.items()}
            if number < len(self.stack):
                seen = self.side_by_side(o, number, last, window=True)
        return last, after | self.gather(o, x, last, state, window=True)

    def _one_step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[Emitted[V], dict[str, V]]:
        seen = x
        after: dict[str, V] = {}
        last: Emitted[V] = {}
        for number, layer in enumerate(self.stack, 1):
            last, new = layer.step(o.at(number), seen, self._states_of(number, state), self.needed(number))
            after |= {f"{name}{number}": value for name, value in new.items()}
            if number < len(self.stack):
                seen = self.side_by_side(o, number, last, window=False)
        return last, after | self.gather(o, x, last, state, window=False)

    def side_by_side(self, o: Algebra[V], layer: int, emitted: Emitted[V], window: bool) -> V:
        """Return what layer `layer` emits as the next one sees it: its kinds side by side, spiking first."""
        parts = list(emitted.values())
        return parts[0] if len(parts) == 1 else o.at(layer).concat(parts, self._units_axis(window), "output")

    def _units_axis(self, window: bool) -> int:
        """Return the axis of the units of what layers emit, at a step or in a window."""
        return -1

    def _states_of(self, layer: int, state: Mapping[str, V]) -> dict[str, V]:
        return {name: state[f"{name}{layer}"] for name in self.stack[layer - 1].state_sizes}

    # --------------------------------------------------------------------------------------------------------- tensors

    def run_layers(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[list[Tensor], State]:
        """Run the layers alone; return every layer's output [T, B, n_s + n_r] and the layers' states after it."""
        outputs, after = self.run_groups(x, state, lengths)
        return [joined(output) for output in outputs], after

    def run_groups(self, x: Tensor, state: State, lengths: Tensor | None = None) -> tuple[list[Outputs], State]:
        """Do the same, but keep the kinds of each layer apart, which saves a joined copy of the last layer."""
        outputs: list[Outputs] = []
        after: State = {}
        for number, layer in enumerate(self.stack, 1):
            seen = joined(outputs[-1]) if outputs else x
            output, new = layer(seen, {name: state[f"{name}{number}"] for name in layer.state_sizes}, lengths)
            outputs.append(output)
            after |= {f"{name}{number}": value for name, value in new.items()}
        return outputs, after

    @property
    def taps(self) -> dict[Tap, nn.Module]:
        """What each group of each layer hands out; spiking first."""
        return {Tap(n, group.tap): group for n, layer in enumerate(self.stack, 1) for group in layer.groups.values()}

    def part(self, layer: int) -> str:
        """Return layer1.snn of layer 1."""
        return f"layer{layer}.snn"

    def part_of(self, parameter: str) -> str:
        """Return layer1.snn of layers.0.snn.weight, else the parameter's module."""
        first, *rest = parameter.split(".")
        return f"layer{int(rest[0]) + 1}.{rest[1]}" if first == "layers" else first

    def meanings(self) -> dict[str, str]:
        """Return what each state is, by its name."""
        return {
            f"{name}{number}": meaning.format(layer=number)
            for number, layer in enumerate(self.stack, 1)
            for group in layer.groups.values()
            for name, meaning in group.states.items()
        } | self.gathered

    def membranes(self) -> set[str]:
        """Return the names of the spiking units' states."""
        return {
            f"{name}{number}"
            for number, layer in enumerate(self.stack, 1)
            if "snn" in layer.groups
            for name in layer.groups["snn"].states
        }

    @abstractmethod
    def with_layers(self, layers: Sequence[HybridLayer], outputs: Tensor) -> Self:
        """Return a network of the same family over `layers`.

        Args:
            layers: slices of this network's layers.
            outputs: where the outputs of the last of them stand in this network's last layer, for the readout.
        """
