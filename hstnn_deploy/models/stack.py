"""Stacks: networks of any layers, one after another, as a recipe lists them; and what reads them out over time.

Shapes: T time, B batch, n outputs of the last layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn
from typing_extensions import override

from hstnn_deploy.errors import RecipeError
from hstnn_deploy.foreign import brief
from hstnn_deploy.models.algebra import Algebra, Normed, Strand, V
from hstnn_deploy.models.device_memory import DeviceMemory, device_memory
from hstnn_deploy.models.eager import Fast, channels_last
from hstnn_deploy.models.layers import WIDEST, Layer, Shape, build_chain, checked
from hstnn_deploy.models.layers.blocks import Residual
from hstnn_deploy.models.layers.norm import Norm
from hstnn_deploy.models.layers.readouts import GATHERED, Readout, answer, gathered, gathered_over
from hstnn_deploy.models.layers.specs import Layer as Spec
from hstnn_deploy.models.layers.weights import Embedding, Maps, Rows
from hstnn_deploy.models.network import Described, LossName, Network, Part, State, Tap
from hstnn_deploy.models.rram import Weights, check_devices
from hstnn_deploy.models.sizes import Sizes

Mode = Literal["layers", "steps"]
"""How a window runs while training: each layer over all of it, or all layers step by step. Equal in evaluation."""

_AT_ONCE = 2**22
"""Values of the largest map of a window that goes through all layers at once: 16 MiB."""

_AT_LEAST = 4
"""Steps that do so while training with norms of each step, however large: of those, the state before is kept once."""


class StackConfig(BaseModel):
    """A stack's keys in a recipe."""

    model_config = ConfigDict(extra="forbid")

    usual_loss: ClassVar[LossName] = "cross-entropy"
    """The default task of its networks."""
    data_keys: ClassVar[dict[str, str]] = {}
    recurrent: ClassVar[Literal["rnn"]] = "rnn"
    """Of hybrid families. A stack says in its layers what its units are."""
    neuron: ClassVar[None] = None

    family: Literal["stack"] = "stack"
    input: list[int] = Field(max_length=3)
    """The shape of one time step of one sample: [n], [C, L] or [C, H, W]; [] for tokens."""
    layers: list[Any] = Field(min_length=1)
    """The layers, in order; see docs/layers.md."""
    readout: Readout = "mean"
    """How the last layer's output over time becomes the answer."""
    mode: Mode = "layers"
    """How a window runs in training: layer by layer over all steps, or step by step through all layers."""
    weights: Weights | None = None
    """The devices for the weights of convolutions; null: weights in memory."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the key that there was not always, where it says nothing."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if (key, value) != ("weights", None)}

    @model_validator(mode="after")
    def _fits_together(self) -> "StackConfig":
        """Check every layer, and that each takes what the one before it gives; no weight is made."""
        if min(self.input, default=1) < 1 or prod(self.input) > WIDEST:
            raise RecipeError(f"network.input is {self.input}: it must have between 1 and {WIDEST} values")
        self.layers = checked(self.layers, "network.layers")
        with torch.device("meta"):
            network = self.build([])
        for layer, each in zip(network.leaves(), network.described(), strict=True):
            carried = sum(prod(shape) for shape, _ in layer.carries.values())
            if carried > WIDEST or each.parameters > 2**31:
                raise RecipeError(
                    f"layer {each.layer} ({each.kind}) of network.layers is too large: "
                    f"{each.parameters} parameters, and {carried} values carried from step to step"
                )
        if len(network.output_shape) != 1:
            raise RecipeError(
                f"network.layers give {list(network.output_shape)}, but an answer is a row of scores",
                "put flatten and a linear layer at the end",
            )
        if not any(each.taps() for each in network.leaves()):
            raise RecipeError(
                "network.layers: no layer carries anything over time", "add neurons, such as {lif: {tau: 2}}"
            )
        if self.weights is not None:
            check_devices(self.weights, network.convolutions())
        return self

    @property
    def units(self) -> list[int]:
        """Nothing: layers of a stack are not divided into units that are ranked."""
        return []

    @property
    def outputs(self) -> int:
        """The width of the answer."""
        with torch.device("meta"):
            return self.build([]).outputs

    @property
    def longest(self) -> int | None:
        """The most time steps that the network takes; None: any number."""
        with torch.device("meta"):
            return self.build([]).longest

    def build(self, sizes: Sequence[Sizes]) -> "Stack":
        """Return a freshly initialised network."""
        network = Stack.__new__(Stack)
        network._set_up(self)
        return network


class Stack(Network):
    """Layers, one after another.

    The state is a flat dict: `{name}{l}` of what layer l carries, l = 1, 2, … with blocks counted through, and what the
    readout gathers.

    Args:
        layers: in order; each as plain data, such as {"linear": 64}, or as `hstnn_deploy.layers` writes it.
        input: the shape of one time step of one sample: [n], [C, L], [C, H, W]; [] of tokens.
        readout: what of the last layer's output over time is the answer.
        mode: how a window runs while training.

    Raises:
        RecipeError: an unknown layer or key, a wrong value, or layers that do not fit together.
    """

    config: StackConfig
    """What it was built from: it rebuilds the network, all but its numbers."""

    def __init__(
        self, layers: Sequence[Spec], *, input: Sequence[int], readout: Readout = "mean", mode: Mode = "layers"
    ) -> None:
        if isinstance(layers, str | Mapping):
            raise RecipeError(f"layers is {brief(layers)}, not a list of layers", "put it in brackets: [...]")
        shape: object = list(input) if isinstance(input, Sequence) else input
        given = {"input": shape, "layers": list(layers), "readout": readout, "mode": mode}
        try:
            config = StackConfig.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise RecipeError(f"{place} is {brief(first['input'])}: {first['msg']}") from error
        except RecipeError as error:
            # Here they stand in no recipe.
            raise type(error)(error.message.replace("network.", ""), error.hint) from error
        self._set_up(config)

    def _set_up(self, config: StackConfig) -> None:
        """Make the layers that a configuration says, freshly initialised."""
        super().__init__()
        chain, after = build_chain(config.layers, tuple(config.input), "network.layers")
        self.config, devices, readout = config, config.weights, config.readout
        self.devices, self._computing = devices, devices is None
        self.layers = chain
        shape: Shape = tuple(config.input)
        self._shape, self.output_shape, self.readout, self.mode = shape, after, readout, config.mode
        for number, layer in enumerate(chain.leaves(), 1):
            layer.number = number
        self.every_step, self.tokens = readout == "every", shape == ()
        if devices is not None and devices.compensated:
            for layer in self.convolutions():
                layer.register_buffer("fixed", torch.zeros_like(layer.weight))
        norms = {layer.options.over for layer in chain.leaves() if isinstance(layer, Norm)}
        self._needs_all, self._least = "all" in norms, _AT_LEAST if "step" in norms else 1

    def leaves(self) -> Iterator[Layer]:
        """Yield all layers in the order of their numbers."""
        return self.layers.leaves()

    @override
    def check_steps(self, reads: str) -> None:
        for layer in self.leaves():
            layer.check_reading(reads)

    def convolutions(self) -> list[Maps | Rows]:
        """Return the layers whose weights may be on devices, in order."""
        return [layer for layer in self.leaves() if isinstance(layer, Maps | Rows)]

    def effective(self, varied: bool = True, draw: torch.Generator | None = None) -> list[Tensor]:
        """Return what each convolution computes with; see `Weights.effective`.

        Args:
            varied: whether variation takes part.
            draw: where its draws come from; None: torch's own generator.

        Raises:
            UsageError: a draw where no sigma is known for the bits.
        """
        assert self.devices is not None
        # Whoever asks for a draw wants to know what variation does, to a network that was trained without it too.
        devices = self.devices if draw is None else self.devices.drawn()
        found = []
        for number, layer in enumerate(self.convolutions()):
            noise = None if draw is None else torch.randn(layer.weight.shape, generator=draw)
            fixed = getattr(layer, "fixed", None)
            found.append(devices.effective(layer.weight, fixed, number, noise, varied))
        return found

    @torch.no_grad()
    @override
    def deployed(self, draw: int | None = None) -> dict[str, Tensor]:
        if self.devices is None:
            return self.state_dict()
        generator = None if draw is None else torch.Generator().manual_seed(draw)
        found = {name: value for name, value in self.state_dict().items() if not name.endswith(".fixed")}
        names = {id(layer): name for name, layer in self.named_modules()}
        for layer, value in zip(self.convolutions(), self.effective(draw is not None, generator), strict=True):
            found[f"{names[id(layer)]}.weight"] = value.clone()
        return found

    @override
    def sparsity(self) -> tuple[float, float] | None:
        if self.devices is None or self.devices.step != "prune":
            return None
        return self.devices.sparsity([each.weight for each in self.convolutions()])

    @override
    def device_memory(self) -> DeviceMemory | None:
        return None if self.devices is None else device_memory(self.devices, self.convolutions(), self.state_dict())

    def weight_penalty(self) -> Tensor | None:
        """Return what is added to the loss for the weights themselves, or None."""
        return None if self.devices is None else self.devices.penalty([each.weight for each in self.convolutions()])

    @contextmanager
    def _on_devices(self) -> Iterator[None]:
        """Compute with what is on the devices: one draw of it for all that is done in this context."""
        if self._computing:
            yield
            return
        layers = self.convolutions()
        try:
            self._computing = True
            for layer, effective in zip(layers, self.effective(), strict=True):
                layer.effective = effective
            yield
        finally:
            self._computing = False
            for layer in layers:
                layer.effective = None

    @property
    @override
    def input_shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    @override
    def outputs(self) -> int:
        return self.output_shape[0]

    @property
    @override
    def words(self) -> int:
        return next((layer.num_embeddings for layer in self.leaves() if isinstance(layer, Embedding)), self.outputs)

    @property
    @override
    def taps(self) -> dict[Tap, nn.Module]:
        return {tap: units for layer in self.leaves() for tap, units in layer.taps().items()}

    def part(self, layer: int) -> str:
        """Return layer3.lif of layer 3."""
        return next(f"layer{each.number}.{each.kind}" for each in self.leaves() if each.number == layer)

    @property
    @override
    def longest(self) -> int | None:
        """The fewest steps that any of its normalisation layers has statistics for, or None."""
        known = [each.options.steps for each in self.leaves() if isinstance(each, Norm) and each.options.steps]
        return min(known, default=None)

    @override
    def step_norms(self) -> dict[str, Normed]:
        norms = (each for each in self.leaves() if isinstance(each, Norm) and each.options.steps)
        return {f"step{each.number}": each for each in norms if each.scale is not None}

    @override
    def joins(self, layer: int) -> bool:
        return any(each.number == layer and isinstance(each, Residual) for each in self.leaves())

    @override
    def part_of(self, parameter: str) -> str:
        holder = cast(Layer, self.get_submodule(parameter.rpartition(".")[0]))
        while not isinstance(holder, Layer):
            parameter = parameter.rpartition(".")[0]
            holder = cast(Layer, self.get_submodule(parameter.rpartition(".")[0]))
        return f"layer{holder.number}.{holder.kind}"

    def initial_state(self, like: Tensor) -> State:
        """Return zeros for a batch shaped as `like` [T, B, …]."""
        kind = torch.float32 if self.tokens else like.dtype
        return {
            name: torch.zeros(like.shape[1], *shape, dtype=kind, device=like.device)
            for name, shape in self.state_shapes().items()
        }

    def state_shapes(self) -> dict[str, Shape]:
        """Return the shape of each state, without the batch."""
        gathered = {name: (1,) if name == "steps" else self.output_shape for name in GATHERED[self.readout]}
        carried = {
            f"{name}{layer.number}": shape for layer in self.leaves() for name, (shape, _) in layer.carries.items()
        }
        return carried | gathered

    @override
    def meanings(self) -> dict[str, str]:
        return {
            f"{name}{layer.number}": meaning.format(layer=layer.number)
            for layer in self.leaves()
            for name, (_, meaning) in layer.carries.items()
        } | GATHERED[self.readout]

    @override
    def membranes(self) -> set[str]:
        return {f"{name}{layer.number}" for layer in self.leaves() for name in layer.membranes()}

    def described(self) -> list[Described]:
        """Return every layer in the order of their numbers."""
        own = {id(layer): layer for layer in self.leaves()}
        return [
            Described(
                layer.number,
                layer.kind,
                sum(each.numel() for name, each in layer.named_parameters() if not _within(layer, name, own)),
                list(layer.output),
            )
            for layer in own.values()
        ]

    @override
    def parts(self) -> list[Part]:
        left = {name: list(shape) for name, shape in self.state_shapes().items()}
        found = []
        for layer, told in zip(self.leaves(), self.described(), strict=True):
            states = {name: left.pop(name) for name in (f"{name}{layer.number}" for name in layer.carries)}
            found.append(Part(*told, states))
        return [*found, Part(None, f"readout: {self.readout}", 0, [self.outputs], left)]

    # --------------------------------------------------------------------------------- the equations, for any reading

    @property
    def together(self) -> bool:
        """Whether a window is read step by step, all layers at each: where a layer cannot be taken over all of time."""
        return self.readout in {"last", "max"} or not all(layer.over_time for layer in self.leaves())

    @override
    def step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        self._check_readable()
        y, after = self._one_step(o, x, state)
        return answer(self.readout, o, y, after), after

    @override
    def window(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        self._check_readable()
        if self.together:
            return self._step_by_step(o, x, state)
        return self.layer_by_layer(o, x, state)

    def _check_readable(self) -> None:
        if not self._computing:
            raise RuntimeError("weights on devices can be read only as deployed: see Checkpoint.deployed")

    def layer_by_layer(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        """Run a window, each layer over all of it."""
        y, after = self.layers.run(o, x, state, window=True)
        after |= gathered_over(self.readout, o, y, state)
        return answer(self.readout, o, y, after), after

    def _step_by_step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        names = list(self.state_shapes())
        strand = Strand("x", x, self._one_step, names, "answers", self.every_step)
        (rows,), after = o.loop([strand], state)
        if self.every_step:
            assert rows is not None
            return answer(self.readout, o, rows, after), after
        return answer(self.readout, o, x, after), after

    def _one_step(self, o: Algebra[V], x: V, state: Mapping[str, V]) -> tuple[V, dict[str, V]]:
        y, after = self.layers.run(o, x, state, window=False)
        return y, after | gathered(self.readout, o, y, state)

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Run a window; see `Network.forward`. Weights on devices are drawn once for it."""
        with self._on_devices():
            return self._forward(x, state, lengths)

    def _forward(self, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        after = self.initial_state(x) if state is None else state
        x = channels_last(x)
        if self.mode == "steps" and self.training:
            return self._step_by_step(Fast(lengths), x, after)
        steps = self._at_once(x)
        if steps >= len(x):
            return self.layer_by_layer(Fast(lengths), x, after)
        answers, masks = [], dict[int, Tensor]()
        for begin, part in zip(range(0, len(x), steps), x.split(steps), strict=True):
            reading = Fast(None if lengths is None else (lengths - begin).clamp(0, len(part)))
            # A dropout that is one for the whole window is drawn with its first part.
            reading.masks = masks
            answer, after = self.layer_by_layer(reading, part, after)
            answers.append(answer)
        return torch.cat(answers) if self.every_step else answers[-1], after

    def _at_once(self, x: Tensor) -> int:
        """Return how many steps of x[T, B, …] go through all layers together: as many as have maps that fit a heap.

        Larger tensors are asked of the system for each, and given back. A normalisation over all steps needs them all.
        """
        if not self.together or (self.training and self._needs_all):
            return len(x)
        least = self._least if self.training and torch.is_grad_enabled() else 1
        return max(least, _AT_ONCE // (x.shape[1] * max(prod(layer.output) for layer in self.leaves())))


def as_stack(network: Network) -> Stack | None:
    """Return a network as the stack that it is; None of a hybrid one."""
    return network if isinstance(network, Stack) else None


def _within(layer: Layer, name: str, leaves: Mapping[int, Layer]) -> bool:
    """Whether a parameter of a layer belongs to a layer inside it."""
    holder: nn.Module = layer
    for part in name.split(".")[:-1]:
        holder = holder.get_submodule(part)
        if id(holder) in leaves:
            return True
    return False
