"""`hstnn verify`: the proof of a bundle once more, anywhere."""

from pathlib import Path
from typing import Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.export import print_checks, showing_checks
from hstnn_deploy.cli.options import DataDir, Json, WholeTest
from hstnn_deploy.errors import VerificationError


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `hstnn export` wrote.")],
    ckpt: Annotated[
        Path | None, typer.Option("--ckpt", metavar="FILE", help="Compare the weights with this checkpoint's too.")
    ] = None,
    provider: Annotated[
        str, typer.Option(metavar="cpu|cuda[:n]", help="Where ONNX Runtime runs; cuda is checked beside the CPU.")
    ] = "cpu",
    whole_test: WholeTest = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Check a bundle's files against its manifest, and repeat its proof from the weights in the files themselves."""
    from hstnn_deploy.export.verification import verify_bundle

    screen = console.report(as_json)
    with showing_checks(screen) as (on_check, report):
        result = verify_bundle(bundle, ckpt, data_dir, provider, whole_test, on_check, report)
    if as_json:
        outcome = "failed" if result.failed else "passed"
        console.emit({"bundle": str(bundle), "result": outcome, "checks": [check.plain() for check in result.checks]})
    else:
        print_checks(result.checks, screen)
    if result.failed:
        first = result.failed[0]
        raise VerificationError(
            f"{len(result.failed)} of {len(result.checks)} checks failed; "
            f"first {first.file}, {first.name}: {first.figure}",
            "export the bundle again; do not deploy this one",
        )
