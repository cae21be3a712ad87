"""`hstnn export`: write a checkpoint as a verified bundle."""

from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import Ckpt, CkptArgument, DataDir, ForRecipe, Json, Samples, WholeTest, one_of
from hstnn_deploy.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from rich.console import Console

    from hstnn_deploy.data.files.folder import Report
    from hstnn_deploy.export.bundle.export import Bundle
    from hstnn_deploy.export.bundle.quantise import How
    from hstnn_deploy.export.graph.forms import Form
    from hstnn_deploy.export.graph.write import Format
    from hstnn_deploy.export.proof.comparisons import Check
    from hstnn_deploy.screen import Table


class FormChoice(StrEnum):
    """Forms of an ONNX graph, or the fastest of them."""

    window = "window"
    step = "step"
    unrolled = "unrolled"
    auto = "auto"


class DynamicChoice(StrEnum):
    """Which axes of a graph must have a free size."""

    both = "time,batch"
    batch = "batch"


class Int8Choice(StrEnum):
    """Where the ranges of an int8 graph come from."""

    dynamic = "dynamic"
    static = "static"


class OpsetChoice(StrEnum):
    """Versions of ONNX's operators."""

    opset17 = "17"
    opset18 = "18"
    opset20 = "20"
    opset21 = "21"


class StatesChoice(StrEnum):
    """How a window graph handles its states."""

    named = "named"
    inside = "inside"
    both = "both"


class NirMethod(StrEnum):
    """How a simulator takes a step; see `export.graph.neuromorphic`."""

    euler = "euler"
    exponential = "exponential"


class NirFormChoice(StrEnum):
    """Forms of a NIR graph's neurons."""

    plain = "plain"
    full = "full"


