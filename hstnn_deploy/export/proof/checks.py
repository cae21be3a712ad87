"""What is checked of each file of a bundle, from disk, as it ships. Shapes: T time, B batch."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram

from hstnn_deploy.errors import DeviceError, ExportError
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.graph.write import (
    PT2,
    STEP_ONNX,
    TORCHSCRIPT,
    UNROLLED_INSIDE_ONNX,
    UNROLLED_ONNX,
    VARIANTS,
    WINDOW_INSIDE_ONNX,
    WINDOW_ONNX,
    stored_facts,
)
from hstnn_deploy.export.proof.activity import check_activity
from hstnn_deploy.export.proof.comparisons import (
    Check,
    Subject,
    built,
    dimensions,
    identical_runs,
    on_test_split,
    replayed,
    same,
    weights,
    whole,
)
from hstnn_deploy.export.proof.engines import (
    Engine,
    graph_engine,
    in_chunks,
    module_engine,
    network_alone,
    onnxruntime_session,
    open_network,
    opened_up,
    reference_session,
    step_engine,
    window_engine,
)
from hstnn_deploy.export.proof.exits import check_exits
from hstnn_deploy.export.proof.inside import answering, check_inside, inside_engine
from hstnn_deploy.export.proof.modules import shown_engine
from hstnn_deploy.export.proof.programs import open_program, open_script
from hstnn_deploy.export.proof.raw_input import check_front
from hstnn_deploy.export.proof.weights import read_weights
from hstnn_deploy.export.runtime.ort import Graph, placement

_CHUNKS = (3, 1, 2)
"""Steps of the chunks that a window is cut into, over and over."""
_DOCTOR = "run `hstnn doctor` to see which providers load"
_SMALL, _SHORT = 2, 8
"""Samples, and steps, that a slow engine is asked for."""


def check_window(subject: Subject) -> Iterator[Check]:
    """Check the ONNX window graph."""
    path = subject.folder / WINDOW_ONNX
    yield whole(path)
    yield dimensions(path, subject.face, "window")
    yield weights(path, subject)
    engine, reference = _onnx_engines(subject, path, "window")
    for x in subject.windows:
        yield replayed(path, "replay in ONNX Runtime", engine, subject, x)
    chunked = in_chunks(engine, _CHUNKS, subject.face)
    yield replayed(path, "replay in ONNX Runtime, in chunks", chunked, subject, subject.windows[0])
    yield _replayed_small(path, reference, subject)
    shipped = _shipped_engine(path, subject, "window")
    yield identical_runs(path, subject, shipped, engine)
    yield same(path, "window = eager", subject, engine)
    yield same(path, "chunks = window", subject, chunked, engine)
    yield on_test_split(path, subject, shipped, shown=engine)
    yield on_test_split(path, subject, reference, "answers on the test split, reference evaluator", slow=True)


def check_step(subject: Subject) -> Iterator[Check]:
    """Check the ONNX step graph, by itself and against the window."""
    path = subject.folder / STEP_ONNX
    yield whole(path)
    yield dimensions(path, subject.face, "step")
    yield weights(path, subject)
    engine, reference = _onnx_engines(subject, path, "step")
    for x in subject.windows:
        yield replayed(path, "replay in ONNX Runtime, step by step", engine, subject, x)
    yield _replayed_small(path, reference, subject)
    shipped = _shipped_engine(path, subject, "step")
    yield identical_runs(path, subject, shipped, engine)
    beside = subject.folder / WINDOW_ONNX
    if beside.exists():
        window, _ = _onnx_engines(subject, beside, "window")
        yield same(path, "step by step = window", subject, engine, window)
    else:
        yield same(path, "step by step = eager", subject, engine)
    yield on_test_split(path, subject, shipped, shown=engine)
    yield from check_exits(path, subject, shipped, engine)


def check_unrolled(subject: Subject) -> Iterator[Check]:
    """Check the unrolled ONNX graph, which takes windows of one length."""
    path = subject.folder / UNROLLED_ONNX
    yield whole(path)
    yield dimensions(path, subject.face, "unrolled")
    yield weights(path, subject)
    engine, reference = _onnx_engines(subject, path, "unrolled")
    steps = open_network(path).steps
    fitting = subject.on([_of_length(x, steps) for x in subject.windows])
    for x in fitting.windows:
        yield replayed(path, "replay in ONNX Runtime", engine, subject, x)
    yield replayed(path, "replay in onnx's reference evaluator", reference, subject, fitting.windows[0][:, :_SMALL])
    shipped = _shipped_engine(path, subject, "unrolled")
    yield identical_runs(path, fitting, shipped, engine)
    yield same(path, "unrolled = eager", fitting, engine)
    yield on_test_split(path, subject, shipped, shown=engine, steps=steps)


def check_module(path: Path, subject: Subject) -> Iterator[Check]:
    """Check a TorchScript module or torch.export program: its text, and whole, in chunks and step by step."""
    loaded, facts = opened(path)
    yield weights(path, subject)
    text = built(path, subject, loaded, facts)
    yield text
    shown = shown_engine(subject.network, loaded, read_weights(path))
    engine = module_engine(_callable(loaded), subject.face)
    for x in subject.windows:
        yield replayed(path, "replay in torch", shown, subject, x)
    chunked, chunked_shown = (in_chunks(each, _CHUNKS, subject.face) for each in (engine, shown))
    yield replayed(path, "replay in torch, in chunks", chunked_shown, subject, subject.windows[0])
    shipped = identical_runs(path, subject, engine, shown)
    # What another version wrote may add up in another order than what shows its layers here.
    other = text.outcome == "not run" and shipped.outcome == "failed"
    yield replace(shipped, outcome="not run", figure=f"{text.figure}; {shipped.figure}") if other else shipped
    yield same(path, "window = eager", subject, engine, shown=shown)
    yield same(path, "chunks = eager", subject, chunked, shown=chunked_shown)
    by_steps, by_steps_shown = (in_chunks(each, (1,), subject.face) for each in (engine, shown))
    yield same(path, "step by step = eager", subject, by_steps, shown=by_steps_shown)
    yield on_test_split(path, subject, engine, shown=shown)
    yield from check_exits(path, subject, engine, shown)


def opened(path: Path) -> tuple[Any, dict[str, str]]:
    """Open a .pt2 file, or a TorchScript file whose writer is trusted; see `foreign`.

    Returns:
        The program or module in it, and the facts that are stored beside it.

    Raises:
        BundleError: a .pt2 that could run code.
        ExportError: it cannot be read.
    """
    loaded = open_script(path) if path.name == TORCHSCRIPT else open_program(path)
    return loaded, stored_facts(path)


def module_of(path: Path) -> Any:
    """Return the module of a .pt2 file, or of a TorchScript file whose writer is trusted; see `foreign`.

    Raises:
        BundleError: a .pt2 that could run code.
        ExportError: it cannot be read.
    """
    return _callable(opened(path)[0])


def _callable(loaded: Any) -> Any:
    return loaded.module() if isinstance(loaded, ExportedProgram) else loaded


CHECKS: dict[str, Callable[[Subject], Iterator[Check]]] = {
    WINDOW_ONNX: check_window,
    WINDOW_INSIDE_ONNX: lambda subject: check_inside(subject.folder / WINDOW_INSIDE_ONNX, subject, "window"),
    STEP_ONNX: check_step,
    UNROLLED_ONNX: check_unrolled,
    UNROLLED_INSIDE_ONNX: lambda subject: check_inside(subject.folder / UNROLLED_INSIDE_ONNX, subject, "unrolled"),
    TORCHSCRIPT: lambda subject: check_module(subject.folder / TORCHSCRIPT, subject),
    PT2: lambda subject: check_module(subject.folder / PT2, subject),
}
"""The checks of each file of a bundle."""


def run_checks(subject: Subject, names: list[str], done: Callable[[Check], None]) -> None:
    """Check files of the subject's folder by name, calling `done` with each; one that cannot be run has failed."""
    activity = {check.file: check for check in check_activity(subject, names)}
    for name in names:
        try:
            for check in CHECKS[name](subject):
                done(check)
            if name in activity:
                done(activity[name])
            if variant := VARIANTS.get(name):
                for check in check_front(subject.folder / name, subject, variant.form):
                    done(check)
        except ExportError as error:
            done(Check(name, "opens and runs", "failed", error.message))


