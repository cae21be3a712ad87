"""Files that end early, claim too much, or change while they are read: one line each, in bounded time and memory."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hstnn_deploy.data.readers import event_files
from hstnn_deploy.data.readers.event_files import FORMATS
from hstnn_deploy.errors import DataError, HstnnError
from tests.event_encoders import fields
from tests.event_files import aedat, dat
from tests.event_forms import FORMS, NMNIST, REF, frames, opened, read
from tests.libraries import installed

MIB = 2**20


@pytest.mark.parametrize("change", [b"", b"more"])
@pytest.mark.parametrize("name", ["tonic", "table", "dat", "AEDAT 3.1", "N-MNIST", "HDF5", "Matlab", "one array"])
def test_a_file_that_is_written_to_while_it_is_read_is_refused(
    name: str, change: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = FORMS[name]
    path = tmp_path / f"a{form.suffix}"
    form.write(path, REF, NMNIST.sensor)
    kind = FORMATS[form.format]

    def meanwhile(given: Path, options: Any) -> Any:
        found = kind.read(given, options)
        content = given.read_bytes()
        given.write_bytes(content + change if change else content[: len(content) // 2])
        return found

    monkeypatch.setitem(event_files.FORMATS, form.format, kind._replace(read=meanwhile))
    with pytest.raises(DataError, match=r"changed while hstnn read it: it had \d+ bytes and now has \d+$") as error:
        read(path)
    assert "wait until" in error.value.hint


def test_a_large_array_that_shrinks_while_it_is_read_does_not_end_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapped file that is cut ends a process without a word; this one is larger than what is mapped elsewhere."""
    from hstnn_deploy.data.files.arrays import read_array as whole
    from hstnn_deploy.data.readers import event_arrays

    path = tmp_path / "a.npy"
    count = 65 * MIB // 16
    events = np.zeros(count, [("t", "<i8"), ("x", "<i4"), ("y", "<i2"), ("p", "<i2")])
    events["t"] = np.arange(count) // 20
    np.save(path, events)

    def cut(*given: Any, **how: Any) -> Any:
        values = whole(*given, **how)
        os.truncate(path, 4096)
        return values

    monkeypatch.setattr(event_arrays, "read_array", cut)
    with pytest.raises(DataError, match="changed while hstnn read it"):
        read(path)


@pytest.mark.parametrize("name", FORMS)
def test_a_file_that_ends_anywhere_gives_a_part_of_the_events_or_one_line(name: str, tmp_path: Path) -> None:
    """At 60 places from its beginning to its end; what has no count of its events may be a part of them."""
    form = FORMS[name]
    if form.needs:
        installed(form.needs)
    path, said = tmp_path / f"a{form.suffix}", form.said.format(w=34, h=34)
    form.write(path, REF, NMNIST.sensor)
    content = path.read_bytes()
    whole = read(path, said=said).events
    for end in np.unique(np.geomspace(1, len(content) - 1, 60).astype(int)).tolist():
        path.unlink()
        path.write_bytes(content[:end])
        try:
            found = opened(path, said)
        except HstnnError as error:
            assert "\n" not in error.message  # noqa: PT017
            continue
        if found is None:
            continue
        part = found.events
        assert len(part) <= len(whole)
        assert form.format in ("bin", "dat", "raw", "text", "aedat", "aedat2"), f"{end} of {len(content)} bytes"
        # The last line of a text may be a shorter number.
        sure = len(part) - (form.format == "text")
        for each in "xyp":
            assert np.array_equal(part[each][:sure], whole[each][:sure])


def shape(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def claims_npy() -> bytes:
    told = str({"descr": fields(REF).dtype.descr, "fortran_order": False, "shape": (10**12,)})
    return b"\x93NUMPY\x01\x00" + len(told).to_bytes(2, "little") + told.encode() + bytes(64)


def claims_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", (2**40,), "i8", chunks=(2**16,))


def claims_aedat(path: Path) -> None:
    content = bytearray(aedat(REF))
    at = content.index(b"Header\r\n") + 8
    content[at + 16 : at + 24] = b"\xff\xff\xff\xff" * 2
    path.write_bytes(content)


CLAIMS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "array": (".npy", lambda path: path.write_bytes(claims_npy())),
    "tables": (".h5", claims_hdf5),
    "packet": (".aedat", claims_aedat),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_of_terabytes_cost_nothing(name: str, tmp_path: Path) -> None:
    suffix, write = CLAIMS[name]
    path = tmp_path / f"a{suffix}"
    write(path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            opened(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


def test_a_claim_within_a_packed_file_of_arrays_costs_nothing(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("t.npy", claims_npy())
    with pytest.raises(DataError, match="truncated"):
        opened(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.npy", bytes(65 * MIB))
    with pytest.raises(DataError, match="unpacks to"):
        opened(tmp_path / "b.npz")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_what_is_no_file_is_refused_before_it_is_waited_for(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.npy")
    with pytest.raises(DataError) as error:
        opened(tmp_path / "a.npy")
    assert error.value.hint == "give a file"


def test_a_recording_without_an_event_and_one_with_one(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(dat(REF[:0]))
    with pytest.raises(DataError, match=r"contains no events$"):
        read(tmp_path / "a.dat")
    (tmp_path / "a.dat").write_bytes(dat(REF[:1]))
    assert np.array_equal(frames(read(tmp_path / "a.dat").events), frames(REF[:1]))
    (tmp_path / "b.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"is empty$"):
        opened(tmp_path / "b.npy")
