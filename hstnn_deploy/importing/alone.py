"""Compare each module alone with the layers that replace it, in float64, on input that tells options apart.

Neurons see random currents, and such as bring their membranes next to the threshold, on both sides of it: with their
own constants, and with constants that are multiples of 1/8, so that a membrane meets its threshold exactly and whether
it fires there shows. Layers of weights see random values.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.parts import Branches, Chain, Part, every_part
from hstnn_deploy.importing.probes import NEAR, Counts, audible, counted, eighths, pulses, seeking
from hstnn_deploy.importing.running import Layout, double, first_of, layout_of_one, run_alone
from hstnn_deploy.importing.stacks import built
from hstnn_deploy.importing.tree import is_neuron, kind_of, named, rule_of, taken
from hstnn_deploy.models.layers.base import Shape

EXACT = 1e-9
"""Of values that are no spikes, relative to the largest."""
STORED = 1e-5
"""Between constants as they are stored, and as they are in float64, relative to the largest."""
STEPS, BATCH = 24, 16
_BACKWARD = {"surrogate", "lens", "surrogate_scale"}
"""Keys that no spike depends on."""
_GROWN = 1e5
"""Spikes at a step beyond which neurons are compared no further."""
_LARGE = 2**10
"""Units of a layer beyond which fewer are compared, where all have the same constants."""


@dataclass
class Alone:
    """What was seen of a module."""

    precise: list[Part]
    """What it is taken as where it computes in float64."""
    spiking: bool = False
    met: int = 0
    """How often a membrane was exactly at its threshold."""
    fired: bool = False
    """Whether it fired with its own constants."""


def parts_of(chain: Chain) -> dict[str, list[Part]]:
    """Return the parts of each module, by its path."""
    found: dict[str, list[Part]] = {}
    for part in every_part(chain):
        found.setdefault(part.path, []).append(part)
    return found


@torch.no_grad()
def compare_alone(module: nn.Module, path: str, parts: list[Part], layout: Layout) -> Alone | None:
    """Compare a module with what it was taken as; None if no rule takes it.

    Args:
        module: the module.
        path: its name.
        parts: what it was taken as.
        layout: what it takes.

    Raises:
        ImportRefused: they do not do the same; says at which step.
    """
    rule, shape = rule_of(module, parts[0].membrane), parts[0].shape
    if rule is None or shape is None:
        return None
    theirs = double(module)
    chain = taken(rule, theirs, path, shape, parts[0].axes, parts[0].membrane).chain
    precise = [each for each in chain if isinstance(each, Part)]
    _check_stored(parts, precise, module, path)
    found = Alone(precise)
    if is_neuron(module):
        if "lstm" in precise[0].config and len(precise) > 1:
            _spiking_lstm(theirs, module, path, precise)
        _neurons(theirs, module, path, found, layout)
    elif any(part.weights for part in parts):
        _weights(theirs, path, precise)
    return found


def _check_stored(parts: list[Part], precise: list[Part], module: nn.Module, path: str) -> None:
    """Refuse constants that are others in float64 than as they are stored, beyond rounding."""
    for part, exact in zip(parts, precise, strict=True):
        same = part.config.keys() == exact.config.keys() and part.weights.keys() == exact.weights.keys()
        for name, value in exact.weights.items():
            bound = STORED * max(1e-30, float(value.abs().amax())) if value.numel() else 0.0
            same = same and value.shape == part.weights[name].shape
            same = same and bool(((value - part.weights[name]).abs() <= bound).all())
        if not same or not _near(part.config, exact.config):
            raise ImportRefused(f"{named(path)} ({kind_of(module)}) has different constants in float64 and in float32")


def _near(one: Any, other: Any) -> bool:
    """Whether two configurations are the same but for rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key]) for key in one.keys() - _BACKWARD)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= STORED * max(abs(one), abs(other), 1e-3)
    return bool(one == other)


def _weights(theirs: Any, path: str, parts: list[Part]) -> None:
    shape = parts[0].shape
    assert shape is not None
    recurrent, window = isinstance(theirs, nn.RNNBase), getattr(theirs, "step_mode", "") == "m"
    # As many steps as show what recurrent weights do.
    sizes = (STEPS if recurrent else 2 if window else 1, BATCH, *shape)
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if isinstance(theirs, nn.Embedding):
        x = torch.arange(theirs.num_embeddings)[None]
    network = built(list(parts), shape, "every", precise=True)
    if recurrent and theirs.batch_first:
        wanted = first_of(theirs(x.transpose(0, 1))).transpose(0, 1)
    elif recurrent or window:
        wanted = first_of(theirs(x))
    else:
        wanted = first_of(theirs(x[0]))[None]
    _check_same(counted(network, x)[0], wanted, theirs, path, "on random input")


