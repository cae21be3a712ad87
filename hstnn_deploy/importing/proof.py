"""Whether a stack is the module that it was made of: both are run on the same inputs, in float64, module by module.

- Each layer of neurons alone, on currents under which membranes meet the threshold: with its own constants, and with
  constants that are multiples of 1/8, so that a membrane meets its threshold exactly and whether it fires there shows.
- The whole network on the input that was given and on random input, each module's output compared with the stack's.

In float64, rounding moves a spike only where a membrane is within some 1e-15 of its threshold.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.parts import Branches, Chain, Part
from hstnn_deploy.importing.tree import is_neuron, library, rule_of, taken
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.layers.blocks import Block, run_layer
from hstnn_deploy.models.stack import Stack

Layout = Literal["step", "time-first", "batch-first", "squeezed", "constant"]
"""What a module takes: one step [B, …]; a window [T, B, …] or [B, T, …]; a window as [B * T, …] (sinabs' Squeeze); or
[B, …], which it shows its layers at as many steps as it says itself."""

TOLERANCE = 1e-5
"""Of values that are no spikes, relative to the largest: weights and constants are stored as float32."""


@dataclass(frozen=True)
class Proof:
    """What was compared, and found equal."""

    modules: int
    """Modules whose outputs were compared."""
    spikes: int
    """Spikes compared, each equal."""
    fired: float
    """The share of them that were spikes and not zeros."""
    values: int
    """Values that are no spikes, each within the tolerance."""
    alone: int
    """Layers of neurons that were compared alone."""
    met: int
    """How often a membrane was exactly at its threshold in these."""
    single: int
    """Spikes that differ where both run in float32, by rounding."""
    inputs: str
    """What the whole was run on."""

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def reset(module: nn.Module) -> None:
    """Set the states that a library's neurons keep to their start."""
    for each in module.modules():
        match library(each):
            case "snntorch":
                for name in ("mem", "spk", "syn"):
                    if name in each._buffers:
                        each._buffers[name] = torch.zeros(0)
            case "spikingjelly":
                if hasattr(each, "reset"):
                    each.reset()
            case "sinabs":
                if hasattr(each, "reset_states"):
                    each.reset_states()


def double(module: nn.Module) -> nn.Module:
    """Return a copy of a module that computes in float64."""
    twin = copied(module).double()
    for each in twin.modules():
        p = getattr(each, "p", None)
        if library(each) == "norse" and hasattr(p, "_replace"):
            tensors = {name: value.double() for name, value in p._asdict().items() if isinstance(value, Tensor)}
            each.p = p._replace(**tensors)  # type: ignore[assignment]
        each.register_forward_pre_hook(lambda _module, inputs: tuple(map(_doubled, inputs)))
        if is_neuron(each):
            # Some give spikes of single precision whatever they are given.
            each.register_forward_hook(lambda _module, _inputs, output: _doubled(output))
            if hasattr(each, "spike_grad"):
                each.spike_grad = _doubling(each.spike_grad)
    return twin


def copied(module: nn.Module) -> nn.Module:
    """Return a copy of a module.

    Raises:
        ImportRefused: it can be copied in no way.
    """
    try:
        return copy.deepcopy(module)
    except Exception:
        # sinabs 3.1 copies no layer of neurons with a module inside it.
        try:
            again: nn.Module = pickle.loads(pickle.dumps(module))
        except Exception as error:
            raise ImportRefused(f"{type(module).__name__} cannot be copied: {' '.join(str(error).split())}") from error
        return again


def _doubling(function: Any) -> Any:
    return lambda x: function(x).double()


def _doubled(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.double() if output.is_floating_point() else output
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor) and type(output) is tuple:
        return (output[0].double(), *output[1:])
    return output


@torch.no_grad()
def run(module: nn.Module, x: Tensor, layout: Layout, carries: bool = False) -> Tensor:
    """Return what a module gives at every step of x[T, B, …], [T, B, …]; of a module that reads out, its answer.

    Args:
        module: the module; its states are reset first.
        x: the input.
        layout: what it takes.
        carries: whether it takes and gives back states, beside x and y.
    """
    reset(module)
    steps, batch = x.shape[:2]
    match layout:
        case "step":
            rows, states = [], None
            for now in x:
                if not carries:
                    rows.append(_first(module(now)))
                    continue
                given = module(now) if states is None else module(now, *states)
                rows.append(given[0])
                states = given[1:]
            return torch.stack(rows)
        case "time-first":
            return _first(module(x))
        case "batch-first":
            found = _first(module(x.transpose(0, 1)))
            # Where it reads out itself, time is gone.
            return found.transpose(0, 1) if found.shape[:2] == (batch, steps) else found
        case "squeezed":
            found = _first(module(x.transpose(0, 1).flatten(0, 1)))
            return found.unflatten(0, (batch, steps)).transpose(0, 1)
        case "constant":
            return _first(module(x[0]))


def _first(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple | list) else output
    return found


def outputs(network: Stack, chain: Chain, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return what a stack's layers give over a window x[T, B, …]: behind each module by its path, and at the end."""
    o, state = Eager(), network.initial_state(x)
    found: dict[str, Tensor] = {}

    def walk(layers: Any, parts: Chain, now: Tensor) -> Tensor:
        for layer, part in zip(layers, parts, strict=True):
            if isinstance(part, Branches):
                assert isinstance(layer, Block)
                rows = [
                    walk(inner.layers, branch, now) for inner, branch in zip(layer.chains, part.chains, strict=False)
                ]
                now = layer.together(o.at(layer.number), now, rows, True)
                continue
            now, _ = run_layer(layer, o, now, state, True)
            found[part.path] = now
        return now

    return found, walk(network.layers.layers, chain, x)


def watched(
    module: nn.Module, paths: Iterator[str], layout: Layout
) -> tuple[dict[str, list[Tensor]], Callable[[], None]]:
    """Return where the outputs of modules go from now on, call by call, and what ends that."""
    found: dict[str, list[Tensor]] = {}
    handles = []
    for path in paths:
        rows = found.setdefault(path, [])

        def keep(_module: Any, _inputs: Any, output: Any, rows: list[Tensor] = rows) -> None:
            rows.append(_first(output).detach())

        handles.append(module.get_submodule(path).register_forward_hook(keep))

    def end() -> None:
        for handle in handles:
            handle.remove()

    return found, end


def over_time(rows: list[Tensor], steps: int, batch: int, layout: Layout) -> Tensor:
    """Return a module's outputs of a run as [T, B, …]."""
    if layout in ("step", "constant") or len(rows) == steps > 1:
        return torch.stack(rows)
    (whole,) = rows
    if whole.shape[:2] == (steps, batch) and layout == "time-first":
        return whole
    if layout == "batch-first" and whole.shape[:2] == (batch, steps):
        return whole.transpose(0, 1)
    if layout == "squeezed":
        return whole.unflatten(0, (batch, steps)).transpose(0, 1)
    # Layers that were given time and batch as one axis, by a container.
    return whole.unflatten(0, (steps, batch))


def paths_of(chain: Chain) -> Iterator[str]:
    """Yield the paths of the modules that a chain was made of, in order, each once."""
    seen = set()
    for each in chain:
        inside = (
            [each.path] if isinstance(each, Part) else [path for branch in each.chains for path in paths_of(branch)]
        )
        for path in inside:
            if path and path not in seen:
                seen.add(path)
                yield path


class Counting(Eager):
    """Tensors, with a count of membranes that are exactly at their threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[int] = []

    def spike(self, membrane: Tensor, threshold: Any, *others: Any, **named: Any) -> Tensor:
        """See `Eager`."""
        self.met.append(int((membrane == threshold).sum()))
        return super().spike(membrane, threshold, *others, **named)


@torch.no_grad()
def compare_alone(module: nn.Module, path: str, shape: Shape, layout: Layout) -> int:
    """Compare neurons alone with the layers they were taken as; return how often a threshold was met exactly.

    Args:
        module: the neurons.
        path: their name.
        shape: what comes in at a step of a sample.
        layout: what they take.

    Raises:
        ImportRefused: they do not do the same; says at which step.
    """
    from hstnn_deploy.importing.module import built

    met = 0
    rule = rule_of(module)
    assert rule is not None
    axes = 1 if layout in ("step", "squeezed") else 2
    steps, batch = 24, _batch_of(module, 16)
    generator = torch.Generator().manual_seed(0)
    for dyadic in (False, True):
        theirs = double(module)
        given = taken(rule, theirs, path, shape, axes)
        if dyadic:
            if given.twin is None:
                continue
            given.twin(theirs)
            theirs = theirs.double()
            given = taken(rule, theirs, path, shape, axes)
        network = built(given.chain, shape, "every").double()
        # Multiples of 1/8 that reach twice the threshold, and below 0.
        x = torch.randint(-8, 17, (steps, batch, *shape), generator=generator).double() / 8
        if not dyadic:
            x = x + torch.randn(x.shape, generator=generator, dtype=torch.float64) / 8
        wanted = run_alone(theirs, x, layout)
        o = Counting()
        found, _ = network.layers.run(o, x, network.initial_state(x), True)
        if found.shape != wanted.shape or not torch.allclose(found, wanted, rtol=0, atol=1e-9):
            wrong = (found - wanted).abs().flatten(1).amax(1) > 1e-9 if found.shape == wanted.shape else torch.ones(1)
            first = int(wrong.int().argmax())
            how = "constants that meet the threshold exactly" if dyadic else "its own constants"
            raise ImportRefused(
                f"{path or 'the module'} ({type(module).__name__}) alone, with {how}, differs from what it was "
                f"taken as at step {first + 1}: this is a mistake of hstnn, or a class that was changed"
            )
        if dyadic:
            met += sum(o.met)
    return met


def run_alone(module: nn.Module, x: Tensor, layout: Layout) -> Tensor:
    """Run neurons alone; norse's take and give back their state."""
    if library(module) == "norse" and layout == "step":
        rows, state = [], None
        for now in x:
            y, state = module(now, state)
            rows.append(y)
        return torch.stack(rows)
    if library(module) == "snntorch" and not getattr(module, "init_hidden", False):
        reset(module)
        return torch.stack([_first(module(now)) for now in x])
    return run(module, x, layout)


def _batch_of(module: Any, usual: int) -> int:
    """Return the batch that a module is fixed to, or the usual one."""
    fixed = [getattr(each, "batch_size", None) for each in module.modules()]
    found = next((each for each in fixed if isinstance(each, int) and each > 0), None)
    return found or usual
