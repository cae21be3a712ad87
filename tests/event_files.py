"""Small event recordings, and the files of the data sets that hold them, each in its own layout."""

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.events.events import Events, Sensor, make_events


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


def aedat(
    events: Events,
    kinds: Sequence[int] = (1,),
    per_packet: int = 50,
    invalid: Collection[int] = (),
    source: int = 1,
) -> bytes:
    """Return an AEDAT 3.1 file of polarity events (x, y, t, p), its packets of `kinds` in turn; only 1 is polarity.

    Args:
        events: by the camera's clock; a packet ends where the 31 bits of its times do.
        kinds: of packets; 2 and 3 (frames and IMU events) have events of 36 bytes.
        per_packet: events of a packet at most.
        invalid: the numbers of the events that are marked so.
        source: the number of the camera.
    """
    raw = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#End Of ASCII Header\r\n"
    turns = events["t"] >> 31
    borders = {*range(0, len(events), per_packet), *(np.flatnonzero(np.diff(turns)) + 1).tolist()}
    valid = ~np.isin(np.arange(len(events)), list(invalid))
    for start, end in pairwise([*sorted(borders), len(events)]):
        part, marked = events[start:end], valid[start:end]
        for kind in kinds:
            size = 36 if kind in (2, 3) else 8
            counted = int(marked.sum()) if kind == 1 else len(part)
            header = np.array([kind | source << 16, size, 4, turns[start], len(part), len(part), counted], "<u4")
            data = part["x"] << 17 | part["y"] << 2 | part["p"] << 1 | marked
            rows = np.zeros((len(part), size // 4), "<u4")
            rows[:, :2] = np.stack([data, part["t"] & 0x7FFF_FFFF], axis=1)
            raw += header.tobytes() + rows.tobytes()
    return raw


def aedat2(
    events: Events, chip: str = "ch.unizh.ini.jaer.chip.retina.DVS128", size: tuple[int, int] = (128, 128)
) -> bytes:
    """Return an AEDAT 2.0 file as jAER writes it: an address and a time of 32 bits, the larger byte first.

    Args:
        events: their x from the left and y from above; times modulo 2^32.
        chip: jAER's class of the camera; one of a DAVIS has its own addresses. Empty: the header names none.
        size: of the sensor.
    """
    x, y, p = size[0] - 1 - events["x"], size[1] - 1 - events["y"], events["p"]
    address = y << 22 | x << 12 | p << 11 if "avis" in chip.lower() else y << 8 | x << 1 | (1 - p)
    words = np.stack([address, events["t"] & 0xFFFF_FFFF], axis=1).astype(">u4")
    named = f"# AEChip: {chip}\r\n" if chip else ""
    head = f"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n{named}"
    return head.encode() + words.tobytes()


def dat(events: Events, kind: int = 0x0C, size: tuple[int, int] | None = None) -> bytes:
    """Return a Prophesee .dat file: text, a type and a size, then time (modulo 2^32) and address in 32 bits each."""
    words = np.zeros((len(events), 2), "<u4")
    words[:, 0] = events["t"] & 0xFFFF_FFFF
    words[:, 1] = events["x"] | (events["y"] << 14) | (events["p"] << 28)
    stated = f"% Width {size[0]}\n% Height {size[1]}\n".encode() if size else b""
    return b"% Data file containing CD events.\n% Version 2\n" + stated + bytes([kind, 8]) + words.tobytes()


def evt2(events: Events, triggers: int = 0) -> bytes:
    """Return a Prophesee .raw file in EVT2: words of 32 bits, the upper 28 bits of the time before what needs them."""
    words: list[int] = []
    high = -1
    for x, y, t, p in events.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 28 | high & 0xFFF_FFFF)
        words.append(p << 28 | (t & 0x3F) << 22 | x << 11 | y)
    words += [0xA << 28] * triggers
    return b"% evt 2.0\n% format EVT2;height=34;width=34\n% end\n" + np.array(words, "<u4").tobytes()


def evt3(events: Events, triggers: int = 0) -> bytes:
    """Return a Prophesee .raw file in EVT3: words of 16 bits; what an event shares with the one before is not said."""
    words: list[int] = []
    high = low = row = -1
    for x, y, t, p in events.tolist():
        if t >> 12 != high:
            high, low = t >> 12, 0
            words.append(8 << 12 | high & 0xFFF)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(6 << 12 | low)
        if y != row:
            row = y
            words.append(y)
        words.append(2 << 12 | p << 11 | x)
    words += [0xA << 12] * triggers
    return b"% evt 3.0\n% geometry 34x34\n% end\n" + np.array(words, "<u2").tobytes()


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


def make_cifar10_dvs(root: Path, count: int = 20, labels: Sequence[str] = ("airplane", "cat", "truck")) -> Path:
    """Write a part of CIFAR10-DVS into a folder: so many recordings of some classes, 0.4 s long, not from 0 on."""
    for place, label in enumerate(labels):
        for number in range(count):
            events = random_events(1000 * place + number, 600, Sensor(128, 128), 400_000, place)
            events["t"] += 2_000_000
            path = root / label / f"cifar10_{label}_{number}.aedat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(aedat2(events))
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
