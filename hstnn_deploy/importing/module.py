"""A torch module of another library as a stack, with its weights, proved against the module itself."""

import importlib.metadata
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import HstnnError, ImportRefused
from hstnn_deploy.importing.alone import parts_of
from hstnn_deploy.importing.checks import check_shared, ready, tied
from hstnn_deploy.importing.graph import Read, repeats, take, whole
from hstnn_deploy.importing.parts import FOLDED, every_part
from hstnn_deploy.importing.proof import Proof, prove, window_of
from hstnn_deploy.importing.running import Layout, layout_of
from hstnn_deploy.importing.stacks import built, check_whole
from hstnn_deploy.importing.tree import is_container, library, notes_of, rule_of, unknown
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
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return _imported(module, example, layout, readout, steps)
    finally:
        torch.set_default_dtype(usual)


def _imported(module: nn.Module, example: Tensor, layout: Layout | None, readout: Readout, steps: int) -> Imported:
    copy, example, notes = ready(module, example)
    how = layout or layout_of(copy)
    axes = FOLDED if how == "squeezed" else 1 if how in ("step", "constant") else 2
    tokens = not example.is_floating_point()
    if example.ndim < axes + (not tokens) and not (axes == 2 and repeats(copy, tuple(example.shape))):
        steps_and_batch = {"time-first": [20, 4], "batch-first": [4, 20], "squeezed": [80]}.get(how, [4])
        fits = ",".join(map(str, [*steps_and_batch, *(() if tokens else example.shape[-1:])]))
        hint = f"give an example with its steps (T) and samples (B), such as one of shape {fits} (--input {fits})"
        raise ImportRefused(f"the example has shape {list(example.shape)}; this module takes {_TAKES[how]}", hint)
    read = _read(copy, example, how, axes)
    chain, carries = read.chain, read.loop is None and carries_states(copy)
    shape = tuple(example.shape[axes:])
    if read.loop is not None:
        indexed = read.loop.axis is not None
        how = ("batch-first" if read.loop.axis else "time-first") if indexed else "constant"
        steps, shape = read.loop.steps, tuple(example.shape[2 if indexed else 1 :])
    check_shared(copy, chain)
    check_whole(chain, shape, read.readout or readout)
    network = built(chain, shape, read.readout or readout)
    x = window_of(copy, example, how, steps)
    proof = _proved(copy, network, chain, x, how, carries, read.readout is not None, read.turned)
    origin = {
        "class": f"{type(module).__module__}.{type(module).__qualname__}",
        "libraries": {name: _version(name) for name in sorted(_libraries(module))},
        "layout": how,
        "proof": proof.plain(),
    }
    network.origin = origin
    notes += [*notes_of(copy, parts_of(chain)), *tied(copy, chain), *_left_out(read), *proof.notes()]
    return Imported(network, proof, notes, origin)


def _left_out(read: Read) -> list[str]:
    """Return the notes on a forward with a loop: steps, and values beside its answer, that are left out."""
    if read.loop is None:
        return []
    steps = read.loop.steps
    notes = [f"its forward is for windows of {steps} steps; the stack takes windows of any length"] * read.fixed
    if not read.beside:
        return notes
    last = next((part.path for part in reversed(list(every_part(read.chain))) if part.membrane), "")
    what = f"the membrane of {last}" if last else "the first of what its forward gives"
    others = (
        "the stack omits another value that it returns"
        if read.beside == 1
        else f"{read.beside} others that it gives stay"
    )
    return [*notes, f"the answer is {what}; {others} behind"]


def _read(module: nn.Module, example: Tensor, layout: Layout, axes: int) -> Read:
    try:
        return _read_as(module, example, layout, axes)
    except ImportRefused:
        # A layer that is not known may be why others seem to see another shape.
        if reason := unknown(module):
            raise reason from None
        raise


def _read_as(module: nn.Module, example: Tensor, layout: Layout, axes: int) -> Read:
    if rule_of(module) or is_container(module) or library(module):
        return Read(take(module, "", tuple(example.shape[axes:]), axes))
    time_axis = {"time-first": 0, "batch-first": 1}.get(layout)
    return whole(module, tuple(example.shape), axes, time_axis)


def _proved(module: nn.Module, network: Stack, *how: Any) -> Proof:
    """Prove it; whatever the module raises on the way refuses it."""
    try:
        return prove(module, network, *how)
    except HstnnError:
        raise
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImportRefused(f"{type(module).__name__} fails where it is compared with the stack: {said}") from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _libraries(module: nn.Module) -> set[str]:
    return {library(each) for each in module.modules()} - {""} | {"torch"}


def carries_states(module: nn.Module) -> bool:
    """Whether a module takes states beside its input, and gives them back."""
    if library(module) == "norse":
        return True
    if library(module) or isinstance(module, nn.Sequential):
        return False
    taken = list(inspect.signature(module.forward).parameters.values())
    return len([each for each in taken if each.kind is each.POSITIONAL_OR_KEYWORD]) > 1
