"""Machine code of kernels is kept for all processes of a user, and nothing breaks where it cannot be."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hstnn_deploy.models.kernels.generated import compiled
from hstnn_deploy.models.kernels.generated.source import Text
from tests.conftest import PATIENCE

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")

SOURCE = """
import numpy as np


def run(k, out, start, stop):
    for j in range(start, stop):
        out[j] = out[j] * k[0]
"""
TEXT = Text(SOURCE, "void(float32[::1], float32[::1], int64, int64)", (2.0,), ())


def hits(folder: Path, queue: "multiprocessing.Queue[int]") -> None:
    compiled.folder = lambda: folder
    compiled._function.cache_clear()
    assert works()
    queue.put(sum(compiled.function(TEXT).stats.cache_hits.values()))  # type: ignore[attr-defined]


def at_once(count: int, folder: Path) -> list[int]:
    """Return how often each of some processes found machine code in a folder."""
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[int] = context.Queue()
    processes = [context.Process(target=hits, args=(folder, queue)) for _ in range(count)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    return found


def test_eight_processes_at_once_and_those_after_them(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    at_once(8, folder)
    assert at_once(2, folder) == [1, 1]
    assert not folder.stat().st_mode & 0o077
    assert len(list(folder.glob("*.py"))) == 1
    assert not list(folder.glob(".*"))


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kernels"
    monkeypatch.setattr(compiled, "folder", lambda: folder)
    compiled._function.cache_clear()
    return folder


def works() -> bool:
    out = np.ones(3, np.float32)
    compiled.function(TEXT)(np.array([2], np.float32), out, 0, 3)
    return out.tolist() == [2, 2, 2]


def test_a_folder_that_cannot_be_made_is_done_without(own_folder: Path) -> None:
    own_folder.write_text("a file in its place")
    assert works()
    assert own_folder.read_text() == "a file in its place"


def test_a_folder_that_others_may_write_is_not_used(own_folder: Path) -> None:
    own_folder.mkdir(mode=0o777)
    own_folder.chmod(0o777)
    assert works()
    assert not list(own_folder.iterdir())


def test_what_lies_there_is_not_run(own_folder: Path) -> None:
    assert works()
    (path,) = own_folder.glob("*.py")
    path.write_text("raise SystemExit")
    compiled._function.cache_clear()
    assert works()
    assert next(iter(own_folder.rglob("*.nbc"))).stat().st_size
    for each in own_folder.rglob("*.nb?"):
        each.write_bytes(b"cut short")
    compiled._function.cache_clear()
    assert works()
    assert "Written by hstnn-deploy" in path.read_text()


def test_it_is_said_once_what_takes_long(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "_PATIENCE", 0.0)
    monkeypatch.setattr(compiled, "_told", False)
    assert works()
    monkeypatch.setattr(compiled, "_told", False)
    compiled._function.cache_clear()
    assert works()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("compiling kernels")


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("import os; os.environ['NUMBA_DISABLE_JIT'] = '1'", "numba is switched off by NUMBA_DISABLE_JIT"),
        ("sys.modules['numba.core'] = None", "numba cannot be imported: "),
    ],
)
def test_a_numba_that_does_not_work_is_named(breaks: str, said: str) -> None:
    program = (
        f"import sys; {breaks}; from hstnn_deploy.models.kernels.generated import compiled as c; print(c.problem())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(said)


def test_threads_share_the_units() -> None:
    from hstnn_deploy.models.kernels.generated import window

    for units in (0, 1, 17, 2048, 5000, 100_000):
        for threads in (1, 2, 3, 8):
            seen = torch.zeros(units, dtype=torch.int64)

            def add(start: int, stop: int, seen: torch.Tensor = seen) -> None:
                seen[start:stop] += 1

            window._in_parts(add, units, threads)
            assert bool((seen == 1).all())
