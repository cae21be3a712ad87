"""An interpreter of NIR graphs, written from NIR's own definitions and nothing of this package, in float64.

Differential equations are solved over a step as the method says, one after the other: the synaptic current first, then
the membrane with that current held over the step, then the spike and its reset. Edges that meet are added. What comes
back from a node that has not run in this step yet is what it gave at the step before, zero at first.
"""

from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]


class Interpreter:
    """Runs a graph step by step."""

    def __init__(self, graph: Any, dt: float, method: str = "euler") -> None:
        self.graph, self.dt, self.method = graph, dt, method
        self.before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.before[target].append(source)
        self.inner = {
            name: Interpreter(node, dt, method) for name, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)
        }
        self.states: dict[str, dict[str, Array]] = {name: {} for name in graph.nodes}
        self.last: dict[str, Array] = {}

    def step(self, x: Array) -> dict[str, Array]:
        """Run a step x[B, …]; return what each node gives."""
        now: dict[str, Array] = {}
        under_way: set[str] = set()

        def value(name: str) -> Array:
            if name in now:
                return now[name]
            if name in under_way:
                return self.last.get(name, np.zeros(1))
            under_way.add(name)
            sources = self.before[name]
            total = sum((value(source) for source in sources[1:]), value(sources[0])) if sources else x
            now[name] = self.run(name, np.asarray(total, np.float64))
            return now[name]

        for name in self.graph.nodes:
            value(name)
        self.last = dict(now)
        return now

    def run(self, name: str, x: Array) -> Any:
        node, state = self.graph.nodes[name], self.states[name]
        if x.ndim == 1 and hasattr(node, "weight"):
            # Before the first step, what comes back is zero, of whatever shape.
            x = np.zeros((1, *([node.weight.shape[1]] if node.weight.ndim == 2 else node.input_type["input"])))
        if name in self.inner:
            given = self.inner[name].step(x)
            (end,) = self.inner[name].graph.outputs
            return np.asarray(given[end])
        match node:
            case nir.Input() | nir.Output():
                return x
            case nir.Affine():
                return x @ np.float64(node.weight).T + node.bias
            case nir.Linear():
                return x @ np.float64(node.weight).T
            case nir.Scale():
                return x * np.float64(node.scale)
            case nir.Conv1d():
                return self.convolve(torch.nn.functional.conv1d, node, x)
            case nir.Conv2d():
                return self.convolve(torch.nn.functional.conv2d, node, x)
            case nir.SumPool2d() | nir.AvgPool2d():
                size, stride = (tuple(np.ravel(each).tolist()) for each in (node.kernel_size, node.stride))
                size = size if len(size) == 2 else size * 2
                mean: Array = torch.nn.functional.avg_pool2d(torch.from_numpy(x), size, stride).numpy()
                return mean * (np.prod(size) if isinstance(node, nir.SumPool2d) else 1)
            case nir.Flatten():
                begin, end = int(node.start_dim), int(node.end_dim)
                # The batch is an axis more; from the end, axes count as they are.
                return torch.from_numpy(x).flatten(begin + (begin >= 0), end + (end >= 0)).numpy()
            case nir.Delay():
                steps = round(float(np.ravel(node.delay)[0]) / self.dt)
                line = state.setdefault("line", np.zeros((steps, *x.shape)))
                state["line"] = np.concatenate([line, x[None]])[1:] if steps else line
                return line[0] if steps else x
            case nir.Threshold():
                return np.where(x > np.float64(node.threshold), 1.0, 0.0)
        return self.neuron(node, state, x)

    def neuron(self, node: Any, state: dict[str, Array], x: Array) -> Array:
        v = state.get("v", np.zeros_like(x))
        if hasattr(node, "tau_syn"):
            i = self.towards(state.get("i", np.zeros_like(x)), np.float64(node.w_in) * x, node.tau_syn)
            state["i"] = x = i
        tau = getattr(node, "tau", getattr(node, "tau_mem", None))
        drive = np.float64(node.r) * x
        v = v + self.dt * drive if tau is None else self.towards(v, np.float64(node.v_leak) + drive, tau)
        if not hasattr(node, "v_threshold"):
            state["v"] = v
            return v
        fired = v > np.float64(node.v_threshold)
        state["v"] = np.where(fired, np.float64(node.v_reset), v)
        return np.where(fired, 1.0, 0.0)

    def towards(self, v: Array, goal: Array, tau: Array) -> Array:
        """Return v after a step of tau dv/dt = goal - v."""
        share = self.dt / np.float64(tau)
        moved = share if self.method == "euler" else -np.expm1(-share)
        return np.asarray(v + moved * (goal - v))

    @staticmethod
    def convolve(how: Any, node: Any, x: Array) -> Array:
        weight, bias = (torch.as_tensor(np.asarray(each, np.float64)) for each in (node.weight, node.bias))
        padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
        stride, dilation = (tuple(np.ravel(each).tolist()) for each in (node.stride, node.dilation))
        padding = padding if isinstance(padding, str) else tuple(np.ravel(padding).tolist())
        found: Array = how(torch.from_numpy(x), weight, bias, stride, padding, dilation, int(node.groups)).numpy()
        return found


def interpret(graph: Any, x: Array, dt: float, method: str = "euler") -> tuple[list[Array], Array]:
    """Run x[T, B, …]; return the spikes and membranes of every neuron node in the order of their names, and outputs."""
    runner = Interpreter(graph, dt, method)
    names = neurons(graph)
    rows: dict[str, list[Array]] = {name: [] for name in names}
    outputs = []
    (end,) = graph.outputs
    for now in x:
        outputs.append(runner.step(now.astype(np.float64))[end])
        for name in names:
            rows[name].append(_last(runner, name))
    return [np.stack(each) for each in rows.values()], np.stack(outputs)


_NEURONS = (nir.LIF, nir.IF, nir.CubaLIF, nir.LI, nir.I, nir.CubaLI, nir.Threshold)


def neurons(graph: Any, place: str = "") -> list[str]:
    """Return the names of neuron nodes, those in sub-graphs as `outer/inner`."""
    found = []
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            found += neurons(node, f"{place}{name}/")
        elif isinstance(node, _NEURONS):
            found.append(f"{place}{name}")
    return sorted(found)


def _last(runner: Interpreter, name: str) -> Array:
    head, _, rest = name.partition("/")
    return _last(runner.inner[head], rest) if rest else runner.last[head]
