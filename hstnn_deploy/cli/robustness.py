"""`hstnn robustness`: measure how well networks keep their accuracy under disturbances."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.networks import networks_in
from hstnn_deploy.cli.options import (
    CacheChoice,
    CacheOption,
    DataDir,
    Device,
    Json,
    SplitChoice,
    Threads,
    check_out,
    out_paths,
)
from hstnn_deploy.errors import Interrupted, UsageError

if TYPE_CHECKING:
    import torch

    from hstnn_deploy.disturbances.disturbance import Disturbance
    from hstnn_deploy.models.network import Network
    from hstnn_deploy.robustness.measure import Bench
    from hstnn_deploy.robustness.record import Curve, Measured, Robustness

FILES = ("robustness.json", "robustness.csv", "robustness.png")
"""The files written into a folder."""

Asked = list[tuple["Disturbance", list[float]]]


def robustness(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUNS",
            help="Folders of runs (their best.pt), checkpoints, or bundles.",
        ),
    ] = None,
    ckpt: Annotated[list[Path] | None, typer.Option("--ckpt", metavar="FILE", help="A checkpoint; repeatable.")] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            "--bundle", metavar="DIR", help="A bundle to run in ONNX Runtime with disturbed input; repeatable."
        ),
    ] = None,
    disturb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=LEVELS]",
            help="A disturbance, such as gaussian=0.1,0.2; repeatable (default: all that apply, at usual levels).",
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, metavar="N", help="Random draws per level.")] = 5,
    split: Annotated[SplitChoice, typer.Option(help="The split to measure on.")] = SplitChoice.test,
    batch: Annotated[int | None, typer.Option(min=1, help="Batch size (default: the recipe's).")] = None,
    show: Annotated[bool, typer.Option("--list", help="List all disturbances with units and usual levels.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Write a .json, .csv or .png file, or all of them into a folder."),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    data_dir: DataDir = None,
    cache: CacheOption = CacheChoice.disk,
    as_json: Json = False,
) -> None:
    """Measure networks under disturbances of their input, weights, neurons and spikes.

    Level 0 is the undisturbed result. Networks that differ only in their seed are shown together. With networks of two
    seeds, each is also attacked with the gradient of the other one. A bundle is measured only under disturbances of its
    input.
    """
    if show:
        _list(as_json)
        return
    import_torch()
    from hstnn_deploy import devices, environment
    from hstnn_deploy.disturbances.table import DISTURBANCES
    from hstnn_deploy.export.runtime.manifest import MANIFEST
    from hstnn_deploy.robustness.record import Robustness

    bundles = [path for path in runs or [] if (path / MANIFEST).is_file()]
    paths = [*(ckpt or []), *(path for path in runs or [] if path not in bundles)]
    bundle = [*(bundle or []), *bundles]
    if not paths and not bundle:
        raise UsageError("no network is given", "give --ckpt best.pt, --bundle DIR, or a folder of runs")
    check_out(out, FILES)
    asked = _asked(disturb, DISTURBANCES)
    where = devices.resolve(device, threads)
    benches = _benches(paths, bundle, split, batch, where, threads, data_dir, cache)
    if bundle:
        _check_bundles(benches, asked)
    measured: list[Measured] = []

    def all_of_it() -> Robustness:
        return Robustness(device=str(where), environment=environment.describe(str(where)), networks=measured)

    try:
        for path, bench in benches:
            measured.append(_measure(path, bench, benches, asked, draws))
    except KeyboardInterrupt:
        hint = "nothing was written"
        if measured and out is not None and not any(path.exists() for path in out_paths(out, FILES)):
            _write(out, all_of_it())
            hint = f"their results are in {out}"
        done = f"{len(measured)} of {console.counted(len(benches), 'network')}"
        raise Interrupted(f"interrupted: {done} measured", hint) from None
    found = all_of_it()
    if as_json:
        console.emit(found.plain())
    else:
        _print(found, draws)
    if out is not None:
        _write(out, found)


def _asked(disturb: list[str] | None, known: "dict[str, Disturbance]") -> "Asked | None":
    """Return the requested disturbances and their levels; None: all that apply."""
    from hstnn_deploy.disturbances.disturbance import parse

    if not disturb:
        return None
    found = [parse(text, known) for text in disturb]
    for each, levels in found:
        if not levels:
            raise UsageError(f"--disturb {each.name}=0: level 0 disturbs nothing", "give a level above 0")
    if len({each.name for each, _ in found}) < len(found):
        raise UsageError("--disturb names a disturbance twice", "list its levels together, such as gaussian=0.1,0.2")
    return found


def _benches(
    paths: Sequence[Path],
    bundles: Sequence[Path],
    split: SplitChoice,
    batch: int | None,
    where: "torch.device",
    threads: int | None,
    data_dir: Path | None,
    cache: CacheChoice,
) -> "list[tuple[Path, Bench]]":
    """Return a bench for each network and bundle; networks with the same data share it."""
    from hstnn_deploy.robustness.measure import Bench, data_named
    from hstnn_deploy.train.loading import Loader

    loader = Loader(data_dir, cache.value)
    benches: list[tuple[Path, Bench]] = []
    for path, checkpoint in networks_in(paths):
        recipe = checkpoint.resolved_recipe()
        _check_data(path, data_named(recipe), benches)
        splits, size = loader.of(checkpoint), batch or recipe.batch
        benches.append((path, Bench(checkpoint, splits, split.value, size, where, data_dir)))
    if not bundles:
        return benches
    from hstnn_deploy.robustness.deployed import BundleBench, open_deployed

    provider = "cpu" if where.type == "cpu" else f"cuda:{where.index or 0}"
    for path in dict.fromkeys(bundles):
        deployed = open_deployed(path, provider, threads)
        recipe = deployed.checkpoint.resolved_recipe()
        _check_data(path, data_named(recipe), benches)
        splits, size = deployed.data(loader), batch or recipe.batch
        bench = BundleBench.of(deployed, splits, split.value, size, data_dir)
        if benches and (metric := benches[0][1].task.metric) != bench.task.metric:
            raise UsageError(
                f"the metric of {path} is {bench.task.metric}, and that of {benches[0][0]} is {metric}",
                "measure networks of one task at a time",
            )
        benches.append((path, bench))
    return benches


def _check_data(path: Path, data: str, benches: "list[tuple[Path, Bench]]") -> None:
    """Refuse a network that was trained on another data set than those before it."""
    from hstnn_deploy.robustness.measure import data_named

    if benches and (first := data_named(benches[0][1].recipe)) != data:
        raise UsageError(
            f"{path} was trained on {data}, and {benches[0][0]} on {first}",
            "measure networks of one data set at a time",
        )


def _check_bundles(benches: "list[tuple[Path, Bench]]", asked: "Asked | None") -> None:
    """Refuse disturbances that no bundle can be measured under, or note that they are skipped, before measuring."""
    from hstnn_deploy.robustness.deployed import BundleBench

    if asked is None:
        console.note(
            "bundles are measured only under disturbances of their input; for weights, neurons, spikes and attacks, "
            "measure the checkpoint"
        )
        return
    for _, bench in benches:
        if isinstance(bench, BundleBench):
            for disturbance, _ in asked:
                bench.check(disturbance)


def _measure(
    path: Path, bench: "Bench", benches: "list[tuple[Path, Bench]]", asked: "Asked | None", draws: int
) -> "Measured":
    if asked is None:
        asked = [(each, each.ordered(each.levels)) for each in bench.usual()]
    other = _other_seed(bench, benches)
    curves: list[Curve] = []
    with console.aside.status("") as status:
        for number, (disturbance, levels) in enumerate(asked, 1):
            status.update(f"{path}: {disturbance.name}, {number} of {len(asked)}")
            curves.append(bench.curve(disturbance, levels, draws))
            if disturbance.where == "adversary" and other is not None:
                curves.append(bench.curve(disturbance, levels, draws, other))
    return bench.measured(str(path), curves)


def _other_seed(bench: "Bench", benches: "list[tuple[Path, Bench]]") -> "tuple[str, Network] | None":
    """Return a network that differs from this one only in its seed, to make attacks on; never a bundle."""
    like = bench.recipe.model_copy(update={"seed": 0}).dump()
    for _, each in benches:
        if each.engine != "torch" or each.checkpoint.stage != bench.checkpoint.stage:
            continue  # a redundant network differs from the one that was selected from it
        if each.recipe.seed != bench.recipe.seed and each.recipe.model_copy(update={"seed": 0}).dump() == like:
            return f"seed {each.recipe.seed}", each.network
    return None


def _list(as_json: bool) -> None:
    from hstnn_deploy.disturbances.table import DISTURBANCES

    found = list(DISTURBANCES.values())
    if as_json:
        facts = [
            {"name": each.name, "about": each.about, "unit": each.unit, "acts_on": each.where, "levels": each.levels}
            for each in found
        ]
        console.emit({"disturbances": facts})
        return
    rows = [
        (each.name, each.about, each.where, each.unit, ", ".join(f"{level:g}" for level in each.levels))
        for each in found
    ]
    console.out.print(
        console.table("Disturbances", ["name", "what", "acts on", "unit of a level", "usual levels"], rows)
    )


def _print(found: "Robustness", draws: int) -> None:
    from hstnn_deploy.metrics import RMSE, shown
    from hstnn_deploy.robustness.record import alike, scores, title_of, together
    from hstnn_deploy.screen import Pairs

    first = found.networks[0]
    unit = first.unit.strip()

    def brief(value: float) -> str:
        # An rmse may have any magnitude; for other metrics one decimal is enough.
        return shown(RMSE, value) if first.metric == RMSE else f"{value:.1f}"

    for (recipe, network), seeds in together(found.networks):
        clean = fmean(each.clean for each in seeds)
        title = f"{recipe}, {network}: {first.metric}{f' in {unit}' if unit else ''}, {first.split} split"
        rows = []
        for curves in alike(seeds):
            curve, found_scores = curves[0][1], scores(curves)
            means = [fmean(x for _, each in curves for x in each.values[row]) for row in range(len(curve.levels))]
            tenth, beyond = found_scores.tolerated, found_scores.beyond
            lost = "not reached" if tenth.mean is None else f"{curve.level_at(tenth.mean):.3g}"
            if tenth.mean is not None and beyond:
                lost += f" ({beyond} of {beyond + tenth.number} not reached)"
            assert found_scores.area.mean is not None
            figures = (brief(found_scores.area.mean), lost, brief(found_scores.worst))
            pairs = [(f"{level:g}", brief(mean)) for level, mean in zip(curve.levels, means, strict=True)]
            rows.append((title_of(curves), Pairs(pairs), *figures))
        columns = ["disturbance", "level\nmean", ">area", ">a tenth lost", ">worst"]
        console.out.print(
            console.table(f"{title}; undisturbed {shown(first.metric, clean)}", columns, rows, dense=True)
        )
        console.out.print()
        for line in _masked(seeds):
            console.note(line)
    of = console.counted(draws, "draw")
    console.out.print(
        f"Below each level: the mean of {of} (one if nothing is random). Area: the mean over all levels. A tenth "
        "lost: the level that costs a tenth of the undisturbed result. `hstnn robustness --list` explains the levels.",
        markup=False,
        soft_wrap=True,
    )


def _masked(seeds: "Sequence[Measured]") -> list[str]:
    """Return a line for each attack that is stronger when another network's gradient is used."""
    lines = []
    for network in seeds:
        for curve in network.curves:
            own = next((each for each in network.curves if each.name == curve.name and not each.transferred), None)
            if not curve.transferred or own is None:
                continue
            sign = 1 if network.higher_is_better else -1
            stronger = [
                level
                for level, mine, theirs in zip(own.levels, own.values, curve.values, strict=True)
                if sign * fmean(theirs) < sign * fmean(mine)
            ]
            if stronger:
                listed = ", ".join(f"{level:g}" for level in stronger)
                lines.append(
                    f"{network.network}, seed {network.seed}: {curve.name} made on {curve.transferred} is stronger at "
                    f"{listed}: the network masks its own gradient, so the attack with it is too weak"
                )
    return lines


def _write(out: Path, found: "Robustness") -> None:
    """Write one file, by its suffix, or all of `FILES` into a folder; print their names."""
    from hstnn_deploy import files
    from hstnn_deploy.data.pictures.figure import save
    from hstnn_deploy.report.robust import as_csv, draw_robust

    paths = out_paths(out, FILES)
    for path in paths:
        match path.suffix:
            case ".json":
                files.write_json(path, found.plain())
            case ".csv":
                files.write_text(path, as_csv(found.networks))
            case _:
                save(draw_robust(found.networks), path)
    console.aside.print(f"written: {', '.join(map(str, paths))}", markup=False, soft_wrap=True)
