"""`hstnn profile`: what a configuration needs, measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.options import DataDir, Json
from hstnn_deploy.errors import Interrupted, ProfileError, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.profile.records import Configuration, Record


def profile(
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="More recipes, as with --recipe.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A shipped recipe or a YAML file; repeatable (default: all that reproduce an experiment).",
        ),
    ] = None,
    ckpt: Annotated[Path | None, typer.Option(metavar="FILE", help="A checkpoint, such as best.pt.")] = None,
    phases: Annotated[str, typer.Option(metavar="LIST", help="train, infer, or both.")] = "train,infer",
    engines: Annotated[
        str, typer.Option(metavar="LIST", help="Engines of inference; training is always eager.")
    ] = "eager,torchscript,onnxruntime",
    batch: Annotated[
        str, typer.Option(metavar="LIST", help="Batch sizes of inference; training takes the recipe's.")
    ] = "1,100",
    gpus: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="GPU numbers, or none for the CPU (default: GPU 0 if any, else the CPU)."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: each engine's own choice).")] = None,
    seconds: Annotated[float, typer.Option(help="Measure each configuration for about so long.")] = 20.0,
    max_steps: Annotated[
        int | None, typer.Option(help="Measure so many training steps and extrapolate the epoch.")
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Stop a configuration after so many seconds.")] = 300.0,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write records.jsonl and report.txt there, replacing old ones.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure time, memory and CPU use of training and inference, each configuration in a process of its own."""
    from hstnn_deploy import files
    from hstnn_deploy.profile import report
    from hstnn_deploy.profile.plan import plan

    if not time_limit > 0:
        raise UsageError(f"--time-limit {time_limit:g} is not a positive number", "for example --time-limit 300")
    configurations = plan(
        _names([*(recipe or []), *(more or [])]),
        ckpt=ckpt,
        phases=_words(phases),
        engines=_words(engines),
        batches=[_whole("--batch", word) for word in _words(batch)],
        gpus=None if gpus is None else [None if w == "none" else _whole("--gpus", w) for w in _words(gpus)],
        data_dir=data_dir,
        threads=threads,
        seconds=seconds,
        max_steps=max_steps,
    )
    if out is not None:
        files.make_folder(out)
    records: list[Record] = []
    stopped = _measure(configurations, records, out, time_limit)
    if as_json:
        console.emit([record.plain() for record in records])
    else:
        for part in report.tables(records):
            console.out.print(part)
    if out is not None and records:
        console.err.print(f"written: {out / 'records.jsonl'}, {out / 'report.txt'}", soft_wrap=True, markup=False)
    if stopped:
        raise Interrupted(f"interrupted after {len(records)} of {len(configurations)} configurations")
    if failed := [record for record in records if record.status == "failed"]:
        raise ProfileError(f"{len(failed)} of {len(records)} configurations could not be measured: {failed[0].reason}")


def _measure(configurations: "list[Configuration]", records: "list[Record]", out: Path | None, limit: float) -> bool:
    """Measure into `records`, writing what is there after each; return whether it was interrupted."""
    from hstnn_deploy.profile import report
    from hstnn_deploy.profile.launch import run
    from hstnn_deploy.profile.progress import Progress

    with Progress(console.err) as progress:
        try:
            for record in run(configurations, progress, limit):
                records.append(record)
                if out is not None:
                    report.write(out, records)
        except KeyboardInterrupt:
            return True
    return False


def _names(given: list[str]) -> list[str]:
    """Return recipe names: a comma separates two, unless it belongs to a file's name."""
    return [name for each in given for name in ([each] if Path(each).is_file() else _words(each))]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole(option: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        example = "0,1" if option == "--gpus" else "1,100"
        raise UsageError(f"{option} {word!r} is not a whole number", f"for example {option} {example}") from None