def export(
    path: CkptArgument = None,
    by_option: Ckpt = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX: a window and a step graph (the default).")] = False,
    torchscript: Annotated[bool, typer.Option("--torchscript", help="Write TorchScript: model.ts.")] = False,
    pt2: Annotated[bool, typer.Option("--pt2", help="Write a torch.export program: model.pt2.")] = False,
    nir: Annotated[
        bool,
        typer.Option(
            "--nir", help="Write NIR for neuromorphic simulators and chips: model.nir (spiking networks only)."
        ),
    ] = False,
    nir_dt: Annotated[float, typer.Option("--nir-dt", metavar="SECONDS", help="Time step of the simulator.")] = 1e-4,
    nir_method: Annotated[
        NirMethod, typer.Option("--nir-method", help="How the simulator integrates a step.")
    ] = NirMethod.euler,
    nir_form: Annotated[
        NirFormChoice,
        typer.Option(
            "--nir-form", help="plain: r = 1, no v_reset, which most tools read; full: the threshold as trained."
        ),
    ] = NirFormChoice.plain,
    standalone: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write a folder that runs without hstnn: bundle, Python runner, C++ example, README.",
        ),
    ] = None,
    form: Annotated[
        list[FormChoice] | None,
        typer.Option(help="Form of the ONNX graph; repeatable (default: window and step)."),
    ] = None,
    dynamic: Annotated[
        DynamicChoice | None, typer.Option(help="Axes that must have a free size, for --form auto and unrolled.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of an unrolled or measured window (default: the data's)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size at which --form auto measures.")] = 1,
    states: Annotated[
        StatesChoice | None,
        typer.Option(
            help="States of a window graph (default: named): named inputs and outputs; zeros made inside, so that x "
            "is the only input and the logits the only output; or a graph of each."
        ),
    ] = None,
    opset: Annotated[
        OpsetChoice | None, typer.Option(help="Version of ONNX's operators (default: 20); use 17 for older engines.")
    ] = None,
    int8: Annotated[Int8Choice | None, typer.Option("--int8", help="Also write each ONNX graph in int8.")] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Also write each ONNX graph in half precision.")] = False,
    integers: Annotated[
        bool,
        typer.Option("--integers", help="Also write each ONNX graph with low-bit weights stored as integers."),
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Largest loss of an int8 or fp16 graph: points of the metric, or % of an rmse (default: 0.5).",
        ),
    ] = None,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="Keep int8 and fp16 graphs that are neither smaller nor faster here.")
    ] = False,
    preprocess: Annotated[
        bool,
        typer.Option(
            "--preprocess", help="Make graphs that take raw pixels or events, with scaling or framing inside."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The bundle's folder (default: bundle, next to the checkpoint).")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Read every written file back and check it.")
    ] = True,
    allow_redundant: Annotated[
        bool,
        typer.Option("--allow-redundant", help="Export an adapted network before its units are selected."),
    ] = False,
    whole_test: WholeTest = False,
    draw: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="For weights on devices: export draw N of the variation (default: none)."
        ),
    ] = None,
    exit_: Annotated[
        str | None,
        typer.Option(
            "--exit",
            metavar="RULE=THRESHOLD",
            help="Let the step graph report when to answer early. confidence=0.9: at the first step with a "
            "probability of at least 0.9; scale=0.1: when every norm's mean scale is below 0.1.",
        ),
    ] = None,
    recipe: ForRecipe = None,
    samples: Samples = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Export a checkpoint's network, and prove that every file computes the same spikes.

    For a checkpoint without a recipe, such as an imported one, the proof uses the test split of --recipe, --samples,
    or else random inputs; the manifest says which.
    """
    ckpt = one_of(path, by_option, "--ckpt", "checkpoint")
    import_torch()
    from hstnn_deploy.export.bundle.export import export_bundle
    from hstnn_deploy.export.bundle.extras import NirOptions
    from hstnn_deploy.export.bundle.quantise import MAX_DROP
    from hstnn_deploy.export.graph.nodes import OPSET
    from hstnn_deploy.models.exits import parse_exit
    from hstnn_deploy.recipe.load import load_recipe

    if not 0 < nir_dt < float("inf"):
        raise UsageError(f"--nir-dt must be positive and finite (got {nir_dt})", "for example --nir-dt 1e-4")
    asked: dict[Format, bool] = {"onnx": onnx, "torchscript": torchscript, "pt2": pt2}
    formats: list[Format] = [name for name, wanted in asked.items() if wanted]
    if standalone and not onnx and (formats or nir):
        raise UsageError("--standalone needs ONNX graphs", "add --onnx")
    for option, given, alone in (
        ("--preprocess", preprocess, nir and not formats),
        ("--states", states, nir or formats),
        ("--opset", opset, nir or formats),
    ):
        if given and alone and not onnx:
            raise UsageError(f"{option} applies only to ONNX graphs", "add --onnx")
    for option, given in (("--max-drop", max_drop is not None), ("--keep-all", keep_all)):
        if given and not int8 and not fp16:
            raise UsageError(f"{option} applies only to int8 and fp16 graphs", "add --int8 or --fp16")
    if not formats and not nir:
        formats = ["onnx"]
    smaller: list[How] = [f"int8-{int8.value}"] if int8 else []  # type: ignore[list-item]
    smaller += ["fp16"] if fp16 else []
    smaller += ["integers"] if integers else []
    screen = console.report(as_json)
    with showing_checks(console.working(as_json)) as (on_check, report):
        bundle = export_bundle(
            ckpt,
            out,
            formats,
            forms=forms_asked(form),
            dynamic=dynamic.value if dynamic else None,
            steps=steps,
            batch=batch,
            smaller=smaller,
            opset=int(opset.value) if opset else OPSET,
            states=states.value if states else "named",
            max_drop=MAX_DROP if max_drop is None else max_drop,
            keep_all=keep_all,
            verify=verify,
            allow_redundant=allow_redundant,
            nir=NirOptions(nir_dt, nir_method.value, nir_form.value) if nir else None,
            preprocess=preprocess,
            data_folder=data_dir,
            whole_test=whole_test,
            draw=draw,
            exit=parse_exit(exit_) if exit_ is not None else None,
            recipe=load_recipe(recipe) if recipe else None,
            samples=samples,
            on_check=on_check,
            report=report,
        )
    if as_json:
        console.emit({"bundle": str(bundle.folder), **bundle.manifest})
    else:
        print_bundle(bundle, screen)
    if standalone and not bundle.failed:
        from hstnn_deploy.export.bundle.standalone import write_standalone

        folder = write_standalone(bundle.folder, standalone)
        screen.print(f"Standalone folder: {folder}; see its README.md", markup=False, soft_wrap=True)
    if bundle.failed:
        first = bundle.failed[0]
        count = f"{len(bundle.failed)} of {len(bundle.checks)} checks failed"
        raise VerificationError(
            f"{count}; first {first.file}, {first.name}: {first.figure}",
            "the file was not written; --max-drop sets the largest loss"
            if first.file not in bundle.manifest["files"] and "unverified" not in str(list(bundle.manifest["files"]))
            else f"the failed files are kept in {bundle.folder}, with 'unverified' in their names",
        )


def forms_asked(chosen: list[FormChoice] | None) -> "Collection[Form] | Literal['auto']":
    """Return the forms that --form names.

    Raises:
        UsageError: `auto` is combined with another form.
    """
    names: list[Any] = [each.value for each in chosen or [FormChoice.window, FormChoice.step]]
    if "auto" not in names:
        return names
    if len(set(names)) > 1:
        raise UsageError(f"--form auto chooses the form itself, but {names} were given", "give --form auto alone")
    return "auto"


@contextmanager
def showing_checks(screen: "Console") -> "Iterator[tuple[Callable[[Check], None], Report]]":
    """Show the progress of an export; yield one callback for finished checks and one for the current work."""
    with screen.status("writing the graphs") as status:

        def report(what: str, done: int = 0, total: int | None = None, unit: str = "") -> None:
            status.update(f"verifying {what}" + (f", {done} of {total} {unit}" if total else f", {done} {unit}"))

        yield lambda check: status.update(f"verifying {check.file}: {check.name} {check.outcome}"), report


def print_bundle(bundle: "Bundle", screen: "Console") -> None:
    """Print the written files and the table of checks."""
    rows = [
        (name, f"{facts['bytes'] / 1e6:.2f} MB", facts["sha256"][:12])
        for name, facts in (bundle.manifest["files"] | bundle.manifest["carried"]).items()
    ]
    screen.print(console.table(f"Bundle {bundle.folder}", ["file", ">size", "sha256"], rows))
    if bundle.dropped:
        gone = ", ".join(bundle.dropped)
        screen.print(
            f"note: it replaces an earlier bundle and does not contain that one's {gone}", markup=False, soft_wrap=True
        )
    if bundle.choice:
        screen.print(f"Form: {bundle.choice} ({bundle.choice.machine})", markup=False, soft_wrap=True)
    if bundle.reductions:
        screen.print(_smaller_table(bundle))
        for each in bundle.reductions:
            if not each.kept and not each.refused:
                screen.print(f"{each}; --keep-all keeps it", markup=False, soft_wrap=True)
    if "samples" in bundle.manifest:
        screen.print(f"Proved on {bundle.manifest['samples']}.", markup=False, soft_wrap=True)
    if bundle.manifest["verification"]["result"] == "not run":
        screen.print("Not verified: no proof was run (--no-verify).", markup=False)
    print_checks(bundle.checks, screen)


def print_checks(checks: "list[Check]", screen: "Console") -> None:
    """Print a table of the checks of each file."""
    from rich.text import Text

    styles = {"passed": "green", "failed": "bold red", "not run": "yellow"}
    for name in dict.fromkeys(check.file for check in checks):
        rows_of = [check for check in checks if check.file == name]
        drawn = [(check.name, Text(check.outcome, styles[check.outcome]), check.figure) for check in rows_of]
        screen.print(console.table(f"Verification of {name}", ["check", "outcome", "figure"], drawn))
    if checks:
        counts = {outcome: sum(check.outcome == outcome for check in checks) for outcome in styles}
        rest = "".join(f", {count} {outcome}" for outcome, count in counts.items() if outcome != "passed" and count)
        screen.print(f"{counts['passed']} of {len(checks)} checks passed{rest}.", markup=False, highlight=False)


def _smaller_table(bundle: "Bundle") -> "Table":
    from rich.text import Text

    from hstnn_deploy.metrics import points

    rows = []
    for each in bundle.reductions:
        lost = "n/a" if each.lost is None else f"{each.lost:+.2f}"
        rows.append(
            (
                Text("refused", "bold red")
                if each.refused
                else Text("kept", "green")
                if each.kept
                else Text("not kept", "yellow"),
                each.file,
                f"{each.bytes / 1e3:.1f} ({each.size_ratio:.2f})",
                f"{each.milliseconds:.3g} ({each.time_ratio:.2f})",
                each.effect,
                f"{each.flipped} of {each.spikes}",
                lost,
                each.left or "-",
            )
        )
    first = bundle.reductions[0]
    columns = [
        "outcome",
        "file",
        ">kB",
        ">ms",
        "effect",
        ">spikes\nflipped",
        f">{first.metric}\nlost",
        "not\nconverted",
    ]
    caption = (
        "kB, ms: in brackets, as a share of the original graph's. ms: one window at batch 1.\n"
        f"Lost: {points(first.metric)} on the test split{first.asked}; at most {first.limit:g} is allowed."
    )
    return console.table(
        "Smaller graphs", columns, rows, caption, dense=True, drop=["not\nconverted", "spikes\nflipped"]
    )
