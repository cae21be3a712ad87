"""A torch module of another library as a stack, with its weights, proved against the module itself."""

import importlib.metadata
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused, RecipeError
from hstnn_deploy.importing.parts import Chain, configs, leaves
from hstnn_deploy.importing.proof import (
    TOLERANCE,
    Layout,
    Proof,
    compare_alone,
    double,
    outputs,
    over_time,
    paths_of,
    run,
    watched,
)
from hstnn_deploy.importing.graph import whole
from hstnn_deploy.importing.tree import is_container, is_neuron, library, notes_of, rule_of, take
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.stack import Readout, Stack, StackConfig


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
    proof = prove(module, network, chain, _window(example, how, steps), how, carries)
    paths = {path: shape for path, shape in _shapes(module, _window(example, how, steps), how, carries).items() if path}
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


def layout_of(module: nn.Module) -> Layout:
    """Return what a module takes, by its layers.

    Raises:
        ImportRefused: they disagree, or none says.
    """
    said: dict[Layout, str] = {}
    for path, each in module.named_modules():
        if found := _layout(each):
            said.setdefault(found, path or type(each).__name__)
    if len(said) > 1:
        what = " and ".join(f"{path} takes {name}" for name, path in said.items())
        raise ImportRefused(f"layers disagree on what comes in: {what}", "say which with the argument layout")
    if not said:
        return "step"
    return next(iter(said))


def _layout(module: nn.Module) -> Layout | None:
    name = type(module).__name__
    match library(module):
        case "snntorch":
            return "step" if is_neuron(module) else None
        case "spikingjelly":
            mode = getattr(module, "step_mode", None)
            if not is_neuron(module) and name != "SeqToANNContainer":
                return None
            return {"s": "step", "m": "time-first"}.get(mode or "m")  # type: ignore[return-value]
        case "sinabs":
            if not is_neuron(module):
                return None
            return "squeezed" if name.endswith("Squeeze") else "batch-first"
        case "norse":
            if not is_neuron(module):
                return "time-first" if name == "Lift" else None
            return "step" if name.endswith("Cell") else "time-first"
        case "torch" if name in {"RNN", "LSTM", "GRU"}:
            return "batch-first" if getattr(module, "batch_first", False) else "time-first"
    return None


def built(chain: Chain, shape: Shape, readout: Readout) -> Stack:
    """Return the stack of a chain, in evaluation mode, with its weights.

    Raises:
        ImportRefused: the layers do not make a network, or weights do not fit them.
    """
    try:
        config = StackConfig.model_construct(
            family="stack", input=list(shape), layers=_checked(chain), readout=readout, mode="layers", weights=None
        )
        network = config.build([])
    except RecipeError as error:
        raise ImportRefused(error.message, error.hint) from error
    for layer, part in zip(network.leaves(), leaves(chain), strict=True):
        if part is None:
            continue
        own = layer.state_dict()
        if own.keys() != part.weights.keys():
            odd = sorted(own.keys() ^ part.weights.keys())[0]
            raise ImportRefused(f"{part.path}: its weights are not those of {layer.kind}: {odd}")
        for name, value in part.weights.items():
            if own[name].shape != value.shape:
                raise ImportRefused(
                    f"{part.path}: {name} has the shape {list(value.shape)}, and {layer.kind} takes {list(own[name].shape)}"
                )
        layer.load_state_dict(part.weights)
    return network.eval()


def _checked(chain: Chain) -> list[Any]:
    from hstnn_deploy.models.layers import checked

    return checked(configs(chain), "network.layers")


def _window(example: Tensor, layout: Layout, steps: int) -> Tensor:
    """Return the example as a window [T, B, …]: of one step, a window of random steps like it."""
    example = example.detach().double()
    if layout == "time-first":
        return example
    if layout == "batch-first":
        return example.transpose(0, 1)
    if layout == "squeezed":
        return example[:, None]
    if layout == "constant":
        return example.expand(steps, *example.shape)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((steps, *example.shape), generator=generator, dtype=torch.float64) * 2
    return example * noise


@torch.no_grad()
def _shapes(module: nn.Module, x: Tensor, layout: Layout, carries: bool) -> dict[str, Shape]:
    """Return what comes into every module of a library at a step of a sample, by its path."""
    found: dict[str, Shape] = {}
    handles = []
    for path, each in module.named_modules():
        if library(each):

            def keep(_module: Any, inputs: Any, path: str = path) -> None:
                if inputs and isinstance(inputs[0], Tensor):
                    found[path] = tuple(inputs[0].shape)

            handles.append(each.register_forward_pre_hook(keep))
    x = x.float() if layout != "step" else x[:1].float()
    run(module, x, layout, carries)
    for handle in handles:
        handle.remove()
    lead = x.shape[:2] if layout == "time-first" else (x.shape[1], x.shape[0]) if layout == "batch-first" else None
    return {path: shape[2:] if lead is not None and shape[:2] == lead else shape[1:] for path, shape in found.items()}


