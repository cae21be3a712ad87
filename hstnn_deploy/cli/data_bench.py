"""Prepare, measure and print what `hstnn data bench` compares."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hstnn_deploy.cli import console
from hstnn_deploy.errors import DataError, Interrupted, UsageError

if TYPE_CHECKING:
    import torch

    from hstnn_deploy.data.dataset import DataSet, Protocol, Shape
    from hstnn_deploy.data.files.folder import Report
    from hstnn_deploy.profile.phases.loaders import Absent, Strategy
    from hstnn_deploy.profile.phases.loading import Bench
    from hstnn_deploy.recipe.recipe import Recipe

_SAMPLES = 256


class Asked(NamedTuple):
    """What to measure."""

    data_set: "DataSet[Any]"
    config: Any
    protocol: "Protocol"
    training: "Recipe | None"
    """The recipe whose network is trained, if any."""
    data_dir: Path | None
    batch: int
    samples: int | None
    repeats: int
    device: "torch.device"


def choose(name: str, recipe: str | None, train: str | None, changes: Sequence[str]) -> "Recipe":
    """Return the recipe that `--recipe` or `--train` names.

    Raises:
        UsageError: they name two recipes, or the recipe is for another data set.
        RecipeError: it is not a valid recipe.
    """
    from hstnn_deploy.recipe.load import load_recipe

    if recipe is not None and train is not None and recipe != train:
        raise UsageError(
            f"--recipe {recipe} and --train {train} are two recipes", "give --train alone: it sets the data too"
        )
    found = load_recipe(str(recipe or train), list(changes))
    if found.data.name != name:
        option = "--train" if train else "--recipe"
        raise UsageError(
            f"{option} {recipe or train} is for {found.data.name}, not for {name}",
            f"give a recipe for {name}, or `hstnn data bench {found.data.name}`",
        )
    return found


def run(asked: Asked, out: Path | None, as_json: bool) -> None:
    """Measure, print, and write to `out` if it is given.

    Raises:
        Interrupted: after Ctrl-C; the finished measurements are printed and written all the same.
        HstnnError: the data set cannot be measured.
    """
    from hstnn_deploy import environment, files
    from hstnn_deploy.cli.progress import Working

    if out is not None and out.is_dir():
        raise UsageError(f"--out {out} is a folder", "give the name of a file, such as bench.json")
    stopped = False
    load = [os.getloadavg()[0]]
    with files.temporary_folder("bench") as folder:
        with Working(console.aside) as working:
            bench, origin, recordings = _bench(asked, folder, working.report)
            try:
                bench.prepare()
                bench.measure(asked.repeats)
            except KeyboardInterrupt:
                stopped = True
        if any(row.epochs for row in bench.rows):
            advice = bench.advice()
            facts: dict[str, Any] = {"name": asked.data_set.name, "origin": origin, "recordings": recordings}
            facts |= {"train": asked.training.name if asked.training else None, "device": str(asked.device)}
            facts |= {"repeats": asked.repeats, "interrupted": stopped, **bench.plain()}
            facts |= {"take": advice.take, "advice": advice.line}
            facts["load_average"] = [*load, os.getloadavg()[0]]
            facts["environment"] = environment.describe(str(asked.device))
            if out is not None:
                files.write_json(out, facts)
            if as_json:
                console.emit(facts)
            else:
                _print(asked, bench, facts)
    if stopped:
        shown = f"after {bench.rounds} of {asked.repeats} rounds, which are shown above"
        raise Interrupted(f"interrupted {shown if any(row.epochs for row in bench.rows) else 'before the first round'}")


def _bench(asked: Asked, folder: Path, report: "Report") -> "tuple[Bench, str, dict[str, Any] | None]":
    """Return what measures, the origin of the data, and the bytes of its recordings."""
    import torch

    from hstnn_deploy.data.events.recordings import SomeRecordings, as_trained
    from hstnn_deploy.data.registry import load, missing
    from hstnn_deploy.data.splits import Splits
    from hstnn_deploy.profile.phases import loaders
    from hstnn_deploy.profile.phases.loading import Bench

    data_set, config = asked.data_set, asked.config
    if lacking := missing(config, asked.data_dir):
        place = data_set.place(config, asked.data_dir) if data_set.place else "hand"
        raise DataError(
            f"{data_set.name} is not at {place} ({lacking[0]} is missing)",
            f"`hstnn data prepare {data_set.name}` gets it, or name its folder with --data-dir"
            if data_set.remotes
            else data_set.card.get,
        )
    strategies: list[Strategy | Absent]
    if data_set.recordings is None:
        splits: Splits = load(config, asked.protocol, asked.data_dir, "none")
        part, count, whole = _part(splits.train, asked)
        strategies, origin, held = loaders.of_loaded(part, data_set.name), f"from {splits.origin}", None
        there: Shape | Splits = splits
    else:
        parts = data_set.recordings(config, asked.data_dir)
        train = as_trained(parts, asked.protocol)["train"]
        whole = len(train.target)
        count = _count(whole, asked)
        some = torch.randperm(whole, generator=torch.Generator().manual_seed(0))[:count].sort().values
        subject = loaders.Subject(SomeRecordings(train, some), config, asked.device, folder, report)
        strategies = loaders.of_recordings(subject)
        origin = f"from {data_set.place(config, asked.data_dir)}" if data_set.place else data_set.card.get
        held = loaders.plain({"disk": subject.originals()})["disk"]
        known = data_set.shape(config)
        assert known is not None, "recordings have a shape"
        there = known
    if asked.training is not None:
        asked.training.check_data(there)
    return Bench(strategies, count, whole, asked.batch, asked.device, asked.training, report), origin, held


def _count(whole: int, asked: Asked) -> int:
    """Return how many samples are loaded: `samples`, or by default a few whole batches."""
    if asked.batch > whole:
        raise UsageError(
            f"--batch {asked.batch} is more than the {whole} samples of the training split",
            f"give at most {whole}",
        )
    if asked.samples is None:
        wanted = min(whole, max(_SAMPLES, 4 * asked.batch))
        return wanted - wanted % asked.batch
    if not asked.batch <= asked.samples <= whole:
        raise UsageError(
            f"--samples is {asked.samples}, not between the batch size ({asked.batch}) and the size of the training "
            f"split ({whole})",
            f"give {asked.batch} to {whole}",
        )
    return asked.samples


def _part(split: Any, asked: Asked) -> tuple[Any, int, int]:
    """Return a part of a split without recordings, its number of samples and the split's."""
    import torch

    from hstnn_deploy.data.text import TextSplit

    whole = len(split)
    count = _count(whole, asked)
    if isinstance(split, TextSplit):
        part = TextSplit(split.tokens[: count * split.bptt + 1], split.bptt, split.name)
        part.columns(asked.batch)
        return part, count, whole
    some = torch.randperm(whole, generator=torch.Generator().manual_seed(0))[:count].sort().values
    return split.take(some), count, whole


