"""The README's map and commands are those of the code."""

import re
from pathlib import Path

from hstnn_deploy.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_map_names_every_module_and_nothing_else() -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "hstnn_deploy").rglob("*.py")}
    modules = {name for name in modules if not name.endswith(("__init__.py", "__main__.py"))}
    section = README.partition("## Code map")[2].partition("\n## ")[0]
    folder, named = "", set()
    for line in section.splitlines():
        if heading := re.match(r"\*\*`(hstnn_deploy/[^`]*)`\*\*", line):
            folder = heading[1]
        elif row := re.match(r"\| `([^`]+\.py)` \|", line):
            named.add(f"{folder}{row[1]}")
    assert named == modules


def test_no_row_of_a_table_stands_twice() -> None:
    for section in re.split(r"^(?:## |\*\*)", README, flags=re.MULTILINE):
        names = re.findall(r"^\| (`[^|]+`) \|", section, flags=re.MULTILINE)
        assert len(names) == len(set(names)), names


def test_every_command_is_in_the_readme() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"`hstnn {command.callback.__name__}" in README
    for group in app.registered_groups:
        within = group.typer_instance
        assert within is not None
        names = [str(each.name) for each in within.registered_commands]
        names += [str(each.typer_instance.info.name) for each in within.registered_groups if each.typer_instance]
        for name in names:
            assert re.search(rf"`hstnn {within.info.name} [^`]*{name}", README)
