"""`hstnn sweep`: train over kinds, ratios, seeds, and any key of a recipe."""

import json
import os
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hstnn_deploy.cli import console, defaults, then
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import (
    Address,
    Batch,
    DataDir,
    Epochs,
    ExecutorChoice,
    Json,
    Lr,
    RunsDir,
    address_of,
    recipe_names,
    words,
)
from hstnn_deploy.errors import Interrupted, SweepError, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.train.sweep.cluster import Cluster
    from hstnn_deploy.train.sweep.estimate import Estimator
    from hstnn_deploy.train.sweep.launch import Setting
    from hstnn_deploy.train.sweep.local import Local
    from hstnn_deploy.train.sweep.plan import Job
    from hstnn_deploy.train.sweep.scheduler import Entry

_Value = TypeVar("_Value")


class StepChoice(StrEnum):
    """Steps of weights on devices."""

    baseline = "baseline"
    vat = "vat"
    recover = "recover"
    prune = "prune"
    all = "all"


def sweep(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe as for `hstnn train`, or a sweep file (docs/sweeps.md).", autocompletion=recipe_names
        ),
    ],
    kinds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Kinds of networks, such as rnn,snn,ffs,hybrid.")
    ] = None,
    ratios: Annotated[
        str | None, typer.Option(metavar="LIST", help="Spiking shares of ffs and hybrid, such as 0.05,0.25.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="LIST", help="Seeds, such as 1111,2222.")] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over", metavar="KEY=LIST", help="Any key of the recipe, such as network.weights.bits=1,2,4; repeatable."
        ),
    ] = None,
    stage: Annotated[
        StepChoice | None,
        typer.Option(
            help="For weights on devices: one step, with those before it, or all (default: all that the recipe has)."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
    ] = None,
    epochs: Epochs = None,
    lr: Lr = None,
    batch: Batch = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="LIST", help="GPU numbers, or none for the CPU (default: all GPUs).")
    ] = None,
    per_gpu: Annotated[int, typer.Option(min=1, help="Jobs that share a GPU.")] = 1,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="Use this many CPU cores and no GPU (default: all cores).")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, envvar=defaults.THREADS, help="CPU threads per job; results depend on the number.")
    ] = 1,
    retries: Annotated[int, typer.Option(min=0, help="How often to retry a failed job.")] = 1,
    after: Annotated[
        str | None,
        typer.Option(
            "--then",
            metavar="LIST",
            help="After training, measure the networks: robustness, profile or both; `hstnn pick` uses the results.",
        ),
    ] = None,
    executor: Annotated[
        ExecutorChoice, typer.Option(help="Run jobs on this machine, or on a Ray cluster.")
    ] = ExecutorChoice.local,
    address: Address = None,
    data_dir: DataDir = None,
    out: RunsDir = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan without running it.")] = False,
    as_json: Json = False,
) -> None:
    """Train over kinds, ratios, seeds and any key, one process per job, on all GPUs, all cores, or a Ray cluster.

    All ratios of a seed share one adaptation and its traces, and all recover steps share the RRAM network that they
    start from. Finished jobs are skipped: run the same command again to complete a sweep.
    """
    import_torch()
    from hstnn_deploy.runs import find_runs
    from hstnn_deploy.train.sweep.estimate import Estimator
    from hstnn_deploy.train.sweep.launch import Setting
    from hstnn_deploy.train.sweep.plan import check_runs

    measures = then.asked(after)
    if measures and executor is not ExecutorChoice.local:
        raise UsageError(
            "--then measures on this machine, and does not work with --executor ray",
            f"leave it out, and run `hstnn robustness {out}` and `hstnn profile` after the sweep",
        )
    short = {"epochs": epochs, "lr": lr, "batch": batch}
    jobs, set_ = _plan(recipe, kinds, ratios, seeds, over or [], stage, changes or [], short, out)
    if set_:
        console.working(as_json).print(f"set in the recipe: {', '.join(set_)}", markup=False, soft_wrap=True)
    check_runs(jobs)
    estimator = Estimator(find_runs(out) if out.is_dir() else [])
    numbers = _gpu_numbers(gpus)
    if executor is ExecutorChoice.local and numbers and cpus is not None:
        raise UsageError(
            "--gpus and --cpus are mutually exclusive", "leave one of them out; a job on a GPU uses --threads cores"
        )
    address = address_of(executor, address)
    if address and cpus is not None:
        raise UsageError("--cpus does not apply to a Ray cluster at an address", "leave --cpus out")
    if address and numbers:
        raise UsageError(
            "--gpus names GPUs of this machine, but a Ray cluster chooses its own", "leave --gpus out, or give none"
        )
    if dry_run:
        _show_plan(jobs, estimator, as_json)
        return
    setting = Setting(threads, data_dir)
    if executor is ExecutorChoice.local:
        local = _local(numbers, per_gpu, cpus, setting)
        _run(jobs, estimator, local, setting, retries, as_json)
        if measures:
            say = partial(console.working(as_json).print, markup=False, soft_wrap=True)
            places = [slot.device for slot in local.slots.all()]
            then.After(jobs, out, setting, places, say).run(measures)
        return
    from hstnn_deploy.train.sweep.cluster import Cluster

    no_gpu: list[int] | None = [] if cpus is not None and not address else None
    cluster = Cluster(
        setting, out, address=address, cpus=cpus, gpus=no_gpu if numbers is None else numbers, per_gpu=per_gpu
    )
    try:
        _run(jobs, estimator, cluster, setting, retries, as_json)
    finally:
        cluster.close()


