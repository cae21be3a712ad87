"""An ONNX file in a session of ONNX Runtime, on the provider that was asked for. Needs numpy and onnxruntime alone.

Shapes: T time, B batch, C classes. x is [T, B, …] for a window graph and [B, …] for a step graph; where preprocessing
is in the graph, raw pixels or events stand in its place.
"""

import contextlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DeviceError, ExportError, UsageError, out_of_memory

Array = NDArray[Any]
State = dict[str, Any]
"""States by name: arrays, or values on the device that the graph runs on; see `fetch`."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NEXT = "_next"
_DOCTOR = "run `hstnn doctor` to see which providers load, or use the CPU"
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
}


class Graph:
    """An ONNX graph in a session: a window by `run`, a step or a chunk of a longer sequence by `step`.

    On a CPU, states are arrays. On a GPU they stay there: each step hands the next one its states where they lie, and
    only x goes there and only the logits come back.
    """

    def __init__(self, session: Any, provider: str, device: int = 0) -> None:
        self._session = session
        self.provider = provider
        """The provider that runs the graph."""
        self._device = device
        self.inputs = [value.name for value in session.get_inputs()]
        self.x = self.inputs[0]
        """The name of what is not a state: x, or image, column, events or frame_events."""
        self.outputs = [value.name for value in session.get_outputs()]
        self._shapes = {value.name: list(value.shape) for value in session.get_inputs()}
        self._dtypes = {value.name: _DTYPES.get(value.type, np.float32) for value in session.get_inputs()}

    @property
    def states(self) -> list[str]:
        """The names of the states that go in and, with `_next` behind the name, come out."""
        return [name for name in self.inputs if name != self.x]

    @property
    def shape(self) -> list[int | str]:
        """The shape of x; an axis that is free goes by its name."""
        return self._shapes[self.x]

    @property
    def steps(self) -> int:
        """The number of steps that the graph takes at once, or 0 where it takes any, or one without an axis for it."""
        first = (self.shape or [0])[0]
        return first if isinstance(first, int) else 0

    def call(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph on named arrays; return all its outputs by name.

        Raises:
            ExportError: an array does not fit the graph.
        """
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            refused = ExportError(f"the graph cannot run on this input: {_first_line(error)}")
            raise (out_of_memory(error) or refused) from error
        return dict(zip(self.outputs, values, strict=True))

    def run(self, x: Array) -> Array:
        """Run a graph on x from zero states; return the logits, [B, C] or at every step [T, B, C]."""
        return self.step(x)[0]

    def zeros(self, batch: int) -> State:
        """Return the states of streams that have seen nothing, [batch, …] each."""
        return {name: np.zeros((batch, *self._shapes[name][1:]), self._dtypes[name]) for name in self.states}

    def step(self, x: Array, state: State | None = None, frames: int | None = None) -> tuple[Array, State]:
        """Run the graph on x, one step or a chunk, from `state`; return the logits and the state after it.

        Args:
            x: what comes next; of a language model, whole numbers.
            state: what the call before returned, or None for zeros. A state that is left out is zero.
            frames: of a window of raw events, how many frames to make; None: as many as in training.

        Raises:
            ExportError: an array does not fit the graph.
        """
        values = self._input(x)
        given = state or {}
        if not given.keys() >= set(self.states):
            # Raw events do not say how many recordings they are of: who runs several gives their states.
            axis = self.shape.index("B") if "B" in self.shape else -1
            given = self.zeros(values.shape[axis] if 0 <= axis < values.ndim == len(self.shape) else 1) | given
        feeds = {self.x: values, **given}
        if frames is not None:
            feeds["frames"] = np.array(frames, np.int64)
        if self.provider == _PROVIDERS["cuda"]:
            return self._step_on_device(feeds)
        outputs = self.call(feeds)
        return outputs["logits"], {name: outputs[name + _NEXT] for name in self.states}

    def _input(self, x: Array) -> Array:
        wanted = self._dtypes[self.x]
        if issubclass(wanted, np.integer) and not np.can_cast(np.asarray(x).dtype, wanted, "safe"):
            what = "words by number" if self.x == "x" else f"raw {self.x}"
            raise ExportError(f"{self.x} is {np.asarray(x).dtype}; the graph takes {what}, {np.dtype(wanted)}")
        return np.ascontiguousarray(x, dtype=wanted)

    def _step_on_device(self, feeds: dict[str, Any]) -> tuple[Array, State]:
        binding = self._session.io_binding()
        try:
            for name, value in feeds.items():
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, value)
                else:
                    binding.bind_ortvalue_input(name, value)
            for name in self.outputs:
                binding.bind_output(
                    name, "cpu" if name == "logits" else "cuda", 0 if name == "logits" else self._device
                )
            self._session.run_with_iobinding(binding)
        except Exception as error:  # as above
            refused = ExportError(f"the graph cannot run on this input: {_first_line(error)}")
            raise (out_of_memory(error) or refused) from error
        values = dict(zip(self.outputs, binding.get_outputs(), strict=True))
        return values["logits"].numpy(), {name: values[name + _NEXT] for name in self.states}


