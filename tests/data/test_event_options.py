"""What a user says of a recording that it does not say itself."""

import pytest

from hstnn_deploy.data.readers.event_options import EventOptions, parse_options
from hstnn_deploy.errors import UsageError


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (None, EventOptions()),
        ("", EventOptions()),
        ("unit=ns, order=txyp,sort", EventOptions(unit="ns", order="txyp", sort=True)),
        ("sensor=34x30,recording=7,start=first", EventOptions(sensor=(34, 30), recording=7, start="first")),
        ("t=timestamp", EventOptions(names={"t": "timestamp"})),
    ],
)
def test_options_are_what_a_user_says(text: str | None, options: EventOptions) -> None:
    assert parse_options(text) == options


@pytest.mark.parametrize(
    "text", ["unit=h", "unit", "order=xx", "order=yp", "start=now", "sort=no", "recording=-1", "frob=1", "=", "t="]
)
def test_options_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--events: ") as error:
        parse_options(text)
    assert error.value.hint
