"""`hstnn profile`: measure time, memory and work of configurations."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_torch
from hstnn_deploy.cli.options import Address, DataDir, ExecutorChoice, Json, address_of, one_of, words
from hstnn_deploy.errors import Interrupted, ProfileError, UsageError

if TYPE_CHECKING:
    from hstnn_deploy.profile.record import Configuration, Record
    from hstnn_deploy.profile.run.cluster import Nodes
    from hstnn_deploy.profile.run.launch import Observer

    Measure = Callable[[Sequence[Configuration], Observer, float], Iterator[Record]]


def profile(
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="A checkpoint (FILE.pt), or recipes; or one foreign network, for time and memory only: any FILE.onnx, "
            "or PACKAGE.MODULE:FACTORY, a function that returns a torch module. The latter imports and runs your code, "
            "searching the current folder first.",
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A shipped recipe or a YAML file; repeatable (default: all that reproduce an experiment).",
        ),
    ] = None,
    experiments: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Rows of the paper's table: rnn-ptb, rnn-smnist, rcnn-dvsges, rcnn-nmnist."),
    ] = None,
    ckpt: Annotated[Path | None, typer.Option(metavar="FILE", help="A checkpoint, such as best.pt.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="[NAME=]SHAPE[:TYPE]",
            help="For FILE.onnx: the shape of an input whose size is open, such as x=28,1,28. For a FACTORY: the "
            "shapes of the module's inputs, such as 28,B,28 or '1,3,32,32;1,10:int64'. B stands for --batch, T for "
            "--steps. Repeatable.",
        ),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A YAML file with these options; options on the command line take precedence."
        ),
    ] = None,
    phases: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Any of work, train, select, restore, export, infer (default: work,train,infer); for a FACTORY: "
            "infer, step.",
        ),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Any of eager, fused, compile, torchscript, onnxruntime, pt2 (default: fused, torchscript, "
            "onnxruntime).",
        ),
    ] = None,
    kinds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Any of rnn, lstm, snn, ffs, hybrid (default: the recipe's).")
    ] = None,
    ratios: Annotated[
        str | None, typer.Option(metavar="LIST", help="Spiking shares of ffs and hybrid (default: the recipe's).")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="LIST", help="Any of fp32, bf16, fp16, medium (default: the recipe's).")
    ] = None,
    modes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Any of layers, steps: how stacks run while training (default: the recipe's)."
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="LIST", help="Batch sizes of inference (default: 1,100).")
    ] = None,
    train_batch: Annotated[
        str | None, typer.Option(metavar="LIST", help="Batch sizes of training (default: the recipe's).")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="LIST", help="Time steps of a sample (default: the data's own).")
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="GPU numbers, or none for the CPU (default: GPU 0 if any, else the CPU)."),
    ] = None,
    threads: Annotated[
        str | None, typer.Option(metavar="LIST", help="CPU threads (default: each engine's own choice).")
    ] = None,
    instances: Annotated[int | None, typer.Option(help="Concurrent processes per configuration.")] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            help="Processes per configuration, measured one after another, alternating between configurations "
            "(default: 1). A comparison needs several, such as 5."
        ),
    ] = None,
    find_batch: Annotated[
        bool, typer.Option("--find-batch", help="Find the largest batch that fits, instead of measuring.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="auto|real|synthetic",
            help="auto: real data if it is on this machine, otherwise random data of the same size.",
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Approximate measuring time per configuration (default: 20).")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="Measure at most this many training steps, and extrapolate the epoch.")
    ] = None,
    rram_read: Annotated[
        float | None,
        typer.Option(metavar="PJ", help="Energy per bit read from RRAM, for weights on devices (no default)."),
    ] = None,
    sram_read: Annotated[
        float | None,
        typer.Option(
            metavar="PJ", help="Energy per bit read from SRAM (default: 0.156, 8 KB in 45 nm, Horowitz 2014)."
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Instead of measuring, write a torch.profiler trace of one training step and one inference of one "
            "recipe or checkpoint, for chrome://tracing or Perfetto (.json.gz: compressed).",
        ),
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Stop a configuration after this many seconds.")] = 300.0,
    executor: Annotated[
        ExecutorChoice,
        typer.Option(
            help="Measure on this machine, or on the nodes of a Ray cluster. Each node measures one configuration at a "
            "time, so that nothing disturbs it."
        ),
    ] = ExecutorChoice.local,
    address: Address = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write records.jsonl and report.txt to this folder, replacing old ones."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the records in --out, and measure only what is missing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure time, memory, CPU use and work of training and inference, each configuration in its own process."""
    from hstnn_deploy.profile.foreign.names import is_foreign
    from hstnn_deploy.profile.plan.matrix import read

    if not time_limit > 0:
        raise UsageError(f"--time-limit must be positive (got {time_limit:g})", "for example --time-limit 300")
    if resume and out is None:
        raise UsageError("--resume needs --out", "give the folder of the records with --out")
    named = more or []
    if paths := [Path(word) for word in named if word.lower().endswith((".pt", ".pth", ".ckpt"))]:
        ckpt = one_of(paths[0], paths[1] if len(paths) > 1 else ckpt, "--ckpt", "checkpoint")
        named = [word for word in named if Path(word) not in paths]
    options: dict[str, Any] = {
        **(read(matrix) if matrix else {}),
        **_given(
            recipes=_names([*(recipe or []), *named]) or None,
            experiments=_words(experiments),
            ckpt=ckpt,
            phases=_words(phases),
            engines=_words(engines),
            kinds=_words(kinds),
            ratios=numbers_of("--ratios", ratios, float, "0.25,0.5"),
            precisions=_words(precision),
            modes=_words(modes),
            batches=numbers_of("--batch", batch, int, "1,100"),
            train_batches=numbers_of("--train-batch", train_batch, int, "25,100"),
            steps=numbers_of("--steps", steps, int, "28,56"),
            gpus=gpus_of(gpus),
            threads=numbers_of("--threads", threads, int, "1,2"),
            instances=instances,
            repeats=repeats,
            data=data,
            seconds=seconds,
            max_steps=max_steps,
            rram_read=rram_read,
            sram_read=sram_read,
            data_dir=data_dir,
        ),
    }
    if find_batch and options.get("repeats", 1) != 1:
        raise UsageError("--find-batch and --repeats are mutually exclusive", "leave one of them out")
    for option, given in (("--batch", batch), ("--train-batch", train_batch)):
        if find_batch and given:
            raise UsageError(f"--find-batch and {option} are mutually exclusive", "leave one of them out")
    address = address_of(executor, address)
    if trace is not None:
        other = {"--out": out, "--resume": resume, "--find-batch": find_batch, "--input": inputs, "--executor": address}
        from hstnn_deploy.cli.trace import write_trace

        write_trace(trace, options, [name for name, value in other.items() if value], as_json)
        return
    planned: Callable[[Nodes | None], list[Configuration]] = lambda nodes: _planned(options, nodes, find_batch)  # noqa: E731
    if inputs or any(map(is_foreign, options.get("recipes", []))):
        if find_batch or executor is ExecutorChoice.ray:
            option = "--find-batch" if find_batch else "--executor ray"
            raise UsageError(f"{option} works only for hstnn's own networks", "leave it out")
        planned = lambda _: _foreign(options, inputs or [], time_limit, resume)  # noqa: E731
    records: list[Record] = []
    with ExitStack() as stack:
        # The plan needs the resources of a cluster; a cluster of our own is this machine, and starts after planning.
        nodes = stack.enter_context(_nodes(address)) if address else None
        configurations = planned(nodes)
        old = _begin(out, resume)
        if nodes is None and executor is ExecutorChoice.ray:
            nodes = stack.enter_context(_nodes(None))
        stopped = _measure(configurations, records, old, out, time_limit, _measurer(nodes, find_batch))
    _show(records, out, as_json)
    if stopped:
        raise Interrupted(
            f"interrupted after {len(records)} of {len(configurations)} configurations",
            "run the same command with --resume to continue" if out else "",
        )
    if failed := [record for record in records if record.status == "failed"]:
        raise ProfileError(f"{len(failed)} of {len(records)} configurations could not be measured: {failed[0].reason}")


