"""The README's commands and the code map are those of the code."""

import re
import runpy
from pathlib import Path

from hstnn_deploy.cli.app import COMMANDS, commands

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_map_is_that_of_the_code() -> None:
    written = runpy.run_path(str(ROOT / "scripts/code-map"))
    assert written["PAGE"].read_text(encoding="utf-8") == written["page"](), "run scripts/code-map"


def test_the_code_map_names_every_module() -> None:
    modules = {path for path in (ROOT / "hstnn_deploy").rglob("*.py") if not path.name.startswith("__")}
    written = runpy.run_path(str(ROOT / "scripts/code-map"))
    assert {path for folder in written["FOLDERS"] for path in written["modules"](folder)} == modules


def test_no_row_of_a_table_stands_twice() -> None:
    for section in re.split(r"^(?:## |\*\*)", README, flags=re.MULTILINE):
        names = re.findall(r"^\| (`[^|]+`) \|", section, flags=re.MULTILINE)
        assert len(names) == len(set(names)), names


def test_every_command_is_in_the_readme() -> None:
    app = commands(*COMMANDS)
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"`hstnn {command.name or command.callback.__name__}" in README
    for group in app.registered_groups:
        within = group.typer_instance
        assert within is not None
        names = [str(each.name) for each in within.registered_commands]
        names += [str(each.typer_instance.info.name) for each in within.registered_groups if each.typer_instance]
        for name in names:
            assert re.search(rf"`hstnn {within.info.name} [^`]*{name}", README)
