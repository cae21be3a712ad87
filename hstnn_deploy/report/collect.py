"""What a report is made of: trainings from run folders, profile records and accuracy under variation, read from disk.

An unreadable folder is a problem with its own line; it never hides the others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import hstnn_deploy
from hstnn_deploy import files
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.errors import HstnnError, RunError
from hstnn_deploy.foreign import reading
from hstnn_deploy.models.rram import Step
from hstnn_deploy.models.sizes import Kind, Sizes, layer_sizes
from hstnn_deploy.models.tasks import Task, task_for
from hstnn_deploy.profile import records
from hstnn_deploy.profile.record import Record
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.recipe import ADDED, Recipe
from hstnn_deploy.report import variation_file
from hstnn_deploy.robustness import record
from hstnn_deploy.robustness.record import PATTERN, Robustness
from hstnn_deploy.runs import RunFolder, find_runs
from hstnn_deploy.train.doubts import WARNINGS
from hstnn_deploy.train.fitting import behaviour
from hstnn_deploy.train.fitting.behaviour import Behaviour
from hstnn_deploy.train.ranking import SelectionResult
from hstnn_deploy.train.variation import Measurement


@dataclass(frozen=True)
class Network:
    """Which network a run trains, seeds aside; what a cell of a table belongs to."""

    kind: Kind
    recurrent: str
    """The recurrent unit: rnn or lstm."""
    ratio: float | None
    """Of ffs and hybrid; None of the pure kinds and of a hybrid before its selection."""
    step: Step | None = None
    """In which step of training weights on devices are; None of other networks."""

    @property
    def family(self) -> str:
        """The kind with its recurrent unit where that is not the vanilla one, such as "hybrid-lstm"; or the step."""
        if self.step is not None:
            return self.step
        return f"{self.kind}-lstm" if self.ratio is not None and self.recurrent == "lstm" else self.kind

    def __str__(self) -> str:
        """Return the name in tables, such as "hybrid 0.25"."""
        return self.family if self.ratio is None else f"{self.family} {self.ratio:g}"


@dataclass(frozen=True)
class Run:
    """One training: a stage that yields a network, in its run folder."""

    path: Path
    recipe: Recipe
    stage: str
    """train, adapt or restore."""
    state: str
    """As `RunFolder.state`; "not begun" where a selection waits for its restoration."""
    epoch: int
    """Epochs done."""
    epochs: int
    error: str
    """Why it failed; empty otherwise."""
    figures: dict[str, float]
    """Metrics by name: of the test split under their own names, else as in metrics.jsonl. Empty until finished."""
    curve: list[dict[str, Any]] = field(repr=False)
    """The rows of metrics.jsonl."""
    steps: list[dict[str, Any]] = field(repr=False)
    """The rows of steps.jsonl."""
    selection: SelectionResult | None = field(repr=False)
    """Of a restoration."""
    made: dict[str, Any] = field(default_factory=dict, repr=False)
    """environment.json, with `started` and `updated` of status.json: see `provenance`."""
    behaviour: Behaviour | None = field(default=None, repr=False)
    """What `hstnn evaluate --save` wrote about its best.pt; None if it did not run."""
    root: Path | None = None
    """The folder of those named that it was found in; None where no one asked for several."""

    @property
    def network(self) -> Network:
        """Which network this is."""
        with_ratio = self.recipe.kind in {"ffs", "hybrid"} and self.stage != "adapt"
        ratio = self.recipe.ratio if with_ratio else None
        return Network(self.recipe.kind, self.recipe.network.recurrent, ratio, self.recipe.step)

    @cached_property
    def task(self) -> Task:
        """What the network is trained for: its metric."""
        return task_for(self.recipe.network, self.recipe.loss)

    @cached_property
    def fingerprint(self) -> str | None:
        """The fingerprint of its best.pt (see `Checkpoint.fingerprint`); None if it has no best.pt."""
        best = self.path / "best.pt"
        return Checkpoint.load(best).fingerprint if best.exists() else None

    @cached_property
    def checksum(self) -> str | None:
        """The SHA-256 of its best.pt; None if it has no best.pt."""
        best = self.path / "best.pt"
        return files.sha256(best) if best.exists() else None

    @property
    def value(self) -> float | None:
        """The metric on the test split; None until finished."""
        return self.figures.get(self.task.metric)

    @property
    def warnings(self) -> list[str]:
        """What was doubtful of its training in its best epoch, or in its last one so far; empty of older runs."""
        at = self.figures.get("best_epoch")
        rows = [row for row in self.curve if at is None or row.get("epoch") == at]
        said = rows[-1].get(WARNINGS) if rows else None
        return [str(each) for each in said] if isinstance(said, list) else []

    @property
    def sizes(self) -> list[Sizes]:
        """Spiking and recurrent units of each layer."""
        if self.selection is None and self.recipe.init is not None and self.stage == "restore":
            # What was kept was chosen before, elsewhere.
            return Checkpoint.load(self.path / "best.pt").sizes
        if self.selection is None:
            return layer_sizes(self.recipe.kind, self.recipe.network.units, self.recipe.ratio)
        return [Sizes(len(layer["snn"]), len(layer["rnn"])) for layer in self.selection.kept()]

    @property
    def standing(self) -> str:
        """How far it is, in words: "finished", or why there is no result."""
        match self.state:
            case "running":
                return f"running, {self.epoch} of {self.epochs} epochs done"
            case "dead":
                return f"killed, {self.epoch} of {self.epochs} epochs done"
            case "interrupted":
                return f"interrupted, {self.epoch} of {self.epochs} epochs done"
            case "failed":
                return f"failed: {' '.join(self.error.split())}"
            case "finished" if self.value is None:
                return "finished, without test data"
            case _:
                return self.state


@dataclass(frozen=True)
class Profiled:
    """A profile record."""

    path: Path
    """The file it was read from."""
    record: Record
    plain: dict[str, Any] = field(repr=False)
    """Everything in the line, keys that this program does not know included."""


@dataclass(frozen=True)
class Collected:
    """All that some paths hold."""

    runs: list[Run]
    profiles: list[Profiled]
    problems: list[str]
    """One line for each folder or file that was left out because it could not be read."""
    variations: dict[Path, Measurement] = field(default_factory=dict)
    """Networks under variation, by their file."""
    robustness: dict[Path, Robustness] = field(default_factory=dict)
    """Networks under disturbances, by their file."""


def collect(paths: Sequence[Path]) -> Collected:
    """Read every run, every profile record and every accuracy under variation at or below some paths.

    Args:
        paths: folders of runs, or the best.pt of one; folders or files of profile records; folders or files that
            `hstnn evaluate --variation --out` wrote, files as .json.

    Raises:
        RunError: a path does not exist, or has nothing of all that; a file that is named cannot be read.
        ProfileError: a file of records cannot be read.
    """
    runs: dict[Path, Run] = {}
    profiles: dict[Path, list[Profiled]] = {}
    variations: dict[Path, Measurement] = {}
    robust: dict[Path, Robustness] = {}
    problems: list[str] = []
    for path in paths:
        if not path.exists():
            raise RunError(f"{path} does not exist", _KNOWN)
        folders, files, varied, disturbed = _below(path)
        if not folders and not files and not varied and not disturbed:
            raise RunError(f"{path} contains neither runs nor profile records", _KNOWN)
        for file in disturbed:
            try:
                robust.setdefault(file.resolve(), record.read(file))
            except RunError as error:
                if file == path:
                    raise
                problems.append(f"left out: {error.message}")
        for file in varied:
            try:
                variations.setdefault(file.resolve(), variation_file.read(file))
            except RunError as error:
                if file == path:
                    raise
                problems.append(f"left out: {error.message}")
        for file in files:
            profiles.setdefault(file.resolve(), read_records(file))
        for folder in folders:
            if folder.path.resolve() not in runs:
                try:
                    run = read_run(folder)
                except HstnnError as error:
                    problems.append(f"left out: {error.message}")
                else:
                    if run is not None:
                        run = replace(run, behaviour=_behaviour(run, problems))
                        runs[folder.path.resolve()] = replace(run, root=path) if len(paths) > 1 else run
    if not runs and not any(profiles.values()) and not variations and not robust:
        where = ", ".join(map(str, paths))
        raise RunError(f"nothing to report in {where}", problems[0] if problems else "the files of records are empty")
    records = [one for each in profiles.values() for one in each]
    return Collected(list(runs.values()), records, problems, variations, robust)


_KNOWN = (
    "give a folder of runs (hstnn train, hstnn sweep), a records.jsonl of hstnn profile, a variation.json of"
    " hstnn evaluate --variation, or a robustness.json of hstnn robustness"
)


def _below(path: Path) -> tuple[list[RunFolder], list[Path], list[Path], list[Path]]:
    """Return the run folders, and the files of records, of variation and of robustness, that a path stands for."""
    if path.name == "best.pt" and RunFolder(path.parent).stage:
        return [RunFolder(path.parent)], [], [], []
    if path.is_dir():
        patterns = ("records*.jsonl", variation_file.PATTERN, PATTERN)
        records, varied, disturbed = (sorted(path.rglob(pattern)) for pattern in patterns)
        return find_runs(path), records, varied, disturbed
    if path.suffix != ".json":
        return [], [path], [], []
    return ([], [], [], [path]) if path.name.startswith("robustness") else ([], [], [path], [])


def read_records(path: Path) -> list[Profiled]:
    """Return the records of a file of JSON lines.

    Raises:
        ProfileError: it cannot be read, or a line is not a record.
    """
    return [Profiled(path, *pair) for pair in records.read_whole(path)]


def read_run(folder: RunFolder) -> Run | None:
    """Return the run in a folder; None of a folder of traces, which yields no network.

    Raises:
        RunError: a file is damaged.
        RecipeError: the recipe is not one, for example of a newer version.
    """
    if folder.stage == "traces":
        return None
    recipe = _recipe(folder)
    status = folder.status()
    state = folder.state or "not begun"
    curve = folder.metrics()
    task = task_for(recipe.network, recipe.loss)
    return Run(
        path=folder.path,
        recipe=recipe,
        stage=folder.stage,
        state=state,
        epoch=_whole(folder, status.get("epoch")),
        epochs=recipe.stage(folder.stage).epochs,
        error=str(status.get("error") or ""),
        figures=_figures(folder, status, task, curve) if state == "finished" else {},
        curve=curve,
        steps=folder.steps(),
        selection=_selection(folder),
        made={**folder.environment(), **{key: status.get(key) for key in ("started", "updated")}},
    )


def _behaviour(run: Run, problems: list[str]) -> Behaviour | None:
    """Return what was seen of a run's network; where that cannot be read or is of another one, say so."""
    path = run.path / behaviour.FILE
    if not path.exists():
        return None
    try:
        found = behaviour.read(path)
    except RunError as error:
        problems.append(f"left out: {error.message}")
        return None
    if found.split != "test":
        return None
    if found.checksum_of(run.path / "best.pt"):
        return found
    problems.append(f"left out: {path} belongs to another checkpoint than the best.pt beside it")
    return None


