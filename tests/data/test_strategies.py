"""Every other way to keep recordings hands out the same batches as ours, to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hstnn_deploy.data.events.recordings import EventConfig
from hstnn_deploy.data.events.strategies import Dense, Naive, Sparse, TonicDisk, equal, first_difference
from hstnn_deploy.data.files.folder import silent
from hstnn_deploy.data.registry import DATA_SETS, DataConfig
from hstnn_deploy.data.splits import Batch, Split
from hstnn_deploy.profile.phases.loaders import Strategy, Subject, of_recordings
from tests.conftest import in_part

CPU = torch.device("cpu")
CASES: dict[str, dict[str, Any]] = {
    "first frames": {"crop": "first"},
    "binary": {"crop": "first", "binary": True},
    "whole": {"crop": "first", "steps": None},
    "random crops": {"crop": "random", "steps": 3},
}


def strategies(made: tuple[Path, DataConfig], folder: Path, changes: dict[str, Any]) -> dict[str, Split]:
    root, config = made
    changed = type(config).model_validate(config.model_dump() | changes)
    data_set = DATA_SETS[config.name]
    assert data_set.recordings is not None
    assert isinstance(changed, EventConfig)
    subject = Subject(data_set.recordings(changed, root)["train"], changed, CPU, folder, silent)
    return {each.name: each.make() for each in of_recordings(subject) if isinstance(each, Strategy)}


@pytest.mark.parametrize("case", in_part(CASES, 2))
def test_every_strategy_hands_out_our_batches(made: tuple[Path, DataConfig], tmp_path: Path, case: str) -> None:
    found = strategies(made, tmp_path / "kept", CASES[case])
    assert len(found) == (6 if case == "random crops" else 11)
    count = len(found["--cache disk, later epochs"])
    assert {len(each) for each in found.values()} == {count}
    order = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    for indices in order.split(7):
        torch.manual_seed(5)
        ours = found["--cache disk, later epochs"].batch(indices, CPU)
        assert ours.x.sum() > 0
        for name, split in found.items():
            torch.manual_seed(5)
            batch = split.batch(indices, CPU)
            assert equal(ours, batch), name
            assert batch.target.dtype == ours.target.dtype
        assert first_difference(found, indices, CPU) is None


def test_what_is_written_stays_in_the_folder_that_was_given(made: tuple[Path, DataConfig], tmp_path: Path) -> None:
    strategies(made, tmp_path / "kept", {"crop": "first"})
    assert list((tmp_path / "kept").rglob("*.rows"))
    assert list((tmp_path / "kept").rglob("*.hdf5"))


def test_a_strategy_that_loads_something_else_is_named(made: tuple[Path, DataConfig], tmp_path: Path) -> None:
    class Wrong:
        def __len__(self) -> int:
            return len(right)

        def batch(self, indices: torch.Tensor, device: torch.device) -> Batch:
            batch = right.batch(indices, device)
            return batch._replace(x=batch.x + 1)

    right = strategies(made, tmp_path, {"crop": "first"})["naive"]
    assert first_difference({"right": right, "wrong": Wrong()}, torch.arange(4), CPU) == "wrong"


def test_recordings_of_a_cochlea_and_a_camera_have_their_own_steps(
    made: tuple[Path, DataConfig], tmp_path: Path
) -> None:
    found = strategies(made, tmp_path, {"crop": "first", "steps": 4})
    kinds = {"naive": Naive, "tonic disk, later epochs": TonicDisk, "memory, dense": Dense, "device, sparse": Sparse}
    for name, kind in kinds.items():
        assert isinstance(found[name], kind)
        x = found[name].batch(torch.tensor([0, 2]), CPU).x
        assert x.shape[:2] == (4, 2)
        assert x.ndim == (3 if made[1].name in {"shd", "ssc"} else 5)
