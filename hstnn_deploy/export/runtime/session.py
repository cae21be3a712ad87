"""Run a bundle: whole sequences, chunks of them, or step by step with states that can be kept, saved and restored.

    session = Session("bundle")
    logits = session.run(x)              # x[T, B, …], any T and B, from zero states

    stream = session.stream(batch=3)     # three sequences side by side
    for x_t in x:                        # x_t[B, …]
        logits = stream.step(x_t)
    stream.reset([1])                    # another sequence begins in the second place
    stream.save("state.npz")             # and later, perhaps elsewhere: session.restore("state.npz")

    session.run_early(x).steps           # of a bundle with an exit: each sample is answered at its own

However long x is, it goes through the graphs in chunks of at most `CHUNK_STEPS` steps and about `CHUNK_VALUES` values,
which hand on their states: memory is bounded, and Ctrl-C acts between chunks. x may be a `numpy.memmap`. What training
cannot have given is refused (see `ranges`), unless the session is told otherwise. Needs numpy and onnxruntime alone.
The logits are [B, C]: a score per class of everything seen, or a value per output of a regression; of a language model
[T, B, V] and, of a step, [B, V].

Where a bundle has its preprocessing in the graphs (`hstnn export --preprocess`), raw pixels or events stand in the
place of x; see `taking`. Shapes: T time, B batch (streams).
"""

import math
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.files.arrays import ARRAY_LIMIT, shown_bytes
from hstnn_deploy.errors import BundleError, DataError, UsageError
from hstnn_deploy.export.runtime.exits import Early, Leaving
from hstnn_deploy.export.runtime.inputs import Taking, taking
from hstnn_deploy.export.runtime.manifest import check_files, read_manifest
from hstnn_deploy.export.runtime.ort import EXIT, Bound, Graph, State, bindable, fetch, open_graph, whole_number
from hstnn_deploy.export.runtime.states import NamedState, fitting, read_states, stream_numbers, write_states
from hstnn_deploy.foreign import one_line

Array = NDArray[Any]
Run = Callable[[Array, State, int | None], tuple[Array, State]]
"""Runs a chunk from the states before it; of raw events, a chunk is a number of frames."""

CHUNK_STEPS = 512
"""The longest chunk: it takes a fraction of a second."""
CHUNK_VALUES = 2**22
"""About how many values a chunk has: those of x and of the states at each step, of all its samples."""

_FORMS = ("window", "step", "unrolled")
_INSIDE = ".inside"
"""In the name of a graph with its states inside: it begins at zeros and ends with its answer."""


