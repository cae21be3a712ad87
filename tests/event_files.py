"""Small event recordings, and the files of the data sets that hold them, each in its own layout."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.events import Events, Sensor, make_events


def random_events(seed: int, count: int, sensor: Sensor, duration: int, label: int | None = None) -> Events:
    """Return events at random places and times (microseconds, ascending); a label moves them to some columns."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, sensor.width, count)
    if label is not None:
        x = (x // 8 + label * sensor.width // 4) % sensor.width
    y, p = generator.integers(0, sensor.height, count), generator.integers(0, sensor.polarities, count)
    return make_events(x, y, np.sort(generator.integers(0, duration, count)), p)


def write_bin(path: Path, events: Events) -> None:
    """Write an N-MNIST recording: 40 bits an event, times modulo 2^13 us over overflow marks of y = 240."""
    rows: list[tuple[int, int, int, int]] = []
    base = 0
    for x, y, t, p in events.tolist():
        while t - base >= 2**13 + 2**12:
            rows.append((0, 240, 0, 0))
            base += 2**13
        rows.append((x, y, t - base, p))
    raw = bytearray()
    for x, y, t, p in rows:
        raw += bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


def write_npy(path: Path, events: Events) -> None:
    """Write a recording of tonic's DVS-Gesture: [N, 4] of x, y, p and whole milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack([events["x"], events["y"], events["p"], events["t"] // 1000], axis=1).astype(np.float64))


def aedat(events: Events, kinds: Sequence[int] = (1,), per_packet: int = 50) -> bytes:
    """Return an AEDAT 3.1 file of polarity events (x, y, t, p), its packets of `kinds` in turn; only 1 is polarity."""
    raw = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#End Of ASCII Header\r\n"
    for start in range(0, len(events), per_packet):
        part = events[start : start + per_packet]
        for kind in kinds:
            header = np.array([kind | 1 << 16, 8, 4, 0, len(part), len(part), len(part)], "<u4")
            data = part["x"] << 17 | part["y"] << 2 | part["p"] << 1 | 1
            raw += header.tobytes() + np.stack([data, part["t"]], axis=1).astype("<u4").tobytes()
    return raw


def write_hdf5(path: Path, recordings: Sequence[Events], labels: Sequence[int]) -> None:
    """Write a file of SHD or SSC: times in seconds, half precision, and units, a row each of unequal length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whoever still has the file of before open keeps that one.
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            table = file.create_dataset(f"spikes/{name}", (len(recordings),), h5py.vlen_dtype(kind))
            for number, events in enumerate(recordings):
                values: NDArray[np.float64] = events["t"] / 1e6 if name == "times" else events["x"]
                table[number] = values.astype(kind)
        file["labels"] = np.array(labels, np.uint16)
        file["extra/keys"] = np.array([b"zero", b"one"])
        file["extra/speaker"] = np.zeros(len(labels), np.uint16)


def make_nmnist(root: Path, train: int = 10, test: int = 3, digits: Sequence[int] = (0, 1, 2)) -> Path:
    """Write a part of N-MNIST into a folder: so many recordings of each of some digits, 60 ms long."""
    for name, count in (("Train", train), ("Test", test)):
        for digit in digits:
            for number in range(count):
                events = random_events(1000 * digit + number + count, 300, Sensor(34, 34), 60_000, digit)
                write_bin(root / name / str(digit) / f"{number:05}.bin", events)
    return root


def make_dvs_gesture(root: Path, train: int = 10, test: int = 2, labels: Sequence[int] = (0, 4, 10)) -> Path:
    """Write a part of tonic's DVS-Gesture into a folder: so many recordings of some classes, 0.3 to 1 s long."""
    for name, count in (("ibmGestureTrain", train), ("ibmGestureTest", test)):
        for user in range(count):
            for label in labels:
                events = random_events(100 * label + user, 600, Sensor(128, 128), 300_000 + 75_000 * user, label % 4)
                write_npy(root / name / f"user{user:02}_led" / f"{label}.npy", events)
    return root


def make_shd(root: Path, name: str = "shd", count: int = 24, classes: int = 3) -> Path:
    """Write a small SHD or SSC into a folder: recordings of 20 to 90 ms, of a few of the classes."""
    for place, split in enumerate(("train", "test") if name == "shd" else ("train", "valid", "test")):
        labels = [number % classes for number in range(count)]
        recordings = [
            random_events(100 * place + number, 80, Sensor(700, 1, 1), 20_000 + 70_000 * number // count, label)
            for number, label in enumerate(labels)
        ]
        write_hdf5(root / f"{name}_{split}.h5", recordings, labels)
    return root
