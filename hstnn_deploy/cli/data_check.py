"""`hstnn data check`: check your own data before you train on it."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import Json
from hstnn_deploy.errors import DataError, Interrupted, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.data.checking.checked import Checked

_VALUE = re.compile(r"--set (data\.[a-z_]+=\[\d+,\d+\])")
_CLASSES = 30
"""Classes that have their own row in the table, at most."""


def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder with your data, or a single file with all of it.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="data.KEY=VALUE", help="Set a data key, as for `hstnn train --data`; repeatable."
        ),
    ] = None,
    files: Annotated[
        int | None,
        typer.Option("--files", min=1, metavar="N", help="Read at most N files, chosen at random (default: 2000)."),
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Read all files, however long it takes.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="PICTURE.png", help="Also draw a picture of the data.")] = None,
    write_recipe: Annotated[
        Path | None,
        typer.Option("--write-recipe", metavar="FILE.yaml", help="Write a recipe to start from for this data."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe a folder of your own data, and point out problems before you train.

    Exits with 3 if training on it would be refused; notes alone are not an error.
    """
    from hstnn_deploy.cli.progress import Working
    from hstnn_deploy.data.checking.check import check as look
    from hstnn_deploy.data.checking.listed import Asked
    from hstnn_deploy.data.checking.sample import FILES

    if whole and files is not None:
        raise UsageError("--whole and --files both set how much is read", "give one of them")
    _check_targets(out, write_recipe)
    data = _data(folder, changes or [])
    with Working(console.aside) as working:

        def progress(what: str, done: int, total: int) -> None:
            working.report(what, done, total, "read")

        try:
            found = look(data, Asked(None if whole else files or FILES, progress))
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted; nothing was written", "--files N reads fewer files") from error
    written = _write(found, data, out, write_recipe)
    following = _following(found, changes or [], write_recipe)
    if as_json:
        console.emit({**found.plain(), **written, "next": following})
    else:
        _print(found, written, following)
    if refused := found.notes.refused:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise DataError(
            f"training would be refused: {refused[0].message}{more}",
            refused[0].hint + (f"; {write_recipe} is not written" if write_recipe else ""),
        )


def _check_targets(out: Path | None, recipe: Path | None) -> None:
    if out is not None and out.suffix.lower() != ".png":
        raise UsageError(f"--out {out} does not end in .png", "pictures are written as PNG")
    if out is not None and out.is_dir():
        raise UsageError(f"--out {out} is a folder", "give the name of a .png file")
    if recipe is not None and recipe.suffix.lower() not in (".yaml", ".yml"):
        raise UsageError(f"--write-recipe {recipe} does not end in .yaml", "recipes are YAML")
    if recipe is not None and recipe.exists():
        raise UsageError(f"{recipe} already exists", "give another name, or remove it first")


def _data(folder: Path, changes: list[str]) -> dict[str, Any]:
    """Return the `data` section to check."""
    from hstnn_deploy.recipe.load import apply_change

    raw: dict[str, Any] = {"data": {"name": "own", "path": str(folder)}}
    for change in changes:
        key = change.partition("=")[0].strip()
        if not key.startswith("data.") or key in ("data.name", "data.path", "data.found"):
            raise UsageError(
                f"--set {key} is not a key of the data", "only keys of data can be set here, such as data.kind=images"
            )
        apply_change(raw, change)
    data: dict[str, Any] = raw["data"]
    return data


def _write(found: "Checked", data: dict[str, Any], out: Path | None, recipe: Path | None) -> dict[str, str]:
    """Write the picture and the recipe as requested; return their paths."""
    from hstnn_deploy import files

    written = {}
    if out is not None:
        from hstnn_deploy.data.pictures.checked import draw_checked
        from hstnn_deploy.data.pictures.figure import save

        save(draw_checked(found), out)
        written["picture"] = str(out)
    if recipe is not None and not found.notes.refused:
        from hstnn_deploy.recipe.beginning import recipe_text

        files.write_text(recipe, recipe_text(found, data))
        written["recipe"] = str(recipe)
    return written


def _following(found: "Checked", changes: list[str], recipe: Path | None) -> list[str]:
    """Return the commands to run next."""
    path = shlex.quote(found.path)
    said = "".join(f" --set {shlex.quote(change)}" for change in changes)
    if refused := found.notes.refused:
        # A change that a hint gives with its value can be used as it is.
        asked = dict.fromkeys(value for note in refused for value in _VALUE.findall(note.hint) if value not in said)
        return [f"hstnn data check {path}{said}" + "".join(f" --set {shlex.quote(value)}" for value in asked)]
    if recipe is None:
        return [f"hstnn data check {path}{said} --write-recipe mine.yaml", "hstnn train mine.yaml"]
    from hstnn_deploy.recipe.own_data import slug

    kind = "snn" if found.kind == "text" else "plain"
    name = slug(Path(found.path))[:100]
    ckpt = shlex.quote(f"runs/{name}/{kind}/seed1111/best.pt")
    return [
        f"hstnn train {shlex.quote(str(recipe))}",
        f"hstnn evaluate --ckpt {ckpt}",
        f"hstnn export --ckpt {ckpt} --out {name}-bundle",
    ]


def _print(found: "Checked", written: dict[str, str], following: list[str]) -> None:
    from hstnn_deploy.data.checking.classes import chance
    from hstnn_deploy.data.checking.notes import shown

    def line(text: str) -> None:
        console.out.print(shown(text) if not text.startswith(" ") else "  " + shown(text), markup=False, soft_wrap=True)

    line(f"{found.path}: {found.kind} ({found.why}); {found.extent}")
    _print_counts(found)
    if found.classes and (likely := chance(found.counts["test"])) is not None:
        line(f"chance: always predicting the most frequent class is right for {likely:.1f} % of test")
    for each in found.lines:
        line(each)
    notes = found.notes.found
    for note in notes:
        line(note.line())
    if not notes:
        line("no problems found")
    for what, path in written.items():
        line(f"{what}: {path}")
    line("Next:")
    for command in following:
        line(f"  {command}")


def _print_counts(found: "Checked") -> None:
    from hstnn_deploy.data.checking.notes import shown
    from hstnn_deploy.data.own.parts import SPLITS

    unit = "words" if found.kind == "text" else "samples"
    totals = {split: sum(found.counts[split]) for split in SPLITS}
    if not any(totals.values()):
        return
    rows: list[tuple[Any, ...]] = []
    if found.classes and len(found.classes) <= _CLASSES:
        rows += [
            (shown(name), *(found.counts[split][label] for split in SPLITS)) for label, name in enumerate(found.classes)
        ]
    if len(found.classes) > _CLASSES:
        for word, pick in (("least", min), ("most", max)):
            rows.append((f"{word} of {len(found.classes)} classes", *(pick(found.counts[split]) for split in SPLITS)))
    rows.append((f"all {unit}", *totals.values()))
    columns = ["class" if found.classes else "", *(f">{split}" for split in SPLITS)]
    title = f"{'classes and splits' if found.classes else 'splits'}: by {found.how}"
    console.out.print(title, markup=False, soft_wrap=True)
    console.out.print(console.table("", columns, rows, dense=True))