def _print(asked: Asked, bench: "Bench", facts: dict[str, Any]) -> None:
    rows = [each for each in facts["strategies"] if each["batches_per_second"] is not None]
    placed = [place for place in ("host", "device", "disk") if any(each["bytes"][place]["bytes"] for each in rows)]
    titles = {"host": ">host memory", "device": ">GPU memory", "disk": ">on disk"}
    columns = ["strategy", ">batches/s", ">vs naive", ">ready after", *(titles[place] for place in placed)]
    trained = asked.training is not None
    columns += [">training pass"] if trained else []
    table = []
    for each in rows:
        over, ready = each["over_naive"], each["ready_seconds"]
        cells = [each["name"], f"{each['batches_per_second']:.4g}", "n/a" if over is None else f"{over:.2f} x"]
        cells.append("included" if ready is None else f"{ready:.2f} s")
        cells += [_bytes(each["bytes"][place]) for place in placed]
        if trained:
            cells.append(f"{_median(each['train_seconds']):.3g} s" if each["train_seconds"] else "n/a")
        table.append(cells)
    unit = "windows" if not hasattr(asked.config, "steps") and asked.data_set.shape(asked.config) is None else "samples"
    how = "set by --samples" if asked.samples else "--samples changes this"
    say = _say
    say(f"{asked.data_set.name}: {facts['origin']}")
    of = f"{bench.count} of the {bench.whole} {unit} of the training split ({how})"
    say(f"an epoch is {of}: {bench.batches} batches of {bench.batch} on {asked.device}")
    environment = facts["environment"]
    say(f"rounds: {facts['rounds']}; {facts['method']}")
    before, after = facts["load_average"]
    machine = (
        f"{environment['cpu']}, {environment['cores']} cores, {console.counted(environment['threads'], 'thread')} used"
    )
    say(f"{machine}; load average {before:.1f} before and {after:.1f} after")
    if max(before, after) - 1 > environment["cores"]:
        # Each of many short parallel operations waits for a thread that other processes use.
        one = "" if environment["threads"] == 1 else ", or with --threads 1"
        console.note(
            "this machine is busy with other work: speeds are lower and ratios less certain; measure when it is idle"
            + one
        )
    console.out.print(console.table(f"Loading {asked.data_set.name}", columns, table))
    absent: dict[str, list[str]] = {}
    for each in facts["strategies"]:
        if each["batches_per_second"] is None:
            absent.setdefault(each["reason"], []).append(each["name"])
    for reason, names in absent.items():
        say(f"not measured: {'; '.join(names)}: {reason}")
    for reason, named in _reasons(rows, placed).items():
        say(f"n/a: {named}: {reason}")
    if asked.device.type == "cpu" and len(rows) > 1:
        say("the device is the CPU, so data kept on the device is in host memory")
    if (recordings := facts["recordings"]) is not None and recordings["bytes"] is not None:
        say(f"the recordings' own files: {console.size(recordings['bytes'])}")
    if trained and asked.training is not None:
        losses = sorted({each["train_loss"] for each in rows if each["train_loss"] is not None})
        same = f"{losses[0]:.6g} for each" if len(losses) == 1 else f"{losses[0]:.6g} to {losses[-1]:.6g}"
        say(f"training pass: {asked.training.name}, the same new network for each strategy; mean loss {same}")
    say(facts["advice"])


def _say(text: str) -> None:
    console.out.print(text, soft_wrap=True, markup=False)


def _median(values: list[float]) -> float:
    import statistics

    return statistics.median(values)


def _bytes(held: dict[str, Any]) -> str:
    return "n/a" if held["bytes"] is None else console.size(int(held["bytes"]))


def _reasons(rows: list[dict[str, Any]], placed: list[str]) -> dict[str, str]:
    """Return the strategies with bytes that are n/a, by reason."""
    found: dict[str, list[str]] = {}
    for each in rows:
        for place in placed:
            if (reason := each["bytes"][place].get("reason")) is not None:
                found.setdefault(reason, []).append(each["name"])
    return {reason: "; ".join(dict.fromkeys(names)) for reason, names in found.items()}
