"""From options to configurations, all validated before anything runs.

Device x recipe or checkpoint x kind x ratio x precision x threads x steps x phase, and for inference x engine x batch.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, cast, get_args

import torch

from hstnn_deploy import devices, files
from hstnn_deploy.data.files.folder import data_folder
from hstnn_deploy.errors import DeviceError, UsageError
from hstnn_deploy.profile.plan import memory
from hstnn_deploy.profile.plan.subjects import Axes, Subject, known, network_of, subjects, unique
from hstnn_deploy.profile.record import Configuration, Engine, Phase, Source
from hstnn_deploy.recipe.recipe import Recipe

PHASES: tuple[Phase, ...] = tuple(name for name in get_args(Phase) if name != "step")
"""Of hstnn's own networks; `profile.foreign` measures others."""
ENGINES: tuple[Engine, ...] = get_args(Engine)
SOURCES: tuple[Source, ...] = get_args(Source)

DEFAULT_PHASES: tuple[Phase, ...] = ("work", "train", "infer")
DEFAULT_ENGINES: tuple[Engine, ...] = ("fused", "torchscript", "onnxruntime")
_BATCHES = (1, 100)
SECONDS = 20.0

_OPTIONS = {
    "batches": ("--batch", "1,100"),
    "train_batches": ("--train-batch", "25,100"),
    "steps": ("--steps", "28,56"),
    "threads": ("--threads", "2"),
    "instances": ("--instances", "5"),
    "repeats": ("--repeats", "5"),
    "seconds": ("--seconds", "20"),
    "max_steps": ("--max-steps", "10"),
    "rram_read": ("--rram-read", "0.5"),
    "sram_read": ("--sram-read", "0.156"),
}
"""How the command line calls the numbers, and an example of each."""

_TIMED: tuple[Phase, ...] = ("train", "restore", "infer")
"""Phases that several processes may be measured in at once."""


