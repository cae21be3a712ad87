"""Recipes: the shipped ones work, and a wrong one is refused with the path of the key and what would be right."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.registry import shape
from hstnn_deploy.errors import RecipeError
from hstnn_deploy.models.hybrid.language import LanguageConfig
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.registry import build
from hstnn_deploy.models.sizes import KINDS, Kind, layer_sizes
from hstnn_deploy.models.tasks import task_for
from hstnn_deploy.recipe.load import load_recipe, parse, shipped
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.recipe.sections import Stage
from hstnn_deploy.train.schedules import make_optimiser


def test_lstm_units_are_refused_where_there_are_none() -> None:
    with pytest.raises(RecipeError, match=r"network\.recurrent is 'lstm': the family convolutional has rnn units only"):
        load_recipe("digit-events", ["kind=lstm"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # Each recipe in every run, and each kind of one of them; all kinds of all in `make test-matrix`.
        pytest.param(name, kind, marks=() if kind in {"plain", KINDS[number % len(KINDS)]} else pytest.mark.matrix)
        for number, name in enumerate(shipped())
        for kind in (*KINDS, "plain")
        if (kind == "plain") == (load_recipe(name).method == "plain")
        if kind != "lstm" or load_recipe(name).network.family != "convolutional"
    ],
)
def test_every_shipped_recipe_builds_and_takes_a_training_step(name: str, kind: Kind) -> None:
    recipe = load_recipe(name, [f"kind={kind}"])
    known = shape(recipe.data)
    if known is None:
        assert isinstance(recipe.network, LanguageConfig)
        x = torch.randint(0, recipe.network.vocabulary, (3, 4))
        target = torch.randint(0, recipe.network.vocabulary, (3, 4))
    else:
        recipe.check_fits(known.family, known.sizes)
        # Frames count events: with fewer, the last layers stay silent. A few frames of the large networks will do.
        large = known.size is not None and known.size > 100
        scale, steps, batch = (1, known.steps, 4) if known.size is None else (8, 3, 2) if large else (8, 6, 4)
        x, target = torch.rand(steps, batch, *known.step) * scale, torch.arange(batch)
    torch.manual_seed(0)
    network = build(recipe.network, layer_sizes(recipe.kind, recipe.network.units, recipe.ratio))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for stage in (recipe.adapt, recipe.restore):
        optimiser = make_optimiser(stage, network)
        output, _ = network(x)
        loss = task_for(recipe.network, recipe.loss).loss(output, target, len(x))
        loss.backward()
        optimiser.step()
    assert loss.isfinite()
    assert all(value.isfinite().all() for value in network.state_dict().values())
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    # A spiking language model begins all but silent: what its second layer sees is nothing for the first few steps.
    # And the last layer of a large network sees nothing in so few frames: no unit before it has fired yet.
    unseen = {key for key in before if key.startswith(("layers.25.", "layers.26."))} if known and large else set[str]()
    assert before.keys() - changed <= unseen or (kind == "snn" and known is None and "decoder.weight" not in changed)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_says_what_it_is_and_bears_the_name_of_its_file(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.about


def test_smnist_has_the_published_hyper_parameters() -> None:
    recipe = load_recipe("smnist")
    assert recipe.network.units == [800, 800]
    assert recipe.network.neuron == Lif(decay=0.6, threshold=0.6, lens=0.5, reset="zero", surrogate="rectangular")
    assert (recipe.batch, recipe.seed, recipe.protocol, recipe.ratio) == (100, 1111, "validation", 0.5)
    for stage in (recipe.adapt, recipe.restore):
        assert (stage.epochs, stage.optimiser, stage.lr, stage.clip) == (150, "adam", 3e-4, 0.25)
    assert (recipe.selection.probes, recipe.selection.samples) == (300, 100)


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "rates", "clip", "samples", "neuron", "published"),
    [
        ("nmnist", (100, 150), 100, (8e-4, 8e-4), 0.25, 100, (0.3, 0.3, 0.25), None),
        # 6400 random batches of 36, as passes over 1077 recordings.
        ("dvs-gesture", (214, 214), 36, (5e-4, 3e-4), None, 18, (0.3, 0.5, 0.5), 96.04),
    ],
)
def test_the_experiments_on_events_have_the_published_hyper_parameters(
    name: str,
    epochs: tuple[int, int],
    batch: int,
    rates: tuple[float, float],
    clip: float | None,
    samples: int,
    neuron: tuple[float, float, float],
    published: float | None,
) -> None:
    recipe = load_recipe(name)
    assert recipe.network.units == [128, 256, 384]
    decay, threshold, lens = neuron
    assert recipe.network.neuron == Lif(decay=decay, threshold=threshold, lens=lens)
    assert (recipe.batch, recipe.protocol, recipe.selection.samples, recipe.selection.probes) == (
        batch,
        "validation",
        samples,
        300,
    )
    stages = (recipe.adapt, recipe.restore)
    assert tuple(stage.epochs for stage in stages) == epochs
    assert tuple(stage.lr for stage in stages) == rates
    assert all((stage.optimiser, stage.clip) == ("adam", clip) for stage in stages)
    assert recipe.experiment == {"nmnist": "RCNN-NMNIST", "dvs-gesture": "RCNN-DVSGes"}[name]
    assert (recipe.published and recipe.published.of("hybrid", 0.5)) == published


def test_ptb_has_the_published_hyper_parameters() -> None:
    recipe = load_recipe("ptb")
    network = recipe.network
    assert isinstance(network, LanguageConfig)
    assert (network.inputs, network.units, network.vocabulary, network.dropout) == (650, [650, 650], 10_000, 0.5)
    assert network.neuron == Lif(decay=0.6, threshold=0.6, lens=0.5, reset="zero", surrogate="rectangular")
    assert (recipe.batch, recipe.seed, recipe.data.model_dump()["bptt"]) == (25, 1111, 35)
    for stage, lr in ((recipe.adapt, 0.5), (recipe.restore, 0.1)):
        assert (stage.epochs, stage.optimiser, stage.lr, stage.momentum, stage.clip) == (200, "sgd", lr, 0.9, 1)
        assert stage.schedule is not None
        assert stage.schedule.model_dump() == {"name": "step", "every": 25, "factor": 0.5}
    assert recipe.selection.probes == 300


def test_batches_are_not_drawn_at_random_from_a_text() -> None:
    with pytest.raises(RecipeError, match="a text is read in order"):
        load_recipe("ptb", ["restore.batches=20"])


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    stage = "train" if load_recipe(name).method == "plain" else "adapt"
    recipe = load_recipe(name, [f"{stage}.lr=1e-5", f"{stage}.clip=null", "about='naïve: über #1'"])
    path = tmp_path / "own.yaml"
    path.write_text(recipe.yaml(), encoding="utf-8")
    assert load_recipe(str(path)) == recipe
    assert parse(recipe.dump(), "a test") == recipe


def test_changes_are_applied_in_order_and_read_as_yaml() -> None:
    recipe = load_recipe(
        "digits",
        ["adapt.epochs=5", "adapt.epochs=6", "network.units=[3, 4]", "adapt.lr=1e-3", "adapt.clip=null", "ratio=.25"],
    )
    assert recipe.adapt.epochs == 6
    assert recipe.network.units == [3, 4]
    assert recipe.adapt.lr == 1e-3
    assert recipe.adapt.clip is None
    assert recipe.ratio == 0.25
    assert load_recipe("digits").adapt.epochs == 100


def test_a_change_may_name_a_section_that_the_file_leaves_out() -> None:
    raw = load_recipe("digits").dump()
    del raw["selection"]
    path = "own.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hstnn_deploy.recipe.load._read", lambda _: (raw, path))
        assert load_recipe(path, ["selection.probes=9"]).selection.probes == 9


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("adapt.epoch=5", "unknown key 'adapt.epoch'", "'epochs'"),
        ("adapts.lr=5", "unknown key 'adapts'", "'adapt'"),
        ("network.unit=[3]", "unknown key 'network.unit'", "'units'"),
        ("network.neuron.taw=3", "unknown key 'network.neuron.taw'", "decay"),
        ("network.neuron.treshold=3", "unknown key 'network.neuron.treshold'", "'threshold'"),
        ("data.chekcsum=false", "unknown key 'data.chekcsum'", "name"),
        ("selection.probe=3", "unknown key 'selection.probe'", "'probes'"),
        # Words that are also names of data sets or families.
        ("zzz.checksum=false", "unknown key 'zzz'", "known:"),
        ("qqq=1", "unknown key 'qqq'", "known:"),
        ("sequence=1", "unknown key 'sequence'", ""),
        ("network.sequence=1", "unknown key 'network.sequence'", "known:"),
        ("adapt.epochs=0", "adapt.epochs is 0: it must be greater than 0", ""),
        ("adapt.epochs=many", "adapt.epochs is 'many': it must be an integer", ""),
        ("adapt.epochs=1.5", "adapt.epochs is 1.5: it must be an integer", ""),
        ("adapt.lr=-1", "adapt.lr is -1", ""),
        ("adapt.lr=nan", "adapt.lr is nan", ""),
        ("adapt.lr=inf", "adapt.lr is inf", ""),
        ("adapt.clip=inf", "adapt.clip is inf", ""),
        ("network.neuron.threshold=.inf", "network.neuron.threshold is inf", ""),
        ("adapt.optimiser=adamw", "adapt.optimiser is 'adamw': it must be 'adam' or 'sgd'", ""),
        ("adapt=3", "adapt is 3", ""),
        ("ratio=1.5", "ratio is 1.5: it must be less than 1", ""),
        ("ratio=half", "ratio is 'half': it must be a number", ""),
        ("kind=cnn", "kind is 'cnn': it must be 'rnn', 'lstm', 'snn', 'ffs', 'hybrid' or 'plain'", ""),
        ("seed=-1", "seed is -1", ""),
        ("seed=9223372036854775808", "seed is 9223372036854775808", ""),
        ("batch=0", "batch is 0", ""),
        ("protocol=train", "protocol is 'train': it must be 'validation' or 'test'", ""),
        ("name=../up", "name is '../up'", ""),
        ("network.units=[]", r"network.units is \[\]", ""),
        ("network.units=[4, 0]", "network.units.1 is 0: it must be greater than 0", ""),
        ("network.units=[4, -1]", "network.units.1 is -1", ""),
        ("network.units=8", "network.units is 8: it must be a list", ""),
        ("network.family=tree", "network.family is 'tree'", ""),
        ("network.neuron.decay=2", "network.neuron.decay is 2: it must be less than or equal to 1", ""),
        ("data.name=minst", "data.name is 'minst'", "'mnist'"),
        ("selection.probes=1", "selection.probes is 1", ""),
        ("adapt.lr.x=1", "adapt.lr.x: adapt.lr is a value, not a section", ""),
        ("epochs", "'epochs' is not key=value", "for example"),
        ("=5", "'=5' is not key=value", "for example"),
        ("adapt.lr=[1", "is not a YAML value", ""),
    ],
)
def test_a_wrong_change_names_the_key_what_was_given_and_what_is_allowed(change: str, message: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("../up", re.escape("../up"))) as refused:
        load_recipe("digits", [change])
    assert hint in refused.value.hint
    assert "\n" not in refused.value.message


def test_more_than_one_mistake_is_counted() -> None:
    with pytest.raises(RecipeError, match="and 1 more"):
        load_recipe("digits", ["batch=0", "seed=-1"])


def write(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    raw = load_recipe("digits").dump()
    del raw["adapt"]["lr"]
    with pytest.raises(RecipeError, match=r"key 'adapt\.lr' is missing"):
        load_recipe(write(tmp_path, yaml.safe_dump(raw)))


def test_data_without_a_name_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    raw = load_recipe("digits").dump()
    raw["data"] = {}
    with pytest.raises(RecipeError, match=r"key 'data\.name' is missing") as refused:
        load_recipe(write(tmp_path, yaml.safe_dump(raw)))
    assert "mnist" in refused.value.hint


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\t- x", "{", "a: \x00"])
def test_what_is_not_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="is not YAML") as refused:
        load_recipe(write(tmp_path, text))
    assert "\n" not in refused.value.message


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(RecipeError, match="is not YAML"):
        load_recipe(str(path))


@pytest.mark.parametrize("text", ["", "- a\n- b", "just words", "3"])
@pytest.mark.parametrize("changes", [[], ["ratio=0.5"], ["adapt.lr=0.5"]])
def test_yaml_that_is_not_a_recipe_is_refused(tmp_path: Path, text: str, changes: list[str]) -> None:
    with pytest.raises(RecipeError, match="is not a recipe"):
        load_recipe(write(tmp_path, text), changes)


def test_a_recipe_that_runs_code_is_not_yaml_to_us(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with pytest.raises(RecipeError, match="is not YAML"):
        load_recipe(write(tmp_path, f"name: !!python/object/apply:os.mkdir ['{marker}']"))
    assert not marker.exists()


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(RecipeError, match="unknown recipe 'digit'") as refused:
        load_recipe("digit")
    assert refused.value.hint == "did you mean 'digits'?"


def test_a_name_like_no_other_lists_what_there_is() -> None:
    with pytest.raises(RecipeError, match="unknown recipe 'xyz'") as refused:
        load_recipe("xyz")
    assert refused.value.hint == f"known: {', '.join(shipped())}"


@pytest.mark.parametrize("name", ["none.yaml", "no/such", "./digits.yml"])
def test_a_missing_file_is_called_a_missing_file(name: str) -> None:
    with pytest.raises(RecipeError, match=f"recipe file {name} does not exist"):
        load_recipe(name)


def test_a_folder_is_not_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="folder"):
        load_recipe(str(tmp_path))


def digits(*changes: str) -> Recipe:
    return load_recipe("digits", changes)


@pytest.mark.parametrize(
    ("stage", "change", "same"),
    [
        ("adapt", "ratio=0.25", True),
        ("adapt", "restore.epochs=3", True),
        ("adapt", "selection.probes=3", True),
        ("adapt", "about=other", True),
        ("adapt", "adapt.epochs=3", False),
        ("adapt", "seed=3", False),
        ("adapt", "protocol=test", False),
        ("traces", "ratio=0.25", True),
        ("traces", "restore.epochs=3", True),
        ("traces", "selection.bootstraps=3", True),
        ("traces", "selection.probes=3", False),
        ("traces", "adapt.epochs=3", False),
        ("restore", "experiment=other", True),
        ("restore", "ratio=0.25", False),
        ("restore", "restore.epochs=3", False),
        ("restore", "selection.bootstraps=3", False),
        ("restore", "adapt.epochs=3", False),
    ],
)
def test_a_stage_belongs_to_what_its_result_depends_on(stage: str, change: str, same: bool) -> None:
    assert (digits().for_stage(stage) == digits(change).for_stage(stage)) == same


@pytest.mark.parametrize(("kind", "same"), [("rnn", True), ("snn", True), ("ffs", False)])
def test_the_ratio_matters_to_ffs_alone_of_the_kinds_trained_in_one_stage(kind: str, same: bool) -> None:
    parts = [digits(f"kind={kind}", f"ratio={ratio}").for_stage("train") for ratio in (0.25, 0.5)]
    assert (parts[0] == parts[1]) == same


@given(st.floats(1e-8, 1e3), st.none() | st.floats(1e-3, 1e3), st.sampled_from(["adam", "sgd"]))
def test_stages_survive_yaml(lr: float, clip: float | None, optimiser: str) -> None:
    raw = load_recipe("digits").dump()
    raw["adapt"] = {"epochs": 1, "lr": lr, "clip": clip, "optimiser": optimiser}
    recipe = parse(raw, "a test")
    assert parse(yaml.safe_load(recipe.yaml()), "a test") == recipe


@pytest.mark.parametrize(("optimiser", "kind"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_the_optimiser_is_the_recipes(optimiser: str, kind: type[torch.optim.Optimizer]) -> None:
    network = torch.nn.Linear(2, 2)
    made = make_optimiser(Stage.model_validate({"epochs": 1, "lr": 0.25, "optimiser": optimiser}), network)
    assert isinstance(made, kind)
    assert made.param_groups[0]["lr"] == 0.25
    assert len(made.param_groups[0]["params"]) == 2
