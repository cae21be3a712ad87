"""The times of a recording in microseconds: the unit that they had, and where time begins.

A unit is what the file's types say, or the user, or the format; else it is detected where that is certain, and the
report says how, or the file is refused.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hstnn_deploy.data.readers.event_options import NAMES, NANOSECONDS, EventOptions, Unit
from hstnn_deploy.data.readers.event_report import Expected, Found, ms
from hstnn_deploy.errors import DataError

_SHORT, _LONG = 300, 3.3
"""How many times shorter or longer than the longest of the training a recording may be for its unit to be believed. A
wrong unit is off by 1000, so that it is never believed of a recording whose right one would be."""


def microseconds(
    name: str, time: NDArray[Any], found: Found, expected: Expected, options: EventOptions
) -> tuple[NDArray[np.int64], str]:
    """Return times in microseconds, and the unit that they had and how that is known.

    Raises:
        DataError: the unit is not known, or times are too large for it.
    """
    unit: Unit
    if time.dtype.kind in "mM":
        step, count = np.datetime_data(time.dtype)
        if step not in NAMES or count != 1:
            raise DataError(f"{name}: its times have type {time.dtype}", "datetimes in s, ms, us or ns are read")
        unit, how = step, f"by their type, {time.dtype}"  # type: ignore[assignment]
        time = time.astype(np.int64)
    elif options.unit:
        unit, how = options.unit, "as given"
        if found.unit not in (None, options.unit):
            how += f"; {found.unit_from} they are {NAMES[found.unit]}"
    elif found.unit:
        unit, how = found.unit, found.unit_from
    else:
        unit, how = _detected(name, time, expected)
    scale = NANOSECONDS[unit]
    if max(abs(float(time.min())), abs(float(time.max()))) * scale / 1000 >= 2**62:
        raise DataError(
            f"{name}: its times reach {float(time.max()):g} {NAMES[unit]}", "is that their unit? --events unit=…"
        )
    if time.dtype.kind == "f":
        made = np.rint(time.astype(np.float64) * (scale / 1000)).astype(np.int64)
        nearest = float(np.spacing(np.abs(time).max())) * scale / 1000
        if nearest > 1:
            how += f", given to the nearest {nearest:g} us only"
    else:
        made = time.astype(np.int64)
        made = made * (scale // 1000) if scale >= 1000 else made // 1000
    return made, f"{NAMES[unit]} ({how})"


def _detected(name: str, time: NDArray[Any], expected: Expected) -> tuple[Unit, str]:
    """Return the unit of times that do not say it, if that is certain enough to be reported."""
    span = float(time.max()) - float(time.min())
    usual = expected.span or expected.longest

    def lasts(unit: str) -> float:
        return span * NANOSECONDS[unit] / 1000

    def fits(unit: str) -> bool:
        return usual is None or usual / _SHORT <= lasts(unit) <= usual * _LONG

    whole = time.dtype.kind != "f" or np.array_equal(np.floor(time), time)
    if whole and (span == 0 or fits("us")):
        return "us", "whole numbers count as microseconds"
    if not whole and fits("s") and span < 1000:
        return "s", f"fractions that span {span:.3g} count as seconds"
    if not whole and usual and fits("us"):
        return "us", f"as long as those of the training, {ms(usual)} ms at most"
    raw = "whole numbers" if whole else "fractions"
    most = f"; the recordings of the training last up to {ms(usual)} ms" if usual else ""
    likely = next((unit for unit in NAMES if usual and fits(unit)), None)
    raise DataError(
        f"{name} does not specify the unit of its times, {raw} that span {span:.12g}: that is {ms(lasts('us'))} ms in "
        f"microseconds{most}",
        f"--events unit={likely}, if they are {NAMES[likely]}" if likely else "specify it: --events unit=s|ms|us|ns",
    )


def beginning(first: int, last: int, expected: Expected, options: EventOptions) -> tuple[int, str]:
    """Return the time of the file's clock at which the recording begins, and where that is in words.

    If the length of such recordings is unknown, one that starts later than it lasts begins at its first event.
    """
    within = first >= 0
    if within and options.start is None and not expected.continued:
        within = first < (expected.window or expected.longest or max(1, last - first))
    if options.start == "file" or (options.start is None and within):
        return 0, "time begins with the file's clock"
    return first, "time begins at the first event"


def moved(
    time: NDArray[np.int64], expected: Expected, options: EventOptions
) -> tuple[NDArray[np.int64], str, NDArray[np.bool_]]:
    """Return times from the recording's beginning, where that is in words, and which come after it.

    An offset is of the file's clock, and so keeps it, unless the user lets time begin at the first event.
    """
    first, last = int(time.min()), int(time.max())
    if options.offset is None:
        begin, start = beginning(first, last, expected, options)
        return time - begin, start, np.ones(len(time), bool)
    begin, start = beginning(first, last, expected, options._replace(start=options.start or "file"))
    made = time - begin + round(options.offset)
    told = f"{start}, moved by {ms(options.offset)} ms as given ({len(time)} events)"
    return made, told, made >= 0
