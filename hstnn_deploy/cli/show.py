"""`hstnn show`: show a network layer by layer, and what it does with one sample."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.layers import neuron_text, print_network
from hstnn_deploy.cli.options import DataDir, ForRecipe, Json
from hstnn_deploy.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from hstnn_deploy.export.proof.recording import Recording
    from hstnn_deploy.models.network import Network
    from hstnn_deploy.recipe.recipe import Recipe


class _Shown(NamedTuple):
    """The network to show."""

    network: "Network | None"
    """In evaluation mode; None for a bundle without a file to read weights from."""
    recipe: "Recipe"
    """Its recipe, or a substitute."""
    facts: dict[str, Any]
    """A description for JSON."""
    line: str
    """The same in one line."""


def show(
    what: Annotated[
        str, typer.Argument(metavar="CKPT|BUNDLE|RECIPE", help="A checkpoint, a bundle's folder, or a recipe.")
    ],
    sample: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npy|npz", help="Run this sample [T, …], or the first of several [N, T, …]."),
    ] = None,
    recipe: ForRecipe = None,
    index: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Run sample N of the test split of the recipe's data.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of a random sample (default: the recipe's, else 28).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a random sample, and of a recipe's random weights.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the sample's spikes and membranes.")
    ] = None,
    npz: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="Write spikes and membranes as arrays: layer2/spikes, layer2/membrane, …"
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show a network: its layers, shapes, parameters, states and neurons, and its response to one sample.

    The sample is that of --sample, or number --index of the test split of the recipe's data (or --recipe's), or else
    random. A bundle's network is rebuilt from the weights in its files; `hstnn verify` checks whether its graphs
    compute it.
    """
    for path, suffix in ((out, ".png"), (npz, ".npz")):
        if path is not None and path.suffix != suffix:
            raise UsageError(f"{path} does not end in {suffix}", f"give a name that ends in {suffix}")
    if sample is not None and (index is not None or recipe is not None or steps is not None):
        raise UsageError("--sample already gives the sample", "leave --index, --recipe and --steps out")
    if index is not None and steps is not None:
        raise UsageError("--steps is for random samples", "leave --steps or --index out")
    shown = _read(what, seed)
    network = shown.network
    if network is None:
        _print_manifest(shown, as_json)
        if out or npz or sample:
            raise UsageError(
                f"{what} has no file whose weights can be read safely, so its spikes cannot be shown",
                "export it with --onnx, or show its checkpoint",
            )
        return
    from hstnn_deploy.export.proof.recording import record
    from hstnn_deploy.models import overview

    x, told = _sample(shown, network, sample, recipe, index, steps, seed, data_dir)
    recording = record(network, x)
    constants = overview.neurons(network, shown.recipe.network.neuron)
    written = _write(recording, network, f"{shown.line}\n{told}", out, npz)
    if as_json:
        console.emit(_plain(shown, network, constants, recording, told, out, npz))
        return
    size = "a token" if network.tokens else f"{list(network.input_shape)}"
    title = f"{shown.line}; a time step of one sample is {size}"
    print_network(network, title, {number: neuron_text(each) for number, each in constants.items()})
    rates = ", ".join(f"{name} {rate:.4g}" for name, rate in recording.rates().items()) or "no spiking units"
    console.out.print(f"sample: {told}\nspikes per unit and step: {rates}", markup=False, soft_wrap=True)
    for line in written:
        console.out.print(line, markup=False, soft_wrap=True)


def _read(what: str, seed: int) -> _Shown:
    """Return the network of a shipped recipe, a bundle, a recipe file, or a checkpoint."""
    import_torch()
    from hstnn_deploy.export.runtime.manifest import MANIFEST
    from hstnn_deploy.recipe.load import load_recipe, shipped

    path = Path(what)
    if path.is_dir() and (path / MANIFEST).is_file():
        return _of_bundle(path)
    if what in shipped() or path.suffix in {".yaml", ".yml"}:
        return _of_recipe(load_recipe(what), seed)
    if not path.exists() and path.suffix == "" and path.name == what:
        # Not a known name: the error lists the shipped recipes.
        return _of_recipe(load_recipe(what), seed)
    return _of_checkpoint(path)


