"""The README, the page of commands, links between pages and the code map are those of the code."""

import re
import runpy
from pathlib import Path

import pytest

from hstnn_deploy.cli.app import COMMANDS, commands

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
DESCRIBED = (ROOT / "docs/commands.md").read_text(encoding="utf-8")


def test_the_code_map_is_that_of_the_code() -> None:
    written = runpy.run_path(str(ROOT / "scripts/code-map"))
    assert written["PAGE"].read_text(encoding="utf-8") == written["page"](), "run scripts/code-map"


def test_the_code_map_names_every_module() -> None:
    modules = {path for path in (ROOT / "hstnn_deploy").rglob("*.py") if not path.name.startswith("__")}
    written = runpy.run_path(str(ROOT / "scripts/code-map"))
    assert {path for folder in written["FOLDERS"] for path in written["modules"](folder)} == modules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_row_of_a_table_stands_twice(page: Path) -> None:
    for section in re.split(r"^(?:#+ |\*\*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        names = re.findall(r"^\| (`[^|]+`) \|", section, flags=re.MULTILINE)
        assert len(names) == len(set(names)), names


def test_every_command_is_described() -> None:
    app = commands(*COMMANDS)
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"`hstnn {command.name or command.callback.__name__}" in DESCRIBED
    for group in app.registered_groups:
        within = group.typer_instance
        assert within is not None
        names = [str(each.name) for each in within.registered_commands]
        names += [str(each.typer_instance.info.name) for each in within.registered_groups if each.typer_instance]
        for name in names:
            assert re.search(rf"`hstnn {within.info.name} [^`]*{name}", DESCRIBED)


LINK = re.compile(r"\]\(([^)#\s]+)?(#[^)\s]+)?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Within the repository: to a file that is there, and to a heading that it has."""
    text = re.sub(r"^```.*?^```|^    .*?$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for name, anchor in LINK.findall(text):
        if name.startswith(("http:", "https:")):
            continue
        path = page.parent / name if name else page
        assert path.exists(), name
        if anchor and path.suffix == ".md":
            assert anchor[1:] in anchors(path), f"{name}{anchor}"


def test_the_readme_is_short() -> None:
    assert len(README.encode()) < 7000