def _nodes(address: str | None) -> "Nodes":
    from hstnn_deploy.profile.run.cluster import Nodes

    with console.aside.status("connecting to Ray" if address else "starting Ray"):
        return Nodes(address)


def _planned(options: dict[str, Any], nodes: "Nodes | None", find_batch: bool) -> "list[Configuration]":
    import_torch()
    from hstnn_deploy.profile.plan.plan import plan
    from hstnn_deploy.profile.run.fitting import searches

    found = plan(**options, cluster_gpus=nodes.gpus if nodes else None)
    return searches(found) if find_batch else found


_FOREIGN = {"recipes", "phases", "batches", "steps", "threads", "gpus", "repeats", "seconds"}
"""The options that also apply to a foreign network, as `plan` calls them."""


def _foreign(options: dict[str, Any], inputs: list[str], time_limit: float, resume: bool) -> "list[Configuration]":
    """Return the configurations of the named foreign network; print what was guessed about its inputs."""
    import_torch()
    from hstnn_deploy.profile.foreign.names import is_foreign
    from hstnn_deploy.profile.run.foreign_plan import plan

    names = options.get("recipes", [])
    if len(names) != 1 or not is_foreign(names[0]):
        raise UsageError(
            f"--input needs one FILE.onnx or PACKAGE.MODULE:FACTORY (got {', '.join(names) or 'no name'})"
            if inputs and not any(map(is_foreign, names))
            else f"{', '.join(names)}: a foreign network must be the only one",
            "for example hstnn profile model.onnx --input x=28,1,28",
        )
    if other := sorted(set(options) - _FOREIGN):
        raise UsageError(
            f"{names[0]} is a foreign network, which has no {', '.join(name.replace('_', '-') for name in other)}",
            "use only --input, --batch, --steps, --phases, --threads, --gpus, --repeats, --seconds and --time-limit",
        )
    if resume and not names[0].lower().endswith(".onnx"):
        raise UsageError(
            f"--resume: the module of {names[0]} may have changed since", "measure it again, without --resume"
        )
    chosen = {key: value for key, value in options.items() if key != "recipes"}
    with console.aside.status(f"trying {names[0]} once"):
        found = plan(names[0], inputs, **chosen, time_limit=time_limit)
    for note in found.notes:
        console.aside.print(f"note: {note}", soft_wrap=True, markup=False)
    return found.configurations