def _recipe(folder: RunFolder) -> Recipe:
    raw = folder.recipe()
    source = str(folder.path / "recipe.yaml")
    if "stage" in raw:
        # Of a stage that never began there is stage.yaml alone: a recipe without what the stage does not depend on.
        raw = {"restore": raw.get("adapt"), **{key: value for key, value in raw.items() if key != "stage"}}
    try:
        return parse(raw, source)
    except HstnnError as error:
        versions = folder.environment().get("versions", {})
        writer = versions.get("hstnn-deploy") if isinstance(versions, dict) else None
        if writer in {None, hstnn_deploy.__version__}:
            raise
        raise RunError(
            f"{error.message} (written by hstnn-deploy {writer}; this is {hstnn_deploy.__version__})", error.hint
        ) from error


def _figures(folder: RunFolder, status: dict[str, Any], task: Task, curve: list[dict[str, Any]]) -> dict[str, float]:
    damaged = RunError(f"{folder.path / 'status.json'} is damaged: it says finished but has no result")
    try:
        result = status["result"]
        # Where a network was trained on data from Python, there may have been none to test on.
        tested = "test" in result or _tests(folder)
        figures = {"best_epoch": result["epoch"], **_numbers(result["valid"])}
        figures |= _numbers(result["test"]) if tested else {}
    except (KeyError, TypeError) as error:
        raise damaged from error
    if tested and task.metric not in figures:
        raise damaged
    figures.pop("epoch", None)
    for name in ("train_seconds", "valid_seconds"):
        seconds = [numbers[name] for row in curve if name in (numbers := _numbers(row))]
        if seconds:
            figures[name] = sum(seconds) / len(seconds)
    return figures


