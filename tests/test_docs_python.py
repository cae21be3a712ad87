"""docs/python.md names every public name and option, and its examples run."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import hstnn_deploy

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_public_name_stands_in_the_table_with_an_example() -> None:
    table = set(re.findall(r"\[`(\w+)`\]\(#", PAGE))
    assert table == set(hstnn_deploy.__all__) - {"__version__"}
    code = "\n".join(EXAMPLES)
    # Its test writes the file that it reads: tests/export/test_nir_files.py.
    assert {name for name in table if f"hd.{name}" not in code} == {"read_nir"}


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-")
        for each in re.findall(r"^##+ (.*)$", PAGE, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
    for name in re.findall(r"\]\(([\w./]+\.md)", PAGE):
        assert (ROOT / "docs" / name).exists()


def test_every_option_of_fit_is_named() -> None:
    import inspect

    from hstnn_deploy.train.fitting.fit import fit

    for name in inspect.signature(fit).parameters.keys() - {"network", "name"}:
        assert re.search(rf"`{name}`|\b{name}=", PAGE), name


@pytest.mark.usefixtures("no_parts")
def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("snntorch")
    monkeypatch.chdir(tmp_path)
    page = ModuleType("page")  # a part of one's own says the module that it came with
    monkeypatch.setitem(sys.modules, "page", page)
    names = vars(page)
    for example in EXAMPLES:
        exec(compile(example, "docs/python.md", "exec"), names)
    assert names["history"].test.score > 60
    assert names["history"].test.score == pytest.approx(names["result"].score)
    assert not names["verified"].failed
    (recipe,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    Path("recipe.yaml").write_text(recipe, encoding="utf-8")
    (run,) = hstnn_deploy.train_recipe(hstnn_deploy.load_recipe("recipe.yaml"), "runs")
    assert "class-10" in hstnn_deploy.Checkpoint.load(run.best).metrics["test"]