def fetch(state: State) -> dict[str, Array]:
    """Return states as arrays in host memory, wherever they are."""
    return {name: value if isinstance(value, np.ndarray) else value.numpy() for name, value in state.items()}


def open_graph(source: Path | bytes, provider: str = "cpu", threads: int | None = None) -> Graph:
    """Open an ONNX file (or its bytes) on a provider: `cpu`, `cuda` or `cuda:n`.

    Raises:
        UsageError: an unknown provider.
        ExportError: the file cannot be loaded.
        DeviceError: the provider is not there, or the session would run on another.
    """
    wanted, device = _provider(provider)
    session = _session(source, provider, _options(threads))
    running = session.get_providers()[0]
    if running != wanted:
        raise DeviceError(
            f"{wanted} was asked for, but ONNX Runtime would run {_name(source)} on {running}",
            _DOCTOR,
        )
    return Graph(session, running, device)


def placement(source: Path | bytes, feeds: Mapping[str, Array], provider: str = "cpu") -> dict[str, int]:
    """Run a graph once under ONNX Runtime's profiler; return how many kernel calls really ran on each provider.

    A session on CUDA leaves nodes that CUDA has no kernel for, or that only compute shapes, to the CPU: this says so.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = _options(None)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(source, provider, options)
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    providers = (event.get("args", {}).get("provider") for event in events if event.get("cat") == "Node")
    return dict(Counter(name for name in providers if name))


def _options(threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _session(source: Path | bytes, provider: str, options: Any) -> Any:
    import onnxruntime

    wanted, device = _provider(provider)
    if provider != "cpu":
        load_cuda_libraries()
        # It has pages to say of libraries that are missing; who asked gets one line, and `hstnn doctor` the reason.
        onnxruntime.set_default_logger_severity(4)
    if wanted not in onnxruntime.get_available_providers():
        raise DeviceError(f"{wanted} was asked for; this onnxruntime was built without it", _DOCTOR)
    # Without TF32, which would round every product to ten bits: what was proved is float32.
    providers = [wanted] if provider == "cpu" else [(wanted, {"device_id": device, "use_tf32": 0})]
    try:
        model = source if isinstance(source, bytes) else str(source)
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:
        refused = ExportError(f"ONNX Runtime cannot load {_name(source)}: {_first_line(error)}")
        raise (out_of_memory(error) or refused) from error


def _provider(name: str) -> tuple[str, int]:
    kind, colon, number = name.partition(":")
    if kind not in _PROVIDERS or (colon and (kind == "cpu" or not number.isdecimal())):
        raise UsageError(f"unknown provider {name!r}", f"known: {', '.join(_PROVIDERS)}, cuda:n")
    return _PROVIDERS[kind], int(number or 0)


def _name(source: Path | bytes) -> str:
    return "the model" if isinstance(source, bytes) else str(source)


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
