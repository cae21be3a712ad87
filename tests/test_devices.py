"""Devices: what was asked for, or an error; never something else."""

import pytest
import torch

from hstnn_deploy.devices import resolve
from hstnn_deploy.errors import DeviceError, UsageError


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize(("gpus", "expected"), [(0, "cpu"), (1, "cuda")])
def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, gpus: int, expected: str) -> None:
    machine(monkeypatch, gpus)
    assert resolve("auto").type == expected
    assert resolve("cpu") == torch.device("cpu")


@pytest.mark.parametrize("asked", ["cuda", "cuda:0", "cuda:3"])
def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    machine(monkeypatch, 0)
    with pytest.raises(DeviceError, match=asked) as refused:
        resolve(asked)
    assert "--device cpu" in refused.value.hint


def test_gpus_are_found_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 2)
    assert [resolve(asked).index for asked in ("cuda", "cuda:0", "cuda:1")] == [0, 0, 1]
    with pytest.raises(DeviceError, match="2 GPU"):
        resolve("cuda:2")


@pytest.mark.parametrize("asked", ["frob", "cuda:", "cuda:x", "cuda:-1", "CPU", "", "cpu:0", "mps"])
def test_what_is_no_device_is_a_usage_error(asked: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        resolve(asked)
