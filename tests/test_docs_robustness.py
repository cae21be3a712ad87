"""docs/robustness.md names every disturbance with its unit, and no other."""

import re
from pathlib import Path

from hstnn_deploy.disturbances.table import DISTURBANCES

PAGE = (Path(__file__).parent.parent / "docs" / "robustness.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([\w-]+)` \| .* \| (.*) \|$", PAGE.replace(r"\|", "¦"), flags=re.MULTILINE))


def test_the_tables_are_the_registry() -> None:
    assert {name: unit.replace("¦", "|") for name, unit in ROWS.items()} == {
        name: each.unit for name, each in DISTURBANCES.items()
    }
