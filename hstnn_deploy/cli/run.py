"""`hstnn run`: run a bundle on files or on standard input."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hstnn_deploy.cli import console
from hstnn_deploy.cli.imports import import_onnxruntime
from hstnn_deploy.cli.options import BundleArgument, BundleOption, Json, one_of
from hstnn_deploy.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from hstnn_deploy.cli.predictions import Display
    from hstnn_deploy.data.preprocessing import Preprocessing
    from hstnn_deploy.data.readers.event_options import EventOptions
    from hstnn_deploy.export.runtime.session import Session, Stream


def run(
    input_: Annotated[
        list[Path],
        typer.Option(
            "--input",
            metavar="FILE|-",
            help="An array (.npy, .npz: x[T, B, …]), an image, an event recording, a text, or numbers with one time "
            "step per line; `-` is standard input. Repeatable.",
        ),
    ],
    path: BundleArgument = None,
    by_option: BundleOption = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Run step by step, and show the prediction after each step.")
    ] = False,
    delay: Annotated[float, typer.Option(min=0, help="Seconds to show each step on a terminal.")] = 0.1,
    early_exit: Annotated[
        bool,
        typer.Option(
            "--early-exit",
            help="Stop each sample as soon as the step graph's exit rule allows it (bundles exported with --exit).",
        ),
    ] = False,
    draw: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="For images encoded as random spikes: use the random spikes of the evaluation's sample N.",
        ),
    ] = 0,
    top: Annotated[int, typer.Option(min=1, help="Number of classes or words to show, best first.")] = 3,
    continue_: Annotated[
        int, typer.Option("--continue", metavar="N", min=0, help="For a language model: continue the text by N words.")
    ] = 0,
    resize: Annotated[bool, typer.Option("--resize", help="Resize images to the size that the network takes.")] = False,
    events: Annotated[
        str | None,
        typer.Option(
            "--events",
            metavar="KEY=VALUE,…",
            help="What a recording does not state itself: unit=s|ms|us|ns, order=txyp (its columns; - skips one) or "
            "both as t=us,x,y,p; sort, offset=-250ms, start=file|first; p=-1/+1 (darker/brighter), origin=0|1, "
            "flip=x|y, sensor=WxH, drop=nan; t=NAME (also x, y, p), recording=N, part=NAME, format=NAME.",
        ),
    ] = None,
    any_range: Annotated[
        bool,
        typer.Option("--any-range", help="Accept array values outside the range of the training data."),
    ] = False,
    max_array: Annotated[
        float,
        typer.Option(
            metavar="GB", min=0.001, help="Largest input to read into memory; larger .npy files are run in chunks."
        ),
    ] = 2.147483648,
    provider: Annotated[str, typer.Option(metavar="cpu|cuda[:n]", help="Where ONNX Runtime runs the graphs.")] = "cpu",
    smaller: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Run a smaller graph: int8-dynamic, int8-static, fp16, integers."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: ONNX Runtime's choice).")] = None,
    load_state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Continue from states that --save-state wrote.")
    ] = None,
    save_state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the states after the last step.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Classify files with a bundle, predict values, or continue a text; without torch, as deployed."""
    bundle = one_of(path, by_option, "--bundle", "bundle")
    if draw >= 2**63:
        raise UsageError(f"--draw {draw} is too large", f"give at most {2**63 - 1}")
    import_onnxruntime()
    from hstnn_deploy.data.preprocessing import Frames, parse
    from hstnn_deploy.data.readers.event_options import parse_options
    from hstnn_deploy.export.runtime.session import Session
    from hstnn_deploy.export.runtime.states import check_writable

    if len(input_) > 1 and (load_state or save_state):
        raise UsageError(f"{len(input_)} inputs cannot share one file of states", "run them one by one")
    if early_exit and (load_state or save_state):
        raise UsageError(
            "--early-exit stops in the middle of a sequence, so states cannot be loaded or saved",
            "leave out --early-exit, or --load-state and --save-state",
        )
    if save_state:
        check_writable(save_state)
    session = Session(bundle, provider, threads, smaller=smaller, any_range=any_range)
    if early_exit:
        session.check_exit()
    limit = int(max_array * 1e9)
    how = parse(session.manifest["input"])
    options = parse_options(events)
    if events and not isinstance(how, Frames):
        raise UsageError(f"--events is for event recordings, which {bundle} does not take", "leave --events out")
    results = []
    for path in input_:
        if session.tokens:
            result = _text(session, how, path, limit, top, continue_, load_state, save_state)
        else:
            if continue_:
                does = "predicts values" if session.values else "classifies"
                raise UsageError(f"--continue is for language models; this network {does}", "leave --continue out")
            display = _display(stream, as_json, delay, str(path))
            result = _classes(
                session, how, path, limit, top, resize, options, display, load_state, save_state, draw, early_exit
            )
        results.append(result)
        if not as_json:
            _print(result)
        elif stream:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)
    facts = _early(session, results) if early_exit else {}
    if as_json and not stream:
        console.emit({"bundle": str(bundle), "provider": session.provider, "results": results, **facts})
    elif as_json and facts:
        print(json.dumps(facts), flush=True)
    elif facts:
        found = facts["early_exit"]
        console.out.print(
            f"exit by {found['rule']} {found['threshold']:g}: {found['mean_steps']:.2f} steps on average over "
            f"{console.counted(found['samples'], 'sample')}",
            markup=False,
            soft_wrap=True,
        )


