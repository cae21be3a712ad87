"""docs/import.md names every class that is taken, and its examples run."""

import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from hstnn_deploy.checkpoint import Checkpoint
from hstnn_deploy.importing.libraries import plain
from hstnn_deploy.importing.operations import OPERATIONS
from hstnn_deploy.importing.running import Layout
from hstnn_deploy.importing.tree import CONTAINERS, RULES

PAGE = (Path(__file__).parent.parent / "docs" / "import.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## A module of snnTorch") :]
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", SECTION, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("library", RULES)
def test_the_table_names_every_class_that_is_taken_and_no_other(library: str) -> None:
    row = re.search(rf"^\| {library} \| (.*) \|$", SECTION, flags=re.MULTILINE)
    assert row
    classes, _, containers = row[1].partition("within")
    assert set(re.findall(r"`(\w+)`", classes)) == RULES[library].keys()
    assert set(re.findall(r"`(\w+)`", containers)) == CONTAINERS.get(library, frozenset())
    assert plain.RULES is RULES["torch"]


def test_every_operation_and_layout_is_named() -> None:
    for name in OPERATIONS.keys() - {"add", "iadd", "mul", "truediv", "concat", "contiguous", "float"}:
        assert f"`{name}`" in SECTION, name
    for layout in get_args(Layout):
        assert re.search(rf"^\| `{layout}` \|", SECTION, flags=re.MULTILINE)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("snntorch")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example, "docs/import.md", "exec"), names)
    network = names["network"]
    assert isinstance(network, nn.Module)
    kept = Checkpoint.load(tmp_path / "best.pt")
    x = torch.rand(6, 2, 8)
    assert torch.equal(kept.network()(x)[0], network(x)[0])
    assert list((tmp_path / "bundle").glob("*.onnx"))


def test_a_line_of_each_library_is_there() -> None:
    lines = re.findall(r"^\| .* \| `(Checkpoint\.of_network\(hd\.from_torch.*)` \|$", SECTION, flags=re.MULTILINE)
    assert len(lines) == len(RULES)
    for line in lines:
        compile(line, "docs/import.md", "eval")
