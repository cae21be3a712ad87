"""`hstnn demo`: train, export and profile on data that needs no download, in a few minutes."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.export import print_bundle, showing_checks
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import ExportError, Interrupted, UsageError, VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from hstnn_deploy.export.bundle.export import Bundle
    from hstnn_deploy.models.sizes import Kind
    from hstnn_deploy.profile.record import Record
    from hstnn_deploy.runs import RunFolder

_RATIO = 0.5
_THREADS = 1
"""The networks are small: more threads bring no speed-up, and on a busy machine they wait for each other."""
_SECONDS = 2.0
"""Roughly how long each configuration is measured."""


class _Task(NamedTuple):
    """What to demonstrate."""

    recipe: str
    data_set: str
    data: str
    """A description of the data, for the first heading."""
    samples: str
    """The unit in which the test split is counted."""
    kinds: "tuple[Kind, ...]" = ("rnn", "snn", "ffs", "hybrid")
    """Networks to train; the last is exported and profiled."""


class TaskChoice(StrEnum):
    """Demonstrations."""

    digits = "digits"
    lm = "lm"
    events = "events"
    stack = "stack"
    rram = "rram"


_TASKS = {
    TaskChoice.digits: _Task("digits", "digits", "1797 real handwritten digits, 8 steps of 8 pixels", "digits"),
    TaskChoice.lm: _Task(
        *("pydoc-text", "pydoc-text", "a word-level language model of Python's own help topics", "words")
    ),
    TaskChoice.events: _Task(
        *("digit-events", "digit-events", "the digits as an event camera sees them, 12 frames", "recordings")
    ),
    TaskChoice.stack: _Task(
        *("stack-events", "digit-events", "the digits as an event camera sees them, by a stack of layers"),
        *("recordings", ("plain",)),
    ),
    TaskChoice.rram: _Task(
        *("rram-digits", "digits", "the digits as spiking images, weights on RRAM and SRAM"),
        *("digits", ("plain",)),
    ),
}
_DRAWS = 10
"""Draws of the variation for each step of training weights on devices."""


def demo(
    task: Annotated[
        TaskChoice,
        typer.Option(
            help="Digits as sequences, a language model, events with a convolutional hybrid or a stack of layers, or "
            "weights on RRAM and SRAM."
        ),
    ] = TaskChoice.digits,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The output folder (default: hstnn-demo, or hstnn-demo/TASK)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 1111,
    as_json: Json = False,
) -> None:
    """Train rnn, snn, ffs and hybrid networks (or a stack) without a download, export one with proof, and profile it.

    Takes a few minutes on two cores. Finished steps are skipped, so a second run is quick.
    """
    screen = console.report(as_json)
    shown = _TASKS[task]
    folder = out or Path("hstnn-demo") / ("" if task is TaskChoice.digits else task.value)
    try:
        runs = _train(shown, folder, seed, screen)
        screen.print()
        restored = runs[shown.kinds[-1]][-1]
        bundle, not_exported = _export(restored, folder / "bundle", screen)
        screen.print()
        records, not_profiled = _profile(restored, folder / "profile", screen)
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted; all finished epochs and stages are kept", "run the same command again to continue"
        ) from error
    if as_json:
        results = {kind: folders[-1].status()["result"] for kind, folders in runs.items()}
        console.emit(
            {
                "task": task.value,
                "results": results,
                "bundle": bundle.manifest if bundle else None,
                "not_exported": not_exported,
                "profile": [record.plain() for record in records],
                "not_profiled": not_profiled,
            }
        )
    if not console.quiet():
        _print_end(shown, folder, restored, bundle, records, screen)
    if bundle and bundle.failed:
        raise VerificationError(
            f"the export failed {console.counted(len(bundle.failed), 'check')}", f"see {bundle.folder}"
        )


def _train(task: _Task, out: Path, seed: int, screen: "Console") -> "dict[str, list[RunFolder]]":
    import_torch()
    from hstnn_deploy import devices
    from hstnn_deploy.recipe.load import load_recipe
    from hstnn_deploy.train.fitting.progress import make_observer
    from hstnn_deploy.train.stages import train

    screen.rule(f"1. Train: {task.data}", align="left")
    devices.resolve("cpu", _THREADS)
    runs: dict[str, list[RunFolder]] = {}
    for kind in task.kinds:
        of_kind = [] if kind == "plain" else [f"kind={kind}", f"ratio={_RATIO}"]
        recipe = load_recipe(task.recipe, [*of_kind, f"seed={seed}"])
        observer = make_observer(screen)
        screen.print(f"{kind}:", style="bold")
        try:
            runs[kind] = train(recipe, out / "runs", resume=True, observer=observer)
        finally:
            observer.close()
    _print_results(task, runs, screen)
    if recipe.step is not None:
        _print_draws(runs["plain"], screen)
    return runs


def _print_draws(runs: "list[RunFolder]", screen: "Console") -> None:
    """Print the accuracy of each step of weights on devices under draws of the variation."""
    import torch

    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.models.tasks import task_for
    from hstnn_deploy.train.loading import Loader
    from hstnn_deploy.train.variation import under_variation

    rows, loader = [], Loader(None, "disk")
    for run in runs:
        best = Checkpoint.load(run.best)
        recipe = best.resolved_recipe()
        task, splits = task_for(recipe.network, recipe.loss), loader.of(best)
        found = under_variation(best, task, splits, "test", recipe.batch, torch.device("cpu"), _DRAWS)
        mean = f"{found.mean:.2f} ± {found.half_width:.2f}"
        rows.append((run.path.name, f"{found.clean:.2f}", mean, f"{min(found.values):.2f}"))
    columns = ["step", ">without\nvariation", f">mean of {_DRAWS}\ndraws ± 95 %", ">worst\ndraw"]
    screen.print(console.table("Test accuracy under variation, one draw per device", columns, rows))
    screen.print(
        "In the first table, vat, recover and prune were measured with a new draw of the variation for every batch. "
        "Here one draw applies to the whole split, as on a device.",
        soft_wrap=True,
    )


def _print_results(shown: _Task, runs: "dict[str, list[RunFolder]]", screen: "Console") -> None:
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.models.tasks import task_for
    from hstnn_deploy.recipe.load import load_recipe
    from hstnn_deploy.train.evaluation import PROTOCOLS

    recipe = load_recipe(shown.recipe)
    task = task_for(recipe.network, recipe.loss)
    rows = []
    for kind, folders in runs.items():
        for run in folders:
            if not run.best.exists():
                continue
            best = Checkpoint.load(run.best)
            units = ", ".join(f"{size.snn}+{size.rnn}" for size in best.sizes) or "a stack of layers"
            stage = {"train": "", "adapt": " adapted, redundant", "restore": f" restored, ratio {_RATIO:g}"}[best.stage]
            name = f"{kind}{stage}" if kind != "ffs" else f"ffs, ratio {_RATIO:g}"
            name = run.path.name if recipe.step is not None else name
            valid, test = best.metrics["valid"][f"valid_{task.metric}"], best.metrics["test"][task.metric]
            rows.append((name, units, best.epoch, f"{valid:.2f}", f"{test:.2f}"))
            protocol, count = best.metrics["protocol"], best.metrics["test"][task.counts]
    # Headings of two lines, so that the table fits a terminal of 80 columns.
    unit = task.unit.strip()
    columns = ["network", ">spiking+recurrent\nper layer", ">best\nepoch", f">validation\n{unit}", f">test\n{unit}"]
    better = "" if task.higher_is_better else " (lower is better)"
    screen.print()
    screen.print(console.table(f"{task.metric.capitalize()}{better}", columns, rows))
    screen.print(f"Protocol: {PROTOCOLS[protocol]}; fixed test split of {count} {shown.samples}.", soft_wrap=True)


def _export(restored: "RunFolder", folder: Path, screen: "Console") -> "tuple[Bundle | None, str]":
    """Return the bundle, or the reason why the network cannot be exported."""
    from hstnn_deploy.export.bundle.export import export_bundle, proved_bundle
    from hstnn_deploy.export.graph.write import Format

    screen.rule("2. Export the last network, and prove the export", align="left")
    formats: tuple[Format, ...] = get_args(Format)
    bundle = proved_bundle(restored.best, folder, formats)
    if bundle:
        screen.print(
            "The bundle of this checkpoint already exists, and its files have not changed since they were proved."
        )
    else:
        try:
            with showing_checks(screen) as (on_check, report):
                bundle = export_bundle(restored.best, folder, formats, on_check=on_check, report=report)
        except ExportError as error:
            screen.print(f"Not exported: {error.message}.", soft_wrap=True, markup=False)
            return None, error.message
    print_bundle(bundle, screen)
    return bundle, ""


def _profile(restored: "RunFolder", folder: Path, screen: "Console") -> "tuple[list[Record], str]":
    """Return the records, or the reason why the network cannot be profiled."""
    from hstnn_deploy.profile.plan.plan import plan
    from hstnn_deploy.profile.run import launch
    from hstnn_deploy.profile.show import report
    from hstnn_deploy.profile.show.progress import Progress

    screen.rule("3. Profile training and inference, each in its own process", align="left")
    try:
        configurations = plan(ckpt=restored.best, seconds=_SECONDS, threads=[_THREADS])
    except UsageError as error:
        screen.print(f"Not profiled: {error.message}.", soft_wrap=True, markup=False)
        return [], error.message
    with Progress(screen) as progress:
        records = list(launch.run(configurations, progress))
    report.write(folder, records)
    for part in report.tables(records):
        screen.print(part)
    return records, ""


def _print_end(
    task: _Task,
    out: Path,
    restored: "RunFolder",
    bundle: "Bundle | None",
    records: "list[Record]",
    screen: "Console",
) -> None:
    screen.print()
    screen.rule("Results, and what to run next", align="left")
    lines: list[tuple[str, Any]] = [("run folders", out / "runs")]
    if bundle:
        lines.append(("bundle", out / "bundle"))
    if records:
        lines.append(("measurements", out / "profile"))
    for name, path in lines:
        screen.print(f"  {name:<14}{path}", markup=False, soft_wrap=True)
    screen.print()
    train_more = f"hstnn train {task.recipe} --ratio 0.25 --out {out / 'runs'}"
    more = (train_more, "another ratio, which reuses adaptation and traces")
    if task.kinds == ("plain",):
        more = (f"hstnn recipes {task.recipe} --shapes", "show the network layer by layer")
    for command, meaning in (
        (f"hstnn evaluate --ckpt {restored.best}", "evaluate the checkpoint on any split"),
        more,
        (f"hstnn data show {task.data_set}", "draw a picture of the data"),
        *((f"hstnn demo --task {name.value}", each.data) for name, each in _TASKS.items() if each is not task),
        ("hstnn recipes", "list everything that you can train"),
        ("hstnn profile", "profile the paper's experiments on this machine"),
        ("hstnn doctor", "see what works on this machine"),
    ):
        screen.print(f"  {command}", markup=False, soft_wrap=True)
        screen.print(f"      {meaning}", style="dim", soft_wrap=True)
