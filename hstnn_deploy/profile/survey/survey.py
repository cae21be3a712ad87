"""What this machine can do, and what is missing for what. Nothing here raises: the facts say what failed."""

import importlib.util
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hstnn_deploy import environment
from hstnn_deploy.errors import HstnnError
from hstnn_deploy.plugins import registry
from hstnn_deploy.profile.meter import gpu

if TYPE_CHECKING:
    from hstnn_deploy.recipe.recipe import Recipe


_SLOWER = "slower kernels built from torch's operations run instead"


class Ability(NamedTuple):
    """Something that one may want to do here."""

    what: str
    missing: str
    """What it lacks; empty where it can be done."""
    needed: bool = False
    """Whether nothing of use works without it."""


def survey(data_dir: Path | None = None) -> dict[str, Any]:
    """Return facts about this machine as plain data; `abilities` says what can be done.

    Args:
        data_dir: the data folder, or None for `HSTNN_DATA` or the user's cache folder.
    """
    facts: dict[str, Any] = {
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": _machine(),
        "versions": environment.versions(),
        "torch": _torch(),
        "llvm": _llvm(),
        "triton": _triton(),
        "onnxruntime": _onnxruntime(),
        "nvml": _nvml(),
        "ray": _ray(),
        "data": _data(data_dir),
        "plugins": registry.survey(),
    }
    facts["abilities"] = [ability._asdict() for ability in _abilities(facts)]
    return facts


def _machine() -> dict[str, Any]:

    facts: dict[str, Any] = {"platform": platform.platform(), "cpu": environment.cpu_name(), "cores": os.cpu_count()}
    try:
        import psutil

        facts["memory"] = psutil.virtual_memory().total
    except ImportError:
        facts["memory"] = None
    return facts


def _torch() -> dict[str, Any]:
    try:
        import torch

        from hstnn_deploy import devices
    except (ImportError, OSError) as error:
        return {"version": None, "problem": f"torch cannot be imported: {_line(error)}", "gpus": [], "why_no_gpu": ""}
    there = torch.cuda.is_available()
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if there else []
    return {
        "version": torch.__version__,
        "problem": "",
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "why_no_gpu": "" if there else devices.why_no_cuda(),
    }


def _llvm() -> dict[str, Any]:
    """Return the version of llvmlite, and where the kernels that it compiles are kept."""
    facts: dict[str, Any] = {"version": None, "kernels": None, "problem": ""}
    try:
        from hstnn_deploy.models.kernels.generated import compiled
    except (ImportError, OSError) as error:
        return {**facts, "problem": _line(error)}
    if problem := compiled.problem():
        return {**facts, "problem": f"{problem}; {_SLOWER}"}
    return {**facts, "version": metadata.version("llvmlite"), "kernels": str(compiled.folder())}


def _triton() -> dict[str, Any]:
    """Return the version of Triton, which compiles kernels for GPUs."""
    if importlib.util.find_spec("triton") is None:
        problem = f"Triton is not installed: it comes with torch for CUDA; {_SLOWER}"
        return {"version": None, "problem": problem}
    try:
        return {"version": metadata.version("triton"), "problem": ""}
    except metadata.PackageNotFoundError:  # builds of torch bring it under other names
        return {"version": "installed; its package states no version", "problem": ""}


def _onnxruntime() -> dict[str, Any]:
    try:
        import onnxruntime

        from hstnn_deploy.profile.survey.providers import survey as providers

        found = [provider._asdict() for provider in providers()]
        return {"version": onnxruntime.__version__, "problem": "", "providers": found}
    except (ImportError, OSError) as error:
        return {"version": None, "problem": f"onnxruntime cannot be imported: {_line(error)}", "providers": []}


def _nvml() -> dict[str, Any]:
    try:
        driver, gpus = gpu.devices()
    except HstnnError as error:
        return {"driver": None, "problem": error.message, "gpus": []}
    return {"driver": driver, "problem": "", "gpus": [each._asdict() for each in gpus]}


def _ray() -> dict[str, Any]:
    """Return the version of Ray; it is not imported, as that takes seconds."""
    try:
        return {"version": metadata.version("ray"), "problem": ""}
    except metadata.PackageNotFoundError:
        return {"version": None, "problem": "not installed: pip install 'hstnn-deploy[cluster]'"}


def _data(given: Path | None) -> dict[str, Any]:
    """Return the data folder, and for each shipped recipe why its data is not at hand, if so."""
    facts: dict[str, Any] = {"folder": None, "exists": False, "problem": "", "recipes": {}}
    try:
        from hstnn_deploy.data.files.folder import data_folder
        from hstnn_deploy.recipe.load import load_recipe, shipped
    except (ImportError, OSError) as error:
        return {**facts, "problem": _line(error)}
    try:
        folder = data_folder(given)
        facts |= {"folder": str(folder), "exists": folder.is_dir()}
    except HstnnError as error:
        facts["problem"] = error.message
    for recipe in (load_recipe(name) for name in shipped()):
        facts["recipes"][recipe.name] = {"data": recipe.data.name, "missing": _missing(recipe, given)}
    return facts


def _missing(recipe: "Recipe", given: Path | None) -> str:
    from hstnn_deploy.data import registry

    try:
        names = registry.missing(recipe.data, given)
    except HstnnError as error:
        return error.message
    more = "; training downloads them if it has network access" if registry.downloads(recipe.data) else ""
    few = ", ".join(names) if len(names) < 3 else f"{len(names)} files, such as {names[0]},"
    return f"{few} not in the data folder{more}" if names else ""


def _abilities(facts: dict[str, Any]) -> list[Ability]:
    torch, runtime, nvml, data = facts["torch"], facts["onnxruntime"], facts["nvml"], facts["data"]
    loads = {provider["name"]: provider for provider in runtime["providers"]}
    on_cpu = loads.get("CPUExecutionProvider", {"loads": False, "reason": runtime["problem"] or "not in this build"})
    on_gpu = loads.get("CUDAExecutionProvider", {"loads": False, "reason": "this build of ONNX Runtime has no CUDA"})
    abilities = [
        Ability("train, export and profile on the CPU", torch["problem"], needed=True),
        Ability("kernels compiled for each neuron on the CPU", facts["llvm"]["problem"]),
        Ability("verify and run ONNX graphs on the CPU", on_cpu["reason"], needed=True),
        Ability("train and profile on a GPU", torch["problem"] or torch["why_no_gpu"]),
        Ability(
            "kernels compiled for each neuron on a GPU",
            torch["problem"] or torch["why_no_gpu"] or facts["triton"]["problem"],
        ),
        Ability("run ONNX graphs on a GPU", runtime["problem"] or on_gpu["reason"]),
        Ability("CUDA memory per process", nvml["problem"]),
        Ability("sweep and profile on a Ray cluster", facts["ray"]["problem"]),
    ]
    for name, needs in data["recipes"].items():
        abilities.append(Ability(f"recipe {name} on its data ({needs['data']})", needs["missing"]))
    return abilities


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
