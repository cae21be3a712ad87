"""IDX files: read to the byte, or refused with what is wrong with them."""

import contextlib
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.files.idx import read_idx
from hstnn_deploy.errors import DataError
from tests.conftest import write_idx

VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    write_idx(path, VALUES)
    return path


def zipped(file: Path) -> Path:
    path = file.with_suffix(".gz")
    path.write_bytes(gzip.compress(file.read_bytes()))
    return path


def test_values_and_shape_are_read(file: Path) -> None:
    found = read_idx(file, 3)
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.from_numpy(VALUES))


def test_gzipped_files_are_read_too(file: Path) -> None:
    assert torch.equal(read_idx(zipped(file), 3), torch.from_numpy(VALUES))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.integers(0, 99))
def test_any_array_of_bytes_comes_back(tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.getbasetemp() / "array"
    write_idx(path, values)
    assert np.array_equal(read_idx(path, len(shape)).numpy(), values)


@pytest.mark.parametrize("magic", [b"\x89PNG", bytes([0, 0, 9, 3]), bytes([0, 0, 8, 1]), bytes([1, 0, 8, 3])])
def test_a_wrong_magic_number_is_refused(file: Path, magic: bytes) -> None:
    file.write_bytes(magic + file.read_bytes()[4:])
    with pytest.raises(DataError, match=f"not an IDX file of 3 dimension.*begins with {magic.hex()}"):
        read_idx(file, 3)


def test_the_number_of_dimensions_must_be_the_expected_one(file: Path) -> None:
    with pytest.raises(DataError, match="not an IDX file of 1 dimension"):
        read_idx(file, 1)


@pytest.mark.parametrize("left", [0, 2, 4, 9, 15, 16, 39])
def test_a_truncated_file_is_refused(file: Path, left: int) -> None:
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(DataError, match="truncated" if left >= 4 else "not an IDX file"):
        read_idx(file, 3)


def test_a_file_that_is_too_long_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(DataError, match="too long: more than 40 bytes, but its header says 40"):
        read_idx(file, 3)


def test_a_header_that_promises_far_too_much_is_refused_without_trying(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:4] + b"\xff" * 12)
    with pytest.raises(DataError, match="truncated"):
        read_idx(file, 3)


def test_a_file_that_is_not_gzip_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match="gzip"):
        read_idx(file.rename(file.with_suffix(".gz")), 3)


def test_a_damaged_gzip_file_is_refused_wherever_it_breaks(file: Path) -> None:
    path = zipped(file)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_idx(path, 3)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        # A few bytes of a gzip header carry nothing (time, operating system); nothing else may slip through.
        with contextlib.suppress(DataError):
            assert torch.equal(read_idx(path, 3), torch.from_numpy(VALUES))


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_idx(tmp_path, 3)
