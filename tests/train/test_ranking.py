"""From traces to kept units: the right ones, one in every layer, with honest figures of doubt."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.models.hybrid.groups import UnitKind
from hstnn_deploy.models.hybrid.shrink import shrink
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.train.ranking import Floats, GroupTraces, SelectionResult, Traces, keep, select, stability
from tests.original import Golden

KINDS: tuple[UnitKind, UnitKind] = ("snn", "rnn")


def golden_traces(golden: Golden) -> tuple[Traces, Floats]:
    groups = [GroupTraces(layer=layer, kind=kind, scale=[1.0] * 10) for layer in (0, 1) for kind in KINDS]
    importance = np.concatenate(
        [golden.values[f"importance.{group.kind}{group.layer + 1}"] for group in groups], dtype=np.float64
    )
    return Traces(groups, importance[None]), importance


RATIOS = [ratio for ratio in Golden("smnist_selection").ratios if ratio not in {"0.05", "0.95"}]


def test_the_golden_ratios_are_all_there() -> None:
    assert RATIOS == ["0.15", "0.25", "0.35", "0.45", "0.5", "0.55", "0.65", "0.75", "0.85"]


@pytest.mark.parametrize("ratio", RATIOS)
def test_kept_units_are_the_originals(ratio: str) -> None:
    golden = Golden("smnist_selection")
    traces, importance = golden_traces(golden)
    expected = golden.selected(ratio)
    counts = Sizes(*(sum(len(layer[kind]) for layer in expected) for kind in KINDS))
    assert keep(traces, importance, counts) == expected


@pytest.mark.parametrize("ratio", ["0.25", "0.5", "0.75"])
def test_shrunk_networks_answer_as_the_originals(ratio: str) -> None:
    golden = Golden("smnist_selection")
    network = golden.network()
    with torch.no_grad():
        torch.testing.assert_close(network(golden.x)[0], golden["logits"], rtol=1e-5, atol=1e-5)
        logits, _ = shrink(network, golden.selected(ratio))(golden.x)
    torch.testing.assert_close(logits, golden[f"shrunk_logits.{ratio}"], rtol=1e-5, atol=1e-5)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Traces, Sizes]:
    """Return traces of a few layers of both kinds, with ties and close calls, and counts that can be."""
    layers = draw(st.integers(1, 3))
    widths = [Sizes(*draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))) for _ in range(layers)]
    groups = [
        GroupTraces(layer=layer, kind=kind, scale=[1.0] * getattr(width, kind))
        for layer, width in enumerate(widths)
        for kind in KINDS
    ]
    units = sum(map(sum, widths))
    probes = draw(st.integers(2, 5))
    values = st.lists(st.integers(-3, 3), min_size=units, max_size=units)
    samples = np.array(draw(st.lists(values, min_size=probes, max_size=probes)), dtype=np.float64)
    counts = [draw(st.just(0) | st.integers(layers, sum(getattr(width, kind) for width in widths))) for kind in KINDS]
    return Traces(groups, samples), Sizes(*counts)


@given(cases())
def test_counts_are_kept_to_and_no_layer_is_left_empty(case: tuple[Traces, Sizes]) -> None:
    traces, counts = case
    kept = keep(traces, traces.importance(), counts)
    for kind, count in zip(KINDS, counts, strict=True):
        chosen = [layer[kind] for layer in kept]
        assert sum(map(len, chosen)) == count
        assert all(units == sorted(set(units)) for units in chosen)
        assert count == 0 or all(chosen)


@given(cases())
def test_no_other_choice_with_a_unit_in_every_layer_is_more_important(case: tuple[Traces, Sizes]) -> None:
    traces, counts = case
    importance = traces.importance()
    kept = keep(traces, importance, counts)
    parts = traces.by_group(importance)
    for kind, count in zip(KINDS, counts, strict=True):
        of_kind = [
            (group.layer, unit, value)
            for group, part in zip(traces.groups, parts, strict=True)
            for unit, value in enumerate(part)
            if group.kind == kind
        ]
        layers = {layer for layer, _, _ in of_kind}
        best = max(
            sum(value for *_, value in choice)
            for choice in combinations(of_kind, count)
            if not count or {layer for layer, *_ in choice} == layers
        )
        mine = sum(value for layer, unit, value in of_kind if unit in kept[layer][kind])
        assert mine == pytest.approx(best)


def test_an_empty_layer_takes_the_place_of_the_last_kept_unit() -> None:
    groups = [GroupTraces(layer=layer, kind="snn", scale=[1.0] * 3) for layer in (0, 1)]
    importance = np.array([9.0, 8, 7, 1, 3, 2])
    kept = keep(Traces(groups, importance[None]), importance, Sizes(3, 0))
    assert kept == [{"snn": [0, 1], "rnn": []}, {"snn": [1], "rnn": []}]


def test_signs_count() -> None:
    groups = [GroupTraces(layer=0, kind="rnn", scale=[1.0] * 3)]
    importance = np.array([-9.0, 0.5, -0.1])
    assert keep(Traces(groups, importance[None]), importance, Sizes(0, 2))[0]["rnn"] == [1, 2]


def test_ties_go_to_the_last_layer_and_unit_as_the_originals_do() -> None:
    groups = [GroupTraces(layer=layer, kind="snn", scale=[1.0] * 3) for layer in (0, 1)]
    importance = np.ones(6)
    for _ in range(3):
        kept = keep(Traces(groups, importance[None]), importance, Sizes(4, 0))
        assert [layer["snn"] for layer in kept] == [[2], [0, 1, 2]]


@given(cases(), st.integers(1, 20), st.integers(0, 99))
def test_stability_is_a_frequency(case: tuple[Traces, Sizes], bootstraps: int, seed: int) -> None:
    traces, counts = case
    often = stability(traces, counts, bootstraps, seed)
    assert often.min() >= 0
    assert often.max() <= 1
    for kind, count in zip(KINDS, counts, strict=True):
        of_kind = [
            part.sum() for group, part in zip(traces.groups, traces.by_group(often), strict=True) if group.kind == kind
        ]
        # Every bootstrap keeps exactly as many.
        assert sum(of_kind) == pytest.approx(count)
    assert np.array_equal(often, stability(traces, counts, bootstraps, seed))


def test_probes_that_agree_are_perfectly_stable_and_those_that_do_not_are_not() -> None:
    groups = [GroupTraces(layer=0, kind="snn", scale=[1.0] * 4)]
    same = Traces(groups, np.tile(np.array([4.0, 3, 2, 1]), (10, 1)))
    assert stability(same, Sizes(2, 0), 50, 0).tolist() == [1, 1, 0, 0]
    noisy = Traces(groups, np.random.default_rng(0).normal(size=(10, 4)))
    assert stability(noisy, Sizes(2, 0), 50, 0).min() > 0


def test_importance_and_standard_error_follow_their_formulas() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(7, 5))
    groups = [
        GroupTraces(layer=0, kind="snn", scale=[1.0, 2.0]),
        GroupTraces(layer=0, kind="rnn", scale=[3.0, 4.0, 5.0]),
    ]
    traces = Traces(groups, samples)
    for unit, scale in enumerate([1.0, 2.0, 3.0, 4.0, 5.0]):
        column = samples[:, unit]
        mean = sum(column) / 7
        variance = sum((value - mean) ** 2 for value in column) / 6
        assert traces.importance()[unit] == pytest.approx(mean * scale)
        assert traces.standard_error()[unit] == pytest.approx((variance / 7) ** 0.5 * scale)


@given(cases().filter(lambda case: any(case[1])))
def test_a_selection_is_whole_and_survives_being_written(case: tuple[Traces, Sizes]) -> None:
    traces, counts = case
    result = select(traces, counts, 0.5, bootstraps=5, seed=3)
    again = SelectionResult.model_validate_json(result.model_dump_json())
    assert again == result
    assert result.kept() == keep(traces, traces.importance(), counts)
    assert result.counts == {"snn": counts.snn, "rnn": counts.rnn}
    for unit in result.units:
        width = len(unit.importance)
        assert len(unit.standard_error) == len(unit.stability) == width
        assert all(0 <= index < width for index in unit.kept)
    kept = [unit.stability[index] for unit in result.units for index in unit.kept]
    assert result.mean_stability_of_kept == pytest.approx(sum(kept) / len(kept))
    assert [set(unit) for unit in result.summary()["units"]] == [{"layer", "kind", "kept"}] * len(result.units)
