"""Bundles: the graphs of one network with a manifest that says what they are and what was proved of them.

    model.window.onnx    a window, or a chunk of a sequence, dynamic batch and time
    model.step.onnx      one time step                     model.unrolled.onnx  a window of one length
    model.window.inside.onnx, model.unrolled.inside.onnx   the same windows, their states inside: x alone goes in
    model.ts             TorchScript                       model.pt2            torch.export
    model.<form>.<how>.onnx  the same in int8 or fp16
    model.nir            a spiking network for NIR         vocabulary.json       the words of a language model
    manifest.json        hashes, inputs, outputs and states, recipe, kept units, metrics, versions, verification

Each takes the states it starts from by name, and returns them; with its states inside it begins at zeros. Files are
written beside the bundle and verified from disk, and then the whole folder takes the place of an earlier one
(`folders`); a file that failed goes in under a name that says `unverified`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hstnn_deploy import files, folders
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data.files.folder import Report, silent
from hstnn_deploy.data.given.given import Data, fingerprint, split_of
from hstnn_deploy.data.preprocessing import preprocessing
from hstnn_deploy.data.registry import called
from hstnn_deploy.data.splits import Split
from hstnn_deploy.errors import ExportError, HstnnError, UsageError
from hstnn_deploy.export.bundle.choice import Choice, Dynamic, check_dynamic, choose_form, steps_of
from hstnn_deploy.export.bundle.description import (
    IN_PYTHON,
    describe_file,
    manifest,
    metadata,
    result_of,
    write_manifest,
)
from hstnn_deploy.export.bundle.extras import NIR, NirOptions, write_extras
from hstnn_deploy.export.bundle.quantise import MAX_DROP, How, Reduction, make_smaller
from hstnn_deploy.export.graph.forms import Form, States
from hstnn_deploy.export.graph.nodes import OPSET
from hstnn_deploy.export.graph.raw_input import possible
from hstnn_deploy.export.graph.write import DEFAULT_FORMS, check_opset, files_of, write_graphs
from hstnn_deploy.export.proof.activity import check_activity, check_training
from hstnn_deploy.export.proof.checks import run_checks
from hstnn_deploy.export.proof.comparisons import Check, Subject, sheet_of, told_of
from hstnn_deploy.export.proof.samples import make_subject, samples_file, training_windows
from hstnn_deploy.export.runtime.manifest import MANIFEST, VOCABULARY, check_files, read_manifest
from hstnn_deploy.models.exits import Exit
from hstnn_deploy.models.network import Network, is_network
from hstnn_deploy.models.stack import as_stack
from hstnn_deploy.recipe.adopted import no_data
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.shown import Sheet, Shown
from hstnn_deploy.train.fitting.given import wanted
from hstnn_deploy.train.fitting.history import History

StatesAsked = Literal["named", "inside", "both"]


@dataclass(frozen=True, repr=False)
class Bundle(Shown):
    """What an export wrote."""

    folder: Path
    checks: list[Check]
    manifest: dict[str, Any]
    reductions: list[Reduction] = field(default_factory=list)
    """The smaller graphs, with those that were refused."""
    choice: Choice | None = None
    """With form `auto`: the measurements that chose the form."""
    dropped: list[str] = field(default_factory=list)
    """Files that an earlier bundle in the folder had and this one does not."""

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.outcome == "failed"]

    def __repr__(self) -> str:
        """Return in one line what was written, and whether it was proved."""
        return f"<Bundle {self.folder}: {', '.join(self.manifest['files'])}; {told_of(self.checks)}>"

    def sheet(self) -> Sheet:
        """Return its checks."""
        files = ", ".join(f"{name} ({size['bytes']} bytes)" for name, size in self.manifest["files"].items())
        title = f"Bundle {self.folder}: {told_of(self.checks)}"
        return sheet_of(title, self.checks, [files, f"proved on {self.manifest.get('samples', 'nothing')}"])


def export_bundle(
    ckpt: Path | str | Network | History,
    out: Path | str | None = None,
    formats: Collection[str] = ("onnx",),
    *,
    forms: Collection[Form] | Literal["auto"] = DEFAULT_FORMS,
    dynamic: Dynamic | None = None,
    steps: int | None = None,
    batch: int = 1,
    opset: int = OPSET,
    states: StatesAsked = "named",
    smaller: Collection[How] = (),
    max_drop: float = MAX_DROP,
    keep_all: bool = False,
    verify: bool = True,
    allow_redundant: bool = False,
    nir: NirOptions | None = None,
    preprocess: bool = False,
    data_folder: Path | None = None,
    whole_test: bool = False,
    draw: int | None = None,
    exit: Exit | None = None,
    recipe: Recipe | None = None,
    samples: str | Path | None = None,
    test: Data | None = None,
    on_check: Callable[[Check], None] | None = None,
    report: Report = silent,
) -> Bundle:
    """Export a network into a bundle, and prove it.

    Args:
        ckpt: a checkpoint file; or a stack, or what `hstnn_deploy.fit` returned, which the manifest tells more of.
        out: the bundle's folder; by default `bundle` beside the checkpoint file.
        formats: some of onnx, torchscript, pt2.
        forms: of the ONNX graphs, or `auto`: the fastest on this machine that leaves `dynamic` free.
        dynamic: which axes must be free; None: time and batch, or what the forms asked for leave free.
        steps: the length of an unrolled graph's window, and of those measured; None: that of the recipe's data.
        batch: the batch at which forms are measured.
        opset: the version of ONNX's operators, 17, 18, 20 or 21.
        states: of the graphs of windows: those that take their states by `name` and return them, those that have them
            `inside` and take x alone, or `both`. A step graph's states always go by name.
        smaller: what else to make of each ONNX graph.
        max_drop: how many points of the metric a smaller graph may lose.
        keep_all: whether a smaller graph is kept that is neither smaller nor faster here.
        verify: whether to check the written files.
        allow_redundant: whether a network whose units are not selected yet may be exported.
        nir: write a NIR graph too, of a spiking network.
        preprocess: whether the graphs begin with the preprocessing of the recipe's data, and take raw pixels or events.
        data_folder: where the recipe's data is, for the checks on the test split and a text's words.
        whole_test: whether to evaluate every file on the full test split (slow for large networks).
        draw: of weights on devices, the seed of the draw of their variation that is exported; None: without variation.
        exit: the rule by which the step graph, TorchScript and .pt2 say that the answer may be given early.
        recipe: of a checkpoint without one: whose test split the files are proved on, and whose preprocessing counts.
        samples: a .npy or .npz file of inputs x[N, T, …] that the files are proved on, in the place of other ones.
        test: samples with their answers, as `hstnn_deploy.fit` takes them, which the files are proved on in the place
            of the test split of the recipe's data.
        on_check: called with each check as it is done.
        report: told what is under way.

    Returns:
        The bundle; look at `failed`.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ExportError: a redundant network without `allow_redundant`, an unknown format, NIR for a network
            that it cannot hold, preprocessing that a graph cannot hold, an exit that the network has not, or `out`
            holds something else.
        DataError: the file of samples is damaged, or holds no inputs of the network.
        UsageError: a recipe that the network does not fit, or beside the checkpoint's own; a form that does not leave
            free what must be, an unknown opset, a step graph alone with its states inside, or an exit without a step
            graph.
        RunError: the folder cannot be written.
    """
    samples = samples_file(samples)
    path, trained = _read(ckpt)
    name = str(path or IN_PYTHON)
    checkpoint = trained.deployed(draw)
    if recipe is not None:
        if trained.recipe and not no_data(trained.resolved_recipe()):
            raise UsageError(f"{name} has a recipe of its own", "leave --recipe out")
        checkpoint = checkpoint.under(recipe)
    if trained.architecture == checkpoint.architecture and draw is not None:
        raise UsageError(f"a draw needs weights on devices, but {name} has none", "leave --draw out")
    if checkpoint.redundant and not allow_redundant:
        raise ExportError(
            f"{name} is the redundant network, before selection: it has twice the units",
            "export the best.pt of a ratio-… folder, or add --allow-redundant",
        )
    for form in () if forms == "auto" else forms:
        check_dynamic(form, dynamic)
    check_opset(opset)
    kept_states = _states(states, forms)
    if exit is not None and "onnx" in formats and (forms == "auto" or "step" not in forms):
        raise UsageError("an exit is an output of the step graph, which this export does not write", "add --form step")
    if exit is not None and not formats:
        raise UsageError("an exit is an output of the step graph, which this export does not write", "add --onnx")
    if out is None:
        if path is None:
            raise UsageError("a network in Python has no folder for a bundle", "give out=")
        out = path.parent / "bundle"
    folder = Path(out)
    _check_target(folder)
    network, recipe = checkpoint.network(), checkpoint.recipe_or_bare(steps)
    network.leave_by(exit)
    if "int8-static" in smaller and (why := no_data(recipe)):
        raise UsageError(
            f"{why}, so there are no training samples to find int8 ranges on",
            "name a recipe with --recipe, or use --int8 dynamic",
        )
    given = None
    if test is not None:
        if preprocess:
            raise UsageError("the proof of preprocessing needs the files of the recipe's data", "leave test= out")
        given = split_of(test, wanted(network), "test", lambda *_: None)
    how = possible(preprocessing(recipe.data), formats) if preprocess else None
    steps = steps or steps_of(recipe.data)
    inside = states == "inside"
    choice = choose_form(network, dynamic or "time,batch", steps, batch, inside) if forms == "auto" else None
    kept: Collection[Form] = (choice.form,) if choice else forms  # type: ignore[assignment]
    files.make_folder(folder.parent)
    checks: list[Check] = []
    reductions: list[Reduction] = []

    def done(check: Check) -> None:
        checks.append(check)
        if on_check:
            on_check(check)

    with folders.beside(folder) as staging:
        written = write_graphs(
            network,
            staging,
            formats,
            metadata(recipe, checkpoint.stage, network, checkpoint.metrics),
            of_onnx=kept,
            steps=steps,
            how=how,
            opset=opset,
            states=kept_states,
        )
        carried, extra = write_extras(network, checkpoint, staging, data_folder, nir)
        if verify or smaller:
            subject = make_subject(
                network, staging, recipe, checkpoint.vocabulary, data_folder, whole_test, report, samples, given
            )
        if verify:
            run_checks(subject, [path.name for path in written], done)
            for check in (*extra, *check_activity(subject, [NIR] if nir else [])):
                done(check)
            for check in check_training(checkpoint, [*(path.name for path in written), *([NIR] if nir else [])]):
                done(check)
        facts = manifest(path, checkpoint, how) | {"carried": carried}
        if trained.architecture != checkpoint.architecture:
            facts["weights"] = {"draw": draw, **trained.recipe_or_bare().dump()["network"]["weights"]}
            if memory := trained.network().device_memory():
                facts["weights"]["memory_bits"] = memory.plain()
        if exit is not None:
            facts["exit"] = exit.plain()
        if verify or smaller:
            facts["samples"] = _told(subject, recipe, samples, given)
        if smaller:
            training = [] if no_data(recipe) else training_windows(recipe, data_folder)
            names = [path.name for path in written]
            reductions = make_smaller(subject, names, smaller, max_drop, training, done, keep_all)
            facts |= {"smaller": [each.plain() for each in reductions if each.kept]}
            facts |= {"not_kept": [each.plain() for each in reductions if not each.kept]}
        if choice:
            facts |= {"form_choice": choice.plain()}
        facts["verification"] = {
            "result": result_of(checks) if verify else "not run",
            "checks": [check.plain() for check in checks],
        }
        for path in (*written, *(staging / each.file for each in reductions if each.kept)):
            failed = any(check.outcome == "failed" for check in checks if check.file == path.name)
            name = f"{path.stem}.unverified{path.suffix}" if failed else path.name
            facts["files"][name] = describe_file(path, network, steps, how, opset)
            if failed:
                path.rename(path.with_name(name))
        for path in staging.glob("model.*"):
            if path.name not in facts["files"] | carried:
                # A tool's unfinished files: a bundle contains nothing that its manifest does not list.
                path.unlink()
        facts = write_manifest(staging, facts)
        left = {path.name for path in folder.glob("model.*")} - {path.name for path in staging.iterdir()}
        folders.put(staging, folder, _is_ours)
    return Bundle(folder, checks, facts, reductions, choice, sorted(left))


def _read(source: Path | str | Network | History) -> tuple[Path | None, Checkpoint]:
    """Return the checkpoint of what is to be exported, and its file where there is one."""
    if isinstance(source, History):
        file = None if source.folder is None else source.folder / "best.pt"
        return file, source.checkpoint if file is None else Checkpoint.load(file)
    if is_network(source):
        stack = as_stack(source)
        if stack is None:
            raise UsageError(
                "only its checkpoint has the recipe that describes a hybrid network",
                "give the file best.pt that it was read from, the .best of what hd.train_recipe returned, or what "
                "hd.fit returned",
            )
        if source.values:
            raise UsageError(
                "only its checkpoint records that this network was trained by regression",
                "give the file best.pt, or what hd.fit returned",
            )
        return None, Checkpoint.of_network(stack)
    if not isinstance(source, Path | str):
        raise UsageError(
            f"{type(source).__name__} is neither a checkpoint file nor a network of this package",
            "give best.pt, a Stack, or what hd.fit returned; hd.from_torch takes modules of other libraries",
        )
    return Path(source), Checkpoint.load(Path(source))


def _told(subject: Subject, recipe: Recipe, samples: Path | None, given: Split | None) -> str:
    """Return in words what a bundle was proved on."""
    count = subject.windows[0].shape[1]
    if samples is not None:
        return f"{count} samples of {samples.name} (SHA-256 {files.sha256(samples)})"
    if given is not None:
        return f"{count} of {len(given)} samples given in Python (fingerprint {fingerprint(given)[:12]})"
    if subject.test is not None:
        return f"{count} samples of the test split of {called(recipe.data)}, by recipe {recipe.name}"
    return f"{count} windows of random numbers, seed 0: {subject.no_test}"


def _is_ours(name: str) -> bool:
    """Return whether a file is a part of a bundle, or somebody else's that lies in its folder."""
    return name.startswith("model.") or name in {MANIFEST, VOCABULARY}


