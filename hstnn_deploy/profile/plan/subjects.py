"""What is measured: recipes, the changes to them that the axes ask for, checkpoints, and the networks of them."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.data import registry
from hstnn_deploy.data.sets.nothing import AbsentConfig
from hstnn_deploy.data.splits import DataSizes
from hstnn_deploy.data.text import TextConfig
from hstnn_deploy.errors import UsageError, nearest
from hstnn_deploy.models.precision import Precision
from hstnn_deploy.models.sizes import KINDS, Kind, Sizes, layer_sizes, selected_sizes
from hstnn_deploy.models.stack import Mode, StackConfig
from hstnn_deploy.profile import resource_table
from hstnn_deploy.recipe.adopted import no_data
from hstnn_deploy.recipe.load import load_recipe, parse, shipped
from hstnn_deploy.recipe.recipe import Recipe

MODES: tuple[Mode, ...] = get_args(Mode)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

T = TypeVar("T")


class Subject(NamedTuple):
    """A network to measure, on its data."""

    name: str
    recipe: Recipe
    steps: int
    """Time steps of a sample."""
    checkpoint: Checkpoint | None = None
    ckpt: Path | None = None
    """Where the checkpoint lies."""


class Axes(NamedTuple):
    """What of a recipe is to be varied; empty where it stays as it is."""

    kinds: Sequence[str] = ()
    ratios: Sequence[float] = ()
    precisions: Sequence[str] = ()
    batches: Sequence[int] = ()
    """Of training."""
    steps: Sequence[int] = ()
    modes: Sequence[str] = ()
    """Of stacks: how a window runs while training."""


def subjects(
    recipes: Sequence[str | Recipe], experiments: Sequence[str], ckpt: Path | None, axes: Axes
) -> list[Subject]:
    """Return every recipe with each combination of changes, and the checkpoint; see `plan.plan`.

    Raises:
        UsageError: a name that is unknown, a network that does not fit its data, or changes that are not possible.
        CheckpointError: the checkpoint cannot be loaded.
    """
    named: list[str | Recipe] = [*recipes, *(_experiment(name) for name in experiments)]
    if not named and ckpt is None:
        named = [recipe for recipe in map(load_recipe, shipped()) if recipe.experiment]
    found = []
    for each in unique(named):
        recipe = load_recipe(each) if isinstance(each, str) else each
        # A file goes by its path: its recipe may have the name of another one.
        found += _varied(each if isinstance(each, str) else recipe.name, recipe, axes)
    if ckpt is not None:
        if not named and (axes.kinds or axes.ratios):
            raise UsageError("the checkpoint fixes its network's kind and ratio", "leave out --kinds and --ratios")
        checkpoint = Checkpoint.load(ckpt)
        checkpoint.network()
        if not checkpoint.recipe and named:
            return _alone(ckpt, checkpoint, named, axes)
        own = axes._replace(kinds=(), ratios=())
        for subject in _varied(str(ckpt), checkpoint.recipe_or_bare(), own):
            found.append(subject._replace(checkpoint=checkpoint, ckpt=ckpt.absolute()))
    return found


def _alone(ckpt: Path, checkpoint: Checkpoint, named: Sequence[str | Recipe], axes: Axes) -> list[Subject]:
    """Return a checkpoint without a recipe, on the data and by the training of the one recipe that is named."""
    if len(unique(named)) > 1:
        raise UsageError(
            f"{ckpt} has no recipe, and {len(unique(named))} recipes were named: only one can give its data",
            "name one recipe with --ckpt; measure the others without it",
        )
    recipe = load_recipe(named[0]) if isinstance(named[0], str) else named[0]
    under = checkpoint.under(recipe)
    found = _varied(str(ckpt), under.resolved_recipe(), axes._replace(kinds=(), ratios=()))
    return [subject._replace(checkpoint=under, ckpt=ckpt.absolute()) for subject in found]


def _experiment(name: str) -> Recipe:
    """Return the shipped recipe that reproduces a row of the paper's table."""
    rows = {row.experiment.lower(): row.experiment for row in resource_table.ROWS}
    if name.lower() not in rows:
        raise UsageError(f"unknown experiment {name!r}", nearest(name.lower(), rows))
    for recipe in map(load_recipe, shipped()):
        if recipe.experiment == rows[name.lower()]:
            return recipe
    raise UsageError(f"no shipped recipe reproduces {rows[name.lower()]}", "`hstnn recipes` lists the shipped ones")


