"""From runs to studies: all runs of one recipe and protocol, seeds gathered in cells, each cell whole or marked.

Two runs belong to one study where all that both results depend on is equal, but for what a study varies: kind,
recurrent unit, ratio, seed, and the step of training of weights on devices. So pure and ffs networks, which have no
selection and no restoration, are in every study of the same adaptation; two ways of restoring make two studies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hstnn_deploy.models.rram import STEPS
from hstnn_deploy.models.tasks import Task
from hstnn_deploy.recipe.load import load_recipe, shipped
from hstnn_deploy.recipe.sections import Published
from hstnn_deploy.report.collect import Network, Run, differing
from hstnn_deploy.stats import Summary, summarise

VARIED = {"kind", "ratio", "seed"}
"""Keys of a recipe that a study varies, beside network.recurrent and network.weights.step."""
WORDS = {"about", "experiment", "published"}
"""Keys of a recipe that no result depends on."""
ABSENT = "without a readable run"
"""Why a seed is missing that has not even a folder."""
AFTER = {"selection", "restore"}
"""Keys of a recipe that only restorations depend on."""


@dataclass(frozen=True)
class Cell:
    """One network over its seeds."""

    network: Network
    stage: str
    runs: dict[int, Run]
    """The finished runs, by seed."""
    missing: dict[int, str]
    """Seeds of the study that have no result here, with the reason."""
    published: float | None
    """The published figure of this network, where the recipe names one."""

    @property
    def values(self) -> dict[int, float]:
        """The metric on the test split, by seed."""
        return {seed: run.figures[run.task.metric] for seed, run in self.runs.items()}

    @property
    def summary(self) -> Summary:
        """Mean, standard deviation and interval over the finished runs; look at `missing` before using it."""
        return summarise(list(self.values.values()))

    @property
    def difference(self) -> float | None:
        """The mean minus the published figure."""
        mean = self.summary.mean
        return None if mean is None or self.published is None else mean - self.published

    @property
    def whole(self) -> bool:
        """Whether every seed of the study has a result."""
        return not self.missing


@dataclass(frozen=True)
class Study:
    """The runs of one recipe and one protocol."""

    title: str
    runs: list[Run]
    seeds: list[int]
    cells: list[Cell]
    """Recurrent networks, then each ratio ascending with ffs before hybrid, then spiking ones, then redundant ones.

    Of weights on devices, the steps in order."""
    notes: list[str]
    """What a reader has to know: other results for a seed, how the recipe differs from the shipped one."""
    published: Published | None = None
    """The published results that the recipe names; None where the runs have another size or number of epochs."""

    @property
    def protocol(self) -> str:
        """Where the epochs were chosen."""
        return self.runs[0].recipe.protocol

    @property
    def task(self) -> Task:
        """The metric."""
        return self.runs[0].task

    @property
    def redundant(self) -> list[Cell]:
        """Hybrid networks before their selection; no row of the table."""
        return [cell for cell in self.cells if cell.stage == "adapt"]

    @property
    def families(self) -> list[str]:
        """The kinds that have a ratio, each a column of the table: ffs, hybrid, and the same of LSTM units."""
        order = ["ffs", "hybrid", "ffs-lstm", "hybrid-lstm"]
        return sorted({cell.network.family for cell in self.cells if cell.network.ratio is not None}, key=order.index)

    def row(self, label: str) -> dict[str, Cell]:
        """Return the cells of a row by family: a pure network's label, or a ratio as text."""
        return {cell.network.family: cell for cell in self.cells if cell.stage != "adapt" and row_label(cell) == label}

    @property
    def rows(self) -> list[str]:
        """The labels of the table's rows in order: rnn, lstm, each ratio ascending, snn."""
        return list(dict.fromkeys(row_label(cell) for cell in self.cells if cell.stage != "adapt"))


def row_label(cell: Cell) -> str:
    """Return the row of the table in which a cell stands."""
    return cell.network.family if cell.network.ratio is None else f"{cell.network.ratio:g}"


def studies(runs: Sequence[Run]) -> list[Study]:
    """Gather runs into studies."""
    bases: dict[str, list[Run]] = {}
    for run in runs:
        bases.setdefault(repr(base(run)), []).append(run)
    gathered = []
    for same in (one for each in bases.values() for one in _apart(each)):
        restored: dict[str, list[Run]] = {}
        for run in same:
            if run.stage == "restore":
                restored.setdefault(repr(_part(run, AFTER)), []).append(run)
        shared = [run for run in same if run.stage != "restore"]
        gathered += [[*shared, *each] for each in restored.values()] or [shared]
    return [_study(title, each) for title, each in zip(_titles(gathered), gathered, strict=True)]


def _apart(runs: list[Run]) -> list[list[Run]]:
    """Keep folders apart that were named beside each other and hold the same networks and seeds; else all together."""
    places: dict[Any, set[Path | None]] = {}
    for run in runs:
        places.setdefault((run.stage == "adapt", run.network, run.recipe.seed), set()).add(run.root)
    if all(len(roots) == 1 for roots in places.values()):
        return [runs]
    apart: dict[Path | None, list[Run]] = {}
    for run in runs:
        apart.setdefault(run.root, []).append(run)
    return list(apart.values())


def base(run: Run) -> dict[str, Any]:
    """Return what every result of a study depends on, as plain data."""
    recipe = run.recipe.dump()
    recipe["network"] = {key: value for key, value in recipe["network"].items() if key != "recurrent"}
    if isinstance(devices := recipe["network"].get("weights"), dict):
        recipe["network"]["weights"] = {key: value for key, value in devices.items() if key != "step"}
    return {key: value for key, value in recipe.items() if key not in {*VARIED, *WORDS, *AFTER}}


