"""From a file that a user gives to what a bundle's network takes, preprocessed as in training.

Which preprocessing that was stands in the bundle's manifest. Shapes: T time, B samples of the file.
"""

import io
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.events import event_rows
from hstnn_deploy.data.preprocessing import Frames, Pixels, Preprocessing, Words, framed
from hstnn_deploy.errors import BundleError, DataError
from hstnn_deploy.export.contents import VOCABULARY, check_files
from hstnn_deploy.export.runtime import Session
from hstnn_deploy.foreign import json_value, reading

Array = NDArray[Any]

EOS, UNKNOWN = "<eos>", "<unk>"
STANDARD_INPUT = "-"
_NUMPY, _ZIP = b"\x93NUMPY", b"PK"
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_AGAIN = "copy it again, or write it with numpy.save"


class Given(NamedTuple):
    """A file and what it begins with; standard input is read whole."""

    name: str
    path: Path
    content: bytes

    @property
    def is_image(self) -> bool:
        """Whether it is a PNG or JPEG file."""
        return self.content.startswith(_IMAGES)

    @property
    def is_file(self) -> bool:
        """Whether it is an image or array, not text."""
        return self.is_image or self.is_array

    @property
    def is_array(self) -> bool:
        """Whether it is a .npy or .npz file."""
        return self.content.startswith((_NUMPY, _ZIP))