@torch.no_grad()
def prove(module: nn.Module, network: Stack, chain: Chain, x: Tensor, layout: Layout, carries: bool) -> Proof:
    """Compare a stack with the module that it was made of; see `importing.proof`.

    Args:
        module: the module.
        network: the stack.
        chain: what the module was taken as.
        x: the input that was given, [T, B, …].
        layout: what the module takes.
        carries: whether it takes and gives back states.

    Raises:
        ImportRefused: they differ; names the first module and step at which they do.
    """
    shapes = _shapes(module, x, layout, carries)
    alone = met = 0
    for path, shape in shapes.items():
        each = module.get_submodule(path)
        if is_neuron(each):
            met += compare_alone(each, path, shape, _layout(each) or layout)
            alone += 1
    theirs, ours = double(module), _copy(network).double()
    paths = [path for path in paths_of(chain)]
    total = {"spikes": 0, "fired": 0.0, "values": 0}
    generator = torch.Generator().manual_seed(1)
    spread = float(x.abs().amax()) or 1.0
    random = torch.rand(x.shape, generator=generator, dtype=torch.float64) * 2 * spread - 0.5 * spread
    if layout == "constant":
        random = random[:1].expand(random.shape)
    for given in (x, random):
        rows, end = watched(theirs, iter(paths), layout)
        answer = run(theirs, given, layout, carries)
        end()
        found, last = outputs(ours, chain, given)
        steps, batch = given.shape[:2]
        for path in paths:
            behind = layout in ("time-first", "batch-first") and rows[path][0].shape == found[path].shape[1:]
            behind = behind and len(rows[path]) == 1 < steps
            # Behind a readout of the last step, a module sees that step alone.
            wanted = rows[path][0] if behind else over_time(rows[path], steps, batch, layout)
            _compare(path, module.get_submodule(path), found[path][-1] if behind else found[path], wanted, total)
        if answer.ndim < last.ndim:
            last = network.double()(given)[0]
        _compare("", module, last, answer, total if not paths else dict(total))
    single = _in_single(module, network.float(), chain, x, layout, carries, paths)
    return Proof(
        modules=len(paths),
        spikes=total["spikes"],
        fired=total["fired"] / max(1, total["spikes"]),
        values=total["values"],
        alone=alone,
        met=met,
        single=single,
        inputs=f"the example over {len(x)} steps, and random input of its size (seed 1)",
    )


def _copy(network: Stack) -> Stack:
    import copy

    return copy.deepcopy(network)


def _compare(path: str, module: nn.Module, ours: Tensor, theirs: Tensor, total: dict[str, Any]) -> None:
    name = f"{path} ({type(module).__name__})" if path else f"the whole ({type(module).__name__})"
    if ours.shape != theirs.shape:
        raise ImportRefused(f"{name} gives {list(theirs.shape)} over a window, and the stack {list(ours.shape)}")
    if not theirs.isfinite().all():
        raise ImportRefused(f"{name} gives values that are not finite")
    spiking = is_neuron(module) and bool((theirs == theirs.round()).all())
    if spiking:
        wrong = ours != theirs
        total["spikes"] += theirs.numel()
        total["fired"] += float(theirs.abs().sum())
    else:
        wrong = (ours - theirs).abs() > TOLERANCE * max(1e-6, float(theirs.abs().amax()))
        total["values"] += theirs.numel()
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        step, sample, *unit = (each + 1 for each in place)
        at = f"step {step}, sample {sample}, unit {'.'.join(map(str, unit)) or '1'}"
        raise ImportRefused(
            f"{name}: the stack differs from the module in {int(wrong.sum())} of {wrong.numel()} outputs, first at {at}: "
            f"{float(ours[tuple(place)]):.6g} and not {float(theirs[tuple(place)]):.6g}"
        )


def _in_single(
    module: nn.Module, network: Stack, chain: Chain, x: Tensor, layout: Layout, carries: bool, paths: list[str]
) -> int:
    """Return how many spikes differ where both run in float32 as they are."""
    rows, end = watched(module, iter(paths), layout)
    run(module, x.float(), layout, carries)
    end()
    found, _ = outputs(network, chain, x.float())
    differ = 0
    for path in paths:
        if is_neuron(module.get_submodule(path)):
            wanted = over_time(rows[path], len(x), x.shape[1], layout)
            if bool((wanted == wanted.round()).all()):
                differ += int((found[path] != wanted).sum())
    return differ
