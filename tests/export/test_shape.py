"""Whatever a sealed manifest holds, it is read, or refused in one line; and the names in it are no paths."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstnn_deploy.errors import BundleError, HstnnError
from hstnn_deploy.export.bundle.description import recipe_of
from hstnn_deploy.export.runtime import manifest
from hstnn_deploy.export.runtime.manifest import FORMAT, MANIFEST, read_manifest, seal
from hstnn_deploy.export.runtime.schema import misfit
from hstnn_deploy.export.runtime.session import Session
from hstnn_deploy.files import json_text

OLD = Path(__file__).parents[1] / "old" / "bundle-2"
FACTS = json.loads((OLD / MANIFEST).read_text())


def sealed(folder: Path, facts: dict[str, Any]) -> Path:
    facts = {key: value for key, value in facts.items() if key != "seal"}
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_text(json_text(facts | {"seal": seal(facts)}))
    return folder


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every part of plain data."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, each in inside for place in places(each, (*at, key)))]


PLACES = [place for place in places({**FACTS, "verification": {**FACTS["verification"], "checks": []}}) if place]
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    1e300,
    "",
    "x",
    "\x1b[2J",
    "../..",
    [],
    [[]],
    {},
    {"a": None},
    "\ud800",
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(["drop", *range(len(ODD))])), min_size=1, max_size=3)
)
def test_a_sealed_manifest_of_any_shape_is_read_or_refused(tmp_path: Path, changes: list[tuple[Any, Any]]) -> None:
    facts = deepcopy(FACTS)
    for place, what in changes:
        inside: Any = facts
        try:
            for key in place[:-1]:
                inside = inside[key]
            if what == "drop":
                del inside[place[-1]]
            else:
                inside[place[-1]] = ODD[what]
        except (KeyError, IndexError, TypeError):
            continue
    try:
        folder = sealed(tmp_path / "b", facts)
    except UnicodeEncodeError:
        return
    (folder / "model.step.onnx").write_bytes((OLD / "model.step.onnx").read_bytes())
    (folder / "model.window.onnx").write_bytes((OLD / "model.window.onnx").read_bytes())
    said = refusal(folder)
    assert said is None or (said.isprintable() and len(said) < 1000)


def refusal(folder: Path) -> str | None:
    """Read and run a bundle; return what is said where that is refused."""
    try:
        found = read_manifest(folder)
        Session(folder).run(np.zeros((2, 1, 8), np.float32))
        recipe_of(folder, found)
    except HstnnError as error:
        return error.message
    return None


@pytest.mark.parametrize(
    "name",
    [
        *("../model.onnx", "/etc/passwd", "a/b", "a\\b", "C:model.onnx", "..", ".", "", "a\0", ".hidden", "a" * 200),
        *("model.onnx.", "é.onnx", "manifest.json", "nul\n"),
    ],
)
@pytest.mark.parametrize("part", ["files", "carried"])
def test_names_of_files_are_names(tmp_path: Path, part: str, name: str) -> None:
    each = FACTS["files"]["model.step.onnx"] | {"meaning": "words"}
    folder = sealed(tmp_path / "b", FACTS | {part: {name: each}})
    with pytest.raises(BundleError, match="which is not the name of a file of a bundle"):
        read_manifest(folder)


def test_a_manifest_has_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sealed(tmp_path / "b", FACTS)
    monkeypatch.setattr(manifest, "LARGEST", 1000)
    with pytest.raises(BundleError, match="bytes; a manifest has at most 1000"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        f'{{"format": "{FORMAT}", "version": 3, "x": {"[" * 2000}{"]" * 2000}}}',
        f'{{"format": "{FORMAT}", "version": 3, "x": NaN}}',
        f'{{"format": "{FORMAT}", "version": 3, "x": "\\ud800"}}',
        f'{{"format": "{FORMAT}", "version": true}}',
        f'{{"format": "{FORMAT}", "version": 2.0}}',
        f'{{"format": "{FORMAT}", "version": {"9" * 4000}}}',
        f'{{"format": "{FORMAT}", "version": {"9" * 5000}}}',
    ],
)
def test_what_json_can_be_but_a_manifest_cannot(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(BundleError) as refused:
        read_manifest(tmp_path)
    assert len(refused.value.message) < 500


def test_the_reader_says_what_is_wrong_where() -> None:
    shape = {"a": int, "b?": [{"c": {"x", "y"}}], "d": (int, None)}
    assert misfit({"a": 1, "d": None, "more": object}, shape) == ""
    assert misfit({"a": True, "d": None}, shape) == "a is True, not of type int"
    assert misfit({"a": 1, "b": [{"c": "x"}, {"c": "z"}], "d": 2}, shape) == "b.1.c is 'z'; it may be x, y"
    assert misfit({"a": 1}, shape) == "d is missing"
    assert misfit([], shape, "it") == "it is [], not an object"
    assert misfit({"a": 1, "b": [], "d": "x" * 100}, shape).startswith("d is 'xxx")
    assert misfit({"\x1b": "x"}, {"*": int}) == "'\\x1b' is 'x', not of type int"
