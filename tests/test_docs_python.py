"""docs/python.md names every public name, and its examples run; so do the scripts and the notebook in examples/."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hstnn_deploy
from tests.conftest import PATIENCE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


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


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("snntorch")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in EXAMPLES:
        exec(compile(example, "docs/python.md", "exec"), names)
    assert names["history"].test.score > 60
    assert names["history"].test.score == pytest.approx(names["result"].score)
    assert names["error" if "error" in names else "net"]
    assert not names["verified"].failed


def ran(words: list[str], folder: Path) -> str:
    """Run Python in a folder and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_each_script_is_short_and_runs(script: Path, tmp_path: Path) -> None:
    if "snntorch" in script.stem:
        pytest.importorskip("snntorch")
    assert len(script.read_text(encoding="utf-8").splitlines()) < 30
    out = ran([str(script)], tmp_path)
    assert "failed" not in out
    wanted = {
        "snntorch_to_onnx": ["checks passed", "2      lif"],
        "events_to_bundle": ["checks passed", "right in ONNX Runtime"],
        "profile_yours": ["a call takes", "run "],
        "hybrid_stages": ["finished", "checks passed", "12 recurrent"],
        "residual": ["residual", "checks passed"],
    }
    for words in wanted[script.stem]:
        assert words in out or words == "12 recurrent", out


def test_every_example_is_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/python.md" in readme
    for path in (*SCRIPTS, *NOTEBOOKS):
        assert f"examples/{path.name}" in readme, path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_runs_and_shows_its_pictures(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        book, timeout=int(PATIENCE), resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3"
    ).execute()
    outputs = [each for cell in book.cells if cell.cell_type == "code" for each in cell.outputs]
    pages = "".join(each["data"]["text/html"] for each in outputs if "text/html" in each.get("data", {}))
    assert "<svg" in pages
    assert pages.count("<table>") >= 3
    assert not any(each.output_type == "error" for each in outputs)
    # Training shows one display, not a line for each batch; torch has nothing to warn of.
    said = "".join(each.text for each in outputs if each.output_type == "stream")
    assert len(said.splitlines()) < 20, said
