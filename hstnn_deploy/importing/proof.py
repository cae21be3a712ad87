"""Whether a stack is the module that it was made of: both are run on the same inputs, in float64, module by module.

- Each layer of neurons alone, on currents under which membranes meet the threshold: with its own constants, and with
  constants that are multiples of 1/8, so that a membrane meets its threshold exactly and whether it fires there shows.
- The whole network on the input that was given and on random input, each module's output compared with the stack's.

In float64, rounding moves a spike only where a membrane is within some 1e-15 of its threshold.
"""

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.parts import Branches, Chain
from hstnn_deploy.importing.running import Layout, double, layout_of_one, over_time, paths_of, run, run_alone, watched
from hstnn_deploy.importing.stacks import built
from hstnn_deploy.importing.tree import is_neuron, library, rule_of, taken
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.layers.blocks import run_layer
from hstnn_deploy.models.stack import Stack

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


def outputs(network: Stack, chain: Chain, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return what a stack's layers give over a window x[T, B, …]: behind each module by its path, and at the end."""
    o, state = Eager(), network.initial_state(x)
    found: dict[str, Tensor] = {}

    def walk(layers: Any, parts: Chain, now: Tensor) -> Tensor:
        for layer, part in zip(layers, parts, strict=True):
            if isinstance(part, Branches):
                rows = [
                    walk(inner.layers, branch, now) for inner, branch in zip(layer.chains, part.chains, strict=False)
                ]
                now = layer.together(o.at(layer.number), now, rows, True)
                continue
            now, _ = run_layer(layer, o, now, state, True)
            found[part.path] = now
        return now

    return found, walk(network.layers.layers, chain, x)


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


def _batch_of(module: Any, usual: int) -> int:
    """Return the batch that a module is fixed to, or the usual one."""
    fixed = [getattr(each, "batch_size", None) for each in module.modules()]
    found = next((each for each in fixed if isinstance(each, int) and each > 0), None)
    return found or usual


def window_of(example: Tensor, layout: Layout, steps: int) -> Tensor:
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
def shapes_of(module: nn.Module, x: Tensor, layout: Layout, carries: bool) -> dict[str, Shape]:
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


@dataclass
class Total:
    """What was compared so far."""

    spikes: int = 0
    fired: float = 0.0
    values: int = 0


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
    shapes = shapes_of(module, x, layout, carries)
    alone = met = 0
    for path, shape in shapes.items():
        each = module.get_submodule(path)
        if is_neuron(each):
            met += compare_alone(each, path, shape, layout_of_one(each) or layout)
            alone += 1
    theirs, ours = double(module), copy.deepcopy(network).double()
    paths = list(paths_of(chain))
    total = Total()
    generator = torch.Generator().manual_seed(1)
    spread = float(x.abs().amax()) or 1.0
    random = torch.rand(x.shape, generator=generator, dtype=torch.float64) * 2 * spread - 0.5 * spread
    if layout == "constant":
        random = random[:1].expand(random.shape)
    for given in (x, random):
        rows, end = watched(theirs, iter(paths))
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
        _compare("", module, last, answer, total if not paths else Total())
    single = _in_single(module, network.float(), chain, x, layout, carries, paths)
    return Proof(
        modules=len(paths),
        spikes=total.spikes,
        fired=total.fired / max(1, total.spikes),
        values=total.values,
        alone=alone,
        met=met,
        single=single,
        inputs=f"the example over {len(x)} steps, and random input of its size (seed 1)",
    )


def _compare(path: str, module: nn.Module, ours: Tensor, theirs: Tensor, total: Total) -> None:
    name = f"{path} ({type(module).__name__})" if path else f"the whole ({type(module).__name__})"
    if ours.shape != theirs.shape:
        raise ImportRefused(f"{name} gives {list(theirs.shape)} over a window, and the stack {list(ours.shape)}")
    if not theirs.isfinite().all():
        raise ImportRefused(f"{name} gives values that are not finite")
    spiking = is_neuron(module) and bool((theirs == theirs.round()).all())
    if spiking:
        wrong = ours != theirs
        total.spikes += theirs.numel()
        total.fired += float(theirs.abs().sum())
    else:
        wrong = (ours - theirs).abs() > TOLERANCE * max(1e-6, float(theirs.abs().amax()))
        total.values += theirs.numel()
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        step, sample, *unit = (each + 1 for each in place)
        at = f"step {step}, sample {sample}, unit {'.'.join(map(str, unit)) or '1'}"
        raise ImportRefused(
            f"{name}: the stack differs from it in {int(wrong.sum())} of {wrong.numel()} values, first at {at}, "
            f"{float(ours[tuple(place)]):.6g} and not {float(theirs[tuple(place)]):.6g}"
        )


def _in_single(
    module: nn.Module, network: Stack, chain: Chain, x: Tensor, layout: Layout, carries: bool, paths: list[str]
) -> int:
    """Return how many spikes differ where both run in float32 as they are."""
    rows, end = watched(module, iter(paths))
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