def _varied(name: str, recipe: Recipe, axes: Axes) -> list[Subject]:
    """Return a recipe with each combination of changes."""
    kinds = known("kind", axes.kinds, KINDS) if axes.kinds else [recipe.kind]
    precisions = known("precision", axes.precisions, PRECISIONS) if axes.precisions else [recipe.precision]
    counts: list[int | None] = [*unique(axes.steps)] or [None]
    stacked = isinstance(recipe.network, StackConfig)
    modes: list[str | None] = [*known("mode", axes.modes, MODES)] if stacked and axes.modes else [None]
    if axes.modes and not stacked:
        known("mode", axes.modes, MODES)
    found = []
    batches = unique(axes.batches) or [recipe.batch]
    for kind, precision, batch, steps, mode in product(kinds, precisions, batches, counts, modes):
        mixed = kind in {"ffs", "hybrid"}
        for ratio in (mixed and unique(axes.ratios)) or [recipe.ratio]:
            plain = {**recipe.dump(), "precision": precision, "batch": batch}
            if recipe.method == "hybrid":
                plain |= {"kind": kind, "ratio": ratio}
            elif axes.kinds:
                plain["kind"] = kind
            if mode is not None:
                plain["network"] = {**plain["network"], "mode": mode}
            if steps is not None and isinstance(recipe.data, TextConfig):
                plain["data"] = {**plain["data"], "bptt": steps}
            if steps is not None and no_data(recipe):
                plain["data"] = {**plain["data"], "steps": steps}
            changed = parse(plain, name)
            own = _steps(changed)
            found.append(Subject(name, changed, steps or own))
    return found


def network_of(subject: Subject, deployed: bool) -> dict[str, Any]:
    """Return the facts of the network to measure: as it is trained first, or as it is deployed."""
    recipe = subject.recipe
    stage: str
    if subject.checkpoint is not None:
        sizes, stage = subject.checkpoint.sizes, subject.checkpoint.stage
    elif recipe.kind == "hybrid":
        choose = selected_sizes if deployed else layer_sizes
        sizes, stage = choose("hybrid", recipe.network.units, recipe.ratio), "restore" if deployed else "adapt"
    else:
        sizes, stage = layer_sizes(recipe.kind, recipe.network.units, recipe.ratio), "train"
    label = network_label(recipe.kind, recipe.ratio, sizes, stage)
    if isinstance(recipe.network, StackConfig) and recipe.network.mode == "steps":
        label += ", step by step"
    if recipe.kind in {"ffs", "hybrid"} and recipe.network.recurrent == "lstm":
        label += ", LSTM"
    return {"network": label, "sizes": [list(size) for size in sizes], "stage": stage}


def network_label(kind: Kind, ratio: float, sizes: Iterable[Sizes], stage: str) -> str:
    """Return a network's name for people, such as "hybrid 0.5 (400+400, 400+400)": spiking + recurrent per layer."""
    if kind == "plain":
        return "stack"
    units = ", ".join(f"{size.snn}+{size.rnn}" if size.snn and size.rnn else str(sum(size)) for size in sizes)
    if kind == "hybrid":
        return f"hybrid adaptation ({units})" if stage == "adapt" else f"hybrid {ratio:g} ({units})"
    return f"ffs {ratio:g} ({units})" if kind == "ffs" else f"{kind} ({units})"


def _steps(recipe: Recipe) -> int:
    """Return the time steps of a sample, once the network is known to fit the data.

    The vocabulary of a text depends on its files, and is compared where they are read.
    """
    if isinstance(recipe.data, AbsentConfig):
        return recipe.data.steps
    shape = registry.shape(recipe.data)
    if shape is None:
        network = recipe.network
        words = network.outputs if isinstance(network, StackConfig) else getattr(network, "vocabulary", None)
        recipe.check_fits("language", DataSizes(1, words or 0))
        assert isinstance(recipe.data, TextConfig)
        return recipe.data.bptt
    recipe.check_data(shape)
    return shape.steps


def known(what: str, given: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names that were given, each once, all of them known.

    Raises:
        UsageError: none was given, or one is unknown.
    """
    if not given:
        raise UsageError(f"no {what} was given", f"known: {', '.join(names)}")
    for name in given:
        if name not in names:
            raise UsageError(f"unknown {what} {name!r}", nearest(name, names))
    return unique(given)


def unique(items: Sequence[T]) -> list[T]:
    """Return the items in order, each once."""
    return [item for place, item in enumerate(items) if item not in items[:place]]
