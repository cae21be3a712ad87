"""`hstnn doctor`: what works here, in words and as JSON."""

import importlib.util
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Hstnn


def test_what_is_here_and_what_is_missing_is_said(hstnn: Hstnn) -> None:
    result = hstnn("doctor")
    assert (result.code, result.err) == (0, "")
    for word in ("Python", torch.__version__, "ONNX Runtime", "CPUExecutionProvider loads", "NVML", "data folder"):
        assert word in result.out
    assert "yes  train, export and profile on the CPU" in result.out
    assert "yes  recipe digits on its data (digits)" in result.out
    assert "no   recipe smnist on its data (mnist): 4 files, such as train-images-idx3-ubyte" in result.out
    if not torch.cuda.is_available():
        assert "no   train and profile on a GPU: " in result.out


def test_ray_is_named_with_its_version_or_how_to_get_it(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch) -> None:
    there = metadata.version

    def version(name: str) -> str:
        if name == "ray":
            raise metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(metadata, "version", version)
    result = hstnn("doctor")
    assert result.code == 0
    assert "Ray            not installed: pip install 'hstnn-deploy[cluster]'" in result.out
    assert "no   sweep and profile on a Ray cluster: not installed" in result.out
    monkeypatch.setattr(metadata, "version", lambda name: "9.8.7" if name == "ray" else there(name))
    result = hstnn("doctor")
    assert "Ray            9.8.7" in result.out
    assert "yes  sweep and profile on a Ray cluster" in result.out


def test_llvmlite_is_named_or_what_runs_without_it(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = "llvmlite is not installed: pip install llvmlite"
    monkeypatch.setattr("hstnn_deploy.models.kernels.generated.compiled.problem", lambda: lacks)
    result = hstnn("doctor")
    assert result.code == 0
    assert f"no   kernels compiled for each neuron on the CPU: {lacks}; slower kernels built from" in result.out
    there = metadata.version
    monkeypatch.setattr("hstnn_deploy.models.kernels.generated.compiled.problem", lambda: "")
    monkeypatch.setattr(metadata, "version", lambda name: "9.8.7" if name == "llvmlite" else there(name))
    result = hstnn("doctor")
    assert "llvmlite       9.8.7, kernels in " in result.out
    assert "yes  kernels compiled for each neuron on the CPU" in result.out


def test_triton_is_named_or_what_runs_without_it(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == "triton" else there(name, *of))
    assert "Triton         Triton is not installed: it comes with torch for CUDA; slower" in hstnn("doctor").out
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: there("json" if name == "triton" else name, *of))
    for version in ("9.8.7", None):

        def named(name: str, version: str | None = version) -> str:
            if name == "triton" and version is None:
                raise metadata.PackageNotFoundError(name)
            return version or "1" if name == "triton" else "1"

        monkeypatch.setattr(metadata, "version", named)
        assert f"Triton         {version or 'installed'}" in hstnn("doctor").out


def test_json_holds_the_same(hstnn: Hstnn, mnist: Path) -> None:
    result = hstnn("doctor", "--data-dir", mnist, "--json")
    assert (result.code, result.err) == (0, "")
    facts = json.loads(result.out)
    (cpu,) = [each for each in facts["onnxruntime"]["providers"] if each["name"] == "CPUExecutionProvider"]
    assert cpu == {"name": "CPUExecutionProvider", "loads": True, "reason": ""}
    assert facts["data"]["recipes"]["smnist"]["missing"] == ""
    # A provider that is listed and one that loads are two things: without a GPU only the CPU loads.
    if not facts["nvml"]["gpus"]:
        assert [each["name"] for each in facts["onnxruntime"]["providers"] if each["loads"]] == ["CPUExecutionProvider"]


def test_a_data_folder_that_is_not_there_is_a_finding_not_a_failure(hstnn: Hstnn) -> None:
    result = hstnn("doctor", "--data-dir", "nowhere")
    assert (result.code, result.err) == (0, "")
    assert "the data folder nowhere (from --data-dir) does not exist" in result.out
    assert "yes  recipe digits on its data (digits)" in result.out


def test_where_nothing_works_the_exit_code_says_so(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch) -> None:
    broken: dict[str, Any] = {"version": None, "problem": "onnxruntime cannot be imported: gone", "providers": []}
    monkeypatch.setattr("hstnn_deploy.profile.survey.survey._onnxruntime", lambda: broken)
    result = hstnn("doctor")
    assert result.code == 1
    assert "missing  verify and run ONNX graphs on the CPU: onnxruntime cannot be imported: gone" in result.out


def test_a_default_device_that_no_command_can_use_is_said(hstnn: Hstnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSTNN_DEVICE", "gpu")
    result = hstnn("doctor")
    assert result.code == 1
    assert "missing use the default device: unknown device 'gpu' (from HSTNN_DEVICE)" in " ".join(result.out.split())
    monkeypatch.setenv("HSTNN_DEVICE", "cpu")
    result = hstnn("doctor")
    assert (result.code, "use the default device, cpu" in result.out) == (0, True)
