"""The scripts and the notebook in examples/ run, and show what they are to show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

SAID = {
    "snntorch_to_onnx": ["checks passed", "2      lif"],
    "events_to_bundle": ["checks passed", "right in ONNX Runtime"],
    "profile_yours": ["a call takes", "run "],
    "hybrid_stages": ["finished", "checks passed", "24 spiking + 24 recurrent"],
    "custom_neuron": ["quadratic", "checks passed", "model.pt2"],
    "residual": ["residual", "checks passed"],
}
"""What each script prints, among other things."""


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
    for words in SAID[script.stem]:
        assert words in out, out


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
