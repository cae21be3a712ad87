"""Folders as strangers have them, tiny: images, arrays, recordings and a text that a small network tells apart."""

from pathlib import Path

import numpy as np
from PIL import Image

from hstnn_deploy.data.events.events import EVENT


def images(folder: Path, classes: int = 2, each: int = 8, size: tuple[int, int] = (12, 12)) -> Path:
    """Colour images of a bright stripe, at another place for each class."""
    draw = np.random.default_rng(0)
    width, height = size
    for label, name in enumerate(["cat", "dog", "newt"][:classes]):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = draw.integers(0, 60, (height, width, 3))
            pixels[:, label * width // classes : (label + 1) * width // classes] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def series(folder: Path, targets: str = "names", samples: int = 40) -> Path:
    """x.npy [N, T, I] and y.npy: time series whose mean is that of their class."""
    draw = np.random.default_rng(0)
    labels = np.arange(samples) % 2
    x = draw.normal(size=(samples, 10, 3)).astype(np.float32) + 2 * labels[:, None, None]
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", x)
    y = {"names": np.array(["down", "up"])[labels], "values": x.mean((1, 2)).astype(np.float32)}[targets]
    np.save(folder / "y.npy", y)
    return folder


def recording(label: int, seed: int, size: tuple[int, int] = (20, 14), events: int = 600) -> np.ndarray:
    """Events of a spot that goes right (0) or left (1) within 100 ms."""
    draw = np.random.default_rng(seed)
    found = np.zeros(events, EVENT)
    found["t"] = np.sort(draw.integers(0, 100_000, events))
    x = found["t"] * size[0] // 100_000
    found["x"] = x if label == 0 else size[0] - 1 - x
    found["y"] = draw.integers(0, size[1], events)
    found["p"] = draw.integers(0, 2, events)
    return found


def events(folder: Path, each: int = 6, people: int = 3) -> Path:
    """Recordings in .npy files with fields, on 20 x 14 pixels; each name begins with who was recorded."""
    for label, name in enumerate(["right", "left"]):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            np.save(folder / name / f"p{number % people}_{number}.npy", recording(label, 10 * number + label))
    return folder


def text(folder: Path, lines: int = 60) -> Path:
    """A text of one file: few words, in an order that can be learned."""
    folder.mkdir(parents=True)
    line = "the cat sat on the mat and the dog sat on the cat"
    (folder / "book.txt").write_text("\n".join(f"{line} {number % 3}" for number in range(lines)), encoding="utf-8")
    return folder