def _tests(folder: RunFolder) -> bool:
    """Whether a training measures its network on test data in the end."""
    data = folder.recipe().get("data")
    return not (isinstance(data, dict) and data.get("name") == "python" and "test" not in data.get("samples", {}))


def _whole(folder: RunFolder, value: Any) -> int:
    if value is not None and not isinstance(value, int):
        raise RunError(f"{folder.path / 'status.json'} is damaged: epoch is {value!r}")
    return value or 0


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {
        name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _selection(folder: RunFolder) -> SelectionResult | None:
    if not folder.selection.exists():
        return None
    with reading(folder.selection, "a selection", RunError, "", says=False):
        return SelectionResult.model_validate_json(folder.selection.read_bytes())


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested plain data as dotted keys and their values."""
    if not isinstance(value, dict):
        return {path: value}
    return {
        key: leaf
        for name, below in value.items()
        for key, leaf in flat(below, f"{path}.{name}" if path else name).items()
    }


def differing(recipes: Iterable[dict[str, Any]]) -> list[str]:
    """Return the dotted keys in which some recipes, as plain data, are not all the same.

    A section that not all of them have, such as how a hybrid is restored, is no difference. A key that is left out
    where it says nothing counts as saying that.
    """
    recipes = [{**dict(ADDED), **recipe} for recipe in recipes]
    shared = set.intersection(*(set(recipe) for recipe in recipes))
    flats = [flat({key: value for key, value in recipe.items() if key in shared}) for recipe in recipes]
    keys = dict.fromkeys(key for each in flats for key in each)
    return [key for key in keys if any(each.get(key) != flats[0].get(key) for each in flats)]
