"""Bundles: the graphs of one network with a manifest that says what they are and what was proved of them.

    model.window.onnx  a whole sequence, dynamic batch and time        model.ts       TorchScript, whole or in chunks
    model.step.onnx    one time step, states in and out by name        model.pt2      torch.export, a whole sequence
    manifest.json      hashes, inputs and outputs, recipe, kept units, metrics with protocol, versions, verification

Files are written beside the bundle, verified from disk, and only then moved in; one that failed goes in under a name
that says `unverified`.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hstnn_deploy import environment, files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.registry import load
from hstnn_deploy.data.splits import Split
from hstnn_deploy.errors import DataError, ExportError
from hstnn_deploy.export.checks import CHECKS
from hstnn_deploy.export.comparisons import Check, Subject
from hstnn_deploy.export.graphs import FILES, write_graphs
from hstnn_deploy.export.manifest import describe_file, manifest
from hstnn_deploy.train.evaluation import PROTOCOLS
from hstnn_deploy.train.tasks import task_for

MANIFEST = "manifest.json"

_SAMPLES = 64
"""Samples that are replayed."""


@dataclass(frozen=True)
class Bundle:
    """What an export wrote."""

    folder: Path
    checks: list[Check]
    manifest: dict[str, Any]

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.outcome == "failed"]


def export_bundle(
    ckpt: Path | str,
    out: Path | str | None = None,
    formats: Collection[str] = ("onnx",),
    *,
    verify: bool = True,
    allow_redundant: bool = False,
    data_folder: Path | None = None,
    on_check: Callable[[Check], None] | None = None,
) -> Bundle:
    """Export a checkpoint's network into a bundle, and prove it.

    Args:
        ckpt: a checkpoint file.
        out: the bundle's folder; by default `bundle` beside the checkpoint.
        formats: some of onnx, torchscript, pt2.
        verify: whether to check the written files.
        allow_redundant: whether a network whose units are not selected yet may be exported.
        data_folder: where the recipe's data is, for the checks on the test split.
        on_check: called with each check as it is done.

    Returns:
        The bundle; look at `failed`.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ExportError: a redundant network without `allow_redundant`, an unknown format, or `out` holds something else.
        RunError: the folder cannot be written.
    """
    ckpt = Path(ckpt)
    checkpoint = Checkpoint.load(ckpt)
    if checkpoint.redundant and not allow_redundant:
        raise ExportError(
            f"{ckpt} is the redundant network, before selection: it holds every unit twice over",
            "export the best.pt of a ratio-… folder, or add --allow-redundant",
        )
    folder = Path(out) if out is not None else ckpt.parent / "bundle"
    _check_target(folder)
    network = checkpoint.network()
    files.make_folder(folder.parent)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        written = write_graphs(network, staging, formats, _metadata(checkpoint))
        checks: list[Check] = []
        if verify:
            recipe = checkpoint.resolved_recipe()
            test, no_test = _test_split(checkpoint, data_folder)
            subject = Subject(network, staging, _windows(test, recipe.network.inputs), test, no_test)
            checks = _verify(subject, written, on_check or (lambda _: None))
        facts = manifest(ckpt, checkpoint, checks, verify)
        for path in written:
            failed = any(check.outcome == "failed" for check in checks if check.file == path.name)
            name = f"{path.stem}.unverified{path.suffix}" if failed else path.name
            facts["files"][name] = describe_file(path, network)
            if failed:
                path.rename(path.with_name(name))
        files.write_json(staging / MANIFEST, facts)
        _replace(folder, staging)
        return Bundle(folder, checks, facts)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def proved_bundle(ckpt: Path, folder: Path, formats: Collection[str]) -> Bundle | None:
    """Return the bundle in a folder if it is this checkpoint's, in these formats, proved, and untouched since."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        checks = [Check(**check) for check in facts["verification"]["checks"]]
        wanted = {name for each in formats for name in FILES[each]}
        proved = (
            facts["verification"]["result"] == "passed"
            and facts["checkpoint"]["sha256"] == files.sha256(ckpt)
            and set(facts["files"]) == wanted
            and all(files.sha256(folder / name) == each["sha256"] for name, each in facts["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Bundle(folder, checks, facts) if proved else None


def _verify(subject: Subject, written: list[Path], on_check: Callable[[Check], None]) -> list[Check]:
    checks = []
    for path in written:
        try:
            for check in CHECKS[path.name](subject):
                checks.append(check)
                on_check(check)
        except ExportError as error:
            checks.append(Check(path.name, "opens and runs", "failed", error.message))
            on_check(checks[-1])
    return checks


def _test_split(checkpoint: Checkpoint, data_folder: Path | None) -> tuple[Split | None, str]:
    recipe = checkpoint.resolved_recipe()
    try:
        return load(recipe.data, recipe.protocol, data_folder).test, ""
    except DataError as error:
        return None, f"no test data: {error.message}"


def _windows(test: Split | None, inputs: int) -> list[torch.Tensor]:
    """Return inputs of two (T, B): real samples as they are, and pairs of them end to end with a step cut off."""
    if test is None:
        generator = torch.Generator().manual_seed(0)
        whole = torch.rand(28, _SAMPLES, inputs, generator=generator)
    else:
        whole = test.batch(torch.arange(min(_SAMPLES, len(test))), torch.device("cpu")).x
    half = whole.shape[1] // 2
    doubled = torch.cat((whole[:, :half], whole[:, half : 2 * half]))[:-1, : max(1, half - 3)]
    return [whole, doubled.contiguous()]


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the facts that are stored inside each file."""
    recipe = checkpoint.resolved_recipe()
    facts = {
        "producer": f"hstnn-deploy {environment.versions()['hstnn-deploy']}",
        "recipe": recipe.yaml(),
        "kind": recipe.kind,
        "stage": checkpoint.stage,
        "units": "; ".join(
            f"layer {n}: {size.snn} spiking, {size.rnn} recurrent" for n, size in enumerate(checkpoint.sizes, 1)
        ),
        "protocol": PROTOCOLS[recipe.protocol],
    }
    if test := checkpoint.metrics.get("test"):
        task = task_for(recipe.network)
        facts[f"test {task.metric}"] = f"{test[task.metric]:.2f}{task.unit} of {test[task.counts]} {task.counts}"
    return facts


def _check_target(folder: Path) -> None:
    if folder.is_file():
        raise ExportError(f"{folder} is a file", "give a folder with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise ExportError(f"{folder} is not empty and is not a bundle", "give another folder with --out")


def _replace(folder: Path, staging: Path) -> None:
    """Put the new bundle in the place of an earlier one."""
    try:
        if folder.exists():
            for stale in folder.glob("model.*"):
                stale.unlink()
        folder.mkdir(exist_ok=True)
        # The manifest last: a bundle that has one is whole.
        for path in sorted(staging.iterdir(), key=lambda path: path.name == MANIFEST):
            path.replace(folder / path.name)
    except OSError as error:
        raise files.cannot_write(folder, error) from error
