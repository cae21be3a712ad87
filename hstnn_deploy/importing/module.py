"""A torch module of another library as a stack, with its weights, proved against the module itself."""

import importlib.metadata
import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.graph import take, whole
from hstnn_deploy.importing.proof import Proof, prove, shapes_of, window_of
from hstnn_deploy.importing.running import Layout, layout_of
from hstnn_deploy.importing.stacks import built
from hstnn_deploy.importing.tree import is_container, library, notes_of, rule_of
from hstnn_deploy.models.layers.readouts import Readout
from hstnn_deploy.models.stack import Stack

_TAKES: dict[Layout, str] = {
    "step": "[B, ...]",
    "time-first": "[T, B, ...]",
    "batch-first": "[B, T, ...]",
    "squeezed": "[B * T, ...]",
    "constant": "[B, ...]",
}


@dataclass(frozen=True)
class Imported:
    """A network, and what is known of where it comes from."""

    network: Stack
    proof: Proof
    notes: list[str]
    """What the stack does not take over; none of it changes what the network computes in evaluation."""
    origin: dict[str, Any]
    """The module's class, its libraries and their versions, its layout, and the proof, as plain data."""

    def __repr__(self) -> str:
        return f"Imported({self.origin['class']}: {self.proof.modules} modules, {self.proof.spikes} spikes equal)"


def from_torch(
    module: nn.Module, example: Tensor, layout: Layout | None = None, readout: Readout = "sum", steps: int = 20
) -> Stack:
    """Return a module of snnTorch, SpikingJelly, sinabs, Norse or plain torch as a network of this package.

    The network is proved to compute what the module computes (see `importing.proof`), and has its weights.

    Args:
        module: the module, in evaluation mode. It is not changed; its states are set to their start.
        example: what it takes: one step [B, …], or a window [T, B, …] or [B, T, …], as `layout` says.
        layout: what it takes; None: as its layers say.
        readout: what of the last layer's output over time is the network's answer, where its forward does not say.
        steps: how many steps it is run for to be compared, where `example` is one step.

    Raises:
        ImportRefused: something in it is not taken, by its path and why; or it is not the same as the stack.
    """
    return import_module(module, example, layout, readout, steps).network


def import_module(
    module: nn.Module, example: Tensor, layout: Layout | None = None, readout: Readout = "sum", steps: int = 20
) -> Imported:
    """Return a network and how it was proved; see `from_torch`."""
    if not isinstance(module, nn.Module):
        raise ImportRefused(f"{type(module).__name__} is no torch module")
    if training := next((name for name, each in module.named_modules() if each.training), None):
        where = f"its part {training}" if training else type(module).__name__
        raise ImportRefused(f"{where} is in training mode", "call module.eval() first")
    if not isinstance(example, Tensor) or not example.is_floating_point():
        raise ImportRefused(
            "the example must be a tensor of floating-point numbers, of the shape that the module takes"
        )
    how = layout or layout_of(module)
    axes = 1 if how in ("step", "squeezed", "constant") else 2
    if example.ndim <= axes - (how == "squeezed"):
        raise ImportRefused(f"the example has the shape {list(example.shape)}; this module takes {_TAKES[how]}")
    shape, carries = tuple(example.shape[axes:]), _carries(module)
    if rule_of(module) or is_container(module) or library(module):
        chain = take(module, "", shape, axes)
    else:
        time_axis = {"time-first": 0, "batch-first": 1}.get(how)
        read = whole(module, tuple(example.shape), axes, time_axis)
        chain, readout = read.chain, read.readout or readout
        if read.loop is not None:
            how, carries = "time-first" if read.loop.indexed else "constant", False
            shape, steps = tuple(example.shape[2 if read.loop.indexed else 1 :]), read.loop.steps
    network = built(chain, shape, readout)
    proof = prove(module, network, chain, window_of(example, how, steps), how, carries)
    paths = {
        path: shape for path, shape in shapes_of(module, window_of(example, how, steps), how, carries).items() if path
    }
    origin = {
        "class": f"{type(module).__module__}.{type(module).__qualname__}",
        "libraries": {name: importlib.metadata.version(name) for name in sorted(_libraries(module))},
        "layout": how,
        "proof": proof.plain(),
    }
    return Imported(network, proof, notes_of(module, paths, axes), origin)


def _libraries(module: nn.Module) -> set[str]:
    return {library(each) for each in module.modules()} - {""} | {"torch"}


def _carries(module: nn.Module) -> bool:
    """Whether a module takes states beside its input, and gives them back."""
    if library(module) == "norse":
        return True
    if library(module) or isinstance(module, nn.Sequential):
        return False
    taken = list(inspect.signature(module.forward).parameters.values())
    return len([each for each in taken if each.kind is each.POSITIONAL_OR_KEYWORD]) > 1
