"""`hstnn data`: list, prepare, verify, show and time the data sets."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from hstnn_deploy.cli import console, data_cache, data_check, defaults
from hstnn_deploy.cli.options import Changes, DataDir, Device, Json, SplitChoice
from hstnn_deploy.errors import DataError, Interrupted, UsageError, nearest
from hstnn_deploy.plugins import registry as plugins

if TYPE_CHECKING:
    from hstnn_deploy.data.dataset import DataSet, Inspected, Protocol, Source

app = typer.Typer(
    name="data", help="List, prepare, verify, show and time the data sets, and check your own.", no_args_is_help=True
)
app.add_typer(data_cache.app)
app.command("check")(data_check.check)

Name = Annotated[str, typer.Argument(help="A data set (see `hstnn data list`).")]


class _Subject(NamedTuple):
    """A data set, configured as in the first shipped recipe that uses it."""

    data_set: "DataSet[Any]"
    config: Any
    protocol: "Protocol"

    def source(self, data_dir: Path | None) -> "Source":
        from hstnn_deploy.data.dataset import Source

        return Source(self.protocol, data_dir)

    def where(self, data_dir: Path | None) -> tuple[bool, str]:
        """Return whether it is on this machine, and its folder or how to get it."""
        place, get = self.data_set.place, self.data_set.card.get
        if place is None:
            return True, get
        missing = self.data_set.missing(self.config, data_dir)
        return not missing, get if missing else str(place(self.config, data_dir))


_NOTHING_TO_SET = "no shipped recipe uses {}, so --set has nothing to change"


def _subject(name: str, changes: Iterable[str] = ()) -> _Subject:
    from hstnn_deploy.data.registry import DATA_SETS
    from hstnn_deploy.recipe.load import load_recipe

    if (part := plugins.find("data", name)) is not None:
        return _own_subject(name, part.value, changes)
    if name not in DATA_SETS:
        raise UsageError(f"unknown data set {name!r}", f"{nearest(name, [*DATA_SETS, *plugins.names('data')])}")
    if (shown := _shown_by().get(name)) is None:
        if changes:
            raise UsageError(_NOTHING_TO_SET.format(name), "leave --set out")
        return _Subject(DATA_SETS[name], DATA_SETS[name].config(), "validation")
    recipe = load_recipe(shown, list(changes))
    return _Subject(DATA_SETS[name], recipe.data, recipe.protocol)


@cache
def _shown_by() -> dict[str, str]:
    """Return the shipped recipe that shows each data set: the one with its own name, or the first."""
    from hstnn_deploy.recipe.load import raw_recipe, shipped

    found: dict[str, str] = {}
    for recipe in shipped():
        name = raw_recipe(recipe)["data"]["name"]
        if recipe == name or name not in found:
            found[name] = recipe
    return found


def _own_subject(name: str, config: Any, changes: Iterable[str]) -> _Subject:
    """Return a user's own data set, with the default options of its class."""
    from pydantic import ValidationError

    from hstnn_deploy.data import custom

    if changes:
        raise UsageError(_NOTHING_TO_SET.format(name), "leave --set out")
    try:
        made = config()
    except ValidationError as error:
        wants = ", ".join(str(each["loc"][0]) for each in error.errors(include_url=False))
        raise UsageError(f"data set {name} has options without a default: {wants}", "set them in a recipe") from error
    return _Subject(custom.of(made), made, "validation")


