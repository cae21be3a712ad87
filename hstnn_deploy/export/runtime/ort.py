"""An ONNX file in a session of ONNX Runtime, on the provider that was asked for. Needs numpy and onnxruntime alone.

Shapes: T time, B batch, C classes. x is [T, B, …] for a window graph and [B, …] for a step graph; where preprocessing
is in the graph, raw pixels or events stand in its place.
"""

import contextlib
import io
import json
import operator
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import DeviceError, ExportError, HstnnError, OutOfMemoryError, UsageError, out_of_memory
from hstnn_deploy.foreign import first_line

Array = NDArray[Any]
State = dict[str, Any]
"""States by name: arrays, or values on the device that the graph runs on; see `fetch`."""

Exits = Array | None
"""Of each sample 1 where its answer may be given, else 0, [B]; None of a graph that does not say."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NEXT = "_next"
EXIT = "exit"
"""The name of what says whether an answer may be given."""
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
        self.x = self.inputs[0] if self.inputs else ""
        """The name of what is not a state: x, or image, column, events or frame_events; "" without inputs."""
        self.outputs = [value.name for value in session.get_outputs()]
        self.states = [name for name in self.inputs[1:] if name + _NEXT in self.outputs]
        """The names of the states that go in and, with `_next` behind the name, come out."""
        self._shapes = {value.name: list(value.shape) for value in session.get_inputs()}
        self._dtypes = {value.name: np.dtype(_DTYPES.get(value.type, np.float32)) for value in session.get_inputs()}
        # Looked up once, not at each of a million steps.
        self._on_device = provider == _PROVIDERS["cuda"]
        self._names = frozenset(self.states)
        self._after = [(name, self.outputs.index(name + _NEXT)) for name in self.states]
        self._logits = self.outputs.index("logits") if "logits" in self.outputs else 0
        self._exit = self.outputs.index(EXIT) if EXIT in self.outputs else -1

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
            OutOfMemoryError: it does not fit into memory.
        """
        return dict(zip(self.outputs, self._call(dict(feeds)), strict=True))

    def _call(self, feeds: dict[str, Any]) -> Any:
        try:
            return self._session.run(self.outputs, feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise _cannot("the graph cannot run on this input", error) from error

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
            OutOfMemoryError: it does not fit into memory.
        """
        logits, after, _ = self.leave(x, state, frames)
        return logits, after

    def leave(self, x: Array, state: State | None = None, frames: int | None = None) -> tuple[Array, State, Exits]:
        """Run the graph as `step` does; return also whether each answer may be given, [B], if the graph says so."""
        values = self._input(x)
        given = state or {}
        if not given.keys() >= self._names:
            # Raw events do not say how many recordings they are of: who runs several gives their states.
            axis = self.shape.index("B") if "B" in self.shape else -1
            given = self.zeros(values.shape[axis] if 0 <= axis < values.ndim == len(self.shape) else 1) | given
        feeds = {self.x: values, **given}
        if frames is not None:
            feeds["frames"] = np.array(frames, np.int64)
        if self._on_device:
            return self._step_on_device(feeds)
        outputs = self._call(feeds)
        left = outputs[self._exit] if self._exit >= 0 else None
        return outputs[self._logits], {name: outputs[place] for name, place in self._after}, left

    def _input(self, x: Array) -> Array:
        wanted = self._dtypes[self.x]
        if type(x) is np.ndarray and x.dtype == wanted and x.flags.c_contiguous:
            return x
        if wanted.kind in "iu" and not np.can_cast(np.asarray(x).dtype, wanted, "safe"):
            what = "words by number" if self.x == "x" else f"raw {self.x}"
            raise ExportError(f"{self.x} is {np.asarray(x).dtype}; the graph takes {what}, {wanted}")
        return np.ascontiguousarray(x, dtype=wanted)

    def _step_on_device(self, feeds: dict[str, Any]) -> tuple[Array, State, Exits]:
        binding = self._session.io_binding()
        try:
            for name, value in feeds.items():
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, value)
                else:
                    binding.bind_ortvalue_input(name, value)
            for name in self.outputs:
                comes_back = name in ("logits", EXIT)
                binding.bind_output(name, "cpu" if comes_back else "cuda", 0 if comes_back else self._device)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # as above
            raise _cannot("the graph cannot run on this input", error) from error
        values = dict(zip(self.outputs, binding.get_outputs(), strict=True))
        left = values[EXIT].numpy() if EXIT in values else None
        return values["logits"].numpy(), {name: values[name + _NEXT] for name in self.states}, left


class Bound:
    """A step graph on the CPU, bound once to arrays of its own: a step costs no more than ONNX Runtime itself.

    There are two sets of states. A step reads one and writes the other, so that one that fails has changed nothing.

    Args:
        graph: of steps, whose shapes are all known but for the batch; see `bindable`.
        batch: B.
    """

    def __init__(self, graph: Graph, batch: int) -> None:
        from onnxruntime import OrtValue

        shape = [batch if size == "B" else int(size) for size in graph.shape]
        self._x = np.zeros(shape, graph._dtypes[graph.x])
        self._logits = np.zeros((batch, int(graph._session.get_outputs()[graph._logits].shape[-1])), np.float32)
        self._left = np.zeros(batch, np.float32) if graph._exit >= 0 else None
        self._states = graph.zeros(batch), graph.zeros(batch)
        self._turn = 0
        self._run, self._bindings = graph._session.run_with_iobinding, []
        for before, after in (self._states, self._states[::-1]):
            binding = graph._session.io_binding()
            arrays = {graph.x: self._x, **before}
            results = {"logits": self._logits, **{name + _NEXT: value for name, value in after.items()}}
            if self._left is not None:
                results[EXIT] = self._left
            for name, array in arrays.items():
                binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
            for name, array in results.items():
                binding.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(array))
            self._bindings.append(binding)

    def step(self, x: Array, state: State) -> tuple[Array, State]:
        """Run a step; see `Graph.step`. The states that it returns are overwritten by the step after the next."""
        logits, after, _ = self.leave(x, state)
        return logits, after

    def leave(self, x: Array, state: State) -> tuple[Array, State, Exits]:
        """Run a step as `step` does; see `Graph.leave`."""
        before = self._states[self._turn]
        if state is not before:
            for name, value in before.items():
                np.copyto(value, state[name])
        np.copyto(self._x, x)
        try:
            self._run(self._bindings[self._turn])
        except Exception as error:  # as in `Graph`
            raise _cannot("the graph cannot run on this input", error) from error
        self._turn = 1 - self._turn
        left = None if self._left is None else self._left.copy()
        return self._logits.copy(), self._states[self._turn], left


def bindable(graph: Graph) -> bool:
    """Return whether a graph can be bound once for all steps: not on a GPU, nor where what comes in varies in size."""
    sizes = [size for size in graph.shape if size != "B"]
    return not graph._on_device and bool(graph.states) and all(isinstance(size, int) for size in sizes)


def fetch(state: State) -> dict[str, Array]:
    """Return states as arrays in host memory, wherever they are."""
    return {name: value if isinstance(value, np.ndarray) else value.numpy() for name, value in state.items()}


def open_graph(source: Path | bytes, provider: str = "cpu", threads: int | None = None) -> Graph:
    """Open an ONNX file (or its bytes) on a provider: `cpu`, `cuda` or `cuda:n`.

    Raises:
        UsageError: an unknown provider, or an impossible number of threads.
        ExportError: the file cannot be loaded.
        DeviceError: the provider is not there, or the session would run on another.
    """
    wanted, device = _provider(provider)
    session = _session(source, provider, _options(threads))
    running = session.get_providers()[0]
    if running != wanted:
        raise DeviceError(
            f"{wanted} is not available: ONNX Runtime would run {_name(source)} on {running}",
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
        options.intra_op_num_threads = whole_number(threads, "threads")
    return options


def whole_number(value: Any, what: str) -> int:
    """Return a number of something.

    Raises:
        UsageError: it is no whole number, or less than 1.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise UsageError(f"{what} must be a whole number, at least 1 (got {value!r})", "give 1 or more")
    return number


def _session(source: Path | bytes, provider: str, options: Any) -> Any:
    import onnxruntime

    wanted, device = _provider(provider)
    if provider != "cpu":
        load_cuda_libraries()
        # It prints pages about missing libraries; the user gets one line, and `hstnn doctor` the reason.
        onnxruntime.set_default_logger_severity(4)
    if wanted not in onnxruntime.get_available_providers():
        raise DeviceError(f"{wanted} is not available: this onnxruntime was built without it", _DOCTOR)
    # Without TF32, which would round every product to ten bits: what was proved is float32.
    providers = [wanted] if provider == "cpu" else [(wanted, {"device_id": device, "use_tf32": 0})]
    try:
        model = source if isinstance(source, bytes) else str(source)
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise _cannot(f"ONNX Runtime cannot load {_name(source)}", error) from error


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


def _cannot(what: str, error: Exception) -> HstnnError:
    """Return what ONNX Runtime's exception comes to."""
    if full := out_of_memory(error):
        return OutOfMemoryError(f"{what}: {full.message}", "give fewer sequences, or shorter ones, at once")
    return ExportError(f"{what}: {first_line(error)}")
