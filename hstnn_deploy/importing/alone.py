"""Each module alone against the layers that it was taken as, on input made to tell one option from another.

Neurons see currents under which membranes meet the threshold: with their own constants, and with constants that are
multiples of 1/8, so that a membrane meets its threshold exactly and whether it fires there shows. What they are
given is scaled until they fire, whatever their constants. Layers of weights see random values.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.parts import Branches, Chain, Part
from hstnn_deploy.importing.running import Layout, double, first_of, layout_of_one, run_alone
from hstnn_deploy.importing.stacks import built, start
from hstnn_deploy.importing.tree import is_neuron, kind_of, named, rule_of, taken
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.base import Shape
from hstnn_deploy.models.stack import Stack

EXACT = 1e-9
"""Of values in float64 whose constants are the same to the bit, relative to the largest."""
STORED = 1e-6
"""Of values whose constants were put together, and are stored as float32."""
STEPS, BATCH = 24, 16
_LARGE = 2**10
"""Units of a layer beyond which fewer are compared, where all have the same constants."""


@dataclass
class Alone:
    """What was seen of a module."""

    met: int
    """How often a membrane was exactly at its threshold."""
    fired: bool
    """Whether it fired with its own constants; of what never fires, true."""


@dataclass
class Counts:
    """What was seen of thresholds: membranes at them, membranes above, all."""

    met: int = 0
    spikes: int = 0
    units: int = 0


class Counting(Eager):
    """Tensors, with a count of membranes that are exactly at their threshold, and of spikes."""

    def __init__(self) -> None:
        super().__init__()
        # One object, which the copies of this reading for each layer share.
        self.count = Counts()

    def spike(self, membrane: Tensor, threshold: Any, *others: Any, **named: Any) -> Tensor:
        """See `Eager`."""
        found = super().spike(membrane, threshold, *others, **named)
        self.count.met += int((membrane == threshold).sum())
        self.count.spikes += int((found > 0).sum())
        self.count.units += found.numel()
        return found


def parts_of(chain: Chain) -> dict[str, list[Part]]:
    """Return the parts of each module, by its path."""
    found: dict[str, list[Part]] = {}

    def walk(parts: Chain) -> Iterator[Part]:
        for each in parts:
            if isinstance(each, Branches):
                for branch in each.chains:
                    yield from walk(branch)
            else:
                yield each

    for part in walk(chain):
        found.setdefault(part.path, []).append(part)
    return found


@torch.no_grad()
def compare_alone(module: nn.Module, path: str, parts: list[Part], layout: Layout) -> Alone | None:
    """Compare a module with what it was taken as; None where there is nothing to compare.

    Args:
        module: the module.
        path: its name.
        parts: what it was taken as.
        layout: what it takes.

    Raises:
        ImportRefused: they do not do the same; says at which step.
    """
    if rule_of(module) is None or parts[0].shape is None:
        return None
    if is_neuron(module):
        return _neurons(module, path, parts, layout)
    if any(part.weights for part in parts):
        _weights(module, path, parts)
    return None


def _weights(module: Any, path: str, parts: list[Part]) -> None:
    shape = parts[0].shape
    assert shape is not None
    recurrent = isinstance(module, nn.RNNBase)
    x = torch.randn((STEPS, BATCH, *shape), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if isinstance(module, nn.Embedding):
        x = torch.arange(module.num_embeddings)[None]
    elif not recurrent:
        x = x[:1] if getattr(module, "step_mode", "") != "m" else x[:2]
    theirs, network = double(module), built(list(parts), shape, "every").double()
    if recurrent and module.batch_first:
        wanted = first_of(theirs(x.transpose(0, 1))).transpose(0, 1)
    elif recurrent or getattr(module, "step_mode", "") == "m":
        wanted = first_of(theirs(x))
    else:
        wanted = first_of(theirs(x[0]))[None]
    found, _ = network.layers.run(Eager(), x, start(network, x), True)
    _same(found, wanted, STORED if recurrent else EXACT, module, path, "on random input")


def _neurons(module: nn.Module, path: str, parts: list[Part], layout: Layout) -> Alone | None:
    rule, shape = rule_of(module), _small(module, parts)
    assert rule is not None
    axes = 1 if layout in ("step", "squeezed") else 2
    steps, batch = _sizes_of(module)
    generator = torch.Generator().manual_seed(0)
    theirs, network = double(module), built(list(parts) if shape == parts[0].shape else _again(parts), shape, "every")
    x = _eighths((steps, batch, *shape), generator) + torch.randn(
        (steps, batch, *shape), generator=generator, dtype=torch.float64
    ) / 8
    x, count = _scaled(network.double(), x)
    _compare(theirs, network, x, layout, module, path, "with its own constants")
    found = Alone(0, count.units == 0 or count.spikes > 0)
    given = taken(rule, theirs, path, shape, axes)
    if given.twin is None:
        return found
    given.twin(theirs)
    theirs = theirs.double()
    network = built(taken(rule, theirs, path, shape, axes).chain, shape, "every").double()
    for x in _meeting((steps, batch, *shape), generator):
        count = _compare(theirs, network, x, layout, module, path, "with constants that meet the threshold exactly")
        found.met += count.met
    return found if count.units else None


def _eighths(sizes: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return multiples of 1/8 that reach twice the threshold, and below 0."""
    return torch.randint(-8, 17, sizes, generator=generator).double() / 8