def _plan(
    recipe: str,
    kinds: str | None,
    ratios: str | None,
    seeds: str | None,
    over: list[str],
    stage: StepChoice | None,
    changes: list[str],
    short: dict[str, int | float | None],
    out: Path,
) -> "tuple[list[Job], list[str]]":
    from hstnn_deploy.models.sizes import check_ratio
    from hstnn_deploy.recipe.short import short_changes
    from hstnn_deploy.train.sweep.plan import plan
    from hstnn_deploy.train.sweep.points import read, values_of

    found = read(recipe)
    if kinds is not None:
        found.axes["kind"] = _list("--kinds", kinds, str, "rnn,snn,ffs,hybrid")
    if ratios is not None:
        found.axes["ratio"] = _list("--ratios", ratios, float, "0.05,0.25,0.5")
        for ratio in found.axes["ratio"]:
            check_ratio(ratio)
    if seeds is not None:
        found.axes["seed"] = _list("--seeds", seeds, int, "1111,2222")
    for axis, values in map(values_of, over):
        found.axes[axis] = values
    in_file = [f"{key}={json.dumps(value)}" for key, value in found.changes.items()]
    set_ = short_changes(found.recipe, short, [*in_file, *changes], tuple(found.axes))
    return plan(found.recipes(recipe, [*changes, *set_], None if stage is None else stage.value), out), set_


def _list(option: str, text: str, read: Callable[[str], _Value], example: str) -> list[_Value]:
    found = words(text)
    if not found:
        raise UsageError(f"{option} is empty", f"for example {option} {example}, or leave it out")
    for word in found:
        try:
            read(word)
        except ValueError:
            kind = "a whole number" if read is int else "a number"
            raise UsageError(f"{option} {word!r} is not {kind}", f"for example {option} {example}") from None
    return [read(word) for word in found]


def _gpu_numbers(gpus: str | None) -> list[int] | None:
    """Return the requested GPU numbers; [] for the CPU, None if the option is not given."""
    if gpus is None:
        return None
    numbers = [] if gpus.strip() == "none" else _list("--gpus", gpus, int, "0,1")
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--gpus {gpus} names a GPU twice", "use --per-gpu to run several jobs on a GPU")
    return numbers


