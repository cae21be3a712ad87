"""Checkpoints are written whole, or the old file stays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hstnn_deploy import checkpoint
from hstnn_deploy.errors import CheckpointError, RunError
from hstnn_deploy.models.sizes import Sizes
from tests.test_checkpoint import example


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    example().save(path)
    return path


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "value", [np.float64(3), np.arange(3), Path("somewhere"), Sizes, object(), {1: {2: [np.int64(1)]}}]
)
def test_what_a_safe_load_would_refuse_is_refused_when_it_is_saved(file: Path, value: object) -> None:
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=str(file)):
        checkpoint.save(file, "network", {"value": value})
    assert file.read_bytes() == before
    assert left_behind(file.parent) == ["best.pt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_save_that_is_cut_short_leaves_the_old_file_and_nothing_else(
    file: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    before = file.read_bytes()
    real = torch.save

    def half(value: object, target: Any) -> None:
        real(value, target)
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(error):
        example().save(file)
    assert file.read_bytes() == before
    assert left_behind(file.parent) == ["best.pt"]


def test_a_full_disk_is_a_run_error_that_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    before = file.read_bytes()
    # The system's own refusal to write more, as close to a full disk as a test can come.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(RunError, match=f"cannot write {file}"):
            example().save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert left_behind(file.parent) == ["best.pt"]


def test_saving_where_nothing_can_be_saved_is_a_run_error(blocked: Path) -> None:
    with pytest.raises(RunError, match="a file, not a folder"):
        example().save(blocked / "best.pt")


def test_a_saved_file_can_be_read_by_others_as_usual(file: Path) -> None:
    plain = file.with_name("plain")
    plain.write_text("")
    assert file.stat().st_mode == plain.stat().st_mode
