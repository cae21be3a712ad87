"""`hstnn verify`: repeat the proof of a bundle, on any machine."""

from pathlib import Path
from typing import Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.export import print_checks, showing_checks
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import BundleArgument, BundleOption, DataDir, Json, Samples, WholeTest, one_of
from hstnn_deploy.errors import VerificationError


def verify(
    path: BundleArgument = None,
    by_option: BundleOption = None,
    ckpt: Annotated[
        Path | None, typer.Option("--ckpt", metavar="FILE", help="Also compare the weights with this checkpoint's.")
    ] = None,
    provider: Annotated[
        str,
        typer.Option(metavar="cpu|cuda[:n]", help="Where ONNX Runtime runs; cuda is checked in addition to the CPU."),
    ] = "cpu",
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Also open TorchScript files, which can run code: only if you know who wrote the bundle."
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Also fail if a check could not be run; give --ckpt, and --trust if needed."),
    ] = False,
    whole_test: WholeTest = False,
    samples: Samples = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Check a bundle's files against its manifest, and repeat its proof from the weights in the files.

    The bundle is not trusted, and no code in it is run. Its hashes reveal damage, but not who wrote it. Each ONNX graph
    is rebuilt from the weights and the recipe, and compared node by node. A .pt2 file is opened only if it contains
    nothing that could run code, and a TorchScript file only with --trust. The checkpoint of --ckpt and the data are
    trusted. Without --ckpt, nothing shows which network the weights belong to. If a bundle claims to be from another
    version of hstnn or its tools, a graph may stay unchecked: --strict fails in that case.
    """
    bundle = one_of(path, by_option, "--bundle", "bundle")
    import_torch()
    from hstnn_deploy.export.bundle.verify import verify_bundle

    screen = console.report(as_json)
    with showing_checks(console.working(as_json)) as (on_check, report):
        result = verify_bundle(
            bundle, ckpt, data_dir, provider, whole_test, on_check, report, trust=trust, samples=samples
        )
    if as_json:
        outcome = "failed" if result.failed or (strict and result.not_run) else "passed"
        plain = [check.plain() for check in result.checks]
        console.emit({"bundle": str(bundle), "result": outcome, "not_run": len(result.not_run), "checks": plain})
    else:
        print_checks(result.checks, screen)
    if result.failed:
        first = result.failed[0]
        raise VerificationError(
            f"{len(result.failed)} of {len(result.checks)} checks failed; "
            f"first {first.file}, {first.name}: {first.figure}",
            "check whether the bundle belongs to that checkpoint; if so, export it again and do not deploy this one"
            if ckpt
            else "export the bundle again; do not deploy this one",
        )
    if strict and result.not_run:
        first = result.not_run[0]
        raise VerificationError(
            f"{len(result.not_run)} of {len(result.checks)} checks could not be run; "
            f"first {first.file}, {first.name}: {first.figure}",
            "provide what the check needs, or verify without --strict",
        )