@app.command("list")
def list_sets(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the data sets: what each one contains, and whether it is on this machine or how to get it."""
    from hstnn_deploy.data.registry import DATA_SETS

    facts = [_facts(_subject(name), data_dir) for name in DATA_SETS]
    facts += [_own_facts(name) for name in plugins.names("data")]
    if as_json:
        console.emit(facts)
        return
    from rich.text import Text

    for each in facts:
        mark = Text("here", "green") if each["here"] else Text("not here", "yellow")
        console.out.print(Text.assemble((f"{each['name']:<14}", "bold"), each["about"]), soft_wrap=True)
        told = "; ".join(filter(None, (each["task"], each["shape"], each["size"], each["licence"])))
        console.out.print(Text(" " * 14 + told, "dim"), soft_wrap=True)
        console.out.print(Text.assemble(" " * 14, mark, ": ", each["where"]), soft_wrap=True)


def _own_facts(name: str) -> dict[str, Any]:
    """Return what is known about a user's own data set without loading it."""
    problem, part = "", None
    try:
        part = plugins.find("data", name)
    except UsageError as error:
        problem = error.message
    about = (part.value.__doc__ or "").strip().partition("\n")[0] if part else ""
    return {
        "name": name,
        "about": about,
        "task": part.value.task if part else "",
        "shape": "",
        "size": "",
        "bytes": 0,
        "licence": "",
        "home": "",
        "here": part is not None,
        "where": problem or (f"your own: {part.told}" if part else "not registered"),
    }


def _facts(subject: _Subject, data_dir: Path | None) -> dict[str, Any]:
    data_set, card = subject.data_set, subject.data_set.card
    shape = data_set.shape(subject.config)
    here, where = subject.where(data_dir)
    told = ""
    if shape is not None:
        step = " x ".join(map(str, shape.step))
        told = f"{shape.steps} steps of {step}, {shape.train} + {shape.test} samples"
    return {
        "name": data_set.name,
        "about": card.about,
        "task": card.task,
        "shape": told,
        "size": f"about {console.size(card.bytes)}" if card.bytes else "",
        "bytes": card.bytes,
        "licence": card.licence,
        "home": card.home,
        "here": here,
        "where": where,
    }


@app.command("prepare")
def prepare(
    name: Annotated[str | None, typer.Argument(help="A data set (see `hstnn data list`).")] = None,
    all_sets: Annotated[
        bool, typer.Option("--all", help="Prepare every data set that can be downloaded or is on this machine.")
    ] = False,
    changes: Changes = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Download a data set where that is allowed, check and unpack it, and fill the cache for its recipe.

    Several processes can run it at once. It can be stopped and run again: finished work is not repeated.
    """
    from hstnn_deploy.data.registry import DATA_SETS

    if (name is None) == (not all_sets):
        raise UsageError("name a data set, or give --all", "`hstnn data list` lists them")
    if all_sets and changes:
        raise UsageError("--set is for one data set, not for --all", "leave --set out")
    names = list(DATA_SETS) if name is None else [name]
    facts, failed = [], list[str]()
    for each in names:
        subject = _subject(each, changes or ())
        try:
            facts.append(_prepare(subject, data_dir, console.working(as_json)))
        except DataError as error:
            if not all_sets:
                raise
            console.err.print(
                "\n  ".join(filter(None, (f"{each}: {error.message}", error.hint))), soft_wrap=True, markup=False
            )
            failed.append(each)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted; finished work is kept", "run the same command again to continue") from error
    if as_json:
        console.emit(facts)
    if failed:
        raise DataError(
            f"{len(failed)} of {len(names)} data sets could not be prepared: {', '.join(failed)}",
            "see above for what each one needs",
        )


def _prepare(subject: _Subject, data_dir: Path | None, screen: Any) -> dict[str, Any]:
    from hstnn_deploy.cli.progress import Working
    from hstnn_deploy.data import cache as cached
    from hstnn_deploy.data.prepare import prepare as prepare_set

    before = {entry.path for entry in cached.entries()}
    with Working(console.aside) as working:
        splits = prepare_set(subject.data_set, subject.config, subject.source(data_dir), working.report)
    entries = [entry for entry in cached.entries() if entry.data_set == subject.data_set.name]
    new = [entry for entry in entries if entry.path not in before]
    counts = {split: len(splits.split(split)) for split in ("train", "valid", "test")}
    unit = "windows" if splits.family == "language" else "samples"
    told = ", ".join(f"{count} {split}" for split, count in counts.items())
    screen.print(f"{subject.data_set.name} is ready: {splits.origin} ({told} {unit})", soft_wrap=True, markup=False)
    if entries:
        size = console.size(sum(entry.bytes for entry in entries))
        state = f"{len(new)} new" if new else "none new"
        screen.print(f"  cache: {len(entries)} files, {size}, {state}", soft_wrap=True, markup=False)
    return {"name": subject.data_set.name, "origin": splits.origin, **counts, "cached": [str(e.path) for e in entries]}


@app.command("verify")
def verify(name: Name, changes: Changes = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Read and check every file of a data set completely, and count samples by split and class.

    Exits with 3 if a file is wrong or missing.
    """
    from hstnn_deploy.cli.progress import Working
    from hstnn_deploy.data.prepare import verify as verify_set

    subject = _subject(name, changes or ())
    found: list[Inspected] = []
    with Working(console.aside) as working:
        for each in verify_set(subject.data_set, subject.config, subject.source(data_dir)):
            found.append(each)
            working.report(f"checking {name}", len(found), unit="checked")
    wrong = [each for each in found if each.problem]
    splits = _by_split(found)
    shape = subject.data_set.shape(subject.config)
    if as_json:
        console.emit({"name": name, "checks": len(found), "wrong": [_wrong(e) for e in wrong], "splits": splits})
    else:
        _print_verified(subject, found, splits, shape)
    if wrong:
        if len(wrong) > 1:
            for each in wrong:
                console.err.print(f"wrong: {each.problem}", soft_wrap=True, markup=False)
        raise DataError(
            f"{name}: {len(wrong)} of {len(found)} checks failed, the first: {wrong[0].problem}",
            f"remove the wrong files, and get them again with `hstnn data prepare {name}`",
        )


def _wrong(each: "Inspected") -> dict[str, str]:
    return {"file": each.file, "problem": each.problem}


def _by_split(found: "list[Inspected]") -> dict[str, dict[str, Any]]:
    """Return the number of samples, or words, of each split: in total and by class."""
    splits: dict[str, dict[str, Any]] = {}
    for each in found:
        split = splits.setdefault(each.split, {"count": 0, "classes": {}})
        split["count"] += each.count
        for label, count in each.classes.items():
            split["classes"][label] = split["classes"].get(label, 0) + count
    return splits


def _print_verified(subject: _Subject, found: "list[Inspected]", splits: dict[str, dict[str, Any]], shape: Any) -> None:
    from hstnn_deploy.data.pictures.figure import class_name, spread

    unit = "samples" if shape is not None else "words"
    rows = []
    for name, split in splits.items():
        classes = split["classes"]
        if len(classes) > 12:
            counts = spread(list(classes.values()))
        else:
            names = subject.data_set.card.classes
            counts = ", ".join(f"{class_name(label, names)}: {classes[label]}" for label in sorted(classes))
        whole = getattr(shape, name, None) if shape is not None else None
        rows.append((name, split["count"], "" if whole is None else whole, counts))
    columns = ["split", f">{unit}", ">published", "by class"][: 2 if shape is None else 4]
    console.out.print(console.table(subject.data_set.name, columns, [row[: len(columns)] for row in rows]))
    right = [each for each in found if not each.problem]
    for how in dict.fromkeys(each.how for each in right):
        count = sum(each.how == how for each in right)
        console.out.print(f"{count} {how}", soft_wrap=True, markup=False)


@app.command("show")
def show(
    name: Name,
    out: Annotated[Path | None, typer.Option(metavar="FILE.png", help="The picture (default: NAME.png).")] = None,
    split: Annotated[SplitChoice, typer.Option(help="The split to draw from.")] = SplitChoice.train,
    index: Annotated[int | None, typer.Option(help="Index of the first sample.")] = None,
    label: Annotated[int | None, typer.Option(help="Draw only samples of this class (default: some of each).")] = None,
    count: Annotated[int | None, typer.Option(min=1, max=50, help="Number of samples.")] = None,
    changes: Changes = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Draw samples of a data set, or the statistics of a text, and describe them in a few lines."""
    from hstnn_deploy.data.dataset import Choice
    from hstnn_deploy.data.pictures.figure import save

    subject = _subject(name, changes or ())
    path = out or Path(f"{name}.png")
    if path.suffix.lower() != ".png":
        raise UsageError(f"--out {path} does not end in .png", "pictures are written as PNG")
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder", "give the name of a .png file")
    if subject.data_set.picture is None:
        raise UsageError(
            f"{name} is your own data set, and only built-in data sets can be drawn",
            "draw the samples that its load returns yourself",
        )
    with console.aside.status(f"drawing {name}"):
        source = subject.source(data_dir)
        picture = subject.data_set.picture(subject.config, source, Choice(split.value, index, label, count))
        save(picture.figure, path)
    if as_json:
        console.emit({"name": name, "picture": str(path), "lines": picture.lines})
        return
    for line in picture.lines:
        console.out.print(line, soft_wrap=True, markup=False)
    console.out.print(f"picture: {path}", soft_wrap=True, markup=False)


@app.command("bench")
def bench(
    name: Name,
    batch: Annotated[int, typer.Option(min=1, help="Batch size.")] = 32,
    samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Training samples to load (default: 256, or four batches)."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds to measure.")] = 5,
    recipe: Annotated[str | None, typer.Option(metavar="RECIPE", help="Load the data as this recipe does.")] = None,
    train: Annotated[
        str | None,
        typer.Option(metavar="RECIPE", help="Also time a training pass of this recipe's network with each strategy."),
    ] = None,
    changes: Changes = None,
    device: Device = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, envvar=defaults.THREADS, help="CPU threads (default: one per core).")
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write all measurements as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Compare the ways to load a data set, in batches per second and bytes, and recommend one.

    Besides each --cache mode, it measures reading and framing at every access, tonic's disk cache, dense frames and
    sparse tensors.
    """
    from hstnn_deploy import devices
    from hstnn_deploy.cli import data_bench
    from hstnn_deploy.data.registry import DATA_SETS

    if name not in DATA_SETS and plugins.find("data", name) is not None:
        raise UsageError(
            f"{name} is your own data set, and `hstnn data bench` only measures built-in ones",
            f"`hstnn data prepare {name}` loads it once",
        )
    if name not in DATA_SETS:
        raise UsageError(f"unknown data set {name!r}", nearest(name, DATA_SETS))
    if recipe is None and train is None:
        _, config, protocol = _subject(name, changes or ())
        chosen = None
    else:
        chosen = data_bench.choose(name, recipe, train, changes or ())
        config, protocol = chosen.data, chosen.protocol
    data_bench.run(
        data_bench.Asked(
            DATA_SETS[name],
            config,
            protocol,
            chosen if train is not None else None,
            data_dir,
            batch,
            samples,
            repeats,
            devices.resolve(device, threads),
        ),
        out,
        as_json,
    )
