"""`--plugin`: parts of a user's own in a module beside the recipe, on the command line."""

import json
from pathlib import Path

import pytest

from tests import own_parts
from tests.conftest import Hstnn

pytestmark = pytest.mark.usefixtures("no_parts")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    code = Path(own_parts.__file__).read_text(encoding="utf-8")
    (tmp_path / "own_plugin.py").write_text(code + "\nregister()\n", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(own_parts.RECIPE, encoding="utf-8")
    return tmp_path


def test_a_recipe_of_parts_from_training_to_a_verified_bundle(hstnn: Hstnn, here: Path) -> None:
    trained = hstnn("train", "mine.yaml", "--plugin", "own_plugin", "--json")
    assert trained.code == 0, trained.err
    (best,) = here.rglob("best.pt")
    judged = hstnn("--plugin=own_plugin", "evaluate", "--ckpt", best, "--json")
    assert judged.code == 0, judged.err
    assert {"accuracy", "macro-recall"} <= json.loads(judged.out).keys()
    assert "macro-recall: " in hstnn("evaluate", "--ckpt", best, "--plugin", "own_plugin").out
    assert hstnn("export", "--ckpt", best, "--out", "bundle", "--plugin", "own_plugin").code == 0
    assert hstnn("verify", "bundle", "--plugin", "own_plugin").code == 0
    refused = hstnn("export", "--ckpt", best, "--out", "other", "--nir", "--plugin", "own_plugin")
    assert (refused.code, refused.err.splitlines()[0]) == (7, "error: NIR has no node for layer 1, gated")


def test_without_it_what_is_missing_is_named(hstnn: Hstnn, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hstnn_deploy.plugins import registry as plugins

    result = hstnn("train", "mine.yaml")
    assert result.code == 2
    assert "--plugin MODULE" in result.err
    assert hstnn("train", "mine.yaml", "--plugin", "own_plugin").code == 0
    (best,) = here.rglob("best.pt")
    monkeypatch.setattr(plugins, "_parts", {})
    monkeypatch.setenv("HSTNN_PLUGINS", "")
    result = hstnn("evaluate", "--ckpt", best)
    assert result.code == 4
    assert "best.pt needs the layer gated from the module own_plugin, which is not available" in result.err
    assert "import own_plugin first, or give --plugin own_plugin" in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plugin", "mine.py"], "--plugin 'mine.py' is not a module name"),
        (["--plugin"], "--plugin '' is not a module name"),
        (["--plugin", "nowhere"], "--plugin 'nowhere': no module of this name"),
        (["--plugin", "broken"], "plug-in broken raises when it is imported: ZeroDivisionError"),
    ],
)
def test_a_module_that_is_wrong_is_one_line(hstnn: Hstnn, here: Path, words: list[str], said: str) -> None:
    (here / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    result = hstnn("train", "mine.yaml", *words)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err


def test_a_module_that_is_named_and_not_there_is_one_line_also_where_nothing_needs_it(hstnn: Hstnn, here: Path) -> None:
    result = hstnn("recipes", "digits", "--plugin", "no_such_module")
    assert (result.code, result.out) == (2, "")
    assert result.error == f"--plugin 'no_such_module': no module of this name is installed or in {here}"


def test_what_comes_next_names_the_plug_in(hstnn: Hstnn, here: Path) -> None:
    trained = hstnn("train", "mine.yaml", "--plugin=own_plugin", "--set", "train.epochs=1")
    assert trained.code == 0, trained.err
    told = [line.strip() for line in trained.out.splitlines() if line.startswith("  hstnn")]
    assert len(told) == 2
    for line in told:
        assert line.endswith(" --plugin own_plugin")
    assert hstnn(*told[0].split()[1:]).code == 0
    assert "--plugin" not in hstnn("train", "digits", "--set", "kind=snn", "--set", "adapt.epochs=1").out


def test_data_sets_of_one_s_own_are_listed_and_prepared(hstnn: Hstnn, here: Path) -> None:
    assert "blobs" not in hstnn("data", "list").out
    listed = hstnn("data", "list", "--plugin", "own_plugin", "--json")
    (found,) = [each for each in json.loads(listed.out) if each["name"] == "blobs"]
    assert found["about"] == "Rows with one large value and noise."
    assert (found["here"], found["where"]) == (True, "your own: the module own_plugin")
    assert "blobs" in hstnn("data", "list", "--plugin", "own_plugin").out
    ready = hstnn("data", "prepare", "blobs", "--plugin", "own_plugin")
    assert (ready.code, "(108 train, 12 valid, 40 test samples)" in ready.out) == (0, True), ready.err
    assert hstnn("data", "verify", "blobs", "--plugin", "own_plugin").code == 0


@pytest.mark.parametrize("command", ["show", "bench"])
def test_what_a_data_set_of_one_s_own_lacks_is_one_line(command: str, hstnn: Hstnn, here: Path) -> None:
    result = hstnn("data", command, "blobs", "--plugin", "own_plugin")
    assert (result.code, "blobs is your own data set" in result.err) == (2, True), result.err
    result = hstnn("data", command, "blob", "--plugin", "own_plugin")
    assert (result.code, "unknown data set 'blob'" in result.err) == (2, True)


def test_doctor_lists_the_parts(hstnn: Hstnn, here: Path) -> None:
    told = hstnn("doctor", "--plugin", "own_plugin")
    assert (told.code, told.err) == (0, "")
    assert "neurons: quadratic, from the module own_plugin" in told.out
    assert "data: blobs, from the module own_plugin" in told.out
    broken = hstnn("doctor", "--plugin", "nowhere", "--json")
    assert broken.code == 0
    problems = [each["problem"] for each in json.loads(broken.out)["plugins"] if each["problem"]]
    assert len(problems) == 1
    assert "plug-in there is no module nowhere" in problems[0]
