"""Run a written file and look inside it: what every layer's units emitted, beside the logits and states.

The ONNX files are opened from disk and the values they compute anyway are put on the list of outputs, so that what is
checked is the file that ships.

Shapes: T time, B batch, n units of a group.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from hstnn_deploy.errors import ExportError
from hstnn_deploy.export.graph import raw_input
from hstnn_deploy.export.graph.forms import Form, at_single_step
from hstnn_deploy.export.graph.interface import Interface, interface, state_after
from hstnn_deploy.export.graph.reading import NOW, at_step
from hstnn_deploy.export.proof.certificate import Run
from hstnn_deploy.export.runtime.ort import Graph, open_graph
from hstnn_deploy.foreign import one_line
from hstnn_deploy.models.exits import EXIT
from hstnn_deploy.models.network import Network, Tap

State = dict[str, Tensor]

Engine = Callable[[Tensor, State | None], Run]
"""From an input x[T, B, …] and the states before it (None: zeros) to what an engine made of it."""

Session = Callable[[dict[str, Any]], dict[str, Any]]
"""From named input arrays to all named outputs."""


class Opened(NamedTuple):
    """A graph with its layers' values among its outputs."""

    model: onnx.ModelProto
    values: dict[Tap, list[str]]
    """Of each tap: one output over the whole window, or one for each step."""


def read_model(path: Path) -> onnx.ModelProto:
    """Return the model of an ONNX file.

    Raises:
        ExportError: it cannot be read.
    """
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no public base
        raise ExportError(f"cannot read {path} as ONNX: {' '.join(str(error).split())}") from error


def read_network(path: Path) -> onnx.ModelProto:
    """Return the network's part of an ONNX file, which takes x: all of it, or what is behind its front.

    Raises:
        ExportError: it cannot be read.
    """
    return raw_input.split(read_model(path))[1]


@contextmanager
def network_alone(path: Path) -> Iterator[Path]:
    """Yield a file of the network's part of an ONNX file: itself, where it has no front."""
    head, network = raw_input.split(read_model(path))
    if head is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / path.name
        onnx.save(network, str(alone))
        yield alone


def open_network(path: Path, provider: str = "cpu") -> Graph:
    """Open the network's part of an ONNX file on a provider; see `ort.open_graph`."""
    with network_alone(path) as alone:
        return open_graph(alone, provider)


def opened_up(path: Path, form: Form, network: Network) -> Opened:
    """Return the model of an ONNX file with its layers' values among the graph's outputs.

    Args:
        path: the file; of one with a front, what is behind it is opened.
        form: its form.
        network: whose layers it is to hold.

    Raises:
        ExportError: the file cannot be read, or does not hold the layers.
    """
    model = read_network(path)
    face = interface(network)
    values = {tap: _show(model.graph, form, tap, at_single_step(tap, face)) for tap in network.taps}
    there = {output.name for output in model.graph.output}
    for name in (name for names in values.values() for name in names):
        if name not in there:
            model.graph.output.append(helper.make_empty_tensor_value_info(name))
    produced = {name for node in model.graph.node for name in node.output}
    if missing := {output.name for output in model.graph.output} - produced:
        raise ExportError(f"{path} has no value {min(missing)}")
    return Opened(model, values)


def _show(graph: onnx.GraphProto, form: Form, tap: Tap, single: str) -> list[str]:
    """Make what is handed out values of the outermost graph, if it is not; return their names."""
    whole = str(tap)
    if form == "step":
        return [single]
    if any(whole in node.output for node in graph.node):
        return [whole]
    for node in graph.node:
        if node.op_type == "Scan":
            body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
            if any(single + NOW in inner.output for inner in body.node):
                # A body may not hand out one value twice.
                shown = f"{whole}{NOW}_shown"
                body.node.append(helper.make_node("Identity", [single + NOW], [shown]))
                body.output.append(helper.make_empty_tensor_value_info(shown))
                node.output.append(whole)
                return [whole]
        if "LSTM" in node.op_type and f"h{tap.layer}_next_row" in node.output:
            # It was not asked for h at every step.
            rows, axis = f"{whole}_rows", f"{whole}_axis"
            node.output[0] = rows
            graph.initializer.append(helper.make_tensor(axis, TensorProto.INT64, [1], [1]))
            graph.node.append(helper.make_node("Squeeze", [rows, axis], [whole]))
            return [whole]
    steps = graph.input[0].type.tensor_type.shape.dim[0].dim_value if form == "unrolled" else 0
    return [at_step(single, t) for t in range(steps)] or [whole]


def onnxruntime_session(model: onnx.ModelProto, provider: str = "cpu") -> Session:
    """Return a session of ONNX Runtime on a provider; see `runtime.open_graph`."""
    return open_graph(model.SerializeToString(), provider).call


def reference_session(model: onnx.ModelProto) -> Session:
    """Return a session of onnx's own reference evaluator: slow, and written by other hands."""
    from onnx.reference import ReferenceEvaluator

    # It hands what an output of no name holds to every input that is left out: give them names.
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for number, node in enumerate(named.graph.node):
        node.output[:] = [name or f"unused_{number}_{place}" for place, name in enumerate(node.output)]
    evaluator = ReferenceEvaluator(named)
    names = [output.name for output in model.graph.output]
    return lambda feeds: dict(zip(names, evaluator.run(None, feeds), strict=True))


