"""All mistakes of a recipe are said at once, each with its line."""

from pathlib import Path

import pytest

from hstnn_deploy.errors import RecipeError
from hstnn_deploy.recipe.load import load_recipe
from tests import own_parts
from tests.conftest import Hstnn

HYBRID = """\
data:
  name: digits
network:
  family: sequence
  inputs: 8
  clases: 10
  units: [6, 5]
batch: 0
adapt:
  epoch: 3
  lr: fast
restore: {epochs: 3, lr: 0.1}
sed: 3
"""

HYBRID_WITHOUT_MISTAKES = (
    HYBRID.replace("clases", "classes")
    .replace("batch: 0", "batch: 3")
    .replace("epoch: 3", "epochs: 3")
    .replace("fast", "0.1")
    .replace("sed: 3", "seed: 3")
)

STACK = """\
data: {name: digits}
network:
  family: stack
  input: [8]
  layers:
    - {linear: 0}
    - lif: {tua: 2}
    - {linaer: 10}
    - residual:
        - {linear: x}
batch: many
trian:
  epochs: 3
  lr: 1
"""


def mistakes(path: Path, text: str, changes: tuple[str, ...] = ()) -> list[str]:
    """Return what is said of a recipe, without the name of its file."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        load_recipe(str(path), changes)
    found = [refused.value, *refused.value.others]
    said = [each.message.removeprefix(str(path)) + (f"; {each.hint}" if each.hint else "") for each in found]
    assert not any("\n" in each for each in said)
    return said


def test_every_mistake_of_a_hybrid_has_its_line(tmp_path: Path) -> None:
    said = mistakes(tmp_path / "own.yaml", HYBRID)
    assert said[0] == ", line 6: unknown key 'network.clases' (and 4 more); did you mean 'classes'?"
    assert [each.partition(":")[0] for each in said] == [f", line {number}" for number in (6, 8, 10, 11, 13)]
    assert ", line 10: unknown key 'adapt.epoch'; did you mean 'epochs'?" in said
    assert not any("is missing" in each for each in said)


def test_every_mistake_of_a_stack_has_its_line(tmp_path: Path) -> None:
    said = mistakes(tmp_path / "own.yaml", STACK)
    assert "(and 5 more)" in said[0]
    assert said[-1] == ", line 12: unknown key 'trian'; did you mean 'train'?"
    assert [each.partition(":")[0] for each in said] == [f", line {number}" for number in (6, 7, 8, 10, 11, 12)]
    assert "network.layers.3.residual.0.linear" in said[3]
    assert not any("'train' is missing" in each for each in said)


def test_a_missing_key_without_a_typo_is_still_named(tmp_path: Path) -> None:
    (said,) = mistakes(tmp_path / "own.yaml", HYBRID_WITHOUT_MISTAKES.replace("  epochs: 3\n", ""))
    assert said == ", line 9: key 'adapt.epochs' is missing"


def test_what_set_changed_is_not_said_to_be_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(HYBRID_WITHOUT_MISTAKES, encoding="utf-8")
    assert load_recipe(str(path)).name == "own"
    (said,) = mistakes(path, HYBRID_WITHOUT_MISTAKES, ("adapt.lr=-1",))
    assert said.startswith(": adapt.lr is -1: ")


def test_an_alias_and_a_merge_have_lines_too(tmp_path: Path) -> None:
    text = "data: {name: digits}\nnetwork: {family: sequence, inputs: 8, classes: 10, units: [3]}\nbatch: 3\n"
    said = mistakes(tmp_path / "own.yaml", text + "adapt: &a\n  epochs: 3\n  lr: -1\nrestore:\n  <<: *a\n  epochs: 0\n")
    assert [each.partition(":")[0] for each in said] == [", line 6", ", line 7", ", line 9"]


@pytest.mark.usefixtures("no_parts")
def test_data_of_ones_own_is_judged_as_any_other(tmp_path: Path) -> None:
    """Beside a mistake that ends the check of the whole, each section is judged by itself."""
    own_parts.register()
    wrong = HYBRID_WITHOUT_MISTAKES.replace("batch: 3", "batch: 0\nmetrics: [nothing]")

    def said(data: str) -> list[str]:
        return mistakes(tmp_path / "own.yaml", wrong.replace("name: digits", data))

    assert len(said("name: blobs")) == 2
    assert any("unknown key 'data.colour'" in each for each in said("{name: blobs, colour: 1}"))
    assert any("unknown key 'data.colour'" in each for each in said("{name: digits, colour: 1}"))
    assert any("data.name is 'blob'" in each for each in said("name: blob"))


def test_very_many_mistakes_are_cut_and_counted(tmp_path: Path) -> None:
    said = mistakes(tmp_path / "own.yaml", "batch: 3\n" + "".join(f"key{number}: 1\n" for number in range(500)))
    assert "(and 503 more)" in said[0]
    assert len(said) == 20


def test_the_command_line_says_each(hstnn: Hstnn, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(HYBRID, encoding="utf-8")
    result = hstnn("train", path)
    assert result.code == 2
    lines = result.err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [
        f"error: {path}, line 6: unknown key 'network.clases' (and 4 more)",
        f"error: {path}, line 8: batch is 0: it must be greater than 0",
        f"error: {path}, line 10: unknown key 'adapt.epoch'",
        f"error: {path}, line 11: adapt.lr is 'fast': it must be a number",
        f"error: {path}, line 13: unknown key 'sed'",
    ]
    assert [line for line in lines if line.startswith("hint: ")] == [
        "hint: did you mean 'classes'?",
        "hint: did you mean 'epochs'?",
        "hint: did you mean 'seed'?",
    ]


def test_the_page_of_commands_shows_what_is_said(hstnn: Hstnn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = hstnn("recipes", "digits").out.replace("\nbatch: 100", "\nbatch: 0").replace("epochs: 100", "epoch: 100", 1)
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    said = hstnn("train", "mine.yaml").err
    assert "".join(f"    {line}\n" for line in said.splitlines()) in page
