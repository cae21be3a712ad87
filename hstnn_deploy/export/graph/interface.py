"""What goes into a network's graphs and what comes out: names, shapes, meanings, and what is reset when.

Shapes: T time, B batch. Graphs, manifest and checks all take them from here.
"""

import copy
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
from torch import Tensor

from hstnn_deploy.models.network import Network

_NEXT = "_next"

Reset = Literal["sequence", "window"]
"""When a state starts again from zeros: with each sequence, or with each window of a text as well."""


@dataclass(frozen=True)
class State:
    """A state that goes into a graph by its name, and comes out by `state_after` of it."""

    name: str
    shape: tuple[int, ...]
    """Without the batch, which stands before it."""
    meaning: str
    reset: Reset
    dtype: str = "float32"


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a network, whatever the form of the graph."""

    step: tuple[int, ...]
    """The shape of one time step of x for one sample; a token is a scalar."""
    tokens: bool
    """Whether x is int64 tokens, not float32 values."""
    states: list[State]
    classes: int
    """The width of the logits: classes, words or values."""
    every_step: bool
    """Whether there are logits of every step, or of everything seen."""
    leaves: bool = False
    """Whether a step graph says if the answer after it may be given; see `models.exits`."""
    words: int = 0
    """How many tokens there are, where x are tokens."""
    regresses: bool = False
    """Whether the logits are values, of a regression."""

    @property
    def x_meaning(self) -> str:
        """What x is."""
        if self.tokens:
            return "words, by their number in the vocabulary"
        return "values of each time step" if len(self.step) == 1 else "frames: channels, height, width"

    @property
    def logits_meaning(self) -> str:
        """What the logits are."""
        if self.regresses:
            return "a value for each output, of everything seen; no logits, in spite of the name"
        if self.every_step and not self.tokens:
            return "what the last layer gives at each step"
        if self.every_step:
            return "a score for each word of the vocabulary to follow; softmax gives its probability"
        return "a score for each class, of everything seen; the largest is the answer"

    @property
    def values(self) -> int:
        """How many values the states of one sample hold: a measure of what a step costs."""
        return sum(prod(state.shape) for state in self.states)

    def example(self, steps: int, batch: int, seed: int = 0) -> Tensor:
        """Return a random input [steps, batch, …]; frames are sparse and whole as counts of events are."""
        generator = torch.Generator().manual_seed(seed)
        shape = (steps, batch, *self.step)
        if self.tokens:
            return torch.randint(self.words, shape, generator=generator)
        values = torch.rand(shape, generator=generator)
        return values if len(self.step) == 1 else (values * 1.5).floor()

    def zeros(self, batch: int) -> dict[str, Tensor]:
        """Return the states of sequences that have seen nothing."""
        return {state.name: torch.zeros(batch, *state.shape) for state in self.states}


def state_after(name: str) -> str:
    """Return the name of the output that holds a state after the window or step."""
    return f"{name}{_NEXT}"


def interface(network: Network) -> Interface:
    """Return the interface of a network."""
    step, tokens = network.input_shape, network.tokens
    meanings, membranes = network.meanings(), network.membranes()
    like = torch.zeros(1, 1, *step, dtype=torch.int64 if tokens else torch.float32)
    states = [
        State(name, tuple(value.shape[1:]), meanings[name], "window" if tokens and name in membranes else "sequence")
        for name, value in network.initial_state(like).items()
    ]
    found = Interface(step, tokens, states, network.outputs, network.every_step)
    return replace(found, leaves=network.exit is not None, words=network.words, regresses=network.values)


def frozen(network: Network) -> Network:
    """Return a copy of a network on the CPU, in evaluation mode, without gradients."""
    # A convolution inside a scan cannot be exported with them.
    return copy.deepcopy(network).cpu().eval().requires_grad_(False)


def taps_of(network: Network) -> list[str]:
    """Return the names of what every layer's units hand out, in the order in which both readings give it."""
    return [str(tap) for tap in network.taps]
