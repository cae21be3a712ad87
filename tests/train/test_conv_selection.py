"""Selection in convolutional networks: the input filter is ranked, and what is kept is what the original keeps."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.models import kernels
from hstnn_deploy.models.hybrid.groups import UnitKind
from hstnn_deploy.models.hybrid.shrink import shrink
from hstnn_deploy.models.kernels import Form
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import OneHot
from hstnn_deploy.train.ranking import Floats, GroupTraces, Traces, keep
from hstnn_deploy.train.traces import probe_products, ranked_groups
from tests.original_conv import ConvGolden

KINDS: tuple[UnitKind, UnitKind] = ("snn", "rnn")


@pytest.fixture(scope="module")
def golden() -> ConvGolden:
    return ConvGolden("dvs_selection")


def test_the_input_filter_alone_is_ranked(golden: ConvGolden) -> None:
    network = golden.network()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = ranked_groups(network)
    ranked = [names[id(weight)] for group in groups for weight in group.weights]
    assert ranked == [f"layers.{layer}.{kind}.conv_input.weight" for layer in range(3) for kind in KINDS]
    assert [group.units for group in groups] == [4, 4, 6, 6, 8, 8]


@pytest.mark.parametrize("form", ["plain", "fused"])
def test_traces_and_importances_with_the_originals_probes_are_the_originals(golden: ConvGolden, form: Form) -> None:
    network = golden.network()
    groups = ranked_groups(network)
    probes = [golden.probe(groups, number) for number in range(4)]
    sums: list[torch.Tensor] = []
    with kernels.using(form):
        torch.testing.assert_close(network(golden.x)[0], golden["output"], rtol=1e-5, atol=1e-5)
        probe_products(network, groups, OneHot(), Batch(golden.x, golden.labels), iter(probes), sums.append)
    trace = torch.stack(sums).mean(0)
    importance = trace * torch.cat([group.importance_scale() for group in groups])
    for values, prefix, suffix in ((trace, "trace", ".weight"), (importance, "importance", "")):
        for found, group in zip(values.split([group.units for group in groups]), groups, strict=True):
            expected = golden[f"{prefix}.{golden.key(group.layer, group.kind)}{suffix}"]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("ratio", ["0.25", "0.375", "0.5", "0.625", "0.75"])
def test_kept_units_are_the_originals(golden: ConvGolden, ratio: str) -> None:
    widths = (4, 6, 8)
    groups = [GroupTraces(layer=layer, kind=kind, scale=[1.0] * widths[layer]) for layer in range(3) for kind in KINDS]
    importance = np.concatenate(
        [golden.values[f"importance.{golden.key(group.layer, group.kind)}"] for group in groups], dtype=np.float64
    )
    expected = golden.selected(ratio)
    counts = Sizes(*(sum(len(layer[kind]) for layer in expected) for kind in KINDS))
    assert keep(Traces(groups, importance[None]), importance, counts) == expected
    small = shrink(golden.network(), expected)
    assert small.sizes == [Sizes(len(layer["snn"]), len(layer["rnn"])) for layer in expected]
    assert small(golden.x)[0].shape == golden["output"].shape


def best_of_each_layer_first(parts: list[Floats], count: int) -> list[list[int]]:
    """Keep as the original's convolutional networks do: each layer's best unit, then the best of what is left."""
    everything = [(value, layer, unit) for layer, part in enumerate(parts) for unit, value in enumerate(part)]
    # Of equally important units the last comes first.
    ranked = sorted(everything, reverse=True)
    first = [max(one for one in everything if one[1] == layer) for layer in range(len(parts))]
    rest = [one for one in ranked if one not in first]
    chosen = [*first, *rest[: count - len(first)]]
    return [sorted(unit for _, layer, unit in chosen if layer == own) for own in range(len(parts))]


@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_both_of_the_originals_rules_keep_the_same_units(data: st.DataObject, widths: list[int]) -> None:
    parts = [np.array(data.draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)), dtype=float) for n in widths]
    count = data.draw(st.integers(len(widths), sum(widths)))
    groups = [GroupTraces(layer=layer, kind="snn", scale=[1.0] * n) for layer, n in enumerate(widths)]
    importance = np.fromiter(chain(*parts), dtype=np.float64)
    kept = keep(Traces(groups, importance[None]), importance, Sizes(count, 0))
    assert [layer["snn"] for layer in kept] == best_of_each_layer_first(parts, count)
