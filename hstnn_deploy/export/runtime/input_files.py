"""From a file that a user gives to what a bundle's network takes, preprocessed as in training.

Which preprocessing that was stands in the bundle's manifest. Shapes: T time, B samples of the file.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.array_input import as_input
from hstnn_deploy.data.encoding import as_steps
from hstnn_deploy.data.events.events import event_rows
from hstnn_deploy.data.files.arrays import ARRAY_LIMIT, is_array, read_array, read_bounded, shown_bytes
from hstnn_deploy.data.preprocessing import Arrays, Frames, Picture, Pixels, Preprocessing, Whole, Words, framed
from hstnn_deploy.data.readers import image_files
from hstnn_deploy.data.readers.event_options import EventOptions, parse_options
from hstnn_deploy.errors import BundleError, DataError
from hstnn_deploy.export.runtime.manifest import VOCABULARY, check_files
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.foreign import json_value, reading

if TYPE_CHECKING:
    from hstnn_deploy.data.readers.event_columns import Expected, Recording

Array = NDArray[Any]
Say = Callable[[str], None]
"""Is told what was done to an input beyond reading it."""

EOS, UNKNOWN = "<eos>", "<unk>"
STANDARD_INPUT = "-"
_START = 16
_LINE = 2**20
"""Letters of a line of numbers, at most."""


class Given(NamedTuple):
    """A file and what it begins with; standard input and pipes are read whole, up to a limit."""

    name: str
    path: Path
    source: Path | bytes
    start: bytes
    limit: int | None = None
    """Bytes that are read into memory at most."""

    @property
    def is_image(self) -> bool:
        """Whether it is a PNG or JPEG file."""
        return image_files.is_image(self.start)

    @property
    def is_array(self) -> bool:
        """Whether it is a .npy or .npz file."""
        return is_array(self.start)

    def content(self) -> bytes:
        """Return all of it.

        Raises:
            DataError: it cannot be read, or is longer than the limit.
        """
        if isinstance(self.source, bytes):
            return self.source
        try:
            with self.source.open("rb") as file:
                return read_bounded(file, self.name, self.limit)
        except OSError as error:
            raise DataError(f"cannot read {self.name}: {error.strerror}") from error


def is_file(start: bytes) -> bool:
    """Return whether what begins so is an image or array, not text."""
    return image_files.is_image(start) or is_array(start)


def standard_input() -> Any:
    """Return standard input.

    Raises:
        DataError: it is closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise DataError("standard input is closed", "give a file, or pipe data in")
    return sys.stdin


