"""`hstnn compare` of robustness records: areas by seed, what only one side has, conditions, and what is refused."""

import json
from pathlib import Path

import pytest

from hstnn_deploy.robustness.record import Curve, Measured, Robustness
from tests.conftest import Hstnn


def _curve(name: str, *values: float, levels: tuple[float, ...] = (0.5, 1.0)) -> Curve:
    rows = [[value, value + 2] for value in values]
    return Curve(name=name, unit="share", where="values", levels=list(levels), axis=list(levels), values=rows)


def _network(seed: int, clean: float, *curves: Curve, **facts: str) -> Measured:
    own = {"recipe": "digits", "data": "digits", "kind": "snn", "metric": "accuracy", "split": "test", **facts}
    return Measured.model_validate(
        {"source": "best.pt", "ratio": None, "stage": "train", "unit": " %", "higher_is_better": True, "batch": 10}
        | {"seed": seed, "clean": clean, "curves": list(curves), **own}
    )


def _write(path: Path, *networks: Measured) -> Path:
    path.write_text(json.dumps(Robustness(networks=list(networks)).plain()))
    return path


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    first = [
        _network(seed, 90.0 + seed, _curve("salt-pepper", 60.0, 40.0 + seed), _curve("pgd", 8.0, 2.0))
        for seed in (1, 2)
    ]
    other = [
        _network(seed, 91.0 + seed, _curve("salt-pepper", 70.0, 45.0 + 3 * seed), _curve("fgsm", 8.0, 2.0))
        for seed in (1, 2)
    ]
    return _write(tmp_path / "robustness-a.json", *first), _write(tmp_path / "robustness-b.json", *other)


def test_areas_are_compared_by_seed(sides: tuple[Path, Path], hstnn: Hstnn) -> None:
    found = json.loads(hstnn("compare", *sides, "--json").out)
    rows = {row["metric"]: row for row in found["rows"]}
    assert list(rows) == ["undisturbed", "salt-pepper"]
    assert rows["undisturbed"]["difference"] == pytest.approx(1)
    # Trapezoids over 0, 0.5 and 1, of draws that lie 2 apart: A, seed 1: (91 / 2 + 61 + 42 / 2) / 2.
    assert rows["salt-pepper"]["a"]["values"] == pytest.approx({"1": 63.75, "2": 64.25})
    # B: (92 / 2 + 71 + 49 / 2) / 2 and (93 / 2 + 71 + 52 / 2) / 2.
    assert rows["salt-pepper"]["b"]["values"] == pytest.approx({"1": 70.75, "2": 71.75})
    assert rows["salt-pepper"]["test"].startswith("paired t-test")
    assert {note for note in found["notes"] if note.startswith("Only")} == {
        "Only in A, or at other levels in B: pgd of digits snn.",
        "Only in B, or at other levels in A: fgsm of digits snn.",
    }


def test_a_condition_on_a_disturbance_decides_the_exit_code(sides: tuple[Path, Path], hstnn: Hstnn) -> None:
    assert hstnn("compare", *sides, "--fail-if", "salt-pepper < -1").code == 0
    assert hstnn("compare", *reversed(sides), "--fail-if", "salt-pepper < -1").code == 14
    one = hstnn("compare", *sides, "--metric", "salt-pepper", "--json")
    assert [row["metric"] for row in json.loads(one.out)["rows"]] == ["salt-pepper"]


@pytest.mark.parametrize(
    ("other", "error"),
    [
        (_network(1, 90.0, _curve("pgd", 8.0, 2.0), data="smnist"), "is of the data set digits"),
        (_network(1, 90.0, _curve("pgd", 8.0, 2.0), split="valid"), "is on the split test"),
        (_network(1, 90.0, _curve("pgd", 8.0, 2.0), metric="perplexity"), "is measured in accuracy"),
    ],
)
def test_figures_of_other_things_are_not_compared(
    sides: tuple[Path, Path], tmp_path: Path, hstnn: Hstnn, other: Measured, error: str
) -> None:
    result = hstnn("compare", sides[0], _write(tmp_path / "robustness-c.json", other))
    assert error in result.error
    assert result.hint == "these figures cannot be compared"


def test_other_levels_are_not_compared(sides: tuple[Path, Path], tmp_path: Path, hstnn: Hstnn) -> None:
    other = _network(1, 90.0, _curve("salt-pepper", 60.0, 40.0, levels=(0.25, 1.0)))
    written = _write(tmp_path / "robustness-c.json", other)
    result = hstnn("compare", sides[0], written, "--metric", "salt-pepper")
    assert result.error.endswith("have no disturbance at the same levels in common")
    assert hstnn("compare", *sides, "--metric", "saltpepper").hint == "did you mean 'salt-pepper'?"