def _measurer(nodes: "Nodes | None", find_batch: bool) -> "Measure":
    """Return the function that measures configurations, here or on the nodes of a cluster."""
    from hstnn_deploy.profile.run import fitting, launch

    if nodes is None:
        return fitting.run if find_batch else launch.run
    return partial(nodes.run, find_batch=find_batch)


def _begin(out: Path | None, resume: bool) -> "list[Record]":
    """Create the folder; with `resume`, return the records in it that are kept."""
    from hstnn_deploy import files
    from hstnn_deploy.profile.records import read

    if out is None:
        return []
    files.make_folder(out)
    path = out / "records.jsonl"
    return [record for record in read(path) if record.status != "failed"] if resume and path.exists() else []


def _measure(
    configurations: "list[Configuration]",
    records: "list[Record]",
    old: "list[Record]",
    out: Path | None,
    limit: float,
    measure: "Measure",
) -> bool:
    """Measure into `records`, in the plan's order, writing all after each; return whether it was interrupted.

    Records in `old` are reused.
    """
    from hstnn_deploy.profile.run import launch
    from hstnn_deploy.profile.show import report
    from hstnn_deploy.profile.show.progress import Progress

    with Progress(console.aside) as progress:
        try:
            for record in launch.resumed(configurations, old, lambda rest: measure(rest, progress, limit)):
                records.append(record)
                if out is not None:
                    done = {each.configuration.key for each in records}
                    report.write(out, [*records, *(each for each in old if each.configuration.key not in done)])
        except KeyboardInterrupt:
            return True
    return False


def _show(records: "list[Record]", out: Path | None, as_json: bool) -> None:
    from hstnn_deploy.profile.show import report

    if as_json:
        console.emit([record.plain() for record in records])
    else:
        for part in report.tables(records):
            console.out.print(part)
    if out is not None and records:
        console.aside.print(f"written: {out / 'records.jsonl'}, {out / 'report.txt'}", soft_wrap=True, markup=False)


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _names(given: list[str]) -> list[str]:
    """Return recipe names: commas separate them, unless they are part of a file's name."""
    return [name for each in given for name in ([each] if Path(each).is_file() else words(each))]


def _words(text: str | None) -> list[str] | None:
    return None if text is None else words(text)


def gpus_of(text: str | None) -> list[int | None] | None:
    """Parse GPU numbers, with None for the CPU; return None if the option is not given."""
    words = _words(text)
    return (
        None if words is None else [None if word == "none" else _number("--gpus", word, int, "0,1") for word in words]
    )


def numbers_of(option: str, text: str | None, kind: Any, example: str) -> list[Any] | None:
    """Parse comma-separated numbers; return None if the option is not given."""
    given = _words(text)
    return None if given is None else [_number(option, word, kind, example) for word in given]


def _number(option: str, word: str, kind: Any, example: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise UsageError(f"{option} {word!r} is not {what}", f"for example {option} {example}") from None
