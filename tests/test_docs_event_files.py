"""docs/event-files.md against the readers: its table of formats, and its options."""

import re
from pathlib import Path

import pytest

from hstnn_deploy.data.readers.event_fields import ALIASES
from hstnn_deploy.data.readers.event_files import FORMATS
from hstnn_deploy.data.readers.event_options import KEYS, parse_options

DOCS = Path(__file__).parent.parent / "docs" / "event-files.md"


def test_the_table_of_formats_is_what_is_read() -> None:
    rows = [
        f"| `{name}` | {each.title} | {', '.join(each.suffixes)} | {each.by} | "
        + ", ".join(f"`{option}`" for option in each.takes)
        for name, each in FORMATS.items()
    ]
    table = re.findall(r"^\| `\w+` \| .*", DOCS.read_text().partition("## What `--events` says")[0], re.MULTILINE)
    assert [row.rstrip(" |") for row in table] == [row.rstrip(" |") for row in rows]


def test_every_option_is_in_the_table_and_every_option_of_the_table_is_read() -> None:
    part = DOCS.read_text().partition("## What `--events` says")[2].partition("\n- **")[0]
    shown = re.findall(r"`([^`]+)`", "\n".join(row.split("|")[1] for row in part.splitlines() if row.startswith("| `")))
    words = [word.replace("WxH", "34x34").replace("=N", "=1") for word in shown]
    known = [word for word in words if "=" in word or word == "sort"]
    assert {word.partition("=")[0] for word in known} >= set(KEYS) - {"p"}
    assert "p=-1/+1" in part
    for word in known:
        parse_options(word)


@pytest.mark.parametrize(
    "name", sorted({name for names in ALIASES.values() for name in names if not name.endswith("s")})
)
def test_the_names_that_are_known_are_said(name: str) -> None:
    (line,) = re.findall(r"\*\*Names\*\*: (.*?)plurals", DOCS.read_text(), re.DOTALL)
    assert re.search(rf"\b{name}\b", line) or name == "column"