def window_engine(session: Session, face: Interface, values: dict[Tap, list[str]]) -> Engine:
    """Return the engine of an opened-up window graph, or of an unrolled one."""

    def run(x: Tensor, state: State | None = None) -> Run:
        found = session({"x": x.numpy(), **_arrays(face, x.shape[1], state)})
        taps = {tap: _together([found[name] for name in names], len(x)) for tap, names in values.items()}
        after = {each.name: torch.from_numpy(found[state_after(each.name)]) for each in face.states}
        return Run(torch.from_numpy(found["logits"]), taps, after)

    return run


def _together(arrays: list[Any], steps: int) -> Tensor:
    """Return one array of a whole window as it is, or arrays of single steps stacked."""
    if len(arrays) == 1 and (steps != 1 or len(arrays[0]) == 1):
        return torch.from_numpy(arrays[0])
    return torch.from_numpy(np.stack(arrays))


def step_engine(session: Session, face: Interface, values: dict[Tap, list[str]]) -> Engine:
    """Return the engine that feeds an opened-up step graph its own states, one time step after another."""

    def run(x: Tensor, state: State | None = None) -> Run:
        now = _arrays(face, x.shape[1], state)
        steps: list[dict[str, Any]] = []
        for x_t in x.numpy():
            steps.append(session({"x": x_t, **now}))
            now = {each.name: steps[-1][state_after(each.name)] for each in face.states}

        def over_time(name: str) -> Tensor:
            return torch.from_numpy(np.stack([found[name] for found in steps]))

        return Run(
            over_time("logits") if face.every_step else torch.from_numpy(steps[-1]["logits"]),
            {tap: over_time(names[0]) for tap, names in values.items()},
            {name: torch.from_numpy(value) for name, value in now.items()},
            torch.from_numpy(steps[-1][EXIT]) if face.leaves else None,
        )

    return run


def graph_engine(graph: Graph, face: Interface) -> Engine:
    """Return the engine that calls a graph as whoever deploys it does, its states where they are left.

    A step graph takes windows of one step. It does not show its layers.
    """

    def run(x: Tensor, state: Any = None) -> Run:
        single = len(graph.shape) < x.ndim
        logits, after, left = graph.leave(x[0].numpy() if single else x.numpy(), state)
        found = torch.from_numpy(logits)
        exit = None if left is None else torch.from_numpy(left)
        return Run(found[None] if single and face.every_step else found, {}, after, exit)

    return run


def module_engine(module: Any, face: Interface) -> Engine:
    """Return the engine of a torch module with the network's one call; it does not show its layers."""

    @torch.no_grad()
    def run(x: Tensor, state: State | None = None) -> Run:
        try:
            logits, after, *left = module(x, face.zeros(x.shape[1]) | (state or {}))
            if len(left) != face.leaves:
                raise ValueError("it does not return an exit" if face.leaves else "it returns more than it should")
            return Run(logits, {}, dict(after), left[0] if left else None)
        except Exception as error:  # a file may hold any other module
            raise ExportError(f"its call differs from the network's: {one_line(str(error))}") from error

    return run


def network_engine(network: Network, show: bool = False) -> Engine:
    """Return the engine that is the network itself.

    Args:
        network: in evaluation mode, on the CPU.
        show: whether it shows its layers, maps pooled as they go up. What it computes is the same, to the bit.
    """

    @torch.no_grad()
    def run(x: Tensor, state: State | None = None) -> Run:
        start = None if state is None else network.initial_state(x) | state
        rows: dict[Tap, list[Tensor]] = {tap: [] for tap in network.taps} if show else {}
        hooks = [network.taps[tap].register_forward_hook(_noting(parts)) for tap, parts in rows.items()]
        try:
            logits, after = network(x, start)
        finally:
            for hook in hooks:
                hook.remove()
        return Run(logits, {tap: torch.cat(parts) for tap, parts in rows.items()}, dict(after))

    return run


def _noting(parts: list[Tensor]) -> Callable[[Any, Any, Any], None]:
    """Return a hook that notes what a group emitted; convolutional layers run a window in parts."""
    return lambda _group, _inputs, outputs: parts.append(outputs[0].clone())


def in_chunks(engine: Engine, sizes: Sequence[int], face: Interface) -> Engine:
    """Return the engine that takes a window in chunks of the given sizes, over and over, carrying the state."""

    def run(x: Tensor, state: State | None = None) -> Run:
        runs: list[Run] = []
        start = 0
        while start < len(x):
            size = sizes[len(runs) % len(sizes)]
            runs.append(engine(x[start : start + size], state))
            state = runs[-1].state
            start += size
        taps = {tap: torch.cat([each.taps[tap] for each in runs]) for tap in runs[0].taps}
        logits = torch.cat([each.logits for each in runs]) if face.every_step else runs[-1].logits
        return Run(logits, taps, runs[-1].state, runs[-1].exit)

    return run


def _arrays(face: Interface, batch: int, state: State | None) -> dict[str, Any]:
    return {name: value.numpy() for name, value in (face.zeros(batch) | (state or {})).items()}
