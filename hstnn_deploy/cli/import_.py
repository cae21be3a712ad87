"""`hstnn import`: a network from elsewhere becomes a checkpoint like any other."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.layers import neuron_text, print_network
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import RunError, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.checkpoint import Checkpoint

FOLDER = Path("runs") / "imported"
"""Where imported networks go unless told otherwise, each into a folder of its name."""


class MethodChoice(StrEnum):
    """How a step of a NIR graph is taken."""

    euler = "euler"
    exponential = "exponential"


class ReadoutChoice(StrEnum):
    """What of the output over time is the answer."""

    sum = "sum"
    mean = "mean"
    last = "last"
    max = "max"
    every = "every"


def import_network(
    target: Annotated[str, typer.Argument(metavar="FILE.nir", help="A NIR graph.")],
    dt: Annotated[
        float | None, typer.Option("--dt", metavar="SECONDS", help="A step of the graph (default: what the file says).")
    ] = None,
    method: Annotated[
        MethodChoice | None, typer.Option(help="How a step is taken (default: what the file says, else euler).")
    ] = None,
    readout: Annotated[
        ReadoutChoice,
        typer.Option(
            help="What of the output over time is the answer; NIR does not say. Classifying needs one of all steps."
        ),
    ] = ReadoutChoice.every,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where best.pt goes (default: runs/imported/NAME).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another network in the folder.")] = False,
    as_json: Json = False,
) -> None:
    """Import a network: write it as a checkpoint, which is exported, profiled and trained on like any other.

    Without --out, FILE.nir becomes runs/imported/FILE/best.pt.
    """
    checkpoint, name = _from_nir(target, dt, method, readout)
    keep(checkpoint, out or FOLDER / name, force, as_json)


def _from_nir(
    target: str, dt: float | None, method: MethodChoice | None, readout: ReadoutChoice
) -> "tuple[Checkpoint, str]":
    """Return the network of a NIR file as a checkpoint, and what its folder is called."""
    from hstnn_deploy import environment, files
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.export.graph.from_nir import read_nir

    path = Path(target)
    if not path.exists() and path.suffix != ".nir":
        raise UsageError(f"{target} is no file", "give a NIR graph, FILE.nir")
    if dt is not None and not 0 < dt < float("inf"):
        raise UsageError(f"--dt is {dt:g}; a step takes more than 0 s", "for example --dt 1e-4")
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
    """Write an imported network's checkpoint into a folder, and say what it is and what to do with it.

    Raises:
        RunError: another network, or a training, is there, and it is not to be replaced; or it cannot be written.
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
    console.out.print(f"written: {path}\nNext:", markup=False, soft_wrap=True)
    for line in after:
        console.out.print(f"  {line}", markup=False, soft_wrap=True)


def _check_free(checkpoint: "Checkpoint", path: Path, force: bool) -> None:
    """Refuse to take the place of a training, or of another network without being told to."""
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.errors import CheckpointError

    if (path.parent / "stage.yaml").exists():
        raise RunError(f"{path.parent} is the run folder of a training", "give another folder with --out")
    if not path.exists() or force:
        return
    try:
        there = Checkpoint.load(path)
        same = there.fingerprint == checkpoint.fingerprint and there.architecture == checkpoint.architecture
    except CheckpointError:
        same = False
    if not same:
        raise RunError(f"{path} holds another network", "add --force to replace it, or give another folder with --out")
