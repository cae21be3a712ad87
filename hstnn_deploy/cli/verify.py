"""`hstnn verify`: the proof of a bundle once more, anywhere."""

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
        Path | None, typer.Option("--ckpt", metavar="FILE", help="Compare the weights with this checkpoint's too.")
    ] = None,
    provider: Annotated[
        str, typer.Option(metavar="cpu|cuda[:n]", help="Where ONNX Runtime runs; cuda is checked beside the CPU.")
    ] = "cpu",
    trust: Annotated[
        bool,
        typer.Option("--trust", help="You know who wrote the bundle: open its TorchScript too, which can run code."),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail where a check could not be run, too; give --ckpt, and --trust if need be."),
    ] = False,
    whole_test: WholeTest = False,
    samples: Samples = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Check a bundle's files against its manifest, and repeat its proof from the weights in the files themselves.

    Nothing in the bundle is believed, and nothing in it is run as code. Its hashes tell damage, not who wrote it. Each
    ONNX graph is built again from the weights and the recipe, and compared node by node. A .pt2 file is opened only if
    it holds nothing that could run code, and a TorchScript file only with --trust. What is taken on trust: the
    checkpoint that --ckpt names, and the data. Without --ckpt nothing says which network the weights are of. A bundle
    that says another version of hstnn or of its tools wrote it can leave a graph unchecked: --strict does not pass it.
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
            "see whether it is the bundle of that checkpoint; if it is, export it again and do not deploy this one"
            if ckpt
            else "export the bundle again; do not deploy this one",
        )
    if strict and result.not_run:
        first = result.not_run[0]
        raise VerificationError(
            f"{len(result.not_run)} of {len(result.checks)} checks could not be run; "
            f"first {first.file}, {first.name}: {first.figure}",
            "give what it needs, or verify without --strict",
        )
