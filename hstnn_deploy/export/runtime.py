"""Run a bundle: whole sequences, chunks of them, or step by step with states that can be kept, saved and restored.

    session = Session("bundle")
    logits = session.run(x)              # x[T, B, …], any T and B, from zero states

    stream = session.stream(batch=3)     # three sequences side by side
    for x_t in x:                        # x_t[B, …]
        logits = stream.step(x_t)
    stream.reset([1])                    # another sequence begins in the second place
    stream.save("state.npz")             # and later, perhaps elsewhere: session.restore("state.npz")

Needs numpy and onnxruntime, nothing else: neither torch nor the rooms that train. The logits are [B, C]: a score per
class of everything seen; of a language model [T, B, V] and, of a step, [B, V].

Where a bundle has its preprocessing in the graphs (`hstnn export --preprocess`), raw pixels or events stand in the
place of x; see `taking`. Shapes: T time, B batch (streams).
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.errors import BundleError, DataError, UsageError
from hstnn_deploy.export.contents import check_files, read_manifest
from hstnn_deploy.export.ort import Graph, fetch, open_graph
from hstnn_deploy.export.taking import Taking, shown, taking
from hstnn_deploy.foreign import check_stored, json_value, reading

Array = NDArray[Any]

_FORMS = ("window", "step", "unrolled")
_FORMAT = "hstnn-deploy state"
_SAVED = "states that `Stream.save` wrote, or `hstnn run --save-state`"


class NamedState(NamedTuple):
    """A state of a network, as its bundle's manifest documents it."""

    name: str
    shape: tuple[int, ...]
    """Of one stream."""
    meaning: str
    reset: str
    """When it starts again from zeros: with each `sequence`, or with each `window` of a text as well."""
    dtype: str = "float32"


