"""From an ONNX file or a factory of a torch module to configurations, once it is known to run.

Device x threads x batch x steps x phase. An ONNX file has the phase infer alone.
"""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from hstnn_deploy import errors, files
from hstnn_deploy.errors import HstnnError, ProfileError, UsageError
from hstnn_deploy.foreign import one_line
from hstnn_deploy.profile.plan import memory
from hstnn_deploy.profile.plan.plan import SECONDS, check_numbers, devices_of, repeated
from hstnn_deploy.profile.plan.subjects import known, unique
from hstnn_deploy.profile.record import Configuration, Engine, Phase
from hstnn_deploy.profile.run import launch

PHASES: tuple[Phase, ...] = ("infer", "step")
"""Of a torch module: calls in evaluation mode, and training steps."""


class Planned(NamedTuple):
    """What is to be measured of a foreign network."""

    configurations: list[Configuration]
    notes: list[str]
    """What was guessed of its inputs, for the user to read."""


def plan(
    name: str,
    inputs: Sequence[str] = (),
    *,
    phases: Sequence[str] = (),
    batches: Sequence[int] = (),
    steps: Sequence[int] = (),
    threads: Sequence[int | None] = (None,),
    gpus: Sequence[int | None] | None = None,
    repeats: int = 1,
    seconds: float = SECONDS,
    time_limit: float = launch.TIME_LIMIT,
) -> Planned:
    """Look at a network and run it once, each in a process of its own; return what is to be measured of it.

    Args:
        name: `FILE.onnx`, or `PACKAGE.MODULE:FACTORY`, whose code is run.
        inputs: shapes; see `profile.foreign.shapes`.
        phases: some of `PHASES`; none: all that the network has.
        batches, steps: sizes of the batch and of time; none: as the inputs say, or a guess that a note says.
        threads, gpus, repeats, seconds: see `plan.plan`.
        time_limit: seconds that the look may take.

    Raises:
        UsageError: an impossible name, number or shape, or an axis whose size is not given.
        ProfileError: a file that is damaged or that could harm; a network that cannot run.
        ExportError: ONNX Runtime cannot load the file, or not run it on such inputs.
        OutOfMemoryError: the inputs, or the run, need more memory than there is.
        DeviceError: a GPU that is not there.
    """
    onnx = name.lower().endswith(".onnx")
    check_numbers(batches=[None, *batches], steps=[None, *steps], threads=threads, repeats=[repeats], seconds=[seconds])
    chosen = known("phase of a foreign network", phases or PHASES, PHASES)
    if onnx:
        if phases and "infer" not in phases:
            raise UsageError(f"{name} is an ONNX file: hstnn can run it, not train it", "leave --phases out")
        chosen = ["infer"]
    devices = devices_of(gpus)
    sizes: list[list[int | None]] = [[*unique(each)] or [None] for each in (batches, steps)]
    pairs = list(product(*sizes))
    found = _examined("onnx" if onnx else "module", name, inputs, pairs, time_limit)
    engine: Engine = "onnxruntime" if onnx else "eager"
    numbers: dict[str, Any] = {key: found[key] for key in ("bytes", "weights") if key in found}
    configurations = []
    for (device, no_cuda), count, each in product(devices, unique(threads), found["resolved"]):
        shown = ", ".join(f"{one['name']} {one['shape']} {one['type']}".lstrip() for one in each["inputs"])
        foreign: dict[str, Any] = {"kind": "onnx" if onnx else "module", "inputs": each["inputs"], **numbers}
        shared: dict[str, Any] = {
            "subject": name,
            "recipe": {"name": Path(name).name if onnx else name},
            "network": one_line(f"{'ONNX file' if onnx else 'torch module'} on {shown or 'no input'}"),
            "sizes": [],
            "stage": "train",
            "engine": engine,
            "batch": each["batch"],
            "steps": each["steps"],
            "device": device,
            "no_cuda": no_cuda,
            "ckpt": str(Path(name).absolute()) if onnx else None,
            "ckpt_sha256": files.sha256(Path(name)) if onnx else "",
            "threads": count,
            "seconds": seconds,
            "foreign": foreign,
        }
        configurations += [Configuration(phase=phase, **shared) for phase in PHASES if phase in chosen]
    notes = unique([one_line(note) for each in found["resolved"] for note in each["notes"]])
    return Planned(repeated(configurations, repeats), notes)


def _examined(
    kind: str, name: str, inputs: Sequence[str], pairs: Sequence[Sequence[int | None]], time_limit: float
) -> dict[str, Any]:
    free = int(memory.SHARE * memory.free())
    limit = free if kind == "onnx" else None
    request = {"kind": kind, "name": name, "inputs": list(inputs), "pairs": pairs, "free": free, "limit": limit}
    with files.temporary_folder("examine") as folder:
        paths = [folder / each for each in ("request.json", "result.json")]
        files.write_json(paths[0], request)
        failure = launch.run_alone("examine", [str(path) for path in paths], "cpu", folder / "output", time_limit)
        if failure:
            raise ProfileError(f"{name} cannot be measured: the process of its trial run {one_line(failure)}")
        result: dict[str, Any] = json.loads(paths[1].read_text(encoding="utf-8"))
    if "error" in result:
        found = getattr(errors, result["class"], ProfileError)
        raise (found if issubclass(found, HstnnError) else ProfileError)(result["error"], result["hint"])
    return result
