"""Values and records: what is written is read back, and what is not one is refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.record import VERSION, Record, Span, lines
from hstnn_deploy.profile.records import read
from hstnn_deploy.profile.values import Measured, NotMeasured, find, value_from
from hstnn_deploy.recipe.recipe import Recipe
from tests.profile.conftest import configured, measured


@pytest.mark.parametrize(
    "value", [Measured("epoch", 1.5, "s", "a clock", "extrapolated"), NotMeasured("cuda_process", "no GPU")]
)
def test_a_value_survives_as_plain_data(value: Measured | NotMeasured) -> None:
    assert value_from(json.loads(json.dumps(value.plain()))) == value


def test_not_measured_is_null_with_a_reason_and_never_zero() -> None:
    assert NotMeasured("cuda_process", "no GPU").plain() == {"name": "cuda_process", "value": None, "reason": "no GPU"}
    assert find([], "epoch") == NotMeasured("epoch", "not part of this measurement")


@pytest.mark.parametrize("damage", [{}, {"value": 1}, {"value": "1", "name": "x"}, {"value": True, "name": "x"}])
def test_a_damaged_value_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ProfileError, match="damaged value"):
        value_from(damage)


def test_records_survive_a_file(tiny: Recipe, tmp_path: Path) -> None:
    spans = [Span("training", 1.5, 2.0, [Measured("rss_peak", 1.0, "B", "a test"), NotMeasured("uss_peak", "why")])]
    timeline = {"seconds": 0.1, "columns": {"t": [0.0, 0.1], "rss": [1, None]}}
    records = [
        replace(measured(configured(tiny, "train")), spans=spans, series={"step": [0.1, 0.2]}, timeline=timeline),
        Record(configured(tiny, "infer"), "n/a", reason="no export form"),
        Record(configured(tiny, "infer", threads=[1]), "failed", reason="it broke"),
    ]
    path = tmp_path / "records.jsonl"
    path.write_text(lines(records))
    assert read(path) == records


def _damaged(plain: dict[str, Any], **changes: Any) -> str:
    return json.dumps({**plain, **changes})


def test_what_is_not_a_record_is_refused_with_its_line(tiny: Recipe, tmp_path: Path) -> None:
    plain = measured(configured(tiny, "train")).plain()
    path = tmp_path / "records.jsonl"
    for bad, message in (
        ("{", "line 2: not JSON"),
        ("[]", "line 2: not a profile record"),
        (_damaged(plain, schema="other"), "line 2: not a profile record"),
        (_damaged(plain, version=VERSION + 1), f"line 2: a record of schema version {VERSION + 1}"),
        (_damaged(plain, version=1), "line 2: a record of schema version 1; this hstnn reads version 2"),
        (_damaged(plain, values=None), "line 2: a record is not whole"),
        (_damaged(plain, spans=[{"name": "x"}]), "line 2: a record is not whole"),
        (_damaged(plain, values=[{**plain["values"][0], "name": {}}]), "line 2: a record is not whole: values.0.name"),
        (_damaged(plain, spans=[{"name": [], "start": 0, "seconds": 1, "values": []}]), "not whole: spans.0.name"),
        (_damaged(plain, timeline={"columns": [1]}), "line 2: a record is not whole: timeline.columns"),
        (_damaged(plain, configuration={"colour": 1}), "unknown key 'colour'"),
        (_damaged(plain, configuration={}), "configuration is not whole"),
    ):
        path.write_text(f"{json.dumps(plain)}\n{bad}\n")
        with pytest.raises(ProfileError, match=message):
            read(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"nothing\.jsonl cannot be read"):
        read(tmp_path / "nothing.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ProfileError, match="not text"):
        read(tmp_path / "binary")
