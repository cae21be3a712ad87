"""What this machine can do: providers are tried, not believed."""

import sys
from pathlib import Path

import pytest

from hstnn_deploy.profile.survey import providers, survey
from tests.conftest import PATIENCE
from tests.profile.conftest import FakeNvml


def test_the_cpu_loads_and_what_onnx_runtime_does_not_know_does_not() -> None:
    loads, does_not = providers._tried("CPUExecutionProvider"), providers._tried("NoSuchExecutionProvider")
    assert loads == providers.Provider("CPUExecutionProvider", True, "")
    assert not does_not.loads
    assert does_not.reason


def test_a_provider_that_falls_back_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import sys
print('noise\\n["CPUExecutionProvider"]')
print("x with error: libx.so.9: gone", file=sys.stderr)
"""
    monkeypatch.setattr("hstnn_deploy.processes.command", lambda *_: [sys.executable, "-c", code])
    assert providers._tried("CUDAExecutionProvider") == providers.Provider(
        "CUDAExecutionProvider", False, "libx.so.9: gone"
    )


def test_a_provider_that_crashes_or_hangs_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, code, reason in (
        (PATIENCE, "import os; os._exit(7)", "the process ended with code 7"),
        (2.0, "import time; time.sleep(60)", "it did not load within 2 s"),
    ):
        monkeypatch.setattr(providers, "_LIMIT", limit)
        words = [sys.executable, "-c", code]
        monkeypatch.setattr("hstnn_deploy.processes.command", lambda *_, words=words: words)
        assert providers._tried("X") == providers.Provider("X", False, reason)


def test_without_onnxruntime_the_survey_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    facts = survey.survey()
    assert facts["onnxruntime"]["version"] is None
    lacking = {ability["what"]: ability["missing"] for ability in facts["abilities"]}
    assert "onnxruntime cannot be imported" in lacking["verify and run ONNX graphs on the CPU"]
    assert lacking["train, export and profile on the CPU"] == ""


def test_gpus_and_data_are_surveyed(
    monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, mnist: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(survey, "_onnxruntime", lambda: {"version": "1", "problem": "", "providers": []})
    facts = survey.survey(mnist)
    assert [each["uuid"] for each in facts["nvml"]["gpus"]] == nvml.uuids
    lacking = {ability["what"]: ability["missing"] for ability in facts["abilities"]}
    assert lacking["CUDA memory per process"] == ""
    assert lacking["recipe smnist on its data (mnist)"] == ""
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    named = survey.survey(mnist)["data"]["recipes"]["smnist"]["missing"]
    assert named.startswith("t10k-labels-idx1-ubyte not in the data folder")
    gone = survey.survey(tmp_path / "nowhere")["data"]
    assert "nowhere" in gone["problem"]
    assert gone["recipes"]["digits"]["missing"] == ""
    assert "nowhere" in gone["recipes"]["smnist"]["missing"]
