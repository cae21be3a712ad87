"""What is checked of each file of a bundle, from disk, as it ships. Shapes: T time, B batch, I inputs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.comparisons import Check, Subject, dimensions, on_test_split, replayed, same, whole
from hstnn_deploy.export.engines import (
    onnxruntime_session,
    opened_up,
    reference_session,
    step_engine,
    window_engine,
)
from hstnn_deploy.export.graphs import PT2, STEP_ONNX, TORCHSCRIPT, WINDOW_ONNX, state_after
from hstnn_deploy.export.runtime import open_graph


def check_window(subject: Subject) -> Iterator[Check]:
    """Check the ONNX window graph."""
    path = subject.folder / WINDOW_ONNX
    yield whole(path)
    yield dimensions(path, {"x": ["T", "B", None], "logits": ["B", None]})
    opened = opened_up(path, subject.layers)
    engine = window_engine(onnxruntime_session(opened), subject.layers)
    for x in subject.windows:
        yield replayed(path, "replay in ONNX Runtime", engine, subject, x)
    small = subject.windows[0][:, :2]
    reference = window_engine(reference_session(opened), subject.layers)
    yield replayed(path, "replay in onnx's reference evaluator", reference, subject, small)
    shipped = open_graph(path)
    yield same(
        path,
        "shipped file = replayed file",
        subject,
        lambda x: torch.from_numpy(shipped.run(x.numpy())),
        lambda x: engine(x).logits,
    )
    yield same(path, "window = eager", subject, lambda x: engine(x).logits, subject.logits)
    yield on_test_split(path, subject, engine)


def check_step(subject: Subject) -> Iterator[Check]:
    """Check the ONNX step graph, by itself and against the window graph."""
    path = subject.folder / STEP_ONNX
    yield whole(path)
    expected: dict[str, list[str | None]] = {"x": ["B", None], "logits": ["B", None]}
    for name in subject.states:
        expected |= {name: ["B", None], state_after(name): ["B", None]}
    yield dimensions(path, expected)
    engine = step_engine(onnxruntime_session(opened_up(path, subject.layers)), subject.layers, subject.states)
    for x in subject.windows:
        yield replayed(path, "replay in ONNX Runtime, step by step", engine, subject, x)
    opened = opened_up(subject.folder / WINDOW_ONNX, subject.layers)
    window = window_engine(onnxruntime_session(opened), subject.layers)
    yield same(path, "step by step = window", subject, lambda x: engine(x).logits, lambda x: window(x).logits)


def check_torchscript(subject: Subject) -> Iterator[Check]:
    """Check the TorchScript module, whole and step by step, against the network."""
    path = subject.folder / TORCHSCRIPT
    module = _opened(path, lambda: torch.jit.load(str(path)))

    def by_steps(x: Tensor) -> Tensor:
        state, logits = None, torch.empty(0)
        for now in x.unbind(0):
            logits, state = module(now[None], state)
        return logits

    yield same(path, "window = eager", subject, lambda x: module(x)[0], subject.logits)
    yield same(path, "step by step = eager", subject, by_steps, subject.logits)


def check_pt2(subject: Subject) -> Iterator[Check]:
    """Check the torch.export program against the network."""
    path = subject.folder / PT2
    module = _opened(path, lambda: torch.export.load(str(path)).module())
    yield same(path, "window = eager", subject, module, subject.logits)


CHECKS: dict[str, Callable[[Subject], Iterator[Check]]] = {
    WINDOW_ONNX: check_window,
    STEP_ONNX: check_step,
    TORCHSCRIPT: check_torchscript,
    PT2: check_pt2,
}
"""The checks of each file of a bundle."""


def _opened(path: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # torch raises many kinds for a file it cannot read
        raise ExportError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
