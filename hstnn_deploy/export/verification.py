"""Repeat a bundle's proof anywhere, from the weights in its files: what `hstnn verify` does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.folder import Report, silent
from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.checks import CHECKS, run_checks, run_checks_on
from hstnn_deploy.export.comparisons import Check
from hstnn_deploy.export.contents import check_files, read_manifest
from hstnn_deploy.export.manifest import recipe_of
from hstnn_deploy.export.raw import check_front
from hstnn_deploy.export.smaller import compare, parse_name
from hstnn_deploy.export.subject import make_subject
from hstnn_deploy.export.weights import difference, network_of, read_weights
from hstnn_deploy.models.sizes import Sizes


@dataclass(frozen=True)
class Verification:
    """What a verification found."""

    folder: Path
    checks: list[Check]
    manifest: dict[str, Any]

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.outcome == "failed"]


def verify_bundle(
    folder: Path,
    ckpt: Path | None = None,
    data_folder: Path | None = None,
    provider: str = "cpu",
    whole_test: bool = False,
    on_check: Callable[[Check], None] = lambda _: None,
    report: Report = silent,
) -> Verification:
    """Check a bundle: its manifest and files, its weights, and all that was proved when it was exported.

    Args:
        folder: the bundle.
        ckpt: a checkpoint whose weights the files must hold; None: they are only compared with each other.
        data_folder: where the recipe's data is.
        provider: of ONNX Runtime: beside all that is checked on the CPU, `cuda` or `cuda:n` repeats the replay there.
        whole_test: whether each file is asked all of the test split, however large the network.
        on_check: called with each check as it is done.
        report: told what is under way.

    Raises:
        BundleError: no bundle, or one whose manifest or files are not as they were written.
        CheckpointError: the checkpoint cannot be read.
        DeviceError: the provider does not load.
        RecipeError: the recipe in the manifest cannot be read by this version.
    """
    facts = read_manifest(folder)
    check_files(folder, facts)
    checkpoint = Checkpoint.load(ckpt) if ckpt else None
    checks: list[Check] = []

    def done(check: Check) -> None:
        checks.append(check)
        on_check(check)

    for name in facts["files"]:
        done(Check(name, "as exported", "passed", f"SHA-256 {facts['files'][name]['sha256'][:12]}…"))
        if name not in CHECKS and not parse_name(name):
            done(Check(name, "proved when exported", "failed", "it failed a check then, and says so in its name"))
    for name, each in facts["carried"].items():
        done(Check(name, "as exported", "passed", f"SHA-256 {each['sha256'][:12]}…"))
    names = [name for name in facts["files"] if name in CHECKS]
    if not names:
        return Verification(folder, checks, facts)
    recipe = recipe_of(folder, facts)
    sizes = [Sizes(each["snn"], each["rnn"]) for each in facts["network"]["units"]]
    try:
        network = network_of(folder / names[0], recipe.network, sizes)
        ours = network.state_dict()
        for name in names[1:]:
            found = difference(ours, read_weights(folder / name))
            done(Check(name, f"weights = {names[0]}", "failed" if found else "passed", found or _equal(ours)))
    except ExportError as error:
        done(Check(names[0], "holds the network", "failed", error.message))
        return Verification(folder, checks, facts)
    if checkpoint:
        found = difference(ours, checkpoint.parameters)
        done(Check(names[0], f"weights = {ckpt}", "failed" if found else "passed", found or _equal(ours)))
    subject = make_subject(network, folder, recipe, facts["network"]["vocabulary"], data_folder, whole_test, report)
    if provider != "cpu":
        run_checks_on(subject, names, provider, done)
    run_checks(subject, names, done)
    for each in facts.get("smaller", []):
        try:
            done(compare(subject, each["file"], each["limit"]).check())
            parsed = parse_name(each["file"])
            for check in check_front(subject.folder / each["file"], subject, parsed[1]) if parsed else ():
                done(check)
        except ExportError as error:
            done(Check(each["file"], "opens and runs", "failed", error.message))
    return Verification(folder, checks, facts)


def _equal(weights: dict[str, Any]) -> str:
    return f"{sum(value.numel() for value in weights.values())} values equal to the bit"
