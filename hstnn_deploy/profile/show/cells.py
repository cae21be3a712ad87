"""How single values look in a table: rounded to what a reader can use, n/a with a footnote that says why."""

from collections.abc import Callable, Sequence

from hstnn_deploy.profile.values import Measured, NotMeasured, Value

Form = Callable[[float], str]


class Notes:
    """The footnotes of a report; each text once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, note: str) -> str:
        """Return the mark of a footnote, such as " [1]"."""
        if note not in self.texts:
            self.texts.append(note)
        return f" [{self.texts.index(note) + 1}]"

    def show(self, value: Value, form: Form) -> str:
        """Return a value as a cell. ~ stands before what was extrapolated."""
        if isinstance(value, NotMeasured):
            return "n/a" + self.mark(value.reason)
        return _about(value) + form(value.number)

    def between(self, values: Sequence[Value], form: Form) -> str:
        """Return the least and the most of several values, such as "33.1 s to 47.0 s"; of one, itself."""
        measured = sorted((value for value in values if isinstance(value, Measured)), key=lambda value: value.number)
        if len(measured) < len(values) or not measured:
            return self.show(next(value for value in values if isinstance(value, NotMeasured)), form)
        ends = [_about(value) + form(value.number) for value in (measured[0], measured[-1])]
        return " to ".join(dict.fromkeys(ends))


def _about(value: Measured) -> str:
    return "~" if "extrapolated" in value.note else ""


def digits(number: float) -> str:
    """Return a number with three significant digits, and never an exponent."""
    if number >= 100 or number == 0:
        return f"{number:.0f}"
    places = 1 if number >= 10 else 2 if number >= 1 else 3
    return f"{number:.{places}f}"


def seconds(number: float) -> str:
    """Return seconds, such as "12.3 s"."""
    return f"{digits(number)} s"


def milliseconds(number: float) -> str:
    """Return seconds as a bare number of milliseconds."""
    return digits(number * 1e3)


def duration(number: float) -> str:
    """Return seconds in s or ms, whichever is the readable one."""
    return seconds(number) if number >= 1 else f"{digits(number * 1e3)} ms"


def joules(number: float) -> str:
    """Return joules, such as "12.3 J"."""
    return f"{digits(number)} J"


def megabytes(number: float) -> str:
    """Return bytes as a bare number of MB, 10^6 bytes."""
    return f"{number / 1e6:.0f}"


def memory(number: float) -> str:
    """Return bytes in MB or GB, powers of ten."""
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def cores(number: float) -> str:
    """Return a number of CPU cores."""
    return f"{number:.2f}"


_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)


def prefixed(number: float) -> str:
    """Return a number with three significant digits and a prefix, such as "1.23 M"; 0 is "0"."""
    for size, prefix in _PREFIXES:
        if abs(number) >= size:
            return f"{digits(number / size)} {prefix}".rstrip()
    return "0"


def percent(number: float) -> str:
    """Return a share as a number of percent."""
    return f"{100 * number:.1f} %"


def between(least_and_most: tuple[float, float]) -> str:
    """Return a range, such as "33 to 47"."""
    return f"{least_and_most[0]} to {least_and_most[1]}"
