"""The display of results: one line, a table on a terminal, or a table and a picture in a notebook."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Sheet:
    """A result's title, table and notes, for display."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()
    """Lines below the table."""
    picture: str = ""
    """An SVG for notebooks, or empty."""

    def lines(self, most: int = 12) -> list[str]:
        """Return title and rows as lines of text, in columns; rows after `most` are only counted."""
        shown = self.rows if len(self.rows) <= most else self.rows[: most - 1]
        cells = [self.columns, *shown]
        widths = [max(len(row[place]) for row in cells) for place in range(len(self.columns))]
        text = ["  ".join(each.ljust(width) for each, width in zip(row, widths, strict=True)) for row in cells]
        left = len(self.rows) - len(shown)
        return [self.title, *(f"  {line}".rstrip() for line in text), *([f"  … {left} more"] if left else [])]


class Shown:
    """A result that can display itself."""

    def sheet(self) -> Sheet:
        """Return what is shown."""
        raise NotImplementedError

    def __rich__(self) -> "RenderableType":
        """Return a table for rich's console."""
        from rich.console import Group
        from rich.text import Text

        from hstnn_deploy.screen import Table

        sheet = self.sheet()
        table = Table(sheet.columns, title=sheet.title, style="plain", more="")
        for row in sheet.rows:
            table.add_row(*row)
        return Group(table, *map(Text, sheet.notes))

    def _repr_html_(self) -> str:
        """Return a table, and the picture, for a notebook."""
        sheet = self.sheet()

        def row(tag: str, cells: tuple[str, ...]) -> str:
            style = "text-align: left"
            return f"<tr>{''.join(f'<{tag} style={style!r}>{html.escape(each)}</{tag}>' for each in cells)}</tr>"

        head, body = row("th", sheet.columns), "".join(row("td", each) for each in sheet.rows)
        notes = "".join(f"<div>{html.escape(each)}</div>" for each in sheet.notes)
        table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>" if sheet.rows else ""
        return f"<div><b>{html.escape(sheet.title)}</b>{table}{notes}{sheet.picture}</div>"
