"""Inputs from a file of numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.data.files.inputs import read_inputs
from hstnn_deploy.errors import DataError


def test_samples_come_time_major(tmp_path: Path) -> None:
    x = np.arange(2 * 3 * 4, dtype=np.float64).reshape(2, 3, 4)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(2))
    for name in ("x.npy", "x.npz"):
        found = read_inputs(tmp_path / name, (4,))
        assert (found.dtype, list(found.shape)) == (torch.float32, [3, 2, 4])
        assert found[1, 1].tolist() == x[1, 1].tolist()
    assert read_inputs(tmp_path / "x.npy", (4,), most=1).shape == (3, 1, 4)


def test_one_sample_may_stand_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((5, 2, 3, 3)))
    assert read_inputs(tmp_path / "x.npy", (2, 3, 3)).shape == (5, 1, 2, 3, 3)


def test_tokens_are_whole_numbers_in_range(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[0, 3, 2]]))
    found = read_inputs(tmp_path / "x.npy", (), 4)
    assert (found.dtype, found.tolist()) == (torch.int64, [[0], [3], [2]])
    with pytest.raises(DataError, match="tokens from 0 to 2"):
        read_inputs(tmp_path / "x.npy", (), 3)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.ones((2, 3, 5)), r"shape \[2, 3, 5\]; the network takes \[N, T, 4\]"),
        (np.ones((0, 3, 4)), r"shape \[0, 3, 4\]"),
        (np.full((2, 3, 4), np.nan), "not finite numbers"),
        (np.full((2, 3, 4), 1e300), "too large for float32"),
        (np.full((2, 3, 4), "a"), "not finite numbers"),
        (np.ones((2, 3, 4), complex), "not finite numbers"),
    ],
)
def test_what_is_no_input_is_refused(x: np.ndarray, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match=says):
        read_inputs(tmp_path / "x.npy", (4,))


def test_objects_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[[{}]]]), allow_pickle=True)
    with pytest.raises(DataError):
        read_inputs(tmp_path / "x.npy", (1,))
