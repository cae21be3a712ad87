"""What NVML shows of a device and a process, on a fake of it: containers, UUID order, lost GPUs, unsupported calls."""

import pytest

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.meter import accounts, sampler
from hstnn_deploy.profile.meter.accounts import Stretch
from hstnn_deploy.profile.meter.host import Reading
from hstnn_deploy.profile.meter.nvml import Device
from hstnn_deploy.profile.values import Measured, NotMeasured, Value, find
from tests.profile.conftest import FakeNvml

OURS = [4000, 4001]


def test_cuda_ordinals_are_taken_to_nvml_by_uuid(nvml: FakeNvml) -> None:
    first, second = Device(0, OURS), Device(1, OURS)
    nvml.add("GPU-aaaa", 4000, 700)
    nvml.add("GPU-bbbb", 4000, 900)
    assert (first.read(OURS)["gpu_process"], second.read(OURS)["gpu_process"]) == (700, 900)
    assert (first.read(OURS)["gpu_used"], second.read(OURS)["gpu_used"]) == (1000, 5_000_000)


def test_a_process_s_workers_are_added_up_and_strangers_are_not(nvml: FakeNvml) -> None:
    device = Device(0, OURS)
    nvml.add("GPU-aaaa", 4000, 700)
    nvml.add("GPU-aaaa", 4001, 60)
    nvml.add("GPU-aaaa", 9, 10_000)
    assert device.read(OURS)["gpu_process"] == 760


def test_units_are_those_of_the_values(nvml: FakeNvml) -> None:
    reading = Device(0, OURS).read(OURS)
    assert reading["gpu_busy"] == 0.4
    assert (reading["gpu_power"], reading["gpu_energy"]) == (100.0, 5000.0)
    assert (reading["gpu_clock"], reading["gpu_throttled"]) == (1500.0, 0.0)
    nvml.throttle = 0x1  # idle is no throttling
    assert Device(0, OURS).read(OURS)["gpu_throttled"] == 0.0
    nvml.throttle = 0x1 | 0x40
    assert Device(0, OURS).read(OURS)["gpu_throttled"] == 1.0


@pytest.mark.parametrize("call", ["processes", "memory", "utilisation", "power", "energy", "clock", "throttle"])
def test_an_unsupported_call_takes_its_own_figure_away_and_no_other(nvml: FakeNvml, call: str) -> None:
    nvml.broken.add(call)
    nvml.running["GPU-aaaa"] = []
    device = Device(0, OURS)
    nvml.add("GPU-aaaa", 4000, 700)
    reading = device.read(OURS)
    (gone,) = {
        "gpu_used",
        "gpu_process",
        "gpu_busy",
        "gpu_power",
        "gpu_energy",
        "gpu_clock",
        "gpu_throttled",
    } - reading.keys()
    assert "not supported" in device.reasons[gone]


def test_a_call_that_the_binding_does_not_have_is_said(nvml: FakeNvml) -> None:
    del FakeNvml.NVML_CLOCK_SM
    try:
        device = Device(0, OURS)
        assert "gpu_clock" not in device.read(OURS)
        assert "NVML_CLOCK_SM" in device.reasons["gpu_clock"]
    finally:
        FakeNvml.NVML_CLOCK_SM = 1


def test_a_device_that_nvml_does_not_have_is_said(nvml: FakeNvml) -> None:
    nvml.uuids = ["GPU-bbbb"]
    with pytest.raises(ProfileError, match="no device with CUDA's UUID aaaa"):
        Device(0, OURS)


def _values(before: Reading, after: Reading, rows: list[Reading], reasons: dict[str, str]) -> list[Value]:
    host = {"rss": 1, "cpu": 0, "cpu_own": 0, "processes": 1, "threads": 1}
    stretch = Stretch({**host, **before}, {**host, **after}, rows, 10.0, 0.0, reasons, device=True)
    found = accounts.values(stretch)
    return [*found, accounts.device_change(before, stretch)]


def test_in_a_container_the_device_s_growth_stands_in_and_is_named_so(nvml: FakeNvml) -> None:
    device = Device(0, OURS)
    before = {"t": 0.0, **device.read(OURS)}
    nvml.add("GPU-aaaa", 88_000, 300)
    nvml.used["GPU-aaaa"] += 300
    after = {"t": 10.0, **device.read(OURS)}
    values = _values(before, after, [], device.reasons)
    hidden, change = find(values, "cuda_process"), find(values, "cuda_device_change")
    assert isinstance(hidden, NotMeasured)
    assert "does not see this process" in hidden.reason
    assert isinstance(change, Measured)
    assert change.number == 300
    assert "other processes included" in change.note


def test_a_stranger_with_our_number_is_not_taken_for_us(nvml: FakeNvml) -> None:
    nvml.add("GPU-aaaa", 4000, 999)
    device = Device(0, OURS)
    assert "gpu_process" not in device.read(OURS)


def test_where_nvml_tells_no_process_s_memory_it_says_so(nvml: FakeNvml) -> None:
    device = Device(0, OURS)
    nvml.add("GPU-aaaa", 4000, None)
    assert "gpu_process" not in device.read(OURS)
    assert device.reasons["gpu_process"] == "NVML lists the process, but not its memory"


def test_a_gpu_that_is_lost_meanwhile_is_said(nvml: FakeNvml) -> None:
    device = Device(0, OURS)
    before = {"t": 0.0, **device.read(OURS)}
    nvml.broken |= {"memory", "processes", "utilisation", "power", "energy", "clock", "throttle"}
    after = {"t": 1.0, **device.read(OURS)}
    values = _values(before, after, [], device.reasons)
    energy, process = find(values, "gpu_energy"), find(values, "cuda_process")
    assert isinstance(energy, NotMeasured)
    assert "energy is not supported" in energy.reason
    assert isinstance(process, NotMeasured)


def test_energy_is_the_counter_s_or_else_the_integral_of_power() -> None:
    before, after = {"t": 0.0, "gpu_energy": 100.0}, {"t": 10.0, "gpu_energy": 700.0}
    counted = find(_values(before, after, [], {}), "gpu_energy")
    assert isinstance(counted, Measured)
    assert (counted.number, counted.unit) == (600.0, "J")
    powers: list[Reading] = [
        {"t": 0.0, "gpu_power": 10.0},
        {"t": 4.0, "gpu_power": 50.0},
        {"t": 10.0, "gpu_power": 50.0},
    ]
    integral = find(_values(powers[0], powers[2], [powers[1]], {}), "gpu_energy")
    assert isinstance(integral, Measured)
    assert integral.number == pytest.approx(4 * 30 + 6 * 50)
    assert "integral" in integral.source


def test_throttling_is_a_warning_beside_the_clock() -> None:
    rows: list[Reading] = [{"t": float(t), "gpu_clock": 900.0, "gpu_throttled": float(t > 1)} for t in range(4)]
    clock = find(_values(rows[0], rows[3], rows[1:3], {}), "gpu_clock")
    assert isinstance(clock, Measured)
    assert clock.note == "limited by power or heat in 2 of 4 readings"


def test_without_nvml_the_sampler_goes_on_and_says_why(nvml: FakeNvml) -> None:
    import os

    nvml.broken.add("init")
    watching = sampler.Sampler(os.getppid(), 0.1, "0")
    watching.mark("whole")
    report = watching.everything()
    assert report["reasons"]["gpu"].startswith("NVML cannot be used")
    values = _values({"t": 0.0}, {"t": 1.0}, [], report["reasons"])
    assert find(values, "cuda_process") == NotMeasured("cuda_process", report["reasons"]["gpu"])
