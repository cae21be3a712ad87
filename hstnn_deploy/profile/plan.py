"""From options to configurations: recipe x phase x engine x batch x device, all validated before anything runs."""

import math
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args

import torch

from hstnn_deploy import devices
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data import registry
from hstnn_deploy.data.folder import data_folder
from hstnn_deploy.data.text import TextConfig
from hstnn_deploy.errors import DeviceError, UsageError, nearest
from hstnn_deploy.models.sizes import Kind, Sizes, layer_sizes, selected_sizes
from hstnn_deploy.profile.records import Configuration, Engine, Phase
from hstnn_deploy.train.recipe import Recipe, load_recipe, shipped

PHASES: tuple[Phase, ...] = get_args(Phase)
ENGINES: tuple[Engine, ...] = get_args(Engine)
BATCHES = (1, 100)
SECONDS = 20.0

_OPTIONS = {
    "batches": ("--batch", "1,100"),
    "threads": ("--threads", "2"),
    "seconds": ("--seconds", "20"),
    "max_steps": ("--max-steps", "10"),
}
"""How the command line calls the numbers, and an example of each."""

T = TypeVar("T")


class _Subject(NamedTuple):
    name: str
    recipe: Recipe
    checkpoint: Checkpoint | None
    ckpt: str | None


def plan(
    recipes: Sequence[str | Recipe] = (),
    *,
    ckpt: Path | None = None,
    phases: Sequence[str] = PHASES,
    engines: Sequence[str] = ENGINES,
    batches: Sequence[int] = BATCHES,
    gpus: Sequence[int | None] | None = None,
    data_dir: Path | None = None,
    threads: int | None = None,
    seconds: float = SECONDS,
    max_steps: int | None = None,
) -> list[Configuration]:
    """Return what is to be measured, in order.

    Args:
        recipes: shipped names, paths of YAML files, or recipes. With neither these nor `ckpt`: every shipped recipe
            that reproduces an experiment of the paper.
        ckpt: a checkpoint whose network is measured besides.
        phases: some of `PHASES`.
        engines: some of `ENGINES`, for inference; training always runs eagerly.
        batches: batch sizes of inference; training takes the recipe's.
        gpus: GPU numbers as torch counts them, None for the CPU. Without any: GPU 0 where there is one, else the CPU.
        data_dir: the data folder.
        threads: CPU threads; None for each engine's own choice.
        seconds: how long to measure each configuration for.
        max_steps: training steps to measure, instead of as many as fit into `seconds`.

    Raises:
        UsageError: a name or number that cannot be.
        CheckpointError: the checkpoint cannot be loaded.
        DataError: a data folder that was named is not there.
        DeviceError: a GPU that is not there.
    """
    _check_numbers(batches=batches, threads=[threads], seconds=[seconds], max_steps=[max_steps])
    chosen_phases = [cast(Phase, name) for name in _known("phase", phases, PHASES)]
    chosen_engines = [cast(Engine, name) for name in _known("engine", engines, ENGINES)]
    if "infer" in chosen_phases and "onnxruntime" in chosen_engines and find_spec("onnxruntime") is None:
        raise UsageError("the engine onnxruntime is not installed", "pip install onnxruntime-gpu, or leave it out")
    subjects = _subjects(recipes, ckpt)
    if data_dir is not None:
        data_folder(data_dir)
    configurations = []
    for device, no_cuda in _devices(gpus):
        for subject in subjects:
            shared: dict[str, Any] = {
                "subject": subject.name,
                "recipe": subject.recipe.dump(),
                "steps": _steps(subject.recipe),
                "device": device,
                "no_cuda": no_cuda,
                "ckpt": subject.ckpt,
                "data_dir": str(data_dir.absolute()) if data_dir else None,
                "threads": threads,
                "seconds": seconds,
                "max_steps": max_steps,
            }
            if "train" in chosen_phases:
                network = _network(subject, deployed=False)
                configurations.append(
                    Configuration(phase="train", engine="eager", batch=subject.recipe.batch, **network, **shared)
                )
            if "infer" in chosen_phases:
                network = _network(subject, deployed=True)
                configurations += [
                    Configuration(phase="infer", engine=engine, batch=batch, **network, **shared)
                    for engine in chosen_engines
                    for batch in _unique(batches)
                ]
    return configurations


