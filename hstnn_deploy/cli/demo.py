"""`hstnn demo`: the whole main path on real digits, in a few minutes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.export import print_bundle, showing_checks
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import Interrupted, VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from hstnn_deploy.export.bundle import Bundle
    from hstnn_deploy.profile.records import Record
    from hstnn_deploy.runs import RunFolder

_RATIO = 0.5
_THREADS = 1
"""The networks are small: more threads gain nothing, and on a busy machine they wait for each other."""


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")] = Path("hstnn-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 1111,
    as_json: Json = False,
) -> None:
    """Train rnn, snn, ffs and hybrid on real digits, export the hybrid with proof, and profile it.

    Takes about three minutes on two cores. What is finished is not done again: run it twice and it is quick.
    """
    screen = console.report(as_json)
    try:
        runs = _train(out, seed, screen)
        screen.print()
        restored = runs["hybrid"][-1]
        bundle = _export(restored, out / "bundle", screen)
        screen.print()
        records = _profile(restored, out / "profile", screen)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; all finished epochs and stages are kept", "run it again to go on") from error
    if as_json:
        console.emit(
            {
                "accuracy": {kind: folders[-1].status()["result"] for kind, folders in runs.items()},
                "bundle": bundle.manifest,
                "profile": [record.plain() for record in records],
            }
        )
    _print_end(out, restored, screen)
    if bundle.failed:
        raise VerificationError(f"{len(bundle.failed)} checks of the export failed", f"see {bundle.folder}")


def _train(out: Path, seed: int, screen: "Console") -> "dict[str, list[RunFolder]]":
    from hstnn_deploy import devices
    from hstnn_deploy.cli.progress import make_observer
    from hstnn_deploy.models.sizes import Kind
    from hstnn_deploy.train.recipe import load_recipe
    from hstnn_deploy.train.stages import train

    screen.rule("1. Train: 1797 real handwritten digits, 8 steps of 8 pixels", align="left")
    devices.resolve("cpu", _THREADS)
    runs: dict[str, list[RunFolder]] = {}
    kinds: tuple[Kind, ...] = ("rnn", "snn", "ffs", "hybrid")
    for kind in kinds:
        recipe = load_recipe("digits", [f"kind={kind}", f"ratio={_RATIO}", f"seed={seed}"])
        observer = make_observer(screen)
        screen.print(f"{kind}:", style="bold")
        try:
            runs[kind] = train(recipe, out / "runs", resume=True, observer=observer)
        finally:
            observer.close()
    _print_accuracies(runs, screen)
    return runs


def _print_accuracies(runs: "dict[str, list[RunFolder]]", screen: "Console") -> None:
    from hstnn_deploy.checkpoint import Checkpoint
    from hstnn_deploy.train.evaluation import PROTOCOLS

    rows = []
    for kind, folders in runs.items():
        for run in folders:
            if not run.best.exists():
                continue
            best = Checkpoint.load(run.best)
            units = ", ".join(f"{size.snn}+{size.rnn}" for size in best.sizes)
            stage = {"train": "", "adapt": " adapted (redundant)", "restore": f" restored, ratio {_RATIO:g}"}[
                best.stage
            ]
            name = f"{kind}{stage}" if kind != "ffs" else f"ffs, ratio {_RATIO:g}"
            valid, test = best.metrics["valid"]["valid_accuracy"], best.metrics["test"]["accuracy"]
            rows.append((name, units, best.epoch, f"{valid:.2f}", f"{test:.2f}"))
            protocol, samples = best.metrics["protocol"], best.metrics["test"]["samples"]
    columns = ["network", ">spiking+recurrent per layer", ">best epoch", ">validation %", ">test %"]
    screen.print()
    screen.print(console.table("Accuracy", columns, rows))
    screen.print(f"Protocol: {PROTOCOLS[protocol]}; fixed test split of {samples} digits.", soft_wrap=True)


def _export(restored: "RunFolder", folder: Path, screen: "Console") -> "Bundle":
    from hstnn_deploy.export.bundle import export_bundle, proved_bundle
    from hstnn_deploy.export.graphs import Format

    screen.rule("2. Export the selected network, and prove it", align="left")
    formats: tuple[Format, ...] = get_args(Format)
    bundle = proved_bundle(restored.best, folder, formats)
    if bundle:
        screen.print("The bundle is there already, of this very checkpoint, its files as they were proved.")
    else:
        with showing_checks(screen) as on_check:
            bundle = export_bundle(restored.best, folder, formats, on_check=on_check)
    print_bundle(bundle, screen)
    return bundle


def _profile(restored: "RunFolder", folder: Path, screen: "Console") -> "list[Record]":
    from hstnn_deploy.profile import launch, report
    from hstnn_deploy.profile.plan import plan
    from hstnn_deploy.profile.progress import Progress

    screen.rule("3. Profile training and inference, each in a process of its own", align="left")
    with Progress(screen) as progress:
        records = list(launch.run(plan(ckpt=restored.best, seconds=2.0, threads=[_THREADS]), progress))
    report.write(folder, records)
    for part in report.tables(records, whole_paper=True):
        screen.print(part)
    return records


def _print_end(out: Path, restored: "RunFolder", screen: "Console") -> None:
    screen.print()
    screen.rule("Where it all is, and what to run next", align="left")
    lines: list[tuple[str, Any]] = [
        ("run folders", out / "runs"),
        ("bundle", out / "bundle"),
        ("measurements", out / "profile"),
    ]
    for name, path in lines:
        screen.print(f"  {name:<14}{path}", markup=False, soft_wrap=True)
    screen.print()
    for command, meaning in (
        (f"hstnn evaluate --ckpt {restored.best}", "the checkpoint again, on any split"),
        (f"hstnn train digits --ratio 0.25 --out {out / 'runs'}", "another ratio: adaptation and traces are there"),
        ("hstnn recipes", "what else can be trained"),
        ("hstnn profile", "the paper's experiments on this machine"),
        ("hstnn doctor", "what this machine can and cannot do"),
    ):
        screen.print(f"  {command}", markup=False, soft_wrap=True)
        screen.print(f"      {meaning}", style="dim", soft_wrap=True)
