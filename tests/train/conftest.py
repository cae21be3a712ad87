"""What the tests of `train` share."""

from pathlib import Path

import pytest

from hstnn_deploy.train.stages import train
from tests.train.stage_cases import tiny


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folders of an uninterrupted hybrid."""
    out = tmp_path_factory.mktemp("whole")
    train(tiny(), out)
    return out
