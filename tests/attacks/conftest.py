"""One yard and one process for all attacks of a test session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.fuzz import Range
from tests.attacks.outcome import Limits
from tests.attacks.yard import Yard


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    """Small valid files of every sort."""
    return Yard(tmp_path_factory.mktemp("yard"))


@pytest.fixture(scope="session")
def shooting(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    """The kinds of files, and the process that reads what is made of them."""
    made = Range(yard, tmp_path_factory.mktemp("range"), Limits(20, 256 * 2**20))
    yield made
    made.worker.close()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where a case that failed is left."""
    return tmp_path / "case"