def proved_bundle(
    ckpt: Path, folder: Path, formats: Collection[str], forms: Collection[Form] = DEFAULT_FORMS
) -> Bundle | None:
    """Return the bundle in a folder if it is this checkpoint's, in these formats, proved, and untouched since."""
    try:
        facts = read_manifest(folder)
        check_files(folder, facts)
        checks = [Check(**check) for check in facts["verification"]["checks"]]
        proved = (
            facts["verification"]["result"] == "passed"
            and facts["checkpoint"]["sha256"] == files.sha256(ckpt)
            and set(facts["files"]) == set(files_of(formats, forms))
        )
    except (HstnnError, OSError, KeyError, TypeError):
        return None
    return Bundle(folder, checks, facts) if proved else None


def _states(asked: StatesAsked, forms: Collection[Form] | Literal["auto"]) -> tuple[States, ...]:
    """Return what is written of the graphs of windows."""
    if asked != "named" and set(forms) == {"step"}:
        raise UsageError(
            f"states {asked} needs a window graph: a step graph passes its states from step to step",
            "add the form window, or unrolled",
        )
    return ("named", "inside") if asked == "both" else (asked,)


def _check_target(folder: Path) -> None:
    if folder.is_file():
        raise ExportError(f"{folder} is a file", "give a folder with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise ExportError(f"{folder} is not empty and is not a bundle", "give another folder with --out")
