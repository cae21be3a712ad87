"""`hstnn compare --run`: measure two checkpoints alternately, each time in a new process."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import words
from hstnn_deploy.errors import Interrupted, ProfileError, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.profile.record import Configuration, Record
    from hstnn_deploy.report.comparing.comparison import Comparison
    from hstnn_deploy.report.comparing.conditions import Condition

REPEATS = 5
"""With 5 and 5 processes p can be as small as 0.0079: enough for the six compared figures of inference."""


class Asked(NamedTuple):
    """How to measure, from the command line; None: the default."""

    repeats: int | None
    phases: str | None
    engines: str | None
    batch: str | None
    threads: int | None
    gpus: str | None
    seconds: float | None
    data_dir: Path | None


def measured(
    first: Path,
    second: Path,
    asked: Asked,
    out: Path | None,
    metrics: Sequence[str],
    conditions: "Sequence[Condition]",
    despite: bool,
) -> "Comparison":
    """Measure two checkpoints alternately and compare them.

    Args:
        first, second: the checkpoints A and B; giving the same one twice shows the effect of chance.
        asked: how to measure.
        out: a folder for A/records.jsonl and B/records.jsonl, written after every process; None: nothing is kept.
        metrics, conditions, despite: see `report.comparing.comparison.compare`.

    Raises:
        UsageError: an invalid name or number, or a condition that does not fit the measurements.
        CheckpointError: a checkpoint cannot be loaded.
        ProfileError: a process could not measure.
        ReportError: the two cannot be compared.
        Interrupted: after Ctrl-C.
    """
    import_torch()
    from hstnn_deploy.profile.run import turns
    from hstnn_deploy.profile.show import report
    from hstnn_deploy.profile.show.progress import Progress
    from hstnn_deploy.report.comparing import measured as comparing
    from hstnn_deploy.report.comparing.comparison import compare_records

    repeats = REPEATS if asked.repeats is None else asked.repeats
    if repeats < 1:
        raise UsageError(f"--repeats must be at least 1 (got {repeats})", "for example --repeats 5")
    sides = _planned(first, asked), _planned(second, asked)
    comparing.check_alike(*sides)
    folders, names = _folders(out), (str(first), str(second))
    records: tuple[list[Record], list[Record]] = ([], [])
    order = turns.ordered(sides, repeats)
    with Progress(console.err, ["AB"[side] for side, _ in order]) as progress:
        try:
            for side, record in turns.run(sides, repeats, progress):
                records[side].append(record)
                if folders is not None:
                    report.write(folders[side], records[side])
                if record.status == "failed":
                    raise ProfileError(f"{'AB'[side]} could not be measured: {record.reason}")
                if len(records[0]) + len(records[1]) == len(sides[0]) + len(sides[1]):
                    # Refuse an unusable condition now, not after all measurements.
                    compare_records(*records, names, metrics, conditions)
        except KeyboardInterrupt:
            done = len(records[0]) + len(records[1])
            raise Interrupted(
                f"interrupted after {done} of {len(order)} processes", "the records in --out are kept"
            ) from None
    if folders is not None:
        console.err.print(
            f"written: {folders[0]}, {folders[1]}; compare them again with hstnn compare", soft_wrap=True, markup=False
        )
    return compare_records(*records, names, metrics, conditions, despite)


def _planned(ckpt: Path, asked: Asked) -> "list[Configuration]":
    from hstnn_deploy.cli.profile import gpus_of, numbers_of
    from hstnn_deploy.profile.plan.plan import plan

    options: dict[str, Any] = {
        "phases": words(asked.phases or "infer"),
        "engines": words(asked.engines or "onnxruntime"),
        "batches": numbers_of("--batch", asked.batch or "1", int, "1,100"),
        "threads": [asked.threads],
        "gpus": gpus_of(asked.gpus),
        "seconds": 5.0 if asked.seconds is None else asked.seconds,
        "data_dir": asked.data_dir,
    }
    planned = plan(ckpt=ckpt, **options)
    if any(each.at_once for each in planned):
        raise UsageError(f"--gpus {asked.gpus}: networks are compared on a single device", "give one GPU, or none")
    return planned


def _folders(out: Path | None) -> tuple[Path, Path] | None:
    from hstnn_deploy import files

    if out is None:
        return None
    return files.make_folder(out / "A"), files.make_folder(out / "B")
