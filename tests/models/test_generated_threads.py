"""Kernels are run by torch's own threads or by Python's, whole each time: in forks, regions and several at once."""

import ctypes
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import torch

from hstnn_deploy.models.kernels.generated import compiled, source, threads, window
from tests.conftest import PATIENCE
from tests.models.test_generated_cache import doubled, run

pytestmark = pytest.mark.skipif(not compiled.available(), reason=compiled.problem())


@pytest.fixture(params=["torch's", "Python's"])
def own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "Python's":
        monkeypatch.setattr(threads, "_parallel", lambda: None)
    elif threads._parallel() is None:
        pytest.skip("torch has no OpenMP here whose GOMP_parallel could be called")
    return str(request.param)


def right(units: int, count: int, size: int) -> bool:
    out = torch.ones(units + 1)
    run(compiled.function(doubled()).address, out[:units], count, size)
    return bool((out[:units] == 2).all()) and float(out[units]) == 1


def test_each_unit_is_taken_once(own: str) -> None:
    for units in (0, 1, 17, 2048, 5000, 100_000):
        for count in (1, 2, 3, 8):
            for size in (1, 64, 999, 10**6):
                if units <= 1000 * size:
                    assert right(units, count, size), (units, count, size)


def test_parts_are_whole_pairs_of_rows_and_as_many_for_each_thread() -> None:
    for units in (0, 1, 63, 64, 65, 8192, 8193, 16384, 80_000, 10**6):
        for count in (1, 2, 3, 16):
            for multiple in (0, 4, 6000):
                size = window._part(units, count, multiple)
                assert size > 0
                assert size % (multiple or 64) == 0
                assert size < source.BLOCK + (multiple or 64)
    assert window._part(80_000, 2, 0) * 6 >= 80_000 > window._part(80_000, 2, 0) * 5
    assert window._part(16_384, 2, 0) == 8192


def test_several_threads_of_python_at_once(own: str) -> None:
    found: list[bool] = []

    def several() -> None:
        found.append(all(right(50_000, 2, 64) for _ in range(20)))

    calls = [threading.Thread(target=several) for _ in range(4)]
    for call in calls:
        call.start()
    for call in calls:
        call.join(PATIENCE)
    assert found == [True] * 4


def in_child(queue: "multiprocessing.Queue[bool]") -> None:
    # Few enough that torch itself, which would wait for its own threads, uses one.
    queue.put(right(20_000, 2, 64))


def right_in_a_fork(target: Callable[["multiprocessing.Queue[bool]"], None] = in_child) -> bool:
    """Whether a process that is forked now answers, and answers right."""
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[bool] = context.Queue()
    process = context.Process(target=target, args=(queue,))
    process.start()
    try:
        return queue.get(timeout=PATIENCE)
    finally:
        process.kill()
        process.join(PATIENCE)


def test_a_forked_process_does_not_wait_for_the_threads_of_its_parent(own: str) -> None:
    assert right(50_000, 2, 64)
    assert right_in_a_fork()


def test_a_process_that_is_forked_while_another_thread_compiles_compiles_too(own: str) -> None:
    held, done = threading.Event(), threading.Event()

    def compiles() -> None:
        with compiled._lock:
            held.set()
            done.wait(PATIENCE)

    other = threading.Thread(target=compiles)
    other.start()
    held.wait(PATIENCE)
    try:
        assert right_in_a_fork()
    finally:
        done.set()
        other.join(PATIENCE)


def test_inside_of_a_parallel_region(own: str) -> None:
    if own != "torch's":
        pytest.skip("Python's threads know no regions")
    found: list[bool] = []
    region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: found.append(right(50_000, 2, 64)))
    threads._parallel()(ctypes.cast(region, ctypes.c_void_p), None, 2, 0)
    assert found == [True, True]


def test_the_threads_are_those_of_torch() -> None:
    """A kernel on two threads after an operation on two starts no others: it uses those that there are."""
    program = """
import os, threading as python, time, torch
torch.set_num_threads(3)
torch.rand(10**7) + 1
from hstnn_deploy.models.kernels.generated import compiled, threads
from tests.models.test_generated_threads import right
from tests.models.test_generated_cache import doubled
compiled.function(doubled())  # while it compiles, a timer has a thread, which takes a moment to end
until = time.monotonic() + 60
while python.active_count() > 1 and time.monotonic() < until:
    time.sleep(0.01)
before = len(os.listdir("/proc/self/task"))
if threads._parallel() is not None:
    assert right(100_000, 3, 64)
    assert len(os.listdir("/proc/self/task")) == before, (before, len(os.listdir("/proc/self/task")))
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("counts threads in /proc")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
