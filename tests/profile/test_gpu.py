"""Memory of GPUs, on a fake NVML: devices by UUID, processes that cannot be seen, calls that are not supported."""

import os
import sys

import pytest

from hstnn_deploy.errors import DeviceError, ProfileError
from hstnn_deploy.profile import gpu
from hstnn_deploy.profile.gpu import DriverMemory
from hstnn_deploy.profile.values import Measured, NotMeasured, Value
from hstnn_deploy.train.recipe import Recipe
from tests.profile.conftest import FakeNvml, configured


def only(values: list[Value]) -> NotMeasured:
    (value,) = values
    assert isinstance(value, NotMeasured)
    assert value.name == "cuda_process"
    return value


def test_cuda_ordinals_are_taken_to_nvml_by_uuid(nvml: FakeNvml) -> None:
    first, second = DriverMemory(0), DriverMemory(1)
    nvml.add("GPU-aaaa", os.getpid(), 700)
    nvml.add("GPU-bbbb", os.getpid(), 900)
    for probe, bytes_used in ((first, 700), (second, 900)):
        (value,) = probe.stop()
        assert isinstance(value, Measured)
        assert (value.name, value.number, value.unit) == ("cuda_process", bytes_used, "B")


def test_a_process_that_nvml_does_not_see_is_measured_by_the_device_s_change(nvml: FakeNvml) -> None:
    probe = DriverMemory(0)
    nvml.add("GPU-aaaa", os.getpid() + 1, 300)
    nvml.used["GPU-aaaa"] += 300
    hidden, change = probe.stop()
    assert isinstance(hidden, NotMeasured)
    assert "does not see this process" in hidden.reason
    assert isinstance(change, Measured)
    assert (change.name, change.number) == ("cuda_device_change", 300)


def test_a_stranger_with_our_number_is_not_taken_for_us(nvml: FakeNvml) -> None:
    nvml.add("GPU-aaaa", os.getpid(), 999)
    probe = DriverMemory(0)
    nvml.used["GPU-aaaa"] += 50
    hidden, change = probe.stop()
    assert isinstance(hidden, NotMeasured)
    assert isinstance(change, Measured)
    assert change.number == 50


@pytest.mark.parametrize("broken", ["processes", None])
def test_where_nvml_tells_no_process_s_memory_the_device_s_change_stands_in(nvml: FakeNvml, broken: str | None) -> None:
    probe = DriverMemory(0)
    if broken:
        nvml.broken.add(broken)
    nvml.add("GPU-aaaa", os.getpid(), None)
    assert [value.name for value in probe.stop()] == ["cuda_process", "cuda_device_change"]


def test_a_gpu_that_is_lost_meanwhile_is_said(nvml: FakeNvml) -> None:
    probe = DriverMemory(0)
    nvml.broken.add("memory")
    assert "cannot tell the device's memory" in only(probe.stop()).reason


def test_a_device_that_nvml_does_not_have_is_said(nvml: FakeNvml) -> None:
    nvml.uuids = ["GPU-bbbb"]
    assert "no device with the UUID aaaa" in only(DriverMemory(0).stop()).reason


def test_without_a_driver_the_reason_is_nvml_s(nvml: FakeNvml) -> None:
    nvml.broken.add("init")
    assert only(DriverMemory(0).stop()).reason == "NVML cannot be used: init is not supported"
    with pytest.raises(ProfileError, match="NVML cannot be used"):
        gpu.devices()


def test_without_the_package_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert only(DriverMemory(0).stop()).reason == "nvidia-ml-py is not installed"


def test_devices_are_listed_with_name_and_memory(nvml: FakeNvml) -> None:
    driver, found = gpu.devices()
    assert driver == "999.1"
    assert found[0] == gpu.Gpu("card GPU-bbbb", "GPU-bbbb", 12_000_000)
    nvml.broken.add("count")
    with pytest.raises(ProfileError, match="cannot list"):
        gpu.devices()


def test_the_driver_is_asked_and_its_absence_explained() -> None:
    with pytest.raises(ProfileError, match="CUDA driver"):
        gpu.device_uuid(4096)


def test_a_gpu_that_is_not_there_is_never_replaced_by_the_cpu(tiny: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    configuration = configured(tiny, "train")
    assert str(gpu.torch_device(configuration)) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    object.__setattr__(configuration, "device", "cuda:0")
    with pytest.raises(DeviceError):
        gpu.torch_device(configuration)
