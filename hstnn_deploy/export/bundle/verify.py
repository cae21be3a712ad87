"""Repeat a bundle's proof anywhere, from the weights in its files: what `hstnn verify` does.

Nothing in the bundle is trusted: its writer may have written any file, and sealed it. Its graphs are
built again from its weights and recipe, and so is what its manifest says of them; only then do they run. What would run
code is not opened (`foreign`). What the weights themselves are worth only a checkpoint can say.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.files.folder import Report, silent
from hstnn_deploy.data.given.given import Data, fingerprint, split_of
from hstnn_deploy.data.preprocessing import preprocessing
from hstnn_deploy.data.sets.nothing import PythonDataConfig
from hstnn_deploy.data.splits import Split
from hstnn_deploy.errors import ExportError, UsageError
from hstnn_deploy.export.bundle.claims import check_carried, check_checkpoint, check_follows, check_metric, check_record
from hstnn_deploy.export.bundle.description import recipe_of
from hstnn_deploy.export.bundle.quantise import compare, parse_name
from hstnn_deploy.export.bundle.rebuilt import Rebuilt, read_alone
from hstnn_deploy.export.graph.nodes import BUILDER
from hstnn_deploy.export.graph.raw_input import possible
from hstnn_deploy.export.graph.write import PT2, TORCHSCRIPT, VARIANTS
from hstnn_deploy.export.proof.checks import CHECKS, run_checks, run_checks_on
from hstnn_deploy.export.proof.comparisons import Check, Subject, sheet_of, told_of
from hstnn_deploy.export.proof.programs import check_program
from hstnn_deploy.export.proof.raw_input import check_front
from hstnn_deploy.export.proof.samples import make_subject, samples_file
from hstnn_deploy.export.proof.weights import difference, network_of, read_weights
from hstnn_deploy.export.runtime.manifest import MANIFEST, check_files, read_manifest
from hstnn_deploy.models.exits import Exit
from hstnn_deploy.models.network import Network
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.shown import Sheet, Shown
from hstnn_deploy.train.fitting.given import wanted

NOT_TRUSTED = "not checked: TorchScript can run code; add --trust if you trust its writer"


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """What a verification found."""

    folder: Path
    checks: list[Check]
    manifest: dict[str, Any]

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.outcome == "failed"]

    def __repr__(self) -> str:
        """Return in one line how the checks came out."""
        return f"<Verification of {self.folder}: {told_of(self.checks)}>"

    def sheet(self) -> Sheet:
        """Return the checks."""
        return sheet_of(f"Verification of {self.folder}: {told_of(self.checks)}", self.checks)

    @property
    def not_run(self) -> list[Check]:
        """The checks that could not be run; each says why."""
        return [check for check in self.checks if check.outcome == "not run"]


def verify_bundle(
    folder: Path | str,
    ckpt: Path | str | None = None,
    data_folder: Path | None = None,
    provider: str = "cpu",
    whole_test: bool = False,
    on_check: Callable[[Check], None] = lambda _: None,
    report: Report = silent,
    *,
    trust: bool = False,
    samples: str | Path | None = None,
    test: Data | None = None,
) -> Verification:
    """Check a bundle: its manifest and files, its weights, its graphs, and all that was proved when it was exported.

    Args:
        folder: the bundle.
        ckpt: a checkpoint whose weights the files must hold; None: they are only compared with each other.
        data_folder: where the recipe's data is.
        provider: of ONNX Runtime: beside all that is checked on the CPU, `cuda` or `cuda:n` repeats the replay there.
        whole_test: whether to evaluate every file on the full test split (slow for large networks).
        on_check: called with each check as it is done.
        report: told what is under way.
        samples: a .npy or .npz file of inputs x[N, T, …] to prove the files on; None: the recipe's data.
        test: samples with their answers, as `hstnn_deploy.fit` takes them, in the place of the recipe's test split.
        trust: whether the bundle's writer is known and trusted, so that TorchScript, which is code, may be opened.

    Raises:
        BundleError: no bundle, one whose manifest or files are not as they were written, or a file that could run code.
        CheckpointError: the checkpoint cannot be read.
        DeviceError: the provider does not load.
        DataError: the file of samples is damaged, or holds no inputs of the network.
        RecipeError: the recipe in the manifest cannot be read by this version.
    """
    folder, ckpt = Path(folder), None if ckpt is None else Path(ckpt)
    facts = read_manifest(folder)
    if test is not None and facts["graphs"]["preprocess"]:
        raise UsageError("the proof of preprocessing needs the files of the recipe's data", "leave test= out")
    check_files(folder, facts)
    if PT2 in facts["files"]:
        check_program(folder / PT2)
    checkpoint = Checkpoint.load(ckpt) if ckpt else None
    if checkpoint:
        checkpoint = checkpoint.deployed(facts.get("weights", {}).get("draw"))
    checks: list[Check] = []

    def done(check: Check) -> None:
        checks.append(check)
        on_check(check)

    samples = samples_file(samples)
    found = Verification(folder, checks, facts)
    for name in facts["files"]:
        done(Check(name, "as exported", "passed", f"SHA-256 {facts['files'][name]['sha256'][:12]}…"))
        if name not in CHECKS and not parse_name(name):
            done(Check(name, "proved when exported", "failed", "it failed a check then, as its name says"))
    for name, each in facts["carried"].items():
        done(Check(name, "as exported", "passed", f"SHA-256 {each['sha256'][:12]}…"))
    names = [name for name in facts["files"] if name in CHECKS and (trust or name != TORCHSCRIPT)]
    if TORCHSCRIPT in facts["files"] and not trust:
        done(Check(TORCHSCRIPT, "weights and answers", "not run", NOT_TRUSTED))
    recipe = recipe_of(folder, facts)
    try:
        network = _network(folder, names, facts, recipe, checkpoint)
        if network is not None:
            network.values = recipe.asks == "values"
        if network is not None and "exit" in facts:
            network.leave_by(Exit(**facts["exit"]))
        how = possible(preprocessing(recipe.data)) if facts["graphs"]["preprocess"] else None
    except (ExportError, UsageError) as error:
        done(Check(names[0] if names else MANIFEST, "holds the network", "failed", error.message))
        return found
    if network is None:
        done(
            Check(
                MANIFEST,
                "holds the network",
                "not run",
                "no file that hstnn may open contains weights: give --ckpt (ckpt= in Python)",
            )
        )
        return found
    ours = network.state_dict()
    for name in names[1:]:
        done(_same_weights(name, names[0], ours, folder))
    if checkpoint and names:
        wrong = difference(ours, checkpoint.parameters)
        done(Check(names[0], f"weights = {ckpt}", "failed" if wrong else "passed", wrong or _equal(ours)))
    done(check_follows(facts, recipe, network, how))
    done(check_checkpoint(facts, recipe, ckpt, checkpoint))
    for check in check_carried(folder, facts, network):
        done(check)
    rebuilt = Rebuilt(folder, facts, recipe, network, how, data_folder)
    smaller = [name for name in facts["files"] if parse_name(name)]
    wrong_graphs: set[str] = set()
    for name in (*(name for name in names if name in VARIANTS), *smaller):
        done(rebuilt.check(name))
        if checks[-1].outcome == "failed":
            # Its effect and running time are unknown, so it is not run.
            wrong_graphs.add(name)
    vocabulary = facts["network"]["vocabulary"]
    given = None if test is None else split_of(test, wanted(network), "test", lambda *_: None)
    subject = make_subject(network, folder, recipe, vocabulary, data_folder, whole_test, report, samples, given)
    subject = replace(subject, source="checkpoint" if checkpoint else "network of these weights")
    if given is None or _is_its_own(recipe, given):
        for check in check_metric(facts, subject):
            done(check)
    elif "test" in facts["metrics"]:
        done(Check(MANIFEST, f"test {subject.task.metric} = measured", "not run", "other samples were given"))
    good = [name for name in names if name not in wrong_graphs]
    if provider != "cpu":
        run_checks_on(subject, good, provider, done)
    before = len(checks)
    run_checks(subject, good, done)
    limits = {each["file"]: each["limit"] for each in facts.get("smaller", [])}
    for name in smaller:
        _check_smaller(subject, name, limits.get(name), wrong_graphs, done)
    done(check_record(facts, checks[before:], facts["graphs"]["builder"] == BUILDER))
    return found


def _is_its_own(recipe: Recipe, given: Split) -> bool:
    """Whether samples are those that the network was tested on when it was trained."""
    return isinstance(recipe.data, PythonDataConfig) and recipe.data.sha256.get("test") == fingerprint(given)


def _network(
    folder: Path, names: list[str], facts: dict[str, Any], recipe: Recipe, checkpoint: Checkpoint | None
) -> Network | None:
    """Return the network that the files are proved against: that of the first, or else the checkpoint's, if any."""
    if not names:
        return checkpoint.network() if checkpoint else None
    if names[0] in VARIANTS:
        read_alone(folder / names[0])
    sizes = [Sizes(each["snn"], each["rnn"]) for each in facts["network"]["units"]]
    return network_of(folder / names[0], recipe.network, sizes)


def _same_weights(name: str, first: str, ours: dict[str, Tensor], folder: Path) -> Check:
    """Compare the weights in a file with those of the first."""
    try:
        if name in VARIANTS:
            read_alone(folder / name)
        wrong = difference(ours, read_weights(folder / name))
    except ExportError as error:
        wrong = error.message
    return Check(name, f"weights = {first}", "failed" if wrong else "passed", wrong or _equal(ours))


def _check_smaller(
    subject: Subject, name: str, limit: float | None, wrong: Collection[str], done: Callable[[Check], None]
) -> None:
    """Run a smaller graph beside the one it was made from, if both are what they should be."""
    parsed = parse_name(name)
    assert parsed is not None
    if name in wrong or parsed[0] in wrong:
        return
    if limit is None:
        done(Check(name, "loses little", "failed", "the manifest does not state how much it may lose"))
        return
    try:
        done(compare(subject, name, limit).check())
        for check in check_front(subject.folder / name, subject, parsed[1]):
            done(check)
    except ExportError as error:
        done(Check(name, "opens and runs", "failed", error.message))


def _equal(weights: dict[str, Any]) -> str:
    return f"{sum(value.numel() for value in weights.values())} values equal to the bit"
