"""The measured work itself: an epoch in steps and passes, and inference call by call."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hstnn_deploy.errors import HstnnError, ProfileError
from hstnn_deploy.profile import inference, networks, prepare, worker
from hstnn_deploy.profile.inputs import splits
from hstnn_deploy.profile.probes import CpuCores
from hstnn_deploy.profile.records import Configuration, Record
from hstnn_deploy.profile.training import Epoch, answers, part
from hstnn_deploy.profile.values import Measured, NotMeasured
from hstnn_deploy.train.evaluation import batches
from hstnn_deploy.train.recipe import Recipe, load_recipe
from tests.conftest import TINY, TINY_TEXT, settings
from tests.profile.conftest import configured


def number(record: Record, name: str) -> float:
    value = record.value(name)
    assert isinstance(value, Measured), value
    return value.number


def epoch(recipe: Recipe, configuration: Configuration) -> Epoch:
    data, _ = splits(recipe, None)
    return Epoch(configuration, recipe, networks.fresh_network(configuration), data.train, data.valid)


def test_an_epoch_is_its_two_passes(tiny: Recipe, tmp_path: Path) -> None:
    record = worker.measure(configured(tiny, "train", seconds=10.0), tmp_path)
    assert record.status == "measured", record.reason
    passes = number(record, "train_pass"), number(record, "eval_pass")
    assert number(record, "epoch") == sum(passes)
    assert number(record, "throughput") == pytest.approx(1293 / passes[0])
    facts = record.facts
    assert (facts["train_steps"], facts["train_steps_of"]) == (13, 13)
    assert (facts["eval_steps"], facts["eval_steps_of"]) == (2, 2)
    assert facts["data"].startswith("real: ")
    assert facts["runs_on"] == "torch cpu"
    assert number(record, "cpu_cores") > 0
    assert number(record, "host_ram_peak") >= number(record, "host_ram_before") > 0
    assert isinstance(record.value("cuda_allocated_peak"), NotMeasured)
    assert Record.from_plain(json.loads(json.dumps(record.plain()))) == record


def test_a_part_is_extrapolated_by_its_samples_and_says_so(tiny: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = epoch(tiny, configured(tiny, "train", max_steps=2))
    # Ten milliseconds a sample, whatever the machine does.
    monkeypatch.setattr(measured, "_seconds", lambda _run, split: len(split) / 100)
    values, facts = measured.measure([CpuCores()])
    found = {value.name: value for value in values}
    train, whole = found["train_pass"], found["epoch"]
    assert isinstance(train, Measured)
    assert isinstance(whole, Measured)
    assert train.number == pytest.approx(12.93)
    assert train.note == "extrapolated from 2 of 13 steps"
    assert whole.number == pytest.approx(12.93 + 1.44)
    assert whole.note == "training extrapolated from 2 of 13 steps"
    assert (facts["train_steps"], facts["train_steps_of"]) == (2, 13)


@pytest.mark.parametrize(
    ("seconds", "steps", "repeats"), [(0.001, 3, 1), (8.0, 6, 1), (16.0, 12, 1), (40.0, 13, 2), (1e6, 13, 5)]
)
def test_as_much_is_measured_as_the_time_allows(
    tiny: Recipe, monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int, repeats: int
) -> None:
    measured = epoch(tiny, configured(tiny, "train", seconds=seconds))
    # A second a step of a hundred samples.
    monkeypatch.setattr(measured, "_seconds", lambda _run, split: len(split) / 100)
    _, facts = measured.measure([])
    assert (facts["train_steps"], facts["train_steps_repeats"]) == (steps, repeats)


def test_measuring_trains_with_the_recipe_s_own_steps(tiny: Recipe) -> None:
    measured = epoch(tiny, configured(tiny, "train"))
    before = [parameter.clone() for parameter in measured.network.parameters()]
    measured._train(part(measured.train, 100, 3))
    assert all(not torch.equal(a, b) for a, b in zip(before, measured.network.parameters(), strict=True))
    after = [parameter.clone() for parameter in measured.network.parameters()]
    measured._evaluate(measured.valid)
    assert all(torch.equal(a, b) for a, b in zip(after, measured.network.parameters(), strict=True))


def test_a_language_model_s_epoch_goes_through_its_text(ptb: Path, tmp_path: Path) -> None:
    recipe = load_recipe("ptb", settings(TINY_TEXT))
    asked = configured(recipe, "train", max_steps=2, data_dir=ptb)
    record = worker.measure(asked, tmp_path)
    assert record.status == "measured", record.reason
    # 30 lines of 8 words and <eos> in 4 columns of 67, 66 of which have a next word: 14 windows of 5.
    assert (record.facts["train_steps"], record.facts["train_steps_of"]) == (2, 14)
    speed = record.value("throughput")
    assert isinstance(speed, Measured)
    assert speed.unit == "words/s"
    assert speed.number == pytest.approx(66 * 4 / number(record, "train_pass"))


def test_part_of_a_text_makes_the_same_batches(ptb: Path) -> None:
    recipe = load_recipe("ptb", settings(TINY_TEXT))
    text = splits(recipe, ptb)[0].train
    some = part(text, 4, 3)
    shapes = [tuple(batch.x.shape) for batch in batches(some, 4, None, torch.device("cpu"))]
    assert shapes == [(5, 4)] * 3
    assert answers(some, 4) == 60
    assert part(text, 4, 1000) is text


@pytest.mark.parametrize("kind", ["hybrid", "lstm"])
def test_a_language_model_is_called_eagerly(ptb: Path, tmp_path: Path, kind: str) -> None:
    recipe = load_recipe("ptb", [*settings(TINY_TEXT), f"kind={kind}"])
    asked = configured(recipe, "infer", batches=[3], data_dir=ptb)
    found = prepare.prepare(asked, ["eager", "onnxruntime"], tmp_path)
    assert set(found["failures"]) == {"onnxruntime"}
    record = worker.measure(asked, tmp_path)
    assert record.status == "measured", record.reason
    assert record.facts["calls"] >= 20


def test_a_loss_that_is_no_number_is_not_a_training(tiny: Recipe) -> None:
    measured = epoch(tiny, configured(tiny, "train"))
    with torch.no_grad():
        next(measured.network.parameters()).fill_(float("nan"))
    with pytest.raises(ProfileError, match="the loss is nan"):
        measured.measure([])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    recipe = load_recipe("digits", settings(TINY))
    found = prepare.prepare(configured(recipe, "infer"), ["eager", "torchscript", "onnxruntime"], folder)
    assert found["data"].startswith("real: ")
    assert found["failures"] == {}
    return folder


@pytest.mark.parametrize("engine", ["eager", "torchscript", "onnxruntime"])
@pytest.mark.parametrize("batch", [1, 230])
def test_every_engine_is_called_on_whole_batches(tiny: Recipe, prepared: Path, engine: str, batch: int) -> None:
    record = worker.measure(configured(tiny, "infer", engines=[engine], batches=[batch]), prepared)
    assert record.status == "measured", record.reason
    latencies = [number(record, f"latency_p{share}") for share in (50, 90, 99)]
    assert 0 < latencies[0] <= latencies[1] <= latencies[2]
    assert number(record, "throughput") > 0
    assert record.facts["calls"] >= 20
    assert record.facts["runs_on"] == ("CPUExecutionProvider" if engine == "onnxruntime" else "torch cpu")


def test_an_engine_without_a_form_for_lstm_units_says_so(tmp_path: Path) -> None:
    recipe = load_recipe("digits", [*settings(TINY), "kind=lstm"])
    found = prepare.prepare(configured(recipe, "infer"), ["eager", "torchscript", "onnxruntime"], tmp_path)
    assert found["failures"] == dict.fromkeys(("torchscript", "onnxruntime"), "LSTM units have no export form yet")
    record = worker.measure(configured(recipe, "infer", engines=["eager"], batches=[3]), tmp_path)
    assert record.status == "measured", record.reason


def test_engines_agree_on_the_logits(tiny: Recipe, prepared: Path) -> None:
    x = np.load(prepared / inference.INPUTS)
    logits = [
        inference.open_engine(configured(tiny, "infer", engines=[engine]), prepared).call(x)
        for engine in ("eager", "torchscript", "onnxruntime")
    ]
    assert logits[0].shape == (100, 10)
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], atol=1e-4)


def test_percentiles_and_throughput_are_those_of_the_calls(
    tiny: Recipe, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_calls", lambda *_: [n / 1000 for n in range(1, 102)])
    values, facts = inference.measure(configured(tiny, "infer", batches=[4]), prepared, [])
    found = {value.name: value.number for value in values if isinstance(value, Measured)}
    assert found["latency_p50"] == pytest.approx(0.051)
    assert found["latency_p90"] == pytest.approx(0.091)
    assert found["latency_p99"] == pytest.approx(0.1)
    assert found["throughput"] == pytest.approx(4 * 101 / (51 * 0.101))
    assert facts["calls"] == 101


def test_few_calls_say_what_their_p99_is_worth(tiny: Recipe, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_calls", lambda *_: [0.001] * 99)
    values, _ = inference.measure(configured(tiny, "infer"), prepared, [])
    (slowest,) = [value for value in values if value.name == "latency_p99"]
    assert isinstance(slowest, Measured)
    assert slowest.note == "of fewer than 100 calls: close to the slowest one"


def test_an_engine_that_answers_nonsense_is_not_measured(
    tiny: Recipe, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> inference.Engine:
        return inference.Engine(lambda x: np.full((x.shape[1], 10), np.nan, np.float32), "a test", None)

    monkeypatch.setattr(inference, "open_engine", wrong)
    with pytest.raises(ProfileError, match="eager gave"):
        inference.measure(configured(tiny, "infer"), prepared, [])


def test_the_onnxruntime_process_loads_neither_torch_nor_the_training(tiny: Recipe, prepared: Path) -> None:
    configuration = configured(tiny, "infer", engines=["onnxruntime"])
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from hstnn_deploy.profile.records import Configuration\nfrom hstnn_deploy.profile.worker import measure\n"
        "record = measure(Configuration.from_plain(json.loads(sys.argv[1])), Path(sys.argv[2]))\n"
        "print(json.dumps([record.status, record.reason, sorted(sys.modules)]))\n"
    )
    words = [sys.executable, "-c", code, json.dumps(configuration.plain()), str(prepared)]
    status, reason, modules = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    assert status == "measured", reason
    loaded = {name.partition(".")[0] for name in modules} | set(modules)
    assert not loaded & {"torch", "sklearn", "onnx", "pydantic", "hstnn_deploy.train", "hstnn_deploy.models"}


def test_a_gpu_of_another_machine_is_a_failed_row(tiny: Recipe, prepared: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for phase, engine in (("train", "eager"), ("infer", "eager"), ("infer", "onnxruntime")):
        asked = configured(tiny, phase) if phase == "train" else configured(tiny, phase, engines=[engine])
        record = worker.measure(replace(asked, device="cuda:0"), prepared)
        assert (record.status, record.values) == ("failed", [])
        assert "was asked for, but" in record.reason


def test_what_breaks_is_said_in_one_line(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, reason in (
        (MemoryError(), "out of host memory"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (HstnnError("explained"), "explained"),
    ):

        def broken(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(worker, "_infer", broken)
        record = worker.measure(configured(tiny, "infer"), tmp_path)
        assert (record.status, record.reason) == ("failed", reason)


def test_a_graph_that_cannot_be_written_fails_its_engine_alone(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hstnn_deploy.errors import ExportError

    def refused(*words: Any) -> None:
        raise ExportError(f"no {words[2]} today")

    monkeypatch.setattr(prepare, "_write_graphs", refused)
    found = prepare.prepare(configured(tiny, "infer"), ["eager", "onnxruntime"], tmp_path)
    assert found["failures"] == {"onnxruntime": "no onnx today"}
    assert np.load(tmp_path / inference.INPUTS).shape == (8, 100, 8)