def _of_recipe(recipe: "Recipe", seed: int) -> _Shown:
    import torch

    from hstnn_deploy.models.registry import build
    from hstnn_deploy.models.sizes import layer_sizes

    torch.manual_seed(seed)
    network = build(recipe.network, layer_sizes(recipe.kind, recipe.network.units, recipe.ratio)).eval()
    facts = {"recipe": recipe.name, "kind": recipe.kind, "weights": f"random, seed {seed}"}
    return _Shown(network, recipe, facts, f"recipe {recipe.name}, {recipe.kind_name}, random weights of seed {seed}")


def _of_checkpoint(path: Path) -> _Shown:
    from hstnn_deploy.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(path)
    recipe = checkpoint.recipe_or_bare()
    network = checkpoint.deployed().network()
    facts = {
        "checkpoint": str(path),
        "recipe": recipe.name if checkpoint.recipe else None,
        "origin": checkpoint.origin,
        "stage": checkpoint.stage,
        "epoch": checkpoint.epoch,
    }
    line = f"{path}: {recipe.name} {recipe.kind}, {checkpoint.stage} epoch {checkpoint.epoch}"
    if not checkpoint.recipe:
        line = f"{path}: from {checkpoint.came_from or 'elsewhere'}, without a recipe"
    return _Shown(network, recipe, facts, line)


def _of_bundle(folder: Path) -> _Shown:
    from hstnn_deploy.export.bundle.description import recipe_of
    from hstnn_deploy.export.bundle.rebuilt import read_alone
    from hstnn_deploy.export.graph.write import PT2, VARIANTS
    from hstnn_deploy.export.proof.programs import check_program
    from hstnn_deploy.export.proof.weights import network_of
    from hstnn_deploy.export.runtime.manifest import check_files, read_manifest
    from hstnn_deploy.models.sizes import Sizes

    manifest = read_manifest(folder)
    check_files(folder, manifest)
    recipe = recipe_of(folder, manifest)
    facts = {"bundle": str(folder), "recipe": manifest["recipe"].get("name"), "origin": manifest.get("origin")}
    facts |= {"files": list(manifest["files"]), "manifest": manifest["network"]}
    names = [name for name in manifest["files"] if name in VARIANTS]
    names += [name for name in manifest["files"] if name == PT2]
    if not names:
        return _Shown(None, recipe, facts, f"{folder}: bundle of {', '.join(manifest['files']) or 'no graph'}")
    if names[0] == PT2:
        check_program(folder / PT2)
    else:
        read_alone(folder / names[0])
    sizes = [Sizes(each["snn"], each["rnn"]) for each in manifest["network"]["units"]]
    network = network_of(folder / names[0], recipe.network, sizes)
    facts["weights"] = names[0]
    return _Shown(network, recipe, facts, f"{folder}: the weights of {names[0]}")


def _sample(
    shown: _Shown,
    network: "Network",
    sample: Path | None,
    recipe: str | None,
    index: int | None,
    steps: int | None,
    seed: int,
    data_dir: Path | None,
) -> "tuple[Tensor, str]":
    """Return one sample x[T, 1, …], and its origin."""
    import torch

    from hstnn_deploy.data.files.inputs import read_inputs
    from hstnn_deploy.data.registry import called, load
    from hstnn_deploy.data.sets.nothing import STEPS
    from hstnn_deploy.export.bundle.choice import steps_of
    from hstnn_deploy.export.graph.interface import interface
    from hstnn_deploy.recipe.adopted import check_network, for_network, is_bare, no_data
    from hstnn_deploy.recipe.load import load_recipe

    if sample is not None:
        x = read_inputs(sample, tuple(network.input_shape), network.words if network.tokens else None, 1)
        return x, f"the first of {sample}"
    data = load_recipe(recipe) if recipe is not None else shown.recipe
    if index is None and recipe is None:
        own = STEPS if is_bare(data) else steps_of(data.data)
        length = steps or min(own, network.longest or own)
        return interface(network).example(length, 1, seed), f"{length} steps of random numbers, seed {seed}"
    if why := no_data(data):
        raise UsageError(f"{why}, so it has no test split", "name a recipe with --recipe")
    splits = load(data.data, data.protocol, data_dir)
    fitting = for_network(data, shown.recipe.network, None if is_bare(shown.recipe) else shown.recipe)
    check_network(fitting, splits.family, splits.sizes, shown.line)
    number = index or 0
    if number >= len(splits.test):
        raise UsageError(
            f"--index {number} is not in the test split of {len(splits.test)} samples",
            f"give 0 to {len(splits.test) - 1}",
        )
    batch = splits.test.batch(torch.tensor([number]), torch.device("cpu"))
    x = batch.x if batch.lengths is None else batch.x[: int(batch.lengths[0])]
    label = f", class {int(batch.target[0])}" if batch.target.ndim == 1 else ""
    if batch.target.is_floating_point():
        label = f", target {', '.join(f'{value:.4g}' for value in batch.target[0].tolist())}"
    return x, f"no. {number} of the test split of {called(data.data)}{label}"


