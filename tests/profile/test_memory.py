"""What cannot fit is known before anything is started."""

import sys
from pathlib import Path

import pytest

from hstnn_deploy.errors import OutOfMemoryError
from hstnn_deploy.profile.plan import memory
from hstnn_deploy.profile.plan.memory import check, needed
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from tests.profile.conftest import FakeNvml, configured


def test_the_bound_is_program_network_and_data(tiny: Recipe) -> None:
    # 54 000 images of 28 x 28 bytes are not all of MNIST; 800 + 800 units twice, four times over.
    asked = configured(load_recipe("smnist"), "train")
    parameters = 28 * 1600 + 800 * 800 + 1600 * 1600 + 800 * 800 + 1600 * 10 + 10
    assert needed(asked) == memory._TORCH + 70_000 * 28 * 28 + 4 * 4 * parameters
    assert needed(configured(tiny, "infer", engines=["onnxruntime"])) < memory._TORCH


def test_a_container_s_limit_is_the_machine_s_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    without = memory.free()
    (tmp_path / "memory.current").write_text("900000000")
    (tmp_path / "memory.max").write_text("max")
    assert memory.free() == pytest.approx(without, rel=0.2)
    (tmp_path / "memory.max").write_text("1000000000")
    assert memory.free() == 100_000_000


def test_how_many_fit_is_said(monkeypatch: pytest.MonkeyPatch, tiny: Recipe) -> None:
    monkeypatch.setattr(memory, "free", lambda: 3 * memory._TORCH)
    asked = configured(tiny, "train")
    check(asked, 1)
    check(asked, 2)
    with pytest.raises(OutOfMemoryError, match=r"need at least 0\.6 GB; free main memory is 0\.6 GB") as caught:
        check(asked, 3)
    assert caught.value.hint == "at most 2 fit: --instances 2"


def test_a_gpu_s_memory_counts_too(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, tiny: Recipe) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("hstnn_deploy.profile.plan.memory.gpu.device_uuid", lambda ordinal: ["aaaa", "bbbb"][ordinal])
    assert plan([tiny], phases=["train"], gpus=[0])
    with pytest.raises(OutOfMemoryError, match="the GPU has") as caught:
        plan([tiny], phases=["train"], gpus=[0], instances=2)
    assert caught.value.hint.startswith("measure a smaller network")


@pytest.mark.skipif(sys.platform != "linux", reason="compares with what a process takes: it runs on Linux")
def test_the_bound_is_below_what_a_process_takes(tiny: Recipe, tmp_path: Path) -> None:
    from hstnn_deploy.profile.run import launch
    from hstnn_deploy.profile.values import Measured

    for asked in (configured(tiny, "train", max_steps=1), configured(tiny, "infer", engines=["onnxruntime"])):
        (record,) = launch.run([asked])
        taken = record.value("host_ram_peak")
        assert isinstance(taken, Measured), record.reason
        assert needed(asked) < taken.number
