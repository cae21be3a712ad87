"""Prove that a stack equals the module it was made from: run both on the same inputs in float64, module by module.

- Each layer of neurons and of weights alone, on input that tells one option from another (see `importing.alone`).
- The whole network on the input that was given and on random input, each module's output compared with the stack's.

Both have their constants in float64 there, where rounding moves a spike only if a membrane is within some 1e-15 of its
threshold. What is kept is those constants in float32, as the module has them; how many spikes that moves is counted.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hstnn_deploy.errors import ImportRefused
from hstnn_deploy.importing.alone import EXACT, STORED, compare_alone, parts_of, precisely
from hstnn_deploy.importing.parts import Branches, Chain, every_part
from hstnn_deploy.importing.running import (
    Layout,
    double,
    layout_of_one,
    made_in_double,
    over_time,
    paths_of,
    run,
    watched,
)
from hstnn_deploy.importing.stacks import built, start
from hstnn_deploy.importing.tree import is_neuron, kind_of, library, named
from hstnn_deploy.models.eager import Eager
from hstnn_deploy.models.layers.blocks import run_layer
from hstnn_deploy.models.stack import Stack


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
    silent: tuple[str, ...] = ()
    """Layers of neurons that never fired in the whole."""
    weak: tuple[str, ...] = ()
    """Layers of neurons that, alone, never fired or never met their threshold exactly."""
    batch: int = 0
    """The only batch that the module was compared with, where it fails with a larger one; 0: with both."""

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"silent": list(self.silent), "weak": list(self.weak)}

    def notes(self) -> list[str]:
        """Return where it shows little."""
        found = [
            f"module {path} never fired in the comparison of the whole: give an example that makes it fire"
            for path in self.silent
        ]
        found += [f"module {path} alone never fired or never met its threshold exactly" for path in self.weak]
        return found + [f"it fails with batches other than {self.batch}, so only that batch was compared"] * bool(
            self.batch
        )


def outputs(network: Stack, chain: Chain, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return what a stack's layers give over a window x[T, B, …]: behind each module by its path, and at the end."""
    o, state = Eager(), start(network, x)
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


def window_of(module: nn.Module, example: Tensor, layout: Layout, steps: int) -> Tensor:
    """Return the example as a window [T, B, …]: of one step, a window of random steps like it."""
    # Numbers that single precision holds, as a forward may go through it with x.float().
    example = example.float().double() if example.is_floating_point() else example
    match layout:
        case "time-first":
            return example
        case "batch-first":
            return example.transpose(0, 1)
        case "squeezed":
            rows: Tensor = example.unflatten(0, _squeezed(module, len(example)))
            return rows.transpose(0, 1)
        case "constant":
            return example.expand(steps, *example.shape)
    if not example.is_floating_point():
        return example.expand(steps, *example.shape)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((steps, *example.shape), generator=generator, dtype=torch.float64) * 2
    return (example * noise).float().double()


