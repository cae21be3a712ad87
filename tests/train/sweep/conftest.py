"""What the tests of sweeps share: a small job, and processes that do something else than train."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hstnn_deploy import processes
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.train.sweep.plan import Job, plan
from tests.conftest import TINY, settings

Instead = Callable[[str], None]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that trains in no time."""
    (found,) = plan([load_recipe("digits", [*settings(TINY), "kind=rnn"])], tmp_path / "runs")
    return found


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Instead:
    """Let every process of a job run some code instead; its arguments are those of the real one."""

    def change(code: str) -> None:
        monkeypatch.setattr(processes, "command", lambda *words: [sys.executable, "-c", code, *words[1:]])

    return change