def _write(recording: "Recording", network: "Network", title: str, out: Path | None, npz: Path | None) -> list[str]:
    """Write the requested picture and arrays; return lines about them."""
    told = []
    if out is not None:
        from hstnn_deploy.data.pictures.figure import save
        from hstnn_deploy.data.pictures.raster import draw_raster

        figure, notes = draw_raster(title, _by_layer(recording, network))
        save(figure, out)
        told += [*notes, f"written: {out}"]
    if npz is not None:
        import numpy as np

        from hstnn_deploy import files

        with files.atomic(npz) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **recording.arrays())  # type: ignore[arg-type]
        told.append(f"written: {npz}")
    return told


def _by_layer(recording: "Recording", network: "Network") -> list[tuple[str, dict[str, Any]]]:
    """Return the curves of each layer, its output first, then its membrane; the network's answer is last."""
    kinds = {each.layer: each.kind for each in network.described()}
    found: dict[str, dict[str, Any]] = {}
    for name, value in recording.layers.items():
        layer, _, what = name.partition("/")
        found.setdefault(layer, {})[what] = value
    shown: list[tuple[str, dict[str, Any]]] = []
    for layer, values in found.items():
        number = int(layer.removeprefix("layer"))
        kept: dict[str, Any] = {each: values[each] for each in ("spikes", "h", "membrane") if each in values}
        if kept:
            shown.append((f"layer {number} {kinds.get(number, '')}".rstrip(), kept))
    return [*shown, ("answer", {"after each step": recording.output})]


def _plain(
    shown: _Shown,
    network: "Network",
    constants: Mapping[int, Mapping[str, object]],
    recording: "Recording",
    told: str,
    out: Path | None,
    npz: Path | None,
) -> dict[str, Any]:
    from hstnn_deploy.models import overview

    return {
        **shown.facts,
        "input": list(network.input_shape),
        **overview.plain(overview.parts(network)),
        "neurons": {str(number): dict(each) for number, each in constants.items()},
        "sample": told,
        "steps": len(recording.x),
        "spike_rates": recording.rates(),
        "arrays": {name: list(value.shape) for name, value in recording.arrays().items()},
        "written": [str(path) for path in (out, npz) if path is not None],
    }


def _print_manifest(shown: _Shown, as_json: bool) -> None:
    """Print the network that a manifest describes."""
    if as_json:
        console.emit({**shown.facts, "spike_rates": None})
        return
    network = shown.facts["manifest"]
    rows = [(each["layer"], each["kind"], each["parameters"], each["output"]) for each in network["layers"]]
    rows += [(each["layer"], f"{each['snn']} spiking + {each['rnn']} recurrent", "", "") for each in network["units"]]
    console.out.print(f"{shown.line}; as described in its manifest", markup=False, soft_wrap=True)
    console.out.print(console.table("", [">layer", "kind", ">parameters", "output"], rows))
    states = ", ".join(f"{each['name']} {each['shape']}" for each in network["states"])
    console.out.print(f"states: {states}", markup=False, soft_wrap=True)
    console.out.print("spikes n/a: no file whose weights can be read safely (TorchScript can run code)", markup=False)
