"""`hstnn export`: a checkpoint into a verified bundle."""

from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import Ckpt, DataDir, Json
from hstnn_deploy.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from hstnn_deploy.export.bundle import Bundle
    from hstnn_deploy.export.comparisons import Check
    from hstnn_deploy.export.graphs import Format


class NirMethod(StrEnum):
    """How a simulator takes a step; see `export.neuromorphic`."""

    euler = "euler"
    exponential = "exponential"


def export(
    ckpt: Ckpt,
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX, a window and a step graph (the default).")] = False,
    torchscript: Annotated[bool, typer.Option("--torchscript", help="TorchScript, model.ts.")] = False,
    pt2: Annotated[bool, typer.Option("--pt2", help="torch.export's program, model.pt2.")] = False,
    nir: Annotated[
        bool, typer.Option("--nir", help="NIR for neuromorphic simulators and chips, model.nir: of a spiking network.")
    ] = False,
    nir_dt: Annotated[
        float, typer.Option("--nir-dt", metavar="SECONDS", help="The step that the simulator takes.")
    ] = 1e-4,
    nir_method: Annotated[NirMethod, typer.Option("--nir-method", help="How it takes a step.")] = NirMethod.euler,
    standalone: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a folder too that runs by itself: bundle, Python runner, C++, README."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The bundle's folder (default: bundle, beside the checkpoint).")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Check every written file from disk.")] = True,
    allow_redundant: Annotated[
        bool, typer.Option("--allow-redundant", help="Export an adapted network before selection all the same.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Export a checkpoint's network, and prove that each file computes the same spikes."""
    from hstnn_deploy.export.bundle import export_bundle
    from hstnn_deploy.export.extras import NirOptions

    if not 0 < nir_dt < float("inf"):
        raise UsageError(f"--nir-dt is {nir_dt}; a step takes more than 0 s")
    asked: dict[Format, bool] = {"onnx": onnx, "torchscript": torchscript, "pt2": pt2}
    formats: list[Format] = [name for name, wanted in asked.items() if wanted]
    if standalone and not onnx and (formats or nir):
        raise UsageError("--standalone runs ONNX graphs", "add --onnx")
    if not formats and not nir:
        formats = ["onnx"]
    screen = console.report(as_json)
    with showing_checks(screen) as on_check:
        bundle = export_bundle(
            ckpt,
            out,
            formats,
            verify=verify,
            allow_redundant=allow_redundant,
            nir=NirOptions(nir_dt, nir_method.value) if nir else None,
            data_folder=data_dir,
            on_check=on_check,
        )
    if as_json:
        console.emit({"bundle": str(bundle.folder), **bundle.manifest})
    else:
        print_bundle(bundle, screen)
    if standalone and not bundle.failed:
        from hstnn_deploy.export.standalone import write_standalone

        folder = write_standalone(bundle.folder, standalone)
        screen.print(f"Runs by itself: {folder}; see its README.md", markup=False, soft_wrap=True)
    if bundle.failed:
        first = bundle.failed[0]
        count = f"{len(bundle.failed)} of {len(bundle.checks)} checks failed"
        raise VerificationError(
            f"{count}; first {first.file}, {first.name}: {first.figure}",
            f"the files that failed are kept in {bundle.folder} under names that say unverified",
        )


@contextmanager
def showing_checks(screen: "Console") -> "Iterator[Callable[[Check], None]]":
    """Show what an export is about; yield what to call with each check that is done."""
    with screen.status("writing the graphs") as status:
        yield lambda check: status.update(f"verifying {check.file}: {check.name} {check.outcome}")


def print_bundle(bundle: "Bundle", screen: "Console") -> None:
    """Print what was written and the table of checks."""
    rows = [
        (name, f"{facts['bytes'] / 1e6:.2f} MB", facts["sha256"][:12])
        for name, facts in (bundle.manifest["files"] | bundle.manifest["carried"]).items()
    ]
    screen.print(console.table(f"Bundle {bundle.folder}", ["file", ">size", "sha256"], rows))
    if not bundle.checks:
        screen.print("Not verified: no check was run (--no-verify).", markup=False)
        return
    print_checks(bundle.checks, screen)


def print_checks(checks: "list[Check]", screen: "Console") -> None:
    """Print a table of the checks of each file."""
    from rich.text import Text

    styles = {"passed": "green", "failed": "bold red", "not run": "yellow"}
    for name in dict.fromkeys(check.file for check in checks):
        rows_of = [check for check in checks if check.file == name]
        drawn = [(Text(check.outcome, styles[check.outcome]), check.name, check.figure) for check in rows_of]
        screen.print(console.table(f"Verification of {name}", ["", "check", "figure"], drawn))
