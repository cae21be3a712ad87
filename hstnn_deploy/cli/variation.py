"""`hstnn evaluate --variation`: measure networks under variation at several scales; show and write the results."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hstnn_deploy.cli import console
from hstnn_deploy.cli.networks import networks_in
from hstnn_deploy.cli.options import check_out, out_paths, words
from hstnn_deploy.errors import UsageError

if TYPE_CHECKING:
    import torch

    from hstnn_deploy.data.dataset import Cache
    from hstnn_deploy.train.variation import Curve, Measurement

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
