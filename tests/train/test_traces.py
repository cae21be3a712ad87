"""Hessian traces: exact given the probes, against the original's numbers and against the Hessian written out."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from hstnn_deploy.data.splits import Batch
from hstnn_deploy.models import kernels
from hstnn_deploy.models.hybrid.groups import RecurrentUnit
from hstnn_deploy.models.hybrid.sequence import SequenceClassifier, SequenceConfig
from hstnn_deploy.models.kernels import Form
from hstnn_deploy.models.neurons import Lif
from hstnn_deploy.models.sizes import Sizes
from hstnn_deploy.models.tasks import Classification
from hstnn_deploy.train.traces import Probe, RankedGroup, probe_products, rademacher, ranked_groups
from tests.original import Golden

TASK = Classification()
NAMES = ("snn1", "rnn1", "snn2", "rnn2")


def collect(network: SequenceClassifier, batch: Batch, probes: list[Probe]) -> Tensor:
    sums: list[Tensor] = []
    probe_products(network, ranked_groups(network), TASK, batch, iter(probes), sums.append)
    return torch.stack(sums)


@pytest.mark.parametrize("form", ["plain", "fused"])
def test_traces_and_importances_with_the_originals_probes_are_the_originals(form: Form) -> None:
    golden = Golden("smnist_selection")
    network = golden.network()
    groups = ranked_groups(network)
    assert [f"{group.kind}{group.layer + 1}" for group in groups] == list(NAMES)
    count = len(golden["probe.snn1"])
    # Whatever form is in use around it: the Hessian needs the plain one and takes it.
    with kernels.using(form):
        samples = collect(
            network, Batch(golden.x, golden.labels), [golden.probe(groups, number) for number in range(count)]
        )
    trace = samples.mean(0)
    importance = trace * torch.cat([group.importance_scale() for group in groups])
    for values, key in ((trace, "trace"), (importance, "importance")):
        for found, name in zip(values.split([group.units for group in groups]), NAMES, strict=True):
            expected = golden[f"{key}.{name}"]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


each_unit = pytest.mark.parametrize("recurrent", ["rnn", "lstm"])


def tiny(recurrent: RecurrentUnit = "rnn") -> tuple[SequenceClassifier, Batch]:
    torch.manual_seed(3)
    config = SequenceConfig(inputs=3, classes=3, units=[2, 2], neuron=Lif(lens=1.0), recurrent=recurrent)
    network = config.build([Sizes(2, 3), Sizes(2, 1)]).double()
    return network, Batch(torch.randn(4, 5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0]))


def hessian(network: SequenceClassifier, groups: list[RankedGroup], batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the Hessian over all ranked weights, flattened one after another, and the unit each belongs to."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    weights = [weight for group in groups for weight in group.weights]
    units, start = [], 0
    for group in groups:
        units += [(torch.arange(weight.numel()) % group.units) + start for weight in group.weights]
        start += group.units

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([weight.numel() for weight in weights])
        parameters = {
            names[id(weight)]: part.reshape(weight.shape) for weight, part in zip(weights, parts, strict=True)
        }
        output, _ = functional_call(network, parameters, (batch.x,))
        return TASK.loss(output, batch.target)

    flat = torch.cat([weight.detach().flatten() for weight in weights])
    with kernels.using("plain"):
        matrix = torch.autograd.functional.hessian(loss, flat)
    assert isinstance(matrix, Tensor)
    return matrix, torch.cat(units)


@each_unit
def test_each_probe_gives_what_the_explicit_hessian_gives(recurrent: RecurrentUnit) -> None:
    network, batch = tiny(recurrent)
    groups = ranked_groups(network)
    matrix, units = hessian(network, groups, batch)
    assert (matrix.abs() > 1e-12).double().mean() > 0.5
    probes = [rademacher(groups, 7, number) for number in range(5)]
    samples = collect(network, batch, probes)
    for found, probe in zip(samples, probes, strict=True):
        v = torch.cat([vector.flatten() for vectors in probe for vector in vectors])
        expected = torch.zeros(len(found), dtype=torch.float64).index_add_(0, units, v * (matrix @ v))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@each_unit
def test_the_mean_over_probes_approaches_the_hessians_diagonal(recurrent: RecurrentUnit) -> None:
    network, batch = tiny(recurrent)
    groups = ranked_groups(network)
    matrix, units = hessian(network, groups, batch)
    exact = torch.zeros(8, dtype=torch.float64).index_add_(0, units, matrix.diagonal())
    samples = collect(network, batch, [rademacher(groups, 1, number) for number in range(400)])
    error = samples.std(0) / len(samples) ** 0.5
    assert ((samples.mean(0) - exact).abs() <= 4 * error + 1e-12).all()


@each_unit
def test_the_scale_of_a_unit_is_its_squared_norm_over_its_number_of_weights(recurrent: RecurrentUnit) -> None:
    network, _ = tiny(recurrent)
    for group in ranked_groups(network):
        for unit, found in enumerate(group.importance_scale().tolist()):
            own = torch.cat([weight[..., unit].flatten() for weight in group.weights]).detach()
            assert found == pytest.approx(float((own**2).sum() / len(own)), rel=1e-12)


def test_everything_but_the_ranked_weights_is_held_fixed() -> None:
    network, batch = tiny()
    ranked = {id(weight) for group in ranked_groups(network) for weight in group.weights}
    left = [name for name, parameter in network.named_parameters() if id(parameter) not in ranked]
    assert left == ["readout.weight", "readout.bias"]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    collect(network, batch, [rademacher(ranked_groups(network), 0, 0)])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_probe_hangs_on_seed_and_number_alone() -> None:
    network, _ = tiny()
    groups = ranked_groups(network)

    def flat(seed: int, number: int) -> Tensor:
        return torch.cat([vector.flatten() for vectors in rademacher(groups, seed, number) for vector in vectors])

    torch.manual_seed(1)
    first = flat(5, 3)
    torch.manual_seed(2)
    assert torch.equal(first, flat(5, 3))
    assert not torch.equal(first, flat(5, 4))
    assert not torch.equal(first, flat(6, 3))
    assert first.abs().unique().tolist() == [1]
    assert 0 < (first > 0).double().mean() < 1


def test_probes_are_taken_one_by_one_as_they_are_done() -> None:
    network, batch = tiny()
    groups = ranked_groups(network)
    order: list[str] = []

    def probes() -> Iterator[Probe]:
        for number in range(2):
            order.append(f"asked {number}")
            yield rademacher(groups, 0, number)

    probe_products(network, groups, TASK, batch, probes(), lambda _: order.append("done"))
    assert order == ["asked 0", "done", "asked 1", "done"]