def plan(
    recipes: Sequence[str | Recipe] = (),
    *,
    experiments: Sequence[str] = (),
    ckpt: Path | None = None,
    phases: Sequence[str] = DEFAULT_PHASES,
    engines: Sequence[str] = DEFAULT_ENGINES,
    kinds: Sequence[str] = (),
    ratios: Sequence[float] = (),
    precisions: Sequence[str] = (),
    batches: Sequence[int] = _BATCHES,
    train_batches: Sequence[int] = (),
    steps: Sequence[int] = (),
    modes: Sequence[str] = (),
    threads: Sequence[int | None] = (None,),
    gpus: Sequence[int | None] | None = None,
    instances: int = 1,
    repeats: int = 1,
    data: str = "auto",
    data_dir: Path | None = None,
    seconds: float = SECONDS,
    max_steps: int | None = None,
    rram_read: float | None = None,
    sram_read: float | None = None,
    cluster_gpus: int | None = None,
) -> list[Configuration]:
    """Return what is to be measured, in order; what is to be measured at the same time stands together.

    Args:
        recipes: shipped names, paths of YAML files, or recipes. With neither these, `experiments`, nor `ckpt`: every
            shipped recipe that reproduces an experiment of the paper.
        experiments: rows of the paper's resource table, in any case; each stands for the recipe that reproduces it.
        ckpt: a checkpoint whose network is measured besides.
        phases: some of `PHASES`; those that a kind of network does not have are left out.
        engines: some of `ENGINES`, for inference; training runs its own fused kernels.
        kinds, ratios, precisions: instead of a recipe's own.
        batches: batch sizes of inference.
        train_batches: batch sizes of training, instead of the recipe's own.
        steps: time steps of a sample (of a text, of a window), instead of the data's own.
        modes: of stacks, how a window runs while training: `layers`, `steps` or both.
        threads: CPU threads; None for each engine's own choice.
        gpus: GPU numbers as torch counts them, None for the CPU. Without any: GPU 0 where there is one, else the CPU.
            Several GPUs are measured each by itself, and then all at once.
        instances: concurrent processes per configuration.
        repeats: successive processes per configuration, in turns with the other configurations. What
            is counted and not timed is the same in each of them, and has one.
        data: `real`, `synthetic`, or `auto`: real where it is at hand.
        data_dir: the data folder.
        seconds: how long to measure each configuration for.
        max_steps: training steps to measure, instead of as many as fit into `seconds`.
        rram_read, sram_read: of weights on devices, picojoules for a bit that is read from RRAM and from SRAM.
        cluster_gpus: where the nodes of a cluster are to measure, how many GPUs one has at most. What depends on a
            machine is then theirs: GPU numbers, and whether memory can hold the instances, which is not checked here.

    Raises:
        UsageError: an invalid name or number.
        CheckpointError: the checkpoint cannot be loaded.
        DataError: a data folder that was named is not there.
        DeviceError: a GPU that is not there.
        OutOfMemoryError: more instances than memory can hold.
    """
    check_numbers(
        batches=batches,
        train_batches=[None, *train_batches],
        steps=[None, *steps],
        threads=threads,
        instances=[instances],
        repeats=[repeats],
        seconds=[seconds],
        max_steps=[max_steps],
        rram_read=[rram_read],
        sram_read=[sram_read],
    )
    chosen_phases = [cast(Phase, name) for name in known("phase", phases, PHASES)]
    chosen_engines = [cast(Engine, name) for name in known("engine", engines, ENGINES)]
    (source,) = known("data source", [data], SOURCES)
    if "infer" in chosen_phases and "onnxruntime" in chosen_engines and find_spec("onnxruntime") is None:
        raise UsageError("the engine onnxruntime is not installed", "pip install onnxruntime-gpu, or leave it out")
    if data_dir is not None:
        data_folder(data_dir)
    found = subjects(recipes, experiments, ckpt, Axes(kinds, ratios, precisions, train_batches, steps, modes))
    shared = {
        "data": cast(Source, source),
        "data_dir": str(data_dir.absolute()) if data_dir else None,
        "seconds": seconds,
        "max_steps": max_steps,
        "rram_read": _joules(rram_read),
        "sram_read": _joules(sram_read),
    }
    planned: list[Configuration] = []
    for device, no_cuda in devices_of(gpus, cluster_gpus):
        for subject, count in product(found, unique(threads)):
            here = {**shared, "device": device, "no_cuda": no_cuda, "threads": count}
            planned += _of(subject, chosen_phases, chosen_engines, unique(batches), here)
    planned = _once(planned)
    if not planned:
        raise UsageError(
            f"nothing to measure: none of these networks has the phase {', '.join(chosen_phases)}",
            "only hybrid networks are selected and restored",
        )
    planned += _all_at_once(planned)
    for each in planned:
        if each.phase in _TIMED and cluster_gpus is None:
            memory.check(each, instances)
    return repeated(_multiplied(planned, instances), repeats)


def _of(
    subject: Subject,
    phases: Sequence[Phase],
    engines: Sequence[Engine],
    batches: Sequence[int],
    here: dict[str, Any],
) -> list[Configuration]:
    """Return the configurations of one network on one device."""
    recipe, checkpoint = subject.recipe, subject.checkpoint
    shared: dict[str, Any] = {
        "subject": subject.name,
        "recipe": recipe.dump(),
        "steps": subject.steps,
        "ckpt": str(subject.ckpt) if subject.ckpt else None,
        "ckpt_sha256": files.sha256(subject.ckpt) if subject.ckpt else "",
        **here,
    }
    found = []
    for phase in phases:
        if phase in {"select", "restore"} and recipe.kind != "hybrid":
            continue
        if checkpoint is not None and phase == "select" and not checkpoint.redundant:
            continue
        if checkpoint is not None and phase == "restore":
            # Its training is measured in the stage that it is in.
            continue
        network = network_of(subject, deployed=phase in {"work", "restore", "export", "infer"})
        common: dict[str, Any] = {"phase": phase, **network, **shared}
        if phase in {"work", "export"}:
            common |= {"device": "cpu", "no_cuda": f"{phase} runs on the CPU"}
        if phase != "work" or recipe.step is None:
            common |= {"rram_read": None, "sram_read": None}
        if phase == "infer":
            found += [Configuration(engine=e, batch=b, **common) for e in engines for b in batches]
        else:
            found.append(Configuration(engine="fused", batch=recipe.batch, **common))
    return found


def _joules(picojoules: float | None) -> float | None:
    return None if picojoules is None else picojoules * 1e-12


