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
        ("t=us", EventOptions(unit="us")),
        ("t=us,x,y,p", EventOptions(unit="us", order="txyp")),
        ("x,y,-,t=s,p=-1/+1", EventOptions(unit="s", order="xy-tp", polarity=(-1, 1))),
        ("x,t", EventOptions(order="xt")),
        ("p=1/0,p=pol", EventOptions(polarity=(1, 0), names={"p": "pol"})),
        ("offset=-250ms", EventOptions(offset=-250_000)),
        ("offset=1.5us", EventOptions(offset=1.5)),
        ("origin=1,flip=xy,drop=nan", EventOptions(origin=1, flip="xy", drop_nan=True)),
        ("part=davis/left,format=hdf5", EventOptions(part="davis/left", format="hdf5")),
    ],
)
def test_options_are_what_a_user_says(text: str | None, options: EventOptions) -> None:
    assert parse_options(text) == options


_WRONG = [
    "unit=h",
    "unit",
    "order=xx",
    "order=yp",
    "start=now",
    "sort=no",
    "recording=-1",
    "frob=1",
    "=",
    "t=",
    "x",
    "x,y",
    "t=us,x,x",
    "t",
    "t=us,unit=s",
    "t=s,t=ms",
    "order=txyp,x,t",
    "p=1/1",
    "p=/1",
    "offset=5",
    "offset=5h",
    "offset=ms",
    "offset=1e9s",
    "origin=2",
    "origin",
    "flip=t",
    "flip",
    "drop=all",
    "drop",
    "sensor=0x4",
    "sensor=4",
    "part=",
    "format=",
    "-=3",
]


@pytest.mark.parametrize("text", _WRONG)
def test_options_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--events: ") as error:
        parse_options(text)
    assert error.value.hint
