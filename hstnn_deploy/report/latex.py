"""Tables as LaTeX for papers: booktabs, a label each, and no wider than a column unless asked."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from hstnn_deploy.report.sheets import Column, Entry, Sheet

COLUMN = 3.5
"""Inches: the width of a column of IEEE's and of many other journals."""

_GAP = 8.0
"""Points between two columns of a table: twice `tabcolsep`."""
_WIDEST_TEXT = 92.0
"""Points: a column of text that is wider is broken into lines."""

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"$\sim$", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": r"\textendash{}", "<": r"$<$", ">": r"$>$",
    "[": "{[}", "]": "{]}", "*": "{*}", "|": r"$|$", '"': "''",
}  # fmt: skip

_BEFORE = r"""% Compiles by itself, and inside of a document by \input{this file}. Of packages it needs booktabs alone.
% No table is wider than INCHES inches; hstnn report --width INCHES sets another width. \ref{tab:...} names a table.
\makeatletter
\ifx\@nodocument\relax
  \def\hstnnend{}
\else
  \documentclass{article}
  \usepackage[margin=15mm]{geometry}
  \usepackage{booktabs}
  \begin{document}
  \def\hstnnend{\end{document}}
\fi
\makeatother
"""


def latex(sheets: Sequence[Sheet], width: float = COLUMN) -> str:
    """Return tables as LaTeX with booktabs: a document that compiles, and a file that another document may input.

    A table that is wider than `width`, in inches, is set in parts below each other, each with the first column again:
    nothing is scaled, so that letters keep their size. Its label is tab: and its title, such as
    `tab:digits-test-accuracy`.
    """
    labels = _labels([sheet.title for sheet in sheets])
    tables = (_table(sheet, label, width * 72) for sheet, label in zip(sheets, labels, strict=True))
    return _BEFORE.replace("INCHES inches", f"{width:g} inches") + "".join(tables) + "\\hstnnend\n"


def _labels(titles: Sequence[str]) -> list[str]:
    """Return a label for each title; the second of a name ends in 2."""
    made: list[str] = []
    for title in titles:
        text = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode("ascii").lower()
        label = "tab:" + (re.sub(r"[^a-z0-9]+", "-", text).strip("-")[:48].strip("-") or "table")
        again = sum(other == label or other.rpartition("-")[0] == label for other in made)
        made.append(label if label not in made else f"{label}-{again + 1}")
    return made


def _table(sheet: Sheet, label: str, points: float) -> str:
    parts = [_tabular(part) for part in _parts(sheet, points)]
    notes = "\\par\n".join(map(_tex, sheet.notes))
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{_tex(sheet.title)}}}",
        rf"\label{{{label}}}",
        r"\small\setlength{\tabcolsep}{4pt}",
        *"\n\\par\\medskip\n".join("\n".join(part) for part in parts).split("\n"),
        *([r"\par\smallskip\parbox{\columnwidth}{\footnotesize", notes + "}"] if sheet.notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _parts(sheet: Sheet, points: float) -> Iterator[Sheet]:
    """Yield tables that fit, each with the first column; a group of columns that fits into one of them stays whole."""
    rest = list(range(1, len(sheet.columns)))
    while True:
        taken = [0]
        while rest and (len(taken) == 1 or _fits(sheet, [*taken, rest[0]], points)):
            name = sheet.columns[rest[0]].group
            group = next([*places] for _, places in groupby(rest, lambda place: sheet.columns[place].group))
            begins = len(taken) > 1 and name and name != sheet.columns[taken[-1]].group
            if begins and not _fits(sheet, [*taken, *group], points) and _fits(sheet, [0, *group], points):
                break
            taken.append(rest.pop(0))
        yield _of(sheet, taken)
        if not rest:
            return


def _of(sheet: Sheet, places: Sequence[int]) -> Sheet:
    """Return a table of these columns."""
    rows = [[row[place] for place in places] for row in sheet.rows]
    return replace(sheet, columns=[sheet.columns[place] for place in places], rows=rows)


def _fits(sheet: Sheet, places: Sequence[int], points: float) -> bool:
    """Tell whether these columns, and the names above them, fit into a width in points."""
    part = _of(sheet, places)
    widths = [_width(column, [row[place] for row in part.rows]) for place, column in enumerate(part.columns)]
    used, start = _GAP * (len(widths) - 1), 0
    for name, span in part.groups:
        used += max(sum(widths[start : start + span]), _length(name) - _GAP * (span - 1))
        start += span
    return used <= points


def _width(column: Column, entries: Sequence[Entry]) -> float:
    """Return about how wide a column is, in points of 9-point Computer Modern."""
    width = max(_length(text) for text in (column.name, *(entry.text for entry in entries)))
    return width if column.numeric else min(width, _WIDEST_TEXT)


def _length(text: str) -> float:
    return sum(2.8 if letter in "iljtfr.,:;'|!()[] " else 7.8 if letter in "mwMW%@±" else 5.0 + 1.4 * letter.isupper()
               for letter in text)  # fmt: skip


def _tabular(sheet: Sheet) -> list[str]:
    broken = [
        not column.numeric and max(_length(text) for text in (column.name, *(row[place].text for row in sheet.rows)))
        > _WIDEST_TEXT
        for place, column in enumerate(sheet.columns)
    ]  # fmt: skip
    align = "".join(
        f"p{{{_WIDEST_TEXT:g}pt}}" if wide else "r" if column.numeric else "l"
        for column, wide in zip(sheet.columns, broken, strict=True)
    )
    head = []
    if any(name for name, _ in sheet.groups):
        spans, rules, start = [], [], 1
        for name, span in sheet.groups:
            spans.append(rf"\multicolumn{{{span}}}{{c}}{{{_tex(name)}}}")
            if name:
                rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
            start += span
        head = [" & ".join(spans) + r" \\", " ".join(rules)]
    return [
        rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"\toprule",
        *head,
        " & ".join(_tex(column.name) for column in sheet.columns) + r" \\",
        r"\midrule",
        *(
            " & ".join(
                rf"{{\raggedright {_tex(entry.text)}\par}}" if wide else _tex(entry.text)
                for entry, wide in zip(row, broken, strict=True)
            )
            + r" \\"
            for row in sheet.rows
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _tex(text: str) -> str:
    made = "".join(map(_tex_letter, " ".join(text.split())))
    # Two hyphens of an option would be one dash, and a power would stand on the line.
    return re.sub(r"-(?=-)", "-{}", re.sub(r"(?<=10)\\textasciicircum{}(\d+)", r"\\textsuperscript{\1}", made))


def _tex_letter(letter: str) -> str:
    if letter in _TEX or (letter.isascii() and letter.isprintable()):
        return _TEX.get(letter, letter)
    # A letter without its accent, or a question mark, rather than an error that stops the compilation.
    plain_letter = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode("ascii")
    return "".join(_TEX.get(one, one) for one in plain_letter if one.isprintable()) or "?"