def _meeting(sizes: tuple[int, ...], generator: torch.Generator) -> Iterator[Tensor]:
    """Yield input of multiples of 1/8; few and large pulses leave membranes whose fractions are short."""
    yield _eighths(sizes, generator)
    for size in (1.0, 2.0, 4.0):
        pulses = torch.tensor([0, 0, 0, 0.5, 0.5, 1, 1, 1, 2, -1]).double() * size
        yield pulses[torch.randint(0, len(pulses), sizes, generator=generator)]


def _scaled(network: Stack, x: Tensor) -> tuple[Tensor, Counts]:
    """Return input times a power of 2 under which neurons fire, but not always."""
    tried = []
    for power in (0, *(sign * each for each in range(1, 25) for sign in (1, -1))):
        o = Counting()
        network.layers.run(o, x * 2.0**power, start(network, x), True)
        count = o.count
        if not count.units or 0.05 < count.spikes / count.units < 0.7:
            return x * 2.0**power, count
        tried.append((count.spikes == 0, abs(count.spikes / count.units - 0.3), power, count))
    best = min(tried, key=lambda each: each[:2])
    return x * 2.0 ** best[2], best[3]


def _small(module: Any, parts: list[Part]) -> Shape:
    """Return the shape to compare in: fewer units and a smaller map, where all units have the same constants."""
    shape = parts[0].shape
    assert shape is not None
    constants = [*module.parameters(), *module.buffers()]
    if hasattr(getattr(module, "p", None), "_asdict"):
        constants += [each for each in module.p._asdict().values() if isinstance(each, Tensor)]
    own = [each for part in parts for each in part.weights.values()]
    if torch.Size(shape).numel() <= _LARGE or any(each.numel() > 1 for each in (*constants, *own)):
        return shape
    return (min(shape[0], 64 if len(shape) > 1 else 256), *(min(each, 4) for each in shape[1:]))


def _again(parts: list[Part]) -> Chain:
    return [copy.copy(each) for each in parts]


def _sizes_of(module: nn.Module) -> tuple[int, int]:
    """Return the steps and the batch that a module is fixed to, or the usual ones."""
    found = {"num_timesteps": STEPS, "batch_size": BATCH}
    each: Any
    for each in module.modules():
        for name in found:
            value = getattr(each, name, None)
            if isinstance(value, int) and value > 0:
                found[name] = value
    return found["num_timesteps"], found["batch_size"]


def _compare(
    theirs: nn.Module, network: Stack, x: Tensor, layout: Layout, module: nn.Module, path: str, how: str
) -> Counts:
    wanted = run_alone(theirs, x, layout_of_one(module) or layout)
    o = Counting()
    found, _ = network.layers.run(o, x, start(network, x), True)
    _same(found, wanted, STORED if not o.count.units else EXACT, module, path, how)
    return o.count


def _same(found: Tensor, wanted: Tensor, bound: float, module: nn.Module, path: str, how: str) -> None:
    if found.shape == wanted.shape:
        wrong = (found - wanted).abs() > bound * max(1e-30, float(wanted.abs().amax()))
        if not bool(wrong.any()):
            return
        at = f"at step {int(wrong.flatten(1).any(1).int().argmax()) + 1}"
    else:
        at = f"in its shape: {list(wanted.shape)}, and not {list(found.shape)}"
    raise ImportRefused(
        f"{named(path)} ({kind_of(module)}) alone, {how}, differs from what it was taken as {at}: "
        "this is a mistake of hstnn, or a class that was changed"
    )
