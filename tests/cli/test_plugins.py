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
    assert "best.pt needs the layer gated of the module own_plugin, which is not here" in result.err
    assert "import own_plugin first, or give --plugin own_plugin" in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plugin", "mine.py"], "--plugin 'mine.py' is no module"),
        (["--plugin"], "--plugin '' is no module"),
        (["--plugin", "nowhere"], "plug-in there is no module nowhere"),
        (["--plugin", "broken"], "plug-in broken raises when it is imported: ZeroDivisionError"),
    ],
)
def test_a_module_that_is_wrong_is_one_line(hstnn: Hstnn, here: Path, words: list[str], said: str) -> None:
    (here / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    result = hstnn("train", "mine.yaml", *words)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