def _local(numbers: list[int] | None, per_gpu: int, cpus: int | None, setting: "Setting") -> "Local":
    import torch

    from hstnn_deploy import devices
    from hstnn_deploy.train.sweep.local import Local
    from hstnn_deploy.train.sweep.slots import Slots

    if numbers is None:
        numbers = list(range(torch.cuda.device_count())) if cpus is None and torch.cuda.is_available() else []
    if numbers:
        slots = Slots([str(devices.resolve(f"cuda:{number}")) for number in numbers], per_gpu)
    else:
        cores = cpus or _cores()
        if cores < setting.threads:
            raise UsageError(
                f"--threads {setting.threads} is more than the {console.counted(cores, 'core')} available",
                f"give at most --threads {cores}",
            )
        slots = Slots(["cpu"], cores // setting.threads)
    return Local(slots, setting)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(
    jobs: "list[Job]",
    estimator: "Estimator",
    executor: "Local | Cluster",
    setting: "Setting",
    retries: int,
    as_json: bool,
) -> None:
    from hstnn_deploy.cli.board import Board, counts, failures
    from hstnn_deploy.train.sweep.scheduler import Scheduler

    screen = console.report(as_json)
    scheduler = Scheduler(jobs, retries)
    entries = scheduler.entries
    _note_threads(entries, setting.threads)
    stopped = False
    with Board(console.working(as_json), entries, executor.places, estimator) as board:
        scheduler.observer = board
        try:
            scheduler.run(executor)
        except KeyboardInterrupt:
            stopped = True
    if as_json:
        console.emit({"jobs": [entry.plain() for entry in entries]})
    bad = [entry for entry in entries if entry.state in {"failed", "blocked"}]
    if bad:
        screen.print(failures(entries))
    screen.print(counts(entries), markup=False, soft_wrap=True)
    again = "run the same command again to complete the sweep"
    if stopped:
        raise Interrupted(f"interrupted: {counts(entries)}", again)
    if bad:
        logs = f"hstnn runs logs {bad[0].job.run.path}"
        raise SweepError(f"{len(bad)} of {len(entries)} jobs have no result", f"see `{logs}`; {again}")


def _note_threads(entries: "list[Entry]", threads: int) -> None:
    """Note that finished runs used another thread count than this plan: their bits may differ."""
    done = [entry.job.run.environment().get("threads") for entry in entries if entry.state == "done"]
    if others := sorted({str(number) for number in done if number != threads}):
        console.aside.print(
            f"note: {sum(number != threads for number in done)} finished runs used {', '.join(others)} thread(s), not "
            f"{threads}: their results may differ slightly from those with {threads}",
            markup=False,
            soft_wrap=True,
        )


def _show_plan(jobs: "list[Job]", estimator: "Estimator", as_json: bool) -> None:
    from hstnn_deploy.screen import duration

    names = {job.identity: job.name for job in jobs}
    rows: list[dict[str, Any]] = []
    for job in jobs:
        run, estimate = job.run, estimator.of(job)
        rows.append(
            {
                "job": job.name,
                "identity": job.identity,
                "folder": str(run.path),
                "state": run.state or None,
                "epoch": run.status().get("epoch"),
                "steps": job.steps,
                "needs": [names[need] for need in job.needs],
                "seconds": None if run.finished else estimate.seconds,
                "host_ram": estimate.host_ram,
                "cuda": estimate.cuda,
                "judged_by_runs": estimate.runs,
            }
        )
    left = [row for row in rows if row["state"] != "finished"]
    known = [row["seconds"] for row in left if row["seconds"] is not None]
    if as_json:
        console.emit({"jobs": rows, "left": len(left), "estimated": len(known), "seconds": sum(known)})
        return
    shown = [
        (
            row["job"],
            _state(row),
            f"{row['steps']} {'probes' if row['job'].endswith('/traces') else 'epochs'}",
            ", ".join(need.rpartition("/")[2] for need in row["needs"]),
            "" if row["state"] == "finished" else duration(row["seconds"]),
            _size(row["host_ram"]),
            _size(row["cuda"]),
        )
        for row in rows
    ]
    columns = ["job", "state", ">steps", "waits for", ">time", ">RAM", ">CUDA"]
    console.out.print(console.table("Plan", columns, shown, dense=True, drop=["CUDA", "RAM", "waits for"]))
    console.out.print(f"{len(jobs)} jobs, {len(jobs) - len(left)} done.", markup=False)
    if left:
        work = f"about {duration(sum(known))} of work" if known else "time n/a"
        console.out.print(
            f"Left: {work} (known for {len(known)} of {len(left)} jobs). Time and peak memory are estimates "
            "from earlier runs of similar networks in the same folder.",
            markup=False,
            soft_wrap=True,
        )


def _state(row: dict[str, Any]) -> str:
    match row["state"]:
        case None:
            return "to do"
        case "finished":
            return "done"
        case state:
            return f"{state}, epoch {row['epoch']}" if row["epoch"] else str(state)


def _size(count: int | None) -> str:
    return "n/a" if count is None else f"{count / 2**20:.0f} MB"
