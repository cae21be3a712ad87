"""Run exported ONNX graphs. Needs numpy and onnxruntime, nothing else: neither torch nor the rooms that train.

Shapes: T time, B batch, I inputs, C classes.
"""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import ExportError, UsageError

Array = NDArray[np.float32]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NEXT = "_next"


class Graph:
    """An ONNX graph in a session: the window graph by `run`, the step graph by `step`."""

    def __init__(self, session: Any, provider: str) -> None:
        self._session = session
        self.provider = provider
        """The provider that really runs the graph."""
        self.inputs = [value.name for value in session.get_inputs()]
        self.outputs = [value.name for value in session.get_outputs()]
        self._widths = {value.name: value.shape[-1] for value in session.get_inputs()}

    @property
    def states(self) -> list[str]:
        """The names of the states that go in and, with `_next` behind the name, come out."""
        return [name for name in self.inputs if name != "x"]

    def call(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Run the graph on named arrays; return all its outputs by name.

        Raises:
            ExportError: an array does not fit the graph.
        """
        try:
            values = self._session.run(None, feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise ExportError(f"the graph cannot run on this input: {_first_line(error)}") from error
        return dict(zip(self.outputs, values, strict=True))

    def run(self, x: Array) -> Array:
        """Run a window graph on x[T, B, I]; return logits [B, C]."""
        return self.call({"x": np.ascontiguousarray(x, dtype=np.float32)})["logits"]

    def zeros(self, batch: int) -> dict[str, Array]:
        """Return the states of a stream that has seen nothing, [batch, n] each."""
        return {name: np.zeros((batch, self._widths[name]), np.float32) for name in self.states}

    def step(self, x: Array, state: dict[str, Array] | None = None) -> tuple[Array, dict[str, Array]]:
        """Run a step graph on x[B, I] from `state` (None: zeros); return logits [B, C] and the state after it."""
        given = self.zeros(len(x)) if state is None else state
        values = self.call({"x": np.ascontiguousarray(x, dtype=np.float32), **given})
        return values["logits"], {name: values[name + _NEXT] for name in self.states}


def open_graph(source: Path | bytes, provider: str = "cpu", threads: int | None = None) -> Graph:
    """Open an ONNX file (or its bytes) on a provider, `cpu` or `cuda`.

    Raises:
        UsageError: an unknown provider.
        ExportError: the file cannot be loaded, or the session runs on another provider than the one asked for.
    """
    import onnxruntime

    if provider not in _PROVIDERS:
        raise UsageError(f"unknown provider {provider!r}", f"known: {', '.join(_PROVIDERS)}")
    wanted = _PROVIDERS[provider]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    name = "the model" if isinstance(source, bytes) else str(source)
    if provider == "cuda":
        load_cuda_libraries()
    try:
        model = source if isinstance(source, bytes) else str(source)
        session = onnxruntime.InferenceSession(model, options, providers=[wanted])
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load {name}: {_first_line(error)}") from error
    running = session.get_providers()[0]
    if running != wanted:
        raise ExportError(
            f"{wanted} was asked for, but ONNX Runtime would run {name} on {running}",
            "run `hstnn doctor` to see which providers load, or use the CPU",
        )
    return Graph(session, running)


def load_cuda_libraries() -> None:
    """Load the CUDA libraries that came as Python packages, torch's for one: the system's loader does not look there.

    Says nothing where there are none; whether CUDA works is for a session to show.
    """
    import onnxruntime

    # It prints what it misses, to standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