def _early(session: "Session", results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean number of steps over the samples of all inputs, and the exit rule."""
    steps = [sample["steps"] for result in results for sample in result["samples"]]
    assert session.exit is not None
    return {"early_exit": {**session.exit, "samples": len(steps), "mean_steps": sum(steps) / len(steps)}}


def _display(stream: bool, as_json: bool, delay: float, name: str) -> "Display | None":
    from hstnn_deploy.cli.predictions import Display, JsonLines, Lines, LiveTable

    if not stream:
        return None
    made: Display
    if as_json:
        made = JsonLines(name)
    elif console.out.is_terminal:
        made = LiveTable(console.out, delay, name)
    else:
        made = Lines(console.out)
    return made


def _classes(
    session: "Session",
    how: "Preprocessing",
    path: Path,
    limit: int,
    top: int,
    resize: bool,
    options: "EventOptions",
    display: "Display | None",
    load_state: Path | None,
    save_state: Path | None,
    draw: int,
    early: bool,
) -> dict[str, Any]:
    """Run one input through a classifier."""
    from hstnn_deploy.export.runtime import input_files
    from hstnn_deploy.export.runtime.answers import answered
    from hstnn_deploy.export.runtime.exits import Leaving

    steps: Iterable[NDArray[Any]]
    x: NDArray[Any] | None = None
    total: int | None = None
    notes: list[str] = []
    taking = session.taking
    part = load_state is not None or save_state is not None
    recording = input_files.read_recording(path, how, session, options, load_state is not None)
    if recording:
        x = input_files.recorded(recording, how, session.takes != "x")
        notes += recording.report.lines()
    elif _is_rows(path):
        if session.takes != "x":
            raise DataError(
                f"{_name(path)} contains numbers, one time step per line; {session.folder} takes raw "
                + ("pixels" if session.takes == "image" else "events"),
                "the graph does the preprocessing: give the original file",
            )
        batch = 1
        steps = (row[None] for row in input_files.read_rows(path, session))
    else:
        x = input_files.read_samples(input_files.read_file(path, limit), how, session, notes.append, resize, draw)
    if x is not None:
        # A part of a sequence may be shorter than the sequences of the training.
        x = taking.shaped(x, x.shape[1] if part and session.takes == "x" and x.ndim > 1 else None)
        if recording is None and session.takes == "events" and not load_state:
            notes += input_files.seen_rows(_name(path), x, how, session)
        batch = taking.batch(x)
    leaving = Leaving(batch) if early else None
    whole = x is not None and session.whole_only and display is None and not part
    running = None if whole else _begin(session, batch, load_state, path)
    if x is not None:
        total = taking.steps(x, running.state if running else None)
        steps = taking.split(x, total, running.state if running else None)
    logits = None
    count = 0
    try:
        if display is None and x is not None and not leaving:
            logits, count = (running.run(x) if running and part else session.run(x)), total or 0
        else:
            assert running
            for count, now in enumerate(steps, 1):
                logits = running.step(now)
                left = False
                if leaving:
                    assert running.exit is not None
                    left = leaving.take(logits, running.exit)
                    logits = leaving.answers().logits
                if display:
                    display.step(count, total, answered(session, logits, top))
                if left:
                    break
    finally:
        if display:
            display.close()
        if running and save_state and count:
            running.save(save_state)
    if logits is None:
        raise DataError(f"{_name(path)} contains no time step", "give one time step per line")
    wanted = _trained_steps(how)
    if not part and wanted and count != wanted and not (leaving and count < wanted):
        notes.append(f"{_name(path)}: {count} steps; the network was trained on {wanted}")
    for note in notes:
        console.note(note)
    result: dict[str, Any] = {
        "input": str(path),
        "steps": count,
        "samples": answered(session, logits, top),
        "notes": notes,
    }
    if leaving:
        for sample, seen in zip(result["samples"], leaving.answers().steps, strict=True):
            sample["steps"] = int(seen)
    return {**result, "recording": recording.report.plain()} if recording else result


def _trained_steps(how: "Preprocessing") -> int | None:
    """Return the number of steps of a training sample; None if it is unknown."""
    match how.kind:
        case "pixels":
            return how.width
        case "images":
            return how.steps
        case "frames":
            return how.length
        case "arrays":
            return how.shape[how.axes.index("T")] if "T" in how.axes else how.steps
        case _:
            return None


def _text(
    session: "Session",
    how: "Preprocessing",
    path: Path,
    limit: int,
    top: int,
    more: int,
    load_state: Path | None,
    save_state: Path | None,
) -> dict[str, Any]:
    """Read a text with a language model."""
    from hstnn_deploy.data.preprocessing import Words
    from hstnn_deploy.export.runtime import input_files
    from hstnn_deploy.export.runtime.answers import read_text

    vocabulary = input_files.read_vocabulary(session)
    assert isinstance(how, Words)
    words, unknown = input_files.read_words(input_files.read_file(path, limit), how, vocabulary)
    running = _begin(session, 1, load_state, path)
    result = read_text(running, words, vocabulary, top, more)
    if save_state:
        running.save(save_state)
    return {"input": str(path), **result, "unknown": unknown}


def _begin(session: "Session", batch: int, load_state: Path | None, path: Path) -> "Stream":
    if load_state is None:
        return session.stream(batch)
    running = session.restore(load_state)
    if running.batch != batch:
        raise DataError(f"{load_state} has the states of {running.batch} samples; {_name(path)} has {batch}")
    return running


def _is_rows(path: Path) -> bool:
    """Return whether an input is text with one time step per line; for standard input, before its end."""
    from hstnn_deploy.export.runtime import input_files

    if str(path) != input_files.STANDARD_INPUT:
        return path.suffix.lower() in {".csv", ".tsv", ".txt"}
    return not input_files.is_file(input_files.standard_input().buffer.peek(16))


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def _print(result: dict[str, Any]) -> None:
    """Print a result as text."""
    from hstnn_deploy.export.runtime.values import in_words

    if "samples" not in result:
        _print_text(result)
        return
    for number, sample in enumerate(result["samples"]):
        which = f" [{number}]" if len(result["samples"]) > 1 else ""
        if "values" in sample:
            console.out.print(f"{result['input']}{which}: {in_words(sample)}", markup=False, soft_wrap=True)
            continue
        kind = "probability" if "probability" in sample else "score"
        names = sample.get("names", [str(n) for n, _ in sample["best"]])
        others = ", ".join(f"{name} {best[1]:.3f}" for name, best in zip(names[1:], sample["best"][1:], strict=True))
        said = f"class {sample['class']}" + (f" ({names[0]})" if names[0] != str(sample["class"]) else "")
        line = f"{result['input']}{which}: {said}, {kind} {sample[kind]:.3f}"
        line += f", after {console.counted(sample['steps'], 'step')}" if "steps" in sample else ""
        console.out.print(line + (f"; then {others}" if others else ""), markup=False, soft_wrap=True)


def _print_text(result: dict[str, Any]) -> None:
    perplexity = "n/a (a single word)" if result["perplexity"] is None else f"{result['perplexity']:.2f}"
    unknown = result["unknown"]
    lines = [f"{result['input']}: {result['words']} words, perplexity {perplexity}"]
    if unknown:
        shown = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
        lines.append(f"not in the vocabulary, read as <unk>: {shown} ({len(unknown)} distinct words)")
    lines.append("next: " + ", ".join(f"{word} {chance:.3f}" for word, chance in result["next"]))
    if result["continuation"]:
        lines.append("… " + " ".join(result["continuation"]))
    for line in lines:
        console.out.print(line, markup=False, soft_wrap=True)
