"""Readable output: a console that prints text literally, times in words, and tables.

Only this module fits tables to a width; it never breaks numbers or words of a header.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table as Drawn
from rich.text import Text
from typing_extensions import override

from hstnn_deploy.foreign import visible


class Screen(Console):
    """A console that prints text literally: a name is never markup, and never moves the cursor or changes colours."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of the output, without terminal control characters."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Let the command line choose the exit code; rich would exit with another."""
        raise BrokenPipeError


def duration(seconds: float | None) -> str:
    """Return seconds as text, such as "3 min 20 s"; n/a for None."""
    if seconds is None:
        return "n/a"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


_UNITS = (
    r"%|[TGMkmµun]?(?:B|J|s|W|Hz|Wh|bit)|KiB|MiB|GiB|bits?|bytes?|min|h|d|days?|[TGMkmµnp]|x|thr\.|GPUs?|cores?|epochs?"
    r"|steps?|probes?|points?|per"
)
_GLUED = re.compile(
    rf"(?<=[\d∞]) (?=(?:{_UNITS})(?:[\s,;:.)/]|$))"  # before a unit
    r"|(?<=\d) (?=\d{3}(?!\d))"  # between thousands
    r"|(?<=\d) (?=to [~\d])|(?<=\d to) (?=[~\d])"  # in a range
    r"|(?<=[<>~±≤≥=]) (?=\d)|(?<=\S) (?=±|\[\d+\])"  # around ±, and before the mark of a footnote
    r"|(?<=\S) (?=[-/] )|(?<= [-/]) (?=\S)"  # in a formula such as B - A
)
"""Spaces at which a line must not break."""
_GLUE = "\ue000"
"""Replaces such a space while a text is wrapped: a private-use character, one cell wide."""
_LONG = 20
"""Characters above which a word, such as a path, may break; a number never does."""
_PIECES = re.compile(r"(?<=[/_=,+;@])|(?<=[^/][.:-])(?!\d|(?:pt|onnx|jsonl?)\b)")
_NARROW = 16
"""Minimum width of a column of long text, in cells."""
_TALL = 3
"""A table that is too wide is transposed if it has at most this many rows."""

Style = Literal["lines", "dense", "tight", "plain"]
"""`lines`: a box; `dense`: a line below the headers; `tight`: that, with less space; `plain`: no line at all."""


@runtime_checkable
class Cell(Protocol):
    """A table cell that knows its least and natural width, and its lines at any width in between."""

    def widths(self) -> tuple[int, int]:
        """Return the least and the natural width."""

    def lines(self, width: int) -> list[str]:
        """Return the lines for a width; none is longer."""


@dataclass(frozen=True)
class Words(Cell):
    """Text that wraps at spaces; numbers keep their units, and only long words that are not numbers are split."""

    text: str

    @override
    def widths(self) -> tuple[int, int]:
        pieces = [0, *(cell_len(piece) for word in self._words(self.text) for piece in _pieces(word))]
        natural = max(map(cell_len, self.text.split("\n")))
        return max(min(natural, _NARROW) if natural > 2 * _NARROW else 0, *pieces, 0), natural

    @override
    def lines(self, width: int) -> list[str]:
        return [line for text in self.text.split("\n") for line in self._wrapped(text, width)]

    @staticmethod
    def _words(text: str) -> list[str]:
        return _GLUED.sub(_GLUE, text).split()

    def _wrapped(self, text: str, width: int) -> list[str]:
        if cell_len(text) <= width:
            return [text]
        indent = text[: len(text) - len(text.lstrip(" "))]
        indent = indent if len(indent) + self.widths()[0] <= width else ""
        lines, line = [], indent
        for word in self._words(text):
            apart = " " if line.strip() else ""
            if cell_len(line + apart + word) <= width:
                line += apart + word
                continue
            if line.strip():
                lines.append(line)
            line = indent
            # A word that does not fit even a line of its own; it is no number, whose length the width is at least.
            for piece in _pieces(word) if cell_len(indent + word) > width else [word]:
                if line.strip() and cell_len(line + piece) > width:
                    lines.append(line)
                    line = indent
                line += piece
        return [each.replace(_GLUE, " ") for each in (*lines, line)]


@dataclass(frozen=True)
class Pairs(Cell):
    """Figures below their labels, such as accuracies below levels; a pair is never split."""

    pairs: Sequence[tuple[str, str]]

    def _width(self) -> int:
        return max(5, *(cell_len(text) for pair in self.pairs for text in pair))

    @override
    def widths(self) -> tuple[int, int]:
        each = self._width() + 1
        return each * min(3, len(self.pairs)) - 1, each * len(self.pairs) - 1

    @override
    def lines(self, width: int) -> list[str]:
        each = self._width()
        beside = max(1, (width + 1) // (each + 1))
        return [
            " ".join(text.rjust(each) for text in line)
            for first in range(0, len(self.pairs), beside)
            for line in zip(*self.pairs[first : first + beside], strict=True)
        ]


def _pieces(word: str) -> list[str]:
    """Return the parts between which a word may break: the word, or parts of a long one that is not a number."""
    if len(word) <= _LONG or _GLUE in word:
        return [word]
    found = []
    for piece in filter(None, _PIECES.split(word)):
        found += [piece[start : start + _LONG] for start in range(0, len(piece), _LONG)]
    return found


@dataclass(frozen=True)
class _Column:
    cells: tuple[Cell, ...]

    def least(self, header: str) -> int:
        return max([Words(header).widths()[0], *(cell.widths()[0] for cell in self.cells)])

    def natural(self, header: str) -> int:
        return max([Words(header).widths()[1], *(cell.widths()[1] for cell in self.cells)])


@dataclass(frozen=True)
class _Laid:
    """The drawn columns, their layout and widths."""

    columns: list[int]
    headers: list[str]
    widths: list[int]
    style: Style


class Table:
    """A table that fits itself to the available width.

    Text wraps at spaces. If that is not enough, the box is dropped; then a table with few rows is transposed, and any
    other loses columns, which a line below names.

    Args:
        columns: their headers; one that begins with `>` is aligned to the right.
        title: above the table.
        caption: below the table.
        style: how it is drawn.
        drop: names of the columns to leave out first, in this order; then others from right to left. The
            first column always stays.
        groups: a heading above each column, shared by neighbours; empty where there is none.
        whole: how a table of many columns, each as important as the next, leaves none out: it continues below.
        more: where everything is shown, beside a wider terminal.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        title: str = "",
        caption: str = "",
        style: Style = "dense",
        drop: Sequence[str] = (),
        groups: Sequence[str] = (),
        whole: bool = False,
        more: str = "--json",
    ) -> None:
        self.title, self.caption, self.style, self.whole, self.more = title, caption, style, whole, more
        self.names = [visible(name.removeprefix(">")) for name in columns]
        self._right = [name.startswith(">") for name in columns]
        self._groups = [visible(group) for group in groups] or [""] * len(columns)
        ranked = [self.names.index(name) for name in drop if name in self.names]
        self._order = [*ranked, *(place for place in reversed(range(1, len(columns))) if place not in ranked)]
        self._rows: list[list[Cell]] = []
        self._styles: list[list[str]] = []

    def add_row(self, *cells: "str | Text | Cell", style: str = "") -> None:
        """Add a row; a `Text` has the style of its own."""
        row: list[Cell] = []
        for cell in cells:
            row.append(Words(visible(str(cell))) if isinstance(cell, str | Text) else cell)
        missing = len(self.names) - len(row)
        self._rows.append([*row, *([Words("")] * missing)])
        own = [str(cell.style) if isinstance(cell, Text) and cell.style else style for cell in cells]
        self._styles.append([*own, *([style] * missing)])

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        if self.title:
            yield Text("\n".join(Words(visible(self.title)).lines(width)), style="bold")
        yield from self._parts(width)
        if self.caption:
            yield Text("\n".join(Words(visible(self.caption)).lines(width)), style="dim")

    def _parts(self, width: int) -> Iterable["Drawn | Text"]:
        every = list(range(len(self.names)))
        styles = _TIGHTER[self.style]
        for style in styles:
            if laid := self._laid(every, style, width):
                yield self._drawn(laid)
                return
        style = styles[-1]
        if self.whole:
            yield from self._continued(style, width)
            return
        if 0 < len(self._rows) <= _TALL and any(self.names) and (on_its_side := self._on_its_side(width)):
            yield on_its_side
            return
        kept = every
        for place in self._order:
            kept = [each for each in kept if each != place]
            laid = self._laid(kept, style, width)
            if laid or len(kept) == 1:
                break
        yield self._drawn(laid or self._forced(kept, style, width))
        gone = [" ".join(filter(None, (self._groups[each], _line(self.names[each])))) for each in every
                if each not in kept]  # fmt: skip
        more = f" or {self.more}" if self.more else ""
        # A column without a name, such as one of bars, repeats what another one says.
        if named := ", ".join(filter(None, gone)):
            said = f"Not shown at this width: {named}. A wider terminal{more} shows them."
            yield Text("\n".join(Words(said).lines(width)), style="dim")

    def _continued(self, style: Style, width: int) -> Iterable["Drawn | Text"]:
        """Yield the table in several parts, each with the first column."""
        left = list(range(1, len(self.names)))
        while left:
            count = len(left)
            while count > 1 and self._laid([0, *left[:count]], style, width) is None:
                count -= 1
            kept = [0, *left[:count]]
            yield self._drawn(self._laid(kept, style, width) or self._forced(kept, style, width))
            left = left[count:]

    def _on_its_side(self, width: int) -> Drawn | None:
        """Return the transposed table, a line per column; None if it does not fit."""
        turned = Table(["", *(["" for _ in self._rows])], style="plain")
        for place, name in enumerate(self.names):
            head = ": ".join(filter(None, (self._groups[place], _line(name))))
            turned.add_row(Text(head, "bold"), *[row[place] for row in self._rows])
            turned._styles[-1][1:] = [styles[place] for styles in self._styles]
        laid = turned._laid(list(range(len(turned.names))), "plain", width)
        return None if laid is None else turned._drawn(laid)

    def _headers(self, places: Sequence[int]) -> list[str]:
        grouped, headers, before = any(self._groups[each] for each in places), [], ""
        for place in places:
            group = self._groups[place]
            headers.append(f"{group if group != before else ''}\n{self.names[place]}" if grouped else self.names[place])
            before = group
        return headers

    def _laid(self, places: list[int], style: Style, width: int) -> _Laid | None:
        """Return the widths of some columns, or None if they do not fit."""
        headers = self._headers(places)
        columns = [_Column(tuple(row[each] for row in self._rows))
                   for each in places]  # fmt: skip
        least = [column.least(header) for column, header in zip(columns, headers, strict=True)]
        widths = [column.natural(header) for column, header in zip(columns, headers, strict=True)]
        if self.whole:
            # Its parts below one another are told apart by their first column.
            least[0] = widths[0]
        room = width - _between(style, len(places))
        if sum(least) > room:
            return None
        while (over := sum(widths) - room) > 0:
            # The widest column that can become narrower does, down to the next one.
            can = [each for each in range(len(widths)) if widths[each] > least[each]]
            widest = max(can, key=lambda each: widths[each])
            others = [widths[each] for each in can if widths[each] < widths[widest]]
            down = max([least[widest], widths[widest] - over, *([max(others)] if others else [])])
            widths[widest] = max(least[widest], min(down, widths[widest] - 1))
        return _Laid(places, headers, widths, style)

    def _forced(self, places: list[int], style: Style, width: int) -> _Laid:
        """Return the widths of columns for a screen that is too narrow for any table."""
        headers = self._headers(places)
        room = max(len(places), width - _between(style, len(places)))
        return _Laid(places, headers, [max(1, room // len(places))] * len(places), style)

    def _drawn(self, laid: _Laid) -> Drawn:
        drawn = Drawn(show_header=any(laid.headers), pad_edge=laid.style == "lines")
        match laid.style:
            case "lines":
                pass
            case "dense":
                drawn.box, drawn.show_edge, drawn.padding = box.SIMPLE_HEAD, False, (0, 1, 0, 0)
            case "tight":
                drawn.box, drawn.show_edge, drawn.padding = box.SIMPLE_HEAD, False, 0
            case "plain":
                drawn.box, drawn.padding = None, (0, 2, 0, 0)
        for place, header, width in zip(laid.columns, laid.headers, laid.widths, strict=True):
            justify: Literal["left", "right"] = "right" if self._right[place] else "left"
            text = Text("\n".join(Words(header).lines(width)), justify=justify)
            drawn.add_column(text, justify=justify, width=width, no_wrap=True, overflow="fold")
        for row, styles in zip(self._rows, self._styles, strict=True):
            drawn.add_row(
                *(
                    Text("\n".join(row[place].lines(width)), style=styles[place])
                    for place, width in zip(laid.columns, laid.widths, strict=True)
                )
            )
        return drawn


_TIGHTER: dict[Style, tuple[Style, ...]] = {
    "lines": ("lines", "dense", "tight"),
    "dense": ("dense", "tight"),
    "tight": ("tight",),
    "plain": ("plain",),
}
"""The layouts of each style that are tried in turn until the table fits."""


def _between(style: Style, count: int) -> int:
    """Return the width of all that is drawn beside the columns."""
    return {"lines": 3 * count + 1, "dense": 2 * (count - 1), "tight": count - 1, "plain": 2 * (count - 1)}[style]


def _line(name: str) -> str:
    return name.replace("\n", " ")
