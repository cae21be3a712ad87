"""Recordings of any bytes and any unit: the right frames, or a refusal in one line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.events.events import make_events
from hstnn_deploy.errors import DataError
from tests.event_encoders import fields
from tests.event_forms import FORMS, NMNIST, REF, opened, read
from tests.libraries import there

ABLE = [name for name, form in FORMS.items() if not form.needs or there(form.needs)]
"""The forms whose library is here."""


@given(
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    length=st.integers(2000, 1_000_000),
    offset=st.sampled_from([0, 10**15]),
)
def test_a_wrong_unit_is_never_taken(
    unit: str, length: int, offset: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Times of any unit, unsaid: the right frames, or a refusal that names the right unit."""
    time = np.linspace(0, length, 900).astype(np.int64) + offset
    scale = {"s": 10**6, "ms": 1000, "us": 1, "ns": 0}[unit]
    path = tmp_path_factory.mktemp("units") / "a.npy"
    np.save(path, fields(REF, time * 1000 if unit == "ns" else time / scale if scale > 1 else time))
    try:
        found = read(path)
    except DataError as error:
        assert unit in ("ms", "ns")
        assert f"unit={unit}, if they are" in error.hint  # noqa: PT017
        return
    assert unit in ("us", "s")
    assert np.abs(found.events["t"] - (time - offset)).max() <= (1 if offset else 0)


@given(
    content=st.binary(max_size=400),
    suffix=st.sampled_from([".npy", ".npz", ".dat", ".raw", ".aedat", ".bin", ".txt", ".h5", ".mat", ".bag"]),
)
def test_no_bytes_end_in_anything_but_a_refusal(
    content: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    starts = {
        ".npy": b"\x93NUMPY\x01\x00",
        ".npz": b"PK\x03\x04",
        ".dat": b"% a\n\x0c\x08",
        ".raw": b"% evt 3.0\n% end\n",
    }
    starts |= {".aedat": b"#!AER-DAT3.1\r\n", ".h5": b"\x89HDF\r\n\x1a\n", ".bag": b"#ROSBAG V2.0\n"}
    starts[".mat"] = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM"
    path = tmp_path_factory.mktemp("bytes") / f"a{suffix}"
    path.write_bytes(starts.get(suffix, b"") + content)
    try:
        opened(path)
    except DataError as error:
        assert "\n" not in error.message  # noqa: PT017


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is written in each form."""
    folder, made = tmp_path_factory.mktemp("forms"), {}
    for number, name in enumerate(ABLE):
        path = folder / f"{number}{FORMS[name].suffix}"
        FORMS[name].write(path, REF, NMNIST.sensor)
        made[name] = path.read_bytes()
    return made


@given(
    name=st.sampled_from(ABLE),
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=8)), max_size=4),
    end=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_no_damage_ends_in_anything_but_a_refusal(
    name: str,
    changes: list[tuple[int, bytes]],
    end: int | None,
    files: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = bytearray(files[name])
    for place, values in changes:
        content[place : place + len(values)] = values
    form = FORMS[name]
    path = tmp_path_factory.mktemp("damage") / f"a{form.suffix}"
    path.write_bytes(content[:end])
    try:
        opened(path, form.said.format(w=34, h=34))
    except DataError as error:
        assert "\n" not in error.message  # noqa: PT017


def test_events_of_no_polarity_or_places_beyond_all_bounds_are_refused(tmp_path: Path) -> None:
    events = make_events([5, 2**40], 3, [1, 200_000], 0)
    np.save(tmp_path / "a.npy", events)
    with pytest.raises(DataError, match=r"x reaches 1\.09951e\+12"):
        read(tmp_path / "a.npy")
