"""docs/layers.md: every example is valid, every layer and option stands in it, and it says what the code does."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from hstnn_deploy.export.graph.from_nir import FROM
from hstnn_deploy.models.layers import LAYERS
from hstnn_deploy.models.layers.norm import NormOptions
from hstnn_deploy.models.layers.readouts import Readout
from hstnn_deploy.models.network import LossName
from hstnn_deploy.models.neurons import AdaptiveLif, Integrator, Lif
from hstnn_deploy.models.stack import Mode, StackConfig
from hstnn_deploy.models.surrogates import Shape
from hstnn_deploy.models.tasks import LossConfig
from hstnn_deploy.recipe.load import parse
from hstnn_deploy.recipe.recipe import Recipe
from hstnn_deploy.recipe.sections import Schedule, Stage
from tests.models.test_stack_golden import BNTT, DETACHED, IAF, LEAKY, SJ

PAGE = (Path(__file__).parent.parent / "docs" / "layers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
END: list[Any] = ["flatten", {"linear": 3}, "lif"]
"""What makes a network of any list of layers."""


def section(title: str) -> str:
    """Return a section of the page, up to the next heading of any depth."""
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def names_in(text: str) -> set[str]:
    """Return what stands in code in the first column of tables; of several in a cell, each."""
    rows = re.findall(r"^\| (?!key of)([^|]*)", text, flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.splitlines()[0])
def test_every_example_is_valid(text: str) -> None:
    given = yaml.safe_load(text)
    if isinstance(given, list):
        shape = yaml.safe_load(text.splitlines()[0].removeprefix("# input: "))
        network = StackConfig.model_validate({"input": shape, "layers": [*given, *END]})
        # What is written in the example is what is built of it: no key was passed over.
        assert StackConfig.model_validate(network.model_dump()) == network
        assert network.outputs == 3
    elif "name" in given:
        recipe = parse(given, "docs/layers.md")
        assert parse(recipe.dump(), "itself") == recipe
    elif "network" in given:
        assert len(list(StackConfig.model_validate(given["network"]).build([]).leaves())) == 10
    else:
        assert given.keys() == {"loss"}
        LossConfig.model_validate(given["loss"])


def test_an_example_stands_with_every_layer() -> None:
    assert len(EXAMPLES) > 20
    shown: set[str] = set()

    def see(layers: list[Any]) -> None:
        for each in layers:
            keys = {each: None} if isinstance(each, str) else each
            shown.update(LAYERS.keys() & keys.keys())
            for inside in (
                keys.get("layers"),
                keys.get("residual"),
                keys.get("shortcut"),
                *(keys.get("parallel") or []),
            ):
                see(inside if isinstance(inside, list) else [])

    for given in map(yaml.safe_load, EXAMPLES):
        see(given if isinstance(given, list) else given.get("network", {}).get("layers", []))
    assert shown == LAYERS.keys()


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind not in {"rnn", "lstm", "gru"}])
def test_every_layer_has_a_section_that_names_its_keys(kind: str) -> None:
    text = section({"norm": "Norm"}.get(kind, kind))
    own: dict[str, type[BaseModel]] = {
        "norm": NormOptions,
        "lif": Lif,
        "adaptive": AdaptiveLif,
        "integrator": Integrator,
    }
    options = own.get(kind, LAYERS[kind])
    named = set(re.findall(r"`([a-z_]+)`", text))
    missing = options.model_fields.keys() - {"type"} - named
    # Two have no key but their own, which their examples show.
    assert missing <= ({kind} if kind in {"flatten", "scale", "vote", "delay"} else set())
    assert not names_in(text) - options.model_fields.keys() - {"tau"}


def test_defaults_are_those_of_the_code() -> None:
    sections: dict[str, type[BaseModel]] = {
        "Norm": NormOptions,
        "lif": Lif,
        "adaptive": AdaptiveLif,
        "integrator": Integrator,
        "linear": LAYERS["linear"],
    }
    sections |= {
        "conv": LAYERS["conv"],
        "dropout": LAYERS["dropout"],
        "feedback": LAYERS["feedback"],
        "Training": Stage,
    }
    seen = 0
    for title, options in sections.items():
        for names, default in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]*) \|", section(title), flags=re.MULTILINE):
            value = re.fullmatch(r"`(.*)`", default)
            for name in re.findall(r"\w+", names) if value else ():
                assert value
                field = options.model_fields[name]
                if name == "feedback":
                    assert field.default == Lif()
                else:
                    assert field.default == yaml.safe_load(re.sub(r"^1e", "1.0e", value[1])), (title, name)
                seen += 1
    assert seen > 40


def test_every_name_stands_in_its_table() -> None:
    assert names_in(section("Surrogates")) == set(get_args(Shape))
    assert names_in(section("Readout")) == set(get_args(Readout))
    assert set(get_args(LossName)) <= names_in(section("Loss"))
    assert names_in(section("Loss")) - set(get_args(LossName)) == {"correct", "incorrect", "outputs"}
    assert names_in(section("Training")) == set(Stage.model_fields)
    assert names_in(section("A recipe")) == StackConfig.model_fields.keys()
    assert all(f"- `{mode}`" in section("Mode") for mode in get_args(Mode))
    assert LAYERS.keys() - {"repeat"} == names_in(section("Export"))
    assert all(re.search(rf"\b{node}\b", section("Export")) for node in FROM)
    for text in re.findall(r"`(\{name: [^`]*\})`", section("Training")):
        Schedule.model_validate(yaml.safe_load(text))


def test_the_table_of_libraries_is_what_is_compared_with_them() -> None:
    rows = re.findall(r"^\| (.*) \| `(\{.*\})` \|$", section("Your library's neuron"), flags=re.MULTILINE)
    expected: list[tuple[str, dict[str, Any]]] = [
        ("LIFNode(", DETACHED),
        ("detach_reset=False", SJ),
        ("decay_input=False", DETACHED | {"input_decay": False}),
        ("v_reset=None", DETACHED | {"reset": "subtract"}),
        ("ParametricLIFNode(", DETACHED | {"learn": "decay"}),
        ("Leaky(", LEAKY),
        ('"zero"', LEAKY | {"reset": "zero"}),
        ("reset_delay=False", LEAKY | {"delayed_reset": False, "reset_again": True}),
        ("reset_delay=False", LEAKY | {"delayed_reset": False, "reset": "zero"}),
        ("IAF()", IAF),
        ("min_v_mem=-1.0", IAF | {"lowest": -1.0}),
        ("BNTT", BNTT),
    ]
    assert len(rows) == len(expected)
    for (name, text), (word, options) in zip(rows, expected, strict=True):
        assert word in name
        assert Lif.model_validate(yaml.safe_load(text)) == Lif.model_validate(options)


def test_states_are_named_as_the_page_says() -> None:
    layers: list[Any] = [
        *({"lif": {"delayed_reset": True, "current_decay": 0.5}}, "adaptive", "feedback", "integrator"),
        *({"lstm": 4}, {"delay": 2}, {"norm": {"over": "step", "steps": 3}}),
    ]
    found: set[str] = set()
    for readout in get_args(Readout):
        config = {"input": [4], "layers": layers, "readout": readout}
        found |= StackConfig.model_validate(config).build([]).state_shapes().keys()
    as_third = {re.sub(r"\d+$", "3", name) for name in found}
    assert as_third == names_in(section("State"))


def test_the_example_recipe_is_a_whole_one() -> None:
    assert isinstance(parse(yaml.safe_load(EXAMPLES[0]), "docs/layers.md"), Recipe)
