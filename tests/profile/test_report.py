"""What people read: every figure with its unit, n/a with its reason, the paper beside it, on any width."""

from dataclasses import replace
from pathlib import Path

import pytest

from hstnn_deploy.profile import resource_table
from hstnn_deploy.profile.record import Record
from hstnn_deploy.profile.records import read
from hstnn_deploy.profile.show import cells, report
from hstnn_deploy.profile.values import Measured, NotMeasured
from hstnn_deploy.recipe.load import load_recipe, shipped
from hstnn_deploy.recipe.recipe import Recipe
from tests.profile.conftest import changed, configured, measured


@pytest.fixture
def smnist() -> Record:
    return measured(configured(load_recipe("smnist"), "train"))


def test_the_paper_s_row_stands_beside_its_experiment(smnist: Record) -> None:
    text = report.text([smnist])
    assert "paper: RNN-SMNIST" in text
    for label, own, published in (
        ("epoch (both passes)", "12.0 s", "33 to 47 s"),
        ("main memory, peak", "500 MB", "1.9 to 2.0 GB"),
        ("CPU cores in use", "1.00", "1 per instance"),
        ("CUDA memory, process", "n/a [1]", "350 to 400 MB"),
    ):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(label)]
        assert line.split(label)[1].split("  ")[-1].strip() == published
        assert own in line
    assert "[1] measured on the CPU: no GPU here" in text
    assert resource_table.MACHINE in " ".join(text.split())
    assert "compare it with the sum" in " ".join(text.split())


@pytest.mark.parametrize(
    ("name", "shown"),
    [("lif-dvs128", "18.2 to 27.8 s layer by layer"), ("iaf-ssc", "8000 to 9000 MB"), ("iaf-shd", "")],
)
def test_another_system_s_experiment_shows_what_that_publishes_and_where(name: str, shown: str) -> None:
    text = " ".join(report.text([measured(configured(load_recipe(name), "train"))]).split())
    row = resource_table.matching(load_recipe(name).experiment)
    assert row is not None
    assert row.source in text
    assert shown in text
    assert (f"published: {row.experiment}" in text) == row.figures
    assert resource_table.MACHINE not in text


def test_every_row_has_a_recipe_of_its_own() -> None:
    named = [recipe.experiment for recipe in map(load_recipe, shipped()) if recipe.experiment]
    assert sorted(named) == sorted(row.experiment for row in resource_table.ROWS)


def test_without_an_experiment_there_is_no_paper_s_column(tiny: Recipe) -> None:
    records = [measured(configured(tiny, "train"))]
    shown = report.text(records)
    assert "paper" not in shown.lower()
    assert not any(row.experiment in shown for row in resource_table.ROWS)


def test_devices_of_a_training_stand_side_by_side(smnist: Record) -> None:
    other = replace(smnist, configuration=replace(smnist.configuration, device="cuda:1"))
    (header,) = [line for line in report.text([smnist, other]).splitlines() if "one epoch" in line]
    assert header.split() == ["one", "epoch", "cpu", "cuda:1", "paper:", "RNN-SMNIST"]


def test_what_is_extrapolated_is_marked(smnist: Record) -> None:
    value = Measured("epoch", 1234.5, "s", "a sum", "training extrapolated from 40 of 540 steps")
    part = changed(replace(smnist, values=[value, *smnist.values]), train_steps=40)
    text = report.text([part])
    assert "~1234 s" in text
    assert "40 of 540" in text
    assert "~12.0" not in report.text([smnist])


def test_a_failure_is_a_row_that_says_why(tiny: Recipe, smnist: Record) -> None:
    failed = [
        Record(configured(tiny, phase), "failed", reason="the process was killed by SIGKILL [really]")
        for phase in ("train", "infer")
    ]
    text = report.text([smnist, *failed])
    assert text.count("failed [2]") == 2
    assert "[2] the process was killed by SIGKILL [really]" in text
    assert report.text(failed)


def test_inference_is_a_row_per_engine_and_batch(tiny: Recipe) -> None:
    records = [
        measured(configured(tiny, "infer", engines=[engine], batches=[batch]))
        for engine in ("fused", "onnxruntime")
        for batch in (1, 100)
    ]
    lines = report.text(records, width=80).splitlines()
    rows = [line.split() for line in lines if line.strip().startswith(("fused", "onnxruntime"))]
    assert [row[:2] for row in rows] == [[e, b] for e in ("fused", "onnxruntime") for b in ("1", "100")]
    assert rows[0][2:] == ["5.00", "9.00", "9.90", "4321", "500", "1.00", "n/a", "[1]"]
    assert lines[0] == f"Inference: digits, {records[0].configuration.network}, T 8, cpu"


def test_memory_of_a_gpu_is_shown_by_source(tiny: Recipe) -> None:
    asked = replace(configured(tiny, "infer"), device="cuda:0")
    record = replace(
        measured(asked),
        values=[
            Measured("cuda_allocated_peak", 10e6, "B", "torch"),
            Measured("cuda_reserved_peak", 20e6, "B", "torch"),
            NotMeasured("cuda_process", "NVML does not see this process"),
            Measured("cuda_device_change", 300e6, "B", "NVML device memory", "growth of the whole device"),
            *[value for value in measured(asked).values if not value.name.startswith("cuda")],
        ],
        facts={**measured(asked).facts, "gpu": "a card (GPU-1)", "driver": "999"},
    )
    text = report.text([record])
    assert "10/20/300 [1]" in text
    assert "[1] NVML device memory: growth of the whole device" in text
    assert "a card (GPU-1), driver 999" in " ".join(text.split())


@pytest.mark.parametrize("width", [1, 20, 40, 80, 100, 300])
def test_every_width_is_bearable(tiny: Recipe, smnist: Record, width: int) -> None:
    records = [smnist, measured(configured(tiny, "infer")), Record(configured(tiny, "train"), "failed", reason="why")]
    assert all(len(line) <= width for line in report.text(records, width).splitlines())


def test_eighty_columns_hold_every_word(tiny: Recipe, smnist: Record) -> None:
    text = report.text([smnist, measured(configured(tiny, "infer"))], 80)
    assert "…" not in text


def test_others_work_is_a_warning(tiny: Recipe) -> None:
    asked = configured(tiny, "train")
    assert "Busy machine" not in report.text([measured(asked, cpu_cores=1.9, cpu_cores_others=0.1)])
    assert "Busy machine" not in report.text([measured(asked, cpu_cores=0.5, cpu_cores_others=0.9)])
    busy = " ".join(report.text([measured(asked, cpu_cores=1.2, cpu_cores_others=0.8)]).split())
    assert "other processes used up to 0.8 of 2 cores during 1 of 1 measurements" in busy


def test_nothing_measured_is_no_protocol(tiny: Recipe) -> None:
    assert report.protocol([]) == []
    assert report.text([]) == ""


def test_files_hold_records_and_report(tmp_path: Path, smnist: Record) -> None:
    written = report.write(tmp_path / "new", [smnist])
    assert [path.name for path in written] == ["records.jsonl", "report.txt"]
    assert read(written[0]) == [smnist]
    assert written[1].read_text() == report.text([smnist])


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (0.01234, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (123456.7, "123457")],
)
def test_numbers_are_rounded_to_what_is_of_use(number: float, shown: str) -> None:
    assert cells.digits(number) == shown


def test_memory_is_in_powers_of_ten() -> None:
    assert [cells.memory(number) for number in (612e6, 1.94e9)] == ["612 MB", "1.94 GB"]
    assert cells.megabytes(1024 * 1024) == "1"
