"""Prepare a data set once for every training, and verify it."""

from collections.abc import Iterator
from typing import Any

from hstnn_deploy.data.dataset import DataSet, Inspected, Protocol, Source
from hstnn_deploy.data.files.folder import Report, silent
from hstnn_deploy.data.files.remotes import fetch
from hstnn_deploy.data.splits import Splits
from hstnn_deploy.data.text import TextSplit
from hstnn_deploy.errors import DataError


def prepare(data_set: DataSet[Any], config: Any, source: Source, report: Report = silent) -> Splits:
    """Download what is missing if allowed, check it, and fill the disk cache for a configuration.

    Safe with many processes at once, and safe to run again: finished work is not repeated.

    Args:
        data_set: which one.
        config: its configuration; what is cached depends on it.
        source: where it is, and the protocol.
        report: told what is under way.

    Returns:
        The splits, as a training would load them.

    Raises:
        DataError: it cannot be downloaded, what is there is not it, or a folder cannot be written to.
    """
    if (missing := data_set.missing(config, source.folder)) and data_set.place:
        folder = data_set.place(config, source.folder)
        if not data_set.remotes:
            raise DataError(
                f"{data_set.name} is not at {folder} ({missing[0]} is missing), and hstnn cannot download it",
                f"{data_set.card.get}; it is published at {data_set.card.home} ({data_set.card.licence})",
            )
        fetch(data_set.remotes, folder, report)
        if still := data_set.missing(config, source.folder):
            raise DataError(
                f"{data_set.name} at {folder} is incomplete ({still[0]} is missing)",
                "move what is there away, and run it again",
            )
    report(f"loading {data_set.name}")

    def progress(what: str, done: int, total: int) -> None:
        report(what, done, total, "samples")

    splits: Splits = data_set.load(config, source._replace(cache="disk", progress=progress))
    return splits


def verify(data_set: DataSet[Any], config: Any, source: Source) -> Iterator[Inspected]:
    """Yield every file of a data set as it was found, read whole; where all are right, load it as a training does.

    Raises:
        DataError: it is not there, or its files are right but do not belong together.
    """
    if (missing := data_set.missing(config, source.folder)) and data_set.place:
        raise DataError(
            f"{data_set.name} is incomplete at {data_set.place(config, source.folder)}: {', '.join(missing)} missing",
            f"`hstnn data prepare {data_set.name}` gets it" if data_set.remotes else data_set.card.get,
        )
    wrong = False
    for each in data_set.inspect(config, source.folder) if data_set.inspect else ():
        wrong = wrong or bool(each.problem)
        yield each
    if wrong:
        return
    # A text has a validation split of its own; elsewhere it is a part of training.
    protocol: Protocol = "validation" if data_set.shape(config) is None else "test"
    splits: Splits = data_set.load(config, source._replace(protocol=protocol, cache="none"))
    if data_set.inspect is None:
        yield from _counted(splits)


def _counted(splits: Splits) -> Iterator[Inspected]:
    """Yield what a data set without files holds."""
    how = f"splits of {splits.origin}, loaded whole"
    for name in ("train", "valid", "test"):
        split: Any = splits.split(name)
        if name == "valid" and split is splits.test:
            continue
        if isinstance(split, TextSplit):
            yield Inspected(splits.origin, name, len(split.tokens), how=how)
        else:
            classes = dict(enumerate(split.target.bincount().tolist()))
            yield Inspected(splits.origin, name, len(split), classes, how)