def _spiking_lstm(theirs: Any, module: nn.Module, path: str, parts: list[Part]) -> None:
    """Compare what an LSTM gives its threshold, which no input can be led to; and its spikes on very much of it."""
    shape, output = parts[0].shape, theirs.output
    assert shape is not None
    x = torch.randn((STEPS, 32 * BATCH, *shape), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    theirs.output = True
    for last, how in ((False, "its spikes on random input"), (True, "its membrane on random input")):
        ours = built([*parts[:1]] if last else [*parts], shape, "every", precise=True)
        _check_same(counted(ours, x)[0], run_alone(theirs, x, "step", last), module, path, how)
    theirs.output = output


def _neurons(theirs: nn.Module, module: nn.Module, path: str, found: Alone, layout: Layout) -> None:
    membrane, axes = found.precise[0].membrane, found.precise[0].axes
    rule = rule_of(module, membrane)
    layout = layout_of_one(module) or layout
    assert rule is not None
    shape = _small(theirs, found.precise)
    sizes = (*_sizes_of(module), *shape)
    generator = torch.Generator().manual_seed(0)

    compared: list[int] = []

    def compare(x: Tensor, how: str) -> Counts:
        ours, _, count = counted(network, x)
        wanted = run_alone(theirs, x, layout, membrane)
        grown = (wanted.abs() > _GROWN).flatten(1).any(1)
        # Layers that hear themselves may grow from step to step, until nothing but rounding decides.
        until = int(grown.int().argmax()) if bool(grown.any()) else len(grown)
        compared.append(until)
        _check_same(ours[:until], wanted[:until], module, path, how)
        return count

    parts = [each for each in taken(rule, theirs, path, shape, axes).chain if isinstance(each, Part)]
    network = built(list(parts), shape, "every", precise=True)
    x = eighths(sizes, generator) + torch.randn(sizes, generator=generator, dtype=torch.float64) / 8
    x, count = audible(network, x)
    own = "with its own constants"
    compare(x, own)
    found.spiking, found.fired = count.units > 0, count.spikes > 0
    compare(seeking(network, parts, x, NEAR, generator), own)
    given = taken(rule, theirs, path, shape, axes)
    if given.twin is None:
        return
    given.twin(theirs)
    theirs = theirs.double()
    parts = [each for each in taken(rule, theirs, path, shape, axes).chain if isinstance(each, Part)]
    network = built(list(parts), shape, "every", precise=True)
    for x in pulses(sizes, generator):
        found.met += compare(x, "with constants that meet the threshold exactly").met
    x = seeking(network, parts, eighths(sizes, generator), 0.0, generator)
    found.met += compare(x, "with constants that meet the threshold exactly").met
    found.fired = found.fired and min(compared) > 1


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


def _check_same(found: Tensor, wanted: Tensor, module: nn.Module, path: str, how: str) -> None:
    if found.shape == wanted.shape:
        wrong = (found - wanted).abs() > EXACT * max(1e-30, float(wanted.abs().amax()))
        if not bool(wrong.any()):
            return
        at = f"at step {int(wrong.flatten(1).any(1).int().argmax()) + 1}"
    else:
        at = f"in its shape: {list(wanted.shape)}, not {list(found.shape)}"
    raise ImportRefused(
        f"{named(path)} ({kind_of(module)}) alone, {how}, differs from its replacement {at}: "
        "this is a mistake of hstnn, or a class or an output that was changed (by a forward hook, say)"
    )


def precisely(chain: Chain, found: dict[str, list[Part]]) -> Chain:
    """Return a chain whose parts are those that their modules are taken as in float64."""
    left = {path: list(parts) for path, parts in found.items()}

    def walk(parts: Chain) -> Chain:
        return [
            Branches(each.how, [walk(branch) for branch in each.chains], each.path)
            if isinstance(each, Branches)
            else left[each.path].pop(0)
            if each.path in left
            else each
            for each in parts
        ]

    return walk(chain)
