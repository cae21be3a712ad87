"""How single values look in a table: rounded to what a reader can use, n/a with a footnote that says why."""

from collections.abc import Callable

from hstnn_deploy.profile.values import NotMeasured, Value

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
        return ("~" if "extrapolated" in value.note else "") + form(value.number)


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


def megabytes(number: float) -> str:
    """Return bytes as a bare number of MB, 10^6 bytes."""
    return f"{number / 1e6:.0f}"


def memory(number: float) -> str:
    """Return bytes in MB or GB, powers of ten."""
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def cores(number: float) -> str:
    """Return a number of CPU cores."""
    return f"{number:.2f}"


def between(least_and_most: tuple[float, float]) -> str:
    """Return a range, such as "33 to 47"."""
    return f"{least_and_most[0]} to {least_and_most[1]}"
