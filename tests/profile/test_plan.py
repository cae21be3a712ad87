"""What is measured, and on what, is settled before anything runs."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from hstnn_deploy.data import registry
from hstnn_deploy.errors import CheckpointError, DataError, DeviceError, RecipeError, UsageError
from hstnn_deploy.profile.phases.inputs import splits, splits_of
from hstnn_deploy.profile.phases.synthetic import synthetic
from hstnn_deploy.profile.plan.plan import plan
from hstnn_deploy.profile.plan.subjects import network_label
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.train.stages import train


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_bare_means_every_recipe_of_an_experiment(no_gpu: None) -> None:
    configurations = plan()
    experiments = {each.subject: each.experiment for each in configurations}
    assert experiments.items() >= {"smnist": "RNN-SMNIST", "ptb": "RNN-PTB"}.items()
    assert None not in experiments.values()
    smnist = [each for each in configurations if each.subject == "smnist"]
    assert [(each.phase, each.engine, each.batch) for each in smnist] == [
        ("work", "fused", 100),
        ("train", "fused", 100),
        ("infer", "fused", 1),
        ("infer", "fused", 100),
        ("infer", "torchscript", 1),
        ("infer", "torchscript", 100),
        ("infer", "onnxruntime", 1),
        ("infer", "onnxruntime", 100),
    ]
    assert {each.device for each in configurations} == {"cpu"}
    assert all(each.no_cuda.startswith("measured on the CPU: ") for each in configurations if each.phase != "work")


def test_a_language_model_is_measured_in_windows_of_its_text(no_gpu: None) -> None:
    (training,) = plan(["ptb"], phases=["train"])
    assert (training.network, training.batch, training.steps) == ("hybrid adaptation (650+650, 650+650)", 25, 35)
    with pytest.raises(UsageError, match=r"network\.family is sequence, but ptb is for the family language"):
        plan([load_recipe("digits", ["data={name: ptb}"])])


def test_a_hybrid_is_trained_redundant_and_deployed_at_its_ratio(no_gpu: None) -> None:
    training, inference = plan(["smnist"], phases=["train", "infer"], engines=["eager"], batches=[1])
    assert (training.network, training.stage) == ("hybrid adaptation (800+800, 800+800)", "adapt")
    assert (inference.network, inference.stage) == ("hybrid 0.5 (400+400, 400+400)", "restore")
    assert training.sizes == [[800, 800], [800, 800]]
    assert (training.steps, training.experiment) == (28, "RNN-SMNIST")


@pytest.mark.parametrize(
    ("kind", "label"), [("rnn", "rnn (128, 128)"), ("snn", "snn (128, 128)"), ("ffs", "ffs 0.25 (32+96, 32+96)")]
)
def test_other_kinds_are_one_network(no_gpu: None, kind: str, label: str) -> None:
    recipe = load_recipe("digits", [f"kind={kind}", "ratio=0.25"])
    assert [each.network for each in plan([recipe], engines=["eager"], batches=[1])] == [label] * 3


def test_a_layer_of_one_kind_only_is_named_by_its_units() -> None:
    from hstnn_deploy.models.sizes import Sizes

    assert network_label("hybrid", 0.5, [Sizes(3, 0), Sizes(1, 2)], "restore") == "hybrid 0.5 (3, 1+2)"


def test_a_checkpoint_is_measured_as_it_is(tiny: Recipe, tmp_path: Path, no_gpu: None) -> None:
    (run,) = train(tiny, tmp_path, stage="adapt")
    training, inference = plan(ckpt=run.best, phases=["train", "infer"], engines=["eager"], batches=[1])
    assert training.network == inference.network == "hybrid adaptation (6+6, 5+5)"
    assert inference.ckpt == str(run.best)
    assert {each.subject for each in plan(["digits"], ckpt=run.best)} == {"digits", str(run.best)}


def test_without_gpus_the_first_one_is_taken_where_there_is_one(two_gpus: None) -> None:
    assert {(each.device, each.no_cuda) for each in plan(["digits"], phases=["train"])} == {("cuda:0", "")}


def test_each_gpu_named_is_measured_by_itself_and_then_all_at_once(two_gpus: None) -> None:
    configurations = plan(["digits"], phases=["train"], gpus=[1, None, 1, 0])
    alone, together = configurations[:3], configurations[3:]
    assert [each.device for each in alone] == ["cuda:1", "cpu", "cuda:0"]
    assert alone[1].no_cuda == "measured on the CPU, as requested"
    assert [(each.device, each.at_once) for each in together] == [
        ("cuda:1", ["cuda:1", "cuda:0"]),
        ("cuda:0", ["cuda:1", "cuda:0"]),
    ]
    assert together[0].together == together[1].together != alone[0].together


def test_a_gpu_beyond_those_there_are_is_an_error(two_gpus: None) -> None:
    with pytest.raises(DeviceError, match=r"GPU 2 does not exist: torch sees 2 GPU\(s\), numbered 0 to 1"):
        plan(["digits"], gpus=[0, 2])


def test_a_gpu_where_there_is_none_is_an_error(no_gpu: None) -> None:
    with pytest.raises(DeviceError, match="GPU 0 was requested, but "):
        plan(["digits"], gpus=[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recipes": ["digit"]}, RecipeError, "unknown recipe 'digit'"),
        ({"phases": ["trian"]}, UsageError, "unknown phase 'trian'"),
        ({"phases": []}, UsageError, "no phase was given"),
        ({"engines": ["onnx"]}, UsageError, "unknown engine 'onnx'"),
        ({"batches": [0]}, UsageError, "--batch 0 is not a positive number"),
        ({"batches": []}, UsageError, "--batch needs a number"),
        ({"gpus": []}, UsageError, "--gpus names no GPU"),
        ({"gpus": [-1]}, UsageError, "--gpus -1 is not the number of a GPU"),
        ({"threads": [0]}, UsageError, "--threads 0"),
        ({"seconds": float("nan")}, UsageError, "--seconds nan"),
        ({"max_steps": -3}, UsageError, "--max-steps -3"),
        ({"instances": 0}, UsageError, "--instances 0"),
        ({"train_batches": [0]}, UsageError, "--train-batch 0"),
        ({"steps": [-1]}, UsageError, "--steps -1"),
        ({"kinds": ["gru"]}, UsageError, "unknown kind 'gru'"),
        ({"precisions": ["fp64"]}, UsageError, "unknown precision 'fp64'"),
        ({"data": "fake"}, UsageError, "unknown data source 'fake'"),
        ({"experiments": ["rnn-smist"]}, UsageError, "unknown experiment 'rnn-smist'"),
        ({"recipes": ["digits"], "ratios": [1.5]}, UsageError, "ratio"),
        ({"recipes": ["digits"], "kinds": ["rnn"], "phases": ["select"]}, UsageError, "nothing to measure"),
        ({"recipes": ["digit-events"], "kinds": ["lstm"]}, RecipeError, "has rnn units only"),
        ({"ckpt": Path("nothing.pt")}, CheckpointError, r"nothing\.pt does not exist"),
        ({"data_dir": Path("nowhere")}, DataError, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan(**options)


def test_an_engine_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hstnn_deploy.profile.plan.plan.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match="onnxruntime is not installed"):
        plan(["digits"])
    assert plan(["digits"], engines=["eager"])


def test_a_network_that_does_not_fit_its_data_is_refused() -> None:
    with pytest.raises(UsageError, match=r"network\.inputs is 9, but digits has 8"):
        plan([load_recipe("digits", ["network.inputs=9"])])


def test_the_published_size_of_a_data_set_is_the_real_one(tiny: Recipe) -> None:
    shape = registry.shape(tiny.data)
    assert shape is not None
    real, what = splits(tiny, None)
    assert what.startswith("real: ")
    assert (len(real.train) + len(real.valid), len(real.test)) == (shape.train, shape.test)
    x = real.test.batch(torch.arange(3), torch.device("cpu")).x
    assert x.shape == (shape.steps, 3, shape.inputs)
    assert (real.inputs, real.classes) == (shape.inputs, shape.classes)


@pytest.mark.parametrize("protocol", ["validation", "test"])
def test_synthetic_data_has_the_real_one_s_sizes(tiny: Recipe, protocol: str) -> None:
    recipe = tiny.model_copy(update={"protocol": protocol})
    made, real = synthetic(recipe), splits(recipe, None)[0]
    for name in ("train", "valid", "test"):
        one, other = made.split(name), real.split(name)
        assert len(one) == len(other)
        chosen = torch.tensor([0, len(one) - 1])
        x, target, _ = one.batch(chosen, torch.device("cpu"))
        like, _, _ = other.batch(chosen, torch.device("cpu"))
        assert (x.shape, x.dtype) == (like.shape, like.dtype)
        assert 0 <= float(x.min()) <= float(x.max()) <= 1
        assert int(target.max()) < made.classes


def test_a_synthetic_text_has_the_published_one_s_length() -> None:
    made = synthetic(load_recipe("ptb"))
    text = {name: made.split(name) for name in ("train", "valid", "test")}
    assert {name: (len(split) * 35 + 1) // 1000 for name, split in text.items()} == {
        "train": 929,
        "valid": 73,
        "test": 82,
    }
    x, target, _ = text["test"].batch(torch.arange(3), torch.device("cpu"))
    assert x.shape == target.shape == (35, 3)
    assert 0 <= int(x.min()) <= int(x.max()) < made.classes == 10_000
    assert torch.equal(x[1:], target[:-1])


def test_a_vocabulary_that_is_not_the_text_s_is_refused(ptb: Path) -> None:
    assert splits(load_recipe("ptb", ["network.vocabulary=13"]), ptb)[1].startswith("real: ptb from")
    with pytest.raises(UsageError, match=r"network\.vocabulary is 10000, but ptb has 13"):
        splits(load_recipe("ptb"), ptb)


def test_axes_are_multiplied_and_nothing_is_measured_twice(no_gpu: None) -> None:
    planned = plan(
        ["digits"],
        phases=["train", "select", "restore", "infer"],
        kinds=["rnn", "hybrid"],
        ratios=[0.25, 0.5],
        engines=["fused"],
        batches=[1],
    )
    assert [(each.phase, each.kind, each.ratio) for each in planned] == [
        ("train", "rnn", 0.5),
        ("infer", "rnn", 0.5),
        ("train", "hybrid", 0.25),
        ("select", "hybrid", 0.25),
        ("restore", "hybrid", 0.25),
        ("infer", "hybrid", 0.25),
        ("restore", "hybrid", 0.5),
        ("infer", "hybrid", 0.5),
    ]
    many = plan(["digits"], phases=["train"], precisions=["fp32", "bf16"], threads=[1, 2], train_batches=[10, 20, 10])
    assert {(each.precision, each.threads, each.batch) for each in many} == {
        (precision, threads, batch) for precision in ("fp32", "bf16") for threads in (1, 2) for batch in (10, 20)
    }
    assert len(many) == 8


def test_instances_of_one_stand_together_and_differ_in_their_number_alone(no_gpu: None) -> None:
    planned = plan(["digits"], instances=3, engines=["fused"], batches=[1])
    assert [(each.phase, each.instance, each.instances) for each in planned] == [
        ("work", 1, 1),
        *[("train", number, 3) for number in (1, 2, 3)],
        *[("infer", number, 3) for number in (1, 2, 3)],
    ]
    assert len({each.together for each in planned}) == 3
    assert len({each.key for each in planned}) == 7


def test_an_experiment_is_the_recipe_that_reproduces_it(no_gpu: None) -> None:
    (configuration,) = plan(experiments=["RNN-smnist"], phases=["train"])
    assert (configuration.subject, configuration.experiment) == ("smnist", "RNN-SMNIST")


def test_other_time_steps_are_cut_off_or_repeated(tiny: Recipe, no_gpu: None) -> None:
    short, long = plan([tiny], phases=["train"], steps=[3, 20])
    whole = splits(tiny, None)[0].test.batch(torch.arange(4), torch.device("cpu")).x
    for configuration, steps in ((short, 3), (long, 20)):
        data, what = splits_of(configuration, tiny)
        x = data.test.batch(torch.arange(4), torch.device("cpu")).x
        assert x.shape == (steps, 4, 8)
        assert torch.equal(x[:3], whole[:3])
        assert torch.equal(x[8:11], whole[:3]) or steps == 3
        assert "cut or repeated from its own 8" in what
    (text,) = plan(["ptb"], phases=["train"], steps=[7])
    assert (text.steps, text.recipe["data"]["bptt"]) == (7, 7)


def test_a_checkpoint_keeps_its_kind(tiny: Recipe, tmp_path: Path, no_gpu: None) -> None:
    (run,) = train(tiny, tmp_path, stage="adapt")
    with pytest.raises(UsageError, match="the checkpoint fixes its network's kind"):
        plan(ckpt=run.best, kinds=["rnn"])
    planned = plan(["digits"], ckpt=run.best, kinds=["rnn"], phases=["train", "select"])
    assert [(each.subject, each.phase, each.kind) for each in planned] == [
        ("digits", "train", "rnn"),
        (str(run.best), "train", "hybrid"),
        (str(run.best), "select", "hybrid"),
    ]
    assert planned[-1].ckpt_sha256


@pytest.mark.parametrize("source", ["real", "synthetic"])
def test_where_the_data_comes_from_can_be_asked_for(source: str, tmp_path: Path) -> None:
    digits = load_recipe("digits")
    assert splits(digits, None, cast(Any, source))[1].startswith(f"{source}: ")
    if source == "real":
        with pytest.raises(DataError, match="mnist is not available"):
            splits(load_recipe("smnist"), tmp_path, "real")


def test_a_synthetic_text_that_ships_with_python_is_as_long_as_it() -> None:
    recipe = load_recipe("pydoc-text")
    real, made = splits(recipe, None)[0], splits(recipe, None, "synthetic")[0]
    assert [len(made.split(name)) for name in ("train", "test")] == [len(real.split(n)) for n in ("train", "test")]


@pytest.mark.parametrize("name", ["digits", "digit-events"])
def test_synthetic_data_is_as_dense_as_the_real(name: str) -> None:
    recipe = load_recipe(name)
    dense = [
        float(
            (splits(recipe, None, cast(Any, source))[0].test.batch(torch.arange(300), torch.device("cpu")).x != 0)
            .float()
            .mean()
        )
        for source in ("real", "synthetic")
    ]
    assert dense[1] == pytest.approx(dense[0], rel=0.1)


def test_data_that_is_not_at_hand_is_made_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hstnn_deploy.data.registry.load", lambda *_: pytest.fail("nothing may be downloaded"))
    made, what = splits(load_recipe("smnist"), tmp_path)
    assert what.startswith("synthetic: ")
    assert "train-images-idx3-ubyte is missing" in what
    assert (len(made.train), len(made.valid), len(made.test)) == (54_000, 6_000, 10_000)


def test_data_that_is_there_is_used(mnist: Path) -> None:
    found, what = splits(load_recipe("smnist", ["data.checksum=false"]), mnist)
    assert what.startswith("real: MNIST")
    assert len(found.test) == 20


def test_data_that_is_there_but_damaged_is_an_error(mnist: Path) -> None:
    (mnist / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(DataError, match="truncated"):
        splits(load_recipe("smnist", ["data.checksum=false"]), mnist)


def test_a_stack_is_measured_in_both_modes_and_precisions_side_by_side() -> None:
    found = plan(["stack-digits", "digits"], phases=["train"], modes=["layers", "steps"], precisions=["fp32", "bf16"])
    stacks = [each for each in found if each.subject == "stack-digits"]
    assert [(each.network, each.precision) for each in stacks] == [
        *(("stack", "fp32"), ("stack, step by step", "fp32")),
        *(("stack", "bf16"), ("stack, step by step", "bf16")),
    ]
    assert {each.recipe["network"]["mode"] for each in stacks} == {"layers", "steps"}
    # A hybrid has no modes: it is measured once in each precision.
    assert len(found) - len(stacks) == 2
    with pytest.raises(UsageError, match="mode 'layer'"):
        plan(["stack-digits"], modes=["layer"])
