"""`hstnn export`: a checkpoint into a verified bundle."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import Ckpt, DataDir, Json
from hstnn_deploy.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from hstnn_deploy.export.bundle import Bundle
    from hstnn_deploy.export.comparisons import Check
    from hstnn_deploy.export.graphs import Format


def export(
    ckpt: Ckpt,
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX, a window and a step graph (the default).")] = False,
    torchscript: Annotated[bool, typer.Option("--torchscript", help="TorchScript, model.ts.")] = False,
    pt2: Annotated[bool, typer.Option("--pt2", help="torch.export's program, model.pt2.")] = False,
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

    asked: dict[Format, bool] = {"onnx": onnx, "torchscript": torchscript, "pt2": pt2}
    formats: list[Format] = [name for name, wanted in asked.items() if wanted] or ["onnx"]
    screen = console.report(as_json)
    with showing_checks(screen) as on_check:
        bundle = export_bundle(
            ckpt,
            out,
            formats,
            verify=verify,
            allow_redundant=allow_redundant,
            data_folder=data_dir,
            on_check=on_check,
        )
    if as_json:
        console.emit({"bundle": str(bundle.folder), **bundle.manifest})
    else:
        print_bundle(bundle, screen)
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
        for name, facts in bundle.manifest["files"].items()
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
