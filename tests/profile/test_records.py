"""Values and records: what is written is read back, and what is not one is refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hstnn_deploy.errors import ProfileError
from hstnn_deploy.profile.older import NOT_SAID, VERSION
from hstnn_deploy.profile.record import Record, Span, lines
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
        (_damaged(plain, version=VERSION + 1), f"line 2: a record has schema version {VERSION + 1}"),
        (_damaged(plain, version=1), "line 2: a record has schema version 1; this hstnn reads versions 2 to 3"),
        (_damaged(plain, version=True), "line 2: a record has schema version True"),
        (_damaged(plain, version=2, configuration=[]), "line 2: a record is damaged|configuration is incomplete"),
        (_damaged(plain, version=2, facts=None), "line 2: a record is damaged"),
        (_damaged(plain, facts={**plain["facts"], "project": {"commit": 3}}), "damaged: facts.project.commit"),
        (_damaged(plain, facts={**plain["facts"], "train_steps_of": None}), "damaged: facts.train_steps_of"),
        (_damaged(plain, values=None), "line 2: a record is damaged: a value is of another type than records have"),
        (_damaged(plain, values="x"), "line 2: a record has a damaged value: 'x'"),
        (_damaged(plain, values=[{"name": "x"}]), "line 2: a record has a damaged value: it has no value"),
        (_damaged(plain, spans=[{"name": "x"}]), "line 2: a record is damaged: it has no values"),
        (_damaged(plain, values=[{**plain["values"][0], "name": {}}]), "line 2: a record is damaged: values.0.name"),
        (_damaged(plain, spans=[{"name": [], "start": 0, "seconds": 1, "values": []}]), "damaged: spans.0.name"),
        (_damaged(plain, timeline={"columns": [1]}), "line 2: a record is damaged: timeline.columns"),
        (_damaged(plain, configuration={"colour": 1}), "unknown key 'colour'"),
        (_damaged(plain, configuration={}), "configuration is incomplete"),
    ):
        path.write_text(f"{json.dumps(plain)}\n{bad}\n")
        with pytest.raises(ProfileError, match=message):
            read(path)


OLD = Path(__file__).parent.parent / "old" / "records-2.jsonl"
"""What `hstnn profile` wrote before records numbered processes and held the user's commit."""


def test_a_record_of_version_2_is_read_and_written_as_one_of_now(tmp_path: Path) -> None:
    stored = [json.loads(line) for line in OLD.read_text().splitlines()]
    assert {(each["version"], "repeat" in each["configuration"], "project" in each["facts"]) for each in stored} == {
        (2, False, False)
    }
    records = read(OLD)
    assert [(each.configuration.phase, each.configuration.repeat) for each in records] == [("work", 1), ("infer", 1)]
    assert {str(each.facts["project"]["reason"]) for each in records} == {NOT_SAID}
    old, new = (
        next(v for v in each["values"] if v["name"] == "latency_p50") for each in (stored[1], records[1].plain())
    )
    assert old == new
    again = tmp_path / "records.jsonl"
    again.write_text(lines(records))
    assert {json.loads(line)["version"] for line in again.read_text().splitlines()} == {VERSION} == {3}
    assert read(again) == records


def test_an_old_record_is_that_of_the_same_configuration_now() -> None:
    """What is measured already is not measured again with --resume."""
    old = read(OLD)[1].configuration
    assert old.key == replace(old, repeat=1).key == old.repeated
    assert replace(old, repeat=2).key != old.key
    assert replace(old, repeat=2).repeated == old.repeated


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"nothing\.jsonl: No such file"):
        read(tmp_path / "nothing.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ProfileError, match="not text"):
        read(tmp_path / "binary")