def read_file(path: Path) -> Given:
    """Return a file, or standard input for `-`.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    if str(path) == STANDARD_INPUT:
        given = Given("standard input", path, sys.stdin.buffer.read())
    else:
        try:
            given = Given(str(path), path, path.read_bytes())
        except IsADirectoryError as error:
            raise DataError(f"{path} is a folder", "give a file") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not given.content:
        raise DataError(f"{given.name} is empty")
    return given


def read_samples(given: Given, how: Preprocessing, session: Session, resize: bool = False) -> Array:
    """Return the samples x[T, B, …] of a file: an array as it is, an image or a recording as one sample.

    Where preprocessing is in the graph, they are raw, as the bundle takes them; see `taking`.

    Args:
        given: the file.
        how: what was done to the data that the network was trained on.
        session: the bundle.
        resize: whether an image of another size is brought to the network's, instead of being refused.

    Raises:
        DataError: the file is damaged, or of a kind that the network does not take.
    """
    raw = session.takes != "x"
    if given.is_image:
        if not isinstance(how, Pixels):
            raise DataError(f"{given.name} is an image; {_taken(how, raw)}")
        return read_levels(given, how, resize)[None] if raw else read_image(given, how, resize)[:, None]
    if given.is_array:
        values = read_array(given)
        if values.dtype.names is None:
            if isinstance(how, Pixels) and raw:
                return values[None] if values.ndim == (3 if how.colours == 3 else 2) else values
            # One sequence may come without the axis of the batch.
            return values[:, None] if not raw and values.ndim == 1 + len(session.step_shape) else values
    if isinstance(how, Frames) and str(given.path) != STANDARD_INPUT:
        return read_recording(given.path, how, raw)
    if given.is_array:
        raise DataError(f"{given.name} holds events", _taken(how, raw))
    raise DataError(f"{given.name} is no .npy, .npz{_files(how)} file", _taken(how, raw))


def read_array(given: Given) -> Array:
    """Return the array of a .npy file, or of a .npz file the one called x or the only one."""
    with reading(given.name, "a file of plain numbers", DataError, _AGAIN, says=False):
        found = np.load(io.BytesIO(given.content), allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        name = "x" if "x" in found.files else found.files[0]
        several = len(found.files) > 1 and name != "x"
        values: Array = found[name]
    if several:
        raise DataError(f"{given.name} holds several arrays ({', '.join(found.files)})", "call the one to run x")
    return values


def read_image(given: Given, how: Pixels, resize: bool) -> Array:
    """Return an image as x[T, I] in 0..1; see `Pixels`."""
    pixels, white = _pixels(given, how, resize)
    # [row, column, colour] -> [T = column, I = colour and row]
    return np.ascontiguousarray((pixels / white).transpose(1, 2, 0).reshape(how.width, -1))


def read_levels(given: Given, how: Pixels, resize: bool) -> Array:
    """Return an image's raw pixels [row, column(, colour)], each the nearest level of the data set's own files."""
    pixels, white = _pixels(given, how, resize)
    nearest = np.rint(pixels * (how.white / white)).astype(np.uint8)
    return nearest if how.colours == 3 else nearest[..., 0]


def _pixels(given: Given, how: Pixels, resize: bool) -> tuple[Array, int]:
    """Return an image's pixels [row, column, colour], and what is white."""
    from PIL import Image

    size = (how.width, how.height)
    with reading(given.name, "an image", DataError, "copy it again"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a large image; what is too large is refused
        with Image.open(io.BytesIO(given.content)) as image:
            deep = image.mode.startswith("I")
            drawn = image.copy() if deep else image.convert("L" if how.colours == 1 else "RGB")
    if drawn.size != size and not resize:
        raise DataError(
            f"{given.name} is {drawn.width} x {drawn.height} pixels; the network takes {how.width} x {how.height}",
            "add --resize, or cut and scale it first",
        )
    levels: Array = np.asarray(drawn.resize(size, Image.Resampling.BILINEAR), np.float32)
    return np.repeat(levels[..., None], how.colours, axis=2) if levels.ndim == 2 else levels, 65535 if deep else 255


def read_recording(path: Path, how: Frames, raw: bool) -> Array:
    """Return a recording as frames x[T, 1, …], see `Frames`; or raw, as its events [N, 5]."""
    from hstnn_deploy.data.event_files import read_events

    events = read_events(path, how.sensor)
    return event_rows(events) if raw else framed(events, how).numpy()[:, None]


def read_rows(given: Path, session: Session) -> Iterator[Array]:
    """Yield the time steps x_t of a text file, or of standard input as they come: one to a line, numbers apart.

    Raises:
        DataError: a line is no step of the network.
    """
    name = "standard input" if str(given) == STANDARD_INPUT else str(given)
    width = int(np.prod(session.step_shape))
    try:
        lines = sys.stdin if str(given) == STANDARD_INPUT else given.open(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}") from error
    with lines:
        for number, line in enumerate(lines, 1):
            words = re.split(r"[\s,;]+", line.strip())
            if words == [""]:
                continue
            try:
                row = np.array([float(word) for word in words])
            except ValueError as error:
                raise DataError(f"{name}: line {number} holds {line.strip()[:40]!r}, not numbers") from error
            if len(row) != width:
                raise DataError(f"{name}: line {number} holds {len(row)} numbers; a time step is {width}")
            yield row.reshape(session.step_shape)


def read_vocabulary(session: Session) -> list[str]:
    """Return the words of a language model's bundle, in the order of their numbers.

    Raises:
        BundleError: the bundle holds none, or another than it was written with.
    """
    path = session.folder / VOCABULARY
    if VOCABULARY not in session.manifest["carried"]:
        raise BundleError(
            f"{session.folder} carries no vocabulary: its text was not at hand when it was exported",
            "export it again with --data-dir",
        )
    check_files(session.folder, session.manifest, [VOCABULARY])
    with reading(path, "a vocabulary", BundleError):
        words: list[str] = json_value(path.read_bytes())
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("it holds no list of words")
    return words


def read_words(given: Given, how: Words, vocabulary: list[str]) -> tuple[list[int], list[str]]:
    """Return a text as numbers of words, each line ended by `<eos>`, and the words that the vocabulary lacks.

    A word that it lacks counts as `<unk>`.

    Raises:
        DataError: the text is not UTF-8, holds no words, or lacks a word of a vocabulary without `<unk>`.
    """
    if given.is_file:
        raise DataError(f"{given.name} is an {'image' if given.is_image else 'array'}; {_taken(how)}")
    try:
        text = given.content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{given.name} is not UTF-8 text: byte {error.start} is 0x{given.content[error.start]:02x}"
        ) from error
    text = text.lower() if how.lower else text
    pattern = r"\S+" if how.split == "spaces" else r"\w+|[^\w\s]"
    lines = [re.findall(pattern, line) for line in text.splitlines()]
    # A last line without an end is still being written: what follows it is what is asked for.
    ended = text.endswith("\n")
    words = [word for line in lines for word in (*line, EOS)]
    words = words if ended else words[:-1]
    if all(word == EOS for word in words):
        raise DataError(f"{given.name} holds no words")
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
        case Pixels():
            arrays = "raw pixels, uint8, in a .npy file" if raw else "arrays x[T, B, …]"
            return f"the network takes images of {how.width} x {how.height} pixels, or {arrays}"
        case Frames():
            width, height, _ = how.sensor
            arrays = "raw events [N, 5] in a .npy file" if raw else "arrays x[T, B, …]"
            return f"the network takes recordings of events ({width} x {height}), or {arrays}"
        case Words():
            return "the network takes text"
        case _:
            return "the network takes arrays x[T, B, …], or text with one time step of numbers to a line"


def _files(how: Preprocessing) -> str:
    match how:
        case Pixels():
            return ", .png or .jpg"
        case Frames():
            return " or event"
        case _:
            return ""