def run_checks_on(subject: Subject, names: list[str], provider: str, done: Callable[[Check], None]) -> None:
    """Check ONNX files on another provider: its replay, states that stay on the device, and where nodes really ran.

    Raises:
        DeviceError: the provider does not load.
    """
    for name, (form, states) in VARIANTS.items():
        if name not in names:
            continue
        path = subject.folder / name
        try:
            shipped = open_network(path, provider)
        except ExportError as error:
            raise DeviceError(f"{provider} is not available: {error.message}", error.hint or _DOCTOR) from error
        where = shipped.provider
        try:
            if states == "inside":
                engine = inside_engine(path, form, subject, lambda model: onnxruntime_session(model, provider))
                answers, shown, name_same = answering(shipped), engine, f"answers on {where} = eager"
            else:
                opened = opened_up(path, form, subject.network)
                make = step_engine if form == "step" else window_engine
                engine = make(onnxruntime_session(opened.model, provider), subject.face, opened.values)
                answers = in_chunks(graph_engine(shipped, subject.face), (max(shipped.steps, 1),), subject.face)
                shown = in_chunks(engine, (max(shipped.steps, 1),), subject.face)
                name_same = f"states kept on {where} = eager"
            windows = [_of_length(x, shipped.steps) for x in subject.windows] if form == "unrolled" else subject.windows
            for x in windows:
                done(replayed(path, f"replay in ONNX Runtime on {where}", engine, subject, x))
            done(same(path, name_same, subject.on(windows), answers, shown=shown))
            done(_placed(path, shipped, windows[0], where, provider))
            for check in check_front(path, subject, form, provider):
                done(check)
        except ExportError as error:
            done(Check(name, f"runs on {where}", "failed", error.message))


