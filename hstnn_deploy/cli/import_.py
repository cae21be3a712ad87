"""`hstnn import`: turn a network from another library into a checkpoint."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console, defaults
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.layers import neuron_text, print_network
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import DataError, RunError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.importing.proof import Proof

FOLDER = "imported"
"""The folder for imported networks, below the run folders; each network has a folder of its name in it."""


class MethodChoice(StrEnum):
    """How a step of a NIR graph is integrated."""

    euler = "euler"
    exponential = "exponential"


class ReadoutChoice(StrEnum):
    """How the output over time becomes the answer."""

    sum = "sum"
    mean = "mean"
    last = "last"
    max = "max"
    every = "every"


class LayoutChoice(StrEnum):
    """The input that a module takes."""

    step = "step"
    time_first = "time-first"
    batch_first = "batch-first"
    squeezed = "squeezed"
    constant = "constant"


def import_network(
    target: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="A NIR graph, FILE.nir; or PACKAGE.MODULE:FACTORY, your own function that returns a torch module. "
            "Importing it runs your code.",
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For a module: its state dict, saved with torch.save.")
    ] = None,
    example: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="For a module: an example input for the proof.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="SHAPE",
            help="For a module: the shape of a random input for the proof, such as 4,2,34,34.",
        ),
    ] = None,
    layout: Annotated[
        LayoutChoice | None,
        typer.Option(help="The module's input: one step [B, ...], or a window (default: derived from its layers)."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="For a module that takes one step: number of steps to compare.")
    ] = 20,
    dt: Annotated[
        float | None, typer.Option("--dt", metavar="SECONDS", help="Time step of the graph (default: the file's).")
    ] = None,
    method: Annotated[
        MethodChoice | None, typer.Option(help="How a step is integrated (default: the file's method, else euler).")
    ] = None,
    readout: Annotated[
        ReadoutChoice | None,
        typer.Option(
            help="How the output over time becomes the answer (default: every for NIR, which does not state it; sum "
            "for a module whose forward does not state it). A classifier needs one answer for all steps."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where best.pt goes (default: runs/imported/NAME).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a different network in the folder.")] = False,
    as_json: Json = False,
) -> None:
    """Import a network as a checkpoint for all other commands.

    For a module of snnTorch, SpikingJelly, sinabs, Norse or torch, hstnn proves that the result computes the same.

    Without --out, the checkpoint is runs/imported/NAME/best.pt, where NAME is that of the file or factory.
    """
    from hstnn_deploy.factories import looks_like_factory

    if looks_like_factory(target):
        if dt is not None or method is not None:
            raise UsageError("--dt and --method are for NIR graphs", "leave them out")
        checkpoint, name = _from_module(target, weights, example, size, layout, steps, readout, as_json)
    else:
        if weights or example or size or layout:
            raise UsageError(
                f"--weights, --example, --input and --layout are for torch modules, and {target} is not one",
                "a module is named as PACKAGE.MODULE:FACTORY",
            )
        checkpoint, name = _from_nir(target, dt, method, readout or ReadoutChoice.every)
    keep(checkpoint, out or defaults.runs_folder() / FOLDER / name, force, as_json)


def _from_module(
    target: str,
    weights: Path | None,
    example: Path | None,
    size: str | None,
    layout: LayoutChoice | None,
    steps: int,
    readout: ReadoutChoice | None,
    as_json: bool,
) -> "tuple[Checkpoint, str]":
    """Return the network that a factory makes as a checkpoint, and the name of its folder."""
    import_torch()
    from hstnn_deploy import environment
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.factories import load_factory
    from hstnn_deploy.importing.module import import_module
    from hstnn_deploy.importing.weights import load_weights

    if (example is None) == (size is None):
        given = "neither is given" if size is None else "both are given"
        raise UsageError(
            f"a module needs --input SHAPE or --example FILE.npy: {given}", "for example --input 4,2,34,34"
        )
    module = load_factory(target)
    if weights is not None:
        load_weights(module, weights)
    x = _read_example(example) if example is not None else _random(size or "")
    how = {"layout": layout.value if layout else None, "readout": readout.value if readout else "sum"}
    found = import_module(module.eval(), x, how["layout"], how["readout"], steps)  # type: ignore[arg-type]
    proof = found.proof
    if not as_json:
        lines = [
            f"{target}, in evaluation mode: {found.origin['class']}, layout {found.origin['layout']}",
            *proof_lines(proof),
            *(f"note: {note}" for note in found.notes),
        ]
        for line in lines:
            console.out.print(line, markup=False, soft_wrap=True)
    versions = environment.versions()
    origin: dict[str, Any] = {
        "source": target,
        **found.origin,
        "notes": found.notes,
        "versions": {key: versions[key] for key in ("hstnn-deploy", "torch") if key in versions},
        "weights": str(weights) if weights else None,
        "options": how | {"steps": steps, "input": list(x.shape)},
    }
    return Checkpoint.of_network(found.network, origin), target.rpartition(":")[2]


def proof_lines(proof: "Proof") -> list[str]:
    """Return the lines that describe the proof of an import."""
    compared = [f"{proof.spikes} spikes equal ({100 * proof.fired:.1f} % fired)"] if proof.spikes else []
    compared += [f"{proof.values} {'other ' if compared else ''}values within 1e-9 of the largest"]
    found = [f"proved in float64 on {proof.inputs}: {proof.modules} modules, {', '.join(compared)}"]
    if proof.alone:
        layers = "1 layer" if proof.alone == 1 else f"{proof.alone} layers"
        found += [
            f"{layers} of neurons also compared alone: {proof.met} membranes exactly at the threshold; in float32, "
            f"{proof.single} spikes of the whole network differ by rounding"
        ]
    return found


def _read_example(path: Path) -> "Tensor":
    """Return an input from a file."""
    import numpy as np
    import torch

    from hstnn_deploy.foreign import reading

    if not path.is_file():
        raise DataError(f"{path} does not exist", "give a .npy file of numbers with the shape of the module's input")
    with reading(path, "an array"):
        values = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
            raise DataError(f"{path} does not contain an array of numbers", "save one with numpy.save")
        return torch.from_numpy(np.array(values, np.float32))


def _random(size: str) -> "Tensor":
    """Return random numbers from 0 to 1 of a shape, the same at every call."""
    import torch

    words = size.replace("x", ",").split(",")
    if not all(word.strip().isdigit() and int(word) > 0 for word in words) or not size:
        raise UsageError(f"--input must be a list of positive numbers (got {size!r})", "for example --input 4,2,34,34")
    shape = [int(word) for word in words]
    if len(shape) < 2 or torch.Size(shape).numel() > 2**28:
        raise UsageError(
            f"--input must have a batch axis and at least one other, and at most {2**28} values (got {size})",
            "for example --input 4,2,34,34",
        )
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _from_nir(
    target: str, dt: float | None, method: MethodChoice | None, readout: ReadoutChoice
) -> "tuple[Checkpoint, str]":
    """Return the network of a NIR file as a checkpoint, and the name of its folder."""
    import_torch()
    from hstnn_deploy import environment, files
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.export.graph.from_nir import read_nir

    path = Path(target)
    if not path.exists():
        kind = DataError if path.suffix == ".nir" else UsageError
        raise kind(f"{target} does not exist", "give a NIR graph, FILE.nir, or PACKAGE.MODULE:FACTORY")
    if dt is not None and not 0 < dt < float("inf"):
        raise UsageError(f"--dt must be positive and finite (got {dt:g})", "for example --dt 1e-4")
    network = read_nir(path, dt, method.value if method else None, readout.value)
    versions = environment.versions()
    origin: dict[str, Any] = {
        "source": path.name,
        "format": "NIR",
        "sha256": files.sha256(path),
        "versions": {key: versions[key] for key in ("hstnn-deploy", "torch") if key in versions} | {"nir": _nir()},
        "options": {"dt": dt, "method": method.value if method else None, "readout": readout.value},
        "proof": "not run: a NIR graph is a description, so there is nothing to run beside it",
    }
    return Checkpoint.of_network(network, origin), path.stem or "network"


def _nir() -> str:
    from importlib.metadata import version

    return version("nir")


def keep(checkpoint: "Checkpoint", folder: Path, force: bool, as_json: bool) -> None:
    """Write an imported network's checkpoint into a folder, and print a description and next commands.

    Raises:
        RunError: the folder has a different network and `force` is not set, is a run folder, or is not writable.
    """
    from hstnn_deploy import files
    from hstnn_deploy.models import overview

    path = folder / "best.pt"
    _check_free(checkpoint, path, force)
    files.make_folder(folder)
    checkpoint.save(path)
    network = checkpoint.network()
    after = [f"hstnn show {path} --out raster.png", f"hstnn export --ckpt {path}"]
    after += [f"hstnn profile --ckpt {path}", f"hstnn train RECIPE --init {path}"]
    after = [console.again(each) for each in after]
    constants = overview.neurons(network)
    if as_json:
        facts: dict[str, Any] = {
            "checkpoint": str(path),
            "fingerprint": checkpoint.fingerprint,
            "origin": checkpoint.origin,
        }
        facts |= {"input": list(network.input_shape), **overview.plain(overview.parts(network))}
        neurons = {str(number): each for number, each in constants.items()}
        console.emit({**facts, "neurons": neurons, "next": after})
        return
    size = "a token" if network.tokens else f"{list(network.input_shape)}"
    title = f"{checkpoint.came_from}: a time step of one sample is {size}"
    print_network(network, title, {number: neuron_text(each) for number, each in constants.items()})
    console.out.print(f"written: {path}", markup=False, soft_wrap=True)
    console.advise("\n".join(["Next:", *(f"  {line}" for line in after)]))


def _check_free(checkpoint: "Checkpoint", path: Path, force: bool) -> None:
    """Refuse to overwrite a run folder, or a different network without `force`."""
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.errors import CheckpointError

    if (path.parent / "stage.yaml").exists():
        raise RunError(f"{path.parent} is the run folder of a training", "choose another folder with --out")
    if not path.exists() or force:
        return
    try:
        there = Checkpoint.load(path)
        same = there.fingerprint == checkpoint.fingerprint and there.architecture == checkpoint.architecture
    except CheckpointError:
        same = False
    if not same:
        raise RunError(
            f"{path} contains a different network", "add --force to replace it, or choose another folder with --out"
        )
