"""Arrays of .npy and .npz files: right where they are whole, one clear line and no memory where they are not."""

import contextlib
import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstnn_deploy.data.files import arrays
from hstnn_deploy.data.files.arrays import read_array, read_arrays, read_bounded
from hstnn_deploy.errors import DataError

SOUND: list[Any] = [
    np.arange(24.0).reshape(2, 3, 4),
    np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    np.arange(5).astype(">i4"),
    np.zeros((0, 3)),
    np.array(3.0),
    np.array([1, 2], np.float16),
    np.array([True, False]),
    np.zeros(3, [("x", "i4"), ("t", "<f8")]),
    np.array(["2001-01-01"], "M8[us]"),
    np.array(["ab", "c"]),
]


def npy(array: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, **options)
    return content.getvalue()


def claiming(header: str, values: bytes = b"", version: int = 1) -> bytes:
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(width, "little") + header.encode() + values


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return content.getvalue()


@pytest.mark.parametrize("array", SOUND, ids=lambda array: f"{array.dtype}{list(array.shape)}")
@pytest.mark.parametrize("mapped", [False, True])
def test_what_numpy_writes_is_read(array: Any, mapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if mapped and array.nbytes:
        monkeypatch.setattr(arrays, "_MAPPED", 1)
    path = tmp_path / "x.npy"
    for version in ((1, 0), (2, 0), (3, 0)):
        path.write_bytes(npy(array, version=version))
        for found in (read_array(path), read_array(path.read_bytes(), "content")):
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(found, array)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", x=array, other=np.zeros(2))
        found = read_array(tmp_path / "x.npz")
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1, 1)}"
DAMAGED: list[tuple[bytes, str]] = [
    (b"", "is damaged, or not a file of plain numbers"),
    (b"\x93NUMPY", "is damaged, or not"),
    (b"\x93NUMPY\x09\x00\x01\x00x", "is damaged, or not"),
    (npy(np.zeros(4))[:-1], "has 32 bytes, the file has 31 of them"),
    (npy(np.zeros(4)) + b"\0", "contains 1 more bytes than its array has"),
    (npy(np.zeros(4)) + npy(np.zeros(4)), "more bytes than its array has"),
    (npy(np.array([{}], object), allow_pickle=True), "contains Python objects"),
    (claiming(HUGE), "has 4000000000000 bytes, the file has 0"),
    (claiming(HUGE.replace("<f4", "V0")), "whose items have no bytes"),
    (claiming(HUGE.replace("1, 1", "-1, 1")), "its header is not one of numpy's"),
    (claiming(HUGE.replace("1, 1", "1.5, 1")), "its header is not one of numpy's"),
    (claiming(HUGE.replace("False", "0")), "its header is not one of numpy's"),
    (claiming("__import__('os').abort()"), "its header is not one of numpy's"),
    (claiming("[" * 900), "its header is not one of numpy's"),
    (claiming("'" * 3), "its header is not one of numpy's"),
    (claiming("0x_"), "its header is not one of numpy's"),
    (claiming("{'descr': '2001-99-99'}"), "its header is not one of numpy's"),
    (claiming("x" * 60_000), "is damaged, or not"),
    (claiming("x" * 10, version=2)[:-4], "is damaged, or not"),
    (zipped(), "contains no array"),
    (zipped(a=npy(np.zeros(1)), b=npy(np.zeros(1))), r"contains several arrays \(a, b\)"),
    (zipped(x=npy(np.zeros(4))[:-1]), "has 32 bytes, the file has 31 of them"),
    (zipped(x=claiming(HUGE)), "has 4000000000000 bytes, the file has 0"),
    (zipped(x=npy(np.zeros(4)))[:-30], "is damaged, or not a file of plain numbers"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_what_is_damaged_gets_one_line_and_no_memory(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    tracemalloc.start()
    for source in (path, content):
        with pytest.raises(DataError, match=message):
            read_array(source, "x.npy")
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()


def changed(content: bytes, field: int, value: int) -> bytes:
    """Return a .npz file with two bytes of its first entry in the directory replaced."""
    place = content.index(b"PK\x01\x02") + field
    return content[:place] + value.to_bytes(2, "little") + content[place + 2 :]


def test_zip_files_that_zipfile_itself_stumbles_over_get_one_line() -> None:
    content = zipped(x=npy(np.zeros(4)))
    for field, value, message in ((6, 168, "zip file version"), (10, 97, "compressed in a way"), (8, 1, "encrypted")):
        with pytest.raises(DataError, match=message):
            read_array(changed(content, field, value), "x.npz")
    wrong = bytearray(content)
    wrong[content.index(b"PK\x01\x02") + 16] ^= 1  # the checksum
    with pytest.raises(DataError, match="is damaged, or not a file of plain numbers"):
        read_array(bytes(wrong), "x.npz")
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("x.npy", npy(np.zeros(1)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", npy(np.ones(1)))
    with pytest.raises(DataError, match="two arrays called x"):
        read_array(twice.getvalue(), "x.npz")


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_damage_ends_in_an_array_or_in_one_line(data: st.DataObject) -> None:
    packed = data.draw(st.booleans())
    content = bytearray(zipped(x=npy(np.arange(6.0))) if packed else npy(np.arange(6.0)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    with contextlib.suppress(DataError):
        assert read_array(bytes(content), "x").nbytes < 1000


def test_what_is_larger_than_the_limit_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(4_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"contains an array of 32 MB .* at most 31 MB are read") as found:
        read_array(tmp_path / "x.npz", limit=31_000_000)
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()
    assert "--max-array" in found.value.hint
    assert read_array(tmp_path / "x.npz", limit=32_000_000).shape == (4_000_000,)


def test_a_large_member_is_unpacked_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_MAPPED", 2**20)
    wanted = np.arange(4_000_000.0)
    np.savez_compressed(tmp_path / "x.npz", x=wanted)
    tracemalloc.start()
    found = read_array(tmp_path / "x.npz")
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()
    np.testing.assert_array_equal(found, wanted)


def test_arrays_by_name_are_held_to_their_names_and_sizes() -> None:
    content = zipped(a=npy(np.zeros(4)), b=npy(np.ones(2)))
    assert set(read_arrays(content, {"a": 32, "b": 16, "c": 8})) == {"a", "b"}
    assert set(read_arrays(content, {"a": 32}, besides=None)) == {"a"}
    with pytest.raises(DataError, match="contains 'b', which does not belong there"):
        read_arrays(content, {"a": 32}, name="states")
    with pytest.raises(DataError, match="states: a contains an array of 32 bytes"):
        read_arrays(content, {"a": 31, "b": 16}, name="states")


def test_a_stream_is_read_up_to_a_limit() -> None:
    assert read_bounded(io.BytesIO(b"cd"), "pipe", 4, b"ab") == b"abcd"
    with pytest.raises(DataError, match="pipe is longer than the limit of 3 bytes"):
        read_bounded(io.BytesIO(b"cd"), "pipe", 3, b"ab")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.npy: No such file"):
        read_array(tmp_path / "none.npy")
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
        read_array(tmp_path)