def _subjects(recipes: Sequence[str | Recipe], ckpt: Path | None) -> list[_Subject]:
    subjects = []
    if not recipes and ckpt is None:
        recipes = [recipe for recipe in map(load_recipe, shipped()) if recipe.experiment]
    for each in _unique(recipes):
        recipe = load_recipe(each) if isinstance(each, str) else each
        # A file goes by its path: its recipe may have the name of another one.
        subjects.append(_Subject(each if isinstance(each, str) else recipe.name, recipe, None, None))
    if ckpt is not None:
        checkpoint = Checkpoint.load(ckpt)
        checkpoint.network()
        subjects.append(_Subject(str(ckpt), checkpoint.resolved_recipe(), checkpoint, str(ckpt.absolute())))
    return subjects


def _network(subject: _Subject, deployed: bool) -> dict[str, Any]:
    """Return the facts of the network to measure: as it is trained first, or as it is deployed."""
    recipe = subject.recipe
    stage: str
    if subject.checkpoint is not None:
        sizes, stage = subject.checkpoint.sizes, subject.checkpoint.stage
    elif recipe.kind == "hybrid":
        choose = selected_sizes if deployed else layer_sizes
        sizes, stage = choose("hybrid", recipe.network.units, recipe.ratio), "restore" if deployed else "adapt"
    else:
        sizes, stage = layer_sizes(recipe.kind, recipe.network.units, recipe.ratio), "train"
    label = network_label(recipe.kind, recipe.ratio, sizes, stage)
    if recipe.kind in {"ffs", "hybrid"} and recipe.network.recurrent == "lstm":
        label += ", LSTM"
    return {"network": label, "sizes": [list(size) for size in sizes], "stage": stage}


def network_label(kind: Kind, ratio: float, sizes: Iterable[Sizes], stage: str) -> str:
    """Return a network's name for people, such as "hybrid 0.5 (400+400, 400+400)": spiking + recurrent per layer."""
    units = ", ".join(f"{size.snn}+{size.rnn}" if size.snn and size.rnn else str(sum(size)) for size in sizes)
    if kind == "hybrid":
        return f"hybrid adaptation ({units})" if stage == "adapt" else f"hybrid {ratio:g} ({units})"
    return f"ffs {ratio:g} ({units})" if kind == "ffs" else f"{kind} ({units})"


def _steps(recipe: Recipe) -> int:
    """Return the time steps of a sample, once the network is known to fit the data.

    The vocabulary of a text depends on its files, and is compared where they are read.
    """
    shape = registry.shape(recipe.data)
    if shape is None:
        assert isinstance(recipe.data, TextConfig)
        recipe.check_fits("language", {"classes": getattr(recipe.network, "vocabulary", None)})
        return recipe.data.bptt
    recipe.check_fits(shape.family, {"inputs": shape.inputs, "classes": shape.classes, "size": shape.size})
    return shape.steps


def _devices(gpus: Sequence[int | None] | None) -> list[tuple[str, str]]:
    """Return each device and, of the CPU, why it has no CUDA figures."""
    if gpus is None:
        return (
            [("cuda:0", "")]
            if torch.cuda.is_available()
            else [("cpu", f"measured on the CPU: {devices.why_no_cuda()}")]
        )
    if not gpus:
        raise UsageError("--gpus names no GPU", "for example --gpus 0,1, or leave it out")
    return [("cpu", "measured on the CPU, as asked") if gpu is None else (_gpu(gpu), "") for gpu in _unique(gpus)]


def _gpu(index: int) -> str:
    if index < 0:
        raise UsageError(f"--gpus {index} is not a GPU's number", "GPUs are numbered from 0")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"GPU {index} was asked for, but {devices.why_no_cuda()}",
            "leave --gpus out to measure on the CPU; `hstnn doctor` says what is missing",
        )
    if index >= (count := torch.cuda.device_count()):
        numbers = "its number is 0" if count == 1 else f"numbered 0 to {count - 1}"
        raise DeviceError(f"GPU {index} does not exist: torch sees {count} GPU(s), {numbers}", "see `hstnn doctor`")
    return f"cuda:{index}"


def _known(what: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    if not given:
        raise UsageError(f"no {what} is named", f"known: {', '.join(known)}")
    for name in given:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}", nearest(name, known))
    return _unique(given)


def _check_numbers(**options: Sequence[float | None]) -> None:
    for option, numbers in options.items():
        name, example = _OPTIONS[option]
        if not numbers:
            raise UsageError(f"{name} names no number", f"for example {name} {example}")
        for number in numbers:
            if number is not None and not 0 < number < math.inf:
                raise UsageError(f"{name} {number:g} is not a positive number", f"for example {name} {example}")


def _unique(items: Sequence[T]) -> list[T]:
    """Return the items in order, each once."""
    return [item for place, item in enumerate(items) if item not in items[:place]]