def _placed(path: Path, graph: Graph, x: Tensor, where: str, provider: str) -> Check:
    """Say which provider ran the nodes; the one that was asked for must have run those that compute."""
    now = x if len(graph.shape) == x.ndim else x[0]
    with network_alone(path) as alone:
        counts = placement(alone, {"x": now.numpy(), **graph.zeros(x.shape[1])}, provider)
    figure = ", ".join(f"{count} kernel calls on {name}" for name, count in sorted(counts.items()))
    ran = counts.get(where, 0) > sum(counts.values()) / 2
    return Check(path.name, "where it ran", "passed" if ran else "failed", figure or "nothing ran")


def _onnx_engines(subject: Subject, path: Path, form: Form) -> tuple[Engine, Engine]:
    """Return the engines of an ONNX file: ONNX Runtime, and onnx's reference evaluator."""
    opened = opened_up(path, form, subject.network)
    make = step_engine if form == "step" else window_engine
    ours, reference = onnxruntime_session(opened.model), reference_session(opened.model)
    return make(ours, subject.face, opened.values), make(reference, subject.face, opened.values)


def _shipped_engine(path: Path, subject: Subject, form: Form) -> Engine:
    """Return the engine that runs an ONNX file as it ships, in ONNX Runtime."""
    make = step_engine if form == "step" else window_engine
    return make(open_network(path).call, subject.face, {})


def _replayed_small(path: Path, reference: Engine, subject: Subject) -> Check:
    return replayed(
        path, "replay in onnx's reference evaluator", reference, subject, subject.windows[0][:_SHORT, :_SMALL]
    )


def _of_length(x: Tensor, steps: int) -> Tensor:
    """Return a window of the given length: cut, or gone through again."""
    return x.repeat(-(-steps // len(x)), *[1] * (x.ndim - 1))[:steps].contiguous()
