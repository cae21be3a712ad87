"""The interface of every network: one call that carries a state, and equations for any reading."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import Any, Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.errors import ExportError, UsageError
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.algebra import Algebra, Normed, V
from hstnn_deploy.models.device_memory import DeviceMemory
from hstnn_deploy.models.exits import Exit
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.shown import Sheet, Shown

State = dict[str, Tensor]
"""What a network carries from step to step, by name, each [B, …]."""


LossName = Literal["cross-entropy", "mse", "count", "next-word", "regression"]
"""What a network may be trained for; see `models.tasks`."""

Asked = Literal["classes", "words", "values"]
"""What is asked of a network: one of some classes, the word that follows, or values."""


def is_network(value: object) -> TypeGuard["Network"]:
    """Return whether something is a network of this package."""
    return isinstance(value, Network)


class Tap(NamedTuple):
    """What some units of a network hand out at every step: a proof claims it, a profile counts it."""

    layer: int
    """Counted from 1."""
    name: str
    """Such as "spikes" or "h"."""

    def __str__(self) -> str:
        return f"layer{self.layer}_{self.name}"


class Described(NamedTuple):
    """A layer of a stack, for people."""

    layer: int
    """Its number, from 1."""
    kind: str
    parameters: int
    output: list[int]
    """The shape of what it gives at a step of one sample."""


class Part(NamedTuple):
    """A layer, or what stands before or behind the layers."""

    layer: int | None
    """The layer's number, from 1; None of an embedding, a readout and the like."""
    kind: str
    parameters: int
    output: list[int] | None
    """The shape of what it gives at a step of one sample; None where it is not said."""
    states: dict[str, list[int]]
    """What it carries from step to step: name in the network's state, and shape for one sample."""

    @property
    def values(self) -> int:
        """How many numbers it carries for one sample."""
        return sum(prod(shape) for shape in self.states.values())


SPIKES = "spikes"
"""The name of the taps of spiking units; their values are whole numbers, which carry no error on."""


