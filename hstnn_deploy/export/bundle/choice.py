"""Choose the fastest form of the ONNX graph on this machine: measured, in turns, on the network itself.

Shapes: T time, B batch.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from hstnn_deploy import environment
from hstnn_deploy.data import registry
from hstnn_deploy.data.registry import DataConfig
from hstnn_deploy.data.sets.nothing import PythonDataConfig
from hstnn_deploy.errors import UsageError
from hstnn_deploy.export.graph import forms
from hstnn_deploy.export.graph.forms import Form
from hstnn_deploy.export.graph.interface import interface
from hstnn_deploy.export.graph.write import build_onnx
from hstnn_deploy.export.runtime.ort import Graph, open_graph
from hstnn_deploy.models.network import Network

Dynamic = Literal["time,batch", "batch"]
"""Which axes a graph must leave free."""

K = TypeVar("K")

_ROUNDS, _MOST_SECONDS = 20, 4.0
_WARM_UP = 2
_MOST_UNROLLED = 200
"""Steps beyond which a graph is not unrolled to be measured: its file grows with every step."""


@dataclass(frozen=True)
class Choice:
    """What was measured, and the form that was kept."""

    form: Form
    dynamic: Dynamic
    steps: int
    batch: int
    milliseconds: dict[str, float]
    """Median time of a window of `steps` steps, by form; a step graph is called that many times."""
    left_out: dict[str, str]
    """Forms that were not measured, and why."""
    machine: str

    def plain(self) -> dict[str, Any]:
        """Return plain data for the manifest."""
        return asdict(self)

    def __str__(self) -> str:
        figures = ", ".join(f"{form} {value:.3g} ms" for form, value in self.milliseconds.items())
        out = "".join(f"; {form} not measured: {why}" for form, why in self.left_out.items())
        return f"kept {self.form}: {figures} for {self.steps} steps at batch {self.batch}{out}"


def steps_of(config: DataConfig) -> int:
    """Return how many steps a sample of a data set has; of a text, a window."""
    if isinstance(config, PythonDataConfig):
        return config.steps
    shape = registry.shape(config)
    return shape.steps if shape else int(getattr(config, "bptt", 1))


def check_dynamic(wanted: Form, dynamic: Dynamic | None) -> None:
    """Refuse a form that does not leave free what must be free.

    Raises:
        UsageError: an unrolled graph with free time.
    """
    if wanted == "unrolled" and dynamic == "time,batch":
        raise UsageError(
            "an unrolled graph takes windows of one length: its time axis is fixed",
            "add --dynamic batch, or choose the window or step form",
        )


def choose_form(network: Network, dynamic: Dynamic, steps: int, batch: int = 1, inside: bool = False) -> Choice:
    """Measure the forms that leave the wanted axes free on this machine; return the fastest.

    Args:
        network: the network, on the CPU.
        dynamic: which axes must be free.
        steps: T of the window that is measured, and of an unrolled graph.
        batch: B.
        inside: whether the graph must have its states inside.
    """
    left_out: dict[str, str] = {}
    if dynamic == "time,batch":
        left_out["unrolled"] = "its time axis is fixed"
    elif steps > _MOST_UNROLLED:
        left_out["unrolled"] = f"{steps} steps are too many to unroll (most {_MOST_UNROLLED})"
    if inside:
        left_out["step"] = "its states cannot be inside"
    face = interface(network)
    x = face.example(steps, batch).numpy()
    calls: dict[Form, Callable[[], object]] = {}
    for form in forms.FORMS:
        if form not in left_out:
            graph = open_graph(build_onnx(network, form, {}, steps=steps).SerializeToString())
            calls[form] = calling(graph, form, x)
    spent = in_turns(calls)
    best = min(calls, key=lambda form: spent[form])
    milliseconds: dict[str, float] = {form: 1e3 * seconds for form, seconds in spent.items()}
    machine = f"{environment.cpu_name()}, {os.cpu_count()} cores"
    return Choice(best, dynamic, steps, batch, milliseconds, left_out, machine)


def calling(graph: Graph, form: Form, x: np.ndarray[Any, Any]) -> Callable[[], object]:
    """Return what runs a graph over a window x[T, B, …]: at once, or step by step."""
    if form != "step":
        return lambda: graph.run(x)

    def call() -> None:
        state = None
        for now in x:
            _, state = graph.step(now, state)

    return call


def in_turns(calls: Mapping[K, Callable[[], object]]) -> dict[K, float]:
    """Return the median seconds of each call; calls alternate, so that a busy moment affects all of them."""
    spent: dict[K, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for turn in range(_WARM_UP + _ROUNDS):
        if turn > _WARM_UP and time.perf_counter() - begin > _MOST_SECONDS:
            break
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= _WARM_UP:
                spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in spent.items()}
