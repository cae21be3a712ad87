"""What the tests of `profile` share: small configurations, and records that nobody measured."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hstnn_deploy.profile.meter.accounts import no_device
from hstnn_deploy.profile.meter.gpu import no_allocator
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.profile.record import Configuration, Record
from hstnn_deploy.profile.values import Measured, Value
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from tests.conftest import TINY, settings


@pytest.fixture
def tiny() -> Recipe:
    """The digits with a network of a few units."""
    return load_recipe("digits", settings({**TINY, "batch": 100}))


def configured(recipe: Recipe, phase: str, **options: Any) -> Configuration:
    """Return the one configuration of a phase, on the CPU."""
    options = {"gpus": [None], "engines": ["fused"], "batches": [1], "seconds": 0.2, **options}
    (configuration,) = plan([recipe], phases=[phase], **options)
    return configuration


def measured(configuration: Configuration, **numbers: float) -> Record:
    """Return a record with made up figures."""
    figures: dict[str, tuple[float, str]] = {
        "cpu_cores": (1.0, "cores"),
        "cpu_cores_others": (0.0, "cores"),
        "host_ram_peak": (500e6, "B"),
        "host_ram_before": (400e6, "B"),
        "host_pss_peak": (450e6, "B"),
    }
    facts: dict[str, Any] = {
        "cpu": "a processor",
        "cores": 2,
        "versions": {"python": "3.11", "torch": "2.13"},
        "data": "real: some",
    }
    if configuration.phase == "train":
        figures |= {"train_pass": (10.0, "s"), "eval_pass": (2.0, "s"), "epoch": (12.0, "s")}
        figures |= {"throughput": (4321.0, "samples/s"), "step_p50": (0.0185, "s")}
        figures |= {f"step_{part}": (0.006, "s") for part in ("p99", "wait", "forward", "backward", "optimiser")}
        for name, steps in (("train", 540), ("eval", 60)):
            facts |= {f"{name}_steps": steps, f"{name}_steps_of": steps, f"{name}_steps_repeats": 1}
    else:
        figures |= {f"latency_p{share}": (share / 1e4, "s") for share in (50, 90, 99)}
        figures |= {"throughput": (4321.0, "samples/s")}
        facts |= {"calls": 1000, "runs_on": "torch cpu"}
    values: list[Value] = [
        Measured(name, numbers.get(name, number), unit, "a test") for name, (number, unit) in figures.items()
    ]
    no_gpu = "measured on the CPU: no GPU here"
    return Record(configuration, "measured", [*values, *no_device(no_gpu), *no_allocator(no_gpu)], facts)


def changed(record: Record, **facts: Any) -> Record:
    """Return a record with other facts."""
    return replace(record, facts={**record.facts, **facts})


class FakeNvml(ModuleType):
    """NVML with two devices that it numbers the other way round than CUDA does."""

    class NVMLError(Exception):
        """What every call raises on failure."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.uuids = ["GPU-bbbb", "GPU-aaaa"]
        self.used = {"GPU-aaaa": 1000, "GPU-bbbb": 5_000_000}
        self.running: dict[str, list[Any]] = {"GPU-aaaa": [], "GPU-bbbb": []}
        self.broken: set[str] = set()
        self.milliwatts, self.millijoules, self.throttle = 100_000, 5_000_000, 0

    def add(self, uuid: str, pid: int, used: int | None) -> None:
        """Let a process use a device."""
        self.running[uuid].append(SimpleNamespace(pid=pid, usedGpuMemory=used))

    NVML_CLOCK_SM = 1

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        self._check("utilisation")
        return SimpleNamespace(gpu=40)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        self._check("power")
        return self.milliwatts

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        self._check("energy")
        return self.millijoules

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        self._check("clock")
        return 1500

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:  # noqa: N802
        self._check("throttle")
        return self.throttle

    def _check(self, call: str) -> None:
        if call in self.broken:
            raise self.NVMLError(f"{call} is not supported")

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("init")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._check("count")
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return self.uuids[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in self.uuids:
            raise self.NVMLError("not found")
        return uuid

    def nvmlDeviceGetName(self, handle: str) -> bytes:  # noqa: N802
        return f"card {handle}".encode()

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return handle

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "999.1"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        self._check("memory")
        return SimpleNamespace(used=self.used[handle], total=12_000_000)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        self._check("processes")
        return self.running[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A fake NVML in the place of the real one; CUDA's device 0 is aaaa, and 1 is bbbb."""
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    for module in ("gpu", "nvml"):
        monkeypatch.setattr(
            f"hstnn_deploy.profile.meter.{module}.device_uuid", lambda ordinal: ["aaaa", "bbbb"][ordinal]
        )
    return fake