class Network(nn.Module, Shown, ABC):
    """A network over time."""

    config: Any
    """The configuration (`models.registry`) from which the network was built, if any."""
    origin: dict[str, Any] | None = None
    """For an imported network: plain data that says where it came from, and how it was proved."""

    every_step: bool = False
    """Whether there is an answer to every step, or one to everything seen."""
    tokens: bool = False
    """Whether x is int64 tokens, not float32 values."""
    values: bool = False
    """Whether its answer is values, [B, K], not a score for each class: it was trained by regression."""
    exit: Exit | None = None
    """The rule by which its graphs report that an answer may be given early; None: they do not. See `leave_by`."""

    carried: dict[str, tuple[int, ...]] | None = None
    """Shapes of its states for one sample, once a call was given some."""

    @override
    def __call__(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run the network on x; see `Network.forward`.

        Raises:
            UsageError: another shape, type or device than the network takes.
        """
        if not torch.compiler.is_compiling():
            _check_call(self, x, state, lengths)
        try:
            found: tuple[Tensor, State] = super().__call__(x, state, lengths)
        except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
            # Only after a failure: it costs more than a check.
            if told := _explained(self, x, state, lengths):
                raise told from error
            raise
        return found

    def sheet(self) -> Sheet:
        """Return its layers, with shapes, parameters and states."""
        found = self.parts()
        rows = [
            (
                str(each.layer or ""),
                each.kind,
                "" if each.output is None else str(each.output),
                str(each.parameters or ""),
                ", ".join(each.states),
            )
            for each in found
        ]
        parameters, carried = sum(each.parameters for each in found), sum(each.values for each in found)
        shape = "a token" if self.tokens else str(list(self.input_shape))
        title = (
            f"{type(self).__name__}: {shape} a step, {self.outputs} {'values' if self.values else 'scores'}, "
            f"{parameters} parameters, "
            f"{carried} values carried from step to step"
        )
        return Sheet(title, ("layer", "kind", "gives", "parameters", "carries"), rows)

    def __repr__(self) -> str:
        """Return some lines: a layer each."""
        return "\n".join(self.sheet().lines())

    trained_as: dict[str, Any] | None = None
    """Of a network from a checkpoint with a recipe: the recipe's `kind` and `ratio`, where it has them."""

    @property
    def device(self) -> torch.device:
        """Where its numbers are; the CPU of a network without any."""
        return next((each.device for each in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one time step of x for one sample; a token is a scalar."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """The width of the answer."""

    @property
    def words(self) -> int:
        """How many tokens there are, where x are tokens."""
        return self.outputs

    @property
    def sizes(self) -> list[Sizes]:
        """Spiking and recurrent units of each layer; empty for networks whose layers have no such parts."""
        return []

    def described(self) -> list["Described"]:
        """Return the layers of a stack; empty for hybrid networks, whose layers `sizes` describes."""
        return []

    @abstractmethod
    def parts(self) -> list["Part"]:
        """Return the layers in the order of their numbers, then the rest; a readout that carries something is one."""

    @property
    @abstractmethod
    def taps(self) -> dict[Tap, nn.Module]:
        """What is handed out at every step, and the module that does: (x, state, lengths) -> (what goes up, state)."""

    @abstractmethod
    def part(self, layer: int) -> str:
        """Return what the spiking part of a layer, counted from 1, is called, such as "layer1.snn"."""

    @abstractmethod
    def part_of(self, parameter: str) -> str:
        """Return what the part is called that a parameter belongs to, by its name in the state dict."""

    @abstractmethod
    def initial_state(self, like: Tensor) -> State:
        """Return zeros for a batch shaped as `like` [T, B, …]."""

    @property
    def longest(self) -> int | None:
        """The most steps of a window that its layers have numbers for, or None where any are."""
        return None

    def joins(self, _layer: int) -> bool:
        """Return whether a layer adds what branches of the network give: its sums are no membranes."""
        return False

    def step_norms(self) -> dict[str, Normed]:
        """Return what normalises each step by itself with a scale, by the state that counts its steps."""
        return {}

    def check_steps(self, reads: str) -> None:
        """Refuse custom steps that a file would express differently from what torch computes.

        Args:
            reads: what is written, for the error.

        Raises:
            Unreadable: says which layer, and what it does.
        """

    def leave_by(self, exit: Exit | None) -> None:
        """Let graphs of the network say when its answer may be given.

        Raises:
            ExportError: the network cannot leave so.
        """
        if exit is not None and self.values:
            raise ExportError("an exit needs a network that answers with a class", "this one gives values (regression)")
        if exit is not None and self.every_step:
            raise ExportError("an exit needs a network with one answer per sample", "this one answers at every step")
        if exit is not None and exit.rule == "scale" and not self.step_norms():
            raise ExportError(
                "an exit by scale needs a layer that normalises each step by itself with a scale",
                "the network has none: use confidence=P",
            )
        self.exit = exit

    def may_leave(self, o: Algebra[V], logits: V, after: Mapping[str, V]) -> V:
        """Return 1 where the answer may be given, else 0, [B]; see `Exit.reached`."""
        assert self.exit is not None
        return self.exit.reached(o, logits, after, self.step_norms())

    def deployed(self, _draw: int | None = None) -> dict[str, Tensor]:
        """Return the parameters and buffers as the network computes with them; see `Checkpoint.deployed`."""
        return self.state_dict()

    def device_memory(self) -> DeviceMemory | None:
        """Return the bits that weights on devices take, or None of a network without."""
        return None

    def sparsity(self) -> tuple[float, float] | None:
        """Return which shares of pruned weights, and of their groups, are zero; None where nothing is pruned."""
        return None

    def weight_penalty(self) -> Tensor | None:
        """Return what is added to the loss for the weights themselves, or None."""
        return None

    @abstractmethod
    def meanings(self) -> dict[str, str]:
        """Return what each state is, by its name."""

    @abstractmethod
    def membranes(self) -> set[str]:
        """Return the names of the spiking units' states."""

    @abstractmethod
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run one step x[B, …] in a reading; return the answer, and all states."""

    @abstractmethod
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run a window x[T, B, …] in a reading; return the answer, and all states."""

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


def _check_call(network: Network, x: Any, state: Any, lengths: Any) -> None:
    """Refuse input that torch would accept but compute wrongly: it repeats axes of size 1.

    It reads no number from a device, so it costs a few microseconds.

    Args:
        network: what is called.
        x: [T, B, …].
        state: of the window before, or None.
        lengths: [B], or None.

    Raises:
        UsageError: another shape, or something else than tensors; says what the network takes.
    """
    if not isinstance(x, Tensor):
        hint = "give a tensor: torch.from_numpy(x) makes one of an array"
        raise UsageError(f"x is {type(x).__name__}, but the network takes a tensor", hint)
    if tuple(x.shape[2:]) != tuple(network.input_shape) or x.ndim < 2 or not len(x):
        raise _wrong_shape(network, x)
    if network.tokens and (x.is_floating_point() or x.dtype == torch.bool):
        raise UsageError(
            f"x has type {_type(x.dtype)}, but the network takes tokens, which are whole numbers", "give x.long()"
        )
    batch = x.shape[1]
    if lengths is not None and (not isinstance(lengths, Tensor) or lengths.shape != (batch,)):
        given = f"[{', '.join(map(str, lengths.shape))}]" if isinstance(lengths, Tensor) else brief(lengths)
        hint = "give the number of valid steps of each sample: torch.tensor([5, 3])"
        raise UsageError(f"lengths is {given}, but x has a batch of {batch}", hint)
    if state is not None:
        _check_state(network, x, state)


def _check_state(network: Network, x: Tensor, state: Any) -> None:
    hint = "give the state that a call for the same samples returned, or None"
    if not isinstance(state, dict):
        raise UsageError(f"state is {type(state).__name__}, not a dict of tensors", hint)
    if network.carried is None:
        began = network.initial_state(x[:1, :1].to("meta"))
        network.carried = {name: tuple(value.shape[1:]) for name, value in began.items()}
    for name, shape in network.carried.items():
        if name not in state:
            raise UsageError(f"the state lacks {name}, which the network carries", hint)
        given = state[name]
        if not isinstance(given, Tensor) or given.shape != (x.shape[1], *shape):
            told = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise UsageError(f"the state {name} is {told}, but this x needs {[x.shape[1], *shape]}", hint)


def _wrong_shape(network: Network, x: Tensor) -> UsageError:
    step, given = list(network.input_shape), list(x.shape)
    takes = f"[{', '.join(['T', 'B', *map(str, step)])}]"
    hint = "T time steps come first, then B samples: x.swapaxes(0, 1) of samples x[N, T, …]"
    if given[1:] == step:
        hint = "one sample x[T, …] is x[:, None]; one step of a batch x[B, …] is x[None]"
    elif given == step:
        hint = "one step of one sample is x[None, None]"
    elif not x.numel():
        hint = "it is empty"
    return UsageError(f"x has shape {given}, but the network takes {takes}", hint)


def _explained(
    network: Network, x: Tensor, state: dict[str, Tensor] | None, lengths: Tensor | None
) -> UsageError | None:
    """Return why a call failed if the arguments are the cause (a device, a type, a token, a state); else None."""
    given = {"x": x, **{f"the state {brief(name)}": value for name, value in (state or {}).items()}}
    if lengths is not None:
        given["lengths"] = lengths
    for what, value in given.items():
        if value.device != network.device:
            told = f"{what} is on {value.device}, but the network is on {network.device}"
            return UsageError(told, "move one of them: x.to(network.device)")
    if network.tokens:
        least, most = int(x.min()), int(x.max())
        if least < 0 or most >= network.words:
            told = f"x contains tokens from {least} to {most}, but the network knows {network.words} words"
            return UsageError(told, "number the words from 0")
    else:
        numbers = next((each.dtype for each in network.parameters() if each.is_floating_point()), torch.float32)
        if x.dtype != numbers:
            told = f"x has type {_type(x.dtype)}, but the network computes in {_type(numbers)}"
            return UsageError(told, f"give x.to({numbers})")
    return None


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
