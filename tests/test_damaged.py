"""Every reader of foreign files meets damage of its own format, and raises nothing but this project's errors."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstnn_deploy import checkpoint
from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.cli import defaults
from hstnn_deploy.cli.runs import _facts
from hstnn_deploy.data import cache
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.events.aedat2 import read_aedat2
from hstnn_deploy.data.events.events import EVENT, Sensor
from hstnn_deploy.data.files.archives import unpack
from hstnn_deploy.data.files.arrays import read_array
from hstnn_deploy.data.files.idx import read_idx
from hstnn_deploy.data.own.config import OwnText
from hstnn_deploy.data.own.labels import read_labels
from hstnn_deploy.data.own.text import load as load_text
from hstnn_deploy.data.own.torch_file import numbers_of, read_torch
from hstnn_deploy.data.preprocessing import Frames, Pixels
from hstnn_deploy.data.readers import image_files
from hstnn_deploy.data.readers.event_columns import Expected
from hstnn_deploy.data.readers.event_files import read_recording
from hstnn_deploy.data.sets import cifar10_dvs, dvs_gesture, heidelberg, tiny_imagenet
from hstnn_deploy.errors import HstnnError
from hstnn_deploy.export.graph.from_nir import read_nir
from hstnn_deploy.export.graph.neuromorphic import write_nir
from hstnn_deploy.export.runtime import input_files
from hstnn_deploy.models.stack import StackConfig
from hstnn_deploy.profile import records
from hstnn_deploy.profile.plan import matrix
from hstnn_deploy.profile.record import lines
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.runs import RunFolder
from hstnn_deploy.train.ranking import SelectionResult
from hstnn_deploy.train.sweep import points
from hstnn_deploy.train.traces import read_traces
from tests.event_files import aedat, aedat2, random_events, write_bin, write_hdf5, write_npy
from tests.profile.conftest import configured, measured
from tests.test_checkpoint import example
from tests.tiny_imagenet import WNIDS, jpeg

SENSOR = Sensor(34, 34)
EVENTS = random_events(0, 40, SENSOR, 60_000)


class Reader(NamedTuple):
    name: str
    """Of the file."""
    write: Callable[[Path], Any]
    """Writes a small valid one."""
    read: Callable[[Path], Any]
    """Reads it, and uses what was read as far as a command does before it is lost in numbers."""
    text: bool = False
    """Whether values in it are replaced as well as bytes."""


def _npy(array: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, array)


def _image(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)


def _read_image(path: Path) -> None:
    given = input_files.read_file(path)
    how = Pixels(width=8, height=8, colours=1)
    image_files.read_image(given.content(), given.name, how, False, lambda _: None)


def _read_events(path: Path) -> None:
    frames = Frames(sensor=SENSOR, transforms=[], frame_time=3000, steps=15, binary=False)
    read_recording(path, Expected(frames, "nmnist"))


def _idx() -> bytes:
    return bytes([0, 0, 8, 2]) + struct.pack(">II", 3, 4) + bytes(range(12))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Train/0/a.bin", bytes(100))


def _tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("Train/0/a.bin")
        member.size = 100
        archive.addfile(member, io.BytesIO(bytes(100)))


def _unpack(path: Path) -> None:
    # What it unpacks to is in the way of the next one.
    unpack(path.rename(path.parent / "again" / path.name), "Train")


def _dat(path: Path) -> None:
    rows = np.stack([EVENTS["t"], EVENTS["x"] | EVENTS["y"] << 14 | EVENTS["p"] << 28], 1).astype("<u4")
    path.write_bytes(b"% Data file containing CD events.\n% Version 2\n" + bytes([12, 8]) + rows.tobytes())


def _tiny(path: Path) -> None:
    """Write a Tiny-ImageNet of one image a split round its table of images and classes."""
    (path.parent / "wnids.txt").write_text("\n".join(WNIDS))
    for name in (f"train/{WNIDS[0]}/images/a.JPEG", "val/images/val_0.JPEG"):
        (path.parent / name).parent.mkdir(parents=True)
        (path.parent / name).write_bytes(jpeg(0))
    path.write_text(f"val_0.JPEG\t{WNIDS[0]}\t0\t0\t63\t63\n")


def _read_tiny(path: Path) -> None:
    path.rename(path.parent / "val" / path.name)
    tiny_imagenet.files_in(path.parent)


def _read_hdf5(path: Path) -> None:
    recordings = heidelberg.Hdf5Recordings(path, 20)
    for number in range(len(recordings.target)):
        recordings.read(number)


def _gestures(path: Path) -> None:
    path.with_name("user01.aedat").write_bytes(aedat(EVENTS))
    path.write_text("class,startTime_usec,endTime_usec\n1,0,30000\n2,30000,60000\n", encoding="utf-8")


def _read_gestures(path: Path) -> None:
    path.with_name("list.txt").write_text("user01.aedat\n", encoding="utf-8")
    recordings = dvs_gesture.AedatRecordings.of(path.parent, "list.txt")
    for number in range(len(recordings.target)):
        recordings.read(number)


TRACED = {(0, "snn"): 2, (0, "rnn"): 3}


def _read_own(path: Path) -> None:
    held = read_torch(path)
    for name in held if isinstance(held, dict) else ():
        numbers_of(held[name], str(name))


def _traces(path: Path) -> None:
    groups = [{"layer": layer, "kind": kind, "scale": [1.0] * units} for (layer, kind), units in TRACED.items()]
    checkpoint.save(path, "traces", {"groups": groups, "samples": torch.ones(4, 5, dtype=torch.float64)})


def _selection(path: Path) -> None:
    units = [
        {"layer": 1, "kind": kind, "kept": [0, 1], "importance": [1.0], "standard_error": [0.1], "stability": [1.0]}
        for kind in ("snn", "rnn")
    ]
    facts = {"ratio": 0.5, "counts": {"snn": 2, "rnn": 2}, "probes": 4, "bootstraps": 2, "seed": 1}
    path.write_text(json.dumps({**facts, "mean_stability_of_kept": 1.0, "units": units}))


def _read_selection(path: Path) -> None:
    from hstnn_deploy.errors import RunError
    from hstnn_deploy.foreign import reading
    from hstnn_deploy.models.sizes import Sizes

    with reading(path, "a selection", RunError):
        selection = SelectionResult.model_validate_json(path.read_bytes())
        selection.check_fits([Sizes(3, 3)])
        selection.kept()


def _status(path: Path) -> None:
    run = RunFolder(path.parent)
    run.claim_recipe(load_recipe("digits").for_stage("adapt"))
    best = {"epoch": 1, "valid_loss": 1.0, "valid_accuracy": 50.0, "train_seconds": 1.0, "valid_seconds": 1.0}
    result = {"epoch": 1, "valid": best, "test": {"loss": 1.0, "accuracy": 50.0}, "protocol": "validation"}
    run.set_status("finished", epoch=2, epochs=2, best=best, result=result)


def _read_status(path: Path) -> None:
    from hstnn_deploy.cli.board import result_line

    run = RunFolder(path.parent)
    run.status()
    result_line(run)
    _facts(run)


def _records(path: Path) -> None:
    recipe = load_recipe("digits", ["network.units=[3, 2]"])
    path.write_text(lines([measured(configured(recipe, "train"), epoch=1.5)]), encoding="utf-8")


def _read_records(path: Path) -> None:
    from hstnn_deploy.profile.show import report
    from hstnn_deploy.report.costs import identity, label

    for record in (found := records.read(path)):
        label(record)
        identity(record)
    report.text(found)


def _checkpoint(path: Path) -> None:
    example().save(path)


def _nir(path: Path) -> None:
    layers: list[Any] = [{"linear": 4}, {"feedback": {"each": {"decay": "unit"}}}, {"residual": [{"linear": 4}]}, "lif"]
    write_nir(StackConfig(input=[3], layers=layers, readout="every").build([]).eval(), path)


READERS = {
    "recipe": Reader(
        "r.yaml", lambda path: path.write_text(load_recipe("nmnist-small").yaml()), lambda p: load_recipe(str(p)), True
    ),
    "sweep file": Reader(
        "s.yaml",
        lambda path: path.write_text(
            "recipe: digits\naxes: {ratio: [0.25, 0.5], seed: [1, 2]}\nset: {adapt.epochs: 2}\n"
        ),
        lambda path: points.read(str(path)).recipes("s.yaml"),
        True,
    ),
    "matrix": Reader(
        "m.yaml", lambda path: path.write_text("recipe: [digits]\nbatch: [1, 2]\nseconds: 2\n"), matrix.read, True
    ),
    "status": Reader("status.json", _status, _read_status, True),
    "selection": Reader("selection.json", _selection, _read_selection, True),
    "records": Reader("records.jsonl", _records, _read_records, True),
    "checkpoint": Reader("best.pt", _checkpoint, lambda path: Checkpoint.load(path).network()),
    "traces": Reader("traces.pt", _traces, lambda path: read_traces(path, TRACED)),  # type: ignore[arg-type]
    "N-MNIST": Reader("a.bin", lambda path: write_bin(path, EVENTS), lambda path: _read_events(path)),
    "AEDAT 3": Reader("a.aedat", lambda path: path.write_bytes(aedat(EVENTS)), lambda path: _read_events(path)),
    "AEDAT 2": Reader(
        "a.aedat", lambda path: path.write_bytes(aedat2(EVENTS)), lambda path: cifar10_dvs.read_recording(path)
    ),
    "AEDAT 2 of a DAVIS": Reader(
        "a.aedat",
        lambda path: path.write_bytes(aedat2(EVENTS, "eu.seebetter.DAVIS240C", (240, 180))),
        lambda path: read_aedat2(path),
    ),
    "defaults": Reader(
        "hstnn.toml",
        lambda path: path.write_text('device = "cpu"\nthreads = 2\nruns = "runs"\ndata-dir = "data"\n'),
        lambda path: defaults.read(path),
        True,
    ),
    "Prophesee": Reader("a.dat", _dat, lambda path: _read_events(path)),
    "events": Reader("a.npy", _npy(EVENTS.astype(EVENT)), lambda path: _read_events(path)),
    "array": Reader("x.npy", _npy(np.ones((4, 1, 8))), lambda path: read_array(path, str(path))),
    "arrays": Reader("x.npz", lambda path: np.savez(path, x=np.ones(4)), lambda path: read_array(path, str(path))),
    "image": Reader("x.png", _image, _read_image),
    "JPEG": Reader("a.JPEG", lambda path: path.write_bytes(jpeg(0)), lambda path: tiny_imagenet.read_jpeg(path)),
    "classes": Reader(
        "wnids.txt",
        lambda path: path.write_text("\n".join(WNIDS)),
        lambda path: tiny_imagenet.read_classes(path),
    ),
    "classes of images": Reader("val_annotations.txt", _tiny, _read_tiny),
    "IDX": Reader("x-idx2-ubyte", lambda path: path.write_bytes(_idx()), lambda path: read_idx(path, 2)),
    "gzipped IDX": Reader(
        "x-idx2-ubyte.gz", lambda path: path.write_bytes(gzip.compress(_idx())), lambda path: read_idx(path, 2)
    ),
    "zip": Reader("a.zip", _zip, _unpack),
    "tar": Reader("a.tar.gz", _tar, _unpack),
    "HDF5": Reader("shd.h5", lambda path: write_hdf5(path, [EVENTS[:9], EVENTS[:5]], [0, 1]), _read_hdf5),
    "NIR": Reader("network.nir", _nir, lambda path: read_nir(path)),
    "gesture": Reader(
        "0.npy",
        lambda path: write_npy(path, EVENTS),
        lambda path: dvs_gesture.NpyRecordings(path.parent, [path]).read(0),
    ),
    "own list": Reader(
        "labels.csv",
        lambda path: path.write_text("file,label,split,group\na.png,up,train,s1\nb.png,down,test,s2\n"),
        lambda path: read_labels(path, 100),
        True,
    ),
    "own tensors": Reader(
        "a.pt",
        lambda path: torch.save({"x": torch.ones(9, 2), "y": torch.arange(9) % 3}, path),
        lambda path: _read_own(path),
    ),
    "own text": Reader(
        "a.txt",
        lambda path: path.write_text("a b c\n" * 9),
        lambda path: load_text(OwnText(path=str(path)), Source()),
        True,
    ),
    "gesture table": Reader("user01_labels.csv", _gestures, _read_gestures, True),
}

HOSTILE = [
    "null",
    "-1",
    "1e999",
    "NaN",
    "[]",
    "{}",
    '""',
    "9" * 30,
    "[[[[[[]]]]]]",
    "\x1b[2J",
    "1.5",
    "true",
    "é",
    "''",
]


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes, bool], bytes]:
    """Return what makes damaged content of valid content: a cut, bytes changed, taken out or put in, other values."""
    how = draw(st.sampled_from(["cut", "flip", "take out", "put in", "value", "value"]))
    place, length = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 8))
    new, hostile = draw(st.binary(min_size=1, max_size=4)), draw(st.sampled_from(HOSTILE))

    def damaged(raw: bytes, text: bool) -> bytes:
        at = int(place * len(raw))
        if how == "cut":
            return raw[:at]
        if how == "take out":
            return raw[:at] + raw[at + length :]
        if how == "put in":
            return raw[:at] + new + raw[at:]
        if how == "value" and text:
            # The value behind the next colon, up to where it ends.
            begin = raw.find(b":", at) + 1
            ends = [found for mark in b",}]\n" if (found := raw.find(bytes([mark]), begin)) >= 0]
            return raw[:begin] + b" " + hostile.encode() + raw[min(ends, default=len(raw)) :]
        return raw[:at] + new + raw[at + len(new) :]

    return damaged


@pytest.mark.parametrize("kind", READERS)
@given(damage=damages())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore")
def test_damage_is_an_error_of_ours_or_none(
    kind: str, damage: Callable[[bytes, bool], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    reader = READERS[kind]
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "again").mkdir()
    path = folder / reader.name
    reader.write(path)
    path.write_bytes(damage(path.read_bytes(), reader.text))
    said = ""
    try:
        reader.read(path)
    except HstnnError as error:
        said = error.message
    assert "\n" not in said


@pytest.mark.parametrize("kind", READERS)
def test_what_is_not_damaged_is_read(kind: str, tmp_path: Path) -> None:
    reader = READERS[kind]
    (tmp_path / "again").mkdir()
    reader.write(tmp_path / reader.name)
    reader.read(tmp_path / reader.name)


@pytest.mark.parametrize("read", [lambda path: read_array(path, str(path)), lambda path: _read_events(path)])
def test_a_header_that_claims_terabytes_is_refused(read: Callable[[Path], Any], tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1, 8), }".ljust(117) + "\n"
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64))
    with pytest.raises(HstnnError):
        read(path)


def test_an_image_of_225_million_pixels_is_refused_in_one_line(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 15_000, 15_000, 8, 0, 0, 0, 0)
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(HstnnError, match="at most 64 million pixels"):
        _read_image(path)


@pytest.mark.parametrize("claim", [2**20, 2**31 - 1])
def test_a_small_gzip_stream_that_unpacks_to_much_is_not_unpacked(tmp_path: Path, claim: int) -> None:
    path = tmp_path / "x-idx2-ubyte.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 2]) + struct.pack(">II", 1, claim) + bytes(2**21)))
    with pytest.raises(HstnnError, match=r"too long: more than 10485\d+ bytes|truncated: 2097164 bytes"):
        read_idx(path, 2)


KEY = cache.Key("a-set", "train", {"a": 1, "b": [1, 2]})
ROWS = [np.array(row, np.int32) for row in ([0, 1, 2], [], [1, 2, 3, 4, 0])]


@given(damage=damages())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_cache_entry_is_made_anew_whatever_the_damage(
    damage: Callable[[bytes, bool], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    cache.on_disk(KEY, lambda: ROWS)
    raw = KEY.path.read_bytes()
    KEY.path.unlink()  # else the damage would reach what is mapped into memory
    KEY.path.write_bytes(damage(raw, True))
    cache.entries()
    found = cache.on_disk(KEY, lambda: ROWS)
    assert found.values.tolist() == [value for row in ROWS for value in row]
    assert found.offsets.tolist() == [0, 3, 3, 8]
    KEY.path.unlink()
