"""The proof of a graph with its states inside: that of a window, but for what needs states from before.

It takes x alone and gives the logits alone, so it is asked only for what begins at zeros. The states after the window
are values of the graph all the same: for the replay they are put on the list of outputs, as the layers' values are.

Shapes: T time, B batch.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.graph.interface import state_after
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.proof.comparisons import (
    Check,
    Subject,
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
    Session,
    State,
    onnxruntime_session,
    open_network,
    opened_up,
    reference_session,
    window_engine,
)
from hstnn_deploy.export.runtime.ort import Graph

_SMALL, _SHORT = 2, 8
"""Samples, and steps, that a slow engine is asked for."""
_CARRIED = "the split carries states from window to window; with its states inside the graph begins each at zeros"


def check_inside(path: Path, subject: Subject, form: Form) -> Iterator[Check]:
    """Check an ONNX file with its states inside, in ONNX Runtime and in onnx's reference evaluator.

    Args:
        path: the file.
        subject: its network and data.
        form: window, or unrolled.
    """
    yield whole(path)
    yield dimensions(path, subject.face, form, "inside")
    yield weights(path, subject)
    shipped = open_network(path)
    fitting = subject.on([_of_length(x, shipped.steps or len(x)) for x in subject.windows])
    engine, reference = (inside_engine(path, form, subject, make) for make in (onnxruntime_session, reference_session))
    for x in fitting.windows:
        yield replayed(path, "replay in ONNX Runtime", engine, subject, x)
    few = fitting.windows[0][: shipped.steps or _SHORT, :_SMALL]
    yield replayed(path, "replay in onnx's reference evaluator", reference, subject, few)
    alone = answering(shipped)
    yield identical_runs(path, fitting, alone, engine)
    yield same(path, f"{form}, states inside = eager", fitting, alone, shown=engine)
    if subject.face.every_step:
        yield Check(path.name, "answers on the test split", "not run", _CARRIED)
    else:
        yield on_test_split(path, subject, alone, shown=engine, steps=shipped.steps)


def inside_engine(
    path: Path, form: Form, subject: Subject, make: Callable[[onnx.ModelProto], Session] = onnxruntime_session
) -> Engine:
    """Return the engine of an ONNX file with its states inside, its layers' values and its states shown.

    Args:
        path: the file.
        form: window, or unrolled.
        subject: its network.
        make: makes the session that runs it.

    Raises:
        ExportError: the file cannot be read, or does not hold the layers or states.
    """
    opened = opened_up(path, form, subject.network)
    made = {name for node in opened.model.graph.node for name in node.output}
    for each in subject.face.states:
        name = state_after(each.name)
        if name not in made:
            raise ExportError(f"{path} has no value {name}")
        opened.model.graph.output.append(helper.make_empty_tensor_value_info(name))
    return window_engine(_from_zeros(make(opened.model)), subject.face, opened.values)


def _from_zeros(session: Session) -> Session:
    """Return the session of a graph with its states inside, in the place of one that takes them.

    Calling it with a state that is not zero raises an ExportError: such a graph cannot begin there.
    """

    def run(feeds: dict[str, Any]) -> dict[str, Any]:
        for name, value in feeds.items():
            if name != "x" and torch.as_tensor(value).any():
                raise ExportError(f"the graph has its states inside, so {name} must begin at zero")
        return session({"x": feeds["x"]})

    return run


def answering(graph: Graph) -> Engine:
    """Return the engine of a graph with its states inside, as it ships: it answers, and shows nothing else."""
    call = _from_zeros(graph.call)

    def run(x: Tensor, state: State | None = None) -> Run:
        given = {name: value.numpy() for name, value in (state or {}).items()}
        return Run(torch.from_numpy(call({"x": x.numpy(), **given})["logits"]), {}, {})

    return run


def _of_length(x: Tensor, steps: int) -> Tensor:
    """Return a window of the given length: cut, or gone through again."""
    return x.repeat(-(-steps // len(x)), *[1] * (x.ndim - 1))[:steps].contiguous()
