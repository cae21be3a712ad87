"""Probes of the host against known answers."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hstnn_deploy.profile import probes
from hstnn_deploy.profile.probes import CpuCores, HostMemory, OtherWork, WallClock, measured
from hstnn_deploy.profile.values import Measured, NotMeasured, find

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_ALLOCATES = """
import json
from hstnn_deploy.profile.probes import HostMemory, measured
with measured([HostMemory()]) as values:
    block = b"x" * 200_000_000
    del block
print(json.dumps([value.plain() for value in values]))
"""

_BURNS = """
import json, resource, time
from hstnn_deploy.profile.probes import CpuCores, WallClock, measured
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
with measured([WallClock("burnt"), CpuCores()]) as values:
    start, before = time.monotonic(), cpu()
    while cpu() - before < 0.5:
        sum(range(1000))
    wall, used = time.monotonic() - start, cpu() - before
print(json.dumps([[value.plain() for value in values], wall, used]))
"""


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@linux
def test_the_peak_sees_memory_that_is_free_again() -> None:
    before, peak = (value["value"] for value in json.loads(_run(_ALLOCATES)))
    assert peak - before == pytest.approx(200e6, rel=0.03)


@linux
def test_a_child_does_not_inherit_its_starter_s_peak() -> None:
    block = b"x" * 300_000_000
    peak = json.loads(_run(_ALLOCATES))[1]
    assert peak["source"] == "/proc/self/status VmHWM"
    assert peak["value"] < len(block)


def test_cores_in_use_agree_with_getrusage() -> None:
    pytest.importorskip("resource")
    plain, wall, used = json.loads(_run(_BURNS))
    numbers = {value["name"]: value["value"] for value in plain}
    assert numbers["burnt"] == pytest.approx(wall, rel=0.03)
    assert numbers["cpu_cores"] == pytest.approx(used / wall, rel=0.03)


def test_sleeping_uses_no_cores() -> None:
    with measured([CpuCores()]) as values:
        time.sleep(0.3)
    (cores,) = values
    assert isinstance(cores, Measured)
    assert cores.number < 0.2


@linux
def test_others_work_is_seen_apart_from_ones_own() -> None:
    with measured([OtherWork(), CpuCores()]) as values:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            sum(range(1000))
    others = find(values, "cpu_cores_others")
    assert isinstance(others, Measured)
    assert others.unit == "cores"
    assert others.number >= 0


@linux
def test_too_short_for_the_kernel_s_clock_is_not_measured() -> None:
    with measured([OtherWork()]) as values:
        pass
    assert isinstance(values[0], NotMeasured)


def test_the_device_is_waited_for_at_both_ends() -> None:
    waited: list[str] = []
    with measured([WallClock("all")], lambda: waited.append("waited")) as values:
        assert (waited, values) == (["waited"], [])
    assert waited == ["waited", "waited"]
    assert isinstance(values[0], Measured)


def test_without_proc_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probes, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(probes, "_STAT", tmp_path / "none")
    with measured([HostMemory(), OtherWork()]) as values:
        pass
    assert isinstance(find(values, "host_ram_before"), NotMeasured)
    assert isinstance(find(values, "cpu_cores_others"), NotMeasured)
    peak = find(values, "host_ram_peak")
    assert isinstance(peak, NotMeasured) or peak.source == "getrusage ru_maxrss"