def _squeezed(module: nn.Module, rows: int) -> tuple[int, int]:
    """Return the batch and the steps of an input whose first axis is both."""
    each: Any
    for each in module.modules():
        if library(each) == "sinabs" and (batch := getattr(each, "batch_size", None)):
            steps = int(each.num_timesteps)
            batch = rows // steps if batch < 0 else int(batch)
            if not batch or rows % batch or steps not in (-1, rows // batch):
                raise ImportRefused(
                    f"the example has {rows} rows, not batch_size {each.batch_size} times num_timesteps {steps}"
                )
            return batch, rows // batch
    return 1, rows


def _random(module: nn.Module, x: Tensor, constant: bool, more: int) -> Tensor:
    """Return random input of the range of x and of its size, but for some more samples."""
    generator = torch.Generator().manual_seed(1)
    x = torch.cat([x, x[:, :1]], 1) if more else x
    if not x.is_floating_point():
        words = next(each.num_embeddings for each in module.modules() if isinstance(each, nn.Embedding))
        found = torch.randint(0, words, x.shape, generator=generator)
    else:
        spread = float(x.abs().amax()) or 1.0
        found = (torch.rand(x.shape, generator=generator, dtype=torch.float64) * 2 * spread - 0.5 * spread).float()
        found = found.double()
    random: Tensor = found[:1].expand(found.shape) if constant else found
    return random


@dataclass
class Total:
    """What was compared so far."""

    spikes: int = 0
    fired: float = 0.0
    values: int = 0
    of_layers: dict[str, float] = field(default_factory=dict)
    """How often each layer of neurons fired."""


@torch.no_grad()
def prove(
    module: nn.Module,
    network: Stack,
    chain: Chain,
    x: Tensor,
    layout: Layout,
    carries: bool,
    reads: bool,
    turned: bool = False,
) -> Proof:
    """Compare a stack with the module that it was made of; see `importing.proof`.

    Args:
        module: the module.
        network: the stack.
        chain: what the module was taken as.
        x: the input that was given, [T, B, …].
        layout: what the module takes.
        carries: whether it takes and gives back states.
        reads: whether it reads out its outputs over time itself.
        turned: whether it takes a window [B, T, …] and gives [T, B, …].

    Raises:
        ImportRefused: they differ; names the first module and step at which they do.
    """
    alone = met = 0
    weak = []
    precise = {}
    for path, parts in parts_of(chain).items():
        each = module.get_submodule(path)
        if found := compare_alone(each, path, parts, layout_of_one(each) or layout):
            precise[path] = found.precise
            alone, met = alone + found.spiking, met + found.met
            weak += [named(path)] if found.spiking and not (found.fired and found.met) else []
    exact = precisely(chain, precise)
    theirs, ours = double(module), built(exact, tuple(x.shape[2:]), network.readout, precise=True)
    _check_kept(network, ours)
    paths = paths_of(chain)
    membranes = {part.path for part in every_part(chain) if part.membrane}
    total = Total()
    fixed = 0
    for more in (None, int(not _fixed(theirs))):
        given = x if more is None else _random(module, x, layout == "constant", more)
        try:
            rows, answer = _seen(theirs, given, layout, carries, reads or turned, paths, membranes)
        except Exception:
            if not more:
                raise
            fixed, given = x.shape[1], _random(module, x, layout == "constant", 0)
            rows, answer = _seen(theirs, given, layout, carries, reads or turned, paths, membranes)
        taps, last = outputs(ours, exact, given)
        steps, batch = given.shape[:2]
        for path in paths:
            behind = layout in ("time-first", "batch-first") and rows[path][0].shape == taps[path].shape[1:]
            behind = behind and len(rows[path]) == 1 < steps
            # Behind a readout of the last step, a module sees that step alone.
            wanted = rows[path][0] if behind else over_time(rows[path], steps, batch, layout)
            ours_here = taps[path][-1] if behind else taps[path]
            _compare(path, module.get_submodule(path), ours_here, wanted, total, path not in membranes)
        if reads:
            last = ours(given, start(ours, given))[0]
        _compare("", module, last, answer, total if not paths else Total(), True)
    spiking = [each for each in paths if is_neuron(module.get_submodule(each)) and each not in membranes]
    single = _in_single(module, network, chain, x, layout, carries, spiking)
    return Proof(
        modules=len(paths),
        spikes=total.spikes,
        fired=total.fired / max(1, total.spikes),
        values=total.values,
        alone=alone,
        met=met,
        single=single,
        inputs=f"the example over {len(x)} steps, and random input of its range (seed 1)",
        silent=tuple(named(path) for path, fired in total.of_layers.items() if not fired),
        weak=tuple(weak),
        batch=fixed,
    )


def _seen(
    module: nn.Module, x: Tensor, layout: Layout, carries: bool, reads: bool, paths: list[str], membranes: set[str]
) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Run a module; return what is given at paths, or the membranes there, and its answer."""
    rows, end = watched(module, paths, membranes)
    try:
        with made_in_double():
            return rows, run(module, x, layout, carries, reads)
    finally:
        end()


def _fixed(module: nn.Module) -> bool:
    """Whether layers take each row as a sample: with more of them, these would have other steps."""
    return any(library(each) == "sinabs" and (getattr(each, "batch_size", -1) or -1) > 0 for each in module.modules())


def _check_kept(network: Stack, exact: Stack) -> None:
    """Refuse a network whose weights are others than those that were compared, beyond rounding to float32."""
    for (name, kept), (_, compared) in zip(network.state_dict().items(), exact.state_dict().items(), strict=True):
        if not torch.allclose(kept.double(), compared.double(), rtol=STORED, atol=1e-30):
            raise ImportRefused(f"{name} of the stack differs from what was compared with the module")


def _compare(path: str, module: nn.Module, ours: Tensor, theirs: Tensor, total: Total, spikes: bool) -> None:
    name = f"{path} ({kind_of(module)})" if path else f"the whole ({kind_of(module)})"
    if ours.shape != theirs.shape:
        raise ImportRefused(f"{name} gives {list(theirs.shape)} over a window, but the stack gives {list(ours.shape)}")
    if not theirs.isfinite().all():
        raise ImportRefused(f"{name} gives values that are not finite")
    spiking = spikes and is_neuron(module) and bool((theirs == theirs.round()).all())
    if spiking:
        wrong = ours != theirs
        total.spikes += theirs.numel()
        total.fired += float(theirs.abs().sum())
        total.of_layers[path] = total.of_layers.get(path, 0.0) + float(theirs.abs().sum())
    else:
        wrong = (ours - theirs).abs() > EXACT * max(1e-30, float(theirs.abs().amax()))
        total.values += theirs.numel()
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        step, sample, *unit = (each + 1 for each in place)
        at = f"step {step}, sample {sample}, unit {'.'.join(map(str, unit)) or '1'}"
        raise ImportRefused(
            f"{name}: the stack differs from it in {int(wrong.sum())} of {wrong.numel()} values, first at {at}, "
            f"{float(ours[tuple(place)]):.6g} instead of {float(theirs[tuple(place)]):.6g}"
        )


def _in_single(
    module: nn.Module, network: Stack, chain: Chain, x: Tensor, layout: Layout, carries: bool, paths: list[str]
) -> int:
    """Return how many spikes differ where both run in float32 as they are."""
    rows, end = watched(module, paths)
    x = x.float() if x.is_floating_point() else x
    run(module, x, layout, carries)
    end()
    found, _ = outputs(network, chain, x)
    differ = 0
    for path in paths:
        wanted = over_time(rows[path], len(x), x.shape[1], layout)
        if bool((wanted == wanted.round()).all()):
            differ += int((found[path] != wanted).sum())
    return differ