class Session:
    """A bundle, opened to be run.

    Args:
        bundle: the folder.
        provider: what runs it: cpu, cuda or cuda:n. Never another than the one asked for.
        threads: CPU threads, or None for ONNX Runtime's own choice.
        smaller: which of the smaller graphs to run, such as int8-dynamic or fp16; None: those in full precision.
        check: whether to compare each file with its hash in the manifest before it is opened.
        any_range: whether x may hold what training cannot have given, such as values outside of 0 to 1 where it was
            pixels times 1 / 255. A network answers to that as surely as to anything; for those who know better.

    Raises:
        BundleError: no bundle, of another version, without an ONNX graph that passed its checks, or changed since.
        UsageError: an unknown provider, or an invalid number of threads.
        DeviceError: the provider is not there.
    """

    def __init__(
        self,
        bundle: Path | str,
        provider: str = "cpu",
        threads: int | None = None,
        *,
        smaller: str | None = None,
        check: bool = True,
        any_range: bool = False,
    ) -> None:
        self.folder = Path(bundle)
        self.manifest = read_manifest(self.folder)
        files: dict[str, Any] = self.manifest["files"]
        graphs = {name for name, facts in files.items() if facts["engine"] == "ONNX"}
        suffix = f".{smaller}.onnx" if smaller else ".onnx"
        self._files = {
            form: name
            for form in (*_FORMS, *(form + _INSIDE for form in _FORMS))
            if (name := f"model.{form}{suffix}") in graphs
        }
        if not self._files:
            what = ", ".join(files) or "no graph"
            raise BundleError(
                f"{self.folder} contains no verified {f'{smaller} ' if smaller else ''}ONNX graph; it contains {what}",
                "export the checkpoint with --onnx" + (", and --int8 or --fp16" if smaller else ""),
            )
        if check:
            check_files(self.folder, self.manifest, self._files.values())
        self._graphs: dict[str, Graph] = {}
        self._lock = threading.Lock()
        self._asked = provider, threads
        self.any_range = any_range
        """Whether x may hold what training cannot have given."""
        # One is opened at once, so that an error is raised now.
        form = next(iter(self._files))
        self.provider = self._graph(form).provider
        """The provider that runs the graphs, such as CPUExecutionProvider."""
        network = self.manifest["network"]
        self.states = [
            NamedState(
                each["name"], tuple(each["shape"][1:]), each["meaning"], each["reset"], each.get("dtype", "float32")
            )
            for each in network["states"]
        ]
        """The states by name, in the order in which the graphs take them."""
        self.window: int | None = network["window_steps"]
        """Of a language model: the words of a window; see `Stream.begin_window`."""
        facts = files[self._files[form]]
        x = facts["inputs"][0]
        self.taking: Taking = taking(facts, self.manifest.get("input", {}), any_range)
        """What it takes: arrays x, or raw pixels or events."""
        self.takes = self.taking.name
        """The same by its name: x, image or events."""
        self.step_shape: tuple[int, ...] = tuple(x["shape"][1 if form == "step" else 2 :])
        """Where it takes x: the shape of one time step of one sequence; () where it is a word's number."""
        self.tokens: bool = self.takes == "x" and x["dtype"] == "int64"
        """Whether x is words by number."""
        self.classes: int = facts["outputs"][0]["shape"][-1]
        """The number of classes, of words, or of values."""
        self.values: bool = "answer" in network
        """Whether its answers are values, of a regression."""
        self.class_names = [one_line(each) for each in network.get("classes", [])]
        """The names of the classes, where they have any."""
        if len(self.class_names) not in (0, self.classes):
            raise BundleError(
                f"{self.folder} names {len(self.class_names)} classes, but its graphs distinguish {self.classes}",
                "export the bundle again",
            )
        of_step = files[self._files["step"]]["outputs"] if "step" in self._files else []
        self.exit: dict[str, Any] | None = self.manifest.get("exit") if EXIT in [o["name"] for o in of_step] else None
        """By which rule and threshold its step graph says that an answer may be given early; None: it does not."""

    def __repr__(self) -> str:
        """Return in one line what is open."""
        return f"<Session of {self.folder}: {', '.join(self._files.values())}; {self.provider}>"

    def run(self, x: Array, batch: int | None = None) -> Array:
        """Run whole sequences x[T, B, …] from zero states; return the logits.

        Args:
            x: the sequences; or raw images or events.
            batch: of raw events: how many recordings they are of; None: up to the last that has one.

        Raises:
            DataError: x has another shape or type, or holds NaN, infinities, numbers that are no words, or what
                training cannot have given.
        """
        x = self.taking.shaped(x)
        samples = self.taking.batch(x)
        count = samples if batch is None else whole_number(batch, "batch")
        if self.whole_only and count != samples:
            raise DataError(
                f"the events are from {samples} recordings, not {count}: the graphs of {self.folder} count them",
                "export with --states named to set the number yourself",
            )
        # Samples do not know of each other: those that are too many for a chunk go through one part after another.
        most = count if self.takes == "events" else max(1, CHUNK_VALUES // self._values)
        parts = []
        for start in range(0, count, most):
            stream = Stream(self, min(most, count - start))
            parts.append(stream._run(self.taking.samples(x, start, start + most), whole=True)[0])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)

    def run_early(self, x: Array) -> Early:
        """Run sequences x[T, B, …] step by step from zero states; answer each sample at its exit.

        The step graph says after which step that is. A sample that never leaves is answered after its last step, and no
        step is taken once all have left.

        Raises:
            UsageError: the bundle says no exit.
            DataError: see `run`; values are checked step by step, up to the last one that is taken.
        """
        self.check_exit()
        x = self.taking.shaped(x)
        count = self.taking.batch(x)
        most = count if self.takes == "events" else max(1, CHUNK_VALUES // self._values)
        parts = []
        for start in range(0, count, most):
            part, size = self.taking.samples(x, start, start + most), min(most, count - start)
            stream, leaving = Stream(self, size), Leaving(size)
            for now in self.taking.split(part):
                logits = stream.step(now)
                assert stream.exit is not None
                if leaving.take(logits, stream.exit):
                    break
            parts.append(leaving.answers())
        return Early(np.concatenate([each.logits for each in parts]), np.concatenate([each.steps for each in parts]))

    def check_exit(self) -> None:
        """Refuse a bundle that does not say when an answer may be given.

        Raises:
            UsageError: it does not.
        """
        if self.exit is None:
            raise UsageError(
                f"{self.folder} has no early exit",
                "export its checkpoint again with --exit, such as --exit confidence=0.9, and a step graph",
            )

    @property
    def whole_only(self) -> bool:
        """Whether all its graphs have their states inside: they answer whole sequences, and there are no streams."""
        return all(form.endswith(_INSIDE) for form in self._files)

    def stream(self, batch: int = 1) -> "Stream":
        """Return `batch` streams that have seen nothing.

        Raises:
            UsageError: no such number, or the graphs have their states inside.
        """
        if self.whole_only:
            raise UsageError(
                f"the graphs of {self.folder} have their states inside: they answer whole sequences, not streams",
                "export with --states named or both, or with --form step too",
            )
        return Stream(self, whole_number(batch, "batch"))

    def restore(self, path: Path | str) -> "Stream":
        """Return the streams that `Stream.save` wrote.

        Raises:
            DataError: the file is missing, damaged, lacks a state, or holds the states of another network.
        """
        batch, state = read_states(Path(path), self._identity, self.states, self.folder)
        stream = Stream(self, batch)
        try:
            stream.state = state
        except UsageError as error:
            raise DataError(f"{path}: {error.message}", error.hint) from error
        return stream

    def checked(self, x: Any, *, time: bool = True, batch: int | None = None) -> Array:
        """Return x as the graphs take it.

        Args:
            x: [T, B, …], or of one step [B, …]; or raw pixels or events.
            time: whether x is a window, not a step.
            batch: B, where it must be this.

        Raises:
            DataError: it has another shape or type, or holds what cannot be; see `taking`.
        """
        return self.taking.checked(x, time, batch)

    @property
    def _identity(self) -> str:
        """What two bundles of one network have in common."""
        return str(self.manifest["checkpoint"]["sha256"])

    @property
    def _values(self) -> int:
        """Values that a step of one sample is, and leaves behind."""
        logits = self.classes if self.tokens else 0
        return self.taking.values + sum(math.prod(state.shape) for state in self.states) + logits

    def _graph(self, form: str) -> Graph:
        if form not in self._graphs:
            with self._lock:
                if form not in self._graphs:
                    self._graphs[form] = open_graph(self.folder / self._files[form], *self._asked)
        return self._graphs[form]

    @property
    def _unrolled(self) -> int:
        """T of the unrolled graph."""
        form = "unrolled" if "unrolled" in self._files else "unrolled" + _INSIDE
        facts = self.manifest["files"][self._files[form]]
        return int(facts.get("steps") or self._graph(form).steps)


class Stream:
    """Sequences side by side that a session runs step by step or in chunks; what `Session.stream` returns.

    Several threads may use one: their steps and chunks follow one another, in the order in which they come.
    """

    def __init__(self, session: Session, batch: int) -> None:
        self.session = session
        self.batch = batch
        """The number of streams B."""
        self.exit: Array | None = None
        """Of a bundle with an exit: 1 where the answer after the last `step` may be given, else 0, [B]."""
        self._lock = threading.RLock()
        self._steps: Bound | Graph | None = None
        self._state: State = {each.name: np.zeros((batch, *each.shape), each.dtype) for each in session.states}

    def step(self, x: Array) -> Array:
        """Take one time step x[B, …] of every stream; return the logits of everything seen, or of the word to follow.

        Raises:
            DataError: see `Session.run`.
        """
        session = self.session
        with self._lock:
            x = session.taking.checked(x, False, self.batch)
            if "step" in session._files:
                if self._steps is None:
                    graph = session._graph("step")
                    self._steps = Bound(graph, self.batch) if bindable(graph) else graph
                logits, self._state, self.exit = self._steps.leave(x, self._state)
                return logits
            logits, self._state = self._run(session.taking.window(x), 1 if session.takes == "events" else None)
            return logits[0] if session.tokens else logits

    def run(self, x: Array, frames: int | None = None) -> Array:
        """Take a chunk x[T, B, …]; chunk after chunk gives what the whole sequence gives.

        An error, or Ctrl-C, leaves the streams where they stood.

        Args:
            x: the chunk; or columns of images, or raw events, their times from the recordings' beginning.
            frames: of raw events: how many frames the chunk is long; None: as many as in training.

        Raises:
            DataError: see `Session.run`.
        """
        if frames is not None and self.session.takes != "events":
            raise UsageError("frames applies only to raw events; other chunks have a length of their own")
        with self._lock:
            x = self.session.taking.shaped(x, self.batch)
            logits, self._state = self._run(x, None if frames is None else whole_number(frames, "frames"))
        return logits

    def _run(self, x: Array, frames: int | None = None, whole: bool = False) -> tuple[Array, State]:
        """Run a window chunk by chunk; return the logits and the states after it.

        Args:
            x: as `Taking.shaped` returned it.
            frames: of raw events, how many.
            whole: whether it is all of its sequences, from zeros, and the states after it are not wanted.
        """
        session, state = self.session, self._state
        before = fetch(state) if session.takes == "events" else None
        steps = frames or session.taking.steps(x, before)
        run, length = self._route(steps, whole)
        logits = np.empty(0)
        every: list[Array] = []
        for piece, count in session.taking.pieces(x, length, steps, before):
            logits, state = run(piece, state, count)
            if session.tokens:
                every.append(logits)
        return (np.concatenate(every) if len(every) > 1 else logits), state

    def _route(self, steps: int, whole: bool) -> tuple[Run, int]:
        """Return what runs a chunk of that many steps, and the length of the parts that it runs it in."""
        session, files = self.session, self.session._files
        values = self.batch * session._values
        length = max(1, min(CHUNK_STEPS, CHUNK_VALUES // values))
        if "window" in files:
            return session._graph("window").step, length
        if "unrolled" in files and (steps == (fixed := session._unrolled) or not (steps % fixed or "step" in files)):
            return self._alone("unrolled"), fixed
        inside = [form for form in ("window", "unrolled") if form + _INSIDE in files]
        fits = "window" in inside or steps == session._unrolled if inside else False
        if whole and fits and (steps <= length or "step" not in files):
            if 4 * steps * values > ARRAY_LIMIT:
                raise DataError(
                    f"{steps} steps take about {shown_bytes(4 * steps * values)}: with its states inside, the graph of "
                    f"{session.folder} takes them all at once, up to {shown_bytes(ARRAY_LIMIT)}",
                    "export it with its states by name, or with --form step: both run in chunks",
                )
            return self._alone(inside[0] + _INSIDE), steps
        if "step" in files:
            return self._one_by_one, length
        if inside and not whole:
            raise DataError(
                f"the graphs of {session.folder} have their states inside: they run whole sequences, not parts of them",
                "export it with its states by name, or with --form step",
            )
        raise DataError(
            f"{session.takes} has {steps} steps, but the only graph of {session.folder} takes {session._unrolled}",
            "export it with --form window or step too",
        )

    def _alone(self, form: str) -> Run:
        """Return what runs a graph that says itself how many frames it makes of raw events."""
        graph = self.session._graph(form)
        return lambda x, state, _frames: graph.step(x, state if graph.states else None)

    def _one_by_one(self, x: Array, state: State, frames: int | None) -> tuple[Array, State]:
        """Run a chunk in the step graph."""
        graph, logits = self.session._graph("step"), np.empty(0)
        every: list[Array] = []
        for now in self.session.taking.split(x, frames, fetch(state) if frames else None):
            logits, state = graph.step(now, state)
            if self.session.tokens:
                every.append(logits)
        return (np.stack(every) if every else logits), state

    def reset(self, streams: int | Collection[int] | None = None, states: str | Collection[str] | None = None) -> None:
        """Let streams start anew, by number or numbers (None: all), in all their states or in some by name.

        Raises:
            UsageError: no such stream or state.
        """
        numbers = list(range(self.batch)) if streams is None else stream_numbers(streams, self.batch)
        chosen = {state.name for state in self.session.states} if states is None else states
        chosen = {chosen} if isinstance(chosen, str) else set(chosen)
        self._known(chosen)
        with self._lock:
            state = self.state
            for name in chosen:
                state[name][numbers] = 0
            self._state = dict(state)

    def begin_window(self) -> None:
        """Of a language model: let the states that training resets with every window of text start anew."""
        self.reset(states=[state.name for state in self.session.states if state.reset == "window"])

    @property
    def state(self) -> dict[str, Array]:
        """The states by name, [B, …] each. Those that are set replace the ones they name; the others stay."""
        with self._lock:
            return {name: value.copy() for name, value in fetch(self._state).items()}

    @state.setter
    def state(self, state: Mapping[str, Array]) -> None:
        self._known(state)
        with self._lock:
            now = self.state
            self._state = now | {name: fitting(name, value, now[name]) for name, value in state.items()}

    def save(self, path: Path | str) -> None:
        """Write the states to a .npz file, whole or not at all.

        Raises:
            UsageError: it cannot be written.
        """
        write_states(Path(path), self.session._identity, self.batch, self.state)

    def _known(self, names: Collection[str]) -> None:
        known = [state.name for state in self.session.states]
        if unknown := sorted(set(names) - set(known)):
            raise UsageError(f"unknown state {unknown[0]!r}", f"the states are {', '.join(known)}")