class Session:
    """A bundle, opened to be run.

    Args:
        bundle: the folder.
        provider: what runs it: cpu, cuda or cuda:n. Never another than the one asked for.
        threads: CPU threads, or None for ONNX Runtime's own choice.
        smaller: which of the smaller graphs to run, such as int8-dynamic or fp16; None: those in full precision.
        check: whether to compare each file with its hash in the manifest before it is opened.

    Raises:
        BundleError: no bundle, of another version, without an ONNX graph that passed its checks, or changed since.
        UsageError: an unknown provider.
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
    ) -> None:
        self.folder = Path(bundle)
        self.manifest = read_manifest(self.folder)
        files: dict[str, Any] = self.manifest["files"]
        graphs = {name for name, facts in files.items() if facts["engine"] == "ONNX"}
        suffix = f".{smaller}.onnx" if smaller else ".onnx"
        self._files = {form: name for form in _FORMS if (name := f"model.{form}{suffix}") in graphs}
        if not self._files:
            what = ", ".join(files) or "no graph"
            raise BundleError(
                f"{self.folder} holds no {f'{smaller} ' if smaller else ''}ONNX graph that passed its checks; "
                f"it holds {what}",
                "export the checkpoint with --onnx" + (", and --int8 or --fp16" if smaller else ""),
            )
        if check:
            check_files(self.folder, self.manifest, self._files.values())
        self._graphs: dict[str, Graph] = {}
        self._asked = provider, threads
        # One is opened at once, so that what is wrong is said now.
        form = next(iter(self._files))
        self.provider = self._graph(form).provider
        """The provider that runs the graphs, such as CPUExecutionProvider."""
        network = self.manifest["network"]
        self.states = [
            NamedState(
                each["name"],
                tuple(each["shape"][1:]),
                each["meaning"],
                each["reset"],
                each.get("dtype", "float32"),
            )
            for each in network["states"]
        ]
        """The states by name, in the order in which the graphs take them."""
        self.window: int | None = network["window_steps"]
        """Of a language model: the words of a window; see `Stream.begin_window`."""
        facts = files[self._files[form]]
        x = facts["inputs"][0]
        self.taking: Taking = taking(facts, self.manifest.get("input", {}))
        """What it takes: arrays x, or raw pixels or events."""
        self.takes = self.taking.name
        """The same by its name: x, image or events."""
        self.step_shape: tuple[int, ...] = tuple(x["shape"][1 if form == "step" else 2 :])
        """Where it takes x: the shape of one time step of one sequence; () where it is a word's number."""
        self.tokens: bool = self.takes == "x" and x["dtype"] == "int64"
        """Whether x is words by number."""
        self.classes: int = facts["outputs"][0]["shape"][-1]
        """The number of classes, or of words."""

    def run(self, x: Array, batch: int | None = None) -> Array:
        """Run whole sequences x[T, B, …] from zero states; return the logits.

        Args:
            x: the sequences; or raw images or events.
            batch: of raw events: how many recordings they are of; None: up to the last that has one.

        Raises:
            DataError: x has another shape or type, or holds NaN, infinities, or numbers that are no words.
        """
        x = self.checked(x, batch=batch)
        return self._run(x, self.stream(self.taking.batch(x) if batch is None else batch)._state)[0]

    def stream(self, batch: int = 1) -> "Stream":
        """Return `batch` streams that have seen nothing."""
        if batch < 1:
            raise UsageError(f"{batch} streams are none", "give at least 1")
        return Stream(self, batch)

    def restore(self, path: Path | str) -> "Stream":
        """Return the streams that `Stream.save` wrote.

        Raises:
            DataError: the file is missing, damaged, or holds the states of another network.
        """
        path = Path(path)
        with reading(path, "a file of states", DataError, f"give {_SAVED}", says=False):
            raw = path.read_bytes()
            with np.load(io.BytesIO(raw), allow_pickle=False) as found:
                check_stored(found.zip, len(raw))
                about = json_value(str(found["about"]))
                state = {name: found[name] for name in found.files if name != "about"}
            batch = about["batch"]
            if about["format"] != _FORMAT or type(batch) is not int or not 0 < batch <= len(raw):
                raise ValueError
            about = {"network": "", **about}
        if about["network"] != self._identity:
            raise DataError(
                f"{path} holds the states of another network than {self.folder}", "restore it with the bundle it is of"
            )
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

    def _graph(self, form: str) -> Graph:
        if form not in self._graphs:
            self._graphs[form] = open_graph(self.folder / self._files[form], *self._asked)
        return self._graphs[form]

    def _run(self, x: Array, state: dict[str, Any], frames: int | None = None) -> tuple[Array, dict[str, Any]]:
        """Run a window or chunk in the graph there is for it; `frames` is T of raw events, None: that of training."""
        if "window" in self._files:
            if frames is None:
                self.taking.steps(x)  # refuses what has no one length
            return self._graph("window").step(x, state, frames)
        before = fetch(state)
        steps = frames or self.taking.steps(x, before)
        if "unrolled" in self._files and self._unrolled == steps:
            return self._graph("unrolled").step(x, state)
        if "step" not in self._files:
            raise DataError(
                f"{self.takes} has {steps} steps; the only graph of {self.folder} takes {self._unrolled}",
                "export it with --form window or step too",
            )
        rows = []
        for now in self.taking.split(x, steps, before):
            logits, state = self._graph("step").step(now, state)
            rows.append(logits)
        return np.stack(rows) if self.tokens else rows[-1], state

    @property
    def _unrolled(self) -> int:
        """T of the unrolled graph."""
        facts = self.manifest["files"][self._files["unrolled"]]
        return int(facts.get("steps") or self._graph("unrolled").steps)

    def _step(self, x: Array, state: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
        """Run one step."""
        if "step" in self._files:
            return self._graph("step").step(x, state)
        logits, state = self._run(self.taking.window(x), state, 1 if self.takes == "events" else None)
        return logits[0] if self.tokens else logits, state


class Stream:
    """Sequences side by side that a session runs step by step or in chunks; what `Session.stream` returns."""

    def __init__(self, session: Session, batch: int) -> None:
        self.session = session
        self.batch = batch
        """The number of streams B."""
        self._state: dict[str, Any] = self._zeros()

    def step(self, x: Array) -> Array:
        """Take one time step x[B, …] of every stream; return the logits of everything seen, or of the word to follow.

        Raises:
            DataError: see `Session.run`.
        """
        x = self.session.checked(x, time=False, batch=self.batch)
        logits, self._state = self.session._step(x, self._state)
        return logits

    def run(self, x: Array, frames: int | None = None) -> Array:
        """Take a chunk x[T, B, …]; chunk after chunk gives what the whole sequence gives.

        Args:
            x: the chunk; or columns of images, or raw events, their times from the recordings' beginning.
            frames: of raw events: how many frames the chunk is long; None: as many as in training.

        Raises:
            DataError: see `Session.run`.
        """
        x = self.session.checked(x, batch=self.batch)
        if frames is not None and self.session.takes != "events":
            raise UsageError("frames is for raw events; a chunk of anything else says itself how long it is")
        if frames is not None and frames < 1:
            raise UsageError(f"{frames} frames are none", "give at least 1")
        logits, self._state = self.session._run(x, self._state, frames)
        return logits

    def reset(self, streams: Collection[int] | None = None, states: Collection[str] | None = None) -> None:
        """Let streams start anew, by number (None: all), in all their states or in some by name.

        Raises:
            UsageError: no such stream or state.
        """
        numbers = list(range(self.batch) if streams is None else streams)
        if wrong := [number for number in numbers if not 0 <= number < self.batch]:
            raise UsageError(f"there is no stream {wrong[0]}: they are numbered 0 to {self.batch - 1}")
        chosen = {state.name for state in self.session.states} if states is None else set(states)
        self._known(chosen)
        state = self.state
        for name in chosen:
            state[name] = state[name].copy()
            state[name][numbers] = 0
        self._state = dict(state)

    def begin_window(self) -> None:
        """Of a language model: let the states that training resets with every window of text start anew."""
        self.reset(states=[state.name for state in self.session.states if state.reset == "window"])

    @property
    def state(self) -> dict[str, Array]:
        """The states by name, [B, …] each."""
        return fetch(self._state)

    @state.setter
    def state(self, state: Mapping[str, Array]) -> None:
        self._known(state)
        now = self.state
        for name, value in state.items():
            if np.shape(value) != now[name].shape:
                raise UsageError(
                    f"the state {name} has the shape {shown(np.shape(value))}; "
                    f"here it is {shown(now[name].shape)} ({self.batch} streams)"
                )
            if not np.isfinite(value).all():
                raise UsageError(f"the state {name} holds NaN or infinities")
            now[name] = np.ascontiguousarray(value, now[name].dtype)
        self._state = dict(now)

    def save(self, path: Path | str) -> None:
        """Write the states to a .npz file, whole or not at all.

        Raises:
            UsageError: it cannot be written.
        """
        about = {"format": _FORMAT, "network": self.session._identity, "batch": self.batch}
        content = io.BytesIO()
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about)), **self.state}
        np.savez(content, **arrays)
        with _beside(Path(path)) as temporary:
            temporary.write_bytes(content.getvalue())
            temporary.replace(path)

    def _zeros(self) -> dict[str, Any]:
        return {state.name: np.zeros((self.batch, *state.shape), state.dtype) for state in self.session.states}

    def _known(self, names: Collection[str]) -> None:
        known = [state.name for state in self.session.states]
        if unknown := sorted(set(names) - set(known)):
            raise UsageError(f"unknown state {unknown[0]!r}", f"the states are {', '.join(known)}")


def check_writable(path: Path) -> None:
    """Check, before any work is done, that a file of states can be written.

    Raises:
        UsageError: it cannot be.
    """
    with _beside(path) as temporary:
        temporary.touch()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in a file's folder; whatever was not renamed by the end is removed."""
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", "choose another file")
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "choose another file") from error
    finally:
        # Where a part of the path is a file, looking for it fails as well.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
