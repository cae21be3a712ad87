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

from hstnn_deploy.errors import ExportError, HstnnError, ProfileError
from hstnn_deploy.profile.meter.ledger import Ledger
from hstnn_deploy.profile.phases import inference, networks
from hstnn_deploy.profile.phases.findings import Findings
from hstnn_deploy.profile.phases.inputs import splits
from hstnn_deploy.profile.phases.training import Epoch, answers, part
from hstnn_deploy.profile.record import Configuration, Phase, Record, Source
from hstnn_deploy.profile.run import prepare, worker
from hstnn_deploy.profile.values import Measured, NotMeasured
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.evaluation import batches
from hstnn_deploy.train.loop import train_step
from hstnn_deploy.train.schedules import make_optimiser
from tests.conftest import TINY, TINY_TEXT, settings
from tests.profile.conftest import configured
from tests.values import in_place_of_the_digits


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


def looked_at(measured: Epoch) -> Findings:
    with Ledger() as ledger:
        return measured.measure(ledger, lambda: None)


def timed(measured: Epoch, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let a step take so many seconds, whatever the machine does."""
    parts = dict.fromkeys(("wait", "transfer", "forward", "backward", "optimiser", "step"), seconds)

    def run(_run: Any, steps: int) -> float:
        measured.parts += [parts] * steps
        return steps * seconds

    monkeypatch.setattr(measured, "_seconds", run)


def test_a_part_is_extrapolated_by_its_samples_and_says_so(tiny: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = epoch(tiny, configured(tiny, "train", max_steps=2))
    timed(measured, monkeypatch, 1.0)
    findings = looked_at(measured)
    found = {value.name: value for value in findings.values}
    train, whole = found["train_pass"], found["epoch"]
    assert isinstance(train, Measured)
    assert isinstance(whole, Measured)
    # 1293 samples at a hundred a second; of evaluation, 2 steps are all.
    assert train.number == pytest.approx(12.93)
    assert train.note == "extrapolated from 2 of 13 steps"
    assert whole.number == pytest.approx(12.93 + 2.0)
    assert whole.note == "training extrapolated from 2 of 13 steps"
    assert (findings.facts["train_steps"], findings.facts["train_steps_of"]) == (2, 13)


@pytest.mark.parametrize(
    ("seconds", "steps", "repeats"), [(0.001, 3, 1), (8.0, 6, 1), (16.0, 12, 1), (40.0, 13, 2), (1e6, 13, 5)]
)
def test_as_much_is_measured_as_the_time_allows(
    tiny: Recipe, monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int, repeats: int
) -> None:
    measured = epoch(tiny, configured(tiny, "train", seconds=seconds))
    timed(measured, monkeypatch, 1.0)
    facts = looked_at(measured).facts
    assert (facts["train_steps"], facts["train_steps_repeats"]) == (steps, repeats)


def test_an_epoch_of_drawn_batches_is_so_many_steps(tiny: Recipe) -> None:
    recipe = load_recipe("digits", settings({**TINY, "batch": 100, "adapt.batches": 4}))
    findings = looked_at(epoch(recipe, configured(recipe, "train", max_steps=2)))
    found = {value.name: value for value in findings.values}
    train, speed = found["train_pass"], found["throughput"]
    assert isinstance(train, Measured)
    assert isinstance(speed, Measured)
    assert train.note == "extrapolated from 2 of 4 steps"
    assert speed.number == pytest.approx(400 / train.number)


def test_measuring_trains_with_the_recipe_s_own_steps(tiny: Recipe) -> None:
    measured = epoch(tiny, configured(tiny, "train"))
    before = [parameter.clone() for parameter in measured.network.parameters()]
    measured._train(3)
    assert all(not torch.equal(a, b) for a, b in zip(before, measured.network.parameters(), strict=True))
    after = [parameter.clone() for parameter in measured.network.parameters()]
    measured._evaluate(2)
    assert all(torch.equal(a, b) for a, b in zip(after, measured.network.parameters(), strict=True))


@pytest.mark.parametrize("clip", ["0.25", "null"])
def test_looking_inside_a_step_changes_nothing_of_it(tiny: Recipe, clip: str) -> None:
    recipe = load_recipe("digits", settings({**TINY, "batch": 100, "adapt.clip": clip}))
    looked, plain = (epoch(recipe, configured(recipe, "train")) for _ in range(2))
    looked._train(3)
    optimiser = make_optimiser(recipe.adapt, plain.network)
    plain.network.train()
    for batch in plain._batches(3):
        train_step(plain.network, plain.task, optimiser, recipe.adapt.clip, batch)
    for a, b in zip(looked.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert len(looked.parts) == 3
    for parts in looked.parts:
        assert all(seconds > 0 for name, seconds in parts.items() if name != "transfer")
        assert sum(seconds for name, seconds in parts.items() if name != "step") == pytest.approx(parts["step"])
        assert parts["transfer"] == 0


def test_copies_to_a_device_are_told_from_the_wait_for_data() -> None:
    from hstnn_deploy.profile.phases.steps import Clock, _Transfers

    device = torch.device("meta")
    transfers = _Transfers(Clock(torch.device("cpu")), device)
    with transfers:
        here = torch.ones(3).to(torch.float64)
        there = here.to(device)
        assert there.to(device) is there
    assert len(transfers.marks) == 1
    assert there.device == device


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
def test_a_language_model_is_called_in_every_engine(ptb: Path, tmp_path: Path, kind: str) -> None:
    recipe = load_recipe("ptb", [*settings(TINY_TEXT), f"kind={kind}"])
    (first, *_) = asked = [configured(recipe, "infer", engines=[each], batches=[3], data_dir=ptb) for each in ENGINES]
    found = prepare.prepare(first, list(ENGINES), tmp_path)
    assert found["absent"] == {}
    for each in asked:
        record = worker.measure(each, tmp_path)
        assert record.status == "measured", record.reason
        assert record.facts["calls"] >= 3


def test_a_convolutional_network_is_called_in_every_engine(tmp_path: Path) -> None:
    recipe = load_recipe("digit-events", settings({"network.units": [2, 3, 2], "network.hidden": 4}))
    asked = [configured(recipe, "infer", engines=[each], batches=[2]) for each in ENGINES]
    assert prepare.prepare(asked[0], list(ENGINES), tmp_path)["absent"] == {}
    x = np.load(tmp_path / inference.INPUTS)[:, :5]
    scores = [inference.open_engine(each, tmp_path).call(x) for each in asked]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=1e-4)


def test_a_loss_that_is_no_number_is_not_a_training(tiny: Recipe) -> None:
    measured = epoch(tiny, configured(tiny, "train"))
    with torch.no_grad():
        next(measured.network.parameters()).fill_(float("nan"))
    with pytest.raises(ProfileError, match="the loss is nan"):
        looked_at(measured)


def test_selection_is_measured_probe_by_probe(tiny: Recipe, tmp_path: Path) -> None:
    recipe = load_recipe("digits", settings({**TINY, "selection.probes": 40}))
    record = worker.measure(configured(recipe, "select", max_steps=4), tmp_path)
    assert record.status == "measured", record.reason
    traces, whole = record.value("traces"), record.value("selection")
    assert isinstance(traces, Measured)
    assert isinstance(whole, Measured)
    assert traces.note == "extrapolated from 4 of 40 probes"
    assert len(record.series["probe"]) == 3
    assert whole.number == pytest.approx(traces.number + number(record, "ranking") + number(record, "cutting"))
    assert [span.name for span in record.spans] == ["import", "load", "build", "traces", "ranking", "cutting"]


def test_every_export_is_measured_by_itself(tiny: Recipe, tmp_path: Path) -> None:
    record = worker.measure(configured(tiny, "export"), tmp_path)
    assert record.status == "measured", record.reason
    for form in ("onnx", "torchscript", "pt2"):
        assert number(record, f"export_{form}") > 0
        assert number(record, f"export_{form}_size") > 1000


def test_a_network_without_an_export_form_is_no_failure(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hstnn_deploy.profile.phases import exporting

    def refused(*words: Any) -> None:
        raise ExportError("no form for this")

    monkeypatch.setattr(exporting, "write_graphs", refused)
    record = worker.measure(configured(tiny, "export"), tmp_path)
    assert (record.status, record.reason) == ("n/a", "no form for this")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    recipe = load_recipe("digits", settings(TINY))
    found = prepare.prepare(configured(recipe, "infer"), list(ENGINES), folder)
    assert found["data"].startswith("real: ")
    assert found["absent"] == {}
    assert found["sizes"]["onnxruntime"] == (folder / inference.WINDOW_ONNX).stat().st_size
    return folder


ENGINES = ("eager", "fused", "torchscript", "onnxruntime", "pt2")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 230])
def test_every_engine_is_called_on_whole_batches(tiny: Recipe, prepared: Path, engine: str, batch: int) -> None:
    record = worker.measure(configured(tiny, "infer", engines=[engine], batches=[batch]), prepared)
    assert record.status == "measured", record.reason
    latencies = [number(record, f"latency_p{share}") for share in (50, 90, 99)]
    assert 0 < latencies[0] <= latencies[1] <= latencies[2]
    assert number(record, "throughput") > 0
    assert record.facts["calls"] >= 3
    assert record.facts["runs_on"] == ("CPUExecutionProvider" if engine == "onnxruntime" else "torch cpu")


def test_engines_agree_on_the_logits(tiny: Recipe, prepared: Path) -> None:
    x = np.load(prepared / inference.INPUTS)
    logits = [
        inference.open_engine(configured(tiny, "infer", engines=[engine]), prepared).call(x) for engine in ENGINES
    ]
    assert logits[0].shape == (100, 10)
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], atol=1e-4)


def test_percentiles_and_throughput_are_those_of_the_calls(
    tiny: Recipe, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "repeated", lambda *_: [n / 1000 for n in range(1, 102)])
    with Ledger() as ledger:
        findings = inference.measure(configured(tiny, "infer", batches=[4]), prepared, ledger, lambda: None)
    found = {value.name: value.number for value in findings.values if isinstance(value, Measured)}
    assert found["latency_p50"] == pytest.approx(0.051)
    assert found["latency_p90"] == pytest.approx(0.091)
    assert found["latency_p99"] == pytest.approx(0.1)
    assert found["throughput"] == pytest.approx(4 * 101 / (51 * 0.101))
    assert findings.facts["calls"] == len(findings.series["latency"]) == 101


def test_few_calls_say_what_their_p99_is_worth(tiny: Recipe, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "repeated", lambda *_: [0.001] * 99)
    with Ledger() as ledger:
        findings = inference.measure(configured(tiny, "infer"), prepared, ledger, lambda: None)
    (slowest,) = [value for value in findings.values if value.name == "latency_p99"]
    assert isinstance(slowest, Measured)
    assert slowest.note == "of only 99 calls: at most the slowest of them"


def test_an_engine_that_answers_nonsense_is_not_measured(
    tiny: Recipe, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> inference.Engine:
        return inference.Engine(lambda x: np.full((x.shape[1], 10), np.nan, np.float32), "a test", None)

    monkeypatch.setattr(inference, "open_engine", wrong)
    with pytest.raises(ProfileError, match="fused gave"), Ledger() as ledger:
        inference.measure(configured(tiny, "infer"), prepared, ledger, lambda: None)


def test_the_onnxruntime_process_loads_neither_torch_nor_the_training(tiny: Recipe, prepared: Path) -> None:
    configuration = configured(tiny, "infer", engines=["onnxruntime"])
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from hstnn_deploy.profile.record import Configuration\nfrom hstnn_deploy.profile.run.worker import measure\n"
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
        pytest.skip("there is a GPU: it runs where there is none")
    for phase, engine in (("train", "fused"), ("infer", "fused"), ("infer", "onnxruntime")):
        asked = configured(tiny, phase) if phase == "train" else configured(tiny, phase, engines=[engine])
        record = worker.measure(replace(asked, device="cuda:0"), prepared)
        assert (record.status, record.values) == ("failed", [])
        assert "is not available: " in record.reason


def test_what_breaks_is_said_in_one_line(tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, reason in (
        (MemoryError(), "out of host memory"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (HstnnError("explained"), "explained"),
        (HstnnError("cannot run: FAIL : std::bad_alloc"), "out of host memory: ONNX Runtime could not allocate more"),
        (
            RuntimeError("can't allocate memory: you tried to allocate 367001600 bytes. Error code 12"),
            "out of host memory: torch needed 367 MB more",
        ),
    ):

        def broken(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setitem(worker._MEASURES, "infer", broken)
        record = worker.measure(configured(tiny, "infer"), tmp_path)
        assert (record.status, record.reason) == ("failed", reason)


def test_a_graph_that_cannot_be_written_is_no_matter_of_other_engines(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: Any) -> None:
        raise ExportError(f"no {words[2]} today")

    monkeypatch.setattr(prepare, "_write_graphs", refused)
    found = prepare.prepare(configured(tiny, "infer"), ["eager", "onnxruntime"], tmp_path)
    assert found["absent"] == {"onnxruntime": "no export form: no onnx today"}
    assert np.load(tmp_path / inference.INPUTS).shape == (8, 100, 8)


@pytest.mark.parametrize(("phase", "source"), [("train", "real"), ("train", "synthetic"), ("select", "real")])
def test_a_regression_is_measured(
    phase: Phase, source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_place_of_the_digits(monkeypatch)
    recipe = load_recipe("digits", settings({**TINY, "network.classes": 2}))
    record = worker.measure(replace(configured(recipe, phase, max_steps=2), data=source), tmp_path)
    assert record.status == "measured", record.reason
    assert record.facts["data"].startswith(f"{source}: ")
