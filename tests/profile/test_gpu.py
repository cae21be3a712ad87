"""GPUs on a fake NVML and a fake torch: devices by UUID, the allocator's peaks, and nothing that is not asked for."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from hstnn_deploy.errors import DeviceError, ProfileError
from hstnn_deploy.profile.meter import gpu
from hstnn_deploy.profile.values import Measured
from hstnn_deploy.recipe.recipe import Recipe
from tests.profile.conftest import FakeNvml, configured


def test_devices_are_listed_with_name_and_memory(nvml: FakeNvml) -> None:
    driver, found = gpu.devices()
    assert driver == "999.1"
    assert found[0] == gpu.Gpu("card GPU-bbbb", "GPU-bbbb", 12_000_000)
    nvml.broken.add("count")
    with pytest.raises(ProfileError, match="cannot list"):
        gpu.devices()


def test_without_a_driver_the_reason_is_nvml_s(nvml: FakeNvml) -> None:
    nvml.broken.add("init")
    with pytest.raises(ProfileError, match="NVML cannot be used: init is not supported"):
        gpu.devices()


def test_without_the_package_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ProfileError, match="nvidia-ml-py is not installed"):
        gpu.nvml()


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


class FakeCuda:
    """torch.cuda with an allocator of two devices, one of which has captured a graph."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def is_initialized(self) -> bool:
        return True

    def synchronize(self, device: str) -> None:
        self.asked.append(f"synchronize {device}")

    def max_memory_allocated(self, device: str) -> int:
        return 100

    def max_memory_reserved(self, device: str) -> int:
        return 300

    def reset_peak_memory_stats(self, device: str) -> None:
        self.asked.append(f"reset {device}")

    def memory_snapshot(self) -> list[dict[str, Any]]:
        return [
            {"device": 1, "total_size": 50, "segment_pool_id": (0, 0)},
            {"device": 1, "total_size": 70, "segment_pool_id": (0, 1)},
            {"device": 0, "total_size": 900, "segment_pool_id": (0, 1)},
        ]


def test_graph_pools_are_named_beside_what_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, device=torch.device))
    values = {value.name: value.number for value in gpu.allocator("cuda:1") if isinstance(value, Measured)}
    assert values == {"cuda_allocated_peak": 100, "cuda_reserved_peak": 300, "cuda_graph_pools": 70}
    assert cuda.asked == ["reset cuda:1"]
    gpu.synchronise("cuda:1")
    assert cuda.asked[1:] == ["synchronize cuda:1"]


def test_measuring_does_not_wake_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    assert gpu.allocator("cuda:0") == []
    gpu.synchronise("cuda:0")
    assert "torch" not in sys.modules