def _once(planned: list[Configuration]) -> list[Configuration]:
    """Leave out what would measure the same again: adaptation and traces do not depend on the ratio."""
    kept, seen = [], []
    for each in planned:
        key: Any = each
        if each.phase in {"train", "select"} and each.kind == "hybrid" and each.ckpt is None:
            key = replace(each, recipe={**each.recipe, "ratio": None})
        if each.phase in {"work", "export"}:
            without = {**each.recipe, "precision": None, "batch": None}
            key = replace(each, recipe=without, threads=None, batch=0, no_cuda="")
        if key not in seen:
            seen.append(key)
            kept.append(each)
    return kept


def _all_at_once(planned: list[Configuration]) -> list[Configuration]:
    """Return what is measured on all GPUs at the same time, where there are several."""
    on_gpus = [each for each in planned if each.device != "cpu" and each.phase in _TIMED]
    gpus = unique([each.device for each in on_gpus])
    if len(gpus) < 2:
        return []
    first = [each for each in on_gpus if each.device == gpus[0]]
    return [replace(each, device=gpu, at_once=gpus) for each in first for gpu in gpus]


def _multiplied(planned: list[Configuration], instances: int) -> list[Configuration]:
    """Return each configuration as often as there are to be instances of it; those at once stay together."""
    found: list[Configuration] = []
    done: set[str] = set()
    for each in planned:
        several = instances if each.phase in _TIMED else 1
        if each.together in done:
            continue
        done.add(each.together)
        members = [one for one in planned if one.together == each.together]
        found += [replace(one, instance=n, instances=several) for n in range(1, several + 1) for one in members]
    return found


def repeated(planned: Sequence[Configuration], repeats: int) -> list[Configuration]:
    """Return a plan `repeats` times over, in turns: all of it once, then again; what is counted has one process."""
    again = [each for each in planned if each.phase != "work"]
    return [*planned, *(replace(each, repeat=number) for number in range(2, repeats + 1) for each in again)]


def devices_of(gpus: Sequence[int | None] | None, on_nodes: int | None = None) -> list[tuple[str, str]]:
    """Return each device and, of the CPU, why it has no CUDA figures; see `plan`.

    Raises:
        UsageError, DeviceError: see `plan`.
    """
    if gpus is None:
        if on_nodes or (on_nodes is None and torch.cuda.is_available()):
            return [("cuda:0", "")]
        why = devices.why_no_cuda() if on_nodes is None else "no node of the cluster has a GPU"
        return [("cpu", f"measured on the CPU: {why}")]
    if not gpus:
        raise UsageError("--gpus names no GPU", "for example --gpus 0,1, or leave it out")
    return [
        ("cpu", "measured on the CPU, as requested") if gpu is None else (_gpu(gpu, on_nodes), "")
        for gpu in unique(gpus)
    ]


def _gpu(index: int, on_nodes: int | None) -> str:
    if index < 0:
        raise UsageError(f"--gpus {index} is not the number of a GPU", "GPUs are numbered from 0")
    if on_nodes is not None:
        if index >= on_nodes:
            most = f"has more than {on_nodes} GPU(s)" if on_nodes else "has a GPU"
            hint = "each node numbers its own GPUs from 0; `ray status` shows how many there are"
            raise DeviceError(f"GPU {index} was requested, but no node of the cluster {most}", hint)
        return f"cuda:{index}"
    if not torch.cuda.is_available():
        raise DeviceError(
            f"GPU {index} was requested, but {devices.why_no_cuda()}",
            "leave --gpus out to measure on the CPU; `hstnn doctor` says what is missing",
        )
    if index >= (count := torch.cuda.device_count()):
        numbers = "its number is 0" if count == 1 else f"numbered 0 to {count - 1}"
        raise DeviceError(f"GPU {index} does not exist: torch sees {count} GPU(s), {numbers}", "see `hstnn doctor`")
    return f"cuda:{index}"


def check_numbers(**options: Sequence[float | None]) -> None:
    """Refuse numbers of options that are not positive.

    Raises:
        UsageError: one is not, or an option has none.
    """
    for option, numbers in options.items():
        name, example = _OPTIONS[option]
        if not numbers:
            raise UsageError(f"{name} needs a number", f"for example {name} {example}")
        for number in numbers:
            if number is not None and not 0 < number < math.inf:
                raise UsageError(f"{name} {number:g} is not a positive number", f"for example {name} {example}")
