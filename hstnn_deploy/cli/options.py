"""Options that several commands share, defined once."""

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hstnn_deploy import files
from hstnn_deploy.cli import defaults
from hstnn_deploy.errors import UsageError
from hstnn_deploy.foreign import one_line


def recipe_names(begun: str) -> list[str]:
    """Return the shipped recipes whose names begin so, for a shell that completes one."""
    from importlib import resources

    library = resources.files("hstnn_deploy") / "recipe" / "library"
    names = (file.name.removesuffix(".yaml") for file in library.iterdir() if file.name.endswith(".yaml"))
    return sorted(name for name in names if name.startswith(begun))


class SplitChoice(StrEnum):
    """Splits of a data set."""

    train = "train"
    valid = "valid"
    test = "test"


class ExecutorChoice(StrEnum):
    """Where many processes run."""

    local = "local"
    ray = "ray"


Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Address of a Ray cluster (default: RAY_ADDRESS, else a new one on this machine).",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Data folder (default: HSTNN_DATA, hstnn.toml, else the user's cache)."
    ),
]


OwnData = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Use your own data instead of the recipe's; see docs/own-data.md."),
]


class CacheChoice(StrEnum):
    """Where computed samples are kept."""

    none = "none"
    disk = "disk"
    memory = "memory"
    device = "device"


CacheOption = Annotated[
    CacheChoice,
    typer.Option(
        "--cache", help="Where to keep transformed recordings and decoded images; results do not depend on it."
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", envvar=defaults.DEVICE, help="Where to run: auto, cpu, cuda or cuda:N."),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        envvar=defaults.THREADS,
        help="CPU threads (default: one per core; small networks are faster with 1).",
    ),
]
RunsDir = Annotated[
    Path, typer.Option("--out", metavar="DIR", envvar=defaults.RUNS, help="The folder for run folders.")
]
Json = Annotated[bool, typer.Option("--json", help="Write the result to standard output as JSON.")]
CkptArgument = Annotated[
    Path | None, typer.Argument(metavar="CKPT", help="A checkpoint, such as best.pt of a run folder.")
]
Ckpt = Annotated[Path | None, typer.Option("--ckpt", metavar="FILE", help="The checkpoint, instead of the argument.")]
BundleArgument = Annotated[Path | None, typer.Argument(metavar="BUNDLE", help="The folder that `hstnn export` wrote.")]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", metavar="DIR", help="The bundle, instead of the argument.")
]
WholeTest = Annotated[
    bool,
    typer.Option("--whole-test", help="Evaluate every exported file on the full test split (slow for large networks)."),
]
Samples = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npy|npz",
        help="Inputs [N, T, …] to prove the files on (default: test samples, or random ones if there are none).",
    ),
]
ForRecipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="NAME|FILE", help="Take data, loss and protocol from this recipe."),
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
]


Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Epochs of each stage; short for --set on the recipe's keys.")
]
Lr = Annotated[
    float | None,
    typer.Option("--lr", metavar="RATE", help="Learning rate of each stage; short for --set on the recipe's keys."),
]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Batch size of training; short for --set batch=….")]


def one_of(argument: Path | None, option: Path | None, name: str, what: str) -> Path:
    """Return a path that is given either as an argument or by an option.

    Args:
        argument: the argument's value.
        option: the option's value.
        name: of the option, such as `--ckpt`.
        what: what the path is, for errors.

    Raises:
        UsageError: both are given, or neither.
    """
    if argument is not None and option is not None:
        raise UsageError(
            f"two {what}s are given: {one_line(str(argument))}, and {name} {one_line(str(option))}",
            "give one of them",
        )
    found = option if argument is None else argument
    if found is None:
        raise UsageError(f"no {what} is given", f"name one, as an argument or with {name}; --help shows an example")
    return found


def words(text: str) -> list[str]:
    """Return the items of a comma-separated list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def check_out(out: Path | None, names: Sequence[str]) -> None:
    """Refuse an `--out` that is neither a folder nor a file of a supported format.

    Args:
        out: the option's value.
        names: of the files that are written into a folder.

    Raises:
        UsageError: the file has another format.
    """
    kinds = list(dict.fromkeys(Path(name).suffix for name in reversed(names)))
    if out is not None and out.suffix not in {"", *kinds} and not out.is_dir():
        raise UsageError(
            f"--out {out}: unsupported file format",
            f"give {', '.join(kinds)}, or a folder for {', '.join(names)}",
        )


def out_paths(out: Path, names: Sequence[str]) -> list[Path]:
    """Return the files to write for an `--out`: itself, or all of `names` in that folder, which is created.

    Raises:
        RunError: the folder cannot be created.
    """
    return [out] if out.suffix and not out.is_dir() else [files.make_folder(out) / name for name in names]


def address_of(executor: ExecutorChoice, given: str | None) -> str | None:
    """Return the address of the Ray cluster; None if it is started here, or Ray is not used.

    Raises:
        UsageError: an address is given without `--executor ray`.
    """
    if executor is ExecutorChoice.ray:
        return given or os.environ.get("RAY_ADDRESS") or None
    if given is not None:
        raise UsageError("--address needs --executor ray", "add --executor ray")
    return None