def read_file(path: Path, limit: int | None = None) -> Given:
    """Return a file, or standard input for `-`.

    Args:
        path: the file.
        limit: bytes of it that are read into memory at most; None: `data.files.arrays.ARRAY_LIMIT`.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    name = "standard input" if str(path) == STANDARD_INPUT else str(path)
    source: Path | bytes = path
    try:
        if str(path) == STANDARD_INPUT:
            source = read_bounded(standard_input().buffer, name, limit)
            start = source[:_START]
        else:
            with path.open("rb") as file:
                start = file.read(_START)
                if start and not path.is_file():  # a pipe gives what it has only once
                    source = read_bounded(file, name, limit, start)
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder", "give a file") from error
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror}") from error
    if not start:
        raise DataError(f"{name} is empty")
    return Given(name, path, source, start, limit)


def read_samples(
    given: Given, how: Preprocessing, session: Session, say: Say, resize: bool = False, draw: int = 0
) -> Array:
    """Return the samples x[T, B, …] of a file: an array, or an image or a recording as one sample.

    Whole numbers that have the shape of images are raw pixels: they are scaled as in training. Where preprocessing is
    in the graph, samples are raw, as the bundle takes them; see `taking`.

    Args:
        given: the file.
        how: what was done to the data that the network was trained on.
        session: the bundle.
        say: told what was done to the file beyond reading it.
        resize: whether an image of another size is brought to the network's, instead of being refused.
        draw: of whole images in spikes: as which sample an image is drawn, and the first of several in an array.

    Raises:
        DataError: the file is damaged, or of a kind that the network does not take.
    """
    raw = session.takes != "x"
    resize = resize or (isinstance(how, Picture) and how.resize)
    if given.is_image:
        if isinstance(how, Whole):
            _check_shape(how, session)
            levels = image_files.read_levels(given.content(), given.name, how, resize, say)
            return _whole(levels.reshape(1, how.height, how.width, how.colours), given.name, how, draw)
        if not isinstance(how, Pixels):
            raise DataError(f"{given.name} is an image; {_taken(how, raw)}")
        if raw:
            return image_files.read_levels(given.content(), given.name, how, resize, say)[None]
        return image_files.read_image(given.content(), given.name, how, resize, say)[:, None]
    if given.is_array:
        values = read_array(given.source, given.name, given.limit)
        if isinstance(how, Arrays) and values.dtype.names is None and not session.any_range:
            return _from_samples(values, given.name, how, session, say)
        if values.dtype.names is None:
            return _from_array(values, given.name, how, session, say, draw)
    if isinstance(how, Frames) and (recording := read_recording(given.path, how, session)):
        return recorded(recording, how, raw)
    if given.is_array:
        raise DataError(f"{given.name} contains events", _taken(how, raw))
    if kind := image_files.another_format(given.start):
        raise DataError(f"{given.name} is {kind} image", "save it as .png")
    raise DataError(f"{given.name} is not a .npy, .npz{_files(how)} file", _taken(how, raw))


def _check_shape(how: Whole, session: Session) -> None:
    """Refuse a bundle whose images are of another shape than what its graphs take; nothing is made of that size."""
    shape = (how.colours, how.height, how.width)
    if session.step_shape != shape:
        raise BundleError(
            f"{session.folder} states that its network takes images with shape {list(shape)}, but its graphs take "
            f"{list(session.step_shape)}",
            "export the bundle again",
        )


def _whole(levels: Array, name: str, how: Whole, draw: int) -> Array:
    """Return raw pixels [B, row, column, colour] as the steps of samples with the numbers draw, draw + 1, …"""
    if (size := 4 * how.steps * levels.size) > ARRAY_LIMIT:
        raise DataError(f"{name}: {how.steps} steps take {shown_bytes(size)}; at most {shown_bytes(ARRAY_LIMIT)} do")
    numbers = range(draw, draw + len(levels))
    return as_steps(np.ascontiguousarray(levels.transpose(0, 3, 1, 2)), how.white, how, numbers)


def _from_array(values: Array, name: str, how: Preprocessing, session: Session, say: Say, draw: int = 0) -> Array:
    """Return an array as the bundle takes it, whatever has one meaning only."""
    if session.takes != "x":
        one = isinstance(how, Pixels) and values.ndim == (3 if how.colours == 3 else 2)
        return values[None] if one else values
    if isinstance(how, Pixels) and values.dtype.kind in "biu" and not session.any_range:
        x = image_files.from_levels(values, name, how, say)
        if x is not None:
            return x
    if isinstance(how, Whole) and values.dtype.kind in "biu" and not session.any_range:
        _check_shape(how, session)
        found = image_files.as_levels(values, name, how, how.steps)
        if found is not None:
            levels, axes = found
            say(f"{name}: taken as raw pixels {axes}, {values.dtype} 0 to {how.white}")
            return _whole(levels, name, how, draw)
    if values.ndim == 1 + len(session.step_shape):
        column = "; x[t] is column t of the image" if isinstance(how, Pixels) else ""
        say(f"{name}: {list(values.shape)} taken as one sequence x[T, …]{column}")
        return values[:, None]
    return values


def _from_samples(values: Array, name: str, how: Arrays, session: Session, say: Say) -> Array:
    """Return samples [B, …] as the file of the training had them, or one sample […], as x[T, B, …].

    Raises:
        DataError: they are of another shape, or no finite numbers.
        BundleError: they become another shape than what the graphs take.
    """
    shape, axes = tuple(how.shape), ", ".join(how.axes)
    if values.dtype.kind not in "iufb" or values.size == 0:
        raise DataError(f"{name} contains {values.dtype} with shape {list(values.shape)}", f"give numbers [B, {axes}]")
    if values.shape == shape:
        values = values[None]
    free = [letter == "T" for letter in how.axes]
    fits = values.ndim == len(shape) + 1 and all(
        any_length or one == other for one, other, any_length in zip(values.shape[1:], shape, free, strict=True)
    )
    if not fits:
        raise DataError(
            f"{name} has shape {list(values.shape)}; the network was trained on samples [{axes}] of {list(shape)}",
            "give an array [B, …] of such samples, or one sample; --any-range takes x[T, B, …] as it is",
        )
    if 4 * values.size * (how.steps if "T" not in how.axes else 1) > ARRAY_LIMIT:
        raise DataError(f"{name}: its steps take more than {shown_bytes(ARRAY_LIMIT)}", "split it")
    x = as_input(values, how.axes, how.steps, how.mean, how.std)
    if x.shape[2:] != session.step_shape:
        raise BundleError(
            f"{session.folder} states that its network takes steps with shape {list(x.shape[2:])}, but its graphs take "
            f"{list(session.step_shape)}",
            "export the bundle again",
        )
    say(f"{name}: {len(values)} samples [{axes}] of {list(values.shape[1:])}" + (", normalised" if how.mean else ""))
    return x


def read_recording(
    path: Path, how: Preprocessing, session: Session, options: EventOptions | None = None, continued: bool = False
) -> "Recording | None":
    """Return a recording with the report of how it was read; None of a file that holds none, and of standard input.

    Args:
        path: the file.
        how: what was done to the data that the network was trained on.
        session: the bundle.
        options: what the file does not say of itself.
        continued: whether it continues from the states of a recording before it.

    Raises:
        DataError: see `data.readers.event_files.read_recording`.
    """
    if not isinstance(how, Frames) or str(path) == STANDARD_INPUT:
        return None
    from hstnn_deploy.data.readers import event_files

    raw = session.takes != "x"
    options = (options or EventOptions()).over(parse_options(how.events))
    if not event_files.is_recording(path, () if raw else session.step_shape):
        return None
    if raw and options.order is None and event_files.are_rows(path):
        return None
    return event_files.read_recording(path, _expected(how, session, raw and continued), options)


def recorded(recording: "Recording", how: Preprocessing, raw: bool) -> Array:
    """Return a recording as frames x[T, 1, …], see `Frames`; or raw, as its events [N, 5].

    Raises:
        DataError: the transforms, or the kind of frames, leave no event.
    """
    assert isinstance(how, Frames)
    if raw:
        return event_rows(recording.events)
    frames = framed(recording.events, how).numpy()[:, None]
    if not frames.any() and how.frames is not None:
        names = ", ".join(each.name for each in how.transforms) or "none"
        raise DataError(
            f"{recording.report.file}: no event is within the {how.frames.told().rstrip(',')} that the network sees",
            f"its {recording.report.count} events are too few or too close in time, or the transforms leave none of "
            f"them; these are: {names}",
        )
    if not frames.any():
        raise DataError(
            f"{recording.report.file}: the network's transforms leave no event",
            f"they are: {', '.join(each.name for each in how.transforms)}",
        )
    return frames


def seen_rows(name: str, rows: Array, how: Preprocessing, session: Session) -> list[str]:
    """Return what a person should know of raw events [N, 5] that a file holds; see `data.readers.event_columns.see`.

    Raises:
        DataError: there are no events, or a recording has none in the frames that the network sees.
    """
    if not isinstance(how, Frames):
        return []
    from hstnn_deploy.data.readers.event_columns import see

    if len(rows) == 0:
        raise DataError(f"{name} contains no events", "there is nothing for the network to see")
    notes = []
    for number in np.unique(rows[:, 0]):
        which = f"{name}, recording {number}"
        times = rows[rows[:, 0] == number, 1]
        notes += [f"{which}: {note}" for note in see(which, times, _expected(how, session))]
    return notes


def _expected(how: Frames, session: Session, continued: bool = False) -> "Expected":
    from hstnn_deploy.data.readers.event_columns import Expected

    data = session.manifest["recipe"]["data"]
    found = data.get("found")
    span = found.get("span") if isinstance(found, dict) else None
    return Expected(how, str(data["name"]), continued, span if type(span) is int and span > 0 else None)


def read_rows(given: Path, session: Session) -> Iterator[Array]:
    """Yield the time steps x_t of a text file, or of standard input as they come: one to a line, numbers apart.

    Raises:
        DataError: a line is no step of the network.
    """
    name = "standard input" if str(given) == STANDARD_INPUT else str(given)
    width = int(np.prod(session.step_shape))
    most = max(_LINE, 64 * width)
    try:
        lines = standard_input() if str(given) == STANDARD_INPUT else given.open(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror}") from error
    with lines:
        number = 0
        try:
            while line := lines.readline(most):
                number += 1
                if (row := _row(line, f"{name}: line {number}", width, most)) is not None:
                    yield row.reshape(session.step_shape)
        except UnicodeDecodeError as error:
            raise DataError(f"{name} is not text: it contains the byte 0x{error.object[error.start]:02x}") from error


def _row(line: str, name: str, width: int, most: int) -> Array | None:
    """Return the numbers of a line; None of an empty one."""
    if len(line) >= most and not line.endswith("\n"):
        raise DataError(f"{name} is longer than {most} characters", f"a time step is {width} numbers")
    words = re.split(r"[\s,;]+", line.strip())
    if words == [""]:
        return None
    try:
        row = np.array([float(word) for word in words])
    except ValueError as error:
        raise DataError(f"{name} contains {line.strip()[:40]!r}, not numbers") from error
    if len(row) != width:
        raise DataError(f"{name} contains {len(row)} numbers; a time step is {width}")
    return row


def read_vocabulary(session: Session) -> list[str]:
    """Return the words of a language model's bundle, in the order of their numbers.

    Raises:
        BundleError: the bundle holds none, or another than it was written with.
    """
    path = session.folder / VOCABULARY
    if VOCABULARY not in session.manifest["carried"]:
        raise BundleError(
            f"{session.folder} has no vocabulary: its text was not available at export",
            "export it again with --data-dir",
        )
    check_files(session.folder, session.manifest, [VOCABULARY])
    with reading(path, "a vocabulary", BundleError):
        words: list[str] = json_value(path.read_bytes())
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("it is not a list of words")
    return words


def read_words(given: Given, how: Words, vocabulary: list[str]) -> tuple[list[int], list[str]]:
    """Return a text as numbers of words, each line ended by `<eos>`, and the words that the vocabulary lacks.

    A word that it lacks counts as `<unk>`.

    Raises:
        DataError: the text is not UTF-8, holds no words, or lacks a word of a vocabulary without `<unk>`.
    """
    if is_file(given.start):
        raise DataError(f"{given.name} is an {'image' if given.is_image else 'array'}; {_taken(how)}")
    content = given.content()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{given.name} is not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}"
        ) from error
    text = text.lower() if how.lower else text
    pattern = r"\S+" if how.split == "spaces" else r"\w+|[^\w\s]"
    lines = [re.findall(pattern, line) for line in text.splitlines()]
    # A last line without an end is still being written: the network predicts what follows it.
    ended = text.endswith("\n")
    words = [word for line in lines for word in (*line, EOS)]
    words = words if ended else words[:-1]
    if all(word == EOS for word in words):
        raise DataError(f"{given.name} contains no words")
    numbers = {word: number for number, word in enumerate(vocabulary)}
    missing = list(dict.fromkeys(word for word in words if word not in numbers))
    if missing and UNKNOWN not in numbers:
        raise DataError(
            f"{given.name}: the word {missing[0]!r} is not in the vocabulary ({len(missing)} such words)",
            "the network knows only the words of the text it was trained on",
        )
    return [numbers.get(word, numbers.get(UNKNOWN, 0)) for word in words], missing


def _taken(how: Preprocessing, raw: bool = False) -> str:
    match how:
        case Whole():
            pixels = "uint8 pixels [B, row, column" + (", colour]" if how.colours == 3 else "]")
            return f"the network takes images of {how.width} x {how.height} pixels, {pixels}, or arrays x[T, B, …]"
        case Pixels():
            arrays = "raw pixels, uint8, in a .npy file" if raw else "arrays x[T, B, …]"
            return f"the network takes images of {how.width} x {how.height} pixels, or {arrays}"
        case Frames():
            width, height, _ = how.sensor
            arrays = "raw events [N, 5] in a .npy file" if raw else "arrays x[T, B, …]"
            return f"the network takes recordings of events ({width} x {height}), or {arrays}"
        case Words():
            return "the network takes text"
        case Arrays():
            axes = ", ".join(how.axes)
            return f"the network takes arrays [B, {axes}] of samples of shape {how.shape}"
        case _:
            return "the network takes arrays x[T, B, …], or text with the numbers of one time step per line"


def _files(how: Preprocessing) -> str:
    match how:
        case Picture():
            return ", .png or .jpg"
        case Frames():
            return " or event"
        case _:
            return ""
