"""`hstnn evaluate` of networks under variation: show draws; measure at several scales, show and write the results."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hstnn_deploy.cli import console
from hstnn_deploy.cli.networks import networks_in
from hstnn_deploy.cli.options import check_out, out_paths, words
from hstnn_deploy.errors import UsageError

if TYPE_CHECKING:
    import torch

    from hstnn_deploy.data.dataset import Cache
    from hstnn_deploy.models.tasks import Task
    from hstnn_deploy.recipe.recipe import Recipe
    from hstnn_deploy.train.variation import Curve, Draws, Measurement

FILES = ("variation.json", "variation.csv", "variation.png", "memory.png")
"""The files written into a folder."""

_LARGEST = 10.0
"""The largest multiple of sigma, far beyond any device."""


def scales_of(text: str) -> list[float]:
    """Return the scales of a list such as 0,0.5,1,2.

    Raises:
        UsageError: the list is empty, or an item is not a number from 0 to 10.
    """
    example = "for example --variation 0,0.5,1,2, as multiples of sigma"
    found = words(text)
    if not found:
        raise UsageError("--variation is empty", example)
    scales = []
    for word in found:
        try:
            scale = float(word)
        except ValueError:
            raise UsageError(f"--variation {word!r} is not a number", example) from None
        if not 0 <= scale <= _LARGEST:
            raise UsageError(f"--variation {word} is not between 0 and {_LARGEST:g}", example)
        scales.append(scale)
    return sorted(set(scales))


def show_variation(
    paths: Sequence[Path],
    scales: Sequence[float],
    *,
    split: Literal["train", "valid", "test"],
    batch: int | None,
    draws: int,
    readapt: int,
    out: Path | None,
    device: "torch.device",
    data_dir: Path | None,
    cache: "Cache",
    as_json: bool,
) -> None:
    """Measure every network at every scale; print tables or JSON, and write what `out` asks for.

    Raises:
        UsageError: a checkpoint has no weights on devices, metrics differ, or the file format is unsupported.
    """
    from hstnn_deploy.models.rram import STEPS
    from hstnn_deploy.models.tasks import task_for
    from hstnn_deploy.report import variation
    from hstnn_deploy.train.loading import Loader
    from hstnn_deploy.train.variation import Measurement, curve

    check_out(out, FILES)
    loaded = networks_in(paths)
    for path, checkpoint in loaded:
        if checkpoint.resolved_recipe().step is None:
            raise UsageError(f"--variation needs weights on devices, and {path} has none", "leave this checkpoint out")
    loader = Loader(data_dir, cache)
    curves: list[Curve] = []
    with console.aside.status("") as status:
        for number, (path, checkpoint) in enumerate(loaded, 1):
            recipe = checkpoint.resolved_recipe()
            status.update(f"network {number} of {len(loaded)}: {recipe.name} {recipe.step}")
            task, splits, size = task_for(recipe.network, recipe.loss), loader.of(checkpoint), batch or recipe.batch
            curves.append(curve(checkpoint, str(path), task, splits, split, size, device, draws, scales, readapt))
    curves.sort(key=lambda each: (each.bits, each.seed, STEPS.index(each.step), each.name))
    measured = Measurement(split, draws, readapt, curves)
    if as_json:
        console.emit(measured.plain())
    else:
        for sheet in variation.sheets(measured):
            console.print_sheet(sheet)
    if out is not None:
        _write(out, measured)


def _write(out: Path, measured: "Measurement") -> None:
    """Write one file, by its suffix, or all of `FILES` into a folder; print their names."""
    from hstnn_deploy import files
    from hstnn_deploy.data.pictures.figure import save
    from hstnn_deploy.data.pictures.variation import draw_memory, draw_variation
    from hstnn_deploy.report.variation import as_csv

    paths = out_paths(out, FILES)
    for path in paths:
        match path.suffix:
            case ".json":
                files.write_json(path, measured.plain())
            case ".csv":
                files.write_text(path, as_csv([measured]))
            case _:
                draw = draw_memory if path.name == "memory.png" else draw_variation
                save(draw(measured.networks), path)
    console.aside.print(f"written: {', '.join(map(str, paths))}", markup=False, soft_wrap=True)


def show_draws(
    found: "Draws", ckpt: Path, recipe: "Recipe", task: "Task", split: str, readapt: int, as_json: bool
) -> None:
    """Show what the draws of one network came to, as text or as JSON."""
    from hstnn_deploy.metrics import ends, shown

    facts = {
        "checkpoint": str(ckpt),
        "recipe": recipe.name,
        "step": recipe.step,
        "split": split,
        "metric": task.metric,
        "readapted": readapt,
        **found.plain(),
    }
    if as_json:
        console.emit(facts)
        return
    low, middle, high = (found.quantile(share) for share in (0.05, 0.5, 0.95))
    draws = console.counted(len(found.values), "draw")
    in_words = partial(shown, task.metric)
    best, worst = ends(task.metric, found.values)
    spread = "deviation and interval n/a: they need two draws or more"
    if found.deviation is not None and found.half_width is not None:
        between = f"{in_words(found.mean - found.half_width)} to {in_words(found.mean + found.half_width)}"
        spread = f"deviation {in_words(found.deviation)}, 95 % interval of the mean {between}"
    norms = f", norms after {readapt} training batches" if readapt else ""
    console.out.print(
        f"{ckpt}: {recipe.name} {recipe.step}, {split} split under {draws} of the variation "
        f"(sigma {found.sigma:.4g}){norms}\n"
        f"{task.metric} {in_words(found.mean)}{task.unit} on average, {spread}\n"
        f"quantiles: 5 % {in_words(low)}, median {in_words(middle)}, 95 % {in_words(high)}; "
        f"worst {in_words(worst)}, best {in_words(best)}\n"
        f"without variation: {in_words(found.clean)}{task.unit}",
        markup=False,
        soft_wrap=True,
    )