def described(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the recipe of a study as plain data: its base, and how it restores where it does."""
    restored = next((run for run in runs if run.stage == "restore"), None)
    return base(runs[0]) | (_part(restored, AFTER) if restored else {})


def _part(run: Run, keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in run.recipe.dump().items() if key in keys}


def _titles(groups: list[list[Run]]) -> list[str]:
    """Name each group by its recipe, and where that is not enough by the keys that tell it from its namesakes."""
    titles = []
    for runs in groups:
        name = runs[0].recipe.name
        namesakes = [described(other) for other in groups if other[0].recipe.name == name]
        mine = described(runs)
        telling = [f"{key} {_get(mine, key)}" for key in differing(namesakes) if _get(mine, key) is not None]
        titles.append(name + (f" ({', '.join(telling)})" if telling else ""))
    roots = [runs[0].root for runs in groups]
    titles = [
        f"{title}, {_folder(root, roots)}" if titles.count(title) > 1 and len(set(roots)) > 1 else title
        for title, root in zip(titles, roots, strict=True)
    ]
    # Whatever tells them apart lies where no title can say it: they are numbered.
    return [
        f"{title}, no. {titles[:place].count(title) + 1}" if titles.count(title) > 1 else title
        for place, title in enumerate(titles)
    ]


def _folder(root: Path | None, roots: Sequence[Path | None]) -> str:
    """Return what a folder is called beside others: its name, or its path where another one has that name."""
    names = [each.name for each in set(roots) if each is not None]
    return "" if root is None else root.name if names.count(root.name) == 1 and root.name else str(root)


def _get(recipe: dict[str, Any], key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _study(title: str, runs: list[Run]) -> Study:
    seeds = sorted({run.recipe.seed for run in runs})
    notes = []
    cells: dict[tuple[str, Network], dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: (run.state != "finished", str(run.path))):
        cell = cells.setdefault(("adapt" if run.stage == "adapt" else "", run.network), {})
        other = cell.setdefault(run.recipe.seed, run)
        if other is not run:
            same = "the same result" if run.value == other.value else run.standing
            notes.append(
                f"{run.network}, seed {run.recipe.seed}, exists twice: {other.path} counts, not {run.path} ({same})"
            )
    notes += [
        f"{run.network}{' redundant' if stage else ''}, seed {seed}: {warning}."
        for (stage, _), cell in cells.items()
        for seed, run in sorted(cell.items())
        for warning in run.warnings
    ]
    published = next((run.recipe.published for run in runs if run.recipe.published), None)
    if published is not None:
        said, elsewhere = _differs_from_published(runs, published)
        notes += said
        published = None if elsewhere else published
    made = [
        _cell(network, stage or next(iter(by_seed.values())).stage, by_seed, seeds, published)
        for (stage, network), by_seed in cells.items()
    ]
    return Study(title, runs, seeds, sorted(made, key=_order), notes, published)


def _cell(network: Network, stage: str, runs: dict[int, Run], seeds: list[int], published: Published | None) -> Cell:
    figure = None
    # What is published is of vanilla units, but for the pure kind lstm.
    if published is not None and stage != "adapt" and (network.ratio is None or network.recurrent == "rnn"):
        figure = published.of(network.kind, network.ratio or 0.0)
    done = {seed: runs[seed] for seed in seeds if seed in runs and runs[seed].value is not None}
    missing = {seed: runs[seed].standing if seed in runs else ABSENT for seed in seeds if seed not in done}
    return Cell(network, stage, done, missing, figure)


def _order(cell: Cell) -> tuple[Any, ...]:
    network = cell.network
    place = {"rnn": 0, "lstm": 1, "snn": 3}.get(network.kind, 2) if cell.stage != "adapt" else 4
    step = -1 if network.step is None else STEPS.index(network.step)
    return place, network.ratio or 0.0, network.recurrent == "lstm", network.kind, step


def _differs_from_published(runs: list[Run], published: Published) -> tuple[list[str], bool]:
    """Say where a study departs from the shipped recipe of its name or of its published figures.

    Returns:
        A line; and whether the published figures are of another size or number of epochs, so that they do not belong
        beside these runs. What somebody wrote into a recipe of their own belongs to it.
    """
    originals = {name: load_recipe(name) for name in shipped()}
    theirs = [name for name, each in originals.items() if each.published == published]
    own = runs[0].recipe.name
    name = own if own in theirs else next(iter(theirs), own)
    if name not in originals:
        return [], False
    mine, original = described(runs), originals[name].dump()
    keys = [key for key in differing([mine, original]) if key not in {"network.recurrent", "network.weights.step"}]
    if not keys:
        return [], False
    changes = ", ".join(f"{key} is {_get(mine, key)}, not {_get(original, key)}" for key in keys)
    said = f"These runs differ from the shipped recipe {name}: {changes}."
    if not theirs or not any(map(_of_size_or_epochs, keys)):
        return [said], False
    return [f"{said} The published figures belong to that recipe, so they are left out."], True


_SIZES = {"inputs", "input", "classes", "vocabulary", "units", "size", "form", "hidden", "layers"}
"""Keys of a network that say how large it is; of a stack, all that its layers are."""


def _of_size_or_epochs(key: str) -> bool:
    """Whether a key says how large the network is, or how long it trains."""
    section, _, rest = key.partition(".")
    return (section == "network" and rest in _SIZES) or rest in {"epochs", "batches"}
